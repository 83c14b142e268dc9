"""Read data from a path or an embedded name.

Files are not trusted: nothing is unpickled, a declared size is compared with the size of the file before
memory is allocated, and every fault becomes one sentence that names the file.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.array_files import (
    Found,
    labels_beside,
    open_plain,
    read_idx,
    read_npy,
    read_npz,
    require_file,
    require_labels,
    sentences,
)
from latens.data.lazy import Lazy
from latens.data.tables.files import read_found, read_table, table_names
from latens.data.tables.folders import holds_tables, kind_of, left_out, tables_below
from latens.data.tables.reading import Hints, Read
from latens.data.tables.types import index_notes
from latens.data.writing import matrix_table
from latens.errors import InputError
from latens.schema import Column, chunks, require_numeric
from latens.schema.arrow import listed

EMBEDDED = ("digits", "wine", "breast_cancer", "iris", "diabetes")  # data sets that scikit-learn ships
FORMATS = (
    ".npy, .npz, .csv, .tsv, .txt, .dat, .parquet, .feather, .h5ad, IDX (*idx*, *-ubyte), text or IDX with .gz, "
    "or a folder of images, .parquet or .csv files"
)
IMAGES = (".tif", ".tiff", ".gif", ".webp", ".png")  # one file with such an extension may hold several pages
READING = ("size", "skip_bad", "pages", "encoding", "layer", "text", "levels", "formats", "na")  # stored with a run
_USES = {"size": "a folder of images", "skip_bad": "a folder of images",
         "pages": "a folder of images", "encoding": "text (.csv, .txt …)",
         "layer": "an .h5ad"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """Data as found in a source.

    Args:
        x: an array in the user's layout and dtype, an arrow table, or rows that are made when they are indexed
            (:class:`latens.data.lazy.Lazy`: many images, sparse counts).
        names: column names, or None.
        labels: one value per row ``[N]``, numbers or codes 0.. of ``label_names``; or None.
        label_names: the words that the codes stand for, if labels are words.
        origin: the absolute path (``file.npz:key`` for one of several arrays), or the embedded name.
        hashed: the fingerprint, if it was computed while reading.
        notes: what a person should know about how the data were read, in sentences.
        found: for a table, how its text is written (:class:`latens.data.tables.reading.Read`).
        row_names: the name of each row, or None. For a folder of images these are the files ("name.tif#2" for the
            second of several pages), for an .h5ad its cells.
        row_kind: what the row names refer to, "file" or "cell".
    """

    x: Any
    names: tuple[str, ...] | None
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None
    origin: str
    hashed: str = ""
    notes: tuple[str, ...] = ()
    found: Read | None = None
    row_names: tuple[str, ...] | None = None
    row_kind: str = ""

    @property
    def is_table(self) -> bool:
        """Whether ``x`` is an arrow table."""
        return hasattr(self.x, "column_names")

    @cached_property
    def fingerprint(self) -> str:
        """The :func:`fingerprint` of ``x``."""
        return self.hashed or fingerprint(self.x)


def read(
    path_or_name: str | os.PathLike[str], *, labels: str | os.PathLike[str] | None = None,
    drop: str | Iterable[str] = (), reading: Mapping[str, Any] | None = None, like: Iterable[Column] = (),
    lenient: bool = False, keep_text: bool = False, index: bool = False,
) -> Source:  # fmt: skip
    """Read data from a file, a folder, or an embedded name.

    Args:
        path_or_name: ``.npy``; ``.npz`` with one array, or one named x, X, data, images ..., or
            ``file.npz:key``; IDX, gzipped or not (the file of labels next to ``*images-idx3-ubyte*`` is found by its
            name); a table in any format of :func:`latens.data.read_table`; ``.h5ad``; a folder of images, whose
            subfolders are labels, or of ``.parquet`` files; or one of digits, wine, breast_cancer, iris, diabetes.
        labels: a column of a table, a key of the .npz, a column of an .h5ad's obs, or a file with one value per row.
            Words become codes.
        drop: columns to leave out. Columns of a file without a header are named column_1, column_2, ...; a first column
            without a name is a row index, which is left out.
        reading: a mapping of options. For a folder of images: ``size`` (height, width), ``skip_bad``, and ``pages``
            (each page is a row). For a csv: ``encoding``. For an .h5ad: ``layer``. For columns of text: ``text`` (the
            names of columns of words), ``levels`` (the levels of columns, by name), ``formats`` and ``na``.
        like: the columns of a run; text is read as it was in their fit.
        lenient: whether cells that cannot be read in that way count as missing and are listed in ``found.unread``.
        keep_text: whether the original cells of text are kept, in ``found.text``.
        index: whether a Parquet table keeps its row index, in front; see :func:`latens.data.read_table`.

    Raises:
        InputError: the file is missing, damaged or of an unknown format; the message names the file and the position.

    >>> source = read("iris")
    >>> source.x.num_rows, source.names[0], source.label_names
    (150, 'sepal length (cm)', ('setosa', 'versicolor', 'virginica'))
    """
    name = os.fspath(path_or_name)
    label = None if labels is None else os.fspath(labels)
    dropped = (drop,) if isinstance(drop, str) else tuple(drop)
    options = dict(reading or {})
    if unknown := sorted(set(options) - set(READING)):
        raise InputError(f"{unknown[0]!r} is not an option of reading", f"use {', '.join(READING)}")
    if name in EMBEDDED:
        found, origin = _embedded(name, dropped, label), name
    else:
        path, key = _locate(name)
        fields, hints = tuple(like), Hints.of(options)
        hints = hints.like(fields, lenient) if fields else hints
        found = _read_file(path, key, label, dropped, options, hints, index)
        if isinstance(found.x, np.ndarray):
            require_numeric(found.x.dtype, name)
            if found.x.ndim == 0:
                raise InputError(f"{path} holds a single number", "give an array with a first axis of rows")
        origin = os.path.abspath(path) + (f":{found.key}" if found.key else "")
    if label is not None and found.labels is None:
        found.labels = _label_file(label, len(found.x))
    labels_found, label_names = _labels_of(found, name, label)
    kept = found.read if keep_text or found.read is None else replace(found.read, text=None)
    return Source(
        found.x, found.names, labels_found, label_names, origin, found.fingerprint, tuple(found.notes), kept,
        found.row_names, found.row_kind,
    )  # fmt: skip


def check_reading(reading: Mapping[str, Any], data: Sequence[str]) -> None:
    """Raise ``InputError`` for the first option of reading that applies to none of the data."""
    uses = {use for name in data for use in _uses(name)}
    for option, use in _USES.items():
        if option in reading and use not in uses:
            name = option_of(option)
            raise InputError(f"{name} is for {use}, but {data[0]} is something else", f"omit {name}")


def option_of(name: str) -> str:
    """The command-line option that sets a given option of reading.

    >>> option_of("skip_bad"), option_of("formats")
    ('--skip-bad', '--format')
    """
    return "--" + {"formats": "format"}.get(name, name).replace("_", "-")


def _uses(name: str) -> tuple[str, ...]:
    if name in EMBEDDED or "://" in name:
        return ()
    path, _ = _locate(name)
    format = _format(path)
    text = (tables_below(path)[0] if os.path.isdir(path) else kind_of(path.name)) == "csv"
    return {"images": (_USES["size"],), "h5ad": (_USES["layer"],), "table": (_USES["encoding"],) * text}.get(format, ())


def columns_of(path_or_name: str | os.PathLike[str], reading: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The names of a table's columns, including those of labels and of words; () for other data.

    Raises:
        InputError: the file is missing, or it is a table whose header cannot be read.
    """
    name = os.fspath(path_or_name)
    if name in EMBEDDED:
        return ()
    path, _ = _locate(name)
    return table_names(path, (reading or {}).get("encoding")) if _format(path) == "table" else ()


