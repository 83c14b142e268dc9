"""The notebooks in examples/ are clean files that run."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
JOBS = {"anomalies", "counts", "images", "own_parts", "sequences", "synthetic_data", "table_with_gaps"}


def cells(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_text("utf-8"))["cells"]


def source(cell: dict[str, object]) -> str:
    return "".join(cell["source"])  # type: ignore[call-overload]


def test_there_is_a_notebook_for_each_job() -> None:
    assert {path.stem for path in NOTEBOOKS} == JOBS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean_and_explained(path: Path) -> None:
    found = cells(path)
    assert 8 <= len(found) <= 15
    assert source(found[0]).startswith("# ")
    assert len({cell["id"] for cell in found}) == len(found)
    for cell in found:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
    assert sum(cell["cell_type"] == "markdown" for cell in found) >= len(found) // 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every cell in order, with fits of two passes over the data."""
    monkeypatch.chdir(tmp_path)
    code = [source(cell) for cell in cells(path) if cell["cell_type"] == "code"]
    assert sum(line.startswith("epochs = ") for cell in code for line in cell.splitlines()) == 1
    scope: dict[str, object] = {}
    with matplotlib.rc_context({"backend": "Agg"}):
        import matplotlib.pyplot as plt

        for cell in code:
            lines = ["epochs = 2" if line.startswith("epochs = ") else line for line in cell.splitlines()]
            exec(compile("\n".join(lines), path.name, "exec"), scope)
        assert plt.get_fignums(), "a notebook shows pictures"
        plt.close("all")
