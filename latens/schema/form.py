"""How the cells of a column of text are written: one form reads them and writes new ones in the same way.

A form translates between text and values: ``$1,234.50``, ``12%``, ``30.04.2022``, ``2:30 PM``, ``True``. It is
found once (:mod:`latens.data.tables.cells`) and kept with the schema; every text that latens writes goes through it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.cells import arrow_type
from latens.schema.damaged import damaged

WORDS = ("", "NA", "NaN", "nan", "null", "NULL", "<NA>")  # gaps in a column of words, where "none" may be a value
BLANKS = frozenset(["", "na", "n/a", "nan", "-nan", "nat", "null", "(null)", "none", "<na>", "#n/a", "#na", "\\n", "?"])
MARKS = frozenset(  # gaps in other columns, like BLANKS, but a note says so
    ["-", "--", "---", "–", "—", ".", "..", "...", "…", "*", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!",
     "??", "n.a.", "0000-00-00", "0000-00-00 00:00:00"]
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How values are written as text; abstract.

    Args:
        means: the name of the arrow type of the values.
        gaps: the texts that stand for a missing cell, the most frequent first; the first is the one written.
        stored: the arrow type in which cells come back if they were not from a text file ("string", or "int64" for
            20211231); "" if they come back as the values that they mean.
    """

    means: str
    gaps: tuple[str, ...] = ()
    stored: str = ""

    kind: ClassVar[str] = ""

    def read(self, cells: Any) -> tuple[Any, Any]:
        """Read cells: (values ``[N]`` of the type ``means``, null if missing or unreadable; mask of the unreadable)."""
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
        if isinstance(values, pa.ChunkedArray):  # no chunk at all
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
        """The text written for a missing cell, "" if there is none."""
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
        """The form of any class that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
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
        """The form in a few words, or as an example: for a column of numbers, ``value`` as it is written."""
        raise NotImplementedError


def as_text(cells: Any) -> Any:
    """Cells as a chunked array of text: whole floats without a decimal point, NaN as null."""
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
    """Cells that are words: spaces around them are dropped, and each of ``gaps`` is read as missing.

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
        """The word "text"."""
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
        lakh: whether digits before the last three are grouped by two (12,34,567).
        point: the decimal mark.
        places: the number of decimals of every number; None: as few as a number needs.
        bare: if ``places`` is None, whether whole numbers are written without a decimal mark.
        most: if ``places`` is None, the most decimals that a number has, up to 15; None for any.
        inside: whether a minus follows the prefix.
        brackets: whether a number in brackets is negative.
        minus: the sign of negative numbers.
        plus: whether positive numbers have a sign too.
        power: the form of the power of ten after ``places`` decimals, "e+00" or "E0"; "" if there is none.
        units, factors: texts after the digits, in place of one suffix, and the factor of each (K for 1000, S of a
            latitude for -1). A number is written in the largest unit of its sign that is not larger than the number.

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
    minus: str = "-"
    plus: bool = False
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
        """The texts in a form that arrow reads as numbers, null if a text is not a number."""
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
        sign = self.minus if negative else "+" * (self.plus and value > 0)
        return (self.prefix + sign if self.inside else sign + self.prefix) + digits + self.suffix

    def _digits(self, size: float) -> str:
        """The digits of a number from 0, with "," between thousands and "." before decimals."""
        if self.power:
            digits, exponent = f"{size:.{self.places or 0}e}".split("e")
            sign = "-" if exponent[0] == "-" else self.power[1:].rstrip("0")
            return digits + self.power[0] + sign + exponent[1:].lstrip("0").rjust(self.power.count("0"), "0")
        if self.places is not None or isinstance(size, int):
            return f"{size:,d}" if isinstance(size, int) and not self.places else f"{size:,.{self.places or 0}f}"
        size = size if self.most is None else round(size, self.most)
        digits = f"{size:,.0f}" if size == int(size) and size < 1e15 else repr(size)
        return digits + ("" if self.bare or "e" in digits or "." in digits else ".0")

    def _unit(self, value: float) -> tuple[str, float]:
        """The unit in which a number is written, and its factor."""
        units = list(zip(self.units, self.factors))
        units = [unit for unit in units if unit[1] * value > 0] or [unit for unit in units if unit[1] > 0]
        smaller = [unit for unit in units if abs(unit[1]) <= abs(value)]
        size = max(abs(factor) for _, factor in smaller) if smaller else min(abs(factor) for _, factor in units)
        return next(unit for unit in units if abs(unit[1]) == size)

    def check(self) -> None:
        """Raise ``ValueError`` if units and factors differ in number, or marks or places are not valid."""
        super().check()
        if len(self.units) != len(self.factors) or (self.units and max(self.factors) <= 0):
            raise ValueError("units")
        if not re.fullmatch("([eE][+]?0+)?", self.power):
            raise ValueError("power")
        texts = (self.prefix, self.suffix, self.group, self.point, self.minus)
        if not all(isinstance(text, str) for text in texts) or not self.point or self.group == self.point:
            raise ValueError("clothes")
        for places in (self.places, self.most):
            if places is not None and not (isinstance(places, int) and 0 <= places <= 20):
                raise ValueError("places")

    def describe(self, value: float | None = None) -> str:
        """An example: ``value``, or 1234.5, as it is written; the type if numbers are written plainly."""
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
