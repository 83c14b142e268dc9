"""The sections for a table of mixed columns: the columns, their reconstructions, and whether samples match the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latens.evaluation.synthetic import associations
from latens.report import charts
from latens.report.marginals import SPLITS, MarginalComparison, as_given, grouped
from latens.report.page import Chart, LeftOut, Section, beside, data_table, esc, grid, how, line, note, number
from latens.report.subject import NORMAL_CODES, Subject
from latens.runs.synthesis import PHASES, with_cycles
from latens.schema import Column, Table
from latens.schema.rules import stated
from latens.tensors.randomness import Key

SHOWN, LISTED, PAIRED = 24, 200, 20  # the most columns with a panel, in the list, and in the maps of pairs
SAMPLES = 2000


def table_of(subject: Subject) -> Table:
    """The schema of a table."""
    assert isinstance(subject.schema, Table)
    return subject.schema


# Columns


def columns(subject: Subject) -> Section:
    """The schema: kind, likelihood, missing share of each column, and what was seen."""
    schema = table_of(subject)
    count, text = len(schema.fields), f"What latens took each column for. {_counted(schema)}."
    if any(field.missing for field in schema.fields):
        text += f" The model is fitted to observed cells only, and {_absence(subject)}."
    heads = ("column", "kind", "likelihood", "missing", "what was seen")
    body = how(text) + data_table(heads, (_line(schema, field) for field in schema.fields[:LISTED]), "schema plain")
    body += note(f"The first {LISTED} columns are listed.") if count > LISTED else ""
    if schema.rules:
        told = stated(schema.rules, schema.ruled)
        rules = "".join(f"<li><b>{esc(text, 200)}</b> {esc(reason, 200)}</li>" for text, reason in told)
        body += how("Rules that hold in every row of the data, and in every sample:")
        body += f'<ul class="shifts">{rules}</ul>'
    return Section("columns", "Columns", body)


def _line(schema: Table, field: Column) -> str:
    given, modelled = field.name in schema.conditions, field.name in schema.names
    made = "given" * given + "by rule" * (field.name in schema.reproduced)
    badge = f' <span class="badge">{made}</span>' if made else ""
    family = esc(field.family.replace("_", " ")) if modelled else "–"
    cells = [esc(field.name, 60) + badge, field.kind, family, _missing_bar(field.missing), esc(field.reason)]
    return line(cells, "" if modelled or made else "out")


def _counted(schema: Table) -> str:
    """How many columns are modelled, given, determined by rules, or left out, in words."""
    modelled, given, by_rule = (len(names) for names in (schema.names, schema.conditions, schema.reproduced))
    left = len(schema.fields) - modelled - given - by_rule
    words = [
        (1, f"{modelled:,} {'is' if modelled == 1 else 'are'} modelled, each with its own likelihood"),
        (given, f"{given} {'is a condition' if given == 1 else 'are conditions'}, given to the model"),
        (by_rule, f"{by_rule} computed from others by a rule"),
        (left, f"{left} (grey) left out or constant"),
    ]
    return f"Of {len(schema.fields):,} columns, {', '.join(text for count, text in words if count)}"


def _absence(subject: Subject) -> str:
    """Which cells of samples are missing, in words."""
    options = subject.run.recipe.given | subject.run.options if subject.run.recipe else {}
    if options.get("missing") == "mnar":
        return "whether cells are missing is modelled too, and depends on their values"
    return "the gaps of samples are drawn to match those of the data, not by the model"


def _missing_bar(missing: float) -> str:
    if not missing:
        return "–"
    wide = min(100.0, max(1.0, 100 * missing))
    return f'{esc(charts.share(missing))}<span class="bar"><i style="width:{wide:.0f}%"></i></span>'


# Reconstructions


def reconstructions(subject: Subject) -> Section:
    """Reconstructions of observed cells: scatter charts of numbers, confusion matrices of levels."""
    table = table_of(subject)
    original, again = subject.shown, subject.decode(subject.codes, np.arange(len(subject.codes)))
    text = (
        "Each row is encoded and decoded. Numbers: each dot is a row, with its value and the reconstruction, which is "
        "the mean of p(x|z). On the grey line both are equal; R² is the share of the column's variance that is kept. A "
        "long tail pulls means to its side. Axes leave out the outermost 0.5 % of the values at each end."
    )
    if any(column.outputs_codes for column in table.outer):
        text += (
            " Levels: each line is a level of the data, and each square the percentage of its rows that are "
            "reconstructed as a level; the diagonal should be dark."
        )
    if np.isnan(original).any():
        text += " Missing cells are left out."
    body = how(text) + grid(of_columns(table, original, again), "small") + _hidden(table)
    return Section("reconstructions", "Originals and reconstructions", body)


def of_columns(table: Table, original: np.ndarray, again: np.ndarray) -> list[Chart]:
    """A chart for each of the first columns of a table, from originals and reconstructions ``[N, D]``."""
    rules = {rule.target: f"by rule: {rule.text}" for rule in table.rules if rule.reproduces}
    found = []
    for i, column in enumerate(table.outer[:SHOWN]):
        observed, rule = ~np.isnan(original[:, i]), rules.get(column.name, "")
        if not observed.any():
            found.append(Chart(column.name, note("No cell of this column is observed in these rows.")))
        elif column.outputs_codes:
            found.append(_confusion(column, original[observed, i], again[observed, i], rule))
        else:
            found.append(_scatter(column, original[observed, i], again[observed, i], rule))
    return found


def _hidden(table: Table, how_chosen: str = "") -> str:
    if len(table.outer) <= SHOWN:
        return ""
    return note(f"{SHOWN} of {len(table.outer):,} columns are shown: {how_chosen or 'the first'}.")


def _scatter(column: Column, original: np.ndarray, again: np.ndarray, rule: str) -> Chart:
    """A chart of numbers ``[N]`` and their reconstructions ``[N]``, which are NaN if a rule gives none."""
    told = np.isfinite(again)
    variance, error = float(original.var()), ((original - again)[told] ** 2).mean() if told.any() else np.nan
    kept = f"R² {number(1 - float(error) / variance, '.2f')}" if variance > 0 and told.any() else ""
    if variance == 0:
        kept = "all of one value in these rows"
    drawing = charts.scatter(charts.Axis.of(column, original), original, again, f"reconstruction of {column.name}")
    return Chart(column.name, drawing, "; ".join(filter(None, (kept, rule))))


def _confusion(column: Column, original: np.ndarray, again: np.ndarray, rule: str) -> Chart:
    names, (rows, back) = grouped(column, original, again)
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (rows, back), 1.0)
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    hits = float((original == again.round()).mean())
    most = float(np.unique(original, return_counts=True)[1].max()) / len(original)
    kept = f"{charts.share(hits)} correct; the most frequent level alone: {charts.share(most)}"
    drawing = charts.heat(shares, names, names, f"reconstructed levels of {column.name}", y_name="original",
                          x_name="reconstruction", percent=True)  # fmt: skip
    return Chart(column.name, drawing, "; ".join(filter(None, (kept, rule))))


# Samples and data


def drawn_rows(table: Table, drawn: np.ndarray) -> np.ndarray:
    """Samples ``[N, D]`` as the user gets them."""
    return np.stack([as_given(column, drawn[:, i]) for i, column in enumerate(table.outer)], 1)


def samples(subject: Subject) -> Section:
    """The posterior predictive check: the distribution of each column in data and samples, with the worst match
    first."""
    if not subject.has_prior:
        return _check(subject, subject.decode(subject.normal_codes(SAMPLES)), NORMAL_CODES, "Decoded random codes")
    text = "Rows drawn from the model: codes from the prior, decoded with the noise of p(x|z). "
    if table_of(subject).conditions:
        text += "The conditions are those of the data. "
    return _check(subject, subject.sample(SAMPLES, mean=False), text, "Samples and data")


def _check(subject: Subject, values: np.ndarray, text: str, title: str) -> Section:
    schema, drawn = table_of(subject), drawn_rows(table_of(subject), values)
    data = subject.shown if subject.tensor is not None else np.empty((0, len(schema.outer)))
    shown = compared(schema, data, drawn, subject.run.settings.seed)
    has_data = any(len(each.data) for each in shown)
    if has_data:
        text += (
            "Each panel is a column: samples (blue) should follow the data (grey). The worst match comes first. KS is "
            "the Kolmogorov–Smirnov distance, the largest difference between the two distribution functions. TV, for "
            "levels, is the total variation distance, the share of rows that would have to change their level. Both "
            "are 0 for equal distributions and at most 1. A distance is “more than chance” if it is larger than for "
            f"{SPLITS} random splits of data and samples together (about one in {SPLITS + 1} columns that match does)."
        )
    else:
        text += " Without data there is nothing to compare the samples with."
    if has_data and bool(np.isnan(data).any()):
        text += (
            f" Observed cells are compared with complete samples: {_absence(subject)}. If cells are missing because "
            "of their values, the two differ for that reason."
        )
    lead = _lead(shown) if has_data else ""
    which = "the worst matches" if has_data else ""
    body = _fidelity(subject) + how(text) + lead + beside(has_data) + grid(map(marginal, shown), "small")
    return Section("samples", title, body + _hidden(schema, which))


def compared(
    schema: Table, data: np.ndarray, drawn: np.ndarray, seed: int, names: Sequence[str] | None = None
) -> list[MarginalComparison]:
    """Each column in the data and in samples ``[N, D]``: the columns ``names``, or at most 24, with the worst match
    first."""
    rng = np.random.default_rng([seed, Key.REPORT_LEVELS])
    every = [MarginalComparison(c, data[~np.isnan(data[:, i]), i], drawn[:, i]) for i, c in enumerate(schema.outer)]
    if names is not None:
        found = {each.column.name: each for each in every}
        return [found[name].tested(rng) if len(found[name].data) else found[name] for name in names]
    shown = sorted(every, key=lambda each: -each.distance if len(each.data) else 1.0)[:SHOWN]
    return sorted((each.tested(rng) if len(each.data) else each for each in shown), key=lambda each: not each.more)


def _lead(shown: list[MarginalComparison]) -> str:
    names = [f"<b>{esc(m.column.name, 60)}</b> ({number(m.distance, '.2f')})" for m in shown if m.more][:3]
    if not names:
        return "<p>No column differs from the data by more than chance.</p>"
    return f"<p>Farthest from the data: {', '.join(names)}.</p>"


def _fidelity(subject: Subject) -> str:
    """The figures of samples, held-out rows and the oracle, if the evaluation has them."""
    samples = None if subject.evaluation is None else subject.evaluation.samples
    if samples is None:
        return ""
    head, *rows = ([esc(cell) for cell in row] for row in samples.table())
    metric = next(iter(samples.usefulness), "none").replace("_", " ")
    text = (
        "How rows differ from training rows. Held-out rows are the best possible: real rows that the model has not "
        "seen. The oracle draws from p(x|z) at the codes of real rows. Its errors are due to the likelihood; the "
        "further errors of samples are due to the density of the codes. Shape and trend: mean errors of columns and "
        "of pairs of columns. Logistic and trees: how well a classifier distinguishes the rows from real ones (AUROC, "
        f"0.5 is best). Usefulness: {metric} on held-out rows of a model trained on these rows. Closer: the share of "
        "rows nearer to a training row than held-out rows are (0.5 is best; more means copying)."
    )
    return how(text) + data_table(head, map(line, rows))


def marginal(each: MarginalComparison) -> Chart:
    """A chart of one column in the data and in samples."""
    column, has_data, small = each.column, len(each.data) > 0, ""
    if has_data:
        small = f"{'TV' if column.outputs_codes else 'KS'} {number(each.distance, '.3f')}"
        small += "" if each.more is None else ", more than chance" if each.more else ", within chance"
    label = f"distribution of {column.name}"
    both = [(each.data, "c9", True)] * has_data + [(each.drawn, "c0", False)]
    if column.outputs_codes:
        names, parts = grouped(column, *(values for values, *_ in both))
        shares = [np.bincount(part, minlength=len(names)) / max(1, len(part)) for part in parts]
        bars = [(share, paint) for share, (_, paint, _) in zip(shares, both)]
        return Chart(column.name, charts.paired(names, bars, label), small)
    axis = charts.Axis.of(column, both[0][0])
    outside = float(((each.drawn < axis.low) | (each.drawn > axis.high)).mean())
    if outside > 0.03:
        small += f"; {charts.share(outside)} of samples outside the axis"
    return Chart(column.name, charts.distribution(axis, both, label), small)


# Pairs of columns


def dependence(subject: Subject) -> Section:
    """The association of each pair of columns, in the data and in the samples."""
    table = table_of(subject)
    if len(table.outer) < 2:
        raise LeftOut("Pairs of columns need two columns.")
    if not subject.has_prior:
        raise LeftOut("An autoencoder has no samples to compare.")
    data, drawn = subject.shown, drawn_rows(table, subject.sample(SAMPLES, mean=False))
    half = np.random.default_rng([subject.run.settings.seed, Key.REPORT_HALVES]).permutation(len(data))
    rows = [data, drawn, data[half[::2]], data[half[1::2]]]
    (real, names), (model, _), (first, _), (second, _) = (_associations(table, each) for each in rows)
    upper = np.triu_indices(len(names), 1)
    known = np.isfinite(real[upper])
    if not known.any():
        raise LeftOut("No two columns vary in the same rows, so there is no association to show.")
    model = np.where(np.isfinite(real), np.nan_to_num(model), np.nan)
    apart = np.abs(model - real)[upper]
    error, chance = float(np.nanmean(apart)), np.nan_to_num(np.abs(first - second)[upper][known]).mean()
    text = (
        "The association of two columns: |rank correlation| for two numbers, the correlation ratio for a number and a "
        "column of levels, Cramér's V for two columns of levels. 0 is none, 1 is complete. Months, weekdays and hours "
        "of dates count as levels. The two maps should look alike. Mean absolute difference: "
        f"<b>{number(error, '.3f')}</b> over {int(known.sum())} pairs (between two "
        f"random halves of the data: {number(float(chance), '.3f')})."
    )
    panels = [
        Chart(title, f'<div class="wide">{charts.heat(values, names, names, f"associations, {title}")}</div>')
        for title, values in (("Data", real), ("Samples", model))
    ]
    worst = [k for k in np.argsort(-np.nan_to_num(apart), kind="stable")[:3] if apart[k] > 0.1]
    told = [
        f"{esc(names[upper[0][k]], 60)} and {esc(names[upper[1][k]], 60)}: {number(float(real[upper][k]), '.2f')} in "
        f"the data, {number(float(model[upper][k]), '.2f')} in the samples" for k in worst
    ]  # fmt: skip
    lead = how("Farthest apart: " + "; ".join(told) + ".") if told else ""
    more = note(f"The first {PAIRED} of {len(table.outer):,} columns are shown.") if len(table.outer) > PAIRED else ""
    return Section("dependence", "Pairs of columns", how(text) + lead + grid(panels, "two") + more)


def _associations(table: Table, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(association of each pair of columns, their names); NaN for a date and its own month, weekday or hour."""
    cells = with_cycles(table.outer[:PAIRED], list(values.T))
    names = list(cells.columns)[:PAIRED]
    found = associations(cells, names)
    own = np.array([[other in {f"{phase} of {name}" for phase in PHASES.values()} for other in names]
                    for name in names])  # fmt: skip
    found[own | own.T] = np.nan
    return found, names
