"""Every command does what its help says, for people and with --json, and `latens --help` imports little."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import commanding
import numpy as np
import pytest
from commanding import SHORT, blank_page, call, done, figures, refused

import latens
from latens import report
from latens.cli.main import app, main
from latens.data import read_table
from latens.data.sources import READING

pytestmark = pytest.mark.usefixtures("one_thread", "in_place")

COMMANDS = {
    "recipes": "vae +The variational autoencoder",
    "fit iris --out {x}/run --epochs 2": "vae, .* parameters.*ELBO.*NLL.*report: .*report.html",
    "fit --beta 2 iris --out {x}/run --epochs 2": "ELBO",
    "fit iris --out {x}/run --epochs 2 --beta=2 --kl sampled": "ELBO",
    "fit iris --out {x}/run --epochs 2 --recipe iwae --k 3": "iwae",
    "fit iris --out {x}/run --epochs 2 --validation 0.2 --average 0.9 --kl-warmup 0.5": "averaged.*held-out",
    "fit iris --out {x}/run --epochs 2 --weights weights-good.npy": "ELBO",
    "fit iris --out {x}/run --epochs 2 --from iris-run": "ELBO",
    "fit iris --out {x}/run --epochs 2 --recipe own_recipes:good --latent-dim 3": "own_recipes:good",
    "fit several.npz:a --out {x}/run --epochs 2": "ELBO",
    "fit levels.npy --out {x}/run --epochs 2": "64 dimensions",
    "fit labelled.csv --out {x}/run --epochs 2 --labels kind --validation labelled.csv": "held-out",
    "fit more.csv --out {x}/run --epochs 2 --drop id --drop word": "4 dimensions",
    "fit iris --out {x}/run --epochs 1 --seeds 2": "2 seeds.*elbo +-?[0-9.]+ ± [0-9.]+",
    "sweep iris --out {x}/runs --epochs 1 --grid beta=1,2": "2 combinations.*best by the bound.*sweep.csv",
    "fit --resume iris-run": "iris-run: vae",
    "fit --resume seeds-run": "2 seeds",
    "fit --resume own-run --recipe own_recipes:good": "own_recipes:good",
    "evaluate iris-run --k 5": "fitted to.*rate.*distortion.*ELBO.*K = 5.*active units",
    "evaluate iris-run reordered.csv --k 5 --draws 2 --rows 10": "25 of 4 dimensions.*10 rows",
    "evaluate digits-run --k 2": "held-out rows.*179 of 64",
    "evaluate labelled-run --k 2": "labelled.csv",
    "evaluate ae-run": "no density|no bound",
    "evaluate own-run --recipe own_recipes:good --k 2": "ELBO",
    "evaluate seeds-run --k 2": "2 seeds",
    "evaluate iris-run one.npy --k 2": "1 of 4",
    "encode iris-run few.npy --out {x}/z.npy": r"codes \[5, 4\]",
    "encode iris-run few.npy --out {x}/z.npy --samples 3": r"codes \[3, 5, 4\]",
    "encode iris-run few.npy --out {x}/z.tsv --samples 1": r"codes \[5, 4\]",
    "encode labelled-run labelled.csv --out {x}/z.npz": r"codes \[25, 4\]",
    "reconstruct digits-run levels.npy --out {x}/x.csv": r"\[6, 8, 8\]",
    "sample digits-run --out {x}/x.png -n 5 --mean": r"samples \[5, 8, 8\]",
    "sample iris-run --out {x}/x.csv -n 7 --seed 3": r"samples \[7, 4\]",
    "sample ae-run --out {x}/x.npy": r"samples \[100, 4\]",
    "score iris-run few.npy --out {x}/s.csv --k 3": "5 rows, nats .K = 3",
    "score iris-run few.npy --out {x}/s.npy --k 3": "mean",
    "report iris-run few.npy --out {x}/r.html": "r.html",
    "report labelled-run": "report.html",
    "report labelled-run labelled.csv --labels kind --out {x}/r.html": "r.html",
    "compare iris --latent-dims 2 --epochs 1 --out {x}/c.html": "pca.*ae.*vae.*wrote",
    "compare ordered.csv --validation reordered.csv --latent-dims 1,2 --epochs 1 --out {x}/c.csv": "25 held-out rows",
    "compare iris --latent-dims 50 --epochs 1 --likelihood normal --out {x}/c.json": "50 +vae",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_print_text_and_json(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [word.replace("{x}", str(tmp_path / "a")) for word in words.split()]
    again = [word.replace("{x}", str(tmp_path / "b")) for word in words.split()]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    result = done(*given)
    assert re.search(COMMANDS[words], result.out, re.DOTALL), result.out
    monkeypatch.setattr("latens.report.write", commanding.blank_page)
    found = figures(*again)
    assert isinstance(found, dict) and found and "error" not in found
    assert "NaN" not in result.out or words.endswith("one.npy --k 2")
    for first in (tmp_path / "a").glob("*.*"):  # the same command writes the same file
        if first.suffix in (".npy", ".csv", ".tsv", ".png") and not words.startswith("compare"):
            assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()


def test_figures_are_those_of_the_estimator(in_place: Path) -> None:
    vae, x = latens.load("iris-run"), np.load("few.npy")
    for command, name, expected in [
        ("encode", "z", vae.transform(x)), ("reconstruct", "x", vae.reconstruct(x)),
        ("score", "s", vae.score_samples(x)),
    ]:  # fmt: skip
        for extension in ("npy", "csv"):
            path = in_place / f"{name}.{extension}"
            done(command, "iris-run", "few.npy", "--out", path)
            found = np.load(path) if extension == "npy" else np.loadtxt(path, delimiter=",", skiprows=1)
            found = found[:, 0] if command == "score" and extension == "csv" else found
            assert np.allclose(found, expected, rtol=1e-6)
            path.unlink()
    told = figures("evaluate", "iris-run", "few.npy", "--k", 7)
    assert told["elbo"] == pytest.approx(vae.evaluate(x, k=7).elbo) and told["nll_draws"] == 7
    assert told["elbo"] == pytest.approx(-(told["rate"] + told["distortion"]))
    assert figures("recipes")["recipes"][0]["name"] == "vae"


def test_tables_are_read_by_their_columns(in_place: Path) -> None:
    """Reordered and additional columns change nothing."""
    codes = []
    for table in ("ordered", "reordered", "more"):
        done("encode", "iris-run", f"{table}.csv", "--out", "z.npy")
        codes.append(np.load("z.npy"))
        Path("z.npy").unlink()
    assert np.array_equal(codes[0], codes[1]) and np.array_equal(codes[0], codes[2])


def test_a_png_shows_the_samples_in_a_grid(tmp_path: Path) -> None:
    from PIL import Image

    done("sample", "digits-run", "--out", tmp_path / "x.png", "-n", 5)
    assert Image.open(tmp_path / "x.png").size == (3 * 9 - 1, 2 * 9 - 1)


def test_standard_output_has_only_json(tmp_path: Path) -> None:
    """What a user's recipe prints goes to standard error."""
    words = ("fit", "few.npy", "--out", tmp_path / "run", *SHORT, "--recipe", "own_recipes:talking", "--json")
    result = done(*words)
    assert json.loads(result.out)["run"] == str(tmp_path / "run") and "to standard output" in result.err


