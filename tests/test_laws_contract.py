"""Laws of the contract between parts: randomness by row and step, users' parts, trees for x, z and c, players, and
capture."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import Tensor, nn
from torch import distributions as td
from torch.nn.functional import binary_cross_entropy_with_logits

import latens
from latens import conditionals, distributions, evaluation, models, networks, objectives, priors
from latens.data.loader import ArrayLoader
from latens.data.transforms import binarize, dequantize
from latens.objectives import Penalty, Player, check_disjoint
from latens.tensors import randomness, trees
from latens.training import Settings, Trainer

D, Q = 5, 2
X, W, B, S2 = laws.toy(9, D, Q, seed=31)


def sloppy(kind: str) -> models.VAE:
    """The linear model with a posterior that is not the exact one, so that its scores depend on the noise."""
    v = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
    _, cov = laws.posterior(X, W, B, S2)
    posteriors = {
        "diagonal": lambda: laws.diagonal_posterior(0.9 * v, B, 2 * np.diag(cov)),
        "full": lambda: laws.full_posterior(0.9 * v, B, 2 * cov),
        "torch normal": lambda: laws.Fixed(lambda x: td.Independent(td.Normal((x - t(B)) @ t(v).T, 0.4), 1)),
        "torch laplace": lambda: laws.Fixed(lambda x: td.Independent(td.Laplace((x - t(B)) @ t(v).T, 0.3), 1)),
    }
    return laws.linear_vae(W, B, S2, posteriors[kind]())


KINDS = pytest.mark.parametrize("kind", ["diagonal", "full", "torch normal", "torch laplace"])


# Randomness


@KINDS
def test_a_score_depends_on_no_other_row_on_no_order_and_no_batch(kind) -> None:
    model = sloppy(kind)

    def score(x, **options):
        return evaluation.nll(model, t(x), k=6, shared_noise=True, **options).rows.numpy()

    whole = score(X)
    order = np.random.default_rng(0).permutation(len(X))
    assert score(X[order]) == pytest.approx(whole[order], rel=1e-12)
    assert score(X[3:4]) == pytest.approx(whole[3:4], rel=1e-12)
    assert score(X, batch_size=2) == pytest.approx(whole, rel=1e-12)
    assert score(np.concatenate([X, X])) == pytest.approx(np.tile(whole, 2), rel=1e-12)
    assert np.abs(score(X, seed=1) - whole).min() > 1e-6  # another seed gives other noise
    independent = evaluation.nll(model, t(np.repeat(X[:1], 9, 0)), k=6).rows.numpy()
    assert len(np.unique(independent.round(9))) == 9  # without shared noise, equal rows get different noise


def test_scores_leave_the_generator_and_the_mode_of_the_caller_alone() -> None:
    model = sloppy("diagonal").train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    evaluation.nll(model, t(X), k=3)
    evaluation.elbo(model, t(X))
    with randomness.seeded(1, 2):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected) and model.training
    with randomness.seeded(1, 2):
        assert torch.equal(torch.rand(3), inside)


def test_uniform_numbers_are_functions_of_seed_and_row() -> None:
    rows = torch.tensor([5, 0, 123_456_789, 7, 5])
    u = randomness.uniform(3, rows, 40)
    assert torch.equal(u[0], u[4])
    for i, row in enumerate(rows):
        assert torch.equal(randomness.uniform(3, row[None], 40)[0], u[i])
    assert torch.equal(randomness.uniform(3, rows.flip(0), 40), u.flip(0))
    assert torch.equal(randomness.uniform(3, rows, 25), u[:, :25])
    assert not torch.equal(randomness.uniform(4, rows, 40), u) and u.min() >= 0 and u.max() < 1
    x = torch.randint(0, 256, (6, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for transform in (dequantize, binarize):
        whole = transform(x, torch.arange(6), 9)
        assert torch.equal(transform(x[[4, 1]], torch.tensor([4, 1]), 9), whole[[4, 1]])


def test_uniform_numbers_are_uniform_and_uncorrelated_over_rows_columns_and_seeds() -> None:
    """Kolmogorov-Smirnov p > 1e-5 for three samples, and 60 correlations with |z| < 4.5: false alarm rate below
    5e-4."""
    tables = [randomness.uniform(seed, torch.arange(20_000), 10).double().numpy() for seed in (0, 1, 2)]
    for u in tables:
        assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-5
    pairs = [(tables[0][:, i], tables[0][:, j]) for i, j in itertools.combinations(range(10), 2)]
    pairs += [(tables[0][:-1, i], tables[0][1:, i]) for i in range(10)]
    pairs += [(tables[0].ravel(), tables[1].ravel()), (tables[1].ravel(), tables[2].ravel())]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a)) < Z


def test_each_process_draws_its_share_of_the_joint_noise() -> None:
    like = torch.zeros(7, 3)
    torch.manual_seed(1)
    joint = randomness.standard_normal((4,), like)
    for start, stop in ((0, 3), (3, 7)):
        torch.manual_seed(1)
        with randomness.part(start, 7):
            assert torch.equal(randomness.standard_normal((4,), like[start:stop]), joint[:, start:stop])
    torch.manual_seed(1)
    with randomness.shared():
        noise = randomness.standard_normal((4,), like)
    assert noise.shape == joint.shape and (noise == noise[:, :1]).all()


# Parts of users


def test_foreign_posteriors_work_everywhere() -> None:
    """Draws, the automatic rate (in closed form for torch's normals, sampled for the rest) and gradients work; the
    Laplace's rate over 4,000 draws agrees with its closed form in 9 rows, |z| < 4.5 (false alarm rate 6e-5)."""
    for kind, closed in (("torch normal", True), ("torch laplace", False)):
        model = sloppy(kind)
        torch.manual_seed(0)
        draw = model.draw(t(X), 4000)
        assert draw.log_w.shape == (4000, 9) and draw.codes.shape == (4000, 9, Q)
        assert distributions.has_closed_kl(draw.q, draw.p) == closed
        rate = draw.rate("auto").detach().numpy()
        mean = draw.q.mean.numpy()
        if closed:
            expected = [laws.gaussian_kl(m, 0.16 * np.eye(Q), np.zeros(Q), np.eye(Q)) for m in mean]
            assert rate == pytest.approx(np.tile(expected, (4000, 1)), abs=1e-9)
        else:
            with pytest.raises(ValueError, match="closed"):
                draw.rate("closed")
            # KL(Laplace(m, b) || N(0, 1)) = E[z^2]/2 + ln(2 pi)/2 - ln(2 b) - 1, E[z^2] = m^2 + 2 b^2
            each = (mean**2 + 2 * 0.09) / 2 + laws.LN_2PI / 2 - np.log(0.6) - 1
            assert np.abs(laws.z_score(rate, each.sum(1))).max() < Z
        loss = objectives.ELBO(samples=2).losses(model, t(X), model.draw(t(X), 2))["model"]
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.likelihood.parameters())


