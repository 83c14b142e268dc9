"""A run: a fitted model with all that is needed to use, explain and continue it, and its folder of plain files::

    run.json            recipe, options, schema, seed, versions, data fingerprint, choices; sealed with a checksum
    model.safetensors   the weights, best or last
    metrics.csv         one row per validation
    checkpoint/         everything a resumed run needs
    calibration.json    scores of held-out rows, for p-values
    densities/          densities fitted to its codes
    report.html

No file is a pickle: loading a run executes no code from it.
"""

from __future__ import annotations

import csv
import io
import platform
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import latens
from latens.errors import InputError, concerning, is_whole
from latens.evaluation.shown import InNotebooks
from latens.machine.allocation import ROOM, Modest
from latens.machine.atomic import address_of, leftovers, sole_owner, write_bytes, write_text
from latens.machine.folder import Folder
from latens.objectives import ELBO, Objective
from latens.recipes import Recipe, is_own
from latens.recipes.choices import DataInfo
from latens.schema import AnySchema, Schema, Table, schema_from_json
from latens.training import Settings
from latens.training.checkpoint import (
    RESTORE,
    Checkpoints,
    digest,
    load_state,
    pack,
    read_whole,
    restoring,
    sealed,
    state_of,
    unpack,
    unseal,
)

if TYPE_CHECKING:
    from latens.runs.coding.codec import Codec

FORMAT = 1
CALIBRATION = "calibration.json"
EXPLORER = "explore.html"
PARTS = ("run.json", "model.safetensors", "metrics.csv", "report.html", EXPLORER, CALIBRATION)
FOLDERS = ("checkpoint", "densities", "tensorboard")
ENTRIES: dict[str, Any] = {
    "status": str, "recipe": dict | None, "rows": int, "schema": dict | None, "training": dict, "files": dict,
    "data": dict, "choices": dict, "warnings": list,
}  # fmt: skip
DATA: dict[str, Any] = {
    "origin": str, "fingerprint": str, "rows": int, "labels": str | None, "drop": list, "reading": dict,
    "weights": str | None, "split": str | None, "validation": str | int | float | None, "validation_origin": str | None,
    "conditions": dict, "gaps": list, "gaps_in_order": list, "array": str, "frame": dict, "from": str, "track": str,
}  # fmt: skip
COLUMNS = (
    "step", "epoch", "learning_rate", "train_bound", "train_rate", "train_distortion", "validation_bound",
    "validation_trimmed", "validation_rate", "validation_distortion", "skipped", "seconds",
)  # fmt: skip


