"""``latens density``: its words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from latens.cli.options import Json, Labels, OptionalTraining, OwnRecipe, RunFolder, Seed, require_values


def density(
    context: typer.Context, run: RunFolder, data: OptionalTraining = None,
    kind: Annotated[
        str,
        typer.Option(help="mixture, kde, maf, iaf, spline, vae, metric; of whole numbers autoregressive, pixelcnn."),
    ] = "mixture",
    seed: Seed = 0, labels: Labels = None, reading: Any = None,
    recipe: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Fit a density to the codes of a run's training rows and keep it in the run's folder, for `latens sample
    --density`. Options of the kind are given like the others (--components 8)."""
    from latens.cli import commands

    options = dict(context.meta["recipe"])
    require_values(options)
    return commands.density(
        run, data, kind=kind, options=options, seed=seed, own=recipe, labels=labels, quiet=as_json,
        reading=commands.reading(reading),
    )  # fmt: skip
