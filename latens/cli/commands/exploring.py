"""``latens explore``: a page on which to explore the latent space, point by point."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from latens.cli.commands.answer import Answer
from latens.cli.commands.inputs import again, data_for, in_memory
from latens.errors import InputError
from latens.machine.atomic import writable, write_text
from latens.machine.folder import Folder
from latens.report.explore import Explorer
from latens.report.explore.serving import Server
from latens.runs import record as runs
from latens.runs.record import Run


def explore(
    folder: str, data: str | None, *, out: str | None, with_rows: bool, points: int, half: bool, browser: bool,
    port: int, labels: str | None, own: str | None, reading: Mapping[str, Any] | None = None,
) -> Answer:  # fmt: skip
    """Write the explorer of a run, on the named data or on the data that it was fitted to, and open it."""
    if out is not None:
        if Path(out).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write {out}: the explorer is an HTML page", "name a file that ends in .html")
        writable(out)
    if data is None and (labels is not None or reading):
        what = "options for reading data need DATA, as the run's own data are read as in the fit"
        raise InputError(what, "name the data")
    run = runs.load(folder, recipe=own)
    rows = in_memory(again(runs.read_record(folder), Path(folder))[1]) if data is None else (
        data_for(run, data, labels, reading))  # fmt: skip
    page = Explorer(run, rows, points=points, with_rows=with_rows, half=half)
    if page.lacking:
        if out is not None:
            raise InputError(f"cannot write {out}: {page.lacking}",
                             "omit --out, so that `latens explore` decodes in a local process")  # fmt: skip
        return _serve(run, page, rows.notes, port=port, browser=browser)
    written = Path(out) if out else Folder(folder) / runs.EXPLORER
    write_text(written, page.html())
    path = Path(written)
    opened = browser and out is None and webbrowser.open(path.resolve().as_uri())
    lines = [f"wrote {path}: {page.points:,} points, {path.stat().st_size / 1e3:,.0f} kB", *_warnings(page, rows.notes)]
    if browser and out is None and not opened:
        lines.append(f"note: no browser was found: open {path.resolve()}")
    figures = {"page": str(path), "points": page.points, "rows": page.total, "bytes": path.stat().st_size}
    return Answer("\n".join(lines), figures)


def _serve(run: Run, page: Explorer, notes: tuple[str, ...], *, port: int, browser: bool) -> Answer:
    """Decode for the page until the user presses Ctrl-C."""
    with Server(run, page, port) as server:
        first = f"{page.lacking}, so this process decodes: {server.address}"
        lines = [first, *_warnings(page, notes), "Ctrl-C ends it"]
        typer.echo("\n".join(lines))
        if browser:
            webbrowser.open(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return Answer("", {"page": None, "points": page.points, "rows": page.total})


def _warnings(page: Explorer, notes: tuple[str, ...]) -> list[str]:
    found = [f"warning: {note}" for note in notes]
    if page.has_rows:
        kept = page.contents.about["rows"]["kept"]
        found.append(f"warning: cells of {kept:,} rows of the data are in the page: pass --no-rows to leave them out")
    if page.points < page.total:
        found.append(f"note: {page.points:,} of {page.total:,} rows are shown, drawn at random: --points sets how many")
    return found
