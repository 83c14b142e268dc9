"""Columns that have a value exactly where another column has certain values, such as minutes of 0 where rain is 0."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from latens.data.tables.computed import ACCIDENT, LEAST, SAMPLE, has_few_values, in_words
from latens.errors import InputError
from latens.schema import Column, Table, arrow
from latens.schema.arrow import listed
from latens.schema.column import CODED
from latens.schema.law import is_value
from latens.schema.rules import ColumnNumbers, Pinned, named, next_value

SEARCHED = 40  # the most columns that are searched
KEYS = 64  # the most values of a source that are told apart
SHOWN = 6  # the most values in the words of a rule


@dataclass(frozen=True)
class Classes:
    """A column whose rows are divided into classes.

    Args:
        name: the column.
        values: the value of each class.
        is_open: whether there is one more class, of all other values.
        place: the class of each row ``[N]``, or the number of classes for a missing cell.
        sign: if the first class is the least or the greatest number of the column, as in :class:`Pinned`; else 0.
    """

    name: str
    values: tuple[float, ...]
    is_open: bool
    place: np.ndarray
    sign: int = 0

    @property
    def size(self) -> int:
        """The number of classes."""
        return len(self.values) + self.is_open


def _atoms(field: Column, numbers: np.ndarray) -> list[tuple[float, int]]:
    """(value, sign) of the least, the greatest and the most frequent number of a column, if they are atoms; ``sign`` as
    in :class:`Pinned`."""
    law = field.law
    if field.kind in CODED or law is None or not law.atoms:
        return []
    values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
    signs = {float(values[counts.argmax()]): 0, float(values[-1]): -1, float(values[0]): 1}
    is_free = law.floor is not None or law.cycles  # such a margin cannot be cut
    return [(value, 0 if is_free else sign) for value, sign in signs.items()
            if is_value(np.array(law.atoms), value).any()]  # fmt: skip


def _ways(name: str, field: Column, numbers: np.ndarray) -> list[Classes]:
    """The ways to divide the rows of a column: by its levels or few values, and by single atoms."""
    found = []
    if has_few_values(field):
        values = np.unique(numbers[~np.isnan(numbers)])
        if 2 <= len(values) <= KEYS:
            place = np.searchsorted(values, np.nan_to_num(numbers, nan=np.inf))
            found.append(Classes(name, tuple(values.tolist()), False, place))
    for value, sign in _atoms(field, numbers):
        place = np.where(np.isnan(numbers), 2, np.where(is_value(numbers, value), 0, 1))
        found.append(Classes(name, (value,), True, place, sign))
    return found


def pins(fields: dict[str, Column], u: ColumnNumbers, taken: set[str]) -> list[Pinned]:
    """Columns that have certain values where another column has certain values, or never have them there. One of the
    two is a column of numbers whose least, greatest or most frequent value is an atom. A column gets one such rule:
    that which says something about the most rows."""
    names = list(fields)[:SEARCHED]
    ways = {name: _ways(name, fields[name], u[name]) for name in names}
    both = [*combinations(names, 2), *combinations(names[::-1], 2)]  # the second ones in case other rules exclude these
    pairs = [(one, two) for first, second in both if second not in taken for one in ways[first] for two in ways[second]
             if two.is_open or (one.is_open and fields[second].kind in CODED)]  # fmt: skip
    tested = math.log10(max(1, sum(one.size * two.size for one, two in pairs)))
    best: dict[str, tuple[int, Pinned, bool]] = {}
    for one, two in pairs:
        found = _pinned(one, two, ACCIDENT - tested)
        if found is not None and found[0] > (best[two.name][0] if two.name in best else 0):
            best[two.name] = found
    return [described(rule, is_open, fields, u) for _, rule, is_open in best.values()]


def _counted(one: Classes, two: Classes, rows: slice = slice(None)) -> np.ndarray:
    """The number of rows in each class of both columns, ``[classes, classes]``."""
    sizes = one.size + 1, two.size + 1
    place = one.place[rows] * sizes[1] + two.place[rows]
    return np.bincount(place, minlength=math.prod(sizes)).reshape(sizes)[:-1, :-1]


def _pinned(one: Classes, two: Classes, least: float) -> tuple[int, Pinned, bool] | None:
    """(the number of rows about which the rule says something, the rule, whether its source has other values), or
    None."""
    few = _counted(one, two, slice(SAMPLE)) if two.is_open else _counted(one, two, slice(SAMPLE)).T
    if ((few[:, 0] > 0) & few[:, 1:].any(1)).all():  # no class has one side only
        return None
    counts = _counted(one, two)
    has, rows = (counts[:, 0], counts.sum(1)) if two.is_open else (counts[0], counts.sum(0))
    states, chance = _states(has, rows, least)
    if not states.any():
        return None
    inside = np.arange(two.size) == 0
    if not two.is_open:  # levels that occur only with the atom of the first column or, without any, never with it
        inside = states == (1 if (states > 0).any() else -1)
        has, rows = counts[:, inside].sum(1), counts.sum(1)
        states = np.where(has == rows, 1, np.where(has == 0, -1, 0)) * (rows > 0)
    values = np.array(two.values)[inside[: len(two.values)]]
    rule = Pinned(
        two.name, (one.name,), in_words(int(counts.sum()), chance), tuple(values.tolist()), one.values,
        tuple(states[: len(one.values)].tolist()), int(states[-1]) if one.is_open else 0, sign=two.sign,
    )  # fmt: skip
    return int(rows[states != 0].sum()), rule, one.is_open


def _states(has: np.ndarray, rows: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """(1 for each class all of whose rows have a value, -1 if none of them has it, 0 if some have it or if this may be
    an accident; log10 of the chance of an accident)."""
    pure = np.where(has == rows, 1, np.where(has == 0, -1, 0)) * (rows > 0)
    if rows.sum() < LEAST or not 0 < has.sum() < rows.sum() or not pure.any():
        return 0 * pure, 0.0
    share = has.sum() / rows.sum()
    if pure[rows > 0].all():  # the classes say it together, however few rows one of them has
        top = max(share, 1 - share)
        chance = rows * math.log10(top) + np.log10(1 + (1 / top - 1) ** rows.clip(0, 300).astype(float))
        return (pure, float(chance.sum())) if chance.sum() < least else (0 * pure, 0.0)
    chance = rows * np.where(pure > 0, math.log10(share), math.log10(1 - share))
    sure = (pure != 0) & (chance < least + ACCIDENT)  # twice as sure, since other classes do not confirm it
    return pure * sure, float(chance[sure].max(initial=-np.inf))


def described(rule: Pinned, is_open: bool, fields: dict[str, Column], u: ColumnNumbers) -> Pinned:
    """The rule in words, with frequent values of its source; ``is_open`` says whether the source has values other than
    the keys."""
    own = _joined(fields[rule.target], rule.values)
    found, how = {*rule.states, *([rule.rest] if is_open else [])}, []
    if 1 in found:
        how.append(f"= {own} {'exactly ' * (found == {1, -1})}where {_where(rule, 1, fields)}")
    if -1 in found and found != {1, -1}:
        how.append(f"is not {own} where {_where(rule, -1, fields)}")
    source, has = u[rule.sources[0]], rule.has(u[rule.target])
    told = ~np.isnan(source) & ~np.isnan(u[rule.target])
    usual = _usual(source[told & has]), _usual(source[told & ~has])
    field, sign = fields[rule.target], rule.sign
    other = _usual(u[rule.target][told & ~has])
    if sign:
        other = float(sign * next_value(field, np.full(1, sign * rule.values[0]), True, sign)[0])
    return dataclasses.replace(rule, usual=usual, other=other, how=", ".join(how))


def _where(rule: Pinned, state: int, fields: dict[str, Column]) -> str:
    """The values of the source with this state, in words."""
    is_rest, source = rule.rest == state, rule.sources[0]
    keys = [key for key, each in zip(rule.keys, rule.states) if (each == state) != is_rest]
    return f"{named(source)} {'is not' if is_rest else '='} {_joined(fields[source], keys)}"


def _joined(field: Column, values: Sequence[float]) -> str:
    words = [str(field.levels[int(value)]) if field.levels else arrow.in_words(value, field.type) for value in values]
    return " or ".join(words if len(words) <= SHOWN else [*words[: SHOWN - 1], f"{len(words) - SHOWN + 1} more"])


def _usual(numbers: np.ndarray) -> float:
    """The most frequent number; of several, the one in the middle; 0 if there is none."""
    values, counts = np.unique(numbers, return_counts=True)
    most = values[counts == counts.max(initial=0)]
    return float(most[len(most) // 2]) if len(most) else 0.0


def pinned_asked(
    text: str, first: tuple[str, bool, str], second: tuple[str, bool, str], exactly: bool, schema: Table,
    u: ColumnNumbers,
) -> Pinned:  # fmt: skip
    """The rule that a user states, such as "minutes = 0 exactly where rain = 0".

    Args:
        text: the rule.
        first: (column, whether it has none of the values, the values as text), of what stands before "where".
        second: the same for what stands after it.
        exactly: whether the first holds only where the second does.
        schema: the table.
        u: its numbers.

    Raises:
        InputError: a column has no such value, the value of the later column is rare and not at an end of its range, or
            a column is named twice.
    """
    fields = schema.ruled
    (one, not_one, own), (two, not_two, others) = first, second
    if one == two:
        raise InputError(f"--rule {text!r}: column {one!r} is named twice", "name two columns")
    values = {one: _values_asked(text, fields[one], own), two: _values_asked(text, fields[two], others)}
    source, target = sorted(values, key=list(fields).index)

    def holds(inside: dict[str, bool]) -> bool:
        is_first, is_second = inside[one] != not_one, inside[two] != not_two
        return is_first == is_second if exactly else is_first or not is_second

    states = []
    for here in (True, False):
        ways = [there for there in (True, False) if holds({source: here, target: there})]
        states.append(0 if len(ways) == 2 else 1 if ways[0] else -1)
    field, keys = fields[target], values[source]
    atoms = dict(_atoms(field, u[target]))
    sign = atoms.get(values[target][0], 0)
    if field.kind not in CODED and (len(values[target]) > 1 or values[target][0] not in atoms):
        what = f"{_joined(field, values[target])} is neither the least nor the greatest nor the most frequent value of"
        raise InputError(f"--rule {text!r}: {what} {target!r}, or it is rare", "omit the rule")
    rule = Pinned(target, (source,), "", values[target], keys, (states[0],) * len(keys), states[1], sign=sign)
    return described(rule, True, fields, u)


def _values_asked(text: str, field: Column, words: str) -> tuple[float, ...]:
    """The values in a rule, as codes or numbers."""
    levels = {str(level).lower(): float(code) for code, level in enumerate(field.levels or ())}
    found = []
    for word in (part.strip().strip("'\"`") for part in re.split(r"\s+or\s+", words.strip())):
        try:
            found.append(levels[word.lower()] if field.kind in CODED else _number(field, word))
        except (KeyError, ValueError):
            kind = "level" if levels else "date" if field.time == "dates" else "number"
            remedy = f"name one of {listed([*levels])}" if levels else f"write a {kind}"
            what = f"column {field.name!r} has no {kind} {word!r}"
            raise InputError(f"--rule {text!r}: {what}", remedy) from None
    return tuple(sorted(found))


def _number(field: Column, word: str) -> float:
    if field.time != "dates":
        return float(word)
    return float(np.datetime64(word).astype("M8[us]").astype(np.int64) / 86_400e6)
