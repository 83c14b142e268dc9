"""Data whose rows become tensors only when they are indexed: files of images, sparse counts, and views of them.

A :class:`Lazy` takes the place of a tensor in a loader; only the rows of one batch are dense in memory at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # at run time, torch is imported only where tensors are made: reading data does not need it
    import torch
    from torch import Tensor


COPIED_BYTES = 2**26  # rows of up to this size are copied; larger ones are viewed in place


class Lazy(ABC):
    """An array ``[N, *event]`` whose rows are made when they are indexed; it can be a leaf of a tree of data. A
    subclass defines ``shape``, the numpy ``kind`` of its values, and :meth:`rows`; a row must be a function of its
    number alone.
    An index is an int, a slice, a boolean mask ``[N]``, or a list, array or tensor of row numbers, in any order and
    with repeats. A row that does not exist raises ``IndexError``.

    >>> class Squares(Lazy):
    ...     shape, kind = (5, 1), np.dtype("float32")
    ...     def rows(self, index):
    ...         return (index**2)[:, None].astype("float32")
    >>> Squares()[[3, 1]].tolist(), Squares()[-1].tolist(), len(Squares()[1:4])
    ([[9.0], [1.0]], [16.0], 3)
    """

    shape: tuple[int, ...]
    kind: np.dtype[Any]

    @abstractmethod
    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows ``[B, *event]`` in the order of ``index [B]``, whole numbers from 0 to N - 1."""

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of the tensors."""
        import torch

        return torch.from_numpy(np.empty(0, self.kind)).dtype

    @property
    def given(self) -> np.dtype[Any]:
        """The numpy dtype in which the values were given."""
        return self.kind

    def whole(self) -> np.ndarray:
        """All rows ``[N, *event]`` in the dtype in which they were given."""
        return self.rows(np.arange(len(self))).astype(self.given, copy=False)

    @property
    def ndim(self) -> int:
        """Number of axes, including that of the rows."""
        return len(self.shape)

    def dim(self) -> int:
        """The same as ``ndim``; tensors have this method."""
        return len(self.shape)

    def numel(self) -> int:
        """Number of cells of all rows together."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        import torch

        numbers = row_numbers(index, len(self))
        made = torch.from_numpy(np.ascontiguousarray(self.rows(np.atleast_1d(numbers)), dtype=self.kind))
        return made if numbers.ndim else made[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(f"data of shape {self.shape} are read one batch at a time: index them, as in x[:100]")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.kind.name})"


class Subset(Lazy):
    """A view of some rows of a lazy array: row i is ``lazy[rows[i]]``.

    >>> class Numbers(Lazy):
    ...     shape, kind = (9,), np.dtype("int64")
    ...     def rows(self, index):
    ...         return index
    >>> Subset(Subset(Numbers(), slice(2, 8)), [0, -1])[:]
    tensor([2, 7])
    """

    def __init__(self, lazy: Lazy, rows: slice | Sequence[int] | np.ndarray | Tensor):
        self.index = np.atleast_1d(row_numbers(rows, len(lazy)))
        while isinstance(lazy, Subset):
            self.index, lazy = lazy.index[self.index], lazy.lazy
        self.lazy: Lazy = lazy
        self.shape, self.kind = (len(self.index), *lazy.shape[1:]), lazy.kind

    @property
    def given(self) -> np.dtype[Any]:
        """The dtype in which the values of the viewed array were given."""
        return self.lazy.given

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows ``[B, *event]`` of the viewed array."""
        return self.lazy.rows(self.index[index])


class LazyTensor(Lazy):
    """A tensor as a lazy array, so that some of its rows can be a :class:`Subset` instead of a copy."""

    def __init__(self, tensor: Tensor):
        self.array = tensor.detach().cpu().numpy()
        self.shape, self.kind = self.array.shape, self.array.dtype

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows ``[B, *event]`` of the tensor."""
        return self.array[index]


def some(x: Tensor | Lazy, index: Tensor) -> Tensor | Lazy:
    """The rows ``index`` ``[B]`` of a tensor or a lazy array ``[N, ...]``: a copy if they are few rows of a tensor,
    otherwise a view."""
    if isinstance(x, Lazy):
        return Subset(x, index)
    few = x[:1].numel() * x.element_size() * len(index) < COPIED_BYTES or x.device.type != "cpu"
    return x[index] if few else Subset(LazyTensor(x), index)


class View(Lazy):
    """A lazy array whose rows have another event shape (with the same number of cells) or another type.

    Grey images ``N x H x W`` become the model's ``N x 1 x H x W``, and 16-bit levels become floats. Raises
    ``ValueError`` if the number of cells differs.
    """

    def __init__(self, lazy: Lazy, event: Sequence[int] | None = None, kind: Any = None):
        event = lazy.shape[1:] if event is None else tuple(event)
        if math.prod(event) != math.prod(lazy.shape[1:]):
            raise ValueError(f"rows of shape {lazy.shape[1:]} cannot be viewed in the shape {event}")
        self.lazy, self.shape = lazy, (len(lazy), *event)
        self.kind = lazy.kind if kind is None else np.dtype(kind)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows ``[B, *event]`` in the new shape and type."""
        return self.lazy.rows(index).reshape(len(index), *self.shape[1:]).astype(self.kind, copy=False)


def row_numbers(index: Any, rows: int) -> np.ndarray:
    """The row numbers, from 0 to rows - 1, that an index selects: an array ``[B]``, or one without axes for an int.

    >>> row_numbers(slice(-2, None), 5), row_numbers([-1, 0], 5)
    (array([3, 4]), array([4, 0]))
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(rows))
    if isinstance(index, tuple):
        raise TypeError("only rows can be indexed: pass a single index")
    numbers = np.asarray(index)
    if numbers.size == 0 and numbers.ndim == 1:
        return np.zeros(0, np.int64)
    if numbers.dtype == bool:
        if numbers.shape != (rows,):
            raise IndexError(f"a mask of shape {numbers.shape} does not fit {rows} rows")
        return np.flatnonzero(numbers)
    if numbers.ndim > 1 or numbers.dtype.kind not in "iu":
        raise TypeError(f"row numbers must be integers on one axis, got {numbers.dtype} of shape {numbers.shape}")
    numbers = numbers.astype(np.int64)
    if numbers.size and (numbers.min() < -rows or numbers.max() >= rows):
        beyond = numbers[(numbers < -rows) | (numbers >= rows)].flat[0]
        raise IndexError(f"there is no row {beyond} among {rows} rows")
    return np.where(numbers < 0, numbers + rows, numbers)
