"""The data for a run: the run's own data, read again, or other data, put into the run's columns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from latens.data import Source, columns_of, read, streams, tables
from latens.data.rows import LABEL, Rows, columns_left, known_columns, rows_like, with_kept
from latens.data.sources import check_reading, option_of
from latens.data.splits import Split, split_rows
from latens.data.streams.sources import AsTable, Stream, StreamOrder, is_large, open_stream, stored_names, unpacked
from latens.data.streams.text import READ_WHOLE, TextStream, ValueStream, Whole
from latens.data.tables.files import bytes_of_text
from latens.data.tables.reading import Hints
from latens.errors import InputError, concerning, nearest
from latens.machine.launcher import is_first
from latens.runs import record as runs
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import AnySchema, Table
from latens.schema.arrow import listed

AnySource: TypeAlias = Source | Stream
AnyRows: TypeAlias = "Rows | streams.survey.Streamed"
TEXT = ("binary", "categorical", "ordered")
FLAT = 1 << 24  # data of more bytes than this are streamed if the output is a file


def reading(words: dict[str, Any], kinds: dict[str, str] | None = None) -> dict[str, Any]:
    """The options of :func:`latens.data.read` that the command line (``words``) and the columns' kinds imply."""
    parts = {name: kind.partition(":")[::2] for name, kind in (kinds or {}).items()}
    text = {name: rest for name, (kind, rest) in parts.items() if kind in TEXT}
    found = {name: words[name] for name in ("skip_bad", "pages", "encoding", "layer")} | {
        "size": _sides(words["size"]), "text": [*text],
        "levels": {name: tables.kinds.levels_named(rest) for name, rest in text.items() if rest},
        "formats": pairs(words["format"], "--format", "COLUMN=FORM, for example when=%d/%m/%Y"), "na": words["na"],
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _sides(size: str | None) -> list[int] | None:
    """[height, width] from "64x48" or "64"."""
    if not size:
        return None
    from latens.data.images.pixels import MAX_SIDE

    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", size.strip())
    sides = [int(match[1]), int(match[2] or match[1])] if match else [0]
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise InputError(
            f"--size must be HEIGHTxWIDTH in pixels, each from 1 to {MAX_SIDE:,}, for example 64x48, got {size!r}"
        )
    return sides


def pairs(
    words: Sequence[str] | None, option: str, form: str, *, says: str = "names", empty: bool = False
) -> dict[str, str]:
    """{name: value} of an option's NAME=VALUE words.

    Args:
        words: the values of the option.
        option: the name of the option, for messages.
        form: the form of a word, for messages.
        says: what the option does with a name, for messages.
        empty: whether a value may be empty.
    """
    found: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not (equals and name and (value or empty)):
            raise InputError(f"{option} must be {form}, got {word!r}")
        if name in found:
            raise InputError(f"{option} {says} {name!r} twice", "pass it once")
        found[name] = value
    return found


def origin_of(record: dict[str, Any], folder: Path) -> AnySource:
    """The data that a run was fitted to, read again and checked against its fingerprint."""
    info = record["data"]
    origin = info.get("origin")
    if not origin or origin == "memory":
        raise InputError(f"{folder} was fitted to data in memory", "name the data to use")
    drop = info.get("drop") or ()
    source: AnySource
    with concerning(f"the data of {folder} cannot be read again"):
        if info.get("stream"):
            source = blocks_of(origin, drop, info.get("reading") or {}, StreamOrder.from_json(info["stream"]))
        else:
            source = read(origin, labels=info.get("labels"), drop=drop, reading=info.get("reading"))
    if source.fingerprint != info.get("fingerprint"):
        raise InputError(f"{origin} has changed since {folder} was fitted to it", "name the data to use, or fit again")
    return source


def blocks_of(
    data: str, drop: Sequence[str], reading: Mapping[str, Any], order: StreamOrder | None = None
) -> Stream:  # fmt: skip
    """Data for a fit as a stream: Parquet, .npy or plain text; ``InputError`` for other data."""
    if not bytes_of_text(data):
        return open_stream(data, drop=drop, order=order, na=reading.get("na"))
    tables.types.chosen(columns_of(data, reading), drop, None, data)
    try:
        if not reading.get("encoding"):
            return ValueStream(data, Hints.of(reading), drop=drop, order=order)
    except Whole:
        pass
    raise InputError(f"{data} cannot be streamed, as its cells can only be understood from the whole file", READ_WHOLE)


def rows_for(source: Source, schema: AnySchema, given: Table | None, *, check: bool = True) -> Rows:
    """The source's rows in the columns of a schema; ``InputError`` for rows that do not fit."""
    with concerning(source.origin):
        rows = rows_like(
            source.x, schema, given, names=source.names, labels=source.labels, label_names=source.label_names,
            where=source.origin, found=source.found, check=check,
        )  # fmt: skip
        return replace(rows, row_names=source.row_names, row_kind=source.row_kind)


def again(record: dict[str, Any], folder: Path) -> tuple[AnySource, AnyRows]:
    """(source, rows) of the data that a run was fitted to. The rows of a stream include the held-out rows, unless these
    came from other data."""
    source, info = origin_of(record, folder), record["data"]
    with concerning(folder):
        schema, given = runs.schemas(record)
        if schema is None:
            raise InputError("the run was made from your own parts", "continue it with latens.train(…, resume=True)")
        if not isinstance(source, Stream):
            return source, rows_for(source, schema, given)
        validation = 0.0 if info.get("validation_origin") else info.get("validation", "auto")
        seed = int(record["training"]["seed"])
        with reading_bar(source) as seen:
            return source, streams.survey.survey(
                source, validation=validation, seed=seed, schema=schema, given=given, seen=seen
            )


def reading_bar(stream: Stream) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar for reading the rows of a stream."""
    return row_bar(f"reading {Path(stream.origin).name}", stream.rows)


@contextmanager
def row_bar(title: str, rows: int, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar of the rows done, on stderr if it is a terminal; there is none with ``quiet``."""
    if quiet or not is_first():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=rows)
        yield lambda done: bar.update(task, completed=done)


