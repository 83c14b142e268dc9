"""Laws of several modalities: products and mixtures of experts, any of them missing."""

from __future__ import annotations

import itertools

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import nn

import latens
from latens import conditionals, distributions, models, objectives, priors
from latens.data import infer
from latens.recipes import choices

D, Q = 5, 2
WIDE = 2.5  # the factor on the variance of each expert, so that weights have a finite variance
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
CUTS = {"first": slice(0, 2), "second": slice(2, 4), "third": slice(4, 5)}
MISSING = X.copy()
MISSING[0, CUTS["first"]] = np.nan
MISSING[1, CUTS["second"]] = np.nan
MISSING[1, CUTS["third"]] = np.nan
MISSING[2] = np.nan
PIECES = distributions.Pieces({"first": 2, "second": 2, "third": 1}, -1)


def experts() -> dict[str, nn.Module]:
    """A posterior for each modality: the exact one, widened."""
    found = {}
    for name, cut in CUTS.items():
        w, b = W[cut], B[cut]
        v = np.linalg.inv(w.T @ w + S2 * np.eye(Q)) @ w.T
        cov = S2 * np.linalg.inv(w.T @ w + S2 * np.eye(Q))
        found[name] = laws.diagonal_posterior(v, b, WIDE * np.diag(cov))
    return found


def posterior(kind: str) -> nn.Module:
    if kind == "joint":
        v = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
        cov = S2 * np.linalg.inv(W.T @ W + S2 * np.eye(Q))
        return conditionals.JointAndSingles(experts(), laws.diagonal_posterior(v, B, 2 * np.diag(cov)), PIECES)
    kinds = {"poe": conditionals.ProductOfExperts, "moe": conditionals.MixtureOfExperts,
             "mopoe": conditionals.MixtureOfProducts}  # fmt: skip
    return kinds[kind](experts(), PIECES)


def vae(kind: str) -> models.VAE:
    given = {n: conditionals.NormalLikelihood(laws.affine(W[cut], B[cut]), variance=S2) for n, cut in CUTS.items()}
    return models.VAE(priors.StandardNormal(Q), posterior(kind), conditionals.ByModality(given, PIECES)).double()


