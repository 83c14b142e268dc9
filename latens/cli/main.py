"""The command line: it takes words and returns an exit status. Each command imports what it needs only when it runs,
so that help is quick."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from latens.cli import workers
from latens.cli.options import (
    Command,
    Data,
    Factors,
    Json,
    Labels,
    LatentDim,
    OpenCommand,
    OptionalData,
    OptionalExplored,
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
    option,
    own_of_resumed,
    recipe_options,
    require_values,
)
from latens.errors import FitError, InputError, Stopped, printable
from latens.machine import launcher
from latens.machine.imports import without_pandas

# OpenMP reads these when torch is imported: idle threads spin briefly and then sleep, so that two fits can share cores.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"} | os.environ)

# The base class of typer's errors, which different versions of typer keep in different places.
UsageError: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="latens", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
    help="Variational autoencoders: fit your data, then encode, sample, score, fill gaps, compare and report.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from latens import __version__

        typer.echo(f"latens {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None and not _is_needed(context.invoked_subcommand):
        raise typer.Exit


# Commands that also take the options of any recipe or kind of density


@app.command(cls=OpenCommand)
@grouped
def fit(
    context: typer.Context,
    data: ToFit = None,
    out: Annotated[
        str | None, option(metavar="RUN", help="Create this folder for the run; required.", title="Output")
    ] = None,
    recipe: RecipeName = "vae",
    latent_dim: LatentDim = None,
    start: Annotated[
        str | None, option("--from", metavar="RUN", help="Start from the weights of this run.", title="Model")
    ] = None,
    about: Any = None,
    reading: Any = None,
    stream: Annotated[
        bool,
        option(
            "--stream",
            help="Read the data (Parquet, .npy or plain text) in blocks; this is the default if a fit in memory would "
            "take more than half of the free memory.",
            title="Data",
        ),
    ] = False,
    weights: Annotated[
        str | None,
        option(metavar="FILE", help="Weight each row by a number, read from this file (.npy .csv).", title="Data"),
    ] = None,
    settings: Any = None,
    seeds: Annotated[
        int, option(metavar="N", min=1, help="Fit N times, with N seeds; print mean and spread.", title="Runs")
    ] = 1,
    track: Annotated[
        str | None,
        option(
            metavar="NAME", title="Runs",
            help="Send the training figures to tensorboard (in the run's folder), wandb, mlflow or trackio, if it is "
            "installed.",
        ),
    ] = None,
    resume: Annotated[
        str | None, option(metavar="RUN", help="Continue the interrupted run in this folder.", title="Runs")
    ] = None,
    quiet: Json = False,
) -> Any:
    """Fit a model to data. Write a run folder with the model, its figures and a report. Options of the recipe can
    be passed too, for example --beta 4; `latens recipes` lists them."""
    context.with_resource(workers.waiting(seeds))
    from latens.cli import commands

    if resume is not None:
        return commands.resume(resume, own=own_of_resumed(context, "the run folder"), quiet=quiet)
    if data is None or out is None:
        raise InputError("fit needs DATA and --out RUN, or --resume RUN", "for example `latens fit digits --out run`")
    asked = commands.asked(
        data, out, about, reading, recipe=recipe, options=recipe_options(context, recipe, latent_dim),
        settings=settings, weights=weights, start=start, stream=stream, track=track,
    )  # fmt: skip
    return commands.fit(asked, seeds=seeds, quiet=quiet)


@app.command(cls=OpenCommand)
@grouped
def sweep(
    context: typer.Context,
    data: ToFit = None,
    out: Annotated[
        str | None, option(metavar="FOLDER", help="Create this folder for the runs; required.", title="Output")
    ] = None,
    grid: Annotated[
        list[str] | None,
        option(
            "--grid",
            metavar="OPTION=V,V,…",
            title="Runs",
            help="Try these values of an option; repeat for more options: every combination is fitted.",
        ),
    ] = None,
    seeds: Annotated[
        int, option(metavar="N", min=1, help="Fit each combination N times, with N seeds.", title="Runs")
    ] = 1,
    nll: Annotated[
        bool,
        option("--nll", help="Also estimate the NLL (nats per row) by importance weighting, 50 draws.", title="Runs"),
    ] = False,
    resume: Annotated[
        str | None, option(metavar="FOLDER", help="Continue the interrupted sweep in this folder.", title="Runs")
    ] = None,
    recipe: RecipeName = "vae",
    latent_dim: LatentDim = None,
    about: Any = None,
    reading: Any = None,
    settings: Any = None,
    quiet: Json = False,
) -> Any:
    """Fit every combination of options, and compare them. Models are compared on held-out rows. Small ones run in
    parallel, one process per core. Give options with a fixed value as for fit (--beta 4), and options that vary with
    --grid."""
    context.with_resource(workers.waiting(seeds * math.prod(len(values.split(",")) for values in grid or ())))
    from latens.cli import commands

    if resume is not None:
        return commands.resume_sweep(resume, own=own_of_resumed(context, "the sweep's folder"), quiet=quiet)
    if data is None or out is None:
        raise InputError(
            "sweep needs DATA, --out FOLDER and --grid",
            "for example `latens sweep digits --out sweep --grid beta=0.5,1`",
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
        option(
            metavar="KIND",
            help="Fit this kind: mixture, kde, maf, iaf, spline, vae or metric; for whole-number codes, autoregressive "
            "or pixelcnn.",
        ),
    ] = "mixture",
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, quiet: Json = False,
) -> Any:  # fmt: skip
    """Fit a density to the codes of a run's training rows. It is stored in the run's folder; `latens sample --density`
    draws codes from it. Pass the options of the kind as well, for example --components 8."""
    from latens.cli import commands

    options = dict(context.meta["recipe"])
    require_values(options)
    return commands.density(
        folder, data, kind=kind, options=options, seed=seed, own=own, labels=labels, quiet=quiet,
        reading=commands.reading(reading),
    )  # fmt: skip


# Commands that are only declared here


KEEPING = ("workers", "engine", "keep")  # options for writing an output in parts


def command(declared: Callable[..., Any]) -> None:
    """Register a declared command; :func:`latens.cli.options.done_late` finds the function that does its work."""
    app.command(cls=Command)(grouped(done_late(declared)))


@command
def evaluate(
    folder: RunFolder,
    data: OptionalData = None,
    k: Annotated[
        int, option("--k", metavar="K", min=0, help="Estimate the NLL with K draws per row; 0: leave it out.")
    ] = 100,
    draws: Annotated[int, option(metavar="N", min=1, help="Average the ELBO over N posterior draws per row.")] = 5,
    estimates: Any = None,
    synthetic: Annotated[
        bool, option(help="For a table, compare samples with real rows: marginals, detection, copies.")
    ] = True,
    factors: Factors = None,
    label_scores: Annotated[
        bool,
        option(help="If labels are known, score codes, PCA codes and raw rows: linear probe, neighbours, clusters."),
    ] = True,
    samples: Annotated[
        bool,
        option(
            "--samples",
            help="For arrays and images, compare samples with real rows: Fréchet and kernel distance, precision, "
            "recall, density, coverage, copies; for images also PSNR and SSIM of reconstructions. Takes minutes.",
        ),
    ] = False,
    density: Annotated[
        str, option(metavar="NAME", help="Draw the codes of samples from this density, fitted by `latens density`.")
    ] = "prior",
    seed: Seed = 0,
    labels: Labels = None,
    reading: Any = None,
    own: OwnRecipe = None,
    quiet: Json = False,
) -> Any:
    """Print bounds, rate, distortion and NLL with their errors. Figures are in nats per row. Also print the number of
    active units and, for a table, how good samples are, compared with held-out rows (the best possible) and with draws
    at the codes of real rows (the oracle)."""


@command
def compare(
    data: Data,
    dims: Annotated[
        str, option("--latent-dims", metavar="N,N,…", help="Compare at these numbers of latent dimensions.")
    ] = "2,8,16",
    validation: Annotated[
        str | None, option(metavar="DATA", help="Hold out these data; default: a fifth of the rows.", title="Data")
    ] = None,
    out: Annotated[
        str | None,
        option(metavar="FILE", help="Also write a page (.html) or the figures (.json .csv).", title="Output"),
    ] = None,
    about: Any = ("labels", "drop"),
    reading: Any = None,
    recipes: Annotated[str, option(metavar="NAME,NAME,…", help="Compare these recipes with PCA.", title="Model")] = (
        "ae,vae"
    ),
    likelihood: Annotated[
        str, option(metavar="NAME", help="Use this likelihood in every recipe that has the option.", title="Model")
    ] = "auto",
    k: Annotated[int, option("--k", metavar="K", min=1, help="Estimate each NLL with K draws per row.")] = 100,
    densities: Annotated[
        str, option(metavar="KIND,KIND,…", help="Also sample from these densities of codes, for example mixture,kde.")
    ] = "",
    baselines: Annotated[
        str,
        option(
            metavar="NAME,NAME,…",
            help="Also give the NLL of these baselines, or of all: independent (cells), gaussian (full covariance), "
            "factor_analysis, mixture, kde, zlib, lzma (of 8-bit data).",
            title="Model",
        ),
    ] = "",
    settings: Any = ("epochs", "seed", "device"),
    quiet: Json = False,
) -> Any:
    """Compare PCA, an autoencoder and a VAE on the same data. All use the same rows, dimensions and metrics; --recipes
    chooses other models."""


@command
def encode(
    context: typer.Context, folder: RunFolder, data: Data,
    out: Annotated[
        str,
        option(
            "--out", metavar="FILE|FOLDER/", title="Output",
            help="Write this file: .npy .npz .csv .tsv .parquet .feather, or .h5ad for a copy of an .h5ad (it may be "
            "the same file) with the codes in its obsm. Or write to this folder: one part for each file of a folder of "
            "data, or for each row group of one Parquet file; the same command continues after an interruption.",
        ),
    ],
    key: Annotated[
        str | None,
        option(metavar="NAME", help="Put the codes of an .h5ad into obsm under this name; default: X_latens.",
               title="Output"),
    ] = None,
    parts: Any = KEEPING,
    samples: Annotated[
        int, option(metavar="N", min=0, help="Write N draws from q(z|x) instead of its mean; 0: the mean.")
    ] = 0,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write the posterior mean E[z|x] of each row, in input order."""


