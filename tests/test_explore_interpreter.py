"""The decoder inside a page: for every recipe, the interpreter computes what torch computes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_digits

import latens.report.explore
from latens import recipes
from latens.data.rows import Asked, Rows, rows_of
from latens.recipes import Recipe
from latens.report.explore import packing as arrays
from latens.report.explore import traced
from latens.report.explore.graph import DecoderGraph, graph
from latens.report.explore.packing import ArrayBlocks, packed, unpacked
from latens.runs import fitting
from latens.runs.export import graphs
from latens.runs.record import Run
from latens.training import Settings

WEB = Path(__file__).parent.parent / "web"
ASSETS = Path(latens.report.explore.__file__).parent / "assets"
N = 5
# recipes whose decoder does not run inside a page, and words of the reason
CANNOT: dict[str, str] = {}


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node on the path")
    return found


def built(name: str, rows: Rows, **options: Any) -> Run:
    """A run of a recipe with random weights, before its first step."""
    run, _ = fitting.prepare(rows, Recipe(name), Settings(epochs=1), options=options)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in run.model.parameters():  # so that no layer keeps its initial zeros
            weight.add_(0.05 * torch.randn_like(weight))
    run.model.eval()
    return run


def digit_rows(name: str = "") -> Rows:
    found = load_digits()
    x, labels = found.images[:300].astype("float32"), found.target[:300]
    asked = Asked(condition=("label",)) if name == "cvae" else Asked()
    return rows_of(x, labels=labels, asked=asked)


def outputs(page: DecoderGraph, inputs: list[torch.Tensor], *, half: bool) -> dict[str, np.ndarray]:
    """The outputs of a graph in the interpreter, flattened."""
    blocks = ArrayBlocks()
    about = {"graph": page.to_json(blocks, half=half), "kinds": blocks.kinds, "data": {"shape": [1]}}
    given = {
        "bundle": str(ASSETS / "explore.js"), "about": about, "blocks": blocks.texts,
        "inputs": [x.double().flatten().tolist() for x in inputs],
    }  # fmt: skip
    done = subprocess.run(
        [node(), str(WEB / "decode.mjs")], input=json.dumps(given), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: np.array([float(v) for v in x]) for name, x in json.loads(done.stdout).items()}


def largest_error(found: np.ndarray, wanted: torch.Tensor) -> float:
    """The largest error, in units of the largest number of the column; NaN is right where NaN is expected."""
    right = wanted.double().numpy().reshape(len(wanted), -1)
    found = found.reshape(right.shape)
    assert (np.isnan(found) == np.isnan(right)).all()
    scale = np.maximum(np.nanmax(np.abs(np.nan_to_num(right)), 0), 1e-3)
    return float(np.nan_to_num(np.abs(found - right) / scale).max())


def check(run: Run, *, half: bool, most: float) -> None:
    """Check that the page's outputs equal those of the decoder, at random codes."""
    decoder = graphs.decoder(run)
    inputs = list(decoder.given(N))
    noise = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(0))
    inputs[0] = inputs[0] + 0.1 * noise.to(inputs[0].dtype)
    page, lacking = traced(run)
    assert not lacking
    assert page is not None
    found = outputs(page, inputs, half=half)
    with torch.no_grad():
        wanted = dict(zip(decoder.outputs, decoder(*inputs)))
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert largest_error(found[name], wanted[name]) < most, (name, largest_error(found[name], wanted[name]))


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_the_page_decodes_as_torch_does(name: str):
    run = built(name, digit_rows(name))
    if name in CANNOT:
        assert CANNOT[name] in traced(run)[1]
        return
    check(run, half=False, most=2e-5)


@pytest.mark.parametrize("dependence", ["codes", "autoregressive"])
def test_the_page_decodes_tables_as_torch_does(dependence: str):
    """The table has numbers with atoms and gaps, levels, dates, columns computed from dates, and an order between two
    columns; each column sees the earlier ones, or only the code."""
    random = np.random.default_rng(0)
    days = np.datetime64("2020-01-01") + random.integers(0, 900, 300)
    table = pa.table({
        "month": days.astype("M8[M]").astype("M8[D]"), "day_of_year": (days - days.astype("M8[Y]")).astype(int) + 1,
        "weeks": (np.datetime64("2024-06-30") - days).astype(int) // 7,
        "start": days, "end": days + random.integers(0, 90, 300), "team": random.choice(["a", "b", "c"], 300),
        "pay": pa.array(np.where(random.random(300) < 0.3, 0.0, random.lognormal(3, 1, 300).round(2)),
                        mask=random.random(300) < 0.1),
        "visits": random.poisson(3, 300),
    })  # fmt: skip
    check(built("vae", rows_of(table), dependence=dependence), half=False, most=2e-5)


