"""The weights of several models of one structure as one matrix; each model's own are views of its row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from latens.objectives.base import Objective

_HOOKS = ("after_step", "after_epoch", "settle")  # of parts that change their buffers
_OWN = frozenset(vars(nn.Module()))  # attributes of every module
_ALIGN = 16  # numbers; each tensor begins at a multiple


class NotTogether(Exception):
    """Raised where models cannot be trained as one; the message says why. Each can be trained alone."""


class Stack:
    """S modules of one structure: their parameters, their buffers, and the numbers in which they differ.

    Row s of ``weights``, ``[S, P]``, has the trained parameters of module s in the order of ``trained[s]``; the
    parameters of the modules become views of it. Buffers that differ, or that parts change (``after_step``,
    ``after_epoch``, ``settle``, the warm-up of an objective), become views of stacked ones; others are taken from the
    first module. Float attributes may differ between modules; ``numbers`` has them as ``[S]``. Any other difference
    raises :class:`NotTogether`.
    """

    def __init__(self, modules: Sequence[nn.Module], trained: Sequence[Sequence[nn.Parameter]]):
        self.modules, self.trained = list(modules), [list(each) for each in trained]
        self.first = self.modules[0]
        numbers = _numbers(self.modules)
        self.names, *others = map(_names_of, self.modules, self.trained)
        if any(names != self.names for names in others):
            raise NotTogether("the models differ in which weights decay")
        types = {(p.dtype, p.device) for each in self.trained for p in each}
        if len(types) != 1:
            raise NotTogether("the parameters are of several types")
        [(dtype, device)] = types
        self.places, end = self._laid_out()
        self.weights = torch.zeros(len(self.modules), end, dtype=dtype, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.numbers = {place: value.to(dtype).to(device) for place, value in numbers.items()}
        self._take()
        self.leaves = [view.requires_grad_() for view in self.split(self.weights)]
        self.rest = self._others()
        self._places: dict[str, list[tuple[dict[str, Any], str]]] | None = None

    def _laid_out(self) -> tuple[list[tuple[int, torch.Size, bool]], int]:
        """([(start, shape, whether it is stored transposed)] of the parameters, end of the last one)."""
        maps = {id(part.weight) for part in self.first.modules() if isinstance(part, nn.Linear)}
        places, end = [], 0
        for p in self.trained[0]:
            places.append((end, p.shape, id(p) in maps))
            end += math.ceil(p.numel() / _ALIGN) * _ALIGN
        return places, end

    def _take(self) -> None:
        """Make the modules' parameters views of the joint ones."""
        for s, parameters in enumerate(self.trained):
            for p, own in zip(parameters, self.own(self.weights, s), strict=True):
                own.copy_(p.detach())
                p.data = own

    def __len__(self) -> int:
        return len(self.modules)

    def split(self, matrix: Tensor) -> list[Tensor]:
        """Views of a matrix ``[S, P]``: ``[S, *shape]`` for each parameter."""
        return [self._view(matrix.detach(), place, len(self)) for place in self.places]

    def own(self, matrix: Tensor, s: int) -> list[Tensor]:
        """Views of row s of a matrix ``[S, P]``: ``[*shape]`` for each parameter."""
        return [self._view(matrix.detach()[s], place) for place in self.places]

    @staticmethod
    def _view(matrix: Tensor, place: tuple[int, torch.Size, bool], *lead: int) -> Tensor:
        """The view of a parameter. Weights of linear maps are stored as their gradients are computed, inputs first."""
        start, shape, transposed = place
        part = matrix[..., start : start + shape.numel()]
        return part.view((*lead, *shape[::-1])).mT if transposed else part.view((*lead, *shape))

    def _others(self) -> dict[str, Tensor]:
        """{name: stacked buffer or untrained parameter}."""
        moved = {f"{name}." for name, part in self.first.named_modules() if any(hasattr(part, h) for h in _HOOKS)}
        annealed = {f"{name}.anneal" for name, part in self.first.named_modules() if isinstance(part, Objective)}
        own = [dict(module.named_parameters()) | dict(module.named_buffers()) for module in self.modules]
        found: dict[str, Tensor] = {}
        for name in own[0]:
            if name in self.names:
                continue
            tensors = [each[name].detach() for each in own]
            changes = name in annealed or any(name.startswith(prefix) for prefix in moved)
            if changes or not all(torch.equal(tensors[0], other) for other in tensors[1:]):
                found[name] = torch.stack(tensors)
        self._bind(found)
        return found

    def _bind(self, stacked: dict[str, Tensor]) -> None:
        for s, module in enumerate(self.modules):
            for name, tensor in stacked.items():
                owner, leaf = _owner(module, name)
                if leaf in owner._parameters:
                    getattr(owner, leaf).data = tensor[s]
                else:
                    owner._buffers[leaf] = tensor[s]

    @staticmethod
    def release(module: nn.Module) -> None:
        """Give a module its own tensors again, in the layout of a module that is read from a file."""
        for part in module.modules():
            for parameter in part._parameters.values():
                if parameter is not None:
                    parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
            for leaf, tensor in part._buffers.items():
                if tensor is not None:
                    part._buffers[leaf] = tensor.clone(memory_format=torch.contiguous_format)

    def follow(self) -> None:
        """Copy buffers that a part has replaced instead of changing them in place."""
        for name, tensor in self.rest.items():
            for s, module in enumerate(self.modules):
                owner, leaf = _owner(module, name)
                current = getattr(owner, leaf)
                if current.data_ptr() != tensor[s].data_ptr():
                    tensor[s].copy_(current)
                    owner._buffers[leaf] = tensor[s]

    def _everywhere(self) -> dict[str, list[tuple[dict[str, Any], str]]]:
        """The places in the first module where each stacked tensor is looked up; a shared one has several."""
        wanted = {id(t): name for name, t in [*self.first.named_parameters(), *self.first.named_buffers()]
                  if name in self.rest or name in self.names}  # fmt: skip
        found: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for part in self.first.modules():
            for table in (part._parameters, part._buffers):
                for leaf, tensor in table.items():
                    if id(tensor) in wanted:
                        found.setdefault(wanted[id(tensor)], []).append((table, leaf))
        return found

    @contextmanager
    def swapped(self, tensors: dict[str, Tensor], numbers: dict[tuple[str, str], Tensor]) -> Iterator[None]:
        """Replace tensors and numbers of the first module for a block."""
        if self._places is None:
            self._places = self._everywhere()
        kept: list[tuple[dict[str, Any], str, Any]] = []
        for name, tensor in tensors.items():
            for table, leaf in self._places[name]:
                kept.append((table, leaf, table[leaf]))
                table[leaf] = tensor
        for (path, attribute), value in numbers.items():
            table = vars(self.first.get_submodule(path))
            kept.append((table, attribute, table[attribute]))
            table[attribute] = value
        try:
            yield
        finally:
            for table, leaf, value in kept:
                table[leaf] = value


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _names_of(module: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str]:
    names = {id(p): name for name, p in module.named_parameters()}
    return [names[id(p)] for p in parameters]


