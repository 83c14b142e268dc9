"""Penalties on codes, encoders and decoders, which are added to a bound or a reconstruction."""

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
    r""":math:`\operatorname{E}_q[-\ln p(z)]`, in nats.

    It is :math:`\tfrac12 \lVert z \rVert^2 + \tfrac Z2 \ln 2 \pi` for p = N(0, I), and :math:`\sum_i (|z_i| + \ln 2)`
    for a Laplace prior. With a point posterior, distortion + energy is -ln p(x, z) at the code, which is smallest at
    the most probable code.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean over rows, in nats, a scalar."""
        return -mean_over_rows(draw.log_pz.mean(0), draw.weight)


class DecoderWeights(Penalty):
    """The sum of squares of the likelihood's weights, without biases, scales and cutpoints (Ghosh et al. 2020).

    It keeps a decoder from undoing a penalty on the size of the codes.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The sum of squares, a scalar."""
        weights = [p for name, p in model.likelihood.network.named_parameters() if name.rpartition(".")[2] == "weight"]  # type: ignore[union-attr]
        return torch.stack([w.square().sum() for w in weights]).sum()


def jacobian_norm(
    function: Callable[[Tensor], Tensor], at: Tensor, lead: int = 1, unit: Tensor | float = 1.0
) -> Tensor:
    r"""An unbiased estimate of the squared Frobenius norm of a Jacobian at each row (Hutchinson 1990).

    It is :math:`\lVert v^\top J \rVert^2` for one v ~ N(0, I) over the outputs. The estimate can be differentiated with
    respect to the parameters of ``function``, but not with respect to ``at``.

    Args:
        function: a function that works row by row.
        at: ``[*lead, *event]``; the result is ``[*lead]``.
        lead: the number of leading axes, 1 or 2; the last of them is that of the rows.
        unit: the Jacobian is taken with respect to at / unit.

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
    r"""How fast the decoder's output changes with the **code** (Ghosh et al. 2020).

    .. math:: \operatorname{E}_q \left\lVert \frac{\partial f}{\partial z} \right\rVert^2

    f is the output of the likelihood's network (the standardised mean of a normal, the logits of a Bernoulli). The norm
    is estimated by one random projection per draw. The code is detached, so that only the decoder can lower the
    penalty. The penalty needs second derivatives, which the graph of a compiled step does not support: a model that is
    trained with it must have ``compile_mode = "off"``.
    """

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean over rows, a scalar."""
        norm = jacobian_norm(lambda z: model.likelihood.output(z, draw.c), draw.z, lead=2)  # type: ignore[operator,union-attr]
        return mean_over_rows(norm.mean(0), draw.weight)


class EncoderJacobian(Penalty):
    r"""How fast the code changes with the row (Rifai et al. 2011).

    .. math:: \left\lVert \frac{\partial}{\partial u} \operatorname{E}[z \mid x] \right\rVert^2, \qquad
        u = x / \mathrm{unit}

    The norm is estimated by one random projection per row. Second derivatives are needed, as in
    :class:`DecoderJacobian`.
    """

    unit: Tensor

    def __init__(self, unit: Tensor | float = 1.0):
        super().__init__()
        self.register_buffer("unit", torch.as_tensor(unit))

    def forward(self, model: nn.Module, x: Tensor, draw: Draw) -> Tensor:
        """The mean over rows, a scalar."""
        at = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        norm = jacobian_norm(lambda x: model.encode(x, draw.c).mean, at, unit=self.unit)  # type: ignore[operator]
        return mean_over_rows(norm, draw.weight)


class CovariancePenalty(Penalty):
    r"""A penalty on the covariance C of the codes over the batch (DIP-VAE; Kumar, Sattigeri & Balakrishnan 2018).

    .. math:: \mathrm{off} \sum_{i \ne j} C_{ij}^2 + \mathrm{diagonal} \sum_i (C_{ii} - 1)^2

    The covariance of B rows has the divisor B - 1.

    Args:
        off: the weight of the entries off the diagonal, from 0.
        diagonal: the weight of the entries on the diagonal, from 0.
        within: if False, C is the covariance of posterior means (DIP-VAE-I). If True, C also includes the mean of the
            posterior covariances, so that it is the covariance of the aggregate posterior (DIP-VAE-II); the posterior
            must be a diagonal normal.
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
        """The penalty, a scalar."""
        found = self.covariance(draw)
        spread = found.diagonal()
        off = found.square().sum() - spread.square().sum()
        return self.off * off + self.diagonal * (spread - 1).square().sum()
