"""A folder of images as one array, or as a lazy leaf that decodes a batch at a time; subfolders are labels.

Files are not trusted: formats are told by their contents, sizes are read from the headers before anything is decoded.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.images.pixels import MAX_SIDE, Form, Head, common_form, count, pixels_of, read_head
from latens.data.lazy import Lazy
from latens.errors import InputError, is_whole

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif")
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF")
IN_MEMORY = 2 << 30  # bytes of pixels (and of files, for the fingerprint) up to which all is read at once


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images as they were found, in the order of their names.

    Args:
        x: ``[N, H, W]`` gray or ``[N, C, H, W]`` in colour, uint8 (uint16 where all are 16-bit gray).
        labels: codes 0.. of ``label_names``, the subfolders, ``[N]``; None without subfolders.
        names: the files, relative to the folder, separated by "/".
        notes: what was seen and done, a sentence each.
        skipped: the files left out as damaged, with the reason.
        fingerprint: SHA-256 of the form of ``x``, the names and the bytes of the files (beyond 2 GiB of files, their
            sizes and times instead), in hexadecimal.
    """

    x: np.ndarray | ImageFiles
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    fingerprint: str = ""


def image_folder(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | int | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    in_memory: int = IN_MEMORY,
) -> ImageFolder:
    """Read every image in a folder and its subfolders, turned as EXIF says, the first frame of several.

    Files are sorted by their path, names compared letter by letter; hidden ones are left out. Where every image is
    gray, so is the array; 16-bit gray stays so if all are; black and white is 0 and 1 if all are; otherwise it is RGB.
    Transparency is laid on white, unless every image has it and any is in colour (RGBA). With ``size``, an image of
    another size is scaled to cover it (Lanczos, aspect kept) and cropped about its centre. Subfolders of the first
    level are labels where at least two hold images and none lies beside them.

    Args:
        path: the folder.
        size: (height, width), or one number for both.
        skip_bad: leave damaged files out, counted in ``skipped``, instead of refusing them.
        progress: called with (files read, files in all).
        in_memory: bytes of pixels up to which the array is made at once; beyond it, ``x`` is an ``ImageFiles``.

    Raises:
        InputError: no folder, no images, several sizes and no ``size``, a damaged file, or one of more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``; one sentence with the name.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a", "b"):
    ...         Image.new("L", (4, 3), 7).save(f"{folder}/{name}.png")
    ...     found = image_folder(folder)
    >>> found.x.shape, found.x.dtype, found.names
    ((2, 3, 4), dtype('uint8'), ('a.png', 'b.png'))
    """
    root = Path(path).expanduser()
    wanted = _size(size)
    names, notes = _walk(root)
    skipped: list[str] = []
    heads: dict[str, Head] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL: what matters is refused
        for name in names:
            try:
                heads[name] = read_head(root / name)
            except InputError as error:
                _skip(error, skip_bad, skipped)
    _require_some(root, heads, skipped)
    form = common_form(root, tuple(heads.values()), wanted, notes)
    files = ImageFiles(root, tuple(heads), form)
    x: np.ndarray | ImageFiles = files
    if files.nbytes <= in_memory or skip_bad:
        pixels = np.empty(files.shape, files.kind) if files.nbytes <= in_memory else None
        kept = _decode_all(files, pixels, skip_bad, skipped, progress)
        _require_some(root, kept, skipped)
        files = ImageFiles(root, tuple(files.names[i] for i in kept), form)
        x = files if pixels is None else pixels if len(kept) == len(pixels) else pixels[kept]
    if skipped:
        notes.append(f"{count(len(skipped), 'damaged file')} left out, the first: {skipped[0]}")
    labels, label_names = _labels(files.names)
    return ImageFolder(x, labels, label_names, files.names, notes, skipped, _fingerprint(files))


