"""``latens.VAE``: a variational autoencoder with scikit-learn's interface."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from latens import densities, evaluation
from latens.data import as_array, read
from latens.data.datasets import labelled
from latens.data.lazy import Lazy
from latens.data.rows import (
    Asked,
    Rows,
    as_table,
    canonical_order,
    columns_left,
    is_counts,
    known_columns,
    rows_like,
    rows_of,
    sparse_rows,
    taken,
)
from latens.data.sources import check_reading
from latens.data.tables.frames import MatrixBack, is_frame, recorded, repeated_labels, restored, settled, without_odd
from latens.data.tables.frames import as_table as frame_as_table
from latens.densities import Fitted
from latens.errors import InputError, concerning, is_whole, said_in_python
from latens.evaluation import Evaluation
from latens.machine.folder import Folder
from latens.models import Generator
from latens.recipes import Recipe
from latens.runs import imputing, outputs, scoring, sharing, synthesis
from latens.runs import record as runs
from latens.runs.fitting import ModelRows, check_weights, execute, prepare
from latens.runs.record import Run
from latens.schema import AnySchema, Schema, Table
from latens.schema.arrow import require_once
from latens.tensors.randomness import untouched
from latens.training import Bar, Settings
from latens.training.callbacks import check_callbacks

if TYPE_CHECKING:
    from latens.runs.coding.codec import Codec


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""A variational autoencoder with scikit-learn's interface: a transformer and a density.

    :meth:`fit` maximises the evidence lower bound over encoder and decoder (Kingma & Welling 2014):

    .. math:: E_{q(z|x)}[\ln p(x|z)] - \beta\, KL(q(z|x) \,\|\, p(z)) \le \ln p(x) \quad (\beta = 1)

    X is one of these: an array or data frame of rows and columns; images ``[N, H, W]``, ``[N, H, W, C]`` or
    ``[N, C, H, W]``; a path; a sparse matrix; an AnnData; a map-style dataset of torch, whose items are rows, pairs of
    a row and its label, or mappings of cells. Missing cells are NaN. Codes and scores do not depend on the order of
    the rows.

    For a frame, rows are returned as a frame of the same library, with the same dtypes. They keep their pandas index;
    new rows are numbered from 0. ``transform``, ``score`` and ``score_samples`` take frames with the columns of the fit
    in the same order, as scikit-learn requires; all other methods match columns by name. Remarks (columns left out,
    levels that the fit never saw) are issued as ``UserWarning``.

    Args:
        latent_dim: dimension of z, or "auto" (the number of columns, at most 16).
        recipe: a name from ``latens recipes``, or a :class:`latens.Recipe`, whose options a grid search can vary
            (``recipe__beta``).
        likelihood: "auto" (inferred from the values), "normal", "bernoulli", "categorical" or "discretized_logistic".
        network: "auto" (convolutions for images of at least 12 x 12, otherwise fully connected), "linear", "mlp",
            "residual" or "conv".
        epochs, batch_size, learning_rate, kl_warmup, average, patience, device: see
            :class:`latens.training.settings.Settings`.
        validation: rows for early stopping: "auto" (a tenth of the rows, if there are at least 200), a fraction of the
            rows, or data like X.
        nll_draws: K, the number of importance-weighted draws of ``score_samples``.
        columns: kinds of columns of a table that replace the inferred kinds: ``{"price": "positive"}``.
        condition: one or several columns of a table (or of an AnnData's obs) on which the model is conditioned.
        formats: how to read columns of text, for example if their cells are ambiguous: ``{"when": "%d/%m/%Y"}``, or
            "day-first", "month-first", "1.234,5", "text".
        rules: rules that hold in every row, ``["start <= end", "total = net + tax", "city -> country"]``, in addition
            to those found in the data; "none" ignores those found (see ``latens fit --help``).
        kind: what an array holds: "auto", "continuous", "binary", "levels" or "count".
        layer: the matrix of an AnnData or .h5ad to read, in the fit and later: a layer, "X" or "raw/X"; None tries the
            layer "counts", X and raw/X, and takes the first that holds counts.
        random_state: an int, a ``RandomState``, or None for a new seed in each fit.
        verbose: 1 shows a progress bar.
        callbacks: a list of :class:`latens.training.Callback`, which follow a fit and may stop it.

    Attributes:
        run_: the :class:`latens.runs.record.Run`: model, objective, schema, settings, history, choices.
        model_: the :class:`latens.models.VAE`.
        schema_: what each column or pixel is.
        latent_dim_, n_features_in_, feature_names_in_: as in scikit-learn.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> vae = VAE(latent_dim=2, epochs=2, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.sample(5).shape, vae.score_samples(X).shape
    ((40, 2), (5, 3), (40,))
    """

    def __init__(
        self, latent_dim: int | str = "auto", *, recipe: str | Recipe = "vae", likelihood: str = "auto",
        network: str = "auto", epochs: int | str = "auto", batch_size: int | str = "auto",
        learning_rate: float | str = "auto", kl_warmup: float = 0.0, average: float | str = "auto",
        validation: Any = "auto", patience: int | str = "auto", nll_draws: int = 100, columns: Any = None,
        condition: Any = (), formats: Any = None, rules: Any = (), kind: str = "auto", layer: str | None = None,
        device: str = "auto", random_state: Any = None, verbose: int = 0, callbacks: Any = None,
    ):  # fmt: skip
        self.latent_dim = latent_dim
        self.recipe = recipe
        self.likelihood = likelihood
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kl_warmup = kl_warmup
        self.average = average
        self.validation = validation
        self.patience = patience
        self.nll_draws = nll_draws
        self.columns = columns
        self.condition = condition
        self.formats = formats
        self.rules = rules
        self.kind = kind
        self.layer = layer
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.categorical = True
        return tags

    def set_params(self, **params: Any) -> VAE:
        """Set parameters, as in scikit-learn; ``recipe__option`` also works if ``recipe`` is a name."""
        if isinstance(self.recipe, str) and any(key.startswith("recipe__") for key in params):
            self.recipe = Recipe(params.pop("recipe", self.recipe))
        if isinstance(self.recipe, Recipe):
            inner = {k.removeprefix("recipe__"): params.pop(k) for k in list(params) if k.startswith("recipe__")}
            if inner:
                self.recipe = Recipe(**(self.recipe.get_params() | inner))
        return super().set_params(**params)

    # Fitting

    @said_in_python()
    def fit(self, X: Any, y: Any = None, *, sample_weight: ArrayLike | None = None) -> VAE:
        """Fit the model to X.

        Args:
            X: at least 2 rows: arrays, frames or images.
            y: ignored.
            sample_weight: one number per row, ``[N]``. Whole numbers are counts of rows: a row with weight 2 is used
                twice, and a row with weight 0 is left out. Other weights are factors of the rows' terms in the bound;
                so are whole numbers that would multiply the number of rows by more than ten.

        Raises:
            InputError: data or options that cannot be used. It is a ``ValueError``.
        """
        given_rows = labelled(X)
        x, numbers, weight = _counted(self._new_form(given_rows.x), sample_weight)
        if len(x) < 2:
            raise InputError(f"the number of rows must be at least 2, got n_samples={len(x)}")
        rows = x if isinstance(x, Rows) else rows_of(
            x, None, self._asked(left=self._dropped), **given_rows.at(numbers)
        )  # fmt: skip
        say(rows.warnings)
        if isinstance(rows.inside, Tensor) or rows.are_sparse:
            order = canonical_order(rows.inside, weight)
            rows, numbers, weight = rows.take(order), numbers[order], None if weight is None else weight[order]
        recipe = self.recipe if isinstance(self.recipe, Recipe) else Recipe(self.recipe)
        given = isinstance(self.validation, str | int | float)
        validation = self.validation if given else self._like(
            self.validation, rows.schema, rows.given, reading={"layer": self.layer}
        )  # fmt: skip
        settings = Settings(
            **{name: _plain(getattr(self, name)) for name in _TRAINING},
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )  # fmt: skip
        bar, followers = Bar() if self.verbose else None, check_callbacks(self.callbacks)
        reading = None if self.layer is None else {"layer": self.layer}
        form = {"array": self._array_dtype, "frame": recorded(self._back), "reading": reading}
        run, (train, held) = prepare(
            rows, recipe, settings, options=self._options(recipe), weight=weight, validation=validation,
            data={name: value for name, value in form.items() if value is not None},
        )  # fmt: skip
        assert isinstance(train, ModelRows)
        train = train.called(torch.from_numpy(numbers))
        run = execute(run, train, held, progress=bar, callbacks=followers)
        say(run.warnings)
        return self._take(run)

    def _options(self, recipe: Recipe) -> dict[str, Any]:
        """The estimator's parameters that are options of the recipe, unless the recipe sets them itself."""
        own = {name: _plain(getattr(self, name)) for name in ("latent_dim", "likelihood", "network")}
        return {name: value for name, value in own.items() if name not in recipe.given and value != "auto"}

    def _take(self, run: Run) -> VAE:
        run.model.to("cpu")
        run.objective.to("cpu")
        self.run_, self.schema_ = run, run.schema
        self._array_dtype = run.data.get("array")
        self.model_: Any = run.model
        self.latent_dim_ = _latent_dim(run)
        if run.schema is not None and not hasattr(self, "n_features_in_"):
            names = [f.name for f in run.schema.fields] if isinstance(run.schema, Table) else run.schema.names
            self.n_features_in_ = len(names) if names else run.schema.columns
            if names and not self._array_dtype:
                self.feature_names_in_ = np.array(names, dtype=object)
        return self

    def _dtype(self) -> torch.dtype:
        """The dtype in which the model computes."""
        return next((p.dtype for p in self.model_.parameters() if p.is_floating_point()), torch.float32)

    def _schema(self) -> AnySchema:
        check_is_fitted(self, "run_")
        return outputs.schema_of(self.run_)

    # Data

    def _user_form(
        self, X: Any, optional: Callable[[str], bool], *, reset: bool, by_name: bool = False, check: bool = True,
        reading: Mapping[str, Any] | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """(X as an array, arrow table or lazy rows, checked as scikit-learn requires; the way back to a frame, for
        tables).

        Args:
            X: the data.
            optional: whether a frame may lack a column.
            reset: whether this is a fit, which sets the expected columns.
            by_name: whether columns of frames are matched by name instead of by position.
            check: whether infinite values are refused.
            reading: options of :func:`latens.data.read`.
        """
        if isinstance(X, str | Path):
            source = read(X, reading=reading)
            X = source.x
            say([note for note in source.notes if note not in getattr(X, "notes", ())])
        if isinstance(X, Lazy):
            return X, None
        X = settled(X)
        if is_counts(X):
            return sparse_rows(X, (reading or {}).get("layer")), None
        if is_frame(X):
            return self._frame_form(X, optional, reset=reset, by_name=by_name, check=check)
        if getattr(X, "ndim", 2) in (3, 4):
            array = as_array(X)[0]
            if reset:
                self.n_features_in_ = int(np.prod(array.shape[1:]))
            return array, None
        try:
            array = validate_data(
                self, X, reset=reset, dtype="numeric", ensure_min_samples=1,
                ensure_all_finite="allow-nan" if check else False, accept_sparse=False,
            )  # fmt: skip
        except ValueError as error:
            if "string" not in str(error):
                raise
            raise InputError(
                "the array holds texts, but only a data frame has columns of different types",
                "give pandas.DataFrame(X).infer_objects()",
            ) from error
        return array, None

    def _frame_form(
        self, X: Any, optional: Callable[[str], bool], *, reset: bool, by_name: bool, check: bool
    ) -> tuple[Any, Any]:
        """(A frame as an arrow table; the way back to a frame)."""
        named = getattr(X, "column_names", None)
        names = [str(name) for name in (getattr(X, "columns", ()) if named is None else named)]
        require_once(names, "the data frame")
        if not isinstance(X, dict) and names and not by_name:
            _require_labels_of_a_kind(X)
            validate_data(self, X, reset=reset, skip_check_array=True)
        X, odd = without_odd(X, optional)
        if reset:
            self._dropped: tuple[str, ...] = tuple(odd)
        else:
            say(columns_left(odd, "the data"))
        return frame_as_table(X, finite=check)

    def _new_form(self, X: Any) -> Any:
        """Read the data of a fit, and keep the way back to their form."""
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        if isinstance(X, str | Path):
            X = self._of_file(X)
        self._dropped = ()
        asked, reading = self._asked().columns, {"layer": self.layer}
        if self.layer is not None and not (isinstance(X, Rows) or hasattr(X, "obs")):
            raise InputError(f"layer is for an AnnData or an .h5ad, but X is of the type {type(X).__name__}", "omit it")
        x, self._back = (
            (X, X.back) if isinstance(X, Rows)
            else self._user_form(X, lambda name: asked.get(name) == "drop", reset=True, reading=reading)
        )  # fmt: skip
        values = x.x if isinstance(x, Rows) else x
        self._array_dtype = values.dtype.name if isinstance(values, np.ndarray) else None
        if self._back is None and self._array_dtype is not None:
            self._back = MatrixBack(self._array_dtype)
        return x

    def _of_file(self, path: str | Path) -> Rows:
        """The rows of a file, read with the formats of the fit."""
        asked = self._asked()
        asked_of = {"text": sorted(asked.hints.words), "formats": dict(asked.formats), "layer": self.layer}
        reading = {name: value for name, value in asked_of.items() if value}
        check_reading(reading, [str(path)])
        source = read(path, reading=reading)
        if source.found is None:
            say([note for note in source.notes if note not in getattr(source.x, "notes", ())])
        return rows_of(
            source.x, source.names, asked, labels=source.labels, label_names=source.label_names, where=source.origin,
            found=source.found,
        )  # fmt: skip

    def _asked(self, left: Sequence[str] = ()) -> Asked:
        columns = _words_by_name("columns", self.columns, '{"price": "positive"}')
        formats = _words_by_name("formats", self.formats, '{"when": "%d/%m/%Y"}')
        if not isinstance(self.condition, str | list | tuple):
            raise InputError(f"condition must be a column name or a list of column names, got {self.condition!r}")
        condition = (self.condition,) if isinstance(self.condition, str) else tuple(self.condition)
        rules = (self.rules,) if isinstance(self.rules, str) else () if self.rules is None else self.rules
        if not isinstance(rules, list | tuple) or not all(isinstance(rule, str) for rule in rules):
            raise InputError(f'rules must be a list of strings such as ["start <= end"], got {self.rules!r}')
        kept = {name: kind for name, kind in columns.items() if name not in left}
        return Asked(kept, condition, self.kind, formats=formats, rules=tuple(rules))

    def _like(
        self, X: Any, schema: AnySchema, given: Table | None, *, ordered: bool = False, check: bool = True,
        reading: Mapping[str, Any] | None = None,
    ) -> Rows:  # fmt: skip
        """X as rows of an existing schema. Issues warnings about the data; with ``check``, also those that need a check
        of all values."""
        if isinstance(X, Rows):
            return X
        if isinstance(X, str | Path) and isinstance(schema, Table):
            source = read(X, reading=reading, like=schema.fields, lenient=not check, keep_text=True)
            rows, back = rows_like(source.x, schema, given, where=source.origin, found=source.found, check=check), None
        else:
            found = labelled(X)
            X = found.x
            by_name = not ordered or isinstance(schema, Schema)
            known = known_columns(schema, given)
            x, back = self._user_form(
                X, lambda name: bool(known) and name not in known, reset=False, by_name=by_name, check=check,
                reading=reading,
            )  # fmt: skip
            if isinstance(schema, Table) and isinstance(x, np.ndarray):
                back = MatrixBack(x.dtype.name)
            rows = rows_like(x, schema, given, check=check, **found.at())
        say(rows.warnings if check else rows.remarks)
        return replace(rows, back=back)

    @said_in_python()
    def _rows(self, X: Any, *, ordered: bool = False, check: bool = True) -> Rows:
        schema, reading = self._schema(), self.run_.reading_of()
        return self._like(X, schema, self.run_.given, ordered=ordered, check=check, reading=reading)

    def _outside(self, found: Any, rows: Rows | None = None) -> Any:
        """Values found, in the user's form: that of ``rows``, with their index, or that of the fit's data."""
        back = rows.back if rows is not None else getattr(self, "_back", None)
        if not hasattr(found, "column_names"):
            names = self._schema().names if rows is None else rows.names
            if back is None or names is None:
                return found
            found = as_table(found, names)
        found = outputs.written(found, self.run_, rows)
        if back is None:
            return found
        return back(found) if rows is None else self._framed(found, rows)

    @staticmethod
    def _framed(table: Any, rows: Rows) -> Any:
        """A table as a frame of the library that the rows came from, with their index."""
        frame, index = rows.back(rows.named(table)), getattr(rows.back, "index", None)
        if index is not None:
            say(repeated_labels(index))
            frame.index = index
        return frame

    # Codes

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim_

    def transform(self, X: Any, *, key_added: str | None = None) -> NDArray[np.float32]:
        """The posterior mean E[z|x] of each row, in input order: ``[N, Z]`` float32, deterministic.

        Args:
            X: rows.
            key_added: if X is an AnnData, also store the codes in ``X.obsm[key_added]``, in place.
        """
        if key_added is not None:
            _require_obsm(X, key_added)
        rows = self._rows(X, ordered=True)
        codes = outputs.codes(self.run_, rows)
        if key_added is not None:
            X.obsm[key_added] = codes
        return codes

    def sample_posterior(self, X: Any, draws: int = 1, *, random_state: Any = 0) -> NDArray[np.float32]:
        """Draws from q(z|x) for each row: ``[draws, N, Z]`` float32."""
        rows = self._rows(X)
        return outputs.posterior_samples(self.run_, rows, draws, seed_from(random_state))

    def _checked_codes(self, Z: ArrayLike) -> Tensor:
        z = torch.from_numpy(np.array(Z, dtype=np.float32)).to(self._dtype())
        if z.ndim != 2 or z.shape[1] != self.latent_dim_:
            raise InputError(f"the shape of codes must be [N, {self.latent_dim_}], got {list(z.shape)}")
        if not torch.isfinite(z).all():
            raise InputError("all codes must be finite numbers")
        return z

    def inverse_transform(self, Z: ArrayLike, *, given: Any = None) -> Any:
        """The mean of p(x|z) at each code, in the layout, units and type of the data.

        Args:
            Z: codes, ``[N, Z]``.
            given: conditions, ``{name: value}``; conditions that are not given are drawn from the rows of the fit.

        Raises:
            InputError: codes that have a wrong shape or are not finite.
        """
        self._schema()
        z = self._checked_codes(Z)
        c, cells = outputs.conditions(self.run_, len(z), given or {}, 0)
        return self._outside(outputs.decoded(self.run_, z, c, cells))

    def reconstruct(self, X: Any) -> Any:
        """Each row decoded from its code: the mean of p(x|z) at the posterior mean, in the form and units of X."""
        rows = self._rows(X)
        return self._outside(outputs.reconstructed(self.run_, rows), rows)

    def impute(self, X: Any, *, k: int = 1000, draws: int = 0, random_state: Any = 0) -> Any:
        r"""X with its missing cells filled; observed cells are unchanged.

        A number becomes the mean, and a level the mode, of :math:`p(x_{missing} | x_{observed})`, estimated by
        self-normalised importance sampling (Mattei & Frellsen 2019).

        Args:
            X: rows with missing cells.
            k: draws per row in the importance sampling.
            draws: if positive, return a list of this many copies, each filled with draws from the same distribution
                (multiple imputation).
            random_state: an int, a ``RandomState``, or None for a new seed.
        """
        rows = self._rows(X)
        found = imputing.impute(self.run_, rows, k=k, draws=draws, seed=seed_from(random_state))
        say(imputing.notes(found.missing, rows.unknown, found.left))
        if draws:
            return [self._outside(table, rows) for table in found.draws]
        return self._outside(found.filled, rows)

    def sample(
        self, n: int = 1, *, mean: bool = False, given: Any = None, density: Any = "prior", gaps: bool = True,
        extrapolate: bool = False, random_state: Any = None,
    ) -> Any:  # fmt: skip
        """New rows from the model, in the form of the data: z from p(z), then x from p(x|z).

        Args:
            n: number of rows.
            mean: whether x is the mean of p(x|z), without the noise of a draw.
            given: conditions, ``{name: value}``.
            density: the density from which z is drawn: "prior", a density from :meth:`fit_density`, or the name of one
                in the run's folder.
            gaps: whether cells of a table are missing as often as in the data; False fills every cell.
            extrapolate: whether numbers may lie outside the range of the data; they stay on their grid.
            random_state: an int, a ``RandomState``, or None for a new seed.
        """
        self._schema()
        fitted = None if isinstance(density, str) and density == "prior" else self._density(density)
        seed = seed_from(random_state)
        return self._outside(
            outputs.sample(
                self.run_,
                n,
                mean=mean,
                seed=seed,
                given=given,
                density=fitted,
                missing=gaps,
                extrapolate=extrapolate,
            )
        )

    # Densities over codes

    def fit_density(self, X: Any, kind: str = "mixture", *, random_state: Any = 0, **options: Any) -> Fitted:
        """Fit a density to codes, one posterior draw for each row of X, for use as ``sample(density=kind)``.

        Args:
            X: rows, usually those of the fit.
            kind: "mixture", "kde", "maf", "iaf", "spline", "vae" or "metric"; for whole-number codes, "autoregressive"
                or "pixelcnn".
            random_state: an int, a ``RandomState``, or None for a new seed.
            **options: options of the kind (docs/densities.md).
        """
        rows, bar = self._rows(X), Bar(kind) if self.verbose else None
        fitted = densities.fit(
            self.model_, rows.inside, kind, options, c=rows.c, seed=seed_from(random_state), progress=bar
        )
        self._densities()[kind] = fitted
        return fitted

    def _densities(self) -> dict[str, Fitted]:
        """{kind: density} of the densities that were fitted to this model's codes."""
        if getattr(self, "_dense", (None, None))[0] is not self.run_:
            self._dense: tuple[Any, dict[str, Fitted]] = (self.run_, {})
        return self._dense[1]

    def _density(self, density: Any) -> Fitted:
        if isinstance(density, Fitted):
            return density
        found = self._densities().get(density)
        if found is None and self.run_.folder is not None:
            found = densities.load(self.run_.folder, density, self.model_)
        if found is None:
            densities.options(density)
            raise InputError(f"no density {density!r} has been fitted", f"call fit_density(X, {density!r}) first")
        return found

    def _save_densities(self, folder: str | Path) -> None:
        for fitted in self._densities().values():
            densities.save(folder, fitted, self.model_)

    # Scores

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """A lower bound on ln p(x) of each row, in nats: ``[N]`` float64; -inf if a cell has a value that its column
        cannot hold.

        The bound is importance-weighted with K = ``nll_draws`` draws (Burda et al. 2016). All rows share the same
        noise, so a score depends neither on other rows nor on their order. :class:`latens.runs.scoring.Scores` gives
        more detail.
        """
        return self._scores(X, ordered=True)[0].log_px

    def anomaly_scores(self, X: Any) -> NDArray[np.float64]:
        """How strange each row is, in nats: ``[N]``; infinite if a cell has a value that its column cannot hold. A row
        is strange if it is far from samples of the model, or if p(x) is small (see
        :class:`latens.evaluation.strangeness.Views`)."""
        return self._scores(X)[0].strangeness

    def score_table(self, X: Any) -> Any:
        """The table that ``latens score`` writes, as a frame like X (an arrow table for arrays), in input order.

        Its columns are ln p(x) and its standard error, strangeness, the columns that make a row strange, and a reason
        if a single value makes it strange. For a run made by ``latens fit``, whose folder has scores of held-out rows,
        there are p-values too.
        """
        folder = self.run_.folder if hasattr(self, "run_") else None
        found, rows = self._scores(X, None if folder is None else scoring.read_calibration(folder))
        table = scoring.as_table(found, self._schema())
        return table if rows.back is None or isinstance(rows.back, MatrixBack) else self._framed(table, rows)

    def _scores(
        self, X: Any, calibration: scoring.Calibration | None = None, *, ordered: bool = False
    ) -> tuple[scoring.Scores, Rows]:
        """(scores, rows). Issues the warnings of both."""
        rows = self._rows(X, ordered=ordered, check=False)
        found = scoring.score(self.run_, rows, self.nll_draws, calibration)
        tally = scoring.Tally(self.run_, self.nll_draws, calibration)
        tally.add(found, rows)
        say(tally.notes())
        return found, rows

    @untouched()
    def score(self, X: Any, y: Any = None) -> float:
        """The mean of :meth:`score_samples` over rows whose values the columns can hold, in nats. For a model without a
        bound on ln p(x), minus the mean squared error."""
        rows = self._rows(X, ordered=True, check=False)
        if scoring.no_bound(self.run_, rows.take(np.arange(1)).sifted(refuse=False)[0]) is not None:
            apart = evaluation.evaluate(self.model_, rows.inside, rows.c, k=0)
            error = apart.rmse if apart.rmse is not None else apart.relative_rmse
            return -((error or 0.0) ** 2)
        scores = self.score_samples(rows)
        return float(scores[np.isfinite(scores)].mean()) if np.isfinite(scores).any() else -np.inf

    def evaluate(
        self, X: Any, *, k: int | None = None, draws: int = 5, synthetic: bool = True, training: Any = None,
        density: Any = "prior",
    ) -> Evaluation:  # fmt: skip
        """Rate, distortion, ELBO, NLL and active units with their standard errors, in nats per row.

        Args:
            X: rows, preferably held out.
            k: draws of the NLL; None means ``nll_draws``.
            draws: posterior draws per row in the ELBO.
            synthetic: whether samples of a table are compared with real rows (at most 20,000); the comparison is in
                ``samples`` of the result.
            training: the rows of the fit, if X is held out. By default X is split at random into two halves, which take
                the places of training and held-out rows.
            density: the density from which the codes of samples are drawn, as in :meth:`sample`.
        """
        rows, k = self._rows(X), self.nll_draws if k is None else k
        found = evaluation.evaluate(self.model_, rows.inside, rows.c, k=k, draws=draws, beta=self.run_.beta)
        if synthetic and isinstance(self.schema_, Table):
            train, held = synthesis.halves(rows) if training is None else (self._rows(training), rows)
            fitted = None if isinstance(density, str) and density == "prior" else self._density(density)
            found.samples = synthesis.evaluate_samples(self.run_, train, held, density=fitted)
        say(found.warnings)
        return found

    # Runs

    def codec(self) -> Codec:
        """Lossless compression with the fitted model: ``codec().encode(X) -> bytes``, ``codec().decode(data) -> X``.

        See :class:`latens.runs.coding.codec.Codec`. ``InputError`` if the model cannot compress.
        """
        check_is_fitted(self, "run_")
        return self.run_.codec()

    def save(self, folder: str | Path) -> None:
        """Write a new run folder: ``run.json``, ``model.safetensors``, ``metrics.csv``, ``report.html`` and the fitted
        densities. :func:`latens.load` reads it."""
        check_is_fitted(self, "run_")
        self.run_.save(folder)
        self._save_densities(folder)
        from latens import report

        report.write(Folder(folder) / "report.html", self.run_, None)

    def report(self, path: str | Path, X: Any = None, labels: Any = None) -> None:
        """Write the HTML report to ``path``; with ``X``, it has pictures of these rows, coloured by ``labels``."""
        from latens import report

        check_is_fitted(self, "run_")
        rows = None if X is None else self._rows(X)
        figures = None if rows is None else self.evaluate(rows)
        report.write(path, self.run_, rows, labels=labels, evaluation=figures)


_TRAINING = [each.name for each in fields(Settings) if each.name in signature(VAE).parameters]


def say(sentences: Sequence[str]) -> None:
    """Issue each sentence as a ``UserWarning``, attributed to the line that called the estimator."""
    depth = 2
    while sys._getframe(depth).f_globals.get("__name__", "").partition(".")[0] in ("latens", "sklearn", "contextlib"):
        depth += 1
    for sentence in sentences:
        warnings.warn(sentence, UserWarning, stacklevel=depth + 1)


def seed_from(random_state: Any) -> int:
    """A seed from a whole number or a ``RandomState``; a new seed for None."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**62))
    return int(random_state) if is_whole(random_state) else int(check_random_state(random_state).randint(2**31 - 1))


def _latent_dim(run: Run) -> int:
    """The number of latent dimensions, found by encoding a row of zeros."""
    if run.schema is None:
        return 0
    if isinstance(run.model, Generator):
        return int(run.model.prior.dim)  # type: ignore[arg-type]
    cells = torch.zeros(1, *run.schema.shape, dtype=getattr(torch, run.schema.storage))
    seen = run.data.get("conditions") or {}
    c = {name: torch.tensor(values[:1], dtype=torch.float32) for name, values in seen.items()} or None
    return int(evaluation.codes(run.model, cells, c).shape[-1])


def _counted(x: Any, sample_weight: ArrayLike | None) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None]:
    """(rows, their indices in ``x``, their weights): rows of weight 0 are dropped, and whole-number weights repeat
    rows."""
    numbers = np.arange(len(x))
    if sample_weight is None:
        return x, numbers, None
    weight = np.asarray(sample_weight, dtype=np.float64)
    check_weights(weight, len(x))
    numbers, weight = numbers[weight > 0], weight[weight > 0]
    if np.array_equal(weight, np.round(weight)) and weight.sum() <= 10 * len(numbers):
        numbers = np.repeat(numbers, weight.astype(int))
        return taken(x, numbers), numbers, None
    return taken(x, numbers), numbers, weight


def _words_by_name(name: str, given: Any, like: str) -> dict[str, str]:
    found = {} if given is None else given
    if not isinstance(found, dict) or not all(isinstance(word, str) for word in found.values()):
        raise InputError(f"{name} must be a mapping like {like}, got {found!r}")
    return found


def _require_obsm(X: Any, key: Any) -> None:
    """``InputError`` unless X is an AnnData and ``key`` can name codes in its obsm."""
    if not hasattr(X, "obsm"):
        what = f"key_added is for an AnnData, but X is of the type {type(X).__name__}"
        raise InputError(what, "omit it, and keep the returned codes")
    if not isinstance(key, str) or not key or "/" in key:
        raise InputError(f"key_added must be a name like 'X_latens', got {key!r}")
    if getattr(X, "is_view", False) and getattr(X, "isbacked", False):
        raise InputError("the data are a view of a file-backed AnnData, which cannot store codes", "pass X.to_memory()")


def _plain(value: Any) -> Any:
    """A number as a Python number; a grid search passes numbers of numpy."""
    return value.item() if isinstance(value, np.generic) else value


def load(folder: str | Path, *, model: nn.Module | None = None, recipe: str | None = None) -> VAE:
    """Load a fitted :class:`VAE` from a run folder. No code is executed from a file.

    Args:
        folder: a folder that ``latens fit``, :meth:`VAE.save` or :func:`latens.train` wrote, or "hf://USER/NAME" for a
            run on the Hugging Face Hub.
        model: for a run of :func:`latens.train`, your model, freshly built.
        recipe: for a run that was fitted with your own recipe, "package:function".

    Raises:
        InputError: the folder lacks parts, is damaged, or has a newer format.

    >>> import tempfile, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> VAE(latent_dim=2, epochs=2, random_state=0).fit(X).save(folder)
    >>> load(folder).transform(X).shape
    (40, 2)
    """
    if sharing.is_on_hub(folder):
        folder = sharing.fetched(str(folder))
    run = runs.load(folder, model=model, recipe=recipe)
    with concerning(folder):
        return of_run(run)


def of_run(run: Run) -> VAE:
    """The estimator of a run."""
    options: dict[str, Any] = {name: getattr(run.settings, name) for name in _TRAINING}
    found = VAE(recipe=run.recipe or "vae", random_state=run.settings.seed, **options)
    array = run.data.get("array")
    found._back = restored(run.data.get("frame")) if array is None else MatrixBack(array)
    return found._take(run)


def _require_labels_of_a_kind(frame: Any) -> None:
    """Raise ``InputError`` if only some of the column labels are texts, which scikit-learn refuses."""
    labels = {isinstance(label, str): label for label in getattr(frame, "columns", ())}
    if len(labels) > 1:
        what = f"the data frame has the column labels {labels[True]!r} and {labels[False]!r}, of which only one is text"
        raise InputError(what, "make all of them text with frame.columns = frame.columns.astype(str)")
