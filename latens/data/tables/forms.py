"""The forms in which people write numbers and dates, and the search for the form that reads a column of text."""

from __future__ import annotations

import dataclasses
import re
import zoneinfo
from collections import Counter
from collections.abc import Sequence
from typing import Any

from latens.errors import InputError
from latens.schema.arrow import pa, pc
from latens.schema.form import DAYS, ISO, Numbers, Times, expression, is_iso_span, offset_of, those_that_read, zone_of

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
    """(the form by which all of the texts are numbers; what this choice rests on), or None if there is no such form.

    The choice rests on "thousands" if only custom decides what the comma means, and on "bare" if some texts lack the
    currency or per cent sign of the others.

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
        plus=any(map(_has_plus, matches)),
        zero=any(map(_is_plus_zero, matches)),
        lakh=bool(group and re.search(twos, "\n".join(bodies))),
    )  # fmt: skip
    return with_places(form, bodies), ("thousands",) * by_custom + ("bare",) * bare


def _clothes(matches: Sequence[re.Match[str]]) -> tuple[str, str, dict[str, float], bool] | None:
    """(the text before numbers; the text after them; the units that multiply them; whether some numbers have no text
    around them). None if the texts differ in other ways."""
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
    """Whether the texts are names, not quantities: one has an unmatched bracket or is a code (007), or all are
    telephone numbers."""
    return (
        any((match["open"] == "(") != match[0].endswith(")") for match in matches)
        or (naked and any(re.match("0[0-9xX]", match["body"]) for match in matches))
        or all(match["a"] == "+" and re.fullmatch(rf"\d{{{PHONE},}}", match["body"]) for match in matches)
    )


def _has_plus(match: re.Match[str]) -> bool:
    return "+" in match["a"] + match["b"]


def _is_plus_zero(match: re.Match[str]) -> bool:
    return _has_plus(match) and not re.search("[1-9]", match["body"])


def is_bare(text: str) -> bool:
    """Whether a number has no text around it."""
    match = DRESSED.fullmatch(text)
    return match is not None and not (match["before"] or match["behind"])


def _is_sign(before: str, behind: str) -> bool:
    """Whether the text around a number is a currency sign or a per cent sign."""
    return bool(re.fullmatch(rf"{_MONEY}|[%‰]", before.strip() + behind.strip()))


def _units(behind: Sequence[str], is_money: bool) -> dict[str, float]:
    """The factors that these texts after numbers stand for; empty if there is a single unit, or if the units are of
    different kinds.

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
    """The form with the type and the number of decimals that these digits show."""
    widths = [len(body.partition(form.point)[2]) if form.point in body else -1 for body in bodies]
    if "e" in "".join(bodies).lower():
        places, power = _power(bodies) or (None, "")
        bare = form.bare if power else -1 in widths
        return dataclasses.replace(form, means="double", places=places, power=power or form.power, bare=bare)
    return with_decimals(form, min(widths), max(widths))


def with_decimals(form: Numbers, fewest: int, most: int) -> Numbers:
    """The form with these smallest and largest numbers of decimals; -1 stands for a number without a decimal mark."""
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
    """(decimals, form of the power of ten) if all numbers end in a power of ten that is written the same way; else
    None."""
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
    """The same as :func:`_separators`, for numbers with only points or only commas."""
    other = "." if mark == "," else ","
    grouped, decimal = _fits(bodies, mark, other), _fits(bodies, "", mark)
    if not (grouped and decimal):
        return (mark, other, False) if grouped else ("", mark, False) if decimal else None
    if mark == "." and not comma:
        return "", ".", False
    if mark == "," and comma is None:  # commas separate fields, so the decimal mark is a point
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


DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y_%m_%d", "%Y %m %d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d.%m.%Y", "%m.%d.%Y", "%d %m %Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d.%m.%y", "%d-%b-%Y",
    "%d %b %Y", "%d-%b-%y", "%d %b %y", "%d/%b/%Y", "%d.%b.%Y", "%d%b%Y", "%d-%B-%Y", "%d %B %Y", "%d. %B %Y",
    "%d. %b %Y", "%d %b, %Y", "%d %B, %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y", "%b. %d, %Y", "%b-%d-%Y",
    "%Y-%b-%d", "%Y %b %d", "%Y %B %d", "%Y/%b/%d", "%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%m.%Y", "%b %Y", "%B %Y",
    "%b-%Y", "%B-%Y", "%b-%y", "%b/%Y", "%Y-%b", "%B, %Y", "%-d%o %b %Y", "%-d%o %B %Y", "%-d%o of %B %Y",
    "%b %-d%o, %Y", "%B %-d%o, %Y", "%b %-d%o %Y", "%B %-d%o %Y", "%b. %-d, %Y", "%Y %b", "%Y %B", "%Y%b", "%YM%m",
    "%YQ%q", "%Y-Q%q", "%Y Q%q", "%Y.Q%q", "%Y/Q%q", "Q%q %Y", "Q%q-%Y", "Q%q/%Y", "%GW%V", "%G-W%V", "%G W%V",
)  # fmt: skip
COMPACT = (
    "%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M", "%Y%m%d_%H%M%S",
    "%Y%m%d-%H%M%S", "%Y%m", "%d%m%Y", "%m%d%Y",
)  # fmt: skip
_WEEKDAY = re.compile(rf"(?:({'|'.join(DAYS)})|({'|'.join(day[:3] for day in DAYS)}))([,.]? )(.+)", re.I)
_CLOCK = re.compile(
    r"(?:(?P<date>.*?[0-9A-Za-z.])(?P<join>T|, ?| at | +|:|_))?"
    r"(?P<clock>[0-9]{1,2}:[0-9]{2}(?P<second>:[0-9]{2}(?P<fraction>[.,][0-9]{1,9})?)?)(?P<half> ?[AaPp][.]?[Mm][.]?)?"
    r"(?P<zone> ?[Zz]| ?(?:UTC|GMT)| ?[+-][0-9]{2}:?(?:[0-9]{2})?| [A-Z][A-Za-z_]+/[A-Za-z_/+-]+)?(?P<year> [0-9]{4})?"
)
_SPAN = re.compile(r"-?P(?=.)(?:[0-9]+D)?(?:T(?=.)(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+(?:[.][0-9]+)?S)?)?")
_LAP = re.compile(r"-?[0-9]+:[0-9]{2}[.][0-9]{1,9}")
_LONG = re.compile(r"(?P<join>-?[0-9]+ days?,? )?-?[0-9]+:[0-9]{2}(?P<second>:[0-9]{2}(?P<fraction>[.][0-9]{1,9})?)?")
_DAY_FIRST = re.compile(r"%d([/. -]?)%m\1")
_MONTH_FIRST = re.compile(r"%m([/. -]?)%d\1")
LEAST_FIRSTS = 4  # dates must be the first of at least this many different months
LEAST_SEASONS = 3  # at least this many pairs of years are needed to call them seasons
ORDERS = ("day-first", "month-first")
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney",
)  # the best known of the zones that have the same clocks


class AmbiguousDate(Exception):
    """Day and month cannot be told apart; the text of the error is an example."""


@dataclasses.dataclass(frozen=True)
class TimeFit:
    """A form that reads ``share`` of the cells, weighted by how often each occurs. ``by_custom``: the only evidence on
    the order of day and month is that in this order every date is the first of a month."""

    form: Times
    share: float
    by_custom: bool = False


def time_form(texts: Any, counts: Any, order: str | None = None) -> TimeFit | None:
    """The form that reads most of the cells as dates, times of day or time spans; None if none does.

    Args:
        texts: an arrow array of distinct cells, none of them missing.
        counts: how often each occurs.
        order: "day-first" or "month-first", if that is known.

    Raises:
        AmbiguousDate: all cells can be read both day first and month first.

    >>> import pyarrow as pa
    >>> fit = time_form(pa.array(["31/12/2021", "01/02/2022"]), pa.array([1, 1]))
    >>> fit.form.pattern, fit.share
    ('%d/%m/%Y', 1.0)
    """
    some = [text for text in texts.slice(0, 200).to_pylist() if text is not None]
    found = list(dict.fromkeys(pattern for text in _spread(some) for pattern in patterns(text)))
    if not found:
        return None
    total = pc.sum(counts).as_py()
    fits = []
    for pattern in found:
        form = _form(pattern)
        values, _ = form.read(texts)
        share = pc.sum(counts.filter(values.combine_chunks().is_valid()), min_count=0).as_py() / total
        fits.append(TimeFit(form, share))
    best = max(fits, key=lambda fit: fit.share)
    if best.share == 0 or _are_seasons(best.form, texts):
        return None
    best = _ordered([fit for fit in fits if fit.share == best.share], best, order, texts)
    return dataclasses.replace(best, form=times_written(best.form, texts, counts))


