"""Numbers as people write them: what stands around the digits, what parts thousands, what stands before decimals."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from latens.errors import InputError
from latens.schema.form import Numbers

_MONEY = "[$€£¥₹₩₽₺₪฿₫₴₦]"
_BEFORE = rf"(?:(?:[A-Z]{{0,3}}{_MONEY}|[A-Z]{{3}}(?=\s)|Rs\.?|kr\.?|Fr\.)\s?)?"
_BEHIND = rf"(?:\s?(?:[%‰]|{_MONEY}|°[CFK]?|[A-Za-zµμΩ][A-Za-z0-9²³/·µ^*]{{0,9}}\.?(?<![0-9])|[A-Z]{{3}}))?"
_BODY = r"[0-9](?:[0-9.,'’\u00a0\u202f ]*[0-9])?[.]?(?:[eE][+-]?[0-9]+)?|[.,][0-9]+(?:[eE][+-]?[0-9]+)?"
DRESSED = re.compile(
    rf"(?P<open>\(?)(?P<a>[+−-]?) ?(?P<before>{_BEFORE})(?P<b>[+−-]?)(?P<body>{_BODY})(?P<behind>{_BEHIND})\)?"
)
_POWER = re.compile(r"[0-9](?:[.]([0-9]+))?e[+-][0-9]{2,3}")
_GROUPED = r"[0-9]{1,3}(?:S[0-9]{2,3})*S[0-9]{3}"


class Ambiguous(Exception):
    """Two readings fit; the text is an example."""


def number_form(texts: Sequence[str], *, comma: bool | None = None) -> tuple[Numbers, bool] | None:
    """The form in which all of the texts are numbers, and whether it rests on custom alone; None where there is none.

    Args:
        texts: distinct cells, not empty.
        comma: whether the file has decimal commas (True), cuts its fields by commas (None), or neither (False).

    Raises:
        Ambiguous: 1,234 can be read as 1234 and as 1.234.

    >>> number_form(["$1,234.50", "-$2.00"])[0].describe()
    '$1,234.50'
    >>> number_form(["12 %", "7 %"])[0].suffix, number_form(["1.234,5", "2"])[0].point, number_form(["A1", "A2"])
    (' %', ',', None)
    """
    found = [DRESSED.fullmatch(text) for text in texts]
    if not texts or not all(found):
        return None
    matches = [match for match in found if match is not None]
    around = {(match["before"], match["behind"]) for match in matches}
    if len({(a.strip(), b.strip()) for a, b in around}) > 1 or any(
        (match["open"] == "(") != match[0].endswith(")") for match in matches
    ):
        return None
    before, behind = Counter((match["before"], match["behind"]) for match in matches).most_common(1)[0][0]
    bodies = [match["body"] for match in matches]
    if not (before or behind) and any(re.match(r"0[0-9xX]", body) for body in bodies):
        return None  # 007 is a code
    settled = _separators(bodies, comma)
    if settled is None:
        return None
    group, point, by_custom = settled
    form = Numbers(
        "double", prefix=before, suffix=behind, group=group, point=point, inside=any(match["b"] for match in matches),
        brackets=any(match["open"] for match in matches), minus="−" if any("−" in text for text in texts) else "-",
        plus=any("+" in match["a"] + match["b"] for match in matches),
    )  # fmt: skip
    return with_places(form, bodies), by_custom


def with_places(form: Numbers, bodies: Sequence[str]) -> Numbers:
    """The form with the type and the decimals that these digits have."""
    exponents = any("e" in body or "E" in body for body in bodies)
    if exponents and (found := [_POWER.fullmatch(body) for body in bodies]) and all(found):
        decimals = {len(match[1] or "") for match in found if match is not None}
        if len(decimals) == 1:
            return dataclasses.replace(form, means="double", places=decimals.pop(), power=True)
    widths = {len(body.partition(form.point)[2]) if form.point in body else -1 for body in bodies}
    if widths == {-1} and not exponents:
        return dataclasses.replace(form, means="int64", places=None)
    fixed = len(widths) == 1 and not exponents and widths != {0}
    places = max(widths) if fixed else None
    most = max(widths) if not fixed and not exponents and max(widths) <= 15 else None
    return dataclasses.replace(form, means="double", places=places, bare=not fixed and -1 in widths, most=most)


def _separators(bodies: Sequence[str], comma: bool | None) -> tuple[str, str, bool] | None:
    """(what parts thousands, what stands before decimals, whether custom alone says so); None where none fits."""
    seen = {mark for body in bodies for mark in body if mark in ".,'’\u00a0\u202f "}
    apart = seen - {".", ","}
    if len(apart) > 1:
        return None
    if apart:
        group = apart.pop()
        point = "," if "," in seen else "."
        rest = "." if point == "," else ","
        return (group, point, False) if rest not in seen and _fits(bodies, group, point) else None
    if not seen:
        return "", ".", False
    if len(seen) == 2:
        for group, point in ((",", "."), (".", ",")):
            if _fits(bodies, group, point):
                return group, point, False
        return None
    mark = seen.pop()
    other = "." if mark == "," else ","
    grouped, decimal = _fits(bodies, mark, other), _fits(bodies, "", mark)
    if not grouped:
        return ("", mark, False) if decimal else None
    if not decimal:
        return mark, other, False
    if mark == ".":
        if comma:
            raise Ambiguous(next(body for body in bodies if mark in body))
        return "", ".", False
    if comma is None:  # fields cut by commas: the decimals of its numbers have points
        short = [body for body in bodies if mark not in body]
        return ",", ".", not short or max(map(len, short)) > 3
    raise Ambiguous(next(body for body in bodies if mark in body))


def _fits(bodies: Sequence[str], group: str, point: str) -> bool:
    p, g = re.escape(point), re.escape(group)
    plain = rf"[0-9]*(?:{p}[0-9]*)?(?:[eE][+-]?[0-9]+)?"
    whole = re.compile(f"{plain}|{_GROUPED.replace('S', g)}(?:{p}[0-9]*)?" if group else plain)
    return all(whole.fullmatch(body) for body in bodies)


def asked_numbers(example: str, name: str) -> Numbers:
    """The form of an example such as 1,234.50 or 1.234,5 kg; ``InputError`` where it is none."""
    match = DRESSED.fullmatch(example.strip())
    marks = [mark for mark in (match["body"] if match else "") if not mark.isdigit()]
    if match is None or len(set(marks)) > 2:
        raise InputError(
            f"--format {name}={example}: write an example number such as 1,234.50 or 1.234,5, a pattern such as "
            "%d/%m/%Y, day-first, month-first or text"
        )
    last = marks[-1] if marks else "."
    single = len(set(marks)) == 1
    groups = single and (last not in ".," or marks.count(last) > 1)
    point = ("," if last == "." else ".") if groups else last
    group = last if groups else next((mark for mark in marks if mark != last), "")
    form = Numbers("double", prefix=match["before"], suffix=match["behind"], group=group, point=point)
    return with_places(form, [match["body"]]) if point in match["body"] else form
