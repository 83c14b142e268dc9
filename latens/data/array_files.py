"""Read arrays from files that declare their shape: .npy, .npz, IDX.

Files are not trusted: nothing is unpickled, and a declared size is compared with the size of the file before memory is
allocated.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from latens.errors import InputError
from latens.schema.arrow import listed, pa

DATA_KEYS = ("x", "X", "data", "images", "x_train", "X_train", "features")
LABEL_KEYS = ("y", "labels", "label", "target", "targets")
_DEFLATE = 1040  # a deflate stream grows by a factor of at most about 1032


@dataclass
class Found:
    """What was read from one file or folder.

    Args:
        x: the rows.
        names: the names of the columns, or None.
        labels: one label per row, either as found or as codes 0.. of ``label_names``; None if there are none.
        label_names: the words that the codes stand for, or None.
        key: the name of the array, if the .npz holds several; else None.
        fingerprint: SHA-256 of what was read, in hexadecimal, if it was computed while reading.
        notes: what the reader noticed and did, one sentence each.
        read: how the text of a table is written.
        row_names: the name of each row, if the source has names.
        row_kind: what the row names refer to, "file" or "cell".
    """

    x: Any
    names: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    key: str = ""
    label_names: tuple[str, ...] | None = None
    fingerprint: str = ""
    notes: list[str] = field(default_factory=list)
    read: Any = None
    row_names: tuple[str, ...] | None = None
    row_kind: str = ""


def files_below(root: Path, hidden: tuple[str, ...] = (".", "_")) -> list[str]:
    """The files below a folder as paths relative to it, separated by "/", sorted by name.

    Files and folders whose names begin with one of ``hidden`` are left out. Real folders come before linked ones, and
    no folder is entered twice, so links cannot form a circle. ``InputError`` if a folder cannot be read.
    """
    found, seen, waiting = [], set[tuple[int, int]](), [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status, entries = os.stat(folder), list(os.scandir(folder))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"{folder} cannot be read ({reason})", "check its permissions") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in (entry for entry in entries if not entry.name.startswith(hidden)):
            if os.path.isdir(entry.path):
                waiting.insert(0 if entry.is_symlink() else len(waiting), (Path(entry.path), f"{prefix}{entry.name}/"))
            else:
                found.append(prefix + entry.name)
    return in_order(found)


def in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.split("/"))


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on an untrusted file into an ``InputError`` that names the file."""
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path} cannot be read (permission denied)", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason})", "save it as a UTF-8 csv") from error
    except MemoryError as error:
        what = f"{path} does not fit in memory, or declares more than it holds"
        raise InputError(what, "get it again, or save it as .parquet or .npy and pass --stream") from error
    except Exception as error:
        if isinstance(error, EOFError) or "EOF" in str(error) or "Truncated" in str(error):
            raise InputError(f"{path} is truncated, as it ends before its data does", "get it again") from error
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is damaged or not what its name says ({reason:.200})", "get it again") from error


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its first bytes are those of gzip, bzip2, xz or Zstandard."""
    with open(path, "rb") as file:
        head = file.read(10)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return bz2.open(path, "rb")
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.open(path, "rb")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("IO[bytes]", pa.input_stream(str(path), compression="zstd"))
    return open(path, "rb")


def require_file(path: Path) -> None:
    """Raise ``InputError`` unless the path is a regular file that is not empty."""
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file", "save the data to one")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)", "give a file with data")


def require_labels(label: str, choices: Sequence[str], what: str) -> None:
    """Raise ``InputError`` unless ``label`` is one of ``choices`` or a file."""
    if label in choices:
        return
    if not os.path.isfile(re.sub(r"(?i)(\.npz):.+$", r"\1", os.path.expanduser(label))):
        remedy = f"choose one of {listed(choices)}, or give a file" if choices else "give a file with one label per row"
        raise InputError(f"{what} has no labels {label!r}, and there is no file of that name", remedy)


# .npy and .npz


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file; ``InputError`` unless the shape that it declares fits its size exactly."""
    with open(path, "rb") as file:
        return _read_npy(file, path.stat().st_size, str(path))


