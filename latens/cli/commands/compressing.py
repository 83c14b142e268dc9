"""``latens compress`` and ``latens decompress``: write data as a file of nearly -ELBO bits, and restore them."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latens import evaluation
from latens.cli.commands.answer import Answer
from latens.cli.commands.inputs import read_for, rows_for
from latens.cli.commands.using import require_free_output
from latens.data.array_files import read_arrays
from latens.data.counts.sparse import PARTS, SparseRows, stored_parts
from latens.data.sources import EMBEDDED, Source, read
from latens.data.tables.files import TableWriter, stored_table
from latens.data.tables.folders import holds_tables, kind_of
from latens.data.tables.types import INDEX, plain_schema, require_names
from latens.errors import InputError, concerning
from latens.machine.atomic import atomic_write, write_bytes
from latens.runs import record
from latens.runs.coding.arrays import KINDS
from latens.runs.coding.codec import Packed, Unpacked
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Table
from latens.schema.arrow import listed, pa, pc

LATENS = ".latens"
_ROWS = 1000  # -ELBO is computed for this many rows


def compress(
    folder: str, data: str, out: str, *, own: str | None, labels: str | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write data as a .latens file, and report how much it saves."""
    if Path(out).suffix.lower() != LATENS:
        raise InputError(f"cannot write {out}: the extension must be {LATENS}")
    require_free_output(out, folder, data, (LATENS,))
    run = record.load(folder, recipe=own)
    with concerning(folder):
        codec = run.codec()
    schema = schema_of(run)
    original = _original(run, data, reading)
    with concerning(data):
        source = read_for(run, data, labels, reading, lenient=isinstance(schema, Table))
        rows = rows_for(source, schema, run.given, check=not isinstance(schema, Table))
        key, beside = ("x", {}) if original is not None else _beside(source, rows)
        found = codec.pack(rows, original, beside=beside, key=key)
    write_bytes(out, found.data)
    lines, figures = _savings(run, found, rows, _size(data, rows.x))
    warnings = list(rows.warnings)
    if data.lower().endswith(".h5ad"):
        warnings.append(f"{out} holds the counts and the names of cells and genes, and nothing else of {data}")
    lines = [f"wrote {out}: {lines[0]}", *lines[1:], *(f"warning: {text}" for text in warnings)]
    return Answer("\n".join(lines), {"out": out, **figures, "warnings": warnings})


def decompress(folder: str, file: str, out: str, *, own: str | None) -> Answer:
    """Write the data in a .latens file."""
    require_free_output(out, folder, file)
    run = record.load(folder, recipe=own)
    with concerning(folder):
        codec = run.codec()
    with concerning(file):
        found = codec.unpack(_bytes_of(file))
    _require_form(run, out, file, found)
    _write(out, found)
    return Answer(f"wrote {out}: rows {list(found.x.shape)}", {"out": out, "shape": list(found.x.shape)})


def _original(run: Run, data: str, reading: Mapping[str, Any] | None) -> Any:
    """All columns of a table as its file stores them, with a text file's columns as text; None if the data are no
    table."""
    if data in EMBEDDED:
        found = read(data).x
        return found if hasattr(found, "column_names") else None
    if Path(data).is_dir():
        return _refused_folder(data) if holds_tables(Path(data)) else None
    kind = kind_of(Path(data).name)
    if kind == "csv":
        schema = schema_of(run)
        like = schema.fields if isinstance(schema, Table) else ()
        source = read(data, reading=run.reading_of(reading), like=like, lenient=True, keep_text=True, index=True)
        text = _with_index_named(source.found.text)  # type: ignore[union-attr]
        require_names(text.column_names, data)
        return text.replace_schema_metadata({"text": kind})
    if kind is None:
        return None
    with concerning(data):
        table = stored_table(data)
        plain_schema(table.schema, data)
    return table


def _beside(source: Source, rows: Any) -> tuple[str, dict[str, np.ndarray]]:
    """(the name of the array; the arrays stored with it): all other arrays of an .npz; labels and names of rows."""
    is_sparse = isinstance(source.x, SparseRows)
    if source.x.shape[1:] != rows.x.shape[1:]:
        raise InputError(f"{source.origin} has columns that the model does not read", "leave them out")
    if source.row_kind == "file" and source.notes:  # the notes list every loss
        what = f"{source.origin} would not come back unchanged ({source.notes[0]})"
        raise InputError(what, "save the images in one form and size first")
    key, found = _archived(source.origin, is_sparse)
    if source.labels is not None and not any(np.array_equal(source.labels, array) for array in found.values()):
        words = None if source.label_names is None else np.array(source.label_names, dtype=np.str_)
        found.setdefault("y", source.labels if words is None else words[source.labels])
    if source.row_names is not None:
        found[f"{source.row_kind}s"] = np.array(source.row_names, dtype=np.str_)
    if is_sparse and source.names is not None:
        found["genes"] = np.array(rows.schema.names, dtype=np.str_)
    for name, array in found.items():
        if array.dtype.kind not in KINDS:
            raise InputError(f"{source.origin}: array {name!r} of type {array.dtype} cannot be stored", "leave it out")
    return key, found