@command
def reconstruct(
    context: typer.Context, folder: RunFolder, data: Data, out: Out, parts: Any = KEEPING, labels: Labels = None,
    reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write each row decoded from its code, in the data's units. Layout, names and order are those of the data."""


@command
def sample(
    context: typer.Context,
    folder: RunFolder,
    out: Annotated[
        str,
        option(
            "--out", metavar="FILE|FOLDER/", title="Output",
            help="Write this file: .npy .npz .csv .tsv .parquet .feather, or .png for a picture of images. Or write "
            "parts of equal size to this folder; the same command continues after an interruption.",
        ),
    ],
    parts: Any = ("workers", "engine", "part_rows"),
    n: Annotated[int, option("-n", "--number", metavar="N", min=1, help="Write N rows.")] = 100,
    mean: Annotated[bool, option("--mean", help="Write the mean of p(x|z) instead of a draw from it.")] = False,
    given: Annotated[
        list[str] | None,
        option("--set", metavar="NAME=VALUE", help="Set a condition to a value; repeat for more."),
    ] = None,
    density: Annotated[
        str, option(metavar="NAME", help="Draw codes from this density, fitted by `latens density`.")
    ] = "prior",
    gaps: Annotated[bool, option(help="Leave cells of a table missing as in the data, or fill them all.")] = True,
    extrapolate: Annotated[
        bool, option("--extrapolate", help="Keep numbers that lie beyond the range of the data.")
    ] = False,
    seed: Seed = 0, own: OwnRecipe = None, quiet: Json = False,
) -> Any:  # fmt: skip
    """Write new rows from the model. Each code z is drawn from the prior, or from a density fitted to the codes; the
    cells of the row are drawn from p(x|z)."""


@command
def impute(
    context: typer.Context, folder: RunFolder, data: Data, out: Out, parts: Any = KEEPING,
    k: Annotated[
        int, option("--k", metavar="K", min=1, help="Use K importance-weighted draws per row.")
    ] = 1000,
    draws: Annotated[
        int,
        option(
            metavar="N", min=0,
            help="Write N filled copies, drawn at random (multiple imputation); 0: one copy, with the best values.",
        ),
    ] = 0,
    uncertainty: Annotated[
        str | None,
        option(metavar="FILE", help="Also write the standard deviation of each filled cell.", title="Output"),
    ] = None,
    seed: Seed = 0, labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Fill missing cells, given the observed ones. Observed cells are written unchanged."""


@command
def compress(
    folder: RunFolder, data: Data,
    out: Annotated[str, option("--out", metavar="FILE", help="Write this .latens file.", title="Output")],
    labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write data as a smaller file, without loss. The run is the model (bits back): a row takes about -ELBO / ln 2
    bits. `latens decompress` with the same run restores the data, on any machine."""


@command
def decompress(
    folder: RunFolder,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Read this file, written by `latens compress`.")],
    out: Annotated[
        str,
        option("--out", metavar="FILE", help="Write this file: .npy .npz .csv .tsv .parquet .feather.", title="Output"),
    ],
    own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """Write the data that `latens compress` read. Rows, names, types and gaps are the same. The run must be the one
    that compressed the data. A damaged file is refused."""


@command
def schema(
    data: Data, about: Any = ("column", "drop", "condition", "rule"), reading: Any = None,
    out: Annotated[
        str | None, option(metavar="FILE", help="Also write the kinds to this file, for --schema.", title="Output")
    ] = None,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """Show the kind that latens infers for each column, and why. Also show the rules between columns that hold
    in every row. --column NAME=KIND changes a column."""


@command
def score(
    context: typer.Context, folder: RunFolder, data: Data, out: Out, parts: Any = KEEPING,
    k: Annotated[int, option("--k", metavar="K", min=1, help="Estimate the bound with K draws per row.")] = 100,
    labels: Labels = None, reading: Any = None, own: OwnRecipe = None, as_json: Json = False,
) -> Any:  # fmt: skip
    """Write how unusual each row is: ln p(x) and a p-value. ln p(x) is a lower bound, in nats, with its standard error
    and effective sample size. For a table, also write the columns that make the row strange, and a reason if a single
    value makes it strange. A row with a value that its column cannot hold has ln p(x) = -inf and the smallest p-value;
    other rows are scored as usual."""


@command
def report(
    folder: RunFolder,
    data: OptionalData = None,
    out: Annotated[
        str | None,
        option(metavar="FILE", help="Write this .html file; default: report.html in the run's folder.", title="Output"),
    ] = None,
    factors: Factors = None,
    samples: Annotated[
        bool, option("--samples", help="For arrays and images, add scores of samples (as `latens evaluate --samples`).")
    ] = False,
    gaps: Annotated[
        bool, option("--gaps", help="Show where the bound loses nats (`latens evaluate --gaps`). Takes minutes.")
    ] = False,
    labels: Labels = None,
    reading: Any = None,
    own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """Write the report of a run as one HTML page. It shows curves, reconstructions, samples, a map of the codes,
    traversals, scores of the codes against labels, and the choices that were made."""


@command
def explore(
    folder: RunFolder,
    data: OptionalExplored = None,
    out: Annotated[
        str | None,
        option(
            metavar="FILE", help="Write this .html file and open nothing; default: explore.html in the run's folder.",
            title="Output",
        ),
    ] = None,
    points: Annotated[
        int, option(metavar="N", min=2, help="Show at most N rows, drawn at random.")
    ] = 1_000_000,
    with_rows: Annotated[
        bool, option("--rows/--no-rows", help="Put cells of rows into the page, or leave all of them out.")
    ] = True,
    half: Annotated[
        bool,
        option("--half/--full", help="Store the decoder's weights as float16, or as float32 (twice as large)."),
    ] = True,
    browser: Annotated[bool, option("--open/--no-open", help="Open the page in the browser.")] = True,
    port: Annotated[
        int, option(metavar="N", min=0, max=65535, help="Use this port if a local process decodes; 0: any free one.")
    ] = 0,
    labels: Labels = None,
    reading: Any = None,
    own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """Write an HTML file to explore the latent space, and open it. Click on the map of the codes, move sliders, compare
    rows, draw samples. The decoder runs inside the page, which makes no requests. If a page cannot run the decoder, a
    local process decodes until you press Ctrl-C."""


@command
def export(
    folder: RunFolder,
    out: Annotated[str, option("--out", metavar="FOLDER", help="Create this folder for the export.", title="Output")],
    opset: Annotated[
        int, option(metavar="N", help="Write this version of ONNX's operators, 18 to 20.", title="Output")
    ] = 20,
    own: OwnRecipe = None,
    as_json: Json = False,
) -> Any:
    """Write the model as ONNX, to use it without latens. The folder holds encoder, decoder and scorer; model.json,
    which says what their numbers mean; and example.py, which scores and decodes rows with numpy and onnxruntime."""


Repository = Annotated[str, typer.Argument(metavar="USER/NAME", help="Use this repository of the hub.")]


@command
def push(
    folder: RunFolder, name: Repository,
    public: Annotated[
        bool,
        option("--public/--private", help="Make a new repository public, or readable by you alone.", title="Output"),
    ] = False,
    as_json: Json = False,
) -> Any:  # fmt: skip
    """Put a run on the Hugging Face Hub, with a model card. Weights, record, figures and densities are sent.
    Checkpoints are not sent. Pages are not sent either, since they hold rows of the data. HF_ENDPOINT names another
    hub."""


@command
def pull(
    name: Repository,
    out: Annotated[str, option("--out", metavar="RUN", help="Create this folder for the run.", title="Output")],
    as_json: Json = False,
) -> Any:
    """Get a run from the Hugging Face Hub. Only files of a run are taken, and they are checked: loading a run never
    executes code. In Python, call latens.load("hf://USER/NAME")."""


@command
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", callback=importable, help="Explain this recipe; default: list all."),
    ] = None,
    as_json: Json = False,
) -> Any:
    """List the recipes by family, or explain one. An explanation has the formula, the options, when to use the recipe,
    and references."""


@command
def demo(
    out: Annotated[
        str,
        option(metavar="RUN", help="Create this folder for the run; an earlier demo is replaced.", title="Output"),
    ] = "demo-run",
    seed: Seed = 0,
    quiet: Json = False,
) -> Any:
    """Fit scikit-learn's digits and write a report. Also evaluate the run and compare it with PCA and an autoencoder.
    Nothing is downloaded."""


def show(answer: Any, as_json: bool) -> None:
    """Print a command's answer: its text, or its figures as JSON."""
    if as_json:
        typer.echo(json.dumps(_plain(answer.figures), indent=None if answer.in_a_line else 1, default=str))
    elif answer.text:
        typer.echo(printable(answer.text))


def _plain(value: Any) -> Any:
    """The value in JSON's types only: a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))) else value


Words = Callable[[Any], str]
# (a sentence of typer's, the same sentence in the form of latens' messages)
USAGE = (
    (r"Option '(.+)' requires an argument", r"the option \1 needs a value: pass \1 VALUE"),
    (r"Option '(.+)' does not take a value", r"the option \1 takes no value: pass \1 alone"),
    (r"Missing option '(.+)'", r"the option \1 is missing: pass \1 VALUE"),
    (r"Missing argument '(.+)'", r"\1 is missing: `latens COMMAND --help` lists what a command takes"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)", r"there is one argument too many, \1: omit it"),
    (r"No such command '(.+?)'\. Did you mean (.+)", r"there is no command \1: did you mean \2"),
    (r"No such command '(.+?)'", r"there is no command \1: `latens --help` lists them"),
    (r"No such option: (\S+?)\.? Did you mean (.+)", r"there is no option \1: did you mean \2"),
    (r"No such option: (\S+)", r"there is no option \1: `latens COMMAND --help` lists them"),
    (r"Invalid value for (?:.+ / )?'(.+?)': .*valid integer.*", r"\1 must be a whole number"),
    (r"Invalid value for (?:.+ / )?'(.+?)': .*valid (?:number|float).*", r"\1 must be a number"),
    (r"Invalid value for (?:.+ / )?'(.+?)': (.*)", r"\1: \2"),
)


def usage(sentence: str) -> str:
    """A sentence of typer's about a command's words, in the form of latens' messages.

    >>> usage("Missing option '--out'."), usage("Invalid value for '-n' / '--number': not a valid integer")
    ('the option --out is missing: pass --out VALUE', '--number must be a whole number')
    """
    sentence = sentence.rstrip(".")
    for pattern, words in USAGE:
        if found := re.fullmatch(pattern, sentence, flags=re.DOTALL):
            return found.expand(words)
    return sentence


# (errors, exit status, the error in words); the first row that matches is used
ENDS: tuple[tuple[type | tuple[type, ...], int, Words], ...] = (
    (UsageError, 2, lambda error: usage(error.format_message())),
    (InputError, 2, str),
    (Stopped, 130, str),
    ((KeyboardInterrupt, typer.Abort), 130, lambda error: "interrupted"),
    (FitError, 1, str),
    (OSError, 2, lambda error: f"{error.filename or 'the output'} cannot be used: {error.strerror or error}"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 for a failed fit, 2 for a user's mistake, 130 for Ctrl-C.

    Args:
        arguments: the words after ``latens``; by default, those of the process.

    >>> main(["--version"])
    latens 0.1.0
    0
    """
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    as_json, told = "--json" in arguments, sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), without_pandas():
            answer = app(arguments, prog_name="latens", standalone_mode=False, obj=told)
        if answer == 130:  # some versions of typer return this for Ctrl-C
            raise KeyboardInterrupt
        if not hasattr(answer, "figures"):
            return int(answer or 0)
        show(answer, as_json)
        return int(answer.status)
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
            return _fail("not enough memory: lower --batch-size or --latent-dim, or give fewer rows", 1, as_json)
        raise


def _is_needed(command: str) -> bool:
    """Whether this process should run the command. If a launcher started several processes, only the first does work
    that must be done once."""
    if command in ("fit", "sweep"):
        if command == "fit" and (said := launcher.meant_more()):
            typer.echo(f"warning: {said}", err=True)
        return True
    if (count := launcher.launched()) == 1:
        return True
    first = launcher.is_first()
    launcher.stay_alone()
    if first:
        typer.echo(f"latens: only one of the {count} processes runs this command, as only fit uses several", err=True)
    return first


def _fail(sentence: str, status: int, as_json: bool) -> int:
    sentence = printable(" ".join(sentence.split()))
    typer.echo(f"latens: {sentence}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": sentence, "status": status}))
    return status
