"""Likelihoods p(x|z) of rows whose cells are all of one kind: normal, Bernoulli, categories, ordered levels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from latens import distributions as d
from latens.conditionals.base import Conditional, event_dims
from latens.errors import is_number
from latens.tensors.trees import Tree


class NormalLikelihood(Conditional):
    r"""Cells that are normal around the network's output f(z), with a single observation variance c.

    .. math:: p(x \mid z) = \mathcal{N}(x;\, \mathrm{shift} + \mathrm{unit}\, f(z),\, \mathrm{unit}^2 c\, I)

    The network works on u = (x - shift) / unit; the density is one of x, so that ln p(x) includes -ln unit for each
    cell.

    Args:
        network: maps z to ``[..., *event]``.
        variance: a number > 0 (fixed c), "learned" (a parameter) or "optimal": the closed-form optimum, which is the
            mean squared error of decoded posterior samples (Rybkin et al. 2021). It is tracked without gradient in
            training, and then fixed by one pass over the training set.
        shift: the centre of the data, a buffer.
        unit: the scale of the data, > 0, a buffer.
        floor: the least c; without it, a model that can copy its data would have an unbounded likelihood.
        varying: ``[*event]``, which cells vary; the remaining cells were constant in ``rows`` rows. A constant cell
            equals ``shift``, has no density and does not count for the optimal c. If it changes, this costs
            ln(rows + 2) nats, by Laplace's rule of succession (1812): after n rows with one value, the probability of
            another value is 1 / (n + 2).
        rows: the number of rows in which the remaining cells were constant.
        reads: the keys of the condition that the network sees.

    Raises:
        ValueError: the variance is not positive.
    """

    shift: Tensor
    unit: Tensor
    variance: Tensor
    varying: Tensor | None

    def __init__(
        self, network: nn.Module, variance: float | str = "optimal", *, shift: Tensor | float = 0.0,
        unit: Tensor | float = 1.0, floor: float = 1e-6, varying: Tensor | None = None, rows: int = 0,
        reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, reads)
        self.rows = rows
        given = float(variance) if isinstance(variance, Tensor) and variance.numel() == 1 else variance
        if given not in ("learned", "optimal") and not (is_number(given) and given > 0):
            raise ValueError(f"variance must be a positive number, 'learned' or 'optimal', got {variance!r}")
        self.mode, self.floor = given if isinstance(given, str) else "fixed", floor
        self.register_buffer("shift", torch.as_tensor(shift))
        self.register_buffer("unit", torch.as_tensor(unit))
        self.register_buffer("varying", varying)
        if self.mode == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))
        elif self.mode == "optimal":
            self.register_buffer("variance", torch.ones(()))
        else:  # a float64 scalar is exact, and results still have the type of the network
            exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
            self.register_buffer("variance", torch.tensor(given, dtype=exact))

    @property
    def observation_variance(self) -> Tensor:
        """c, in units of unit²."""
        if self.mode == "learned":
            return (2 * self.log_scale).exp() + self.floor
        return self.variance

    @property
    def data_variance(self) -> Tensor:
        """unit² c, in squared units of the data, a scalar or one number per cell, float64."""
        return self.observation_variance.detach().cpu() * self.unit.cpu().double().square()

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]``."""
        base = d.Normal(output, self.observation_variance)
        units = d.InUnits(base, self.shift, self.unit)
        if self.varying is not None:
            units = d.Reproduced(base, self.shift, self.unit, self.varying, math.log(self.rows + 2))
        return d.Observed(units, event_dims(output, given))

    def changed(self, x: Tensor) -> Tensor | None:
        """Which cells should be constant but are not, ``[N, *event]``; None if all cells may vary."""
        return None if self.varying is None else ~self.varying & (x != self.shift)

    @torch.no_grad()
    def observe(self, x: Tensor, draw: Any) -> Tensor | None:
        """For a batch, the weighted sum of squared residuals in units of unit², and the weight, ``[2]``.

        None unless the variance is optimal.
        """
        if self.mode != "optimal":
            return None
        output = draw.px.base.base.mean  # K x B x event
        square = (((x - self.shift) / self.unit).to(output.dtype) - output).square()
        seen = ~square.isnan()
        weight = seen.to(square.dtype) if self.varying is None else (seen & self.varying).to(square.dtype)
        if draw.weight is not None:
            weight = weight * draw.weight.view(-1, *[1] * (x.dim() - 1)).to(square.dtype)
        return torch.stack([(torch.where(seen, square, 0.0) * weight).sum(), weight.sum()])

    def after_step(self, observed: Tensor) -> None:
        """Track the mean squared error of the step's posterior samples."""
        self.variance.lerp_(self._mean(observed), 0.1)

    def settle(self, observed: Tensor) -> None:
        """Fix c at the mean over the whole training set; ``observed`` is the sum over the batches."""
        self.variance.copy_(self._mean(observed))

    def _mean(self, observed: Tensor) -> Tensor:
        return (observed[0] / observed[1].clamp_min(1e-12)).clamp_min(self.floor).to(self.variance)


