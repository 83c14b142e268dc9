"""Decide the parts of an output: one for each file of a folder, row group of a single Parquet file, block of rows of an
.npy file, or thousand images of a folder. The parts depend on the data alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from latens.data.array_files import files_below
from latens.data.images.folder import EXTENSIONS
from latens.data.sources import EMBEDDED
from latens.data.streams.addresses import files_at, fingerprint_files
from latens.data.streams.parquet import ParquetBlocks
from latens.data.streams.sources import NpyStream
from latens.data.tables.folders import TEXT, keys_of, kind_of
from latens.data.writing import FORMATS
from latens.errors import InputError
from latens.schema.arrow import listed

IMAGES = 1000  # images per part


@dataclass(frozen=True)
class Piece:
    """One part of an output.

    Args:
        name: the path of the part's file, relative to the output's folder.
        source: the file or folder from which the part is made; "" for samples.
        fingerprint: the fingerprint of the source (:func:`latens.data.streams.addresses.fingerprint_files`).
        first, stop: the range of blocks of a stream, images of a folder, or samples that it covers; 0 and 0 for a whole
            file.
    """

    name: str
    source: str = ""
    fingerprint: str = ""
    first: int = 0
    stop: int = 0


def parts_of(data: str, arrays: bool, wanted: Sequence[str] = ()) -> tuple[list[Piece], list[str]]:
    """(the parts of an output made of ``data``; notes on files that are left out). ``arrays`` says whether the output
    for an array is an array, and not a table. ``wanted`` are the columns that are read, some of which partitions
    (``year=2021/``) may name."""
    if data in EMBEDDED:
        return [Piece(f"{data}.parquet", data, data)], []
    if "://" in data:
        return _at_address(data, wanted), []
    path = Path(data).expanduser()
    if path.is_dir():
        return _below(path, arrays, wanted)
    if not path.exists():
        raise InputError(f"{path} does not exist", "correct the path of the data")
    return list(_of_file(str(path), arrays)), []


def _at_address(address: str, wanted: Sequence[str]) -> list[Piece]:
    files = files_at(address, ".parquet")
    if any(set(file.keys) & set(wanted) for file in files):
        return list(_partitioned(address))
    if len(files) == 1 and files[0].name.rstrip("/").endswith(address.partition("://")[2].rstrip("/")):
        return list(_row_groups(address))
    return [Piece(_below_address(f.path, address), f.name, fingerprint_files([f.name])) for f in files]


def _below_address(path: str, address: str) -> str:
    """The path of a file below the folder at an address or path.

    >>> _below_address("/sales/year=2021/a.parquet", "memory://sales/")
    'year=2021/a.parquet'
    """
    folder = (address.partition("://")[2] or os.path.abspath(address)).strip("/")
    return os.path.abspath(path).strip("/").removeprefix(f"{folder}/")


def _partitioned(place: str) -> Iterator[Piece]:
    """A part for each file of a folder of Parquet files, given by its range of blocks in the folder as a whole, since
    the keys of partitions are columns of the whole folder and not of a file."""
    blocks = ParquetBlocks(place)
    for number, found in groupby(enumerate(blocks.groups), lambda each: each[1][0]):
        own, file = [block for block, _ in found], blocks.files[number]
        yield Piece(_below_address(file.path, place), place, fingerprint_files([file.name]), own[0], own[-1] + 1)


def _below(root: Path, arrays: bool, wanted: Sequence[str]) -> tuple[list[Piece], list[str]]:
    names = files_below(root)
    tables_and_arrays = [name for name in names if _is_data(name)]
    images = [name for name in names if name.lower().endswith(EXTENSIONS)]
    if images and all(kind_of(name) == "csv" for name in tables_and_arrays):
        used, parts = images, list(_of_images(root, images, arrays))
    else:
        used, parts = tables_and_arrays, _of_files(root, tables_and_arrays, arrays, wanted)
    if not parts:
        raise InputError(f"{root} holds no data", "give a folder of tables, arrays or images")
    _require_apart(parts)
    others = [name for name in names if name not in set(used)]
    return parts, [f"{root}: left out what is not data ({listed(others, 3)})"] if others else []


def _of_files(root: Path, names: Sequence[str], arrays: bool, wanted: Sequence[str]) -> list[Piece]:
    """A part for each table or array; ``InputError`` if partitions name a column that is read, and some file is not
    Parquet."""
    keys = sorted({key for name in names for key in keys_of(name)} & set(wanted))
    if not keys:
        return [Piece(_named(name, arrays), str(root / name), _fingerprint(root / name)) for name in names]
    if other := [name for name in names if kind_of(name) != "parquet"]:
        what = f"{root} is partitioned by {keys[0]!r}, which the model reads, but {other[0]} is not Parquet"
        raise InputError(what, "write one file, for example --out scores.parquet")
    return list(_partitioned(str(root)))


def _is_data(name: str) -> bool:
    """Whether a file in a folder is a table or an array; of text files, only .csv, .tsv and .tab count."""
    lower = name.lower()
    plain = lower.removesuffix(".gz")
    is_array = lower.endswith((".npy", ".npz", ".h5ad")) or plain.endswith((".idx", "-ubyte"))
    return kind_of(name, TEXT[:3]) is not None or is_array


def _named(name: str, arrays: bool) -> str:
    """The name of the part made from a file: the file's name, with another extension added if latens does not write the
    file's format.

    >>> _named("a/b.csv", False), _named("b.csv.gz", False), _named("x.idx", True)
    ('a/b.csv', 'b.csv.gz.parquet', 'x.idx.npy')
    """
    if Path(name).suffix.lower() in FORMATS:
        return name
    return name + (".npy" if arrays and kind_of(name) is None else ".parquet")


def _require_apart(parts: Sequence[Piece]) -> None:
    seen: dict[str, str] = {}
    for part in parts:
        if part.name in seen:
            what = f"{seen[part.name]} and {part.source} would both become the part {part.name}"
            raise InputError(what, "rename one of them")
        seen[part.name] = part.source


def _fingerprint(path: Path) -> str:
    """The fingerprint of a file; "" if it is not a file or cannot be read, which is reported when the part is read."""
    try:
        return fingerprint_files([path]) if path.is_file() else ""
    except (OSError, InputError):
        return ""


def _of_images(root: Path, names: Sequence[str], arrays: bool) -> Iterator[Piece]:
    fingerprint = fingerprint_files([root / name for name in names])
    ending = "npy" if arrays else "parquet"
    for number, first in enumerate(range(0, len(names), IMAGES)):
        stop = min(first + IMAGES, len(names))
        yield Piece(f"images-{number:05}.{ending}", str(root), fingerprint, first, stop)


def _of_file(path: str, arrays: bool) -> Iterator[Piece]:
    if kind_of(path) == "parquet":
        yield from _row_groups(path)
    elif path.lower().endswith(".npy"):
        whole, fingerprint = Path(path), _fingerprint(Path(path))
        for block in range(len(NpyStream(path).sizes)):
            yield Piece(f"{whole.stem}-{block:05}.npy", path, fingerprint, block, block + 1)
    else:
        yield Piece(_named(Path(path).name, arrays), path, _fingerprint(Path(path)))


def _row_groups(path: str) -> Iterator[Piece]:
    stem, fingerprint = Path(path).stem, fingerprint_files([path], ".parquet")
    groups = groupby(enumerate(ParquetBlocks(path).groups), lambda each: each[1])
    for number, (_, blocks) in enumerate(groups):
        first, *rest = [block for block, _ in blocks]
        yield Piece(f"{stem}-{number:05}.parquet", path, fingerprint, first, rest[-1] + 1 if rest else first + 1)


def samples_of(rows: int, size: int, table: bool) -> list[Piece]:
    """The parts of ``rows`` samples: ``size`` rows in each part, and the rest in the last."""
    ending = "parquet" if table else "npy"
    return [
        Piece(f"sample-{number:05}.{ending}", first=first, stop=min(first + size, rows))
        for number, first in enumerate(range(0, rows, size))
    ]
