"""What the user says of the data, from words: kinds of columns, options of reading; and the schema that comes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from latens.cli.commands.answer import Answer
from latens.cli.commands.fitting import Fit
from latens.cli.commands.sources import reading as read_as
from latens.data import Source
from latens.errors import InputError
from latens.machine.atomic import writable, write_text
from latens.schema import Table


def kinds_asked(words: list[str] | None, file: str | None) -> dict[str, str]:
    """{column: kind} of a schema file and of "NAME=KIND" words, which come after it; the last equals sign before the
    kind cuts, so that a name may hold one."""
    found = {} if file is None else _of_file(file)
    named = set()
    for word in words or []:
        match = re.fullmatch(r"(.+)=([a-z_]+(:.*)?)", word, re.DOTALL)
        if not match:
            raise InputError(f"--column must be NAME=KIND, for example price=positive, got {word!r}")
        if match[1] in named:
            raise InputError(f"--column names {match[1]!r} twice; say it once")
        named.add(match[1])
        found[match[1]] = match[2]
    return found


def _of_file(file: str) -> dict[str, str]:
    try:
        values = json.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON ({error}); write one with `latens schema DATA --out {file}`") from None
    good = isinstance(values, dict) and all(isinstance(kind, str) for kind in values.values())
    if not good:
        raise InputError(f'{file} must hold an object of columns and kinds, for example {{"price": "positive"}}')
    return values


def asked(data: str, out: str, about: dict[str, Any], words: dict[str, Any], **more: Any) -> Fit:
    """What the words of the command line ask for; ``about`` the data, ``words`` of reading them."""
    kinds = kinds_asked(about["column"], about.get("schema"))
    lists = {"drop": about["drop"], "condition": about["condition"], "rules": about["rule"]}
    more |= {name: tuple(values or ()) for name, values in lists.items()}
    more |= {name: about[name] for name in ("validation", "labels", "split", "kind", "layout") if name in about}
    return Fit(data, out, columns=kinds, reading=read_as(words, kinds), **more)


def schema(data: str, *, about: dict[str, Any], reading: dict[str, Any], out: str | None = None) -> Answer:
    """Show the schema that `latens fit` would use; write it, to be edited."""
    if out is not None:
        writable(out)
    fit = asked(data, "", about, reading)
    source = fit.read()
    rows = fit.rows(source)
    found = rows.schema
    notes = list(source.notes) if isinstance(source, Source) else []
    if isinstance(found, Table):
        notes += [field.remark for field in found.fields if field.remark]
    text = "\n".join([f"{source.origin}, {len(rows):,} rows", found.describe(), *(f"note: {note}" for note in notes)])
    if out is not None:
        if not isinstance(found, Table):
            raise InputError(f"{data} is an array of one kind of values; a schema file is for tables of columns")
        write_text(out, json.dumps({f.name: _spec(f) for f in found.fields}, indent=1) + "\n")
        text += f"\nwrote {out}"
    return Answer(
        text, {"data": source.origin, "rows": len(rows), "schema": found.to_json(), "notes": notes}
    )


def _spec(field: Any) -> str:
    """The words by which a column would be asked for as it is."""
    if field.kind == "bounded":
        return f"bounded:{field.low!r}:{field.high!r}"
    if field.kind in ("identifier", "text", "missing"):
        return "drop"
    if field.kind == "ordered":
        return "ordered:" + ",".join(str(level) for level in field.levels)
    return field.family if field.family and field.family != "ordinal" else field.kind
