"""The model card of a run, written from the run's record and figures."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import Any

from latens.errors import printable
from latens.recipes import describe, is_own
from latens.runs import record as runs

FIGURES = {  # {column of metrics.csv: what it is}
    "validation_bound": "bound on ln p(x), held-out rows", "validation_rate": "rate, held-out rows",
    "validation_distortion": "distortion, held-out rows", "train_bound": "bound on ln p(x), training rows",
    "train_rate": "rate, training rows", "train_distortion": "distortion, training rows",
}  # fmt: skip


def card(record: dict[str, Any], history: list[dict[str, Any]], name: str) -> str:
    """The card as Markdown: what the model is, its data, its figures, the choices that were made, and how to use it.

    Args:
        record: the record of the run, as :func:`latens.runs.record.read_record` gives it.
        history: the rows of metrics.csv.
        name: the repository, "USER/NAME".
    """
    recipe = str((record["recipe"] or {}).get("name") or "")
    schema, _ = runs.schemas(record)
    origin = PurePath(str(record["data"].get("origin") or "data")).name
    plain = re.fullmatch(r"\w+", recipe) is not None
    lines = [
        "---", "library_name: latens", "tags:", "- latens", "- variational-autoencoder",
        *([f"- {recipe}"] if plain else []), "---", "", f"# {name.partition('/')[2]}", "",
        f"A model made with latens: {_made(recipe)}, {record['parameters']:,} parameters, fitted to "
        f"{record['rows']:,} rows.", "",
        *([] if schema is None else ["## Data", "", *_fenced(f"{origin}\n{schema.describe()}"), ""]),
        "## Figures", "", *_figures(record, history), "",
        "## Choices", "", *_fenced("\n".join([*map(str, record["choices"].values()), f"weights: {record['served']}",
                                             f"seed: {record['training'].get('seed')}"])), "",
    ]  # fmt: skip
    if record["warnings"]:
        lines += ["## Warnings", "", *_fenced("\n".join(map(str, record["warnings"]))), ""]
    own = f", recipe={recipe!r}" if recipe and is_own(recipe) else "" if recipe else ", model=…"
    lines += [
        "## Use", "", "```sh", f"latens pull {name} --out run", "latens sample run --out new.npy" if schema is None
        or hasattr(schema, "is_image") else "latens sample run --out new.csv", "```", "", "```python", "import latens",
        "", f'vae = latens.load("hf://{name}"{own})', "vae.sample(10)", "```", "",
    ]  # fmt: skip
    return printable("\n".join(lines))


def _made(recipe: str) -> str:
    """The recipe in words."""
    if not recipe:
        return "its author's own parts"
    if is_own(recipe):
        return f"its author's own recipe `{recipe.replace('`', '')}`"
    return f"recipe `{recipe}` ({describe(recipe).combines.rstrip('.')})"


def _figures(record: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    """The figures of the stored weights, as a table."""
    best = re.search(r"of epoch (\d+)", str(record["served"]))
    rows = [row for row in history if best and row.get("epoch") == int(best[1])] or history[-1:]
    found = {name: rows[0][name] for name in FIGURES if rows and math.isfinite(rows[0].get(name, math.nan))}
    if not found:
        return ["No validation was made."]
    lines = [f"| {FIGURES[name]} | {value:.3f} |" for name, value in found.items()]
    return ["| figure | nats per row |", "|---|---|", *lines]


def _fenced(text: str) -> list[str]:
    """A block of text in which nothing is read as markup."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return [f"{fence}text", text, fence]
