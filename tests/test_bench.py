"""The measures of synthetic rows in bench/, and the tables of docs/benchmarks.md, which must match the kept figures."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
ROOT = Path(__file__).parents[1]
BENCH, PAGE = ROOT / "bench", ROOT / "docs" / "benchmarks.md"
pytestmark = pytest.mark.skipif(not BENCH.exists(), reason="an installed copy without bench/")


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    found = importlib.import_module("synthetic.measures")
    monkeypatch.setattr(found, "has_sdmetrics", lambda: False)
    return found


def people(count: int, seed: int) -> pd.DataFrame:
    """A table of coupled columns: a heap at 40, a code that is a function of a level, a class that the others
    predict."""
    random = np.random.default_rng(seed)
    level = random.integers(0, 4, count)
    hours = np.where(random.random(count) < 0.4, 40.0, np.round(random.normal(40, 12, count)))
    pay = np.round(level * 10 + hours / 4 + random.normal(0, 2, count), 2)
    rich = np.where(pay + random.normal(0, 3, count) > 25, "yes", "no")
    school = np.array(list("abcd"))[level]
    return pd.DataFrame({"hours": hours, "pay": pay, "school": school, "years": level + 9.0, "rich": rich})


def alone(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every column shuffled independently."""
    return table.apply(lambda column: column.sample(frac=1, random_state=len(column.name)).to_numpy())


def far(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(hours=table["hours"] + 0.5, pay=table["pay"] + 1e4)


RULES = [("school", "years")]
CASES = {  # rows -> {measure: (least, most)}
    "others of the same law": (lambda train: people(1200, 3), {
        "shape": (0, 5), "trend": (0, 6), "trees": (0.4, 0.6), "c2st": (0.85, 1), "alpha_precision": (0.9, 1),
        "beta_recall": (0.4, 0.65), "ratio": (0.93, 1.07), "closer": (0.42, 0.58), "attack": (0.42, 0.58),
        "copies": (0, 12), "outside": (0, 1), "heap_error": (0, 30), "heaps_off": (0, 10), "broken": (0, 0)}),
    "the training rows": (lambda train: train, {
        "shape": (0, 3), "trend": (0, 4), "closer": (0.95, 1), "attack": (0.95, 1), "copies": (100, 100),
        "outside": (0, 0), "ratio": (1, 1), "broken": (0, 0)}),
    "columns on their own": (alone, {
        "shape": (0, 3), "trend": (7, 100), "trees": (0.8, 1), "broken": (50, 100), "ratio": (0, 0.8)}),
    "other numbers": (far, {
        "shape": (25, 100), "trees": (1, 1), "c2st": (0, 0.01), "alpha_precision": (0, 0.1), "outside": (33, 34),
        "copies": (0, 0), "heaps_off": (33, 100), "heap_error": (33, 100)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_measures_distinguish_faults_of_rows(case: str, measures: ModuleType) -> None:
    train, held = people(1200, 1), people(1200, 2)
    make, wanted = CASES[case]
    found = measures.measured(train, held, make(train), "rich", RULES, 0)
    bad = {name: found[name] for name, (least, most) in wanted.items() if not least <= found[name] <= most}
    assert not bad, bad


def test_the_floor_is_that_of_held_out_rows(measures: ModuleType) -> None:
    found = measures.measured(people(1200, 1), people(1200, 2), None, "rich", RULES, 0)
    assert found["ratio"] == 1 and found["broken"] == 0 and 0.4 < found["trees"] < 0.6
    assert 0.42 < found["closer"] < 0.58 and 0.42 < found["attack"] < 0.58  # no row on both sides


@pytest.mark.parametrize(
    ("case", "contender"),
    [("mlp", "latens eager"), ("conv", "latens eager"), ("table-512", "latens eager"), ("counts", "latens eager"),
     ("nll", "latens")],
)  # fmt: skip
def test_latens_runs_in_the_cases_of_the_speed_comparison(
    case: str, contender: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    cases = importlib.import_module("speed.case")
    build = cases.chosen([case])[0].contenders[contender]
    assert build(cases.Size(quick=True))(0)["value"] > 0


SCRIPTS = ("synthetic_table", "imputation", "anomaly", "conditional", "stream", "speed", "memory", "compression")
TABLES = dict.fromkeys(SCRIPTS, "docs/benchmarks.md") | dict.fromkeys(
    ("published", "disentanglement"), "docs/published.md"
)
OTHERS = {"headline": "README.md", "exports": "docs/howto/export.md", "explore": "docs/howto/explore.md"}


@pytest.mark.parametrize(("script", "page"), (TABLES | OTHERS).items())
def test_tables_of_a_page_match_the_kept_figures(script: str, page: str, tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / page).read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, BENCH / f"{script}.py", "--table", copy], check=True, cwd=ROOT)
    assert copy.read_text("utf-8") == (ROOT / page).read_text("utf-8"), f"python bench/{script}.py --table {page}"


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md", "docs/catalogue.md"])
def test_no_cell_of_a_table_lacks_its_figure(page: str) -> None:
    cells = [cell.strip() for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith("|")
             for cell in line.split("|")]  # fmt: skip
    assert not [cell for cell in cells if re.search(r"\b(TABLEQ|QUALITY|STREAM|TODO|TBD|XXX)\b", cell)]
    assert not [cell for cell in cells if re.fullmatch(r"[A-Z]{4,}", cell) and cell not in ("AUROC", "TVAE", "IWAE")]
