"""The base of all conditionals: a network, and how the network's output parametrises a distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.networks import Standardize
from latens.tensors.trees import Tree


class Conditional(nn.Module):
    """A network and the keys of the condition ``c`` that it reads.

    ``forward(given, c)`` evaluates ``network(given)``, or ``network(given, {key: c[key] for key in reads})`` if
    ``reads`` names keys, and passes the output to :meth:`distribution`, the only method that a subclass must define.

    Args:
        network: maps ``[..., *event]`` to the parameters of the distribution.
        reads: the keys of the condition that the network sees.
    """

    def __init__(self, network: nn.Module, reads: tuple[str, ...] = ()):
        super().__init__()
        self.network, self.reads = network, tuple(reads)
        self._stem = any(isinstance(part, Standardize) for part in network.modules())

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        """The distribution given x or z ``[..., B, *event]`` and conditions ``[B]``; ``ValueError`` if a condition
        is missing.
        """
        return self.distribution(self.output(given, c), given)

    def output(self, given: Tree, c: Tree = None) -> Tensor:
        """The network's output: raw parameters, ``[..., B, *outputs]``."""
        if isinstance(given, Tensor) and not given.is_floating_point() and not self._stem:
            floats = (p.dtype for p in self.network.parameters() if p.is_floating_point())
            given = given.to(next(floats, torch.get_default_dtype()))  # only here do 8-bit data become floats
        if not self.reads:
            return self.network(given)
        missing = [key for key in self.reads if c is None or key not in c]
        if missing:
            reader = type(self).__name__
            raise ValueError(f"{reader} reads the condition {missing[0]!r}, which was not given: pass it in c")
        return self.network(given, {key: c[key] for key in self.reads})

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """The distribution whose raw parameters are ``output``."""
        raise NotImplementedError


class Features(Conditional):
    """The network's output itself, as features of x given c, for a model that draws codes in its own way."""

    def distribution(self, output: Tensor, given: Tree) -> Tensor:  # type: ignore[override]
        """``output``, ``[..., *event]``, unchanged."""
        return output


def event_dims(output: Tensor, z: Tree, parameter_axes: int = 0) -> int:
    """The number of output axes that belong to one row. The axes are ``[..., *parameters, *event]``. The leading axes
    (the same as those of the codes ``[..., Z]``) and the axes of parameters do not count.
    """
    lead = (z if isinstance(z, Tensor) else next(iter(z.values() if isinstance(z, dict) else z))).dim() - 1
    return output.dim() - lead - parameter_axes
