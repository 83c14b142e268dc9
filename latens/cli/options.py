"""Options that several commands share, in titled groups; and commands that also take the options of any recipe."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from latens.errors import InputError, nearest
from latens.training.settings import INNER, Settings, Values, whole

_NO_VALUE = object()


def importable(recipe: str | None) -> str | None:
    """Let Python import the user's own recipe from the working directory, as ``python -m`` does."""
    if recipe is not None and ":" in recipe and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return recipe


def option_name(name: str) -> str:
    """The parameter ``name`` as the user types it on the command line.

    >>> option_name("latent_dim"), option_name("start")
    ('--latent-dim', '--from')
    """
    return {"data": "DATA", "start": "--from"}.get(name, "--" + name.replace("_", "-"))


def option(*names: str, help: str, title: str | None = None, **more: Any) -> Any:
    """An option with its help, listed under ``title`` (one of :data:`TITLES`) in the command's help."""
    return typer.Option(*names, help=help, rich_help_panel=title or "Options", **more)


def valued(values: Values, help: str, title: str) -> Any:
    """The option that takes one of these values."""

    def read(word: str) -> Any:
        try:
            return word if word == "auto" else values.kind(word)
        except ValueError:
            raise typer.BadParameter(f"{word!r} is neither 'auto' nor {values.noun}") from None

    reader: dict[str, Any] = {"parser": read} if values.auto else {"min": values.low}
    return option(metavar=values.metavar, help=help, title=title, **reader)


def trained_with(setting: Field[Any]) -> tuple[Any, Any]:
    """(annotation, default) of the option for one field of :class:`latens.training.Settings`."""
    values: Values = setting.metadata["values"]
    kind: Any = Any if values.auto else values.kind
    return Annotated[kind, valued(values, setting.metadata["help"], "Training")], setting.default


# Options and arguments that several commands share

