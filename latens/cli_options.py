"""The options of ``latens fit``: its own, and beside them those of any recipe."""

from __future__ import annotations

import difflib
from typing import Any

import typer
from typer.core import TyperCommand

from latens.errors import InputError

_NO_VALUE = object()


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
        if name in valid:
            if options[name[2:].replace("-", "_")] is _NO_VALUE:
                raise InputError(f"the option {name} needs a value")
        else:
            others = [other for other, function in recipes.CATALOGUE.items() if name[2:] in recipes.options(function)]
            hint = f" (one of the recipe {' and '.join(others)})" if others else nearest(name, own + valid)
            raise InputError(
                f"unknown option {name}{hint}; the recipe {recipe!r} has {', '.join(valid) or 'none'}, and "
                "`latens fit --help` lists those of every fit"
            )


def nearest(name: str, valid: list[str]) -> str:
    """ (did you mean …?) where one of the valid names is near."""
    near = difflib.get_close_matches(name, valid, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
