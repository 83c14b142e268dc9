"""Files at a path or address: list a folder, read parts of a file by position, and fingerprint files."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latens.data.array_files import files_below, in_order
from latens.data.tables.folders import Keys, is_shown, keys_of
from latens.errors import InputError

TAIL = 1 << 16  # the fingerprint reads this many bytes at the end of a file: all or most of a Parquet footer


@dataclass(frozen=True)
class File:
    """One file.

    Args:
        name: the name that messages show.
        path: the path by which the file system finds it.
        size: in bytes.
        system: an fsspec file system, or None for a local file.
        keys: the partitions that the file is in, ``{column: value}``.
    """

    name: str
    path: str
    size: int
    system: Any = None
    keys: Keys = field(default_factory=dict)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``. No position is shared, so several threads may call this.
        ``InputError`` if the file can no longer be read."""
        try:
            if self.system is not None:
                return bytes(self.system.cat_file(self.path, start=start, end=stop))
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            what = f"{self.name} cannot be read ({_reason(error)})"
            raise InputError(what, "try again, or check its permissions") from error

    def handle(self) -> str | Ranges:
        """An argument for pyarrow: a local path, or a file object of which every read requests one range of bytes."""
        return self.path if self.system is None else Ranges(self)


class Ranges(io.RawIOBase):
    """A read-only file object over :meth:`File.read`, with a separate position."""

    def __init__(self, file: File):
        self._file, self._at = file, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, as file objects do, and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next ``size`` bytes, or all that remain."""
        stop = self._file.size if size is None or size < 0 else min(self._file.size, self._at + size)
        data = self._file.read(self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data


def files_at(path: str | os.PathLike[str], suffix: str = "") -> list[File]:
    """The file at a path or fsspec address, or the files below a folder whose names end in ``suffix``, sorted by name.
    Hidden files and folders are ignored.

    Raises:
        InputError: nothing is there, the folder has no such file, or the address cannot be reached.
    """
    name = os.fspath(path)
    if "://" in name:
        return _remote_files(name, suffix)
    place = Path(name).expanduser()
    if place.is_dir():
        inside = [own for own in files_below(place) if own.lower().endswith(suffix) and (place / own).is_file()]
        if not inside:
            raise InputError(f"{name} is a folder without {suffix or 'any'} files", "give the folder that holds them")
        return [File(str(p), str(p), p.stat().st_size, keys=keys_of(own)) for own in inside for p in (place / own,)]
    if not place.exists():
        raise InputError(f"there is no file or folder {name}", "correct the path")
    return [File(name, str(place), place.stat().st_size)]


def _remote_files(address: str, suffix: str) -> list[File]:
    system, found = _remote_entries(address, suffix)
    if not found:
        raise InputError(f"{address} is a folder without {suffix or 'any'} files", "give the folder that holds them")
    if unsized := [entry["name"] for entry in found.values() if entry.get("size") is None]:
        raise InputError(f"the size of {unsized[0]} cannot be determined", "copy the file to this machine")
    return [
        File(system.unstrip_protocol(entry["name"]), entry["name"], int(entry["size"]), system, keys_of(own))
        for own, entry in found.items()
    ]


def _remote_entries(address: str, suffix: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """(the file system of an address; its entry for each file there, by the file's path below the address)."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"reading {address} needs fsspec", "install it, or copy the files to this machine") from error
    try:
        system, path = url_to_fs(address)
        if not system.isdir(path):
            return system, {"": system.info(path)}
        below = {posixpath.relpath(name, path): entry for name, entry in system.find(path, detail=True).items()}
        wanted = in_order(own for own in below if own.lower().endswith(suffix) and is_shown(own))
        return system, {own: below[own] for own in wanted}
    except FileNotFoundError as error:
        raise InputError(f"there is no file or folder {address}", "correct the address") from error
    except Exception as error:  # the package of a protocol may raise anything
        what = f"{address} cannot be reached ({_reason(error)})"
        raise InputError(what, "correct the address, or check your access") from error


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()).rstrip(".") or type(error).__name__)[:200]


def fingerprint_files(paths: Iterable[str | os.PathLike[str]], suffix: str = "") -> str:
    """SHA-256 of the names, sizes and last 64 KiB of files. For Parquet the last 64 KiB hold the footer, with the size
    and bounds of every chunk.

    Names are relative to the folder that the files share, and their order does not matter, so a moved folder keeps its
    fingerprint. A large file that is rewritten with the same size and the same last 64 KiB goes unnoticed. A folder
    stands for the files in it that end in ``suffix``. Errors as in :func:`files_at`.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.bin")
    ...     _ = path.write_bytes(b"first")
    ...     first = fingerprint_files([path])
    ...     _ = path.write_bytes(b"other")
    ...     print(len(first), fingerprint_files([path]) == first)
    64 False
    """
    found = [file for path in paths for file in files_at(path, suffix)]
    unique = {(os.path.abspath(file.path) if file.system is None else file.path): file for file in found}
    files = sorted(unique.items())
    names = [path.replace(os.sep, "/") for path, _ in files]
    folder = posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""
    digest = hashlib.sha256()
    for name, (_, file) in zip(names, files):
        tail = file.read(max(0, file.size - TAIL), file.size)
        digest.update(f"{posixpath.relpath(name, folder or '.')}\0{file.size}\0{len(tail)}\0".encode())
        digest.update(tail)
    return digest.hexdigest()
