"""The growth of time with the size of the work."""

from __future__ import annotations

import math
from collections.abc import Mapping


def slope(seconds: Mapping[int, float]) -> float:
    """The exponent a of seconds ~ size^a, by least squares of the logarithms.

    >>> round(slope({10: 2.0, 100: 20.0, 1000: 200.0}), 3)
    1.0
    """
    points = [(math.log(size), math.log(value)) for size, value in seconds.items()]
    x, y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
