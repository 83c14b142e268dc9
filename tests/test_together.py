"""Several models trained as one are what each becomes alone, whatever happens to the others."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from commanding import call, done, figures, refused
from parts import Poisoned, assert_same, data, timeless, vae
from torch import nn

import latens
from latens import conditionals, objectives
from latens.cli.commands import many
from latens.data.loader import ArrayLoader
from latens.data.rows import Asked, rows_of
from latens.machine.atomic import write_text
from latens.recipes import Recipe
from latens.runs import fitting
from latens.training import Checkpoints, Interrupted, Progress, Settings, Trainer
from latens.training.checkpoint import state_of
from latens.training.member import Member
from latens.training.stacked import NotTogether
from latens.training.together import Together

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
LEVELS = np.clip(8 + 3 * RNG.normal(size=(96, 1)) + RNG.normal(size=(96, 12)), 0, 16).round().astype(np.uint8)


def mixed(rows: int = 96) -> pa.Table:
    x = data(rows)
    holes = np.where(RNG.random(rows) < 0.2, None, x[:, 1])
    return pa.table({
        "real": x[:, 0], "holes": pa.array(holes.tolist(), pa.float64()), "positive": np.exp(x[:, 2]),
        "word": [("red", "green", "blue")[i] for i in RNG.integers(0, 3, rows)],
        "count": RNG.poisson(3.0, rows), "grade": pa.array([float(i) for i in RNG.integers(1, 4, rows)]),
    })  # fmt: skip


# name: (data, recipe, its options, settings, condition); what differs from model to model besides the seed
INSTANCES: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "numbers, optimal variance": (data(96), "vae", {}, {}, ()),
    "levels": (LEVELS, "vae", {}, {}, ()),
    "full posterior": (data(96), "vae", {"posterior": "full"}, {}, ()),
    "many draws": (data(96), "iwae", {"k": 3}, {}, ()),
    "no density": (data(96), "ae", {}, {}, ()),
    "mixed columns with gaps": (mixed(), "vae", {}, {"weight_decay": 0.1}, ()),
    "mixture prior": (mixed(), "vae", {"prior": "mixture"}, {}, ()),
    "a condition": (mixed(), "vae", {"prior": "conditional"}, {}, ("word",)),
    "every option": (data(96), "vae", {"variance": "learned"},
                     {"average": 0.9, "kl_warmup": 0.5, "weight_decay": 0.1, "clip": 2.0}, ()),
}  # fmt: skip


def trainer(
    kind: Any, name: str, seed: int, dtype: torch.dtype = torch.float64, beta: float = 1.0, **more: Any
) -> Any:
    x, recipe, options, settings, condition = INSTANCES[name]
    given = {"epochs": 5, "batch_size": 20, "device": "cpu", "learning_rate": 1e-3 * (1 + seed), "seed": seed}
    options = options | ({"beta": beta} if recipe == "vae" else {})
    rows = rows_of(x, asked=Asked(condition=condition))
    run, parts = fitting.prepare(
        rows, Recipe(recipe), Settings(**(given | settings | more)), options=options, validation=0.17
    )
    run.model.to(dtype)
    run.objective.to(dtype)
    return fitting._trainer(kind, run, *parts)


def alone(*given: Any, **more: Any) -> Trainer:
    return trainer(Trainer, *given, **more).run()


def farthest(a: Any, b: Any) -> float:
    pairs = zip(state_of(a.model).values(), state_of(b.model).values(), strict=True)
    return max((x.double() - y.double()).abs().max().item() for x, y in pairs if x.numel())


def assert_alike(a: Any, b: Any, tolerance: float) -> None:
    assert farthest(a, b) < tolerance
    assert (a.step, a.best_epoch, a.stopped) == (b.step, b.best_epoch, b.stopped) and a.finished and b.finished
    for row, other in zip(timeless(a.history), timeless(b.history), strict=True):
        assert row == pytest.approx(other, rel=100 * tolerance, abs=100 * tolerance, nan_ok=True)


# What each becomes


@pytest.mark.parametrize("name", INSTANCES)
def test_each_model_is_what_it_is_alone(name: str):
    """Weights after 20 steps, figures of every round and the best epoch, in float64: to rounding."""
    members = [trainer(Member, name, seed, beta=1.0 + seed) for seed in range(3)]
    Together(members).run()
    for seed, member in enumerate(members):
        assert_alike(member, alone(name, seed, beta=1.0 + seed), 1e-9)


@pytest.mark.parametrize("name", ["levels", "mixed columns with gaps"])
def test_in_single_precision_too(name: str):
    """AdamW moves a weight whose gradient is but rounding by as much as any other: hence a small learning rate."""
    members = [trainer(Member, name, seed, torch.float32, learning_rate=5e-4) for seed in range(3)]
    Together(members).run()
    for seed, member in enumerate(members):
        assert_alike(member, alone(name, seed, torch.float32, learning_rate=5e-4), 1e-4)


def test_the_optimiser_s_state_is_that_of_a_single_run():
    member, single = trainer(Member, "every option", 1), alone("every option", 1)
    Together([trainer(Member, "every option", 0), member]).run()
    found, expected = member.saved()[0], single.players["model"].state()
    assert expected
    for name, tensor in expected.items():
        torch.testing.assert_close(found[f"optimizer.model/{name}"], tensor, rtol=1e-9, atol=1e-12)


def test_each_stops_when_it_stops_alone():
    """Early stopping leaves the others in the batch; which models share it does not matter to any."""
    rates = [0.02, 1e-4, 0.005]
    given: dict[str, Any] = {"epochs": 80, "patience": 1, "clip": 1.0}
    members = [trainer(Member, "numbers, optimal variance", s, learning_rate=r, **given) for s, r in enumerate(rates)]
    ended: list[int] = []
    for seed, member in enumerate(members):
        member.finish = lambda seed=seed: ended.append(seed)
    Together(members).run()
    singles = [alone("numbers, optimal variance", s, learning_rate=r, **given) for s, r in enumerate(rates)]
    assert len({single.step for single in singles}) > 1 and sorted(ended) == [0, 1, 2]
    for member, single in zip(members, singles, strict=True):
        assert_alike(member, single, 1e-7)


@pytest.mark.parametrize("gradient", [False, True])
def test_one_that_fails_says_why_and_the_others_go_on(gradient: bool):
    def parts(kind: Any, seed: int) -> Any:
        x = torch.as_tensor(data(60), dtype=torch.float32)
        x = x[torch.randperm(60, generator=torch.Generator().manual_seed(seed))]
        model = vae(seed=seed)
        mark = float(x[7, 0]) if seed == 1 else 1e9
        if gradient:  # where all outputs are 0
            nn.init.zeros_(model.posterior.network[2].weight)
            nn.init.zeros_(model.posterior.network[2].bias)
        model.posterior = conditionals.DiagonalNormalPosterior(Poisoned(model.posterior.network, mark, gradient))
        size = 60 if gradient else 10
        settings = Settings(epochs=3, batch_size=size, seed=seed, device="cpu").settle(60)
        return kind(model, objectives.ELBO(), ArrayLoader(x, batch_size=size, seed=seed), None, settings)

    members = [parts(Member, seed) for seed in range(3)]
    Together(members).run()
    for seed in (0, 2):
        assert members[seed].failure is None
        assert_alike(members[seed], parts(Trainer, seed).run(), 1e-5)
    single = parts(Trainer, 1)
    with pytest.raises(latens.training.NonFiniteError) as error:
        single.run()
    failure = members[1].failure
    assert failure is not None and failure.rows == error.value.rows == [7]
    assert str(failure) == str(error.value) and failure.step == error.value.step
    assert farthest(members[1], single) < 1e-5


# What cannot be trained as one


class OwnNoise(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 0.01 * torch.randn_like(x[..., :1])


class Deciding(OwnNoise):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) if x.sum().item() > 0 else -self.inner(x)


@pytest.mark.parametrize("change, what", [
    (OwnNoise, "noise of its own"), (Deciding, "cannot be batched"), (nn.Dropout, "noise of its own|other parts"),
])  # fmt: skip
def test_parts_that_cannot_be_batched_are_refused_and_stay_as_they_were(change: Any, what: str):
    members = [trainer(Member, "numbers, optimal variance", seed) for seed in range(2)]
    for member in members:
        inner = member.model.posterior.network
        member.model.posterior.network = nn.Sequential(inner, change(0.5)) if change is nn.Dropout else change(inner)
    before = {name: tensor.clone() for name, tensor in state_of(members[1].model).items()}
    with pytest.raises(NotTogether, match=what):
        Together(members)
    assert_same(before, state_of(members[1].model))


@pytest.mark.parametrize("other", [
    lambda: trainer(Member, "levels", 1), lambda: trainer(Member, "full posterior", 1),
    lambda: trainer(Member, "numbers, optimal variance", 1, epochs=6),
    lambda: trainer(Member, "numbers, optimal variance", 1, batch_size=7),
    lambda: trainer(Member, "numbers, optimal variance", 1, beta=0.0),
    lambda: trainer(Member, "numbers, optimal variance", 1, weight_decay=0.1),
])  # fmt: skip
def test_runs_of_another_structure_are_refused(other: Callable[[], Any]):
    with pytest.raises(NotTogether):
        Together([trainer(Member, "numbers, optimal variance", 0), other()])


# Interrupted, killed, and continued


class StopAt(Progress):
    """Sends a signal, or raises, at a step."""

    def __init__(self, step: int, how: str):
        self.at, self.how = step, how

    def step(self, step: int, rate: float, distortion: float) -> None:
        if step == self.at and self.how == "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
        elif step == self.at:
            raise RuntimeError(self.how)


@pytest.mark.parametrize("name, how, places", [
    ("every option", "SIGINT", (10, 120)), ("mixed columns with gaps", "a crash", (10,)),
])  # fmt: skip
def test_a_continued_run_is_the_one_that_never_stopped(name: str, how: str, places: tuple[int, ...], tmp_path: Path):
    """Bit for bit, members that stop early included."""
    given: dict[str, Any] = {"patience": 1, "keep": "best", "checkpoint_seconds": 0.2, "epochs": 50}
    given |= {"epochs": 6} if name != "every option" else {}
    rates = [0.3, 1e-3, 1e-2]

    def members() -> list[Any]:
        return [trainer(Member, name, s, torch.float32, learning_rate=r, **given) for s, r in enumerate(rates)]

    whole = members()
    Together(whole).run()
    for at in places:
        store = Checkpoints(tmp_path / f"{at}")
        with pytest.raises((Interrupted, RuntimeError)):
            Together(first := members(), store=store, progress=StopAt(at, how)).run()
        again = members()
        for seed, (member, before) in enumerate(zip(again, first, strict=True)):
            member.store = Checkpoints(tmp_path / f"{at}-{seed}")
            if before.finished:
                member.store.save(*before.saved())
        Together(again, store=store).run()
        for member, expected in zip(again, whole, strict=True):
            assert_same(state_of(expected.model), state_of(member.model))
            assert timeless(member.history) == timeless(expected.history)


# On the command line

QUICK = ("--epochs", 3, "--batch-size", 10, "--validation", 0.25, "--device", "cpu")


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latens.report.write", lambda path, *given, **more: write_text(path, "page"))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each batched run had."""
    sizes: list[int] = []
    run = Together.run

    def counted(self: Together) -> Together:
        sizes.append(len(self.members))
        return run(self)

    monkeypatch.setattr(Together, "run", counted)
    return sizes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_page: None) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", data(80))
    return tmp_path


