"""Public names have a docstring: classes, functions and methods whose name does not begin with an underscore."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import latens

ROOT = Path(latens.__file__).parent
PACKAGES = sorted(path for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__")
SHARE = 0.95
AGAIN = {"overload", "setter"}  # decorators of a name that is documented where it is first defined


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(name, whether it has a docstring) of every public class, function and method in a module or class."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if AGAIN.intersection(ast.unparse(each).rpartition(".")[2] for each in child.decorator_list):
            continue
        yield prefix + child.name, ast.get_docstring(child) is not None
        if isinstance(child, ast.ClassDef):
            yield from public(child, f"{prefix}{child.name}.")


def names(package: Path) -> dict[str, bool]:
    """{place: whether it has a docstring} of every public name in the public files of a package."""
    files = (path for path in sorted(package.rglob("*.py")) if path.name == "__init__.py" or path.name[0] != "_")
    return {
        f"{path.relative_to(ROOT)}: {name}": has for path in files
        for name, has in public(ast.parse(path.read_text("utf-8")))
    }  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_public_names_have_a_docstring(package: Path) -> None:
    found = names(package)
    missing = [name for name, has in found.items() if not has]
    assert len(missing) <= (1 - SHARE) * len(found), f"{len(missing)} of {len(found)} lack one:\n" + "\n".join(missing)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_file_says_what_it_is(package: Path) -> None:
    silent = [path for path in package.rglob("*.py") if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None]
    assert not silent


@pytest.mark.parametrize(
    "code, expected",
    [
        ("def f(): 'does'", {"f": True}),
        ("def f(): pass", {"f": False}),
        ("def _f(): pass", {}),
        ("class A:\n 'is'\n def f(self): pass\n def _g(self): pass", {"A": True, "A.f": False}),
        ("class A:\n 'is'\n @f.setter\n def f(self, x): pass", {"A": True}),
        ("@overload\ndef f(): ...", {}),
        ("class _A:\n def f(self): pass", {}),
    ],
)
def test_public_names_are_found(code: str, expected: dict[str, bool]) -> None:
    assert dict(public(ast.parse(code))) == expected
