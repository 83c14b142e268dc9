"""Laws of the tighter bounds and of the estimators of their gradients: limits and orders by naive loops, closed forms
of the linear-Gaussian model, and which loss moves which player."""

from __future__ import annotations

import itertools
import math

import laws
import numpy as np
import pytest
import torch
from laws import Z, t

from latens import InputError, distributions, models, objectives, priors
from latens.conditionals import NormalLikelihood
from latens.tensors import randomness
from latens.training import Settings
from latens.training.players import PlayerOptimizer, gradients

D, Q = 4, 2
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
LOG_P = laws.gaussian_log_likelihood(X, W, B, S2)
MEAN, COV = laws.posterior(X, W, B, S2)
V = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
WIDE = 1.6 * np.linalg.eigvalsh(COV).max() * np.ones(Q)

BOUNDS = {
    "Renyi 0.5": lambda k: objectives.Renyi(0.5, k), "Renyi 0": lambda k: objectives.Renyi(0, k),
    "Renyi 1": lambda k: objectives.Renyi(1, k), "Renyi -1": lambda k: objectives.Renyi(-1, k),
    "VR-max": lambda k: objectives.Renyi(-math.inf, k), "TVO": lambda k: objectives.Thermodynamic(k, 4, 0.1),
    "STL": lambda k: objectives.StickingTheLanding(k), "DReG": lambda k: objectives.DReG(k),
    "PIWAE": lambda k: objectives.PIWAE(k, 2), "IWAE": lambda k: objectives.IWAE(k),
}  # fmt: skip


def diagonal() -> models.VAE:
    return laws.linear_vae(W, B, S2, laws.diagonal_posterior(V, B, WIDE))


def drawn(k: int, seed: int = 0) -> tuple[models.VAE, models.Draw, np.ndarray]:
    """A model, k draws of it, and their log-weights as numbers (which test_laws_bounds holds against scipy)."""
    torch.manual_seed(seed)
    model = diagonal()
    draw = model.draw(t(X), k)
    return model, draw, draw.log_w.detach().numpy()


def naive(log_w: np.ndarray, function) -> np.ndarray:
    """Apply ``function`` to the list of log-weights of each row."""
    return np.array([function(list(log_w[:, i])) for i in range(log_w.shape[1])])


def bound_of(objective, draw: models.Draw) -> np.ndarray:
    return objective.bound(draw).detach().numpy()


# Values


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("k", [1, 7])
def test_with_the_exact_posterior_every_bound_is_log_p_of_x(name: str, k: int) -> None:
    model = laws.linear_vae(W, B, S2, laws.full_posterior(V, B, COV))
    objective = BOUNDS[name](k)
    losses = objective.losses(model, t(X), objective.draw(model, t(X)))
    assert -losses["model"].item() == pytest.approx(LOG_P.mean(), abs=1e-9)


def test_renyi_agrees_with_the_naive_loop_has_its_limits_and_falls_with_alpha() -> None:
    _, draw, log_w = drawn(9)

    def value(alpha: float) -> np.ndarray:
        return bound_of(objectives.Renyi(alpha, 9), draw)

    for alpha in (-2.0, -0.5, 0.0, 0.3, 0.9, 1.5):
        expected = naive(log_w, lambda row: laws.log_mean_exp([(1 - alpha) * v for v in row]) / (1 - alpha))  # noqa: B023
        assert value(alpha) == pytest.approx(expected, abs=1e-9)
    assert value(0) == pytest.approx(naive(log_w, laws.log_mean_exp), abs=1e-9)  # IWAE
    assert value(1) == pytest.approx(log_w.mean(0), abs=1e-9)  # ELBO
    assert value(1 - 1e-7) == pytest.approx(value(1), abs=1e-5)
    assert value(-math.inf) == pytest.approx(log_w.max(0), abs=1e-12)
    assert value(-300) == pytest.approx(log_w.max(0), abs=math.log(9) / 300 + 1e-9)
    for low, high in itertools.pairwise([-math.inf, -3, -1, 0, 0.5, 0.99, 1, 2, 5]):
        assert (value(low) > value(high)).all()


