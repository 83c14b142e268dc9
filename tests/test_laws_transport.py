"""Laws of discrepancies between samples, checked by naive loops, closed forms, exact assignment and sorted numbers."""

from __future__ import annotations

import laws
import numpy as np
import pytest
import torch
from laws import Z, t
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from latens import conditionals, models, objectives, priors
from latens.objectives import discrepancies as d

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(40, 3)), 0.5 * RNG.normal(size=(40, 3)) + [1.0, 0.0, -1.0]


def test_mmd_is_that_of_a_naive_loop_over_pairs_of_different_points() -> None:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return sum(6 * s / (6 * s + ((a - b) ** 2).sum()) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    def within(points: np.ndarray) -> float:
        pairs = [kernel(p, q) for i, p in enumerate(points) for j, q in enumerate(points) if i != j]
        return float(np.mean(pairs))

    b = B[:25]  # samples may differ in size
    truth = within(A) + within(b) - 2 * np.mean([kernel(p, q) for p in A for q in b])
    assert d.mmd(t(A), t(b)).item() == pytest.approx(truth, abs=1e-12)


def test_mmd_is_unbiased_between_two_normals() -> None:
    """The expectation over pairs is computed by quadrature: the difference u of two independent 1-D normals is normal,
    and E[2s / (2s + u^2)] is an integral. 4,000 batches of 8, |z| < 4.5. The mean over all pairs, including i = j, is
    too high by much more than that."""
    from scipy import integrate, stats

    def expected(mean: float, var: float) -> float:
        def f(u: float) -> float:
            return sum(2 * s / (2 * s + u * u) for s in d.SCALES) * stats.norm.pdf(u, mean, np.sqrt(var))

        return integrate.quad(f, mean - 12, mean + 12, points=[0.0], limit=200)[0]

    truth = expected(0, 2.0) + expected(0, 0.5) - 2 * expected(0.7, 1.25)
    g = torch.Generator().manual_seed(1)
    a = torch.randn(4000, 8, 1, generator=g, dtype=torch.float64)
    b = 0.5 * torch.randn(4000, 8, 1, generator=g, dtype=torch.float64) + 0.7
    found = np.array([d.mmd(p, q).item() for p, q in zip(a, b)])
    assert abs(laws.z_score(found, truth)) < Z

    def with_itself(points: torch.Tensor) -> float:
        return sum((2 * s / (2 * s + d.square_distances(points, points))).mean().item() for s in d.SCALES)

    biased = [with_itself(p) + with_itself(q) for p, q in zip(a, b)]
    unbiased = [(8 * v - 2 * len(d.SCALES)) / 7 for v in biased]
    assert abs(laws.z_score(found + np.array(biased) - unbiased, truth)) > 20


def test_sliced_distance_along_axes_is_that_of_sorted_columns() -> None:
    truth = np.mean((np.sort(A, 0) - np.sort(B, 0)) ** 2)
    for length in (1.0, 7.0):  # the length of a direction does not matter
        found = d.sliced_wasserstein(t(A), t(B), length * torch.eye(3, dtype=torch.float64))
        assert found.item() == pytest.approx(truth, abs=1e-12)
    line = RNG.normal(size=3)
    line /= np.linalg.norm(line)
    rows, columns = linear_sum_assignment(cdist((A @ line)[:, None], (B @ line)[:, None], "sqeuclidean"))
    exact = (((A @ line)[rows] - (B @ line)[columns]) ** 2).mean()
    assert d.sliced_wasserstein(t(A), t(B), t(line[None])).item() == pytest.approx(exact, abs=1e-12)


def test_sliced_distance_between_shifted_samples_is_the_squared_shift_over_the_dimensions() -> None:
    """E (m . theta)^2 = |m|^2 / Z over random lines: 50 estimates of 400 directions each, |z| < 4.5."""
    penalty = objectives.SlicedWasserstein(400)
    shift = np.array([1.0, -2.0, 0.5])
    torch.manual_seed(0)
    found = np.array([penalty.between(t(A), t(A + shift)).item() for _ in range(50)])
    assert abs(laws.z_score(found, (shift**2).sum() / 3)) < Z


def test_sinkhorn_is_the_exact_assignment_as_epsilon_falls() -> None:
    """exact <= OT_eps <= exact + eps ln n, and the divergence is also within eps ln n of the exact value."""
    cost = cdist(A, B, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    exact = cost[rows, columns].mean()
    for epsilon in (0.1, 0.02):
        found = d.transport_cost(t(A), t(B), epsilon, 8000).item()
        assert exact - 1e-3 <= found <= exact + epsilon * np.log(40)
    assert d.sinkhorn_divergence(t(A), t(B), 0.02, 8000).item() == pytest.approx(exact, abs=0.02 * np.log(40))


def test_sinkhorn_is_that_of_a_naive_loop_and_its_gradient_that_of_differences() -> None:
    epsilon, cost = 0.8, cdist(A, B, "sqeuclidean")
    kernel, v = np.exp(-cost / epsilon), np.ones(40)
    for _ in range(3000):
        u = 1 / (kernel @ v / 40)
        v = 1 / (kernel.T @ u / 40)
    plan = u[:, None] * kernel * v / 1600
    truth = (plan * cost).sum() + epsilon * (plan * np.log(plan * 1600)).sum()
    assert d.transport_cost(t(A), t(B), epsilon, 3000).item() == pytest.approx(truth, abs=1e-8)
    a = t(A).requires_grad_()
    (found,) = torch.autograd.grad(d.sinkhorn_divergence(a, t(B), epsilon, 1000), a)
    for i, j in ((0, 0), (7, 2), (31, 1)):
        values = []
        for step in (1e-4, -1e-4):
            moved = A.copy()
            moved[i, j] += step
            values.append(d.sinkhorn_divergence(t(moved), t(B), epsilon, 1000).item())
        assert found[i, j].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=1e-6)


def test_equal_samples_are_at_no_distance() -> None:
    a = t(A)
    assert d.sinkhorn_divergence(a, a, 1.0, 7).abs() < 1e-12
    assert d.sliced_wasserstein(a, a.flip(0), t(B)).abs() < 1e-12


@pytest.mark.parametrize("make", [objectives.MMD, objectives.SlicedWasserstein, objectives.Sinkhorn])
@pytest.mark.parametrize("k", [1, 3])
def test_codes_of_the_prior_are_nearer_than_others_and_the_gradient_leads_there(make, k: int) -> None:
    """Codes are the rows plus an offset: 40 batches of 64 rows; the slope points away from 0 for either sign of the
    offset."""
    penalty, z_scores = make(), []
    for offset in (-1.0, 0.0, 1.0):
        model = models.VAE(
            priors.StandardNormal(2),
            conditionals.PointMassPosterior(laws.affine(np.eye(2), np.full(2, offset))),
            conditionals.NormalLikelihood(laws.affine(np.eye(2), np.zeros(2)), 1.0),
        ).double()
        torch.manual_seed(0)
        slopes, values = [], []
        for _ in range(40):
            x = torch.randn(64, 2, dtype=torch.float64)
            value = penalty(model, x, model.draw(x, k))
            slopes.append(torch.autograd.grad(value, model.posterior.network.bias)[0].sum().item())
            values.append(value.item())
        z_scores.append((laws.z_score(np.array(slopes), 0.0), np.mean(values)))
    (low, far), (_, near), (high, further) = z_scores
    assert low < -10 and high > 10 and near < 0.3 * min(far, further)


def test_draws_from_the_prior_are_as_many_as_codes_and_independent_of_them() -> None:
    draw = models.VAE(
        priors.StandardNormal(3),
        conditionals.PointMassPosterior(laws.affine(np.eye(3), np.zeros(3))),
        conditionals.NormalLikelihood(laws.affine(np.eye(3), np.zeros(3)), 1.0),
    ).double().draw(t(A), 4)  # fmt: skip
    drawn = d.prior_codes(draw)
    assert drawn.shape == (160, 3) and len(drawn.unique(dim=0)) == 160