def listing(folder: str) -> list[str]:
    names = (str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    return sorted("tensors" if "step-" in name else name for name in names)


def test_seeds_together_and_in_turn_leave_the_same(here: Path, joined: list[int], monkeypatch: pytest.MonkeyPatch):
    one = figures("fit", "x.npy", "--out", "one", "--seeds", 3, *QUICK)
    assert joined == [3]
    monkeypatch.setattr(many, "_train_together", lambda *given: {})
    two = figures("fit", "x.npy", "--out", "two", "--seeds", 3, *QUICK)
    assert joined == [3] and listing("one") == listing("two")
    for name, figure in one["seeds"].items():
        assert figure["values"] == pytest.approx(two["seeds"][name]["values"], rel=1e-4)
    for seed in range(3):
        runs = [latens.runs.record.read_record(Path(folder, f"seed-{seed}")) for folder in ("one", "two")]
        assert runs[0]["training"] == runs[1]["training"] and runs[0]["served"] == runs[1]["served"]
        files = [Path(folder, f"seed-{seed}", "metrics.csv").read_text() for folder in ("one", "two")]
        tables = [list(csv.DictReader(text.splitlines())) for text in files]
        for row, other in zip(*tables, strict=True):
            for name in row.keys() - {"seconds"}:
                assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4)


