"""The runs that test_processes.py makes in one process and in two; run as a script, it is one of the two processes.

RANK=0 WORLD_SIZE=2 … python jointly.py FOLDER all|die
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from parts import data, network, vae
from pyarrow import csv, parquet
from torch import nn

import latens
from latens import conditionals, models, objectives, priors
from latens.cli.main import main as latens_main
from latens.data.transforms import dequantize
from latens.objectives.base import Player
from latens.training import Processes, Trainer, reduction
from latens.training.checkpoint import dumps, pack, state_of

ROWS = 45
KEPT = "averaged-clipped-annealed-float32"  # the case that has a folder


class WithCritic(objectives.Objective):
    """An objective with the bound and a critic whose score the model pays for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.elbo, self.critic = objectives.ELBO(), nn.Linear(2, 1)

    def losses(self, model: nn.Module, x: Any, draw: Any) -> dict[str, torch.Tensor]:
        score = self.critic(draw.codes).mean(-1).mean(0)
        return {
            "model": self.elbo.losses(model, x, draw)["model"]
            + 0.5 * objectives.base.mean_over_rows(score, draw.weight),
            "critic": objectives.base.mean_over_rows((1 - score).square(), draw.weight),
        }

    def players(self, model: nn.Module) -> dict[str, Player]:
        return super().players(model) | {"critic": Player(list(self.critic.parameters()), {"lr": 0.05}, every=2)}


WEIGHTS = np.random.default_rng(5).uniform(0.1, 3, ROWS)
CASES: dict[str, dict[str, Any]] = {
    "optimal variance": {},
    "fixed variance, full posterior": {"full": True},
    "odd batch": {"batch_size": 7},
    "three rows": {"batch_size": 3},
    "weighted": {"sample_weight": WEIGHTS, "batch_size": 11},
    "validated": {"validation": 0.3, "epochs": 12, "patience": 0},
    "validated and weighted": {"validation": 0.3, "sample_weight": WEIGHTS, "epochs": 12, "batch_size": 9},
    "averaged, clipped, annealed": {"average": 0.7, "clip": 0.5, "kl_warmup": 0.5},
    "transformed": {"transform": dequantize},
    "two draws": {"objective": objectives.IWAE, "given": (3,)},
    "players": {"objective": WithCritic, "given": ()},
}


def start(name: str, dtype: torch.dtype) -> models.VAE:
    """The model of a case before training."""
    if not CASES[name].get("full"):
        return vae(dtype=dtype)
    torch.manual_seed(1)
    posterior = conditionals.FullNormalPosterior(network(3, 5))
    return models.VAE(priors.StandardNormal(2), posterior, conditionals.NormalLikelihood(network(2, 3), 0.3)).to(dtype)


def run(name: str, dtype: torch.dtype, out: Path | None) -> dict[str, Any]:
    case = {"epochs": 4, "batch_size": 10, "device": "cpu", "checkpoint_seconds": 0.0} | CASES[name]
    kind, given, _ = case.pop("objective", objectives.ELBO), case.pop("given", ()), case.pop("full", False)
    model = start(name, dtype)
    objective = kind(*given).to(dtype)
    done = latens.train(model, objective, data(ROWS), out=out, **case)
    return {
        "model": state_of(model) | {f"objective.{n}": t for n, t in state_of(objective).items()},
        "history": done.history,
    }


def table() -> list[tuple[str, torch.dtype]]:
    return [(name, dtype) for name in CASES for dtype in (torch.float32, torch.float64)]


def slug(name: str, dtype: torch.dtype) -> str:
    return f"{name.replace(' ', '-').replace(',', '')}-{str(dtype).removeprefix('torch.')}"


FITS = {  # arguments of a fit; two processes learn what one would
    "gaps": ["gaps.csv", "--network", "linear"],
    "streamed": ["gaps.parquet", "--stream", "--network", "linear", "--dependence", "codes"],
    "images": ["images.npy"],
}


def write_data(folder: Path) -> None:
    """The files of the fits."""
    random = np.random.default_rng(4)
    a = random.normal(size=400)
    b, level = np.where(random.random(400) < 0.2, np.nan, a + random.normal(size=400)), random.integers(0, 3, 400)
    table = pa.table({"a": a, "b": pa.array(b, from_pandas=True), "level": pa.array(np.array(list("xyz"))[level])})
    csv.write_csv(table, folder / "gaps.csv")
    parquet.write_table(table, folder / "gaps.parquet", row_group_size=70)
    np.save(folder / "images.npy", random.integers(0, 256, (130, 8, 8), dtype=np.uint8))


def fit(folder: Path, name: str, out: Path, *more: str) -> int:
    """Fit a case by the command line for one epoch."""
    data, *words = FITS[name]
    words += ["--latent-dim", "2", "--epochs", "1", "--batch-size", "33", "--device", "cpu", "--seed", "3", *more]
    return latens_main(["fit", str(folder / data), "--out", str(out), "--json", *words])


def die(folder: Path) -> None:
    """A fit whose second process is killed in its fifth step."""
    rank, update = Processes("cpu").index, Trainer.update

    def killed(self: Trainer, *given: Any) -> None:
        update(self, *given)
        if rank == 1 and self.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.update = killed  # type: ignore[method-assign]
    sys.exit(fit(folder, "gaps", folder / "died", "--checkpoint-seconds", "0"))


def main(folder: Path) -> None:
    rank = Processes("cpu").index
    for name in FITS:
        assert fit(folder, name, folder / name) == 0
    for name, dtype in table():
        case = slug(name, dtype)
        reduction.BUCKET = 20 if dtype == torch.float64 else 1 << 18  # with several buckets of gradients, and with one
        found = run(name, dtype, folder / case if case == KEPT else None)
        (folder / f"{case}.{rank}.safetensors").write_bytes(pack(found["model"]))
        (folder / f"{case}.{rank}.json").write_text(dumps(found["history"]))
    # a folder that is in use: the main process reports it, and the other does not wait forever
    try:
        run("averaged, clipped, annealed", torch.float32, folder / KEPT)
    except latens.InputError as error:
        print(f"refused: {error}")
    # more processes than rows
    try:
        latens.train(vae(), objectives.ELBO(), data(ROWS), batch_size=1, epochs=1, device="cpu")
    except latens.InputError as error:
        print(f"refused: {error}")
    # both processes name a row that fails in the second process's share
    x = data(ROWS)
    x[31] = 1e30
    try:
        latens.train(vae(variance=0.1), objectives.ELBO(), x, batch_size=ROWS, epochs=1, device="cpu", seed=2)
    except ArithmeticError as error:
        print(f"failed: {error}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"all": main, "die": die}[sys.argv[2]](Path(sys.argv[1]))