class BernoulliLikelihood(Conditional):
    r"""Cells of 0 and 1; the network gives the logits f(z), in the shape of a row.

    .. math:: p(x \mid z) = \prod_i \operatorname{Bernoulli}(x_i; \sigma(f_i(z)))
    """

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]``."""
        return d.Observed(d.Bernoulli(output), event_dims(output, given))


class CategoricalLikelihood(Conditional):
    r"""Cells that are categories; the network gives logits ``[..., levels, *event]``.

    .. math:: p(x \mid z) = \prod_i \operatorname{Categorical}(x_i; \operatorname{softmax}(f_i(z)))

    Args:
        network: maps z to ``[..., levels, *event]``.
        reads: the keys of the condition that the network sees.
        span: (first, last), if the levels stand for numbers evenly spaced from first to last; otherwise they stand for
            0 … levels-1. In both cases, p is a probability mass.
    """

    def __init__(
        self, network: nn.Module, reads: tuple[str, ...] = (), *, span: tuple[float, float] | None = None
    ):  # fmt: skip
        super().__init__(network, reads)
        self.span = span

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]``."""
        axes = event_dims(output, given, parameter_axes=1)
        logits = output.movedim(-axes - 1, -1)
        return d.Observed(_over(d.Categorical(logits), self.span, logits.shape[-1]), axes)


class DiscretizedLogisticLikelihood(Conditional):
    """Cells with ordered levels, as mixtures of discretised logistics (Kingma et al. 2016; Salimans et al. 2017).

    See :class:`latens.distributions.DiscretizedLogistic`. Locations are in [-1, 1] over the levels. A raw log-scale r
    becomes softplus(r + 7) - 7, which stays above -7 (half a bin of 256 levels is e^-5.5).

    Args:
        network: maps z to ``[..., P, *event]``: M locations, M log-scales (with scale "network"), and M logits if M is
            greater than 1.
        levels: at least 2.
        components: the number of components, M.
        scale: "network", or "learned" for a single log-scale, which is then not one of the P parameters.
        span: (first, last), if the levels stand for numbers evenly spaced from first to last; p is a probability mass
            with or without it.
        reads: the keys of the condition that the network sees.
    """

    def __init__(
        self, network: nn.Module, levels: int = 256, *, components: int = 1, scale: str = "network",
        span: tuple[float, float] | None = None, reads: tuple[str, ...] = (),
    ):  # fmt: skip
        super().__init__(network, reads)
        if levels < 2 or components < 1 or scale not in ("network", "learned"):
            raise ValueError(
                f"levels must be at least 2, components at least 1 and scale 'network' or 'learned', "
                f"got {levels}, {components}, {scale!r}"
            )
        self.levels, self.components, self.scale, self.span = levels, components, scale, span
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.tensor(-2.0))

    @property
    def parameters_per_cell(self) -> int:
        """P, the size of the axis before the event."""
        return self.components * (1 + (self.scale == "network") + (self.components > 1))

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """p(x|z) over rows ``[..., *event]``."""
        axes = event_dims(output, given, parameter_axes=1)
        parameters = output.movedim(-axes - 1, 0).split(self.components)
        log_scale = parameters[1] if self.scale == "network" else self.log_scale
        logits = parameters[-1] if self.components > 1 else None
        base = d.DiscretizedLogistic(parameters[0], softplus(log_scale + 7) - 7, self.levels, logits)
        return d.Observed(_over(base, self.span, self.levels), axes)


def _over(base: Distribution, span: tuple[float, float] | None, levels: int) -> Distribution:
    """The levels of ``base`` as the numbers that they stand for."""
    return base if span is None else d.OnGrid(base, span[0], (span[1] - span[0]) / (levels - 1))
