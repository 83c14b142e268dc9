"""Likelihoods p(x|z) of data whose cells are all counts, the size of a row being an offset, or all shares in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional, event_dims
from latens.tensors.trees import Tree


class PoissonLikelihood(Conditional):
    """p(x|z) = prod_i Poisson(x_i; e^f_i(z)); the network gives the log rates, in the shape of a datum.

    ``offset`` names the key of the condition that holds the logarithm of each row's library size (its total count),
    ``[B]`` or ``[B, 1]``: the rates are then e^offset softmax(f(z)) over the datum, and sum to the library size (Lopez
    et al. 2018). The offset is not given to the network unless ``reads`` names it too. Raises ``ValueError`` where the
    condition lacks it.

    ``smoothing`` is a weight s in [0, 1) of a prior with ``pseudo`` counts a_i, a number or in the shape of a datum:
    the rates are (1 - s) e^f_i + s a_i, and the shares (1 - s) softmax(f)_i + s a_i / sum_j a_j. With s = 1 / (N + 1)
    of N rows, or A / (M + A) of M counts, A = sum_j a_j, that is a_i added to the total of each cell, half a count by
    default (Jeffreys 1946), so that a cell that was never seen above 0 can be.

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
        """P; the network gives ``[..., *event]`` where it is 1 and ``[..., P, *event]`` where it is more."""
        return 1

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        if self.offset is None:
            return super().forward(given, c)
        missing = [key for key in self.reads if c is None or key not in c]
        if missing:
            raise ValueError(f"{type(self).__name__} reads the condition {missing[0]!r}, which was not given")
        condition = {key: c[key] for key in self._network_reads}
        output = self.network(given, condition) if condition else self.network(given)
        return self._of(output, given, c[self.offset])

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return self._of(output, given, None)

    def _of(self, output: Tensor, given: Tree, log_size: Tensor | None) -> Distribution:
        count = self.parameters_per_cell
        axes = event_dims(output, given, parameter_axes=int(count > 1))
        parameters = output.unsqueeze(0) if count == 1 else output.movedim(-axes - 1, 0)
        if len(parameters) != count:
            raise ValueError(f"{type(self).__name__} needs {count} parameters a cell, got {len(parameters)}")
        log_mean = parameters[0]
        log_weight = torch.log1p(-self.smoothing)
        log_prior = self.smoothing.log() + self.pseudo.log()  # -inf where there is none
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
        """The elementwise distribution of this log mean and the further parameters ``[P-1, ..., *event]``."""
        return d.Poisson(log_mean)


class NegativeBinomialLikelihood(PoissonLikelihood):
    """p(x|z) = prod_i NB(x_i; mean mu_i, variance mu_i + mu_i^2 / theta_i), mu as the rates of
    :class:`PoissonLikelihood`.

    ``dispersion``: "learned", ln theta is a parameter of shape ``shape`` (that of a datum for one a cell, () for one
    shared by all), starting at 0; or "network", ln theta is the last of P parameters a cell. (Lopez et al. 2018)
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
        return 1 + (self.dispersion == "network")

    def _log_theta(self, further: Tensor) -> Tensor:
        return self.log_theta if self.dispersion == "learned" else further[-1]

    def counts(self, log_mean: Tensor, further: Tensor) -> Distribution:
        return d.NegativeBinomial(log_mean, self._log_theta(further))


class ZeroInflatedNegativeBinomialLikelihood(NegativeBinomialLikelihood):
    """As :class:`NegativeBinomialLikelihood`, and the second of P parameters a cell is the logit of an extra zero."""

    @property
    def parameters_per_cell(self) -> int:
        return 2 + (self.dispersion == "network")

    def counts(self, log_mean: Tensor, further: Tensor) -> Distribution:
        return d.ZeroInflatedNegativeBinomial(log_mean, self._log_theta(further), further[0])


class ContinuousBernoulliLikelihood(Conditional):
    """p(x|z) = prod_i of continuous Bernoulli densities on [0, 1]; the network gives the logits, in the shape of a
    datum. (Loaiza-Ganem & Cunningham 2019)
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        return d.Observed(d.ContinuousBernoulli(output), event_dims(output, given))
