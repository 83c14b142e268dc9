"""Turn columns of text into values: find the form that reads all cells of a column, and keep it for writing them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from latens.data.tables.forms import (
    DRESSED,
    ORDERS,
    AmbiguousDate,
    AmbiguousNumber,
    TimeFit,
    asked_numbers,
    asked_times,
    is_bare,
    number_form,
    states_zone,
    time_form,
    times_written,
    with_decimals,
    with_places,
)
from latens.data.tables.types import index_names, shown
from latens.errors import InputError
from latens.schema.arrow import arrow_type, pa, pc
from latens.schema.form import BLANKS, MARKS, WORDS, Form, Numbers, Times, Truth, Words, as_text, expression

_WHOLE = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"^(?i:[+-]?inf(inity)?)$"
_CODE = r"^[+-]?0[0-9xX][0-9a-fA-F]*$"  # 007, the postal code 01069 and 0x1F are not quantities
_COMMA = r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"
_GROUPED = (
    r"^[+-]?[0-9]{1,3}((,[0-9]{3})+([.][0-9]+)?|([.][0-9]{3})+(,[0-9]+)?|"
    r"(['’\x{00a0}\x{202f} ][0-9]{3})+([.,][0-9]+)?)$"
)
_COMPACT = r"^(19|20)[0-9]{4}([0-9]{2})?([0-9]{4})?([0-9]{2})?$"  # years and months without a separator
FEW_MARKS = 5  # up to this many distinct texts among numbers may be marks of missing cells
_YEAR_LAST = r"^[0-3][0-9][0-3][0-9](19|20)[0-9]{2}$"
_MONTHS = 10  # fewer distinct values are not read as years and months (six digits), or days with the year last (eight)


class Unsettled(InputError):
    """Two readings fit the cells; ``is_order`` if they differ in the order of day and month."""

    def __init__(self, message: str, is_order: bool = False):
        super().__init__(message)
        self.is_order = is_order


@dataclass(frozen=True)
class CellCounts:
    """How often each cell of a column occurs, and the number of the first row with it: arrow arrays ``[N]``."""

    counts: Any
    rows: Any


@dataclass(frozen=True)
class Hints:
    """What is known about columns of text before their cells are read.

    Args:
        words: columns to read as words.
        levels: columns whose levels the user named; the texts of these levels are never read as missing.
        formats: forms that the user named, ``{column: "%d/%m/%Y", "day-first", "1.234,5" or "text"}``.
        na: texts that mean missing among words, besides the empty text; "COLUMN=TEXT" holds in one column only. The
            default is :data:`WORDS`.
        known: the forms of a run's columns, which take precedence.
        loose: columns that are read as words unless they are certainly something else.
        settled: whether whole numbers such as 20211231 are dates only if ``known`` says so.
        lenient: whether cells that a known form cannot read count as missing and are listed, instead of being refused.
            Infinite numbers that are not text are then kept.
        usual: with ``lenient``, forms for columns that were not text in the fit; each is used if no form fits the
            column's own cells.
        tallies: for columns that are given as their distinct cells, how often each of these occurs.
    """

    words: frozenset[str] = frozenset()
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    na: tuple[str, ...] | None = None
    known: Mapping[str, Form] = field(default_factory=dict)
    loose: frozenset[str] = frozenset()
    settled: bool = False
    lenient: bool = False
    usual: Mapping[str, Form] = field(default_factory=dict)
    tallies: Mapping[str, CellCounts] = field(default_factory=dict)

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> Hints:
        """The hints in the options of reading: ``text`` (columns), ``levels``, ``formats`` and ``na``."""
        na = reading.get("na")
        return cls(
            frozenset(reading.get("text") or ()),
            {k: tuple(v) for k, v in dict(reading.get("levels") or {}).items()},
            dict(reading.get("formats") or {}), None if na is None else tuple(na),
        )  # fmt: skip

    def like(self, fields: Iterable[Any], lenient: bool = False) -> Hints:
        """The same hints for new data of a run, whose columns are ``fields`` (:class:`latens.schema.Column`)."""
        texts = {f.name for f in fields if f.type == "string" and not f.form}
        return dataclasses.replace(
            self, words=self.words | texts, settled=True, lenient=lenient,
            known={f.name: f.form for f in fields if f.form and f.name not in self.formats},
            loose=frozenset(f.name for f in fields if not f.is_modelled),
            usual={f.name: _usual(f) for f in fields if lenient and f.is_number and not f.form},
        )  # fmt: skip

    def na_of(self, name: str) -> tuple[str, ...]:
        """The texts that the user says mean missing in a column."""
        own = f"{name}="
        return tuple(text.removeprefix(own) for text in self.na or ())

    def missing_words(self, name: str) -> tuple[str, ...]:
        """The texts that mean missing in a column of words."""
        named = ("", *self.na_of(name))
        if all("=" in text for text in self.na or ()):
            named = (*named, *WORDS)
        return tuple(word for word in named if word not in self.levels.get(name, ()))


def _usual(field: Any) -> Form:
    """The usual form of numbers, or of dates of the column's type."""
    if field.kind != "datetime":
        return Numbers("double")
    return Times(field.type, pattern="%Y-%m-%d" if field.type.startswith("date") else "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Understood:
    """The cells of one column, read as values.

    Args:
        values: the values ``[N]``.
        form: the form that reads them.
        remarks: what the notes should mention, each as (what, text of the cells, count).
        unread: the mask ``[N]`` of cells that a known form could not read, or None.
    """

    values: Any
    form: Form
    remarks: tuple[tuple[str, str, int], ...] = ()
    unread: Any = None


def understood(
    column: Any,
    name: str,
    where: str,
    hints: Hints | None = None,
    *,
    comma: bool | None = None,
    order: str | None = None,
) -> Understood:
    """Read a column of text as the type that fits all its cells: int64, double, bool, date32, time64, timestamp,
    duration or string.

    Words for missing (:data:`latens.schema.form.BLANKS`) become null; so do marks such as "-" and "#VALUE!" in columns
    of numbers, dates and truth values. In a column of words only ``hints.missing_words`` do. Spaces around a cell are
    ignored. Numbers with leading zeros are text. Whole numbers beyond 64 bits become doubles if that is exact.

    Args:
        column: a column ``[N]`` of type string.
        name: its name.
        where: the file, for errors.
        hints: what is known about columns of text.
        comma: whether the decimal mark is a comma; None if commas separate the fields of the file.
        order: "day-first" or "month-first", if other columns of the file show it.

    Raises:
        InputError: more than half of the cells are numbers (or dates) and the rest are not, two readings fit, a number
            is not finite, or no type holds the whole numbers.

    >>> import pyarrow as pa
    >>> understood(pa.chunked_array([["1", "NA", "2.5"]]), "a", "t.csv").values.to_pylist()
    [1.0, None, 2.5]
    >>> found = understood(pa.chunked_array([["$1,234.50", "-", "$7.00"]]), "a", "t.csv")
    >>> found.values.to_pylist(), found.form.describe(), found.remarks
    ([1234.5, None, 7.0], '$1,234.50', (('missing', '-', 1),))
    >>> understood(pa.chunked_array([["1", "2", "three"]]), "a", "t.csv")
    Traceback (most recent call last):
    latens.errors.InputError: t.csv: column 'a' holds numbers, but row 2 is 'three' (1 of 3 cells is not a number): ...
    """
    hints = hints or Hints()
    column = as_text(column)
    known = hints.known.get(name)
    if known is not None:
        return _known(column, name, where, hints, known, comma, order)
    if name in hints.words or name in hints.levels or hints.formats.get(name) == "text":
        return _as_words(column, hints.missing_words(name), hints.tallies.get(name))
    asked = hints.formats.get(name, "")
    if asked and asked not in ORDERS:
        return _as_asked(column, name, where, asked, hints.tallies.get(name))
    return _Looked(column, name, where, hints, comma, asked or order).result()


def _known(
    column: Any, name: str, where: str, hints: Hints, form: Form, comma: bool | None, order: str | None
) -> Understood:
    """Read cells by the form of a run. If it cannot read all of them, a form of the same kind that can is used."""
    values, bad = form.read(column)
    values = without_codes(values, hints.na_of(name)) if isinstance(form, Numbers) else values
    if not pc.any(bad, min_count=0).as_py():
        return Understood(values, dataclasses.replace(form, stored=""))
    with_own = dataclasses.replace(hints, known={}, formats={})
    try:
        found = understood(column, name, where, with_own, comma=comma, order=order)
    except InputError:
        found = None
    if found is not None and type(found.form) is type(form) and _kin(found.form.means, form.means):
        return found
    if hints.lenient:
        return Understood(values, dataclasses.replace(form, stored=""), unread=bad)
    row = pc.index(bad, True).as_py()
    what = {"numbers": "number", "times": "date or time", "truth": "truth value"}[form.kind]
    raise InputError(
        f"{where}: column {shown(name)}, row {row} is {shown(column[row].as_py())}, which is not a {what} written as "
        f"{form.describe()}",
        "correct the cell, or leave it empty",
    )


def _kin(one: str, other: str) -> bool:
    return one[:4] == other[:4] or {one, other} <= {"int64", "double"} or {one[:4], other[:4]} <= {"date", "time"}


def tallied(cells: Any, tally: CellCounts | None = None, mask: Any = None) -> tuple[Any, Any]:
    """(the distinct cells in the ``mask``, in the order in which they first occur; how often each occurs); missing
    cells do not count."""
    some = cells if mask is None else cells.filter(mask)
    if tally is None:
        counted = some.drop_null().value_counts()
        return counted.field("values"), counted.field("counts")
    counts = tally.counts if mask is None else tally.counts.filter(mask)
    pairs = pa.table({"cell": some, "count": pa.chunked_array([counts])}).filter(some.is_valid())
    found = pairs.group_by("cell", use_threads=False).aggregate([("count", "sum")]).combine_chunks()
    values, counts = (found[name].combine_chunks() for name in ("cell", "count_sum"))
    return values, counts


def row_of(row: int, tally: CellCounts | None) -> int:
    """The number of the row in which a cell stands."""
    return row if tally is None or row < 0 else int(tally.rows[row].as_py())


def _as_words(column: Any, gaps: tuple[str, ...], tally: CellCounts | None = None) -> Understood:
    form = Words("string", gaps=gaps)
    values, _ = form.read(column)
    texts, counts = tallied(pc.utf8_trim_whitespace(column), tally, values.is_null())
    counted = sorted(zip(counts.to_pylist(), texts.to_pylist()), reverse=True)
    seen = tuple(text for _, text in counted)
    remarks = tuple(("word", text, count) for count, text in counted if text)
    return Understood(values, dataclasses.replace(form, gaps=(*seen, *(g for g in gaps if g not in seen))), remarks)


def _as_asked(column: Any, name: str, where: str, asked: str, tally: CellCounts | None = None) -> Understood:
    """Read the cells by the form that the user named."""
    form: Form = asked_times(asked, name) if "%" in asked.rstrip("%") else asked_numbers(asked, name)
    values, bad = form.read(column)
    if pc.any(bad, min_count=0).as_py():
        row = pc.index(bad, True).as_py()
        raise InputError(
            f"{where}: column {shown(name)}, row {row_of(row, tally)} is {shown(column[row].as_py())}, which --format "
            f"{name}={asked} does not read",
            "correct the cell, or name another form",
        )
    stripped = pc.utf8_trim_whitespace(column)
    texts = stripped.filter(values.is_valid())
    if isinstance(form, Numbers):
        matches = map(DRESSED.fullmatch, pc.unique(texts).to_pylist())
        bodies = [match["body"] for match in matches if match]
        form = with_places(form, bodies)
        values, _ = form.read(column)
    elif isinstance(form, Times) and len(texts):
        form = times_written(form, *tallied(stripped, tally, values.is_valid()))
        values, _ = form.read(column)
    return Understood(values, dataclasses.replace(form, gaps=tuple(_gaps(stripped, values, tally))))


def _gaps(stripped: Any, values: Any, tally: CellCounts | None) -> dict[str, int]:
    """The texts of missing cells, the most frequent first, and how often each occurs."""
    texts, counts = tallied(stripped, tally, values.is_null())
    return dict(sorted(zip(texts.to_pylist(), counts.to_pylist()), key=lambda pair: -pair[1])[:20])


def _any(cells: Any, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(cells, pattern), min_count=0).as_py())


