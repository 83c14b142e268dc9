"""Folders of tables: the files below a folder, their format, and the columns that partitions name.

Partitions are folders named ``KEY=VALUE``, as Hive, Spark, DuckDB, pandas and polars write them: each key is a column
after the columns of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from latens.data.array_files import files_below
from latens.data.tables.types import shown
from latens.errors import InputError
from latens.schema.arrow import listed, pa

Keys = Mapping[str, "str | None"]  # key and value of each partition that a file is in; None for a missing value

TEXT = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")  # the compressed forms of text files
FEATHER = (".feather", ".arrow", ".ipc")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def kind_of(name: str, text: tuple[str, ...] = TEXT) -> str | None:
    """The format that a file's name stands for, "csv", "parquet" or "feather"; None if it is not a table.

    >>> kind_of("a.tsv.gz"), kind_of("A.Parquet"), kind_of("a.gz")
    ('csv', 'parquet', None)
    """
    lower = name.lower()
    plain = next((lower.removesuffix(suffix) for suffix in PACKED if lower.endswith(suffix)), lower)
    if plain.endswith(text) or (lower.endswith(".zip") and text is TEXT):
        return "csv"
    return "parquet" if lower.endswith(".parquet") else "feather" if lower.endswith(FEATHER) else None


def is_shown(name: str) -> bool:
    """Whether neither the file nor a folder on its path is hidden."""
    return not any(part.startswith((".", "_")) for part in name.split("/"))


def tables_below(root: Path) -> tuple[str, list[str]]:
    """(format, names) of the files that make up the table in a folder; ("", []) if there are none. The only text files
    that count are .csv, .tsv and .tab, because a .txt may be anything.

    Raises:
        InputError: the files have several formats, the folder is a Delta table, or it cannot be read.
    """
    kinds: dict[str, list[str]] = {}
    for name in files_below(root):
        if kind := kind_of(name, TEXT[:3]):
            kinds.setdefault(kind, []).append(name)
    if len(kinds) > 1:
        (first, *_), (other, *_) = list(kinds.values())[:2]
        what = f"{root} holds {first} and {other}, but the files of a table must have one format"
        raise InputError(what, "keep only files of one format in the folder")
    if kinds and (root / "_delta_log").is_dir():
        raise InputError(f"{root} is a Delta table, and some of its files may be outdated", "save it as Parquet")
    return next(iter(kinds.items()), ("", []))


def holds_tables(root: Path) -> bool:
    """Whether a folder is read as a table; a folder of images may also hold text about them."""
    from latens.data.images.folder import EXTENSIONS

    names = files_below(root)
    kinds = {kind_of(name, TEXT[:3]) for name in names} - {None}
    return bool(kinds) and not (kinds == {"csv"} and any(name.lower().endswith(EXTENSIONS) for name in names))


def left_out(path: Path) -> list[str]:
    """A note on the files in a folder of tables that are not tables, if there are any."""
    inside = set(tables_below(path)[1]) if os.path.isdir(path) else set()
    others = [name for name in files_below(path) if name not in inside] if inside else []
    return [f"{path}: left out what is not a table ({listed(others, 3)})"] if others else []


def keys_of(name: str) -> Keys:
    """The partitions of a file, by its path relative to the folder of the table.

    >>> keys_of("year=2021/city=a%20b/kind=__HIVE_DEFAULT_PARTITION__/part-0.parquet")
    {'year': '2021', 'city': 'a b', 'kind': None}
    """
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    return {unquote(k): None if v in ("", _NULL) else unquote(v) for k, equals, v in pairs if k and equals}


def key_columns(keys: Sequence[Keys], files: Sequence[Any], stored: Iterable[str]) -> dict[str, pa.Array]:
    """The columns that partitions name and the files do not store: for each, one value per file, a whole number, a date
    or a word. ``InputError`` if a file is partitioned by other keys than the first file."""
    for file, own in zip(files, keys):
        if list(own) != list(keys[0]):
            there, here = (", ".join(found) or "none" for found in (keys[0], own))
            what = f"{file} is in partitions by {here}, but {files[0]} is in partitions by {there}"
            raise InputError(what, "partition all files by the same keys")
    left = [name for name in (keys[0] if keys else ()) if name not in set(stored)]
    return {name: _typed([own[name] for own in keys]) for name in left}


def _typed(values: list[str | None]) -> pa.Array:
    there = [value for value in values if value is not None]
    if not there:
        return pa.nulls(len(values))
    for pattern, type in ((r"[+-]?\d{1,18}", pa.int64()), (r"\d{4}-\d\d-\d\d", pa.date32())):
        if all(re.fullmatch(pattern, value, re.ASCII) for value in there):
            cells = [v if v is None or type != pa.int64() else str(int(v)) for v in values]
            try:
                return pa.array(cells, pa.string()).cast(type)
            except pa.ArrowInvalid:  # not a day of the calendar
                break
    return pa.array(values, pa.string())


def with_keys(table: pa.Table, names: Sequence[str], keys: Mapping[str, pa.Array], file: int) -> pa.Table:
    """The columns ``names``, in this order, from a table and from the partitions of its file."""
    columns = [pa.repeat(keys[n][file], len(table)) if n in keys else table.column(n) for n in names]
    fields = [pa.field(n, keys[n].type) if n in keys else table.schema.field(n) for n in names]
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def same_columns(files: Sequence[Any], names: Sequence[Sequence[str]]) -> None:
    """Raise ``InputError`` unless all files have the columns of the first, in any order."""
    for file, own in zip(files[1:], names[1:]):
        for has, lacks, there, where in ((files[0], file, names[0], own), (file, files[0], own, names[0])):
            if missing := [name for name in there if name not in set(where)]:
                columns = f"column{'s' * (len(missing) > 1)} {listed([shown(name) for name in missing])}"
                raise InputError(f"{lacks} lacks {columns}, which {has} has", "all files need the same columns")
