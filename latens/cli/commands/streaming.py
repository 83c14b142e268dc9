"""What is done with a fitted run on data larger than memory: from file to file, in order, a chunk at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latens import evaluation
from latens.cli.commands.answer import Answer
from latens.cli.commands.sources import reading_bar
from latens.data.rows import Rows, broken_rules, rows_like, unknown_levels
from latens.data.streams.sources import Stream
from latens.data.streams.survey import Encoded
from latens.data.streams.writing import Writer
from latens.data.tables.files import table_batches
from latens.errors import InputError, concerning
from latens.evaluation.imputation import CELLS
from latens.evaluation.likelihood import chunk_rows, rows_at_once
from latens.runs import imputing, outputs, scoring
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import Table
from latens.tensors.randomness import Key, seed_of, seeded

ROWS = 50_000  # of a chunk, about
MOST_COPIES = 500  # of a filled stream: each is a file that is open meanwhile

Work = Callable[[Rows, int], Any]  # (rows, number of the first) -> an array or a table of as many rows


class Pass:
    """One pass of a run over a stream in chunks of a multiple of ``unit`` rows, so that what is computed ``unit`` rows
    at a time meets the same rows as in memory. ``unknown``: cells of each column whose level was never seen in fitting,
    ``broken``: rows that break each rule.
    ``sift``: impossible cells are left to the work (:meth:`latens.data.rows.Rows.sifted`), not refused.
    """

    def __init__(self, run: Run, stream: Stream, unit: int = 1, *, sift: bool = False):
        self.run, self.stream, self.rows = run, stream, unit * max(1, ROWS // unit)
        self.unknown: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.sift = sift
        self.notes: list[str] = list(stream.notes)
        self._encoded = Encoded(stream, schema_of(run), run.given)

    def write(self, writer: Writer, work: Work) -> None:
        """Write what ``work`` makes of each chunk, in order."""
        self.each([writer], lambda rows, first: writer.write(work(rows, first), rows))

    def each(self, writers: list[Writer], work: Work) -> None:
        """Let ``work`` have each chunk, in order, while the writers are open."""
        for writer in writers:
            self.require_apart(writer.path)
        with ExitStack() as stack:
            for writer in writers:
                stack.enter_context(writer)
            seen = stack.enter_context(reading_bar(self.stream))
            for first, piece in self.stream.chunks(self.rows):
                work(self.chunk(piece, first), first)
                seen(first + len(piece))

    def chunk(self, piece: Any, first: int) -> Rows:
        """Rows as the run takes them; what does not fit is refused with the number of its row."""
        with concerning(self.stream.origin):
            rows = rows_like(
                piece, schema_of(self.run), self.run.given, where=self.stream.origin, check=not self.sift
            )
        if self.sift:
            return replace(rows, notes=(*self.stream.notes, *rows.notes))
        x, c = self._encoded.encode(rows.x, first, self.unknown, self.broken)
        vars(rows).update(inside=x, c=c)  # where the rows would keep them
        return rows

    def require_apart(self, out: Path) -> None:
        """``InputError`` where the output would lie among the files that are read."""
        folder = Path(self.stream.origin)
        if folder.is_dir() and folder.resolve() in out.resolve().parents:
            raise InputError(f"cannot write {out}: it would lie among the data that are read; name another folder")

    @property
    def warnings(self) -> list[str]:
        return self.notes + unknown_levels(self.unknown) + broken_rules(self.broken)

    def written(self, writer: Writer, what: str, figures: dict[str, Any] | None = None) -> Answer:
        lines = [f"wrote {writer.path}: {what} {writer.shape}", *(f"warning: {text}" for text in self.warnings)]
        found = {"out": str(writer.path), "shape": writer.shape, "warnings": self.warnings}
        return Answer("\n".join(lines), found | (figures or {}))


def _unit(run: Run, stream: Stream, draws: int = 0) -> int:
    """How many rows the evaluations take at once; 0 draws: one pass through the encoder."""
    row = torch.empty(1, *schema_of(run).shape)
    return chunk_rows(row, draws)[0] if draws else rows_at_once(row.numel())


def encode(run: Run, stream: Stream, out: str, *, samples: int = 0, seed: int = 0) -> Answer:
    """Codes of a stream: posterior means, or one draw from q(z|x), its noise a function of (seed, chunk)."""
    if samples > 1:
        raise InputError(f"{stream.origin} is read as a stream, which takes at most one draw a row, got {samples}")

    def work(rows: Rows, first: int) -> np.ndarray:
        with seeded(seed_of(seed, Key.CODES, first)):
            z = evaluation.codes(run.model, rows.inside, rows.c, sample=bool(samples))
        return z.numpy().astype(np.float32)

    writer, through = Writer(out, len(stream), "z"), Pass(run, stream, _unit(run, stream))
    through.write(writer, work)
    return through.written(writer, "codes")


def reconstruct(run: Run, stream: Stream, out: str) -> Answer:
    """The decoded posterior means of a stream, in the data's layout and units."""

    kind = next((p.dtype for p in run.model.parameters() if p.is_floating_point()), None)

    def work(rows: Rows, first: int) -> Any:
        z = evaluation.codes(run.model, rows.inside, rows.c).float().to(kind)
        writer.names = rows.names
        made = rows.in_order(outputs.decoded(run, z, rows.c, rows.handed_through))
        return outputs.written(made, run, rows, out)

    writer, through = Writer(out, len(stream), schema_of(run).names), Pass(run, stream, _unit(run, stream))
    through.write(writer, work)
    return through.written(writer, "reconstructions")