def _all(cells: Any, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, pattern), min_count=0).as_py())


def without_codes(values: Any, na: tuple[str, ...] | None) -> Any:
    """Numbers or words, with null for the values that mean missing according to the user (``na``)."""
    if na and pa.types.is_string(values.type):
        return pc.if_else(pc.is_in(pc.utf8_trim_whitespace(values), pa.array(na)), None, values)
    codes = []
    for text in na or ():
        try:
            codes.append(float(text))
        except ValueError:
            continue
    if not codes:
        return values
    gone = pc.is_in(values.cast(pa.float64(), safe=False), pa.array(codes, pa.float64()))
    return pc.if_else(gone, None, values)


class _Looked:
    """The cells of a column and their distinct ``values``; ``counts`` says how often each occurs."""

    def __init__(self, column: Any, name: str, where: str, hints: Hints, comma: bool | None, order: str | None) -> None:
        self.column, self.name, self.where, self.hints = column, name, where, hints
        self.comma, self.order, self.tally = comma, order, hints.tallies.get(name)
        self.stripped = pc.utf8_trim_whitespace(column)
        more = pa.array([*BLANKS, *MARKS])
        gone = pc.is_in(pc.utf8_lower(self.stripped), more)
        self.na = hints.na_of(name)
        if self.na:
            gone = pc.or_(gone, pc.is_in(self.stripped, pa.array(self.na)))
        self.cells = pc.if_else(gone, None, self.stripped)

    def result(self) -> Understood:
        """The column in the form that fits all its cells; ``InputError`` if some cells do not fit."""
        if self.cells.null_count == len(self.cells):
            gaps = tuple(_gaps(self.stripped, self.cells, self.tally))
            return Understood(pa.chunked_array([pa.nulls(len(self.cells))]), Words("string", gaps=gaps))
        return self._plain() or self._any_kind() or self._words()

    def _words(self) -> Understood:
        return _as_words(self.column, self.hints.missing_words(self.name), self.tally)

    # Plain numbers, for which the distinct cells are not needed

    def _plain(self) -> Understood | None:
        for type in (pa.int64(), pa.float64()):
            try:
                values = self.cells.cast(type)
            except pa.ArrowInvalid:
                continue
            if type == pa.int64() and (found := self._dated(values)):
                return found
            if _any(self.cells, _CODE):
                return None
            if type == pa.int64():
                return self._found(values, Numbers("int64"))
            if _any(self.cells, r"^[+]"):
                return None  # the form has to keep the sign
            finite = pc.all(pc.is_finite(values), min_count=0).as_py()
            if not finite or _all(self.cells, _WHOLE):
                return None
            if self.comma and _any(self.cells, "[.]"):
                return None  # a point may separate thousands
            return self._twins(self._found(values, self._places()))
        return None

    def _twins(self, found: Understood) -> Understood:
        """Add a remark if two texts such as 1.1 and 1.10 (perhaps version numbers) are read as the same number."""
        fixed = not isinstance(found.form, Numbers) or found.form.places is not None
        if fixed or not _any(self.cells, "[.][0-9]*[1-9]0+$"):
            return found
        texts = set(self.cells.drop_null().unique().to_pylist())
        twin = next((text for text in sorted(texts) if (short := text.rstrip("0")) != text and short in texts), None)
        return found if twin is None else dataclasses.replace(found, remarks=(*found.remarks, ("twins", twin, 0)))

    def _places(self) -> Numbers:
        at = pc.find_substring(self.cells, ".")
        widths = pc.if_else(pc.equal(at, -1), -1, pc.subtract(pc.subtract(pc.utf8_length(self.cells), at), 1))
        ends = pc.min_max(widths).as_py()
        if _any(self.cells, "[eE]"):
            texts = self.cells.drop_null().unique().slice(0, 1000).to_pylist()
            return with_places(Numbers("double"), [text.lstrip("+-") for text in texts])
        return with_decimals(Numbers("double", whole=self._whole_digits()), ends["min"], ends["max"])

    def _whole_digits(self) -> int:
        """The fewest digits before the point; leading zeros count if all cells have them (007.50), and .5 has 0."""
        if _any(self.cells, "^[+-]?[.]"):
            return int(_any(self.cells, "^[+-]?0[.]"))
        if not _any(self.cells, "^[+-]?0[0-9]"):
            return 1
        ends = pc.find_substring(pc.binary_join_element_wise(pc.utf8_ltrim(self.cells, "+-"), ".", ""), ".")
        return int(pc.min(ends).as_py())

    def _dated(self, values: Any) -> Understood | None:
        """Dates without a separator between year, month and day."""
        ends = pc.min_max(values).as_py()
        shape = _COMPACT if ends["min"] >= 190_001 and _all(self.cells, _COMPACT) else _YEAR_LAST
        if ends["max"] < 190_001 or not _all(self.cells, shape):
            return None
        if (ends["max"] < 1_000_000 or shape == _YEAR_LAST) and pc.count_distinct(values).as_py() < _MONTHS:
            return None
        fit = self._time_form(*tallied(self.cells, self.tally))
        return None if fit is None or fit.share < 1 else self._found(fit.form.read(self.cells)[0], fit.form)

    def _found(self, values: Any, form: Form) -> Understood:
        values = without_codes(values, self.na) if isinstance(form, Numbers) else values
        gaps = _gaps(self.stripped, values, self.tally)
        odd = {gap: count for gap, count in gaps.items() if gap.lower() in MARKS or gap == "?"}
        remarks = tuple(("missing", gap, count) for gap, count in odd.items())
        return Understood(values, dataclasses.replace(form, gaps=tuple(gaps)), remarks)

    # All other columns, by their distinct cells

    def _any_kind(self) -> Understood | None:
        """Numbers with a currency, separators or units, truth values or dates; None for words."""
        self.values, self.counts = tallied(self.cells, self.tally)
        self.total = pc.sum(self.counts).as_py()
        if _any(self.values, _CODE):
            return None
        if (found := self._clothed()) is not None:
            return found
        lower = pc.utf8_lower(self.values)
        if pc.all(pc.match_substring_regex(lower, "^(true|false)$")).as_py():
            return self._truth()
        if (found := self._times()) is not None:
            return found
        number = self._matching(_NUMBER, _INFINITE, _COMMA, _GROUPED)
        count = self._count(number)
        if 2 * count <= self.total:
            return None
        if count == self.total:
            self._require_finite()
            return None
        raise self._mixed(number, "numbers")

    def _clothed(self) -> Understood | None:
        if not all(map(DRESSED.fullmatch, self.values.slice(0, 100).to_pylist())):
            return None
        try:
            settled = number_form(self.values.to_pylist(), comma=self.comma)
        except AmbiguousNumber as error:
            text = str(error)
            mark, other = (",", ".") if "," in text else (".", ",")
            raise Unsettled(
                f"{self.where}: column {shown(self.name)} has {shown(text)}, in which the "
                f"{'comma' if mark == ',' else 'point'} can separate thousands or decimals: pass --format "
                f"{self.name}=1{mark}234{other}5 for thousands, or --format {self.name}=1234{mark}5 for decimals"
            ) from None
        if settled is None:
            return None
        form, rests_on = settled
        self._require_finite(form)
        values, bad = form.read(self.cells)
        if bad.true_count:
            return None
        values = self._whole(values, form)
        found = self._found(values, dataclasses.replace(form, means=str(values.type)))
        texts = self.values.to_pylist()
        signs = {"thousands": lambda text: form.group in text, "bare": is_bare}
        remarks = [(what, next(filter(signs[what], texts)), 0) for what in rests_on]
        return dataclasses.replace(found, remarks=(*found.remarks, *remarks))

    def _require_finite(self, form: Numbers | None = None) -> None:
        digits = (form or Numbers("double")).digits(self.cells.combine_chunks())
        digits = pc.if_else(self.cells.combine_chunks().is_null(), None, digits)
        texts = pc.if_else(pc.match_substring_regex(self.cells, _INFINITE), self.cells, pa.chunked_array([digits]))
        infinite = pc.index(pc.is_inf(texts.cast(pa.float64())), True).as_py()
        if infinite >= 0:
            row, text = row_of(infinite, self.tally), shown(self.cells[infinite].as_py())
            what = f"{self.where}: column {shown(self.name)}, row {row} is {text}, which is not finite in 64 bits"
            raise InputError(what, "give a finite number, or leave the cell empty")

    def _whole(self, values: Any, form: Numbers) -> Any:
        """Whole numbers; those beyond 64 bits become doubles if that is exact, and are refused if it is not."""
        if form.means != "int64" or str(values.type) == "int64":
            return values
        exact = [int(float(text)) == int(text) for text in form.digits(self.values).to_pylist()]
        if not all(exact):
            raise self._refuse(
                pa.array([not good for good in exact]), ", a whole number too large for 64 bits", self._way_out
            )
        return values

    def _truth(self) -> Understood:
        words = self.values.to_pylist()
        true = next((word for word in words if word.lower() == "true"), None)
        false = next((word for word in words if word.lower() == "false"), None)
        model = true or false or "true"
        style = str.upper if model.isupper() else str.lower if model.islower() else str.capitalize
        form = Truth("bool", words=(false or style("false"), true or style("true")))
        return self._found(form.read(self.cells)[0], form)

    def _time_form(self, values: Any, counts: Any) -> TimeFit | None:
        try:
            return time_form(values, counts, self.order)
        except AmbiguousDate as error:
            raise Unsettled(
                f"{self.where}: column {shown(self.name)} has dates such as {shown(str(error))}, which can be read "
                f"day first or month first: pass --format {self.name}=day-first or --format {self.name}=month-first",
                is_order=True,
            ) from None

    def _times(self) -> Understood | None:
        fit = self._time_form(self.values, self.counts)
        if fit is None:
            return None
        shaped = self._matching(expression(fit.form.pattern, fit.form.is_span))
        if 2 * self._count(shaped) <= self.total or 2 * fit.share < 1:
            return None
        values, bad = fit.form.read(self.values)
        zoned = states_zone(fit.form, self.values)
        if zoned is not None and 0 < zoned.true_count < len(zoned):
            local = pc.and_(pc.invert(zoned), values.combine_chunks().is_valid())
            if local.true_count:
                few = local if local.true_count < zoned.true_count else zoned
                raise self._refuse(few, "", "state a zone in all cells or in none")
        if fit.share < 1:
            if (wrong := pc.and_(shaped, bad)).true_count:
                what = "a time" if "time64" in fit.form.means or fit.form.is_span else "a day of the calendar"
                raise self._refuse(wrong, f", which is not {what}", f"correct it, or {self._way_out}")
            raise self._mixed(pc.invert(bad), "dates")
        found = self._found(fit.form.read(self.cells)[0], fit.form)
        if fit.by_custom:
            found = dataclasses.replace(found, remarks=(*found.remarks, ("order", self.values[0].as_py(), 0)))
        return found

    # What is wrong

    def _matching(self, *patterns: str) -> Any:
        named = "|".join(f"(?:{pattern})" for pattern in patterns)
        return pc.match_substring_regex(self.values, named)

    def _count(self, mask: Any) -> int:
        return pc.sum(self.counts.filter(mask), min_count=0).as_py()

    def _row(self, mask: Any) -> tuple[int, str]:
        """The number and the text of the first row whose value is in ``mask``."""
        row = pc.index(pc.is_in(self.cells, self.values.filter(mask)), True).as_py()
        return row_of(row, self.tally), shown(self.cells[row].as_py())

    def _refuse(self, mask: Any, is_what: str, remedy: str) -> InputError:
        row, text = self._row(mask)
        return InputError(f"{self.where}: column {shown(self.name)}, row {row} is {text}{is_what}", remedy)

    @property
    def _way_out(self) -> str:
        name = repr(self.name)
        return f"read the column as words with --column {name}=categorical, or leave it out with --drop {name}"

    def _mixed(self, mask: Any, kind: str) -> InputError:
        others = pc.invert(mask)
        row, text = self._row(others)
        first = self.values.filter(others)[0].as_py()
        count = self._count(others)
        units = "remove that row if it states units, " if (row, count) == (0, 1) else ""
        if len(self.values.filter(others)) <= FEW_MARKS:
            units += f"pass --na {shlex.quote(f'{self.name}={first}')} if it means missing, "
        are = f"is not a {kind.removesuffix('s')}" if count == 1 else f"are not {kind}"
        return InputError(
            f"{self.where}: column {shown(self.name)} holds {kind}, but row {row} is {text} ({count:,} of "
            f"{self.total:,} cells {are})",
            f"correct {'it' if count == 1 else 'them'}, {units}{self._way_out}",
        )


