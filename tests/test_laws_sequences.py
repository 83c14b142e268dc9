"""Laws of codes in time: a linear recurrent model against the Kalman filter, and the axes of steps."""

from __future__ import annotations

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy import stats
from torch import nn

from latens import conditionals, evaluation, models, networks, objectives, recipes
from latens.data import infer
from latens.recipes import choices

T, A, NOISE, S2 = 6, 0.8, 0.5, 0.3  # z_t = A z_{t-1} + N(0, NOISE), x_t = C z_t + N(0, S2), z_0 = 0
C = np.array([[1.0], [-0.6]])
COV = np.array(
    [[NOISE * sum(A ** (abs(i - j) + 2 * k) for k in range(min(i, j) + 1)) for j in range(T)] for i in range(T)]
)
RNG = np.random.default_rng(0)
X = (np.linalg.cholesky(COV) @ RNG.normal(size=(5, T, 1))) @ C.T + S2**0.5 * RNG.normal(size=(5, T, 2))


def kalman(x: np.ndarray) -> tuple[float, list[tuple[float, float]]]:
    """ln p(x) of one sequence by the filter, and mean and variance of z_t given x_1 … x_t."""
    mean, var, total, filtered = 0.0, 0.0, 0.0, []
    for row in x:
        mean, var = A * mean, A * A * var + NOISE
        s = var * C @ C.T + S2 * np.eye(2)
        total += stats.multivariate_normal((C * mean).ravel(), s).logpdf(row)
        gain = var * C.T @ np.linalg.inv(s)
        mean, var = mean + (gain @ (row - (C * mean).ravel())).item(), var * (1 - (gain @ C).item())
        filtered.append((mean, var))
    return float(total), filtered


LOG_P = np.array([kalman(x)[0] for x in X])


def backward(x: np.ndarray) -> np.ndarray:
    """Precision and precision-weighted mean of the information that x_t … x_T have about z_t, ``[T, 2]``."""
    found, precision, weighted = np.zeros((T, 2)), 0.0, 0.0
    for step in range(T - 1, -1, -1):
        if step < T - 1:  # through z_{t+1} = A z_t + noise
            spread = 1 + precision * NOISE
            precision, weighted = A * A * precision / spread, A * weighted / spread
        precision, weighted = precision + (C.T @ C).item() / S2, weighted + (C.T @ x[step]).item() / S2
        found[step] = precision, weighted
    return found