def fingerprint(x: Any) -> str:
    """SHA-256, in hexadecimal, of the dtype, the shape and the bytes (little-endian, C order) of an array or of lazy
    rows, or of the columns of an arrow table.

    >>> fingerprint(np.zeros(2)) == fingerprint(np.zeros((2, 1)))
    False
    """
    if hasattr(x, "column_names"):
        return _table_fingerprint(x)
    is_lazy = isinstance(x, Lazy)
    little = (x.kind if is_lazy else x.dtype).newbyteorder("<")
    digest = hashlib.sha256(f"{little.str} {x.shape}".encode())
    for rows in chunks(x):
        cells = x.rows(np.arange(len(x))[rows]) if is_lazy else x[rows]
        digest.update(np.ascontiguousarray(cells, dtype=little).tobytes())
    return digest.hexdigest()


def _table_fingerprint(table: Any) -> str:
    """The fingerprint of a table; it does not depend on how the columns are cut into chunks."""
    from latens.schema.arrow import as_numbers, plain

    digest = hashlib.sha256(f"{table.schema.names} {[str(t) for t in table.schema.types]} {table.num_rows}".encode())
    pieces = (c.slice(first, 1 << 18) for c in table.columns for first in range(0, len(c), 1 << 18))
    for cells in pieces:
        numbers = as_numbers(cells)
        if numbers is not None:
            numbers[np.isnan(numbers)] = np.nan  # NaN has many bit patterns; use one of them
            digest.update(numbers.astype("<f8", copy=False).data)
        else:
            for text in plain(cells).to_pylist():
                digest.update(b"\0" if text is None else b"\1" + str(text).encode() + b"\0")
    return digest.hexdigest()


