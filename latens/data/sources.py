"""Reading data from a path or an embedded name, and writing arrays.

Files are not trusted: nothing is unpickled, a declared size is compared with the size of the file before
memory is taken, and whatever is wrong becomes one sentence that names the file.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import math
import os
import re
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from latens.atomic import atomic_write
from latens.errors import InputError
from latens.schema import chunks, require_numeric

EMBEDDED = ("digits", "wine", "breast_cancer", "iris", "diabetes")  # scikit-learn has them on board
FORMATS = ".npy, .npz, .csv, .tsv, IDX (*idx*, *-ubyte), and .gz of the last three"
DATA_KEYS = ("x", "X", "data", "images", "x_train", "X_train", "features")
LABEL_KEYS = ("y", "labels", "label", "target", "targets")
MISSING = frozenset(["", "na", "n/a", "nan", "-nan", "null", "none", "#n/a", "#na", "?"])  # empty cells
_DEFLATE = 1040  # no deflate stream grows more than about 1032 times


@dataclass(frozen=True, eq=False)
class Source:
    """Data as it was found.

    Args:
        x: the array, in the user's layout and dtype.
        names: column names, where the source has them.
        labels: one value per row, ``[N]``: numbers, or codes 0.. of ``label_names``.
        label_names: the words that the codes stand for, where labels are words.
        origin: absolute path (``file.npz:key`` for one array of several), or embedded name.
        fingerprint: of ``x``, see :func:`fingerprint`.
    """

    x: np.ndarray
    names: tuple[str, ...] | None
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None
    origin: str
    fingerprint: str


@dataclass
class _Found:
    """What one file gave; ``labels`` are not yet codes, ``key`` is the array's among several in an .npz."""

    x: np.ndarray
    names: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    key: str = ""


def read(
    path_or_name: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    drop: str | Iterable[str] = (),
) -> Source:
    """Read data from a file, or from an embedded name.

    Args:
        path_or_name: ``.npy``; ``.npz`` with one array, or one named x, X, data, images ..., or
            ``file.npz:key``; IDX, gzipped or not (labels beside ``*images-idx3-ubyte*`` are found by their
            name); ``.csv`` or ``.tsv`` of numbers, gzipped or not, with or without a header, separated by
            commas, semicolons or tabs; or one of digits, wine, breast_cancer, iris, diabetes.
        labels: a column of the csv, a key of the .npz, or a file with one value per row. Words become codes.
        drop: columns to leave out. Columns of a file without header are column_1, column_2, ...; a first
            column without a name is taken for a row index and left out.

    Returns:
        Source: the array in the file's own dtype, names, labels, origin and fingerprint.

    Raises:
        InputError: the file is missing, damaged, of an unknown kind, or does not hold numbers only; one
            sentence with its name and the position.

    >>> source = read("iris")
    >>> source.x.shape, source.names[0], source.label_names
    ((150, 4), 'sepal length (cm)', ('setosa', 'versicolor', 'virginica'))
    """
    name = os.fspath(path_or_name)
    label = None if labels is None else os.fspath(labels)
    dropped = (drop,) if isinstance(drop, str) else tuple(drop)
    if name in EMBEDDED:
        found, label_names, origin = *_embedded(name, dropped), name
        if label is not None:
            _require_labels(label, found.names or (), name)
            found.labels, label_names = None, None
    else:
        path, key = _locate(name)
        found, label_names = _read_file(path, key, label, dropped), None
        require_numeric(found.x.dtype, name)
        origin = os.path.abspath(path) + (f":{found.key}" if found.key else "")
    if label is not None and found.labels is None:
        found.labels = _label_file(label, len(found.x))
    values = found.labels
    if values is not None:
        if values.shape not in ((len(found.x),), (len(found.x), 1)):
            given = f"{values.size:,} labels" if values.ndim == 1 else f"labels of shape {values.shape}"
            where = label or "the file of labels beside it"
            raise InputError(f"{where} has {given} and {name} has {len(found.x):,} rows; give one label per row.")
        if label_names is None:
            values, label_names = _codes(values.ravel(), f"{name}, labels {label!r}" if label else name)
    return Source(found.x, found.names, values, label_names, origin, fingerprint(found.x))


def fingerprint(x: np.ndarray) -> str:
    """SHA-256 of the dtype, the shape and the bytes of an array (little-endian, C order), in hexadecimal.

    >>> fingerprint(np.zeros(2)) == fingerprint(np.zeros((2, 1)))
    False
    """
    little = x.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{little.str} {x.shape}".encode())
    for rows in chunks(x):
        digest.update(np.ascontiguousarray(x[rows], dtype=little).tobytes())
    return digest.hexdigest()


