"""Linear maps through oneDNN: torch's numbers to rounding, forward, backward, twice backward, captured and batched."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from latens.networks import Linear, mlp, only_linear_maps
from latens.networks.linear import LARGE, has_onednn

SHAPES = {"small": ((5,), 6, 4), "large": ((128,), 300, 200), "more axes": ((3, 50), 200, 300), "no rows": ((0,), 6, 4)}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_numbers_are_those_of_torch(name: str, bias: bool, dtype: torch.dtype):
    """Values, gradients and gradients of gradients, relative to the largest, held against torch's in float64."""
    lead, inputs, outputs = SHAPES[name]
    torch.manual_seed(0)
    ours = Linear(inputs, outputs, bias=bias, dtype=dtype)
    plain = nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(*lead, inputs, dtype=dtype)
    found = []
    for layer, data in ((ours, x), (plain, x.double())):
        data.requires_grad_()
        values = layer(data)
        first = torch.autograd.grad(values.square().sum(), [data, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [data, *layer.parameters()])
        found.append([values, *first, *second])
    for a, b in zip(*found, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        assert a.shape == b.shape and (a.double() - b).abs().amax() <= tolerance * b.abs().amax() if b.numel() else True


def test_large_products_take_the_other_way_and_small_ones_do_not(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr("latens.networks.linear.product", lambda x, w: seen.append(len(x)) or linear(x, w))
    layer = Linear(256, 128)
    layer(torch.zeros(LARGE // (256 * 128), 256))
    layer(torch.zeros(LARGE // (256 * 128) - 1, 256))
    assert seen == ([128] if has_onednn() else [])


def test_it_is_captured_and_batched():
    torch.manual_seed(0)
    net, x = mlp(300, 200, (256,)), torch.randn(128, 300)
    captured = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(captured(x), net(x), atol=1e-6)
    layer = Linear(300, 200)
    weights = torch.stack([layer.weight.detach() * k for k in (1, 2, 3)])

    def run(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": w}, (x,))

    together = torch.vmap(run, in_dims=(0, None))(weights, x)
    alone = torch.stack([run(w, x) for w in weights])
    assert torch.allclose(together, alone, atol=1e-4)
    assert only_linear_maps(nn.Sequential(layer, nn.Flatten())) and not only_linear_maps(net)
