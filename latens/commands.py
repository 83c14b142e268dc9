"""What each command does: data and run in, files and an answer out."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens import compare as comparing, evaluation, fitting, recipes as catalogue, report as reporting, run as runs
from latens.atomic import write_bytes, write_text
from latens.choices import DataInfo
from latens.data import Source, infer, read, write
from latens.errors import InputError
from latens.estimator import VAE, load
from latens.evaluation import Evaluation
from latens.recipes import Recipe
from latens.run import Run
from latens.schema import Schema
from latens.training import Bar, Interrupted, Progress, Settings
from latens.training.checkpoint import sealed, unseal


@dataclass
class Answer:
    """A command's answer: text for a person, figures for a machine."""

    text: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """What was asked of ``latens fit``."""

    data: str
    out: str
    recipe: str = "vae"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    validation: str = "auto"
    labels: str | None = None
    drop: tuple[str, ...] = ()
    weights: str | None = None
    start: str | None = None


# Fitting


def fit(asked: Fit, *, seeds: int = 1, quiet: bool = False, extra: dict[str, Any] | None = None) -> Answer:
    """Fit once, or once a seed with mean and spread."""
    if seeds > 1:
        return _fit_seeds(asked, seeds, quiet)
    if (Path(asked.out) / "seeds.json").exists():
        raise InputError(f"{asked.out} already holds runs of several seeds: choose another folder")
    source = read(asked.data, labels=asked.labels, drop=asked.drop)
    return _fit(asked, source, quiet, extra or {})


def _fit(asked: Fit, source: Source, quiet: bool, extra: dict[str, Any]) -> Answer:
    schema = infer(source.x, source.names)
    settings = Settings.from_json(asked.settings)
    validation, held_origin = _validation(asked, schema)
    weight = _weights(asked.weights, len(source.x))
    recipe = Recipe(asked.recipe)
    valid = catalogue.options(catalogue.find(asked.recipe))
    options = {k: v for k, v in asked.options.items() if not (k == "latent_dim" and v == "auto" and k not in valid)}
    data = {
        "origin": source.origin, "fingerprint": source.fingerprint, "rows": len(source.x), "labels": asked.labels,
        "drop": list(asked.drop), "weights": None if asked.weights is None else str(Path(asked.weights).absolute()),
        "validation_origin": held_origin,
    } | extra  # fmt: skip
    run, tensors = fitting.prepare(
        source.x, schema, recipe, settings, options=options, weight=weight, validation=validation, data=data
    )
    if asked.start is not None:
        fitting.start_from(run, asked.start)
    run.open_folder(asked.out)
    if not quiet:
        _introduce(run, source)
    return _finish(_execute(run, tensors, quiet), source, validation, quiet)


def _validation(asked: Fit, schema: Schema) -> tuple[float | str | np.ndarray, str | None]:
    if asked.validation == "auto":
        return "auto", None
    try:
        return float(asked.validation), None
    except ValueError:
        held = read(asked.validation, drop=[*asked.drop, *_label_column(asked)])
        return aligned(held, schema), held.origin


def _label_column(asked: Fit) -> list[str]:
    """The column that labels were taken from, which other tables of the same columns hold too."""
    column = asked.labels
    return [] if column is None or Path(column).exists() or not str(asked.data).endswith((".csv", ".tsv", ".csv.gz")) else [column]


def _weights(path: str | None, rows: int) -> np.ndarray | None:
    if path is None:
        return None
    weight = np.asarray(read(path).x, dtype=np.float64).reshape(-1)
    fitting.check_weights(weight, rows)
    return weight


def _introduce(run: Run, source: Source) -> None:
    import sys

    assert run.schema is not None
    print(f"data: {source.origin}, {len(source.x):,} rows; {run.schema.describe().splitlines()[0]}", file=sys.stderr)
    for sentence in [*run.choices.values()]:
        print(f"  {sentence}", file=sys.stderr)
    for sentence in run.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    sys.stderr.flush()


def _execute(run: Run, tensors: dict[str, Any], quiet: bool) -> Run:
    try:
        return fitting.execute(run, **tensors, progress=Progress() if quiet else Bar(run.name))
    except Interrupted:
        raise KeyboardInterrupt(
            f"interrupted; everything up to this step is kept: continue with `latens fit --resume {run.folder}`"
        ) from None


