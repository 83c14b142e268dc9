"""The training loop: schedules, the weights that are kept, players, hooks, conditions, failures."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from parts import Poisoned, assert_same, data, network, timeless, trainer, vae
from torch import Tensor, nn

import latens
from latens import InputError, conditionals, distributions, models, objectives, priors, recipes
from latens.data.loader import ArrayLoader
from latens.machine.compiler import has_compiler
from latens.objectives.base import Player
from latens.training import NonFiniteError, Settings
from latens.training.checkpoint import state_of
from latens.training.players import PlayerOptimizer, norm_of
from latens.training.settings import anneal_at, balanced_batch, default_epochs, epochs_a_round, learning_rate_at

pytestmark = pytest.mark.usefixtures("one_thread")


# Schedules


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_learning_rate_warms_up_and_then_goes_down_to_zero(decay: str):
    settings = Settings(learning_rate=0.5, warmup=0.1, decay=decay)
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    down = {"linear": lambda i: 0.5 * (1 - i / 90), "cosine": lambda i: 0.25 * (1 + math.cos(math.pi * i / 90))}[decay]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10:] == pytest.approx([down(i) for i in range(90)])
    assert rates[55] == pytest.approx(0.25) and 0 < rates[99] < 6e-3
    assert [Settings().settle(100, convolutions=c).decay for c in (False, True)] == ["linear", "cosine"]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 1001])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
def test_kl_warm_up_starts_near_zero_and_always_finishes_before_the_last_step(steps: int, fraction: float):
    settings = Settings(kl_warmup=fraction)
    weights = [anneal_at(step, steps, settings) for step in range(steps)]
    assert weights[-1] == 1.0 and all(0 < w <= 1 for w in weights)
    assert weights == sorted(weights)
    assert sum(w < 1 for w in weights) == min(round(fraction * steps), steps - 1)
    if fraction * steps >= 2 and steps > 2:
        assert weights[0] <= 0.5


def test_the_loop_sets_the_documented_schedules():
    seen: list[tuple[float, float]] = []
    model = vae()
    run = trainer(model, data(), epochs=5, kl_warmup=0.5, warmup=0.2, learning_rate=0.01)
    player = run.players["model"]
    update = player.update
    player.update = lambda grads, norm, factor, clip: (  # type: ignore[method-assign]
        seen.append((run.objective.anneal.item(), player.peak * factor)),
        update(grads, norm, factor, clip),
    )
    run.run()
    expected = [(anneal_at(i, 20, run.settings), learning_rate_at(i, 20, run.settings)) for i in range(20)]
    assert np.allclose(seen, expected, rtol=1e-6)
    assert run.objective.anneal == 1 and not model.training


@pytest.mark.parametrize("rows", [2, 3, 7, 8, 20, 129, 300, 5120, 60_000])
def test_auto_is_resolved_from_the_data(rows: int):
    settled = Settings().settle(rows)
    assert settled.batch_size == balanced_batch(rows) and 1 <= settled.batch_size <= min(128, rows)
    assert rows % settled.batch_size < max(2, rows * 0.05)  # few rows left over
    more = 1.8 if rows >= 10_000 else 1  # dense networks on arrays
    assert settled.epochs == round(more * default_epochs(rows)) and isinstance(settled.compile, bool)
    assert Settings().settle(rows, convolutions=True).epochs == default_epochs(rows)
    assert settled.settle(rows) == settled  # a resumed run decides nothing again
    steps = rows // settled.batch_size
    assert (
        epochs_a_round(settled.epochs, steps) * steps >= 25 or epochs_a_round(settled.epochs, steps) >= settled.epochs
    )


def test_whether_a_run_compiles_is_decided_from_counts():
    assert Settings(epochs=300, batch_size=10).settle(500).compile is True  # 15,000 steps
    assert Settings(epochs=299, batch_size=10).settle(500).compile is False
    assert Settings(epochs=2, batch_size=512).settle(900_000).compile is True  # 1.8 million rows
    assert Settings(epochs=300, batch_size=10).settle(500, convolutions=True).compile is False
    assert Settings(epochs=1, compile=True).settle(20).compile is True


@pytest.mark.parametrize("rows, options, batch, rate", [
    (1999, {}, 124, 2e-3), (2000, {}, 250, 4e-3), (24_000, {}, 256, 4e-3),
    (36_000, {}, 128, 2e-3),  # 1.8 million rows in all: compiled
    (24_000, {"epochs": 74}, 256, 4e-3), (24_000, {"epochs": 75}, 128, 2e-3), (24_000, {"compile": False}, 128, 2e-3),
    (24_000, {"batch_size": 128}, 128, 2e-3), (24_000, {"learning_rate": 1e-3}, 128, 1e-3),
])  # fmt: skip
def test_tables_that_are_not_compiled_take_twice_the_rows_at_twice_the_rate(
    rows: int, options: dict, batch: int, rate: float
):
    settled = Settings(**options).settle(rows, table=True, held=500)
    assert (settled.batch_size, settled.learning_rate) == (batch, rate)
    assert settled.compile is (rows == 36_000 or options.get("epochs") == 75)
    assert settled.settle(rows, table=True, held=500) == settled
    assert Settings(**options).settle(rows).batch_size <= 128  # an array


# Steps


def test_a_step_is_adamw_on_the_gradient_of_the_loss():
    x = torch.as_tensor(data(12), dtype=torch.float32)
    model, twin = vae(variance=0.2), vae(variance=0.2)
    loop = trainer(model, x, epochs=1, batch_size=12, warmup=0.0, learning_rate=0.01)
    [batch] = loop.loader.batches(0)
    loop.update(batch)
    torch.manual_seed(latens.tensors.randomness.seed_of(0, 11, 0))
    objective = objectives.ELBO()
    loss = objective.losses(twin, batch.x, objective.draw(twin, batch.x))["model"]
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    loss.backward()
    optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters()):
        assert torch.allclose(a, b, rtol=0, atol=1e-7)
    assert -loop.sums[0] == pytest.approx(-loss.item()) and loop.sums[1] + loop.sums[2] == pytest.approx(
        loss.item(), rel=1e-5
    )


def test_gradients_longer_than_clip_are_scaled_to_it():
    parameter = nn.Parameter(torch.zeros(2))
    moved = []
    for clip in (0.0, 1.0, 10.0):
        options = {"betas": (0.0, 0.0), "eps": 1e6}
        player = PlayerOptimizer((), Player([parameter], options), Settings(learning_rate=2e-3))
        with torch.no_grad():
            parameter.zero_()
        player.update([torch.tensor([3.0, 4.0])], 5.0, 1.0, clip)
        moved.append(
            parameter.detach().norm().item() * 1e6 / 2e-3
        )  # with a huge eps, Adam's step is proportional to the gradient
    assert moved == pytest.approx([5.0, 1.0, 5.0], rel=1e-3)


def test_weight_decay_applies_only_to_the_weights_of_linear_and_convolutional_maps():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.codebook = nn.Parameter(torch.ones(3)), nn.Embedding(4, 2)
            self.map, self.conv, self.norm = nn.Linear(2, 2), nn.Conv2d(1, 1, 3), nn.LayerNorm(2)

    module = Odd()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    player = PlayerOptimizer(
        (module,), Player(list(module.parameters())), Settings(weight_decay=0.5, learning_rate=0.1)
    )
    player.update([torch.zeros_like(p) for p in module.parameters()], 0.0, 1.0, 0.0)
    for name, p in module.named_parameters():
        decayed = name in ("map.weight", "conv.weight")
        assert torch.allclose(p, before[name] * (1 - 0.05 if decayed else 1.0)), name
    other = PlayerOptimizer(
        (module,),
        Player(list(module.parameters()), {"weight_decay": 0.0}),
        Settings(weight_decay=0.5, learning_rate=0.1),
    )
    before = module.map.weight.detach().clone()
    other.update([torch.zeros_like(p) for p in module.parameters()], 0.0, 1.0, 0.0)
    assert torch.equal(module.map.weight, before)  # a player's own option comes first


# Sample weights


def test_weight_two_is_the_row_twice():
    """The gradient of a full batch with weight 2 on a row is that of the batch with the row twice, for the same
    noise."""
    x = torch.as_tensor(data(6), dtype=torch.float64)
    weight = torch.tensor([2.0, 1, 1, 0, 3, 1], dtype=torch.float64)
    double = x.repeat_interleave(weight.long(), 0)

    def gradient(x: Tensor, weight: Tensor | None) -> tuple[float, list[Tensor]]:
        model = vae(variance=0.3, dtype=torch.float64)
        objective = objectives.ELBO()
        batch = next(ArrayLoader(x, weight=weight, batch_size=len(x), shuffle=False).batches(0))
        randomness = latens.tensors.randomness
        with randomness.seeded(0), randomness.shared():  # every row the same noise: no expectation needed
            draw = objective.draw(model, batch.x)
        draw.weight = batch.weight
        loss = objective.losses(model, batch.x, draw)["model"]
        return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))

    (a, first), (b, second) = gradient(x, weight), gradient(double, None)
    assert a == pytest.approx(b, rel=1e-12)
    for one, other in zip(first, second):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_weights_are_relative_and_rows_of_weight_zero_do_not_count():
    x = torch.as_tensor(data(24), dtype=torch.float32)
    weight = torch.rand(24) + 0.2
    one, other = vae(), vae()
    trainer(one, x, weight=weight).run()
    trainer(other, x, weight=1024 * weight).run()
    assert_same(state_of(one), state_of(other))
    spoilt = x.clone()
    spoilt[3:5], zero = 50.0, weight.clone()
    zero[3:5] = 0.0
    one, other = vae(), vae()
    trainer(one, x, weight=zero, batch_size=24).run()
    trainer(other, spoilt, weight=zero, batch_size=24).run()
    for a, b in zip(one.parameters(), other.parameters()):
        assert torch.allclose(a, b, atol=1e-6)
    assert one.likelihood.variance == pytest.approx(other.likelihood.variance.item(), rel=1e-5)


def test_weighted_figures_still_add_up():
    x = data(24)
    run = latens.train(
        vae(), objectives.ELBO(), x, sample_weight=np.linspace(0.1, 3, 24), validation=0.25, epochs=30, device="cpu"
    )
    for row in run.history:
        assert -row["train_bound"] == pytest.approx(row["train_rate"] + row["train_distortion"], rel=1e-5)
        assert -row["validation_bound"] == pytest.approx(
            row["validation_rate"] + row["validation_distortion"], rel=1e-5
        )


# Which weights are kept


class Growing(nn.Module):
    """A decoder's network whose bias is set by a hook, not by gradients: to ``bias_at[step]``, in other steps to 9."""

    def __init__(self, bias_at: dict[int, float]):
        super().__init__()
        self.register_buffer("bias", torch.zeros(()))
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias_at, self.count = bias_at, 0

    def forward(self, z: Tensor) -> Tensor:
        return z * 0 + self.scale * 0 + self.bias

    def after_step(self, observed: None) -> None:
        self.count += 1
        self.bias.fill_(self.bias_at.get(self.count, 9.0))


