"""What one column of a table is, and how its cells become numbers and numbers become cells."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latens.errors import InputError, damaged
from latens.schema.arrow import (
    DAY,
    NARROW,
    arrow_type,
    as_numbers,
    as_written,
    by_clocks,
    in_nanoseconds,
    kind_of_time,
    of_levels,
    pa,
    pc,
    plain,
    short,
    typed,
    value_of,
)
from latens.schema.form import Form
from latens.schema.law import Law
from latens.schema.ranges import nearest

NUMERIC = ("continuous", "positive", "bounded", "count", "datetime")
CODED = ("binary", "categorical", "ordered")  # kept as codes 0 .. levels - 1
KEPT = ("constant", "missing")  # not modelled, but written back
LEFT_OUT = ("identifier", "text", "dropped")
KINDS = (*NUMERIC, *CODED, *KEPT, *LEFT_OUT)
FAMILIES = {
    "continuous": ("heaped", "normal", "student_t"), "positive": ("heaped", "log_normal", "normal", "student_t"),
    "bounded": ("heaped", "beta", "truncated_normal", "continuous_bernoulli", "normal"),
    "count": ("heaped", "poisson", "zero_inflated_negative_binomial", "negative_binomial"),
    "datetime": ("heaped", "normal", "student_t"), "binary": ("bernoulli",), "categorical": ("categorical",),
    "ordered": ("ordinal", "categorical"),
}  # fmt: skip
YEARS = (-719_162.0, 2_932_896.0)  # first and last day of the years 1 to 9999, in days since 1970-01-01
YEARS_NS = (-106_751.0, 106_751.0)  # the range of days that 64 bits hold as nanoseconds since 1970
TICKS = (1000, 100, 10, 1)  # the steps of timestamps with nanoseconds, from whole microseconds down
LOGARITHMIC = {"positive": "log", "count": "log1p"}  # kinds that an encoder sees on a logarithmic scale


def logarithmic(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function that converts numbers of such a column to the scale on which an encoder sees them."""
    return getattr(np, LOGARITHMIC.get(kind, "asarray"))


