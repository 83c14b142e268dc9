"""The command line. Light by itself: what a command needs is imported when it runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from latens.cli import workers
from latens.cli.options import (
    Data,
    FitCommand,
    Json,
    Labels,
    LatentDim,
    OpenCommand,
    OptionalData,
    OptionalTraining,
    Out,
    OwnRecipe,
    RecipeName,
    RunFolder,
    Seed,
    ToFit,
    done_late,
    grouped,
    importable,
    own_of_resumed,
    recipe_options,
    require_values,
)
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


# Commands that take the options of any recipe, or of any kind of density, beside their own


@app.command(cls=FitCommand)
@grouped
def fit(
    context: typer.Context,
    data: ToFit = None,
    out: Annotated[str | None, typer.Option(metavar="RUN", help="The folder of the run, made new.")] = None,
    recipe: RecipeName = "vae",
    latent_dim: LatentDim = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="Start from another run's weights.")
    ] = None,
    about: Any = None,
    reading: Any = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the data a block at a time, as data larger than memory are.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weigh each row by a number of this file (.npy .csv).")
    ] = None,
    settings: Any = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fit with this many seeds; report mean and spread.")] = 1,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue an interrupted run.")] = None,
    quiet: Json = False,
) -> Any:
    """Fit a model to data and write a run folder with a report. Options of the recipe are given like the others
    (--beta 4); `latens recipes` lists them."""
    context.with_resource(workers.waiting(seeds))
    from latens.cli import commands

    if resume is not None:
        return commands.resume(resume, own=own_of_resumed(context, "the run folder"), quiet=quiet)
    if data is None or out is None:
        raise InputError("fit needs DATA and --out RUN (or --resume RUN): for example `latens fit digits --out run`")
    asked = commands.asked(
        data, out, about, reading, recipe=recipe, options=recipe_options(context, recipe, latent_dim),
        settings=settings, weights=weights, start=start, stream=stream,
    )  # fmt: skip
    return commands.fit(asked, seeds=seeds, quiet=quiet)


@app.command(cls=FitCommand)
@grouped
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
    resume: Annotated[str | None, typer.Option(metavar="FOLDER", help="Continue an interrupted sweep.")] = None,
    recipe: RecipeName = "vae",
    latent_dim: LatentDim = None,
    about: Any = None,
    reading: Any = None,
    settings: Any = None,
    quiet: Json = False,
) -> Any:
    """Fit every combination of some options, and compare them on held-out rows. Small models share the cores, a
    process each. Options of the recipe are given like the others (--beta 4), those that vary by --grid."""
    context.with_resource(workers.waiting(seeds * math.prod(len(values.split(",")) for values in grid or ())))
    from latens.cli import commands

    if resume is not None:
        return commands.resume_sweep(resume, own=own_of_resumed(context, "the sweep's folder"), quiet=quiet)
    if data is None or out is None:
        raise InputError(
            "sweep needs DATA, --out FOLDER and --grid: for example `latens sweep digits --out sweep --grid beta=0.5,1`"
        )
    asked = commands.asked(
        data, out, about, reading, recipe=recipe, options=recipe_options(context, recipe, latent_dim),
        settings=settings,
    )  # fmt: skip
    return commands.sweep(asked, list(grid or ()), seeds=seeds, nll=nll, quiet=quiet)


@app.command(cls=OpenCommand)
@grouped
def density(
    context: typer.Context, folder: RunFolder, data: OptionalTraining = None,
    kind: Annotated[
        str,
        typer.Option(help="mixture, kde, maf, iaf, spline, vae, metric; of whole numbers autoregressive, pixelcnn."),
    ] = "mixture",
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, quiet: Json = False,
) -> Any:  # fmt: skip
    """Fit a density to the codes of a run's training rows and keep it in the run's folder, for `latens sample
    --density`. Options of the kind are given like the others (--components 8)."""
    from latens.cli import commands

    options = dict(context.meta["recipe"])
    require_values(options)
    return commands.density(
        folder, data, kind=kind, options=options, seed=seed, own=own, labels=labels, quiet=quiet,
        reading=commands.reading(reading),
    )  # fmt: skip


# Commands whose words alone stand here


def command(declared: Callable[..., Any]) -> None:
    """A command of the function's words, which does what the function of its name in ``latens.cli.commands`` does."""
    app.command()(grouped(done_late(declared)))


@command
def evaluate(
    folder: RunFolder,
    data: OptionalData = None,
    k: Annotated[int, typer.Option("--k", min=0, help="Draws of the importance-weighted NLL; 0 leaves it out.")] = 100,
    draws: Annotated[int, typer.Option(min=1, help="Take the ELBO over this many posterior draws of each row.")] = 5,
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
    own: OwnRecipe = None,
    quiet: Json = False,
) -> Any:
    """Rate, distortion, ELBO, NLL with its K and standard error, active units; how good samples of a table are, next to
    held-out rows (the floor) and to draws at the codes of real rows (the oracle)."""


