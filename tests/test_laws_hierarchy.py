"""Laws of layered codes: one layer is the VAE, two layers match the exact likelihood on a grid, rates, free bits,
stages."""

from __future__ import annotations

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import nn

from latens import conditionals, evaluation, models, objectives, priors, recipes
from latens.data import infer
from latens.recipes import choices

D, Q = 4, 2
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)


def features(inputs: int, width: int) -> conditionals.Features:
    return conditionals.Features(nn.Sequential(nn.Linear(inputs, width), nn.Tanh()))


def net(inputs: int, outputs: int, hidden: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def two_layers(kind: str) -> models.Ladder:
    """Two layers of one number each, nonlinear, float64."""
    torch.manual_seed(3)
    upward = models.Upward(features(D, 6), [nn.Linear(6, 6)])
    if kind == "markov":
        rungs = [models.MarkovRung(1, nn.Linear(6, 2)), models.MarkovRung(1, nn.Linear(6, 2), net(1, 2))]
        ladder = models.Ladder(upward, rungs, conditionals.NormalLikelihood(net(1, D), variance=0.5))
    else:
        rungs = [models.ResidualRung(1, net(3, 2), net(9, 2), nn.Linear(1, 3), net(3, 3)) for _ in range(2)]
        ladder = models.Ladder(upward, rungs, conditionals.NormalLikelihood(net(3, D), variance=0.5), torch.randn(3))
    return ladder.double()


def raw_normal(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = np.split(raw, 2, -1)
    return mean, np.log1p(np.exp(spread + np.log(np.expm1(1.0)))) + 1e-8


def apply(network: nn.Module, x: np.ndarray) -> np.ndarray:
    """A Sequential of linear maps and tanh, in numpy."""
    for layer in network if isinstance(network, nn.Sequential) else [network]:
        if isinstance(layer, nn.Tanh):
            x = np.tanh(x)
        else:
            x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    return x


def grid_truth(ladder: models.Ladder, kind: str, points: int) -> np.ndarray:
    """ln p(x) of each row by the trapezoid rule over both layers, in numpy."""
    line = np.linspace(-7, 7, points)
    weight = np.full(points, line[1] - line[0])
    weight[[0, -1]] /= 2
    noise = stats.norm.logpdf(line)[:, None] + np.log(weight)[:, None]  # of a standard normal, on the line
    top, low = ladder.rungs
    if kind == "markov":
        z1, log_weight = line[:, None], noise
        mean, var = raw_normal(apply(low.above, z1))
        z2 = mean[:, None] + np.sqrt(var)[:, None] * line[None, :, None]
        h = z2
    else:
        start = ladder.start.detach().numpy()[None]
        mean, var = raw_normal(apply(top.above, start))
        h1 = apply(top.after, start + apply(top.into, mean + np.sqrt(var) * line[:, None]))
        mean, var = raw_normal(apply(low.above, h1))
        z2 = mean[:, None] + np.sqrt(var)[:, None] * line[None, :, None]
        h = apply(low.after, h1[:, None] + apply(low.into, z2))
        log_weight = noise
    f = apply(ladder.likelihood.network, h)  # points x points x D
    log_px = -0.5 * (((f[:, :, None] - X) ** 2).sum(-1) / 0.5 + D * np.log(2 * np.pi * 0.5))
    total = log_px + log_weight[:, None] + noise[None]
    peak = total.max((0, 1))
    return peak + np.log(np.exp(total - peak).sum((0, 1)))


def test_one_layer_is_the_vae() -> None:
    mean, cov = laws.posterior(X, W, B, S2)
    q = laws.diagonal_posterior(np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T, B, 1.5 * np.diag(cov))
    vae = laws.linear_vae(W, B, S2, q)
    upward = models.Upward(conditionals.Features(nn.Identity()), [])
    ladder = models.Ladder(upward, [models.MarkovRung(Q, q.network)], vae.likelihood).double()
    found = []
    for model in (vae, ladder):
        torch.manual_seed(0)
        draw = model.draw(t(X), 5)
        found.append([draw.codes, draw.log_w, draw.rate(), draw.rate("sampled"), model.encode(t(X)).mean])
    for one, other in zip(*found):
        assert one.detach().numpy() == pytest.approx(other.detach().numpy(), abs=1e-12)
    assert torch.equal(ladder.decode(found[1][0]).mean, vae.decode(found[0][0]).mean)


@pytest.mark.parametrize("kind", ["markov", "residual"])
def test_two_layers_meet_the_truth_on_the_grid(kind) -> None:
    """E[w] = p(x) with 100,000 draws for each of 6 rows, |z| < 4.5 (false alarm rate below 5e-5); the bound exceeds the
    truth by at most 4 standard errors; the NLL is within its own error."""
    ladder = two_layers(kind)
    truth = grid_truth(ladder, kind, 401)
    assert truth == pytest.approx(grid_truth(ladder, kind, 301), abs=1e-7)
    torch.manual_seed(1)
    with torch.no_grad():
        draw = ladder.draw(t(X), 100_000)
        log_w = draw.log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - truth), 1.0)).max() < Z
    assert (log_w.mean(0) < truth + 4 * log_w.std(0) / np.sqrt(1e5)).all()
    closed = (draw.log_px - draw.rate()).numpy()
    assert np.abs(laws.z_score(closed - log_w, 0.0)).max() < Z  # the same bound with its rate in closed form
    estimate = evaluation.nll(ladder, t(X), k=20_000)
    assert (np.abs(estimate.rows.numpy() + truth) < Z * estimate.row_error.numpy() + 1e-3).all()


