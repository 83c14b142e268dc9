"""The examples of the README work as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert (tmp_path / "run" / "run.json").exists()
    assert (tmp_path / "my-run" / "report.html").exists()


def test_links_and_pictures_of_the_documents_exist() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} points to {target}"


def test_example_recipe_fits_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latens.cli.main import main

    monkeypatch.syspath_prepend(ROOT / "examples")
    run = str(tmp_path / "run")
    assert main(["fit", "iris", "--out", run, "--recipe", "my_recipes:laplace_vae", "--epochs", "2", "--json"]) == 0
    assert main(["evaluate", run, "--recipe", "my_recipes:laplace_vae", "--k", "10", "--json"]) == 0
