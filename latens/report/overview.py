"""The head of the page: what the run is, its key figures, warnings, choices, training, and where it all comes from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from latens.errors import InputError
from latens.report import figures
from latens.report.page import (
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
    panel,
    warning,
)
from latens.report.subject import Subject
from latens.runs.record import Run, read_record

_NO_BOUND = (
    "An autoencoder encodes every row to one point (a point-mass posterior). That has no density, so there is no rate, "
    "no bound on ln p(x) and no NLL: those figures are left out instead of made up."
)

_LEFT_OUT = "so there is no bound on ln p(x) and no NLL: those figures are left out instead of made up."


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
    """The title where none is given: the recipe and its data."""
    origin = str(run.data.get("origin") or "")
    name = titled(run.name) if run.recipe and ":" not in run.name else run.name.replace("_", " ")
    return f"{name} on {Path(origin).name}" if origin and origin != "memory" else name


def header(subject: Subject, title: str) -> str:
    """Title, facts, key figures and warnings."""
    run, schema = subject.run, subject.schema
    facts = []
    if schema is not None:
        facts.append(esc(schema.describe().splitlines()[0]))
    facts.append(f"{run.rows:,} training rows")
    if subject.rows:
        facts.append(f"{subject.rows:,} rows in this report")
    facts.append(f"{run.parameters:,} parameters")
    head = f'<p class="kicker">latens report</p><h1>{esc(title)}</h1><p class="facts">{" · ".join(facts)}</p>'
    found = list(run.warnings)
    try:
        cards, more = _cards(subject)
        found += more
    except LeftOut as reason:
        cards, below = "", note(f"No key figures: {reason}")
    except Exception as error:
        cards, below = "", note(f"No key figures: this model cannot be evaluated as it stands ({esc(error)}).")
    else:
        why = _NO_BOUND if not subject.has_prior else f"{subject.no_bound}, {_LEFT_OUT}"
        below = "" if subject.has_density else f'<div style="margin-top:14px">{note(why)}</div>'
    warnings = "".join(warning(text) for text in dict.fromkeys(found))
    return head + warnings + f'<div class="cards">{cards}</div>' + below


def _cards(subject: Subject) -> tuple[str, list[str]]:
    f = subject.figures
    on = f"{f.rows:,} rows"
    cards = []
    if f.elbo is not None:
        error = f" <small>± {number(f.elbo_standard_error, '.2f')}</small>"
        draws = f"{f.draws} draw{'s' * (f.draws != 1)}"
        cards.append(card("ELBO", number(f.elbo, ".2f") + error, f"nats a row, higher is better; {on}, {draws}"))
    if f.nll is not None:
        error = f" <small>± {number(f.nll_standard_error, '.2f')}</small>"
        cards.append(
            card("NLL", number(f.nll, ".2f") + error, f"−ln p(x), nats a row, lower is better; K = {f.nll_draws}")
        )
    if f.elbo_bits_per_dimension is not None and f.rmse is not None:
        bits = f.nll_bits_per_dimension if f.nll_bits_per_dimension is not None else f.elbo_bits_per_dimension
        what = f"from the NLL; −ELBO: {number(f.elbo_bits_per_dimension, '.3f')}" if f.nll is not None else "from −ELBO"
        cards.append(card("Bits per dimension", number(bits, ".3f"), f"{what}; {f.dimensions:,} dimensions"))
    if f.rate is not None:
        value = f"{number(f.rate, '.1f')} <small>+ {number(f.distortion, '.1f')}</small>"
        cards.append(card("Rate + distortion", value, "nats: what the code costs, and what it leaves unexplained"))
    if f.rmse is not None:
        cards.append(card("RMSE", number(f.rmse, ".4g"), f"of reconstructions, in the data's units; {on}"))
    if f.relative_rmse is not None:
        what = f"of reconstructed numbers, in standard deviations; {on}"
        cards.append(card("Relative RMSE", number(f.relative_rmse, ".3g"), what))
    if f.accuracy is not None:
        cards.append(card("Levels", f"{f.accuracy:.1%}", "of the cells with levels come back"))
    if f.elbo is not None:
        value = f"{f.active_units} <small>of {f.latent_dim}</small>"
        cards.append(card("Active units", value, "dimensions of z that depend on x"))
    else:
        cards.append(card("Latent dimensions", str(f.latent_dim), "numbers in each code"))
    variance = getattr(getattr(subject.run.model, "likelihood", None), "data_variance", None)
    if f.observation_variance is not None and f.elbo is not None and variance is not None and variance.dim() == 0:
        value = number(f.observation_variance, ".3g")
        cards.append(card("Variance c", value, "of p(x|z), in the data's units squared"))
    return "".join(cards), list(f.warnings)


def choices(subject: Subject) -> Section:
    """What "auto" became, the recipe's options and the settings of training."""
    run = subject.run
    if run.choices:
        items = "".join(f"<li>{_sentence(text)}</li>" for text in run.choices.values())
        body = how("What was left to latens, what it chose, and why.") + f'<ul class="plainlist">{items}</ul>'
    else:
        body = note("Nothing was left to latens: every part was given.")
    options = run.recipe.given | run.options if run.recipe else {}
    shown = [("recipe", run.name)] + [(name, value) for name, value in options.items()]
    settings = [(name, value) for name, value in run.settings.to_json().items()]
    body += details("Options and settings", pairs_table(shown + settings))
    return Section("choices", "Choices", body)


