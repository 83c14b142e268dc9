"""Folders that latens writes and reads again, such as a run's folder, which may come from somebody else.

A link in such a folder would make latens read or write elsewhere, and reading a device or a pipe would never end.
Therefore every file there is opened as a :class:`Part`: a regular file, opened by its name relative to the folder,
without following links. It is checked after it is opened, so nobody can replace it between the check and the opening.
The folder itself, which the user names, may be a link. A hard link cannot be told from other regular files. Some
systems (Windows) have no file descriptors for folders; on these, latens checks the paths instead, without that
guarantee.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from latens.errors import InputError

TEXT = 2**28  # bytes of the largest text file; reading JSON takes several times its size in memory
_BY_DESCRIPTOR = {os.open, os.stat, os.unlink, os.mkdir, os.rmdir, os.rename} <= os.supports_dir_fd
_UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_OF_FOLDERS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {
    stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file",
}  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """A folder: ``root`` and the folders ``inner`` below it, none of which is a link. It need not exist.

    >>> import tempfile
    >>> folder = Folder(tempfile.mkdtemp()).inside("checkpoint")
    >>> folder.make()
    >>> os.symlink("/dev/zero", folder.path / "state.json")
    >>> try:
    ...     (folder / "state.json").read()
    ... except InputError as error:
    ...     print(str(error).partition("state.json ")[2])
    is a link: remove it, or put the file itself there
    """

    root: str | os.PathLike[str]
    inner: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.inner:
            _require_name(name, self.root)

    @classmethod
    def below(cls, root: str | os.PathLike[str], path: str | os.PathLike[str]) -> Folder:
        """The folder at a path below ``root``."""
        return cls(root, Path(path).relative_to(root).parts)

    @property
    def path(self) -> Path:
        """The path of the folder."""
        return Path(self.root, *self.inner)

    def inside(self, name: str) -> Folder:
        """The folder ``name`` in this one."""
        return Folder(self.root, (*self.inner, name))

    def __truediv__(self, name: str) -> Part:
        return Part(self, name)

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """A file descriptor of the folder; None if the system has none. Raise ``InputError`` if an inner folder is a
        link or a file, and ``OSError`` if the folder is missing or the user may not open it."""
        if not _BY_DESCRIPTOR:
            for depth, name in enumerate(self.inner):
                path = Path(self.root, *self.inner[:depth], name)
                _require(os.lstat(path).st_mode, stat.S_IFDIR, path)
            yield None
            return
        place = os.open(self.root, _OF_FOLDERS)
        try:
            for depth, name in enumerate(self.inner, 1):
                mode = os.stat(name, dir_fd=place, follow_symlinks=False).st_mode
                _require(mode, stat.S_IFDIR, Path(self.root, *self.inner[:depth]))
                below = os.open(name, _OF_FOLDERS | _UNFOLLOWED, dir_fd=place)
                os.close(place)
                place = below
            yield place
        finally:
            os.close(place)

    def parts(self, pattern: str = "*") -> list[Part]:
        """The contents whose names match ``pattern``, sorted; empty if there is no folder."""
        try:
            with self.opened() as place:
                names = os.listdir(self.path if place is None else place)
        except FileNotFoundError:
            return []
        return [self / name for name in sorted(names) if fnmatch(name, pattern)]

    def require_plain(self) -> None:
        """Raise ``InputError`` if one of the inner folders exists and is a link or a file."""
        with suppress(FileNotFoundError), self.opened():
            pass

    def make(self) -> None:
        """Create the folder if it does not exist. Its parent must exist."""
        if not self.inner:
            self.path.mkdir(exist_ok=True)
            return
        with Folder(self.root, self.inner[:-1]).opened() as place, suppress(FileExistsError):
            os.mkdir(self.path if place is None else self.inner[-1], dir_fd=place)
        self.require_plain()

    def remove(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):
            if not self.inner:
                os.rmdir(self.root)
                return
            with Folder(self.root, self.inner[:-1]).opened() as place:
                os.rmdir(self.path if place is None else self.inner[-1], dir_fd=place)


@dataclass(frozen=True)
class Part(os.PathLike[str]):
    """A file in a :class:`Folder`. It may not exist yet. Use its path in messages only."""

    folder: Folder
    name: str

    def __post_init__(self) -> None:
        _require_name(self.name, self.folder)

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Part:
        """The file at a path in a folder that the user named."""
        return path if isinstance(path, Part) else cls(Folder(Path(path).parent), Path(path).name)

    def __fspath__(self) -> str:
        return str(self.folder.path / self.name)

    def __str__(self) -> str:
        return os.fspath(self)

    def at(self, place: int | None) -> str:
        """The name of the file relative to ``place``, the descriptor of its folder."""
        return os.fspath(self) if place is None else self.name

    def status(self, place: int | None) -> os.stat_result | None:
        """The status of the file, or of a link of that name; None if neither exists."""
        try:
            return os.stat(self.at(place), dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Whether a file, folder or link of that name exists."""
        try:
            with self.folder.opened() as place:
                return self.status(place) is not None
        except (FileNotFoundError, NotADirectoryError):
            return False

    def require_plain(self, place: int | None) -> None:
        """Raise ``InputError`` if the name belongs to anything but a regular file."""
        found = self.status(place)
        if found is not None:
            _require(found.st_mode, stat.S_IFREG, self)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The regular file, open for reading. Raise ``InputError`` for anything else, and ``OSError`` as ``open``
        does."""
        with self.folder.opened() as place:
            self.require_plain(place)
            flags = os.O_RDONLY | _UNFOLLOWED | getattr(os, "O_BINARY", 0)
            with open(self.at(place), "rb", opener=lambda name, _: os.open(name, flags, dir_fd=place)) as file:
                _require(os.fstat(file.fileno()).st_mode, stat.S_IFREG, self)
                yield file

    def read(self, most: int = TEXT) -> bytes:
        """The bytes of the file. Raise ``InputError`` if it has more than ``most``, or as :meth:`opened` does."""
        with self.opened() as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise InputError(f"{self} has {size:,} bytes, more than {most:,}", "restore it from a copy")
            return file.read(size)

    def remove(self) -> None:
        """Remove the file, or a link of that name, if there is one."""
        with suppress(FileNotFoundError), self.folder.opened() as place:
            os.unlink(self.at(place), dir_fd=place)


def _require_name(name: str, where: object) -> None:
    if Path(name).name != name or "\0" in name or name in ("", ".."):
        raise InputError(f"{name!r} is not the name of a file or folder in {where}", "restore the folder from a copy")


def _require(mode: int, kind: int, path: os.PathLike[str]) -> None:
    if stat.S_IFMT(mode) != kind:
        found, wanted = _KINDS.get(stat.S_IFMT(mode), "no file"), _KINDS[kind].partition(" ")[2]
        raise InputError(f"{os.fspath(path)} is {found}", f"remove it, or put the {wanted} itself there")
