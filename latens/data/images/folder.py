"""Read a folder of images as one array, or as a lazy array that decodes one batch at a time; subfolders are labels.

Files are not trusted: formats are found from the contents, and sizes are read from headers before decoding.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latens.data.array_files import Found, files_below
from latens.data.images.pixels import MAX_SIDE, ImageHead, PixelForm, common_form, count, pixels_of, read_heads
from latens.data.lazy import Lazy
from latens.errors import InputError, is_whole
from latens.machine.processor import cores

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif")
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF")
IN_MEMORY = 2 << 30  # images of more bytes are read lazily; files of more bytes are not read for the fingerprint


@dataclass
class ImageFolder(Found):
    """Images as found, in the order of their names.

    Args:
        x: ``[N, H, W]`` grey or ``[N, C, H, W]`` in colour, uint8 (uint16 if all are 16-bit grey).
        labels: codes ``[N]`` of ``label_names``, or None.
        label_names: the names of the subfolders, or None.
        row_names: the paths of the files relative to the folder, separated by "/"; "name#2" is the second page.
        fingerprint: SHA-256 of the form of ``x``, the names of the files, and their bytes. If the files exceed 2 GiB,
            their sizes and times are used instead of their bytes.
        notes: what was done to the images, in sentences.
        skipped: the files that were left out as damaged, each with the reason.
    """

    row_kind: str = "file"
    skipped: list[str] = field(default_factory=list)


def image_folder(
    path: str | os.PathLike[str], *, size: tuple[int, int] | int | None = None, skip_bad: bool = False,
    pages: bool = False, progress: Callable[[int, int], None] | None = None, in_memory: int = IN_MEMORY,
) -> ImageFolder:  # fmt: skip
    """Read every image in a folder and its subfolders, rotated as EXIF says.

    If a file has several pages (TIFF) or frames (GIF, WebP, PNG), the first is read; with ``pages``, each page is a
    row. A single file is a stack whose pages are rows. Files are sorted by path, character by character; hidden files
    are left out. If every image is grey, the array is grey. It is 16-bit if all images are 16-bit, and has the values 0
    and 1 if all images are black and white. If any image has colours, the array is RGB. Transparent images are laid on
    white, unless all have transparency and at least one is in colour (then RGBA). With ``size``, images of other sizes
    are scaled to cover it, with their aspect ratio (Lanczos), and cropped around the centre.

    Args:
        path: the folder, or one file.
        size: (height, width), or one number for both.
        skip_bad: whether to leave out damaged files (and pages) and list them in ``skipped``, instead of raising an
            error.
        pages: whether every page is a row; otherwise a note says how many pages were left out.
        progress: called with (files read, all files).
        in_memory: up to this many bytes of pixels, the array is made at once; beyond, ``x`` is an ``ImageFiles``.

    Raises:
        InputError: there is no folder or no image, sizes differ and ``size`` is not given, or a file is damaged or has
            more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``; the message names the file.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a", "b"):
    ...         Image.new("L", (4, 3), 7).save(f"{folder}/{name}.png")
    ...     found = image_folder(folder)
    >>> found.x.shape, found.x.dtype, found.row_names
    ((2, 3, 4), dtype('uint8'), ('a.png', 'b.png'))
    """
    root = Path(path).expanduser()
    wanted = _size(size)
    is_stack = os.path.isfile(root)
    files, notes = ([root.name], []) if is_stack else _walk(root)
    folder, pages = (root.parent, True) if is_stack else (root, pages)
    skipped: list[str] = []
    heads = _heads(folder, files, pages, skip_bad, skipped)
    _require_some(root, heads, skipped)
    form = common_form(root, {page.name(pages): head for page, head in heads.items()}, wanted, notes)
    images = ImageFiles(folder, tuple(heads), form, pages)
    x: np.ndarray | ImageFiles = images
    if images.nbytes <= in_memory or skip_bad:
        pixels = np.empty(images.shape, images.kind) if images.nbytes <= in_memory else None
        kept = _decode_all(images, pixels, skip_bad, skipped, progress)
        _require_some(root, kept, skipped)
        images = ImageFiles(folder, tuple(images.places[i] for i in kept), form, pages)
        x = images if pixels is None else pixels if len(kept) == len(pixels) else pixels[kept]
    if skipped:
        notes.append(f"{count(len(skipped), 'damaged file')} left out, the first: {skipped[0]}")
    notes += [] if pages else _left_out(heads)
    labels, label_names = _labels(images.names)
    return ImageFolder(
        x, labels=labels, label_names=label_names, row_names=images.names, notes=notes, skipped=skipped,
        fingerprint=_fingerprint(images),
    )  # fmt: skip


def _heads(folder: Path, files: list[str], pages: bool, skip_bad: bool, skipped: list[str]) -> dict[Page, ImageHead]:
    """The headers of all pages, or of the first page of each file."""
    heads: dict[Page, ImageHead] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of minor damage; only errors matter
        for name in files:
            try:
                found, there = read_heads(folder / name, pages)
            except InputError as error:
                _skip(error, skip_bad, skipped)
            else:
                heads |= {Page(name, number, there): head for number, head in enumerate(found)}
    return heads


def _left_out(first_pages: Iterable[Page]) -> list[str]:
    """A note on files with several pages, if there are any."""
    left = [page for page in first_pages if page.of > 1]
    if not left:
        return []
    most, further = max(left, key=lambda page: page.of), count(sum(page.of - 1 for page in left), "page")
    return [
        f"of {count(len(left), 'file')} with several pages, only the first page was read, and {further} were left out "
        f"({most.of - 1:,} of {most.file}): fit with --pages to make each page a row"
    ]


class Page(NamedTuple):
    """A page of a file: its ``number``, counted from 0, and the number of pages, ``of``."""

    file: str
    number: int
    of: int

    def name(self, pages: bool) -> str:
        """The file's name, with the page number (from 1) if every page is a row and the file has several pages."""
        return f"{self.file}#{self.number + 1}" if pages and self.of > 1 else self.file