def _archived(origin: str, is_sparse: bool) -> tuple[str, dict[str, np.ndarray]]:
    """(the name of an array in its .npz; the other arrays there); no names and arrays for other files."""
    archive = re.fullmatch(r"(.+\.npz)(?::(.+))?", origin, re.IGNORECASE)
    if archive is None:
        return "x", {}
    found = read_arrays(Path(archive[1]), ()) or {}
    key = "x" if is_sparse else archive[2] or next(iter(found))
    return key, {name: array for name, array in found.items() if name not in (PARTS if is_sparse else (key,))}


def _with_index_named(table: Any) -> Any:
    """The table with a name for its row index, which in a text file has no name."""
    first, *rest = table.column_names
    return table if first or not rest else table.rename_columns([f"{INDEX}0__", *rest])


def _refused_folder(data: str) -> None:
    raise InputError(f"{data} is a folder of tables, but compress takes one file", "compress its files one by one")


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})", f"name a {LATENS} file") from None


def _size(data: str, x: Any) -> int:
    """The size in bytes of the data's file, or of its numbers if there is no file."""
    path = Path(data)
    if data in EMBEDDED:
        return int(x.nbytes)
    if path.is_file():
        return path.stat().st_size
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return int(getattr(x, "nbytes", 0))


def _savings(run: Run, found: Packed, rows: Any, before: int) -> tuple[list[str], dict[str, Any]]:
    """How much the file saves, in words and as figures."""
    some = rows.take(np.arange(min(_ROWS, len(rows))) * len(rows) // min(_ROWS, len(rows)))
    ideal = _ideal(run, some) if found.is_whole else None
    size, bits = len(found.data), 8 * found.coded / found.rows
    model = sum(value.nbytes for value in run.model.state_dict().values())
    saved = (before - size) / found.rows
    lines = [f"{found.rows:,} rows, {size:,} bytes, {size / before:.3f} of the {before:,} before"]
    figures = {"rows": found.rows, "bytes": size, "before": before, "coded": found.coded, "bits_per_row": bits,
               "ideal_bits_per_row": ideal, "model": model}  # fmt: skip
    schema = schema_of(run)
    dimensions = "" if isinstance(schema, Table) else f" ({bits / schema.columns:.4f} per dimension)"
    against = "" if ideal is None else f"; -ELBO {ideal:,.1f}, on {len(some):,} rows"
    lines.append(f"{bits:,.1f} bits per row{dimensions}{against}")
    if saved > 0:
        figures["break_even"] = math.ceil(model / saved)
        least = f"together, model and file are smaller than the data from {figures['break_even']:,} rows on"
        lines.append(f"the model has {model:,} bytes; {least}")
    else:
        lines.append(f"the model has {model:,} bytes in addition, and the file is not smaller than the data")
    return lines, figures


def _ideal(run: Run, rows: Any) -> float:
    """-ELBO in bits per row, with all ln p as logarithms of masses. (For a column on a grid, the model's own ln p may
    be the logarithm of the mass of a grid point divided by the step.)"""
    bits = -evaluation.elbo(run.model, rows.inside, rows.c).elbo / math.log(2)
    if not isinstance(schema_of(run), Table):
        return bits
    widths = np.log2([column.width for column in run.model.likelihood.columns])  # type: ignore[union-attr]
    return bits - float((widths * ~np.isnan(rows.inside[:].numpy()).reshape(len(rows), -1)).sum(1).mean())


def _without_quotes(table: Any) -> Any:
    """The table with empty texts as missing cells, since text files write both as nothing. A table that is not from a
    text file is unchanged."""
    if b"text" not in (table.schema.metadata or {}):
        return table
    columns = [pc.if_else(pc.equal(cells, ""), None, cells) for cells in table.columns]
    return pa.table(columns, schema=table.schema)


def _same_as_text(run: Run, found: Unpacked, extension: str) -> bool:
    """Whether a table is the same when the run reads it from text, without a remark on any cell."""
    if found.x.schema.metadata:
        return False
    schema = schema_of(run)
    like = schema.fields if isinstance(schema, Table) else ()
    with TemporaryDirectory() as folder:
        path = str(Path(folder, f"table{extension}"))
        try:
            _write(path, found)
            return bool(read(path, reading=run.reading_of(None), like=like, lenient=True).x.equals(found.x))
        except InputError:
            return False


def _require_form(run: Run, out: str, file: str, found: Unpacked) -> None:
    """Raise ``InputError`` if a file with the extension of ``out`` cannot hold the data unchanged."""
    extension = Path(out).suffix.lower()
    good: tuple[str, ...] = (".npz",) if found.beside else (".npy", ".npz")
    if found.is_table:
        good = (".csv", ".tsv") if b"text" in (found.x.schema.metadata or {}) else (".parquet", ".feather")
    as_text = found.is_table and extension in (".csv", ".tsv")
    if extension not in good and not (as_text and _same_as_text(run, found, extension)):
        with_them = f"with {listed(list(found.beside))}" if found.beside else ""
        what = "a table" if found.is_table else f"an array {with_them}".strip()
        raise InputError(f"cannot write {out}: {file} holds {what}, which would change in this format",
                         f"name a file that ends in {' or '.join(good)}")  # fmt: skip


def _write(out: str, found: Unpacked) -> None:
    if found.is_table:
        with TableWriter(out, found.x.schema) as writer:
            writer.write(_without_quotes(found.x))
        return
    with atomic_write(out) as file:
        if Path(out).suffix.lower() == ".npy":
            np.save(file, found.x, allow_pickle=False)
            return
        arrays = stored_parts(found.x) if found.is_sparse else {found.key: found.x}
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in (arrays | found.beside).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