def test_the_renyi_bound_tends_to_log_p_minus_the_renyi_divergence() -> None:
    """D_a(q||p) of two normals: a/2 d' S^-1 d + ln[|S| / (|S_q|^(1-a) |S_p|^a)] / (2 (1 - a)), S = (1 - a) S_q + a S_p;
    200 groups of 2,000 draws, whose bias, chi2 / (2 k (1 - a)), is 1e-3 of a nat at most; 4.5 standard errors."""
    a, q_cov = 0.5, np.diag(WIDE)
    model = diagonal()
    torch.manual_seed(3)
    found = []
    with torch.no_grad():
        for _ in range(200):
            found.append(bound_of(objectives.Renyi(a, 2000), model.draw(t(X), 2000)))
    for i in range(len(X)):
        s, difference = (1 - a) * q_cov + a * COV, V @ (X[i] - B) - MEAN[i]
        logs = [np.linalg.slogdet(m)[1] for m in (s, q_cov, COV)]
        divergence = 0.5 * a * difference @ np.linalg.solve(s, difference)
        divergence += (logs[0] - (1 - a) * logs[1] - a * logs[2]) / (2 * (1 - a))
        sample = np.array(found)[:, i]
        error = sample.std(ddof=1) / np.sqrt(len(sample))
        assert divergence > 0.02 and abs(sample.mean() - (LOG_P[i] - divergence)) < Z * error + 1e-3


def test_the_thermodynamic_bound_agrees_with_the_naive_loop_and_lies_between_elbo_and_iwae() -> None:
    _, draw, log_w = drawn(9)
    objective = objectives.Thermodynamic(9, 4, 0.1)
    assert objective.betas == pytest.approx([0, 0.1, 0.1 ** (2 / 3), 0.1 ** (1 / 3), 1])

    def loop(row: list[float]) -> float:
        total, betas = 0.0, objective.betas
        for j in range(4):
            weights = [math.exp(betas[j] * (v - max(row))) for v in row]
            mean = sum(w * v for w, v in zip(weights, row)) / sum(weights)
            total += (betas[j + 1] - betas[j]) * mean
        return total

    value = bound_of(objective, draw)
    assert value == pytest.approx(naive(log_w, loop), abs=1e-9)
    elbo, tight = log_w.mean(0), naive(log_w, laws.log_mean_exp)
    assert (elbo < value).all() and (value < tight).all()
    assert bound_of(objectives.Thermodynamic(9, 1), draw) == pytest.approx(elbo, abs=1e-9)
    finer = bound_of(objectives.Thermodynamic(9, 8, 0.03), draw)
    assert (value < finer).all()
    assert bound_of(objectives.Thermodynamic(9, 4000, 1e-3), draw) == pytest.approx(tight, abs=5e-3)


def test_the_thermodynamic_terms_are_those_of_the_normals_between_q_and_p() -> None:
    """E[ln w] under q^(1-b) p(x, z)^b, a normal, in closed form; 300 groups of 2,000 draws, 4.5 standard errors and
    2e-3 for the bias of self-normalised weights."""
    betas, q_cov = objectives.Thermodynamic(2, 3, 0.2).betas, np.diag(WIDE)
    sp, sq = np.linalg.inv(COV), np.linalg.inv(q_cov)
    torch.manual_seed(4)
    model = diagonal()
    with torch.no_grad():
        groups = [bound_of(objectives.Thermodynamic(2000, 3, 0.2), model.draw(t(X), 2000)) for _ in range(300)]
    for i in range(len(X)):
        q_mean, exact = V @ (X[i] - B), 0.0
        for low, high in itertools.pairwise(betas):
            cov = np.linalg.inv((1 - low) * sq + low * sp)
            mean = cov @ ((1 - low) * sq @ q_mean + low * sp @ MEAN[i])

            def expected(m, s, precision):  # of ln N(z; m, s) for z ~ N(mean, cov)
                d = mean - m  # noqa: B023
                return -0.5 * (np.trace(precision @ cov) + d @ precision @ d + np.linalg.slogdet(2 * np.pi * s)[1])  # noqa: B023

            exact += (high - low) * (LOG_P[i] + expected(MEAN[i], COV, sp) - expected(q_mean, q_cov, sq))
        sample = np.array(groups)[:, i]
        assert abs(sample.mean() - exact) < Z * sample.std(ddof=1) / np.sqrt(300) + 2e-3


def test_what_the_importance_weighted_family_reports_is_the_bound_and_not_its_surrogate() -> None:
    """sum_k v_k ln w_k with normalised weights v has the right gradient and is above the bound, here above ln p(x):
    mean over 400 draws of 50, 4 standard errors."""
    model = diagonal()
    torch.manual_seed(5)
    reported, surrogate = [], []
    for _ in range(400):
        draw = model.draw(t(X), 50)
        log_w = draw.log_w.detach()
        bounds = naive(log_w.numpy(), laws.log_mean_exp).mean()
        for objective in (objectives.IWAE(50), objectives.DReG(50), objectives.PIWAE(25, 2)):
            assert -objective.losses(model, t(X), draw)["model"].item() == pytest.approx(bounds, abs=1e-9)
        reported.append(bounds)
        surrogate.append((log_w.softmax(0) * log_w).sum(0).mean().item())
    error = np.std(reported) / 20
    assert np.mean(reported) < LOG_P.mean() + 4 * error
    assert np.mean(surrogate) > LOG_P.mean() + 4 * error