def npy_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether in Fortran order, dtype) of the .npy array in ``file``, whose position is then at the data.

    ``InputError`` unless the declared shape fits the ``size`` bytes of the file exactly and the dtype holds no Python
    objects.
    """
    if file.read(6) != b"\x93NUMPY":
        what = f"{what} is not an .npy array, as it does not start with the .npy magic"
        raise InputError(what, "save it with numpy.save")
    version = (file.read(1) + file.read(1)).ljust(2, b"\0")
    readers = {b"\1\0": np.lib.format.read_array_header_1_0, b"\2\0": np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise InputError(f"{what} has .npy version {version[0]}.{version[1]}", "save it as version 1.0 or 2.0")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects, which latens never unpickles", "save an array of numbers")
    if any(n < 0 for n in shape):
        raise InputError(f"{what} is damaged, as it declares the shape {shape}", "get it again")
    declared = math.prod(shape) * dtype.itemsize
    _require_size(what, f"shape {shape} of {dtype}", declared, size - file.tell())
    return shape, fortran, dtype


def _read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    shape, fortran, dtype = npy_header(file, size, what)
    values = np.empty(shape, dtype, order="F" if fortran else "C")
    _fill(file, values.T if fortran else values, what)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _require_size(what: str, declared_as: str, declared: int, there: int) -> None:
    if there < declared:
        size = f"{declared:,} bytes ({declared_as}) and has {there:,}"
        raise InputError(f"{what} is truncated, as it declares {size}", "get it again")
    if there > declared:
        more = there - declared
        size = f"{more:,} byte{'s' * (more > 1)} follow{'s' * (more == 1)} its data ({declared_as})"
        raise InputError(f"{what} is damaged, as {size}", "get it again")


def _fill(file: IO[bytes], values: np.ndarray, what: str) -> None:
    """Read exactly the bytes of ``values``, which must be C-contiguous; the file must end after them."""
    target = values.reshape(-1).view(np.uint8)
    done = 0
    while done < target.size:
        piece = file.read(min(1 << 22, target.size - done))
        if not piece:
            raise InputError(f"{what} is truncated, as it has {done:,} of {target.size:,} bytes", "get it again")
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    if file.read(1):
        raise InputError(f"{what} is damaged, as more bytes follow its data", "get it again")


def read_npz(path: Path, key: str | None, label: str | None) -> Found:
    """One array of an .npz file and its labels; the array is chosen by ``key``, or by its name if ``key`` is None."""
    size = path.stat().st_size
    with _open_npz(path) as (archive, members):
        if label is not None:
            require_labels(label, tuple(members), str(path))
        chosen = _choose_key(path, list(members), key, label)
        found = Found(_read_member(archive, members[chosen], path, size), key=chosen if len(members) > 1 else "")
        if label in members:
            found.labels = _read_member(archive, members[label], path, size)
        elif label is None:
            found.labels = _labels_within(archive, members, chosen, path, len(found.x))
    return found


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """All arrays of an .npz file by name; None unless all of ``names`` are among them."""
    with _open_npz(path) as (archive, members):
        if not set(names) <= set(members):
            return None
        size = path.stat().st_size
        return {name: _read_member(archive, info, path, size) for name, info in members.items()}


@contextmanager
def _open_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    with zipfile.ZipFile(path) as archive:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(-min(path.stat().st_size, 22 + len(archive.comment)), os.SEEK_END)
            if start not in (b"PK\3\4", b"PK\5\6") or file.read(4) != b"PK\5\6":
                raise InputError(f"{path} is damaged, as foreign bytes surround it", "get it again")
        yield archive, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _labels_within(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], chosen: str, path: Path, rows: int
) -> np.ndarray | None:
    """The labels whose name belongs to that of the chosen array (y_test to x_test) and whose length fits, or None."""
    partner = "y" + chosen[1:] if chosen[:1] in "xX" else "y"
    for name in (partner,) if partner != "y" else LABEL_KEYS:
        if name in members and name != chosen:
            with suppress(InputError):  # the user did not ask for labels
                values = _read_member(archive, members[name], path, path.stat().st_size)
                if values.shape in ((rows,), (rows, 1)):
                    return values
    return None


def _choose_key(path: Path, keys: list[str], key: str | None, label: str | None) -> str:
    there = listed(keys) or "none"
    if key is not None:
        if key in keys:
            return key
        raise InputError(f"{path} has no array {key!r}", f"choose one of {there}")
    others = [name for name in keys if name != label]
    if len(others) == 1:
        return others[0]
    for name in DATA_KEYS:
        if name in others:
            return name
    raise InputError(f"{path} holds several arrays or none ({there})", f"choose one with {path}:KEY")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, size: int) -> np.ndarray:
    what = f"{path}:{info.filename.removesuffix('.npy')}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{what} is compressed in a way that numpy does not write", "save it with numpy.savez")
    if info.file_size > size * (_DEFLATE if info.compress_type == zipfile.ZIP_DEFLATED else 1):
        raise InputError(f"{path} is damaged, as {info.filename} declares {info.file_size:,} bytes", "get it again")
    with archive.open(info) as file:
        return _read_npy(file, info.file_size, what)


# IDX


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not (LeCun, Cortes & Burges, the MNIST database), ``[N, ...]``. Raises
    ``InputError`` if the file is not IDX, or is damaged."""
    with open_plain(path) as file:
        magic = file.read(4)
        code, axes = (magic[2], magic[3]) if len(magic) == 4 else (0, 0)
        if magic[:2] != b"\0\0" or code not in _IDX_TYPES or axes == 0:
            seen = f"its magic is {magic.hex(' ') or 'missing'}, not 00 00, a type and a number of axes"
            raise InputError(f"{path} is not an IDX file, as {seen}", "get it again")
        header = file.read(4 * axes)
        if len(header) < 4 * axes:
            raise InputError(f"{path} is truncated within its header", "get it again")
        shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
        dtype = np.dtype(_IDX_TYPES[code])
        declared, size = math.prod(shape) * dtype.itemsize, path.stat().st_size
        if isinstance(file, gzip.GzipFile):  # the exact size is known only at the end; this is an upper bound
            _require_size(str(path), f"shape {shape}", declared, min(declared, _DEFLATE * size))
        else:
            _require_size(str(path), f"shape {shape}", declared, size - file.tell())
        if axes > 32:
            raise InputError(f"{path} declares {axes} axes", "give an array with at most 32 axes")
        values = np.empty(shape, dtype)
        _fill(file, values, str(path))
    return values.astype(dtype.newbyteorder("="), copy=False)


def labels_beside(path: Path) -> Path | None:
    """The IDX file of labels whose name belongs to that of a file of images; None if there is none."""
    name = re.sub(r"images([-.])idx3", r"labels\1idx1", path.name)
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    return next((p for p in (path.with_name(n) for n in (name, plain, plain + ".gz")) if p.is_file()), None)
