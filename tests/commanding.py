"""Call the command line in this process, in a folder with data and runs."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets

from latens.cli.main import main

SHORT = ("--epochs", "2")


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        return self.err.strip().splitlines()[-1].removeprefix("latens: ")


def call(*words: object) -> Result:
    """Call ``latens WORDS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    return Result(status, out.getvalue(), err.getvalue())


def done(*words: object) -> Result:
    """A call that must succeed."""
    result = call(*words)
    assert result.status == 0, result.err
    return result


def figures(*words: object) -> Any:
    """The JSON object that a successful call prints with --json, and that it prints nothing else."""
    return json.loads(done(*words, "--json").out)


def refused(*words: object, status: int = 2) -> str:
    """The one sentence with which a call is refused, with and without --json, after checking that no file is left
    behind."""
    before = tree(Path.cwd())
    plain = call(*words)
    assert plain.status == status, (words, plain)
    *rest, last = plain.err.strip().splitlines()
    assert last.startswith("latens: ") and len(last) > 20, plain.err
    assert not any(line.startswith("latens: ") for line in rest) and "Traceback" not in plain.err
    assert plain.out == "", plain.out
    after = tree(Path.cwd())
    assert after == before, set(after) ^ set(before)
    given = list(map(str, words))
    given.insert(given.index("--") if "--" in given else len(given), "--json")
    machine = call(*given)
    assert machine.status == status and machine.sentence == plain.sentence
    assert json.loads(machine.out) == {"error": plain.sentence, "status": status}
    assert tree(Path.cwd()) == before
    return plain.sentence


def blank_page(path: Path, *given: object, **more: object) -> None:
    """Replace the report by a blank page in tests of other things: drawing it takes longer than a small fit."""
    Path(path).write_text("<html></html>")


