"""Trees of tensors. x, z and c can each be a tensor, or a mapping or tuple of trees.

The first axis of every tensor in a tree is the axis of rows. With the functions here, the loader, the draw and the
checkpoint treat a tree as one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Tree = Any  # Tensor | Mapping[str, Tree] | tuple[Tree, ...] | None


def map_tree(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The tree of ``function(leaf)``; ``None`` stays ``None``.

    >>> map_tree(lambda t: (t + 1).tolist(), {"a": torch.zeros(2)})
    {'a': [1.0, 1.0]}
    """
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: map_tree(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_tree(function, value) for value in tree)
    return function(tree)


def below(parts: Iterable[Tree], rows: int) -> Tree:
    """The parts concatenated along rows, in a tree of ``rows`` rows that is allocated with the first part. If small
    parts were kept until the end, they would lie in memory between the large tensors that they were made from. That
    space could then not be reused.

    >>> below((torch.full((2,), i) for i in range(2)), 4).tolist()
    [0, 0, 1, 1]
    """
    whole, done = None, 0
    for part in parts:
        whole = map_tree(lambda t: t.new_empty(rows, *t.shape[1:]), part) if whole is None else whole
        for target, leaf in zip(leaves(whole), leaves(part), strict=True):
            target[done : done + len(leaf)] = leaf
        done += len(leaf)
    return whole


def leaves(tree: Tree) -> list[Tensor]:
    """The tensors of the tree. Mappings are read in the order of their sorted keys."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, tuple):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def rows(tree: Tree) -> int:
    """The number of rows. Raise ``ValueError`` if the tensors disagree."""
    counts = [leaf.shape[0] for leaf in leaves(tree)]
    if not counts or any(count != counts[0] for count in counts):
        raise ValueError(f"the tensors of one tree must have the same number of rows, got {sorted(set(counts))}")
    return counts[0]


def take(tree: Tree, index: Tensor | slice) -> Tree:
    """The rows that ``index`` ``[B]`` selects."""
    return map_tree(lambda leaf: leaf[index], tree)


def to_device(tree: Tree, device: torch.device | str) -> Tree:
    """The same tree on another device."""
    return map_tree(lambda leaf: leaf.to(device), tree)


def flat_codes(z: Tree, leading: int = 2) -> Tensor:
    """z of any structure as one tensor ``[K, B, Z]``: its tensors, flattened and side by side."""
    parts = [leaf.flatten(leading) if leaf.dim() > leading else leaf.unsqueeze(-1) for leaf in leaves(z)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
