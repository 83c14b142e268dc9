"""Messages have one form: `what is wrong: what to do`, lower case, one sentence, no full stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import latens
from latens.cli.main import main

ROOT = Path(latens.__file__).parent
PACKAGES = sorted(path for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__")
RAISED = {"InputError", "FitError", "Stopped"}
NAMES = ("AnnData", "Ctrl-C", "CUDA", "HDF5", "IDX", "JSON", "Parquet", "PCA", "Python", "VAE")  # begin with capitals
SAYS_WHAT_TO_DO = re.compile(r": |must be|did you mean")  # contained in `wrong`
UNSAID = re.compile(r"\bso (many|much|long)\b|leave \S+ away|one a (row|file|part|column)|\bsay --|, as it is told")


def pieces(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, with {} for parts that are only known at run time."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        case ast.IfExp():
            yield from pieces(node.body)
            yield from pieces(node.orelse)
        case ast.BinOp(op=ast.Add()):
            left, right = list(pieces(node.left)) or ["{}"], list(pieces(node.right)) or ["{}"]
            yield from (one + other for one in left for other in right)


def messages(package: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """(place, texts of each argument) of every message that a package builds."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in RAISED and node.args:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", [list(pieces(each)) for each in node.args]


def faults(arguments: list[list[str]]) -> Iterator[str]:
    for text in (text for each in arguments for text in each):
        if text.endswith(".") and not text.endswith("…"):
            yield f"ends in a full stop: {text!r}"
        if re.search(r"[a-z)'\"}]\. [A-Z]", text):
            yield f"has two sentences: {text!r}"
        if text[:1].isupper() and not text.startswith(NAMES):
            yield f"begins with a capital: {text!r}"
        if found := UNSAID.search(text):
            yield f"says {found[0]!r}: {text!r}"
    if len(arguments) == 1:
        unsaid = (text for text in arguments[0] if not SAYS_WHAT_TO_DO.search(text))
        yield from (f"says nothing of what to do: {text!r}" for text in unsaid)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_message_has_the_form(package: Path) -> None:
    found = [f"{place} {fault}" for place, arguments in messages(package) for fault in faults(arguments)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "arguments",
    [["The file is empty", "give another"], ["it is empty."], ["it is empty. Give another: x"], ["it is empty"],
     ["it is empty", "leave --layout away"]],
)  # fmt: skip
def test_a_message_of_the_wrong_form_is_detected(arguments: list[str]) -> None:
    assert list(faults([[each] for each in arguments]))


@pytest.mark.parametrize(
    "words, said",
    [
        ("encode", "RUN is missing: `latens COMMAND --help` lists what a command takes"),
        ("sample run", "the option --out is missing: pass --out VALUE"),
        ("sample run -n", "the option -n needs a value: pass -n VALUE"),
        ("sample run -n ten --out x.csv", "--number must be a whole number"),
        ("fit x.csv --out run --stream=yes", "the option --stream takes no value: pass --stream alone"),
        ("fit x.csv y.csv --out run", "there is one argument too many, y.csv: omit it"),
        ("fit x.csv --out run --epochs many", "--epochs: 'many' is neither 'auto' nor a whole number"),
        ("fitt x.csv", "there is no command fitt: did you mean 'fit'?"),
        ("sample run -q", "there is no option -q: `latens COMMAND --help` lists them"),
    ],
)
def test_arguments_that_a_command_does_not_take_are_refused_in_the_same_form(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err.strip() == f"latens: {said}"
