"""What pages hold that is written from the code: commands with their options, and the settings of training.

``<!-- generated -->`` in a page is replaced before it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

MARK = "<!-- generated -->"


def in_words(text: str) -> str:
    """A help text as Markdown: what the user writes stands as code."""
    return re.sub(r"(?<![`\w-])(--?[a-z][\w-]*(?:[= ][A-Z]+)?)(?![`\w-])", r"`\1`", " ".join(text.split()))


def commands() -> str:
    """Each command: how it is called, what it does, its options under the titles of its help."""
    from typer.main import get_command

    from latens.cli.main import app

    parts = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        context = command.context_class(command, info_name=f"latens {name}")
        usage = " ".join(command.collect_usage_pieces(context)).replace("[[", "[").replace("]]", "]")
        parts += [f"## latens {name}", f"```text\nlatens {name} {usage}\n```", in_words(command.help or "")]
        for title, parameters in titled(command):
            parts += [f"**{title}**" if title else "", *(written(parameter, context) for parameter in parameters)]
    return "\n\n".join(filter(None, parts))


def titled(command: Any) -> list[tuple[str, list[Any]]]:
    """The parameters of a command under titles; of one without, together."""
    from latens.cli.options import TITLES, FitCommand

    if not isinstance(command, FitCommand):
        return [("", command.params)]
    place = {name: title for title, names in TITLES.items() for name in names}
    found: dict[str, list[Any]] = {title: [] for title in ("Arguments", *TITLES)}
    for parameter in command.params:
        found[place.get(parameter.name, "Arguments")].append(parameter)
    return [(title, parameters) for title, parameters in found.items() if parameters]


def written(parameter: Any, context: Any) -> str:
    """A parameter as its line of the help is: names with what stands for a value, what it does."""
    names, text = parameter.get_help_record(context)
    return f"`{names}`\n: {in_words(text)}"


def settings() -> str:
    """The fields of ``Settings``: default, help, values."""
    from latens.training.settings import Settings

    parts = []
    for each in fields(Settings):
        text, values = in_words(each.metadata["help"]), each.metadata["values"].words
        parts.append(f"`{each.name} = {each.default!r}`\n: {text} Values: {values}.")
    return "\n\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {"reference/commands": commands, "reference/settings": settings}


def read(app: Any, name: str, source: list[str]) -> None:
    if name in PAGES:
        source[0] = source[0].replace(MARK, PAGES[name]())


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
