"""A folder of parts: the bytes of a part depend only on its source, the run and the options, not on the process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from commanding import call, done, refused
from pyarrow import csv, parquet

from latens.cli.commands.inputs import data_for
from latens.data.tables.files import read_table
from latens.machine.atomic import atomic_write
from latens.runs import scoring
from latens.runs.record import load

pytestmark = pytest.mark.usefixtures("one_thread")


def table(rows: int, seed: int, **more: Any) -> pa.Table:
    """A table of two numeric columns, one with gaps, a text column, and a key that no model reads."""
    rng = np.random.default_rng(seed)
    b = [None if i % 9 == 4 else float(value) for i, value in enumerate(rng.normal(size=rows))]
    words = np.array(["x", "y", "z"])[rng.integers(0, 3, rows)].tolist()
    keys = [f"0{seed}-{i}" for i in range(rows)]
    return pa.table({"key": keys, "a": rng.normal(size=rows), "b": pa.array(b, pa.float64()), "word": words, **more})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs fitted to a table, an array and images."""
    folder = tmp_path_factory.mktemp("parts")
    before, threads = os.getcwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        parquet.write_table(table(300, 1), "train.parquet")
        np.save("train.npy", np.random.default_rng(0).normal(size=(80, 3)))
        done("fit", "train.parquet", "--out", "run", "--epochs", 2, "--drop", "key", "--latent-dim", 2)
        done("fit", "train.npy", "--out", "array", "--epochs", 1, "--latent-dim", 2)
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    return folder


@pytest.fixture
def here(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data of several kinds next to links to the runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "array"):
        Path(name).symlink_to(fitted / name)
    Path("data/sub").mkdir(parents=True)
    parquet.write_table(table(40, 2), "data/a.parquet", row_group_size=15)
    parquet.write_table(table(30, 3), "data/sub/b.parquet")
    csv.write_csv(table(20, 4), "data/c.csv")
    parquet.write_table(table(50, 5), "big.parquet", row_group_size=13)
    return tmp_path


