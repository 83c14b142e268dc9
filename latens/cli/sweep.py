"""The words of ``latens sweep``."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from latens.cli import workers
from latens.cli.options import (
    Auto,
    Average,
    Checkpoints,
    Clip,
    Columns,
    Condition,
    Decay,
    Device,
    Drop,
    Json,
    Keep,
    Kind,
    Labels,
    Layout,
    Rate,
    RecipeName,
    Rules,
    SchemaFile,
    Seed,
    SkipNorm,
    Split,
    ToFit,
    Validation,
    Warmup,
    check_options,
    given_options,
    option_name,
)
from latens.errors import InputError


def sweep(
    context: typer.Context,
    data: ToFit = None,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="The folder of the runs, made new.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="OPTION=V,V,…", help="Values of an option (repeat: all combinations)."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 1,
    nll: Annotated[bool, typer.Option("--nll", help="Also the importance-weighted NLL, with 50 draws.")] = False,
    recipe: RecipeName = "vae",
    latent_dim: Annotated[Any, Auto] = None,
    validation: Validation = "auto",
    labels: Labels = None,
    drop: Drop = None,
    column: Columns = None,
    schema: SchemaFile = None,
    condition: Condition = None,
    rule: Rules = None,
    split: Split = None,
    kind: Kind = "auto",
    layout: Layout = "auto",
    reading: Any = None,
    resume: Annotated[str | None, typer.Option(metavar="FOLDER", help="Continue an interrupted sweep.")] = None,
    epochs: Annotated[Any, Auto] = "auto",
    batch_size: Annotated[Any, Auto] = "auto",
    learning_rate: Annotated[Any, Rate] = "auto",
    kl_warmup: Warmup = 0.0,
    average: Average = 0.0,
    weight_decay: Decay = 0.0,
    clip: Clip = 1e4,
    skip_norm: SkipNorm = 0.0,
    patience: Annotated[Any, Auto] = "auto",
    keep: Keep = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    checkpoint_seconds: Checkpoints = 15.0,
    as_json: Json = False,
) -> Any:
    """Fit every combination of some options, and compare them on held-out rows. Small models of one structure are
    trained together. Options of the recipe are given like the others (--beta 4), those that vary by --grid."""
    context.with_resource(workers.waiting(seeds * math.prod(len(values.split(",")) for values in grid or ())))
    from latens.cli import commands

    if resume is not None:
        given = [*given_options(context, besides=("resume", "recipe", "as_json")), *context.meta["recipe"]]
        if given:
            raise InputError(
                f"--resume takes everything from the sweep's folder: leave {option_name(given[0])} away, or sweep anew"
            )
        own = recipe if "recipe" in given_options(context) else None
        return commands.resume_sweep(resume, own=own, quiet=as_json)
    if data is None or out is None:
        raise InputError(
            "sweep needs DATA, --out FOLDER and --grid: for example `latens sweep digits --out sweep --grid beta=0.5,1`"
        )
    options = dict(context.meta["recipe"]) | ({} if latent_dim is None else {"latent_dim": latent_dim})
    check_options(context, recipe, options)
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "patience": patience, "seed": seed,
        "kl_warmup": kl_warmup, "average": average, "weight_decay": weight_decay, "clip": clip, "skip_norm": skip_norm,
        "keep": keep, "device": device, "checkpoint_seconds": checkpoint_seconds,
    }  # fmt: skip
    kinds = commands.kinds_asked(column, schema)
    asked = commands.Fit(
        data=data, out=out, recipe=recipe, options=options, settings=settings, validation=validation, labels=labels,
        drop=tuple(drop or ()), columns=kinds, condition=tuple(condition or ()), kind=kind, layout=layout, split=split,
        rules=tuple(rule or ()), reading=commands.reading(reading, kinds),
    )  # fmt: skip
    return commands.sweep(asked, list(grid or ()), seeds=seeds, nll=nll, quiet=as_json)
