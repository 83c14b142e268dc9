"""Arrays in files of a declared shape: .npy, .npz, IDX.

Files are not trusted: nothing is unpickled, and a declared size is compared with the size of the file before memory is
taken.
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
from latens.schema.arrow import pa
from latens.schema.cells import listed

DATA_KEYS = ("x", "X", "data", "images", "x_train", "X_train", "features")
LABEL_KEYS = ("y", "labels", "label", "target", "targets")
_DEFLATE = 1040  # no deflate stream grows more than about 1032 times


@dataclass
class Found:
    """What one place gave.

    Args:
        x: the rows.
        names: of the columns, where there are any.
        labels: one a row, as they were found; codes 0.. of ``label_names`` where there are such.
        key: the array's among several in an .npz.
        fingerprint: SHA-256 of what was read, in hexadecimal, where it is told at once.
        notes: what was seen and done, a sentence each.
        read: how the text of a table is written.
        row_names: what each row is called, where the place says; ``row_kind``, "file" or "cell", is what they name.
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
    """The files below a folder by their path from there, parted by "/", in the order of their names; what begins as
    ``hidden`` and what lies in such folders is left out. Real folders come before linked ones, and none is entered
    twice, so that links cannot make a circle."""
    found, seen, waiting = [], set[tuple[int, int]](), [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status, entries = os.stat(folder), list(os.scandir(folder))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"{folder} cannot be read ({reason}): check its permissions") from error
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
        if isinstance(error, EOFError) or "EOF" in str(error) or "Truncated" in str(error):
            raise InputError(f"{path} is truncated: it ends before its data does; get it again.") from error
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is damaged or not what its name says ({reason:.200}); get it again.") from error


def open_plain(path: Path) -> IO[bytes]:
    """The file, decompressed where its first bytes say gzip, bzip2, xz or Zstandard."""
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
    """InputError unless it is a regular file with something in it."""
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file; save the data to one.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); give a file with data.")


def require_labels(label: str, choices: Sequence[str], what: str) -> None:
    """InputError unless ``label`` is one of ``choices`` or a file."""
    if label in choices:
        return
    if not os.path.isfile(re.sub(r"(?i)(\.npz):.+$", r"\1", os.path.expanduser(label))):
        inside = f"it has: {listed(choices)}" if choices else "it has no columns or keys to choose from"
        raise InputError(f"no labels {label!r} in {what} ({inside}), and no file of that name.")


# .npy and .npz


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, whose declared shape must fit its size exactly."""
    with open(path, "rb") as file:
        return _read_npy(file, path.stat().st_size, str(path))


def npy_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of the .npy array in ``file``, which has ``size`` bytes: the declared shape must
    fit them exactly. The data come next."""
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
    return shape, fortran, dtype


def _read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    shape, fortran, dtype = npy_header(file, size, what)
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


def read_npz(path: Path, key: str | None, label: str | None) -> Found:
    """One array of an .npz file, chosen by ``key`` or by its name, and the labels that go with it."""
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
    """All arrays of an .npz file; None unless those of these names are among them."""
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
                raise InputError(f"{path} is damaged: bytes that are not its own stand around it; get it again.")
        yield archive, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


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
    there = listed(keys) or "none"
    if key is not None:
        if key in keys:
            return key
        raise InputError(f"{path} has no array {key!r}; its arrays are: {there}.")
    others = [name for name in keys if name != label]
    if len(others) == 1:
        return others[0]
    for name in DATA_KEYS:
        if name in others:
            return name
    raise InputError(f"{path} holds several arrays or none ({there}); choose one with {path}:KEY.")


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


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not (LeCun, Cortes & Burges, the MNIST database)."""
    with open_plain(path) as file:
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


def labels_beside(path: Path) -> Path | None:
    """The IDX file of labels that belongs to one of images by its name, if it is there."""
    name = re.sub(r"images([-.])idx3", r"labels\1idx1", path.name)
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    return next((p for p in (path.with_name(n) for n in (name, plain, plain + ".gz")) if p.is_file()), None)