# Which file it is, and of which format


def _locate(name: str) -> tuple[Path, str | None]:
    """Path and key of ``file`` or ``file.npz:key``; ``InputError`` unless the file exists and is a regular one."""
    path, key = Path(name).expanduser(), None
    match = re.fullmatch(r"(.+\.npz):(.+)", name, re.IGNORECASE)
    if match and not os.path.exists(path):
        path, key = Path(match[1]).expanduser(), match[2]
    if not os.path.exists(path):
        near = _near(path)
        raise InputError(f"{path} does not exist", f"did you mean {near}?" if near else _embedded_hint())
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        return path, None
    require_file(path)
    return path, key


def _near(path: Path) -> str:
    try:
        neighbours = os.listdir(path.parent)
    except OSError:
        return f"{path} in another folder ({path.parent} cannot be listed)" if path.parent.exists() else ""
    visible = [name for name in neighbours if not name.startswith(".")]
    near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, visible, 2)]
    return " or ".join(difflib.get_close_matches(str(path), EMBEDDED, 1) + near)


def _embedded_hint() -> str:
    return f"give a file ({FORMATS}) or an embedded name ({', '.join(EMBEDDED)})"


def _format(path: Path) -> str:
    if os.path.isdir(path):
        if (path / "run.json").exists():
            raise InputError(f"{path} is the folder of a run, not data", "give the data to be read")
        if any((path / name).exists() for name in (".zgroup", ".zarray", "zarr.json")):
            raise InputError(
                f"{path} is a Zarr store, which latens does not read",
                "write it as .h5ad (anndata.read_zarr(path).write_h5ad(file)), or an array as .npy",
            )
        return "table" if holds_tables(path) else "images"
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for extension in ("npy", "npz", "h5ad"):
        if name.endswith("." + extension):
            return extension
    if kind_of(name):
        return "table"
    if name.endswith(IMAGES):
        return "images"
    if "idx" in name or plain.endswith("-ubyte"):
        return "idx"
    raise InputError(f"{path} has an unknown extension", f"give one of {FORMATS}")


def _read_file(
    path: Path, key: str | None, label: str | None, drop: tuple[str, ...], options: dict[str, Any], hints: Hints,
    index: bool = False,
) -> Found:
    format = _format(path)
    if drop and format != "table":
        raise InputError(f"{path} has no named columns to drop", "omit --drop")
    if format == "table":
        more = {"hints": hints, "encoding": options.get("encoding"), "index": index}
        return _read_columns(path, label, tuple(name for name in drop if name != label), more)
    if format == "images":
        from latens.data.images.folder import image_folder

        skip_bad, pages = bool(options.get("skip_bad")), bool(options.get("pages"))
        return image_folder(path, size=options.get("size"), skip_bad=skip_bad, pages=pages)
    from latens.data.counts.sparse import fingerprint_of, read_h5ad, read_sparse

    if format == "h5ad":
        return read_h5ad(path, layer=options.get("layer"), labels=label)
    with sentences(path):
        if format == "npz":
            x = None if key else read_sparse(path)
            return read_npz(path, key, label) if x is None else Found(x, fingerprint=fingerprint_of(x.csr))
        if label is not None:
            require_labels(label, (), str(path))
        if format == "npy":
            return Found(read_npy(path))
        found, beside = Found(read_idx(path)), labels_beside(path) if label is None else None
    if beside is not None:
        with sentences(beside):
            found.labels = read_idx(beside)
    return found