def tree(folder: Path) -> dict[str, int]:
    """{path: size} of everything in a folder except compiled Python."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.stat().st_size if path.is_file() else -1 for path in paths}


OWN = '''
from torch import nn
from latens import conditionals, models, objectives, priors

def good(info, *, latent_dim=2, beta=1.0):
    """Linear."""
    posterior = conditionals.DiagonalNormalPosterior(nn.Linear(info.columns, 2 * latent_dim))
    likelihood = conditionals.NormalLikelihood(nn.Linear(latent_dim, info.columns))
    return models.VAE(priors.StandardNormal(latent_dim), posterior, likelihood), objectives.ELBO(beta)

def raises(info):
    raise KeyError("boom")

def talking(info):
    print("to standard output")
    return good(info)

def swapped(info):
    return good(info)[::-1]

def misshapen(info):
    model, objective = good(info)
    model.posterior = conditionals.DiagonalNormalPosterior(nn.Linear(99, 4))
    return model, objective

class Encoder(nn.Module):
    """A model that only encodes."""
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.draw, self.encode = model.draw, model.encode

class Refusing(models.VAE):
    def decode(self, z, c=None):
        raise NotImplementedError("codes are all that it has")

def encoding(info):
    model, objective = good(info)
    return Encoder(model), objective

def refusing(info):
    model, objective = good(info)
    return Refusing(model.prior, model.posterior, model.likelihood), objective
'''


def furnish(folder: Path) -> None:
    """Write good and bad data, a module of user recipes, and fitted runs to the folder."""
    here = os.getcwd()
    os.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _arrays()
        _tables()
        _files()
        Path("own_recipes.py").write_text(OWN)
        Path("broken_recipes.py").write_text("def (:\n")
        done("fit", "iris", "--out", "iris-run", *SHORT, "--seed", 1)
        done("fit", "iris.npy", "--out", "array-run", *SHORT, "--seed", 1)
        done("fit", "digits", "--out", "digits-run", "--epochs", 1)
        done("fit", "iris", "--out", "ae-run", "--recipe", "ae", *SHORT)
        done("fit", "labelled.csv", "--out", "labelled-run", "--labels", "kind", "--validation", "labelled.csv", *SHORT)
        done("fit", "iris", "--out", "own-run", "--recipe", "own_recipes:good", *SHORT)
        done("fit", "iris", "--out", "seeds-run", "--seeds", 2, *SHORT)
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)


def _arrays() -> None:
    iris, rng = datasets.load_iris().data, np.random.default_rng(0)
    nan, infinite = iris.copy(), iris.copy()
    nan[25, 2], infinite[25, 2] = np.nan, -np.inf
    levels = rng.integers(0, 17, (6, 8, 8))
    above = levels.copy()
    above[2, 3, 4] = 99
    weights = {"short": np.ones(5), "negative": -np.ones(150), "zero": np.zeros(150), "nan": np.full(150, np.nan),
               "wide": np.ones((75, 2)), "good": rng.random(150)}  # fmt: skip
    arrays = {
        "iris": iris, "few": iris[:5], "five": np.c_[iris, iris[:, 0]], "nan": nan, "infinite": infinite,
        "one": iris[:1], "two": iris[:2], "norows": iris[:0], "nocolumns": iris[:, :0], "single": np.array(3.0),
        "vector": iris[:, 0], "axes5": np.zeros((2, 2, 2, 2, 2)), "channels": np.zeros((4, 7, 8, 9)),
        "text": np.array([["a", "b"]]), "complex": iris.astype(complex), "beyond": iris * 1e60, "tiny": iris * 1e-60,
        "large": iris * 1e300, "levels": levels, "above": above, "halves": levels + 0.5,
        "wrongsize": np.zeros((5, 9, 9)),
    } | {f"weights-{name}": values for name, values in weights.items()}  # fmt: skip
    for name, values in arrays.items():
        np.save(f"{name}.npy", values)
    np.save("objects.npy", np.array([[1, "a"]], dtype=object), allow_pickle=True)
    np.savez("several.npz", a=iris, b=iris)


def _tables() -> None:
    iris = datasets.load_iris()
    names, rows = list(iris.feature_names), iris.data[::6]
    kinds = iris.target_names[iris.target][::6]

    def table(name: str, columns: list[str], values: Any) -> None:
        lines = [",".join(map(str, row)) for row in values]
        Path(f"{name}.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")

    table("ordered", names, rows)
    table("reordered", names[::-1], rows[:, ::-1])
    table("more", ["id", *names, "word"], np.c_[np.arange(25), rows, kinds])
    table("labelled", ["kind", *names], np.c_[kinds, rows])
    table("missing", names[:3], rows[:, :3])
    table("others", list("abcd"), rows)
    for name, cell in {"word": "cat", "gap": "", "infinity": "inf"}.items():
        cells = rows.astype(object)
        cells[7, 2] = cell
        table(name, names, cells)
    for name, cell in {"text": "word", "gap": "", "mixed": "1"}.items():
        cells = ["1" if name == "gap" else cell] * 150
        cells[1] = {"text": "word", "gap": '""', "mixed": "much"}[name]
        table(f"weights-{name}", ["w"], [[c] for c in cells])
    Path("header.csv").write_text("a,b\n")
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    Path("twice.csv").write_text("a,a\n1,2\n")
    Path("utf16.csv").write_text("a,größe\n" + "1.5,groß\n2.5,klein\n0.5,größer\n" * 5, encoding="utf-16")
    Path("latin1.csv").write_bytes("a,b\n1,größe\n".encode("latin-1"))
    Path("empty-columns.csv").write_text("a,b\nNA,\n,\n")


def _files() -> None:
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(80)
    files = {
        "truncated.npy": Path("iris.npy").read_bytes()[:-5], "truncated.npz": Path("several.npz").read_bytes()[:300],
        "magic.idx": b"\1\2\3\4" * 20, "truncated-idx3-ubyte": idx[:-7], "truncated.idx.gz": gzip.compress(idx)[:-12],
        "empty.npy": b"", "empty.csv": b"", "notes.doc": b"1,2\n3,4\n",
    }  # fmt: skip
    for name, content in files.items():
        Path(name).write_bytes(content)


def mixed_table(path: str = "table.csv", rows: int = 60) -> None:
    """A small table with a number, a category and missing cells of both."""
    rng = np.random.default_rng(0)
    lines = [
        f"{rng.normal():.4f},{rng.choice(['a', 'b', ''])},{rng.choice(['', '1.5', '2.5', '-0.5'])}" for _ in range(rows)
    ]
    Path(path).write_text("\n".join(["size,kind,weight", *lines]) + "\n")
