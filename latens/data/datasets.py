"""Read a map-style dataset of torch as data: its items are the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latens.data.infer import as_array
from latens.data.lazy import Lazy
from latens.errors import InputError
from latens.machine.memory import free_memory
from latens.schema.arrow import listed

LABELS = ("label", "labels", "target", "y")  # the key of the label in an item that is a mapping
Items = list[Any]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Data, with one label per row if there are labels.

    Args:
        x: what the estimator takes: an array, a mapping of columns, or lazy rows.
        labels: one value per row ``[N]``, words as codes of ``label_names``; or None.
        label_names: the words that the codes stand for, or None.
    """

    x: Any
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None

    def at(self, rows: Any = slice(None)) -> dict[str, Any]:
        """The labels of some rows as arguments of :func:`latens.data.rows.rows_of`."""
        return {"labels": None if self.labels is None else self.labels[rows], "label_names": self.label_names}


def is_dataset(data: Any) -> bool:
    """Whether the data are a map-style dataset of torch.

    Raises:
        InputError: they are an iterable dataset or a loader, whose rows cannot be fetched by number.
    """
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    if isinstance(data, DataLoader):
        raise InputError("the data are a DataLoader", "give its dataset (loader.dataset), and batch_size")
    if isinstance(data, IterableDataset):
        raise InputError(
            f"the data are an iterable dataset ({type(data).__name__}), whose rows cannot be asked for by number",
            "give a dataset with __getitem__ and __len__, or an array of its rows",
        )
    return isinstance(data, Dataset)


def labelled(data: Any) -> Labelled:
    """The rows of a dataset and their labels; data that are not a dataset are returned unchanged.

    An item is one of three: a row (an array, an image); a tuple of a row and its label; a mapping of cells, which are
    the columns of a table, or one array and its label. Each item is fetched once, in order. If all items together would
    take more than half of the free memory, each is fetched when it is needed instead.

    Raises:
        InputError: an item is of another form or shape than the first, or cannot be read.

    >>> import torch
    >>> found = labelled(torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.arange(3)))
    >>> found.x.shape, found.labels.tolist()
    ((3, 2), [0, 1, 2])
    """
    if not is_dataset(data):
        return Labelled(data)
    first = _item(data, 0, _rows(data))
    if not isinstance(first, Mapping):
        part = _first if _is_pair(first) else _whole
        label = _second if part is _first and len(first) > 1 and _is_cell(first[1]) else None
        return _array(data, part, label)
    return _of_mappings(data, first)


def _of_mappings(data: Any, first: Mapping[Any, Any]) -> Labelled:
    """The rows of a dataset whose items are mappings like ``first``: columns of a table, or one array and its label."""
    arrays = [name for name, value in first.items() if not _is_cell(value)]
    if not arrays:
        items = _items(data)
        return Labelled({str(name): [_plain(item[name]) for item in items] for name in first})
    if len(arrays) > 1:
        raise InputError(
            f"an item of the dataset has the arrays {listed(arrays)}, but a row is one array",
            "give a dataset of one, or train a model of several with latens.train",
        )
    cells = [name for name in first if name != arrays[0]]
    named = [name for name in LABELS if name in cells] or (cells if len(cells) == 1 else [])
    return _array(data, _member(arrays[0]), _member(named[0]) if named else None)


def tree(data: Any) -> Any:
    """The rows of a dataset as an array or, if its items are mappings, as a mapping of arrays. If an item is a pair,
    its first element is the row. Errors as in :func:`labelled`."""
    items = _items(data)
    if isinstance(items[0], Mapping):
        return {name: _stacked(items, _member(name)) for name in items[0]}
    return _stacked(items, _first if _is_pair(items[0]) else _whole)


