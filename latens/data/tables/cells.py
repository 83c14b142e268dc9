"""From cells of text to typed columns: numbers, truth values, dates, words, and what is none of them for certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latens.data.tables.types import MISSING, shown
from latens.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_TEXT = ("", "NA", "NaN", "nan", "null", "NULL", "<NA>")  # of these, a word may be a value: "none", "?"

_WHOLE = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"^(?i:[+-]?inf(inity)?)$"
_CODE = r"^[+-]?0[0-9xX][0-9a-fA-F]*$"  # 007, the postal code 01069 and 0x1F are no quantities
_COMMA = r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"
_GROUPED = r"^[+-]?[0-9]{1,3}([.,'’\x{00a0}\x{202f} ][0-9]{3})+([.,][0-9]+)?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"


def typed(column: pa.ChunkedArray, name: str, where: str, decimal_comma: bool) -> pa.ChunkedArray:
    """A column of text as what all its cells are: null, bool, int64, double, date32, timestamp or string.

    Words for missing (:data:`latens.data.tables.types.MISSING`) become null; in a column of text only
    :data:`MISSING_TEXT` do. Spaces around a cell do not count. Times are ``timestamp[us]``, ``[ns]`` where a
    cell needs it, in UTC where all cells state a zone. Numbers with leading zeros are text. Whole numbers beyond
    64 bits are double where that is exact.

    Args:
        column: of type string.
        name: the column's, for errors.
        where: the file, for errors.
        decimal_comma: whether 1,5 is a number; 1.000 is then refused, because it may be a thousand.

    Raises:
        InputError: more than half of the cells are numbers (or dates) and the others are not, thousands
            separators, a number that is not finite, or whole numbers that no type holds exactly.

    >>> import pyarrow as pa
    >>> typed(pa.chunked_array([["1", "NA", "2.5"]]), "a", "t.csv", False).to_pylist()
    [1.0, None, 2.5]
    >>> typed(pa.chunked_array([["007", "12"]]), "a", "t.csv", False).to_pylist()
    ['007', '12']
    >>> typed(pa.chunked_array([["1", "2", "three"]]), "a", "t.csv", False)
    Traceback (most recent call last):
    latens.errors.InputError: t.csv: column 'a' holds numbers, but row 2 is 'three' (1 of 3 cells are no numbers); ...
    """
    import pyarrow as pa
    from pyarrow import compute

    stripped = compute.utf8_trim_whitespace(column)
    try:
        numbers = stripped.cast(pa.int64())
        cells = stripped
    except pa.ArrowInvalid:
        numbers = None
        gone = compute.is_in(compute.utf8_lower(stripped), pa.array(sorted(MISSING)))
        cells = compute.if_else(gone, None, stripped)
    if cells.null_count == len(cells):
        return pa.chunked_array([pa.nulls(len(cells))])
    numbers = _plain_numbers(cells) if numbers is None else numbers
    if numbers is not None and not _any(cells, _CODE + "|[.]" if decimal_comma else _CODE):
        return numbers
    found = _Column(cells, name, where).as_kind(decimal_comma)
    return words(stripped) if found is None else found


def words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells of text as they are, without the spaces around them; :data:`MISSING_TEXT` is null."""
    import pyarrow as pa
    from pyarrow import compute

    stripped = compute.utf8_trim_whitespace(column)
    return compute.if_else(compute.is_in(stripped, pa.array(MISSING_TEXT)), None, stripped)


def _any(cells: pa.ChunkedArray | pa.Array, pattern: str) -> bool:
    from pyarrow import compute

    return bool(compute.any(compute.match_substring_regex(cells, pattern), min_count=0).as_py())


