"""A run as a folder that works without latens: ONNX graphs, the meaning of their numbers, and an example of use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch

import latens
from latens.errors import InputError, is_whole
from latens.machine.atomic import terminable
from latens.runs.export import graphs
from latens.runs.export.graphs import Graph
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import LIBRARY, Column, Table
from latens.training.checkpoint import digest, sealed

OPSETS = (18, 20)  # the first and the last operator set in which torch writes these graphs
GRAPHS = {"encoder": graphs.encoder, "decoder": graphs.decoder, "scorer": graphs.scorer}


def export(run: Run, out: str | Path, *, opset: int = OPSETS[1]) -> dict[str, Any]:
    """Write encoder.onnx, decoder.onnx, scorer.onnx, model.json and example.py to a new folder.

    Args:
        run: a fitted run.
        out: the folder, which is created.
        opset: the version of ONNX's operators.

    Returns:
        {"files": names, "without": {graph that cannot be written: why}}.

    Raises:
        InputError: onnx is missing, the folder has files in it, or no graph can be written.
    """
    require_onnx()
    if not is_whole(opset) or not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(f"--opset must be a whole number from {OPSETS[0]} to {OPSETS[1]}, got {opset!r}")
    schema_of(run)
    without: dict[str, str] = {}
    with new_folder(out) as folder:
        written: dict[str, Any] = {}
        for name, make in GRAPHS.items():
            try:
                graph = make(run)
                data = as_onnx(graph, opset)
            except (NotImplementedError, InputError) as error:
                without[name] = str(error)
                continue
            (folder / f"{name}.onnx").write_bytes(data)
            written[name] = _described(graph, data)
        if not written:
            raise InputError(f"no part of this run can be exported: {without['decoder']}")
        record = {"format": 1, "latens": latens.__version__, "recipe": run.name, "opset": opset, "graphs": written,
                  "without": without, "data": meaning(run)}  # fmt: skip
        (folder / "model.json").write_text(sealed(record), "utf-8")
        example = resources.files("latens.runs.export").joinpath("example.txt").read_text("utf-8")
        (folder / "example.py").write_text(example, "utf-8")
        files = sorted(path.name for path in folder.iterdir())
    return {"files": files, "without": without}


def require_onnx() -> None:
    """Raise ``InputError`` if a package that is needed to write ONNX is missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        missing = f"latens export needs the package {error.name or 'onnx'}, which is not installed"
        raise InputError(missing, "run `pip install 'latens[onnx]'`") from None


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends without an exception.

    Raises:
        InputError: ``out`` is a file or holds files, or its folder is missing or read-only.
    """
    target = Path(out)
    if not str(out).strip():
        raise InputError("the name of the export's folder is empty", "name a folder")
    if target.is_file():
        raise InputError(f"{out} is a file", "name a folder for the export")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{out} already has files in it", "name another folder, or remove this one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"the folder {out} cannot be created ({error.strerror})", "choose another folder") from None
    try:
        with terminable():
            yield made
        made.chmod(0o755)
        made.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def as_onnx(graph: Graph, opset: int = OPSETS[1]) -> bytes:
    """The graph as an ONNX model for any number of rows, checked by onnx.

    Raises:
        NotImplementedError: an operation has no counterpart in ONNX.
    """
    import onnx
    from onnxscript import optimizer

    program = graphs.traced(graph)
    try:
        with graphs.quiet(), torch.no_grad():
            found = torch.onnx.export(
                program, dynamo=True, opset_version=opset, verbose=False, input_names=list(graph.inputs),
                output_names=list(graph.outputs), optimize=False,
            )  # fmt: skip
            assert found is not None
            optimizer.inline(found.model)
            optimizer.fold_constants(found.model)  # no rewriting, which would take a factor of 0.99999 for 1
            optimizer.remove_unused_nodes(found.model)
        model = found.model_proto
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "rows"
        onnx.checker.check_model(model)
    except Exception as error:
        reasons = [line for line in str(error.__cause__ or error).splitlines() if "ONNX" in line or "onnx" in line]
        said = (reasons or [type(error).__name__])[0].strip()
        raise NotImplementedError(f"ONNX cannot express it ({said[:200]})") from error
    return model.SerializeToString()


def _described(graph: Graph, data: bytes) -> dict[str, Any]:
    given = dict(zip(graph.inputs, graph.given(1)))
    inputs = {
        name: {"shape": ["rows", *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in given.items()
    }
    return {"inputs": inputs, "outputs": list(graph.outputs), "sha256": digest(data)}


def meaning(run: Run) -> dict[str, Any]:
    """The meaning of the graphs' numbers, for input and output, in JSON's types."""
    schema = schema_of(run)
    conditions = [column_meaning(column) for column in (() if run.given is None else run.given.given_fields)]
    if LIBRARY in (run.data.get("conditions") or {}):
        conditions.append({"name": LIBRARY, "kind": "log of the row's total"})
    if isinstance(schema, Table):
        columns = [column_meaning(each) | {"needed": each.name not in schema.reproduced} for each in schema.outer]
        return {"layout": "table", "dtype": schema.storage, "columns": columns, "conditions": conditions,
                "rules": [rule.text for rule in schema.rules], "order": [field.name for field in schema.fields],
                "constants": {f.name: f.value for f in schema.fields if f.kind == "constant"}}  # fmt: skip
    kept = ("layout", "kind", "levels", "names", "span", "constant", "constant_values", "low", "high")
    fields = schema.to_json()
    return {name: fields[name] for name in kept} | {
        "dtype": schema.storage, "shape": list(schema.shape), "written": schema.dtype, "conditions": conditions,
    }  # fmt: skip


def column_meaning(column: Column) -> dict[str, Any]:
    """The meaning of a column's numbers: codes of ``levels``, or numbers from ``low`` to ``high`` with ``decimals``
    digits after the point; dates are days since 1970-01-01."""
    found = {"name": column.name, "kind": column.kind, "type": column.type, "written": column.written_as,
             "missing": column.missing}  # fmt: skip
    if column.outputs_codes:
        return found | {"levels": [each if isinstance(each, str | int | float | bool) else str(each)
                                   for each in column.levels or ()]}  # fmt: skip
    return found | {"low": column.low, "high": column.high, "decimals": column.decimals,
                    "mean": column.shift, "spread": column.unit}  # fmt: skip