_ORDER = re.compile(r"%-?(d|m)([/. -])%-?(d|m)\2")


@dataclass(frozen=True, eq=False)
class Read:
    """N rows of a table, with their text read as values.

    Args:
        table: the columns as values.
        forms: the forms of the columns of text, by name.
        text: the original cells of these columns, an arrow table; a row index is kept there under the name "".
        notes: sentences on how cells were read.
        unread: for each column with cells that the run's form cannot read, their mask ``[N]``.
    """

    table: Any
    forms: Mapping[str, Form] = field(default_factory=dict)
    text: Any = None
    notes: tuple[str, ...] = ()
    unread: Mapping[str, Any] = field(default_factory=dict)

    def take(self, rows: Any) -> Read:
        """The rows with these numbers ``[B]``, as they were read."""
        unread = {name: mask.take(rows) for name, mask in self.unread.items()}
        text = None if self.text is None else self.text.take(rows)
        return dataclasses.replace(self, table=self.table.take(rows), text=text, unread=unread)

    @property
    def stored(self) -> Any:
        """The arrow schema of the columns in the types in which they were stored."""
        forms = {name: form for name, form in self.forms.items() if form.stored}
        return pa.schema(
            [f.with_type(arrow_type(forms[f.name].stored)) if f.name in forms else f for f in self.table.schema],
            metadata=self.table.schema.metadata,
        )

    @property
    def unread_texts(self) -> dict[str, dict[int, str]]:
        """The cells that the run's form cannot read, ``{column: {row: text}}``."""
        found = {}
        for name, mask in self.unread.items():
            rows = pc.indices_nonzero(mask).to_pylist()
            texts = as_text(self.text.column(name).take(rows)).to_pylist() if rows else []
            found[name] = dict(zip(rows, texts))
        return found

    def written(self, table: Any, *, as_text: bool = False) -> Any:
        """Write a table of N rows as in :func:`written`; a cell whose value has not changed keeps its original text."""
        return written(table, self.forms, self, as_text=as_text)