def test_losses_of_every_player_are_means_over_rows() -> None:
    """Repeating all rows leaves the losses unchanged; a weight of 2 equals repeating the row."""
    model = diagonal()
    makes = (objectives.StickingTheLanding(3), objectives.DReG(4), objectives.PIWAE(3, 2), objectives.Renyi(0.5, 4),
             objectives.Thermodynamic(4))  # fmt: skip
    for objective in makes:

        def losses(x, weight=None):
            torch.manual_seed(7)
            with randomness.shared():
                draw = objective.draw(model, t(x))  # noqa: B023
            draw.weight = None if weight is None else t(weight) * (len(x) / np.sum(weight))
            return {name: loss.item() for name, loss in objective.losses(model, t(x), draw).items()}  # noqa: B023

        assert losses(np.concatenate([X, X])) == pytest.approx(losses(X), rel=1e-12)
        weight = np.array([2, 1, 0, 1, 3, 1])
        assert losses(X, weight) == pytest.approx(losses(np.repeat(X, weight, axis=0)), rel=1e-12)


# Gradients. p = N(0, 1), N(z, 1), q = N(m, s^2), one x: dELBO/dm = x - 2 m, dELBO/d ln s = 1 - 2 s^2

x1, m1, s1 = 1.3, 0.4, 0.9


def per_draw(objective, rows: int, *, player: str, anneal: float = 1.0, k: int | None = None) -> np.ndarray:
    """Gradients in (m, ln s) of ``rows`` independent evaluations of the objective, ``[rows, 2]``."""
    m = torch.full((rows, 1), m1, dtype=torch.float64, requires_grad=True)
    log_s = torch.full((rows, 1), math.log(s1), dtype=torch.float64, requires_grad=True)
    q = laws.Fixed(lambda x: distributions.DiagonalNormal(m, (2 * log_s).exp()))
    likelihood = NormalLikelihood(laws.affine(np.eye(1), np.zeros(1)), variance=1.0)
    model = models.VAE(priors.StandardNormal(1), q, likelihood).double()
    for part in objective.modules():
        part.anneal.fill_(anneal)
    x = torch.full((rows, 1), x1, dtype=torch.float64)
    loss = objective.losses(model, x, objective.draw(model, x))[player]
    return torch.cat(torch.autograd.grad(-loss * rows, [m, log_s]), -1).numpy()


def z_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    spread = np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))
    return (a.mean(0) - b.mean(0)) / spread


def test_sticking_the_landing_and_the_plain_gradient_are_the_closed_form_in_mean() -> None:
    """100,000 draws, two coordinates, two estimators, |z| < 4.5 (false alarm rate 3e-5)."""
    torch.manual_seed(0)
    truth = np.array([x1 - 2 * m1, 1 - 2 * s1**2])
    for objective in (objectives.StickingTheLanding(), objectives.ELBO(kl="sampled")):
        assert np.abs(laws.z_score(per_draw(objective, 100_000, player="model"), truth)).max() < Z


def test_at_the_exact_posterior_sticking_the_landing_has_no_gradient_but_the_plain_estimator_has() -> None:
    model = laws.linear_vae(W, B, S2, laws.full_posterior(V, B, COV))
    encoder = list(model.posterior.parameters())
    torch.manual_seed(1)
    for objective, expected in (
        (objectives.StickingTheLanding(3), True), (objectives.ELBO(samples=3, kl="sampled"), False),
        (objectives.DReG(3), True), (objectives.IWAE(3), False),
    ):  # fmt: skip
        losses = objective.losses(model, t(X), objective.draw(model, t(X)))
        grads = torch.autograd.grad(losses.get("encoder", losses["model"]), encoder)
        size = max(g.abs().max().item() for g in grads)
        assert size < 1e-12 if expected else size > 1e-2


@pytest.mark.parametrize("k", [1, 8, 64])
@pytest.mark.parametrize("anneal", [1.0, 0.4])
def test_the_doubly_reparametrised_gradient_is_that_of_iwae_in_mean(k: int, anneal: float) -> None:
    """Two coordinates, six settings, |z| < 4.5 between the two estimators (false alarm rate 8e-5). The mean of DReG
    is many of its standard errors from 0, so the agreement is informative."""
    torch.manual_seed(k)
    rows = 400_000 // k
    doubly = per_draw(objectives.DReG(k), rows, player="encoder", anneal=anneal)
    plain = per_draw(objectives.IWAE(k), rows, player="model", anneal=anneal)
    assert np.abs(z_between(doubly, plain)).max() < Z
    assert np.abs(laws.z_score(doubly, 0.0)).max() > 20


