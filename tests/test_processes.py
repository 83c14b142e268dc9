"""Two processes make the same update as one process on the joint batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jointly
import pytest
import torch
from killing import outcome
from parts import assert_same, timeless
from torch import Tensor

import latens
from latens.cli.main import main
from latens.data.loader import ArrayLoader
from latens.data.streams.loader import StreamLoader
from latens.data.transforms import dequantize
from latens.machine import launcher
from latens.training import Processes
from latens.training.checkpoint import loads, state_of, unpack

pytestmark = pytest.mark.usefixtures("one_thread")


def in_two_processes(*words: str | Path) -> list[tuple[int, str, str]]:
    """(exit status, standard output, standard error) of each of two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(latens.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "ACCELERATE_USE_CPU": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        printed = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, printed)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder that two processes worked in, and what each printed."""
    folder = tmp_path_factory.mktemp("two")
    jointly.write_data(folder)
    ended = in_two_processes(jointly.__file__, folder, "all")
    assert [status for status, *_ in ended] == [0, 0], ended
    return folder, [out for _, out, _ in ended]


class Cut:
    """Rows in blocks of four."""

    def __init__(self, x: Tensor):
        self.parts, self.rows = x.split(4), len(x)
        self.sizes = [len(part) for part in self.parts]

    def read(self, block: int) -> tuple[Tensor, None]:
        return self.parts[block].clone(), None


def state(folder: Path, case: str, rank: int) -> dict[str, Tensor]:
    return unpack(folder / f"{case}.{rank}.safetensors", None)


@pytest.mark.parametrize(("name", "dtype"), jointly.table(), ids=[jointly.slug(*case) for case in jointly.table()])
def test_two_processes_give_the_update_of_one_on_the_joint_batch(
    name: str, dtype: torch.dtype, two: tuple[Path, list[str]]
):
    folder, _ = two
    case = jointly.slug(name, dtype)
    first, second = (state(folder, case, rank) for rank in (0, 1))
    assert_same(first, second)
    alone = jointly.run(name, dtype, None)
    assert first.keys() == alone["model"].keys()
    before = state_of(jointly.start(name, dtype))
    for key, tensor in alone["model"].items():
        assert torch.allclose(first[key], tensor, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-12), key
    assert max(float((first[key] - before[key]).abs().max()) for key in before) > 1e-3  # it learned something
    histories = [timeless(loads((folder / f"{case}.{rank}.json").read_text())) for rank in (0, 1)]
    assert histories[0] == histories[1]
    for one, other in zip(histories[0], timeless(alone["history"]), strict=True):
        assert one == pytest.approx(other, rel=1e-4 if dtype == torch.float32 else 1e-9)


def test_only_the_main_process_writes_the_folder_and_one_process_can_read_it(two: tuple[Path, list[str]]):
    folder, _ = two
    case = jointly.KEPT
    found = outcome(folder / case)
    assert found["record"]["status"] == "finished"
    names = ["checkpoint", "metrics.csv", "model.safetensors", "report.html", "run.json"]
    assert sorted(path.name for path in (folder / case).iterdir()) == names
    assert len(list((folder / case / "checkpoint").iterdir())) == 2
    model = jointly.vae()
    latens.load(folder / case, model=model)
    own = state(folder, case, 1)
    assert_same({n: t for n, t in own.items() if not n.startswith("objective.")}, state_of(model))


def test_failures_stop_both_processes_with_a_sentence(two: tuple[Path, list[str]]):
    _, printed = two
    lines = [[line for line in text.splitlines() if line.startswith(("refused", "failed"))] for text in printed]
    assert "already holds a run" in lines[0][0] and "the main process stopped" in lines[1][0]
    for mine in lines:
        assert "batch_size 1 cannot be split over 2 processes" in mine[1]
        assert "for row 31 " in mine[2] and "distortion" in mine[2]


@pytest.mark.parametrize("name", jointly.FITS)
def test_two_processes_learn_what_one_learns_from_files(name: str, two: tuple[Path, list[str]], tmp_path: Path):
    folder, _ = two
    assert jointly.fit(folder, name, tmp_path / "alone") == 0
    joint, alone = (unpack(place / "model.safetensors", None) for place in (folder / name, tmp_path / "alone"))
    assert joint.keys() == alone.keys()
    for key, tensor in alone.items():
        assert torch.allclose(joint[key], tensor, rtol=0, atol=1e-5), key


def test_a_killed_process_ends_the_run_and_the_same_command_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    jointly.write_data(tmp_path)
    (status, _, said), (killed, *_) = in_two_processes(jointly.__file__, tmp_path, "die")
    assert (status, killed) == (1, -9) and "another process of this run has ended" in said and "--resume" in said
    run = tmp_path / "died"
    assert latens.runs.record.read_record(run)["status"] != "finished" and (run / "checkpoint" / "state.json").exists()
    assert jointly.fit(tmp_path, "gaps", run, "--checkpoint-seconds", "0") == 2  # a command outside a launcher refuses
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert jointly.fit(tmp_path, "gaps", run, "--checkpoint-seconds", "0", "--beta", "2") == 2  # another run
    assert "already holds a run" in capsys.readouterr().err
    assert jointly.fit(tmp_path, "gaps", run, "--checkpoint-seconds", "0") == 0
    assert jointly.fit(tmp_path, "gaps", tmp_path / "alone") == 0
    first, alone = (unpack(place / "model.safetensors", None) for place in (run, tmp_path / "alone"))
    assert all(torch.allclose(first[key], tensor, rtol=0, atol=1e-5) for key, tensor in alone.items())


LAUNCHERS: dict[str, tuple[dict[str, str], tuple[int, bool, str | None]]] = {
    "none": ({}, (1, True, None)),
    "torchrun": ({"WORLD_SIZE": "2", "RANK": "1"}, (2, False, None)),
    "mpirun": ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"}, (3, True, None)),
    "mpirun under torchrun": ({"WORLD_SIZE": "1", "RANK": "0", "PMI_SIZE": "2"}, (1, True, "mpirun started 2")),
    "srun": ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}, (1, True, "srun started 4 processes")),
    "a batch script": ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, (1, True, None)),
    "accelerate for one": ({"ACCELERATE_MIXED_PRECISION": "no"}, (1, True, None)),
    "accelerate for two": ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, (1, True, "accelerate")),
}  # fmt: skip


@pytest.mark.parametrize("case", LAUNCHERS)
def test_environments_of_launchers_are_recognised(case: str, monkeypatch: pytest.MonkeyPatch):
    given, (count, first, said) = LAUNCHERS[case]
    for name in (*launcher.SIZE, *launcher.RANK, "MASTER_ADDR", "SLURM_STEP_NUM_TASKS", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (launcher.launched(), launcher.is_first()) == (count, first)
    found = launcher.meant_more()
    assert found is None if said is None else found is not None and said in found and "torchrun --nproc" in found


def test_only_fit_runs_in_several_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for rank, count, wanted in (("1", "2", ("", "")), ("0", "2", ("vae", "one of the 2 processes"))):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", count)
        assert main(["recipes"]) == 0
        printed = capsys.readouterr()
        assert all(words in text for words, text in zip(wanted, printed)) and bool(printed.out) == bool(wanted[0])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_shares_of_a_batch_are_its_rows(streamed: bool, shuffle: bool):
    x = torch.arange(48.0).reshape(24, 2)
    options: dict[str, Any] = {"batch_size": 7, "seed": 2, "shuffle": shuffle, "transform": dequantize}
    few = {"window": 2, "window_rows": 1, "workers": 0}
    loader = StreamLoader(Cut(x), **few, **options) if streamed else ArrayLoader(x, **options)
    processes = Processes("cpu")
    for start in (0, 1):
        shared = []
        for processes.count, processes.index in ((3, 0), (3, 1), (3, 2)):
            shared.append(list(loader.batches(1, start, processes.share)))
        joint = list(loader.batches(1, start))
        assert [len(each) for each in shared] == [len(joint)] * 3
        for batch, parts in zip(joint, zip(*shared)):
            assert {part.total for part in parts} == {len(batch.rows)}
            for name in ("x", "rows", "numbers"):
                assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.slow
def test_the_command_line_in_two_processes_answers_once(tmp_path: Path):
    out = tmp_path / "run"
    words = ["-m", "latens", "fit", "digits", "--latent-dim", "2", "--epochs", "1", "--device", "cpu", "--out"]
    (status, printed, _), (other, nothing, whispered) = in_two_processes(*words, out)
    assert (status, other) == (0, 0) and "ELBO" in printed and nothing == "" and "data:" not in whispered
    assert latens.runs.record.read_record(out)["status"] == "finished" and (out / "report.html").exists()
    refused = in_two_processes(*words, out)
    assert [status for status, *_ in refused] == [2, 2]
    assert "already holds a run" in refused[0][2] and "the main process stopped" in refused[1][2]


def test_the_shares_of_a_joint_batch_are_a_partition():
    processes = Processes("cpu")
    for count in (1, 2, 3, 5):
        for total in range(count, 20):
            rows: list[int] = []
            for index in range(count):
                processes.count, processes.index = count, index
                share = processes.share(total)
                assert share.stop - share.start >= total // count
                rows += range(total)[share]
            assert rows == list(range(total))
