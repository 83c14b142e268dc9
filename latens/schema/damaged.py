"""The error for a record whose schema of the data is not sound."""

from __future__ import annotations

from latens.errors import InputError


def damaged(what: str) -> InputError:
    """The error for a schema read from a run's record; ``what`` continues the sentence "the schema of the data …".

    >>> str(damaged("lacks levels"))
    'the schema of the data lacks levels: restore run.json from a copy, or fit again'
    """
    return InputError(f"the schema of the data {what}", "restore run.json from a copy, or fit again")
