"""Images with known factors, generated in the layout of dSprites (Matthey et al. 2017): 64 x 64 pixels of 0 and 1.

Each image has one white sprite on black: 3 shapes (square, ellipse, heart) x 6 scales x 40 orientations x 32 x 32
positions make 737,280 images, in which the vertical position changes fastest. Scales are linspace(0.5, 1, 6),
orientations linspace(0, 2 pi, 40) without the end, and shifts whole pixels from -16 to 15. The pixels are not those of
the published set: outlines are drawn by inequalities at the pixels' centres. Squares and ellipses look the same at
several orientations.
"""

from __future__ import annotations

from functools import cache

import numpy as np

SHAPES = ("square", "ellipse", "heart")
SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
COUNT = 737_280
SIDE = 64


def factors(rows: np.ndarray) -> np.ndarray:
    """The factor levels of the rows, ``[N, 5]`` in the order of ``SIZES``."""
    return np.stack(np.unravel_index(np.asarray(rows), tuple(SIZES.values())), 1)


def images(rows: np.ndarray) -> np.ndarray:
    """The images of rows 0 … 737,279, ``[N, 64, 64]`` uint8 of 0 and 1."""
    levels = factors(rows)
    found = np.empty((len(levels), SIDE, SIDE), np.uint8)
    for place, (shape, scale, orientation, x, y) in enumerate(levels.tolist()):
        found[place] = np.roll(template(shape, scale, orientation), (y - 16, x - 16), (0, 1))
    return found


@cache
def template(shape: int, scale: int, orientation: int) -> np.ndarray:
    """The sprite in the middle, ``[64, 64]`` uint8; it leaves 16 pixels free on each side, so that no shift cuts it."""
    size, angle = np.linspace(0.5, 1, 6)[scale], np.linspace(0, 2 * np.pi, 41)[orientation]
    down, right = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    u = (np.cos(angle) * right + np.sin(angle) * down) / (15 * size)  # in units of the largest radius
    v = (-np.sin(angle) * right + np.cos(angle) * down) / (15 * size)
    return _INSIDE[SHAPES[shape]](u, v).astype(np.uint8)


_INSIDE = {
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.7,
    "ellipse": lambda u, v: u**2 + (v / 0.6) ** 2 <= 1,
    "heart": lambda u, v: ((1.25 * u) ** 2 + (1.25 * v) ** 2 - 0.6) ** 3 + 1.2 * (1.25 * u) ** 2 * (1.25 * v) ** 3 <= 0,
}


def sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, factors) of distinct rows, drawn at random."""
    rows = np.random.default_rng(seed).choice(COUNT, count, replace=False)
    return images(rows), factors(rows)
