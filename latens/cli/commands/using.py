"""The commands that pass a file of data through a run: encode, reconstruct, score, impute.

Data pass through the run in parts, in order. Data larger than memory are read in chunks; data in memory are one part.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from latens import evaluation, runs
from latens.cli.commands.answer import Answer
from latens.cli.commands.inputs import data_for, reading_bar, require_spare, stream_for
from latens.data import require_output, streams
from latens.data.rows import Rows, broken_rules, known_columns, numbers_of, rows_like, unknown_levels, with_kept
from latens.data.streams.sources import Stream
from latens.data.streams.text import Whole
from latens.data.streams.writer import Writer
from latens.data.tables.files import table_batches
from latens.errors import InputError, concerning
from latens.evaluation.likelihood import chunk_rows, rows_at_once
from latens.machine.atomic import terminable
from latens.runs import outputs, record
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Table
from latens.tensors.randomness import Key, seed_of, seeded

TABLES = (".csv", ".tsv", ".parquet", ".feather")
H5AD = ".h5ad"
ROWS = 50_000  # approximate rows of a chunk
MOST_COPIES = 500  # the most filled copies of a stream, as each copy is an open file


Parts = Generator[tuple[Rows, int]]
Put = Callable[[list[Any], Rows], Any]
Readable: TypeAlias = str | Stream | Rows  # a path, or data already read or opened


@dataclass(frozen=True)
class Inputs:
    """How data are read for a run: ``own``, the user's own recipe; ``labels`` and ``reading`` as for
    :func:`~latens.cli.commands.inputs.data_for`; ``keep``, the columns to put in front of each output row. With
    ``whole``, data are streamed only if they are large."""

    own: str | None = None
    labels: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    whole: bool = False


# Data that pass through a run


class InMemory:
    """Rows in memory, which pass through a run as one part."""

    def __init__(self, run: Run, rows: Rows):
        self.run, self.rows = run, rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data."""
        return self.rows.warnings

    @property
    def unknown(self) -> dict[str, int]:
        """For each column, the number of cells with a level that the fit never saw."""
        return self.rows.unknown

    def parts(self) -> Parts:
        """(rows, index of the first), in order."""
        yield self.rows, 0

    def draws(self, rows: Rows, first: int, samples: int, seed: int) -> np.ndarray:
        """Draws from q(z|x) for each row of a part: ``[samples, N, Z]``, or ``[N, Z]`` for a single draw."""
        z = outputs.posterior_samples(self.run, rows, samples, seed)
        return z[0] if samples == 1 else z

    def require_fillable(self, draws: int) -> None:
        """Raise ``InputError`` if missing cells cannot be filled, or not ``draws`` times."""

    @contextmanager
    def copies(self, writer: Writer, draws: int) -> Iterator[Put]:
        """A function that writes the filled copies of a part. When the block ends, the file of ``writer`` holds copy
        after copy, with the copy's number in the first column. With 0 draws, it holds a single copy without that
        column."""
        with writer:
            yield lambda made, rows: writer.write(_stacked(made, rows) if draws else made[0], None if draws else rows)

    def at(self, first: int) -> AbstractContextManager[None]:
        """A context that names the data in error messages and, for a stream, the row ``first``."""
        return nullcontext()


