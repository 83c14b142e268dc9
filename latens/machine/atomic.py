"""Write files so that a reader sees either the old content or the new content, never part of it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from latens.errors import InputError
from latens.machine.folder import Folder, Part

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS, PAUSE = 30, 0.05  # attempts to own a folder, and the pause between them in seconds


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears at ``path`` when the block ends without an exception.

    The content goes to a hidden temporary file in the same folder. This file is flushed to disk, then renamed.
    Any exception, Ctrl-C included, removes the temporary file and leaves the old content of ``path`` untouched.
    For an fsspec address (``s3://bucket/codes.csv``), the content is uploaded when the block ends without an exception.
    A symbolic link stays a link: the file that it points to is written. If ``path`` is a
    :class:`latens.machine.folder.Part`, a link is refused.

    Raises:
        InputError: the folder is missing, ``path`` is a folder or a device, the disk is full, or writing is not
            allowed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(folder + "/notes.txt") as file:
    ...         _ = file.write(b"hello")
    ...     os.listdir(folder)
    ['notes.txt']
    """
    if address := address_of(path):
        with _uploaded(address) as file:
            yield file
        return
    part = path if isinstance(path, Part) else Part.of(writable(path))
    temporary = part.folder / f".{part.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        with part.folder.opened() as place:
            part.require_plain(place)
            try:
                with open(temporary.at(place), "x+b", opener=partial(os.open, mode=0o666, dir_fd=place)) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary.at(place), part.at(place), src_dir_fd=place, dst_dir_fd=place)
                if place is not None:  # so that the rename survives a power cut
                    os.fsync(place)
            finally:
                with suppress(OSError):  # after the rename there is nothing to remove
                    os.unlink(temporary.at(place), dir_fd=place)
    except OSError as error:
        reason = error.strerror or f"{error}; the disk may be full"
        why = f"{reason[:1].lower()}{reason[1:]}"
        raise InputError(f"cannot write {path} ({why})", "make room there, or name another file") from error


@contextmanager
def terminable() -> Iterator[None]:
    """Within the block, SIGTERM acts like Ctrl-C, so the file being written is finished or removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The path as an fsspec address, with the slashes that ``Path`` removes; None if it is not an address.

    >>> address_of(Path("s3://bucket/codes.csv")), address_of("codes.csv")
    ('s3://bucket/codes.csv', None)
    """
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", os.fspath(path))
    return f"{found[1]}://{found[2]}" if found else None


@contextmanager
def _uploaded(address: str) -> Iterator[BinaryIO]:
    """A temporary file on this machine, uploaded when the block ends without an exception."""
    system, path = _system_of(address)
    with tempfile.TemporaryDirectory(prefix="latens-") as folder:
        whole = os.path.join(folder, "whole")
        with open(whole, "x+b") as file:
            yield file
        with _reached(address):
            system.put_file(whole, path)


def _system_of(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    with _reached(address):
        return url_to_fs(address)


@contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the package of a protocol may raise anything
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise InputError(f"cannot write {address} ({reason})", "correct the address, or check your access") from error


def writable(path: str | os.PathLike[str]) -> Path:
    """The file that ``path`` leads to. Raise ``InputError`` if it cannot be written. Call this before long work. For an
    address, only the protocol is checked."""
    if address := address_of(path):
        _system_of(address)
        return Path(path)
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target.parent):
        raise InputError(f"cannot write {path}, as the folder {target.parent} does not exist", "make the folder first")
    if os.path.isdir(target):
        raise InputError(f"cannot write {path}, as it is a folder", "name a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"cannot write {path}, as it is not a regular file", "name another file")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}, as you cannot write in {target.parent}", "name another file")
    return target


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes to ``path`` atomically; errors as in :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write text to ``path`` as UTF-8, atomically; errors as in :func:`atomic_write`."""
    write_bytes(path, content.encode("utf-8"))


def leftovers(folder: Folder) -> list[Part]:
    """The temporary files that a killed process left in the folder. Call this as :func:`sole_owner` of the folder."""
    return [part for part in folder.parts() if re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", part.name)]


@contextmanager
def sole_owner(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Own the folder alone within the block. Raise ``InputError`` if another process still owns it after a second or
    two. A killed process ends within this time, and then owns nothing."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for left in reversed(range(ATTEMPTS)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not left:
                    raise InputError(f"another process is at work in {folder}: wait for it, or stop it") from None
                time.sleep(PAUSE)
                continue
            except OSError:
                pass  # a file system without locks
            break
        yield
    finally:
        os.close(descriptor)
