"""Laws of autoencoders with penalties: Jacobians equal autograd's, MAP codes have closed forms, and corruption is
right."""

from __future__ import annotations

import laws
import numpy as np
import pytest
import torch
from commanding import mixed_table, refused
from laws import Z, t
from parts import data, trainer
from scipy import stats
from torch import Tensor, nn
from torch.autograd.functional import jacobian

import latens
from latens import conditionals, models, objectives, priors, recipes
from latens.tensors import randomness

X = t(laws.toy(5, 4, 2, seed=3)[0])


def net(inputs: int, outputs: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, outputs)).double()


def autoencoder(variance: float = 1.0) -> models.VAE:
    return models.VAE(
        priors.StandardNormal(2),
        conditionals.PointMassPosterior(net(4, 2, 0)),
        conditionals.NormalLikelihood(net(2, 4, 1), variance=variance),
    ).double()


def full_square(function, rows: Tensor) -> Tensor:
    """|J|^2 of each row, from the complete Jacobian by autograd."""
    return torch.stack([jacobian(function, row).square().sum() for row in rows])


def repeated(penalty: objectives.Penalty, model: models.VAE, draw: models.Draw, times: int) -> np.ndarray:
    torch.manual_seed(5)
    return np.array([penalty(model, X, draw).item() for _ in range(times)])


def test_the_decoders_penalty_is_the_squared_jacobian_with_respect_to_the_code() -> None:
    """4,000 random projections, |z| < 4.5; the Jacobian with respect to the data, which another package uses,
    differs."""
    model = autoencoder()
    draw = model.draw(X, 1)
    truth = full_square(model.likelihood.network, draw.z[0].detach()).mean().item()
    found = repeated(objectives.DecoderJacobian(), model, draw, 4000)
    assert abs(laws.z_score(found, truth)) < Z
    by_datum = full_square(lambda x: model.likelihood.network(model.posterior.network(x)), X).mean().item()
    assert abs(laws.z_score(found, by_datum)) > 20


def test_the_encoders_penalty_is_the_squared_jacobian_of_the_code_in_standardised_units() -> None:
    model, unit = autoencoder(), t([0.5, 2.0, 1.0, 3.0])
    truth = full_square(lambda u: model.posterior.network(u * unit), X / unit).mean().item()
    assert abs(laws.z_score(repeated(objectives.EncoderJacobian(unit), model, model.draw(X), 4000), truth)) < Z


def test_gradients_of_jacobian_penalties_are_those_of_the_whole_jacobian_and_of_their_own_network_alone() -> None:
    """3,000 projections, |z| < 4.5 in each of 63 and 51 weights: false alarm rate below 8e-4."""
    model = autoencoder()
    of_z = model.posterior.network(X).detach()
    for penalty, function, at, own, other in (
        (objectives.DecoderJacobian(), model.likelihood.network, of_z, model.likelihood, model.posterior),
        (objectives.EncoderJacobian(), model.posterior.network, X, model.posterior, model.likelihood),
    ):
        weights = list(own.parameters())
        whole = torch.stack([jacobian(function, row, create_graph=True).square().sum() for row in at]).mean()
        truth = torch.cat([g.flatten() for g in _gradients(whole, weights)]).numpy()
        torch.manual_seed(1)
        found = []
        for _ in range(3000):
            value = penalty(model, X, model.draw(X))
            found.append(torch.cat([g.flatten() for g in _gradients(value, weights)]).numpy())
            assert all(g is None for g in torch.autograd.grad(value, list(other.parameters()), allow_unused=True))
        sample, moved = np.stack(found), truth != 0  # a last bias does not affect a Jacobian
        assert (sample[:, ~moved] == 0).all() and np.abs(laws.z_score(sample[:, moved], truth[moved])).max() < Z


def _gradients(value: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found)]


@pytest.mark.parametrize("make", [objectives.DecoderJacobian, objectives.EncoderJacobian])
def test_jacobian_penalties_can_be_computed_while_gradients_are_off(make) -> None:
    model = autoencoder()
    torch.manual_seed(0)
    on = make()(model, X, model.draw(X))
    torch.manual_seed(0)
    with torch.no_grad():
        off = make()(model, X, model.draw(X))
    assert on.item() == off.item() and not off.requires_grad


def test_code_energy_equals_minus_the_log_density_of_scipy() -> None:
    model = autoencoder()
    for prior, density in ((priors.StandardNormal(2), stats.norm), (priors.Laplace(2), stats.laplace)):
        model.prior = prior.double()
        draw = model.draw(X)
        truth = -density.logpdf(draw.z[0].detach().numpy()).sum(1).mean()
        assert objectives.CodeEnergy()(model, X, draw).item() == pytest.approx(truth, abs=1e-12)


def test_the_best_sparse_code_of_an_orthonormal_dictionary_is_the_soft_threshold() -> None:
    """The minimum over z of |x - W z|^2 / 2c + w |z|_1 with W'W = I is sign(W'x) max(|W'x| - c w, 0), where the slope
    is 0, or within w at 0; minimising distortion + w energy finds it."""
    c, weight = 0.3, 1.7
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 3)))[0]
    z = nn.Parameter(0.01 * torch.ones(5, 3, dtype=torch.float64))
    posterior = laws.Fixed(lambda x: latens.distributions.PointMass(z))
    model = models.VAE(
        priors.Laplace(3).double(), posterior, conditionals.NormalLikelihood(laws.affine(w, np.zeros(4)), c)
    )
    objective = objectives.ELBO(beta=0.0) + weight * objectives.CodeEnergy()
    projected = X.numpy() @ w
    best = np.sign(projected) * np.maximum(np.abs(projected) - c * weight, 0)
    assert 0 < (best == 0).sum() < best.size
    with torch.no_grad():
        z.copy_(t(best))
    (slope,) = torch.autograd.grad(objective.losses(model, X, model.draw(X))["model"] * len(X), z)
    assert slope[z != 0].abs().max() < 1e-12
    assert slope[z == 0].abs().max() <= weight + 1e-12  # torch takes 0 for the slope of |z| at 0