def split_of(source: AnySource, asked: str | None, labels: str | None = None) -> Split | None:
    """The split that "group=COLUMN", "time=COLUMN" or "stratified=COLUMN" names. COLUMN may also be the column that
    ``labels`` takes out of the table, or "label"."""
    if asked is None:
        return None
    if isinstance(source, Stream):
        raise InputError(f"--split {asked}: rows of a stream are held out at random", "omit --split")
    kind, equals, name = asked.partition("=")
    if not equals or not name:
        raise InputError(f"--split must be group=COLUMN, time=COLUMN or stratified=COLUMN, got {asked!r}")
    if source.is_table and name in source.x.column_names:
        return Split.of(kind, source.x.column(name), name)
    if name in (LABEL, labels) and source.labels is not None:
        values = np.asarray(source.labels)
        if kind == "time" and source.label_names:
            values = np.asarray(source.label_names)[values]
        return Split.of(kind, values, name)
    there = list(source.x.column_names) if source.is_table else [LABEL] * (source.labels is not None)
    raise InputError(f"--split {asked}: {source.origin} has no column {name!r}", f"it has {listed(there) or 'none'}")


def _split(source: AnySource, data: dict[str, Any]) -> Split | None:
    """The split that a run's record names."""
    return split_of(source, data.get("split"), data.get("labels"))


def held_out(run: Run, rows: AnyRows, validation: Any, split: Split | None = None) -> Rows:
    """The held-out rows. If there are none: all rows, or the sample of a stream."""
    if isinstance(validation, Rows):
        return validation
    if isinstance(rows, streams.survey.Streamed):
        return rows.seen if rows.held is None else rows.held
    _, numbers = split_rows(len(rows), validation, run.settings.seed, split)
    return rows.take(numbers.numpy()) if len(numbers) else rows


def held_out_of(run: Run, folder: str) -> tuple[Rows, str]:
    """(the held-out rows of a finished run, or all rows if there are none; a description of these rows)."""
    origin = run.data.get("validation_origin")
    if origin:
        origin_of(runs.read_record(folder), Path(folder))
        return data_for(run, origin), origin
    source, rows = again(runs.read_record(folder), Path(folder))
    held = held_out(run, rows, run.data.get("validation", "auto"), _split(source, run.data))
    if held is in_memory(rows):
        return held, "the rows it was fitted to" if held is rows else "rows it was fitted to"
    return held, "held-out rows of the data it was fitted to"


def in_memory(rows: AnyRows) -> Rows:
    """The rows, or for a stream its sample."""
    return rows.seen if isinstance(rows, streams.survey.Streamed) else rows


