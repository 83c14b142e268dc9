"""A run exported as graphs for other runtimes: the graphs compute what the model does, for any number of rows."""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import done, refused
from parts import Encoding
from torch import nn

import latens
from latens import evaluation
from latens.data.rows import rows_of
from latens.errors import InputError
from latens.report.explore import Explorer
from latens.runs import record
from latens.runs.export import graphs, operators, writing
from latens.runs.export.simplifying import simplified


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mixed table with gaps, a file of ten of its rows, a run fitted to it, and a run of counts."""
    folder = tmp_path_factory.mktemp("export")
    random = np.random.default_rng(0)
    lines = [f"{random.normal():.2f},{'xyz'[i % 3]},{i * i % 11 or ''},{['no', 'yes'][random.random() < 0.7]}"
             for i in range(200)]  # fmt: skip
    (folder / "table.csv").write_text("\n".join(["a,b,c,d", *lines]) + "\n")
    (folder / "rows.csv").write_text("\n".join(["a,b,c,d", *lines[:10]]) + "\n")
    np.save(folder / "counts.npy", random.poisson(3.0, size=(100, 60)))
    done("fit", folder / "table.csv", "--out", folder / "table", "--epochs", 1)
    done("fit", folder / "table.csv", "--out", folder / "ordered", "--epochs", 1, "--dependence", "autoregressive")
    done("fit", folder / "counts.npy", "--kind", "count", "--out", folder / "counts", "--epochs", 1)
    return folder


@pytest.fixture(scope="module")
def exported(place: Path) -> Path:
    """The folder that the command writes for the run of a table."""
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    done("export", place / "table", "--out", place / "out")
    return place / "out"


# Programs with fewer operations


class Repeating(nn.Module):
    """A model that computes a value twice, converts a tensor to its own type, and computes with weights alone."""

    def __init__(self, in_place: bool = False):
        super().__init__()
        self.weight, self.in_place = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3)), in_place

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, second = (x.float() @ self.weight.exp().T for _ in range(2))
        whole = torch.arange(3) * 2
        numbers = [torch.full_like(x, value) for value in (1, 1.0, True, -0.0, 0.0, math.nan)]
        signs = [torch.copysign(x.abs(), each) for each in numbers]
        if self.in_place:
            whole[0] = 7
        return first.expand(first.shape) - 2 * second, x[:, whole.clamp(0, 2)], first, second, torch.stack(signs)


def test_a_simplified_program_computes_the_same_with_fewer_operations():
    rows, x = torch.export.Dim("rows"), torch.randn(5, 3)
    for in_place in (False, True):
        model = Repeating(in_place)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: rows},), strict=False)
        before = [str(node) for node in program.graph.nodes]
        with torch.no_grad():
            found = simplified(program).run_decompositions().module()(x[:2])
            assert all(torch.equal(a, b) for a, b in zip(found, model(x[:2]), strict=True))
        after = [str(node) for node in program.graph.nodes]
        assert after == before if in_place else len(after) < len(before) - 5


# Operations


def test_log_gamma_is_that_of_torch():
    z = torch.logspace(-20, 20, 4001, dtype=torch.float64)
    ours, theirs = operators.lgamma(z), torch.lgamma(z)
    assert ((ours - theirs).abs() <= 1e-13 * theirs.abs() + 5e-14).all()


@pytest.mark.parametrize("name", ["expm1", "log1p"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_of_small_numbers_are_those_of_torch(name: str, dtype: torch.dtype):
    sizes = torch.logspace(-30, 1.9, 2001, dtype=dtype)
    x = torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes])
    x = x if name == "expm1" else x[x > -1]
    ours, theirs = getattr(operators, name)(x), getattr(torch, name)(x)
    assert ((ours - theirs).abs() <= 2 * torch.finfo(dtype).eps * theirs.abs()).all()


@pytest.mark.parametrize("function", operators.WIDE)
def test_functions_that_runtimes_have_in_float32_alone_are_those_of_torch(function: Callable[..., torch.Tensor]):
    x = torch.linspace(-0.999, 0.999, 2000, dtype=torch.float64)
    x = x if "atanh" in function.__name__ else 5 * x
    given = (x, x.flip(0).roll(700)) if "atan2" in function.__name__ else (x,)
    ours, theirs = operators.WIDE[function](*given), function(*given)
    most = 1.2e-7 if "ndtr" in function.__name__ else 1e-15
    assert ((ours - theirs).abs() <= most * theirs.abs() + 1e-15).all()


def test_triangular_systems_and_factors_are_those_of_torch():
    torch.manual_seed(0)
    matrix, b = torch.randn(3, 6, 6).double(), torch.randn(3, 6, 2).double()
    square = matrix @ matrix.mT + torch.eye(6)
    tril = torch.linalg.cholesky(square)
    assert torch.allclose(operators.cholesky(square), tril, atol=1e-12)
    assert torch.allclose(operators.cholesky_solve(b, tril), torch.cholesky_solve(b, tril), atol=1e-12)
    for upper, a in ((False, tril), (True, tril.mT)):
        wanted = torch.linalg.solve_triangular(a, b, upper=upper)
        assert torch.allclose(operators.solve_triangular(a, b, upper=upper), wanted, atol=1e-12)


def test_digamma_is_that_of_torch():
    z = torch.logspace(-3, 5, 1001, dtype=torch.float64)
    assert torch.allclose(operators.digamma(z), torch.digamma(z), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_is_that_of_torch(right: bool):
    torch.manual_seed(0)
    edges = torch.randint(9, (4, 7)).sort(-1).values.double()
    values = torch.randint(9, (4, 20)).double()
    found = operators.searchsorted(edges, values, right=right)
    assert torch.equal(found, torch.searchsorted(edges, values, right=right))


def test_the_next_number_lies_on_the_requested_side():
    x = torch.tensor([-3.0, 0.0, 5.0], dtype=torch.float64)
    for sign in (-1, 1):
        found = sign * (operators.neighbour(x, torch.full_like(x, sign * torch.inf)) - x)
        assert (found > 0).all() and (found <= 2 * torch.finfo(x.dtype).eps * x.abs().clamp_min(1)).all()


# Graphs


@pytest.mark.parametrize("name", ["table", "counts"])
def test_a_graph_traced_with_three_rows_computes_what_the_model_does_with_seven(name: str, place: Path):
    run = record.load(place / name)
    decoder = graphs.decoder(run)
    z, *c = decoder.given(7)
    z = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    found = dict(zip(decoder.outputs, graphs.program(decoder).module()(z, *c)))
    wanted = evaluation.decode(run.model, z, dict(zip(decoder.conditions, c)) or None)
    assert torch.allclose(found["value"].to(wanted), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    if name == "table":
        levels = found["probabilities"]
        assert torch.allclose(levels[:, :3].sum(-1), torch.ones(7), atol=1e-6)
        assert torch.equal(levels[:, :3].argmax(-1), found["value"][:, 1].long())


@pytest.mark.parametrize("name", ["table", "counts"])
def test_the_same_noise_gives_the_same_score(name: str, place: Path):
    scorer = graphs.scorer(record.load(place / name))
    given = scorer.given(7)
    found = dict(zip(scorer.outputs, graphs.traced(scorer).module()(*given)))
    with torch.no_grad():
        wanted = dict(zip(scorer.outputs, scorer(*given)))
    for key, value in wanted.items():
        assert torch.allclose(found[key], value, rtol=1e-5), key


@pytest.mark.parametrize("name", ["table", "ordered", "counts"])
@pytest.mark.parametrize("part", writing.GRAPHS)
def test_a_runtime_computes_what_the_model_does(part: str, name: str, place: Path, exported: Path):
    """ONNX Runtime runs a graph that was traced with three rows on seven; errors are below 1e-5 of an output's largest
    number."""
    runtime = pytest.importorskip("onnxruntime")
    graph = writing.GRAPHS[part](record.load(place / name))
    written = (exported / f"{part}.onnx").read_bytes() if name == "table" else writing.as_onnx(graph)
    given = [each + 0.3 * torch.randn(each.shape).to(each) if i == 0 and part == "decoder" else each
             for i, each in enumerate(graph.given(7))]  # fmt: skip
    session = runtime.InferenceSession(written, providers=["CPUExecutionProvider"])
    found = session.run(list(graph.outputs), {n: v.numpy() for n, v in zip(graph.inputs, given, strict=True)})
    with torch.no_grad():
        wanted = graph(*given)
    for key, ours, theirs in zip(graph.outputs, found, wanted, strict=True):
        scale = float(theirs.nan_to_num().abs().max())
        assert np.allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5 * scale, equal_nan=True), key


@pytest.mark.filterwarnings("ignore:no rows are held out")
@pytest.mark.parametrize("recipe", ["poe", "mopoe", "joint"])
def test_the_encoder_of_several_modalities_is_traced_for_any_number_of_rows(recipe: str):
    pixels = np.random.default_rng(0).integers(0, 17, (20, 8, 8)).astype(np.uint8)
    encoder = graphs.encoder(latens.VAE(recipe=recipe, latent_dim=2, epochs=1, random_state=0).fit(pixels).run_)
    [x] = (torch.randint(17, each.shape, dtype=each.dtype) for each in encoder.given(7))
    with torch.no_grad():
        wanted = encoder(x)
    for ours, theirs in zip(graphs.traced(encoder).module()(x), wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_own_parts_are_exported_as_far_as_they_have_methods(tmp_path: Path):
    """For an own model that does not decode, the other graphs are written, and the explorer has nothing to show."""
    pytest.importorskip("onnxscript")
    x = np.random.default_rng(0).normal(size=(64, 3))
    run = latens.train(Encoding(), latens.objectives.ELBO(), x, epochs=1)
    found = writing.export(run, tmp_path / "out")
    assert found["without"] == {"decoder": "the model has no method decode"}
    assert {"encoder.onnx", "scorer.onnx"} < set(found["files"]) and "decoder.onnx" not in found["files"]
    with pytest.raises(InputError, match=r"this run: the model does not decode .*: explore a run of another recipe"):
        Explorer(run, rows_of(x))


def test_the_tracer_is_silent(caplog: Any, capfd: Any):
    """torch cannot trace a decoder whose operations depend on its data. Its remarks about that are not shown."""

    class Depending(latens.models.VAE):
        def decode(self, z: Any, c: Any = None) -> Any:
            return super().decode(z if float(z.sum()) > 0 else -z, c)

    whole = Encoding().whole
    model = Depending(whole.prior, whole.posterior, whole.likelihood)
    run = latens.train(model, latens.objectives.ELBO(), np.random.default_rng(0).normal(size=(64, 3)), epochs=1)
    capfd.readouterr()
    with pytest.raises(NotImplementedError, match=r"torch\.export cannot trace it"):
        graphs.traced(graphs.decoder(run))
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert capfd.readouterr() == ("", "")


# The folder


def test_without_onnx_one_sentence_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = refused("export", place / "table", "--out", place / "none")
    assert "pip install 'latens[onnx]'" in said
    assert not (place / "none").exists()


def test_remarks_of_the_exporter_are_not_shown(place: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    optimizer = pytest.importorskip("onnxscript").optimizer
    fold, folded = optimizer.fold_constants, []

    def remarking(model: Any) -> Any:
        logging.getLogger("onnxscript").warning("Skipping an operator")
        folded.append(model)
        return fold(model)

    monkeypatch.setattr(optimizer, "fold_constants", remarking)
    writing.as_onnx(graphs.decoder(record.load(place / "counts")))
    assert folded and "onnxscript" not in {each.name for each in caplog.records}


def test_the_example_scores_and_decodes_without_latens(place: Path, exported: Path):
    assert "already has files" in refused("export", place / "table", "--out", place / "out")
    assert "18 to 20" in refused("export", place / "table", "--out", place / "other", "--opset", 11)

    def example(folder: Path = exported) -> subprocess.CompletedProcess[str]:
        code = "import runpy, sys; sys.modules['torch'] = sys.modules['latens'] = None; sys.argv = sys.argv[1:]; "
        words = [str(folder / "example.py"), str(place / "rows.csv")]
        return subprocess.run([sys.executable, "-c", code + "runpy.run_path(sys.argv[0], run_name='__main__')", *words],
                              capture_output=True, text=True, timeout=120)  # fmt: skip

    lines = example().stdout.splitlines()
    done("reconstruct", place / "table", place / "rows.csv", "--out", place / "back.csv")
    back = [line.split(",") for line in (place / "back.csv").read_text().splitlines()[1:]]
    cells = [line.split(",")[1:] for line in lines]
    assert len(cells) == 10 and {row[3] for row in cells} <= {"yes", "no"}
    assert [row[1:4] for row in cells] == [row[1:4] for row in back]
    assert np.allclose([float(row[0]) for row in cells], [float(row[0]) for row in back], atol=0.01)
    wrong = {"a,b,c\n1,x,2\n": "lacks the column 'd'", "a,b,c,d\nmany,x,2,no\n": "has 'many': write it as a number",
             "a,b,c,d\n1,x,2\n": "has 3 cells, and the header 4"}  # fmt: skip
    for text, said in wrong.items():
        (place / "rows.csv").write_text(text)
        assert said in example().stderr and "Traceback" not in example().stderr
    damaged = shutil.copytree(exported, place / "damaged")
    (damaged / "decoder.onnx").write_bytes((exported / "decoder.onnx").read_bytes()[:-9])
    assert "decoder.onnx is missing, cut or edited: export the run again" in example(damaged).stderr
    told = json.loads((damaged / "model.json").read_text())
    (damaged / "model.json").write_text(json.dumps(told | {"opset": 21}))
    assert "model.json was edited" in example(damaged).stderr
    (damaged / "model.json").write_text("{")
    assert "model.json is missing or cut" in example(damaged).stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_export_that_is_stopped_leaves_nothing(name: str, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), writing.new_folder(tmp_path / "out") as folder:
        (folder / "encoder.onnx").write_bytes(b"half")
        signal.raise_signal(signal.Signals[name])
    assert not [*tmp_path.iterdir()]