def growing(bias_at: dict[int, float]) -> models.VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.VAE(
            priors.StandardNormal(1), conditionals.DiagonalNormalPosterior(nn.Linear(1, 2)),
            conditionals.NormalLikelihood(Growing(bias_at), variance=1.0),
        )  # fmt: skip


def test_early_stopping_keeps_the_best_weights():
    """A round of validation takes 25 steps: the third is the best, and two without improvement end the run."""
    x = torch.zeros(4, 1)
    model = growing({25: 2.0, 50: 1.5, 75: 0.25, 100: 1.0, 125: 0.5})
    loop = trainer(model, x, epochs=500, batch_size=4, patience=2, validation=x).run()
    assert [row["step"] for row in loop.history] == [25, 50, 75, 100, 125] and loop.stopped
    assert loop.best_epoch == 75 and model.likelihood.network.bias == 0.25
    assert loop.best == max(row["validation_bound"] for row in loop.history)
    assert trainer(growing({}), x, epochs=100, batch_size=4, patience=0, validation=x).run().step == 100  # 0: never


def test_the_best_bound_is_kept_however_low_it_is():
    """All bounds are below -4 x 10^11 nats, and the best of them is kept."""
    x = torch.zeros(4, 1)
    model = growing({25: 2e6, 50: 1e6, 75: 1.5e6})
    loop = trainer(model, x, epochs=75, batch_size=4, patience=0, validation=x).run()
    assert loop.best_epoch == 50 and loop.best < -4e11 and model.likelihood.network.bias == 1e6