@dataclass
class Run(InNotebooks):
    """A model, its objective, the schema of its data, and the record of how it was fitted.

    Attributes:
        model: the fitted model.
        objective: what was optimised.
        settings: options of training, with every "auto" settled.
        rows: the number of training rows.
        schema: what each column or pixel is; None for your own parts on a tree of data.
        recipe: the recipe; None for your own parts, which must be passed again to load the run.
        options: options of the recipe, with every "auto" settled.
        data: where the rows came from: origin, fingerprint, rows, split.
        choices: what each "auto" became, as sentences.
        warnings: remarks about data and fit.
        history: one row of figures per validation.
        served: which weights the model holds, "last (...)" or "best (...)".
        status: "running" or "finished".
        folder: the run's folder, if it has one.
        given: the schema of the conditions.
        made: folders that were created for the run; None if another process began the run.
        views: for each number of draws, the densities and distances used to score rows; made on first use.
    """

    model: nn.Module
    objective: Objective
    settings: Settings
    rows: int
    schema: AnySchema | None = None
    recipe: Recipe | None = None
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    served: str = "last"
    status: str = "running"
    folder: Path | None = None
    given: Table | None = None
    made: list[Path] | None = None
    views: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of the recipe, or the type of the model if it is your own."""
        return self.recipe.name if self.recipe else type(self.model).__name__

    @property
    def beta(self) -> float:
        """The weight of the rate in the objective; 1 if the objective has no such weight."""
        return float(getattr(self.objective, "beta", 1.0))

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def codec(self) -> Codec:
        """Lossless compression with this run; see :class:`latens.runs.coding.codec.Codec`."""
        from latens.runs.coding.codec import Codec

        return Codec(self.model, self.schema, self.given)

    def reading_of(self, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Options for reading other data: those of the fit, overridden by ``asked``. A run on continuous values reads X
        of an .h5ad, even if the file also holds counts."""
        continuous = isinstance(self.schema, Schema) and self.schema.kind == "continuous"
        found: dict[str, Any] = ({"layer": "X"} if continuous else {}) | (self.data.get("reading") or {})
        formats = (found.get("formats") or {}) | ((asked or {}).get("formats") or {})
        return found | dict(asked or {}) | ({"formats": formats} if formats else {})

    def records(self) -> list[dict[str, Any]]:
        """The rows of metrics.csv."""
        return self.history

    def lines(self) -> list[tuple[str, str]]:
        """(name, text) pairs: what was fitted to which data, and how the fit went."""
        schema = [] if self.schema is None else [("rows", f"{self.rows:,} ({self.schema.describe().splitlines()[0]})")]
        last = {name: value for name, value in (self.history or [{}])[-1].items() if isinstance(value, int | float)}
        shown = ("epoch", "validation_bound", "train_bound", "seconds")
        return [
            ("recipe", self.name), ("data", str(self.data.get("origin") or "memory")), *schema,
            ("parameters", f"{self.parameters:,}"), ("status", self.status), ("weights kept", self.served),
            *((name.replace("_", " "), f"{last[name]:.4g}") for name in shown if name in last),
            *(("chosen", text) for text in self.choices.values()), *(("warning", text) for text in self.warnings),
        ]  # fmt: skip

    def record(self) -> dict[str, Any]:
        """The contents of run.json."""
        recipe = {"name": self.recipe.name, "options": self.recipe.given | self.options} if self.recipe else None
        return {
            "format": FORMAT, "status": self.status, "recipe": recipe,
            "versions": {"latens": latens.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "rows": self.rows, "schema": self.schema.to_json() if self.schema else None, "data": self.data,
            "given": None if self.given is None or self.given is self.schema else self.given.to_json(),
            "training": self.settings.to_json(), "threads": torch.get_num_threads(), "parameters": self.parameters,
            "served": self.served, "choices": self.choices, "warnings": self.warnings,
        }  # fmt: skip

    def open_folder(self, folder: str | Path) -> Run:
        """Create a folder for this run; ``InputError`` if it exists already."""
        self.folder = require_free(folder)
        self.made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {self.folder} cannot be created ({error.strerror})", "choose another folder"
            ) from None
        with self.whole():
            self.write_record({})
        return self

    @contextmanager
    def whole(self) -> Iterator[None]:
        """If the block fails, abandon the run."""
        try:
            yield
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Remove the folder again, if this process created it and it holds no checkpoint to continue from."""
        if self.folder is None or self.made is None or checkpoints(self.folder).exists():
            return
        remove(self.folder)
        for path in self.made:
            with suppress(OSError):
                path.rmdir()

    def write_record(self, files: dict[str, str]) -> None:
        """Write run.json, which includes the checksums of ``files``, ``{name: checksum}``."""
        assert self.folder is not None
        write_text(Folder(self.folder) / "run.json", sealed(self.record() | {"files": files}))

    def write_metrics(self) -> bytes:
        """Write metrics.csv atomically, and return its bytes."""
        assert self.folder is not None
        text = io.StringIO()
        columns = [name for name in COLUMNS if name != "skipped" or any(name in row for row in self.history)]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in self.history:
            writer.writerow({k: ("" if v is None or v != v else repr(v)) for k, v in row.items()})
        data = text.getvalue().encode()
        write_bytes(Folder(self.folder) / "metrics.csv", data)
        return data

    def finish(self) -> None:
        """Write weights, metrics and the final record."""
        assert self.folder is not None
        weights = pack(state_of(self.model))
        write_bytes(Folder(self.folder) / "model.safetensors", weights)
        metrics = self.write_metrics()
        self.status = "finished"
        self.write_record({"model.safetensors": digest(weights), "metrics.csv": digest(metrics)})

    def save(self, folder: str | Path) -> None:
        """Write the run to a new folder."""
        self.open_folder(folder)
        with self.whole():
            self.finish()


# Folders


def checkpoints(folder: str | Path) -> Checkpoints:
    """The checkpoint of a run's folder."""
    return Checkpoints(Folder(folder).inside("checkpoint"))


@contextmanager
def at_work(folder: str | Path) -> Iterator[None]:
    """Lock the run for this process, and remove unfinished files that a killed process left."""
    with sole_owner(folder):
        for part in leftovers(Folder(folder)):
            part.remove()
        checkpoints(folder).tidy()
        yield


def has_seeds(folder: str | Path) -> bool:
    """Whether the folder holds runs of several seeds."""
    return (Path(folder) / "seeds.json").exists()


