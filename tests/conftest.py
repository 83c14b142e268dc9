"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_for_laws(request: pytest.FixtureRequest) -> Iterator[None]:
    """The laws work on small tensors: a second thread costs more than it gives, tenfold on a busy machine."""
    before = torch.get_num_threads()
    if request.path.name.startswith("test_laws"):
        torch.set_num_threads(1)
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tests that train: the same reason."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