def test_early_stopping_judges_the_final_objective_and_waits_for_kl_warm_up():
    x = torch.zeros(4, 1)
    seen = []

    class Watched(objectives.ELBO):
        def losses(self, model: nn.Module, x: Any, draw: Any) -> dict[str, Tensor]:
            if not model.training:
                seen.append(self.anneal.item())
            return super().losses(model, x, draw)

    model = growing({25: 0.25})  # best at the first round, worse in all later ones
    loop = trainer(model, x, Watched(), epochs=300, batch_size=4, patience=2, validation=x, kl_warmup=0.5).run()
    assert set(seen) == {1.0}
    # warm-up ends at step 150; the rounds at steps 175 and 200 are judged, and neither beats the first
    assert loop.step == 200 and model.likelihood.network.bias == 0.25


def test_one_wild_batch_does_not_choose_the_weights():
    """One of ten batches of held-out rows is an outlier: it prefers the bias 2, the other nine prefer 0.25."""
    held = torch.zeros(160, 1)
    held[:16] = 1e4
    model = growing({25: 0.25, 50: 2.0})
    loop = trainer(model, torch.zeros(4, 1), epochs=50, batch_size=4, patience=0, validation=held).run()
    bounds = [[row[name] for row in loop.history] for name in ("validation_bound", "validation_trimmed")]
    assert bounds[0][1] > bounds[0][0] and bounds[1][0] > bounds[1][1] and loop.best_epoch == 25