def written(table: Any, forms: Mapping[str, Form], found: Read | None = None, *, as_text: bool = False) -> Any:
    """Write columns of text: turn a table of values back into text, column by column, in the given forms.

    Args:
        table: an arrow table of values.
        forms: the forms of its columns of text, by name.
        found: the rows from which the table was made, in the same order, if there are any: a cell whose value has not
            changed keeps its original text.
        as_text: True for a text file, in which all columns of text are written as text; otherwise only columns that
            were stored as text are.
    """
    columns = {}
    for name, cells in zip(table.column_names, table.columns):
        form = forms.get(name)
        if form is not None and (as_text or form.stored):
            made = _chunked(form.write(cells) if as_text else form.back(cells))
            if found is not None and found.text is not None and name in found.text.column_names:
                was, text = found.table.column(name), found.text.column(name)
                same = pc.or_(pc.and_(was.is_null(), cells.is_null()), _equal(was, cells))
                made = pc.if_else(same, text.cast(made.type), made)
            cells = made
        columns[name] = cells
    return pa.table(columns)


def _chunked(cells: Any) -> Any:
    return cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([cells])


def _equal(one: Any, other: Any) -> Any:
    """The mask of the cells that are present in both and equal."""
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        return pa.chunked_array([pa.array([False] * len(one), pa.bool_())])
    if pa.types.is_dictionary(other.type):
        other = other.cast(other.type.value_type)
    try:
        return pc.fill_null(pc.equal(one, other if other.type == one.type else other.cast(one.type)), False)
    except pa.ArrowInvalid:  # the type that was found cannot hold some value
        return pc.fill_null(pc.equal(one.cast(other.type), other), False)