def resume_line(folder: str | Path, recipe: str | None = None) -> str:
    """The shell command that continues a run."""
    own = ["--recipe", recipe] if recipe and is_own(recipe) else []
    return shlex.join(["latens", "fit", "--resume", str(folder), *own])


def require_free(folder: str | Path) -> Path:
    """The folder as a path if a new run may be written to it; otherwise ``InputError``."""
    if not str(folder).strip():
        raise InputError("the name of the run's folder is empty", "name a folder")
    if address_of(folder):
        raise InputError(
            f"{folder} is an address, but a run is a folder on this machine", "name a folder, and copy it later"
        )
    path = Path(folder)
    for what, is_there, line in (
        ("run", (path / "run.json").exists() or has_seeds(path), resume_line(path)),
        ("sweep", (path / "sweep.json").exists(), shlex.join(["latens", "sweep", "--resume", str(path)])),
    ):
        if is_there:
            raise InputError(
                f"{path} already holds a {what}", f"choose another folder, continue it with `{line}`, or remove it"
            )
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "name a folder for the run")
    return path


def remove(folder: Path) -> None:
    """Remove the files of a run, and the folder if nothing else is in it."""
    whole = Folder(folder)
    inner = [whole.inside(name) for name in FOLDERS]
    for part in [*(whole / name for name in PARTS), *(part for place in inner for part in place.parts())]:
        part.remove()
    for place in (*inner, whole):
        place.remove()


def read_record(folder: str | Path) -> dict[str, Any]:
    """run.json of a folder, checked; ``InputError`` if it is missing, damaged, or of a newer format."""
    if not str(folder).strip():
        raise InputError("the name of the run's folder is empty", "give the folder of a run made by `latens fit`")
    path = Path(folder)
    if not path.is_dir():
        wrong = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {wrong}", "give the folder of a run made by `latens fit`")
    if has_seeds(path):
        raise InputError(f"{path} holds runs of several seeds", f"name one of them, for example {path / 'seed-0'}")
    if (path / "sweep.json").exists():
        some = next(path.glob("*/seed-0"), path)
        raise InputError(f"{path} holds the runs of a sweep", f"name one of them, for example {some}")
    require_plain(path)
    record = unseal(Folder(path) / "run.json", f"{path} holds no run (made by `latens fit`)")
    check_format(record, path)
    _require_entries(record, path / "run.json")
    return record


def _require_entries(record: dict[str, Any], path: Path) -> None:
    """Raise ``InputError`` if an entry of run.json is missing or has a wrong type."""
    for name, kinds in ENTRIES.items():
        if name not in record or not isinstance(record[name], kinds) or isinstance(record[name], bool):
            raise InputError(f"{path} has no valid entry {name!r}", RESTORE)
    if record["rows"] < 0:
        raise InputError(f"{path} has no valid entry 'rows'", RESTORE)
    for key, kinds in DATA.items():
        if key in record["data"] and not isinstance(record["data"][key], kinds):
            raise InputError(f"{path} is damaged (its entry data.{key})", RESTORE)
    if record["status"] == "finished" and not {"model.safetensors", "metrics.csv"} <= record["files"].keys():
        raise InputError(
            f"{path} lacks the checksums of its files", RESTORE
        )


def require_plain(path: Path) -> None:
    """Raise ``InputError`` if a part of the run is a link, a pipe or a device. Call this before long work, whose
    result could otherwise not be written."""
    whole = Folder(path)
    with whole.opened() as place:
        for name in PARTS:
            (whole / name).require_plain(place)
    for name in FOLDERS:
        whole.inside(name).require_plain()


def check_format(record: dict[str, Any], path: Path) -> None:
    """Raise ``InputError`` unless this version can read the format of the record."""
    found = record.get("format")
    if not is_whole(found) or int(found) < 1:
        raise InputError(f"{path} does not state the format of its run", "restore it from a copy, or fit again")
    if int(found) > FORMAT:
        raise InputError(
            f"{path} has run format {found}, but latens {latens.__version__} reads formats up to {FORMAT}",
            "update latens",
        )