class Streaming(InMemory):
    """A stream, which passes through a run in chunks.

    Args:
        run: the run.
        stream: the data.
        unit: the size of a chunk is a multiple of this number of rows, so that work done on ``unit`` rows at a time has
            the same groups of rows as in memory.
        sift: whether cells with a value that their column cannot hold are left for
            :meth:`latens.data.rows.Rows.sifted`, instead of refused.
    """

    def __init__(self, run: Run, stream: Stream, unit: int = 1, *, sift: bool = False):
        self.run, self.stream, self.size, self.sift = run, stream, unit * max(1, ROWS // unit), sift
        self._unknown: dict[str, int] = {}  # for each column, cells with a level that the fit never saw
        self._broken: dict[str, int] = {}  # for each rule, the rows that break it
        self._encoded = streams.survey.Encoded(stream, schema_of(run), run.given)

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data read so far."""
        return [*self.stream.notes, *unknown_levels(self._unknown), *broken_rules(self._broken)]

    @property
    def unknown(self) -> dict[str, int]:
        """For each column, the number of cells with a level that the fit never saw, in the rows read so far."""
        return self._unknown

    def parts(self) -> Parts:
        """(rows, index of the first), chunk by chunk."""
        with reading_bar(self.stream) as seen:
            for first, piece in self.stream.chunks(self.size):
                yield self._rows(piece, first), first
                seen(first + len(piece))

    def _rows(self, piece: Any, first: int) -> Rows:
        """Rows in the run's form; an ``InputError`` names the row that does not fit."""
        origin, schema, kept = self.stream.origin, schema_of(self.run), self.stream.kept
        spare = set(kept) - known_columns(schema, self.run.given)
        with concerning(origin):
            own = piece.drop_columns([*spare]) if spare else piece
            found = self.stream.understood(own)
            rows = rows_like(
                own if found is None else found.table, schema, self.run.given, where=origin, found=found,
                check=not self.sift,
            )  # fmt: skip
        if kept:
            rows = with_kept(rows, piece.select(list(kept)))
        if self.sift:
            return replace(rows, notes=(*self.stream.notes, *rows.notes))
        x, c = self._encoded.encode(rows.x, first, self._unknown, self._broken, is_read=found is not None)
        vars(rows).update(inside=x, c=c)  # the cached properties of the rows
        return rows

    def require_apart(self, out: str) -> None:
        """Raise ``InputError`` if the output would lie in the folder of the data."""
        if _is_below(out, self.stream.origin):
            raise InputError(f"cannot write {out}: it would lie in the folder of the data", "name another folder")

    def draws(self, rows: Rows, first: int, samples: int, seed: int) -> np.ndarray:
        """As in :class:`InMemory`, with noise that is a function of (seed, chunk)."""
        if samples > 1:
            origin = self.stream.origin
            raise InputError(
                f"--samples {samples}: {origin} is read as a stream, which takes at most one draw per row",
                "pass --samples 1",
            )
        with seeded(seed_of(seed, Key.CODES, first)):
            return evaluation.codes(self.run.model, rows.inside, rows.c, sample=True).numpy().astype(np.float32)

    def require_fillable(self, draws: int) -> None:
        """Raise ``InputError`` if missing cells cannot be filled, or not ``draws`` times."""
        if draws and not isinstance(self.run.schema, Table):
            raise InputError(f"{self.stream.origin}: a streamed array has no missing cells to fill", "omit --draws")
        if draws > MOST_COPIES:
            raise InputError(f"--draws {draws}: a stream is filled at most {MOST_COPIES} times", "ask for fewer copies")

    @contextmanager
    def copies(self, writer: Writer, draws: int) -> Iterator[Put]:
        """As in :class:`InMemory`, through temporary files in the output's folder."""
        if not draws:
            with super().copies(writer, draws) as put:
                yield put
            return
        import pyarrow as pa

        with tempfile.TemporaryDirectory(dir=writer.path.resolve().parent) as folder:
            with ExitStack() as stack:
                files = [Writer(Path(folder, f"{number}.parquet"), len(self.stream)) for number in range(draws)]
                for file in files:
                    stack.enter_context(file)

                def put(made: list[Any], rows: Rows) -> None:
                    for file, copy in zip(files, made, strict=True):
                        file.write(copy, rows)

                yield put
            with writer:
                for number, file in enumerate(files):
                    for batch in table_batches(file.path, index=True):
                        writer.write(runs.imputing.numbered(pa.Table.from_batches([batch]), number))

    def at(self, first: int) -> AbstractContextManager[None]:
        """A context that names the data, and the row ``first``, in error messages."""
        origin = self.stream.origin
        return concerning(f"{origin}, counting rows from row {first:,}" if first else origin)


def through(
    folder: str | Run, data: Readable, outs: Sequence[str], asked: Inputs, *, unit: Callable[[Run], int],
    sift: bool = False, flat: bool = True,
) -> InMemory:  # fmt: skip
    """Data that pass through the run in ``folder`` to the files ``outs``. For ``unit`` (a function of the run) and
    ``sift``, see :class:`Streaming`; for ``flat``, see :func:`~latens.cli.commands.inputs.stream_for`."""
    for out in outs:
        if require_free_output(out, folder, data) not in TABLES and asked.keep:
            what = f"cannot write {out}: an array has no place for the column {asked.keep[0]!r} (--keep)"
            raise InputError(what, f"write one of {', '.join(TABLES)}")
    run = loaded(folder, asked.own)
    if isinstance(data, Rows):
        return InMemory(run, data)
    if isinstance(data, Stream):
        return Streaming(run, data, unit(run), sift=sift)
    flat = flat and not (asked.whole or any(_is_below(out, data) for out in outs))
    stream = stream_for(run, data, asked.labels, asked.reading, lenient=sift, flat=flat, keep=asked.keep)
    if stream is None:
        return InMemory(run, data_for(run, data, asked.labels, asked.reading, check=not sift, keep=asked.keep))
    way = Streaming(run, stream, unit(run), sift=sift)
    for out in outs:
        way.require_apart(out)
    return way


def loaded(folder: str | Run, own: str | None) -> Run:
    """The run in a folder, or the run itself."""
    return folder if isinstance(folder, Run) else record.load(folder, recipe=own)


def _is_below(out: str, data: str) -> bool:
    """Whether an output would lie in the folder of the data."""
    return Path(data).is_dir() and Path(data).resolve() in Path(out).resolve().parents


def rows_encoded_at_once(run: Run) -> int:
    """The number of rows that the encoder takes in one call."""
    return rows_at_once(_row(run).numel())


def _row(run: Run) -> torch.Tensor:
    return torch.empty(1, *schema_of(run).shape)


def _stacked(copies: list[Any], rows: Rows) -> Any:
    """Filled copies of rows, copy after copy; in a table, the first column has the copy's number."""
    if not hasattr(rows.x, "column_names"):
        return np.concatenate(copies)
    import pyarrow as pa

    numbered = (runs.imputing.numbered(rows.named(copy), number) for number, copy in enumerate(copies))
    return pa.concat_tables(numbered).unify_dictionaries()


# Output files


def require_free_output(
    out: str, folder: str | Run, data: Readable | None = None, more: tuple[str, ...] = ()
) -> str:  # fmt: skip
    """The extension of an output file, checked before long work starts.

    Raises:
        InputError: the file cannot be written, or would replace the data or a part of the run.
    """
    extension = require_output(out, more)
    target = Path(out).resolve()
    if isinstance(data, str) and (out == data or (Path(data).exists() and target == Path(data).resolve())):
        raise InputError(f"cannot write {out}: it is the input", "name another file")
    place = Path(folder.folder or "" if isinstance(folder, Run) else folder)
    if target.parent == place.resolve() and target.name in record.PARTS:
        raise InputError(f"cannot write {out}: it is a part of the run", "name another file")
    return extension


def _require_table_for(out: str, rows: Rows) -> None:
    """Raise ``InputError`` if a column that is not numeric would go to an array."""
    if Path(out).suffix.lower() in TABLES or not isinstance(rows.schema, Table):
        return
    for name, cells in zip(rows.x.column_names, rows.x.columns):
        if rows.x.num_rows and numbers_of(cells[:1]) is None:
            raise InputError(
                f"cannot write {out}: an array cannot hold the column {name!r}, which has no numbers",
                f"write one of {', '.join(TABLES)}",
            )


def written(
    out: str, what: str, shape: Sequence[int], warnings: Sequence[str] = (), beside: Path | None = None
) -> Answer:  # fmt: skip
    """The answer for an output file; ``beside`` is the file of row names that was written with it."""
    lines = [f"wrote {out}: {what} {list(shape)}", *_beside(beside), *(f"warning: {text}" for text in warnings)]
    return Answer("\n".join(lines), {"out": out, "shape": list(shape), "warnings": list(warnings)})


def _beside(names: Path | None) -> list[str]:
    return [] if names is None else [f"wrote {names}: the name of each row, one per line"]


# Commands


def _or_in_memory(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Run the command; run it again in memory if parts of a text file turn out to need the whole file. A SIGTERM leaves
    no unfinished file behind."""

    @wraps(command)
    @terminable()
    def done(folder: str | Run, data: Readable, out: str, asked: Inputs, **options: Any) -> Answer:
        try:
            return command(folder, data, out, asked, **options)
        except Whole:
            if not isinstance(data, str):
                raise
            return command(folder, data, out, replace(asked, whole=True), **options)

    return done


def _is_annotated(
    folder: str | Run, data: Readable, out: str, asked: Inputs, samples: int, key: str | None
) -> bool:  # fmt: skip
    """Whether codes go to an .h5ad; ``InputError`` if the output cannot hold what was asked for."""
    annotated = Path(out).suffix.lower() == H5AD
    if annotated and asked.keep:
        raise InputError(f"--keep: {out} is a copy of the data, with all of their columns", "omit --keep")
    if key is not None and not annotated:
        raise InputError(f"--key names codes in an .h5ad, but {out} is not one", "omit --key, or write an .h5ad")
    extension = require_output(out, (H5AD,)) if annotated else require_free_output(out, folder, data)
    if samples > 1 and extension in (*TABLES, H5AD):
        raise InputError(f"cannot write {out}: {samples} draws per row have three axes", "write .npy or .npz")
    return annotated


def _obsm(out: str, data: str, key: str | None) -> Any:
    from latens.data.counts.obsm import KEY, ObsmWriter

    return ObsmWriter(out, data, KEY if key is None else key)


@_or_in_memory
def encode(
    folder: str | Run, data: Readable, out: str, asked: Inputs, *, samples: int, seed: int, key: str | None = None
) -> Answer:  # fmt: skip
    """Write codes: posterior means ``[N, Z]``, or draws from q(z|x) ``[samples, N, Z]``. For a stream, there is at most
    one draw per row, and its noise is a function of (seed, chunk). With an .h5ad, the output is a copy of the data (or
    replaces them), with the codes in obsm under the name ``key``."""
    annotated = _is_annotated(folder, data, out, asked, samples, key)
    beside = _obsm(out, data, key) if annotated and isinstance(data, str) else None
    way = through(folder, data, [] if annotated else [out], asked, unit=rows_encoded_at_once, flat=samples == 0)
    writer = beside or Writer(out, samples if samples > 1 else len(way), "z")
    with writer, closing(way.parts()) as parts:
        for rows, first in parts:
            z = way.draws(rows, first, samples, seed) if samples else outputs.codes(way.run, rows)
            require_spare(asked.keep, [f"z{j}" for j in range(z.shape[-1])])
            writer.write(z, rows)
    where = "codes" if beside is None else f"the data with codes in obsm[{beside.key!r}]"
    return written(out, where, writer.shape, way.warnings, writer.beside)


@_or_in_memory
def reconstruct(folder: str | Run, data: Readable, out: str, asked: Inputs) -> Answer:
    """Write each row decoded from its posterior mean, in the layout and units of the data."""
    way = through(folder, data, [out], asked, unit=rows_encoded_at_once)
    require_spare(asked.keep, schema_of(way.run).names)
    writer = Writer(out, len(way))
    with writer, closing(way.parts()) as parts:
        for rows, _ in parts:
            _require_table_for(out, rows)
            writer.names = rows.names
            writer.write(outputs.written(outputs.reconstructed(way.run, rows), way.run, rows, out), rows)
    return written(out, "reconstructions", writer.shape, way.warnings, writer.beside)


@_or_in_memory
def score(
    folder: str | Run, data: Readable, out: str, asked: Inputs, *, k: int, reason: bool | None = None
) -> Answer:  # fmt: skip
    """Write a lower bound on ln p(x) of each row, in nats. A table also has its standard error, effective sample size,
    calibrated p-value, the columns that make the row strange, and the reason if a single value makes it strange.

    ``reason`` says whether there is a column of reasons. If it is None, a first pass reads the data up to the first row
    with such a value.
    """
    way = through(
        folder, data, [out], asked, sift=True, unit=lambda run: chunk_rows(_row(run), min(k, runs.scoring.TERMS))[0]
    )
    run, writer = way.run, Writer(out, len(way))
    calibration = runs.scoring.read_calibration(Path(run.folder or ""))
    tally = runs.scoring.Tally(run, k, calibration)
    if reason is None:
        with closing(way.parts()) as parts:
            found = (runs.scoring.sifted(run, rows, refuse=False)[1] for rows, _ in parts)
            reason = not writer.is_array and any(found)
    with writer, closing(way.parts()) as parts:
        for rows, first in parts:
            if first == 0:
                runs.scoring.require_score(run, rows)
            with way.at(first):
                scores = runs.scoring.score(run, rows, k, calibration, refuse=first == 0)
            tally.add(scores, rows)
            table = None if writer.is_array else runs.scoring.as_table(scores, schema_of(run), reason)
            require_spare(asked.keep, [] if table is None else table.column_names)
            writer.write(scores.log_px if table is None else table, rows)
    line, *rest = tally.lines()
    warnings = tally.warnings()
    lines = [f"wrote {out}: {line}", *rest, *_beside(writer.beside), *(f"warning: {text}" for text in warnings)]
    return Answer("\n".join(lines), {"out": out, **tally.figures(), "warnings": warnings})


@_or_in_memory
def impute(
    folder: str | Run, data: Readable, out: str, asked: Inputs, *, k: int, draws: int, uncertainty: str | None,
    seed: int,
) -> Answer:  # fmt: skip
    """Write the data with missing cells filled, and to ``uncertainty`` the standard deviation of each filled cell. If
    ``draws`` > 0, write that many filled copies, copy after copy, with the copy's number in the first column."""
    beside = [] if uncertainty is None else [uncertainty]
    for table in beside:
        if require_free_output(table, folder, data) not in TABLES:
            raise InputError(f"cannot write {table}: uncertainties are a table", f"write one of {', '.join(TABLES)}")
        if Path(table).resolve() == Path(out).resolve():
            raise InputError(f"--uncertainty and --out name the same file {out}", "name two files")
    way = through(
        folder, data, [out, *beside], asked,
        unit=lambda run: max(1, evaluation.imputation.CELLS // (max(64, schema_of(run).columns) * k)),
        flat=draws == 0,
    )  # fmt: skip
    way.require_fillable(draws)
    require_spare(asked.keep, schema_of(way.run).names)
    writer, filled, left = Writer(out, len(way) * max(draws, 1)), Counter[str](), Counter[str]()
    with ExitStack() as stack:
        spreads = [stack.enter_context(Writer(table, len(way))) for table in beside]
        put = stack.enter_context(way.copies(writer, draws))
        for rows, first in stack.enter_context(closing(way.parts())):
            _require_table_for(out, rows)
            found = runs.imputing.impute(way.run, rows, k=k, draws=draws, seed=seed, first_row=first)
            filled.update(found.missing)
            left.update(found.left)
            writer.names = rows.names
            for spread in spreads if found.spread is not None else ():
                spread.write(found.spread, rows)
            put([outputs.written(made, way.run, rows, out) for made in found.draws or [found.filled]], rows)
    most = ", ".join(f"{name} {count:,}" for name, count in sorted(filled.items(), key=lambda i: -i[1])[:5])
    note = f"{sum(filled.values()):,} missing cells filled" + (f" ({most})" if most else "")
    warnings = way.warnings + runs.imputing.notes(filled, way.unknown, left)
    warnings += runs.imputing.copy_notes(getattr(rows.x, "column_names", ())) if draws else []
    answer = written(out, note + (f", {draws} times" if draws else "") + "; rows", writer.shape, warnings)
    return Answer(answer.text, answer.figures | {"filled": dict(filled), "k": k, "draws": draws})