def _finish(run: Run, source: Source, validation: Any, quiet: bool) -> Answer:
    """Evaluate on held-out rows, write the report, and say what came out."""
    held, labels = held_out(run, source, validation)
    x = tensor(run, held)
    figures = evaluation.evaluate(run.model.cpu(), x, k=50, nll_rows=500, beta=run.beta)
    assert run.folder is not None
    report = run.folder / "report.html"
    reporting.write(report, run, held, labels=labels, label_names=source.label_names, evaluation=figures)
    where = "held-out rows" if held is not source.x else "training rows"
    text = "\n".join([f"{run.folder}: {run.name}, {run.parameters:,} parameters, served: {run.served}",
                      *_table([(name, value) for name, value in figures.lines()], f"on {where}"),
                      *(f"warning: {w}" for w in figures.warnings), f"report: {report}"])  # fmt: skip
    return Answer(text, {"run": str(run.folder), "report": str(report), "choices": run.choices, "served": run.served,
                         "parameters": run.parameters, "evaluated_on": where, **figures.to_json(),
                         "warnings": run.warnings + figures.warnings})  # fmt: skip


def _table(pairs: list[tuple[str, str]], title: str) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in pairs)]


def _fit_seeds(asked: Fit, seeds: int, quiet: bool) -> Answer:
    """One run a seed in seed-0, seed-1, … of the folder."""
    folder = Path(asked.out)
    if (folder / "seeds.json").exists() or (folder / "run.json").exists():
        raise InputError(f"{folder} already holds runs: choose another folder, or continue with --resume {folder}")
    source = read(asked.data, labels=asked.labels, drop=asked.drop)
    first = int(asked.settings.get("seed", 0))
    parts = []
    for number in range(seeds):
        part = replace(asked, out=str(folder / f"seed-{number}"), settings=asked.settings | {"seed": first + number})
        parts.append((part, number))
    answers = []
    for part, number in parts:
        if number == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "seeds.json", sealed({"format": runs.FORMAT, "asked": _asked_json(asked), "seeds": seeds}))
        answers.append(_fit(part, source, quiet, {}))
    return _summary(folder, answers)


def _asked_json(asked: Fit) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(asked).items()}


def _summary(folder: Path, answers: list[Answer]) -> Answer:
    """Mean and spread over seeds of every number that all have."""
    names = ("elbo", "rate", "distortion", "nll", "elbo_bits_per_dimension", "nll_bits_per_dimension", "rmse", "active_units")
    spread = {}
    for name in names:
        values = [a.figures.get(name) for a in answers]
        if all(isinstance(v, int | float) for v in values):
            array = np.array(values, dtype=float)
            spread[name] = {"mean": float(array.mean()), "sd": float(array.std(ddof=1)) if len(array) > 1 else None,
                            "values": array.tolist()}  # fmt: skip
    lines = [(name, f"{v['mean']:.4f} ± {v['sd'] or float('nan'):.4f}") for name, v in spread.items()]
    text = "\n".join(_table(lines, f"{folder}: {len(answers)} seeds, mean ± standard deviation over seeds"))
    return Answer(text, {"runs": [a.figures.get("run") for a in answers], "seeds": spread})


def resume(folder: str, *, own: str | None = None, quiet: bool = False) -> Answer:
    """Continue a run, or every unfinished run of several seeds."""
    path = Path(folder)
    if (path / "seeds.json").exists():
        record = unseal(path / "seeds.json", "there are no runs to continue")
        asked = Fit(**{k: tuple(v) if k == "drop" else v for k, v in record["asked"].items()})
        first, answers = int(asked.settings.get("seed", 0)), []
        for number in range(int(record["seeds"])):
            part = path / f"seed-{number}"
            if (part / "run.json").exists():
                answers.append(resume(str(part), own=own, quiet=quiet))
            else:
                again = replace(asked, out=str(part), settings=asked.settings | {"seed": first + number})
                answers.append(fit(again, quiet=quiet))
        return _summary(path, answers)
    record = runs.read_record(path)
    source = origin_of(record, path)
    info = record["data"]
    asked = Fit(info["origin"], folder, labels=info.get("labels"), drop=tuple(info.get("drop", ())))
    schema = Schema.from_json(record["schema"]) if record["schema"] else None
    validation: Any = info.get("validation", "auto")
    if info.get("validation_origin") and schema is not None:
        validation, _ = _validation(replace(asked, validation=info["validation_origin"]), schema)
    if record["status"] == "finished":
        run = runs.load(path, recipe=own)
    else:
        run, tensors = fitting.reopen(path, record, source.x, validation, recipe=own, weight=_weights(info.get("weights"), len(source.x)))
        if not quiet:
            _introduce(run, source)
        run = _execute(run, tensors, quiet)
    return _finish(run, source, validation, quiet)