def test_a_posterior_that_cannot_be_reparameterised_is_refused() -> None:
    posterior = laws.Fixed(lambda x: td.Independent(td.Poisson(torch.ones(len(x), Q, dtype=torch.float64)), 1))
    with pytest.raises(ValueError, match="cannot be reparameterised"):
        laws.linear_vae(W, B, S2, posterior).draw(t(X))


def test_foreign_likelihoods_and_priors_work_and_a_wrong_event_is_refused() -> None:
    class Prior(nn.Module):
        def forward(self):
            return td.MultivariateNormal(torch.zeros(Q, dtype=torch.float64), torch.eye(Q, dtype=torch.float64) * 2)

    class Likelihood(nn.Module):
        def __init__(self, whole: bool):
            super().__init__()
            self.whole = whole

        def forward(self, z: Tensor):
            normal = td.Normal(z @ t(W).T + t(B), S2**0.5)
            return td.Independent(normal, 1) if self.whole else normal

    own = sloppy("diagonal")
    model = models.VAE(Prior(), own.posterior, Likelihood(True))
    torch.manual_seed(0)
    draw = model.draw(t(X), 3)
    torch.manual_seed(0)
    same = own.draw(t(X), 3)
    assert draw.log_px.detach().numpy() == pytest.approx(same.log_px.detach().numpy(), abs=1e-9)
    prior = stats.multivariate_normal(np.zeros(Q), 2 * np.eye(Q))
    assert draw.log_pz.detach().numpy() == pytest.approx(prior.logpdf(draw.z.detach().numpy()), abs=1e-9)
    assert model.sample(4).shape == (4, D) and model.sample(4, mean=True).shape == (4, D)
    with pytest.raises(ValueError, match="whole row"):
        models.VAE(Prior(), own.posterior, Likelihood(False)).draw(t(X), 3)
    with pytest.raises(ValueError, match="at least 1"):
        model.draw(t(X), 0)


