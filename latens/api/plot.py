"""Figures for notebooks: the figures of the report, drawn on matplotlib axes.

Each function takes a fitted :class:`latens.VAE`, a :class:`latens.runs.record.Run` or a run's folder, with rows X as
the estimator takes them; or it takes arrays, as described for its arguments. It draws on ``ax``, or on a new figure,
and returns the axes. If a figure has several charts, they are insets of these axes (``ax.child_axes``).

>>> import numpy as np, latens
>>> from matplotlib import pyplot
>>> vae = latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(np.random.default_rng(0).normal(size=(40, 3)))
>>> figure, ax = pyplot.subplots()
>>> latens.plot.training(vae, term="bound", ax=ax) is ax
True
>>> pyplot.close("all")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from latens.api.estimator import VAE, load, of_run
from latens.data.tables.frames import is_frame
from latens.errors import InputError, is_whole, require, said_in_python
from latens.evaluation import Evaluation
from latens.report import charts, comparison, figures, overview, pixels, sections, sequences, tables, walks
from latens.report.given import Given, place, show_images
from latens.report.groups import group
from latens.report.page import Chart, LeftOut
from latens.report.subject import Subject
from latens.runs import scoring
from latens.runs.comparing import Comparison
from latens.runs.record import Run
from latens.schema import Table
from latens.tensors.randomness import untouched

__all__ = [
    "calibration", "columns", "interpolation", "latent_map", "rate_distortion", "rates", "reconstructions", "samples",
    "training", "traversals",
]  # fmt: skip
BESIDE = (("data", "c9"), ("samples", "c0"))
P = ParamSpec("P")


@contextmanager
def _said() -> Iterator[None]:
    """Turn errors of drawing into an ``InputError`` that says why the figure cannot be drawn."""
    try:
        with said_in_python(), untouched():
            yield
    except LeftOut as reason:
        text = str(reason).split(". ")[0].rstrip(".")
        raise InputError(text[:1].lower() + text[1:], "draw another figure of this model") from None
    except (RuntimeError, NotImplementedError) as error:
        told = f"this figure cannot be drawn for this model ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise InputError(told, "draw another figure") from error


def _figure(function: Callable[P, Any]) -> Callable[P, Any]:
    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        _require_axes(kwargs.get("ax"))
        with _said():
            return function(*args, **kwargs)

    return wrapped


def _require_axes(ax: Any) -> None:
    if ax is not None and not hasattr(ax, "inset_axes"):
        raise InputError(f"ax must be axes of matplotlib, got {type(ax).__name__}", "pass ax=pyplot.subplots()[1]")


def _model(source: Any, *needs: str) -> VAE | None:
    """The estimator of a model or folder, whose model has the methods ``needs``; None if the source is data."""
    if isinstance(source, VAE) and not hasattr(source, "run_"):
        raise InputError("the estimator is not fitted", "call fit(X) first")
    vae = source if isinstance(source, VAE) else of_run(source) if isinstance(source, Run) else None
    vae = load(source) if isinstance(source, str | Path) else vae
    for method in needs:
        if vae is not None and not callable(getattr(vae.run_.model, method, None)):
            raise InputError(f"the model has no method {method}, which this figure needs", "draw another figure")
    return vae


def _subject(vae: VAE, X: Any = None, labels: Any = None, what: str = "") -> Subject:
    if X is None and what:
        raise InputError(f"{what} need rows", "pass X")
    vae.run_.model.eval()
    return Subject(vae.run_, None if X is None else vae._rows(X), labels, None, None)


def _require_count(value: Any, name: str) -> None:
    require(is_whole(value) and value >= 1, name, "a whole number from 1", value)


@_figure
def reconstructions(source: Any, X: Any = None, *, rows: int = 24, ax: Any = None) -> Any:
    """Rows and their reconstructions, the mean of p(x|z) at the code. Images are shown in pairs and sequences as lines.
    Each column of a table has a scatter chart (numbers) or a confusion matrix (levels).

    Args:
        source: a model, a run or its folder; or rows.
        X: the rows; if ``source`` is rows, their reconstructions.
        rows: the number of images to show, beginning with the first.
        ax: axes of matplotlib.

    Raises:
        InputError: rows do not fit the model, or reconstructions differ from the rows in shape or number.
    """
    _require_count(rows, "rows")
    vae = _model(source, "encode", "decode")
    if vae is None:
        if X is None:
            raise InputError("the reconstructions are not given", "pass the rows, then their reconstructions")
        subject: Subject = Given(source)
        assert isinstance(subject, Given)
        original, again = subject.shown, subject.like(X, "reconstructions")
        if len(again) != len(original):
            raise InputError(f"there are {len(original):,} rows and {len(again):,} reconstructions",
                             "give one reconstruction for each row")  # fmt: skip
    else:
        subject = _subject(vae, X, what="reconstructions")
        if subject.schema is not None and subject.is_image:
            subject = _subject(vae, vae._rows(X).take(np.arange(min(rows, subject.rows))))
        original, again = subject.shown, subject.decode(subject.codes, np.arange(len(subject.codes)))
    if isinstance(subject.schema, Table):
        return place(tables.of_columns(subject.schema, original, again), ax)
    if subject.is_sequence:
        key = (("original", "c9"), ("reconstruction", "c0"))
        return place(sequences.of_rows(subject, original, again), ax, key)
    if subject.is_image:
        both = (subject.pixels(each[:rows]) for each in (original, again))
        return show_images(pixels.sheet(pixels.stack(*both), _across(min(rows, len(original)))), ax)
    return place(sections.of_columns(subject, original, again), ax)


def _across(count: int) -> int:
    """The number of images in a line of the figure."""
    return min(count, 12)


@_figure
def samples(source: Any, X: Any = None, *, rows: int = 24, mean: bool = False, ax: Any = None) -> Any:
    """New rows from the model: images, sequences, or the distribution of each column, next to the distribution in X if
    it is given. For a table, the column that matches worst comes first.

    Args:
        source: a model, a run or its folder; or sampled rows.
        X: real rows to compare with.
        rows: the number of images to show.
        mean: whether images are means of p(x|z), without the noise of a draw.
        ax: axes of matplotlib.

    Raises:
        InputError: the model is an autoencoder, which has no prior, or rows do not fit the model.
    """
    _require_count(rows, "rows")
    subject, drawn = _drawn(source, X, rows, mean)
    if isinstance(subject.schema, Table):
        return _marginals(subject, drawn, None, ax)
    if subject.is_sequence:
        return place(sequences.of_samples(subject, drawn)[0], ax)
    if subject.is_image:
        return show_images(pixels.sheet(subject.pixels(drawn[:rows]), _across(min(rows, len(drawn)))), ax)
    return place(sections.marginals(subject, drawn), ax, _beside(subject))


def _drawn(source: Any, X: Any, count: int = 1, mean: bool = False) -> tuple[Subject, np.ndarray]:
    """(the rows to compare with; samples in the layout of these rows)."""
    vae = _model(source, "sample")
    if vae is None:
        given = Given(source if X is None else X)
        drawn = given.like(source, "samples")
        if X is None:
            given.tensor = None
        return given, drawn
    subject = _subject(vae, X)
    if not subject.has_prior:
        raise InputError("an autoencoder has no prior to draw samples from", "fit with another recipe")
    size = count if subject.schema is not None and subject.is_image else sections.TABLE_SAMPLES
    drawn = subject.sample(size, mean=mean)
    return subject, tables.drawn_rows(subject.schema, drawn) if isinstance(subject.schema, Table) else drawn


def _beside(subject: Subject) -> Sequence[tuple[str, str]]:
    return BESIDE if subject.tensor is not None else ()


def _marginals(subject: Subject, drawn: np.ndarray, names: Sequence[str] | None, ax: Any) -> Any:
    schema = subject.schema
    assert isinstance(schema, Table)
    data = subject.shown if subject.tensor is not None else np.empty((0, len(schema.outer)))
    found = tables.compared(schema, data, drawn, 0, None if names is None else list(names))
    return place([tables.marginal(each) for each in found], ax, _beside(subject))


@_figure
def columns(source: Any, X: Any = None, *, names: Sequence[str] | None = None, ax: Any = None) -> Any:
    """The distribution of columns in samples of the model, next to the distribution in X if it is given. For sequences,
    the mean and the middle 90 % at each step.

    Args:
        source: a model, a run or its folder; or sampled rows.
        X: real rows to compare with.
        names: columns of a table to show, in this order; by default the columns that :func:`samples` shows.
        ax: axes of matplotlib.

    Raises:
        InputError: the rows are images, which have no columns; a name is unknown; or rows do not fit the model.
    """
    subject, drawn = _drawn(source, X, sections.TABLE_SAMPLES)
    if isinstance(subject.schema, Table):
        _require_names(names, [column.name for column in subject.schema.outer])
        return _marginals(subject, drawn, names, ax)
    if names is not None:
        raise InputError("names are for the columns of a table, but these rows are an array", "omit them")
    if subject.is_image:
        raise InputError("the rows are images, which have no columns", "use latens.plot.samples")
    if subject.is_sequence:
        return place(sequences.of_samples(subject, drawn)[1], ax, _beside(subject))
    return place(sections.marginals(subject, drawn), ax, _beside(subject))


def _require_names(names: Sequence[str] | None, there: Sequence[str]) -> None:
    if isinstance(names, str) or (names is not None and not len(names)):
        raise InputError(f"names must be a list of columns, got {names!r}")
    for name in names or ():
        if name not in there:
            raise InputError(f"there is no column {name!r}", f"the columns are {', '.join(there)}")


@_figure
def latent_map(source: Any, X: Any = None, *, labels: Any = None, ax: Any = None) -> Any:
    """A map of the codes along their two dimensions, or along the first two principal axes if there are more. Circles
    hold 50 % and 95 % of a standard normal prior. Codes of one dimension give a histogram.

    Args:
        source: a model, a run or its folder; or codes ``[N, Z]``.
        X: the rows, at most 2,000 of which are shown.
        labels: one label per row, words or numbers, which sets the colours.
        ax: axes of matplotlib.

    Raises:
        InputError: rows are missing, labels have a different length, or the model gives no codes of rows.
    """
    vae = _model(source, "encode")
    if vae is not None:
        subject = _subject(vae, X, labels, "maps of codes")
        if not subject.has_codes:
            raise InputError(f"the recipe {vae.run_.name!r} gives no codes of rows", "fit with another recipe")
        return _on_map(subject.codes.double().numpy(), subject.groups, subject.is_standard, ax)
    codes = _numbers(source, "codes", 2)
    if X is not None:
        raise InputError("codes are given in place of a model", "omit X, or pass the model")
    return _on_map(codes, group(labels, len(codes)), False, ax)


def _on_map(codes: np.ndarray, groups: Any, circles: bool, ax: Any) -> Any:
    chart, _ = sections.map_of(codes, groups, circles)
    return place([chart], ax)


def _numbers(values: Any, what: str, ndim: int) -> np.ndarray:
    """The values as finite numbers with ``ndim`` axes; ``InputError`` if they are anything else."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        told = f"{what} must be numbers, a model, a run or its folder, got {type(values).__name__}"
        raise InputError(told, "pass one of them") from None
    if found.ndim != ndim or not found.size:
        shape = "[N]" if ndim == 1 else "[N, Z]"
        raise InputError(f"{what} must have shape {shape}, got {list(found.shape)}",
                         "pass such an array, or a model and rows")  # fmt: skip
    if not np.isfinite(found).all():
        raise InputError(f"{what} must be finite numbers", "leave out the rows with other values")
    return found


