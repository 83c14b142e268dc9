"""The base of all conditionals: a network, and how its output parametrises a distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.networks import Standardize
from latens.tensors.trees import Tree


class Conditional(nn.Module):
    """A network and the keys of the condition ``c`` that it reads.

    ``forward(given, c)`` evaluates ``network(given)``, or ``network(given, {key: c[key] for key in reads})`` where
    ``reads`` names keys, and hands the output to ``distribution``. A subclass is one method.
    """

    def __init__(self, network: nn.Module, reads: tuple[str, ...] = ()):
        super().__init__()
        self.network, self.reads = network, tuple(reads)
        self._stem = any(isinstance(part, Standardize) for part in network.modules())

    def forward(self, given: Tree, c: Tree = None) -> Distribution:
        return self.distribution(self.output(given, c), given)

    def output(self, given: Tree, c: Tree = None) -> Tensor:
        """What the network says: parameters before they are made those of a distribution."""
        if isinstance(given, Tensor) and not given.is_floating_point() and not self._stem:
            floats = (p.dtype for p in self.network.parameters() if p.is_floating_point())
            given = given.to(next(floats, torch.get_default_dtype()))  # 8-bit becomes numbers inside the step
        if not self.reads:
            return self.network(given)
        missing = [key for key in self.reads if c is None or key not in c]
        if missing:
            raise ValueError(f"{type(self).__name__} reads the condition {missing[0]!r}, which was not given")
        return self.network(given, {key: c[key] for key in self.reads})

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """The distribution whose parameters are ``output``."""
        raise NotImplementedError


class Features(Conditional):
    """The network's output as it is: what a model with a draw of its own reads of x, given c."""

    def distribution(self, output: Tensor, given: Tree) -> Tensor:  # type: ignore[override]
        return output


def event_dims(output: Tensor, z: Tree, parameter_axes: int = 0) -> int:
    """How many axes of the output belong to one datum: those that the codes' leading axes do not explain."""
    lead = (z if isinstance(z, Tensor) else next(iter(z.values() if isinstance(z, dict) else z))).dim() - 1
    return output.dim() - lead - parameter_axes
