"""How text is written: numbers, truth values, words, dates, times of day and time spans.

A form translates between text and values: ``$1,234.50``, ``12%``, ``30.04.2022``, ``2:30 PM``, ``True``. It is found
once (:mod:`latens.data.tables.forms`) and stored in the schema; all text that latens writes goes through it. A form of
dates is a single strptime-style pattern, used for both reading and writing."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from latens.errors import InputError, damaged
from latens.schema.arrow import arrow_type, pa, pc

WORDS = ("", "NA", "NaN", "nan", "null", "NULL", "<NA>")  # gaps in a column of words, in which "none" may be a value
BLANKS = frozenset(["", "na", "n/a", "nan", "-nan", "nat", "null", "(null)", "none", "<na>", "#n/a", "#na", "\\n", "?"])
MARKS = frozenset(  # gaps in other columns, in addition to BLANKS; a note mentions them
    ["-", "--", "---", "–", "—", ".", "..", "...", "…", "*", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!",
     "??", "n.a.", "0000-00-00", "0000-00-00 00:00:00"]
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How values are written as text; abstract.

    Args:
        means: the name of the arrow type of the values.
        gaps: the texts that stand for a missing cell, the most frequent first; the first is used in writing.
        stored: the arrow type in which cells that did not come from a text file are returned ("string", or "int64" for
            20211231); "" if they are returned as values of the type ``means``.
    """

    means: str
    gaps: tuple[str, ...] = ()
    stored: str = ""

    kind: ClassVar[str] = ""

    def read(self, cells: Any) -> tuple[Any, Any]:
        """Read cells: (values ``[N]`` of type ``means``, null if missing or unreadable; mask of unreadable cells)."""
        cells = as_text(cells)
        if len(cells) == 0:
            return pa.chunked_array([], arrow_type(self.means)), pa.array([], pa.bool_())
        distinct = cells.dictionary_encode().unify_dictionaries().combine_chunks()
        distinct = distinct if isinstance(distinct, pa.DictionaryArray) else distinct.chunk(0)
        texts = pc.utf8_trim_whitespace(distinct.dictionary)
        gone = self._gone(texts)
        values = self._values(pc.if_else(gone, None, texts))
        bad = pc.and_(pc.invert(gone), values.is_null())
        unreadable = pc.fill_null(bad.take(distinct.indices), False)
        return pa.chunked_array([values.take(distinct.indices)]), unreadable

    def _gone(self, texts: Any) -> Any:
        known = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(BLANKS | MARKS)))
        return pc.or_(known, pc.is_in(texts, pa.array(self.gaps, pa.string())))

    def write(self, values: Any) -> Any:
        """Write values as texts ``[N]``; null becomes the first of ``gaps``, or stays null if there is none."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # there are no chunks
            values = pa.array([], values.type)
        distinct = values.cast(arrow_type(self.means), safe=False).dictionary_encode()
        texts = self._texts(distinct.dictionary).take(distinct.indices)
        return texts if not self.gap else pc.fill_null(texts, self.gap)

    def back(self, values: Any) -> Any:
        """Convert values to the type in which the cells were stored."""
        if not self.stored:
            return values
        texts = dataclasses.replace(self, gaps=()).write(values)
        is_text = self.stored.endswith("string")
        return (texts if is_text else texts.cast(pa.int64())).cast(arrow_type(self.stored), safe=False)

    @property
    def gap(self) -> str:
        """The text written for a missing cell; "" if there is none."""
        return self.gaps[0] if self.gaps else ""

    def _values(self, texts: Any) -> Any:
        raise NotImplementedError

    def _texts(self, values: Any) -> Any:
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write, with the class of the form under "form"."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"form": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @staticmethod
    def from_json(fields: Any) -> Form:
        """The form, of any class, that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
        kinds: dict[str, type[Form]] = {each.kind: each for each in Form.__subclasses__()}
        try:
            own = dict(fields)
            kind = kinds[own.pop("form")]
            values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in own.items()}
            form = kind(**values)
            arrow_type(form.means)
            if form.stored:
                arrow_type(form.stored)
            form.check()
        except (TypeError, ValueError, KeyError, AttributeError, re.error, InputError):
            raise damaged("has a form of text that is not valid") from None
        return form

    def check(self) -> None:
        """Raise ``ValueError`` or ``InputError`` if the fields contradict each other."""
        if not all(isinstance(gap, str) for gap in self.gaps):
            raise ValueError("gaps")

    def describe(self, value: float | None = None) -> str:
        """The form in a few words, or as an example; for a column of numbers, the example is ``value``."""
        raise NotImplementedError


