"""Runs from somebody else: what their folders may consist of, and what their files may contain."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import blank_page, call, done, refused

import latens
from latens.errors import InputError
from latens.machine.atomic import write_text
from latens.machine.folder import Folder, Part
from latens.runs.record import FOLDERS, PARTS
from latens.training.checkpoint import digest, sealed, unseal

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a density of its codes, and a file of a few rows."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{rng.choice(list('xyz'))}" for _ in range(40)]
    (folder / "rows.csv").write_text("\n".join(["size,kind", *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latens.report.write", blank_page)
        fit = ("--epochs", 2, "--latent-dim", 1, "--validation", 0.25)
        done("fit", folder / "rows.csv", "--out", folder / "run", *fit)
        done("density", folder / "run", "--kind", "kde")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in the working directory."""
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copy(made / "rows.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("run")


USES: dict[str, tuple[object, ...]] = {
    "resume": ("fit", "--resume", "run"), "report": ("report", "run"), "evaluate": ("evaluate", "run", "--k", 2),
    "sample": ("sample", "run", "-n", 2, "--out", "out.csv"), "density": ("density", "run", "--kind", "kde"),
    "explore": ("explore", "run", "rows.csv", "--no-open"),
    **{name: (name, "run", "rows.csv", "--out", "out.csv") for name in ("encode", "score", "impute", "reconstruct")},
}  # fmt: skip


def link(path: Path) -> None:
    shutil.move(path, "elsewhere")
    os.symlink(Path("elsewhere").absolute(), path)


def device(path: Path) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)
    os.symlink("/dev/zero", path)


def pipe(path: Path) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)
    os.mkfifo(path)


def listening(path: Path) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(path))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("attack", [link, device, pipe, listening])
def test_a_link_or_special_file_is_neither_read_nor_written(attack: Callable[..., None], use: str, run: Path) -> None:
    for name in (*PARTS, *FOLDERS):
        shutil.copytree(run, "kept", dirs_exist_ok=True)
        if name.endswith(".html") and not (run / name).exists():
            (run / name).write_text("")
        if name in FOLDERS:
            (run / name).mkdir(exist_ok=True)
        attack(run / name)
        outside = Path("elsewhere")
        before = outside.read_bytes() if outside.is_file() else None
        result = call(*USES[use])
        assert result.status == 2 and f"{name} is a" in result.sentence, (name, result)
        assert result.err.count("latens: ") == 1 and not Path("out.csv").exists()
        assert before is None or outside.read_bytes() == before
        shutil.rmtree(run)
        shutil.move("kept", run)
        shutil.rmtree(outside) if outside.is_dir() else outside.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["explore.html", "report.html"])
def test_a_page_is_not_written_through_a_link(name: str, run: Path) -> None:
    Path("aim").write_text("mine")
    (run / name).unlink(missing_ok=True)
    os.symlink(Path("aim").absolute(), run / name)
    words = ("explore", "run", "rows.csv", "--no-open") if name == "explore.html" else ("report", "run")
    assert f"{name} is a link" in refused(*words) and Path("aim").read_text() == "mine"


def test_the_folder_itself_may_be_a_link_and_so_may_an_output(run: Path) -> None:
    os.symlink("run", "other")
    Path("aim.csv").write_text("")
    os.symlink("aim.csv", "out.csv")
    done("encode", "other", "rows.csv", "--out", "out.csv")
    assert os.path.islink("out.csv") and Path("aim.csv").read_text().startswith("z")


def test_a_part_replaced_between_look_and_opening_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run.json").write_text("{}")

    def late(self: Part, place: int | None) -> None:
        (tmp_path / "run.json").unlink()
        os.symlink(tmp_path / "secret", tmp_path / "run.json")

    monkeypatch.setattr(Part, "require_plain", late)
    with pytest.raises(OSError, match=r"run\.json"):
        (Folder(tmp_path) / "run.json").read()


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_parts_of_a_folder_work_with_and_without_its_descriptor(
    has_descriptors: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latens.machine.folder._BY_DESCRIPTOR", has_descriptors)
    inner = Folder(tmp_path).inside("inner")
    assert inner.parts() == [] and not (inner / "a.txt").exists()
    inner.make()
    write_text(inner / "a.txt", "one")
    assert (inner / "a.txt").read() == b"one" and [part.name for part in inner.parts("a*")] == ["a.txt"]
    with pytest.raises(InputError, match="has 3 bytes, more than 2"):
        (inner / "a.txt").read(2)
    os.symlink(tmp_path / "inner" / "a.txt", tmp_path / "inner" / "b.txt")
    os.symlink(tmp_path / "inner", tmp_path / "linked")
    for broken in (inner / "b.txt", Folder(tmp_path).inside("linked") / "a.txt"):
        with pytest.raises(InputError, match="is a link: remove it"):
            broken.read()
        with pytest.raises(InputError, match="is a link: remove it"):
            write_text(broken, "two")
    assert (inner / "a.txt").read() == b"one"
    for name in ("../a.txt", "/etc/passwd", "..", "", "a\0b"):
        with pytest.raises(InputError, match="is not the name of a file or folder in"):
            inner / name
    (inner / "b.txt").remove()
    (inner / "a.txt").remove()
    inner.remove()
    assert not (tmp_path / "inner").exists()


# The files that may call open: everywhere else, whatever is opened is a Part.
OPENERS = {
    "machine/folder.py", "machine/atomic.py",  # the mechanism
    "machine/processor.py", "machine/compiler.py",  # files of the system and the compiler's cache
}  # fmt: skip
LAYERS = ("machine", "training", "densities", "runs", "report", "api", "cli")
OPENING = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "iterdir", "rmtree", "touch", "memmap",
}  # fmt: skip
# not files of a run: files that the user names, figures of the system, latens' assets, a browser, exports, parts of an
# output, and a new folder for a download
NAMED = {
    ("cli/commands/fitting.py", "read_text"), ("cli/main.py", "open"), ("machine/memory.py", "read_text"),
    ("report/explore/graph.py", "read_text"), ("report/explore/page.py", "read_text"),
    ("cli/commands/exploring.py", "open"), ("runs/export/writing.py", "read_text"),
    ("cli/commands/compressing.py", "read_bytes"), ("cli/commands/compressing.py", "open"),
    ("cli/commands/engines.py", "open"),
    ("cli/commands/gathering.py", "open"), ("runs/sharing.py", "iterdir"),
    *(("runs/export/writing.py", name) for name in ("write_text", "write_bytes", "iterdir", "rmtree")),
}  # fmt: skip


