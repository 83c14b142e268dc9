"""Commands that turn data into data. The output is one file, or a folder of parts that several workers write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from latens.cli.commands import using
from latens.cli.commands.answer import Answer
from latens.cli.commands.using import Inputs
from latens.data.writing import FORMATS
from latens.errors import InputError


def is_folder_of_parts(out: str, data: str) -> bool:
    """Whether an output is a folder of parts: its name ends in a slash, or the data are a folder and the name does not
    end in an extension that latens writes."""
    if out.endswith(("/", os.sep)):
        return True
    return Path(out).suffix.lower() not in (*FORMATS, ".png", ".h5ad") and os.path.isdir(os.path.expanduser(data))


# Commands


def encode(folder: str, data: str, out: str, **given: Any) -> Answer:
    """Write codes; see :func:`latens.cli.commands.using.encode`."""
    return _through("encode", folder, data, out, **given)


def reconstruct(folder: str, data: str, out: str, **given: Any) -> Answer:
    """Write reconstructions; see :func:`latens.cli.commands.using.reconstruct`."""
    return _through("reconstruct", folder, data, out, **given)


def score(folder: str, data: str, out: str, **given: Any) -> Answer:
    """Write scores; see :func:`latens.cli.commands.using.score`. In a folder of parts, every table has a column of
    reasons, so that all parts have the same columns."""
    return _through("score", folder, data, out, **given)


def impute(folder: str, data: str, out: str, **given: Any) -> Answer:
    """Write rows with their missing cells filled; see :func:`latens.cli.commands.using.impute`."""
    return _through("impute", folder, data, out, **given)


def sample(
    folder: str, out: str, *, parts: Mapping[str, Any], lines: TextIO | None = None, **options: Any
) -> Answer:  # fmt: skip
    """Write new rows; see :func:`latens.cli.commands.densities.sample`. In a folder, each part has ``part_rows``
    rows."""
    if not is_folder_of_parts(out, ""):
        _require_no_parts(out, parts)
        from latens.cli.commands import densities

        return densities.sample(folder, out, **options)
    from latens.cli.commands import gathering

    return gathering.of_samples(folder, out, options, parts, lines)


def _through(
    command: str, folder: str, data: str, out: str, *, own: str | None, parts: Mapping[str, Any],
    labels: str | None = None, reading: Mapping[str, Any] | None = None, lines: TextIO | None = None, **options: Any,
) -> Answer:  # fmt: skip
    """Run a command, with a single file or a folder of parts as output."""
    inputs = Inputs(own, labels, dict(reading or {}), tuple(parts["keep"] or ()))
    if not is_folder_of_parts(out, data):
        _require_no_parts(out, parts)
        return getattr(using, command)(folder, data, out, inputs, **options)
    from latens.cli.commands import gathering

    if (samples := options.get("samples", 0)) > 1:
        raise InputError(f"--samples {samples}: a part holds at most one draw per row", "pass --samples 1")
    if (uncertainty := options.get("uncertainty")) is not None:
        raise InputError(f"--uncertainty {uncertainty} is one file, but --out {out} is a folder of parts", "omit it")
    options |= {"reason": True} if command == "score" else {}
    return gathering.of_data(command, folder, data, out, inputs, options, parts, lines)


def _require_no_parts(out: str, parts: Mapping[str, Any]) -> None:
    """Raise ``InputError`` if options for a folder of parts are given for a single file."""
    for name in ("workers", "engine", "part_rows"):
        if parts.get(name) is not None:
            option, end = name.replace("_", "-"), Path(out).suffix.lower() in FORMATS
            wrong = f"--{option} is for a folder of parts, but --out {out} is one file"
            raise InputError(wrong, f"omit it, or name a folder, as in --out {Path(out).stem if end else out}/")