def as_text(cells: Any) -> Any:
    """Cells as a chunked array of text; whole floats have no decimal point, and NaN becomes null."""
    if not isinstance(cells, pa.ChunkedArray):
        cells = pa.chunked_array([cells])
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), None, cells)
        whole = pc.and_(pc.equal(cells, pc.floor(cells)), pc.less(pc.abs(cells), 2.0**53))
        texts = pc.if_else(whole, cells, None).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, texts, cells.cast(pa.string()))
    return cells if cells.type == pa.string() else cells.cast(pa.string())


@dataclass(frozen=True)
class Words(Form):
    """Cells that are words: spaces around them are dropped, and each text in ``gaps`` is read as missing.

    >>> Words("string", gaps=("NA",)).read(["u", " v ", "NA"])[0].to_pylist()
    ['u', 'v', None]
    """

    kind: ClassVar[str] = "words"

    def read(self, cells: Any) -> tuple[Any, Any]:
        """(the words ``[N]``, null if missing; an empty mask, as every word can be read)."""
        cells = as_text(cells if hasattr(cells, "type") else pa.array(cells))
        stripped = pc.utf8_trim_whitespace(cells)
        values = pc.if_else(pc.is_in(stripped, pa.array(self.gaps, pa.string())), None, stripped)
        return values, pa.array([False] * 0, pa.bool_())

    def write(self, values: Any) -> Any:
        """The words ``[N]``; null becomes the first of ``gaps``, or stays null if there is none."""
        texts = as_text(values)
        return texts if not self.gap else pc.fill_null(texts, self.gap)

    def describe(self, value: float | None = None) -> str:
        """Always "text"."""
        return "text"


@dataclass(frozen=True)
class Truth(Form):
    """Truth values, written as two words.

    Args:
        words: the word for false and the word for true.

    >>> Truth("bool", words=("False", "True")).write(__import__("pyarrow").array([True, None])).to_pylist()
    ['True', None]
    """

    words: tuple[str, ...] = ("false", "true")

    kind: ClassVar[str] = "truth"

    def _values(self, texts: Any) -> Any:
        lower = pc.utf8_lower(texts)
        known = pc.is_in(lower, pa.array([word.lower() for word in (*self.words, "true", "false", "1", "0")]))
        true = pc.is_in(lower, pa.array([self.words[1].lower(), "true", "1"]))
        return pc.if_else(known, true, None)

    def _texts(self, values: Any) -> Any:
        return pc.if_else(values, self.words[1], self.words[0])

    def check(self) -> None:
        """Raise ``ValueError`` unless there are two words."""
        super().check()
        if len(self.words) != 2 or not all(isinstance(word, str) for word in self.words):
            raise ValueError("words")

    def describe(self, value: float | None = None) -> str:
        """The two words, as in "True/False"."""
        return "/".join(reversed(self.words))


_PLAIN = r"[0-9]+(?:P[0-9]*)?(?:[eE][+-]?[0-9]+)?|P[0-9]+(?:[eE][+-]?[0-9]+)?"
_GROUPED = r"[0-9]{1,3}(?:G[0-9]{2,3})*G[0-9]{3}(?:P[0-9]*)?"


