"""Likelihoods p(x|z) of rows of counts, with the row's total as an offset, and of rows of shares in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional, event_dims
from latens.tensors.trees import Tree


class PoissonLikelihood(Conditional):
    r"""Poisson counts; the network gives the log rates f(z), in the shape of a row.

    .. math:: p(x \mid z) = \prod_i \operatorname{Poisson}\!\left(x_i; e^{f_i(z)}\right)

    With an ``offset`` the rates are :math:`N \operatorname{softmax}(f(z))`, so that they sum to the row's library size
    N, its total count (Lopez et al. 2018).

    With ``smoothing`` s the rates are :math:`(1 - s)\, e^{f_i} + s\, a_i`, and the shares :math:`(1 - s)
    \operatorname{softmax}(f)_i + s\, a_i / \sum_j a_j`. A cell that was always 0 in the data can then have counts. With
    s = 1 / (N + 1) for N rows, or s = A / (M + A) for M counts, where A is the sum of a, the sum of each cell over the
    data grows by :math:`a_i`, half a count by default (Jeffreys 1946).

    Args:
        network: maps z to log rates ``[..., *event]``.
        offset: the key of the condition that holds the logarithm of each row's library size, ``[B]`` or ``[B, 1]``. The
            network sees it only if ``reads`` names it too.
        reads: the keys of the condition that the network sees.
        smoothing: s in [0, 1), the weight of the pseudo-counts.
        pseudo: a, a number or ``[*event]``.

    Raises:
        ValueError: the condition lacks the offset.

    >>> likelihood = PoissonLikelihood(nn.Linear(2, 3), offset="log_size")
    >>> px = likelihood(torch.zeros(5, 2), {"log_size": torch.full((5,), 100.0).log()})
    >>> px.mean.sum(-1).detach()
    tensor([100.0000, 100.0000, 100.0000, 100.0000, 100.0000])
    """

    smoothing: Tensor
    pseudo: Tensor
    added = ("smoothing", "pseudo")

    def __init__(
        self, network: nn.Module, *, offset: str | None = None, reads: tuple[str, ...] = (), smoothing: float = 0.0,
        pseudo: float | Tensor = 0.5,
    ):  # fmt: skip
        super().__init__(network, reads)
        self.register_buffer("smoothing", torch.tensor(float(smoothing)))
        self.register_buffer("pseudo", torch.as_tensor(pseudo, dtype=torch.get_default_dtype()))
        self.offset, self._network_reads = offset, self.reads
        if offset is not None and offset not in self.reads:
            self.reads = (*self.reads, offset)

    @property
    def parameters_per_cell(self) -> int:
        """P. The network gives ``[..., *event]`` if P is 1, and ``[..., P, *event]`` otherwise."""
        return 1

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        """p(x|z) over rows ``[..., B, *event]``, given z and conditions ``[B]``."""
        if self.offset is None:
            return super().forward(given, c)
        missing = [key for key in self.reads if c is None or key not in c]
        if missing:
            reader = type(self).__name__
            raise ValueError(f"{reader} reads the condition {missing[0]!r}, which was not given: pass it in c")
        condition = {key: c[key] for key in self._network_reads}
        output = self.network(given, condition) if condition else self.network(given)
        return self._of(output, given, c[self.offset])

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]`` without an offset."""
        return self._of(output, given, None)

    def _of(self, output: Tensor, given: Tree, log_size: Tensor | None) -> Distribution:
        count = self.parameters_per_cell
        axes = event_dims(output, given, parameter_axes=int(count > 1))
        parameters = output.unsqueeze(0) if count == 1 else output.movedim(-axes - 1, 0)
        if len(parameters) != count:
            raise ValueError(f"{type(self).__name__} must get {count} parameters per cell, got {len(parameters)}")
        log_mean = parameters[0]
        log_weight = torch.log1p(-self.smoothing)
        log_prior = self.smoothing.log() + self.pseudo.log()  # -inf without smoothing
        if log_size is None:
            log_mean = torch.logaddexp(log_mean + log_weight, log_prior)
        else:
            if log_size.dim() > 1 and log_size.shape[-1] == 1:
                log_size = log_size.squeeze(-1)
            flat = log_mean.flatten(-axes).log_softmax(-1)
            log_total = self.pseudo.expand(log_mean.shape[-axes:]).sum().log()
            shares = torch.logaddexp((flat + log_weight).reshape(log_mean.shape), log_prior - log_total)
            log_mean = shares + log_size.to(shares.dtype).reshape(*log_size.shape, *[1] * axes)
        return d.Observed(self.counts(log_mean, parameters[1:]), axes)

    def counts(self, log_mean: Tensor, further: Tensor) -> Distribution:
        """The elementwise distribution with this log mean and the further parameters ``[P-1, ..., *event]``."""
        return d.Poisson(log_mean)