@_figure
def traversals(source: Any, X: Any = None, *, dimensions: Sequence[int] | None = None, ax: Any = None) -> Any:
    """What changes as one latent dimension moves from -3 to 3 standard deviations while the others stay at the centre:
    strips of images, lines of sequences, or the columns that change most.

    Args:
        source: a model, a run or its folder; or decoded rows ``[D, steps, *event]``. X: rows, which determine the
        active dimensions and the units of columns. dimensions: the dimensions to show; by default the active dimensions
        with the highest rates, at most 8. ax: axes of matplotlib.

    Raises:
        InputError: rows are missing, a dimension does not exist, or no dimension is active.
    """
    vae = _model(source, "encode", "decode")
    if vae is None:
        if X is not None or dimensions is not None:
            raise InputError("decoded rows are given in place of a model", "omit X and dimensions, or pass the model")
        subject, decoded = _walks(source, 3)
        return _traversed(subject, list(enumerate(decoded)), ax)
    subject = _subject(vae, X, what="traversals")
    found = subject.dimensions[0][:8] if dimensions is None else list(dimensions)
    for dim in found:
        if not is_whole(dim) or not 0 <= dim < subject.codes.shape[1]:
            raise InputError(f"dimensions must be whole numbers from 0 to {subject.codes.shape[1] - 1}, got {dim!r}")
    if not found:
        raise InputError("no latent dimension is active", "name dimensions to show, for example dimensions=[0, 1]")
    return _traversed(subject, [(int(dim), walks.walked(subject, int(dim))) for dim in found], ax)


