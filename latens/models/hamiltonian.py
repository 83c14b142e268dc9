"""Posteriors refined by Hamiltonian dynamics towards p(z|x), with bounds on a space that includes momenta."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import Drawn, center, rsample_and_log_prob
from latens.errors import is_number, require, require_count
from latens.models.draw import Draw
from latens.models.vae import VAE
from latens.tensors.numerics import LOG_2PI
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree, rows

LogDensity = Callable[[Tensor], Tensor]  # [K, B, Z] -> [K, B]


def gradient(log_density: LogDensity, z: Tensor) -> Tensor:
    """The gradient of ``log_density`` at z, ``[K, B, Z]``; it is differentiable itself if gradients are on.

    It is computed even if gradients are off, as in evaluation, and then leaves no graph behind.
    """
    on = torch.is_grad_enabled()
    with torch.enable_grad():
        at = z.view_as(z) if on and z.requires_grad else z.detach().requires_grad_()  # only with respect to z
        [found] = torch.autograd.grad(log_density(at).sum(), at, create_graph=on)
    return found


def log_standard(rho: Tensor) -> Tensor:
    """ln N(rho; 0, I) over the last axis of ``[..., Z]``, in nats."""
    return -0.5 * (rho.square() + LOG_2PI).sum(-1)


def _cholesky(matrix: Tensor) -> Tensor:
    """The lower triangular C with C Cᵀ = matrix; NaN if there is none, which training then traces to its rows."""
    tril, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where((failed > 0)[..., None, None], torch.nan, tril)


class Hamiltonian(VAE):
    r"""A VAE whose draws are moved towards p(z|x) by leapfrog steps (Caterini, Doucet & Sejdinovic 2018).

    A draw z_0 ~ q_0(z|x) and a momentum rho follow ``steps`` leapfrog steps of size eps, which preserve volume:

    .. math:: \rho' = \rho + \frac{\epsilon}{2} \nabla \ln \pi(z), \qquad z' = z + \epsilon \rho', \qquad
        \rho'' = \rho' + \frac{\epsilon}{2} \nabla \ln \pi(z').

    The weights satisfy E[w] = p(x) for every number of steps and every step size; here

    .. math:: \ln w = \ln p(x, z_T) - \ln q_0(z_0 \mid x)
        + \sum \left[\ln p(\rho_{\text{after}}) - \ln p(\rho_{\text{before}})\right]

    and the sum runs over the stretches between two refreshments of the momenta. ``log_pz`` of the draw is ln p(z_T),
    and ``log_qz`` is the rest of ln w: a density on the extended space, so q and p of the draw have no KL in closed
    form. With 0 steps it is the plain VAE. Evaluation takes gradients with respect to z, too.

    eps (below ``LIMIT``), b and the power are learned, but never change within a draw. Steps that adapt during a draw
    would need different weights; with these weights, they would bias both the lower and the upper bound.

    Args:
        prior: p(z).
        posterior: q_0(z|x).
        likelihood: p(x|z).
        steps: T, from 0.
        step_size: the initial eps, between 0 and 0.5.
        anneal: if False, the target pi is p(x, z). If True, the target of step t is ln pi_t = (1 - s) ln q_0 + s ln
            p(x, z) with s = (t/T)^power, which is differentiable annealed importance sampling (Geffner & Domke 2021;
            Zhang et al. 2021).
        keep: in [0, 1], the share of the momentum that is kept after a step: rho <- keep rho + sqrt(1 - keep²) noise.
        tempering: b in (0, 1]: momenta begin with variance 1/b, and step t multiplies them by sqrt(b_{t-1} / b_t) with
            1/sqrt(b_t) = (1 - 1/sqrt(b)) t²/T² + 1/sqrt(b), so that the determinants cancel.
        power: the initial power of annealing. If q_0 is much wider than p(z|x), nearly all changes happen at small s,
            and a power above 1 puts more steps there.
    """

    LIMIT = 0.5
    compile_mode = "off"  # double backward

    def __init__(
        self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module, *, steps: int = 3, step_size: float = 0.05,
        anneal: bool = False, keep: float = 1.0, tempering: float = 1.0, power: float = 1.0,
    ):  # fmt: skip
        super().__init__(prior, posterior, likelihood)
        require_count(steps, "steps", 0, 10_000)
        good = is_number(step_size) and 0 < step_size < self.LIMIT
        require(good, "step_size", f"a number between 0 and {self.LIMIT}", step_size)
        require(is_number(keep) and 0 <= keep <= 1, "keep", "a number from 0 to 1", keep)
        require(is_number(tempering) and 0 < tempering <= 1, "tempering", "a number above 0, at most 1", tempering)
        require(is_number(power) and power > 0, "power", "a positive number", power)
        require(power == 1 or anneal, "power", "1 without annealing", power)
        require(keep == 1 or tempering == 1, "keep", "1 where momenta are tempered", keep)
        self.steps, self.anneal, self.keep = int(steps), anneal, float(keep)
        self.raw_step = nn.Parameter(torch.tensor(step_size / self.LIMIT).logit()) if steps else None
        learned = tempering < 1 and steps > 0
        self.raw_tempering = nn.Parameter(torch.tensor(float(tempering)).logit()) if learned else None
        self.log_power = nn.Parameter(torch.tensor(float(power)).log()) if anneal and steps > 1 else None

    @property
    def step_size(self) -> Tensor:
        """eps, a scalar."""
        assert self.raw_step is not None
        return self.LIMIT * self.raw_step.sigmoid()

    # The dynamics, which a Riemannian model overrides

    def momentum(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(a momentum at z, made from standard normal noise ``[K, B, Z]``; ln of its density ``[K, B]``)."""
        return noise, log_standard(noise)

    def log_momentum(self, z: Tensor, rho: Tensor) -> Tensor:
        """ln of the density of momenta at z, ``[K, B]``."""
        return log_standard(rho)

    def leapfrog(self, z: Tensor, rho: Tensor, log_density: LogDensity) -> tuple[Tensor, Tensor]:
        """One step (z', rho'), whose Jacobian has determinant ±1."""
        eps = self.step_size
        rho = rho + 0.5 * eps * gradient(log_density, z)
        z = z + eps * rho
        return z, rho + 0.5 * eps * gradient(log_density, z)

    def _temper(self) -> list[Tensor]:
        """The logarithms of the factors of the momenta, before the first step and after each step; they add up to 0.
        Without tempering, the list is empty.
        """
        if self.raw_tempering is None:
            return []
        top = self.raw_tempering.sigmoid().rsqrt()  # 1 / sqrt(b)
        at = [((1 - top) * (t / self.steps) ** 2 + top).log() for t in range(self.steps + 1)]
        return [at[0], *(after - before for before, after in pairwise(at))]

    def _shares(self) -> list[Tensor | float]:
        """s of each step."""
        if self.log_power is None:
            return [1.0] * self.steps
        power = self.log_power.exp()
        return [(t / self.steps) ** power for t in range(1, self.steps)] + [1.0]

    def _log_joint(self, x: Tree, c: Tree) -> LogDensity:
        return lambda z: self._run("likelihood", z, c=c).log_prob(x) + self._run("prior", c=c).log_prob(z)

    def _refine(
        self, z: Tensor, noise: Callable[[], Tensor], x: Tree, c: Tree, q: Distribution, back: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(z_T; ln of the ratio of the momenta's densities after and before). With ``back`` the steps run in reverse,
        from z_T to z_0.
        """
        scales, shares, log_joint = self._temper(), self._shares(), self._log_joint(x, c)
        if back:
            scales, shares = [-scale for scale in scales[::-1]], shares[::-1]
        rho, before = self.momentum(z, noise())
        total = -before
        for number, share in enumerate(shares):

            def log_density(z: Tensor, share: Tensor | float = share) -> Tensor:
                whole = isinstance(share, float)
                return log_joint(z) if whole else share * log_joint(z) + (1 - share) * q.log_prob(z)

            if scales:
                rho = rho * scales[number].exp()
            z, rho = self.leapfrog(z, rho, log_density)
            if self.keep < 1 and number < self.steps - 1:
                total = total + self.log_momentum(z, rho)
                fresh, _ = self.momentum(z, noise())
                rho = self.keep * rho + (1 - self.keep**2) ** 0.5 * fresh
                total = total - self.log_momentum(z, rho)
        if scales:
            rho = rho * scales[-1].exp()
        return z, total + self.log_momentum(z, rho)

    def draw(self, x: Tree, k: int = 1, c: Tree = None) -> Draw:  # type: ignore[override]
        """k refined draws for each row, with the weights of the extended space, ``[k, B]``."""
        if self.steps == 0 or k < 1:
            return super().draw(x, k, c)
        q = self._run("posterior", x, c=c)
        start, log_q = rsample_and_log_prob(q, k)
        assert log_q is not None
        like = center(q)
        z, gained = self._refine(start, lambda: standard_normal((k,), like), x, c, q)
        px, p = self._run("likelihood", z, c=c), self._run("prior", c=c)
        on_extended = self._drawn(x, c, q)
        return Draw(z, px.log_prob(x), p.log_prob(z), log_q - gained, px, p, on_extended, c).check(k, rows(x))

    def back(self, x: Tree, z: Tensor, c: Tree = None) -> Tensor:
        """ln w, ``[K, B]`` nats, of the reversed steps from z ``[K, B, Z]``, which must be drawn from p(z|x).

        If data were simulated from codes, these codes are such draws. E[1/w] = 1/p(x), so -ln mean(1/w) is in
        expectation above ln p(x), just as ln mean(w) of a draw is below it (Grosse, Ghahramani & Adams 2015).
        """
        q = self._run("posterior", x, c=c)
        like = center(q)
        start, lost = self._refine(z, lambda: standard_normal(z.shape[:1], like), x, c, q, back=True)
        return self._log_joint(x, c)(z) - q.log_prob(start) - lost

    def encode(self, x: Tree, c: Tree = None) -> Distribution:
        """The refined posterior; its ``mean`` is where the mean of q_0 ends if it starts with momentum 0."""
        q = self._run("posterior", x, c=c)
        return q if self.steps == 0 else self._drawn(x, c, q)

    def _drawn(self, x: Tree, c: Tree, q: Distribution) -> Drawn:
        like = center(q)

        def draw(k: int) -> Tensor:
            start, _ = rsample_and_log_prob(q, k)
            return self._refine(start, lambda: standard_normal((k,), like), x, c, q)[0]

        rest, still = like.unsqueeze(0), torch.zeros_like(like).unsqueeze(0)
        return _Refined(like, draw, lambda: self._refine(rest, lambda: still, x, c, q))


class _Refined(Drawn):
    """Drawn codes whose mean is computed on demand."""

    def __init__(self, like: Tensor, draw: Callable[[int], Tensor], at_rest: Callable[[], tuple[Tensor, Tensor]]):
        super().__init__(like, draw)
        self._at_rest = at_rest

    @property
    def mean(self) -> Tensor:
        """Where the mean of q_0 ends if it starts with momentum 0, ``[B, Z]``."""
        return self._at_rest()[0].squeeze(0)


class CentroidMetric(nn.Module):
    r"""A learned metric over codes (Chadebec, Mantoux & Allassonnière 2020).

    .. math:: G^{-1}(z) = \sum_i L_i L_i^\top \exp\!\left(-\frac{\lVert z - c_i \rVert^2}{T^2}\right) + \lambda I

    It is positive definite for every z. The centroids c_i are the codes of some training rows; they are a buffer that
    the model refreshes after each epoch.

    Args:
        network: gives the entries of the lower triangular L_i for the i-th of the ``rows``.
        rows: ``[M, *event]``, some training rows.
        dim: the dimensions of z, Z.
        given: the rows' conditions.
        temperature: T > 0.
        floor: lambda > 0.
    """

    centroids: Tensor
    rows: Tensor

    def __init__(
        self, network: nn.Module, rows: Tensor, dim: int, given: Tree = None, *, temperature: float = 1.0,
        floor: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("temperature", temperature), ("floor", floor)):
            require(is_number(value) and value > 0, f"the metric's {name}", "a positive number", value)
        self.network, self.dim, self.temperature, self.floor = network, dim, temperature, floor
        self.register_buffer("rows", rows)
        self.register_buffer("centroids", torch.zeros(len(rows), dim))
        self.names = tuple(given or ())
        for number, name in enumerate(self.names):
            self.register_buffer(f"given_{number}", given[name])

    @property
    def given(self) -> Tree:
        """The conditions of the rows."""
        return {name: getattr(self, f"given_{number}") for number, name in enumerate(self.names)} or None

    def squares(self) -> Tensor:
        r""":math:`L_i L_i^\top`, ``[M, Z, Z]``."""
        raw = self.network(self.rows, self.given)
        row, column = torch.tril_indices(self.dim, self.dim)
        tril = raw.new_zeros(len(raw), self.dim, self.dim)
        tril[:, row, column] = raw
        return tril @ tril.mT

    def inverse(self, z: Tensor, squares: Tensor) -> Tensor:
        """:math:`G^{-1}` at codes ``[..., Z]``: ``[..., Z, Z]``."""
        distance = (z.unsqueeze(-2) - self.centroids).square().sum(-1)
        near = (-distance / self.temperature**2).exp()  # ... x M
        flat = (near @ squares.flatten(1)).unflatten(-1, (self.dim, self.dim))
        return flat + self.floor * torch.eye(self.dim, dtype=z.dtype, device=z.device)


class RiemannianHamiltonian(Hamiltonian):
    r""":class:`Hamiltonian` with momenta of variance G(z), for a learned metric G.

    Its steps are generalised leapfrog steps (Girolami & Calderhead 2011; Chadebec et al. 2020) of

    .. math:: H(z, \rho) = -\ln \pi(z) + \frac12 \ln \det G(z) + \frac12 \rho^\top G^{-1}(z)\, \rho.

    Two of the three parts of a step are implicit, and solved by ``iterations`` rounds of a fixed-point iteration.
    Volume is preserved and the bound is exact only as far as these iterations have converged; in each round, an error
    shrinks by about the factor eps. A force (gradient of ln pi) longer than 1/eps, as from an untrained decoder of many
    cells, is shortened to that length, so that no step diverges. This still preserves volume, because the force depends
    only on z.

    Args:
        prior: p(z).
        posterior: q_0(z|x).
        likelihood: p(x|z).
        metric: the metric G.
        steps: T, from 0.
        step_size: the initial eps, between 0 and 0.5.
        tempering: see :class:`Hamiltonian`.
        iterations: the number of rounds of each fixed-point iteration.
    """

    def __init__(
        self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module, metric: CentroidMetric, *, steps: int = 3,
        step_size: float = 0.01, tempering: float = 1.0, iterations: int = 3,
    ):  # fmt: skip
        super().__init__(prior, posterior, likelihood, steps=steps, step_size=step_size, tempering=tempering)
        require_count(iterations, "iterations")
        self.metric, self.iterations = metric, int(iterations)
        self._squares: Tensor | None = None

    @torch.no_grad()
    def after_epoch(self) -> None:
        """Set the centroids to the codes of their rows."""
        q = self._run("posterior", self.metric.rows, c=self.metric.given)
        self.metric.centroids.copy_(center(q))

    def _refine(
        self, z: Tensor, noise: Callable[[], Tensor], x: Tree, c: Tree, q: Distribution, back: bool = False
    ) -> tuple[Tensor, Tensor]:
        self._squares = self.metric.squares()  # computed once for all steps
        try:
            return super()._refine(z, noise, x, c, q, back)
        finally:
            self._squares = None

    def inverse_metric(self, z: Tensor) -> Tensor:
        """:math:`G^{-1}(z)`, ``[..., Z, Z]``."""
        return self.metric.inverse(z, self.metric.squares() if self._squares is None else self._squares)

    def momentum(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(a momentum from N(0, G(z)) ``[K, B, Z]``; ln of its density ``[K, B]``)."""
        tril = _cholesky(self.inverse_metric(z))  # C C^T = G^-1, so C^-T noise ~ N(0, G)
        rho = torch.linalg.solve_triangular(tril.mT, noise.unsqueeze(-1), upper=True).squeeze(-1)
        return rho, log_standard(noise) + tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_momentum(self, z: Tensor, rho: Tensor) -> Tensor:
        """ln N(rho; 0, G(z)), ``[K, B]``."""
        tril = _cholesky(self.inverse_metric(z))
        white = (tril.mT @ rho.unsqueeze(-1)).squeeze(-1)
        return log_standard(white) + tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def leapfrog(self, z: Tensor, rho: Tensor, log_density: LogDensity) -> tuple[Tensor, Tensor]:
        """One generalised step (z', rho') from codes and momenta ``[K, B, Z]``."""
        eps = self.step_size

        def held(pull: Tensor) -> Tensor:
            length = pull.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
            return pull * (1 / (eps * length)).clamp_max(1)

        def force(at: Tensor, rho: Tensor) -> Tensor:  # -dH/dz
            return held(gradient(log_density, at)) + gradient(lambda z: self.log_momentum(z, rho), at)

        def velocity(at: Tensor, rho: Tensor) -> Tensor:  # dH/drho
            return (self.inverse_metric(at) @ rho.unsqueeze(-1)).squeeze(-1)

        half = rho
        for _ in range(self.iterations):
            half = rho + 0.5 * eps * force(z, half)
        first, new = velocity(z, half), z
        for _ in range(self.iterations):
            new = z + 0.5 * eps * (first + velocity(new, half))
        return new, half + 0.5 * eps * force(new, half)