@dataclass(frozen=True)
class Column:
    """One column: what it is, how it is modelled, and the type in which it is returned.

    Args:
        name: its name.
        kind: "continuous", "positive", "bounded", "count" or "datetime": numbers (dates in days since 1970-01-01).
            "binary", "categorical" or "ordered": codes of ``levels``. "constant" or "missing": not modelled, but
            written back. "identifier", "text" or "dropped": left out.
        type: the name of the arrow type in which it is returned.
        family: its likelihood, one of ``FAMILIES[kind]``; "" if it is not modelled.
        levels: the values that codes stand for, in order.
        low, high: smallest and largest value, for numbers.
        shift, unit: mean and standard deviation of the values: of ln x for "positive", of ln(1 + x) for "count".
        decimals: the largest number of digits after the point of any value, or None.
        digits: the number of significant digits to which all values are rounded, whatever their size, or None.
        law: atoms, grid, range and margin of the values, for the family "heaped"; else None.
        value: the value of a constant column.
        missing: share of missing cells, 0 to 1.
        reason: a plain sentence on what was seen.
        form: how its cells are written, if they were text.
        categories: all values that its type lists, in order, if some of them are not levels.
        tick: for timestamps with nanoseconds, the number of nanoseconds of which all are multiples: 1, 10, 100 or 1000.
        instants: for such timestamps, the atoms and places of the law in nanoseconds since 1970-01-01, which float64
            cannot hold exactly, increasing.

    Raises:
        InputError: the fields contradict each other.

    >>> Column("cut", "categorical", "string", "categorical", ("Fair", "Ideal")).outputs_codes
    True
    """

    name: str
    kind: str
    type: str
    family: str = ""
    levels: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    shift: float = 0.0
    unit: float = 1.0
    decimals: int | None = None
    digits: int | None = None
    law: Law | None = None
    value: Any = None
    missing: float = 0.0
    reason: str = ""
    form: Form | None = None
    categories: tuple[Any, ...] | None = None
    tick: int = TICKS[0]
    instants: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"column {self.name!r}: the kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.family and self.family not in FAMILIES.get(self.kind, ()):
            valid = ", ".join(FAMILIES.get(self.kind, ()))
            raise InputError(
                f"column {self.name!r} is {self.kind} and cannot have the likelihood {self.family!r}",
                f"choose one of {valid}" if valid else "omit it",
            )
        if self.kind in CODED and not self.levels:
            raise InputError(f"column {self.name!r} is {self.kind} and has no levels", "give it the values that it has")
        if (self.family == "heaped") != (self.law is not None):
            way = "give one for the likelihood 'heaped', and for no other"
            raise InputError(f"column {self.name!r} has {'no' if self.law is None else 'a'} law", way)
        if not (_is_sound(self.shift) and _is_sound(self.unit) and self.unit > 0):
            what = f"shift must be a finite mean and unit a spread above 0, got {self.shift} and {self.unit}"
            raise InputError(f"column {self.name!r}: {what}")

    @property
    def outputs_codes(self) -> bool:
        """Whether the column's numbers are codes of levels."""
        return self.kind in CODED

    @property
    def written_as(self) -> str:
        """How new cells are written, by the form of the text or by the column's type."""
        if self.form is None:
            return self.type
        text = self.form.describe(self.high)
        return text + f" ({self.form.stored})" * (self.form.stored not in ("", "string"))

    @property
    def remark(self) -> str:
        """A note on values that may mean missing, with the option to use; "" if there are none."""
        codes = () if self.law is None else self.law.codes
        if not codes or not self.is_modelled:
            return ""
        texts = self.texts(np.array(codes))
        shown = ", ".join(texts)
        ends = " to ".join(self.texts(np.array([self.law.low, self.law.high])))  # type: ignore[union-attr]
        named = self.form is not None or not self.time
        options = " ".join(f"--na {shlex.quote(f'{self.name}={text}')}" for text in texts)
        way = f"pass {options}" if named else "leave such cells empty"
        verb, it = ("are", "they mean") if len(codes) > 1 else ("is", "it means")
        return f"column {self.name!r}: {shown} {verb} far from the other values ({ends}): if {it} missing, {way}"

    def texts(self, numbers: np.ndarray) -> list[str]:
        """Numbers ``[N]`` as texts, in the way in which the column's cells are written."""
        cells = self.decode(numbers)
        if self.form is not None:
            return self.form.write(cells).to_pylist()
        return [f"{value:g}" if isinstance(value, int | float) else str(value) for value in map(value_of, cells)]

    @cached_property
    def time(self) -> str:
        """"dates", "times of day" or "durations", according to the type; "" for other types."""
        return kind_of_time(self.arrow)

    @cached_property
    def arrow(self) -> Any:
        """The arrow type in which the column is returned."""
        return arrow_type(self.type)

    @property
    def is_number(self) -> bool:
        """Whether the column is modelled as a number or a date."""
        return self.kind in NUMERIC

    @cached_property
    def is_modelled(self) -> bool:
        """Whether the column is modelled, as numbers or as levels."""
        return self.kind in NUMERIC or self.kind in CODED

    # Cells to numbers

    def encode(self, cells: Any, where: str = "the data", first_row: int = 0) -> tuple[np.ndarray, int]:
        """Convert cells to numbers, and count those whose level is unknown.

        Args:
            cells: an arrow array or chunked array of N cells.
            where: what messages call the data.
            first_row: the row number of the first cell, for messages.

        Returns:
            ``[N]`` float64, NaN where a cell is missing or its level unknown; and the number of unknown levels.

        Raises:
            InputError: the column cannot hold a value; the message has its row.

        >>> import pyarrow as pa
        >>> cut = Column("cut", "categorical", "string", "categorical", ("Fair", "Ideal"))
        >>> numbers, unknown = cut.encode(pa.array(["Ideal", "Good"]))
        >>> numbers.tolist(), unknown
        ([1.0, nan], 1)
        """
        if self.kind in CODED:
            return self._codes(cells, where)
        numbers = _numbers(cells, self, where, first_row)
        if self.decimals is not None and self.type in NARROW:
            numbers = as_written(numbers, self.type, self.decimals)
        self._require(numbers, where, first_row)
        return numbers, 0

    def _codes(self, cells: Any, where: str) -> tuple[np.ndarray, int]:
        cells = plain(cells)
        levels = of_levels(self.levels or (), self.type)
        if pa.types.is_decimal(cells.type) and not pa.types.is_decimal(levels.type):
            cells = cells.cast(pa.float64())
        if pa.types.is_boolean(levels.type) and not pa.types.is_boolean(cells.type):
            levels = levels.cast(pa.int8())  # 0 and 1, or words for them; any other number is an unknown level
            cells = _truths(cells) if pa.types.is_string(cells.type) else cells
        if cells.type != levels.type:
            try:
                wider = pa.types.is_floating(cells.type) and pa.types.is_integer(levels.type)
                levels = levels.cast(cells.type) if wider else levels
                cells = cells.cast(levels.type)
            except pa.ArrowException:
                if pa.types.is_string(levels.type):
                    raise InputError(
                        f"{where}: column {self.name!r} has the type {cells.type}, but its levels are text in the fit",
                        "write it as text",
                    ) from None
                levels, cells = levels.cast(pa.string()), cells.cast(pa.string())
        codes = pc.index_in(cells, value_set=levels, skip_nulls=True)
        unknown = codes.null_count - cells.null_count
        return codes.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64), int(unknown)

    def _require(self, numbers: np.ndarray, where: str, first_row: int) -> None:
        """Raise ``InputError`` for the first number that this kind cannot hold."""
        for bad, wanted in self.faults(numbers):
            if bad.any():
                row = int(bad.argmax())
                place = f"{where}, row {row + first_row} (counted from 0): column {self.name!r}"
                raise InputError(f"{place} has {numbers[row]:g}", f"{wanted}{self._remedy()}")

    def faults(self, numbers: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """For each reason why this kind cannot hold a number: (mask ``[N]`` of the numbers concerned, the reason)."""
        with np.errstate(invalid="ignore"):
            found = [(np.isinf(numbers), "it must be finite")]
            if self.kind == "positive":
                found.append((numbers <= 0, "this column takes numbers above 0"))
            if self.kind == "count":
                found.append((numbers < 0, "a count cannot be negative"))
                found.append((numbers != np.floor(numbers), "a count must be a whole number"))
            if self.kind == "bounded":
                outside = (numbers < self.low) | (numbers > self.high)
                found.append((outside, f"this column takes numbers from {self.low:g} to {self.high:g}"))
        return [(bad & ~np.isnan(numbers), wanted) for bad, wanted in found]

    def _remedy(self) -> str:
        option = f"--column {shlex.quote(self.name)}=continuous"
        return f"; if it may hold others, fit with {option}" if self.kind != "continuous" else ""

    # Numbers to cells

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest number that a cell can hold, seen or not, by the column's kind and type. If all
        numbers of a column have the same sign, new numbers have it too (except for dates)."""
        step = self.law.step if self.law is not None else None
        least = step or 10.0 ** -(12 if self.decimals is None else self.decimals)  # the smallest number above 0
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        if self.kind == "bounded":
            return low, high
        if self.kind == "datetime":
            return YEARS_NS if "[ns" in self.type else YEARS
        ends = [-np.inf if low < 0 else min(least, low), np.inf if high > 0 else max(-least, high)]
        if pa.types.is_integer(self.arrow):
            info = np.iinfo(self.arrow.to_pandas_dtype())
            ends = [max(ends[0], float(info.min)), min(ends[1], float(info.max))]
        return ends[0], min(ends[1], DAY - least) if pa.types.is_time(self.arrow) else ends[1]

    def decode(
        self, numbers: np.ndarray, *, mean: bool = False, given: bool = False, beyond: bool = False
    ) -> Any:  # fmt: skip
        """Convert numbers ``[N]`` to an arrow array of this column's type.

        Codes become levels, and NaN becomes null. Numbers move to the nearest value that the column's law allows, and
        are rounded to as many decimals as the data have.

        Args:
            numbers: ``[N]`` in the user's units, or codes.
            mean: whether these are means; the mean of a count is a fraction and is returned as float64.
            given: whether the numbers came from the user; the law then does not move them.
            beyond: whether numbers may lie outside the range of the data.

        >>> Column("n", "count", "int64", "poisson").decode(np.array([2.4, -1.0, np.nan])).to_pylist()
        [2, 0, None]
        """
        numbers = self.settled(numbers, mean=mean, given=given, beyond=beyond)
        missing = np.isnan(numbers)
        if mean and self.kind == "count":
            return pa.array(numbers, mask=missing)
        if self.kind in CODED:
            codes = np.where(missing, 0, numbers).astype(np.int64)
            cells = of_levels(self.levels or (), self.type).take(pa.array(codes, mask=missing))
            return typed(cells, self.type, self.categories or self.levels or ())
        if self.tick < TICKS[0]:
            whole = self._instants(np.nan_to_num(numbers))
            return by_clocks(pa.array(whole, mask=missing).cast(pa.timestamp("ns")), self.arrow)
        return typed(pa.array(numbers, mask=missing), self.type)

    def _instants(self, days: np.ndarray) -> np.ndarray:
        """Days as nanoseconds ``[N]``; those of an atom or a place are exactly its own."""
        found = in_nanoseconds(days, self.tick)
        if self.instants is None:
            return found
        near = nearest(self.instants, found)
        return np.where(np.abs(found - near) < TICKS[0], near, found)

    def settled(
        self, numbers: np.ndarray, *, mean: bool = False, given: bool = False, beyond: bool = False
    ) -> np.ndarray:
        """The numbers ``[N]`` that :meth:`decode` writes, with the same options; for levels, the nearest codes."""
        numbers = np.asarray(numbers, dtype=np.float64)
        if mean and self.kind == "count":
            return np.maximum(numbers, 0.0)
        if self.kind in CODED:
            return numbers.round().clip(0, len(self.levels or ()) - 1)
        law = None if given else self.law
        if law is not None:
            numbers = law.snap(numbers, self.support if beyond else None)
        if self.decimals is not None:
            numbers = self._rounded(numbers, () if law is None else self.sizes)
        if self.kind == "bounded":
            numbers = np.clip(numbers, self.low, self.high)
        elif self.kind == "count" or self.type.startswith("u"):
            numbers = np.clip(numbers, 0.0, None)
        if law is not None and not beyond:
            numbers = np.clip(numbers, self.low, self.high)
        return numbers

    def _rounded(self, numbers: np.ndarray, sizes: Iterable[tuple[int, float]]) -> np.ndarray:
        """The numbers with the column's decimals, and from each of the sizes on with its decimals."""
        assert self.decimals is not None
        numbers = np.round(numbers, self.decimals)
        if self.kind == "positive":
            numbers = np.maximum(numbers, 10.0**-self.decimals)
        for decimals, size in sizes:
            numbers = np.where(np.abs(numbers) >= size, np.round(numbers, decimals), numbers)
        return numbers

    @property
    def sizes(self) -> list[tuple[int, float]]:
        """(number of decimals, the smallest size of numbers that have no more), if numbers are rounded to significant
        digits, from the most decimals to the fewest."""
        if self.digits is None or self.decimals is None:
            return []
        top = math.floor(math.log10(max(abs(self.low or 0.0), abs(self.high or 0.0), 1e-12)))
        fewest = min(self.decimals, self.digits - 1 - top)
        return [(d, 10.0 ** (self.digits - 1 - d)) for d in range(self.decimals - 1, fewest - 1, -1)]

    def possible(self) -> Any:
        """An arrow array of values that the column can have: all levels, or the ends of the range and many numbers
        between them."""
        if self.kind in CODED:
            return plain(self.decode(np.arange(len(self.levels or ()))))
        known = () if self.law is None else (*self.law.knots, *self.law.atoms, *self.law.places)
        return self.decode(np.append(np.linspace(self.low or 0.0, self.high or 0.0, 9), known))

    def repeat(self, rows: int) -> Any:
        """An arrow array of ``rows`` cells, for a constant column or a column without values."""
        dates = self.kind == "constant" and pa.types.is_temporal(self.arrow)
        value = float(self.value) if dates else self.value
        return typed(of_levels([value] * rows, self.type), self.type, [] if value is None else [value])

    def seen(self, numbers: np.ndarray) -> np.ndarray:
        r"""The numbers ``[N]`` as an encoder sees them: :math:`(t(x) - \mathrm{shift}) / \mathrm{unit}` with t = ln x
        for "positive", ln(1 + x) for "count", and x for other kinds."""
        return (logarithmic(self.kind)(numbers) - self.shift) / self.unit

    def log_slope(self, numbers: np.ndarray) -> np.ndarray:
        r""":math:`\ln |dx/du|` ``[N]``, where u is the scale on which the column is seen: ln x for "positive", ln(1 +
        x) for "count". It is 0 for other kinds. Adding it turns ln p(x) into ln p(u), so that large values of a skewed
        column do not count as strange merely because they are large. Atoms have slope 0; in a column with atoms, the
        slope of the other values is measured relative to the slope at their middle."""
        if self.kind not in LOGARITHMIC:
            return np.zeros_like(numbers)
        slope = logarithmic(self.kind)(numbers)
        if self.law is None or not self.law.atoms:
            return slope
        return np.where(np.isin(self.law.snap(numbers), self.law.atoms), 0.0, slope - self.shift)

    def fall(self, number: float) -> float:
        """How far, in nats, the log-density falls from the nearest end of the range to a number outside it. The density
        is a normal with the column's mean and standard deviation, on the scale on which the column is seen."""
        end = np.clip(number, self.low, self.high)
        seen, at_end = self.seen(np.array([number, end], dtype=np.float64)).tolist()
        return max(0.0, (seen**2 - at_end**2) / 2)

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        listed = {name: None if fields[name] is None else list(fields[name]) for name in _LISTED}
        kept = {name: None if fields[name] is None else fields[name].to_json() for name in ("form", "law")}
        return fields | listed | kept

    @classmethod
    def from_json(cls, fields: Any) -> Column:
        """The column that :meth:`to_json` wrote; ``InputError`` if a field is unknown, missing or of a wrong type."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or not {"name", "kind", "type"} <= set(fields) <= known:
            raise damaged("has a column with missing or unknown fields")
        for name in _TYPES:
            if name in fields and not _is_valid(name, fields[name]):
                raise damaged(f"has no valid {name!r} for column {fields['name']!r}")
        made: dict[str, Any] = {**dict.fromkeys(_LISTED, tuple), "form": Form.from_json, "law": Law.from_json}
        there = {name: make(fields[name]) for name, make in made.items() if fields.get(name) is not None}
        return cls(**fields | there)


def _is_valid(name: str, value: Any) -> bool:
    """Whether a record may hold this value under this name."""
    if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
        return False
    if name in ("decimals", "digits"):
        return 0 <= (value or 0) <= 12
    if name == "tick":
        return value in TICKS
    if isinstance(value, list):
        are_plain = all(isinstance(v, str | int | float) for v in value)
        return are_plain and len(set(map(type, value))) <= 1 and len(set(value)) == len(value)
    return True


def _is_sound(value: float) -> bool:
    """Whether the value is a finite number within the range of floats."""
    try:
        return bool(np.isfinite(float(value))) and abs(float(value)) < 1e300
    except (TypeError, ValueError, OverflowError):
        return False


_LISTED = ("levels", "categories", "instants")
_TYPES: dict[str, Any] = {
    "name": str, "kind": str, "type": str, "family": str, "levels": list | None, "low": float | int | None,
    "high": float | int | None, "shift": float | int, "unit": float | int, "decimals": int | None, "digits": int | None,
    "missing": float | int, "reason": str, "categories": list | None, "tick": int, "instants": list | None,
}  # fmt: skip


def _truths(cells: Any) -> Any:
    """Words for true and false as 1 and 0, and any other word as 2."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(cells))
    found = [pc.is_in(words, value_set=pa.array(each)) for each in (["false", "0"], ["true", "1"])]
    return pc.if_else(pc.is_valid(cells), pc.case_when(pc.make_struct(*found), 0, 1, 2), None)


def _is_in(cell: Any, type: Any) -> bool:
    """Whether a text can be read as a value of that type."""
    try:
        return pa.types.is_string(cell.type) and cell.cast(type).is_valid
    except pa.ArrowException:
        return False


def _numbers(cells: Any, column: Column, where: str, first_row: int) -> np.ndarray:
    cells = plain(cells)
    if column.form is not None and pa.types.is_string(cells.type):
        cells = plain(column.form.read(cells)[0])
    time = column.time or ("dates" if column.kind == "datetime" else "")
    if (zone := getattr(column.arrow, "tz", None)) is not None and getattr(cells.type, "tz", None) is not None:
        cells = cells.cast(pa.timestamp(cells.type.unit, zone))
    if time == "dates" and pa.types.is_string(cells.type):
        with suppress(pa.ArrowException):
            cells = cells.cast(pa.timestamp("us"))
    numbers = as_numbers(cells, time)
    if numbers is None:
        row, value = _first_other(cells, column.arrow)
        raise InputError(
            f"{where}, row {row + first_row} (counted from 0): column {column.name!r} has {short(repr(value))}, which "
            f"is of the type {cells.type}",
            f"give {time or 'numbers'}, as the model was fitted to ({column.kind})",
        )
    return numbers


def _first_other(cells: Any, type: Any) -> tuple[int, Any]:
    """(row, value) of the first cell whose text cannot be read as that type; of the first cell if all can."""
    row = next((i for i, cell in enumerate(cells) if cell.is_valid and not _is_in(cell, type)), 0)
    return row, value_of(cells[row]) if len(cells) else None
