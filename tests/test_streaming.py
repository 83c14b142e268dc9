"""Data larger than memory, from end to end: streams are inferred, fitted, continued and written as in memory.

The data sets are small and cut into many blocks; the number of live pieces shows that no set is held in memory.
"""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commanding import blank_page

from latens import InputError, report
from latens.cli import commands
from latens.cli.commands import using
from latens.cli.commands.inputs import figures_for, held_out_of, stream_for, trained_on
from latens.data import read_table
from latens.data.rows import Asked, rows_of
from latens.data.streams import sources as stream_sources
from latens.data.streams.sources import AsTable, StreamOrder, open_stream
from latens.data.streams.survey import Encoded, Streamed, survey
from latens.data.tables.kinds import infer_table
from latens.errors import Stopped
from latens.recipes import Recipe
from latens.runs import fitting
from latens.runs import record as runs
from latens.runs.record import Run
from latens.training import Interrupted, Progress, Settings
from latens.training.checkpoint import state_of

ROWS, HELD = 1200, 120
KEPT = ROWS - HELD
SMALL = StreamOrder(most_rows=100, window=2, window_rows=200)
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 64, "device": "cpu"}


def mixed(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Columns of every kind, a tenth of the cells missing."""
    random = np.random.default_rng(seed)
    factor = random.standard_normal(rows)
    columns = {
        "x": factor + 0.3 * random.standard_normal(rows), "price": np.exp(0.5 * factor + random.standard_normal(rows)),
        "n": random.poisson(np.exp(1 + 0.3 * factor)), "word": np.array(["a", "b", "c"])[random.integers(0, 3, rows)],
        "flag": factor > 0,
    }  # fmt: skip
    return pa.table({
        name: pa.array(values, mask=(random.random(rows) < 0.1) if name != "word" else None)
        for name, values in columns.items()
    } | {"row": np.arange(rows)})  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of three files, in row groups of 130 rows, and the same rows in one file."""
    place = tmp_path_factory.mktemp("stream")
    table = mixed()
    (place / "set").mkdir()
    for number, first in enumerate(range(0, ROWS, 400)):
        pq.write_table(table.slice(first, 400), place / "set" / f"{number}.parquet", row_group_size=130)
    pq.write_table(table, place / "one.parquet")
    np.save(place / "x.npy", np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32))
    return place


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Use small blocks, windows and chunks, and draw no report."""
    monkeypatch.setattr(stream_sources.StreamOrder, "__init__", _small_order)
    monkeypatch.setattr(using, "ROWS", 150)
    monkeypatch.setattr(report, "write", blank_page)


def _small_order(self: StreamOrder, **given: int) -> None:
    for name, value in (vars(SMALL) | given).items():
        object.__setattr__(self, name, value)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run fitted to the streamed set with a condition."""
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_sources.StreamOrder, "__init__", _small_order)
        patch.setattr(report, "write", blank_page)
        commands.fit(asked(folder / "set", out, condition=("word",)), quiet=True)
    return runs.load(out)


def asked(data: Path | str, out: Path, **more: Any) -> commands.Fit:
    options = {"stream": True, "settings": SHORT, "options": {"latent_dim": 2}} | more
    return commands.Fit(data=str(data), out=str(out), **options)


# Schema


def test_the_schema_of_a_stream_is_that_of_the_table(folder: Path):
    found = survey(open_stream(str(folder / "set"), order=SMALL), Asked(condition=("word",)))
    whole = infer_table(read_table(folder / "one.parquet"), condition=("word",))
    assert [f.to_json() for f in found.schema.fields] == [f.to_json() for f in whole.fields]  # all rows are sampled
    assert found.given == found.schema and found.schema.conditions == ("word",)
    assert len(found) == ROWS and found.kept == KEPT == len(found.seen)
    numbers = found.held.x.column("row").to_numpy()
    assert np.array_equal(numbers, found.numbers) and not np.isin(found.seen.x.column("row"), numbers).any()