def read_columns(
    table: Any, where: str, hints: Hints | None = None, *, is_file: bool = False, comma: bool | None = None
) -> Read:
    """Read the columns of a table as values.

    Args:
        table: an arrow table; all columns of a text file are text.
        where: what messages call the data.
        hints: what is known about the columns.
        is_file: whether the cells are from a text file, in which words such as NA mean a missing cell. Elsewhere text
            stays text, unless all cells of a column are numbers, dates or truth values.
        comma: as in :func:`latens.data.tables.reading.understood`.

    Raises:
        InputError: as in :func:`latens.data.tables.reading.understood`.

    >>> import pyarrow as pa
    >>> found = read_columns(pa.table({"when": ["31.12.2021", "1.2.2022"], "x": [1.5, 2.0]}), "the data")
    >>> found.table["when"].to_pylist(), found.forms["when"].describe()
    ([datetime.date(2021, 12, 31), datetime.date(2022, 2, 1)], '%-d.%-m.%Y')
    """
    hints = hints or Hints()
    found: dict[str, Understood] = {}
    waiting: dict[str, Unsettled] = {}
    of_index = set(index_names(table.schema))
    for name in table.column_names:
        if name == "" or name in of_index:
            continue
        try:
            if (one := _one(table.column(name), name, where, hints, is_file, comma, None)) is not None:
                found[name] = one
        except Unsettled as error:
            if not error.is_order:
                raise
            waiting[name] = error
    orders = {order for one in found.values() if (order := _order(one.form))}
    for name, doubt in waiting.items():
        if len(orders) != 1:
            raise doubt
        one = _one(table.column(name), name, where, hints, is_file, comma, next(iter(orders)))
        assert one is not None
        found[name] = one
    return _assembled(table, found, hints, is_file)


