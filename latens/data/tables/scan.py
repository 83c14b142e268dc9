"""One pass over a column: what every cell was taken for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.cells import as_levels, as_numbers, plain, short

MAX_LEVELS = 10_000  # of a categorical column
KEEP_VALUES = 100_000  # distinct values that are counted
Verdict = tuple[str, str, dict[str, Any]]  # kind, reason, and what else was settled


@dataclass
class ColumnScan:
    """What one pass over a column sees; pieces are added with :meth:`update` in any order."""

    name: str
    type: Any
    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    values: dict[Any, int] | None = field(default_factory=dict)  # None: more than KEEP_VALUES
    words: int = 0  # of texts
    categories: tuple[Any, ...] = ()  # that the type itself names, in order

    def update(self, cells: Any, first_row: int = 0) -> None:
        """Look at the cells of a further piece."""
        if pa.types.is_dictionary(self.type):
            pieces = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
            named = [level for piece in pieces for level in as_levels(piece.dictionary).to_pylist()]
            self.categories = tuple(dict.fromkeys([*self.categories, *named]))
            cells = as_levels(cells)
        cells = plain(cells)
        self.rows += len(cells)
        numbers = as_numbers(cells)
        if numbers is None:
            if not pa.types.is_string(cells.type):
                raise InputError(
                    f"column {self.name!r} holds {cells.type}, which is neither a number, a text nor a date; leave it "
                    f"out with --drop {self.name!r}."
                )
            self.missing += cells.null_count
            self.words += int(pc.sum(pc.count_substring(cells, " ")).as_py() or 0)
            self._count(cells.drop_null())
            return
        seen = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(seen)
        if not len(seen):
            return
        if np.isinf(seen).any():
            row = int(np.isinf(numbers).argmax())
            raise InputError(
                f"column {self.name!r} has {numbers[row]:g} in row {row + first_row} (counted from 0); make it finite."
            )
        self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))
        self.whole = self.whole and bool((seen == np.floor(seen)).all())
        if self.values is not None:
            self._count(pa.array(seen))

    def _count(self, cells: Any) -> None:
        if self.values is None:
            return
        counts = cells.value_counts()
        values = counts.field("values")
        if len(values) + len(self.values) > 2 * KEEP_VALUES:
            self.values = None
            return
        for value, count in zip(values.to_pylist(), counts.field("counts").to_pylist()):
            self.values[value] = self.values.get(value, 0) + count
        if len(self.values) > KEEP_VALUES:
            self.values = None

    @property
    def distinct(self) -> float:
        return np.inf if self.values is None else len(self.values)

    @property
    def present(self) -> int:
        return self.rows - self.missing

    @property
    def is_exact(self) -> bool:
        """Whether the values are whole numbers that floats hold exactly, so that they can be levels."""
        return self.whole and max(abs(self.low), abs(self.high)) <= 2.0**53

    @property
    def is_number(self) -> bool:
        return self.low != np.inf


def counted(scan: ColumnScan) -> str:
    common = sorted((scan.values or {}).items(), key=lambda item: (-item[1], str(item[0])))[:3]
    words = ", ".join(f"{short(_word(scan, value), 20)} {count / scan.present:.0%}" for value, count in common)
    return f"{scan.distinct:,} levels: {words}" + (", …" if scan.distinct > 3 else "")


def _word(scan: ColumnScan, value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(bool(value)) if str(scan.type) == "bool" else f"{value:g}"


def levels_of(scan: ColumnScan) -> list[Any]:
    """The levels that occur, in order: as the type has them, of numbers by size, of texts by name."""
    values = list(scan.values or ())
    if scan.categories:
        return [level for level in scan.categories if level in (scan.values or ())]
    if str(scan.type) == "bool":
        return sorted(bool(v) for v in values)
    if values and isinstance(values[0], str):
        return sorted(values)
    return sorted(int(v) if scan.whole else v for v in values)