def _walks(values: Any, lead: int) -> tuple[Subject, np.ndarray]:
    """(all decoded rows of the walks, ``[..., *event]`` with ``lead`` - 1 axes in front; the same in the model's
    layout)."""
    found = np.asarray(values)
    if found.dtype.kind not in "iufb" or found.ndim < lead or not found.size:
        told = f"decoded rows must be an array of numbers, got {type(values).__name__} of shape {list(found.shape)}"
        raise InputError(told, "pass such an array, or rows with a model, a run or its folder")
    given = Given(found.reshape(-1, *found.shape[lead - 1 :]))
    return given, given.shown.reshape(*found.shape[: lead - 1], *given.shown.shape[1:])


def _traversed(subject: Subject, walked: Sequence[tuple[int, np.ndarray]], ax: Any) -> Any:
    names = [f"dimension {dim}" for dim, _ in walked]
    small = ["" if isinstance(subject, Given) else walks.rate_of(subject, dim) for dim, _ in walked]
    if not subject.is_image:
        return place([walks.along(subject, name, each, told)
                      for name, told, (_, each) in zip(names, small, walked)], ax)  # fmt: skip
    images = np.concatenate([subject.pixels(each) for _, each in walked])
    told = [f"{name}\n{rate}".rstrip() for name, rate in zip(names, small)]
    return show_images(pixels.sheet(images, len(walked[0][1])), ax, told, tuple(walks.PLACES.values()))