def _one(
    cells: Any, name: str, where: str, hints: Hints, is_file: bool, comma: bool | None, order: str | None
) -> Understood | None:
    """One column as values; None if its cells stay as they are."""
    is_float = cells.type == pa.float64()  # how pandas stores whole numbers with gaps; narrower floats hold no dates
    if is_float and isinstance(hints.known.get(name), Times):
        return _text(as_text(cells), name, where, hints, is_file, comma, order)
    if _is_text(cells.type) or name in hints.known:
        one = _text(cells, name, where, hints, is_file, comma, order)
        if one is not None or name in hints.known or pa.types.is_large_string(cells.type):
            return one
        return _without_codes(cells, hints.na_of(name))
    if (is_float or pa.types.is_integer(cells.type)) and not hints.settled and _may_be_dates(cells):
        one = _text(as_text(cells), name, where, hints, False, comma, order, dates_only=True)
        if one is not None:
            return one
    return _without_codes(cells, hints.na_of(name)) if hints.na and _is_number(cells.type) else None


def _text(
    cells: Any, name: str, where: str, hints: Hints, is_file: bool, comma: bool | None, order: str | None,
    *, dates_only: bool = False,
) -> Understood | None:  # fmt: skip
    if not _is_text(cells.type, pa.types.is_integer):
        return None  # the run was fitted to text, but these cells are values already
    try:
        one = understood(cells, name, where, hints, comma=comma, order=order)
    except Unsettled:
        raise
    except InputError:
        if name in hints.usual:
            return _by_usual(cells, hints.usual[name])
        if name in {*hints.known, *hints.formats} or (is_file and name not in hints.loose):
            raise
        return understood(cells, name, where, dataclasses.replace(hints, words=frozenset([name]))) if is_file else None
    is_words = isinstance(one.form, Words)
    if is_words and name in hints.usual:
        return _by_usual(cells, hints.usual[name])
    wanted = isinstance(one.form, Times) if dates_only else not (is_words or pa.types.is_null(one.values.type))
    return one if is_file or wanted else None