def _ordered(fits: list[TimeFit], best: TimeFit, order: str | None, texts: Any) -> TimeFit:
    """Among the forms that read the same cells, the form in which day and month have the known order."""
    days, months = ([f for f in fits if way.search(f.form.pattern)] for way in (_DAY_FIRST, _MONTH_FIRST))
    if not (days and months) or best not in (*days, *months):
        return best
    day, month = days[0], months[0]
    if order is not None:
        return day if order == "day-first" else month
    if "%d.%m" in day.form.pattern or day.form.read(texts)[0].equals(month.form.read(texts)[0]):
        return day
    firsts = [_months_of_firsts(fit.form, texts) for fit in (day, month)]
    if max(firsts) >= LEAST_FIRSTS and min(firsts) <= 1:
        return dataclasses.replace(day if firsts[0] > firsts[1] else month, by_custom=True)
    raise AmbiguousDate(texts[0].as_py())


def _are_seasons(form: Times, texts: Any) -> bool:
    """Whether what looks like a year and a month is a season, a pair of years: 2009/10, 2010/11, 2011/12."""
    if re.sub("[/-]", "", form.pattern) != "%Y%m":
        return False
    parts = [re.split("[/-]", text) for text in texts.drop_null().to_pylist()]
    return len(parts) >= LEAST_SEASONS and all(len(p) == 2 and (int(p[0]) + 1 - int(p[1])) % 100 == 0 for p in parts)


def _months_of_firsts(form: Times, texts: Any) -> int:
    """The number of different months of the year, if every date is the first of a month; else 0."""
    dates = form.read(texts)[0].drop_null()
    all_first = pc.all(pc.equal(pc.day(dates), 1), min_count=0).as_py()
    return len(pc.unique(pc.month(dates))) if all_first else 0


def _spread(texts: Sequence[str]) -> list[str]:
    """A few texts of different lengths."""
    by_length = {len(text): text for text in reversed(texts)}
    return [*texts[:1], *list(by_length.values())[:12]]


def patterns(text: str) -> list[str]:
    """The patterns that read a text; none if it has no digit."""
    if not re.search(r"\d", text):
        return []
    if _SPAN.fullmatch(text):
        return ["ISO"]
    if _LAP.fullmatch(text):
        return ["span:%M:%S.%f"]
    if found := those_that_read(text, COMPACT):
        return found
    if long := _LONG.fullmatch(text):
        hands = "%H:%M" + ":%S" * bool(long["second"]) + ".%f" * bool(long["fraction"])
        span = "span:" + re.sub("-?[0-9]+", "%j", long["join"] or "") + hands
        return [span] if long["join"] else [hands, span]
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return _dates(text)
    hands, year = _hands(clock), " %Y" * bool(clock["year"])
    if not clock["date"]:
        return [] if year or clock["zone"] else [hands]
    dates = _dates(clock["date"] + (clock["year"] or ""))
    return [date.removesuffix(year) + clock["join"] + hands + year for date in dates]


def _hands(clock: re.Match[str]) -> str:
    """The pattern of a time of day and what follows it."""
    hands = ("%I" if clock["half"] else "%H") + ":%M" + ":%S" * bool(clock["second"])
    if clock["fraction"]:
        hands += clock["fraction"][0] + "%f"
    if half := clock["half"]:
        hands += " " * half.startswith(" ") + ("%p" if half.strip().isupper() else "%P")
    zone = clock["zone"] or ""
    if re.fullmatch(r" ?[+-].*", zone):
        return hands + " " * zone.startswith(" ") + ("%:z" if ":" in zone else "%z")
    return hands + (zone.upper() if zone in ("z", " z") else zone)