def _plain_numbers(cells: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The numbers, where all cells are: whole without a sign +, or finite with at least one that is not whole."""
    import pyarrow as pa
    from pyarrow import compute

    for type in (pa.int64(), pa.float64()):
        try:
            numbers = cells.cast(type)
        except pa.ArrowInvalid:
            continue
        whole = type == pa.float64() and compute.all(compute.match_substring_regex(cells, _WHOLE)).as_py()
        finite = type == pa.int64() or compute.all(compute.is_finite(numbers)).as_py()
        return numbers if finite and not whole else None
    return None


class _Column:
    """The cells of a column, of which the distinct ones are looked at; ``counts`` says how often each occurs."""

    def __init__(self, cells: pa.ChunkedArray, name: str, where: str) -> None:
        self.cells, self.name, self.where = cells, name, where
        counted = cells.drop_null().value_counts()
        self.values, self.counts = counted.field("values"), counted.field("counts")
        self.total = len(cells) - cells.null_count

    def matching(self, *patterns: str) -> pa.Array:
        from pyarrow import compute

        return compute.match_substring_regex(self.values, "|".join(f"(?:{pattern})" for pattern in patterns))

    def count(self, mask: pa.Array) -> int:
        from pyarrow import compute

        return compute.sum(self.counts.filter(mask), min_count=0).as_py()

    def row(self, mask: pa.Array) -> tuple[int, str]:
        """The number and the text of the first row whose value is in ``mask``."""
        from pyarrow import compute

        row = compute.index(compute.is_in(self.cells, self.values.filter(mask)), True).as_py()
        return row, shown(self.cells[row].as_py())

    def refuse(self, mask: pa.Array, is_what: str, remedy: str) -> InputError:
        row, text = self.row(mask)
        return InputError(f"{self.where}: column {shown(self.name)}, row {row} is {text}{is_what}; {remedy}.")

    @property
    def way_out(self) -> str:
        name = repr(self.name)
        return f"take the column as words with --column {name}=categorical, or leave it out with --drop {name}"

    def mixed(self, mask: pa.Array, kind: str) -> InputError:
        from pyarrow import compute

        others = compute.invert(mask)
        row, text = self.row(others)
        count = self.count(others)
        units = "remove that row if it states units, " if (row, count) == (0, 1) else ""
        return InputError(
            f"{self.where}: column {shown(self.name)} holds {kind}, but row {row} is {text} ({count:,} of "
            f"{self.total:,} cells are no {kind}); correct them, {units}{self.way_out}."
        )

    def as_kind(self, decimal_comma: bool) -> pa.ChunkedArray | None:
        """Numbers, truth values or dates; None for words."""
        import pyarrow as pa
        from pyarrow import compute

        if _any(self.values, _CODE):
            return None
        number = self.matching(_NUMBER, _INFINITE, _COMMA, _GROUPED)
        count = self.count(number)
        if 2 * count > self.total:
            self._require_decimals(decimal_comma)
            if count < self.total:
                raise self.mixed(number, "numbers")
            return self._numbers()
        if compute.all(compute.is_in(compute.utf8_lower(self.values), pa.array(["true", "false"]))).as_py():
            return compute.equal(compute.utf8_lower(self.cells), "true")
        return self._times()

    def _require_decimals(self, decimal_comma: bool) -> None:
        """InputError where a comma or a point may part thousands, or a comma decimals in a file cut by commas."""
        from pyarrow import compute

        comma, grouped = self.matching(_COMMA), self.matching(_GROUPED)
        if not decimal_comma and (wrong := compute.and_not(comma, grouped)).true_count:
            raise self.refuse(
                wrong, "", f"write decimals with a point, or part the fields with semicolons, or {self.way_out}"
            )
        number = self.matching(_NUMBER)
        wrong = compute.and_not(grouped, compute.or_(number, comma) if decimal_comma else number)
        if decimal_comma and not wrong.true_count:
            point = compute.and_(number, compute.match_substring(self.values, "."))
            threes = compute.and_(point, grouped).true_count == point.true_count
            wrong = point if comma.true_count or threes else wrong
        if wrong.true_count:
            raise self.refuse(wrong, "", f"write numbers without thousands separators, or {self.way_out}")

    def _numbers(self) -> pa.ChunkedArray:
        import pyarrow as pa
        from pyarrow import compute

        bare = compute.replace_substring_regex(self.cells, r"^\+", "")
        numbers = compute.replace_substring(bare, ",", ".").cast(pa.float64())
        infinite = compute.index(compute.is_inf(numbers), True).as_py()
        if infinite >= 0:
            raise InputError(
                f"{self.where}: column {shown(self.name)}, row {infinite} is {shown(self.cells[infinite].as_py())}, "
                f"which is not finite in 64 bits; give a finite number, or leave the cell empty."
            )
        if not compute.all(self.matching(_WHOLE)).as_py():
            return numbers
        try:
            return bare.cast(pa.int64())
        except pa.ArrowInvalid:
            lost = pa.array([int(float(text)) != int(text) for text in self.values.to_pylist()])
        if lost.true_count:
            raise self.refuse(lost, ", a whole number too long for 64 bits", self.way_out)
        return numbers

    def _times(self) -> pa.ChunkedArray | None:
        import pyarrow as pa
        from pyarrow import compute

        date, zoned = self.matching(_DATE), self.matching(_TIME + r"(Z|[+-][0-9]{2}:?[0-9]{2})$")
        local = compute.or_(date, self.matching(_TIME + "$"))
        dated = compute.or_(local, zoned)
        if 2 * self.count(dated) <= self.total:
            return None
        if self.count(dated) < self.total:
            raise self.mixed(dated, "dates")
        unit = "ns" if _any(self.values, r"[.][0-9]{7,9}") else "us"
        type = pa.timestamp(unit, "UTC" if zoned.true_count else None)
        if not zoned.true_count and date.true_count == len(date):
            type = pa.date32()
        elif zoned.true_count and local.true_count:
            raise self.refuse(
                local if local.true_count < zoned.true_count else zoned, "", "state a zone in all cells or in none"
            )
        try:
            return self.cells.cast(type)
        except pa.ArrowInvalid as error:
            wrong = pa.array([not _is(value, type) for value in self.values])
            raise self.refuse(wrong, ", which is no day of the calendar", f"correct it, or {self.way_out}") from error


def _is(value: pa.Scalar, type: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        return value.cast(type) is not None
    except pa.ArrowInvalid:
        return False
