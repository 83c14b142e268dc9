"""Rules between columns: those that hold in every row and not by accident, and those that the user names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from latens.data.tables.rules_asked import declared
from latens.data.tables.rules_found import (
    LEAST,
    combinations_of_levels,
    formulas,
    functions,
    gaps,
    joined_combinations,
    order_of,
    orders,
)
from latens.errors import InputError
from latens.schema import Column, Table
from latens.schema.arrow import pa
from latens.schema.cells import listed
from latens.schema.rules import ColumnNumbers, Combinations, Formula, Function, Missing, Order, Rule

NONE = "none"
DENYING = 100  # rows of a piece that deny a rule, of those that are looked at together
LEAVING = Function | Formula | Order | Combinations  # combinations are not looked for among the targets of these


def with_rules(schema: Table, table: Any, asked: Sequence[str], where: str) -> Table:
    """The schema with the rules asked for and, unless "none" is among them, those found in the rows of the table.

    Raises:
        InputError: a rule cannot be read, is about columns that are not modelled, or is broken by a row.
    """
    texts = [text for text in asked if text.strip().lower() != NONE]
    found = len(texts) == len(asked)
    if not texts and (not found or len(table) < LEAST or len(schema.outer) < 2):
        return schema
    u, fields = schema.numbers(table, where), schema.outer_by_name
    rules: list[Rule] = []
    for text in texts:
        for rule in declared(text, schema, u, where):
            rules = _added(rules, rule, text)
    if found:
        rules = _with_found(rules, fields, u)
    ordered = _sorted(_joined(rules, fields, u))
    assert ordered is not None
    return dataclasses.replace(schema, rules=tuple(ordered)) if ordered else schema


def with_rules_of_all(
    schema: Table, sample: Any, pieces: Callable[[], Iterable[tuple[int, Any]]], asked: Sequence[str], where: str
) -> Table:  # fmt: skip
    """The schema with the rules of all rows of a table that is seen a piece at a time: those that :func:`with_rules`
    gives for a sample of them to which the rows that deny one are added, until none does.

    Args:
        pieces: gives (number of the first row, arrow table) of each piece, as often as it is called.
    """
    some = f"a sample of {where}"
    found, added, before = with_rules(schema, sample, asked, some), set[int](), -1
    while found.rules and len(added) > before:
        before = len(added)
        for first, piece in pieces():
            u = schema.numbers(piece, where, first_row=first)
            while rows := _denying(found, u, first, added):
                added |= {first + row for row in rows}
                sample = pa.concat_tables([sample, piece.take(rows)]).unify_dictionaries()
                found = with_rules(schema, sample, asked, some)
    return found


def _denying(schema: Table, u: ColumnNumbers, first: int, added: set[int]) -> list[int]:
    """Rows that deny a rule, some of each rule, of which the first is number ``first``, but for those added before."""
    denied = [np.flatnonzero(rule.denied(u, schema.outer_by_name)).tolist() for rule in schema.rules]
    return sorted({row for rows in denied for row in [row for row in rows if first + row not in added][:DENYING]})


def _with_found(rules: list[Rule], fields: dict[str, Column], u: ColumnNumbers) -> list[Rule]:
    """The rules asked for and those that the rows show, without circles and without second rules for a target."""
    found = list(rules)
    for search in (functions, formulas, orders, combinations_of_levels, gaps):
        kinds = Function | Missing if search is gaps else Rule if search is not combinations_of_levels else LEAVING
        taken = {rule.target for rule in found if isinstance(rule, kinds)}
        for rule in search(fields, u, taken):
            if rule.target not in taken and _sorted([*found, rule]) is not None:
                found.append(rule)  # a target may have several orders
    return found


def _added(rules: list[Rule], rule: Rule, text: str) -> list[Rule]:
    """The rules with one more; ``InputError`` if they form a circle, or two rules determine the same column."""
    same = [each for each in rules if each.target == rule.target and Missing not in (type(each), type(rule))]
    if same and not (len({type(each) for each in [*same, rule]}) == 1 and isinstance(rule, Order | Combinations)):
        what = f"--rule {text!r}: column {rule.target!r} is already bound by {same[0].text}"
        raise InputError(what, "omit one of the two")
    if _sorted([*rules, rule]) is None:
        what = f"--rule {text!r} forms a circle with {listed([each.text for each in rules])}"
        raise InputError(what, "omit one of them")
    return [*rules, rule]


def _sorted(rules: Iterable[Rule]) -> list[Rule] | None:
    """The rules in an order in which each follows those whose targets are its sources; None if they form a circle."""
    left, done = list(rules), []
    while left:
        targets = {rule.target for rule in left}
        free = [rule for rule in left if not targets & set(rule.sources)]
        if not free:
            return None
        done += free
        left = [rule for rule in left if rule not in free]
    return done


def _joined(rules: Sequence[Rule], fields: dict[str, Column], u: ColumnNumbers) -> list[Rule]:
    """The rules, with all orders of one target joined, and all combinations of one target joined."""
    found: dict[tuple[type, str], list[Rule]] = {}
    for rule in rules:
        found.setdefault((type(rule), rule.target), []).append(rule)
    every = [rule for rule in rules if isinstance(rule, Combinations)]
    joined: list[Rule] = []
    for same in found.values():
        if isinstance(same[0], Combinations):
            joined.append(joined_combinations(every, same[0], fields, u))
        elif isinstance(same[0], Order) and len(same) > 1:
            joined.append(_joined_orders([rule for rule in same if isinstance(rule, Order)], fields, u))
        else:
            joined += same
    return joined


def _joined_orders(same: Sequence[Order], fields: dict[str, Column], u: ColumnNumbers) -> Rule:
    sources = tuple(dict.fromkeys(name for each in same for name in each.sources))
    joined = order_of(sources, same[0].target, fields, u, strict=all(each.strict for each in same))
    assert joined is not None
    return dataclasses.replace(joined, reason="; ".join(each.reason for each in same))