def _numbers(modules: Sequence[nn.Module]) -> dict[tuple[str, str], Tensor]:
    """{(path, attribute): ``[S]``} of the floats that differ between modules; ``NotTogether`` for other differences."""
    if len(set(map(_structure, modules))) > 1:
        raise NotTogether("the models have other parts or sizes")
    found: dict[tuple[str, str], Tensor] = {}
    for path, part in modules[0].named_modules():
        alike = [module.get_submodule(path) for module in modules]
        own = vars(part).keys() - _OWN
        if len({(type(each), frozenset(vars(each).keys() - _OWN)) for each in alike}) > 1:
            raise NotTogether(f"the models differ in {path or 'their kind'}")
        for name in own:
            values = [vars(each)[name] for each in alike]
            if all(_same(values[0], value) for value in values[1:]):
                continue
            if not all(isinstance(value, float) for value in values):
                raise NotTogether(f"the models differ in {path}.{name}")
            found[path, name] = torch.tensor(values, dtype=torch.float64)
    return found


def _structure(module: nn.Module) -> tuple[Any, ...]:
    """The names of the parts, and the shapes of their tensors."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    held = ((name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in tensors)
    return tuple(name for name, _ in module.named_modules()), tuple(held)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    try:
        return a is b or (type(a) is type(b) and bool(a == b))
    except (RuntimeError, ValueError, TypeError):
        return False