def contents(folder: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


COMMANDS = {
    "encode": (), "score": ("--k", 5), "impute": ("--k", 20), "reconstruct": (), "encode drawn": ("--samples", 1),
    "impute copies": ("--k", 20, "--draws", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_part_of_the_output_equals_the_output_for_its_file(here: Path, name: str):
    command, *_ = name.split()
    words = COMMANDS[name]
    done(command, "run", "data", "--out", "out", "--workers", 1, *words)
    made = contents("out")
    manifest = json.loads(made.pop("manifest.json"))
    assert sorted(made) == ["a.parquet", "c.csv", "sub/b.parquet"]
    assert {part["name"]: part["sha256"] for part in manifest["parts"]} == {
        part: hashlib.sha256(content).hexdigest() for part, content in made.items()
    }
    assert {part["name"]: part["rows"] for part in manifest["parts"]} == {
        part: len(read_table(Path("out", part))) for part in made
    }
    for part in made:
        seed = next(each.get("seed") for each in manifest["parts"] if each["name"] == part)
        again = ("--seed", seed) if " " in name else ()
        done(command, "run", f"data/{part}", "--out", f"one{Path(part).suffix}", *words, *again)
        one, found = read_table(f"one{Path(part).suffix}"), read_table(Path("out", part))
        assert found.select(one.column_names).equals(one), part
        assert set(found.column_names) - set(one.column_names) <= {"reason"}


def test_parts_have_the_same_bytes_for_any_number_of_workers_and_after_a_loss(here: Path):
    parquet.write_table(table(60, 8), "data/d.parquet")
    outs = {n: f"out{n}" for n in (1, 2, 3)}
    for n, out in outs.items():
        done("score", "run", "data", "--out", out, "--workers", n, "--k", 4)
    first = contents("out1")
    assert contents("out2") == first == contents("out3") and len(first) == 5
    Path("out2/sub/b.parquet").unlink()
    Path("out2/a.parquet").write_bytes(b"other")
    kept = os.stat("out2/c.csv").st_mtime_ns
    said = done("score", "run", "data", "--out", "out2", "--workers", 1, "--k", 4).out
    assert "4 of 4 parts" in said and "2 parts were there already" in said
    assert contents("out2") == first and os.stat("out2/c.csv").st_mtime_ns == kept
    csv.write_csv(table(21, 9), "data/c.csv")  # a changed source is read again
    assert "3 parts were there already" in done("score", "run", "data", "--out", "out2", "--workers", 1, "--k", 4).out
    assert len(read_table("out2/c.csv")) == 21


def test_row_groups_of_one_file_are_parts_whose_scores_do_not_depend_on_the_others(here: Path):
    done("score", "run", "big.parquet", "--out", "out/", "--workers", 1, "--k", 5, "--keep", "key")
    names = [f"big-{number:05}.parquet" for number in range(4)]
    assert sorted(contents("out")) == [*names, "manifest.json"]
    whole = pa.concat_tables(read_table(f"out/{name}") for name in names)
    given = parquet.read_table("big.parquet")
    assert whole.column("key").equals(given.column("key"))
    run = load("run")
    for first in range(0, 50, 13):  # a single call in memory for each part
        parquet.write_table(given.slice(first, 13), "part.parquet")
        rows = data_for(run, "part.parquet", check=False)
        found = scoring.score(run, rows, 5, scoring.read_calibration(Path("run")))
        np.testing.assert_array_equal(found.log_px, whole.column("log_px").to_numpy()[first : first + 13])


def test_a_bad_part_is_named_and_the_others_are_finished(here: Path):
    csv.write_csv(table(5, 1).drop_columns(["b"]), "data/lacks.csv")
    csv.write_csv(table(5, 1, more=np.arange(5)), "data/more.csv")
    Path("data/broken.parquet").write_bytes(Path("data/a.parquet").read_bytes()[:-9])
    Path("data/gone.csv").symlink_to("nowhere.csv")
    Path("data/zero.csv").write_bytes(b"")
    Path("data/.hidden.csv").write_text("?")
    for workers in (1, 2):
        result = call("score", "run", "data", "--out", f"out{workers}", "--workers", workers, "--k", 3)
        assert result.status == 1 and "4 of 8 parts" in result.out, result
        lines = {line.split(": ")[0]: line for line in result.err.splitlines()}
        assert set(lines) == {"lacks.csv", "broken.parquet", "gone.csv", "zero.csv"}
        assert "no column 'b'" in lines["lacks.csv"] and "truncated" in lines["broken.parquet"]
    assert contents("out1") == contents("out2") and "more.csv" in contents("out1")
    csv.write_csv(table(5, 1), "data/lacks.csv")
    for name in ("broken.parquet", "gone.csv", "zero.csv"):
        Path("data", name).unlink()
    assert "4 parts were there" in done("score", "run", "data", "--out", "out1", "--workers", 1, "--k", 3).out


def test_lines_of_json_tell_of_each_part_and_then_of_all(here: Path):
    lines = [json.loads(line) for line in done("encode", "run", "data", "--out", "out", "--json").out.splitlines()]
    *parts, last = lines
    assert {part["part"]: part["rows"] for part in parts} == {"a.parquet": 40, "c.csv": 20, "sub/b.parquet": 30}
    assert [part["done"] for part in parts] == [1, 2, 3] and {part["of"] for part in parts} == {3}
    assert parts[-1]["seconds_left"] == 0 and all(part["rows_per_second"] > 0 for part in parts)
    assert last["parts"] == 3 and last["rows"] == 90 and last["failed"] == {}


@pytest.mark.parametrize("address", [False, True])
def test_partitions_are_columns_and_the_output_keeps_the_tree(here: Path, address: bool):
    whole = {}
    for seed, (word, site) in enumerate([("x", 1), ("x", 2), ("z", 1)]):
        name = f"word={word}/site={site}/part-0.parquet"
        whole[name] = table(30 + seed, seed)
        Path("sales", name).parent.mkdir(parents=True)
        parquet.write_table(whole[name].drop_columns(["word"]), f"sales/{name}", row_group_size=12)
        whole[name] = whole[name].set_column(3, "word", pa.array([word] * len(whole[name])))
        whole[name] = whole[name].append_column("site", pa.array([site] * len(whole[name])))
    data = "sales"
    if address:
        data = "memory://sales"
        fsspec.filesystem("memory").put("sales", "/sales", recursive=True)
    for command, words in (("score", ("--k", 3, "--keep", "site")), ("impute", ("--k", 20))):
        done(command, "run", data, "--out", f"{command}/", "--workers", 1, *words)
        assert sorted(contents(command)) == ["manifest.json", *sorted(whole)]
        for name, rows in whole.items():
            parquet.write_table(rows, "one.parquet")
            done(command, "run", "one.parquet", "--out", "found.parquet", *words)
            one, found = read_table("found.parquet"), read_table(Path(command, name))
            assert found.num_rows == rows.num_rows
            for column in one.column_names:
                assert found.column(column).to_pylist() == one.column(column).to_pylist(), (name, column)


def test_samples_in_parts_do_not_depend_on_the_workers(here: Path):
    words = ("sample", "run", "-n", 25, "--part-rows", 10, "--seed", 3)
    for workers in (1, 2):
        done(*words, "--out", f"out{workers}/", "--workers", workers)
    assert contents("out1") == contents("out2")
    parts = [read_table(f"out1/sample-{number:05}.parquet") for number in range(3)]
    assert [len(part) for part in parts] == [10, 10, 5]
    assert not parts[0].column("a").slice(0, 5).equals(parts[2].column("a"))


def test_an_array_in_blocks_gives_the_codes_of_the_whole(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("latens.data.streams.sources.BLOCK_ROWS", 30)
    x = np.random.default_rng(1).normal(size=(70, 3))
    np.save("x.npy", x)
    Path("arrays").mkdir()
    np.save("arrays/y.npy", x[:20])
    np.savez("arrays/z.npz", x=x[20:])
    done("encode", "array", "x.npy", "--out", "whole.npy")
    done("encode", "array", "x.npy", "--out", "blocks/", "--workers", 1)
    done("encode", "array", "arrays", "--out", "folder", "--workers", 1)
    whole = np.load("whole.npy")
    blocks = [np.load(f"blocks/x-{number:05}.npy") for number in range(3)]
    assert list(map(len, blocks)) == [30, 30, 10]
    for found in (np.concatenate(blocks), np.concatenate([np.load("folder/y.npy"), np.load("folder/z.npz")["x"]])):
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_an_address_gets_the_bytes_that_a_file_gets(here: Path):
    store = fsspec.filesystem("memory")
    for words, name in (
        ("encode run data/a.parquet", "codes.csv"), ("encode run data/a.parquet", "codes.npy"),
        ("score run data/a.parquet --k 3", "scores.parquet"), ("impute run data/a.parquet --k 5", "filled.tsv"),
        ("sample array -n 7", "rows.npz"), ("sample run -n 7", "rows.feather"),
    ):  # fmt: skip
        done(*words.split(), "--out", name)
        done(*words.split(), "--out", f"memory://bucket/{name}")
        same = store.cat(f"/bucket/{name}") == Path(name).read_bytes()
        assert same or name.endswith(".npz"), name  # an archive holds the time
    kept = store.cat("/bucket/codes.csv")
    with pytest.raises(ZeroDivisionError), atomic_write("memory://bucket/codes.csv") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert store.cat("/bucket/codes.csv") == kept
    place = "memory://bucket/scores.parquet"
    assert "it is the input" in refused("impute", "run", place, "--out", place)


REFUSED = {
    "encode run data/a.parquet --out nope://b/codes.csv": "cannot write nope://b/codes.csv .*: correct the address",
    "encode run data --out memory://b/codes/": "cannot write parts to memory://b/codes/: name a folder on this machine",
    "fit data/a.parquet --out memory://b/run": "is an address, but a run is a folder on this machine: name a folder",
    "score run data --out data/out": "it would lie in the folder of the data",
    "score run data --out data": "it would lie in the folder of the data",
    "score run data --out full": "full holds other files, but no manifest.json: name a new folder",
    "score run data --out big.parquet/": "big.parquet is a file: name a folder",
    "score run data --out absent/out": "the folder absent does not exist: make the folder first",
    "score run data --out s.csv --workers 2": "--workers is for a folder of parts.*as in --out s/",
    "score run data --out s.csv --engine ray": "--engine is for a folder of parts",
    "score run data --out o --engine dask": "no engine 'dask': pass --engine processes or ray",
    "score run data --out edited": "edited/manifest.json is damaged .*: remove the folder, or name another",
    "score run data --out o --engine ": "no engine ''",
    "score run data --out o --workers 0": "--workers must be a whole number from 1, got 0",
    "score run data --out o --workers -1": "--workers must be a whole number from 1, got -1",
    "sample run --out o/ --part-rows 0": "--part-rows must be a whole number from 1, got 0",
    "sample run --out o.csv --part-rows 5": "--part-rows is for a folder of parts",
    "score run data --out o --workers many": "--workers must be a whole number",
    "score run data --out there --k 6": "there holds parts made with k = 5, not 6: name another folder",
    "encode run data --out there": "there holds parts of `latens score`",
    "score other data --out there --k 5": "there holds parts made by another run",
    "score run empty --out o": "empty holds no data",
    "score run data --out o --keep kye --workers 1": "a.parquet: --keep: .*no column 'kye'.*2 more parts",
    "score run big.parquet --out o/ --keep log_px --workers 1": "no column 'log_px'",
    "impute run data --out o --keep a --workers 1": "--keep a: the output already has a column 'a'",
    "score run data/c.csv --out o.npy --keep key": "an array has no place for the column 'key'",
    "encode run data --out o --samples 3": "a part holds at most one draw per row",
    "impute run data --out o --uncertainty u.csv": "is one file, but --out o is a folder of parts",
    "score nothing data --out o": "nothing does not exist",
    "score run year --out o": "partitioned by 'word', which the model reads, but word=x/a.csv is not Parquet: "
                               "write one file",
    "score run twins --out o": "would both become the part a.csv.gz.parquet",
}


def test_an_impossible_folder_is_refused(here: Path, fitted: Path):
    for name in ("full", "edited", "empty", "twins", "year/word=x"):
        Path(name).mkdir(parents=True)
    Path("full/notes.txt").write_text("mine")
    Path("edited/manifest.json").write_text('{"rows": 1, "checksum": "0"}')
    Path("twins/a.csv.gz").write_bytes(b"")
    Path("twins/a.csv.gz.parquet").write_bytes(b"")
    csv.write_csv(table(5, 1).drop_columns(["word"]), "year/word=x/a.csv")
    done("fit", fitted / "train.parquet", "--out", "other", "--epochs", 1, "--drop", "key", "--latent-dim", 2)
    done("score", "run", "data", "--out", "there", "--workers", 1, "--k", 5)
    for words, expected in REFUSED.items():
        if "--workers 1" in words:  # each part reports it, and then the job
            result, left = call(*words.split()), Path("o").exists()
            assert result.status == 2 and not left and re.search(expected, result.sentence), (words, result)
        else:
            found = refused(*words.split(" "))
            assert re.search(expected, found), (words, found)
    Path("data/c.csv").unlink()
    assert "holds the part c.csv, but the data no longer have" in refused("score", "run", "data", "--out", "there",
                                                                          "--k", 5)  # fmt: skip


@pytest.fixture
def many(here: Path) -> Iterator[subprocess.Popen[str]]:
    """A running `latens score` of sixty row groups with two workers."""
    parquet.write_table(table(3000, 7), "many.parquet", row_group_size=50)
    words = ["score", "run", "many.parquet", "--out", "killed/", "--workers", "2", "--k", "100", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "latens", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def workers_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return list(map(int, listed))


def test_killed_workers_and_killed_jobs_continue_with_the_same_bytes(many: subprocess.Popen[str]):
    assert many.stdout is not None and many.stderr is not None
    begun = [many.stdout.readline() for _ in range(2)]
    os.kill(workers_of(many.pid)[0], signal.SIGKILL)
    assert "its worker ended (signal 9); another one tries again" in many.stderr.readline()
    begun += [many.stdout.readline() for _ in range(2)]
    many.send_signal(signal.SIGINT)
    said = many.communicate()[1]
    assert many.returncode == 130 and "parts are written, and the same command continues" in said, said
    there = {name: os.stat(Path("killed", name)).st_mtime_ns for name in contents("killed") if name != "manifest.json"}
    assert {json.loads(line)["part"] for line in begun} <= set(there) and len(there) < 60
    words = ("score", "run", "many.parquet", "--workers", 1, "--k", 100)
    done(*words, "--out", "killed/")
    done(*words, "--out", "whole/")
    assert contents("killed") == contents("whole")
    entered = [name for name, changed in there.items() if os.stat(Path("killed", name)).st_mtime_ns == changed]
    assert len(entered) >= len(there) - 2  # the parts written last may be missing from the manifest


def test_workers_end_with_a_killed_job_which_can_be_continued(many: subprocess.Popen[str]):
    assert many.stdout is not None
    many.stdout.readline()
    crew = workers_of(many.pid)
    many.kill()
    many.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in crew) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in crew)
    done("score", "run", "many.parquet", "--out", "killed/", "--workers", 1, "--k", 100)
    assert len(contents("killed")) == 61