class Promotions(torch.nn.Module):
    """Results of operands of different types, some of them beyond what a byte holds."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        is_large, whole = x > 0, (300 * x).long()
        return {
            "truth + number": is_large + 365, "truth * number": is_large * 1000, "number - whole": 700 - whole,
            "truth + truth": is_large.long() + (is_large & (x < 1)), "truth * half": is_large * 0.5,
            "whole + number": whole + 70_000, "whole / number": whole / 7, "whole // number": whole // 7,
            "truth + whole": is_large + whole, "single + whole": x + whole, "truth % number": (is_large + 500) % 400,
        }  # fmt: skip


def test_results_have_the_types_of_torch():
    x = torch.linspace(-3, 3, N).unsqueeze(1)
    module = Promotions()
    wanted = module(x)
    program = torch.export.export(module, (x,), strict=False).run_decompositions()
    found = outputs(graph(program, list(wanted)), [x], half=False)
    for name, right in wanted.items():
        assert largest_error(found[name], right) < 1e-6, name


def distance(space: str, c: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lengths of geodesics, from their definitions; on the torus, one for each circle."""
    if space == "BallNormal":
        off = ((a - b) ** 2).sum(-1) / (1 - c * (a**2).sum(-1)) / (1 - c * (b**2).sum(-1))
        return np.arccosh(1 + 2 * c * off) / np.sqrt(c)
    a, b = (v.reshape(*v.shape[:-1], -1, 2) if space == "UniformTorus" else v for v in (a, b))
    return np.arccos(np.clip((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1), -1, 1))


@pytest.mark.parametrize("space, c", [
    ("UniformSphere", 1.0), ("UniformTorus", 1.0), ("BallNormal", 1.0), ("BallNormal", 0.25), ("BallNormal", 9.0),
])  # fmt: skip
def test_curved_paths_have_constant_speed_and_the_least_length(space: str, c: float):
    random, shares = np.random.default_rng(0), np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    ends = random.normal(size=(2, 6))
    if space == "BallNormal":
        ends *= 0.9 / np.linalg.norm(ends, axis=1, keepdims=True) / np.sqrt(c)
    else:
        ends /= np.linalg.norm(ends.reshape(2, -1, 2 if space == "UniformTorus" else 6), axis=-1).repeat(
            2 if space == "UniformTorus" else 6, -1
        )
    script = (
        "const parts = {}; require('vm').runInNewContext(require('fs').readFileSync(process.argv[1], 'utf8'), parts);"
        "const [space, c, a, b, shares] = JSON.parse(process.argv[2]);"
        "const way = parts.latensParts.geodesic(space, c);"
        "console.log(JSON.stringify(shares.map((t) => Array.from(way.at(a, b, t)))))"
    )
    given = json.dumps([space, c, *ends.tolist(), shares.tolist()])
    said = subprocess.run([node(), "-e", script, str(ASSETS / "explore.js"), given], capture_output=True, check=True)
    found = np.array(json.loads(said.stdout))
    whole = distance(space, c, *ends)
    assert np.allclose(found[[0, -1]], ends, atol=1e-4)
    assert np.allclose(distance(space, c, ends[0], found[:-1]), np.multiply.outer(shares[:-1], whole), atol=1e-4)
    assert np.allclose(distance(space, c, found[1:], ends[1]), np.multiply.outer(1 - shares[1:], whole), atol=1e-4)


def test_every_exception_is_a_recipe():
    assert not CANNOT.keys() - recipes.CATALOGUE.keys()


def test_weights_in_half_precision_change_little():
    check(built("vae", digit_rows()), half=True, most=1e-2)


@pytest.mark.parametrize("kind", arrays.KINDS)
def test_arrays_are_kept_exactly(kind: str):
    x = np.random.default_rng(0).normal(0, 50, 1000).astype(kind)
    assert np.array_equal(unpacked(packed(x), kind), x)
