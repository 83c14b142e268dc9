"""Linear maps through oneDNN give torch's numbers to rounding: forward, backward, twice backward, captured and
batched."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from latens.machine.processor import has_onednn, is_of_intel, onednn_is_faster
from latens.networks import Linear, mlp, only_linear_maps
from latens.networks.linear import LARGE


@pytest.fixture(params=["onednn", "torch's own"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("latens.networks.linear._FASTER", request.param == "onednn" and has_onednn())
    return request.param


SHAPES = {"small": ((5,), 6, 4), "large": ((128,), 300, 200), "more axes": ((3, 50), 200, 300), "no rows": ((0,), 6, 4)}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_maps_give_the_numbers_of_torch(name: str, bias: bool, dtype: torch.dtype):
    """Values, gradients and gradients of gradients, relative to the largest, equal torch's in float64."""
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


def test_large_products_use_onednn_and_small_ones_do_not(way: str, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr("latens.networks.linear.product", lambda x, w: seen.append(len(x)) or linear(x, w))
    layer = Linear(256, 128)
    layer(torch.zeros(LARGE // (256 * 128), 256))
    layer(torch.zeros(LARGE // (256 * 128) - 1, 256))
    assert seen == ([128] if way == "onednn" and has_onednn() else [])


@pytest.mark.parametrize(
    ("told", "intel"), [("vendor_id\t: GenuineIntel\n", True), ("vendor_id\t: AuthenticAMD\n", False)]
)
def test_the_maker_of_the_processor_is_recognised(told: str, intel: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO("processor\t: 0\n" + told))
    assert is_of_intel() == intel

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", absent)
    monkeypatch.setenv("PROCESSOR_IDENTIFIER", f"Family 6 Model 207, {told.split()[-1]}")
    assert is_of_intel() == intel
    monkeypatch.delenv("PROCESSOR_IDENTIFIER")
    assert not is_of_intel()


def test_a_linear_map_is_captured():
    torch.manual_seed(0)
    net, x = mlp(300, 200, (256,)), torch.randn(128, 300)
    captured = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(captured(x), net(x), atol=1e-6)
    assert only_linear_maps(nn.Sequential(Linear(300, 200), nn.Flatten())) and not only_linear_maps(net)


# Each level of batching, from the outermost inwards: the batched axes of (weights, rows).
BATCHED = {
    "weights": [(0, None)], "rows": [(None, 0)], "both": [(0, 0)], "other axes": [(2, 1)],
    "weights, then rows": [(0, None), (None, 0)], "both, then rows": [(0, 0), (None, 0)],
    "both, then weights": [(0, 0), (0, None)], "both twice": [(0, 0), (0, 0)],
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHED)
def test_batched_linear_maps_are_those_of_one_at_a_time(name: str):
    """Values and gradients of batched maps are those of one at a time in float64."""
    torch.manual_seed(0)
    layer = Linear(300, 200)
    sizes, w, x = (3, 2), layer.weight.detach() * 1.5, torch.randn(128, 300)
    for size, (of_w, of_x) in reversed(list(zip(sizes, BATCHED[name], strict=False))):
        w = w if of_w is None else torch.stack([w * (k + 1) for k in range(size)], of_w)
        x = x if of_x is None else torch.stack([x - k for k in range(size)], of_x)

    def mapped(run: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        for axes in reversed(BATCHED[name]):
            run = torch.vmap(run, in_dims=axes)
        return run

    found = []
    for dtype, one in (
        (torch.float32, lambda w, x: torch.func.functional_call(layer, {"weight": w}, (x,))),
        (torch.float64, lambda w, x: x @ w.mT + layer.bias.double()),
    ):
        given = [t.to(dtype).requires_grad_() for t in (w, x)]
        values = mapped(one)(*given)
        found.append([values, *torch.autograd.grad(values.square().sum(), given)])
    for ours, plain in zip(*found, strict=True):
        assert ours.shape == plain.shape and (ours - plain).abs().amax() <= 1e-5 * plain.abs().amax()


@pytest.mark.parametrize("mkl", [False, True])
@pytest.mark.parametrize("intel", [False, True])
@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_onednn_is_chosen_where_mkl_is_absent_or_leaves_wide_registers_unused(
    capability: str, intel: bool, mkl: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: mkl)
    monkeypatch.setattr("latens.machine.processor.is_of_intel", lambda: intel)
    monkeypatch.setattr("latens.machine.processor.has_onednn", lambda: True)
    assert onednn_is_faster.__wrapped__() == (not mkl or (capability == "AVX512" and not intel))
    monkeypatch.setattr("latens.machine.processor.has_onednn", lambda: False)
    assert not onednn_is_faster.__wrapped__()