def write(path: str | os.PathLike[str], array: np.ndarray, names: Sequence[str] | None = None) -> None:
    """Write an array atomically, in the format that the extension of ``path`` names.

    Args:
        path: ``.npy``; ``.npz`` (key ``x``); ``.csv`` or ``.tsv``, for one or two axes, with a header.
        array: any numeric array.
        names: the header of a table; column_1, column_2, ... without it.

    Raises:
        InputError: another extension, a missing folder, no numbers, more than two axes for a table, a wrong
            number of names, or a full disk; nothing is left behind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/codes.csv", np.array([[0.5, 1.0], [2.0, 0.1]]), names=["z1", "z2"])
    ...     read(folder + "/codes.csv").x
    array([[0.5, 1. ],
           [2. , 0.1]])
    """
    extension = Path(path).suffix.lower()
    if extension not in (".npy", ".npz", ".csv", ".tsv"):
        raise InputError(f"cannot write {path}: the extension must be .npy, .npz, .csv or .tsv.")
    array = np.asarray(array)
    require_numeric(array.dtype, f"cannot write {path}")
    if extension in (".csv", ".tsv"):
        return _write_table(path, array, names, "\t" if extension == ".tsv" else ",")
    with atomic_write(path) as file:
        if extension == ".npy":
            np.save(file, array, allow_pickle=False)
        else:
            np.savez(file, x=array)


# Which file, and what is it?


def _locate(name: str) -> tuple[Path, str | None]:
    """Path and key of ``file`` or ``file.npz:key``; InputError unless the file is there and readable."""
    path, key = Path(name).expanduser(), None
    match = re.fullmatch(r"(.+\.npz):(.+)", name, re.IGNORECASE)
    if match and not os.path.exists(path):
        path, key = Path(match[1]).expanduser(), match[2]
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        raise InputError(f"{path} is a folder; name one file in it ({FORMATS}).")
    if not os.path.exists(path):
        near = _near(path)
        raise InputError(f"{path} does not exist; " + (f"did you mean {near}?" if near else _embedded_hint()))
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file; save the data to one.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); give a file with data.")
    return path, key


def _near(path: Path) -> str:
    try:
        neighbours = os.listdir(path.parent)
    except OSError:
        return f"{path} in another folder; {path.parent} cannot be listed" if path.parent.exists() else ""
    visible = [name for name in neighbours if not name.startswith(".")]
    near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, visible, 2)]
    return " or ".join(difflib.get_close_matches(str(path), EMBEDDED, 1) + near)


def _embedded_hint() -> str:
    return f"give a file ({FORMATS}) or an embedded name: {', '.join(EMBEDDED)}."


def _format(path: Path) -> str:
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for extension, format in {".npy": "npy", ".npz": "npz"}.items():
        if name.endswith(extension):
            return format
    if plain.endswith((".csv", ".tsv")):
        return "table"
    if "idx" in name or plain.endswith("-ubyte"):
        return "idx"
    raise InputError(f"{path} has an unknown extension; latens reads {FORMATS}.")