class Affine(nn.Module):
    """The output of a network in the layout of a diagonal normal, from a function that gives mean and variance."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h):
        mean, variance = self.function(h)
        return torch.cat([mean, t(1.0) * torch.log(torch.expm1(variance - 1e-8)) - np.log(np.expm1(1.0))], -1)


class Keep(nn.Module):
    """A recurrent state that keeps the code: h_t = z_t."""

    def forward(self, x, h):
        return x[..., -1:]


class Emit(nn.Module):
    """The mean C z_t of every step, from the flat (z_t, h_{t-1})."""

    def forward(self, seen):
        return seen.unflatten(-1, (T, 2))[..., :1] @ t(C).T


def state_space(kind: str) -> models.Recurrent:
    """The linear-Gaussian model with q(z_t|z_{t-1}, x_t …): the exact smoother, the filter's step, or a wide
    posterior."""

    def step(both):
        said, h = both[..., :2], both[..., 2:]
        precision, weighted = said[..., :1], said[..., 1:]
        variance = 1 / (1 / NOISE + precision)
        mean = variance * (A * h / NOISE + weighted)
        return (mean, variance * torch.ones_like(mean)) if kind != "wide" else (0.9 * mean, 1.5 * variance)

    def views(x, c=None):
        rows = x.numpy()
        if kind == "smoother":
            return t(np.stack([backward(row) for row in rows]))
        alone = np.stack([np.full((len(rows), T), (C.T @ C).item() / S2), rows @ C.ravel() / S2], -1)
        return t(alone)

    class Views(nn.Module):
        reads = ()

        def forward(self, x, c=None):
            return views(x)

    model = models.Recurrent(
        conditionals.Features(nn.Identity()), Affine(lambda h: (A * h, 0 * h + NOISE)), Affine(step), Keep(),
        conditionals.NormalLikelihood(Emit(), variance=S2), shape=(T, 2), latent_dim=1, width=1, views=Views(),
    )  # fmt: skip
    return model.double()


def test_with_the_exact_smoother_every_log_weight_is_the_log_likelihood_of_the_kalman_filter() -> None:
    joint = [
        stats.multivariate_normal(np.zeros(2 * T), np.kron(COV, C @ C.T) + S2 * np.eye(2 * T)).logpdf(x.ravel())
        for x in X
    ]
    assert pytest.approx(joint, abs=1e-9) == LOG_P  # the filter itself
    model = state_space("smoother")
    torch.manual_seed(0)
    draw = model.draw(t(X), 20)
    assert np.abs(draw.log_w.detach().numpy() - LOG_P).max() < 1e-9
    assert draw.layers == (1,) * T and draw.rates().shape == (T, 20, 5)
    last = model.encode(t(X)).mean[:, -1].detach().numpy()
    assert last.shape == (5,) and np.abs(last - [kalman(x)[1][-1][0] for x in X]).max() < 1  # the path of means


@pytest.mark.parametrize("kind", ["filter", "wide"])
def test_other_posteriors_give_lower_bounds_and_importance_weights_close_the_gap(kind) -> None:
    """E[w] = p(x) with 200,000 draws, |z| < 4.5; the bound is below ln p(x), and the bound of 64 draws is nearer."""
    model = state_space(kind)
    torch.manual_seed(1)
    with torch.no_grad():
        draw = model.draw(t(X), 64 * 3000)
        log_w = draw.log_w.numpy()
    assert np.abs(laws.z_score(np.exp(log_w - LOG_P), 1.0)).max() < Z
    elbo, tight = log_w.mean(0), objectives.IWAE(64, 3000).bound(draw).numpy()
    assert (elbo < LOG_P - 0.01).all() and (tight > elbo).all() and np.abs(tight - LOG_P).max() < 0.05
    assert (draw.log_px - draw.rate()).mean(0).numpy() == pytest.approx(elbo, abs=0.05)
    estimate = evaluation.nll(model, t(X), k=5000)
    assert (np.abs(estimate.rows.numpy() + LOG_P) < Z * estimate.row_error.numpy() + 1e-3).all()


def test_samples_have_the_covariance_of_the_model() -> None:
    """For 20,000 sequences, the covariance of all 12 numbers has 78 entries with |z| < 4.5 (false alarm rate 6e-4)."""
    torch.manual_seed(2)
    found = state_space("filter").sample(20_000).flatten(1).numpy()
    exact = np.kron(COV, C @ C.T) + S2 * np.eye(2 * T)
    scores = [laws.z_score(found[:, i] * found[:, j], exact[i, j]) for i in range(2 * T) for j in range(i, 2 * T)]
    assert np.abs(scores).max() < Z


@pytest.mark.parametrize("shape", [(7,), (7, 3), (3, 7, 5)])
def test_time_is_the_documented_axis_and_no_step_depends_on_later_steps(shape) -> None:
    """The draw at a step and its distribution do not depend on later data."""
    x = np.random.default_rng(0).normal(size=(12, *shape)).astype("float32")
    schema = infer(x.transpose(0, 2, 3, 1) if len(shape) == 3 else x)
    if schema.shape != shape:
        pytest.skip(f"the data are seen as {schema.shape}")
    inside = torch.as_tensor(x)
    model, _ = recipes.Recipe("vrnn").build(choices.DataInfo(schema, 12, inside))
    changed, axis = inside.clone(), -1 if len(shape) == 1 else -2
    changed.narrow(axis, 4, 3).normal_()
    found = []
    for data in (inside, changed):
        torch.manual_seed(3)
        draw = model.draw(data, 2)
        found.append((draw.codes[..., : 4 * 4], draw.rates()[:4], draw.px.mean.narrow(axis, 0, 4)))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found))
    assert not torch.allclose(model.draw(inside).codes, model.draw(changed).codes)
    steps = networks.Steps(shape)
    assert torch.equal(steps.back(steps(inside), shape), inside) and steps(inside).shape == (
        12,
        *networks.steps_of(shape),
    )


@pytest.mark.parametrize("network", ["recurrent", "conv", "linear"])
def test_every_network_gives_one_code_per_sequence(network) -> None:
    x = np.random.default_rng(0).normal(size=(12, 9, 3)).astype("float32")
    schema = infer(x)
    inside = torch.as_tensor(schema.to_model(x))
    info = choices.DataInfo(schema, 12, inside)
    model, objective = recipes.Recipe("sequence_vae", network=network).build(info)
    draw = objective.draw(model, inside)
    assert torch.isfinite(objective.losses(model, inside, draw)["model"]) and model.sample(4).shape == (4, *info.shape)
    for name, wrong in (("sequence_vae", "mlp"), ("vrnn", "conv")):
        with pytest.raises(ValueError, match=r"network|convolutions"):
            recipes.Recipe(name, network=wrong).build(info)