@_figure
def interpolation(source: Any, X: Any = None, *, rows: Sequence[int] = (0, 1), ax: Any = None) -> Any:
    """A straight line between the codes of two rows, decoded step by step; for images, the two rows are at the ends.

    Args:
        source: a model, a run or its folder; or decoded rows ``[steps, *event]``.
        X: the rows.
        rows: the numbers of the two rows in X.
        ax: axes of matplotlib.

    Raises:
        InputError: rows are missing, or X lacks one of the numbered rows.
    """
    vae = _model(source, "encode", "decode")
    if vae is None:
        subject, decoded = _walks(source, 2)
        images = subject.pixels(decoded) if subject.is_image else None
    else:
        subject, decoded, images = _between(vae, X, rows)
    if images is None:
        return place([walks.on_the_way(subject, "", decoded)], ax)
    breaks = () if vae is None else (0, len(images) - 2)
    return show_images(pixels.strip(images, breaks), ax)


def _between(vae: VAE, X: Any, rows: Sequence[int]) -> tuple[Subject, np.ndarray, np.ndarray | None]:
    """(the rows; the decoded line; for images, the images of the line with the two rows at its ends)."""
    subject = _subject(vae, X, what="interpolations")
    pair = list(rows) if isinstance(rows, Sequence | np.ndarray) else []
    if len(pair) != 2 or not all(is_whole(row) and 0 <= row < subject.rows for row in pair):
        raise InputError(f"rows must be two numbers from 0 to {subject.rows - 1}, got {rows!r}")
    ends = _subject(vae, vae._rows(X).take(np.array(pair, dtype=np.int64)))
    if not subject.has_codes:
        raise InputError(f"the recipe {vae.run_.name!r} gives no codes of rows", "fit with another recipe")
    decoded = walks.between(subject, ends.codes)
    return subject, decoded, walks.with_ends(subject, ends.shown, decoded) if subject.is_image else None