def _read_file(path: Path, key: str | None, label: str | None, drop: tuple[str, ...]) -> _Found:
    format = _format(path)
    if drop and format != "table":
        raise InputError(f"{path} has no column names, so that nothing can be dropped by name.")
    with _sentences(path):
        if format == "table":
            return _read_csv(path, label, drop)
        if format == "npz":
            return _read_npz(path, key, label)
        if label is not None:
            _require_labels(label, (), str(path))
        if format == "npy":
            return _Found(_read_npy_file(path))
        found, beside = _Found(_read_idx(path)), _labels_beside(path) if label is None else None
    if beside is not None:
        with _sentences(beside):
            found.labels = _read_idx(beside)
    return found


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Whatever a parser raises on an untrusted file, as one sentence that names the file."""
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}); save it as a UTF-8 csv.") from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit in memory.") from error
    except Exception as error:
        if isinstance(error, EOFError) or "EOF" in str(error):
            raise InputError(f"{path} is truncated: it ends before its data does; get it again.") from error
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is damaged or not what its name says ({reason:.200}); get it again.") from error


# .npy and .npz


def _read_npy_file(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        return _read_npy(file, path.stat().st_size, str(path))


def _read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """The array in ``file``, which has ``size`` bytes; the declared shape must fit them exactly."""
    if file.read(6) != b"\x93NUMPY":
        raise InputError(f"{what} is not an .npy array: it does not start with the .npy magic.")
    version = (file.read(1) + file.read(1)).ljust(2, b"\0")
    readers = {b"\1\0": np.lib.format.read_array_header_1_0, b"\2\0": np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise InputError(f"{what} is of .npy version {version[0]}.{version[1]}; versions 1.0 and 2.0 are read.")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects, which latens never unpickles; save an array of numbers.")
    if any(n < 0 for n in shape):
        raise InputError(f"{what} declares the shape {shape}; a size cannot be negative.")
    declared = math.prod(shape) * dtype.itemsize
    _require_size(what, f"shape {shape} of {dtype}", declared, size - file.tell())
    values = np.empty(shape, dtype, order="F" if fortran else "C")
    _fill(file, values.T if fortran else values, what)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _require_size(what: str, declared_as: str, declared: int, there: int) -> None:
    if there < declared:
        raise InputError(
            f"{what} is truncated: it declares {declared_as}, {declared:,} bytes, and {there:,} are there; "
            "get it again."
        )
    if there > declared:
        raise InputError(
            f"{what} is damaged: {there - declared:,} bytes follow its data ({declared_as}); get it again."
        )


def _fill(file: IO[bytes], values: np.ndarray, what: str) -> None:
    """Read exactly the bytes of ``values``, which is C-contiguous, and the end of the file."""
    target = values.reshape(-1).view(np.uint8)
    done = 0
    while done < target.size:
        piece = file.read(min(1 << 22, target.size - done))
        if not piece:
            raise InputError(f"{what} is truncated: {done:,} of {target.size:,} bytes are there; get it again.")
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    if file.read(1):
        raise InputError(f"{what} is damaged: more bytes follow its data; get it again.")


def _read_npz(path: Path, key: str | None, label: str | None) -> _Found:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(-min(size, 22 + len(archive.comment)), os.SEEK_END)
            if start not in (b"PK\3\4", b"PK\5\6") or file.read(4) != b"PK\5\6":
                raise InputError(f"{path} is damaged: bytes that are not its own stand around it; get it again.")
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if label is not None:
            _require_labels(label, tuple(members), str(path))
        chosen = _choose_key(path, list(members), key, label)
        found = _Found(_read_member(archive, members[chosen], path, size), key=chosen if len(members) > 1 else "")
        if label in members:
            found.labels = _read_member(archive, members[label], path, size)
        elif label is None:
            found.labels = _labels_within(archive, members, chosen, path, len(found.x))
    return found


def _labels_within(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], chosen: str, path: Path, rows: int
) -> np.ndarray | None:
    """The labels that go with x by their name (y_test with x_test) and their length, if there are any."""
    partner = "y" + chosen[1:] if chosen[:1] in "xX" else "y"
    for name in (partner,) if partner != "y" else LABEL_KEYS:
        if name in members and name != chosen:
            with suppress(InputError):  # nobody asked for them
                values = _read_member(archive, members[name], path, path.stat().st_size)
                if values.shape in ((rows,), (rows, 1)):
                    return values
    return None


def _choose_key(path: Path, keys: list[str], key: str | None, label: str | None) -> str:
    listed = ", ".join(keys) or "none"
    if key is not None:
        if key in keys:
            return key
        raise InputError(f"{path} has no array {key!r}; its arrays are: {listed}.")
    others = [name for name in keys if name != label]
    if len(others) == 1:
        return others[0]
    for name in DATA_KEYS:
        if name in others:
            return name
    raise InputError(f"{path} holds several arrays or none ({listed}); choose one with {path}:KEY.")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, size: int) -> np.ndarray:
    what = f"{path}:{info.filename.removesuffix('.npy')}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{what} is compressed in a way that numpy does not write; save it with numpy.savez.")
    if info.file_size > size * (_DEFLATE if info.compress_type == zipfile.ZIP_DEFLATED else 1):
        raise InputError(f"{path} is damaged: {info.filename} declares {info.file_size:,} bytes; get it again.")
    with archive.open(info) as file:
        return _read_npy(file, info.file_size, what)


# IDX


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def _open(path: Path) -> IO[bytes]:
    """The file, decompressed where its first bytes say gzip."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else open(path, "rb")


def _read_idx(path: Path) -> np.ndarray:
    with _open(path) as file:
        magic = file.read(4)
        code, axes = (magic[2], magic[3]) if len(magic) == 4 else (0, 0)
        if magic[:2] != b"\0\0" or code not in _IDX_TYPES or axes == 0:
            raise InputError(
                f"{path} is not an IDX file: its magic is {magic.hex(' ') or 'missing'}, and should be "
                "00 00, a type (08, 09, 0b, 0c, 0d or 0e) and a number of axes."
            )
        header = file.read(4 * axes)
        if len(header) < 4 * axes:
            raise InputError(f"{path} is truncated within its header; get it again.")
        shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
        dtype = np.dtype(_IDX_TYPES[code])
        declared, size = math.prod(shape) * dtype.itemsize, path.stat().st_size
        if isinstance(file, gzip.GzipFile):  # its length is known only at its end; this much cannot be there
            _require_size(str(path), f"shape {shape}", declared, min(declared, _DEFLATE * size))
        else:
            _require_size(str(path), f"shape {shape}", declared, size - file.tell())
        if axes > 32:
            raise InputError(f"{path} declares {axes} axes; latens reads up to 32.")
        values = np.empty(shape, dtype)
        _fill(file, values, str(path))
    return values.astype(dtype.newbyteorder("="), copy=False)


