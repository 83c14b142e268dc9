"""`fit --stream` of text: the forms of columns and the schema are those that reading all cells gives."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from commanding import blank_page, call, done

from latens import report
from latens.data import read
from latens.data.lazy import Lazy
from latens.data.rows import Asked, rows_of
from latens.data.streams import text as streams
from latens.data.streams.sources import open_stream, unpacked
from latens.data.streams.survey import survey
from latens.data.streams.text import ValueStream
from latens.data.tables import kinds
from latens.data.tables.reading import Hints

ROWS = 900
Cell = Callable[[np.random.Generator, int], str]
START = datetime.datetime(2020, 1, 1)


def number(pattern: str = "{:.2f}", mark: str = ".", scale: float = 30.0) -> Cell:
    return lambda random, row: pattern.format(scale * random.standard_normal()).replace(".", mark)


def whole(most: int = 1000, pattern: str = "{}") -> Cell:
    return lambda random, row: pattern.format(random.integers(most))


def moment(pattern: str, seconds: int = 80_000_000, start: datetime.datetime = START) -> Cell:
    return lambda random, row: (start + datetime.timedelta(seconds=int(random.integers(seconds)))).strftime(pattern)


def ascending(pattern: str, seconds: int) -> Cell:
    """Times in ascending order, so that the first windows do not see the values of the last."""
    return lambda random, row: (START + datetime.timedelta(seconds=row * seconds)).strftime(pattern)


def level(*words: str) -> Cell:
    return lambda random, row: words[random.integers(len(words))]


def gapped(cell: Cell, gap: str = "", share: float = 0.1, late: bool = False) -> Cell:
    def made(random: np.random.Generator, row: int) -> str:
        made = cell(random, row)
        return gap if random.random() < share and (not late or row > 0.9 * ROWS) else made

    return made


def late(cell: Cell, other: str, row: int = ROWS - 7) -> Cell:
    """A column in which a single cell near the end differs."""
    return lambda random, at: other if at == row else cell(random, at)


TABLES: dict[str, tuple[str, dict[str, Cell]]] = {  # (separator, columns)
    "numbers": (",", {"a": number(), "b": number("{:.6g}"), "c": number("{:.3e}"), "d": whole(), "e": whole(3)}),
    "gaps": (",", {
        "a": gapped(number()), "b": gapped(whole(), "NA"), "c": gapped(number(), "-", 0.02, late=True),
        "d": gapped(level("x", "y"), "?"), "e": gapped(moment("%Y-%m-%d"), "n/a"), "f": lambda random, row: "",
    }),
    "European": (";", {"a": number("{:.2f}", ","), "b": number("{:,.1f}".replace(",", "")), "c": whole(),
                       "when": moment("%d.%m.%Y")}),
    "European thousands": (";", {"a": lambda random, row: f"{random.integers(10**6):,}".replace(",", ".") + ",5",
                                 "b": moment("%d/%m/%Y")}),
    "dates": (",", {"iso": moment("%Y-%m-%d"), "american": moment("%m/%d/%Y"), "words": moment("%d %b %Y"),
                    "compact": moment("%Y%m%d"), "month": moment("%Y-%m"), "short": moment("%d-%m-%y")}),
    "dates whose order another column tells": (",", {
        "known": moment("%d/%m/%Y"), "few": level("01/02/2020", "03/04/2020", "05/06/2020"), "x": number(),
    }),
    "days above 12 come last": (",", {"when": ascending("%d/%m/%Y %H:%M", 1800), "x": number()}),
    "times": ("\t", {"moment": moment("%Y-%m-%dT%H:%M:%S"), "zone": moment("%Y-%m-%d %H:%M:%S+02:00"),
                     "clock": moment("%H:%M"), "half": moment("%I:%M %p"), "utc": moment("%Y-%m-%dT%H:%M:%SZ"),
                     "lap": lambda random, row: f"{random.integers(9)}:{random.integers(60):02}.{row % 99:02}",
                     "span": lambda random, row: f"PT{random.integers(9)}H{random.integers(60)}M"}),
    "fractions of seconds come late": (",", {
        "when": late(ascending("%Y-%m-%d %H:%M:%S", 61), "2020-03-01 00:00:00.125"), "x": number(),
    }),
    "levels": ("|", {"word": level("red", "green", "blue"), "flag": level("true", "false"), "yes": level("Yes", "No"),
                     "code": level("007", "014", "021"), "grade": whole(5), "rare": late(level("a", "b"), "z")}),
    "identifiers": (",", {"id": lambda random, row: str(row + 1), "key": lambda random, row: f"K-{row:05d}",
                          "text": lambda random, row: " ".join(["ab", "cd", "ef", "gh"][: 1 + row % 4]) + f" {row}",
                          "x": number()}),
    "percent and money": (",", {"share": number("{:.1f}%"),
                                "price": lambda random, row: f"${random.integers(10**4)}.50",
                                "size": lambda random, row: f"{random.integers(1, 900)}{'KM'[row % 2]}",
                                "weight": whole(90, "{} kg"), "late": late(whole(90, "{}"), "1e3")}),
    "quotes": (",", {"note": level('"a, b"', '"say ""so"""', '"two\nlines"', "plain"), "x": number(),
                     "price": lambda random, row: f'"{random.integers(1000, 10**6):,}.25"'}),
    "leading zeros come late": (",", {"a": late(whole(10**6), "000123"), "b": late(whole(90), "07"), "x": number()}),
    "a decimal comes late": (";", {"a": late(whole(), "12,5"), "b": late(whole(), "3.25"),
                                   "c": late(number(), "0.12345")}),
    "mostly numbers": (",", {"a": late(level("1", "2", "x", "y", "z"), "w"), "x": number(), "sign": number("{:+.2f}")}),
    "index": (",", {"": lambda random, row: str(row), "x": number(), "y": level("a", "b")}),
    "pixels": (",", {f"p{j}": whole(17) for j in range(6)}),
    "truth in a row": (",", {f"p{j}": whole(2) for j in range(4)}),
}  # fmt: skip
ASKED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {  # (table, options of reading, kinds of columns)
    "text": ("percent and money", {"text": ["share"]}, {"share": "categorical"}),
    "na": ("numbers", {"na": ["e=2", "0"]}, {}),
    "no words for gaps": ("gaps", {"na": [""]}, {}),
    "format": ("dates", {"formats": {"american": "%m/%d/%Y", "short": "day-first"}}, {"iso": "datetime"}),
    "numbers as they are": ("European", {"formats": {"a": "1234,5"}}, {"c": "count"}),
}  # fmt: skip