@_figure
def rates(source: Any, X: Any = None, *, ax: Any = None) -> Any:
    r"""The rate :math:`KL(q(z_i|x) \,\|\, p(z_i))` of each latent dimension in nats, the largest first, with inactive
    dimensions in grey. If rows are given, also the variance of the codes and the threshold of active dimensions.

    Args:
        source: a model, a run or its folder; an :class:`latens.evaluation.Evaluation`; or rates ``[Z]``.
        X: the rows.
        ax: axes of matplotlib.

    Raises:
        InputError: the model is an autoencoder, which has no rate, or numbers have a wrong shape.
    """
    vae = _model(source, "encode", "draw")
    if vae is not None:
        subject = _subject(vae, X, what="rates")
        if not subject.has_prior or not subject.has_codes:
            raise InputError(f"the recipe {vae.run_.name!r} has no rate", "fit with another recipe")
        active = None if subject.rates is None else subject.dimensions[0]
        return place(sections.rate_charts(subject.rates, active, subject.spread), ax)
    if isinstance(source, Evaluation):
        if source.rate_per_dimension is None:
            raise InputError("the rate of this evaluation does not split by dimension", "pass the model and rows")
        source = source.rate_per_dimension
    return place(sections.rate_charts(_numbers(source, "rates", 1)), ax)


@_figure
def training(source: Any, *, term: str | None = None, ax: Any = None) -> Any:
    """Bound, rate and distortion over the epochs of training, in nats per row, for training and validation rows.

    Args:
        source: a model, a run or its folder; or the rows of metrics.csv (a data frame, or a list of mappings).
        term: "bound", "rate" or "distortion"; by default all terms in the history.
        ax: axes of matplotlib.

    Raises:
        InputError: the run has no history, or the term is unknown.
    """
    vae = _model(source)
    if vae is not None:
        history: Sequence[Mapping[str, Any]] = vae.run_.history
        terms = overview.terms(_subject(vae))[0]
    else:
        history, terms = _history(source), [overview.BOUND, overview.RATE, overview.DISTORTION]
    if not history:
        raise InputError("the run has no training history", "fit for at least one epoch")
    known = [key for key, *_ in terms]
    if term is not None and term not in known:
        raise InputError(f"term must be one of {', '.join(known)}, got {term!r}")
    found, legend, _ = overview.training_charts(history, [each for each in terms if term in (None, each[0])])
    return place(found, ax, legend)


def _history(source: Any) -> list[dict[str, Any]]:
    """The rows of metrics.csv, from a data frame or a list of mappings."""
    rows = source.to_dict("records") if hasattr(source, "to_dict") and hasattr(source, "iloc") else None
    if rows is None and is_frame(source):
        from latens.data.tables.frames import as_table

        rows = as_table(source, finite=False)[0].to_pylist()
    rows = list(source) if rows is None and isinstance(source, list | tuple) else rows
    if not rows or not all(isinstance(row, Mapping) and "epoch" in row for row in rows):
        raise InputError("a history has rows with an 'epoch' and terms such as 'train_bound'", "pass a run's history")
    return rows