class DatasetRows(Lazy):
    """The rows of a dataset, made when they are indexed; the dataset must return the same item each time. Labels are
    read on demand, in one pass over all items."""

    def __init__(
        self, data: Any, part: Callable[[Any], Any], first: np.ndarray, label: Callable[[Any], Any] | None = None
    ):
        self.data, self.part, self.shape, self.kind = data, part, (len(data), *first.shape), first.dtype
        items = (_item(data, number, len(data)) for number in range(len(data)))
        self.obs = {} if label is None else {"label": lambda: _labels(items, label)}

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows ``[B, *event]``."""
        made = [
            _checked(self.part, _item(self.data, number, len(self)), number, self.shape[1:])
            for number in index.tolist()
        ]
        return np.stack(made).astype(self.kind, copy=False)


def _array(data: Any, part: Callable[[Any], Any], label: Callable[[Any], Any] | None) -> Labelled:
    """The array of a dataset, or lazy rows if the array would be too large, with its labels."""
    first = _checked(part, _item(data, 0, len(data)), 0, None)
    if not first.ndim:
        raise InputError("an item of the dataset is a single number", "give arrays of one axis or more")
    if len(data) * first.nbytes > free_memory() / 2:
        return Labelled(DatasetRows(data, part, first, label))
    items = _items(data)
    x = _stacked(items, part)
    return Labelled(x) if label is None else Labelled(x, *_labels(items, label))


def _labels(items: Iterable[Any], label: Callable[[Any], Any]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(numbers, None), or (codes, their words)."""
    values = np.array([_plain(label(item)) for item in items])
    if values.dtype.kind in "biuf":
        return values, None
    words, codes = np.unique(values.astype(str), return_inverse=True)
    return codes, tuple(words.tolist())


def _rows(data: Any) -> int:
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        raise InputError(f"the dataset {type(data).__name__} has no length", "define __len__") from None
    if not count:
        raise InputError("the dataset has no rows", "give at least two")
    return count


def _items(data: Any) -> Items:
    """All items; each must have the form of the first."""
    count = _rows(data)
    items = [_item(data, number, count) for number in range(count)]
    keys = set(items[0]) if isinstance(items[0], Mapping) else None
    for number, item in enumerate(items):
        same = set(item) == keys if isinstance(item, Mapping) else keys is None and _form(item) == _form(items[0])
        if not same:
            raise InputError(
                f"item {number} of the dataset is {_said(item)}, but the first is {_said(items[0])}",
                "give items of one form",
            )
    return items


def _item(data: Any, number: int, count: int) -> Any:
    try:
        return data[number]
    except InputError:
        raise
    except Exception as error:
        sentence = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"item {number} of the dataset (of {count:,}) cannot be read ({sentence})",
                         "correct the dataset") from error  # fmt: skip


def _form(item: Any) -> int:
    return len(item) if isinstance(item, tuple | list) else 0


def _said(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping of {listed([str(name) for name in item])}"
    return f"a {type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else "an array"


def _stacked(items: Items, part: Callable[[Any], Any]) -> np.ndarray:
    shape = _checked(part, items[0], 0, None).shape
    return np.stack([_checked(part, item, number, shape) for number, item in enumerate(items)])


def _checked(part: Callable[[Any], Any], item: Any, number: int, shape: tuple[int, ...] | None) -> np.ndarray:
    """The array of an item; ``InputError`` if it has a different shape than the first."""
    value = part(item)
    if isinstance(value, str | bytes):
        raise InputError(f"item {number} of the dataset is the text {value!r}", "give numbers")
    array = as_array(value)[0]
    if shape is not None and array.shape != shape:
        raise InputError(
            f"item {number} of the dataset has the shape {list(array.shape)}, but the first has {list(shape)}",
            "cut or pad the items to one shape",
        )
    return array


def _plain(value: Any) -> Any:
    """A cell as a Python value."""
    return value.item() if hasattr(value, "item") else value


def _is_pair(item: Any) -> bool:
    """Whether an item is a pair of a row and its label, and not a row of cells."""
    if not isinstance(item, tuple | list) or not item or _is_cell(item[0]):
        return False
    return isinstance(item, tuple) or (len(item) == 2 and _is_cell(item[1]))


def _is_cell(value: Any) -> bool:
    """Whether a value is one cell: a number, a word, a date, or a missing one."""
    return not isinstance(value, list | tuple) and not getattr(value, "ndim", 0) and not hasattr(value, "tobitmap")


def _whole(item: Any) -> Any:
    return item


def _first(item: Any) -> Any:
    return item[0]


def _second(item: Any) -> Any:
    return item[1]


def _member(name: Any) -> Callable[[Any], Any]:
    return lambda item: item[name]