def written(table: str, path: Path, rows: int = ROWS) -> Path:
    separator, columns = TABLES[table]
    random = np.random.default_rng(0)
    lines = [separator.join(columns)]
    lines += [separator.join(cell(random, row) for cell in columns.values()) for row in range(rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setattr(streams, "WINDOW", 1 << 11)


def schemas(path: Path, reading: dict[str, Any], columns: dict[str, str]) -> list[str]:
    """The schema of the whole file, and that of its windows, as JSON."""
    asked = Asked(columns, formats=reading.get("formats") or {})
    source = read(path, reading=reading)
    whole = rows_of(source.x, source.names, asked, where=source.origin, found=source.found)
    stream = ValueStream(str(path), Hints.of(reading))
    assert len(stream.sizes) > 3 and stream.notes == source.notes
    found = survey(stream, asked)
    assert found.seen.found is None or found.seen.x.schema == source.x.schema
    return [json.dumps(each.schema.to_json(), indent=1) for each in (whole, found)]


@pytest.mark.parametrize("most", [100_000, 250], ids=["all distinct cells", "shapes"])
@pytest.mark.parametrize("name", [*TABLES, *ASKED])
def test_windows_give_the_schema_of_the_whole(
    name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "MOST_CELLS", most)
    table, reading, columns = ASKED.get(name, (name, {}, {}))
    whole, found = schemas(written(table, tmp_path / "t.csv"), reading, columns)
    assert found == whole


def test_a_schema_of_more_rows_than_the_sample_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Means, spreads and families come from the same sample of rows."""
    monkeypatch.setattr(kinds, "SAMPLE", 300)
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", 300)
    for table in ("numbers", "gaps", "dates", "times", "levels"):
        whole, found = schemas(written(table, tmp_path / "t.csv"), {}, {})
        assert found == whole, table


@pytest.mark.parametrize("sample", [20_000, 300])
@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("index", "mostly numbers")])
def test_parquet_gives_the_schema_of_the_whole(name: str, sample: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kinds, "SAMPLE", sample)
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", sample)
    table = read(written(name, tmp_path / "t.csv")).x
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=200)
    source = read(tmp_path / "t.parquet")
    whole = rows_of(source.x, source.names, Asked(), where=source.origin, found=source.found)
    found = survey(open_stream(str(tmp_path / "t.parquet")))
    assert json.dumps(found.schema.to_json()) == json.dumps(whole.schema.to_json())


class Given(Lazy):
    """An array as lazy rows, which are made when they are indexed."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.kind = array, array.shape, array.dtype

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self.array[index]


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    normal = random.standard_normal((ROWS, 3))
    far = normal.round(2)
    far[-5, 1] = 99.125  # off the grid, near the end, and the largest
    return {
        "reals": normal, "narrow": normal.astype("f4"), "tenths": normal.round(1),
        "narrow tenths": normal.astype("f4").round(1),
        "whole": random.integers(-500, 500, (ROWS, 2)), "steps of five": 5 * random.integers(2, 90, (ROWS, 4)),
        "few": random.choice([0.0, 1.5, 7.25, 100.0], (ROWS, 2)), "heap at 0": np.maximum(normal, 0),
        "one off the grid": far, "sequences": normal.round(2).reshape(ROWS, 3)[:, :, None].repeat(6, 1),
        "levels": random.integers(0, 17, (ROWS, 20)).astype("u1"),
        "gray": random.standard_normal((ROWS, 4, 5)).round(1),
        "colours": random.standard_normal((ROWS, 4, 5, 3)).astype("f4") * [1, 9, 90], "constant": normal * [1, 0, 3],
    }  # fmt: skip


@pytest.mark.parametrize("name", arrays())
def test_a_streamed_or_lazy_array_has_the_ranges_of_all_its_rows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """This holds even if the sample misses the values that decide whether there is a grid."""
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", 300)
    monkeypatch.setattr("latens.data.streams.sources.BLOCK_ROWS", 128)
    x = arrays()[name]
    asked = Asked(layout="TC") if name == "sequences" else Asked()
    np.save(tmp_path / "x.npy", x)
    whole = rows_of(x, None, asked).schema
    found = survey(open_stream(str(tmp_path / "x.npy")), asked).schema
    assert found.ranges == whole.ranges and (found.ranges is not None)
    lazy = rows_of(Given(x), None, asked).schema
    assert lazy.ranges == whole.ranges or x.dtype == np.uint8


# A whole fit


def fitted(path: Path, out: Path, *words: object) -> dict[str, Any]:
    done("fit", path, "--out", out, "--epochs", 1, "--network", "linear", "--batch-size", 64, *words)
    return json.loads((out / "run.json").read_text("utf-8"))


def test_a_fit_to_windows_continues_and_goes_from_file_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "write", blank_page)
    path = written("gaps", tmp_path / "t.csv")
    streamed, whole = fitted(path, tmp_path / "s", "--stream"), fitted(path, tmp_path / "m")
    assert streamed["schema"] == whole["schema"] and streamed["data"]["stream"] and "stream" not in whole["data"]
    done("fit", "--resume", tmp_path / "s")
    done("evaluate", tmp_path / "s")
    for command in (("sample", tmp_path / "s"), ("encode", tmp_path / "s", path), ("impute", tmp_path / "s", path)):
        done(*command, "--out", tmp_path / "o.csv")
        assert (tmp_path / "o.csv").stat().st_size > 1000
    with open(path, "a", encoding="utf-8") as file:
        file.write("1.00,2,3,x,2020-01-01,\n")
    assert "has changed since" in call("fit", "--resume", tmp_path / "s").err


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {  # (how the file is damaged, what the message says)
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "can only be understood from the whole file"),
    "quotes within cells": (lambda data: data.replace(b".1", b'"1'), "can only be understood from the whole file"),
    "a text among numbers": (lambda data: data[:-2] + b"x\n", "row 899 is '.*x' .1 of 900 cells is not a number"),
    "an infinite number": (lambda data: data + b"inf,1,1,1,1\n", "row 900 is 'inf', which is not finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_text_that_cannot_be_streamed_is_refused(name: str, tmp_path: Path):
    spoil, message = REFUSED[name]
    path = written("numbers", tmp_path / "t.csv")
    path.write_bytes(spoil(path.read_bytes()))
    answer = call("fit", path, "--out", tmp_path / "run", "--stream")
    assert answer.status == 2 and re.search(message, answer.err) and not (tmp_path / "run").exists()
    if "whole" not in message:
        assert call("fit", path, "--out", tmp_path / "run").err == answer.err  # the message of a fit in memory


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_a_fit_that_would_take_half_of_the_free_memory_streams(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One line says so; text whose forms only the whole file shows is still read into memory."""
    monkeypatch.setattr(report, "write", blank_page)
    path, text = tmp_path / f"t{suffix}", written("numbers", tmp_path / "t.csv")
    if suffix == ".parquet":
        pq.write_table(read(text).x, path)
    elif suffix == ".npy":
        np.save(path, arrays()["reals"])
    size = unpacked(str(path))
    for free, is_streamed in ((5 * size, True), (7 * size, False)):
        monkeypatch.setattr("latens.data.streams.sources.free_memory", lambda free=free: free)
        monkeypatch.setattr("latens.cli.commands.fitting.free_memory", lambda free=free: free)
        out = tmp_path / str(free)
        answer = done("fit", path, "--out", out, "--epochs", 1, "--network", "linear")
        assert ("stream" in json.loads((out / "run.json").read_text("utf-8"))["data"]) == is_streamed
        assert answer.err.count("the data are read as a stream") == is_streamed
    if suffix == ".csv":
        monkeypatch.setattr("latens.data.streams.sources.free_memory", lambda: size)
        text.write_bytes(text.read_bytes().decode().encode("utf-16"))
        done("fit", path, "--out", tmp_path / "whole", "--epochs", 1, "--network", "linear")
