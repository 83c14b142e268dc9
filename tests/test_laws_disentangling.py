"""Laws of penalties on codes: total correlation equals that of the exact finite mixture, covariances equal numpy's, and
target rates lie on the rate-distortion curve of a linear model."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import LN_2PI, Z, t
from parts import data, trainer, vae
from torch import Tensor, nn

import latens
from latens import conditionals, models, objectives, priors, recipes
from latens.objectives.correlation import log_shares


def coded(mean: np.ndarray, var: np.ndarray) -> models.VAE:
    """A VAE whose rows are indices into a table of posteriors N(mean_n, diag var_n)."""
    found = torch.from_numpy(mean), torch.from_numpy(var)
    return models.VAE(
        priors.StandardNormal(mean.shape[1]),
        laws.Fixed(lambda x: latens.distributions.DiagonalNormal(found[0][x[:, 0].long()], found[1][x[:, 0].long()])),
        laws.Fixed(lambda z: torch.distributions.Independent(torch.distributions.Normal(z[..., :1], 1.0), 1)),
    ).double()


def correlated(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of variance 0.05 whose aggregate is N(0, [[1, 0.9], [0.9, 1]]) as n grows: TC -ln(1 - 0.81) / 2."""
    root = np.linalg.cholesky(np.array([[1, 0.9], [0.9, 1]]) - 0.05 * np.eye(2))
    return np.random.default_rng(0).normal(size=(n, 2)) @ root.T, np.full((n, 2), 0.05)