def test_a_validation_bound_that_is_not_finite_is_not_judged():
    """A held-out row without a bound neither makes weights the best nor ends the run."""
    x = data()
    held = data(8, seed=1)
    held[3] = 1e30
    notes: list[str] = []

    class Listening(latens.training.Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    loop = trainer(vae(), x, epochs=60, patience=1, validation=held, progress=Listening()).run()
    assert loop.step == 240 and loop.best is None and not loop.best_state and not loop.stopped
    assert len(notes) == len(loop.history) > 2 and "not finite at epoch" in notes[0]


def test_averaged_weights_are_the_exponential_average_and_are_served():
    x = data()
    live: list[dict[str, Tensor]] = []
    model = vae(variance=0.2)
    loop = trainer(model, x, average=0.8, epochs=6)
    start = {n: t.clone() for n, t in state_of(model).items()}
    update = loop.averaged.update
    loop.averaged.update = lambda step: (live.append({n: t.clone() for n, t in state_of(model).items()}), update(step))  # type: ignore[method-assign]
    loop.run()
    expected = start
    for step, now in enumerate(live):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * now[n] for n in now}
    for name, tensor in state_of(model).items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name
        assert torch.equal(tensor, live[-1][name]) == (name not in dict(model.named_parameters())), name


def test_the_best_of_averaged_weights_is_an_average():
    x, held = data(48), data(30, seed=1)
    model = vae(variance=0.2)
    loop = trainer(model, x, average=0.9, epochs=100, validation=held, patience=0)
    averages: dict[int, dict[str, Tensor]] = {}
    judge = loop._judge
    loop._judge = lambda bound, served: (  # type: ignore[method-assign]
        averages.update({loop.epoch: {n: t.clone() for n, t in loop.averaged.tensors.items()}}),
        judge(bound, served),
    )
    loop.run()
    assert_same(state_of(model), averages[loop.best_epoch])
    with torch.no_grad(), latens.tensors.randomness.seeded(0, 12, 0):
        xs = torch.as_tensor(held[:16], dtype=torch.float32)
        first = objectives.ELBO().losses(model, xs, model.draw(xs))["model"].item()
    assert math.isfinite(first)


# Players


class Adversary(objectives.Objective):
    """The model's loss is minus its bound plus half the critic's mean score of its codes; the critic's loss is
    (1 - score)^2."""

    def __init__(self, every: int = 1):
        super().__init__()
        self.elbo, self.critic, self.every = objectives.ELBO(), nn.Linear(2, 1), every

    def losses(self, model: nn.Module, x: Any, draw: Any) -> dict[str, Tensor]:
        score = self.critic(draw.codes).mean()
        return {"model": self.elbo.losses(model, x, draw)["model"] + 0.5 * score, "critic": (1 - score).square()}

    def players(self, model: nn.Module) -> dict[str, Player]:
        return super().players(model) | {"critic": Player(list(self.critic.parameters()), {"lr": 0.1}, self.every)}