def score(run: Run, stream: Stream, out: str, *, k: int) -> Answer:
    """A lower bound on ln p(x) of each row of a stream; in a table what :func:`latens.runs.scoring.score` knows
    beside. The stream is read as far as its first odd row before, to know whether there is a column of reasons."""
    writer, through = Writer(out, len(stream)), Pass(run, stream, _unit(run, stream, k), sift=True)
    assert run.folder is not None
    calibration = scoring.read_calibration(run.folder)
    tally = scoring.Tally(run, k, calibration)
    with closing(stream.chunks(through.rows)) as pieces:
        reason = not writer.is_array and any(
            scoring.sifted(run, through.chunk(piece, first), refuse=False)[1] for first, piece in pieces
        )

    def work(rows: Rows, first: int) -> Any:
        if first == 0:
            scoring.require_score(run, rows)
        with concerning(f"{stream.origin}, counting rows from row {first:,} on" if first else stream.origin):
            found = scoring.score(run, rows, k, calibration, refuse=first == 0)
        tally.add(found, rows)
        return found.log_px if writer.is_array else scoring.as_table(found, schema_of(run), reason)

    through.write(writer, work)
    return scored(out, tally)


def scored(out: str, tally: scoring.Tally, more: Sequence[str] = ()) -> Answer:
    """What is said of a file of scores; ``more``: lines on other files."""
    first, *rest = tally.lines()
    warnings = tally.warnings()
    lines = [f"wrote {out}: {first}", *rest, *more, *(f"warning: {line}" for line in warnings)]
    return Answer("\n".join(lines), {"out": out, **tally.figures(), "warnings": warnings})


def impute(
    run: Run, stream: Stream, out: str, *, k: int = 1000, draws: int = 0, uncertainty: str | None = None, seed: int = 0
) -> Answer:
    """A stream with its missing cells filled; ``draws`` > 0: so many filled copies below each other, the number of the
    copy in the first column, by way of temporary files beside the output."""
    if uncertainty is not None and Path(uncertainty).resolve() == Path(out).resolve():
        raise InputError(f"--uncertainty and --out name the same file {out}; name two")
    if not isinstance(run.schema, Table):
        raise InputError(f"{stream.origin}: arrays of one kind of values have no missing cells to fill")
    if draws > MOST_COPIES:
        raise InputError(f"--draws {draws}: of a stream at most {MOST_COPIES} filled copies are written; ask for fewer")
    unit = max(1, CELLS // (max(64, run.schema.columns) * k))
    through = Pass(run, stream, unit)
    filled: dict[str, int] = {}
    left: dict[str, int] = {}
    writer = Writer(out, len(stream) * max(draws, 1))
    import pyarrow as pa

    with ExitStack() as stack:
        spread = None if uncertainty is None else stack.enter_context(Writer(uncertainty, len(stream)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=writer.path.resolve().parent)) if draws else ""
        copies = [Writer(Path(folder, f"{number}.parquet"), len(stream)) for number in range(draws)]

        def work(rows: Rows, first: int) -> Any:
            found = imputing.impute(run, rows, k=k, draws=draws, seed=seed, first_row=first)
            for total, some in ((filled, found.missing), (left, found.left)):
                for name, count in some.items():
                    total[name] = total.get(name, 0) + count
            for copy, table in zip(copies, found.draws):
                copy.write(outputs.written(table, run, rows, out), rows)
            if spread is not None:
                spread.write(found.spread, rows)
            return outputs.written(found.filled, run, rows, out)

        if draws:
            through.each(copies, work)
            with writer:
                for number, copy in enumerate(copies):
                    for batch in table_batches(copy.path, index=True):
                        writer.write(imputing.numbered(pa.Table.from_batches([batch]), number))
        else:
            through.write(writer, work)
    if draws:
        through.notes += imputing.copy_notes([field.name for field in run.schema.fields])
    through.notes += imputing.notes(filled, through.unknown, left)
    total = sum(filled.values())
    most = ", ".join(f"{name} {count:,}" for name, count in sorted(filled.items(), key=lambda i: -i[1])[:5])
    note = f"filled {total:,} missing cells" + (f" ({most})" if most else "") + (f", {draws} times" if draws else "")
    return through.written(writer, note + "; rows", {"filled": filled, "k": k, "draws": draws})
