"""What the columns of a table are, and how an Arrow table is converted to numbers and back.

A :class:`Table` describes mixed columns as a :class:`latens.schema.Schema` describes an array of one kind of values. It
turns an arrow table into ``[N, D]`` numbers in the user's units (codes for levels, NaN for missing cells), and numbers
back into columns of the same names, order and types.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latens.errors import InputError, damaged
from latens.schema.arrays import BEYOND_FLOAT32
from latens.schema.arrow import listed, pa, pc, require_once, short, value_of
from latens.schema.column import KEPT, KINDS, Column
from latens.schema.rules import (
    ColumnNumbers,
    Confined,
    Pinned,
    Rule,
    at_most,
    ceilings,
    functions_of,
    of_values,
    settle_dates,
    settle_key,
    settle_levels,
    stated,
    tell_all,
    values_of,
)

PIECE = 1 << 18  # rows that are converted together


@dataclass(frozen=True)
class Table:
    """The columns of a table in the user's order.

    Args:
        fields: all columns, including those that are not modelled.
        storage: dtype of the numbers in memory, "float32" or "float64".
        reason: a plain sentence on what was seen.
        conditions: names of the columns that are given, not modelled: they are part of c, not of x.
        rules: the rules between columns, sorted: each rule follows those whose targets are its sources.

    Raises:
        InputError: two columns have the same name, or a rule names a column that is not modelled.

    >>> table = Table((Column("n", "count", "int64", "poisson"), Column("id", "identifier", "string")))
    >>> table.shape, table.names
    ((1,), ('n',))
    """

    fields: tuple[Column, ...]
    storage: str = "float32"
    reason: str = ""
    conditions: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    layout = "table"
    kind = "table"
    levels = None
    is_image = False
    is_discrete = False
    constant: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.storage not in ("float32", "float64"):
            raise InputError(f"the storage of a table must be 'float32' or 'float64', got {self.storage!r}")
        require_once([field.name for field in self.fields], "the schema of the data")
        if not all({rule.target, *rule.sources} <= self.ruled.keys() for rule in self.rules):
            raise damaged("has a rule on columns that are not modelled")
        if any(rule.target in self.conditions for rule in self.rules):
            raise damaged("has a rule that determines a condition")

    @cached_property
    def outer(self) -> tuple[Column, ...]:
        """The columns that a model returns, in the user's terms; they include columns that rules compute."""
        return tuple(field for field in self.fields if field.is_modelled and field.name not in self.conditions)

    @cached_property
    def outer_by_name(self) -> dict[str, Column]:
        """The columns of :attr:`outer` by name."""
        return {field.name: field for field in self.outer}

    @cached_property
    def ruled(self) -> dict[str, Column]:
        """The columns between which rules hold, by name; conditions without gaps come before :attr:`outer`."""
        return {f.name: f for f in (*(each for each in self.given_fields if not each.missing), *self.outer)}

    @property
    def reproduced(self) -> tuple[str, ...]:
        """Names of the columns that rules determine, and that are therefore not modelled."""
        return tuple(rule.target for rule in self.rules if rule.reproduces)

    @cached_property
    def modelled(self) -> tuple[Column, ...]:
        """The columns of x, in order. A column that a rule bounds is replaced by what the rule leaves open."""
        left = {rule.target: rule for rule in self.rules if rule.bounds}
        return tuple(left[field.name].left(field) if field.name in left else field
                     for field in self.outer if field.name not in self.reproduced)  # fmt: skip

    @property
    def given_fields(self) -> tuple[Column, ...]:
        """The columns of c."""
        return tuple(self.field(name) for name in self.conditions)

    def given(self, names: Sequence[str]) -> Table:
        """The same table with these columns as conditions; ``InputError`` if one is not modelled."""
        for name in names:
            if not self.field(name).is_modelled:
                kind, reason = self.field(name).kind, self.field(name).reason
                raise InputError(
                    f"column {name!r} is {kind} ({reason}), so it cannot be a condition",
                    f"omit --condition {shlex.quote(name)}, or say what it is with --column {shlex.quote(name)}=KIND",
                )
        return dataclasses.replace(self, conditions=tuple(dict.fromkeys(names)))

    @property
    def limits(self) -> None:
        """None, since the likelihood of each column keeps draws within its range."""
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of x, in order."""
        return tuple(field.name for field in self.modelled)

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape of x, ``(D,)``."""
        return (len(self.modelled),)

    @property
    def user_shape(self) -> tuple[int, ...]:
        """The event shape of x, ``(D,)``, as a table has no other layout."""
        return self.shape

    @property
    def columns(self) -> int:
        """D, the number of columns of x."""
        return len(self.modelled)

    @property
    def dtype(self) -> str:
        """The dtype of the numbers in memory."""
        return self.storage

    def field(self, name: str) -> Column:
        """The column with that name; if there is none, the ``InputError`` lists the columns."""
        for field in self.fields:
            if field.name == name:
                return field
        raise InputError(f"there is no column {name!r}", f"name one of {listed([f.name for f in self.fields])}")

    def check(self, table: Any, where: str = "the data") -> None:
        """Raise ``InputError`` unless the arrow table has every modelled column. Columns that rules determine are not
        needed."""
        require_columns(self.modelled, table, where)

    def numbers(
        self, table: Any, where: str = "the data", *, unknown: dict[str, int] | None = None, first_row: int = 0
    ) -> ColumnNumbers:
        """The columns of :attr:`ruled` as numbers, ``[N]`` each, NaN for missing cells and absent columns of
        :attr:`outer`. For arguments and errors, see :meth:`to_model`."""
        found = self.known(dict(zip(table.column_names, table.columns)), where, first_row)
        for column in self.outer:
            if column.name not in table.column_names:
                found[column.name] = np.full(table.num_rows, np.nan)
                continue
            numbers, strangers = column.encode(table.column(column.name), where, first_row)
            if self.storage == "float32":
                _require_float32(numbers, column, where, first_row)
            if unknown is not None and strangers:
                unknown[column.name] = unknown.get(column.name, 0) + strangers
            found[column.name] = numbers
        return found

    def known(self, cells: Mapping[str, Any], where: str = "the data", first_row: int = 0) -> ColumnNumbers:
        """The conditions of :attr:`ruled` as numbers, ``[N]`` each, from arrow arrays by name."""
        return {column.name: column.encode(cells[column.name], where, first_row)[0]
                for column in self.given_fields if column.name in self.ruled and column.name in cells}  # fmt: skip

    def known_of(self, c: Any) -> ColumnNumbers:
        """The conditions of :attr:`ruled` as numbers, ``[N]`` each, from those of the model, ``{name: [N]}``."""
        return {name: self.ruled[name].settled(np.asarray(values), given=True)
                for name, values in (c or {}).items() if name in self.ruled}  # fmt: skip

    def _with_known(self, u: ColumnNumbers, known: ColumnNumbers | None) -> ColumnNumbers:
        found = dict(known or {}) | u
        for rule in self.rules:
            for name in rule.sources:
                if name in self.conditions and name not in found:
                    what = f"the rule {rule.text} needs the condition {name!r}, which is not given"
                    raise InputError(what, "give it with the rows")
        return found

    def inward(self, u: ColumnNumbers, broken: dict[str, int] | None = None) -> np.ndarray:
        """Convert the numbers of :attr:`ruled` to those of x, ``[N, D]``. If a row breaks a rule, the rule's target
        counts as missing there. ``broken`` collects, by the text of each rule, the number of rows that break it."""
        u, fields = self._with_known(u, None), self.ruled
        for rule in self.rules:
            bad = rule.broken(u, fields)
            if bad.any():
                u[rule.target] = np.where(bad, np.nan, u[rule.target])
                if broken is not None:
                    broken[rule.text] = broken.get(rule.text, 0) + int(bad.sum())
            if rule.reproduces:
                rule.outward(made := dict(u), fields)
                u[rule.target] = np.where(np.isnan(u[rule.target]), made[rule.target], u[rule.target])
        for rule in reversed(self.rules):
            rule.inward(u, fields)
        out = np.empty((len(next(iter(u.values()))), self.columns), self.storage)
        for position, column in enumerate(self.modelled):
            out[:, position] = u[column.name]
        return out

    def outward(
        self, x: np.ndarray, known: ColumnNumbers | None = None, *, mean: bool = False, beyond: bool = False,
        hidden: np.ndarray | None = None,
    ) -> tuple[ColumnNumbers, np.ndarray]:  # fmt: skip
        """(``x [N, D]`` converted back to the numbers of :attr:`outer`; the mask ``[N]`` of the rows in which the
        target of a rule is out of range, or broke the rule). ``known`` holds the conditions, as :meth:`known` gives
        them. For ``mean``, ``beyond`` and ``hidden``, see :meth:`to_user`."""
        fields, outside = self.ruled, np.zeros(len(x), bool)
        u = self._with_known(self._settled(np.asarray(x, dtype=np.float64), mean, beyond), known)
        free = {name: np.full(len(x), name not in self.conditions) for name in u} if self.conditions else None
        settle_levels(self.rules, u, free)
        gone = {} if hidden is None else dict(zip(self.outer_by_name, hidden.T))
        for rule in self.rules:
            if not (gone and isinstance(rule, Confined | Pinned)):
                outside |= rule.outward(u, fields, mean)
                continue
            told = u | {name: np.where(gone[name], np.nan, u[name]) for name in rule.sources if name in gone}
            outside |= rule.outward(told, fields, mean)  # a missing cell is no limit
            u[rule.target] = told[rule.target]
        return {name: u[name] for name in self.outer_by_name}, outside

    def _settled(self, x: np.ndarray, mean: bool, beyond: bool) -> ColumnNumbers:
        """The numbers ``x [N, D]`` as their columns can hold them, except for those that a rule bounds. Unless they are
        means, sources of functions have known values."""
        u, bound = dict(zip(self.names, x.T)), {rule.target for rule in self.rules if rule.bounds}
        for name in [name for name in u if name not in bound]:
            u[name] = self.ruled[name].settled(u[name], mean=mean, beyond=beyond)
            if not mean and (own := functions_of(name, self.rules)):
                u[name] = own[0].nearest_key(u[name])
        return u

    def filled(self, u: ColumnNumbers, x: np.ndarray) -> ColumnNumbers:
        """The numbers of :attr:`outer`; those missing in ``u``, which has all of :attr:`ruled`, come from ``x [N, D]``,
        in such a way that rules hold."""
        fields, left = self.ruled, dict(zip(self.names, x.T.astype(np.float64)))
        seen = dict(u)
        tell_all(self.rules, seen, fields)
        given, most = dict(seen), ceilings(self.rules, seen, fields)
        for _ in range(2):  # twice: a source that a rule determines may bound columns it is computed from
            found = self._filled_once(u, seen, left, most)
            settle_dates(self.rules, found, seen, given, fields)
        for rule in self.rules:  # once more, since later rules may have moved what a target is computed from
            if rule.reproduces:
                found[rule.target] = np.where(np.isnan(given[rule.target]), np.nan, found[rule.target])
                rule.tell(found, fields)
        return {name: found[name] for name in self.outer_by_name}

    def _filled_once(
        self, u: ColumnNumbers, seen: ColumnNumbers, left: ColumnNumbers, most: ColumnNumbers
    ) -> ColumnNumbers:  # fmt: skip
        """The numbers ``seen``, with missing ones filled from what is modelled, ``left``, and at most ``most``. What
        this implies for columns that a rule computes is written to ``seen``, in place."""
        fields, bound = self.ruled, {rule.target for rule in self.rules if rule.bounds}
        found = {name: u[name] for name in fields if name in self.conditions}
        found |= {name: np.where(np.isnan(seen[name]), fields[name].settled(left[name]), seen[name])
                  for name in left if name not in bound}  # fmt: skip
        settle_levels(self.rules, found, {name: np.isnan(seen[name]) for name in found})
        for rule in self.rules:
            rule.pull(found, seen, fields, left)
        for name in set(found) & set(most):
            self._lower(name, most[name], found, seen)
        for rule in self.rules:
            if functions_of(rule.sources[0], [rule]):
                settle_key(rule.sources[0], self.rules, found, seen)
            rule.fill(found, seen, fields, left)
            if rule.target in most:
                self._lower(rule.target, most[rule.target], found, seen)
        return found

    def _lower(self, name: str, most: np.ndarray, found: ColumnNumbers, seen: ColumnNumbers) -> None:
        """Move filled cells to at most ``most``, in place. If a rule computes them, they then count as seen."""
        field, values = self.ruled[name], values_of(self.ruled[name], found[name])
        made = np.where(np.isnan(seen[name]), at_most(field, values, most), values)
        found[name] = of_values(field, made)
        if name in self.reproduced:
            seen[name] = np.where(made < values, found[name], seen[name])

    def to_model(
        self, table: Any, where: str = "the data", *, unknown: dict[str, int] | None = None, first_row: int = 0,
        broken: dict[str, int] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Convert an arrow table to the numbers of x; columns are found by name.

        Args:
            table: an arrow table of N rows.
            where: what messages call the data.
            unknown: if given, collects for each column the number of cells with a level that the fit never saw.
            first_row: the row number of the first row, for messages.
            broken: if given, collects for each rule, by its text, the number of rows that break it.

        Returns:
            ``[N, D]`` in ``storage``, NaN for missing cells and unknown levels.

        Raises:
            InputError: a column is missing, or a value does not fit; the message has its row.
        """
        self.check(table, where)
        out = np.empty((table.num_rows, self.columns), self.storage)
        for start in range(0, table.num_rows, PIECE):  # in pieces, since the intermediate numbers are float64
            piece = table.slice(start, PIECE)
            u = self.numbers(piece, where, unknown=unknown, first_row=first_row + start)
            out[start : start + PIECE] = self.inward(u, broken)
        return out

    def conditions_of(self, table: Any, where: str = "the data") -> dict[str, np.ndarray]:
        """The conditions of an arrow table as numbers, ``[N]`` each.

        A column that had gaps in the fit may have gaps here, as NaN; parts that cannot use gaps refuse them.

        Raises:
            InputError: a column is missing, or a cell is missing or has a level that the fit never saw; the message
                has its row.
        """
        require_columns(self.given_fields, table, where)
        found = {}
        for column in self.given_fields:
            cells = table.column(column.name)
            numbers, strangers = column.encode(cells, where)
            bad = np.isnan(numbers) & (strangers > 0 or not column.missing)
            if bad.any():
                row = int(bad.argmax())
                value = value_of(cells[row])
                what = (
                    "is missing"
                    if value is None or value != value
                    else f"is {value!r}, which was never seen in the fit"
                )
                remedy = f"give one of {listed([str(v) for v in column.levels])}" if column.levels else "fill it"
                raise InputError(
                    f"{where}: the condition {column.name!r} of row {row} (counted from 0) {what}", remedy
                )
            if self.storage == "float32":
                _require_float32(numbers, column, where, 0)
            found[column.name] = numbers.astype(self.storage)
        return found

    def to_user(
        self, x: np.ndarray, given: Mapping[str, Any] | None = None, *, mean: bool = False, beyond: bool = False,
        gaps: Callable[[np.ndarray], np.ndarray] | None = None, hidden: np.ndarray | None = None,
    ) -> Any:  # fmt: skip
        """Convert numbers to an arrow table with the user's columns, in the user's order.

        Args:
            x: ``[N, D]``, the modelled columns; rules compute further columns from them, and constants are added.
            given: arrow arrays by name: conditions, and columns that are passed through.
            mean: whether ``x`` are means; the mean of a count stays a fraction.
            beyond: whether numbers may lie outside the range of the data (targets of rules may not).
            gaps: a function that sets those numbers ``[N, columns of outer]`` to NaN whose cells are to be missing.
            hidden: the mask ``[N, columns of outer]`` of these cells, if known; they limit no other column.

        Raises:
            InputError: ``x`` has the wrong shape.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.columns:
            raise InputError(f"the array must be of shape (n, {self.columns}), got {x.shape}")
        given, columns = given or {}, {}
        known = self.known(given) if self.rules else {}
        u = dict(zip(self.names, x.T))
        if self.rules:
            u = self.outward(x, known, mean=mean, beyond=beyond, hidden=hidden)[0]
        u = u if gaps is None else self._with_gaps(u, known, gaps)
        for field in self.fields:
            if field.name in given and field.kind not in KEPT:
                columns[field.name] = given[field.name]
            elif field.name in u:
                columns[field.name] = self.decoded(field, u[field.name], mean, beyond)
            elif field.name in given:
                columns[field.name] = _filled(given[field.name], field, len(x))
            elif field.kind in KEPT:
                columns[field.name] = field.repeat(len(x))
        return pa.table(columns)

    def decoded(self, field: Column, numbers: np.ndarray, mean: bool = False, beyond: bool = False) -> Any:
        """The cells of a column of :attr:`outer`, from numbers ``[N]`` to which all rules have already been applied."""
        return field.decode(numbers, mean=mean, given=bool(self.rules), beyond=beyond)

    def _with_gaps(
        self, u: ColumnNumbers, known: ColumnNumbers, gaps: Callable[[np.ndarray], np.ndarray]
    ) -> ColumnNumbers:  # fmt: skip
        found = known | dict(zip(u, gaps(np.stack(list(u.values()), 1)).T))
        for rule in self.rules:
            rule.with_gaps(found, known | u, self.ruled)
        return {name: found[name] for name in u}

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary that ``json`` can write, with the columns under "table"."""
        return {
            "table": [field.to_json() for field in self.fields], "storage": self.storage, "reason": self.reason,
            "conditions": list(self.conditions), "rules": [rule.to_json() for rule in self.rules],
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: Any) -> Table:
        """The table that :meth:`to_json` wrote; ``InputError`` if the fields are not valid."""
        if not isinstance(fields, dict) or not isinstance(fields.get("table"), list):
            raise damaged("is not a mapping with the columns under 'table'")
        columns = tuple(Column.from_json(field) for field in fields["table"])
        given = fields.get("conditions", [])
        if not isinstance(given, list) or not set(map(str, given)) <= {column.name for column in columns}:
            raise damaged("has conditions that are not among its columns")
        rules = tuple(Rule.from_json(each) for each in fields.get("rules", ()))
        return cls(columns, str(fields.get("storage", "float32")), str(fields.get("reason", "")), tuple(given), rules)

    def describe(self) -> str:
        """The columns as a table of text that a person can check."""
        counted = ", ".join(
            f"{sum(f.kind == kind for f in self.fields)} {kind}"
            for kind in KINDS
            if any(f.kind == kind for f in self.fields)
        )
        rows = [("column", "kind", "likelihood", "missing", "written as", "what was seen")]
        for f in self.fields:
            shown = "–" if not f.missing else f"{f.missing:.1%}" if f.missing >= 0.001 else "<0.1%"
            how = ", given" * (f.name in self.conditions) + ", by rule" * (f.name in self.reproduced)
            kind = f.kind + how
            family = f.family if f.name in self.names else "–"
            rows.append((short(f.name), kind, family, shown, short(f.written_as), f.reason))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[5]]).rstrip() for row in rows]
        head = f"{len(self.fields):,} column{'s' * (len(self.fields) != 1)}: {counted}"
        rules = [f"rule: {text} ({reason})" for text, reason in stated(self.rules, self.ruled)]
        return "\n".join([head, *lines, *rules])


def _filled(cells: Any, field: Column, rows: int) -> Any:
    """The cells of a constant column, with the constant in place of missing cells."""
    if field.kind != "constant" or not cells.null_count:
        return cells
    made = field.repeat(rows)
    return made if cells.null_count == rows else pc.coalesce(cells, made.cast(cells.type))


def require_columns(fields: Sequence[Column], table: Any, where: str) -> None:
    """Raise ``InputError`` unless the arrow table has each of these columns exactly once."""
    names = list(table.column_names)
    for field in fields:
        if field.name not in names:
            raise InputError(
                f"{where} has no column {field.name!r}, which the model was fitted to (it has {listed(names)})",
                "add it, or rename the column that holds it",
            )
    wanted = {field.name for field in fields}
    require_once([name for name in names if name in wanted], where)


def _require_float32(numbers: np.ndarray, column: Column, where: str, first_row: int) -> None:
    with np.errstate(invalid="ignore"):
        beyond = np.abs(numbers) > np.finfo(np.float32).max
    if beyond.any():
        row = int(beyond.argmax())
        place = f"{where}, row {row + first_row} (counted from 0): column {column.name!r}"
        raise InputError(f"{place} has {numbers[row]:g}", BEYOND_FLOAT32)
