"""Numbers as people write them: the text around the digits, the separator of thousands, the decimal mark."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from latens.errors import InputError
from latens.schema.form import Numbers

_MONEY = "[$€£¥₹₩₽₺₪฿₫₴₦]"
_BEFORE = rf"(?:(?:[A-Z]{{0,3}}{_MONEY}|[A-Z]{{3}}(?=\s)|Rs\.?|kr\.?|Fr\.)\s?)?"
_BEHIND = (
    rf"(?:\s?(?:[%‰]|{_MONEY}|°\s?[NSEW]|°[CFK]?|[A-Za-zµμΩ][A-Za-z0-9²³/·µ^*]{{0,9}}\.?(?<![0-9])|[A-Z]{{3}})|-)?"
)
_BODY = r"[0-9](?:[0-9.,'’\u00a0\u202f ]*[0-9])?[.]?(?:[eE][+-]?[0-9]+)?|[.,][0-9]+(?:[eE][+-]?[0-9]+)?"
DRESSED = re.compile(
    rf"(?P<open>\(?)(?P<a>[+−-]?) ?(?P<before>{_BEFORE})(?P<b>[+−-]?)(?P<body>{_BODY})(?P<behind>{_BEHIND})\)?"
)
_POWER = re.compile(r"[0-9](?:[.]([0-9]+))?([eE])([+-]?)([0-9]{1,3})")
_THOUSANDS = {"K": 1e3, "M": 1e6, "MN": 1e6, "B": 1e9, "BN": 1e9, "T": 1e12, "TN": 1e12, "TRN": 1e12}
UNITS: tuple[dict[str, float], ...] = (  # the factors of units, in capitals
    {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}, {"": 1.0, **_THOUSANDS}, {"": 1.0, "-": -1.0},
    {"N": 1.0, "S": -1.0}, {"E": 1.0, "W": -1.0}, {"CR": 1.0, "DR": -1.0}, {"AD": 1.0, "BC": -1.0},
    {"CE": 1.0, "BCE": -1.0},
)  # fmt: skip
PHONE = 8  # a telephone number has at least this many digits after +
_GROUPED = r"[0-9]{1,3}(?:S[0-9]{2,3})*S[0-9]{3}"


class AmbiguousNumber(Exception):
    """Two readings fit; the text of the error is an example."""


def number_form(texts: Sequence[str], *, comma: bool | None = None) -> tuple[Numbers, tuple[str, ...]] | None:
    """(the form in which all of the texts are numbers; what it rests on), or None if there is none.

    It rests on "thousands" if only custom tells what the comma means, and on "bare" if some texts lack the sign of a
    currency or per cent that the others have.

    Args:
        texts: distinct cells, not empty.
        comma: True if the file has decimal commas, None if commas separate its fields, False for neither.

    Raises:
        AmbiguousNumber: 1,234 can be read as 1234 and as 1.234.

    >>> number_form(["$1,234.50", "-$2.00"])[0].describe()
    '$1,234.50'
    >>> number_form(["12 %", "7 %"])[0].suffix, number_form(["1.234,5", "2"])[0].point, number_form(["A1", "A2"])
    (' %', ',', None)
    >>> number_form(["1.2M", "350K"])[0].factors
    (1000000.0, 1000.0)
    """
    matches = [match for text in texts if (match := DRESSED.fullmatch(text))]
    clothes = _clothes(matches) if 0 < len(matches) == len(texts) else None
    if clothes is None or _are_names(matches, naked=not (clothes[0] or clothes[1])):
        return None
    bodies = [match["body"] for match in matches]
    settled = _separators(bodies, comma)
    if settled is None:
        return None
    before, behind, units, bare = clothes
    group, point, by_custom = settled
    twos = "[0-9]G[0-9]{2}G".replace("G", re.escape(group))
    form = Numbers(
        "double", prefix=before, suffix="" if units else behind, group=group, point=point, units=tuple(units),
        factors=tuple(units.values()), inside=any(match["b"] for match in matches),
        brackets=any(match["open"] for match in matches), minus="−" if "−" in "".join(texts) else "-",
        plus=any("+" in match["a"] + match["b"] for match in matches),
        lakh=bool(group and re.search(twos, "\n".join(bodies))),
    )  # fmt: skip
    return with_places(form, bodies), ("thousands",) * by_custom + ("bare",) * bare


def _clothes(matches: Sequence[re.Match[str]]) -> tuple[str, str, dict[str, float], bool] | None:
    """(the text before numbers; the text after them; the units that multiply them; whether some have neither); None if
    they differ in more than that."""
    around = Counter((match["before"], match["behind"]) for match in matches).most_common()
    (before, behind), often = around[0]
    kinds = {(a.strip(), b.strip()) for (a, b), _ in around}
    bare = len(kinds) == 2 and 2 * often > len(matches) and ("", "") in kinds and _is_sign(before, behind)
    one_prefix = len({a for a, _ in kinds}) == 1
    units = _units([b for (_, b), _ in around], bool(before)) if one_prefix and not bare else {}
    if (len(kinds) > 1 and not (bare or units)) or (behind == "-" and not units):
        return None
    return before, behind, units, bare


def _are_names(matches: Sequence[re.Match[str]], naked: bool) -> bool:
    """Whether they are not quantities: a bracket stays open, 007 is a code, or +49 ... are telephone numbers."""
    return (
        any((match["open"] == "(") != match[0].endswith(")") for match in matches)
        or (naked and any(re.match("0[0-9xX]", match["body"]) for match in matches))
        or all(match["a"] == "+" and re.fullmatch(rf"\d{{{PHONE},}}", match["body"]) for match in matches)
    )


def is_bare(text: str) -> bool:
    """Whether a number has no text around it."""
    match = DRESSED.fullmatch(text)
    return match is not None and not (match["before"] or match["behind"])


def _is_sign(before: str, behind: str) -> bool:
    """Whether the text around a number is the sign of a currency or of per cent."""
    return bool(re.fullmatch(rf"{_MONEY}|[%‰]", before.strip() + behind.strip()))


def _units(behind: Sequence[str], is_money: bool) -> dict[str, float]:
    """The factors of these texts after numbers; none if they are a single unit, or units of different kinds.

    >>> _units(["K", "M"], False), _units(["° N", "° S"], False), _units([" kg", " lb"], False)
    ({'K': 1000.0, 'M': 1000000.0}, {'° N': 1.0, '° S': -1.0}, {})
    """
    named = {text: text.strip("° .").upper() for text in behind}
    for units in UNITS:
        if set(named.values()) <= set(units):
            signed = min(units.values()) < 0
            told = {units[name] for name in named.values() if name or signed or is_money}
            return {text: units[name] for text, name in named.items()} if len(told) > 1 else {}
    return {}


def with_places(form: Numbers, bodies: Sequence[str]) -> Numbers:
    """The form with the type and the number of decimals that these digits have."""
    widths = [len(body.partition(form.point)[2]) if form.point in body else -1 for body in bodies]
    if "e" in "".join(bodies).lower():
        places, power = _power(bodies) or (None, "")
        bare = form.bare if power else -1 in widths
        return dataclasses.replace(form, means="double", places=places, power=power or form.power, bare=bare)
    return with_decimals(form, min(widths), max(widths))


def with_decimals(form: Numbers, fewest: int, most: int) -> Numbers:
    """The form with the numbers of decimals that occur; -1 stands for a number without a decimal mark."""
    if any(abs(factor) != 1 for factor in form.factors):
        fixed = fewest == most >= 0
        return dataclasses.replace(form, means="double", places=most if fixed else None, bare=not fixed,
                                   most=max(0, most))  # fmt: skip
    if most == -1:
        return dataclasses.replace(form, means="int64", places=None)
    if fewest == most > 0:
        return dataclasses.replace(form, means="double", places=most, bare=False, most=None)
    return dataclasses.replace(form, means="double", places=None, bare=fewest == -1, most=most if most <= 15 else None)


def _power(bodies: Sequence[str]) -> tuple[int, str] | None:
    """(decimals, form of the power of ten) of digits that all end in one, written the same; else None."""
    found = [match for body in bodies if (match := _POWER.fullmatch(body))]
    decimals, letters = {len(match[1] or "") for match in found}, {match[2] for match in found}
    signs = {match[3] for match in found if match[3] != "-"}
    if len(found) < len(bodies) or len(decimals) > 1 or len(letters) > 1 or len(signs) > 1:
        return None
    return decimals.pop(), letters.pop() + "".join(signs) + "0" * min(len(match[4]) for match in found)


def _separators(bodies: Sequence[str], comma: bool | None) -> tuple[str, str, bool] | None:
    """(separator of thousands, decimal mark, whether only custom says so); None if no pair fits."""
    seen = set("".join(bodies)) & set(".,'’\u00a0\u202f ")
    apart = "".join(seen - {".", ","})
    if len(apart) > 1 or len(seen) > 2:
        return None
    if len(seen) == 1 and not apart:
        return _one_mark(bodies, seen.pop(), comma)
    ways = [(apart, "," if "," in seen else ".")] if apart or not seen else [(",", "."), (".", ",")]
    return next(((*way, False) for way in ways if _fits(bodies, *way)), None)


def _one_mark(bodies: Sequence[str], mark: str, comma: bool | None) -> tuple[str, str, bool] | None:
    """The same for numbers with only points, or only commas."""
    other = "." if mark == "," else ","
    grouped, decimal = _fits(bodies, mark, other), _fits(bodies, "", mark)
    if not (grouped and decimal):
        return (mark, other, False) if grouped else ("", mark, False) if decimal else None
    if mark == "." and not comma:
        return "", ".", False
    if mark == "," and comma is None:  # commas separate fields, so decimals have points
        short = [body for body in bodies if mark not in body]
        return ",", ".", not short or max(map(len, short)) > 3
    raise AmbiguousNumber(next(body for body in bodies if mark in body))


def _fits(bodies: Sequence[str], group: str, point: str) -> bool:
    p, g = re.escape(point), re.escape(group)
    plain = rf"[0-9]*(?:{p}[0-9]*)?(?:[eE][+-]?[0-9]+)?"
    whole = re.compile(f"{plain}|{_GROUPED.replace('S', g)}(?:{p}[0-9]*)?" if group else plain)
    return all(whole.fullmatch(body) for body in bodies)


def asked_numbers(example: str, name: str) -> Numbers:
    """The form of an example such as 1,234.50 or 1.234,5 kg; ``InputError`` if it is not a number."""
    match = DRESSED.fullmatch(example.strip())
    marks = [mark for mark in (match["body"] if match else "") if not mark.isdigit()]
    if match is None or len(set(marks)) > 2:
        raise InputError(
            f"--format {name}={example} is not a form",
            "write an example such as 1,234.50 or 1.234,5, a pattern such as %d/%m/%Y, day-first, month-first or text",
        )
    last = marks[-1] if marks else "."
    single = len(set(marks)) == 1
    groups = single and (last not in ".," or marks.count(last) > 1)
    point = ("," if last == "." else ".") if groups else last
    group = last if groups else next((mark for mark in marks if mark != last), "")
    form = Numbers("double", prefix=match["before"], suffix=match["behind"], group=group, point=point)
    return with_places(form, [match["body"]]) if point in match["body"] else form