def _dates(text: str) -> list[str]:
    week = _WEEKDAY.fullmatch(text)
    before = ""
    if week is not None:
        before, text = ("%A" if week[1] else "%a") + week[3], week[4]
    return [before + date for date in those_that_read(text, (*DATES, *(COMPACT[:1] if before else ())))]


def _form(pattern: str) -> Times:
    """The form of a pattern, before any cell is examined."""
    if pattern == "ISO" or pattern.startswith("span:"):
        return Times("duration[us]", pattern=pattern.removeprefix("span:"))
    has_clock, has_date = (any(each in pattern for each in some) for some in (("%H", "%I"), ("%Y", "%y", "%G")))
    if not has_date:
        return Times("time64[us]", pattern=pattern)
    if not has_clock:
        return Times("date32[day]", pattern=pattern)
    zone = ""
    if match := re.search(r" ([A-Z][A-Za-z_]+/[A-Za-z_/+-]+)$", pattern):
        zone = match[1]
        zone_of(zone)
    elif pattern.endswith(("Z", "UTC", "GMT")) or "z" in pattern:
        zone = "UTC"
    return Times(f"timestamp[us, tz={zone}]" if zone else "timestamp[us]", pattern=pattern, zone=zone)


def times_written(form: Times, texts: Any, counts: Any) -> Times:
    """The form with the details that the cells show: leading zeros, capitals, digits of a fraction."""
    if form.pattern == "ISO":
        return _with_all_parts(form, texts)
    found = pc.extract_regex(texts, expression(form.pattern, form.is_span))
    kept = found.is_valid()
    parts = {f.name: pc.struct_field(found, f.name).filter(kept) for f in found.type}
    form = dataclasses.replace(form, short=_is_short(parts))
    own, form = form, _with_seconds(dataclasses.replace(form, pattern=_spelled(form.pattern, parts)), parts)
    if "z" not in parts or not any(parts["z"].to_pylist()):
        return form
    zone, pattern = _zone_stated(own, texts.filter(kept), counts.filter(kept), parts["z"]), form.pattern
    if "z" not in pattern.lower():
        pattern += "Z" if zone == "UTC" else "%:z"
    means = f"{form.means.partition(', tz=')[0].rstrip(']')}, tz={zone}]"
    return dataclasses.replace(form, pattern=pattern, means=means, zone=zone)


def _is_short(parts: dict[str, Any]) -> bool:
    """Whether midnights, and only these, have no clock."""
    if not {*"HM"} <= {*parts} or any(parts.get("z", pa.array([""])).to_pylist()):
        return False
    cells = zip(*(parts[name].to_pylist() for name in "HMS" if name in parts))
    clocks = {"".join(part or "" for part in clock) for clock in cells}
    return "" in clocks and not any(clock and not clock.strip("0") for clock in clocks)


def _with_all_parts(form: Times, texts: Any) -> Times:
    """The form of ISO 8601 time spans with the parts that all cells have (PT0H53M). The form is unchanged if cells have
    different parts, or are not in ISO 8601."""
    texts = texts.filter(form.read(texts)[0].combine_chunks().is_valid())
    found = pc.extract_regex(texts, expression(form.pattern))
    parts = {f.name: pc.struct_field(found, f.name) for f in found.type}
    there = [name for name in "jHMS" if pc.any(pc.not_equal(parts[name], ""), min_count=0).as_py()]
    letters = {"j": "%jD", "H": "%HH", "M": "%MM", "S": "%SS"}
    clock = "".join(letters[name] for name in there if name != "j")
    pattern = _spelled("P" + letters["j"] * ("j" in there) + "T" * bool(clock) + clock, parts)
    pattern = re.sub("(%-?S)S", r"\1.%fS", pattern) if pc.max(pc.utf8_length(parts["f"])).as_py() else pattern
    ways = [_with_seconds(dataclasses.replace(form, pattern=pattern), parts), form]
    ways += [] if "j" in there else [dataclasses.replace(form, pattern=ISO[1])]
    return next((way for way in ways if way.write(way.read(texts)[0]).equals(texts.cast(pa.string()))), form)