def trained_on(run: Run, folder: str) -> Rows:
    """The training rows of a run, read again; for a stream, a sample of them."""
    source, rows = again(runs.read_record(folder), Path(folder))
    validation = run.data.get("validation", "auto")
    if isinstance(rows, streams.survey.Streamed) or validation == "given":
        return in_memory(rows)
    split = _split(source, run.data)
    return rows.take(split_rows(len(rows), validation, run.settings.seed, split)[0].numpy())


def read_for(
    run: Run, data: str, labels: str | None = None, asked: Mapping[str, Any] | None = None, *, lenient: bool = False
) -> Source:
    """Data for a run, read as the fit's data were, except for the options of reading in ``asked``.

    If the data are a table, only the run's columns are read, so other columns may contain anything. Notes name the
    omitted columns. For ``lenient``, see :func:`latens.data.read`.
    """
    check_reading(asked or {}, [data])
    reading = run.reading_of(asked)
    names, schema = columns_of(data, reading), schema_of(run)
    known, gone = known_columns(schema), {*(run.data.get("drop") or ()), run.data.get("labels")}
    there = known & set(names)
    if there:
        require_there(schema, names, data)
    if labels is None and _is_label_column(run, names):
        labels = str(run.data["labels"])
    elif labels in there:
        raise InputError(f"--labels {labels} would remove a column that the model reads", "omit --labels")
    spare = (set(names) - known if there else gone) - {"", labels}
    drop = [name for name in names if name in spare]
    like = schema.fields if isinstance(schema, Table) else ()
    source = read(
        data, labels=labels, drop=drop, reading=reading, like=like, lenient=lenient, keep_text=True, index=True
    )
    noted = () if source.is_table else source.notes
    left = columns_left([name for name in drop if name not in gone], source.origin)
    return replace(source, notes=(*noted, *left))


def require_there(schema: AnySchema, names: Sequence[str], where: str) -> None:
    """Raise ``InputError`` if a column that the model reads is not among ``names``; the message has the nearest
    name."""
    wanted = (*schema.names, *schema.conditions) if isinstance(schema, Table) else schema.names or ()
    missing = [name for name in wanted if name not in set(names)]
    if missing:
        lower = {name.lower().strip(): name for name in names if name not in wanted}
        near = [lower[word] for word in get_close_matches(missing[0].lower().strip(), lower, 1)]
        others = f" and {len(missing) - 1:,} others of {len(wanted):,}" if len(missing) > 1 else ""
        raise InputError(
            f"{where} has no column {missing[0]!r}{others}, which the model was fitted to (it has {listed(names)})",
            f"rename {near[0]!r} if it is the same" if near else "add the column, with empty cells if need be",
        )


def _is_label_column(run: Run, names: tuple[str, ...]) -> bool:
    """Whether the model reads labels from a column of the table."""
    return _has_labels(run) and run.data.get("labels") in names


def data_for(
    run: Run, data: str, labels: str | None = None, asked: Mapping[str, Any] | None = None, *, check: bool = True,
    keep: Sequence[str] = (),
) -> Rows:  # fmt: skip
    """Rows for a run, with the run's columns in its order. For ``asked``, see :func:`read_for`; for ``check``, see
    :func:`latens.data.rows.rows_like`. The columns ``keep`` stay with the rows."""
    source = read_for(run, data, labels, asked, lenient=not check)
    rows = rows_for(source, schema_of(run), run.given, check=check)
    rows = replace(rows, notes=tuple(dict.fromkeys((*source.notes, *rows.notes))))
    if not keep:
        return rows
    require_kept(keep, columns_of(data, asked), data)
    like = tables.reading.Hints(frozenset(keep))
    kept = tables.files.read_found(data, columns=list(keep), hints=like, encoding=(asked or {}).get("encoding"))
    return with_kept(rows, kept.written(kept.table))