DATA = (
    "a table (.csv .tsv .txt .parquet .feather), an array (.npy .npz IDX), counts (.h5ad .npz), a folder of tables or "
    "images, or a built-in set: digits, wine, breast_cancer, iris, diabetes"
)
Data = Annotated[str, typer.Argument(metavar="DATA", help=f"Read these data: {DATA}.")]
OptionalData = Annotated[
    str | None, typer.Argument(metavar="DATA", help="Use these data; default: the run's own held-out rows.")
]
OptionalExplored = Annotated[
    str | None, typer.Argument(metavar="DATA", help="Show these data; default: all rows of the run's own data.")
]
OptionalTraining = Annotated[
    str | None, typer.Argument(metavar="DATA", help="Use these data; default: the rows the run was trained on.")
]
ToFit = Annotated[str | None, typer.Argument(metavar="DATA", help=f"Fit these data (omit with --resume): {DATA}.")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Use the run in this folder, made by `latens fit`.")]
Json = Annotated[bool, option("--json", help="Print one JSON object instead of text.", title="Output")]
Out = Annotated[
    str,
    option(
        "--out", metavar="FILE|FOLDER/", title="Output",
        help="Write this file: .npy .npz .csv .tsv .parquet .feather. Or write to this folder: "
        "one part for each file of a folder of data, or for each row group of one Parquet file; the same command "
        "continues after an interruption.",
    ),
]
LABELS = (
    "Read the labels of the rows, for figures and scores, from here: a column of the table (which is then not "
    "modelled), a key of the .npz, or a file."
)
Labels = Annotated[str | None, option(metavar="LABELS", help=LABELS, title="Data")]
Factors = Annotated[
    str | None,
    option(
        metavar="COLUMN,COLUMN,…|FILE",
        help="Score codes against these known factors of the rows: columns that the model does not read, or a file "
        "with the factors of each row (MIG, DCI, SAP, FactorVAE, beta-VAE, modularity, IRS, InfoMEC).",
    ),
]  # fmt: skip
Seed = Annotated[int, option(metavar="N", min=0, help="Seed all random numbers with N.")]
RecipeName = Annotated[
    str,
    option(
        metavar="NAME", callback=importable, title="Model",
        help="Build the model by this recipe: a name from `latens recipes`, or package:function.",
    ),
]  # fmt: skip
OwnRecipe = Annotated[
    str | None,
    option(
        "--recipe", metavar="PACKAGE:FUNCTION", callback=importable, title="Model",
        help="Import your own recipe, for a run that was fitted with it.",
    ),
]  # fmt: skip
LatentDim = Annotated[
    Any,
    valued(
        whole(1), "Give codes N dimensions, at least 1; default: auto, the number of columns but at most 16.", "Model"
    ),
]


# Groups of options that belong together: {name: (annotation, default)}

Group = dict[str, tuple[Any, Any]]
_Word, _Words = str | None, list[str] | None


def group(*rows: tuple[str, Any, Any, str | None, str], title: str = "Data") -> Group:
    """Options of (name, type, default, metavar, help) under one title."""
    return {
        name: (Annotated[kind, option(option_name(name), metavar=metavar, help=help, title=title)], default)
        for name, kind, default, metavar, help in rows
    }


ABOUT = group(
    ("validation", str, "auto", "SHARE|DATA",
     "Hold out this share of the rows, from 0 to below 1, or use these data as the held-out rows; auto: a tenth, at "
     "most 5,000 rows, and none if there are fewer than 200."),
    ("labels", _Word, None, "LABELS", LABELS),
    ("drop", _Words, None, "COLUMN", "Leave this column out; repeat for more."),
    ("column", _Words, None, "NAME=KIND",
     "Treat a column as this kind instead of the inferred one, for example price=positive; repeat for more. `latens "
     "schema DATA` shows the kinds."),
    ("schema", _Word, None, "FILE", "Read the kinds of columns from this file, written by `latens schema --out`."),
    ("condition", _Words, None, "COLUMN",
     "Model the data given this column, or an array given its labels (label); repeat for more."),
    ("rule", _Words, None, "RULE",
     'Declare a rule that holds in every row: "start <= end", "total = net + tax", "price = 0.15 * minutes + [bike]" '
     '([bike]: one number per level), "city -> country", "sex & title" (only the combinations in the data), "dose '
     'missing where drug = none", "minutes = 0 exactly where rain = 0"; repeat for more. none: ignore the rules found '
     'in the data.'),
    ("split", _Word, None, "KIND=COLUMN",
     "Hold out whole groups (group=COLUMN), the latest rows (time=COLUMN) or the same share of each level "
     "(stratified=COLUMN); default: rows at random."),
    ("kind", str, "auto", "KIND", "Say what an array holds: auto, continuous, binary, levels or count."),
    ("layout", str, "auto", "AXES", "Say what the axes of an array are: auto, vector, TC (sequences), HW, HWC or CHW."),
)  # fmt: skip
READING = group(
    ("encoding", _Word, None, "NAME", "Decode a text file from this encoding, for example cp1252; default: UTF-8."),
    ("format", _Words, None, "COLUMN=FORM",
     "Read the text of a column in this form: %d/%m/%Y, day-first, month-first, 1.234,5 or text; repeat for more."),
    ("na", _Words, None, "TEXT",
     'Read this text as missing, in all columns or in one (COLUMN=TEXT); repeat for more. "": empty cells only.'),
    ("size", _Word, None, "HxW", "Resize the images of a folder to this height and width, in pixels."),
    ("skip_bad", bool, False, None, "Skip images that cannot be decoded."),
    ("pages", bool, False, None, "Make each page of a TIFF, and each frame of a GIF, WebP or PNG, a separate row."),
    ("layer", _Word, None, "NAME",
     "Read this matrix of an .h5ad: a layer, X or raw/X; default: the first of counts, X, raw/X that holds counts."),
)  # fmt: skip
ESTIMATES = group(
    ("nll", str, "iw", "iw|ais|grid",
     "Estimate the NLL by importance weighting (iw), annealed importance sampling (ais: closer to the truth), or "
     "quadrature (grid: exact, for one or two latent dimensions)."),
    ("rows", int, 1000, "N", "Estimate the NLL on N evenly spaced rows; 0: on all."),
    ("proposal", str, "encoder", "encoder|mixture|auto",
     "Draw the codes of iw from the encoder's posterior, from a wider mixture, or from the mixture only for rows that "
     "need it (auto)."),
    ("chains", int, 16, "N", "Run N chains per row for ais and the certificate, at least 1."),
    ("temperatures", int, 200, "N", "Anneal over N temperatures for ais and the certificate, at least 1."),
    ("certificate", int, 0, "N", "Bound ln p(x) from both sides for N rows drawn from the model; 0: do not."),
    ("gaps", bool, False, None,
     "Show where the bound loses nats: approximation, amortisation, mutual information, prior. Takes minutes."),
    title="Likelihood",
)  # fmt: skip
TRAINING: Group = {each.name: trained_with(each) for each in fields(Settings) if each.name not in INNER}
PARTS = group(
    ("workers", int | None, None, "N",
     "Write the parts of a folder with N processes of one thread each, at least 1; default: one per core, at most 8. "
     "The bytes are the same for any N."),
    ("engine", _Word, None, "NAME",
     "Write the parts with processes, or with ray (install latens[ray]); default: processes."),
    ("keep", _Words, None, "COLUMN",
     "Put this column of the data, such as a key, in front of each output row, unchanged; repeat for more."),
    ("part_rows", int | None, None, "N", "Write N rows to each part of a folder; default: 100,000."),
    title="Output",
)  # fmt: skip
GROUPS = {"about": ABOUT, "reading": READING, "estimates": ESTIMATES, "settings": TRAINING, "parts": PARTS}
TITLES = (
    "Arguments", "Output", "Options", "Likelihood", "Model", "Data", "Training", "Runs", "Help",
)  # the titles of a help text, in order  # fmt: skip


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each parameter that is named after a group (:data:`GROUPS`) by the options of the group, or by those that
    the parameter's default lists. The command receives their values as a mapping."""
    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters: list[inspect.Parameter] = []
    members: dict[str, list[str]] = {}
    for name, parameter in own.parameters.items():
        if name not in GROUPS:
            parameters.append(parameter.replace(kind=keyword))
            continue
        group = GROUPS[name]
        members[name] = [each for each in group if parameter.default is None or each in parameter.default]
        for each in members[name]:
            annotation, default = group[each]
            parameters.append(inspect.Parameter(each, keyword, default=default, annotation=annotation))

    @wraps(command)
    def with_options(**given: Any) -> Any:
        gathered = {group: {name: given.pop(name) for name in names} for group, names in members.items()}
        return command(**given, **gathered)

    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def done_late(declared: Callable[..., Any]) -> Callable[..., Any]:
    """A command that calls the function of the same name in :mod:`latens.cli.commands`, which is imported only when the
    command runs. If the command has a parameter ``about`` (the data), it gets the options of ``reading`` as words;
    otherwise it gets them as options of :func:`latens.data.read`."""

    @wraps(declared)
    def command(*, as_json: bool = False, **given: Any) -> Any:
        from latens.cli import commands

        if context := given.pop("context", None):
            given["lines"] = context.obj if as_json else None
        if "reading" in given and "about" not in given:
            given["reading"] = commands.reading(given["reading"])
        return getattr(commands, declared.__name__)(**given)

    return command


# Commands


class Command(TyperCommand):
    """A command whose help lists options under titles."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # some versions of typer add braces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of arguments and options, under titles."""
        titled: dict[str, list[Any]] = {title: [] for title in TITLES}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if parameter.param_type_name == "argument":
                titled["Arguments"].append((parameter.metavar, record[1] if record else ""))
            elif record is not None:
                titled[getattr(parameter, "rich_help_panel", None) or "Help"].append(record)
        for title, records in titled.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class OpenCommand(Command):
    """A command that also takes the options of any recipe or kind of density, and leaves them in
    ``context.meta["recipe"]``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split the words into options of the command itself and options of the recipe."""
        flags = {name: bool(getattr(p, "is_flag", False)) for p in self.params for name in p.opts + p.secondary_opts}
        flags["--help"] = True
        own, found, words = [], {}, list(args)
        while words:
            word = words.pop(0)
            if word == "--":
                own += [word, *words]
                break
            name, equals, value = word.partition("=")
            if name in flags or not name.startswith("--"):
                own.append(word)
                if name.startswith("--") and not equals and not flags[name] and words:
                    own.append(words.pop(0))
                continue
            if not equals and words and not words[0].startswith("--"):
                equals, value = " ", words.pop(0)
            found[name[2:].replace("-", "_")] = _literal(value) if equals else _NO_VALUE
        ctx.meta["recipe"] = found
        return super().parse_args(ctx, own)


def recipe_options(context: typer.Context, recipe: str, latent_dim: Any) -> dict[str, Any]:
    """The options of the recipe that the user passed.

    Raises:
        InputError: neither the command nor the recipe has an option; the message has the nearest one that exists.
    """
    from latens import recipes

    options = dict(context.meta["recipe"]) | ({} if latent_dim is None else {"latent_dim": latent_dim})
    valid = [option_name(name) for name in recipes.options(recipes.find(recipe))]
    own = [name for p in context.command.params for name in p.opts if name.startswith("--")]
    for name in map(option_name, options):
        if name not in valid:
            others = [other for other, function in recipes.CATALOGUE.items() if name[2:] in recipes.options(function)]
            hint = f" (an option of the recipe {' and '.join(others)})" if others else nearest(name, own + valid)
            raise InputError(
                f"unknown option {name}{hint}",
                f"the recipe {recipe!r} has {', '.join(valid) or 'none'}; `latens {context.command.name or 'fit'} "
                "--help` lists the options of every fit",
            )
    require_values(options)
    return options


def own_of_resumed(context: typer.Context, where: str) -> str | None:
    """The value of --recipe that was passed with --resume; ``InputError`` for any other option, since ``where`` (a
    folder, in words) holds them all."""
    given = [name for name in context.params if (source := context.get_parameter_source(name)) is not None
             and source.name == "COMMANDLINE" and name not in ("resume", "quiet")]  # fmt: skip
    for name in (*(name for name in given if name != "recipe"), *context.meta["recipe"]):
        raise InputError(
            f"--resume takes every option from {where}",
            f"omit {option_name(name)}, or start a new {context.command.name}",
        )
    return context.params["recipe"] if "recipe" in given else None


def require_values(options: dict[str, Any]) -> None:
    """Raise ``InputError`` for an option without a value."""
    for name, value in options.items():
        if value is _NO_VALUE:
            option = option_name(name)
            raise InputError(f"the option {option} needs a value", f"pass {option} VALUE")


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