def _spelled(pattern: str, parts: dict[str, Any]) -> str:
    """The pattern with the flags for numbers without leading zeros, and for words in capitals or lower case."""
    for name in {*"dmHIMS"} & {*parts}:
        lengths = pc.utf8_length(pc.if_else(pc.equal(parts[name], ""), None, parts[name]))
        if pc.min(lengths).as_py() == 1:
            pattern = pattern.replace(f"%{name}", f"%-{name}")
    for name in {*"bBaA"} & {*parts}:
        words = parts[name].to_pylist()
        flag = "^" if all(map(str.isupper, words)) else "#" if all(map(str.islower, words)) else ""
        pattern = pattern.replace(f"%{name}", f"%{flag}{name}")
    return pattern


def _with_seconds(form: Times, parts: dict[str, Any]) -> Times:
    """The form, with seconds and their fractional digits if some cells have them."""
    pattern, digits, means = form.pattern, form.digits, form.means
    if "f" in parts:
        lengths = set(pc.utf8_length(parts["f"]).fill_null(0).to_pylist())
        longest = max(lengths)
        if longest and not re.search("%[-#]?f", pattern):
            pattern = pattern.replace("%S", "%S.%f")
        if len(lengths) > 1:
            pattern = pattern.replace("%f", "%-f" if lengths == {0, longest} else "%#f")
        digits = longest or 6
        means = means.replace("[us", "[ns") if longest > 6 else means
    if "S" in parts and not re.search("%-?S", pattern) and pc.max(pc.utf8_length(parts["S"])).as_py():
        pattern = pattern.replace("%M", "%M:%S")
    return dataclasses.replace(form, pattern=pattern, digits=digits, means=means)


def _zone_stated(form: Times, texts: Any, counts: Any, offsets: Any) -> str:
    """The time zone that most of these cells state."""
    weight = pa.table({"z": offsets, "n": counts}).group_by("z").aggregate([("n", "sum")])
    common = max(weight.to_pylist(), key=lambda row: (row["z"] != "", row["n_sum"]))["z"]
    zone = "UTC" if common in "zZ" else common if ":" in common else f"{common[:3]}:{common[3:] or '00'}"
    return _zone_of_clocks(form, texts, offsets) or zone


def _zone_of_clocks(form: Times, texts: Any, offsets: Any) -> str:
    """The zone whose clocks show these offsets at these times, in summer and in winter; "" if there is only one offset,
    or no such zone."""
    stated = [offset_of(text) for text in offsets.to_pylist()]
    if len(set(stated)) < 2 or any(text in ("", "z", "Z") for text in offsets.to_pylist()):
        return ""
    moments = form.read(texts)[0].cast(pa.timestamp("us", "UTC"), safe=False).to_pylist()
    pairs = [(moment, ahead * 60) for moment, ahead in zip(moments, stated) if moment is not None]
    for name in (*ZONES, *sorted(zoneinfo.available_timezones() - {*ZONES})):
        zone = zoneinfo.ZoneInfo(name)
        if all(zone.utcoffset(moment.astimezone(zone)).total_seconds() == ahead for moment, ahead in pairs):  # type: ignore[union-attr]
            return name
    return ""


def states_zone(form: Times, texts: Any) -> Any:
    """The mask of the cells that state a time zone; None if the form reads no zone."""
    found = pc.extract_regex(texts, expression(form.pattern, form.is_span))
    if "z" not in {f.name for f in found.type}:
        return None
    return pc.fill_null(pc.not_equal(pc.struct_field(found, "z"), ""), False)


def asked_times(pattern: str, name: str) -> Times:
    """The form of a pattern that the user named; ``InputError`` if it is not a pattern of dates or times."""
    try:
        expression(pattern)
    except (re.error, InputError) as error:
        raise InputError(f"--format {name}={pattern}: {error}") from None
    if ("%V" in pattern) != ("%G" in pattern):
        raise InputError(f"--format {name}={pattern}: %G and %V, the year and the week of ISO 8601, need each other")
    if not re.search(r"%[-^#]?[YymdbBHIMSjG]", pattern):
        raise InputError(f"--format {name}={pattern}: the pattern must have at least one of %Y %m %d %H %M %S")
    span = "%j" in pattern or is_iso_span(pattern)
    return _form("span:" + pattern if span else pattern)
