"""Fixtures and settings that all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# If this process ignores Ctrl-C (nohup, a background job), the processes that it starts would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread_for_laws(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of laws run on one thread: for small tensors a second one costs more than it gains, tenfold on a busy
    machine."""
    before = torch.get_num_threads()
    if request.path.name.startswith("test_laws"):
        torch.set_num_threads(1)
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run a test that trains on one thread, for the same reason."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad data and small fitted runs, for tests of the command line; see commanding.py."""
    import commanding

    folder = tmp_path_factory.mktemp("place")
    commanding.furnish(folder)
    return folder


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``place``, as the working directory."""
    monkeypatch.chdir(place)
    return place
