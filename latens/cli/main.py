"""The command line. Light by itself: what a command needs is imported when it runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Annotated, Any

import typer

from latens.cli import workers
from latens.cli.density import density
from latens.cli.options import (
    AsStream,
    Auto,
    Average,
    Checkpoints,
    Clip,
    Columns,
    Condition,
    Data,
    Decay,
    Device,
    Drop,
    FitCommand,
    From,
    Json,
    Keep,
    Kind,
    Labels,
    Layout,
    OptionalData,
    Out,
    OwnRecipe,
    Rate,
    RecipeName,
    Rules,
    RunFolder,
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
    reads,
)
from latens.cli.sweep import sweep
from latens.errors import FitError, InputError, Stopped

# Read by OpenMP when torch is imported: idle threads sleep, for two fits not to stall each other, but not at once.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"} | os.environ)

# the base of all of typer's complaints, wherever this version of typer keeps it
UsageError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="latens", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Variational autoencoders: fit your data, then encode, sample, score, compare and report.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from latens import __version__

        typer.echo(f"latens {__version__}")
        raise typer.Exit


@app.command(cls=FitCommand)
@reads
def fit(
    context: typer.Context,
    data: ToFit = None,
    out: Annotated[str | None, typer.Option(metavar="RUN", help="The folder of the run, made new.")] = None,
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
    stream: AsStream = False,
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="One sample weight a row (.npy, .csv).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fit so many seeds; report mean and spread.")] = 1,
    start: From = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue an interrupted run.")] = None,
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
    compile: Annotated[str, typer.Option(help="auto, yes or no.")] = "auto",
    checkpoint_seconds: Checkpoints = 15.0,
    as_json: Json = False,
) -> Any:
    """Fit a model to data and write a run folder with a report. Options of the recipe are given like the others
    (--beta 4); `latens recipes` lists them."""
    context.with_resource(workers.waiting(seeds))
    from latens.cli import commands

    options = dict(context.meta["recipe"]) | ({} if latent_dim is None else {"latent_dim": latent_dim})
    if compile not in ("auto", "yes", "no"):
        raise InputError(f"--compile must be auto, yes or no, got {compile!r}")
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "kl_warmup": kl_warmup,
        "average": average, "weight_decay": weight_decay, "clip": clip, "skip_norm": skip_norm,
        "patience": patience, "keep": keep, "seed": seed, "device": device,
        "compile": {"auto": "auto", "yes": True, "no": False}[compile],
        "checkpoint_seconds": checkpoint_seconds,
    }  # fmt: skip
    if resume is not None:
        given = [*given_options(context, besides=("resume", "recipe", "as_json")), *context.meta["recipe"]]
        if given:
            raise InputError(
                f"--resume takes everything from the run folder: leave {option_name(given[0])} away, or fit anew"
            )
        own = recipe if "recipe" in given_options(context) else None
        return commands.resume(resume, own=own, quiet=as_json)
    if data is None or out is None:
        raise InputError("fit needs DATA and --out RUN (or --resume RUN): for example `latens fit digits --out run`")
    check_options(context, recipe, options)
    kinds = commands.kinds_asked(column, schema)
    asked = commands.Fit(
        data=data, out=out, recipe=recipe, options=options, settings=settings,
        validation=validation, labels=labels, drop=tuple(drop or ()), weights=weights, start=start,
        columns=kinds, condition=tuple(condition or ()), kind=kind, layout=layout, split=split, stream=stream,
        rules=tuple(rule or ()), reading=commands.reading(reading, kinds),
    )  # fmt: skip
    return commands.fit(asked, seeds=seeds, quiet=as_json)


app.command(cls=FitCommand)(reads(sweep))
app.command(cls=FitCommand)(reads(density))


@app.command()
@reads
def evaluate(
    run: RunFolder,
    data: OptionalData = None,
    k: Annotated[int, typer.Option("--k", min=0, help="Draws of the importance-weighted NLL; 0 leaves it out.")] = 100,
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a row for the ELBO.")] = 5,
    nll_rows: Annotated[int, typer.Option(min=0, help="Rows the NLL is taken over, evenly spaced; 0: all.")] = 1000,
    synthetic: Annotated[
        bool, typer.Option(help="Of a table, also hold samples against real rows: marginals, detection, copies.")
    ] = True,
    density: Annotated[
        str, typer.Option(metavar="NAME", help="Draw the codes of samples from a density fitted to codes.")
    ] = "prior",
    seed: Seed = 0,
    labels: Labels = None,
    reading: Any = None,
    recipe: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """Rate, distortion, ELBO, NLL with its K and standard error, active units; how good samples of a table are, next to
    held-out rows (the floor) and to draws at the codes of real rows (the oracle)."""
    from latens.cli import commands

    return commands.evaluate(
        run, data, k=k, draws=draws, nll_rows=nll_rows or None, seed=seed, own=recipe, labels=labels,
        synthetic=synthetic, density=density, quiet=as_json, reading=commands.reading(reading),
    )  # fmt: skip


@app.command()
@reads
def compare(
    data: Data,
    latent_dims: Annotated[str, typer.Option(help="Dimensions, separated by commas.")] = "2,8,16",
    validation: Annotated[str | None, typer.Option(help="Held-out data; default: a fifth of the rows.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Also write .html, or figures: .json .csv.")] = None,
    labels: Labels = None, drop: Drop = None, reading: Any = None,
    recipes: Annotated[str, typer.Option(help="Beside PCA, separated by commas.")] = "ae,vae",
    likelihood: Annotated[str, typer.Option(help="Of recipes that have a choice.")] = "auto",
    epochs: Annotated[Any, Auto] = "auto",
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of each NLL.")] = 100,
    densities: Annotated[str, typer.Option(help="Also sample through these: mixture,kde …")] = "",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> Any:
    """PCA, autoencoder, VAE or other recipes side by side: same data, same dimensions, same metrics."""
    from latens.cli import commands

    return commands.compare(
        data, dims=latent_dims, validation=validation, out=out, labels=labels, drop=tuple(drop or ()),
        likelihood=likelihood, settings={"epochs": epochs, "seed": seed, "device": device}, k=k, quiet=as_json,
        densities=densities, recipes=recipes, reading=commands.reading(reading),
    )  # fmt: skip


@app.command()
@reads
def encode(
    run: RunFolder, data: Data, out: Out,
    samples: Annotated[int, typer.Option(min=0, help="Draws from q(z|x) instead of its mean.")] = 0,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, recipe: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Codes of data: the posterior mean, in order, one row a row."""
    from latens.cli import commands

    return commands.encode(
        run, data, out, samples=samples, seed=seed, own=recipe, labels=labels, reading=commands.reading(reading)
    )


