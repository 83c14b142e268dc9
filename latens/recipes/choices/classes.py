"""The class of a row: a condition of the data, or unlabelled."""

from __future__ import annotations

from dataclasses import replace

from latens.errors import InputError, is_whole, require
from latens.recipes.choices.info import DataInfo
from latens.schema import Column


def with_class(info: DataInfo, classes: int | str) -> tuple[DataInfo, DataInfo, str, int]:
    """(the data with the class as a condition without gaps; the data without it; its name; the number of classes).

    The class is the first condition. Without conditions it is unlabelled, with ``classes`` values ("auto": 10).
    ``InputError`` if the condition is not a column of levels.
    """
    if not info.conditions:
        count = 10 if classes == "auto" else classes
        require(is_whole(count) and 2 <= int(count) <= 1000, "classes", "a whole number from 2 to 1000", count)
        column = Column("class", "categorical", "int64", "categorical", tuple(range(int(count))))
        info.choices["classes"] = f"classes = {count}, unlabelled; to use labels, pass --condition COLUMN"
        return replace(info, conditions=(column,)), info, column.name, int(count)
    first, *others = info.conditions
    if not first.outputs_codes or len(first.levels or ()) < 2:
        raise InputError(
            f"the class must be a column of levels, but the condition {first.name!r} is {first.kind}",
            f"pass --column {first.name}=categorical, or name another condition first",
        )
    if classes not in ("auto", len(first.levels or ())):
        raise InputError(
            f"classes = {classes}, but the condition {first.name!r} has {len(first.levels or ())} levels",
            "omit --classes",
        )
    rest = tuple(others)
    sample_c = info.sample_c if rest else None
    complete = replace(info, conditions=(replace(first, missing=0.0), *rest))
    return complete, replace(info, conditions=rest, sample_c=sample_c), first.name, len(first.levels or ())