# Trees


class TwoHeads(nn.Module):
    """A posterior over mappings {"numbers", "flags"} with a code in two parts, a tuple."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(D + 3, 2 * (Q + 1))

    def forward(self, x: dict) -> td.Distribution:
        return TwoParts(*self.net(torch.cat([x["numbers"], x["flags"].float()], -1)).chunk(2, -1))


class TwoParts(td.Distribution):
    """N(mean, exp(log_scale)^2) over codes (z_1 of size Q, z_2 of size 1)."""

    arg_constraints: dict = {}
    row_noise = True

    def __init__(self, mean: Tensor, log_scale: Tensor):
        self.inner = distributions.DiagonalNormal(mean, (2 * log_scale).exp())
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mean(self) -> tuple[Tensor, Tensor]:
        return self.inner.mean.split([Q, 1], -1)

    def rsample_and_log_prob(self, k: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        z = self.inner.rsample((k,))
        return z.split([Q, 1], -1), self.inner.log_prob(z)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> tuple[Tensor, Tensor]:
        return self.inner.sample(sample_shape).split([Q, 1], -1)

    def log_prob(self, z: tuple[Tensor, Tensor]) -> Tensor:
        return self.inner.log_prob(torch.cat(z, -1))


class TwoModalities(nn.Module):
    """p(numbers, flags | z_1, z_2) with a condition that only the numbers read."""

    reads = ("batch",)

    def __init__(self):
        super().__init__()
        self.numbers = conditionals.NormalLikelihood(WithBatch(), variance=0.5, reads=("batch",))
        self.flags = conditionals.BernoulliLikelihood(nn.Linear(1, 3))

    def forward(self, z: tuple[Tensor, Tensor], c: dict) -> Joint:
        return Joint({"numbers": self.numbers(z[0], c), "flags": self.flags(z[1], c)})


class WithBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.seen = nn.Linear(Q + 4, D), None

    def forward(self, z: Tensor, c: dict) -> Tensor:
        self.seen = sorted(c)
        return self.f(torch.cat([z, nn.functional.one_hot(c["batch"], 4).float().expand(*z.shape[:-1], 4)], -1))


class Joint(td.Distribution):
    arg_constraints: dict = {}

    def __init__(self, parts: dict):
        self.parts = parts
        super().__init__(parts["flags"].batch_shape, validate_args=False)

    def log_prob(self, x: dict) -> Tensor:
        return sum(self.parts[key].log_prob(x[key]) for key in self.parts)


class TwoPrior(nn.Module):
    def forward(self) -> TwoParts:
        return TwoParts(torch.zeros(Q + 1), torch.zeros(Q + 1))


def tree_data(n: int) -> tuple[dict, dict]:
    g = torch.Generator().manual_seed(0)
    x = {
        "numbers": torch.randn(n, D, generator=g),
        "flags": torch.randint(0, 2, (n, 3), generator=g, dtype=torch.uint8),
    }
    return x, {"batch": torch.randint(0, 4, (n,), generator=g)}


def test_x_and_c_may_be_mappings_and_z_a_tuple() -> None:
    torch.manual_seed(0)
    model = models.VAE(TwoPrior(), TwoHeads(), TwoModalities())
    x, c = tree_data(11)
    draw = model.draw(x, 4, c | {"unread": torch.zeros(11)})
    assert isinstance(draw.z, tuple) and draw.codes.shape == (4, 11, Q + 1)
    assert torch.equal(draw.codes, torch.cat(draw.z, -1))
    assert model.likelihood.numbers.network.seen == ["batch"]  # a part gets only the keys it declares
    z = [part.detach().double().numpy() for part in draw.z]
    f, g = model.likelihood.numbers.network.f, model.likelihood.flags.network
    (fw, fb), (gw, gb) = ([p.detach().double().numpy() for p in n.parameters()] for n in (f, g))
    for k, i in ((0, 0), (3, 10)):
        mean = fw @ np.concatenate([z[0][k, i], np.eye(4)[c["batch"][i]]]) + fb
        p = 1 / (1 + np.exp(-(gw @ z[1][k, i] + gb)))
        expected = stats.norm(mean, 0.5**0.5).logpdf(x["numbers"][i].numpy()).sum()
        expected += stats.bernoulli(p).logpmf(x["flags"][i].numpy()).sum()
        assert draw.log_px[k, i].item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="batch"):
        model.draw(x, 1, {"other": torch.zeros(11)})
    whole = evaluation.nll(model, x, k=5, c=c, shared_noise=True).rows
    some = torch.tensor([7, 2])
    part = evaluation.nll(model, trees.take(x, some), k=5, c=trees.take(c, some), shared_noise=True).rows
    assert part.numpy() == pytest.approx(whole[some].numpy(), abs=1e-4)
    assert evaluation.codes(model, x, c).shape == (11, Q + 1)


def test_training_takes_trees_of_tensors() -> None:
    x, c = tree_data(120)
    torch.manual_seed(0)
    model = models.VAE(TwoPrior(), TwoHeads(), TwoModalities())
    before = evaluation.elbo(model, x, c).elbo
    run = latens.train(model, objectives.ELBO(), x, c=c, validation=0.2, epochs=30, batch_size=32, learning_rate=0.01)
    assert evaluation.elbo(model, x, c).elbo > before + 0.5
    assert np.isfinite(run.history[-1]["validation_bound"])


def test_functions_of_trees_apply_to_every_leaf() -> None:
    tree = {"b": torch.arange(6).view(3, 2), "a": (torch.zeros(3), {"c": torch.ones(3, 1)}), "n": None}
    assert [leaf.dim() for leaf in trees.leaves(tree)] == [1, 2, 2] and trees.rows(tree) == 3
    taken = trees.take(tree, torch.tensor([2, 0]))
    assert taken["b"].tolist() == [[4, 5], [0, 1]] and taken["n"] is None and trees.rows(taken) == 2
    doubled = trees.map_tree(lambda leaf: leaf * 2, tree)
    assert isinstance(doubled["a"], tuple) and doubled["a"][1]["c"].sum() == 6
    assert trees.flat_codes((torch.zeros(2, 3), torch.ones(2, 3, 2, 2))).shape == (2, 3, 5)
    with pytest.raises(ValueError, match="same number of rows"):
        trees.rows({"a": torch.zeros(2), "b": torch.zeros(3)})


# Players


class Adversary(Penalty):
    """A critic D of decoded prior samples: the model pays -ln D(f(z)), the critic minimises its cross-entropy."""

    def __init__(self, codes: Tensor, every: int = 1):
        super().__init__()
        torch.manual_seed(5)
        self.critic, self.codes, self.every = nn.Linear(D, 1, dtype=torch.float64), codes, every

    def fake(self, model: nn.Module) -> Tensor:
        return model.decode(self.codes).mean

    def forward(self, model: nn.Module, x: Tensor, draw: models.Draw) -> Tensor:
        return nn.functional.softplus(-self.critic(self.fake(model))).mean()

    def own_losses(self, model: nn.Module, x: Tensor, draw: models.Draw) -> dict[str, Tensor]:
        real, fake = self.critic(x), self.critic(self.fake(model))  # not detached: the loop must work without it
        loss = binary_cross_entropy_with_logits(real, torch.ones_like(real))
        return {"critic": loss + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))}

    def players(self) -> dict[str, Player]:
        return {"critic": Player([p for p in self.critic.parameters() if p.requires_grad], {"lr": 0.02}, self.every)}


CODES = torch.randn(9, Q, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
SETTINGS = Settings(epochs=6, batch_size=9, learning_rate=0.01, warmup=0.0, clip=0.0).settle(9)


def adversarial(weight: float, every: int = 1, beta: float = 1.0) -> tuple[models.VAE, objectives.Objective, Adversary]:
    penalty = Adversary(CODES, every)
    return sloppy("diagonal"), objectives.ELBO(beta=beta) + weight * penalty, penalty


def test_each_player_descends_its_own_loss_as_two_optimisers_by_hand_would() -> None:
    """Six steps of the loop, in which the critic moves every second step, equal two plain optimisers with simultaneous
    updates."""
    model, objective, penalty = adversarial(3.0, every=2)
    trainer = Trainer(model, objective, ArrayLoader(t(X), batch_size=9), None, SETTINGS)
    trainer.run()
    other, same, critic = adversarial(3.0, every=2)
    optimizers = {
        "model": torch.optim.AdamW(other.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0),
        "critic": torch.optim.AdamW(critic.critic.parameters(), lr=0.02, betas=(0.9, 0.99), weight_decay=0),
    }
    peak = {"model": 0.01, "critic": 0.02}
    loader = ArrayLoader(t(X), batch_size=9)
    for step in range(6):
        (batch,) = loader.batches(step)
        torch.manual_seed(randomness.seed_of(0, 11, step))  # the loop's seed of a step's draws
        draw = same.draw(other, batch.x)
        bound = -objectives.ELBO().bound(draw).mean() + 3.0 * critic(other, batch.x, draw)
        (own,) = critic.own_losses(other, batch.x, draw).values()
        grads = [
            torch.autograd.grad(bound, list(other.parameters()), retain_graph=True),
            torch.autograd.grad(own, list(critic.critic.parameters())),
        ]
        for name, parameters, grad in zip(optimizers, (other.parameters(), critic.critic.parameters()), grads):
            if name == "critic" and step % 2:
                continue
            for parameter, value in zip(parameters, grad):
                parameter.grad = value
            warm = max(1, round(0.0 * 6))
            factor = 1.0 if step < warm else 1 - (step - warm) / (6 - warm)
            optimizers[name].param_groups[0]["lr"] = peak[name] * factor
            optimizers[name].step()
    for mine, theirs in ((model, other), (penalty, critic)):
        for a, b in zip(mine.parameters(), theirs.parameters()):
            assert a.detach().numpy() == pytest.approx(b.detach().numpy(), rel=1e-9, abs=1e-12)


def test_the_loss_of_a_player_does_not_move_the_other_player() -> None:
    """If only the critic moves, the model's weights do not change, and the other way round."""
    model, objective, penalty = adversarial(0.0, beta=0.0)
    for p in model.parameters():
        p.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    critic = [p.detach().clone() for p in penalty.parameters()]
    trainer = Trainer(model, objective, ArrayLoader(t(X), batch_size=9), None, SETTINGS)
    trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert all(not torch.equal(a, b.detach()) for a, b in zip(critic, penalty.parameters()))
    model, objective, penalty = adversarial(5.0)
    for p in penalty.parameters():
        p.requires_grad_(False)
    players = objective.players(model)
    assert {"model", "critic"} == set(players)
    critic = [p.clone() for p in penalty.parameters()]
    Trainer(model, objective, ArrayLoader(t(X), batch_size=9), None, SETTINGS).update(
        next(iter(ArrayLoader(t(X), batch_size=9).batches(0)))
    )
    assert all(torch.equal(a, b) for a, b in zip(critic, penalty.parameters()))
    assert all(p.grad is None for p in [*model.parameters(), *penalty.parameters()])