@app.command()
@reads
def reconstruct(
    run: RunFolder, data: Data, out: Out, labels: Labels = None, reading: Any = None, recipe: OwnRecipe = None,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """Data through the code and back, in the data's layout and units."""
    from latens.cli import commands

    return commands.reconstruct(run, data, out, own=recipe, labels=labels, reading=commands.reading(reading))


@app.command()
def sample(
    run: RunFolder,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The file to write: .npy .csv .parquet …, or .png for images.")
    ],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many.")] = 100,
    mean: Annotated[bool, typer.Option("--mean", help="The mean of p(x|z) instead of a draw from it.")] = False,
    given: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give a condition (repeat for more).")
    ] = None,
    density: Annotated[
        str, typer.Option(metavar="NAME", help="Draw codes from a density fitted to them (see `latens density`).")
    ] = "prior",
    gaps: Annotated[bool, typer.Option(help="Leave cells of a table missing as the data have them.")] = True,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Keep draws of a table beyond the range of the data.")
    ] = False,
    seed: Seed = 0, recipe: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """New data from the model: z from the prior, or from a density fitted to the codes, then x from p(x|z)."""
    from latens.cli import commands

    return commands.sample(
        run, out, n=n, mean=mean, seed=seed, own=recipe, given=tuple(given or ()), density=density, gaps=gaps,
        extrapolate=extrapolate, quiet=as_json,
    )  # fmt: skip


