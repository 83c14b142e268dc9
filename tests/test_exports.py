"""Every recipe of the catalogue as graphs: each is the graph that bench/exports.py measured, or equals torch here."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from latens import recipes

BENCH = Path(__file__).parents[1] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="an installed copy without bench/")
# graphs that are not written, or not to 1e-5: a part of the reason, or the largest error allowed
GRADIENTS = {"encoder": "takes gradients", "scorer": "takes gradients"}
EXCEPTIONS: dict[str, dict[str, str | float]] = {
    "semi_amortised": GRADIENTS, "hvae": GRADIENTS, "rhvae": GRADIENTS, "annealed": GRADIENTS,
    "gan": {"encoder": "has no posterior"}, "ms_ssim": {"scorer": "cannot trace it"},
    "flow_prior": {"scorer": 2e-5}, "poincare": {"scorer": 2e-5},
}  # fmt: skip


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("exports")


@cache
def measured() -> dict[str, Any]:
    return importlib.import_module("exports").kept()


@pytest.mark.parametrize("recipe", recipes.CATALOGUE)
def test_every_recipe_is_exported_and_equals_torch(recipe: str, exports: ModuleType):
    """A graph whose operations, types and shapes are those of the graph that was measured has its error. Others are
    measured here, which takes seconds each: `python bench/exports.py RECIPE` keeps the new figures."""
    rows = exports.rows_for(recipe)
    run = exports.untrained(recipe, rows)
    for part in exports.PARTS:
        found = measured().get(recipe, {}).get(part, {})
        if found.get("operations") != exports.operations(run, part):
            pytest.importorskip("onnxscript")
            pytest.importorskip("onnxruntime")
            found = exports.compared(run, part, rows.inside[400:])
        allowed = EXCEPTIONS.get(recipe, {}).get(part, exports.MOST)
        if isinstance(allowed, str):
            assert allowed in found["why"], part
        else:
            assert "why" not in found, (part, found["why"])
            assert found["error"] <= allowed, part


def test_every_exception_is_a_recipe():
    assert not EXCEPTIONS.keys() - recipes.CATALOGUE.keys()
