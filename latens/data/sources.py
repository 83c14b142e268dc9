"""Reading data from a path or an embedded name, and writing arrays.

Files are not trusted: nothing is unpickled, a declared size is compared with the size of the file before
memory is taken, and whatever is wrong becomes one sentence that names the file.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latens.atomic import atomic_write, writable
from latens.data.formats import Found, labels_beside, listed, read_idx, read_npy, read_npz, require_labels, sentences
from latens.data.tables import delimiter_of, header_of, read_csv, records, write_table
from latens.errors import InputError
from latens.schema import chunks, require_numeric

EMBEDDED = ("digits", "wine", "breast_cancer", "iris", "diabetes")  # scikit-learn has them on board
FORMATS = ".npy, .npz, .csv, .tsv, IDX (*idx*, *-ubyte), and .gz of the last three"


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
            require_labels(label, found.names or (), name)
            found.labels, label_names = None, None
    else:
        path, key = _locate(name)
        found, label_names = _read_file(path, key, label, dropped), None
        require_numeric(found.x.dtype, name)
        if found.x.ndim == 0:
            raise InputError(f"{path} holds a single number; give an array, one row per datum.")
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


def columns_of(path_or_name: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of a table's columns, those of labels and of words included; () for other data.

    Raises:
        InputError: the file is missing, or a table whose head cannot be read.
    """
    name = os.fspath(path_or_name)
    if name in EMBEDDED:
        return ()
    path, _ = _locate(name)
    if _format(path) != "table":
        return ()
    with sentences(path):
        return header_of(path)


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
    extension = require_output(path)
    array = np.asarray(array)
    require_numeric(array.dtype, f"cannot write {path}")
    if extension in (".csv", ".tsv"):
        return write_table(path, array, names, "\t" if extension == ".tsv" else ",")
    with atomic_write(path) as file:
        if extension == ".npy":
            np.save(file, array, allow_pickle=False)
        else:
            np.savez(file, x=array)


def require_output(path: str | os.PathLike[str], more: Sequence[str] = ()) -> str:
    """The extension of ``path``; ``InputError`` unless :func:`write` could write there (or it is one of ``more``)."""
    known = (".npy", ".npz", ".csv", ".tsv", *more)
    extension = Path(path).suffix.lower()
    if extension not in known:
        raise InputError(f"cannot write {path}: the extension must be {', '.join(known[:-1])} or {known[-1]}.")
    writable(path)
    return extension


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


def _read_file(path: Path, key: str | None, label: str | None, drop: tuple[str, ...]) -> Found:
    format = _format(path)
    if drop and format != "table":
        raise InputError(f"{path} has no column names, so that nothing can be dropped by name.")
    with sentences(path):
        if format == "table":
            return read_csv(path, label, drop)
        if format == "npz":
            return read_npz(path, key, label)
        if label is not None:
            require_labels(label, (), str(path))
        if format == "npy":
            return Found(read_npy(path))
        found, beside = Found(read_idx(path)), labels_beside(path) if label is None else None
    if beside is not None:
        with sentences(beside):
            found.labels = read_idx(beside)
    return found


# Labels and embedded data


def _label_file(label: str, rows: int) -> np.ndarray:
    """The values of a file of labels."""
    path, key = _locate(label)
    if _format(path) != "table":
        return _read_file(path, key, None, ()).x
    with sentences(path):
        found = [record for _, record in records(path, delimiter_of(path))]
    if any(len(record) != 1 for record in found):
        raise InputError(f"{path} has more than one column; give a file with one label per row.")
    texts = [record[0].strip() for record in found]
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


def _embedded(name: str, drop: tuple[str, ...]) -> tuple[Found, tuple[str, ...] | None]:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    label_names = tuple(str(word) for word in data.target_names) if "target_names" in data else None
    x, names = data["data"], tuple(str(column) for column in data["feature_names"])
    if name == "digits":
        x, names = data["images"], ()
    for column in drop:
        if column not in names:
            raise InputError(f"{name} has no column {column!r} to drop; it has: {listed(names) or 'pixels'}.")
    keep = [j for j, column in enumerate(names) if column not in drop]
    if names and not keep:
        raise InputError(f"{name} has no column left; keep at least one.")
    if len(keep) < len(names):
        x, names = x[:, keep], tuple(names[j] for j in keep)
    return Found(np.ascontiguousarray(x), names or None, data["target"]), label_names
