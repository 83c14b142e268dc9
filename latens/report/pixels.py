"""Images of any shape and range, shown as small PNGs inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from latens.report.page import esc
from latens.schema import Schema

SIDE = 64  # pixels; images with larger sides are shrunk, smaller ones enlarged
SHOWN = 70  # CSS pixels of the longer side of an image in a grid, so that twelve fit the width of the page


def model_layout(schema: Schema, x: np.ndarray) -> np.ndarray:
    """Images in the model's layout: from ``[..., *user_shape]`` to ``[..., *shape]``, with the same values."""
    if schema.layout == "HW":
        return x[..., None, :, :]
    return np.moveaxis(x, -1, -3) if schema.layout == "HWC" else x


def value_range(schema: Schema) -> tuple[float, float]:
    """The value that is shown as black, and the value that is shown as white."""
    low, high = schema.ends
    return low, high if high > low else low + 1.0


def to_pixels(schema: Schema, x: np.ndarray, side: int = SIDE) -> np.ndarray:
    """From images ``[N, C, H, W]`` in the units of the data to 8-bit ``[N, H, W]`` (grey) or ``[N, H, W, 3]``.

    Three channels are colours, and a fourth (opacity) is not shown. For any other number of channels, only the first is
    shown. Images with a side above ``side`` pixels are shrunk.
    """
    low, high = value_range(schema)
    x = np.asarray(x, dtype=np.float64)
    x = x[:, :3] if x.shape[1] in (3, 4) else x[:, :1]
    with np.errstate(invalid="ignore", over="ignore"):
        unit = np.nan_to_num((x - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    values = np.rint(unit * 255).astype(np.uint8)
    images = np.moveaxis(values, 1, -1) if values.shape[1] == 3 else values[:, 0]
    longest = max(images.shape[1:3])
    if longest > side:
        from PIL import Image

        size = tuple(max(1, round(length * side / longest)) for length in (images.shape[2], images.shape[1]))
        images = np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images])
    height, width = images.shape[1:3]  # a line of pixels is thickened until it is at most eight times as long
    return images.repeat(max(1, width // (8 * height)), axis=1).repeat(max(1, height // (8 * width)), axis=2)


def gap_of(images: np.ndarray) -> int:
    """The gap between images, in their pixels."""
    return max(1, round(0.06 * max(images.shape[1:3])))


def strip(images: np.ndarray, breaks: Sequence[int] = ()) -> np.ndarray:
    """Images side by side, with opacity and transparent gaps between them; the gaps after the indices in ``breaks`` are
    wider."""
    height, gap = images.shape[1], gap_of(images)
    opaque = _with_opacity(images)
    pieces: list[np.ndarray] = []
    for i, image in enumerate(opaque):
        if i:
            width = gap * (4 if i - 1 in breaks else 1)
            pieces.append(np.zeros((height, width, opaque.shape[-1]), np.uint8))
        pieces.append(image)
    return np.concatenate(pieces, axis=1)


def sheet(images: np.ndarray, across: int) -> np.ndarray:
    """Images in lines of ``across``, as one image with opacity, and gaps between them."""
    blank = np.zeros((-len(images) % across, *images.shape[1:]), images.dtype)
    lines = [strip(part) for part in np.split(np.concatenate([images, blank]), -(-len(images) // across))]
    gap = np.zeros((gap_of(images), *lines[0].shape[1:]), np.uint8)
    whole = np.concatenate([part for line in lines for part in (line, gap)][:-1])
    if len(blank):  # without images there is no opacity either
        whole[-images.shape[1] :, -(len(blank) * (images.shape[2] + gap_of(images)) - gap_of(images)) :] = 0
    return whole


def stack(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pairs, one above the other: from two ``[N, H, W, ...]`` to ``[N, 2 H + gap, W, channels]``."""
    top, bottom = _with_opacity(first), _with_opacity(second)
    gap = np.zeros((len(top), gap_of(first), *top.shape[2:]), np.uint8)
    return np.concatenate([top, gap, bottom], axis=1)


def _with_opacity(images: np.ndarray) -> np.ndarray:
    channels = images[..., None] if images.ndim == 3 else images
    if channels.shape[-1] in (2, 4):
        return channels
    return np.concatenate([channels, np.full((*channels.shape[:-1], 1), 255, np.uint8)], axis=-1)


def data_uri(image: np.ndarray) -> str:
    """A data URI of an image ``[H, W]``, or ``[H, W, C]`` with 2 (grey, opacity), 3 or 4 channels, as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def tag(image: np.ndarray, alt: str, width: float) -> str:
    """An ``<img>`` shown ``width`` CSS pixels wide."""
    shape = f'width="{width:.0f}" height="{width * image.shape[0] / image.shape[1]:.0f}"'
    return f'<img src="{data_uri(image)}" alt="{esc(alt)}" {shape} style="height:auto">'


def shown_width(images: np.ndarray, longer: float = SHOWN) -> float:
    """The CSS width of an image whose longer side has ``longer`` CSS pixels."""
    height, width = images.shape[1:3]
    return max(6.0, longer * width / max(height, width))


def sharp(images: np.ndarray) -> str:
    """The CSS class that keeps the pixels of small images square when they are enlarged."""
    return "px" if max(images.shape[1:3]) < SIDE else ""


def flow(images: np.ndarray, alt: str, longer: float = SHOWN, single: np.ndarray | None = None) -> str:
    """Images that wrap at the width of the page; the scale is that of the image ``single``, if it is given."""
    kind = "pairs" if single is not None else "" if longer >= SHOWN else "tiny"
    reference = images if single is None else single
    width = shown_width(reference, longer)
    cells = "".join(tag(image, f"{alt} {i + 1}", width) for i, image in enumerate(images))
    return f'<div class="flow {sharp(reference)} {kind}">{cells}</div>'


def strip_width(images: np.ndarray, breaks: Sequence[int] = (), longer: float = SHOWN) -> float:
    """The CSS width of a strip of these images."""
    columns = len(images) * images.shape[2] + gap_of(images) * (len(images) - 1 + 3 * len(breaks))
    return min(shown_width(images, longer) * columns / images.shape[2], 3000.0)


def strip_row(images: np.ndarray, alt: str, label: str = "", breaks: Sequence[int] = (), longer: float = SHOWN) -> str:
    """A strip as one row of the page, with ``label`` (HTML) next to it."""
    joined, width = strip(images, breaks), strip_width(images, breaks, longer)
    side = f"<span>{label}</span>" if label else ""
    return f'<div class="strip {sharp(images)}{"" if label else " bare"}">{side}{tag(joined, alt, width)}</div>'
