"""A command imports only what it uses: modules that packages import lazily, and the cost of the smallest commands."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commanding import done

import latens
from latens import conditionals, priors

ROOT = Path(latens.__file__).parent
LATE = [path for path in sorted(ROOT.rglob("__init__.py")) if "late(__name__" in path.read_text("utf-8")]
MOST = 116  # modules of latens that encode a run's data
HEAVY = (
    "sklearn", "scipy", "accelerate", "matplotlib", "zuko", "sympy", "pandas", "torch._dynamo", "torch._inductor",
)  # fmt: skip
UNUSED = (
    "api", "densities", "report", "runs.fitting", "training.loop", "evaluation.summary",
    "evaluation.synthetic", "data.tables.kinds", "data.tables.rules", "data.streams.survey",
    "recipes.adversarial", "recipes.hierarchy", *(f"cli.commands.{name}" for name in (
        "comparing", "densities", "evaluating", "fitting", "many", "sweeping",
    )),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and an array of 100 rows, and a run fitted to each."""
    place = tmp_path_factory.mktemp("imports")
    random = np.random.default_rng(0)
    lines = [f"{random.normal():.3f},{'xyz'[i % 3]},{i * i % 11}" for i in range(100)]
    (place / "table.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    np.save(place / "array.npy", random.normal(size=(100, 5)))
    for name in ("table.csv", "array.npy"):
        done("fit", place / name, "--out", place / name.partition(".")[0], "--epochs", 1)
    return place


def imported(words: str, folder: Path, packages: tuple[str, ...] = ("latens",)) -> list[str]:
    """The modules, of those named or in the packages named, that a command has imported when it ends."""
    code = (
        f"import sys; from latens.cli.main import main; assert main({words.split()}) == 0; "
        f"wanted = {packages}; print('modules', *sorted(name for name in sys.modules "
        "if name.partition('.')[0] in wanted or name in wanted), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120,
                           env=os.environ | {"PYTHONPATH": str(ROOT.parent)})  # fmt: skip
    return found.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "words", ["encode table table.csv --out z.npy", "encode array array.npy --out z.csv", "recipes beta_vae"]
)
def test_a_command_imports_what_it_uses(words: str, folder: Path):
    modules = imported(words, folder)
    assert len(modules) <= MOST, len(modules)
    assert [name for name in UNUSED if f"latens.{name}" in modules] == []


@pytest.mark.parametrize(
    "words", ["encode table table.csv --out z.csv", "sample table --n 5 --out s.parquet"]
)
def test_a_command_that_only_computes_imports_no_other_large_package(words: str, folder: Path):
    assert imported(words, folder, HEAVY) == []


@pytest.mark.parametrize("words", ["sample table --n 5 --out s.csv", "evaluate table table.csv --k 2"])
def test_a_command_without_a_report_does_not_import_the_report(words: str, folder: Path):
    assert [name for name in imported(words, folder) if name.startswith("latens.report.")] == []


@pytest.mark.parametrize("path", LATE, ids=lambda path: str(path.parent.relative_to(ROOT.parent)))
def test_late_imports_are_those_that_type_checkers_see(path: Path):
    package = importlib.import_module(".".join(path.parent.relative_to(ROOT.parent).parts))
    body = ast.parse(path.read_text("utf-8")).body
    block = next(node for node in body if isinstance(node, ast.If))
    lines = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    places = {alias.name: str(node.module) for node in lines for alias in node.names}
    for name, module in places.items():
        if module == package.__name__:
            assert getattr(package, name) is importlib.import_module(f"{module}.{name}"), name
        else:
            assert getattr(package, name) is getattr(importlib.import_module(module), name), name
    at_once = {alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    at_once |= {node.name for node in body if isinstance(node, ast.FunctionDef)} | {"ACTIVATIONS", "__version__"}
    modules = {each.stem for each in path.parent.iterdir()} if package is latens else set()
    assert set(places) <= set(package.__all__) <= set(places) | at_once | modules
    assert set(places) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_the_extension_of_a_part_may_be_omitted() -> None:
    assert conditionals.Normal is conditionals.NormalLikelihood
    assert conditionals.DiagonalNormal is conditionals.DiagonalNormalPosterior
    assert priors.NormalMixture is priors.NormalMixturePrior
    assert "Normal" not in dir(conditionals)
    with pytest.raises(AttributeError, match="no attribute 'Norm'"):
        _ = conditionals.Norm