def _is_text(type: Any, *others: Callable[[Any], bool]) -> bool:
    return any(test(type) for test in (pa.types.is_string, pa.types.is_large_string, *others))


def _is_number(type: Any) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _by_usual(cells: Any, form: Form) -> Understood:
    values, bad = form.read(cells)
    return Understood(values, form, unread=bad)


def _may_be_dates(cells: Any) -> bool:
    """Whether whole numbers may be dates such as 20211231, judged by the smallest and the largest."""
    ends = pc.min_max(cells).as_py()
    low, high = ends["min"] or 0, ends["max"] or 0
    return any(1900 * scale < low <= high < 2101 * scale for scale in (100, 10**4, 10**8, 10**10))


def _without_codes(cells: Any, na: tuple[str, ...]) -> Understood | None:
    """Numbers or words, with null for the values that mean missing; None if no cell has such a value."""
    values = without_codes(cells, na)
    return None if values.null_count == cells.null_count else Understood(values, Words(str(cells.type)))


def without_marks(table: Any, na: tuple[str, ...] | None) -> Any:
    """An arrow table with null for the cells that mean missing according to the user (``na``)."""
    hints = Hints(na=na)
    for j, name in enumerate(table.column_names if na else ()):
        type = table.column(name).type
        if pa.types.is_string(type) or _is_number(type):
            table = table.set_column(j, name, without_codes(table.column(name), hints.na_of(name)))
    return table


