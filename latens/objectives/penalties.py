"""Penalties on codes and decoders: what is added to a bound or a reconstruction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latens.errors import is_number, require
from latens.models.draw import Draw
from latens.objectives.base import Penalty, mean_over_rows
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree


class CodeEnergy(Penalty):
    """E_q[-ln p(z)], nats: |z|^2 / 2 + (Z/2) ln 2 pi for p = N(0, I), sum_i (|z_i| + ln 2) for a Laplace prior.

    With a point posterior, distortion + energy is minus the logarithm of p(x, z) at the code: its minimum over codes is
    the most probable one.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        return -mean_over_rows(draw.log_pz.mean(0), draw.weight)


class DecoderWeights(Penalty):
    """|theta|^2, the sum of squares of the likelihood's weights (biases, scales and cutpoints left out): what keeps a
    decoder from undoing a penalty on the size of codes (Ghosh et al. 2020)."""

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        weights = [p for name, p in model.likelihood.network.named_parameters() if name.rpartition(".")[2] == "weight"]  # type: ignore[union-attr]
        return torch.stack([w.square().sum() for w in weights]).sum()


def jacobian_norm(
    function: Callable[[Tensor], Tensor], at: Tensor, lead: int = 1, unit: Tensor | float = 1.0
) -> Tensor:
    """An unbiased estimate of |J|^2, the squared Frobenius norm of the Jacobian of ``function`` at each row: |v^T J|^2
    for one v ~ N(0, I) over the outputs (Hutchinson 1990).

    ``at`` ``[*lead, *event]`` -> ``[*lead]``, the last of the ``lead`` axes (1 or 2) that of the rows. ``function``
    works row by row. The estimate can be differentiated in what ``function`` holds, and not in ``at``. ``unit`` is that
    of the inputs: the Jacobian with respect to at / unit is meant.

    >>> x = torch.ones(4, 1)
    >>> bool((jacobian_norm(lambda x: 3 * x, x) >= 0).all())
    True
    """
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        out = function(at)
        probe = standard_normal(out.shape[: lead - 1], out[0] if lead == 2 else out)
        (pulled,) = torch.autograd.grad((out * probe).sum(), at, create_graph=True)
        return (pulled * unit).square().flatten(lead).sum(-1)


class DecoderJacobian(Penalty):
    """E_q |df/dz|^2, f the output of the likelihood's network (the standardised mean of a normal, the logits of a
    Bernoulli): how fast what is decoded changes with the **code** (Ghosh et al. 2020). One random projection a draw.

    The code is held fixed: the decoder alone can lower it. It differentiates twice, which graphs of a compiled step do
    not take: a model that is trained with it has ``compile_mode = "off"``.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        norm = jacobian_norm(lambda z: model.likelihood.output(z, draw.c), draw.z, lead=2)  # type: ignore[operator,union-attr]
        return mean_over_rows(norm.mean(0), draw.weight)


class EncoderJacobian(Penalty):
    """|dg/du|^2, g(x) = E[z|x] and u = x / ``unit``: how fast the code changes with the datum (Rifai et al. 2011). One
    random projection a row. It differentiates twice, as :class:`DecoderJacobian` does.
    """

    unit: Tensor

    def __init__(self, unit: Tensor | float = 1.0):
        super().__init__()
        self.register_buffer("unit", torch.as_tensor(unit))

    def forward(self, model: nn.Module, x: Tensor, draw: Draw) -> Tensor:
        at = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        norm = jacobian_norm(lambda x: model.encode(x, draw.c).mean, at, unit=self.unit)  # type: ignore[operator]
        return mean_over_rows(norm, draw.weight)


class CovariancePenalty(Penalty):
    """off sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2 for a covariance C of the codes over the batch (Kumar,
    Sattigeri & Balakrishnan 2018).

    C = Cov_x E[z|x], of posterior means (DIP-VAE-I); with ``within`` C = Cov_x E[z|x] + E_x Cov[z|x], that of the
    aggregate posterior (DIP-VAE-II), for a diagonal normal posterior. Over B rows Cov_x has the divisor B - 1.
    """

    joint = True

    def __init__(self, off: float = 10.0, diagonal: float = 10.0, within: bool = False):
        super().__init__()
        require(is_number(off) and off >= 0, "off", "a number from 0", off)
        require(is_number(diagonal) and diagonal >= 0, "diagonal", "a number from 0", diagonal)
        self.off, self.diagonal, self.within = float(off), float(diagonal), within

    def covariance(self, draw: Draw) -> Tensor:
        """C, ``[Z, Z]``."""
        mean = draw.q.mean
        centred = mean - mean.mean(0)
        found = centred.mT @ centred / max(len(mean) - 1, 1)
        return found + torch.diag_embed(draw.q.variance.mean(0)) if self.within else found

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        found = self.covariance(draw)
        spread = found.diagonal()
        off = found.square().sum() - spread.square().sum()
        return self.off * off + self.diagonal * (spread - 1).square().sum()