@app.command()
@reads
def impute(
    run: RunFolder, data: Data, out: Out,
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of the importance sampling.")] = 1000,
    draws: Annotated[int, typer.Option(min=0, help="Multiple imputation: so many filled copies.")] = 0,
    uncertainty: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the standard deviation of each filled cell.")
    ] = None,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, recipe: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Missing cells filled with what the observed ones say of them; observed cells stay as they are."""
    from latens.cli import commands

    return commands.impute(
        run, data, out, k=k, draws=draws, uncertainty=uncertainty, seed=seed, own=recipe, labels=labels,
        reading=commands.reading(reading),
    )  # fmt: skip


@app.command()
@reads
def schema(
    data: Data, column: Columns = None, drop: Drop = None, condition: Condition = None, rule: Rules = None,
    reading: Any = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write it, for --schema.")] = None,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """What each column of a table is taken for, and why (--column NAME=KIND changes it); what holds between columns in
    every row, and is no accident."""
    from latens.cli import commands

    kinds = commands.kinds_asked(column, None)
    return commands.schema(
        data, columns=kinds, drop=tuple(drop or ()), condition=tuple(condition or ()), rules=tuple(rule or ()),
        reading=commands.reading(reading, kinds), out=out,
    )  # fmt: skip


@app.command()
@reads
def score(
    run: RunFolder, data: Data, out: Out,
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of the importance-weighted bound.")] = 100,
    labels: Labels = None, reading: Any = None, recipe: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write a lower bound on ln p(x) of each row, nats, with its standard error, effective sample size and p-value, the
    columns that make it strange, and the reason where a value alone does. A row with a value that its column cannot
    hold has ln p(x) = -inf and the least p; the other rows have their scores."""
    from latens.cli import commands

    return commands.score(run, data, out, k=k, own=recipe, labels=labels, reading=commands.reading(reading))


@app.command()
@reads
def report(
    run: RunFolder,
    data: OptionalData = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Default: report.html in the run folder.")] = None,
    labels: Labels = None,
    reading: Any = None,
    recipe: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """One self-contained HTML page: curves, reconstructions, samples, latent map, traversals, choices."""
    from latens.cli import commands

    return commands.report(run, data, out=out, labels=labels, own=recipe, reading=commands.reading(reading))


@app.command()
def recipes(as_json: Json = False) -> Any:
    """The catalogue: name, what it combines, reference, options."""
    from latens.cli import commands

    return commands.recipes()


@app.command()
def demo(
    out: Annotated[
        str, typer.Option(metavar="RUN", help="The folder of the run; that of an earlier demo is replaced.")
    ] = "demo-run",
    seed: Seed = 0,
    as_json: Json = False,
) -> Any:
    """Fit scikit-learn's digits (no download), evaluate, compare with PCA and an autoencoder, and write a report."""
    from latens.cli import commands

    return commands.demo(out, seed=seed, quiet=as_json)


def show(answer: Any, as_json: bool) -> None:
    """Print what a command found: its text for a person, its figures for a machine."""
    if as_json:
        typer.echo(json.dumps(_plain(answer.figures), indent=1, default=str))
    elif answer.text:
        typer.echo(answer.text)


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for a user's mistake, 1 for a failed fit, 130 for Ctrl-C."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json = "--json" in arguments
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            answer = app(arguments, prog_name="latens", standalone_mode=False)
        if answer == 130:  # what some versions of typer make of Ctrl-C
            raise KeyboardInterrupt
        if not hasattr(answer, "figures"):
            return int(answer or 0)
        show(answer, as_json)
        return 0
    except UsageError as error:
        return _fail(error.format_message(), 2, as_json)
    except typer.Exit as error:
        return int(error.exit_code)
    except InputError as error:
        return _fail(str(error), 2, as_json)
    except Stopped as error:
        return _fail(str(error), 130, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130, as_json)
    except FitError as error:
        return _fail(str(error), 1, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'the output'} cannot be used: {error.strerror or error}", 2, as_json)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return _fail("there is not enough memory: lower batch_size or latent_dim, or give fewer rows", 1, as_json)


def _fail(sentence: str, status: int, as_json: bool) -> int:
    sentence = " ".join(sentence.split())
    typer.echo(f"latens: {sentence}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": sentence, "status": status}))
    return status
