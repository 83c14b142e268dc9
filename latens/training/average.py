"""Averaged weights: an exponential average of a module's tensors, next to the weights being trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latens.training.checkpoint import load_state, state_of


class Average:
    r"""Exponentially weighted averages of weights (Polyak & Juditsky 1992), updated after each step n:

    .. math:: a \leftarrow d_n\, a + (1 - d_n)\, w, \quad d_n = \min(d, (1 + n) / (10 + n))

    The decay grows from 1/10 to its final value d, so the first weights are soon forgotten. With d = 0 there are no
    averages: ``tensors`` is empty, and the weights being trained are used. Whole-number tensors are copied.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = module, decay
        self.tensors = {name: tensor.clone() for name, tensor in state_of(module).items()} if decay else {}
        paths = {name: name.rpartition(".") for name in self.tensors}
        places = {name: (module.get_submodule(owner), leaf) for name, (owner, _, leaf) in paths.items()}
        floats = {name for name, tensor in self.tensors.items() if tensor.is_floating_point()}
        self._floats = [(self.tensors[name], *places[name]) for name in places if name in floats]
        self._others = [(self.tensors[name], *places[name]) for name in places if name not in floats]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the current weights, after step number ``step``."""
        if not self.tensors:
            return
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        # looked up by name each time, because a part may replace its buffer
        torch._foreach_lerp_([t for t, *_ in self._floats], [getattr(m, leaf) for _, m, leaf in self._floats], weight)
        for average, owner, leaf in self._others:
            average.copy_(getattr(owner, leaf))

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore the averages."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def served(self) -> Iterator[dict[str, Tensor]]:
        """Within the block, the module has its averaged weights; yields its tensors. Without averages, nothing
        changes."""
        if not self.tensors:
            yield state_of(self.module)
            return
        kept = {name: tensor.clone() for name, tensor in state_of(self.module).items()}
        load_state(self.module, self.tensors, "the averaged weights")
        try:
            yield state_of(self.module)
        finally:
            load_state(self.module, kept, "the live weights")