def test_paths_may_have_spaces_and_dashes(tmp_path: Path) -> None:
    data = tmp_path / "--of mine.npy"
    data.write_bytes(Path("few.npy").read_bytes())
    out = tmp_path / "a run -x"
    done("fit", "--out", out, *SHORT, "--", data)
    assert f"latens fit --resume {shlex.quote(str(out))}" in refused("fit", "iris", "--out", out)


def test_demo_does_not_overwrite_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files next to an earlier demo's run survive the next demo; `make demo` runs the demo itself."""
    from latens.cli.commands import comparing

    done("fit", "iris", "--out", tmp_path / "demo", *SHORT)
    record = latens.runs.record.read_record(tmp_path / "demo")
    record["data"]["demo"] = True
    (tmp_path / "demo" / "run.json").write_text(latens.training.checkpoint.sealed(record))
    (tmp_path / "demo" / "notes.txt").write_text("mine")

    class Reached(Exception): ...

    def fit(*given: object, **more: object) -> None:
        raise Reached

    monkeypatch.setattr(comparing, "fit", fit)
    with pytest.raises(Reached):
        main(["demo", "--out", str(tmp_path / "demo")])
    assert os.listdir(tmp_path / "demo") == ["notes.txt"]


# In a separate process


def environment() -> dict[str, str]:
    root = str(Path(latens.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("words", ["--help", "--version", "fit --help", "evaluate --help", ""])
def test_help_imports_no_heavy_package(words: str) -> None:
    code = f"""
import sys
from latens.cli.main import app, main
status = main({words.split()!r})
heavy = [name for name in ("torch", "numpy", "sklearn", "pandas", "matplotlib", "accelerate") if name in sys.modules]
print("imported:", heavy, status)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert "imported: [] 0" in found.stdout, found.stdout + found.stderr
    assert not words or "latens" in found.stdout


@pytest.mark.parametrize(
    "given, found",
    [
        ({}, ["PASSIVE", "1000"]),
        ({"GOMP_SPINCOUNT": "5"}, ["PASSIVE", "5"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
    ],
)
def test_idle_threads_sleep_after_a_moment_unless_the_user_changes_this(given: dict, found: list) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import json, os, latens.cli.main; print(json.dumps([*map(os.environ.get, {names})]))"
    clean = {name: value for name, value in environment().items() if name not in names}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | given, timeout=60)
    assert json.loads(said.stdout) == found, said.stderr


def test_an_interrupted_fit_can_be_continued(tmp_path: Path) -> None:
    """Ctrl-C gives status 130, one sentence and a checkpoint; the command it prints, pasted into a shell, ends with the
    same numbers."""
    words = ["--epochs", "40", "--batch-size", "10", "--network", "linear", "--validation", "0.2"]
    done("fit", "iris", "--out", tmp_path / "whole", *words)
    for name in (signal.SIGINT, signal.SIGTERM):
        _interrupt_and_resume(tmp_path / f"a run -{name}", words, name)
        for file in ("model.safetensors", "metrics.csv"):
            one, two = ((tmp_path / folder / file).read_bytes() for folder in (f"a run -{name}", "whole"))
            if file == "metrics.csv":  # without the times
                one, two = (b"\n".join(row.rpartition(b",")[0] for row in text.split(b"\n")) for text in (one, two))
            assert one == two


def _interrupt_and_resume(out: Path, words: list[str], name: signal.Signals) -> None:
    command = [sys.executable, "-m", "latens"]
    child = subprocess.Popen(
        [*command, "fit", "iris", "--out", str(out), *words, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "metrics.csv").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(name)
    printed, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said, said
    [sentence] = said.strip().splitlines()
    line = re.search("`latens (.*)`", sentence)
    assert line and '"status": 130' in printed and latens.runs.record.read_record(out)["status"] == "running"
    assert sorted(os.listdir(out)) == ["checkpoint", "metrics.csv", "run.json"]
    done(*shlex.split(line[1]))


def test_an_interrupt_while_reading_is_reported(tmp_path: Path) -> None:
    code = f"""
import sys, latens.data, latens.cli.commands.fitting as fitting, latens.cli.main
def read(*given, **more):
    raise KeyboardInterrupt
fitting.read = read
sys.exit(latens.cli.main.main(["fit", "iris", "--out", {str(tmp_path / 'run')!r}]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert found.returncode == 130 and found.stderr.strip() == "latens: interrupted" and not found.stdout
    assert not (tmp_path / "run").exists()


def test_a_closed_pipe_ends_the_command_silently() -> None:
    command = f"{shlex.quote(sys.executable)} -m latens recipes | head -c 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment(), timeout=60)
    assert found.stdout == "b" and found.stderr == ""


@pytest.mark.parametrize("data", ["rows.txt", "parts"])
def test_files_of_other_programs_pass_through_every_command(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Text with fields separated by spaces, and a partitioned folder of text, pass through fit, impute, encode, score
    and sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write", blank_page)
    rows = [("NA" if j % 9 == 0 else f"{j % 17}.25", "abc"[j % 3], str(j % 2)) for j in range(90)]
    Path("rows.txt").write_text("x k y\n" + "".join(f"{' '.join(row)}\n" for row in rows))
    for y in "01":
        Path("parts", f"y={y}").mkdir(parents=True)
        inside = "".join(f"{row[1]},{row[0]}\n" for row in rows if row[2] == y)
        Path("parts", f"y={y}", "ü 0.csv").write_text("k,x\n" + inside)
    assert call("fit", data, "--out", "run", "--epochs", 1).status == 0
    assert call("evaluate", "run").status == 0
    given = read_table(data)
    for words in (("impute", "--k", 5), ("reconstruct",), ("score", "--k", 5), ("encode",)):
        said = call(words[0], "run", data, "--out", "out.csv", *words[1:])
        assert said.status == 0 and read_table("out.csv").num_rows == 90, said.err
        if words[0] == "impute":
            filled = read_table("out.csv")
            assert filled.column_names == given.column_names and filled["k"].equals(given["k"])
            old, new = given["x"].to_pylist(), filled["x"].to_pylist()
            assert all(a in (None, b) for a, b in zip(old, new)) and None not in new and filled["y"].equals(given["y"])
    assert call("sample", "run", "-n", 7, "--out", "new.csv").status == 0
    assert set(read_table("new.csv")["y"].to_pylist()) <= {0, 1}
    where = Path(data) / "y=1" / "ü 0.csv" if data == "parts" else Path(data)
    where.write_text(where.read_text() + where.read_text())
    assert "repeats the names of the columns" in (again := call("evaluate", "run")).sentence and again.status == 2


READERS = (
    "compare", "compress", "density", "encode", "evaluate", "explore", "fit", "impute", "reconstruct", "report",
    "schema", "score", "sweep",
)  # fmt: skip


def test_every_command_that_reads_data_has_the_options_of_reading():
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {word for each in command.params for word in each.opts} for name, command in commands.items()}
    wanted = {"--encoding", "--format", "--na", "--size", "--skip-bad", "--pages", "--layer"}
    assert {name for name, own in options.items() if wanted <= own} == set(READERS)
    assert not any(own & wanted for name, own in options.items() if name not in READERS)
    assert set(READING) == {"formats" if word == "--format" else word[2:].replace("-", "_") for word in wanted} | {
        "text", "levels"
    }  # fmt: skip