def _order(form: Form) -> str | None:
    match = _ORDER.search(form.pattern) if isinstance(form, Times) else None
    if match is None or match[1] == match[3]:
        return None
    return "day-first" if match[1] == "d" else "month-first"


def _assembled(table: Any, found: dict[str, Understood], hints: Hints, is_file: bool) -> Read:
    columns, forms, text = {}, {}, {}
    for name in table.column_names:
        cells = table.column(name)
        one = found.get(name)
        if name == "":
            text[name] = cells
        elif one is None:
            columns[name] = cells
        else:
            columns[name] = one.values
            if str(cells.type) == one.form.means and isinstance(one.form, Words) and not is_file:
                continue  # numbers, with null for codes
            stored = str(cells.type) if _is_number(cells.type) else "string"
            forms[name] = one.form if is_file else dataclasses.replace(one.form, stored=stored)
            text[name] = cells
    unread = {name: one.unread for name, one in found.items() if one.unread is not None}
    fields = [table.schema.field(name).with_type(cells.type) for name, cells in columns.items()]
    values = pa.table(list(columns.values()), schema=pa.schema(fields, metadata=table.schema.metadata))
    return Read(values, forms, pa.table(text) if text else None, _notes(found, hints), unread)


def _notes(found: dict[str, Understood], hints: Hints) -> tuple[str, ...]:
    """The remarks on all columns, one sentence per kind of remark."""
    gathered: dict[tuple[str, str], list[tuple[str, int]]] = {}
    notes = []
    for name, one in found.items():
        for what, text, count in one.remarks:
            if what == "thousands":
                notes.append(
                    f"column {shown(name)}: the comma of {shown(text)} was read as a separator of thousands; pass "
                    f"--format {name}=1234,5 if decimals follow it"
                )
            elif what == "twins":
                notes.append(
                    f"column {shown(name)}: {shown(text.rstrip('0'))} and {shown(text)} were read as one number; pass "
                    f"--format {name}=text if they are names"
                )
            elif what == "bare":
                mark = (one.form.prefix + one.form.suffix).strip() if isinstance(one.form, Numbers) else ""
                notes.append(f"column {shown(name)}: numbers such as {shown(text)} were read as if they had {mark}")
            elif what == "order":
                order = _order(one.form)
                notes.append(
                    f"column {shown(name)}: dates such as {shown(text)} were read {order}, because each is then the "
                    f"first of a month; pass --format {name}=FORM for another form"
                )
            elif what == "missing" or hints.na is None:
                gathered.setdefault((what, text), []).append((name, count))
    for (what, text), places in gathered.items():
        names = ", ".join(shown(name) for name, _ in places[:5]) + (f" and {len(places) - 5} more" * (len(places) > 5))
        count = sum(count for _, count in places)
        way = ' (--na "" keeps them as words)' if what == "word" else ""
        cells = f"{count:,} cell{'s' * (count > 1)} {shown(text)}"
        verb = "was" if count == 1 else "were"
        notes.append(f"column{'s' * (len(places) > 1)} {names}: {cells} {verb} read as missing{way}")
    return tuple(notes)
