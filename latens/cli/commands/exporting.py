"""``latens export``: a run as ONNX graphs that work without latens."""

from __future__ import annotations

from latens.cli.commands.answer import Answer
from latens.errors import concerning
from latens.runs import record as runs
from latens.runs.export import writing


def export(folder: str, out: str, *, opset: int, own: str | None) -> Answer:
    """Write the folder of an export."""
    writing.require_onnx()
    run = runs.load(folder, recipe=own)
    with concerning(folder):
        found = writing.export(run, out, opset=opset)
    lines = [f"wrote {out}: {', '.join(found['files'])}"]
    lines += [f"warning: no {name}.onnx: {why}" for name, why in found["without"].items()]
    return Answer("\n".join(lines), {"out": out, **found})
