"""Tables of numbers in text: .csv and .tsv, with or without a header, gzipped or not."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latens.atomic import atomic_write
from latens.data.formats import Found, listed, open_plain, require_labels
from latens.errors import InputError
from latens.schema import chunks

MISSING = frozenset(["", "na", "n/a", "nan", "-nan", "null", "none", "#n/a", "#na", "?"])  # empty cells


@dataclass
class _Table:
    """How to read a csv: ``first`` is the line where the data start, ``keep`` and ``label`` are positions."""

    path: Path
    delimiter: str
    first: int
    names: tuple[str, ...]
    header: bool
    keep: list[int]
    label: int | None


def read_csv(path: Path, label: str | None, drop: tuple[str, ...]) -> Found:
    """The numbers of a table, its column names, and the column of labels."""
    table = _survey(path, label, drop)
    parsed = _parse_fast(table)
    x, labels = parsed if parsed is not None else _parse_exact(table)
    if len(x) == 0:
        raise InputError(f"{path} has a header and no rows; give a file with data.")
    return Found(x, tuple(table.names[j] for j in table.keep) if table.header else None, labels)


def header_of(path: Path) -> tuple[str, ...]:
    """The names of all columns."""
    return _survey(path, None, ()).names


def records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields of the records that are not blank."""
    with open_plain(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if len(record) > 1 or (record and record[0].strip()):
                    yield reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}; correct the line.") from error


def _head(path: Path, delimiter: str, count: int = 10) -> list[tuple[int, list[str]]]:
    return [record for _, record in zip(range(count), records(path, delimiter))]


def _survey(path: Path, label: str | None, drop: tuple[str, ...]) -> _Table:
    delimiter = delimiter_of(path)
    head = _head(path, delimiter, 2)
    if not head:
        raise InputError(f"{path} has no rows; give a file with data.")
    if any("\0" in field for field in head[0][1]):
        raise InputError(f"{path} is not a text file: it holds zero bytes; save it as a UTF-8 csv.")
    (line, top), wanted = head[0], {*drop, *([label] if label else [])}
    top = [field.strip() for field in top]
    top[0] = top[0].removeprefix("#").strip()  # numpy.savetxt puts a # before its header
    header = _is_header(top, [field.strip() for field in head[1][1]] if len(head) > 1 else [], wanted)
    names = tuple(top) if header else tuple(f"column_{j + 1}" for j in range(len(top)))
    if header:
        _require_names(path, line, names)
    for name in drop:
        if name not in names:
            raise InputError(f"{path} has no column {name!r} to drop; it has: {listed(names)}.")
    if label is not None:
        require_labels(label, names, str(path))
    keep = [j for j, name in enumerate(names) if name and name not in wanted]
    if not keep:
        raise InputError(f"{path} has no column left besides the dropped ones and the labels; keep at least one.")
    position = names.index(label) if label in names else None
    return _Table(path, delimiter, line if header else 0, names, header, keep, position)


def delimiter_of(path: Path) -> str:
    """The first of tab, semicolon and comma that cuts the first records into equally many fields."""
    for delimiter in "\t;":
        try:
            widths = {len(record) for _, record in _head(path, delimiter)}
        except InputError:
            continue
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _is_header(top: list[str], below: list[str], wanted: set[str]) -> bool:
    """Whether ``top`` names the columns: it has a name that was asked for, no number at all, a word above a
    number, or the numbers 0, 1, 2 ... that a data frame without names writes."""
    if wanted & set(top) or all(_number(field) is None for field in top):
        return True
    counted = top[1:] if top[0] == "" else top
    if len(counted) > 2 and counted == [str(j) for j in range(len(counted))]:
        return True

    def is_word(field: str) -> bool:
        return _number(field) is None and field.lower() not in MISSING

    return any(is_word(field) and not is_word(under) for field, under in zip(top, below))


def _require_names(path: Path, line: int, names: tuple[str, ...]) -> None:
    for j, name in enumerate(names):
        if name in names[:j]:
            other = names.index(name) + 1
            raise InputError(f"{path}, line {line}: columns {other} and {j + 1} are both called {name!r}; rename one.")
        if not name and j > 0:
            raise InputError(f"{path}, line {line}: column {j + 1} has no name; give it one.")


