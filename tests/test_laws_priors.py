"""Laws of priors that are learned with the model: mixtures of the model's own posterior, flows, learned rejection and
two groups of codes, checked by scipy and quadrature."""

from __future__ import annotations

from pathlib import Path

import laws
import numpy as np
import pytest
import torch
from commanding import done, figures, refused
from laws import Z, t
from scipy import stats
from scipy.special import expit, logsumexp
from torch import nn

from latens import InputError, conditionals, distributions, models, networks, priors
from latens.data import infer
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo
from latens.training.checkpoint import state_of

D, K = 3, 5
RNG = np.random.default_rng(0)
U = RNG.normal(size=(K, D)) * 2  # pseudo-inputs
GRID = np.linspace(-14, 14, 20_001)
STEP = GRID[1] - GRID[0]


class Given(nn.Module):
    """Pseudo-inputs that are known."""

    def __init__(self, u: np.ndarray):
        super().__init__()
        self.u = nn.Parameter(t(u))

    def forward(self) -> torch.Tensor:
        return self.u


def posterior(dim: int, seed: int = 1) -> conditionals.DiagonalNormalPosterior:
    """q(z|x) with mean and variance that both depend on x."""
    rng = np.random.default_rng(seed)
    return conditionals.DiagonalNormalPosterior(
        laws.affine(rng.normal(size=(2 * dim, D)) * 0.6, rng.normal(size=2 * dim))
    )


