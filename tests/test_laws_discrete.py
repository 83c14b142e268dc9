"""Discrete codes: exact enumeration of small models, torch's distributions, unbiased gradients, and codebooks compared
with vector_quantize_pytorch and a naive loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from laws import Z, t, z_score
from torch import distributions as td
from torch import nn

import latens
from latens import conditionals, evaluation, models, objectives, priors, recipes
from latens import distributions as d
from latens.distributions import closed_kl
from latens.errors import InputError

V, K = 2, 3  # number of variables, number of categories
X = t([[0.4, -0.3], [1.0, 0.2], [-0.5, 0.9]])


def categorical(temperature: float | None = None, seed: int = 0) -> models.VAE:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(V * K, 5), nn.Tanh(), nn.Linear(5, 2))
    posterior = conditionals.OneHotPosterior(nn.Linear(2, V * K), K, temperature)
    return models.VAE(
        priors.UniformCategories(V, K), posterior, conditionals.NormalLikelihood(net, variance=0.3)
    ).double()


def all_codes() -> torch.Tensor:
    """Every code, ``[K^V, V * K]``."""
    eye = torch.eye(K, dtype=torch.float64)
    return torch.stack([torch.cat([eye[i] for i in which]) for which in itertools.product(range(K), repeat=V)])


def enumerated(model: models.VAE) -> tuple[torch.Tensor, torch.Tensor]:
    """(ln p(x), exact ELBO) of each row, summed over every code."""
    z = all_codes()
    log_px = torch.stack([model.decode(one.expand(len(X), -1)).log_prob(X) for one in z])  # codes x B
    logits = model.posterior.network(X).unflatten(-1, (V, K)).log_softmax(-1)
    log_q = torch.stack([(one.view(V, K) * logits).sum((-2, -1)) for one in z])
    log_p = -V * np.log(K)
    return torch.logsumexp(log_px + log_p, 0), (log_q.exp() * (log_px + log_p - log_q)).sum(0)


def test_the_bound_and_the_mean_weight_of_categories_are_those_of_enumeration():
    """100,000 draws, 3 rows, |z| < 4.5."""
    model = categorical()
    log_p, elbo = (v.detach().numpy() for v in enumerated(model))
    torch.manual_seed(1)
    with torch.no_grad():
        draw = model.draw(X, 100_000)
    assert (np.abs(z_score(draw.log_w.exp().numpy(), np.exp(log_p))) < Z).all()
    assert (np.abs(z_score((draw.log_px - draw.rate()).numpy(), elbo)) < Z).all()
    assert (np.abs(z_score(draw.log_w.numpy(), elbo)) < Z).all() and (elbo < log_p).all()
    rate = td.kl_divergence(
        td.Categorical(logits=model.posterior.network(X).unflatten(-1, (V, K))),
        td.Categorical(torch.ones(V, K, dtype=torch.float64) / K),
    ).sum(-1)
    assert closed_kl(draw.q, draw.p).detach().numpy() == pytest.approx(rate.detach().numpy(), abs=1e-9)


@pytest.mark.parametrize(
    "objective", [objectives.Reinforce(samples=3), objectives.Reinforce(0.5, 2), objectives.Vimco(3)]
)
def test_the_gradient_of_score_functions_has_no_bias(objective: objectives.Objective):
    """The mean of the encoder's gradient over 1,500 draws agrees with that of the exact expectation, by enumeration of
    the codes (of all tuples of codes for VIMCO); 18 coordinates, |z| < 4.5 (false alarm rate 1.2e-4)."""
    model = categorical(seed=2)
    weight = model.posterior.network.weight
    logits = model.posterior.network(X).unflatten(-1, (V, K)).log_softmax(-1)
    z = all_codes()
    log_px = torch.stack([model.decode(one.expand(len(X), -1)).log_prob(X) for one in z])
    log_q = torch.stack([(one.view(V, K) * logits).sum((-2, -1)) for one in z])
    log_w = log_px - V * np.log(K) - log_q
    if isinstance(objective, objectives.Vimco):
        value = torch.zeros(len(X), dtype=torch.float64)
        for which in itertools.product(range(len(z)), repeat=3):
            index = list(which)
            value = value + log_q[index].sum(0).exp() * (torch.logsumexp(log_w[index], 0) - np.log(3))
    else:
        rate = (log_q.exp() * (log_q + V * np.log(K))).sum(0)
        value = (log_q.exp() * log_px).sum(0) - objective.beta * rate
    [truth] = torch.autograd.grad(-value.mean(), weight)
    torch.manual_seed(3)
    found, values = [], []
    for _ in range(1500):
        loss = objective.losses(model, X, objective.draw(model, X))["model"]
        values.append(loss.item())
        found.append(torch.autograd.grad(loss, weight)[0].numpy())
    assert (np.abs(z_score(np.array(found), truth.numpy())) < Z).all()
    assert abs(z_score(np.array(values), -value.mean().item())) < Z  # the value is the bound


def test_the_straight_through_draw_is_a_code_with_the_gradient_of_the_relaxed_one():
    logits = t([[[0.3, -1.0, 0.5]]]).requires_grad_()
    torch.manual_seed(0)
    z = d.OneHot(logits, 0.8).rsample((5,))
    assert ((z.detach() - z.detach().round()).abs() < 1e-12).all() and z.detach().sum(-1).allclose(t(1.0))
    torch.manual_seed(0)
    soft = d.Relaxed(logits, 0.8).rsample((5,))
    weights = torch.randn_like(z)
    hard, relaxed = (torch.autograd.grad((value * weights).sum(), logits)[0] for value in (z, soft))
    assert hard.numpy() == pytest.approx(relaxed.numpy(), abs=1e-12)
    assert not d.OneHot(logits).rsample((5,)).requires_grad


def test_relaxed_draws_have_the_categories_and_the_density_of_the_concrete_distribution():
    """Shares of 100,000 draws, 3 categories, |z| < 4.5; densities to 1e-9."""
    logits = t([[0.5, -0.7, 1.2], [0.0, 2.0, -1.0]])
    q = d.Relaxed(logits, 0.6)
    torch.manual_seed(0)
    y = q.rsample((100_000,)).unflatten(-1, (2, 3))
    for v in range(2):
        hits = np.eye(3)[y[:, v].argmax(-1).numpy()]
        assert (np.abs(z_score(hits, logits.softmax(-1)[v].numpy())) < Z).all()
    inner = y[:200]
    theirs = td.RelaxedOneHotCategorical(t(0.6), logits=logits).log_prob(inner).sum(-1)
    assert q.log_prob(inner.flatten(-2)).numpy() == pytest.approx(theirs.numpy(), abs=1e-8)


@pytest.mark.parametrize("temperature", [0.4, 0.67, 1000.0])
@pytest.mark.parametrize("spread", [1.0, 10.0, 40.0])
def test_the_concrete_density_keeps_its_digits_in_single_precision(temperature: float, spread: float):
    """E_q[p / q] = 1 and KL >= 0 for certain and uncertain categories: 4 mean weights of 20,000 draws, |z| < 4.5. The
    logits of p and q differ only a little, so that the weights have moments."""
    torch.manual_seed(0)
    logits = spread * torch.randn(4, 1, 3)
    q, p = d.Relaxed(logits, temperature), d.Relaxed(logits + 0.1 * torch.randn(4, 1, 3), temperature)
    z = q.rsample((20_000,))
    log_w = (p.log_prob(z) - q.log_prob(z)).double().numpy()
    assert (z > 0).all() and np.isfinite(log_w).all()
    w, error = np.exp(log_w), np.exp(log_w).std(0) / len(log_w) ** 0.5 + 1e-4
    assert (np.abs(w.mean(0) - 1) < Z * error).all(), (w.mean(0), error)
    assert (log_w.mean(0) < Z * log_w.std(0) / len(log_w) ** 0.5 + 1e-4).all()
    with pytest.raises(InputError, match=r"0\.4 to 1,000"):
        conditionals.RelaxedPosterior(nn.Linear(2, 3), 3, 0.1)


def test_the_mean_weight_of_the_relaxed_model_is_its_p_of_x():
    """E_q[w] against the mean of p(x|z) under the prior, 100,000 and 400,000 draws, |z| < 4.5 of the difference."""
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(V * K, 5), nn.Tanh(), nn.Linear(5, 2))
    model = models.VAE(
        priors.UniformCategories(V, K, 0.5), conditionals.RelaxedPosterior(nn.Linear(2, V * K), K, 1.0),
        conditionals.NormalLikelihood(net, variance=0.5),
    ).double()  # fmt: skip
    with torch.no_grad():
        w = model.draw(X, 100_000).log_w.exp().numpy()
        prior = model.decode(model.prior().sample((400_000, 1))).log_prob(X).exp().numpy()
    error = np.sqrt(w.var(0) / len(w) + prior.var(0) / len(prior))
    assert (np.abs((w.mean(0) - prior.mean(0)) / error) < Z).all()


def test_the_joint_posterior_has_the_densities_and_the_rate_of_its_parts():
    torch.manual_seed(0)
    posterior = conditionals.NormalAndCategoriesPosterior(nn.Linear(2, 4 + V * K), 2, K, 1.0).double()
    q, p = posterior(X), priors.NormalAndCategoriesPrior(2, V, K).double()()
    z, log_q = d.rsample_and_log_prob(q, 200_000)
    normal, kinds = q.parts
    assert log_q[0].allclose(normal.log_prob(z[0, :, :2]) + kinds.log_prob(z[0, :, 2:]))
    sampled = (log_q - p.log_prob(z)).detach().numpy()
    assert (np.abs(z_score(sampled, closed_kl(q, p).detach().numpy())) < Z).all()


# Codebooks


def quantising(levels: int = 1, decay: float | None = 0.99, positions: int = 3) -> models.VAE:
    torch.manual_seed(6)
    book = conditionals.Codebook(levels, 5, 2, decay)
    posterior = conditionals.NearestCode(nn.Linear(4, 2 * positions), book)
    likelihood = conditionals.NormalLikelihood(nn.Linear(2 * positions, 4), variance=0.5)
    return models.VAE(priors.UniformCodesPrior(book, positions), posterior, likelihood)


@pytest.mark.parametrize("levels", [1, 3])
def test_codes_are_the_nearest_ones_and_the_bound_is_that_of_a_one_hot_posterior(levels: int):
    model, x = quantising(levels), torch.randn(7, 4)
    draw = model.draw(x, 2)
    book = model.posterior.book.codes.detach().numpy()
    before = model.posterior.network(x).detach().numpy().reshape(7, 3, 2)
    for i, j in itertools.product(range(7), range(3)):
        left, total = before[i, j].copy(), np.zeros(2)
        for level in range(levels):
            best = min(range(5), key=lambda k: ((left - book[level, k]) ** 2).sum())
            left, total = left - book[level, best], total + book[level, best]
            assert draw.q.index[i, j, level] == best
        assert draw.z[1, i, 2 * j : 2 * j + 2].detach().numpy() == pytest.approx(total, abs=1e-5)
    assert (draw.log_qz == 0).all()
    assert draw.rate().detach().numpy() == pytest.approx(3 * levels * np.log(5), rel=1e-6)
    assert draw.log_w.detach().numpy() == pytest.approx(
        (draw.log_px - 3 * levels * np.log(5)).detach().numpy(), rel=1e-5
    )
    assert draw.has_density and np.isfinite(evaluation.nll(model, x, 4).mean)
    # the bound is below ln p(x) = ln sum over every code of p(x|z) p(z)
    if levels == 1:
        every = [torch.cat([model.posterior.book.codes[0, k] for k in which])
                 for which in itertools.product(range(5), repeat=3)]  # fmt: skip
        with torch.no_grad():
            log_px = torch.stack([model.decode(z.expand(7, -1)).log_prob(x) for z in every])
        assert (draw.log_w[0] <= torch.logsumexp(log_px, 0) - 3 * np.log(5)).all()


@pytest.mark.parametrize("decay", [0.9, None])
def test_the_losses_of_a_codebook_do_not_change_if_the_batch_is_given_twice(decay: float | None):
    """The moving average does not change either."""
    x = torch.randn(9, 4)
    parts = []
    for batch in (x, torch.cat([x, x])):
        model = quantising(decay=decay)
        draw = model.draw(batch)
        terms = [objectives.Commitment()(model, batch, draw), objectives.ELBO().losses(model, batch, draw)["model"]]
        if decay is None:
            terms.append(objectives.CodebookLoss()(model, batch, draw))
            terms.append(torch.autograd.grad(terms[-1], model.posterior.book.codes)[0])
        else:
            model.posterior.after_step(model.posterior.observe(batch, draw))
            terms.append(model.posterior.book.codes)
        parts.append(terms)
    for one, two in zip(*parts, strict=True):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-6)
    naive = ((draw.q.before - draw.q.value) ** 2).sum().item() / len(draw.q.before)
    assert parts[1][0].item() == pytest.approx(naive, rel=1e-5)


def test_gradients_pass_straight_through_and_reach_the_codebook_only_by_its_loss():
    model, x = quantising(decay=None), torch.randn(6, 4)
    draw = model.draw(x)
    before, weights = draw.q.before, torch.randn(6, 6)
    [through] = torch.autograd.grad((draw.z[0] * weights).sum(), before, retain_graph=True)
    assert torch.equal(through, weights)
    book = model.posterior.book.codes
    loss = objectives.ELBO().losses(model, x, draw)["model"] + objectives.Commitment()(model, x, draw)
    assert torch.autograd.grad(loss, book, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(objectives.CodebookLoss()(model, x, draw), before, allow_unused=True) == (None,)


def test_the_moving_average_is_that_of_vector_quantize_pytorch():
    """Ten steps with the same start and the same vectors give the same codes to 1e-4. Theirs counts rows and ours
    shares of rows, which is the same for batches of equal size if both begin with the counts of one batch."""
    library = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    book = conditionals.Codebook(1, 4, 3, 0.8)
    theirs = library.VectorQuantize(
        dim=3, codebook_size=4, decay=0.8, threshold_ema_dead_code=0, commitment_weight=1.0, eps=1e-12
    ).train()
    inner = theirs._codebook
    inner.embed.data.copy_(book.codes)
    inner.embed_avg.data.copy_(book.codes * 25)  # 100 vectors, an even share for each code
    inner.cluster_size.data.fill_(25.0)
    for _ in range(10):
        values = torch.randn(1, 100, 3)
        mine, index = book(values[0])
        quantised, indices, _ = theirs(values)
        assert torch.equal(index[:, 0], indices[0]) and torch.allclose(quantised[0], mine, atol=1e-4)
        book.follow(book.assigned(values[0], index, torch.ones(100)))
        assert torch.allclose(book.codes[0], inner.embed[0], atol=1e-4)


def test_dead_codes_are_restarted_where_the_data_are():
    torch.manual_seed(0)
    book = conditionals.Codebook(1, 8, 2, 0.8)
    book.codes[0, 1:] += 1000.0  # seven of eight codes have no vectors near them
    book.sums.copy_(book.codes * book.shares.unsqueeze(-1))
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    for _ in range(200):
        values = centres[torch.randint(4, (128,))] + 0.1 * torch.randn(128, 2)
        book.follow(book.assigned(values, book(values)[1], torch.ones(128)))
    values = centres.repeat(50, 1)
    codes, index = book(values)
    assert (codes - values).norm(dim=-1).max() < 0.6
    assert (book.shares > 0.05 / 8 / 2).all() and book.codes.abs().max() < 10


def test_finite_scalars_are_a_grid_whose_gradient_is_one():
    part = conditionals.FiniteScalars(nn.Identity(), 5)
    output = torch.linspace(-3, 3, 50).view(10, 5).requires_grad_()
    q = part.distribution(output, output)
    grid = torch.linspace(-1, 1, 5)
    assert torch.allclose((q.value.detach().unsqueeze(-1) - grid).abs().min(-1).values, torch.zeros(()), atol=1e-6)
    naive = grid[(output.detach().tanh().unsqueeze(-1) - grid).abs().argmin(-1)]
    assert torch.allclose(q.value.detach(), naive, atol=1e-6)
    assert torch.equal(torch.autograd.grad(q.value.sum(), q.before)[0], torch.ones(10, 5))
    prior = priors.UniformCodesPrior(priors.FiniteGrid(5), 5)
    assert prior().log_prob(q.value).detach().numpy() == pytest.approx(-5 * np.log(5))
    assert torch.allclose(prior.project(q.before), q.value, atol=1e-6)
    drawn = prior().sample(torch.Size((2000,)))
    assert (drawn.unsqueeze(-1) - grid).abs().min(-1).values.max() < 1e-6
    assert torch.allclose(drawn.var(0), prior().variance, rtol=0.15)


@pytest.mark.parametrize("name", ["vq", "residual_vq"])
def test_a_codebook_learns_better_entries_than_it_began_with_and_is_saved(name: str, tmp_path):
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(200, 6)), dtype=torch.float32)
    model, objective = recipes.Recipe(name, latent_dim=2, codes=8, network="linear").build(
        latens.recipes.choices.DataInfo(latens.data.infer(x.numpy()), 200, x)
    )
    before = model.posterior.book.codes.clone()
    latens.train(model, objective, x.numpy(), epochs=20, batch_size=50, device="cpu", out=tmp_path / "run")
    assert not torch.equal(before, model.posterior.book.codes)
    again = latens.load(tmp_path / "run", model=model)
    assert again is not None
    assert model.posterior(x).index.unique().numel() > 3
