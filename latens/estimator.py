"""``latens.VAE``: the scikit-learn surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from latens import evaluation
from latens import run as runs
from latens.data import as_array, infer
from latens.errors import InputError, is_whole
from latens.evaluation import Evaluation
from latens.fitting import check_weights, fit_recipe
from latens.randomness import seeded, untouched
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Bar, Settings

_SAMPLE, _CODES = 51, 52  # keys of the seeds
_TRAINING = ("epochs", "batch_size", "learning_rate", "kl_warmup", "average", "patience", "device")


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A variational autoencoder as a scikit-learn transformer and density.

    Maximises E_q[ln p(x|z)] - beta KL(q(z|x) || p(z)) over encoder and decoder (Kingma & Welling 2014). Data: arrays or
    data frames of rows x columns, or images N x H x W, N x H x W x C, N x C x H x W. Codes and scores do not depend on
    the order of the rows, in fitting or after.

    Args:
        latent_dim: dimension of z, or "auto" (the smaller of 16 and the number of columns).
        recipe: a name from ``latens recipes``, or a :class:`latens.Recipe` with options, which then can be searched
            over (``recipe__beta``).
        likelihood: "auto" (from the values seen), "normal", "bernoulli", "categorical" or "discretized_logistic".
        network: "auto" (convolutions for images from 12 x 12, fully connected otherwise), "linear", "mlp", "residual",
            "conv".
        epochs, batch_size: whole numbers or "auto".
        learning_rate: peak of the schedule, or "auto" (2e-3; 1e-2 for linear maps alone).
        kl_warmup: fraction of the steps over which the rate's weight grows from 0 to beta.
        average: decay of averaged weights (0: none).
        validation: "auto" (a tenth from 200 rows on), a fraction, or data like X; early stopping is judged on it.
        patience: validation rounds without improvement before stopping, "auto" or 0 for never.
        nll_draws: K of the importance-weighted ``score_samples``.
        device: "auto" or a torch device.
        random_state: None, an int, or a ``RandomState``. None is a fresh seed for each fit.
        verbose: 1 shows a progress bar.

    Attributes:
        run_: the :class:`latens.run.Run`: model, objective, schema, settings, history, choices.
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
        learning_rate: float | str = "auto", kl_warmup: float = 0.0, average: float = 0.0, validation: Any = "auto",
        patience: int | str = "auto", nll_draws: int = 100, device: str = "auto", random_state: Any = None,
        verbose: int = 0,
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
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def set_params(self, **params: Any) -> VAE:
        """As in scikit-learn; ``recipe__option`` also works where ``recipe`` is still a name."""
        if isinstance(self.recipe, str) and any(key.startswith("recipe__") for key in params):
            self.recipe = Recipe(params.pop("recipe", self.recipe))
        if isinstance(self.recipe, Recipe):
            inner = {k.removeprefix("recipe__"): params.pop(k) for k in list(params) if k.startswith("recipe__")}
            if inner:
                self.recipe = Recipe(**(self.recipe.get_params() | inner))
        return super().set_params(**params)

    # Fitting

    def fit(self, X: Any, y: Any = None, *, sample_weight: ArrayLike | None = None) -> VAE:
        """Fit to data. ``y`` is ignored. Whole-number weights count rows: weight 2 is the row twice, 0 leaves it out.
        (Other weights, and those that would make more than ten times the rows, weigh the rows' terms in the bound.)

        Raises ``ValueError`` (:class:`latens.InputError`) for data or options that cannot be used.
        """
        x = self._validated(X, reset=True)
        weight, numbers = None, np.arange(len(x))
        if sample_weight is not None:
            weight = np.asarray(sample_weight, dtype=np.float64)
            check_weights(weight, len(x))
            numbers, weight = numbers[weight > 0], weight[weight > 0]
            if np.array_equal(weight, np.round(weight)) and weight.sum() <= 10 * len(numbers):
                numbers, weight = np.repeat(numbers, weight.astype(int)), None
            x = x[numbers]
        if len(x) < 2:
            raise InputError(f"fitting needs at least 2 rows, got n_samples={len(x)}")
        order = canonical_order(x, weight)
        x, numbers, weight = x[order], numbers[order], None if weight is None else weight[order]
        names = getattr(self, "feature_names_in_", None)
        schema = infer(x, None if names is None else tuple(map(str, names)))
        recipe = self.recipe if isinstance(self.recipe, Recipe) else Recipe(self.recipe)
        valid = {"latent_dim": self.latent_dim, "likelihood": self.likelihood, "network": self.network}
        options = {k: v for k, v in valid.items() if k not in recipe.given and not (isinstance(v, str) and v == "auto")}
        given = isinstance(self.validation, str | int | float)
        validation = self.validation if given else self._validated(self.validation, reset=False)
        settings = Settings(
            **{name: _plain(getattr(self, name)) for name in _TRAINING},
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )  # fmt: skip
        bar = Bar() if self.verbose else None
        options = {k: _plain(v) for k, v in options.items()}
        run = fit_recipe(
            x, schema, recipe, settings, options=options, weight=weight, validation=validation, progress=bar,
            numbers=torch.from_numpy(numbers),
        )  # fmt: skip
        return self._take(run)

    def _take(self, run: Run) -> VAE:
        run.model.to("cpu")
        run.objective.to("cpu")
        self.run_, self.schema_ = run, run.schema
        self.model_: Any = run.model
        with torch.no_grad():
            cells = torch.zeros(1, *run.schema.shape, dtype=getattr(torch, run.schema.storage)) if run.schema else None
            self.latent_dim_ = 0 if cells is None else int(self._codes_of(cells).shape[-1])
        if run.schema is not None:
            self.n_features_in_ = run.schema.user_shape[0] if len(run.schema.user_shape) == 1 else run.schema.columns
            if run.schema.names:
                self.feature_names_in_ = np.array(run.schema.names, dtype=object)
        return self

    def _dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return next((p.dtype for p in self.model_.parameters() if p.is_floating_point()), torch.float32)

    def _codes_of(self, x: Tensor) -> Tensor:
        return evaluation.codes(self.model_, x)

    def _validated(self, X: Any, *, reset: bool) -> NDArray[Any]:
        """X as an array; vectors go through scikit-learn's checks, images through latens' own."""
        if isinstance(X, str | Path):
            from latens.data import read

            X = read(X).x
        if getattr(X, "ndim", 2) in (3, 4):
            if reset and hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return as_array(X)[0]
        array = validate_data(
            self, X, reset=reset, dtype="numeric", ensure_min_samples=1, ensure_all_finite=True, accept_sparse=False
        )
        return array

    def _inside(self, X: Any) -> Tensor:
        check_is_fitted(self, "run_")
        return torch.from_numpy(np.array(self._schema().to_model(self._validated(X, reset=False))))

    def _schema(self) -> Schema:
        if self.schema_ is None:
            raise InputError("this run has no schema (parts of your own on a tree of data): use its model directly")
        return self.schema_

    # Codes

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim_

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Posterior means E[z|x], ``[N, Z]`` float32: deterministic, in order, one row a row."""
        return self._codes_of(self._inside(X)).numpy().astype(np.float32)

    def sample_posterior(self, X: Any, draws: int = 1, *, random_state: Any = 0) -> NDArray[np.float32]:
        """``draws`` samples from q(z|x) for each row, ``[draws, N, Z]`` float32."""
        x = self._inside(X)
        with torch.no_grad(), seeded(_seed(random_state), _CODES):
            return self.model_.encode(x).sample(torch.Size((draws,))).numpy().astype(np.float32)

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """The mean of p(x|z) at each code, in the user's layout, units and type."""
        check_is_fitted(self, "run_")
        z = torch.from_numpy(np.array(Z, dtype=np.float32)).to(self._dtype())
        if z.ndim != 2 or z.shape[1] != self.latent_dim_:
            raise InputError(f"codes must have shape [N, {self.latent_dim_}], got {list(z.shape)}")
        if not torch.isfinite(z).all():
            raise InputError("the codes hold a value that is not finite")
        return self._schema().to_user(evaluation.decode(self.model_, z).numpy())

    def reconstruct(self, X: Any) -> NDArray[Any]:
        """The mean of p(x|z) at each row's posterior mean, in the user's layout, units and type."""
        return self.inverse_transform(self.transform(X))

    def sample(self, n: int = 1, *, mean: bool = False, random_state: Any = None) -> NDArray[Any]:
        """n data from the model: z ~ p(z), x ~ p(x|z); ``mean=True``: the mean of p(x|z), the picture people expect."""
        check_is_fitted(self, "run_")
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise InputError(f"the number of samples must be a whole number from 1, got {n!r}")
        with seeded(_seed(random_state), _SAMPLE):
            parts = [self.model_.sample(min(1000, n - start), mean=mean).numpy() for start in range(0, n, 1000)]
        return self._schema().to_user(np.concatenate(parts))

    # Scores

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """A lower bound on ln p(x) of each row, nats: importance-weighted with K = ``nll_draws`` draws, the same noise
        for every row, so that a row's score depends neither on its neighbours nor on their order."""
        estimate = evaluation.nll(self._fitted_model(), self._inside(X), self.nll_draws, shared_noise=True)
        return -estimate.rows.numpy()

    @untouched()
    def score(self, X: Any, y: Any = None) -> float:
        """Mean of ``score_samples``; for an autoencoder, which has no density, minus the mean squared error."""
        x = self._inside(X)
        if not self._fitted_model().draw(x[:1]).has_density:
            return -(evaluation.evaluate(self.model_, x, k=0).rmse ** 2)
        return float(self.score_samples(X).mean())

    def evaluate(self, X: Any, *, k: int | None = None, draws: int = 5) -> Evaluation:
        """Rate, distortion, ELBO, NLL, active units, with errors: a :class:`latens.evaluation.Evaluation`."""
        x, k = self._inside(X), self.nll_draws if k is None else k
        return evaluation.evaluate(self._fitted_model(), x, k=k, draws=draws, beta=self.run_.beta)

    def _fitted_model(self) -> Any:
        check_is_fitted(self, "run_")
        return self.model_

    # Runs

    def save(self, folder: str | Path) -> None:
        """Write ``run.json``, ``model.safetensors``, ``metrics.csv`` and ``report.html`` to a new folder."""
        check_is_fitted(self, "run_")
        self.run_.save(folder)
        from latens import report

        report.write(Path(folder) / "report.html", self.run_, None)

    def report(self, path: str | Path, X: Any = None, labels: Any = None) -> None:
        """Write the HTML report, with pictures of ``X`` if it is given."""
        from latens import report

        check_is_fitted(self, "run_")
        x = None if X is None else self._validated(X, reset=False)
        figures = None if X is None else self.evaluate(X)
        report.write(path, self.run_, x, labels=labels, evaluation=figures)


def _plain(value: Any) -> Any:
    """numpy's whole numbers and floats as Python's own (a grid search hands out numpy's)."""
    return value.item() if isinstance(value, np.generic) else value


def canonical_order(x: NDArray[Any], weight: NDArray[Any] | None = None) -> NDArray[np.intp]:
    """An order of the rows that depends on their contents alone, so that a fit does not depend on the order given."""
    first = np.arange(len(x)) if weight is None else np.argsort(weight, kind="stable")
    flat = np.ascontiguousarray(x.reshape(len(x), -1)[first])
    bytes_of_rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    return first[np.argsort(bytes_of_rows, kind="stable")]


def _seed(random_state: Any) -> int:
    """One seed from None (a fresh one), a whole number or a ``RandomState``."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**62))
    return int(random_state) if is_whole(random_state) else int(check_random_state(random_state).randint(2**31 - 1))


def load(folder: str | Path, *, model: nn.Module | None = None, recipe: str | None = None) -> VAE:
    """A fitted :class:`VAE` from a run folder. Code is never executed from a file: a run made from parts of your own
    needs ``model=`` (yours, freshly built), one made by your own recipe its name again in ``recipe=``.

    Raises ``InputError`` where the folder misses parts, is damaged, or comes from a newer format.
    """
    run = runs.load(folder, model=model, recipe=recipe)
    options: dict[str, Any] = {name: getattr(run.settings, name) for name in _TRAINING}
    return VAE(recipe=run.recipe or "vae", random_state=run.settings.seed, **options)._take(run)