def test_files_of_runs_are_opened_in_one_place() -> None:
    root, found = Path(latens.__file__).parent, set()
    for path in (path for layer in LAYERS for path in (root / layer).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and name not in OPENERS:
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                is_own = isinstance(node.func, ast.Name) and called in ("write_text", "write_bytes")  # of atomic
                if called in OPENING and not is_own:
                    found.add((name, called))
    assert found <= NAMED, found - NAMED


# The contents of the files


def record(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        found = unseal(run / "run.json", "")
        change(found)
        (run / "run.json").write_text(sealed(found))

    return write


def weights(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        data = content((run / "model.safetensors").read_bytes())
        (run / "model.safetensors").write_bytes(data)
        record(lambda found: found["files"].update({"model.safetensors": digest(data)}))(run)

    return write


def metrics(content: bytes) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        (run / "metrics.csv").write_bytes(content)
        record(lambda found: found["files"].update({"metrics.csv": digest(content)}))(run)

    return write


def sparse(name: str) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        with open(run / name, "wb") as file:
            file.truncate(2**42)

    return write


def text(content: str) -> Callable[[Path], None]:
    return lambda run: (run / "run.json").write_text(content) and None


HEADER = b'{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}'
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a huge code": (record(lambda r: r["recipe"]["options"].update(latent_dim=10**12)), "latent_dim must be"),
    "a large code": (record(lambda r: r["recipe"]["options"].update(latent_dim=65_536)), "needs a tensor of"),
    "a module": (record(lambda r: r["recipe"].update(name="os:system")), "latens never runs code"),
    "a path": (record(lambda r: r["recipe"].update(name="../x")), "unknown recipe"),
    "negative rows": (record(lambda r: r.update(rows=-5)), "no valid entry 'rows'"),
    "no schema": (record(lambda r: r.pop("schema")), "no valid entry 'schema'"),
    "no recipe": (record(lambda r: r.pop("recipe")), "no valid entry 'recipe'"),
    "a column twice": (record(lambda r: r["schema"]["table"].append(r["schema"]["table"][0])), "two columns called"),
    "an option of reading": (record(lambda r: r["data"].update(reading=3)), "entry data.reading"),
    "weights of a number": (record(lambda r: r["data"].update(weights=3)), "entry data.weights"),
    "a header of 2^60 bytes": (weights(lambda w: struct.pack("<Q", 2**60) + w[8:]), "not a complete safetensors"),
    "a shape of 10^12": (weights(lambda w: struct.pack("<Q", len(HEADER)) + HEADER), "not a complete safetensors"),
    "weights that are no numbers": (
        weights(lambda w: w[: (at := 8 + int.from_bytes(w[:8], "little"))] + b"\xff" * (len(w) - at)),
        "values that are not finite",
    ),
    "a sparse file of weights": (sparse("model.safetensors"), "bytes, more than"),
    "a sparse record": (sparse("run.json"), "bytes, more than"),
    "deep nesting": (text("[" * 10**6), "not valid JSON"),
    "a long number": (text('{"checksum": ' + "9" * 10**5 + "}"), "not valid JSON"),
    "metrics that are bytes": (metrics(b"\xff\xfe"), "damaged (UnicodeDecodeError"),
    "metrics that are words": (metrics(b"step,epoch\n1,x\n"), "could not convert"),
    "metrics with more cells": (metrics(b"step\n1,2,3\n"), "damaged (TypeError"),
}  # fmt: skip


def test_a_foreign_density_whose_codes_are_not_numbers_is_refused(run: Path) -> None:
    record_of = run / "densities" / "kde.json"
    found = unseal(record_of, "")
    path = run / "densities" / found["tensors"]
    data = path.read_bytes()
    at = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:at] + b"\xff" * (len(data) - at))
    record_of.write_text(sealed(found | {"sha256": digest(path.read_bytes())}))
    assert "kde.json" in refused("sample", "run", "-n", 3, "--density", "kde", "--out", "out.csv")