@command
def compare(
    data: Data,
    dims: Annotated[str, typer.Option("--latent-dims", help="Dimensions, separated by commas.")] = "2,8,16",
    validation: Annotated[str | None, typer.Option(help="Held-out data; default: a fifth of the rows.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Also write .html, or figures: .json .csv.")] = None,
    about: Any = ("labels", "drop"),
    reading: Any = None,
    recipes: Annotated[str, typer.Option(help="Beside PCA, separated by commas.")] = "ae,vae",
    likelihood: Annotated[str, typer.Option(help="Of recipes that have a choice.")] = "auto",
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of each NLL.")] = 100,
    densities: Annotated[str, typer.Option(help="Also sample through these: mixture,kde …")] = "",
    settings: Any = ("epochs", "seed", "device"),
    quiet: Json = False,
) -> Any:
    """PCA, autoencoder, VAE or other recipes side by side: same data, same dimensions, same metrics."""


@command
def encode(
    folder: RunFolder, data: Data, out: Out,
    samples: Annotated[int, typer.Option(min=0, help="Draws from q(z|x) instead of its mean.")] = 0,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write the code of each row, its posterior mean, in input order."""


@command
def reconstruct(
    folder: RunFolder, data: Data, out: Out, labels: Labels = None, reading: Any = None, own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """Data through the code and back, in the data's layout and units."""


@command
def sample(
    folder: RunFolder,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FILE",
            help="The file to write: .npy .csv .parquet …, or .png for images.",
        ),
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
    seed: Seed = 0, own: OwnRecipe = None, quiet: Json = False,
) -> Any:  # fmt: skip
    """New data from the model: z from the prior, or from a density fitted to the codes, then x from p(x|z)."""


@command
def impute(
    folder: RunFolder, data: Data, out: Out,
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of the importance sampling.")] = 1000,
    draws: Annotated[int, typer.Option(min=0, help="Write this many filled copies, each drawn; 0: one.")] = 0,
    uncertainty: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the standard deviation of each filled cell.")
    ] = None,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Missing cells filled with what the observed ones say of them; observed cells stay as they are."""


@command
def schema(
    data: Data, about: Any = ("column", "drop", "condition", "rule"), reading: Any = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write it, for --schema.")] = None,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """What each column of a table is taken for, and why (--column NAME=KIND changes it); what holds between columns in
    every row, and is no accident."""


@command
def score(
    folder: RunFolder, data: Data, out: Out,
    k: Annotated[int, typer.Option("--k", min=1, help="Draws of the importance-weighted bound.")] = 100,
    labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write a lower bound on ln p(x) of each row, nats, with its standard error, effective sample size and p-value, the
    columns that make it strange, and the reason where a value alone does. A row with a value that its column cannot
    hold has ln p(x) = -inf and the least p; the other rows have their scores."""


@command
def report(
    folder: RunFolder,
    data: OptionalData = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Default: report.html in the run folder.")] = None,
    labels: Labels = None,
    reading: Any = None,
    own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """One self-contained HTML page: curves, reconstructions, samples, latent map, traversals, choices."""


@command
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", callback=importable, help="Explain this one; default: list all.")
    ] = None,
    as_json: Json = False,
) -> Any:
    """List the recipes by family, or explain one: formula, options, when to use it, references."""


@command
def demo(
    out: Annotated[
        str, typer.Option(metavar="RUN", help="The folder of the run; that of an earlier demo is replaced.")
    ] = "demo-run",
    seed: Seed = 0,
    quiet: Json = False,
) -> Any:
    """Fit scikit-learn's digits (no download), evaluate, compare with PCA and an autoencoder, and write a report."""


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


Words = Callable[[Any], str]
# (errors, exit status, what is said of them), the first that fits
ENDS: tuple[tuple[type | tuple[type, ...], int, Words], ...] = (
    (UsageError, 2, lambda error: error.format_message()),
    (InputError, 2, str),
    (Stopped, 130, str),
    ((KeyboardInterrupt, typer.Abort), 130, lambda error: "interrupted"),
    (FitError, 1, str),
    (OSError, 2, lambda error: f"{error.filename or 'the output'} cannot be used: {error.strerror or error}"),
)


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
    except typer.Exit as error:
        return int(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        for kinds, status, words in ENDS:
            if isinstance(error, kinds):
                return _fail(words(error), status, as_json)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
            return _fail("there is not enough memory: lower batch_size or latent_dim, or give fewer rows", 1, as_json)
        raise


def _fail(sentence: str, status: int, as_json: bool) -> int:
    sentence = " ".join(sentence.split())
    typer.echo(f"latens: {sentence}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": sentence, "status": status}))
    return status