@_figure
def calibration(source: Any, X: Any = None, *, reference: Any = None, ax: Any = None) -> Any:
    """Whether p-values of rows are calibrated: the share of rows with a p-value of at most t, plotted against t. Rows
    like the reference lie on the diagonal; anomalies rise above it on the left.

    Args:
        source: a model, a run or its folder; or p-values ``[N]``.
        X: the rows.
        reference: held-out rows, whose scores give the ranks; by default the scores in the run's folder.
        ax: axes of matplotlib.

    Raises:
        InputError: there is no reference, p-values lie outside [0, 1], or the model has no bound.
    """
    vae = _model(source, "draw", "sample")
    if vae is None:
        values = _numbers(source, "p-values", 1)
        if values.min() < 0 or values.max() > 1:
            raise InputError("p-values must lie in [0, 1]", "pass the p-values of `latens score`")
    else:
        values = _p_values(vae, X, reference)
    chart = Chart("p-values", charts.cumulative(values, "share of rows by p-value"), f"{len(values):,} rows")
    return place([chart], ax)


def _p_values(vae: VAE, X: Any, reference: Any) -> np.ndarray:
    if X is None:
        raise InputError("p-values need rows", "pass X")
    run = vae.run_
    known = None if run.folder is None else scoring.read_calibration(run.folder)
    if reference is not None:
        known = scoring.calibrate(run, vae._rows(reference), vae.nll_draws)
    if known is None:
        told = "there are no scores of held-out rows to compare with"
        raise InputError(told, "pass reference=rows that the model has not seen")
    found = vae._scores(X, known)[0].p_values
    assert found is not None
    return found


@_figure
def rate_distortion(source: Any, distortion: Any = None, *, names: Sequence[str] = (), ax: Any = None) -> Any:
    """Distortion against rate of several models, in nats per row; along a dashed line, ELBO = -(rate + distortion) is
    constant.

    Args:
        source: the folder of a sweep; a comparison; {name: evaluation}; a data frame with columns "rate" and
            "distortion"; or rates ``[N]``.
        distortion: if ``source`` is rates, their distortions ``[N]``.
        names: the names of the points.
        ax: axes of matplotlib.

    Raises:
        InputError: the source has no rates and distortions, or the numbers of rates, distortions and names differ.
    """
    if isinstance(source, Comparison):
        curves = comparison.tradeoffs(source.rows)
        if not curves:
            raise InputError("no model of the comparison has a rate", "compare recipes with a density")
        legend = [(comparison.name_of(model), paint) for model, (_, paint, _) in curves]
        return place([Chart("", figures.tradeoff([path for _, path in curves], "rate and distortion"))], ax, legend)
    points, found = _tradeoff(source, distortion)
    called = list(names) or found
    if called and len(called) != len(points):
        raise InputError(f"there are {len(points)} points and {len(called)} names", "give one name for each point")
    return place([Chart("", figures.tradeoff([(points, "c0", called)], "rate and distortion"))], ax)


def _tradeoff(source: Any, distortion: Any) -> tuple[np.ndarray, list[str]]:
    """(rates and distortions ``[N, 2]``, names of the points)."""
    if isinstance(source, str | Path):
        return comparison.of_sweep(Path(source))
    if isinstance(source, Mapping) and source and all(isinstance(each, Evaluation) for each in source.values()):
        for name, each in source.items():
            if each.rate is None:
                raise InputError(f"the model {name!r} has no rate", "leave it out")
        return np.array([[each.rate, each.distortion] for each in source.values()]), [str(name) for name in source]
    if distortion is None:
        try:
            source, distortion = source["rate"], source["distortion"]
        except (KeyError, TypeError, IndexError, ValueError):
            told = f"rates and distortions cannot be read from {type(source).__name__}"
            want = "pass a sweep, a comparison, {name: evaluation}, or columns 'rate' and 'distortion'"
            raise InputError(told, want) from None
    pair = _numbers(source, "rates", 1), _numbers(distortion, "distortions", 1)
    if len(pair[0]) != len(pair[1]):
        raise InputError(f"there are {len(pair[0])} rates and {len(pair[1])} distortions",
                         "give one distortion for each rate")  # fmt: skip
    return np.stack(pair, 1), []