def _sentence(text: str) -> str:
    """ "likelihood = Normal: floats" with its first half set as code."""
    head, mark, rest = text.partition(": ")
    if "=" in head and mark:
        return f"<code>{esc(head)}</code>: {esc(rest, 1000)}"
    return esc(text, 1000)


def training(subject: Subject) -> Section:
    """Bound, rate and distortion over the epochs, training and validation, the best epoch marked."""
    run = subject.run
    if not run.history:
        raise LeftOut("The run has no record of its training.")
    columns = {name: _column(run, name) for name in run.history[0]}
    epochs = columns["epoch"]
    validated = bool(np.isfinite(columns.get("validation_bound", np.array([np.nan]))).any())
    best = None
    if validated:
        best = float(epochs[int(np.nanargmax(columns.get("validation_trimmed", columns["validation_bound"])))])
    panels, cut = [], False
    names = [("bound", "Bound", "nats a row, higher is better"), ("rate", "Rate", "KL(q(z|x) || p(z)), nats"),
             ("distortion", "Distortion", "−ln p(x|z), nats, lower is better")]  # fmt: skip
    if not subject.has_codes:
        names = [("bound", "Minus the generator's loss", "higher: the critic is fooled more")]
    elif not subject.has_prior:
        names = names[2:]
    elif not subject.has_density:
        names = [names[1], ("distortion", "Distortion", "minus the score of likeness, lower is better")]
    for key, title, small in names:
        series = [(columns[f"{part}_{key}"], paint) for part, paint in (("train", "c0"), ("validation", "c1"))
                  if np.isfinite(columns.get(f"{part}_{key}", np.array([np.nan]))).any()]  # fmt: skip
        if series:
            svg, outside = figures.curves(epochs, series, f"{title} over the epochs", best=best)
            panels.append(panel(title, svg, small))
            cut = cut or outside
    legend = [("training", "c0")] + ([("validation", "c1"), (f"best epoch: {best:.0f}", "muted")] if validated else [])
    text = (
        "Each line is a mean over rows. Training and validation close together: no overfitting so far; a "
        "validation bound "
    )
    text += "that falls while the training bound rises is overfitting. "
    if subject.has_density:
        text += (
            "The rate is what the codes say about the rows, the distortion what is left to explain; the bound "
            "is minus their sum"
        )
        text += "." if run.beta == 1 else f", with the rate weighted by beta = {run.beta:g}."
    elif not subject.has_codes:
        text = "Generator and critic play against each other: neither loss says how good samples are, so look at them. "
    elif not subject.has_prior:
        text = (
            "The squared error, up to a constant and a factor of one half. An autoencoder has no rate and no bound. "
            + text
        )
    if validated:
        text += f" The weights served: {esc(run.served)}."
    if cut:
        text += " The first rounds lie outside the axes, so that the rest can be read."
    return Section("training", "Training", how(text) + keys(legend) + grid(panels, "three"))


def _column(run: Run, name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else float(row[name]) for row in run.history])


def provenance(subject: Subject) -> Section:
    """Formats, versions, data and seed: what is needed to get these numbers again."""
    run = subject.run
    record = run.record()
    if run.folder is not None:
        with suppress(InputError):
            record = record | read_record(run.folder)
    versions, data = record["versions"], run.data
    origin = str(data.get("origin") or "not recorded")
    rows: list[tuple[str, object]] = [
        ("recipe", run.name if run.recipe else f"parts of one's own ({run.name})"),
        ("data", Path(origin).name or origin),
        ("data fingerprint", data.get("fingerprint", "not recorded")),
        ("validation", data.get("validation", "not recorded")),
        ("seed", run.settings.seed),
        ("weights served", run.served),
        ("parameters", f"{run.parameters:,}"),
        (
            "made with",
            f"latens {versions.get('latens')}, torch {versions.get('torch')}, Python {versions.get('python')}",
        ),
        ("run format", record["format"]),
    ]
    text = how("The same data, seed, options and versions on the same machine give the same numbers again.")
    return Section("provenance", "Provenance", text + pairs_table(rows, {"data": origin}))
