"""Two processes give the update of one on the joint batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jointly
import pytest
import torch
from killing import outcome
from parts import assert_same, timeless
from torch import Tensor

import latens
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
        printed = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, printed)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder that two processes worked in, and what each printed."""
    folder = tmp_path_factory.mktemp("two")
    ended = in_two_processes(jointly.__file__, folder)
    assert [status for status, *_ in ended] == [0, 0], ended
    return folder, [out for _, out, _ in ended]


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
    assert max(float((first[key] - before[key]).abs().max()) for key in before) > 1e-3  # it did learn something
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
