"""A small step uses one thread, and other code has its threads back afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import latens
from latens.training.threads import is_small, threads_for


class Watched(nn.Module):
    """A model that records the number of threads in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def after_step(self, observed: None) -> None:
        self.seen.add(torch.get_num_threads())


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("hidden, threads", [(8, 1), (3000, 2)])
def test_a_step_has_the_threads_that_its_size_asks_for(hidden: int, threads: int, two_threads: None):
    body = nn.Sequential(nn.Linear(40, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    model = latens.models.VAE(
        latens.priors.StandardNormal(2), latens.conditionals.DiagonalNormalPosterior(body),
        latens.conditionals.NormalLikelihood(nn.Linear(2, 40)),
    )  # fmt: skip
    model.watched = Watched()
    rows = torch.randn(400, 40, generator=torch.Generator().manual_seed(0))
    latens.train(model, latens.objectives.ELBO(), rows, epochs=1, batch_size=400, validation=0)
    assert model.watched.seen == {threads} and torch.get_num_threads() == 2


def test_threads_that_spin_are_left_alone(two_threads: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    with threads_for(nn.Linear(2, 2), latens.training.Settings(batch_size=4)):
        assert torch.get_num_threads() == 2


def test_the_size_is_counted_in_rows_and_weights():
    layer = nn.Linear(100, 100, bias=False)
    assert is_small(layer, 4000) and not is_small(layer, 4001)
    assert not is_small(nn.Conv1d(1, 1, 3), 1)


def test_a_run_that_fails_restores_the_threads(two_threads: None):
    model = latens.models.VAE(
        latens.priors.StandardNormal(2), latens.conditionals.DiagonalNormalPosterior(nn.Linear(3, 4)),
        latens.conditionals.NormalLikelihood(nn.Linear(2, 3)),
    )  # fmt: skip
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(latens.errors.FitError):
        latens.train(model, latens.objectives.ELBO(), torch.randn(20, 3), epochs=1)
    assert torch.get_num_threads() == 2
