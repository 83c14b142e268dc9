"""The story in docs/: its code runs, its pictures exist, its numbers come from its script, and tests hold its laws."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "story.md"
PICTURES = PAGE.parent / "images" / "story"
TEXT = PAGE.read_text("utf-8")
RESULTS = json.loads((ROOT / "docs" / "story.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_story", ROOT / "docs" / "make_story.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minified_page_code_keeps_what_its_pictures_and_numbers_need(script: ModuleType, tmp_path: Path) -> None:
    scope: dict[str, object] = {}
    for block in script.code_of(TEXT.replace('epochs = "auto"', "epochs = 1")):
        exec(compile(block, PAGE.name, "exec"), scope)
    assert scope["epochs"] == 1
    results = script.measure(scope)
    assert results.keys() == RESULTS.keys()
    script.PICTURES = tmp_path
    script.draw_all(scope, results)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.iterdir()}


def test_numbers_and_stills_of_the_page_are_those_of_its_results(script: ModuleType) -> None:
    assert script.with_stills(script.with_numbers(TEXT, RESULTS), RESULTS) == TEXT


def test_every_number_with_decimals_is_a_setting_or_a_result() -> None:
    apart = r"```.*?```|<script>.*?</script>|<!-- stills -->.*<!-- /stills -->|`[^`]*`|\$\$?[^$]*\$\$?"
    prose = re.sub(apart, "", TEXT, flags=re.DOTALL)
    assert re.findall(r"\d+\.\d+(?!<!-- |\d)", prose) == []


def test_pictures_are_small_and_all_of_them_are_shown_and_described() -> None:
    shown = re.findall(r"!\[([^\]]+)\]\((images/story/[^)]+)\)", TEXT)
    assert all(len(words) > 20 for words, _ in shown)
    assert sorted(path for _, path in shown) == sorted(
        f"images/story/{path.name}" for path in PICTURES.iterdir()
    )
    for _, path in shown:
        assert (PAGE.parent / path).stat().st_size < 100_000, path


def test_every_law_that_the_page_names_is_held() -> None:
    named = 0
    for paragraph in re.findall(r"\*Laws?:\*(.*?)\n\n", TEXT, flags=re.DOTALL):
        (file,) = re.findall(r"`(tests/\w+\.py)`", paragraph)
        for law in re.findall(r"`(test_\w+)`", paragraph):
            assert f"def {law}(" in (ROOT / file).read_text("utf-8"), law
            named += 1
    assert named > 5