class NegativeBinomialLikelihood(PoissonLikelihood):
    r"""Negative binomial counts, with means :math:`\mu` as the rates of :class:`PoissonLikelihood` (Lopez et al. 2018).

    .. math:: p(x \mid z) = \prod_i \operatorname{NB}(x_i; \mu_i, \theta_i), \qquad
        \operatorname{Var} x_i = \mu_i + \mu_i^2 / \theta_i

    Args:
        network: maps z to ``[..., P, *event]``, or to ``[..., *event]`` if P is 1.
        shape: the shape of the learned ln theta: the shape of a row for one per cell, () for one shared by all cells.
        dispersion: "learned": ln theta is a parameter that starts at 0. "network": it is the last of the P parameters
            per cell.
        offset: see :class:`PoissonLikelihood`.
        reads: the keys of the condition that the network sees.
        smoothing: see :class:`PoissonLikelihood`.
        pseudo: see :class:`PoissonLikelihood`.
    """

    def __init__(
        self, network: nn.Module, shape: Sequence[int] = (), *, dispersion: str = "learned", offset: str | None = None,
        reads: tuple[str, ...] = (), smoothing: float = 0.0, pseudo: float | Tensor = 0.5,
    ):  # fmt: skip
        super().__init__(network, offset=offset, reads=reads, smoothing=smoothing, pseudo=pseudo)
        if dispersion not in ("learned", "network"):
            raise ValueError(f"dispersion must be 'learned' or 'network', got {dispersion!r}")
        self.dispersion = dispersion
        if dispersion == "learned":
            self.log_theta = nn.Parameter(torch.zeros(tuple(shape)))

    @property
    def parameters_per_cell(self) -> int:
        """P, which is 1, or 2 if the network gives the dispersion."""
        return 1 + (self.dispersion == "network")

    def _log_theta(self, further: Tensor) -> Tensor:
        return self.log_theta if self.dispersion == "learned" else further[-1]

    def counts(self, log_mean: Tensor, further: Tensor) -> Distribution:
        """The negative binomial with this log mean, ``[..., *event]``."""
        return d.NegativeBinomial(log_mean, self._log_theta(further))


class ZeroInflatedNegativeBinomialLikelihood(NegativeBinomialLikelihood):
    """Like :class:`NegativeBinomialLikelihood`, with the logit of an extra zero as the second of P parameters per cell.
    """

    @property
    def parameters_per_cell(self) -> int:
        """P, which is 2, or 3 if the network gives the dispersion."""
        return 2 + (self.dispersion == "network")

    def counts(self, log_mean: Tensor, further: Tensor) -> Distribution:
        """The zero-inflated negative binomial with this log mean, ``[..., *event]``."""
        return d.ZeroInflatedNegativeBinomial(log_mean, self._log_theta(further), further[0])


class ContinuousBernoulliLikelihood(Conditional):
    r"""Continuous Bernoulli densities on [0, 1]; the network gives the logits, in the shape of a row.

    .. math:: p(x \mid z) = \prod_i \operatorname{CB}(x_i; \sigma(f_i(z)))

    (Loaiza-Ganem & Cunningham 2019)
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]``."""
        return d.Observed(d.ContinuousBernoulli(output), event_dims(output, given))
