"""The words that commands share: options, groups of them, and commands that take those of any recipe beside their
own."""

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
    """A recipe of one's own may lie in the working directory, as with ``python -m``."""
    if recipe is not None and ":" in recipe and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return recipe


def option_name(name: str) -> str:
    """A parameter as the user writes it."""
    return {"data": "DATA", "start": "--from"}.get(name, "--" + name.replace("_", "-"))


def option(values: Values, help: str) -> Any:
    """The option that takes such values."""

    def read(word: str) -> Any:
        try:
            return word if word == "auto" else values.kind(word)
        except ValueError:
            raise typer.BadParameter(f"{word!r} is neither 'auto' nor {values.noun}") from None

    reader: dict[str, Any] = {"parser": read} if values.auto else {"min": values.low}
    return typer.Option(metavar=values.metavar, help=help, **reader)


def trained_with(setting: Field[Any]) -> tuple[Any, Any]:
    """(annotation, default) of the option that a field of the settings of training is."""
    values: Values = setting.metadata["values"]
    kind: Any = Any if values.auto else values.kind
    return Annotated[kind, option(values, setting.metadata["help"])], setting.default


# Options and arguments that several commands share

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A table (.csv .parquet …), array (.npy .npz IDX), .h5ad, a folder, or: digits …"
    ),
]
OptionalData = Annotated[
    str | None, typer.Argument(metavar="[DATA]", help="Data; default: the rows held out in fitting.")
]
OptionalTraining = Annotated[
    str | None, typer.Argument(metavar="[DATA]", help="Data; default: the rows the run was trained on.")
]
ToFit = Annotated[str | None, typer.Argument(metavar="[DATA]", help="Data to fit (not with --resume).")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run made by `latens fit`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Out = Annotated[
    str, typer.Option("--out", metavar="FILE", help="The file to write: .npy .npz .csv .tsv .parquet .feather.")
]
LABELS = "Labels for the pictures: a column, a key of the .npz, or a file."
Labels = Annotated[str | None, typer.Option(help=LABELS)]
Seed = Annotated[int, typer.Option(min=0, help="Seed everything random with this number, from 0.")]
RecipeName = Annotated[
    str, typer.Option(callback=importable, help="A name from `latens recipes`, or package:function.")
]
OwnRecipe = Annotated[
    str | None,
    typer.Option("--recipe", callback=importable, help="Your own recipe's package:function, for a run made by it."),
]
LatentDim = Annotated[
    Any, option(whole(1), "Give codes this many dimensions, from 1; auto: the smaller of 16 and the columns.")
]


# Groups of options that go together: {name: (annotation, default)}

Group = dict[str, tuple[Any, Any]]
_Word, _Words = str | None, list[str] | None


def group(*rows: tuple[str, Any, Any, str | None, str]) -> Group:
    """Options of (name, type, default, metavar, help)."""
    return {
        name: (Annotated[kind, typer.Option(option_name(name), metavar=metavar, help=help)], default)
        for name, kind, default, metavar, help in rows
    }


ABOUT = group(
    ("validation", str, "auto", None, "auto, a fraction of the rows, or data."),
    ("labels", _Word, None, None, LABELS),
    ("drop", _Words, None, "COLUMN", "Leave a column out (repeat for more)."),
    ("column", _Words, None, "NAME=KIND", "What a column is, instead of what was seen (repeat for more)."),
    ("schema", _Word, None, "FILE", "Kinds of columns, as `latens schema --out` writes them."),
    ("condition", _Words, None, "COLUMN", "Given, not modelled: a column, or label (repeat for more)."),
    ("rule", _Words, None, "RULE",
     'What holds in every row: "start <= end", "total = net + tax", "city -> country", "sex & title" (no combinations '
     'but those there are), "dose missing where drug = none" (repeat for more); none: those found are not kept.'),
    ("split", _Word, None, "KIND=COLUMN", "Which rows are held out: group=, time= or stratified=COLUMN."),
    ("kind", str, "auto", None, "Of an array: auto, continuous, binary, levels or count."),
    ("layout", str, "auto", None, "Of an array: auto, vector, TC (sequences), HW, HWC or CHW."),
)  # fmt: skip
READING = group(
    ("encoding", _Word, None, None, "Of a csv that is not UTF-8: cp1252, latin-1 …"),
    ("format", _Words, None, "COLUMN=FORM",
     "How a column of text is written: %d/%m/%Y, day-first, month-first, 1.234,5 or text (repeat for more)."),
    ("na", _Words, None, "TEXT", 'A text that means missing (repeat for more); "": empty cells alone.'),
    ("size", _Word, None, "HxW", "Size that images of a folder are brought to."),
    ("skip_bad", bool, False, None, "Leave out images that cannot be decoded."),
    ("pages", bool, False, None, "Make each page of a TIFF, each frame of a GIF, WebP or PNG a row of its own."),
    ("layer", _Word, None, None, "Of an .h5ad: a layer, X or raw/X."),
)  # fmt: skip
TRAINING: Group = {each.name: trained_with(each) for each in fields(Settings) if each.name not in INNER}
GROUPS = {"about": ABOUT, "reading": READING, "settings": TRAINING}
TITLES = {
    "Output": ("out", "quiet"), "Model": ("recipe", "latent_dim", "start"),
    "Data": (*ABOUT, *READING, "stream", "weights"), "Training": (*TRAINING,),
    "Runs": ("grid", "seeds", "nll", "resume"),
}  # fmt: skip


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of each group that one of its parameters is called after, or those of them that the
    parameter's default names: it gets them as a mapping."""
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
    """The command with these words, whose work is the function of its name in :mod:`latens.cli.commands`, imported
    when it runs. What is said ``about`` the data goes there with the words of reading."""

    @wraps(declared)
    def command(*, as_json: bool = False, **given: Any) -> Any:
        from latens.cli import commands

        if "reading" in given and "about" not in given:
            given["reading"] = commands.reading(given["reading"])
        return getattr(commands, declared.__name__)(**given)

    return command


# Commands


class OpenCommand(TyperCommand):
    """A command that takes the options of any recipe (or kind of density) beside its own; they end up in
    ``context.meta["recipe"]``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
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


class FitCommand(OpenCommand):
    """An open command whose help has titles."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        titled: dict[str, list[Any]] = {title: [] for title in ("Arguments", *TITLES, "Options")}
        for parameter in self.get_params(ctx):
            title = "Arguments" if parameter.param_type_name == "argument" else "Options"
            title = next((title for title, names in TITLES.items() if parameter.name in names), title)
            if (record := parameter.get_help_record(ctx)) is not None:
                titled[title].append(record)
        for title, records in titled.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def recipe_options(context: typer.Context, recipe: str, latent_dim: Any) -> dict[str, Any]:
    """The options of the recipe that were given; ``InputError`` for one that neither the command nor the recipe has,
    with the nearest that one of them has."""
    from latens import recipes

    options = dict(context.meta["recipe"]) | ({} if latent_dim is None else {"latent_dim": latent_dim})
    valid = [option_name(name) for name in recipes.options(recipes.find(recipe))]
    own = [name for p in context.command.params for name in p.opts if name.startswith("--")]
    for name in map(option_name, options):
        if name not in valid:
            others = [other for other, function in recipes.CATALOGUE.items() if name[2:] in recipes.options(function)]
            hint = f" (one of the recipe {' and '.join(others)})" if others else nearest(name, own + valid)
            raise InputError(
                f"unknown option {name}{hint}; the recipe {recipe!r} has {', '.join(valid) or 'none'}, and "
                f"`latens {context.command.name or 'fit'} --help` lists those of every fit"
            )
    require_values(options)
    return options


def own_of_resumed(context: typer.Context, where: str) -> str | None:
    """The user's own recipe that goes with --resume; ``InputError`` where anything else does."""
    given = [name for name in context.params if (source := context.get_parameter_source(name)) is not None
             and source.name == "COMMANDLINE" and name not in ("resume", "quiet")]  # fmt: skip
    for name in (*(name for name in given if name != "recipe"), *context.meta["recipe"]):
        raise InputError(
            f"--resume takes everything from {where}: leave {option_name(name)} away, or {context.command.name} anew"
        )
    return context.params["recipe"] if "recipe" in given else None


def require_values(options: dict[str, Any]) -> None:
    """``InputError`` for an option without a value."""
    for name, value in options.items():
        if value is _NO_VALUE:
            raise InputError(f"the option {option_name(name)} needs a value")


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
