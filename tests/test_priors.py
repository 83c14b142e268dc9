"""Learned priors: density, moments and draws of the mixture, the likelihood of a linear model under it, and the rule
that gives tables a mixture."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from laws import affine, raw, t
from scipy import stats
from scipy.special import logsumexp

from latens import InputError, conditionals, distributions, evaluation, models, priors
from latens.data.rows import Asked, rows_of
from latens.recipes.choices import DataInfo
from latens.recipes.choices.parts import MIXTURE_ROWS, prior_for

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[-2.0, 1.0], [3.0, 0.0], [0.5, -4.0]])
VARIANCES = np.array([[0.5, 1.0], [2.0, 0.1], [1e-3, 3.0]])


def mixture() -> distributions.NormalMixture:
    return distributions.NormalMixture(t(np.log(WEIGHTS) + 5.0), t(MEANS), t(VARIANCES))  # logits: up to a constant


def log_density(z: np.ndarray) -> np.ndarray:
    parts = zip(WEIGHTS, MEANS, VARIANCES)
    return logsumexp([np.log(w) + stats.multivariate_normal(m, np.diag(v)).logpdf(z) for w, m, v in parts], 0)


def test_a_mixture_has_the_density_and_the_moments_of_its_parts():
    z = np.random.default_rng(0).normal(size=(4, 7, 2)) * 2
    assert mixture().log_prob(t(z)).numpy() == pytest.approx(log_density(z), abs=1e-9)
    mean = WEIGHTS @ MEANS
    assert mixture().mean.numpy() == pytest.approx(mean, abs=1e-12)
    assert mixture().variance.numpy() == pytest.approx(WEIGHTS @ (VARIANCES + MEANS**2) - mean**2, abs=1e-12)


def test_narrow_components_far_from_0_keep_their_digits_in_single_precision():
    loc = 50 + np.arange(8.0).reshape(4, 2) / 64
    z = 50 + np.random.default_rng(0).integers(-8, 8, (6, 2)) / 256
    found = distributions.NormalMixture(t(np.zeros(4)).float(), t(loc).float(), torch.full((4, 2), 1e-4)).log_prob
    exact = logsumexp([np.log(0.25) + stats.norm.logpdf(z, m, np.sqrt(np.float32(1e-4))).sum(-1) for m in loc], 0)
    assert found(t(z).float()).dtype == torch.float32
    assert found(t(z).float()).numpy() == pytest.approx(exact, rel=1e-5)


def test_draws_of_the_mixture_have_its_density():
    """Two Kolmogorov-Smirnov tests at 1e-4 each: one false alarm in 5,000 seeds."""
    torch.manual_seed(0)
    z = mixture().sample((20_000,)).numpy()
    for axis in range(2):
        places = np.sort(z[:, axis])[:, None]
        exact = stats.norm.cdf(places, MEANS[:, axis], np.sqrt(VARIANCES[:, axis])) @ WEIGHTS
        assert stats.kstest(exact, "uniform").pvalue > 1e-4
    assert mixture().sample().shape == (2,)


def test_rows_with_a_condition_have_mixtures_of_their_own():
    loc = t(np.stack([MEANS, MEANS + 100]))
    p = distributions.NormalMixture(t(np.log(WEIGHTS)), loc, t(VARIANCES))
    z = np.random.default_rng(1).normal(size=(5, 2, 2))  # draws x rows x dimensions
    found = p.log_prob(t(z)).numpy()
    assert found[:, 0] == pytest.approx(log_density(z[:, 0]), abs=1e-9)
    assert found[:, 1] == pytest.approx(log_density(z[:, 1] - 100), rel=1e-9)
    torch.manual_seed(0)
    assert p.sample((500,)).mean((0, 2)).numpy() == pytest.approx([(WEIGHTS @ MEANS).mean()] * 1 + [100], abs=2)


def test_the_likelihood_of_a_linear_model_under_a_mixture_is_a_mixture():
    """p(x) = sum_j w_j N(W m_j + b, W S_j W' + c I): the importance-weighted estimate agrees within 4 errors."""
    rng = np.random.default_rng(0)
    w, b, c = rng.normal(size=(3, 2)), rng.normal(size=3), 0.5
    prior = priors.NormalMixturePrior(2, 3).double()
    with torch.no_grad():
        prior.start.copy_(t(np.column_stack([np.log(WEIGHTS), MEANS, raw(VARIANCES, 1e-4)])))
    x = rng.normal(size=(6, 3)) * 2
    exact = np.log(sum(
        p * stats.multivariate_normal(w @ m + b, w @ np.diag(v) @ w.T + c * np.eye(3)).pdf(x)
        for p, m, v in zip(WEIGHTS, MEANS, VARIANCES)
    ))  # fmt: skip
    wide = affine(np.zeros((4, 3)), np.array([0.0, 0.0, 16.0, 16.0]))
    model = models.VAE(
        prior, conditionals.DiagonalNormalPosterior(wide), conditionals.NormalLikelihood(affine(w, b), variance=c)
    ).double()
    found = np.stack([evaluation.nll(model, t(x), 20_000, seed=seed).rows.numpy() for seed in range(5)])
    error = found.std(0, ddof=1) / np.sqrt(5)
    assert (np.abs(found.mean(0) + exact) < 4 * error + 0.02).all(), (found.mean(0), -exact, error)


def test_tables_of_many_rows_get_a_mixture_and_a_condition_reaches_it():
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=200), "b": rng.normal(size=200), "g": rng.choice(["u", "v"], 200)})
    for rows, given, kind in (
        (MIXTURE_ROWS - 1, (), priors.StandardNormal), (MIXTURE_ROWS, (), priors.NormalMixturePrior),
        (MIXTURE_ROWS, ("g",), priors.NormalMixturePrior),
    ):  # fmt: skip
        read = rows_of(table, asked=Asked(condition=given))
        info = DataInfo(read.schema, rows, conditions=read.given.given_fields if given else ())
        assert type(prior_for(info, 2, "auto")) is kind
        assert ("prior" in info.choices) == (kind is priors.NormalMixturePrior)
    part = priors.NormalMixturePrior(2, 3, torch.nn.Linear(1, 15), ("g",))
    with pytest.raises(ValueError, match="'g', which was not given"):
        part()
    with pytest.raises((InputError, ValueError), match="components"):
        priors.NormalMixturePrior(2, 0)


def test_a_unit_is_active_on_the_scale_of_the_prior():
    """With a prior a hundred times narrower than N(0, I), codes are a hundred times narrower and just as active."""
    codes = t(np.random.default_rng(0).normal(scale=0.01, size=(500, 2)) * np.array([1.0, 0.001]))
    assert evaluation.active_units(codes).tolist() == [False, False]
    assert evaluation.active_units(codes, t(np.array([1e-4, 1e-4]))).tolist() == [True, False]
