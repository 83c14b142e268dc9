"""The parts of pages that are generated from the code: commands with their options, and the settings of training.

``<!-- generated -->`` in a page is replaced before it is read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

MARK = "<!-- generated -->"


def in_words(text: str) -> str:
    """A help text as Markdown, with the user's input as code."""
    return re.sub(r"(?<![`\w-])(--?[a-z][\w-]*(?:[= ][A-Z]+)?)(?![`\w-])", r"`\1`", " ".join(text.split()))


class Help:
    """A replacement for click's formatter: it writes the options in a command's help as Markdown."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @contextlib.contextmanager
    def section(self, title: str) -> Iterator[None]:
        self.parts.append(f"**{title}**")
        yield

    def write_dl(self, rows: list[tuple[str, str]], *args: Any, **options: Any) -> None:
        self.parts += [f"`{names}`\n: {in_words(text)}" for names, text in rows]


def commands() -> str:
    """For each command: its usage, what it does, and its options under the titles of its help."""
    from typer.main import get_command

    from latens.cli.main import app

    parts = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        context, help = command.context_class(command, info_name=f"latens {name}"), Help()
        usage = " ".join(command.collect_usage_pieces(context)).replace("[[", "[").replace("]]", "]")
        command.format_options(context, help)
        parts += [f"## latens {name}", f"```text\nlatens {name} {usage}\n```"]
        parts += [in_words(command.help or ""), *help.parts]
    return "\n\n".join(parts)


def settings() -> str:
    """The fields of ``Settings``, with default, help and values."""
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