def _number(text: str) -> float | None:
    if "_" in text:  # Python reads 1_000 as a number, no table means that
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _parse_fast(table: _Table) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The numbers by pyarrow, or None where anything is unusual: :func:`_parse_exact` then says what."""
    import pyarrow
    from pyarrow import csv as arrow

    ids = [str(j) for j in range(len(table.names))]
    label = [] if table.label is None else [str(table.label)]
    try:
        with open_plain(table.path) as file:
            # from memory and without threads: a reader thread that still wants the file of an interpreter that is going
            # down takes the process with it
            columns = arrow.read_csv(
                pyarrow.BufferReader(file.read()),
                arrow.ReadOptions(column_names=ids, skip_rows=table.first, use_threads=False),
                arrow.ParseOptions(delimiter=table.delimiter, newlines_in_values=True),
                arrow.ConvertOptions(
                    column_types={name: pyarrow.string() for name in label},
                    include_columns=[*(str(j) for j in table.keep), *label],
                ),
            )
    except pyarrow.ArrowException:
        return None
    types = [columns.column(j).type for j in range(len(table.keep))]
    if not set(types) <= {pyarrow.int64(), pyarrow.float64()} or any(c.null_count for c in columns.columns):
        return None
    whole = pyarrow.float64() not in types
    x = np.empty((columns.num_rows, len(types)), np.int64 if whole else np.float64)
    for j in range(len(types)):
        x[:, j] = columns.column(j).to_numpy()
    if not whole and not all(np.isfinite(x[rows]).all() for rows in chunks(x)):
        return None
    return x, np.array(columns.column(len(types)).to_pylist(), dtype=str) if label else None


def _parse_exact(table: _Table) -> tuple[np.ndarray, np.ndarray | None]:
    """The same by Python's csv module: slower, and raises at the first cell that is not a number."""
    cells, labels, whole = array("d"), [], True
    for line, record in records(table.path, table.delimiter):
        if line <= table.first:
            continue
        where = f"{table.path}, line {line}"
        if len(record) != len(table.names):
            raise InputError(
                f"{where}: {len(record)} field(s), the first line has {len(table.names)}; correct the line."
            )
        for j in table.keep:
            number = _number(record[j])
            if number is None or not math.isfinite(number):
                raise InputError(f"{where}, column {table.names[j]!r}: {_complaint(record[j], table.names[j])}.")
            whole = whole and record[j].strip().lstrip("+-").isdecimal()
            cells.append(number)
        if table.label is not None:
            labels.append(record[table.label].strip())
    x = np.frombuffer(cells, np.float64).reshape(-1, len(table.keep)).copy()
    if whole and (len(x) == 0 or np.abs(x).max() < 2.0**53):
        x = x.astype(np.int64)
    return x, None if table.label is None else np.array(labels, dtype=str)


def _complaint(text: str, name: str) -> str:
    if text.strip().lower() in MISSING:
        return f"the cell is missing; fill it, remove the row, or leave the column out with --drop {name!r}"
    if _number(text) is not None:
        return f"the value {text.strip()!r} is not finite; give a finite number"
    shown = text if len(text) <= 40 else text[:40] + "..."
    decimal = "; write decimals with a point" if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", text) else ""
    return (
        f"the text {shown!r} is not a number{decimal}; leave the column out with --drop {name!r}, "
        f"or use it as labels with --labels {name!r}"
    )


def write_table(path: str | os.PathLike[str], array: np.ndarray, names: Sequence[str] | None, delimiter: str) -> None:
    """Write an array of one or two axes with a header; errors as in :func:`latens.data.write`."""
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(f"cannot write {path}: a table has 2 axes, the array {array.ndim}; write a .npy file.")
    header = [f"column_{j + 1}" for j in range(array.shape[1])] if names is None else [str(n) for n in names]
    if len(header) != array.shape[1]:
        raise InputError(f"cannot write {path}: {len(header)} names for {array.shape[1]} columns.")
    import pyarrow
    from pyarrow import csv as arrow

    simple = {"b": np.dtype(np.uint8), "f": np.dtype(np.float32 if array.itemsize <= 4 else np.float64)}
    dtype = simple.get(array.dtype.kind, array.dtype.newbyteorder("="))
    first = io.StringIO()
    csv.writer(first, delimiter=delimiter, lineterminator="\n").writerow(header)
    options = arrow.WriteOptions(include_header=False, delimiter=delimiter)
    with atomic_write(path) as file:
        file.write(first.getvalue().encode("utf-8"))
        for rows in chunks(array):
            columns = [pyarrow.array(column.astype(dtype)) for column in array[rows].T]
            arrow.write_csv(pyarrow.table(columns, names=[str(j) for j in range(len(columns))]), file, options)
