"""Shortest paths in a learned metric: in Python, and in the page of the explorer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

import latens.report.explore
from latens.evaluation import curve_length, geodesic

BUNDLE = Path(latens.report.explore.__file__).parent / "assets" / "explore.js"
FLOOR = 0.1
Inverse = Callable[[Tensor], Tensor]


def learned(seed: int, dim: int = 2, spread: float = 1.0) -> tuple[Inverse, Tensor, Tensor]:
    """(G⁻¹ around 20 centroids; the centroids; the matrices added there)."""
    random = torch.Generator().manual_seed(seed)
    centroids = 1.5 * torch.randn(20, dim, generator=random, dtype=torch.float64)
    tril = torch.randn(20, dim, dim, generator=random, dtype=torch.float64).tril()
    squares = spread * tril @ tril.mT

    def inverse(z: Tensor) -> Tensor:
        near = (-(z.unsqueeze(-2) - centroids).square().sum(-1)).exp()
        return torch.einsum("...m,mij->...ij", near, squares) + FLOOR * torch.eye(dim, dtype=z.dtype)

    return inverse, centroids, squares


def grid_length(inverse: Inverse, a: np.ndarray, b: np.ndarray, n: int = 73, reach: int = 5) -> tuple[float, Tensor]:
    """(the length of the shortest path of straight moves on a fine grid from -6 to 6, each by up to ``reach`` places;
    the two places of the grid nearest to the ends)."""
    ticks = np.linspace(-6, 6, n)
    places = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    index = np.arange(n * n).reshape(n, n)
    moves = [(i, j) for i in range(-reach, reach + 1) for j in range(reach + 1)
             if gcd(i, j) == 1 and (j > 0 or i > 0)]  # fmt: skip
    start, end, length = [], [], []
    for i, j in moves:
        start.append(index[max(0, -i) : n - max(0, i), : n - j].ravel())
        end.append(index[max(0, i) : n + min(0, i), j:].ravel())
        step = torch.from_numpy(places[end[-1]] - places[start[-1]])
        middles = [torch.from_numpy(places[start[-1]]) + share * step for share in (1 / 6, 1 / 2, 5 / 6)]
        metric = [torch.linalg.inv(inverse(z)) for z in middles]
        length.append(np.mean([torch.einsum("ni,nij,nj->n", step, g, step).sqrt().numpy() for g in metric], 0))
    weights = coo_matrix((np.concatenate(length), (np.concatenate(start), np.concatenate(end))), (n * n, n * n))
    ends = [int(np.square(places - end).sum(1).argmin()) for end in (a, b)]
    found = dijkstra(weights.tocsr(), directed=False, indices=ends[0])[ends[1]]
    return float(found), torch.from_numpy(places[ends])


@pytest.mark.parametrize("seed", range(3))
def test_a_geodesic_is_as_short_as_the_shortest_path_on_a_grid(seed: int):
    """Paths on the grid may be about a hundredth too long, because they go in a few directions only."""
    inverse, *_ = learned(seed)
    wanted, ends = grid_length(inverse, *2 * np.random.default_rng(seed).normal(size=(2, 2)))
    found = float(curve_length(inverse, geodesic(inverse, ends[:1], ends[1:], 201)[:, 0]))
    assert 0.98 * wanted < found < 1.001 * wanted


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_geodesic_keeps_its_ends_and_its_speed_and_is_no_longer_than_the_straight_line(dim: int):
    inverse, *_ = learned(3, dim)
    a, b = torch.randn(2, 2, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    ways = geodesic(inverse, a, b, 65)
    assert torch.equal(ways[0], a) and torch.equal(ways[-1], b)
    for start, end, way in zip(a, b, ways.unbind(1)):
        pieces = torch.stack([curve_length(inverse, way[i : i + 2]) for i in range(64)])
        assert pieces.max() < 1.02 * pieces.min()
        assert pieces.sum() <= 1.001 * curve_length(inverse, torch.stack([start, end]))


def test_a_constant_metric_has_straight_geodesics():
    root = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ways = geodesic(lambda z: (root @ root.mT).expand(*z.shape, 3), a, b, 11)
    shares = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None, None]
    assert torch.allclose(ways, a + shares * (b - a), atol=1e-9)
    same = geodesic(lambda z: torch.eye(3, dtype=z.dtype).expand(*z.shape, 3), a, a, 5)
    assert torch.equal(same, a.expand(5, 2, 3))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_page_finds_the_same_geodesics(dim: int):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the path")
    inverse, centroids, squares = learned(4, dim)
    a, b = 2 * torch.randn(2, dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    script = (
        "const parts = {}; require('vm').runInNewContext(require('fs').readFileSync(process.argv[1], 'utf8'), parts);"
        "const [c, s, n, floor, a, b] = JSON.parse(process.argv[2]);"
        "const metric = new parts.latensParts.Metric(c, s, {temperature: 1, floor}, n);"
        "console.log(JSON.stringify(Array.from({length: 65}, (_, i) => Array.from(metric.at(a, b, i / 64)))))"
    )
    given = json.dumps([centroids.flatten().tolist(), squares.flatten().tolist(), dim, FLOOR, a.tolist(), b.tolist()])
    said = subprocess.run([node, "-e", script, str(BUNDLE), given], capture_output=True, check=True)
    found, wanted = torch.tensor(json.loads(said.stdout), dtype=torch.float64), geodesic(inverse, a[None], b[None], 65)
    assert torch.allclose(found, wanted[:, 0], atol=1e-3)
    assert torch.equal(found[[0, -1]], torch.stack([a, b]))
    straight = curve_length(inverse, torch.stack([a, b]))
    assert dim == 1 or curve_length(inverse, found) < 0.99 * straight
