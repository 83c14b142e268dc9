"""Fixtures and settings that all tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

# If this process ignores Ctrl-C (nohup, a background job), the processes that it starts would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes that tests start keep the compiled modules: compiling latens anew takes each of them a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Test files that look at the charts of a report.
CHARTS = {"test_report.py", "test_plot.py", "test_many.py", "test_foreign_runs.py"}


def pytest_collection_finish() -> None:
    """Keep what collection made (modules, thousands of tests) out of later garbage collections."""
    gc.collect()
    gc.freeze()


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


@contextmanager
def undrawn() -> Iterator[None]:
    """Reports have blank charts: drawing them takes longer than a small fit with its evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latens.report.figures.Graphic.__str__", lambda self: "<svg></svg>")
        yield


@pytest.fixture(autouse=True, scope="module")
def blank_charts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only the reports of test files in CHARTS have charts."""
    with nullcontext() if request.path.name in CHARTS else undrawn():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run a test that trains a model on one thread, for the reason given in ``one_thread_for_laws``."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad data and small fitted runs, for tests of the command line; see commanding.py."""
    import commanding

    folder = tmp_path_factory.mktemp("place")
    with undrawn():
        commanding.furnish(folder)
    return folder


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``place``, as the working directory."""
    monkeypatch.chdir(place)
    return place