@dataclass(frozen=True)
class Numbers(Form):
    """Numbers, plain or with currency, separators and units: ``-$1,234.50``, ``12 %``, ``(3.5)``, ``1.234,5 kg``.

    Args:
        prefix, suffix: the text before and after the digits of every cell, spaces included.
        group: the separator of thousands, or "".
        lakh: whether digits before the last three are in groups of two (12,34,567).
        point: the decimal mark.
        places: the number of decimals of every number; None if each number has as few as it needs.
        bare: if ``places`` is None, whether whole numbers are written without a decimal mark.
        most: if ``places`` is None, the largest number of decimals, up to 15; None for no limit.
        inside: whether a minus follows the prefix.
        brackets: whether a number in brackets is negative.
        whole: the fewest digits before the decimal mark: more than 1 for leading zeros (007.50), 0 for .5.
        minus: the sign of negative numbers.
        plus: whether positive numbers have a sign too.
        zero: whether 0 has the sign of positive numbers.
        power: the form of the power of ten after ``places`` decimals, "e+00" or "E0"; "" if there is none.
        units, factors: texts after the digits, instead of a single suffix, and the factor of each (1000 for K, -1 for
            the S of a latitude). A number is written in the largest unit of its sign that does not exceed the number.

    >>> price = Numbers("double", prefix="$", group=",", places=2)
    >>> price.read(["$1,234.50", "$7.00", "-$1.25", ""])[0].to_pylist()
    [1234.5, 7.0, -1.25, None]
    >>> price.write(price.read(["$1,234.50", "-$1.25"])[0]).to_pylist()
    ['$1,234.50', '-$1.25']
    """

    prefix: str = ""
    suffix: str = ""
    group: str = ""
    lakh: bool = False
    point: str = "."
    places: int | None = None
    bare: bool = False
    most: int | None = None
    inside: bool = False
    brackets: bool = False
    whole: int = 1
    minus: str = "-"
    plus: bool = False
    zero: bool = False
    power: str = ""
    units: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()

    kind: ClassVar[str] = "numbers"

    @property
    def is_plain(self) -> bool:
        """Whether arrow can read the cells as numbers."""
        return not (self.prefix or self.suffix or self.group or self.brackets or self.units) and self.point == "."

    def read(self, cells: Any) -> tuple[Any, Any]:
        """(numbers ``[N]``, null if missing or unreadable; mask of the unreadable, empty if there are none)."""
        if self.is_plain:
            with_type = arrow_type(self.means)
            try:
                text = as_text(cells if hasattr(cells, "type") else pa.array(cells))
                values = text.cast(with_type)
                if not pa.types.is_floating(with_type) or pc.all(pc.is_finite(values)).as_py():
                    return values, pa.array([], pa.bool_())
            except pa.ArrowInvalid:
                pass
        return super().read(cells if hasattr(cells, "type") else pa.array(cells))

    def write(self, values: Any) -> Any:
        """Write values as texts ``[N]``. Means of whole numbers may be fractions; they are written with a decimal
        point."""
        if self.means == "int64" and pa.types.is_floating(values.type):
            fractions = pc.not_equal(values, pc.floor(values))
            if pc.any(fractions).as_py():
                return dataclasses.replace(self, means="double", places=self.places or None).write(values)
        return super().write(values)

    def _values(self, texts: Any) -> Any:
        bare = self.digits(texts)
        if (
            arrow_type(self.means) == pa.int64()
            and pc.all(pc.match_substring_regex(bare, r"^-?[0-9]{1,18}$"), min_count=0).as_py()
        ):
            return bare.cast(pa.int64())
        numbers = bare.cast(pa.float64())
        finite = pc.is_finite(numbers)
        if arrow_type(self.means) != pa.int64():
            return pc.if_else(finite, numbers, None)
        whole = pc.and_(finite, pc.equal(numbers, pc.floor(numbers)))
        return _whole(bare) if pc.all(whole, min_count=0).as_py() else pc.if_else(finite, numbers, None)

    def digits(self, texts: Any) -> Any:
        """The texts in a form that arrow reads as numbers; null if a text is not a number."""
        before = re.escape(self.prefix.strip())
        behind = "|".join(re.escape(text.strip()) for text in sorted(self.units or (self.suffix,), key=len)[::-1])
        parts = {"G": re.escape(self.group), "P": re.escape(self.point)}
        body = re.sub("[GP]", lambda m: parts[m[0]], _PLAIN + ("|" + _GROUPED if self.group else ""))
        whole = rf"^(?P<a>[+−-]?) ?(?:{before})?\s*(?P<b>[+−-]?) ?(?P<body>{body})\s*(?P<unit>(?:{behind})?)$"
        if self.brackets:
            inner = pc.match_substring_regex(texts, r"^\(.*\)$")
            texts = pc.if_else(inner, pc.replace_substring_regex(texts, r"^\((.*)\)$", r"-\1"), texts)
        found = pc.extract_regex(texts, whole)
        if pa.types.is_null(found.type):
            return pa.nulls(len(texts), pa.string())
        sign, inner, body = (pc.struct_field(found, name) for name in ("a", "b", "body"))
        if self.group:
            body = pc.replace_substring(body, self.group, "")
        if self.point != ".":
            body = pc.replace_substring(body, self.point, ".")
        minus = pc.or_(pc.is_in(sign, pa.array(["-", "−"])), pc.is_in(inner, pa.array(["-", "−"])))
        for text, factor in zip(self.units, self.factors):
            mine = pc.equal(pc.struct_field(found, "unit"), text.strip())
            minus = pc.xor(minus, mine) if factor < 0 else minus
            power = f"e{round(math.log10(abs(factor)))}".removesuffix("e0")
            body = pc.if_else(mine, pc.binary_join_element_wise(body, power, ""), body)
        return pc.binary_join_element_wise(pc.if_else(minus, "-", ""), body, "")

    def _texts(self, values: Any) -> Any:
        return pa.array([None if v is None else self._text(v) for v in values.to_pylist()], pa.string())

    def _text(self, value: float) -> str:
        if self.units:
            unit, factor = self._unit(value)
            alone = dataclasses.replace(self, units=(), factors=(), suffix=unit)
            return alone._text(value * int(factor) if abs(factor) == 1 else value / factor)
        digits = self._digits(abs(value))
        if self.lakh:
            whole, mark, rest = digits.replace(",", "").partition(".")
            digits = re.sub("(?<=[0-9])(?=(?:[0-9]{2})*[0-9]{3}$)", ",", whole) + mark + rest
        digits = digits.replace(".", "\0").replace(",", self.group).replace("\0", self.point)
        negative = value < 0 and bool(digits.strip("0" + self.point + self.group))
        if negative and self.brackets:
            return f"({self.prefix}{digits}{self.suffix})"
        sign = self.minus if negative else "+" * (self.plus and (self.zero or value > 0))
        return (self.prefix + sign if self.inside else sign + self.prefix) + digits + self.suffix

    def _digits(self, size: float) -> str:
        """The digits of a non-negative number, with "," between thousands and "." before decimals."""
        if self.power:
            digits, exponent = f"{size:.{self.places or 0}e}".split("e")
            sign = "-" if exponent[0] == "-" else self.power[1:].rstrip("0")
            return digits + self.power[0] + sign + exponent[1:].lstrip("0").rjust(self.power.count("0"), "0")
        if self.places is not None or isinstance(size, int):
            digits = f"{size:,d}" if isinstance(size, int) and not self.places else f"{size:,.{self.places or 0}f}"
            return self._padded(digits)
        size = size if self.most is None else round(size, self.most)
        digits = f"{size:,.0f}" if size == int(size) and size < 1e15 else repr(size)
        return self._padded(digits + ("" if self.bare or "e" in digits or "." in digits else ".0"))

    def _padded(self, digits: str) -> str:
        """The digits, padded with zeros to the fewest digits before the point."""
        if self.whole == 1 or "e" in digits:
            return digits
        first, point, rest = digits.partition(".")
        first = first.rjust(self.whole, "0") if self.whole else first.removeprefix("0") if rest else first
        return first + point + rest

    def _unit(self, value: float) -> tuple[str, float]:
        """The unit in which a number is written, and its factor."""
        units = list(zip(self.units, self.factors))
        units = [unit for unit in units if unit[1] * value > 0] or [unit for unit in units if unit[1] > 0]
        smaller = [unit for unit in units if abs(unit[1]) <= abs(value)]
        size = max(abs(factor) for _, factor in smaller) if smaller else min(abs(factor) for _, factor in units)
        return next(unit for unit in units if abs(unit[1]) == size)

    def check(self) -> None:
        """Raise ``ValueError`` if there are not as many factors as units, or marks or places are not valid."""
        super().check()
        if len(self.units) != len(self.factors) or (self.units and max(self.factors) <= 0):
            raise ValueError("units")
        if not re.fullmatch("([eE][+]?0+)?", self.power):
            raise ValueError("power")
        texts = (self.prefix, self.suffix, self.group, self.point, self.minus)
        if not all(isinstance(text, str) for text in texts) or not self.point or self.group == self.point:
            raise ValueError("clothes")
        for places in (self.places, self.most, self.whole):
            if places is not None and not (isinstance(places, int) and 0 <= places <= 20):
                raise ValueError("places")

    def describe(self, value: float | None = None) -> str:
        """An example, ``value`` or 1234.5 as it is written; the name of the type if numbers are written plainly."""
        if value is None and self.is_plain and self.places is None:
            return self.means
        example = value if value is not None else 1234.5 if self.means == "double" else 1234
        return self._text(int(example) if self.means == "int64" else float(example))