def test_each_player_descends_its_own_loss_with_respect_to_its_own_parameters():
    x = torch.as_tensor(data(12), dtype=torch.float32)
    model, objective = vae(variance=0.3), Adversary()
    loop = trainer(model, x, objective, epochs=1, batch_size=12, warmup=0.0, clip=0.0)
    found: dict[str, list[Tensor]] = {}
    for name, player in loop.players.items():
        player.update = lambda grads, *_, name=name: found.update({name: grads})  # type: ignore[method-assign,misc]
    [batch] = loop.loader.batches(0)
    loop.update(batch)
    for name, parameters in (("model", model.parameters()), ("critic", objective.critic.parameters())):
        with latens.tensors.randomness.seeded(0, 11, 0):
            losses = objective.losses(model, batch.x, objective.draw(model, batch.x))
        for one, other in zip(found[name], torch.autograd.grad(losses[name], list(parameters)), strict=True):
            assert torch.allclose(one, other)


def test_a_player_moves_every_nth_step_at_its_own_rate_and_survives_a_checkpoint(tmp_path):
    x = torch.as_tensor(data(24), dtype=torch.float32)
    torch.manual_seed(0)
    model, objective = vae(), Adversary(every=3)
    loop = trainer(model, x, objective, epochs=4, batch_size=4, warmup=0.0)
    assert loop.players["critic"].peak == 0.1 and loop.players["model"].peak == loop.settings.learning_rate
    moved = []
    for batch in loop.loader.batches(0):
        before = objective.critic.weight.detach().clone()
        loop.update(batch)
        moved.append(not torch.equal(before, objective.critic.weight))
    assert moved == [True, False, False, True, False, False]
    latens.train(vae(), Adversary(), x, epochs=1, out=tmp_path / "run", device="cpu")
    tensors, _ = latens.training.Checkpoints(tmp_path / "run" / "checkpoint").load()
    assert "objective/critic.weight" in tensors and "optimizer.critic/0.exp_avg" in tensors


def test_players_that_share_a_parameter_and_losses_without_a_player_are_refused():
    class Shared(Adversary):
        def players(self, model: nn.Module) -> dict[str, Player]:
            return {"model": Player(list(model.parameters())), "critic": Player([next(model.parameters())])}

    with pytest.raises(ValueError, match="share a parameter"):
        trainer(vae(), data(), Shared())

    class Nobody(Adversary):
        def players(self, model: nn.Module) -> dict[str, Player]:
            return objectives.Objective.players(self, model)

    with pytest.raises(ValueError, match=r"losses of .*critic.* players .*model"):
        trainer(vae(), data(), Nobody()).run()


# Hooks


class Hooked(conditionals.NormalLikelihood):
    """A likelihood that counts the hooks that the loop calls."""

    def __init__(self, network: nn.Module):
        super().__init__(network, 0.5)
        self.calls: list[Any] = []

    def observe(self, x: Tensor, draw: Any) -> Tensor:
        return torch.tensor([float(len(x)), 1.0])

    def after_step(self, observed: Tensor) -> None:
        self.calls.append(("step", observed.tolist()))

    def after_epoch(self) -> None:
        self.calls.append("epoch")

    def settle(self, observed: Tensor) -> None:
        self.calls.append(("settle", observed.tolist()))


def test_hooks_are_called_at_the_right_steps():
    part = Hooked(network(2, 3))
    model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(network(3, 4)), part)
    trainer(model, data(25), epochs=2, batch_size=12).run()
    step = ("step", [12.0, 1.0])
    assert part.calls == [step, step, "epoch", step, step, "epoch", ("settle", [25.0, 3.0])]  # at the end, all rows


def test_an_optimal_variance_is_settled_on_the_served_weights_and_all_rows():
    x = data(50)
    model = vae()
    run = latens.train(model, objectives.ELBO(), x, epochs=20, batch_size=16, device="cpu")
    xs = torch.as_tensor(x, dtype=torch.float32)
    with torch.no_grad():
        draws = model.draw(xs, 400)
        expected = (draws.px.mean - xs).square().mean().item()
    assert model.likelihood.variance.item() == pytest.approx(expected, rel=0.05)
    assert run.history


# Trees: modalities and conditions


class TwoModalities(nn.Module):
    """q(z | image, counts, label): a posterior for a mapping x that also reads a condition."""

    reads = ("label",)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4 + 2 + 3, 4)

    def forward(self, x: dict[str, Tensor], c: dict[str, Tensor]) -> Any:
        seen = torch.cat(
            [x["image"].flatten(1).float() / 255, x["table"], nn.functional.one_hot(c["label"], 3).float()], -1
        )
        mean, raw = self.net(seen).chunk(2, -1)
        return distributions.DiagonalNormal(mean, raw.exp())


