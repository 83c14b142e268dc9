"""Laws of critics: which loss moves which part, in which direction; the density ratio that a critic's odds estimate;
what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import laws
import numpy as np
import pytest
import torch
from commanding import done, mixed_table, refused
from parts import data, trainer
from torch import Tensor, nn
from torch.nn.functional import softplus

import latens
from latens import conditionals, models, objectives, priors, recipes
from latens.errors import InputError
from latens.recipes.choices import DataInfo
from latens.training.players import PlayerOptimizer, gradients
from latens.training.settings import Settings

X = torch.as_tensor(data(24, 3), dtype=torch.float32)
ADVERSARIAL = ("factor_vae", "aae", "wae_gan", "vae_gan", "gan")


def built(name: str, **options) -> tuple[nn.Module, objectives.Objective]:
    torch.manual_seed(0)
    info = DataInfo(latens.data.infer(X.numpy()), len(X), X)
    return recipes.Recipe(name, latent_dim=2, **options).build(info)


def losses_of(model: nn.Module, objective: objectives.Objective) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return objective.losses(model, X, objective.draw(model, X))


def flat(grads) -> Tensor:
    return torch.cat([g.flatten() for g in grads if g is not None])


# Which loss moves which part


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_critics_loss_gives_the_model_no_gradient_and_the_models_loss_gives_the_critic_none(name: str) -> None:
    model, objective = built(name)
    critic = objective.players(model)["critic"].parameters
    assert critic and not {id(p) for p in critic} & {id(p) for p in model.parameters()}
    losses = losses_of(model, objective)
    losses["critic"].backward(retain_graph=True)
    assert all(p.grad is None for p in model.parameters()) and any(p.grad is not None for p in critic)
    for p in critic:
        p.grad = None
    for player in set(losses) - {"critic"}:
        losses[player].backward(retain_graph=True)
    assert all(p.grad is None for p in critic) and any(p.grad is not None for p in model.parameters())


def test_in_a_vae_gan_the_critic_moves_the_decoder_and_not_the_encoder() -> None:
    """The gradients that the loop applies equal those of each term by itself: cosine +1, equal norms."""
    model, objective = built("vae_gan", weight=0.0)
    players = objective.players(model)
    optimizers = {name: PlayerOptimizer((model, objective), p, Settings().settle(24)) for name, p in players.items()}
    applied = gradients(losses_of(model, objective), optimizers)
    torch.manual_seed(1)
    draw = model.draw(X)
    made = model.decode(model.prior().sample((len(X),))).mean
    critic, again = objective.critic, draw.px.mean[0]
    intended = (softplus(-critic(again)[0]).mean() + softplus(-critic(made)[0]).mean()) / 2
    kinds = {
        "decoder": intended,
        "model": draw.rate().mean() + 0.5 * (critic.trunk(X) - critic.trunk(again)).square().sum(1).mean(),
    }
    for name, loss in kinds.items():
        truth = torch.autograd.grad(loss, optimizers[name].parameters, retain_graph=True, allow_unused=True)
        a, b = flat(applied[name]), flat(truth)
        assert torch.cosine_similarity(a, b, 0).item() == pytest.approx(1.0, abs=1e-5)
        assert a.norm().item() == pytest.approx(b.norm().item(), rel=1e-4)
    with torch.no_grad():  # after one small step along it, the critic's odds of generated rows rise
        before = critic(model.decode(draw.z[0].detach()).mean)[0].mean()
        for p, g in zip(optimizers["decoder"].parameters, applied["decoder"]):
            p -= 0 if g is None else 1e-2 * g
        assert critic(model.decode(draw.z[0].detach()).mean)[0].mean() > before


@pytest.mark.parametrize("name", ["aae", "wae_gan"])
def test_the_encoder_is_moved_towards_codes_that_pass(name: str) -> None:
    model, objective = built(name)
    penalty = objective.penalty
    draw = objective.draw(model, X)
    before = penalty.odds(penalty.network(draw.z[0]), draw.z[0], draw).mean()
    weights = list(model.posterior.parameters())
    grads = torch.autograd.grad(penalty(model, X, draw), weights)
    with torch.no_grad():
        for p, g in zip(weights, grads):
            p -= 1e-3 * g
        z = model.encode(X).mean
        assert penalty.odds(penalty.network(z), z, draw).mean() > before


def test_the_factor_vae_pays_for_total_correlation() -> None:
    model, objective = built("factor_vae", gamma=3.0)
    torch.manual_seed(1)
    draw = objective.draw(model, X)
    bare = objectives.ELBO().losses(model, X, draw)["model"]
    odds = objective.penalty.network(draw.z[0])
    loss = objective.losses(model, X, draw)["model"]
    assert loss.item() == pytest.approx((bare + 3 * odds.mean()).item(), rel=1e-5)
    weights = list(model.posterior.parameters())
    truth = flat(torch.autograd.grad(bare + 3 * odds.mean(), weights, retain_graph=True))
    assert torch.allclose(flat(torch.autograd.grad(loss, weights)), truth, atol=1e-5)


@pytest.mark.parametrize("name", ["factor_vae", "aae", "wae_gan", "vae_gan"])
def test_each_row_has_one_code_that_depends_on_nothing_else(name: str) -> None:
    model, _ = built(name)
    codes = latens.evaluation.codes(model, X)
    assert codes.shape == (24, 2) and torch.equal(codes, latens.evaluation.codes(model, X))
    alone = torch.cat([latens.evaluation.codes(model, X[i : i + 1]) for i in range(24)])
    assert torch.allclose(codes, alone, atol=1e-6)


# What the critic's odds estimate


@pytest.mark.parametrize("known", [False, True])
def test_the_best_odds_are_the_ratio_of_densities(known: bool) -> None:
    """Codes N(1, .6^2) against N(0, 1): ln p - ln q is a parabola, which the critic a + b z + c z^2 finds from 200,000
    codes to 0.05; where p is known, it finds -ln q - H(p)."""

    class Parabola(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, z: Tensor) -> Tensor:
            return (torch.cat([torch.ones_like(z), z, z * z], -1) * self.weight).sum(-1, keepdim=True)

    n = 200_000
    torch.manual_seed(0)
    codes = 1 + 0.6 * torch.randn(n, 1, dtype=torch.float64)
    p = priors.StandardNormal(1).double()()
    draw = models.Draw(codes[None], torch.zeros(1, n), p.log_prob(codes)[None], None, p, p, p)
    penalty = objectives.PriorCritic(Parabola(), known)
    optimizer = torch.optim.LBFGS(penalty.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        torch.manual_seed(1)  # the same draws from the prior
        optimizer.zero_grad()
        loss = penalty.own_losses(nn.Identity(), codes, draw)["critic"]
        loss.backward()
        return loss

    optimizer.step(closure)
    minus_q = np.array([0.5 / 0.36 + np.log(0.6), -1 / 0.36, 0.5 / 0.36])
    truth = (
        minus_q - [0.5 * np.log(2 * np.pi * np.e) - 0.5 * np.log(2 * np.pi), 0, 0] if known else minus_q - [0, 0, 0.5]
    )
    assert penalty.network.weight.detach().numpy() == pytest.approx(truth, abs=0.05)


def test_a_generator_learns_the_mean_and_spread_of_its_data() -> None:
    """For x ~ N(3, .5^2) and a linear generator, mean and standard deviation are within 0.15 after 1,500 steps."""
    torch.manual_seed(0)
    x = 3 + 0.5 * torch.randn(2000, 1)
    model = models.Generator(priors.StandardNormal(1), conditionals.NormalLikelihood(nn.Linear(1, 1), 1.0))
    critic = objectives.DataCritic(latens.networks.mlp(1, 16, (32,)), nn.Sequential(nn.SiLU(), nn.Linear(16, 1)))
    trainer(model, x, objectives.Adversarial(critic), epochs=75, batch_size=100, learning_rate=0.01).run()
    made = model.sample(4000)
    assert abs(made.mean().item() - 3) < 0.15 and abs(made.std().item() - 0.5) < 0.15


def test_a_critics_slope_is_that_of_its_odds_at_the_rows() -> None:
    """For a critic with linear odds w x, the penalty is weight x |w unit|^2 / 2: 2,000 projections, |z| < 4.5."""
    model = models.Generator(priors.StandardNormal(1), conditionals.NormalLikelihood(nn.Linear(1, 3), 1.0)).double()
    critic = objectives.DataCritic(nn.Linear(3, 2, dtype=torch.float64), nn.Linear(2, 1, dtype=torch.float64))
    unit, x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), X[:4].double()
    draw, found = model.draw(x), []
    plain = objectives.Adversarial(critic, slope=0.0).losses(model, x, draw)["critic"].item()
    for _ in range(2000):
        found.append(objectives.Adversarial(critic, 0.7, unit).losses(model, x, draw)["critic"].item() - plain)
    truth = 0.35 * ((critic.head.weight @ critic.trunk.weight).squeeze() * unit).square().sum().item()
    assert abs(laws.z_score(np.array(found), truth)) < laws.Z


# What is refused, and which weights are kept


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_recipes_keep_their_last_weights(name: str) -> None:
    model, objective = built(name)
    assert objective.keeps_last
    loop = trainer(model, X, objective, validation=X, epochs=3, batch_size=12).run()
    assert loop.best is None and not loop.best_state and not loop.stopped
    assert np.isfinite([row["validation_bound"] for row in loop.history]).all()
    assert not built("rae_l2")[1].keeps_last


@pytest.mark.parametrize(
    "name", ["factor_vae", "beta_tc_vae", "dip_vae_i", "wae_mmd", "capacity_vae", "vae_gan", "gan"]
)
def test_objectives_that_compare_rows_refuse_weights_and_several_processes(name: str) -> None:
    model, objective = built(name)
    with pytest.raises(InputError, match="not defined for weighted rows"):
        trainer(model, X, objective, weight=torch.ones(24))
    loop = trainer(model, X, objective)
    loop.processes.count = 2
    with pytest.raises(InputError, match="cannot be split over 2 processes"):
        loop._require_whole_batches()


def test_a_generator_has_no_codes_and_says_so_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--recipe", "gan", "--epochs", "1", "--batch-size", "256")
    assert json.loads(Path("run/run.json").read_text())["served"] == "last (live)"
    for command in ("encode", "reconstruct"):
        assert "no posterior" in refused(command, "run", "digits", "--out", "codes.npy")
    mixed_table()
    for recipe in ("gan", "vae_gan"):
        said = refused("fit", "table.csv", "--out", "other", "--recipe", recipe)
        assert "a critic of data needs an array" in said


def test_no_decoder_is_confined_to_the_unit_interval() -> None:
    """Standardised rows far from 0 can be reconstructed: every recipe's likelihood reaches any number."""
    for name in ("ae", "aae", "wae_gan", "vae_gan", "rae_l2", "factor_vae"):
        model, _ = built(name)
        made = model.decode(100 * torch.randn(500, 2)).mean
        assert made.max() > 3 and made.min() < -3, name