@pytest.mark.parametrize("kind", ["markov", "residual"])
def test_rates_are_those_of_a_naive_loop_over_layers(kind) -> None:
    ladder = two_layers(kind)
    torch.manual_seed(2)
    draw = ladder.draw(t(X), 3)
    z = draw.codes.detach().numpy()
    q, p = ([d.loc.detach().numpy(), d.variance.detach().numpy()] for d in (draw.q, draw.p))
    for kl in ("auto", "sampled"):
        rates = draw.rates(kl).detach().numpy()
        assert rates.shape == (2, 3, len(X))
        assert rates.sum(0) == pytest.approx(draw.rate(kl).detach().numpy(), abs=1e-12)
        for layer, k, i in np.ndindex(2, 3, len(X)):
            (a, v), (b, w) = ((part[0][k, i, layer], part[1][k, i, layer]) for part in (q, p))
            if kl == "sampled":
                at = z[k, i, layer]
                expected = stats.norm(a, v**0.5).logpdf(at) - stats.norm(b, w**0.5).logpdf(at)
            else:
                expected = laws.gaussian_kl(np.array([a]), np.array([[v]]), np.array([b]), np.array([[w]]))
            assert rates[layer, k, i] == pytest.approx(expected, abs=1e-9)
    if kind == "markov":  # below the top, q is the normalised product of the prior and what x says
        below = ladder.rungs[1]
        said = raw_normal(apply(below.below, apply(ladder.upward.first.network, X)))
        prior = raw_normal(apply(below.above, z[0, :, :1]))
        grid = np.linspace(-20, 20, 40_001)
        for i in range(len(X)):
            density = stats.norm.pdf(grid, said[0][i], said[1][i] ** 0.5) * stats.norm.pdf(
                grid, prior[0][i], prior[1][i] ** 0.5
            )
            mean = (grid * density).sum() / density.sum()
            assert q[0][0, i, 1] == pytest.approx(mean, abs=1e-6)
            assert q[1][0, i, 1] == pytest.approx(((grid - mean) ** 2 * density).sum() / density.sum(), rel=1e-6)


def test_a_rate_below_its_floor_counts_as_the_floor_and_has_no_gradient() -> None:
    ladder = two_layers("markov")
    torch.manual_seed(4)
    draw = ladder.draw(t(X), 3)
    each = draw.rates().mean(1).detach()
    low, high = sorted(each.mean(1).tolist())
    assert high > 1.2 * low
    floor = (low + high) / 2  # one layer above, one below
    counted = np.maximum(each.mean(1).numpy(), floor)
    objective = objectives.FreeBits(floor)
    found = objective.losses(ladder, t(X), draw)["model"]
    assert found.item() == pytest.approx(-(draw.log_px.mean().item() - counted.sum()), abs=1e-12)
    below = int(each.mean(1).argmin())
    means = draw.q.loc, draw.p.loc
    free, paid = (
        torch.autograd.grad(o.bound(draw).sum() - draw.log_px.mean(0).sum(), means, retain_graph=True)
        for o in (objective, objectives.ELBO())
    )
    for one, other in zip(free, paid):
        assert (one[..., below] == 0).all() and (other[..., below] != 0).any()
        assert torch.equal(one[..., 1 - below], other[..., 1 - below])
    assert objectives.FreeBits(0.0).bound(draw).detach() == pytest.approx(
        objectives.ELBO().bound(draw).detach(), abs=1e-12
    )
    with pytest.raises(ValueError, match="free_bits"):
        objectives.FreeBits(-1.0)


