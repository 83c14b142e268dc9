"""One image file: its header, the form to which all images of a folder are converted, and the pixels in that form.

Files are not trusted: the format is found from the contents, and sizes are read from headers before decoding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latens.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
PAGED = ("TIFF", "GIF", "WEBP", "PNG")  # formats that can have several pages or frames
NAMED = 5  # a message names at most this many sizes
MAX_SIDE = 4_096  # the largest side to which images are scaled, in pixels
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # modes of 16-bit grey; for PNG some versions of PIL use "I"
_GRAY = ("1", "L", "LA", "La", *_DEEP)
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# For each EXIF orientation, PIL's transposition that undoes it
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
          7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip


@dataclass(frozen=True)
class ImageHead:
    """The size of an image as it is shown, and the kind of its values."""

    height: int
    width: int
    gray: bool
    alpha: bool
    deep: bool  # 16 bits
    bilevel: bool


@dataclass(frozen=True)
class PixelForm:
    """The form to which every image is converted: PIL's mode "1", "L", "I;16", "RGB" or "RGBA", and the size."""

    mode: str
    height: int
    width: int
    resize: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape of an image, ``(H, W)`` or ``(C, H, W)``."""
        channels = {"RGB": (3,), "RGBA": (4,)}.get(self.mode, ())
        return (*channels, self.height, self.width)


def read_heads(path: Path, pages: bool = False) -> tuple[list[ImageHead], int]:
    """(the headers of the first page or, with ``pages``, of all pages; the number of pages). Nothing is decoded except
    the later frames of a GIF. ``InputError`` if the file is damaged or has absurd sizes."""
    with _opened(path) as image:
        try:  # the second picture in a JPEG is a preview of the first
            there = int(getattr(image, "n_frames", 1)) if image.format in PAGED else 1
        except Exception as error:
            raise damaged(path, error) from error
        return [_head(path, image, page) for page in range(there if pages else 1)], there


def _head(path: Path, image: Any, page: int) -> ImageHead:
    _turn_to(path, image, page)
    mode = image.mode
    deep = mode in _DEEP or (image.format == "PNG" and any("16" in str(tile[3]) for tile in image.tile))
    alpha = mode in _ALPHA or ("transparency" in image.info and mode not in _DEEP)
    width, height = _shown_size(path, image)
    gray = mode in _GRAY or (mode == "P" and _gray_palette(image))
    if page and image.format == "GIF" and not gray:  # PIL turns later frames into colour
        try:
            values = np.asarray(image.convert("RGB"))
        except Exception as error:
            raise damaged(path, error) from error
        gray = bool((values == values[..., :1]).all())
    return ImageHead(height, width, gray, alpha, deep, mode == "1")


def _turn_to(path: Path, image: Any, page: int) -> None:
    """Go to a page; the same limits hold for it as for the first."""
    try:
        if page:
            image.seek(page)
    except Exception as error:
        raise damaged(path, error) from error
    _require_plain(path, image)


def _gray_palette(image: Any) -> bool:
    """Whether a palette holds only greys, as in a grey GIF."""
    if image.palette is None:
        return False
    form, values = image.palette.getdata()
    table = np.frombuffer(values, np.uint8)
    step = 4 if form == "BGRX" else 3
    colours = table[: len(table) // step * step].reshape((3, -1) if form == "RGB;L" else (-1, step))
    colours = colours.T if form == "RGB;L" else colours[:, :3]
    return bool((colours == colours[:, :1]).all())


def common_form(
    root: Path, heads: Mapping[str, ImageHead], wanted: tuple[int, int] | None, notes: list[str]
) -> PixelForm:
    """The form that suits all images; every loss is noted. ``InputError`` if sizes differ and no size is given."""
    sizes = Counter((head.height, head.width) for head in heads.values())
    if len(sizes) > 1 and wanted is None:
        raise _several_sizes(root, heads, sizes)
    height, width = wanted or next(iter(sizes))
    whole, scaled = len(heads), len(heads) - sizes[height, width]
    gray, deep, alpha, bilevel = (
        sum(getattr(head, name) for head in heads.values()) for name in ("gray", "deep", "alpha", "bilevel")
    )
    mode = "RGBA" if alpha == whole else "RGB"
    if gray == whole:
        mode = "L" if alpha else "1" if bilevel == whole else "I;16" if deep == whole else "L"
    for said, words in (
        (scaled, f"{count(scaled, 'image')} scaled to cover {height}x{width} and cropped around the centre"),
        (gray % whole, f"{gray:,} grey and {whole - gray:,} colour images: all are read in colour"),
        (deep * (mode != "I;16"), f"{count(deep, 'image')} of 16 bits read as 8 bits"),
        (alpha * (mode != "RGBA"), f"{count(alpha, 'image')} with transparency laid on white"),
    ):
        if said:
            notes.append(words)
    return PixelForm(mode, height, width, wanted is not None)


def _several_sizes(root: Path, heads: Mapping[str, ImageHead], sizes: Counter[tuple[int, int]]) -> InputError:
    first = {(head.height, head.width): name for name, head in [*heads.items()][::-1]}
    some = [f"{side[0]}x{side[1]} ({n:,}, as {first[side]})" for side, n in sizes.most_common(NAMED)]
    said = ", ".join(some) + (f" and {len(sizes) - NAMED:,} more" if len(sizes) > NAMED else "")
    (height, width), _ = sizes.most_common(1)[0]
    return InputError(
        f"the images of {root} have {len(sizes):,} sizes, {said}",
        f"bring them to one size with --size {height}x{width} (height x width)",
    )


def _shown_size(path: Path, image: Any) -> tuple[int, int]:
    """Width and height after rotation. PIL rotates TIFF files itself; it depends on PIL's version whether ``size``
    already shows this."""
    turn, (width, height) = _orientation(image), image.size
    if image.format == "TIFF":
        try:
            turn, width, height = (int(image.tag_v2.get(tag, 1)) for tag in (274, 256, 257))
        except Exception as error:
            raise damaged(path, error) from error
    return (height, width) if turn in (5, 6, 7, 8) else (width, height)


def _orientation(image: Any) -> int:
    """The EXIF orientation in the header; 1 if PIL undoes the rotation while decoding."""
    from PIL import Image

    if image.format != "TIFF":
        with suppress(Exception):  # damaged EXIF does not harm the pixels
            return int(Image.Image.getexif(image).get(274, 1))
    return 1


# Decoding


def _opened(path: Path) -> Any:
    """The image with its header read; ``InputError`` if it is damaged or has more pixels than the limit."""
    from PIL import Image

    try:
        image = Image.open(path, formats=FORMATS)
        if image.width * image.height == 0:
            raise ValueError("it has no pixels")
    except Image.DecompressionBombError as error:  # PIL itself raises beyond twice the limit
        raise _too_large(path, int((re.findall(r"\d+", str(error)) or [0])[0]) or 2**63) from error
    except Exception as error:
        raise damaged(path, error) from error
    try:
        _require_plain(path, image)
    except InputError:
        image.close()
        raise
    return image


def _too_large(path: Path, pixels: int) -> InputError:
    from PIL import Image

    return InputError(
        f"{path} declares {pixels:,} pixels, more than the limit of {Image.MAX_IMAGE_PIXELS:,} "
        "(PIL.Image.MAX_IMAGE_PIXELS)",
        "make it smaller, or remove it",
    )


def _require_plain(path: Path, image: Any) -> None:
    """Raise ``InputError`` for a page with too many pixels, or with values of a type that latens does not read."""
    from PIL import Image

    pixels = image.width * image.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise _too_large(path, pixels)
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG") or image.mode == "I;16S":
        raise InputError(f"{path} has 32-bit or signed values", "save it with 8 or 16 bits, or as .npy")


def pixels_of(path: Path, form: PixelForm, pages: Sequence[int]) -> list[np.ndarray | InputError]:
    """The pixels ``[H, W]`` or ``[C, H, W]`` of pages of one file, in increasing order, in that form. A page that
    cannot be decoded gives its error instead."""
    found: list[np.ndarray | InputError] = []
    try:
        with _opened(path) as image:
            for page in pages:
                try:
                    found.append(_page(path, image, form, page))
                except InputError as error:
                    found.append(error)
    except InputError as error:
        return [error] * len(pages)
    return found


def _page(path: Path, image: Any, form: PixelForm, page: int) -> np.ndarray:
    from PIL import Image

    _turn_to(path, image, page)
    width, height = _shown_size(path, image)
    if not form.resize and (height, width) != (form.height, form.width):
        what = f"{path} has changed, as it is {height}x{width} but was {form.height}x{form.width}"
        raise InputError(what, "leave the files alone while they are read")
    turn = _TURNS.get(_orientation(image))
    try:
        image.load()
        image = image if turn is None else image.transpose(Image.Transpose[turn])
        values = np.asarray(_in_mode(image, form))
    except Exception as error:
        raise damaged(path, error) from error
    if form.mode in ("1", "I;16"):
        return (values >= 128).astype(np.uint8) if form.mode == "1" else values
    return values if values.ndim == 2 else np.moveaxis(values, -1, 0)


def _in_mode(image: Any, form: PixelForm) -> Any:
    """The decoded image in the mode and size of the form; an array if it has 16 bits."""
    from PIL import Image, ImageOps

    def fit(image: Any) -> Any:
        target = (form.width, form.height)
        return image if image.size == target else ImageOps.fit(image, target, Image.Resampling.LANCZOS)

    if image.mode in _DEEP:
        deep = np.asarray(image).astype(np.uint16)
        if form.mode == "I;16":
            if image.size == (form.width, form.height):
                return deep
            return np.asarray(fit(Image.fromarray(deep.astype(np.float32)))).round().clip(0, 65535).astype(np.uint16)
        image = Image.fromarray((deep >> 8).astype(np.uint8))
    if form.mode != "RGBA" and (image.mode in _ALPHA or "transparency" in image.info):
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return fit(image.convert("L" if form.mode == "1" else form.mode))


# Notes and errors


def damaged(path: Path, error: Exception) -> InputError:
    """The ``InputError`` for whatever PIL raises on an untrusted file."""
    from PIL import UnidentifiedImageError

    if isinstance(error, PermissionError):
        return InputError(f"{path} cannot be read (permission denied)", "check its permissions")
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "" if unknown else " ".join(str(error).split()).rstrip(".") or type(error).__name__
    what = "is not an image that latens can read" if unknown else f"cannot be decoded ({reason:.150})"
    return InputError(f"{path} {what}", "get it again, remove it, or leave such files out with --skip-bad")


def count(number: int, what: str) -> str:
    """A number and what is counted, in the singular or plural.

    >>> count(1, "file"), count(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {what}{'s'[: number > 1]}"
