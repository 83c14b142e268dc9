"""What the user says of the data, from words: kinds of columns, options of reading; and the schema that comes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from latens.cli.commands.answer import Answer
from latens.cli.commands.fitting import Fit
from latens.data import Source
from latens.data.images.pixels import MAX_SIDE
from latens.data.tables.kinds import levels_named
from latens.errors import InputError
from latens.machine.atomic import writable, write_text
from latens.schema import Table

TEXT = ("binary", "categorical", "ordered")


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


def reading(words: dict[str, Any], kinds: dict[str, str] | None = None) -> dict[str, Any]:
    """The options of reading (see :func:`latens.data.read`) that the words of the command line ask for, and the kinds
    of columns."""
    found: dict[str, Any] = {name: words[name] for name in ("skip_bad", "pages", "encoding", "layer") if words[name]}
    if size := words["size"]:
        match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", size.strip())
        sides = [int(match[1]), int(match[2] or match[1])] if match else [0]
        if not all(1 <= side <= MAX_SIDE for side in sides):
            raise InputError(
                f"--size must be HEIGHTxWIDTH in pixels, each from 1 to {MAX_SIDE:,}, for example 64x48, got {size!r}"
            )
        found["size"] = sides
    parts = {name: kind.partition(":")[::2] for name, kind in (kinds or {}).items()}
    text = [name for name, (kind, _) in parts.items() if kind in TEXT]
    named = {name: levels_named(rest) for name, (kind, rest) in parts.items() if kind in TEXT and rest}
    more = {"text": text, "levels": named, "formats": _formats(words["format"]), "na": words["na"]}
    return found | {name: values for name, values in more.items() if values}


def asked(data: str, out: str, about: dict[str, Any], words: dict[str, Any], **more: Any) -> Fit:
    """What the words of the command line ask for; ``about`` the data, ``words`` of reading them."""
    kinds = kinds_asked(about["column"], about.get("schema"))
    lists = {"drop": about["drop"], "condition": about["condition"], "rules": about["rule"]}
    more |= {name: tuple(values or ()) for name, values in lists.items()}
    more |= {name: about[name] for name in ("validation", "labels", "split", "kind", "layout") if name in about}
    return Fit(data, out, columns=kinds, reading=reading(words, kinds), **more)


def _formats(words: list[str] | None) -> dict[str, str]:
    """{column: form} of "COLUMN=FORM" words."""
    found: dict[str, str] = {}
    for word in words or []:
        name, equals, form = word.partition("=")
        if not (equals and name and form):
            raise InputError(f"--format must be COLUMN=FORM, for example when=%d/%m/%Y, got {word!r}")
        if name in found:
            raise InputError(f"--format names {name!r} twice: say it once")
        found[name] = form
    return found


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
