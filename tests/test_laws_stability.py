"""Laws that keep deep stacks of layers stable: norms of their maps equal those of an SVD, and activations keep their
size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from parts import data
from torch import nn

import latens
from latens import objectives, recipes
from latens.data import infer
from latens.errors import InputError
from latens.objectives.spectral import largest_singular_values
from latens.recipes import choices


@pytest.mark.parametrize("shape", [(7, 7), (20, 5), (5, 20), (1, 9), (9, 1), (64, 64)])
def test_the_largest_singular_value_agrees_with_the_svd(shape: tuple[int, int]):
    """For random matrices, whose first two singular values are close, the estimate is never too large, at most a tenth
    too small, and right to 1e-4 after 2,000 rounds. If the second value is a fifth smaller, the estimate is right to
    1e-4 after 60 rounds, and the gradient is u v^T."""
    torch.manual_seed(0)
    matrices = torch.randn(30, *shape, dtype=torch.float64)
    truth = torch.linalg.svdvals(matrices)[:, 0]
    found = largest_singular_values(matrices)
    assert (found <= truth * (1 + 1e-12)).all() and (found > 0.9 * truth).all()
    assert largest_singular_values(matrices, 2000).numpy() == pytest.approx(truth.numpy(), rel=1e-4)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s[:, 1:] *= (
        (0.8 * s[:, 0] / s[:, 1:].max(1).values.clamp_min(1e-9)).clamp_max(1).unsqueeze(1) if min(shape) > 1 else 1
    )
    apart = (u @ torch.diag_embed(s) @ vh).requires_grad_()
    found = largest_singular_values(apart, 60)
    assert found.detach().numpy() == pytest.approx(s[:, 0].numpy(), rel=1e-4)
    [gradient] = torch.autograd.grad(found.sum(), apart)
    outer = u[:, :, :1] @ vh[:, :1]
    assert (gradient - outer).norm(dim=(1, 2)).max() < 0.02


def test_the_penalty_is_the_sum_over_all_maps_and_shrinks_them():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.Conv2d(2, 3, 3), nn.LayerNorm(3), nn.Linear(6, 4), nn.Conv1d(2, 5, 1)
    ).double()
    weights = [p for p in net.parameters() if p.dim() > 1]
    truth = sum(torch.linalg.svdvals(w.flatten(1))[0].item() for w in weights)
    penalty = objectives.SpectralNorms(rounds=200)
    found = penalty(net, None, None)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(truth, rel=1e-6)
    step = torch.autograd.grad(found, weights)
    with torch.no_grad():
        for weight, gradient in zip(weights, step):
            before = torch.linalg.svdvals(weight.flatten(1))[0].item()
            after = torch.linalg.svdvals((weight - 1e-3 * gradient).flatten(1))[0].item()
            assert before - after == pytest.approx(1e-3, rel=0.05)


def test_the_recipe_pays_for_singular_values():
    x = torch.as_tensor(data(20), dtype=torch.float32)
    info = choices.DataInfo(infer(x.numpy()), 20, x)
    found = []
    for spectral in (0.0, 0.3):
        torch.manual_seed(0)
        model, objective = recipes.Recipe("deep_ladder", spectral=spectral, network="mlp").build(info)
        with latens.tensors.randomness.seeded(1):
            found.append(objective.losses(model, x, objective.draw(model, x))["model"].item())
    maps = [m for m in model.modules() if isinstance(m, nn.Linear)]
    truth = sum(torch.linalg.svdvals(m.weight.detach().double())[0].item() for m in maps)
    assert len(maps) > 20 and 0.95 * truth < (found[1] - found[0]) / 0.3 < truth
    with pytest.raises(InputError, match="spectral"):
        recipes.Recipe("deep_ladder", spectral=-1.0).build(info)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_last_state_keeps_its_size_however_many_layers_add_to_it(network: str):
    """Before training, the mean square of the last state under the prior is about the same for 4 layers as for 100 or
    more. If the weights of residual layers were not divided by sqrt(depth), it would grow at least with the number of
    layers (here at least fourfold)."""
    x = np.random.default_rng(0).integers(0, 9, (40, 8, 8)).astype("uint8")
    schema = infer(x)
    inside = torch.as_tensor(schema.to_model(x))
    found = []
    for depth in (1, 25):
        torch.manual_seed(0)
        info = choices.DataInfo(schema, 40, inside)
        model, objective = recipes.Recipe("deep_ladder", depth=depth, network=network).build(info)
        with torch.no_grad(), latens.tensors.randomness.seeded(1):
            h = model._descend((1, 200), lambda _, p: p.loc + p.variance.sqrt() * torch.randn(p.loc.shape))[0]
            up = model.upward(inside)
            loss = objective.losses(model, inside, objective.draw(model, inside))["model"].item()
        found.append((h.square().mean().item(), max(d.square().mean().item() for d in up), loss))
    shallow, deep = found
    assert len(model.rungs) == 100 and all(math.isfinite(value) for each in found for value in each)
    assert 0.1 < deep[0] < 2 and deep[0] < 3 * shallow[0]
    assert deep[1] < 3 * shallow[1]