@pytest.mark.parametrize("case", HOSTILE)
def test_invalid_contents_of_a_foreign_run_are_refused_in_a_sentence(case: str, run: Path) -> None:
    change, words = HOSTILE[case]
    change(run)
    result = call(*USES["sample"])
    assert result.status == 2 and words in result.sentence and len(result.sentence) < 1500, result
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "change",
    [{"epoch": None}, {"step": -5}, {"history": [1]}, {"history": {}}, {"sums": [0.0]}, {"best": []}, {"finished": 2},
     {"tensors": "../x"}], ids=str,
)  # fmt: skip
def test_a_foreign_checkpoint_is_refused_in_a_sentence(change: dict[str, Any], run: Path) -> None:
    record(lambda found: found.update(status="running", files={}))(run)
    state = run / "checkpoint" / "state.json"
    state.write_text(sealed(unseal(state, "") | change))
    result = call(*USES["resume"])
    assert result.status == 2 and len(result.sentence) < 1000, result


ASKED = {"data": "rows.csv", "out": "many"}


@pytest.mark.parametrize(
    "asked",
    [None, [], {"x": 1}, {"data": 3}, {"settings": 3}, {"settings": {"seed": "x"}}, {"options": 3}, {"reading": 3},
     {"recipe": 3}, {"drop": 3}], ids=str,
)  # fmt: skip
def test_a_foreign_request_is_refused_in_a_sentence(asked: Any, run: Path) -> None:
    Path("many").mkdir()
    given = ASKED | asked if isinstance(asked, dict) else asked
    Path("many/seeds.json").write_text(sealed({"format": 1, "asked": given, "seeds": 2}))
    result = call("fit", "--resume", "many")
    assert result.status == 2 and "many" in result.sentence, result


def test_numbers_of_seeds_and_grids_are_bounded_and_stay_in_the_folder(run: Path) -> None:
    Path("many").mkdir()
    for seeds in (10**12, -1, "a", None):
        Path("many/seeds.json").write_text(sealed({"format": 1, "asked": ASKED, "seeds": seeds}))
        assert "seeds must be a whole number" in call("evaluate", "many").sentence
    Path("many/seeds.json").unlink()
    for grid in ({"../../evil": [1]}, {"beta": ["/../../evil"]}, {"beta": [1.0] * 10**5}, {"beta": 3}, 3, None):
        asked = {"format": 1, "asked": ASKED, "seeds": 1, "nll": False, "grid": grid}
        Path("many/sweep.json").write_text(sealed(asked))
        result = call("sweep", "--resume", "many")
        assert result.status == 2 and os.listdir("many") == ["sweep.json"] and not Path("../evil").exists(), result


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links")
def test_runs_of_several_seeds_are_not_linked(run: Path) -> None:
    Path("many").mkdir()
    Path("many/seeds.json").write_text(sealed({"format": 1, "asked": ASKED, "seeds": 1}))
    os.symlink(run.absolute(), "many/seed-0")
    for words in (("fit", "--resume", "many"), ("evaluate", "many")):
        assert "seed-0 is a link" in call(*words).sentence


def test_names_cannot_control_the_terminal_or_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, level = "\x1b[31m<script>alert(1)</script>", "\x1b]0;title\x07<img src=x>"
    lines = [f"{j % 7}.{j % 5},{('b', level)[j % 2]}" for j in range(40)]
    Path("rows.csv").write_text("\n".join([f"{name},kind", *lines]) + "\n")
    fit = done("fit", "rows.csv", "--out", "run", "--epochs", 1)
    away = call("encode", "run", "gone.csv", "--out", "out.csv")
    Path("other.csv").write_text("a\n1\n")
    other = call("encode", "run", "other.csv", "--out", "out.csv")
    said = [fit.out, fit.err, away.err, other.err, done("schema", "rows.csv").out]
    assert not any("\x1b" in text or "\x07" in text for text in said) and "\\x1b[31m" in other.err
    page = Path("run/report.html").read_text()
    assert "<script>" not in page and "<img src=x" not in page and "alert(1)" in page


# Stopped after the last step


@pytest.mark.parametrize(
    "where", ["latens.evaluation.evaluate", "latens.runs.scoring.calibrate", "latens.report.write"]
)
def test_a_run_stopped_after_the_last_step_names_the_command_that_completes_it(
    where: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latens.report.write", blank_page)
    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        words = ("--out", "new", "--epochs", 1, "--validation", 0.25)
        result = call("fit", made / "rows.csv", *words)
        assert result.status == 130
        assert result.sentence == "interrupted, all steps are saved: continue with `latens fit --resume new`"
        assert call("fit", "--resume", "new").sentence == result.sentence
    done("fit", "--resume", "new")
    assert Path("new/report.html").exists()
