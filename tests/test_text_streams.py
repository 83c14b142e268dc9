"""Text goes from file to file in windows: the output equals that for data in memory, byte for byte."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import blank_page, done, figures

from latens import report
from latens.cli.commands import inputs, using
from latens.data.streams import text as streams
from latens.data.tables.files import read_table
from latens.data.tables.reading import Hints

ROWS = 700
NAMES = ["size", "count", "kind", "when", "price", "note", "flag"]


def lines(*, dates: str = "%Y-%m-%d", mark: str = ".", quoted: bool = False, gap: str = "") -> list[list[str]]:
    """Rows of text of every kind: numbers, whole numbers, words, dates, money, free text, truth values."""
    random, found = np.random.default_rng(0), []
    for row in range(ROWS):
        day = datetime.date(2020, 1, 1) + datetime.timedelta(days=int(random.integers(900)))
        price = f"{random.integers(1000, 99999) / 100:,.2f}" if quoted else f"{random.exponential():.2e}"
        note = ("two\nlines, and a comma" if row % 7 == 0 else 'say "so"') if quoted else "plain"
        cells = [f"{random.normal():.2f}".replace(".", mark), str(random.integers(1000)), "rgb"[row % 3],
                 day.strftime(dates), price, note, ("true", "false")[row % 2]]  # fmt: skip
        found.append([gap if random.random() < 0.03 else cell for cell in cells])
    return found


def text(cells: list[list[str]], sep: str = ",", end: str = "\n", header: bool = True, index: bool = False) -> bytes:
    """A text file of rows; cells with separators, quotes or line ends are quoted."""
    rows = [[str(row)] * index + each for row, each in enumerate(cells)]
    rows = [[""] * index + NAMES] * header + rows
    awkward = {sep, '"', "\n"}
    return "".join(
        sep.join('"' + cell.replace('"', '""') + '"' if awkward & {*cell} else cell for cell in row) + end
        for row in rows
    ).encode()


FILES: dict[str, Callable[[], bytes]] = {
    "plain": lambda: text(lines()),
    "dates and CRLF": lambda: text(lines(dates="%d.%m.%Y"), end="\r\n"),
    "semicolons": lambda: text(lines(mark=",", dates="%d/%m/%Y"), ";"),
    "quotes": lambda: text(lines(quoted=True)),
    "quotes and CRLF": lambda: text(lines(quoted=True, dates="%d %b %Y"), "|", "\r\n"),
    "byte order mark": lambda: b"\xef\xbb\xbf" + text(lines(dates="%Y%m%d"), "\t"),
    "no header": lambda: text(lines(), header=False),
    "row index": lambda: text(lines(dates="%m/%d/%Y"), index=True),
    "words for gaps": lambda: text(lines(gap="NA")),
    "no last line end": lambda: text(lines()).rstrip(b"\n"),
    "blank lines": lambda: text(lines()).replace(b"\n", b"\n\n"),
    "CR": lambda: text(lines(), end="\r"),
}
READ_WHOLE: dict[str, Callable[[], bytes]] = {
    "UTF-16": lambda: text(lines()).decode().encode("utf-16"),
    "spaces before quotes": lambda: text(lines()).replace(b",plain,", b', "plain",'),
    "quotes within cells": lambda: text(lines()).replace(b",plain,", b',5" pipe and 6",'),
}
LATE: dict[str, Callable[[bytes], bytes]] = {  # text whose form only a late window shows
    "another number form": lambda data: data[:-40] + data[-40:].replace(b"e", b"E"),
    "an open quote": lambda data: data + b'1.00,2,"r,2020-01-01,1e0,plain,true\n',
    "a comment": lambda data: data + b"# the end\n",
}
MOST = ("plain", "quotes")  # files that all commands read
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("encode", {"samples": 0, "seed": 0}), ("reconstruct", {}), ("score", {"k": 3}),
    ("impute", {"k": 5, "draws": 0, "uncertainty": None, "seed": 0}),
]  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Cut a small file into many windows and chunks."""
    monkeypatch.setattr(streams, "WINDOW", 1 << 12)
    monkeypatch.setattr(using, "ROWS", 100)
    monkeypatch.setattr("latens.evaluation.likelihood.ONCE", 512 * 40)
    monkeypatch.setattr("latens.evaluation.likelihood.CELLS", 512 * 200)
    monkeypatch.setattr("latens.evaluation.imputation.CELLS", 64 * 5 * 40)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], tuple[Path, Path]]:
    """(a file, a run fitted to it) by the name of the case; fitted once."""
    place, found = tmp_path_factory.mktemp("text"), {}

    def made(name: str, data: bytes) -> tuple[Path, Path]:
        if name not in found:
            path = place / f"{name}.csv"
            path.write_bytes(data)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report, "write", blank_page)
                done("fit", path, "--out", place / name, "--epochs", 1, "--network", "linear")
            found[name] = (path, place / name)
        return found[name]

    return made


