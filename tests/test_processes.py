"""Two processes give the update of one on the joint batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jointly
import pytest
import torch
from killing import outcome
from parts import assert_same
from torch import Tensor

import latens
from latens.training import Processes
from latens.training.checkpoint import state_of, unpack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """The folder that two processes worked in, and what each printed."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(latens.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "ACCELERATE_USE_CPU": "1", "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    script = Path(jointly.__file__)
    processes = [
        subprocess.Popen([sys.executable, script, folder], env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        for rank in (0, 1)
    ]
    try:
        printed = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    yield folder, printed


def state(folder: Path, case: str, rank: int) -> dict[str, Tensor]:
    return unpack(folder / f"{case}.{rank}.safetensors", None)


@pytest.mark.parametrize(("name", "dtype"), jointly.table(), ids=[jointly.slug(*case) for case in jointly.table()])
def test_two_processes_give_the_update_of_one_on_the_joint_batch(name: str, dtype: torch.dtype, two: tuple[Path, list[str]], tmp_path: Path):
    folder, _ = two
    case = jointly.slug(name, dtype)
    first, second = (state(folder, case, rank) for rank in (0, 1))
    assert_same(first, second)
    alone = jointly.run(name, dtype, tmp_path / case)
    assert first.keys() == alone["model"].keys()
    before = state_of(jointly.start(name, dtype))
    for key, tensor in alone["model"].items():
        assert torch.allclose(first[key], tensor, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-12), key
    assert max(float((first[key] - before[key]).abs().max()) for key in before) > 1e-3  # it did learn something
    history = latens.run.read_metrics(folder / case, None)
    for one, other in zip(history, alone["history"], strict=True):
        assert one.keys() - {"seconds"} >= {k for k in other if k != "seconds"}
        for key in other.keys() - {"seconds"}:
            assert one[key] == pytest.approx(other[key], rel=1e-4 if dtype == torch.float32 else 1e-9), key


def test_only_the_main_process_writes_the_folder_and_one_process_can_read_it(two: tuple[Path, list[str]]):
    folder, _ = two
    case = jointly.slug("averaged, clipped, annealed", torch.float32)
    found = outcome(folder / case)
    assert found["record"]["status"] == "finished"
    assert sorted(path.name for path in (folder / case).iterdir()) == ["checkpoint", "metrics.csv", "model.safetensors", "run.json"]
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