def test_the_floor_is_a_bound_of_the_batch() -> None:
    """The mean over the batch is never above the ELBO, whatever the floor."""
    draw = two_layers("residual").draw(t(X), 2)
    values = [objectives.FreeBits(floor).bound(draw).mean().item() for floor in (0.0, 0.1, 1.0, 10.0)]
    assert values == sorted(values, reverse=True)


# Two stages


def staged() -> tuple[models.TwoStage, np.ndarray]:
    """A linear first and second stage: (model, ln p(x)), x = W z + b, z = A u + a, both with noise."""
    rng = np.random.default_rng(5)
    a, shift, s = rng.normal(size=(Q, Q)), rng.normal(size=Q), 0.3
    mean, cov = laws.posterior(X, W, B, S2)
    v = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
    va = np.linalg.inv(a.T @ a + s * np.eye(Q)) @ a.T
    inner_cov = s * np.linalg.inv(a.T @ a + s * np.eye(Q))
    second = laws.linear_vae(a, shift, s, laws.diagonal_posterior(va, shift, 2 * np.diag(inner_cov)))
    q = laws.diagonal_posterior(v, B, 1.5 * np.diag(cov))
    model = models.TwoStage(
        priors.StandardNormal(Q), q, conditionals.NormalLikelihood(laws.affine(W, B), variance=S2), second
    )
    total = W @ (a @ a.T + s * np.eye(Q)) @ W.T + S2 * np.eye(D)
    return model.double(), stats.multivariate_normal(B + W @ shift, total).logpdf(X)


def test_the_mean_weight_of_two_stages_is_p_of_x() -> None:
    """200,000 draws, 6 rows, |z| < 4.5."""
    model, truth = staged()
    torch.manual_seed(6)
    with torch.no_grad():
        log_w = model.draw(t(X), 200_000).log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - truth), 1.0)).max() < Z
    with torch.no_grad():
        samples = torch.manual_seed(0) and model.sample(40_000).numpy()
    mean = B + W @ model.second.likelihood.network.bias.detach().numpy()
    assert np.abs(laws.z_score(samples, mean)).max() < Z  # not those of the first prior, whose mean is b
    assert np.abs(laws.z_score(samples, B)).max() > 20


def test_neither_stage_gets_a_gradient_from_the_loss_of_the_other() -> None:
    model, _ = staged()
    objective = objectives.TwoStageELBO()
    draw = objective.draw(model, t(X))
    losses, players = objective.losses(model, t(X), draw), objective.players(model)
    assert losses.keys() == players.keys() == {"model", "second"}
    for name, other in (("model", "second"), ("second", "model")):
        grads = torch.autograd.grad(losses[name], players[other].parameters, allow_unused=True, retain_graph=True)
        assert all(g is None for g in grads)
    assert {id(p) for player in players.values() for p in player.parameters} == {id(p) for p in model.parameters()}


# Recipes


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 3)])
@pytest.mark.parametrize("name", ["ladder", "deep_ladder"])
def test_layers_fit_images_of_any_size_and_what_is_drawn_is_what_is_decoded(name, shape) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (30, shape[1], shape[2], shape[0])).astype("uint8")
    schema = infer(x if shape[0] == 3 else x[..., 0])
    inside = torch.as_tensor(schema.to_model(x if shape[0] == 3 else x[..., 0]))
    model, objective = recipes.Recipe(name, free_bits=0.1).build(choices.DataInfo(schema, 30, inside))
    draw = objective.draw(model, inside)
    assert sum(draw.layers) == draw.codes.shape[-1] and len(draw.layers) > 2
    again = model.decode(draw.codes).log_prob(inside)
    assert again.detach().numpy() == pytest.approx(draw.log_px.detach().numpy(), rel=1e-4)
    assert torch.isfinite(objective.losses(model, inside, draw)["model"])
    assert model.sample(3).shape == (3, *shape)