def build(record: dict[str, Any], recipe: str | None = None) -> Run:
    """The run of a record, built by its recipe, with fresh weights."""
    stored = record["recipe"]
    if stored is None:
        raise InputError("this run was made from your own parts", "load it with latens.load(folder, model=your_model)")
    name = str(stored.get("name"))
    if recipe is not None and recipe != name:
        raise InputError(f"this run was made by the recipe {name!r}, not by {recipe!r}", "omit --recipe, or correct it")
    if recipe is None and is_own(name):
        raise InputError(
            f"this run was made by your own recipe {name!r}, and latens never runs code because a file names it",
            f"pass --recipe {name}, or call latens.load(folder, recipe={name!r})",
        )
    chosen_options = stored.get("options", {})
    if not isinstance(chosen_options, dict) or "name" in chosen_options:
        raise InputError("run.json is damaged (its recipe's options)", "restore it from a copy, or fit again")
    schema, given = schemas(record)
    if schema is None:
        raise InputError("run.json has a recipe but no schema of its data", "restore it from a copy, or fit again")
    info = DataInfo(schema, int(record["rows"]), conditions=() if given is None else given.given_fields)
    chosen = Recipe(name, **chosen_options)
    model, objective = chosen.build(info)
    settings = Settings.from_json(record["training"])
    return _recorded(Run(model, objective, settings, info.rows, schema, chosen, given=given), record)


def schemas(record: dict[str, Any]) -> tuple[AnySchema | None, Table | None]:
    """(schema of a row, schema of the conditions) of a record."""
    schema = None if record["schema"] is None else schema_from_json(record["schema"])
    if isinstance(schema, Table):
        return schema, schema if schema.conditions else None
    return schema, None if record.get("given") is None else Table.from_json(record["given"])


def _recorded(run: Run, record: dict[str, Any]) -> Run:
    run.data, run.choices, run.warnings = record["data"], record["choices"], record["warnings"]
    run.served, run.status = str(record.get("served", "last")), record["status"]
    return run


def load(folder: str | Path, *, model: nn.Module | None = None, recipe: str | None = None) -> Run:
    """Load a finished run from its folder; the weights are checked against their checksum.

    Args:
        folder: the run's folder.
        model: your model, for a run made from your own parts.
        recipe: the name of your own recipe, if it made the run.

    Raises:
        InputError: the folder lacks parts, is damaged, or has a newer format.
    """
    record, folder = read_record(folder), Path(folder)
    tensors, path = weights(folder, record), folder / "run.json"
    size = sum(tensor.nbytes for tensor in tensors.values())
    with concerning(folder), restoring(path), Modest(4 * size + ROOM, path):
        if model is not None:
            schema, given = schemas(record)
            run = Run(model, ELBO(), Settings.from_json(record["training"]), record["rows"], schema, given=given)
            run = _recorded(run, record)
        else:
            run = build(record, recipe)
        require_sound(run)
    load_state(run.model, tensors, str(folder / "model.safetensors"))
    run.model.eval()
    run.folder = folder
    run.history = read_metrics(folder, record["files"]["metrics.csv"])
    return run


def require_sound(run: Run) -> None:
    """Raise ``InputError`` if the record of the data is impossible: conditions are not numbers, or the schema cannot
    write a row."""
    for what in _unsound(run):
        raise InputError(f"run.json is damaged ({what})", "restore it from a copy, or fit again")


def _unsound(run: Run) -> Iterator[str]:
    seen = run.data.get("conditions") or {}
    for name, values in seen.items():
        if not values or not isinstance(values, list) or not all(map(_is_known, values)):
            yield f"the conditions {name!r}"
    try:
        if isinstance(run.schema, Table):
            _write_a_row(run.schema)
            for field in run.given.given_fields if run.given is not None else ():
                field.encode(field.decode(np.asarray(seen.get(field.name, [0.0]))))
    except Exception as error:
        yield f"its schema: {' '.join(str(error).split())[:120]}"


def _is_known(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _write_a_row(schema: Table) -> None:
    usual = [[0.0 if field.low is None else float(field.low) for field in schema.modelled]]
    known = {f.name: f.decode(np.array([f.low or 0.0]), given=True) for f in schema.given_fields}
    found = schema.to_user(np.array(usual), known)
    for name in schema.names:
        schema.field(name).encode(found.column(name))


def weights(folder: str | Path, record: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """The weights of a finished run, checked against their checksum; ``InputError`` if the run is not finished."""
    record, folder = record or read_record(folder), Path(folder)
    if record["status"] != "finished":
        name = (record["recipe"] or {}).get("name")
        raise InputError(f"{folder} is not finished", f"continue it with `{resume_line(folder, name)}`")
    return unpack(Folder(folder) / "model.safetensors", record["files"]["model.safetensors"])


def read_metrics(folder: Path, expected: str | None) -> list[dict[str, Any]]:
    """The rows of metrics.csv as numbers."""
    data = read_whole(Folder(folder) / "metrics.csv", expected)
    with restoring(folder / "metrics.csv"):
        rows = csv.DictReader(io.StringIO(data.decode()))
        return [{key: float(value) if value else float("nan") for key, value in row.items()} for row in rows]