def opinions(row: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(mean, variance) of the expert of each modality present in the row, in numpy."""
    found = []
    for cut in CUTS.values():
        if not np.isnan(row[cut]).all():
            w = W[cut]
            inverse = np.linalg.inv(w.T @ w + S2 * np.eye(Q))
            found.append((inverse @ w.T @ (row[cut] - B[cut]), WIDE * np.diag(S2 * inverse)))
    return found


def multiplied(normals: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The product of normals, two at a time, by completing the square."""
    mean, var = normals[0]
    for m, v in normals[1:]:
        mean, var = (mean * v + m * var) / (var + v), var * v / (var + v)
    return mean, var


def components(kind: str, row: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    prior, found = (np.zeros(Q), np.ones(Q)), opinions(row)
    if kind == "poe":
        return [multiplied([prior, *found])]
    sizes = [1] if kind == "moe" else range(1, len(found) + 1)
    return [multiplied(list(s)) for n in sizes for s in itertools.combinations(found, n)] or [prior]


@pytest.mark.parametrize("kind", ["poe", "moe", "mopoe"])
def test_the_posterior_is_the_naive_product_or_mixture_with_any_modality_missing(kind) -> None:
    q = vae(kind).encode(t(MISSING))
    z = np.random.default_rng(0).normal(size=(6, Q))
    found = q.log_prob(t(z)).detach().numpy()
    for i, row in enumerate(MISSING):
        parts = components(kind, row)
        terms = [stats.norm(m, v**0.5).logpdf(z[i]).sum() for m, v in parts]
        assert found[i] == pytest.approx(laws.log_mean_exp(terms), abs=1e-9)
        assert q.mean[i].detach().numpy() == pytest.approx(np.mean([m for m, _ in parts], 0), abs=1e-9)
    assert np.array_equal(components(kind, MISSING[2])[0][0], np.zeros(Q))  # nothing observed: the prior


@pytest.mark.parametrize("kind", ["poe", "moe", "mopoe", "joint"])
def test_the_mean_weight_is_p_of_what_is_seen(kind) -> None:
    """E[w] = p(x_observed) for 6 rows, of which three have gaps; 200,000 draws, |z| < 4.5 (false alarm rate 4e-5
    each)."""
    truth = []
    for row in MISSING:
        o = ~np.isnan(row)
        truth.append(laws.gaussian_log_likelihood(row[o], W[o], B[o], S2)[0] if o.any() else 0.0)
    torch.manual_seed(1)
    with torch.no_grad():
        log_w = vae(kind).draw(t(MISSING), 200_000).log_w.numpy()
    ratio = np.exp(log_w - truth)
    seen = np.arange(6) != 2
    assert np.abs(laws.z_score(ratio[:, seen], 1.0)).max() < Z
    assert ratio[:, 2] == pytest.approx(1.0, abs=1e-9)  # q = p, and no data to explain


@pytest.mark.parametrize("kind", ["poe", "moe", "mopoe", "joint"])
def test_a_modality_left_out_of_the_mapping_counts_as_missing_in_all_rows(kind) -> None:
    model = vae(kind)
    x = X.copy()
    x[:, CUTS["second"]] = np.nan
    mapping = {name: t(X[:, CUTS[name]]) for name in ("first", "third")}
    z = torch.randn(6, Q, dtype=torch.float64)
    assert torch.allclose(model.encode(mapping).log_prob(z), model.encode(t(x)).log_prob(z))
    assert torch.allclose(model.decode(z).log_prob(mapping), model.decode(z).log_prob(t(x)))
    with pytest.raises(ValueError, match="no modality 'fourth'"):
        model.draw({"fourth": t(X)})


def test_draws_of_a_mixture_of_experts_are_draws_of_the_mixture() -> None:
    """Means and second moments of 200,000 draws of six rows, |z| < 4.5; the gradient is that of the mean."""
    q = vae("mopoe").encode(t(MISSING))
    torch.manual_seed(2)
    z, density = q.rsample_and_log_prob(200_000)
    assert density[:3].detach().numpy() == pytest.approx(q.log_prob(z[:3]).detach().numpy(), abs=1e-12)
    values = z.detach().numpy()
    mean, variance = q.mean.detach().numpy(), q.variance.detach().numpy()
    assert np.abs(laws.z_score(values, mean)).max() < Z
    assert np.abs(laws.z_score((values - mean) ** 2, variance)).max() < Z


def test_complete_rows_see_the_joint_posterior_and_experts_learn_to_agree() -> None:
    model = vae("joint")
    q, z = model.encode(t(MISSING)), torch.randn(6, Q, dtype=torch.float64)
    alone = model.posterior.joint(t(X))
    assert torch.equal(q.log_prob(z)[3:], alone.log_prob(z)[3:])
    for i in (0, 1):  # two experts, and one
        mean, var = multiplied(opinions(MISSING[i]))
        assert q.mean[i].detach().numpy() == pytest.approx(mean, abs=1e-9)
        assert q.variance[i].detach().numpy() == pytest.approx(var, abs=1e-9)
    draw = model.draw(t(MISSING))
    joint = [(a.detach().numpy(), np.diag(v.detach().numpy())) for a, v in zip(alone.mean, alone.variance)]
    naive = [
        sum(laws.gaussian_kl(*joint[i], m, np.diag(v)) for m, v in opinions(MISSING[i])) if i >= 3 else 0.0
        for i in range(6)
    ]
    assert objectives.Agreement()(model, t(MISSING), draw).item() == pytest.approx(np.mean(naive), abs=1e-9)


def test_the_elbo_with_singles_adds_the_bound_of_each_modality_alone() -> None:
    """The rate is in closed form, the distortion by 4,000 draws, |z| < 4.5."""
    model, objective = vae("poe"), objectives.ELBOWithSingles(samples=4000)
    torch.manual_seed(3)
    draw = objective.draw(model, t(X))
    found = -objective.losses(model, t(X), draw)["model"].item()
    exact = 0.0
    for names in (list(CUTS), *([name] for name in CUTS)):
        keep = np.zeros(D, dtype=bool)
        for name in names:
            keep[CUTS[name]] = True
        for row in X:
            mean, var = components("poe", np.where(keep, row, np.nan))[0]
            exact += laws.linear_elbo(row[None, keep], W[keep], B[keep], S2, mean[None], var[None])[0] / len(X)
    assert found == pytest.approx(exact, abs=0.5) and abs(found - exact) / abs(exact) < 0.01


@pytest.mark.parametrize("kind", ["poe", "moe"])
def test_a_mapping_with_gaps_trains_and_a_missing_modality_is_not_learned_from(kind) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 1))
    x = {"a": z @ rng.normal(size=(1, 3)) + 0.1 * rng.normal(size=(200, 3)), "b": z + 0.1 * rng.normal(size=(200, 1))}
    x["b"][::2] = np.nan
    parts = {"a": 3, "b": 1}
    torch.manual_seed(0)
    made = {n: conditionals.DiagonalNormalPosterior(nn.Linear(d, 4)) for n, d in parts.items()}
    given = {n: conditionals.NormalLikelihood(nn.Linear(2, d), variance="learned") for n, d in parts.items()}
    rule = conditionals.ProductOfExperts if kind == "poe" else conditionals.MixtureOfExperts
    model = models.VAE(priors.StandardNormal(2), rule(made), conditionals.ByModality(given))
    run = latens.train(model, objectives.ELBO(), x, epochs=30, batch_size=50, learning_rate=0.02)
    assert run.history[-1]["train_bound"] > run.history[0]["train_bound"] + 1
    empty = {"a": torch.randn(4, 3), "b": torch.full((4, 1), torch.nan)}
    draw = model.draw(empty)
    grads = torch.autograd.grad(
        draw.log_w.sum(), list(model.likelihood.likelihoods["b"].parameters()), allow_unused=True
    )
    assert all(g is None or (g == 0).all() for g in grads)


@pytest.mark.parametrize("name", ["poe", "moe", "mopoe", "joint"])
def test_modalities_can_be_cut_from_arrays_images_and_sequences(name) -> None:
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(20, 5)), rng.integers(0, 4, (20, 6, 5)).astype("uint8"), rng.normal(size=(20, 7, 3))):
        schema = infer(x.astype("float32") if x.dtype.kind == "f" else x)
        inside = torch.as_tensor(schema.to_model(x.astype(schema.dtype)))
        info = choices.DataInfo(schema, 20, inside)
        model, objective = latens.Recipe(name, latent_dim=2, network="mlp", modalities=3).build(info)
        draw = objective.draw(model, inside)
        assert torch.isfinite(objective.losses(model, inside, draw)["model"])
        assert model.sample(4).shape == (4, *schema.shape)
    with pytest.raises(latens.InputError, match="modalities must be"):
        latens.Recipe(name, modalities=99).build(info)
    with pytest.raises(latens.InputError, match="optimal variance"):
        latens.Recipe(name, variance="optimal").build(info)
