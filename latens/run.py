"""A run: a fitted model with everything needed to use, explain and continue it; and its folder of plain files.

    run.json            recipe, options, schema, seed, versions, data fingerprint, choices; sealed with a checksum
    model.safetensors   the weights that are served
    metrics.csv         one row a round of validation
    checkpoint/         everything a resumed run needs
    report.html

Nothing here is pickle: loading a run never executes code from it.
"""

from __future__ import annotations

import csv
import io
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import latens
from latens.atomic import write_bytes, write_text
from latens.choices import DataInfo
from latens.errors import InputError
from latens.objectives import ELBO, Objective
from latens.recipes import Recipe
from latens.schema import Schema
from latens.training import Settings
from latens.training.checkpoint import digest, load_state, pack, sealed, state_of, unpack, unseal

FORMAT = 1
COLUMNS = (
    "step", "epoch", "learning_rate", "train_bound", "train_rate", "train_distortion", "validation_bound",
    "validation_rate", "validation_distortion", "seconds",
)  # fmt: skip


@dataclass
class Run:
    """A model, its objective, the schema of its data and the record of how it came about.

    ``recipe`` is None for parts of one's own: such a run is loaded by handing the parts in. ``data`` describes where the
    rows came from (origin, fingerprint, rows, split), ``choices`` what "auto" became, ``warnings`` what to know.
    """

    model: nn.Module
    objective: Objective
    settings: Settings
    rows: int
    schema: Schema | None = None
    recipe: Recipe | None = None
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    served: str = "last"
    status: str = "running"
    folder: Path | None = None

    @property
    def name(self) -> str:
        return self.recipe.name if self.recipe else type(self.model).__name__

    @property
    def beta(self) -> float:
        return float(getattr(self.objective, "beta", 1.0))

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def record(self) -> dict[str, Any]:
        """The contents of run.json."""
        recipe = {"name": self.recipe.name, "options": self.recipe.given | self.options} if self.recipe else None
        return {
            "format": FORMAT, "status": self.status, "recipe": recipe,
            "versions": {"latens": latens.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "rows": self.rows, "schema": self.schema.to_json() if self.schema else None, "data": self.data,
            "training": self.settings.to_json(), "threads": torch.get_num_threads(), "parameters": self.parameters,
            "served": self.served, "choices": self.choices, "warnings": self.warnings,
        }  # fmt: skip

    def open_folder(self, folder: str | Path) -> Run:
        """Take a new folder for this run; ``InputError`` where one lies there already."""
        self.folder = Path(folder)
        if (self.folder / "run.json").exists():
            raise InputError(
                f"{self.folder} already holds a run: choose another folder, continue it with "
                f"`latens fit --resume {self.folder}`, or remove it"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file: name a folder for the run")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {self.folder} cannot be made: {error.strerror}") from None
        self.write_record({})
        return self

    def write_record(self, files: dict[str, str]) -> None:
        assert self.folder is not None
        write_text(self.folder / "run.json", sealed(self.record() | {"files": files}))

    def write_metrics(self) -> bytes:
        """Write metrics.csv whole; returns its bytes."""
        assert self.folder is not None
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.history:
            writer.writerow({k: ("" if v is None or v != v else repr(v)) for k, v in row.items()})
        data = text.getvalue().encode()
        write_bytes(self.folder / "metrics.csv", data)
        return data

    def finish(self) -> None:
        """Write weights, metrics and the final record."""
        assert self.folder is not None
        weights = pack(state_of(self.model))
        write_bytes(self.folder / "model.safetensors", weights)
        metrics = self.write_metrics()
        self.status = "finished"
        self.write_record({"model.safetensors": digest(weights), "metrics.csv": digest(metrics)})

    def save(self, folder: str | Path) -> None:
        """Write the run to a new folder."""
        self.open_folder(folder)
        self.finish()


def read_record(folder: str | Path) -> dict[str, Any]:
    """run.json of a folder, checked; ``InputError`` where it is missing, damaged, or of a newer format."""
    path = Path(folder)
    if not path.exists():
        raise InputError(f"{path} does not exist: give the folder of a run made by `latens fit`")
    if not path.is_dir():
        raise InputError(f"{path} is a file: give the folder of a run made by `latens fit`")
    record = unseal(path / "run.json", f"{path} holds no run (made by `latens fit`)")
    found = record.get("format")
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"{path} has run format {found}, and this latens ({latens.__version__}) reads up to {FORMAT}: update latens"
        )
    missing = [key for key in ("status", "recipe", "rows", "schema", "training", "files") if key not in record]
    if missing:
        raise InputError(f"{path / 'run.json'} lacks the entry {missing[0]!r}: restore it from a copy or fit again")
    return record


def build(record: dict[str, Any], recipe: str | None = None) -> Run:
    """The run of a record with fresh weights, from its recipe."""
    stored = record["recipe"]
    if stored is None:
        raise InputError("this run was made from parts of your own: load it with latens.load(folder, model=your_model)")
    name = stored["name"]
    if ":" in name and recipe != name:
        raise InputError(
            f"this run was made by your own recipe {name!r}, and code is never executed because a file names it: "
            f"say --recipe {name} (or latens.load(folder, recipe={name!r}))"
        )
    schema = Schema.from_json(record["schema"])
    info = DataInfo(schema, int(record["rows"]))
    chosen = Recipe(name, **stored["options"])
    model, objective = chosen.build(info)
    return Run(
        model, objective, Settings.from_json(record["training"]), info.rows, schema, chosen, {}, record.get("data", {}),
        record.get("choices", {}), record.get("warnings", []), served=record.get("served", "last"), status=record["status"],
    )  # fmt: skip


def load(folder: str | Path, *, model: nn.Module | None = None, recipe: str | None = None) -> Run:
    """A finished run from its folder, its weights checked against their checksum.

    ``model``: your own module for a run made from parts of your own; ``recipe``: the name of your own recipe, repeated.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record["status"] != "finished":
        raise InputError(f"{folder} is not finished: continue it with `latens fit --resume {folder}`")
    if model is not None:
        schema = Schema.from_json(record["schema"]) if record["schema"] else None
        run = Run(
            model, ELBO(), Settings.from_json(record["training"]), record["rows"], schema, None, {},
            record.get("data", {}), record.get("choices", {}), record.get("warnings", []), status="finished",
            served=record.get("served", "last"),
        )  # fmt: skip
    else:
        run = build(record, recipe)
    files = record["files"]
    load_state(run.model, unpack(folder / "model.safetensors", files.get("model.safetensors")), str(folder / "model.safetensors"))
    run.model.eval()
    run.folder = folder
    run.history = read_metrics(folder, files.get("metrics.csv"))
    return run


def read_metrics(folder: Path, expected: str | None) -> list[dict[str, Any]]:
    """The rows of metrics.csv as numbers."""
    path = folder / "metrics.csv"
    try:
        data = path.read_bytes()
    except OSError:
        raise InputError(f"{path} is missing: restore it from a copy or fit again") from None
    if expected is not None and digest(data) != expected:
        raise InputError(f"{path} is damaged (its checksum does not match): restore it from a copy or fit again")
    rows = csv.DictReader(io.StringIO(data.decode()))
    return [{key: float(value) if value else float("nan") for key, value in row.items()} for row in rows]