class ImageFiles(Lazy):
    """Images of one form, decoded by a few threads when their rows are asked for.

    Raises ``InputError`` naming the file, where one is damaged or has changed.
    """

    def __init__(self, root: Path, names: tuple[str, ...], form: Form):
        self.root, self.names, self.form = root, names, form
        self.shape, self.kind = (len(names), *form.shape), np.dtype(np.uint16 if form.mode == "I;16" else np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes that all pixels take."""
        return self.numel() * self.kind.itemsize

    def one(self, row: int) -> np.ndarray:
        """The pixels ``[*shape]`` of one file."""
        return pixels_of(self.root / self.names[row], self.form)

    def rows(self, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *self.shape[1:]), self.kind)
        with ThreadPoolExecutor(_threads()) as pool:
            for place, image in enumerate(pool.map(self.one, index.tolist())):
                out[place] = image
        return out


# Which files?


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """The images below ``root``, sorted, and a note of what else is there. Real folders come before linked ones, and
    none is entered twice, so that links cannot make a circle."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give a folder of images.")
    found: list[tuple[str, ...]] = []
    others, seen, waiting = 0, set[tuple[int, int]](), deque([(root, ())])
    while waiting:
        folder, parts = waiting.popleft()
        try:
            status = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {(error.strerror or str(error)).lower()}.") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            place: Any = (Path(entry.path), (*parts, entry.name))
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                (waiting.append if entry.is_symlink() else waiting.appendleft)(place)
            elif os.path.isfile(entry.path) and entry.name.lower().endswith(EXTENSIONS):
                found.append(place[1])
            else:
                others += 1
    if not found:
        inside = (
            f"; {count(others, 'other file')} in it {'have' if others > 1 else 'has'} none of these extensions"
            if others
            else ""
        )
        raise InputError(f"{root} holds no images ({', '.join(EXTENSIONS)}){inside}.")
    notes = [f"{count(others, 'file')} that are no images were left alone"] if others else []
    return ["/".join(parts) for parts in sorted(found)], notes


def _labels(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Codes and names of the subfolders of the first level."""
    folders = [name.split("/")[0] for name in names]
    classes = sorted(set(folders))
    if len(classes) < 2 or not all("/" in name for name in names):
        return None, None
    code = {name: number for number, name in enumerate(classes)}
    return np.array([code[name] for name in folders], np.int64), tuple(classes)


def _fingerprint(files: ImageFiles) -> str:
    form = files.form
    digest = hashlib.sha256(f"{len(files)} {form.mode} {form.height} {form.width}".encode())
    paths = [files.root / name for name in files.names]
    try:
        statuses = [path.stat() for path in paths]
        whole = sum(status.st_size for status in statuses) <= IN_MEMORY
        for name, path, status in zip(files.names, paths, statuses):
            digest.update(f"\n{len(name)} {name} {status.st_size} ".encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes() if whole else str(status.st_mtime_ns).encode())
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    return digest.hexdigest()


# Decoding


def _decode_all(
    files: ImageFiles, pixels: np.ndarray | None, skip_bad: bool, skipped: list[str],
    progress: Callable[[int, int], None] | None,
) -> list[int]:  # fmt: skip
    """Decode every file, into ``pixels`` if there is such an array; the rows that could be."""

    def attempt(row: int) -> np.ndarray | InputError:
        try:
            return files.one(row)
        except InputError as error:
            return error

    kept: list[int] = []
    with ThreadPoolExecutor(_threads()) as pool:
        for start in range(0, len(files), 64):
            some = range(start, min(start + 64, len(files)))
            for row, image in zip(some, pool.map(attempt, some)):
                if isinstance(image, InputError):
                    _skip(image, skip_bad, skipped)
                    continue
                if pixels is not None:
                    pixels[row] = image
                kept.append(row)
            if progress is not None:
                progress(some[-1] + 1, len(files))
    return kept


def _threads() -> int:
    return min(8, os.cpu_count() or 1)


# Words


def _size(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in pair):
        what = f"a whole number of pixels from 1 to {MAX_SIDE:,}, or (height, width)"
        raise InputError(f"size must be {what}, got {size!r}.")
    return int(pair[0]), int(pair[1])


def _skip(error: InputError, skip_bad: bool, skipped: list[str]) -> None:
    """Raise the error, or note it down."""
    if not skip_bad:
        raise error
    skipped.append(str(error).split(";")[0])


def _require_some(root: Path, kept: Any, skipped: list[str]) -> None:
    if not kept:
        raise InputError(f"{root} holds no image that can be read; the first of {len(skipped):,}: {skipped[0]}.")