def test_signal_to_noise_rises_with_k_for_dreg_and_falls_for_iwae() -> None:
    """The ratio is |mean| / standard deviation of the gradient in m, at k = 8, 64, 512 from 60,000, 20,000 and 4,000
    gradients. The noise of each ratio, at most 1 / sqrt(rows) plus a few per cent, is far below the steps of more than
    a factor of 1.5."""
    torch.manual_seed(2)
    ratios: dict[str, list[float]] = {"DReG": [], "IWAE": []}
    for k, rows in ((8, 60_000), (64, 20_000), (512, 4_000)):
        for name, player in (("DReG", "encoder"), ("IWAE", "model")):
            g = per_draw(BOUNDS[name](k), rows, player=player)[:, 0]
            ratios[name].append(abs(g.mean()) / g.std())
    assert ratios["DReG"][0] < ratios["DReG"][1] / 1.5 < ratios["DReG"][2] / 2.25, ratios
    assert ratios["IWAE"][0] > 1.5 * ratios["IWAE"][1] and ratios["IWAE"][1] > ratios["IWAE"][2], ratios


# Players


def test_piwae_moves_the_encoder_by_miwae_alone_and_the_rest_by_iwae_alone() -> None:
    """The loop's gradient for each player equals that of a naive loop over groups of draws, not that of their sum."""
    k, m = 3, 2
    model, objective = diagonal(), objectives.PIWAE(k, m)
    torch.manual_seed(9)
    draw = objective.draw(model, t(X))
    players = objective.players(model)
    moved = {name: PlayerOptimizer((model,), player, Settings(learning_rate=1e-3)) for name, player in players.items()}
    found = gradients(objective.losses(model, t(X), draw), moved)
    torch.manual_seed(9)
    log_w = objective.draw(model, t(X)).log_w  # the same draws, another graph
    groups = [[i * m + j for i in range(k)] for j in range(m)]

    def mean_exp(rows: list[int]) -> torch.Tensor:
        return sum(log_w[i].exp() for i in rows).log() - math.log(len(rows))

    miwae = -(sum(mean_exp(group) for group in groups) / m).mean()
    iwae = -mean_exp(list(range(k * m))).mean()
    encoder, rest = list(model.posterior.parameters()), list(model.likelihood.parameters())
    assert {id(p) for p in players["encoder"].parameters} == {id(p) for p in encoder}
    assert {id(p) for p in players["model"].parameters} == {id(p) for p in rest}
    for parameters, own, other, name in ((encoder, miwae, iwae, "encoder"), (rest, iwae, miwae, "model")):
        mine, theirs = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (own, other))
        for g, a, b in zip(found[name], mine, theirs):
            assert g.numpy() == pytest.approx(a.numpy(), rel=1e-9, abs=1e-11)
            assert not np.allclose(g.numpy(), b.numpy(), rtol=1e-3, atol=1e-3)


def test_miwae_of_one_group_is_not_the_elbo() -> None:
    """The logarithm is taken over the draws of a group, not over the groups: at m = 1 that would be the ELBO."""
    _, draw, log_w = drawn(50)
    tight = naive(log_w, laws.log_mean_exp)
    assert bound_of(objectives.IWAE(50, m=1), draw) == pytest.approx(tight, abs=1e-9)
    assert (tight > log_w.mean(0) + 0.05).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: objectives.Renyi(math.nan, 3), lambda: objectives.Renyi(math.inf, 3), lambda: objectives.Renyi(0.5, 0),
        lambda: objectives.Thermodynamic(3, 0), lambda: objectives.Thermodynamic(3, 4, 1.0),
        lambda: objectives.StickingTheLanding(0), lambda: objectives.DReG(0), lambda: objectives.PIWAE(0, 2),
        lambda: objectives.PIWAE(2, 1.5),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(make) -> None:
    with pytest.raises(InputError, match="must be"):
        make()


def test_estimators_that_hold_q_still_refuse_a_posterior_that_is_not_normal() -> None:
    from torch import distributions as td

    q = laws.Fixed(lambda x: td.Independent(td.Laplace(x[:, :Q], torch.ones(len(x), Q).double()), 1))
    model = laws.linear_vae(W, B, S2, q)
    for objective in (objectives.StickingTheLanding(), objectives.DReG(2)):
        with pytest.raises(ValueError, match="normal posterior"):
            objective.losses(model, t(X), objective.draw(model, t(X)))