def _whole(digits: Any) -> Any:
    """Texts of whole numbers as int64, or as double if int64 cannot hold them."""
    try:
        return digits.cast(pa.int64())
    except pa.ArrowInvalid:
        return digits.cast(pa.float64())


MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(r"%([-^#:]?)([A-Za-z%])")
_US = 1_000_000
_DAY = 86_400 * _US
ISO = ("ISO", "ISO hours")
_ISO_SPAN = (
    r"(?P<s>-?)P(?:(?P<j>[0-9]+)D)?(?:T(?:(?P<H>[0-9]+)H)?(?:(?P<M>[0-9]+)M)?"
    r"(?:(?P<S>[0-9]+)(?:[.](?P<f>[0-9]{1,9}))?S)?)?"
)
_ISO_PARTS = re.compile(r"P(?=.)(%jD)?(T(?=.)(%-?HH)?(%-?MM)?(%-?S([.]%[-#]?f)?S)?)?")
_ISO_TIME = re.compile(r"%Y-%m-%d[T ]%H:%M(:%S([.,]%[-#]?f)?)?( ?(%:?z|Z))?")
_FRACTION = re.compile("[.,]%[-#]f")
_ISO_READ = (
    "^(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})(?:[T ](?P<H>[0-9]{2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})"
    "(?:[.,](?P<f>[0-9]{1,9}))?)?)? ?(?P<z>[zZ]|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)


def _names(names: Iterable[str], length: int | None = None) -> str:
    return "(?i:" + "|".join(sorted({name[:length] for name in names}, key=len, reverse=True)) + ")"


_READ = {
    "Y": "[0-9]{4}", "y": "[0-9]{2}", "m": "[0-9]{1,2}", "d": "[0-9]{1,2}", "H": "[0-9]{1,2}", "I": "[0-9]{1,2}",
    "M": "[0-9]{1,2}", "S": "[0-9]{1,2}", "f": "[0-9]{1,9}", "b": "(?i:Sept)|" + _names(MONTHS, 3), "B": _names(MONTHS),
    "a": _names(DAYS, 3), "A": _names(DAYS), "p": "(?i:[ap][.]?m[.]?)", "z": "(?i:z)|[+-][0-9]{2}:?(?:[0-9]{2})?",
    "j": "[0-9]+", "o": "(?i:st|nd|rd|th)", "q": "[1-4]", "G": "[0-9]{4}", "V": "[0-9]{1,2}",
}  # fmt: skip


def is_iso_span(pattern: str) -> bool:
    """Whether a pattern is one of those for ISO 8601 time spans; each of them reads all such spans."""
    return pattern in ISO or bool(_ISO_PARTS.fullmatch(pattern))


def _longest(pattern: str) -> str:
    """The directive of the largest unit in a time span, which may exceed 59: hours, minutes or seconds."""
    return next((name for name in "HM" if re.search(f"%-?{name}", pattern)), "S")


def _width(pattern: str, token: re.Match[str], name: str, span: bool) -> str:
    """The expression that the directive matches: exactly two digits if it touches another directive."""
    if span and name == _longest(pattern):
        return "[0-9]+"
    before, behind = pattern[: token.start()], pattern[token.end() :]
    tight = (not token[1] and behind.startswith("%")) or before.endswith(("%Y", "%y", "%m", "%d", "%H", "%M"))
    return "[0-9]{2}" if tight and name in "mdHMS" else _READ[name]


@lru_cache(maxsize=512)
def expression(pattern: str, span: bool = False) -> str:
    """The regular expression of a pattern, with a named group for each directive; ``span``: whether it is a time span.

    Raises:
        InputError: an unknown directive, or one that occurs twice.

    >>> expression("%d.%m.%Y")
    '^(?P<d>[0-9]{1,2})[.](?P<m>[0-9]{1,2})[.](?P<Y>[0-9]{4})$'
    """
    if is_iso_span(pattern):
        return f"^{_ISO_SPAN}$"
    if _ISO_TIME.fullmatch(pattern):
        return _ISO_READ
    out, at, seen = ["^(?P<s>-?)" if span else "^"], 0, set()
    for token in _TOKEN.finditer(pattern):
        out.append(re.sub(r"([^\w ,:/'-])", r"[\1]", pattern[at : token.start()]))
        name = token[2]
        if name == "%":
            out.append("%")
        elif name not in _READ and name != "P":
            raise InputError(f"the format {pattern!r} has %{name}", f"use only %{', %'.join([*_READ, 'P'])}")
        else:
            name = "p" if name == "P" else name
            if name in seen:
                raise InputError(f"the format {pattern!r} has %{name} twice", "name each part of a date once")
            seen.add(name)
            wide = _width(pattern, token, name, span)
            if name == "f" and out[-1].endswith("[.]"):  # for whole seconds, the fraction is often not written
                out[-1] = out[-1].removesuffix("[.]")
                out.append(f"(?:[.,](?P<f>{wide}))?")
            else:
                out.append(f"(?P<{name}>{wide})")
        at = token.end()
    out.append(re.sub(r"([^\w ,:/'-])", r"[\1]", pattern[at:]))
    return "".join(out).replace(" days", " days?" if span else " days") + "$"


def those_that_read(text: str, patterns: Sequence[str]) -> list[str]:
    """Those of the patterns for dates and times that can read the text."""
    return [pattern for pattern in patterns if re.fullmatch(expression(pattern), text)]


@dataclass(frozen=True)
class Times(Form):
    """Dates, times of day or time spans.

    Args:
        pattern: the directives of strptime, ``%Y %y %m %d %H %I %M %S %f %p %b %B %a %A %z``, ``%G`` and ``%V`` (year
            and week of ISO 8601, which stand for the Monday), and these additional ones: ``%-d`` has no leading zero,
            ``%o`` is the st of 1st, ``%-f`` is omitted if it is 0, ``%#f`` has no trailing zeros, ``%^b`` is in
            capitals, ``%P`` is am or pm, ``%:z`` is +01:00, ``%q`` is the quarter of a year, ``%j`` is the days of a
            time span. "ISO" stands for ISO 8601 time spans that omit parts equal to 0 (P1DT2H30M), "ISO hours" for
            spans without days (PT26H30M).
        digits: the number of digits of a fraction of a second.
        zone: the IANA name of the zone of times that state none; "" for no zone. "+02:00" is the offset with which new
            ``%z`` cells are written.
        short: whether midnights are written as dates alone (2024-02-29 among cells such as 2024-03-01 09:30).

    >>> when = Times("date32[day]", pattern="%d.%m.%Y")
    >>> when.read(__import__("pyarrow").array(["29.02.2024", "30.02.2024"]))[0].to_pylist()
    [datetime.date(2024, 2, 29), None]
    """

    pattern: str = "%Y-%m-%d"
    digits: int = 6
    zone: str = ""
    short: bool = False

    kind: ClassVar[str] = "times"

    @property
    def is_span(self) -> bool:
        """Whether values are time spans."""
        return self.means.startswith("duration")

    def check(self) -> None:
        """Raise ``ValueError`` or ``InputError`` if the pattern, the digits or the zone is not valid."""
        super().check()
        if not isinstance(self.pattern, str) or not isinstance(self.digits, int) or not isinstance(self.zone, str):
            raise ValueError("pattern")
        expression(self.pattern, self.is_span)
        if self.zone:
            zone_of(self.zone)

    # Text to values

    def _values(self, texts: Any) -> Any:
        found = pc.extract_regex(texts, expression(self.pattern, self.is_span))
        there = {f.name: pc.struct_field(found, f.name) for f in found.type} if len(found) else {}
        matched = found.is_valid().to_numpy(zero_copy_only=False)

        def number(name: str, otherwise: int = 0) -> np.ndarray:
            if name not in there:
                return np.full(len(texts), otherwise, np.int64)
            cells = pc.if_else(pc.equal(there[name], ""), None, there[name])
            return pc.fill_null(cells.cast(pa.int64()), otherwise).to_numpy(zero_copy_only=False)

        clock, valid = self._clock(there, number)
        if self.is_span:
            micro = clock + number("j") * _DAY
            minus = pc.fill_null(pc.equal(there["s"], "-"), False).to_numpy(zero_copy_only=False) if "s" in there else 0
            return self._typed(np.where(minus, -micro, micro), matched & valid)
        if self.means.startswith("time64"):
            return self._typed(clock, matched & valid & (clock < _DAY))
        days, real = _days(number, there)
        nano = self._nano(there) if "[ns" in self.means else None
        micro = days * _DAY + clock
        micro = micro - self._offset(there, number, micro)
        return self._typed(micro, matched & valid & real, nano)

    def _clock(self, there: dict[str, Any], number: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds since midnight ``[N]``, and the mask of the times that exist on a clock."""
        hour, minute, second = number("H"), number("M"), number("S")
        free = is_iso_span(self.pattern)
        valid = ((minute < 60) | free | (self.is_span and "H" not in there)) & ((second < 61) | free)
        valid &= (hour < 25) | self.is_span
        if "I" in there:
            hour = number("I", 12)
            late = pc.fill_null(pc.starts_with(pc.utf8_lower(there["p"]), "p"), False) if "p" in there else False
            valid &= (hour >= 1) & (hour <= 12)
            hour = hour % 12 + 12 * np.asarray(late)
        clock = ((hour * 60 + minute) * 60 + second) * _US
        if "f" in there:
            clock = clock + _fraction(there["f"], 6)
        return clock, valid & ((clock <= _DAY) | self.is_span)

    def _nano(self, there: dict[str, Any]) -> np.ndarray | None:
        return _fraction(there["f"], 9) % 1000 if "f" in there else None

    def _offset(self, there: dict[str, Any], number: Callable[..., np.ndarray], micro: np.ndarray) -> np.ndarray:
        """Microseconds ``[N]`` by which the clock of each cell is ahead of UTC."""
        if "z" in there:
            texts = [text or "Z" for text in there["z"].to_pylist()]
            known = {text: offset_of(text) for text in set(texts)}
            return np.array([known[text] for text in texts], np.int64) * 60 * _US
        if not self.zone or self.zone in ("UTC", "Etc/UTC"):
            return np.zeros_like(micro)
        zone = zone_of(self.zone)
        start = datetime.datetime(1970, 1, 1)
        found = []
        for value in micro.tolist():
            try:
                away = zone.utcoffset(start + datetime.timedelta(microseconds=value))
            except OverflowError:
                away = None
            found.append(0 if away is None else int(away.total_seconds()))
        return np.array(found, np.int64) * _US

    def _typed(self, micro: np.ndarray, valid: np.ndarray, nano: np.ndarray | None = None) -> Any:
        wanted = arrow_type(self.means)
        if pa.types.is_date32(wanted):
            return pa.array((micro // _DAY).astype(np.int32), pa.int32(), mask=~valid).cast(wanted)
        if "[ns" in self.means:
            whole = micro * 1000 + (0 if nano is None else nano)
            return pa.array(whole, pa.int64(), mask=~valid).cast(wanted)
        tz = getattr(wanted, "tz", None)
        base = pa.duration("us") if self.is_span else pa.timestamp("us", tz)
        base = pa.time64("us") if pa.types.is_time(wanted) else base
        return pa.array(micro, pa.int64(), mask=~valid).cast(base).cast(wanted, safe=False)

    # Values to text

    def _texts(self, values: Any) -> Any:
        wanted = arrow_type(self.means)
        if pa.types.is_date32(wanted):
            units = values.cast(pa.int32()).cast(pa.int64())
            scale = _DAY * 1000
        else:
            units, scale = values.cast(pa.int64()), {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[str(wanted.unit)]
        return pa.array([None if v is None else self._text(v * scale) for v in units.to_pylist()], pa.string())

    def _text(self, nano: int) -> str:
        if self.is_span and self.pattern in ISO:
            return _iso_span(nano, days=self.pattern == ISO[0])
        sign = "-" if self.is_span and nano < 0 else ""
        nano = abs(nano) if self.is_span else nano
        unit = 10**9 if re.search("%-?S", self.pattern) else 1
        if re.search("%[-#]?f", self.pattern):
            unit = 10 ** max(0, 9 - self.digits)
        nano = nano // unit * unit
        ahead = self._ahead(nano)
        parts = _parts(nano + ahead * 60 * 10**9, self.is_span)
        if self.is_span and "%j" not in self.pattern:
            parts["H"] += 24 * parts["j"]
            parts["M"] += 60 * parts["H"] * (_longest(self.pattern) != "H")
            parts["S"] += 60 * parts["M"] * (_longest(self.pattern) == "S")
        pattern = self.pattern if parts["f"] else _FRACTION.sub("", self.pattern)
        if self.short and not any(parts[name] for name in "HMSf"):
            pattern = re.split("[T ]%H", pattern)[0]
        return sign + _TOKEN.sub(lambda token: self._word(token[1], token[2], parts, ahead), pattern)

    def _ahead(self, nano: int) -> int:
        """Minutes by which the clock of new cells is ahead of UTC at this moment."""
        if not self.zone or self.zone in ("UTC", "Etc/UTC"):
            return 0
        try:
            moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=nano // 1000)
            away = moment.astimezone(zone_of(self.zone)).utcoffset()
        except OverflowError:
            return 0
        return 0 if away is None else int(away.total_seconds() // 60)

    def _word(self, flag: str, name: str, parts: dict[str, int], ahead: int) -> str:
        if name in _WRITTEN:
            word = _WRITTEN[name](parts)
            return {"^": word.upper(), "#": word.lower()}.get(flag, word) if name in "BbAa" else word
        if name == "z":
            return f"{'+-'[ahead < 0]}{abs(ahead) // 60:02d}{':' * (flag == ':')}{abs(ahead) % 60:02d}"
        if name == "f":
            digits = f"{parts['f']:09d}"[: self.digits]
            return digits.rstrip("0") if flag == "#" else digits
        value = {"I": (parts["H"] - 1) % 12 + 1, "y": parts.get("Y", 0) % 100, **parts}[name]
        width = 1 if flag == "-" or name in "jq" else 4 if name in "YG" else 2
        return f"{value:0{width}d}"

    def describe(self, value: float | None = None) -> str:
        """The pattern with its digits and zone, for example "%d.%m.%Y"."""
        if self.pattern in ISO:
            return "PT1H30M"
        return re.sub("%[-#]?f", f"%{self.digits}f", self.pattern) + (f" ({self.zone})" if "/" in self.zone else "")


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


_WRITTEN: dict[str, Callable[[dict[str, int]], str]] = {  # how to write directives that are more than plain digits
    "B": lambda parts: MONTHS[parts["m"] - 1], "b": lambda parts: MONTHS[parts["m"] - 1][:3],
    "A": lambda parts: DAYS[parts["w"]], "a": lambda parts: DAYS[parts["w"]][:3],
    "p": lambda parts: "AM" if parts["H"] % 24 < 12 else "PM",
    "P": lambda parts: "am" if parts["H"] % 24 < 12 else "pm",
    "o": lambda parts: _ordinal(parts["d"]), "%": lambda parts: "%",
}  # fmt: skip


def zone_of(name: str) -> datetime.tzinfo:
    """The time zone with that IANA name, or of an offset such as +01:00; ``InputError`` if there is none."""
    if re.fullmatch(r"[+-]\d\d:\d\d", name):
        return datetime.timezone(datetime.timedelta(minutes=offset_of(name)))
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"there is no time zone {name!r}: name one of the IANA database, such as Europe/Berlin"
        ) from None


def offset_of(text: str) -> int:
    """Minutes by which an offset, Z, +01, +0100 or +01:00, is ahead of UTC.

    >>> offset_of("+01:30"), offset_of("-0500"), offset_of("Z")
    (90, -300, 0)
    """
    if text in ("Z", "z", ""):
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    return (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)


def _fraction(cells: Any, digits: int) -> np.ndarray:
    """Fractions of a second as whole numbers of ``digits`` digits, ``[N]``."""
    texts = [(text or "0").ljust(digits, "0")[:digits] for text in cells.to_pylist()]
    return np.array([int(text) for text in texts], np.int64)


def _days(number: Callable[..., np.ndarray], there: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970-01-01 ``[N]``, and the mask of the dates that exist."""
    if "V" in there:
        return _mondays(number("G", 1970), number("V"))
    year: np.ndarray = number("Y", 1970)
    if "y" in there:
        short = number("y")
        year = np.where(short < 69, 2000 + short, 1900 + short)  # the rule of POSIX
    month: np.ndarray = 3 * number("q") - 2 if "q" in there else number("m", 1)
    place = {word[:3].lower(): j + 1 for j, word in enumerate(MONTHS)}
    for name in {"b", "B"} & set(there):
        month = np.array([place.get((text or "").lower()[:3], 0) for text in there[name].to_pylist()], np.int64)
    day = number("d", 1)
    real = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1)
    months = ((year - 1970) * 12 + np.where(real, month, 1) - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    length = (months + 1).astype("datetime64[D]").astype(np.int64) - first
    return first + day - 1, real & (day <= length)


def _mondays(year: np.ndarray, week: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Mondays of ISO weeks in days since 1970-01-01 ``[N]``, and the mask of the weeks that exist."""
    starts = []
    for count in (0, 1):  # the first week of a year contains the 4th of January
        fourth = (year + count - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64) + 3
        starts.append(fourth - (fourth + 3) % 7)
    days = starts[0] + 7 * (week - 1)
    return days, (year >= 1) & (week >= 1) & (days < starts[1])


def _parts(nano: int, span: bool) -> dict[str, int]:
    """The numbers to write for the directives, by the directives' names."""
    days, rest = divmod(nano, 86_400 * 10**9)
    second, fraction = divmod(rest, 10**9)
    hour = second // 3600
    parts = {"M": second % 3600 // 60, "S": second % 60, "f": fraction, "j": days, "H": hour}
    if span:
        return parts
    ordinal = days + 719_163
    date = datetime.date.fromordinal(min(max(ordinal, 1), datetime.date.max.toordinal()))
    year, week, _ = date.isocalendar()
    quarter = (date.month + 2) // 3
    parts |= {"Y": date.year, "m": date.month, "d": date.day, "w": date.weekday()}
    return parts | {"q": quarter, "G": year, "V": week}


def _iso_span(nano: int, days: bool) -> str:
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    parts = _parts(nano, True)
    fraction = f".{parts['f']:09d}".rstrip("0") if parts["f"] else ""
    parts["H"] += 0 if days else 24 * parts["j"]
    date = f"{parts['j']}D" if parts["j"] and days else ""
    clock = "".join(f"{parts[name]}{name}" for name in "HM" if parts[name])
    clock += f"{parts['S']}{fraction}S" if parts["S"] or fraction or not (date or clock) else ""
    return f"{sign}P{date}{'T' + clock if clock else ''}"