def both(command: str, run: Path, data: Path, out: str, folder: Path, **given: Any) -> tuple[list[bytes], list[bool]]:
    """The outputs and answers of a command in memory and streamed, and whether chunks were used."""
    found, streamed = [], []
    for flat in (1 << 40, 0):
        with pytest.MonkeyPatch.context() as patch:
            sizes: list[int] = []
            rows = using.Streaming._rows
            patch.setattr(inputs, "FLAT", flat)
            patch.setattr(using.Streaming, "_rows", lambda *of, rows=rows, to=sizes: (to.append(1), rows(*of))[1])
            answer = getattr(using, command)(str(run), str(data), str(folder / out), using.Inputs(), **given)
        found.append((folder / out).read_bytes() + answer.text.encode())
        streamed.append(len(sizes) > 1)
    return found, streamed


@pytest.mark.parametrize("name, command, given", [
    (name, command, given) for name in FILES for command, given in (COMMANDS if name in MOST else COMMANDS[-1:])
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_windows_give_what_memory_gives(name: str, command: str, given: Any, runs: Any, tmp_path: Path):
    data, run = runs(name, FILES[name]())
    out = "o.npy" if command == "encode" else "o.csv"
    found, streamed = both(command, run, data, out, tmp_path, **given)
    assert streamed == [False, True]
    assert found[0] == found[1]
    if command == "impute":
        assert (tmp_path / out).read_bytes().count(b"2020") > 100


@pytest.mark.parametrize("name", READ_WHOLE)
def test_text_that_windows_might_cut_wrongly_is_read_as_a_whole(name: str, runs: Any, tmp_path: Path):
    data, run = runs(name, READ_WHOLE[name]())
    found, streamed = both("reconstruct", run, data, "o.csv", tmp_path)
    assert streamed == [False, False] and found[0] == found[1]


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("command, given", [COMMANDS[1], COMMANDS[2]], ids=["reconstruct", "score"])
def test_what_a_late_window_shows_is_decided_by_the_whole(
    name: str, command: str, given: Any, runs: Any, tmp_path: Path
):
    _, run = runs("plain", FILES["plain"]())
    data = tmp_path / "late.csv"
    data.write_bytes(LATE[name](FILES["plain"]()))
    results = []
    for flat in (0, 1 << 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inputs, "FLAT", flat)
            try:
                answer = getattr(using, command)(str(run), str(data), str(tmp_path / "o.csv"), using.Inputs(), **given)
                results.append((answer.text, (tmp_path / "o.csv").read_bytes()))
            except ValueError as error:
                results.append((str(error), b""))
    assert results[0] == results[1]


def test_a_folder_of_files_is_one_table(runs: Any, tmp_path: Path):
    _, run = runs("plain", FILES["plain"]())
    head, *rest = text(lines()).splitlines(keepends=True)
    (tmp_path / "set").mkdir()
    for number in (0, 1, 2):
        (tmp_path / "set" / f"{number}.csv").write_bytes(head + b"".join(rest[number * 300 : number * 300 + 300]))
    found, streamed = both("impute", run, tmp_path / "set", "o.csv", tmp_path, k=5, draws=0, uncertainty=None, seed=0)
    assert streamed == [False, True] and found[0] == found[1]


def test_additional_columns_and_another_order_change_nothing(runs: Any, tmp_path: Path):
    _, run = runs("plain", FILES["plain"]())
    table = read_table(runs("plain", b"")[0])
    rows = [[*row[::-1], "more"] for row in lines()]
    (tmp_path / "d.csv").write_text("\n".join(",".join(row) for row in [[*NAMES[::-1], "other"], *rows]) + "\n")
    found, streamed = both("reconstruct", run, tmp_path / "d.csv", "o.csv", tmp_path)
    assert streamed == [False, True] and found[0] == found[1]
    assert read_table(tmp_path / "o.csv").num_rows == table.num_rows and b"1 column that the model" in found[1]


@pytest.mark.parametrize("size", [1 << 8, 1 << 11, 1 << 20])
def test_windows_cover_every_byte_and_end_where_records_end(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "WINDOW", size)
    data = text(lines(quoted=True))
    (tmp_path / "d.csv").write_bytes(data)
    stream = streams.TextStream(str(tmp_path / "d.csv"), Hints())
    cells = [row for _, piece in stream.pieces() for row in zip(*piece.to_pydict().values())]
    assert [list(row) for row in cells] == lines(quoted=True)
    assert sum(stream.sizes) == ROWS


def test_commands_print_the_same_for_streamed_data(runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, run = runs("plain", FILES["plain"]())
    said = []
    for flat in (0, 1 << 40):
        monkeypatch.setattr(inputs, "FLAT", flat)
        said.append(figures("impute", run, data, "--out", tmp_path / "o.csv", "--k", 5))
    assert said[0] == said[1]