class ImageFiles(Lazy):
    """Images of one form, decoded by a few threads when their rows are indexed.

    Raises an ``InputError`` that names the file if one is damaged or has changed.
    """

    def __init__(self, root: Path, places: tuple[Page, ...], form: PixelForm, pages: bool = False):
        self.root, self.places, self.form = root, places, form
        self.names = tuple(place.name(pages) for place in places)
        self.shape, self.kind = (len(places), *form.shape), np.dtype(np.uint16 if form.mode == "I;16" else np.uint8)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all pixels."""
        return self.numel() * self.kind.itemsize

    def each(self, rows: Sequence[int]) -> list[np.ndarray | InputError]:
        """The pixels ``[*shape]`` of each row, or the error if it cannot be decoded; each file is opened once."""
        of_file: dict[str, set[int]] = {}
        for row in rows:
            of_file.setdefault(self.places[row].file, set()).add(self.places[row].number)

        def decode(file: str) -> dict[tuple[str, int], np.ndarray | InputError]:
            pages = sorted(of_file[file])
            return {(file, page): one for page, one in zip(pages, pixels_of(self.root / file, self.form, pages))}

        found: dict[tuple[str, int], np.ndarray | InputError] = {}
        with ThreadPoolExecutor(min(8, cores())) as pool:
            for some in pool.map(decode, of_file):
                found |= some
        return [found[self.places[row][:2]] for row in rows]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The pixels ``[B, *event]``; ``InputError`` for a damaged file."""
        out = np.empty((len(index), *self.shape[1:]), self.kind)
        for start in range(0, len(index), 64):
            for place, image in enumerate(self.each(index[start : start + 64].tolist()), start):
                if isinstance(image, InputError):
                    raise image
                out[place] = image
        return out


# Which files there are


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """The images below ``root``, and a note on the other files there."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder of images")
    names = files_below(root, hidden=(".",))
    found = [name for name in names if name.lower().endswith(EXTENSIONS) and os.path.isfile(root / name)]
    others = len(names) - len(found)
    if not found:
        have = "have" if others > 1 else "has"
        inside = f", and {count(others, 'other file')} in it {have} none of these extensions" * bool(others)
        raise InputError(f"{root} holds no images ({', '.join(EXTENSIONS)}){inside}", "give a folder with images")
    was = "are not images were" if others > 1 else "is not an image was"
    return found, [f"{count(others, 'file')} that {was} ignored"] * bool(others)


def _labels(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """The codes ``[N]`` and the names of the subfolders of the first level."""
    folders = [name.split("/")[0] for name in names]
    classes = sorted(set(folders))
    if len(classes) < 2 or not all("/" in name for name in names):
        return None, None
    code = {name: number for number, name in enumerate(classes)}
    return np.array([code[name] for name in folders], np.int64), tuple(classes)


def _fingerprint(files: ImageFiles) -> str:
    form = files.form
    digest = hashlib.sha256(f"{len(files)} {form.mode} {form.height} {form.width}".encode())
    names = list(dict.fromkeys(place.file for place in files.places))
    paths = [files.root / name for name in names]
    try:
        statuses = [path.stat() for path in paths]
        whole = sum(status.st_size for status in statuses) <= IN_MEMORY
        for name, path, status in zip(names, paths, statuses):
            digest.update(f"\n{len(name)} {name} {status.st_size} ".encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes() if whole else str(status.st_mtime_ns).encode())
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"{error.filename} cannot be read ({why})", "check its permissions") from error
    return digest.hexdigest()


# Decoding


def _decode_all(
    files: ImageFiles, pixels: np.ndarray | None, skip_bad: bool, skipped: list[str],
    progress: Callable[[int, int], None] | None,
) -> list[int]:  # fmt: skip
    """Decode every image, into ``pixels`` if it is an array; returns the numbers of the rows that could be decoded."""
    kept: list[int] = []
    for start in range(0, len(files), 64):
        some = range(start, min(start + 64, len(files)))
        for row, image in zip(some, files.each(some)):
            if isinstance(image, InputError):
                _skip(image, skip_bad, skipped)
                continue
            if pixels is not None:
                pixels[row] = image
            kept.append(row)
        if progress is not None:
            progress(some[-1] + 1, len(files))
    return kept


# Notes and errors


def _size(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in pair):
        what = f"a whole number of pixels from 1 to {MAX_SIDE:,}, or (height, width)"
        raise InputError(f"size must be {what}, got {size!r}")
    return int(pair[0]), int(pair[1])


def _skip(error: InputError, skip_bad: bool, skipped: list[str]) -> None:
    """Raise the error or, with ``skip_bad``, note what is wrong, without the remedy."""
    if not skip_bad:
        raise error
    skipped.append(str(error).rpartition(": ")[0])


def _require_some(root: Path, kept: Any, skipped: list[str]) -> None:
    if not kept:
        what = f"{root} holds no image that can be read (the first of {len(skipped):,}: {skipped[0]})"
        raise InputError(what, "get the files again")