def _read_columns(path: Path, label: str | None, drop: tuple[str, ...], more: dict[str, Any]) -> Found:
    """A table without its column of labels, and the labels."""
    values = None
    if label is not None and label not in (names := table_names(path, more["encoding"])):
        try:  # a first line that contains numbers is still a header if it has the name that the user asked for
            values = read_found(path, columns=[label], **more).table.column(0)
        except InputError:
            require_labels(label, names, str(path))
    read = read_found(path, drop=drop if values is None else [*drop, str(label)], **more)
    table = read.table
    if label in table.column_names:
        values = table.column(label)
        table = table.drop_columns([label])
        if not table.num_columns:
            raise InputError(f"{path} has no column besides the labels", "keep at least one")
    if values is not None:
        values = np.array(["" if v is None else v for v in values.to_pylist()])
    notes = [*left_out(path), *read.notes, *([] if more["index"] else index_notes(table.schema))]
    return Found(table, tuple(table.column_names), values, notes=notes, read=read)


# Labels and embedded data


def _label_file(label: str, rows: int) -> np.ndarray:
    """The values ``[N]`` of a file of labels."""
    path, key = _locate(label)
    if _format(path) != "table":
        return _read_file(path, key, None, (), {}, Hints()).x
    if kind_of(path.name) != "csv":
        table = read_table(path)
        if table.num_columns != 1:
            raise InputError(f"{path} has more than one column", "give a file with one label per row")
        return np.array(["" if v is None else v for v in table.column(0).to_pylist()])
    with sentences(path), open_plain(path) as file:
        lines = io.TextIOWrapper(file, "utf-8-sig").read().splitlines()
    found = [record for record in csv.reader(lines, strict=True) if record]
    if any(len(record) != 1 for record in found):
        raise InputError(f"{path} has more than one column", "give a file with one label per row")
    texts = [record[0].strip() for record in found]
    return np.array(texts[1:] if len(texts) == rows + 1 else texts, dtype=str)  # one line too many means a header


def _labels_of(found: Found, name: str, label: str | None) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """(one label per row: a number, or the code of a word; the words that the codes stand for, or None)."""
    values, rows = found.labels, len(found.x)
    if values is None:
        return None, found.label_names
    if values.shape not in ((rows,), (rows, 1)):
        given = f"{values.size:,} labels" if values.ndim == 1 else f"labels of shape {values.shape}"
        where = label or f"the file of labels of {name}"
        raise InputError(f"{where} has {given}, but {name} has {rows:,} rows", "give one label per row")
    if found.label_names is not None:
        return values, found.label_names
    return _codes(values.ravel(), f"{name}, labels {label!r}" if label else name)


def _codes(values: np.ndarray, what: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(numbers unchanged, or codes of words in sorted order; the words, or None)."""
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
        raise InputError(f"{what}: the label of row {int(empty.argmax())} (counted from 0) is missing", "fill it")
    if values.dtype.kind != "U":
        require_numeric(values.dtype, what)
        return values, None
    words, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), tuple(words.tolist())


def _embedded(name: str, drop: tuple[str, ...], label: str | None) -> Found:
    """A data set of scikit-learn with its labels, or with other labels if the user asks for them."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    names = () if name == "digits" else tuple(map(str, data["feature_names"]))
    for column in drop:
        if column not in names:
            there = f"name one of {listed(names)}" if names else "omit --drop: pixels have no names"
            raise InputError(f"{name} has no column {column!r} to drop", there)
    keep = [j for j, column in enumerate(names) if column not in drop]
    if names and not keep:
        raise InputError(f"{name} has no column left", "keep at least one")
    kept = tuple(names[j] for j in keep)
    x = matrix_table(name, data["data"][:, keep], kept) if names else np.ascontiguousarray(data["images"])
    if label is not None:
        require_labels(label, kept, name)
        return Found(x, kept or None)
    words = tuple(map(str, data.target_names)) if "target_names" in data else None
    return Found(x, kept or None, data["target"], label_names=words)