# Data of runs


def origin_of(record: dict[str, Any], folder: Path) -> Source:
    """The data a run was fitted to, read again and checked against its fingerprint."""
    info = record.get("data") or {}
    origin = info.get("origin")
    if not origin or origin == "memory":
        raise InputError(f"{folder} was fitted to data in memory: name the data")
    try:
        source = read(origin, labels=info.get("labels"), drop=info.get("drop") or ())
    except InputError as error:
        raise InputError(f"the data of {folder} cannot be read again: {error}") from None
    if source.fingerprint != info.get("fingerprint"):
        raise InputError(f"{origin} has changed since {folder} was fitted to it: name the data, or fit again")
    return source


def held_out(run: Run, source: Source, validation: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows that were not trained on, with their labels; all rows where none were held out."""
    if isinstance(validation, np.ndarray):
        return validation, None
    _, rows = fitting.split_rows(len(source.x), validation, run.settings.seed)
    if not len(rows):
        return source.x, source.labels
    return source.x[rows.numpy()], None if source.labels is None else source.labels[rows.numpy()]


def tensor(run: Run, x: np.ndarray) -> torch.Tensor:
    assert run.schema is not None
    return torch.from_numpy(np.array(run.schema.to_model(x)))


def aligned(source: Source, schema: Schema) -> np.ndarray:
    """The source's array with its columns in the schema's order; ``InputError`` names a column that is missing."""
    if schema.names is None or source.names is None or source.names == schema.names:
        return source.x
    missing = [name for name in schema.names if name not in source.names]
    if missing:
        raise InputError(f"{source.origin} has no column {missing[0]!r}, which the run was fitted to (it has {', '.join(source.names)})")
    return source.x[:, [source.names.index(name) for name in schema.names]]


def _opened(folder: str, own: str | None) -> VAE:
    if (Path(folder) / "seeds.json").exists():
        raise InputError(f"{folder} holds runs of several seeds: name one of them, for example {Path(folder) / 'seed-0'}")
    return load(folder, recipe=own)


def _data_for(vae: VAE, data: str) -> np.ndarray:
    """Data for a loaded run, its columns aligned and its labels' column left out."""
    info = vae.run_.data
    schema = vae._schema()
    try:
        source = read(data)
    except InputError:
        # a column of labels or words that the run was fitted without
        spare = [*(info.get("drop") or ()), *([info["labels"]] if info.get("labels") else [])]
        if not spare:
            raise
        source = read(data, drop=[name for name in spare if not Path(str(name)).exists()])
    return aligned(source, schema)


# Using a run


def evaluate(
    folder: str, data: str | None, *, k: int, draws: int, nll_rows: int | None, seed: int, own: str | None
) -> Answer:
    """Evaluate a run, or each of several seeds."""
    if (Path(folder) / "seeds.json").exists():
        parts = sorted(Path(folder).glob("seed-*"), key=lambda p: int(p.name.partition("-")[2]))
        return _summary(Path(folder), [
            evaluate(str(part), data, k=k, draws=draws, nll_rows=nll_rows, seed=seed, own=own) for part in parts
        ])  # fmt: skip
    vae = _opened(folder, own)
    if data is None:
        record = runs.read_record(folder)
        source = origin_of(record, Path(folder))
        held = record["data"].get("validation_origin")
        x = aligned(read(held), vae._schema()) if held else held_out(vae.run_, source, record["data"].get("validation", "auto"))[0]
        where = "held-out rows of the data it was fitted to" if x is not source.x else "the rows it was fitted to"
    else:
        x, where = _data_for(vae, data), data
    figures = evaluation.evaluate(vae.model_, tensor(vae.run_, x), k=k, draws=draws, nll_rows=nll_rows, seed=seed, beta=vae.run_.beta)
    text = "\n".join([*_table(figures.lines(), f"{folder} on {where}"), *(f"warning: {w}" for w in figures.warnings)])
    return Answer(text, {"run": folder, "data": where, **figures.to_json()})


def encode(folder: str, data: str, out: str, *, samples: int, seed: int, own: str | None) -> Answer:
    """Write codes: posterior means, or draws ``[samples, N, Z]``."""
    vae = _opened(folder, own)
    x = _data_for(vae, data)
    z = vae.transform(x) if samples == 0 else vae.sample_posterior(x, samples, random_state=seed)
    if samples == 1:
        z = z[0]
    write(out, z, names=[f"z{i + 1}" for i in range(z.shape[-1])] if z.ndim == 2 else None)
    return Answer(f"wrote {out}: codes {list(z.shape)}", {"out": out, "shape": list(z.shape)})


def reconstruct(folder: str, data: str, out: str, *, own: str | None) -> Answer:
    vae = _opened(folder, own)
    x = vae.reconstruct(_data_for(vae, data))
    write(out, _flat_for_table(out, x), names=vae._schema().names)
    return Answer(f"wrote {out}: reconstructions {list(x.shape)}", {"out": out, "shape": list(x.shape)})


def sample(folder: str, out: str, *, n: int, mean: bool, seed: int, own: str | None) -> Answer:
    vae = _opened(folder, own)
    if out.endswith(".png") and not vae._schema().is_image:
        raise InputError(f"{out}: these samples are rows of columns, not images; write .npy or .csv")
    x = vae.sample(n, mean=mean, random_state=seed)
    if out.endswith(".png"):
        write_bytes(out, reporting.grid_png(x, vae._schema()))
    else:
        write(out, _flat_for_table(out, x), names=vae._schema().names)
    return Answer(f"wrote {out}: samples {list(x.shape)}", {"out": out, "shape": list(x.shape)})


def _flat_for_table(out: str, x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) if x.ndim > 2 and out.endswith((".csv", ".tsv")) else x


def score(folder: str, data: str, out: str, *, k: int, own: str | None) -> Answer:
    """Write log_px, standard_error and effective_sample_size of each row."""
    vae = _opened(folder, own)
    found = evaluation.nll(vae.model_, tensor(vae.run_, _data_for(vae, data)), k, shared_noise=True)
    columns = torch.stack([-found.rows, found.row_error, found.ess], 1).numpy()
    if out.endswith((".csv", ".tsv")):
        write(out, columns, names=["log_px", "standard_error", "effective_sample_size"])
    else:
        write(out, columns[:, 0])
    text = f"wrote {out}: lower bounds on ln p(x) of {len(columns):,} rows, nats (K = {k}); mean {-found.mean:.3f}"
    return Answer(text, {"out": out, "rows": len(columns), "k": k, "mean": -found.mean, "standard_error": found.standard_error})


def report(folder: str, data: str | None, *, out: str | None, labels: str | None, own: str | None) -> Answer:
    """Write the report anew, on named data or the rows that were held out."""
    vae = _opened(folder, own)
    run = vae.run_
    if data is not None:
        source = read(data, labels=labels, drop=run.data.get("drop") or ())
        x, found, names = aligned(source, vae._schema()), source.labels, source.label_names
    else:
        source = origin_of(runs.read_record(folder), Path(folder))
        x, found = held_out(run, source, run.data.get("validation", "auto")) if not run.data.get("validation_origin") else (source.x, source.labels)
        names = source.label_names
    figures = evaluation.evaluate(run.model, tensor(run, x), k=50, nll_rows=500, beta=run.beta)
    path = Path(out) if out else Path(folder) / "report.html"
    reporting.write(path, run, x, labels=found, label_names=names, evaluation=figures)
    return Answer(f"wrote {path}", {"report": str(path), **figures.to_json()})


# Comparing


def compare(
    data: str, *, dims: str, validation: str | None, out: str | None, labels: str | None, drop: tuple[str, ...],
    likelihood: str, settings: dict[str, Any], k: int, quiet: bool,
) -> Answer:  # fmt: skip
    if out is not None and Path(out).suffix not in (".html", ".json", ".csv"):
        raise InputError(f"{out}: compare writes .html, .json or .csv")
    source = read(data, labels=labels, drop=drop)
    schema = infer(source.x, source.names)
    sizes = _dims(dims)
    held = held_labels = None
    if validation is not None:
        other = read(validation, drop=drop)
        held, held_labels = aligned(other, schema), other.labels
    start = time.monotonic()
    found = comparing.compare(
        source.x, schema, sizes, Settings.from_json(settings), held_out=held, labels=source.labels,
        held_out_labels=held_labels, options={"likelihood": likelihood}, k=k,
        progress=None if quiet else lambda title: Bar(f"{title:<6}"),
    )  # fmt: skip
    seconds = time.monotonic() - start
    figures = found.to_json() | {"data": source.origin, "held_out_rows": len(found.held_out), "seconds": round(seconds, 1)}
    text = comparison_text(found, source.origin)
    if out is not None:
        _write_comparison(found, out, figures, source)
        text += f"\nwrote {out}"
    return Answer(text, figures)


def _write_comparison(found: comparing.Comparison, out: str, figures: dict[str, Any], source: Source) -> None:
    if out.endswith(".html"):
        dim = max(d for name, d in found.runs if name == "vae")
        run = found.runs[("vae", dim)]
        run.data["origin"] = source.origin
        summary = evaluation.evaluate(run.model, tensor(run, found.held_out), k=50, nll_rows=500)
        reporting.write(out, run, found.held_out, labels=found.labels, label_names=source.label_names,
                        evaluation=summary, comparison=found)  # fmt: skip
    elif out.endswith(".json"):
        import json

        write_text(out, json.dumps(figures, indent=1, default=float) + "\n")
    else:
        names = list(vars(found.rows[0]))
        lines = [",".join("" if v is None else str(v) for v in vars(row).values()) for row in found.rows]
        write_text(out, "\n".join([",".join(names), *lines]) + "\n")


def _dims(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--latent-dims must be whole numbers separated by commas, got {text!r}") from None
    if min(sizes) < 1:
        raise InputError(f"a latent dimension must be at least 1, got {min(sizes)}")
    return list(dict.fromkeys(sizes))


def comparison_text(found: comparing.Comparison, origin: str) -> str:
    """The table of a comparison, for a terminal."""
    head = ("dim", "model", "RMSE", "NLL", "-ELBO", "bits/dim", "energy (null)", "rough", "midpoint", "seconds")
    rows = [head]
    for r in found.rows:
        def number(value: float | None, digits: int = 2) -> str:
            return "–" if value is None else f"{value:.{digits}f}"

        rows.append((str(r.latent_dim), r.model, f"{r.rmse:.4g}", number(r.nll), number(r.minus_elbo),
                     number(r.nll_bits_per_dimension, 3), f"{r.energy:.3f} ({r.energy_null:.3f})",
                     f"{r.roughness:.2f}", f"{r.midpoint:.2f}", f"{r.seconds:.1f}"))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows]
    return "\n".join([f"{origin}: {len(found.held_out):,} held-out rows", lines[0], "-" * len(lines[0]), *lines[1:], "",
                      *found.notes])  # fmt: skip


def recipes() -> Answer:
    rows = catalogue.catalogue()
    lines = [f"{row['name']}\n  {row['combines']} ({row['reference']})\n  options: {row['options']}" for row in rows]
    return Answer("\n".join(lines), {"recipes": rows})


def demo(out: str, *, seed: int, quiet: bool) -> Answer:
    """Fit, evaluate, compare and report on the digits."""
    folder = Path(out)
    if (folder / "run.json").exists():
        if not (runs.read_record(folder).get("data") or {}).get("demo"):
            raise InputError(f"{folder} holds a run that no demo made: choose another folder with --out")
        shutil.rmtree(folder)
    start = time.monotonic()
    asked = Fit("digits", out, settings={"seed": seed})
    fitted = fit(asked, quiet=quiet, extra={"demo": True})
    source = read("digits")
    schema = infer(source.x)
    found = comparing.compare(
        source.x, schema, [2, 16], Settings(seed=seed), labels=source.labels,
        progress=None if quiet else lambda title: Bar(f"{title:<6}"),
    )  # fmt: skip
    run = runs.load(folder)
    x, labels = held_out(run, source, "auto")
    figures: Evaluation = evaluation.evaluate(run.model, tensor(run, x), k=100, beta=run.beta)
    report = folder / "report.html"
    reporting.write(report, run, x, labels=labels, label_names=source.label_names, evaluation=figures, comparison=found)
    seconds = time.monotonic() - start
    text = "\n\n".join([fitted.text, comparison_text(found, "digits"), f"{seconds:.0f} s; open {report} in a browser"])
    return Answer(text, fitted.figures | found.to_json() | {"seconds": round(seconds, 1)})