def _labels_beside(path: Path) -> Path | None:
    name = re.sub(r"images([-.])idx3", r"labels\1idx1", path.name)
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    return next((p for p in (path.with_name(n) for n in (name, plain, plain + ".gz")) if p.is_file()), None)


# Tables


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


def _read_csv(path: Path, label: str | None, drop: tuple[str, ...]) -> _Found:
    table = _survey(path, label, drop)
    parsed = _parse_fast(table)
    x, labels = parsed if parsed is not None else _parse_exact(table)
    if len(x) == 0:
        raise InputError(f"{path} has a header and no rows; give a file with data.")
    return _Found(x, tuple(table.names[j] for j in table.keep) if table.header else None, labels)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields of the records that are not blank."""
    with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if len(record) > 1 or (record and record[0].strip()):
                    yield reader.line_num, record
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}; correct the line.") from error


def _head(path: Path, delimiter: str, count: int = 10) -> list[tuple[int, list[str]]]:
    records = _records(path, delimiter)
    return [record for _, record in zip(range(count), records)]


def _survey(path: Path, label: str | None, drop: tuple[str, ...]) -> _Table:
    delimiter = _delimiter(path)
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
            raise InputError(f"{path} has no column {name!r} to drop; it has: {_listed(names)}.")
    if label is not None:
        _require_labels(label, names, str(path))
    keep = [j for j, name in enumerate(names) if name and name not in wanted]
    if not keep:
        raise InputError(f"{path} has no column left besides the dropped ones and the labels; keep at least one.")
    position = names.index(label) if label in names else None
    return _Table(path, delimiter, line if header else 0, names, header, keep, position)


def _delimiter(path: Path) -> str:
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
        with _open(table.path) as file:
            columns = arrow.read_csv(
                file,
                arrow.ReadOptions(column_names=ids, skip_rows=table.first),
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
    for line, record in _records(table.path, table.delimiter):
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


def _write_table(path: str | os.PathLike[str], array: np.ndarray, names: Sequence[str] | None, delimiter: str) -> None:
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


# Labels and embedded data


def _require_labels(label: str, choices: Sequence[str], what: str) -> None:
    """InputError unless ``label`` is one of ``choices`` or a file."""
    if label in choices:
        return
    if not os.path.isfile(re.sub(r"(?i)(\.npz):.+$", r"\1", os.path.expanduser(label))):
        inside = f"it has: {_listed(choices)}" if choices else "it has no columns or keys to choose from"
        raise InputError(f"no labels {label!r} in {what} ({inside}), and no file of that name.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _label_file(label: str, rows: int) -> np.ndarray:
    """The values of a file of labels."""
    path, key = _locate(label)
    if _format(path) != "table":
        return _read_file(path, key, None, ()).x
    with _sentences(path):
        records = [record for _, record in _records(path, _delimiter(path))]
    if any(len(record) != 1 for record in records):
        raise InputError(f"{path} has more than one column; give a file with one label per row.")
    texts = [record[0].strip() for record in records]
    return np.array(texts[1:] if len(texts) == rows + 1 else texts, dtype=str)  # with a header, one more


def _codes(values: np.ndarray, what: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Numbers as they are, words as codes of their sorted names."""
    if values.dtype.kind in "US":
        values = values.astype(str)
        for dtype in (np.int64, np.float64):
            try:
                values = values.astype(dtype)
                break
            except (ValueError, OverflowError):
                pass
    empty = (values == "") if values.dtype.kind == "U" else (values != values)
    if empty.any():
        raise InputError(f"{what}: the label of row {int(empty.argmax())} (counted from 0) is missing; fill it.")
    if values.dtype.kind != "U":
        require_numeric(values.dtype, what)
        return values, None
    words, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), tuple(words.tolist())


def _embedded(name: str, drop: tuple[str, ...]) -> tuple[_Found, tuple[str, ...] | None]:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    label_names = tuple(str(word) for word in data.target_names) if "target_names" in data else None
    x, names = data["data"], tuple(str(column) for column in data["feature_names"])
    if name == "digits":
        x, names = data["images"], ()
    for column in drop:
        if column not in names:
            raise InputError(f"{name} has no column {column!r} to drop; it has: {_listed(names) or 'pixels'}.")
    keep = [j for j, column in enumerate(names) if column not in drop]
    if names and not keep:
        raise InputError(f"{name} has no column left; keep at least one.")
    if len(keep) < len(names):
        x, names = x[:, keep], tuple(names[j] for j in keep)
    return _Found(np.ascontiguousarray(x), names or None, data["target"]), label_names
