"""A limit on the memory that tensors take while a model is built with sizes read from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latens.errors import InputError

ROOM = 2**26  # bytes that any model may take for tensors that are not in its file
_MADE = {
    "empty", "empty_strided", "full", "zeros", "ones", "rand", "randn", "randint", "randperm", "eye", "arange",
    "linspace", "repeat", "new_empty", "new_empty_strided", "new_full", "new_zeros", "new_ones",
}  # fmt: skip


class Modest(TorchDispatchMode):
    """Within the block, a tensor of more than ``most`` bytes is refused before it is made. ``what`` is the file that
    asks for the tensor, for the message.

    >>> with Modest(1000, "run.json"):
    ...     _ = torch.nn.Linear(10, 10)
    >>> try:
    ...     with Modest(1000, "run.json"):
    ...         torch.nn.Linear(10**9, 10**9)
    ... except InputError as error:
    ...     print(str(error).partition(", but")[0])
    run.json needs a tensor of 4,000,000,000,000,000,000 bytes
    """

    def __init__(self, most: int, what: object):
        super().__init__()
        self.most, self.what = most, what

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False. Otherwise torch would import its compiler to keep it out of the method below, which takes half of the
        time of starting latens."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run the operation, unless it makes a tensor that is too large."""
        given = kwargs or {}
        if func._schema.name.partition("::")[2] in _MADE:
            wanted = max(map(_cells, args), default=0) * (given.get("dtype") or torch.float32).itemsize
            if wanted > self.most:
                raise InputError(
                    f"{self.what} needs a tensor of {wanted:,} bytes, but its weights have {self.most:,} at most",
                    "restore it from a copy, or fit again",
                )
        return func(*args, **given)


def _cells(argument: Any) -> int:
    """The number of cells of a tensor with these sizes: a list, or one number."""
    if isinstance(argument, list | tuple) and all(isinstance(size, int) for size in argument):
        return math.prod(argument)
    return int(argument) if isinstance(argument, int | float) and abs(argument) < 2**62 else 0