def test_the_adversarial_gradient_of_the_decoder_has_the_intended_sign() -> None:
    model, objective, penalty = adversarial(1.0)
    plain = objectives.ELBO()
    torch.manual_seed(0)
    draw = model.draw(t(X))
    decoder = list(model.likelihood.network.parameters())

    def flat(loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, decoder, retain_graph=True)])

    whole, bound = (flat(o.losses(model, t(X), draw)["model"]) for o in (objective, plain))
    found = whole - bound
    # by hand: d/d(W, b) of mean softplus(-(v.(W z + b) + a)) = -sigmoid(-s) v (z, 1)
    v, a = (p.detach().numpy() for p in penalty.critic.parameters())
    z = CODES.numpy()
    s = (z @ W.T + B) @ v[0] + a
    weight = -1 / (1 + np.exp(s)) / len(z)
    intended = np.concatenate([np.einsum("n,d,nq->dq", weight, v[0], z).ravel(), weight.sum() * v[0]])
    assert found.numpy() == pytest.approx(intended, abs=1e-9)
    cosine = found.numpy() @ intended / np.linalg.norm(found) / np.linalg.norm(intended)
    assert cosine == pytest.approx(1, abs=1e-9)
    # a small step against it makes the fake look more real to the critic
    with torch.no_grad():
        before = penalty.critic(penalty.fake(model)).mean()
        offset = 0
        for p in decoder:
            p -= 0.01 * found[offset : offset + p.numel()].view_as(p)
            offset += p.numel()
        assert penalty.critic(penalty.fake(model)).mean() > before


