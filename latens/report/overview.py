"""The head of the page: facts and key figures of the run, warnings, choices, training, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.report import figures
from latens.report.lead import lead
from latens.report.page import (
    Chart,
    LeftOut,
    Section,
    card,
    details,
    esc,
    grid,
    how,
    keys,
    note,
    number,
    pairs_table,
    warning,
)
from latens.report.subject import Subject
from latens.runs.fitting import counted
from latens.runs.record import Run, read_record

MADE_WITH = (("latens", "latens"), ("torch", "torch"), ("Python", "python"))
_NO_BOUND = (
    "An autoencoder encodes each row to a single point (a point-mass posterior), which has no density. So it has no "
    "rate, no bound on ln p(x) and no NLL, and these figures are left out."
)

_LEFT_OUT = "so there is no bound on ln p(x) and no NLL, and these figures are left out."


_TITLES = {"ae": "Autoencoder", "beta_vae": "β-VAE", "beta_tc_vae": "β-TC-VAE"}
_INITIALS = ("dip", "i", "iaf", "ii", "ssim", "tvo")


def titled(recipe: str) -> str:
    """A recipe's name as a title.

    >>> titled("residual_vq"), titled("joint_capacity_vae"), titled("dip_vae_ii")
    ('Residual VQ', 'Joint capacity VAE', 'DIP VAE II')
    """
    if recipe in _TITLES:
        return _TITLES[recipe]
    words = recipe.split("_")
    initials = [w in _INITIALS or w.endswith(("ae", "oe", "gan")) or not set(w) & set("aeiouy") for w in words]
    text = " ".join(w.upper() if short else w for w, short in zip(words, initials))
    return text[:1].upper() + text[1:]


def heading(run: Run) -> str:
    """The default title: the recipe and its data."""
    origin = str(run.data.get("origin") or "")
    name = titled(run.name) if run.recipe and ":" not in run.name else run.name.replace("_", " ")
    return f"{name} on {Path(origin).name}" if origin and origin != "memory" else name


def header(subject: Subject, title: str) -> str:
    """Title, what was learnt and how well, facts, warnings and key figures."""
    run, schema = subject.run, subject.schema
    facts = []
    if schema is not None:
        facts.append(esc(schema.describe().splitlines()[0]))
    facts.append(f"{run.rows:,} training rows")
    if subject.rows:
        facts.append(f"{subject.rows:,} rows in this report")
    facts.append(f"{run.parameters:,} parameters")
    first = ""
    found = list(run.warnings)
    try:
        cards, first = _cards(subject), lead(subject)
        found += subject.figures.warnings
    except LeftOut as reason:
        cards, below = "", note(f"No key figures: {reason}")
    except Exception as error:
        cards, below = "", note(f"No key figures: this model cannot be evaluated as it stands ({esc(error)}).")
    else:
        why = _NO_BOUND if not subject.has_prior else f"{subject.no_bound}, {_LEFT_OUT}"
        below = "" if subject.has_density else f'<div style="margin-top:14px">{note(why)}</div>'
    warnings = "".join(warning(text) for text in dict.fromkeys(found))
    head = f'<p class="kicker">latens report</p><h1>{esc(title)}</h1>{first}<p class="facts">{" · ".join(facts)}</p>'
    return head + warnings + f'<div class="cards">{cards}</div>' + below


def _cards(subject: Subject) -> str:
    """The key figures that the run has."""
    f = subject.figures
    on, draws = f"{f.rows:,} rows", counted(f.draws, "draw")
    variance = getattr(getattr(subject.run.model, "likelihood", None), "data_variance", None)
    of_all = f.elbo is not None and variance is not None and variance.dim() == 0
    bits, whence = (f.nll_bits_per_dimension, f"from the NLL; −ELBO: {number(f.elbo_bits_per_dimension, '.3f')}")
    if f.nll is None:
        bits, whence = f.elbo_bits_per_dimension, "from −ELBO"
    inactive = ("Latent dimensions", str(f.latent_dim), "numbers in each code")
    active = ("Active units", f"{f.active_units} <small>of {f.latent_dim}</small>", "dimensions of z that depend on x")
    shown = [
        (f.elbo, "ELBO", _with_error(f.elbo, f.elbo_standard_error),
         f"nats per row, higher is better; {on}, {draws}"),
        (f.nll, "NLL", _with_error(f.nll, f.nll_standard_error),
         f"−ln p(x), nats per row, lower is better; K\u00a0=\u00a0{f.nll_draws}"),
        (None if f.rmse is None else bits, "Bits per dimension", number(bits, ".3f"),
         f"{whence}; {f.dimensions:,} dimensions"),
        (f.rate, "Rate + distortion", f"{number(f.rate, '.1f')} <small>+ {number(f.distortion, '.1f')}</small>",
         "nats per row: cost of the code, and what it leaves unexplained"),
        (f.rmse, "RMSE", number(f.rmse, ".4g"), f"of reconstructions, in the units of the data; {on}"),
        (f.relative_rmse, "Relative RMSE", number(f.relative_rmse, ".3g"),
         f"of reconstructed numbers, in standard deviations; {on}"),
        (f.accuracy, "Levels", f"{f.accuracy or 0:.1%}", "of the cells of categorical columns are reconstructed"),
        (f.latent_dim, *(inactive if f.elbo is None else active)),
        (f.observation_variance if of_all else None, "Variance c", number(f.observation_variance, ".3g"),
         "of p(x|z), in squared units of the data"),
    ]  # fmt: skip
    return "".join(card(name, value, below) for figure, name, value, below in shown if figure is not None)


def _with_error(value: float | None, error: float | None) -> str:
    return f"{number(value, '.2f')} <small>± {number(error, '.2f')}</small>"


def choices(subject: Subject) -> Section:
    """What each "auto" became, the options of the recipe, and the settings of training."""
    run = subject.run
    if run.choices:
        items = "".join(f"<li>{_sentence(text)}</li>" for text in run.choices.values())
        body = how("What latens chose, and why.") + f'<ul class="plainlist">{items}</ul>'
    else:
        body = note("latens chose nothing: every part was given.")
    options = run.recipe.given | run.options if run.recipe else {}
    shown = [("recipe", run.name)] + [(name, value) for name, value in options.items()]
    settings = [(name, value) for name, value in run.settings.to_json().items()]
    body += details("Options and settings", pairs_table(shown + settings))
    return Section("choices", "Choices", body)


def _sentence(text: str) -> str:
    """A sentence "likelihood = Normal: floats" with its first half set as code."""
    head, mark, rest = text.partition(": ")
    if "=" in head and mark:
        return f"<code>{esc(head)}</code>: {esc(rest, 1000)}"
    return esc(text, 1000)


def training(subject: Subject) -> Section:
    """Bound, rate and distortion over the epochs, for training and validation, with the best epoch marked."""
    run = subject.run
    if not run.history:
        raise LeftOut("The run has no training history.")
    shown, text = terms(subject)
    panels, legend, cut = training_charts(run.history, shown)
    if len(legend) > 1:
        text += f" Weights kept: {esc(run.served)}."
    if cut:
        text += " The first validations lie outside the axes, so that the rest is legible."
    return Section("training", "Training", how(text) + keys(legend) + grid(panels, "three"))


def training_charts(
    history: Sequence[Mapping[str, Any]], terms: Sequence[tuple[str, str, str]]
) -> tuple[list[Chart], list[tuple[str, str]], bool]:
    """(one chart of each term over the epochs; their legend; whether a chart cuts off the first validations).

    Args:
        history: one row of figures per validation.
        terms: (name in the history, title, unit) of each chart.
    """
    columns = {name: _column(history, name) for name in history[0]}
    known = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    best, legend = None, [("training", "c0")]
    if "validation_bound" in known:
        judged = columns.get("validation_trimmed", columns["validation_bound"])
        best = float(columns["epoch"][int(np.nanargmax(judged))])
        legend += [("validation", "c1"), (f"best epoch: {best:.0f}", "muted")]
    panels, cut = [], False
    for key, title, small in terms:
        pairs = ((f"train_{key}", "c0"), (f"validation_{key}", "c1"))
        series = [(known[name], paint) for name, paint in pairs if name in known]
        if series:
            drawing = figures.curves(columns["epoch"], series, f"{title} over the epochs", best)
            panels.append(Chart(title, drawing, small))
            cut = cut or figures.is_cut(series)
    return panels, legend, cut


BOUND = ("bound", "Bound", "nats per row, higher is better")
RATE = ("rate", "Rate", "KL(q(z|x) || p(z)), nats per row")
DISTORTION = ("distortion", "Distortion", "−ln p(x|z), nats per row, lower is better")


def terms(subject: Subject) -> tuple[list[tuple[str, str, str]], str]:
    """([(name in the history, title, unit) of each chart]; a text on how to read them)."""
    likeness = ("distortion", "Distortion", "minus the similarity score, lower is better")
    critic = ("bound", "Minus the generator's loss", "the higher it is, the more the critic is deceived")
    beta = subject.run.beta
    text = (
        "Each line is a mean over rows. If training and validation stay close, there is no overfitting; a "
        "validation bound that falls while the training bound rises is a sign of overfitting. "
    )
    if not subject.has_codes:
        two = "Generator and critic compete: neither loss says how good samples are, so look at the samples. "
        return [critic], two
    if not subject.has_prior:
        one = "Half the squared error, up to a constant. An autoencoder has no rate and no bound. "
        return [DISTORTION], one + text
    if not subject.has_density:
        return [RATE, likeness], text
    sum_ = "." if beta == 1 else f", with the rate weighted by beta = {beta:g}."
    text += "The rate is the information in the codes, the distortion what is left to explain; the bound is minus "
    return [BOUND, RATE, DISTORTION], f"{text}their sum{sum_}"


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) in (None, "") else float(row[name]) for row in history])


def provenance(subject: Subject) -> Section:
    """Formats, versions, data and seed: what is needed to reproduce the run."""
    run = subject.run
    record = run.record()
    if run.folder is not None:
        with suppress(InputError):
            record = record | read_record(run.folder)
    versions, data = record["versions"], run.data
    origin = str(data.get("origin") or "not recorded")
    rows: list[tuple[str, object]] = [
        ("recipe", run.name if run.recipe else f"your own parts ({run.name})"),
        ("data", Path(origin).name or origin),
        ("data fingerprint", data.get("fingerprint", "not recorded")),
        ("validation", data.get("validation", "not recorded")),
        ("seed", run.settings.seed),
        ("weights kept", run.served),
        ("parameters", f"{run.parameters:,}"),
        ("made with", ", ".join(f"{name} {versions.get(key)}" for name, key in MADE_WITH)),
        ("run format", record["format"]),
    ]
    text = how("The same data, seed, options and versions on the same machine reproduce these numbers.")
    return Section("provenance", "Provenance", text + pairs_table(rows, {"data": origin}))