class Both:
    """p(image, table | z): the likelihoods of the two modalities of a row."""

    def __init__(self, parts: dict[str, Any]):
        self.parts = parts

    def log_prob(self, x: dict[str, Tensor]) -> Tensor:
        return sum(part.log_prob(x[name]) for name, part in self.parts.items())  # type: ignore[return-value]


class TwoLikelihoods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = conditionals.NormalLikelihood(nn.Sequential(nn.Linear(2, 4), nn.Unflatten(-1, (2, 2))), 1.0)
        self.table = conditionals.NormalLikelihood(nn.Linear(2, 2), "learned")

    def forward(self, z: Tensor) -> Both:
        return Both({"image": self.image(z), "table": self.table(z)})


def modalities(rows: int = 30) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    x = {"image": rng.integers(0, 256, (rows, 2, 2)).astype(np.uint8), "table": rng.normal(size=(rows, 2))}
    return x, {"label": rng.integers(0, 3, rows)}


def two() -> models.VAE:
    torch.manual_seed(0)
    return models.VAE(priors.StandardNormal(2), TwoModalities(), TwoLikelihoods())


def test_a_mapping_of_modalities_with_a_condition_trains_like_any_other_x(tmp_path):
    x, c = modalities()
    model = two()
    run = latens.train(
        model, objectives.ELBO(), x, c=c, epochs=30, batch_size=8, validation=0.2, out=tmp_path / "run", device="cpu"
    )
    assert run.history[-1]["train_bound"] > run.history[0]["train_bound"] - 1 and run.rows == 24
    again = two()
    latens.load(tmp_path / "run", model=again)
    assert_same(state_of(model), state_of(again))
    with pytest.raises(InputError, match="other data"):  # the condition is part of the data
        latens.train(
            two(),
            objectives.ELBO(),
            x,
            c={"label": np.roll(c["label"], 1)},
            epochs=30,
            batch_size=8,
            validation=0.2,
            out=tmp_path / "run",
            resume=True,
            device="cpu",
        )


def test_a_condition_that_no_part_reads_is_refused():
    x, c = modalities()
    with pytest.raises(InputError, match="no part of the model reads the condition 'colour'"):
        latens.train(two(), objectives.ELBO(), x, c=c | {"colour": c["label"]}, epochs=1)
    with pytest.raises(InputError, match="no part of the model reads the condition 'colour'"):
        latens.train(vae(), objectives.ELBO(), data(), c={"colour": np.zeros(48)}, epochs=1)
    with pytest.raises(ValueError, match="same number of rows"):
        latens.train(two(), objectives.ELBO(), x, c={"label": c["label"][:-1]}, epochs=1)


# Failures


def test_a_huge_value_stops_the_run_naming_term_step_and_the_users_rows(tmp_path):
    x = data(40)
    x[33, 1] = 1e30
    model = vae(variance=0.1)
    with pytest.raises(NonFiniteError) as failure:
        latens.train(
            model,
            objectives.ELBO(),
            x,
            epochs=3,
            batch_size=8,
            validation=0.25,
            seed=1,
            out=tmp_path / "run",
            device="cpu",
            checkpoint_seconds=0.0,
        )
    error = failure.value
    assert error.rows == [33] and "distortion" in error.term and 0 <= error.step < 4
    assert f"at step {error.step} " in str(error) and "for row 33 " in str(error) and "learning_rate" in str(error)
    assert "\n" not in str(error) and str(tmp_path) in str(error)
    tensors, record = latens.training.Checkpoints(tmp_path / "run" / "checkpoint").load()
    assert record["step"] == error.step
    own = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    assert_same(own, state_of(model))  # the failing step changed nothing
    assert all(torch.isfinite(t).all() for t in own.values())


@pytest.mark.parametrize("gradient", [False, True])
def test_a_failure_for_one_row_is_traced_to_that_row(gradient: bool):
    x = data(40).astype(np.float32)
    model = vae(variance=0.1)
    model.posterior.network = Poisoned(model.posterior.network, float(x[21, 0]), gradient)
    if gradient:
        with torch.no_grad():
            model.posterior.network.inner[2].weight.zero_()
            model.posterior.network.inner[2].bias.zero_()
    before = {n: t.clone() for n, t in state_of(model).items()}
    with pytest.raises(NonFiniteError) as failure:
        latens.train(model, objectives.ELBO(), x, epochs=3, batch_size=40, device="cpu")
    assert failure.value.rows == [21] and failure.value.step == 0
    assert failure.value.term.startswith("gradient of") == gradient
    assert_same(before, state_of(model))


