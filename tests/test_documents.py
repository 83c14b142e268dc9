"""Names in docstrings and documents exist, and the code that documents show is the code of the repository."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType

import pytest

import latens
from latens import recipes

ROOT = Path(latens.__file__).parent
PAGES = sorted(path for path in (ROOT.parent / "docs").rglob("*.md") if "_build" not in path.parts)
DOCUMENTS = [ROOT.parent / "README.md", ROOT.parent / "CONTRIBUTING.md", *PAGES]
ROLE = re.compile(r":(?:class|func|meth|mod|data):`([\w.]+)`")
BUILT = ("docs/_build",)  # by make docs
DOTTED = re.compile(r"(?<![\w./-])latens(?:\.[A-Za-z_]\w*)+")


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def module_of(path: Path) -> ModuleType:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def exists(dotted: str) -> bool:
    """Whether ``latens.a.b`` is a module or an attribute of one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            reduce(getattr, parts[cut:], module)
        except AttributeError:
            return False
        return True
    return False


IN_PAGE = ("latens.decode", "latens.z", "latens.select")  # of the script in a page


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_docstrings_exist(path: Path) -> None:
    text = "\n".join(docstrings(path))
    for name in DOTTED.findall(text):
        assert exists(name), f"{path.name} names {name}"
    for name in ROLE.findall(text):
        known = name.startswith("latens.") or hasattr(module_of(path), name.partition(".")[0])
        known = known or any(name in vars(kind) for kind in vars(module_of(path)).values() if inspect.isclass(kind))
        assert known, f"{path.name} refers to {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_names_and_paths_in_documents_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    for name in DOTTED.findall(text):
        assert exists(name) or name in ("latens.VAE.fit", *IN_PAGE), f"{path.name} names {name}"
    for place in re.findall(r"`((?:latens|tests|docs|bench|examples)/[\w./-]*)`", text):
        assert (ROOT.parent / place).exists() or place in BUILT, f"{path.name} names the file {place}"


def blocks(path: Path) -> list[str]:
    """The indented blocks of a text, without their indentation."""
    found = re.findall(r"(?:^ {4,}\S.*\n(?:\n(?= {4,}\S))?)+", path.read_text("utf-8"), flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in found]


def test_the_code_of_the_walk_through_equals_the_source_files() -> None:
    shown = [block for block in blocks(ROOT.parent / "CONTRIBUTING.md") if re.match(r"def |class ", block)]
    tree = "\n".join(path.read_text("utf-8") for path in ROOT.rglob("*.py"))
    assert len(shown) == 2
    for block in shown:
        assert f"\n{block}\n" in tree or f"\n    {block}\n" in tree, block


def test_every_recipe_is_in_the_changelog() -> None:
    text = (ROOT.parent / "CHANGELOG.md").read_text("utf-8")
    assert [name for name in recipes.CATALOGUE if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_lines_of_documents_are_wrapped(path: Path) -> None:
    """At most 120 characters, except in tables, pictures, code and formulas."""
    unwrapped = re.compile(r"^(```|<script>|\$\$).*?(```|</script>|\$\$)$", re.DOTALL | re.MULTILINE)
    text = unwrapped.sub("", path.read_text("utf-8"))
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "![", "    "))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_no_line_of_prose_begins_with_a_mark_of_markdown(path: Path) -> None:
    """A line that begins with % is a comment, and is not shown; one that begins with + or > ends its paragraph."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"^ {0,3}(?:%|\+|>).*", text, flags=re.MULTILINE)