def test_players_that_share_a_parameter_are_refused() -> None:
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    check_disjoint({"model": Player([a, a, b]), "critic": Player([c])})
    with pytest.raises(ValueError, match="'model' and 'critic' share"):
        check_disjoint({"model": Player([a, b]), "critic": Player([c, b])})
    model, objective, penalty = adversarial(1.0)
    penalty.critic.weight = model.likelihood.network.bias
    with pytest.raises(ValueError, match="share a parameter"):
        Trainer(model, objective, ArrayLoader(t(X), batch_size=9), None, SETTINGS)


def test_penalties_add_with_their_weights() -> None:
    class Constant(Penalty):
        def forward(self, model, x, draw):
            return draw.codes.new_tensor(2.0)

    model = sloppy("diagonal")
    objective = objectives.ELBO(beta=0.5) + Constant() + 0.25 * Constant()
    torch.manual_seed(0)
    draw = objective.draw(model, t(X))
    base = objectives.ELBO(beta=0.5).losses(model, t(X), draw)["model"].item()
    assert objective.losses(model, t(X), draw)["model"].item() == pytest.approx(base + 2.0 + 0.5)


# Capture

LIKELIHOODS = {
    "Normal-fixed": (lambda: conditionals.NormalLikelihood(nn.Linear(Q, 4), variance=0.5), "real"),
    "Normal-learned": (
        lambda: conditionals.NormalLikelihood(nn.Linear(Q, 4), variance="learned", shift=1.0, unit=2.0), "real"
    ),
    "Normal-optimal": (lambda: conditionals.NormalLikelihood(nn.Linear(Q, 4)), "missing"),
    "Bernoulli": (lambda: conditionals.BernoulliLikelihood(nn.Linear(Q, 4)), "levels"),
    "Categorical": (lambda: conditionals.CategoricalLikelihood(networks.decoder("linear", Q, (2, 4))), "levels"),
    "logistic": (
        lambda: conditionals.DiscretizedLogisticLikelihood(networks.decoder("linear", Q, (2, 4)), 2), "levels"
    ),
    "mixture": (
        lambda: conditionals.DiscretizedLogisticLikelihood(networks.decoder("linear", Q, (9, 4)), 2, components=3),
        "levels",
    ),
}  # fmt: skip
CAPTURED = {
    "PointMass": lambda net: conditionals.PointMassPosterior(net(Q)),
    "DiagonalNormal": lambda net: conditionals.DiagonalNormalPosterior(net(2 * Q)),
    "FullNormal": lambda net: conditionals.FullNormalPosterior(net(Q + Q * (Q + 1) // 2)),
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", CAPTURED)
def test_the_losses_are_captured_as_one_graph(posterior, likelihood) -> None:
    make, kind = LIKELIHOODS[likelihood]
    torch.manual_seed(0)
    x = torch.randint(0, 2, (6, 4), dtype=torch.uint8) if kind == "levels" else torch.randn(6, 4)
    if kind == "missing":
        x[0, 1] = torch.nan
    model = models.VAE(
        priors.StandardNormal(Q),
        CAPTURED[posterior](lambda n: nn.Sequential(networks.Standardize(0.0, 1.0), nn.Linear(4, n))), make(),
    )  # fmt: skip
    chosen = [objectives.ELBO(beta=0)] if posterior == "PointMass" else [objectives.ELBO(samples=2), objectives.IWAE(3)]

    def losses(x: Tensor) -> list[Tensor]:
        return [o.losses(model, x, o.draw(model, x))["model"] for o in chosen]

    torch._dynamo.reset()
    captured = torch.compile(losses, fullgraph=True, backend="eager")
    torch.manual_seed(1)
    found = captured(x)
    torch.manual_seed(1)
    for a, b in zip(found, losses(x)):
        assert a.item() == pytest.approx(b.item(), rel=1e-5) and np.isfinite(a.item())
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(sum(found), parameters))


def test_the_loop_descends_as_plain_autograd_does_whatever_layout_gradients_have() -> None:
    """A channels-last gradient from ``autograd.grad`` and a fused optimiser: ten steps must equal ``backward`` and
    AdamW.
    """
    from latens.networks import ConvDecoder, ConvEncoder

    def build() -> models.VAE:
        torch.manual_seed(0)
        return models.VAE(
            priors.StandardNormal(2),
            conditionals.PointMassPosterior(ConvEncoder((1, 28, 28), 2, width=16)),
            conditionals.NormalLikelihood(ConvDecoder(2, (1, 28, 28), width=16), variance=1.0),
        )

    x = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    settings = Settings(epochs=10, batch_size=64, learning_rate=1e-3, warmup=1.0, clip=0.0, seed=3).settle(64)
    ours, plain = build(), build()
    Trainer(ours, objectives.ELBO(beta=0), ArrayLoader(x, batch_size=64, seed=3), None, settings).run()
    betas = (0.9, settings.beta2)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=betas, weight_decay=0.0, fused=False)
    for step in range(10):
        [batch] = list(ArrayLoader(x, batch_size=64, seed=3).batches(step))
        torch.manual_seed(randomness.seed_of(3, 11, step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / 10
        optimizer.zero_grad()
        (-plain.draw(batch.x, 1).log_px.mean()).backward()
        optimizer.step()
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name


def test_draws_from_the_posterior_do_not_repeat_from_part_to_part(monkeypatch):
    """Of 200 draws for equal rows in blocks of ten, all differ, and the state of the caller's generator is
    unchanged."""
    posterior, likelihood = (
        conditionals.DiagonalNormalPosterior(nn.Linear(3, 4)),
        conditionals.NormalLikelihood(nn.Linear(2, 3), 1.0),
    )
    model = models.VAE(priors.StandardNormal(2), posterior, likelihood)
    monkeypatch.setattr("latens.evaluation.likelihood.ONCE", 512 * 10)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    z = evaluation.codes(model, torch.zeros(200, 3), sample=True)
    assert z.shape == (200, 2) and len(torch.unique(z, dim=0)) == 200
    assert torch.equal(torch.get_rng_state(), before)
