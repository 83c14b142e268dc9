"""The words that commands share, and the options of ``latens fit``: its own, and beside them those of any recipe."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from latens.errors import InputError

_NO_VALUE = object()


# Words that several commands share


def importable(recipe: str | None) -> str | None:
    """A recipe of one's own may lie in the working directory, as with ``python -m``."""
    if recipe is not None and ":" in recipe and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return recipe


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
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run made by `latens fit`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Out = Annotated[
    str, typer.Option("--out", metavar="FILE", help="The file to write: .npy .npz .csv .tsv .parquet .feather.")
]
Labels = Annotated[str | None, typer.Option(help="Labels for the pictures: a column, a key of the .npz, or a file.")]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", metavar="COLUMN", help="Leave a column out (repeat for more).")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=KIND", help="What a column is, instead of what was seen (repeat for more)."),
]
Condition = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="COLUMN", help="Given, not modelled: a column, or label (repeat for more)."),
]
Kind = Annotated[str, typer.Option(help="Of an array: auto, continuous, binary, levels or count.")]
Layout = Annotated[str, typer.Option(help="Of an array: auto, vector, TC (sequences), HW, HWC or CHW.")]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="Size that images of a folder are brought to.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")]
Pages = Annotated[
    bool, typer.Option("--pages", help="Make each page of a TIFF, each frame of a GIF, WebP or PNG a row of its own.")
]
Encoding = Annotated[str | None, typer.Option(help="Of a csv that is not UTF-8: cp1252, latin-1 …")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format", metavar="COLUMN=FORM",
        help="How a column of text is written: %d/%m/%Y, day-first, month-first, 1.234,5 or text (repeat for more).",
    ),
]
Na = Annotated[
    list[str] | None,
    typer.Option("--na", metavar="TEXT", help='A text that means missing (repeat for more); "": empty cells alone.'),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule", metavar="RULE",
        help='What holds in every row: "start <= end", "total = net + tax", "city -> country", "dose missing where '
        'drug = none" (repeat for more); none: those found in the data are not kept.',
    ),
]
Layer = Annotated[str | None, typer.Option(help="Of an .h5ad: a layer, X or raw/X.")]
READING: dict[str, Any] = {
    "encoding": Encoding, "format": Format, "na": Na, "size": Size, "skip_bad": SkipBad, "pages": Pages, "layer": Layer,
}  # fmt: skip


def reads(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of how data are read, in the place of its parameter ``reading``: it gets them as a
    mapping of those that were given."""
    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, keyword, default=False if kind.__origin__ is bool else None, annotation=kind)
        for name, kind in READING.items()
    ]
    parameters = []
    for parameter in own.parameters.values():
        parameters += options if parameter.name == "reading" else [parameter.replace(kind=keyword)]

    @wraps(command)
    def with_options(**given: Any) -> Any:
        reading = {name: value for name in READING if (value := given.pop(name))}
        return command(**given, reading=reading)

    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


SchemaFile = Annotated[
    str | None, typer.Option("--schema", metavar="FILE", help="Kinds of columns, as `latens schema --out` writes them.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
OwnRecipe = Annotated[
    str | None,
    typer.Option("--recipe", callback=importable, help="Your own recipe's package:function, for a run made by it."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]


def or_auto(kind: type, noun: str, metavar: str, text: str | None = None) -> Any:
    """An option whose value is "auto" or a number of that kind."""

    def parsed(value: str) -> Any:
        try:
            return value if value == "auto" else kind(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is neither 'auto' nor {noun}") from None

    return typer.Option(parser=parsed, metavar=metavar, help=text)


Auto = or_auto(int, "a whole number", "N|auto")
Rate = or_auto(float, "a number", "RATE|auto", "Peak of the schedule.")


# Options of fit, shared with sweep

Split = Annotated[
    str | None,
    typer.Option(metavar="KIND=COLUMN", help="Which rows are held out: group=, time= or stratified=COLUMN."),
]
RecipeName = Annotated[
    str, typer.Option(callback=importable, help="A name from `latens recipes`, or package:function.")
]
ToFit = Annotated[str | None, typer.Argument(metavar="[DATA]", help="Data to fit (not with --resume).")]
Validation = Annotated[str, typer.Option(help="auto, a fraction of the rows, or data.")]
AsStream = Annotated[
    bool, typer.Option("--stream", help="Read the data a block at a time, as data larger than memory are.")
]
From = Annotated[str | None, typer.Option("--from", metavar="RUN", help="Start from another run's weights.")]
Warmup = Annotated[float, typer.Option(help="Fraction of the steps over which the rate's weight grows.")]
Average = Annotated[float, typer.Option(help="Decay of averaged weights; 0: none.")]
Decay = Annotated[float, typer.Option(help="AdamW's, on weights of linear and convolutional maps.")]
Clip = Annotated[float, typer.Option(help="Largest norm of the gradient; 0: none.")]
SkipNorm = Annotated[float, typer.Option(help="Norm of the gradient from which an update is left out; 0: none.")]
Keep = Annotated[str, typer.Option(help="The weights served: auto, best (by validation) or last.")]
Checkpoints = Annotated[
    float, typer.Option(min=0, help="Seconds between checkpoints; 0: every step.")
]


# Options of fit


class FitCommand(TyperCommand):
    """``fit`` takes the options of any recipe beside its own; they end up in ``context.meta["recipe"]``."""

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


def given_options(context: typer.Context, besides: tuple[str, ...] = ()) -> list[str]:
    """The names of what was given on the command line and not left at its default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE" and name not in besides]


def option_name(name: str) -> str:
    """A parameter as the user writes it."""
    return {"data": "DATA", "start": "--from"}.get(name, "--" + name.replace("_", "-"))


def check_options(context: typer.Context, recipe: str, options: dict[str, Any]) -> None:
    """``InputError`` for an option that neither ``fit`` nor the recipe has, with the nearest that one of them has."""
    from latens import recipes

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


def require_values(options: dict[str, Any]) -> None:
    """``InputError`` for an option without a value."""
    for name, value in options.items():
        if value is _NO_VALUE:
            raise InputError(f"the option {option_name(name)} needs a value")


def nearest(name: str, valid: list[str]) -> str:
    """(did you mean …?) where one of the valid names is near."""
    near = difflib.get_close_matches(name, valid, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
