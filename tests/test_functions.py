"""Functions are short enough to understand: at most 60 lines, complexity 15 and 8 parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import latens

ROOT = Path(latens.__file__).parent
LINES, COMPLEXITY, PARAMETERS = 60, 15, 8
CATALOGUES = ("cli", "recipes")  # functions there declare the options of a command or a recipe as parameters
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Only functions whose parameters are options that a user names may exceed the limit.
EXCEPTIONS: dict[str, set[str]] = {
    "lines": set(),
    "parameters": {
        "api.estimator.VAE.__init__", "api.training.train", "data.rows.rows_like",
        "data.streams.loader.StreamLoader.__init__", "models.hamiltonian.Hamiltonian.__init__",
        "models.recurrent.Recurrent.__init__", "runs.comparing.compare",
    },
    "complexity": set(),
}  # fmt: skip


def complexity(function: Function) -> int:
    """McCabe's complexity as radon counts it: 1 plus 1 for every further path. Nested functions count separately."""
    return 1 + sum(map(_ways, function.body))


def _ways(tree: ast.AST) -> int:
    found = 0
    match tree:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return 0
        case ast.Assert():
            return 1
        case ast.If() | ast.IfExp():
            found = 1
        case ast.For() | ast.AsyncFor() | ast.While():
            found = 1 + bool(tree.orelse)
        case ast.Try():
            found = len(tree.handlers) + bool(tree.orelse)
        case ast.BoolOp():
            found = len(tree.values) - 1
        case ast.comprehension():
            found = 1 + len(tree.ifs)
        case ast.Match():
            found = len(tree.cases) - any(getattr(case.pattern, "pattern", False) is None for case in tree.cases)
    return found + sum(map(_ways, ast.iter_child_nodes(tree)))


def parameters(function: Function) -> int:
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return len(names) + len(function.args.kwonlyargs) - (names[:1] in (["self"], ["cls"]))


def functions() -> Iterator[tuple[str, Function]]:
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield from _inside(module, ast.parse(path.read_text("utf-8")))


def _inside(place: str, tree: ast.AST) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        name = f"{place}.{node.name}" if isinstance(node, Function | ast.ClassDef) else place
        if isinstance(node, Function):
            yield name, node
        yield from _inside(name, node)


def too_much(name: str, function: Function) -> set[str]:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    over = {"lines": lines > LINES, "complexity": complexity(function) > COMPLEXITY}
    over["parameters"] = parameters(function) > PARAMETERS and name.partition(".")[0] not in CATALOGUES
    return {what for what, is_over in over.items() if is_over}


@cache
def offenders() -> dict[str, set[str]]:
    """Name of each function: what it has too much of."""
    return {name: too_much(name, function) for name, function in functions()}


@pytest.mark.parametrize("what", EXCEPTIONS)
def test_functions_are_short_plain_and_of_few_parameters(what: str):
    found = {name for name, over in offenders().items() if what in over}
    new, gone = sorted(found - EXCEPTIONS[what]), sorted(EXCEPTIONS[what] - found)
    assert not new, f"too much {what}: {new}"
    assert not gone, f"no longer too much {what}, take them out of the exceptions: {gone}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 1),
        ("if a and b or c: pass\nelif d: pass\nelse: pass", 5),
        ("for a in b: pass\nelse: pass", 3),
        ("try: a\nexcept B: pass\nexcept C: pass\nelse: pass", 4),
        ("return [a for a in b if a if c]", 4),
        ("assert a if b else c", 2),
        ("def inner():\n  if a: pass\nreturn lambda b: b", 1),
        ("match a:\n  case 1: pass\n  case 2: pass\n  case _: pass", 3),
    ],
)
def test_complexity_is_the_number_of_paths(code: str, expected: int):
    body = "\n".join(f"  {line}" for line in code.splitlines())
    function = ast.parse(f"def f():\n{body}").body[0]
    assert isinstance(function, Function) and complexity(function) == expected