def separated(n: int, size: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors far apart: the row's own posterior gives most of ln q(z)."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, size)), np.full((n, size), 0.05)


def exact(mean: np.ndarray, var: np.ndarray, draws: int) -> tuple[float, float]:
    """Total correlation of (1/N) sum_n N(mean_n, diag var_n) and its standard error, from all N components at ``draws``
    codes. Each code is near its own component, so that no sum of densities is 0 in float64."""
    rng = np.random.default_rng(2)
    pick = rng.integers(len(mean), size=draws)
    z = mean[pick] + np.sqrt(var[pick]) * rng.normal(size=(draws, mean.shape[1]))
    ratios = []
    for rows in t(z).split(20):
        joint, marginals = torch.zeros(len(rows), len(mean), dtype=torch.float64), torch.zeros(len(rows))
        for value, m, v in zip(rows.T, t(mean.T), t(var.T), strict=True):
            each = -0.5 * ((value.unsqueeze(-1) - m) ** 2 / v + v.log() + LN_2PI)
            joint, marginals = joint + each, marginals + each.exp().mean(1).log()
        ratios.append(joint.exp().mean(1).log() - marginals)
    found = torch.cat(ratios)
    return found.mean().item(), found.std().item() / np.sqrt(draws)


def estimates(posteriors, weighting: str, batch: int, batches: int) -> np.ndarray:
    mean, var = posteriors
    penalty = objectives.TotalCorrelation(len(mean), weighting)
    model, rng = coded(*(each.astype(np.float32) for each in posteriors)).float(), np.random.default_rng(3)
    torch.manual_seed(4)
    found = []
    for _ in range(batches):
        x = torch.from_numpy(rng.choice(len(mean), batch, replace=False)).view(-1, 1).float()
        found.append(penalty(model, x, model.draw(x)).item())
    return np.array(found)


# Total correlation


def test_the_exact_mixture_is_near_the_closed_form_of_its_limit() -> None:
    value, error = exact(*correlated(10_000), 2000)
    assert abs(value + 0.5 * np.log(1 - 0.81)) < Z * error + 0.02


@pytest.mark.parametrize(
    ("posteriors", "batches"),
    [
        (correlated, 30),
        pytest.param(correlated, 50, marks=pytest.mark.slow),
        (separated, 8),
        pytest.param(separated, 50, marks=pytest.mark.slow),
    ],
)
def test_stratified_shares_are_within_five_percent_of_the_exact_mixture(posteriors, batches: int) -> None:
    """N = 10,000 rows, batches of 1,024; the tolerance is 5 % plus 4.5 standard errors of both, and 5 % alone for 50
    batches, where both together have a standard error of 1.3 % and 0.4 %."""
    given = posteriors(10_000)
    truth, error = exact(*given, 1000 if batches < 50 else 8000)
    found = estimates(given, "stratified", 1024, batches)
    spread = np.hypot(error, found.std() / np.sqrt(batches))
    assert abs(found.mean() - truth) < 0.05 * truth + Z * spread
    assert batches < 50 or abs(found.mean() - truth) < 0.05 * truth


def test_plain_shares_are_biased_if_posteriors_are_far_apart() -> None:
    """As if 1/N were in the wrong column: row i itself has the same share as any other row."""
    given = separated(10_000)
    truth, _ = exact(*given, 500)
    assert estimates(given, "plain", 64, 20).mean() > 1.15 * truth
    assert abs(estimates(given, "stratified", 64, 20).mean() / truth - 1) < 0.15


def test_weighted_and_plain_shares_differ_by_a_constant() -> None:
    """The two losses differ by the constant (Z - 1) ln N, to 1e-9."""
    mean, var = separated(500, 6)
    model, x = coded(mean, var), torch.arange(40.0).view(-1, 1)
    draw = model.draw(x, 3)
    weighted, plain = (objectives.TotalCorrelation(500, w)(model, x, draw).item() for w in ("weighted", "plain"))
    assert weighted - plain == pytest.approx(5 * np.log(500), abs=1e-9)


def test_stratified_shares_give_the_density_of_the_mixture_in_the_mean_over_all_batches() -> None:
    """Over all batches of 3 of 6 rows that contain row i, the mean of sum_j w_ij q(z|x_j) is exactly q(z)."""
    densities = np.random.default_rng(0).random(6)
    for i in range(6):
        found = []
        for others in itertools.combinations([j for j in range(6) if j != i], 2):
            for position in range(3):
                batch = list(others)
                batch.insert(position, i)
                shares = log_shares(3, 6, "stratified").exp().double().numpy()[position]
                found.append(shares @ densities[batch])
        assert np.mean(found) == pytest.approx(densities.mean(), abs=1e-7)
    assert log_shares(3, 6, "stratified").exp().diagonal().tolist() == pytest.approx([1 / 6] * 3)


def test_total_correlation_is_that_of_a_naive_loop() -> None:
    mean, var = separated(9, 3)
    model, x = coded(mean, var * np.linspace(0.5, 2, 27).reshape(9, 3)), torch.tensor([[4.0], [0.0], [7.0], [2.0]])
    var = model.encode(torch.arange(9.0).view(-1, 1)).variance.numpy()
    draw = model.draw(x, 2)
    rows, found = [4, 0, 7, 2], []
    for k in range(2):
        for i in range(4):
            z = draw.z[k, i].numpy()
            each = np.array([-0.5 * ((z - mean[j]) ** 2 / var[j] + np.log(var[j]) + LN_2PI) for j in rows])
            share = np.array([1 / 9 if j == i else (8 / 9) / 3 for j in range(4)])
            found.append(np.log(share @ np.exp(each.sum(1))) - np.log(share @ np.exp(each)).sum())
    truth = objectives.TotalCorrelation(9)(model, x, draw).item()
    assert truth == pytest.approx(np.mean(found), abs=1e-6)


def test_one_row_has_no_correlation_and_other_posteriors_are_refused() -> None:
    model = coded(*separated(5, 3))
    x = torch.zeros(1, 1)
    assert objectives.TotalCorrelation(5)(model, x, model.draw(x)).item() == pytest.approx(0.0, abs=1e-12)
    full = laws.linear_vae(np.eye(2), np.zeros(2), 1.0, laws.full_posterior(np.eye(2), np.zeros(2), np.eye(2)))
    x = t(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"must be a diagonal normal .*, got FullNormal"):
        objectives.TotalCorrelation(5)(full, x, full.draw(x))
    with pytest.raises(latens.errors.InputError, match="weighting must be one of stratified"):
        objectives.TotalCorrelation(5, "mss")


def test_a_critic_learns_the_total_correlation_of_correlated_codes() -> None:
    """For codes from N(0, [[1, 0.9], [0.9, 1]]) it finds -ln(1 - 0.81) / 2 = 0.8304 within 10 % on 50,000 new codes."""
    torch.manual_seed(0)
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    penalty = objectives.CorrelationCritic(latens.networks.mlp(2, 1, (64, 64)))
    same = laws.Fixed(lambda x: latens.distributions.PointMass(x))
    model = models.VAE(priors.StandardNormal(2), same, conditionals.NormalLikelihood(nn.Identity(), 1.0))
    optimizer = torch.optim.Adam(penalty.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for _ in range(1000):
        x = torch.randn(512, 2) @ root.mT
        optimizer.zero_grad()
        penalty.own_losses(model, x, model.draw(x))["critic"].backward()
        optimizer.step()
        schedule.step()
    x = torch.randn(50_000, 2) @ root.mT
    found = penalty(model, x, model.draw(x)).item()
    assert abs(found / (-0.5 * np.log(1 - 0.81)) - 1) < 0.1


def test_shuffled_codes_keep_every_column_and_lose_what_binds_them() -> None:
    codes = torch.arange(30.0).view(10, 3)
    model = models.VAE(priors.StandardNormal(3), laws.Fixed(latens.distributions.PointMass), laws.Fixed(lambda z: 0))
    draw = models.Draw(codes[None], torch.zeros(1, 10), torch.zeros(1, 10), None, None, model.prior(), None)  # type: ignore[arg-type]
    torch.manual_seed(0)
    real, fake = objectives.CorrelationCritic(nn.Linear(3, 1)).sides(draw)
    assert torch.equal(real, codes)
    assert torch.equal(fake.sort(0).values, codes.sort(0).values)  # all rows, each column in an independent permutation
    assert len({tuple(fake[:, j].argsort().tolist()) for j in range(3)}) == 3


# Covariances


@pytest.mark.parametrize("within", [False, True])
def test_covariance_penalties_are_those_of_numpy(within: bool) -> None:
    rng = np.random.default_rng(0)
    mean, var = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 3)), rng.random((12, 3)) + 0.1
    model, x = coded(mean, var), torch.arange(12.0).view(-1, 1)
    c = np.cov(mean.T) + (np.diag(var.mean(0)) if within else 0)
    off = sum(c[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    truth = 3.0 * off + 7.0 * sum((c[i, i] - 1) ** 2 for i in range(3))
    found = objectives.CovariancePenalty(3.0, 7.0, within)(model, x, model.draw(x))
    assert found.item() == pytest.approx(truth, rel=1e-12)
    one = objectives.CovariancePenalty()(model, x[:1], model.draw(x[:1]))
    assert one.isfinite()


# Rates


def test_a_chosen_rate_costs_the_distortion_of_the_linear_curve() -> None:
    """Reverse water-filling at level b c gives rate = sum ln(lam_i / b c) / 2 over lam_i > b c and distortion = sum
    min(lam_i, b c) / 2c + d/2 ln 2 pi c. After training, both are within 0.05 nats."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)) * [3.0, 1.5, 0.7] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x -= x.mean(0)
    c, level = 0.5, 1.1
    lam = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    kept = lam[lam > level]
    assert 0 < len(kept) < 3
    rate = 0.5 * np.log(kept / level).sum()
    distortion = np.minimum(lam, level).sum() / (2 * c) + 1.5 * np.log(2 * np.pi * c)
    torch.manual_seed(0)
    posterior = conditionals.DiagonalNormalPosterior(nn.Linear(3, 6))
    model = models.VAE(priors.StandardNormal(3), posterior, conditionals.NormalLikelihood(nn.Linear(3, 3), c))
    objective = objectives.RateTarget(rate, weight=2 * level / c)
    loop = trainer(model, x, objective, epochs=1500, batch_size=500, learning_rate=0.02).run()
    draw = loop.model.draw(torch.as_tensor(x, dtype=torch.float32), 200)
    assert draw.rate().mean().item() == pytest.approx(rate, abs=0.05)
    assert draw.distortion.mean().item() == pytest.approx(distortion, abs=0.05)


def test_above_its_capacity_the_rate_still_has_a_slope() -> None:
    """A clamp at the capacity, as in another package, has no slope; |rate - C| has the slope of the rate times the
    weight, on both sides."""
    model, x = vae(), torch.as_tensor(data(), dtype=torch.float32)
    draw = model.draw(x)
    weights = list(model.posterior.parameters())
    truth = torch.autograd.grad(draw.rate().mean() * 7, weights, retain_graph=True)
    bare = torch.autograd.grad(draw.distortion.mean(), weights, retain_graph=True)
    rate = draw.rate().mean().item()
    for target, sign in ((0.0, 1), (2 * rate, -1)):
        loss = objectives.RateTarget(target, weight=7.0).losses(model, x, draw)["model"]
        assert loss.item() == pytest.approx(draw.distortion.mean().item() + 7 * rate, rel=1e-5)
        found = torch.autograd.grad(loss, weights, retain_graph=True)
        for a, b, distortion in zip(found, truth, bare):
            assert torch.allclose(a, sign * b + distortion, atol=1e-5)


def test_the_capacity_grows_over_the_objectives_own_warm_up_and_reaches_its_end() -> None:
    x, seen = data(40), []

    class Watched(objectives.RateTarget):
        def losses(self, model: nn.Module, x: Tensor, draw: models.Draw) -> dict[str, Tensor]:
            seen.append(self.anneal.item())
            return super().losses(model, x, draw)

    trainer(vae(), x, Watched(3.0, warmup=0.5), epochs=5, batch_size=20).run()
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1])
    seen.clear()  # the settings take precedence
    trainer(vae(), x, Watched(3.0, warmup=0.5), epochs=5, batch_size=20, kl_warmup=0.2).run()
    assert seen == pytest.approx([1 / 3, 2 / 3] + 8 * [1])
    half = objectives.RateTarget(3.0, 2.0)
    half.anneal.fill_(0.5)
    model, rows = vae(), torch.as_tensor(x, dtype=torch.float32)
    draw = model.draw(rows)
    truth = draw.distortion.mean().item() + 2 * abs(draw.rate().mean().item() - 1.5)
    assert half.losses(model, rows, draw)["model"].item() == pytest.approx(truth)


def test_the_info_vae_is_the_sum_of_its_terms() -> None:
    x = torch.as_tensor(data(40, 3), dtype=torch.float32)
    info = latens.recipes.choices.DataInfo(latens.data.infer(x.numpy()), 40, x)
    torch.manual_seed(0)
    model, objective = recipes.Recipe("info_vae", latent_dim=2, alpha=0.3, weight=5.0).build(info)
    draw = objective.draw(model, x)
    torch.manual_seed(1)
    found = objective.losses(model, x, draw)["model"].item()
    torch.manual_seed(1)
    mmd = latens.objectives.discrepancies.mmd(draw.z[0], torch.randn(40, 2)).item()
    truth = (draw.distortion + 0.7 * draw.rate()).mean().item() + 4.3 * mmd
    assert found == pytest.approx(truth, rel=1e-5)
    for options, name in (({"alpha": 1.5}, "alpha"), ({"alpha": -3.0, "weight": 2.0}, "weight")):
        with pytest.raises(latens.errors.InputError, match=name):
            recipes.Recipe("info_vae", **options).build(info)
