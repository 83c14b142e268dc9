"""Public names (classes, functions and methods without a leading underscore) have a docstring, which names the shapes
of tensors and arrays and the error for bad input."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import latens

ROOT = Path(latens.__file__).parent
PACKAGES = sorted(path for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__")
SHARE = 0.95
AGAIN = {"overload", "setter"}  # decorators of names that are documented where they are first defined


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
    """{place: whether the name there has a docstring} of every public name in the public files of a package."""
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


# Shapes and errors. Arrays inside the command line and the report are not the user's, so their shapes are not checked.

ARRAY = re.compile(r"(Tensor|np\.ndarray)( \| .+)?")  # a tensor or an array, not a mapping
SHAPE = re.compile(r"\[[^\]]+\]|\b(scalar|shape)")
LIBRARY = [package for package in PACKAGES if package.name not in ("cli", "report")]


def functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """(name, node, docstring with that of its class) of every public function and method in a module or class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, ast.get_docstring(child) or " ")
        elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            yield child.name, child, f"{within}{ast.get_docstring(child) or ''}"


def takes_arrays(function: ast.FunctionDef) -> bool:
    """Whether a parameter or the result is annotated as a tensor or an array."""
    given = [each.annotation for each in (*function.args.args, *function.args.kwonlyargs)]
    return any(ARRAY.fullmatch(ast.unparse(each)) for each in (*given, function.returns) if each is not None)


def refuses(function: ast.FunctionDef) -> bool:
    """Whether the function body raises ``InputError``."""
    raised = (each.exc for each in ast.walk(function) if isinstance(each, ast.Raise))
    return any(isinstance(each, ast.Call) and getattr(each.func, "id", "") == "InputError" for each in raised)


def unsaid(package: Path) -> tuple[dict[str, bool], dict[str, bool]]:
    """({place: whether a shape is named} of functions of arrays, {place: whether the error is named} of those that
    refuse input)."""
    shapes, errors = {}, {}
    for path in sorted(package.rglob("*.py")):
        for name, node, text in functions(ast.parse(path.read_text("utf-8"))):
            place = f"{path.relative_to(ROOT)}:{node.lineno} {name}"
            if takes_arrays(node):
                shapes[place] = SHAPE.search(text) is not None
            if refuses(node):
                errors[place] = re.search(r"InputError|refuse", text) is not None
    return shapes, errors


@pytest.mark.parametrize("kind", [0, 1], ids=["shapes", "errors"])
def test_docstrings_name_shapes_and_errors(kind: int) -> None:
    found = {place: said for package in LIBRARY for place, said in unsaid(package)[kind].items()}
    missing = [place for place, said in found.items() if not said]
    assert len(missing) <= (1 - SHARE) * len(found), f"{len(missing)} of {len(found)} do not:\n" + "\n".join(missing)


def misread(code: str) -> list[str]:
    """Docstrings that the site would show wrongly: a property whose first line has a colon (Sphinx takes it for a
    type), and an argument described by one letter (it becomes a list number)."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            plain = re.sub(r"``.*?``|:\w+:`.*?`", "", text.partition("\n")[0])
            kinds = " ".join(ast.unparse(each) for each in node.decorator_list)
            found += [node.name] * ("property" in kinds and ": " in plain)
            found += re.findall(r"(?m)^ +(\w+): [A-Za-z]\.$", text)
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_docstrings_are_read_as_they_are_written(package: Path) -> None:
    assert not {path: said for path in package.rglob("*.py") if (said := misread(path.read_text("utf-8")))}


@pytest.mark.parametrize(
    "code, expected",
    [
        ("class A:\n 'It.\\n\\n    Args:\\n        dim: Z.'", ["dim"]),
        ("@property\ndef f(self): 'A value: the first'", ["f"]),
        ("@property\ndef f(self): 'The ``a: b`` of it.'", []),
    ],
)
def test_a_misread_docstring_is_detected(code: str, expected: list[str]) -> None:
    assert misread(code) == expected


@pytest.mark.parametrize(
    "code, shapes, errors",
    [
        ("def f(x: Tensor): 'of ``[N]``'", [True], []),
        ("def f(x: np.ndarray | None = None): 'of rows'", [False], []),
        ("def f(x: dict[str, Tensor]): 'of rows'", [], []),
        ("class A:\n 'of ``[N]``'\n def f(self) -> Tensor: 'it'", [True], []),
        ("def f():\n 'it'\n raise InputError('a', 'b')", [], [False]),
        ("def f():\n 'it; ``InputError`` for others'\n raise InputError('a', 'b')", [], [True]),
    ],
)
def test_shapes_and_errors_are_found(code: str, shapes: list[bool], errors: list[bool]) -> None:
    found = [(takes_arrays(node), refuses(node), text) for _, node, text in functions(ast.parse(code))]
    assert [SHAPE.search(text) is not None for takes, _, text in found if takes] == shapes
    assert ["InputError" in text for _, refused, text in found if refused] == errors


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_file_has_a_docstring(package: Path) -> None:
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


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_show_decimals(path: Path) -> None:
    """pytest compares numbers to the decimals shown, so "1." would also be right for 0.2 and 1.9."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, documented)]
    texts = map(ast.get_docstring, nodes)
    shown = [example.want for text in texts for example in doctest.DocTestParser().get_examples(text or "")]
    assert not [want for want in shown if re.search(r"\d\.(?![\d.e])", want)]