def components(q: conditionals.DiagonalNormalPosterior, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        found = q(t(u))
    return found.mean.numpy(), found.variance.numpy()


def mixture_density(z: np.ndarray, w: np.ndarray, loc: np.ndarray, variance: np.ndarray) -> np.ndarray:
    parts = [np.log(a) + stats.norm(m, np.sqrt(v)).logpdf(z).sum(-1) for a, m, v in zip(w, loc, variance)]
    return logsumexp(parts, 0)


def vamp(dim: int = 2) -> priors.Vamp:
    prior = priors.Vamp(posterior(dim), Given(U)).double()
    with torch.no_grad():
        prior.logits.copy_(t(np.log([0.4, 0.25, 0.2, 0.1, 0.05])))
    return prior


# Vamp


def test_a_vamp_prior_is_the_mixture_of_the_posteriors_at_its_inputs() -> None:
    prior, z = vamp(), RNG.normal(size=(4, 6, 2)) * 2
    expected = mixture_density(z, np.array([0.4, 0.25, 0.2, 0.1, 0.05]), *components(prior.posterior, U))
    assert prior().log_prob(t(z)).detach().numpy() == pytest.approx(expected, abs=1e-9)
    parameters = dict(prior.named_parameters())
    grads = torch.autograd.grad(prior().log_prob(t(z)).sum(), list(parameters.values()))
    assert all(g.abs().max() > 1e-3 for g in grads), parameters.keys()  # posterior, inputs and weights all learn


def test_draws_of_a_vamp_prior_come_from_the_posteriors_at_all_inputs() -> None:
    """Components are 8 standard deviations apart, so that each draw has one origin, with variances from about 1 to
    1e-7. The shares of 4,000 draws agree with the weights (chi-square), and each group with its component
    (Kolmogorov-Smirnov), whether few or many are drawn at a time: six tests at 1e-4, one false alarm in 1,600 seeds."""
    prior = vamp(1)
    with torch.no_grad():
        apart = np.linalg.pinv(prior.posterior.network.weight.numpy()) @ [400.0, -4.0]  # of means, and of raw variances
        prior.inputs.u.copy_(t(np.outer(np.arange(K), apart)))
    loc, variance = (part[:, 0] for part in components(prior.posterior, prior.inputs.u.detach().numpy()))
    assert (np.diff(loc) > 8 * np.sqrt(np.maximum(variance[1:], variance[:-1]))).all()
    torch.manual_seed(0)
    z = torch.cat([prior().sample((10,)) for _ in range(400)]).numpy()[:, 0]
    origin = np.abs(z[:, None] - loc).argmin(1)
    weights = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    assert stats.chisquare(np.bincount(origin, minlength=K), weights * len(z)).pvalue > 1e-4
    for j in range(K):
        assert stats.kstest(z[origin == j], stats.norm(loc[j], np.sqrt(variance[j])).cdf).pvalue > 1e-4


@pytest.mark.parametrize("make", ["vamp", "exemplar", "mixture"])
def test_the_sampled_rate_to_a_mixture_is_the_integral(make: str) -> None:
    """KL(q || p) in one dimension by quadrature, four rows, 100,000 draws at 4.5 standard errors."""
    torch.manual_seed(0)
    q = posterior(1)
    prior = {
        "vamp": lambda: priors.Vamp(q, Given(U)), "exemplar": lambda: priors.Exemplar(q, t(U)),
        "mixture": lambda: priors.NormalMixturePrior(1, 4),
    }[make]().double()  # fmt: skip
    likelihood = conditionals.NormalLikelihood(laws.affine(np.ones((D, 1)), np.zeros(D)), variance=1.0)
    model = models.VAE(prior, q, likelihood).double().eval()
    x = RNG.normal(size=(4, D))
    with torch.no_grad():
        rate = model.draw(t(x), 100_000).rate().numpy()
        log_p = model.prior().log_prob(t(GRID[:, None])).numpy()
    mean, variance = components(q, x)
    for i in range(4):
        log_q = stats.norm(mean[i, 0], np.sqrt(variance[i, 0])).logpdf(GRID)
        exact = (np.exp(log_q) * (log_q - log_p)).sum() * STEP
        assert abs(laws.z_score(rate[:, i], exact)) < Z


def test_a_shared_posterior_is_saved_once_and_counted_once() -> None:
    info = DataInfo(infer(U), K, torch.as_tensor(U, dtype=torch.float32))
    for name, further in (("vamp", K + K * D), ("exemplar", 1)):
        model, _ = Recipe(name, latent_dim=2, network="linear", components=K).build(info)
        plain, _ = Recipe("vae", latent_dim=2, network="linear").build(info)
        assert model.prior.posterior is model.posterior
        assert sum(p.numel() for p in model.parameters()) == further + sum(p.numel() for p in plain.parameters())
        saved = state_of(model)
        assert len({tensor.data_ptr() for tensor in saved.values() if tensor.numel()}) == sum(
            tensor.numel() > 0 for tensor in saved.values()
        )
    model, _ = Recipe("hierarchical_vamp", latent_dim=2, network="linear", components=K).build(info)
    assert model.prior.first.posterior is model.posterior.first


@pytest.mark.parametrize("kind", ["real", "count"])
def test_pseudo_inputs_begin_as_rows_in_the_units_of_the_data(kind: str) -> None:
    x = 1e4 + 300 * U if kind == "real" else np.random.default_rng(0).poisson(6, size=(K, D)).astype(float)
    schema = infer(x) if kind == "real" else infer(x.astype(int), kind="count")
    info = DataInfo(schema, K, torch.as_tensor(x, dtype=torch.float32))
    model, _ = Recipe("vamp", latent_dim=2, network="linear", components=K).build(info)
    assert model.prior.inputs().detach().numpy() == pytest.approx(x, rel=1e-4, abs=1e-3)
    assert model.prior.inputs.inner.abs().max() < 5  # learned in the encoder's units


def test_inputs_are_seen_under_the_conditions_of_their_rows() -> None:
    w = RNG.normal(size=K)
    net = nn.Linear(1, 1)  # the network of a conditional that reads w
    net.forward = lambda x, c: torch.stack([2 * x[:, 0] + c["w"], x[:, 1]], -1)  # type: ignore[method-assign]
    q = conditionals.DiagonalNormalPosterior(net, reads=("w",))
    for prior in (priors.Vamp(q, Given(U), {"w": t(w)}), priors.Exemplar(q, t(U), {"w": t(w)})):
        assert prior.double()({"w": t(w[:2])}).loc[:, 0].detach().numpy() == pytest.approx(2 * U[:, 0] + w)
        assert any(tensor.numel() == K and torch.equal(tensor, t(w)) for tensor in state_of(prior).values())


# Exemplars


def test_an_exemplar_prior_is_a_mixture_of_normals_around_the_codes_of_rows() -> None:
    prior = priors.Exemplar(posterior(2), t(U)).double()
    with torch.no_grad():
        prior.log_scale.fill_(np.log(0.7))
    z = RNG.normal(size=(4, 6, 2)) * 2
    loc, _ = components(prior.posterior, U)
    expected = mixture_density(z, np.full(K, 1 / K), loc, np.full((K, 2), 0.49))
    assert prior().log_prob(t(z)).detach().numpy() == pytest.approx(expected, abs=1e-9)


def test_during_training_a_row_is_not_explained_by_itself() -> None:
    """The first row is an exemplar, the second is an exemplar that occurs twice, the third is not an exemplar; cells
    are missing too."""
    u = U.copy()
    u[2], u[3, 1] = u[1], np.nan
    rows = np.stack([u[0], u[1], U[0] + 1e-3, u[3]])
    q = conditionals.DiagonalNormalPosterior(nn.Sequential(networks.Standardize(0.0, torch.ones(()).double()),
                                                  posterior(2).network))  # fmt: skip
    prior = priors.Exemplar(q, t(u)).double()
    likelihood = conditionals.NormalLikelihood(laws.affine(np.ones((D, 2)), np.zeros(D)), variance=1.0)
    model = models.VAE(prior, q, likelihood).double()
    loc, _ = components(q, u)
    for training in (True, False):
        model.train(training)
        draw = model.draw(t(rows), 3)
        z = draw.z.detach().numpy()
        for i, mine in enumerate([{0}, {1, 2}, set(), {3}]):
            kept = [m for m in range(K) if not training or m not in mine]
            expected = mixture_density(z[:, i], np.full(len(kept), 1 / len(kept)), loc[kept], np.ones((len(kept), 2)))
            assert draw.log_pz[:, i].detach().numpy() == pytest.approx(expected, abs=1e-9)
    alike = priors.Exemplar(q, t(u[[0, 0]])).double()  # no exemplar would be left: all are kept
    assert alike.without(alike(), t(u[:1])).log_prob(t(z[:, :1])).isfinite().all()


# Learned rejection


def accepting(truncation: int) -> priors.ResampledPrior:
    """a(z) = sigmoid(3 sin(2 z) - 1)."""
    net = laws.Fixed(lambda z: 3 * torch.sin(2 * z) - 1)
    return priors.ResampledPrior(net, 1, truncation).double().eval()


def test_the_mean_acceptance_is_the_integral() -> None:
    """Evaluation averages over 2^14 fixed points, and training over new points in each step. Both means are within 4.5
    standard errors; that of training is over 400 steps of 1,024 points."""
    prior, a = accepting(10), expit(3 * np.sin(2 * GRID) - 1)
    exact = (stats.norm.pdf(GRID) * a).sum() * STEP
    spread = np.sqrt((stats.norm.pdf(GRID) * (a - exact) ** 2).sum() * STEP)
    found = prior.log_mean_accept().exp().item()
    assert 0.3 < exact < 0.5 and abs(found - exact) < Z * spread / 2**7
    assert prior.log_mean_accept().exp().item() == found
    prior.train()
    torch.manual_seed(0)
    steps = np.array([prior.log_mean_accept().exp().item() for _ in range(400)])
    assert len(set(steps)) == 400 and abs(laws.z_score(steps, exact)) < Z
    assert steps.std() == pytest.approx(spread / 32, rel=0.2)


@pytest.mark.parametrize("truncation", [1, 2, 5, 100])
def test_a_resampled_density_has_mass_one_and_its_draws_follow_it(truncation: int) -> None:
    """Quadrature with the exact mean acceptance; 20,000 draws by Kolmogorov-Smirnov at 1e-4, one false alarm in 2,500
    seeds."""
    a = expit(3 * np.sin(2 * GRID) - 1)
    exact = (stats.norm.pdf(GRID) * a).sum() * STEP
    prior = accepting(truncation)
    base = distributions.DiagonalNormal(torch.zeros(1).double(), torch.ones(1).double())
    p = distributions.Resampled(base, prior.log_accept, t(np.log(exact)), truncation)
    density = p.log_prob(t(GRID[:, None])).exp().numpy()
    rest = (1 - exact) ** (truncation - 1)
    assert density == pytest.approx(stats.norm.pdf(GRID) * ((1 - rest) * a / exact + rest), rel=1e-9, abs=1e-300)
    assert density.sum() * STEP == pytest.approx(1, abs=1e-8)
    torch.manual_seed(truncation)
    z = p.sample((20_000,)).numpy()[:, 0]
    cdf = np.interp(z, GRID, np.cumsum(density) * STEP)
    assert stats.kstest(cdf, "uniform").pvalue > 1e-4
    if truncation == 1:
        assert density == pytest.approx(stats.norm.pdf(GRID), rel=1e-9)


# Flows


@pytest.mark.parametrize("dim", [1, 2])
def test_a_flow_prior_has_mass_one_and_its_draws_follow_it(dim: int) -> None:
    """Quadrature, and 20,000 draws of the first code by Kolmogorov-Smirnov at 1e-4."""
    torch.manual_seed(0)
    prior = priors.FlowPrior(dim, steps=2, bins=4).double()
    for p in prior.parameters():
        p.data = torch.randn_like(p) * (0.4 if dim == 1 else 0.2)
    grid = np.linspace(-8, 8, 2001 if dim == 1 else 401)
    points = np.stack(np.meshgrid(*[grid] * dim, indexing="ij"), -1)
    with torch.no_grad():
        density = prior().log_prob(t(points)).exp().numpy()
        z = prior().sample((20_000,)).numpy()
    mass = density * (grid[1] - grid[0]) ** dim
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    first = mass if dim == 1 else mass.sum(1)
    assert np.abs(first - stats.norm.pdf(grid) * (grid[1] - grid[0])).sum() > 0.1  # not the normal itself
    cdf = np.interp(z[:, 0], grid + (grid[1] - grid[0]) / 2, np.cumsum(first))
    assert stats.kstest(cdf, "uniform").pvalue > 1e-4


def test_a_flow_prior_depends_on_the_condition() -> None:
    torch.manual_seed(0)
    column = laws.Fixed(lambda c: c["w"].unsqueeze(-1))
    prior = priors.FlowPrior(2, 2, 4, network=column, context=1, reads=("w",)).double()
    for p in prior.parameters():
        p.data = torch.randn_like(p) * 0.5
    z, w = t(RNG.normal(size=(5, 3, 2))), t([0.0, 1.0, -2.0])
    joint = prior({"w": w}).log_prob(z)
    for i in range(3):
        alone = prior({"w": w[i : i + 1]}).log_prob(z[:, i : i + 1])
        assert joint[:, i].detach().numpy() == pytest.approx(alone[:, 0].detach().numpy(), abs=1e-10)
    same = prior({"w": w}).log_prob(z[:, :1].expand(5, 3, 2)).detach()
    assert (same[:, 0] - same[:, 1]).abs().min() > 1e-6
    assert prior({"w": w}).sample().shape == (3, 2)
    with pytest.raises(ValueError, match="condition 'w'"):
        prior()


# Two groups of codes


def test_two_groups_of_codes_have_the_density_of_the_first_and_of_the_second_given_it() -> None:
    torch.manual_seed(0)
    second = posterior(2, seed=4)
    second.network = laws.affine(RNG.normal(size=(4, 2)), RNG.normal(size=4))
    prior = priors.ChainedPrior(vamp(2), second, 2).double()
    z = RNG.normal(size=(4, 6, 4))
    loc, variance = components(prior.first.posterior, U)
    expected = mixture_density(z[..., :2], np.array([0.4, 0.25, 0.2, 0.1, 0.05]), loc, variance)
    with torch.no_grad():
        given = second(t(z[..., :2]))
        found = prior().log_prob(t(z)).numpy()
        draws = prior().sample((50_000,)).numpy()
    spread = np.sqrt(given.variance.numpy())
    expected = expected + stats.norm(given.mean.numpy(), spread).logpdf(z[..., 2:]).sum(-1)
    assert found == pytest.approx(expected, abs=1e-9)
    with torch.no_grad():
        given = second(t(draws[:, :2]))
    noise = (draws[:, 2:] - given.mean.numpy()) / np.sqrt(given.variance.numpy())
    assert stats.kstest(noise.flatten(), "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(noise.T)[0, 1]) < Z / np.sqrt(50_000)


# Recipes on tables, with conditions and with gaps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["size,kind,count,group"]
    for i in range(200):
        size = "" if i % 9 == 0 else f"{rng.normal():.3f}"
        lines.append(f"{size},{'abc'[i % 3]},{rng.poisson(3)},{'xy'[i % 2]}")
    Path("table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


FIT = ("--epochs", "1", "--batch-size", "100", "--seed", "0", "--latent-dim", "2", "--condition", "group")


@pytest.mark.parametrize("name", ["exemplar", "flow_prior", "resampled", "mixture", "semi_amortised", "iaf", "dreg"])
def test_recipes_take_tables_with_gaps_and_conditions(name: str, folder: Path) -> None:
    done("fit", "table.csv", "--out", "run", "--recipe", name, *FIT)
    values = figures("evaluate", "run", "--k", "10")
    assert np.isfinite([values["elbo"], values["nll"]]).all()
    done("sample", "run", "-n", "5", "--set", "group=x", "--out", "new.csv")
    assert len(Path("new.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize("name", ["vamp", "hierarchical_vamp"])
def test_learned_pseudo_inputs_refuse_tables(name: str, folder: Path) -> None:
    said = refused("fit", "table.csv", "--out", "run", "--recipe", name, *FIT)
    assert "exemplar" in said and not Path("run").exists()


@pytest.mark.parametrize(
    "recipe, options",
    [("vamp", {"components": 1}), ("exemplar", {"components": K + 1}), ("mixture", {"components": 0}),
     ("flow_prior", {"bins": 1}), ("flow_prior", {"steps": 0}), ("resampled", {"truncation": 0})],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(recipe: str, options: dict[str, int]) -> None:
    info = DataInfo(infer(U), K, torch.as_tensor(U, dtype=torch.float32))
    with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
        Recipe(recipe, latent_dim=2, **options).build(info)
