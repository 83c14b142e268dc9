"""Capacities: the rate of numbers and the rate of categories are each held at a capacity. Tests compare with sums by
hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from parts import data, trainer
from torch import nn

import latens
from latens import conditionals, models, objectives, priors, recipes
from latens.errors import InputError

NUMBERS, VARIABLES, CATEGORIES = 2, 2, 3


def joint() -> models.VAE:
    """Normal numbers next to categorical variables, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outputs = 2 * NUMBERS + VARIABLES * CATEGORIES
        posterior = conditionals.NormalAndCategoriesPosterior(nn.Linear(3, outputs), NUMBERS, CATEGORIES, 1.0)
        likelihood = conditionals.NormalLikelihood(nn.Linear(NUMBERS + VARIABLES * CATEGORIES, 3), variance=0.5)
        return models.VAE(
            priors.NormalAndCategoriesPrior(NUMBERS, VARIABLES, CATEGORIES), posterior, likelihood
        ).double()


def rates_by_hand(model: models.VAE, x: torch.Tensor) -> np.ndarray:
    """The KL of the numbers and of the categories of each row, ``[2, B]``, one by one in numpy."""
    found = np.zeros((2, len(x)))
    for i, raw in enumerate(model.posterior.network(x).detach().numpy()):
        for m, s in zip(raw[:NUMBERS], raw[NUMBERS : 2 * NUMBERS]):
            v = math.log1p(math.exp(s + math.log(math.expm1(1.0)))) + 1e-8
            found[0, i] += 0.5 * (v + m * m - 1 - math.log(v))
        for logits in raw[2 * NUMBERS :].reshape(VARIABLES, CATEGORIES):
            mass = np.exp(logits) / np.exp(logits).sum()
            found[1, i] += (mass * (np.log(mass) + math.log(CATEGORIES))).sum()
    return found


def test_the_loss_is_that_of_dupont_at_any_weight_of_the_schedule():
    """The loss is distortion + w |rate of numbers - C a| + w |rate of categories - D a|, by hand; a single sum of both
    rates would let one use the other's capacity."""
    model, x = joint(), torch.as_tensor(data(20))
    draw = model.draw(x, 3)
    truth = rates_by_hand(model, x)
    assert draw.rates().detach().numpy() == pytest.approx(np.repeat(truth[:, None], 3, 1), abs=1e-9)
    for kl in ("auto", "sampled"):
        assert draw.rates(kl).sum(0).detach().numpy() == pytest.approx(draw.rate(kl).detach().numpy(), abs=1e-12)
    objective = objectives.RateTargets([2 * truth[0].mean(), 0.5 * truth[1].mean()], weight=5.0, warmup=0.5)
    for anneal in (0.0, 0.25, 1.0):
        objective.anneal.fill_(anneal)
        away = sum(abs(r.mean() - anneal * to) for r, to in zip(truth, objective.targets))
        found = objective.losses(model, x, draw)["model"]
        assert found.item() == pytest.approx(draw.distortion.mean().item() + 5 * away, rel=1e-6)
    with pytest.raises(ValueError, match="argument"):
        objectives.RateTargets([1.0]).losses(model, x, draw)


def test_both_capacities_grow_from_nothing_over_the_first_part_of_training():
    seen = []

    class Watched(objectives.RateTargets):
        def losses(self, model, x, draw):
            loss = super().losses(model, x, draw)
            rates = draw.rates().mean((1, 2)).tolist()
            seen.append(((loss["model"] - draw.distortion.mean()).item(), rates))
            return loss

    model = joint().float()
    trainer(model, data(40), Watched([4.0, 1.0], weight=3.0, warmup=0.5), epochs=5, batch_size=20).run()
    for step, (paid, rates) in enumerate(seen):
        share = min(1.0, (step + 1) / 6)
        assert paid == pytest.approx(3 * (abs(rates[0] - 4 * share) + abs(rates[1] - share)), rel=1e-4)


def test_capacities_are_reached():
    """On points near a line in two equal clusters, both rates converge to their capacities within 0.1 nats."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1)) @ np.array([[1.0, -1.0, 0.5]]) + 4 * rng.integers(0, 2, (400, 1)) + 0.1
    model = joint().float()
    loop = trainer(model, x, objectives.RateTargets([0.7, 0.5], 100.0, 0.3), epochs=200, batch_size=200,
                   learning_rate=0.02).run()  # fmt: skip
    with latens.tensors.randomness.seeded(0), torch.no_grad():
        rates = loop.model.draw(torch.as_tensor(x, dtype=torch.float32)).rates().mean((1, 2))
    assert rates.tolist() == pytest.approx([0.7, 0.5], abs=0.1)


def test_categories_cannot_be_asked_to_hold_more_than_they_can():
    x = torch.as_tensor(data(40), dtype=torch.float32)
    info = latens.recipes.choices.DataInfo(latens.data.infer(x.numpy()), 40, x)
    _, objective = recipes.Recipe("joint_capacity_vae", variables=2, categories=5, capacity=3.0).build(info)
    assert objective.targets == pytest.approx((3.0, 2 * math.log(5)))
    for wrong in (3.3, -0.1, "most"):
        with pytest.raises(InputError, match=r"ln categories = 3\.219"):
            recipes.Recipe("joint_capacity_vae", variables=2, categories=5, category_capacity=wrong).build(info)
    with pytest.raises(InputError, match="target rate"):
        recipes.Recipe("joint_capacity_vae", capacity=-1.0).build(info)
