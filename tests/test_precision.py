"""Training with products in bfloat16."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from parts import data, trainer, vae
from sklearn.datasets import load_digits
from torch import Tensor, nn

import latens
from latens import conditionals, models, networks, objectives, priors
from latens.data.loader import Loader
from latens.machine.processor import has_onednn
from latens.networks import linear
from latens.runs.record import Run
from latens.training import Progress
from latens.training.loop import Trainer
from latens.training.precision import has_bfloat16, products_in

EPS = 2.0**-24  # the unit roundoff of float32


def rounded(values: Tensor) -> np.ndarray[Any, Any]:
    """The values rounded to 8 significant bits, ties to even, by integer arithmetic on the bits of float32."""
    bits = values.detach().numpy().view(np.uint32).astype(np.int64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("rows", [3, 600])
def test_a_linear_map_rounds_its_factors_to_bfloat16(rows: int, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second route rounds the factors in numpy and multiplies in float64. The library may also round the bias and
    the output to bfloat16, and adds in float32."""
    if onednn and not has_onednn():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(linear, "_FASTER", onednn)
    net = networks.Linear(120, 70)
    x = torch.randn(rows, 120)
    with products_in("bf16", net):
        y = net(x)
    factors = rounded(x), rounded(net.weight).T
    exact = factors[0] @ factors[1] + net.bias.detach().double().numpy()
    size = np.abs(factors[0]) @ np.abs(factors[1]) + 1
    tolerance = 2.0**-8 * (np.abs(exact) + np.abs(net.bias.detach().numpy())) + 200 * EPS * size
    assert y.dtype == torch.float32
    assert (np.abs(y.detach().numpy() - exact) <= tolerance).all()
    assert not torch.equal(y, net(x))


MAPS = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "1d": (lambda: nn.Conv1d(3, 4, 3), (5, 3, 9)),
    "2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (5, 3, 8, 8)),
    "3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 4, 4, stride=2), (5, 3, 6)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(3, 4, 4, stride=2), (5, 3, 6, 6)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (2, 2, 3, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_outputs_and_gradients_of_maps_stay_in_float32_and_near_those_of_float32(name: str) -> None:
    """Every factor, product and gradient is rounded by up to 2⁻⁹ of its size, and libraries for processors without
    bfloat16 round up to eight partial sums of transposed convolutions too. The sizes of the sums are those of the same
    map with all signs removed."""
    make, shape = MAPS[name]
    net, x = make(), torch.randn(*shape)
    direction = torch.randn_like(net(x))
    plain = deepcopy(net)
    for parameter in plain.parameters():
        parameter.data.abs_()

    def found(net: nn.Module, x: Tensor, direction: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        y = net(x)
        return [y, *torch.autograd.grad((y * direction).sum(), [x, *net.parameters()])]

    with products_in("bf16", net):
        half = found(net, x, direction)
    sizes = found(plain, x.abs(), direction.abs())
    for ours, exact, size in zip(half, found(net, x, direction), sizes, strict=True):
        assert ours.dtype == torch.float32 and not torch.equal(ours, exact)
        assert ((ours - exact).abs() <= 16 * 2.0**-9 * size).all()


def test_only_linear_maps_and_convolutions_in_float32_are_rounded() -> None:
    net = nn.ModuleList([nn.Linear(6, 4).double(), nn.LayerNorm(6), nn.Bilinear(6, 6, 2)])
    x, a = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6)

    def found() -> list[Tensor]:
        return [net[0](x), net[1](a), net[2](a, a), a @ a.t(), a.exp()]

    with products_in("bf16", net):
        inside = found()
    assert all(torch.equal(ours, exact) for ours, exact in zip(inside, found(), strict=True))


def test_a_map_is_as_before_after_the_block_and_after_an_error_in_it() -> None:
    net, x = nn.Linear(6, 4), torch.randn(5, 6)
    before, block = net(x), products_in("bf16", net)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), block:
            assert not torch.equal(net(x), before)
            _ = 1 / 0
        assert torch.equal(net(x), before) and "forward" not in vars(net)


def fit(kind: str, precision: str, **more: Any) -> Run:
    """A run on 800 digits with an MLP or convolutions."""
    torch.manual_seed(0)
    images = torch.as_tensor(load_digits().images[:800, None] > 7, dtype=torch.float32)
    encoder, decoder = networks.encoder(kind, (1, 8, 8), 12), networks.decoder(kind, 6, (1, 8, 8))
    posterior = conditionals.DiagonalNormalPosterior(encoder)
    model = models.VAE(priors.StandardNormal(6), posterior, conditionals.BernoulliLikelihood(decoder))
    given: dict[str, Any] = {"epochs": 8, "validation": 0.2, "device": "cpu", "compile": False} | more
    return latens.train(model, objectives.ELBO(), images, precision=precision, **given)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_run_in_bf16_reaches_the_bound_of_float32(kind: str) -> None:
    """The held-out bounds, about -20 nats, differ by less than 0.3; different seeds differ by about as much."""
    exact, half = fit(kind, "float32"), fit(kind, "bf16")
    bounds = [run.history[-1]["validation_bound"] for run in (exact, half)]
    assert bounds[0] != bounds[1] and bounds[0] == pytest.approx(bounds[1], abs=0.3)
    assert all(p.dtype == torch.float32 for p in half.model.parameters())


def test_validation_is_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each validation gives the same bound as the validation of a run in float32 with the same weights."""
    found: list[tuple[float, float]] = []
    own = Trainer.validate

    def twice(self: Trainer, loader: Loader) -> dict[str, float]:
        figures = own(self, loader)
        with products_in("bf16", self.model):
            found.append((figures["validation_bound"], own(self, loader)["validation_bound"]))
        assert own(self, loader) == figures
        return figures

    monkeypatch.setattr(Trainer, "validate", twice)
    trainer(vae(), data(), precision="bf16", validation=data(20, seed=3), epochs=2).run()
    assert found and all(exact != half for exact, half in found)


def test_the_captured_step_rounds_the_same_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Trainer.__init__.__kwdefaults__ or {}
    monkeypatch.setattr(Trainer.__init__, "__kwdefaults__", usual | {"backend": "eager"})
    eager, captured, plain = (
        fit("mlp", precision, epochs=2, compile=compiled).history[0]["train_bound"]
        for precision, compiled in (("bf16", False), ("bf16", True), ("float32", False))
    )
    assert captured == pytest.approx(eager, rel=1e-5)
    assert plain != pytest.approx(eager, rel=1e-5)


@pytest.mark.parametrize("has", [False, True])
def test_a_processor_without_bfloat16_is_told(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []

    class Listening(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setattr("latens.training.precision.has_bfloat16", lambda device: has)
    trainer(vae(), data(), precision="bf16", progress=Listening())
    assert notes == [] if has else ["this processor has no bfloat16 instructions, so bf16 is slower here"]


def test_whether_the_processor_has_bfloat16_is_answered() -> None:
    assert has_bfloat16(torch.device("cpu")) in (True, False)