@pytest.mark.parametrize("name", ["pixels", "zeros and ones", "floats", "images", "missing cells", "bytes", "wide"])
def test_the_schema_of_an_array_is_that_of_memory(name: str, tmp_path: Path):
    random = np.random.default_rng(0)
    array = {
        "pixels": random.integers(0, 17, (400, 20)), "zeros and ones": random.integers(0, 2, (400, 3)).astype(float),
        "floats": random.normal(size=(400, 5)), "images": random.integers(0, 200, (300, 6, 7)).astype(np.uint8),
        "missing cells": np.where(random.random((400, 3)) < 0.1, np.nan, random.normal(size=(400, 3))),
        "bytes": random.integers(0, 256, (300, 4)).astype(np.uint8), "wide": random.normal(size=(300, 30)) + 1e9,
    }[name]  # fmt: skip
    np.save(tmp_path / "x.npy", array)
    found, whole = survey(open_stream(str(tmp_path / "x.npy"))), rows_of(array)
    for what in ("kind", "layout", "shape", "levels", "storage", "constant", "names"):
        assert getattr(found.schema, what) == getattr(whole.schema, what), what
    blocks = Encoded(found.stream, found.schema)
    x = torch.cat([blocks.read(block)[0] for block in range(len(blocks.sizes))])
    assert torch.equal(x.nan_to_num(-9.0), whole.inside[:].nan_to_num(-9.0)) and x.dtype == whole.inside.dtype


def test_a_table_of_pixels_is_an_array_and_no_sample_misses_its_extremes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pixels = np.random.default_rng(0).integers(0, 9, (1000, 18))
    pixels[:, 3], pixels[777, 5] = 4, 16
    table = pa.table({f"p{j}": column for j, column in enumerate(pixels.T)})
    pq.write_table(table, tmp_path / "pixels.parquet")
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", 300)
    found, whole = survey(open_stream(str(tmp_path / "pixels.parquet"))).schema, rows_of(table).schema
    assert (found.kind, found.levels, found.constant) == ("levels", 17, (3,))
    assert (whole.kind, whole.levels, whole.constant) == ("levels", 17, (3,))


# Blocks alive


def test_few_pieces_are_alive_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run):
    alive, most = set(), [0]
    read = stream_sources.ParquetStream.piece

    def counted(self: Any, block: int) -> Any:
        piece = read(self, block)
        number = len(alive) + 1_000_000 * most[0] + block
        alive.add(number)
        weakref.finalize(piece, alive.discard, number)
        most[0] = max(most[0], len(alive))
        return piece

    monkeypatch.setattr(stream_sources.ParquetStream, "piece", counted)
    stream = open_stream(str(folder / "set"), order=SMALL)
    assert len(stream.sizes) == 21
    rows = survey(stream)
    assert 1 <= most[0] <= 4
    gc.collect()
    most[0] = 0
    assert sum(len(batch.rows) for batch in rows.loader(64, 0).batches(0)) == KEPT // 64 * 64
    assert 1 <= most[0] <= 6  # pieces of two windows of two blocks, as they are encoded
    most[0] = 0
    monkeypatch.setattr("latens.evaluation.likelihood.ONCE", 512 * 50)  # parts of fifty rows
    monkeypatch.setattr("latens.cli.commands.inputs.is_large", lambda path: True)
    using.encode(str(run.folder), str(folder / "set"), str(tmp_path / "z.npy"), using.Inputs(), samples=0, seed=0)
    assert 1 <= most[0] <= 6


# Training


class Stop(Progress):
    """A callback that interrupts a fit at a step with the signal of Ctrl-C."""

    def __init__(self, at: int):
        self.at = at

    def step(self, step: int, rate: float, distortion: float) -> None:
        if step >= self.at:
            import signal

            signal.raise_signal(signal.SIGINT)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return state_of(runs.load(folder).model)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("at", [10, 20])