def require_kept(keep: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise ``InputError`` if a column of --keep is not among the ``names`` of the data."""
    for name in keep:
        if name not in names:
            there = f"it has {listed(names)}" if names else "it has no named columns: omit --keep"
            raise InputError(f"--keep: {where} has no column {name!r}{nearest(name, list(names))}", there)


def require_spare(keep: Sequence[str], made: Sequence[str] | None) -> None:
    """Raise ``InputError`` if a column of --keep has the name of a column that the command makes."""
    for name in keep:
        if name in (made or ()):
            raise InputError(f"--keep {name}: the output already has a column {name!r}", "omit it, or rename it")


def stream_for(
    run: Run, data: str, labels: str | None = None, asked: Mapping[str, Any] | None = None, *, lenient: bool = False,
    flat: bool = False, large: bool | None = None, keep: Sequence[str] = (),
) -> Stream | None:  # fmt: skip
    """A stream of data for a run if they are large; otherwise None. Only the run's columns and the columns ``keep`` of
    a table are read. Infinite numbers are allowed only if ``lenient``. With ``flat``, any data of more than 16 MiB are
    streamed, if the result is the same as in memory. ``large`` says whether the data are large; by default the free
    memory decides."""
    asked = asked or {}
    refused = [option_of(key) for key in asked if key != "na"] if labels is None else ["--labels"]
    same = flat and not refused and not _has_labels(run)
    if bytes_of_text(data):
        return _text_of(run, data, asked, lenient, same and not keep)
    if not (same and unpacked(data) > FLAT) and not (is_large(data) if large is None else large):
        return None
    check_reading(asked, [data])
    if refused:
        raise InputError(f"{data} is read as a stream, which takes no {refused[0]}", f"omit {refused[0]}")
    return _opened_for(run, data, asked, lenient, keep)


def _opened_for(run: Run, data: str, asked: Mapping[str, Any], lenient: bool, keep: Sequence[str]) -> Stream:
    schema, names = schema_of(run), stored_names(data)
    if names is None:
        require_kept(keep, (), data)
        stream = open_stream(data)
        return AsTable(stream, [f.name for f in schema.fields]) if isinstance(schema, Table) else stream
    stream = _known_of(run, data, names, run.reading_of(asked).get("na"), keep)
    stream.finite, stream.kept = not lenient, tuple(keep)
    return stream


def _has_labels(run: Run) -> bool:
    """Whether the model is conditioned on labels that are not a column of the schema."""
    return run.given is not None and not isinstance(run.schema, Table)


def _text_of(run: Run, data: str, asked: Mapping[str, Any], lenient: bool, same: bool) -> Stream | None:
    """A stream of the text columns to which a run was fitted. None if the file has at most 16 MiB, or if only the whole
    file shows what its cells mean (the run has no form for a column, or the file is not plain UTF-8)."""
    if not same or bytes_of_text(data) <= FLAT:
        return None
    schema, reading = schema_of(run), run.reading_of(asked)
    fields = schema.fields if isinstance(schema, Table) else ()
    hints = Hints.of(reading).like(fields, lenient)
    names = columns_of(data, reading)
    columns = [name for name in names if name in hints.known]
    spare = {*names} - {*columns} - {*(run.data.get("drop") or ()), run.data.get("labels")}
    if not fields or {*columns} != {field.name for field in fields} or reading.get("encoding"):
        return None
    try:
        stream = TextStream(data, hints, columns=columns)
    except Whole:
        return None
    stream.notes = columns_left([name for name in names if name in spare], stream.origin)
    return stream


def _known_of(run: Run, data: str, names: Sequence[str], na: Any, keep: Sequence[str]) -> Stream:
    """A stream of the columns of a table to which a run was fitted, and of the columns of --keep."""
    schema, known = schema_of(run), known_columns(schema_of(run))
    require_kept(keep, names, data)
    if known & set(names):
        require_there(schema, names, data)
        known = known | set(keep)
    columns = [name for name in names if name in known]
    stream = open_stream(data, columns=columns or None, index=True, na=na)
    dropped = set(run.data.get("drop") or ())
    stream.notes += columns_left([name for name in names if name not in known | dropped], stream.origin)
    return stream


def figures_for(
    run: Run, data: str, labels: str | None = None, asked: Mapping[str, Any] | None = None
) -> tuple[Rows, str]:
    """(the rows on which a run is evaluated: all rows, or a random sample of a stream; a description of these rows)."""
    stream = stream_for(run, data, labels, asked)
    if stream is None:
        return data_for(run, data, labels, asked), data
    with reading_bar(stream) as seen:
        rows = streams.survey.survey(stream, validation=0.0, schema=schema_of(run), given=run.given, seen=seen).seen
    rows = replace(rows, notes=(*stream.notes, *rows.notes))
    return rows, f"{len(rows):,} of the {len(stream):,} rows of {data}, drawn at random"


def absolute(path: str | None) -> str | None:
    """The absolute path of a file, so that a run can be continued from another folder. Other words are unchanged."""
    return os.path.abspath(path) if path is not None and os.path.isfile(path) else path