def test_a_loss_that_is_not_finite_although_every_row_is_names_the_player():
    class Bad(Adversary):
        def losses(self, model: nn.Module, x: Any, draw: Any) -> dict[str, Tensor]:
            losses = super().losses(model, x, draw)
            return losses | {"critic": losses["critic"] * math.inf}

    with pytest.raises(NonFiniteError, match=r"loss of the player 'critic' is not finite in the batch of rows \d+"):
        trainer(vae(), data(), Bad()).run()


# Capture


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_the_captured_step_gives_the_numbers_of_the_eager_one(name: str):
    x = torch.as_tensor(data(20, 4), dtype=torch.float32)
    schema = latens.data.infer(x.numpy())
    states = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        options = {"latent_dim": 2, "network": "linear"}
        valid = recipes.options(recipes.find(name))
        recipe = recipes.Recipe(name, **{key: value for key, value in options.items() if key in valid})
        try:
            model, objective = recipe.build(latens.recipes.choices.DataInfo(schema, 20, x))
        except InputError as error:
            if "--condition" in str(error):
                pytest.skip(str(error))
            x = torch.as_tensor(data(20, 64), dtype=torch.float32).view(20, 1, 8, 8)  # one graph for images alone
            schema = latens.data.infer(x.numpy())
            model, objective = recipe.build(latens.recipes.choices.DataInfo(schema, 20, x))
        if compiled and getattr(model, "compile_mode", "full") != "full":
            pytest.skip(f"the recipe says compile_mode = {model.compile_mode!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop = trainer(
                model, x, objective, epochs=3, batch_size=10, compile=compiled, backend="eager", kl_warmup=0.5
            )
            states[compiled] = (state_of(loop.run().model), timeless(loop.history))
        if compiled:
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # captured, and only once
    for name, tensor in states[False][0].items():  # the optimiser's operations come in another order
        assert torch.allclose(tensor, states[True][0][name], rtol=1e-4, atol=1e-6), name
    for one, other in zip(states[False][1], states[True][1], strict=True):
        assert other == pytest.approx(one, rel=1e-5, nan_ok=True)


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler: torch.compile has nothing to compile with")
def test_the_compiled_step_gives_the_eager_numbers_up_to_rounding():
    x, states = data(20, 4), {}
    for compiled in (False, True):
        model = vae(4)
        trainer(model, x, epochs=3, batch_size=10, compile=compiled).run()
        states[compiled] = state_of(model)
    for name, tensor in states[False].items():
        assert torch.allclose(tensor, states[True][name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions_are_moved_as_plain_adamw_moves_them(layout: torch.memory_format, tmp_path):
    """Their gradients come channels-last, and the fused optimiser takes tensors as flat memory."""
    x = torch.rand(12, 3, 6, 6)

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(8, 4)).to(
            memory_format=layout
        )

    ours, plain = net(), net()
    player = PlayerOptimizer((ours,), Player(list(ours.parameters())), Settings(learning_rate=0.01))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, foreach=False)
    for step in range(6):
        if step == 3:  # as after a checkpoint: tensors from a file are contiguous
            player.load({name: t.clone(memory_format=torch.contiguous_format) for name, t in player.state().items()})
        grads = list(torch.autograd.grad(ours(x).square().sum(), list(ours.parameters())))
        player.update(grads, norm_of(grads).item(), 1.0, 0.0)
        optimizer.zero_grad()
        plain(x).square().sum().backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_without_a_compiler_the_step_runs_eagerly_and_says_so(monkeypatch):
    notes: list[str] = []

    class Listening(latens.training.Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setattr("latens.machine.compiler.has_compiler", lambda: False)
    loop = trainer(vae(), data(), compile=True, progress=Listening()).run()
    assert notes == ["no C++ compiler was found, so the step runs without being compiled"] and loop.finished


def test_the_compile_decision_is_in_the_record(tmp_path):
    latens.train(vae(), objectives.ELBO(), data(), epochs=1, out=tmp_path / "run", device="cpu")
    assert latens.runs.record.read_record(tmp_path / "run")["training"]["compile"] is False