def test_decoder_weights_are_the_weights_of_the_decoder_alone() -> None:
    model = autoencoder()
    first, _, last = model.likelihood.network
    naive = sum(v**2 for layer in (first, last) for v in layer.weight.detach().numpy().ravel())
    penalty = objectives.DecoderWeights()(model, X, model.draw(X))
    assert penalty.item() == pytest.approx(naive)
    found = torch.autograd.grad(penalty, list(model.posterior.parameters()), allow_unused=True)
    assert all(g is None for g in found)


class Seeing(nn.Module):
    """A posterior that records the rows it sees."""

    def forward(self, x: Tensor) -> latens.distributions.PointMass:
        self.seen = x
        return latens.distributions.PointMass(x.nan_to_num()[:, :2])


def test_denoising_corrupts_the_rows_of_the_posterior_and_not_those_of_the_likelihood() -> None:
    """The share of hidden cells among 40,000, and the standard deviation of the others, are each within 4.5 standard
    errors."""
    x = t(np.random.default_rng(0).normal(size=(10_000, 4)))
    unit = t([1.0, 2.0, 3.0, 4.0])
    model = models.VAE(
        priors.StandardNormal(2), Seeing(), conditionals.NormalLikelihood(net(2, 4, 1), variance=1.0)
    ).double()
    objective = objectives.Denoising(objectives.ELBO(beta=0.0), hidden=0.3, noise=0.5, unit=unit)
    torch.manual_seed(0)
    draw = objective.draw(model, x)
    seen = model.posterior.seen
    hidden = seen.isnan()
    assert abs(hidden.double().mean().item() - 0.3) < Z * np.sqrt(0.21 / 40_000)
    noise = ((seen - x) / unit)[~hidden].numpy()
    assert abs(noise.var() / 0.25 - 1) < Z * np.sqrt(2 / len(noise))
    assert torch.equal(draw.log_px, model.decode(draw.z).log_prob(x))  # all cells, unchanged
    assert draw.log_px.isfinite().all()
    assert torch.equal(model.encode(x).mean, x[:, :2])  # after training nothing is corrupted
    # eight-bit rows become floats; the share hidden may be 0
    whole = torch.arange(8, dtype=torch.uint8).view(2, 4)
    assert torch.equal(objectives.Denoising(objectives.ELBO(0.0)).corrupt(whole), whole.float())
    # which cells are hidden follows the joint noise, whichever process holds the rows
    torch.manual_seed(3)
    joint = objective.corrupt(x[:6])
    torch.manual_seed(3)
    with randomness.part(4, 6):
        assert torch.equal(objective.corrupt(x[4:6]).nan_to_num(), joint[4:6].nan_to_num())


def test_the_denoised_mean_of_a_linear_autoencoder_is_the_conditional_mean() -> None:
    """For x ~ N(0, S) with N(0, s2) added to every cell, the best linear map of rank 4 is S (S + s2 I)^-1. After
    training, the map that reconstructs clean rows is within 0.05 of its entries; a plain autoencoder's identity is
    further away."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    x = (rng.normal(size=(4000, 3)) @ root.T).astype(np.float32)
    torch.manual_seed(0)
    model = models.VAE(
        priors.StandardNormal(3),
        conditionals.PointMassPosterior(nn.Linear(3, 3)),
        conditionals.NormalLikelihood(nn.Linear(3, 3), 1.0),
    )
    objective = objectives.Denoising(objectives.ELBO(beta=0.0), noise=1.0)
    trainer(model, x, objective, epochs=25, batch_size=200, learning_rate=0.02).run()
    cov = np.cov(x.T)
    best = cov @ np.linalg.inv(cov + np.eye(3))
    found = (model.likelihood.network.weight @ model.posterior.network.weight).detach().numpy()
    assert np.abs(found - best).max() < 0.05 < np.abs(np.eye(3) - best).max()


@pytest.mark.parametrize("name", ["rae_l2", "rae_gp", "denoising_ae", "contractive_ae", "sparse_ae"])
def test_recipes_differ_from_the_plain_autoencoder(name: str) -> None:
    x = torch.as_tensor(data(40, 3), dtype=torch.float32)
    info = latens.recipes.choices.DataInfo(latens.data.infer(x.numpy()), 40, x)
    torch.manual_seed(0)
    model, objective = recipes.Recipe(name, latent_dim=2).build(info)
    torch.manual_seed(1)
    draw = objective.draw(model, x)
    assert not draw.has_density
    plain = objectives.ELBO(beta=0.0).losses(model, x, model.draw(x))["model"]
    assert objective.losses(model, x, draw)["model"].item() != pytest.approx(plain.item(), abs=1e-5)


def test_options_without_meaning_for_tables_are_refused_with_the_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    mixed_table()
    for words, reason in (
        (("contractive_ae",), "contractive_ae needs a linear one"),
        (("denoising_ae", "--noise", "0.5"), "hide cells with --hidden"),
    ):
        assert reason in refused("fit", "table.csv", "--out", "run", "--recipe", *words)