def test_a_fit_stopped_mid_epoch_ends_as_if_it_had_not_been_stopped(
    folder: Path, tmp_path: Path, at: int, run: Run, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(commands.fitting, "Quiet", lambda: Stop(at))
        with pytest.raises(Stopped, match="continue with"):
            commands.fit(asked(folder / "set", tmp_path / "run", condition=("word",)), quiet=True)
    state = runs.checkpoints(tmp_path / "run").load()[1]
    assert state["step"] == at and state["position"] == at % 16 > 0
    record = runs.read_record(tmp_path / "run")
    assert record["data"]["stream"] == SMALL.to_json()
    monkeypatch.setattr(stream_sources, "StreamOrder", StreamOrder)
    answer = commands.resume(str(tmp_path / "run"), quiet=True)
    assert answer.figures["evaluated_on"] == "held-out rows" and answer.figures["rows"] == HELD
    assert same(weights_of(tmp_path / "run"), weights_of(folder / "run"))


def test_weights_do_not_depend_on_the_number_of_workers(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    loader = Streamed.loader
    settings = Settings.from_json(SHORT)
    found = []
    for workers in (0, 1, 4):
        monkeypatch.setattr(Streamed, "loader", lambda self, size, seed, n=workers: loader(self, size, seed, n))
        rows = survey(open_stream(str(folder / "set"), order=SMALL), Asked(condition=("word",)))
        found.append(state_of(fitting.fit_recipe(rows, Recipe("vae", latent_dim=2), settings).model))
    assert same(found[0], found[1]) and same(found[0], found[2]) and same(found[0], state_of(run.model))


def test_a_window_that_holds_all_rows_learns_as_in_memory(folder: Path):
    """The order of the rows differs, the data do not: bounds on the same held-out rows agree within 0.3 nats of about
    12."""
    rows = survey(open_stream(str(folder / "set"), order=SMALL))
    settings = Settings(epochs=2, batch_size=64, device="cpu")
    table = rows_of(read_table(folder / "one.parquet"))
    kept = table.take(np.delete(np.arange(ROWS), rows.numbers))
    streamed = fitting.fit_recipe(rows, Recipe("vae", latent_dim=2), settings)
    whole = fitting.fit_recipe(kept, Recipe("vae", latent_dim=2), settings, validation=rows.held)
    ends = [run.history[-1]["validation_bound"] for run in (streamed, whole)]
    assert streamed.rows == whole.rows == KEPT
    assert abs(ends[0] - ends[1]) < 0.3, ends


def test_the_record_of_a_streamed_run_has_its_rows_conditions_and_split(folder: Path, run: Run):
    record = runs.read_record(folder / "run")
    assert record["rows"] == KEPT and record["data"]["rows"] == ROWS
    assert 500 <= len(record["data"]["conditions"]["word"]) < 1000
    assert "120 rows held out" in record["choices"]["training"]
    held, where = held_out_of(run, str(folder / "run"))
    assert len(held) == HELD and where.startswith("held-out rows")
    assert not np.isin(trained_on(run, str(folder / "run")).x.column("row"), held.x.column("row")).any()


def test_seeds_hold_out_rows_of_their_own(folder: Path, tmp_path: Path):
    commands.fit(asked(folder / "set", tmp_path / "runs", settings=SHORT | {"epochs": 1}), seeds=2, quiet=True)
    held = [held_out_of(runs.load(path), str(path))[0] for path in sorted((tmp_path / "runs").glob("seed-*"))]
    numbers = [part.x.column("row").to_pylist() for part in held]
    assert len(numbers) == 2 and numbers[0] != numbers[1]


def test_a_row_that_is_not_finite_is_named_by_its_number_in_the_data(tmp_path: Path):
    table = pa.table({"a": np.r_[np.zeros(700), np.inf, np.zeros(499)], "b": np.arange(ROWS) / 7})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=500)
    with pytest.raises(InputError, match=r"row 700 is not finite"):
        survey(open_stream(str(tmp_path / "x.parquet")))


# From file to file


def both(command: str, run: Run, data: Path, tmp_path: Path, suffix: str, **more: Any) -> list[Any]:
    """The outputs of a command from a stream and in memory."""
    found, figures = [], []
    seed = {} if command in ("reconstruct", "score") else {"seed": 3}
    given = {"encode": {"samples": 0}, "impute": {"uncertainty": None}}.get(command, {}) | seed | more
    for way in ("streamed", "whole"):
        path = tmp_path / f"{way}{suffix}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("latens.cli.commands.inputs.is_large", lambda path, way=way: way == "streamed")
            answer = getattr(using, command)(str(run.folder), str(data), str(path), using.Inputs(), **given)
        assert answer.figures["out"] == str(path) and "wrote" in answer.text
        figures.append(answer.figures)
        found.append(np.load(path) if suffix in (".npy", ".npz") else read_table(path))
    assert figures[0].keys() == figures[1].keys()
    for name in figures[0].keys() - {"out"}:
        assert figures[0][name] == pytest.approx(figures[1][name]), name
    return found


def test_partitions_are_columns_in_every_command(tmp_path: Path):
    table = mixed(300).append_column("k", pa.array(np.repeat(["u", "v w", None], 100)))
    pq.write_to_dataset(table.drop_columns(["row"]), tmp_path / "set", partition_cols=["word", "k"])
    commands.fit(asked(tmp_path / "set", tmp_path / "run", settings=SHORT | {"epochs": 1}), quiet=True)
    run = runs.load(tmp_path / "run")
    assert set(open_stream(str(tmp_path / "set")).names or ()) == {"x", "price", "n", "flag", "word", "k"}
    assert held_out_of(run, str(tmp_path / "run"))[0].x.column_names[-2:] == ["word", "k"]
    for command, more in COMMANDS[:4]:
        streamed, whole = both(command, run, tmp_path / "set", tmp_path, ".parquet", **more)
        assert streamed.schema == whole.schema and streamed.num_rows == 300
    given = read_table(tmp_path / "set")
    assert streamed["word"].equals(given["word"]) and streamed["k"].null_count == 0 < given["k"].null_count
    with pytest.raises(InputError, match="lie in the folder of the data"):
        both("impute", run, tmp_path / "set", tmp_path / "set" / "word=a", ".parquet", k=10, draws=0)


COMMANDS = [("encode", {}), ("reconstruct", {}), ("score", {"k": 20}), ("impute", {"k": 50, "draws": 0}),
            ("impute", {"k": 50, "draws": 2})]  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("command, more", COMMANDS, ids=lambda value: str(value))
def test_a_stream_gives_what_memory_gives(
    command: str, more: dict[str, Any], suffix: str, run: Run, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("latens.evaluation.imputation.CELLS", 64 * 50 * 40)  # several parts of forty rows
    monkeypatch.setattr("latens.evaluation.likelihood.CELLS", 512 * (8000 if command == "score" else 400))
    monkeypatch.setattr("latens.evaluation.likelihood.ONCE", 512 * 400)
    streamed, whole = both(command, run, folder / "set", tmp_path, suffix, **more)
    assert streamed.schema == whole.schema
    assert streamed.num_rows == whole.num_rows == ROWS * max(1, more.get("draws", 1))
    for name in whole.column_names:
        a, b = (table.column(name).combine_chunks() for table in (streamed, whole))
        if pa.types.is_floating(a.type):
            a, b = (cells.to_numpy(zero_copy_only=False) for cells in (a, b))
            assert np.allclose(a, b, rtol=1e-5, atol=1e-5, equal_nan=True), name
        else:
            assert a.equals(b), name


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_go_from_file_to_file_as_in_memory(suffix: str, folder: Path, tmp_path: Path):
    commands.fit(asked(folder / "x.npy", tmp_path / "run"), quiet=True)
    run = runs.load(tmp_path / "run")
    for command, more in COMMANDS[:3]:
        streamed, whole = both(command, run, folder / "x.npy", tmp_path, suffix, **more)
        if suffix == ".npz":
            streamed, whole = streamed["x"], whole["x"]
        assert streamed.dtype == whole.dtype and streamed.shape == whole.shape
        assert np.allclose(streamed, whole, rtol=1e-5, atol=1e-5)


def test_uncertainty_and_draws_of_codes_are_streamed(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("latens.cli.commands.inputs.is_large", lambda path: True)
    given = (str(run.folder), str(folder / "set"))
    using.impute(*given, str(tmp_path / "a.parquet"), using.Inputs(), k=20, draws=0,
                 uncertainty=str(tmp_path / "u.parquet"), seed=0)  # fmt: skip
    spread, table = read_table(tmp_path / "u.parquet"), read_table(folder / "one.parquet")
    assert all(spread.column(name).null_count == ROWS - table.column(name).null_count for name in spread.column_names)
    for name, samples in (("z", 1), ("mean", 0)):
        using.encode(*given, str(tmp_path / f"{name}.npy"), using.Inputs(), samples=samples, seed=0)
    z, mean = np.load(tmp_path / "z.npy"), np.load(tmp_path / "mean.npy")
    assert z.shape == mean.shape == (ROWS, 2) and (z != mean).all()
    assert len(np.unique(z - mean, axis=0)) == ROWS  # every chunk has different noise


def test_large_data_are_streamed_without_an_option(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert stream_for(run, str(folder / "set")) is None
    assert figures_for(run, str(folder / "set"))[1] == str(folder / "set")
    monkeypatch.setattr(stream_sources, "free_memory", lambda: 100_000)
    for name in ("set", "one.parquet"):
        assert len(stream_for(run, str(folder / name)) or ()) == ROWS
    assert stream_sources.is_large(str(folder / "x.npy")) is False and commands.Fit("x.csv", "o").stream is False
    monkeypatch.setattr(stream_sources, "free_memory", lambda: 20_000)
    assert stream_sources.is_large(str(folder / "x.npy"))
    rows, where = figures_for(run, str(folder / "set"))
    assert len(rows) == ROWS and "1,200 of the 1,200 rows" in where


def test_files_of_different_types_are_read_into_memory(tmp_path: Path):
    wide = GOOD.set_column(1, "b", GOOD["b"].cast(pa.int32()))
    place = written(tmp_path / "set", p=GOOD, q=wide)
    assert not stream_sources.is_large(str(place)) and len(commands.Fit(str(place), "o").read().x) == 400


def test_a_remote_folder_gives_what_a_local_one_gives(folder: Path, run: Run, tmp_path: Path):
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(str(folder / "set") + "/", "/bucket/set/", recursive=True)
    assert stream_sources.is_large("memory://bucket/set")
    commands.fit(asked("memory://bucket/set", tmp_path / "run", condition=("word",), stream=False), quiet=True)
    assert same(weights_of(tmp_path / "run"), state_of(run.model))
    stream = stream_for(run, "memory://bucket/set")
    assert stream is not None and len(stream) == ROWS
    with pytest.raises(InputError, match="there is no file or folder memory://bucket/none: correct the address"):
        commands.fit(asked("memory://bucket/none", tmp_path / "other", stream=False), quiet=True)
    assert not (tmp_path / "other").exists()


# Bad input


def written(place: Path, **tables: pa.Table) -> Path:
    place.mkdir()
    for name, table in tables.items():
        pq.write_table(table, place / f"{name}.parquet", row_group_size=50)
    return place


GOOD = pa.table({"a": np.arange(200) / 7, "b": np.arange(200) % 11})
BAD: dict[str, tuple[dict[str, pa.Table], str]] = {
    "types": ({"p": GOOD, "q": GOOD.set_column(1, "b", pa.array(["x"] * 200))}, "column 'b' is string in .* but int64"),
    "columns": ({"p": GOOD, "q": GOOD.select(["a"])}, r"q.parquet lacks column 'b'"),
    "no rows": ({"p": GOOD.slice(0, 0)}, "has no rows: give at least one"),
    "one row": ({"p": GOOD.slice(0, 1)}, "has 1 row: give at least 2"),
    "lists": ({"p": GOOD.append_column("l", pa.array([[1]] * 200))}, "column 'l' holds lists"),
    "infinite": ({"p": GOOD, "q": GOOD.set_column(0, "a", pa.array([0.0] * 150 + [np.inf] * 50))}, "row 350 is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_folders_are_refused_in_a_sentence(name: str, tmp_path: Path):
    tables, message = BAD[name]
    place = written(tmp_path / "set", **tables)
    with pytest.raises(InputError, match=message) as caught:
        commands.fit(asked(place, tmp_path / "run"), quiet=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_bad_files_and_options_of_streams_are_refused(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    place = written(tmp_path / "set", p=GOOD)
    whole = (place / "p.parquet").read_bytes()
    (place / "p.parquet").write_bytes(whole[:-100])
    with pytest.raises(InputError, match="is truncated"):
        commands.fit(asked(place, tmp_path / "run"), quiet=True)
    np.savez(tmp_path / "x.npz", np.zeros((3, 2)))
    with pytest.raises(InputError, match="cannot be streamed, as only Parquet"):
        commands.fit(asked(tmp_path / "x.npz", tmp_path / "run"), quiet=True)
    for option in ({"split": "group=word"}, {"labels": "word"}, {"weights": "w.npy"}):
        with pytest.raises(InputError, match="takes no --"):
            commands.fit(asked(folder / "set", tmp_path / "run", **option), quiet=True)
    with monkeypatch.context() as patch, pytest.raises(InputError, match="it would lie in the folder of the data"):
        patch.setattr("latens.cli.commands.inputs.is_large", lambda path: True)
        out = str(folder / "set" / "z.npy")
        using.encode(str(run.folder), str(folder / "set"), out, using.Inputs(), samples=0, seed=0)
    with pytest.raises(InputError, match="no column 'nope'"):
        commands.fit(asked(folder / "set", tmp_path / "run", drop=("nope",)), quiet=True)
    with pytest.raises(InputError, match="not valid"):
        StreamOrder.from_json({"window": 0})
    assert AsTable(open_stream(str(folder / "x.npy"))).names == ("column_1", "column_2", "column_3")


def test_changed_data_are_noticed_on_resume(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = written(tmp_path / "set", p=GOOD, q=GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(commands.fitting.fitting, "execute", _interrupted)
        with pytest.raises(Stopped):
            commands.fit(asked(place, tmp_path / "run"), quiet=True)
    pq.write_table(GOOD.slice(1), place / "q.parquet")
    with pytest.raises(InputError, match="has changed since"):
        commands.resume(str(tmp_path / "run"), quiet=True)


def _interrupted(*args: Any, **more: Any) -> None:
    raise Interrupted