def test_seeds_killed_anywhere_and_resumed(tmp_path: Path):
    """Killed at a file operation, before it or after it, the runs are resumed to the weights they would have had."""
    words = [sys.executable, str(Path(__file__).with_name("killing.py")), str(tmp_path), "9", "seeds"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == [] and found["killed"] >= 6 and found["resumed"] >= 5


def test_one_seed_that_fails(here: Path, joined: list[int]):
    """The others are finished; the sentence is that of a single run."""
    result = call("fit", "x.npy", "--out", "runs", "--seeds", 3, *QUICK, "--learning-rate", 1e30, "--clip", 0)
    assert result.status == 1 and "not finite" in result.sentence and "runs/seed-" in result.sentence
    assert joined == [3]


def test_large_models_are_fitted_in_turn(here: Path, joined: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fitting, "TOGETHER_WORK", 10)
    done("fit", "x.npy", "--out", "large", "--seeds", 2, *QUICK)
    assert joined == []


# Sweeps


def test_a_sweep_is_its_fits(here: Path, joined: list[int]):
    grid = ("--grid", "beta=0.5,2", "--grid", "learning_rate=0.001,0.01")
    found = figures("sweep", "x.npy", "--out", "all", *grid, "--seeds", 2, *QUICK)
    assert joined == [8] and len(found["combinations"]) == 4
    rows = {tuple(row["options"].values()): row["figures"] for row in found["combinations"]}
    single = figures(
        "fit", "x.npy", "--out", "one", "--beta", 2, "--learning-rate", 0.01, "--seeds", 2, *QUICK
    )["seeds"]  # fmt: skip
    for name in ("elbo", "rate", "distortion"):
        assert rows[2, 0.01][name]["values"] == pytest.approx(single[name]["values"], rel=1e-4)
    best = max(rows, key=lambda key: rows[key]["elbo"]["mean"])
    assert tuple(found["best"]["options"].values()) == best
    table = list(csv.DictReader(Path("all/sweep.csv").read_text().splitlines()))
    assert [(float(r["beta"]), float(r["learning_rate"])) for r in table] == list(rows)
    assert [float(r["elbo"]) for r in table] == [rows[key]["elbo"]["mean"] for key in rows]
    for words in (("evaluate",), ("sample", "--out", "s.csv"), ("report",), ("score", "x.npy", "--out", "s.csv")):
        done(words[0], found["best"]["runs"][1], *words[1:])
    assert "nll" not in rows[best]


def test_a_sweep_names_the_best_for_a_person_and_takes_structures(here: Path, joined: list[int]):
    text = done("sweep", "x.npy", "--out", "s", "--grid", "latent_dim=1,2", "--nll", "--seeds", 2, *QUICK).out
    assert joined == [2, 2] and "best by the bound on held-out rows: latent_dim = " in text and "nll" in text
    assert "holds the runs of a sweep" in refused("evaluate", "s")
    assert "already holds a sweep" in refused("sweep", "x.npy", "--out", "s", "--grid", "beta=1,2")


def test_a_sweep_with_a_failure_goes_on(here: Path):
    found = figures("sweep", "x.npy", "--out", "s", "--grid", "learning_rate=0.001,1e30", "--clip", 0, *QUICK)
    good, bad = found["combinations"]
    assert "not finite" in bad["failed"] and good["failed"] is None
    assert found["best"]["options"] == {"learning_rate": 0.001}


def test_a_sweep_is_continued(here: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("sweep", "x.npy", "--grid", "beta=0.5,1", "--seeds", 2, *QUICK, "--checkpoint-seconds", 0)
    whole = figures(*words, "--out", "whole")
    with monkeypatch.context() as patch:
        patch.setattr("latens.cli.commands.fitting.Quiet", lambda: StopAt(10, "SIGINT"))
        stopped = call(*words, "--out", "part", "--json")
    assert stopped.status == 130 and "latens sweep --resume part" in stopped.sentence
    found = figures("sweep", "--resume", "part")
    for row, other in zip(found["combinations"], whole["combinations"], strict=True):
        assert row["figures"] == other["figures"] and row["options"] == other["options"]
    assert figures("sweep", "--resume", "part") == found


REFUSED = {
    "sweep x.npy --out s": "needs --grid",
    "sweep x.npy --grid beta=1": "needs DATA",
    "sweep x.npy --out s --grid beta": "OPTION=VALUE",
    "sweep x.npy --out s --grid beta=": "no values",
    "sweep x.npy --out s --grid bata=1,2": "did you mean 'beta'",
    "sweep x.npy --out s --grid nothing=1,2": "unknown option 'nothing'",
    "sweep x.npy --out s --grid beta=1,two": "'two' is not a number",
    "sweep x.npy --out s --grid learning_rate=0.1,fast": "'fast' is not a number",
    "sweep x.npy --out s --grid beta=1,1": "a value twice",
    "sweep x.npy --out s --grid beta=1 --grid beta=2": "names beta twice",
    "sweep x.npy --out s --grid beta=-1,1": "beta must be",
    "sweep x.npy --out s --grid learning_rate=-1,1": "learning_rate must be",
    "sweep x.npy --out s --grid likelihood=a/b": "folder's name",
    "sweep x.npy --out s --grid beta=1 --beta 2": "both as an option",
    "sweep x.npy --out s --grid seed=1,2": "unknown option 'seed'",
    "sweep x.npy --out s --grid beta=1 --nope 3": "unknown option --nope",
    "sweep x.npy --out s --grid beta=1,2 --seeds 501": "1,002 runs",
    "sweep nope.npy --out s --grid beta=1,2": "nope.npy",
    "sweep --resume nope": "holds no sweep",
    "sweep --resume nope --seeds 2": "omit --seeds",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_sweeps_are_refused_in_one_sentence(words: str, here: Path):
    assert REFUSED[words] in refused(*words.split())
