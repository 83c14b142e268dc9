"""Laws of tables: written tables are read back unchanged, and what cannot be a table is refused with one sentence."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import decimal
import gzip
import io
import lzma
import os
import re
import resource
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from latens.data.sources import read
from latens.data.streams.sources import open_stream
from latens.data.tables import text as table_text
from latens.data.tables.files import TableWriter, read_table, table_batches, table_names, write_table
from latens.data.tables.frames import as_table, is_frame
from latens.errors import InputError

DAY, TIME = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30, 5, 250)
UTC = dt.UTC
rng = np.random.default_rng(0)


def refusal(path: Path | str, **options: Any) -> str:
    """The sentence with which reading is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message and Path(path).name in message, message
    return message


def put(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Text

GOOD: dict[str, tuple[str | bytes, dict[str, list[Any]]]] = {
    "plain": ("a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "no final newline": ("a,b\n1,2\n3,4", {"a": [1, 3], "b": [2, 4]}),
    "windows": ("a,b\r\n1,2\r\n3,4\r\n", {"a": [1, 3], "b": [2, 4]}),
    "old mac": ("a,b\r1,2\r3,4\r", {"a": [1, 3], "b": [2, 4]}),
    "byte order mark": ("\ufeffa,b\n1,2\n", {"a": [1], "b": [2]}),
    "UTF-16": ("größe,b\n1,ü\n".encode("utf-16"), {"größe": [1], "b": ["ü"]}),
    "bars": ("a|b\n1|x,y\n2|z\n", {"a": [1, 2], "b": ["x,y", "z"]}),
    "tabs": ("a\tb\n1\t2,5\n3\t4\n", {"a": [1, 3], "b": [2.5, 4.0]}),
    "European": ("\ufeffa;größe\r\nA;1,5\r\nB;\r\nC;-2,25e1\r\n", {"a": list("ABC"), "größe": [1.5, None, -22.5]}),
    "blank lines": ("\n\na,b\n\n1,2\n\n  \n3,4\n\n", {"a": [1, 3], "b": [2, 4]}),
    "spaces": (" a , b \n 1 , x \n3, y\n", {"a": [1, 3], "b": ["x", "y"]}),
    "signs": ("a,b\n+1,-2\n+3,+4.5\n", {"a": [1, 3], "b": [-2.0, 4.5]}),
    "numpy.savetxt": ("# made today\n# a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "comments": ("# made today\n#\n\na,b\n1,2\n", {"a": [1], "b": [2]}),
    "row index": (",a,b\n0,1,2\n1,3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "R": ('"","a","b"\n"1",1.5,"x"\n"2",NA,NA\n', {"a": [1.5, None], "b": ["x", None]}),
    "all quoted": ('"a","b"\n"1","2.5"\n"","3"\n', {"a": [1, None], "b": [2.5, 3.0]}),
    "trailing delimiters": ("a,b,\n1,2,\n3,4,\n", {"a": [1, 3], "b": [2, 4]}),
    "quoted": ('"a\nb","c,d"\n"1\n2","say ""x"""\nz,4\n', {"a\nb": ["1\n2", "z"], "c,d": ['say "x"', "4"]}),
    "inches": ('a,b\n5" pipe,1\nx,2\n', {"a": ['5" pipe', "x"], "b": [1, 2]}),
    "no header": ("5.1,setosa\n4.9,virginica\n", {"column_1": [5.1, 4.9], "column_2": ["setosa", "virginica"]}),
    "no header, dates": ("2024-02-29,1\n2024-02-29,2\n", {"column_1": [DAY, DAY], "column_2": [1, 2]}),
    "counted header": ("0,1,2\n5,6,7\n8,9,1\n", {"0": [5, 8], "1": [6, 9], "2": [7, 1]}),
    "years as header": ('"2019","kind"\n1,x\n2,y\n', {"2019": [1, 2], "kind": ["x", "y"]}),
    "one column": ("a\n1\n\n2\n", {"a": [1, 2]}),
    "truth": ("a,b\nTRUE,true\nFalse,\n", {"a": [True, False], "b": [True, None]}),
    "times": (
        "a,b,c,d\n2024-02-29,2024-02-29 12:30:05.00025,2024-02-29T12:30Z,\n,2024-02-29,2024-02-29T14:30:00+02:00,NA\n",
        {
            "a": [DAY, None],
            "b": [TIME, dt.datetime(2024, 2, 29)],
            "c": [TIME.replace(second=0, microsecond=0, tzinfo=UTC)] * 2,
            "d": [None, None],
        },
    ),
    "day first": ("a\n01/02/2020\n13/05/2021\n", {"a": [dt.date(2020, 2, 1), dt.date(2021, 5, 13)]}),
    "thousands": ('a,b\n"1,234",2\n"12",3\n', {"a": [1234, 12], "b": [2, 3]}),
    "thousands, both": ("a;b\n1;2,5\n2;1.234,5\n", {"a": [1, 2], "b": [2.5, 1234.5]}),
    "thousands, spaces": ("a;b\n1\u00a0234;2\n12;3\n", {"a": [1234, 12], "b": [2, 3]}),
    "decimal comma in quotes": ('a,b\n"1,5",2\n"2",3\n', {"a": [1.5, 2.0], "b": [2, 3]}),
    "codes are words": ("a,b\n01069,0x1F\n80331,22\n", {"a": ["01069", "80331"], "b": ["0x1F", "22"]}),
    "mostly words": ("a\n1\nx\ny\n", {"a": ["1", "x", "y"]}),
    "spaces cut": ("x k i\n1.5 a 3\n2.5 b 4\n", {"x": [1.5, 2.5], "k": ["a", "b"], "i": [3, 4]}),
    "aligned": ("   x    k \n 1,5  \ta \n12,5    b\n\n", {"x": [1.5, 12.5], "k": ["a", "b"]}),
    "spaces, quoted": ('x k\n1 "a  b"\n2 "c\n d"\n', {"x": [1, 2], "k": ["a  b", "c\n d"]}),
    "spaces, numpy.savetxt": ("# x y z\n1.5e+00 2 3\n4 5 6\n", {"x": [1.5, 4.0], "y": [2, 5], "z": [3, 6]}),
    "spaces, no header": ("1 2.5\n3 4.5\n", {"column_1": [1, 3], "column_2": [2.5, 4.5]}),
    "spaces in words": ("full name\nJohn Smith\nJane Doe\n", {"full name": ["John Smith", "Jane Doe"]}),
    "spaces in moments": ("order time\n2024-02-29 12:30\n", {"order time": [TIME.replace(second=0, microsecond=0)]}),
    "spaces before units": ("body weight\n10.3 kg\n7.2 kg\n", {"body weight": [10.3, 7.2]}),
    "cut by two spaces": (
        "  id  level       x\n   9  12-15 years  1.5\n  11  < 12 years   2.5\n",
        {"id": [9, 11], "level": ["12-15 years", "< 12 years"], "x": [1.5, 2.5]},
    ),
    "spaces before quotes": (
        '"name",   "k", x\n"Bolt, U",  "JAM", 9.63\n"Blake", "JAM",   9.75\n',
        {"name": ["Bolt, U", "Blake"], "k": ["JAM", "JAM"], "x": [9.63, 9.75]},
    ),
    "no header, dates with names": (
        "Sat;22 Apr 2017\nFri;21 Apr 2017\n",
        {"column_1": ["Sat", "Fri"], "column_2": [dt.date(2017, 4, 22), dt.date(2017, 4, 21)]},
    ),
    "months as header": (
        "k,Jan-21,Feb-21\nu,1.5,2\nv,2.5,3\n", {"k": ["u", "v"], "Jan-21": [1.5, 2.5], "Feb-21": [2, 3]},
    ),
    "write.table": ('"x" "k"\n"1" 1.5 "a b"\n"7" NA "c"\n', {"x": [1.5, None], "k": ["a b", "c"]}),
    "write.table, one column": ('"x"\n"1"\t1.5\n"2"\t3\n', {"x": [1.5, 3.0]}),
    "write.table, bare": ("x k\n1 1.5 a\n2 2.5 b\n", {"x": [1.5, 2.5], "k": ["a", "b"]}),
    "named rows": ("x,k\nanna,1.5,a\nbob,2.5,b\n", {"x": [1.5, 2.5], "k": ["a", "b"]}),
    "trailing in the rows": ("a,b\n1,2,\n3,4,\n", {"a": [1, 3], "b": [2, 4]}),
    "Excel names its delimiter": ("\ufeffsep=;\r\nx;k\r\n1,5;a\r\n", {"x": [1.5], "k": ["a"]}),
    "Excel, any delimiter": ('"sep=^"\nx^k\n1.5^a\n', {"x": [1.5], "k": ["a"]}),
    "comments between": ("a,b\n1,2\n# end, of, it\n3,4\n#", {"a": [1, 3], "b": [2, 4]}),
    "missing numbers": ("a\n-nan\n?\n#N/A\nnone\n3\n", {"a": [None, None, None, None, 3]}),
    "missing words": ("a\nNone\n?\nNA\nNaN\n\"\"\nx\n", {"a": ["None", "?", None, None, None, "x"]}),
    "long whole numbers": ("a\n9223372036854775807\n-1\n", {"a": [2**63 - 1, -1]}),
    "exact in double": ("a\n100000000000000000000\n5\n", {"a": [1e20, 5.0]}),
    "tiny": ("a\n1e-400\n.5\n5.\n", {"a": [0.0, 0.5, 5.0]}),
}  # fmt: skip


def zipped(data: bytes, **more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {"in/t.csv": data, "__MACOSX/in/._t.csv": b"\0", **more}.items():
            archive.writestr(name, content)
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    with pa.CompressedOutputStream(sink := pa.BufferOutputStream(), "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {"t.csv.gz": gzip.compress, "t.csv.bz2": bz2.compress, "t.csv.xz": lzma.compress, "t.csv.zst": zstd,
           "t.zip": zipped, "t.csv.zip": zipped, "t.tab": bytes}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_text_files_of_every_layout_are_read(tmp_path: Path, case: str) -> None:
    content, expected = GOOD[case]
    path = put(tmp_path, content)
    table = read_table(path)
    assert table.to_pydict() == expected and table.column_names == list(expected)
    for column, values in zip(table.columns, expected.values()):
        kinds = {type(value) for value in values} - {type(None)}
        whole = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), dt.date: pa.date32()}
        assert column.type == (whole.get(kind, column.type) if (kind := next(iter(kinds), None)) else pa.null())
    assert table_names(path) == tuple(expected)
    assert pa.Table.from_batches(table_batches(path, rows=1)).to_pydict() == expected
    for name, pack in PACKERS.items():
        packed = put(tmp_path, pack(path.read_bytes()), name)
        assert read_table(packed).equals(table) and table_names(packed) == tuple(expected)


BAD = {
    "mixed": ("a,b\n1,2\n3,n.d.\n4,5\n6,n.d.\n7,8\n", r"column 'b' holds numbers, but row 1 is 'n\.d\.' \(2 of 5"),
    "mixed: ways out": ("a\n1\n2\nx\n", "--column 'a'=categorical, or leave it out with --drop 'a'"),
    "units": ("a,b\nkg,m\n1,2\n3,4\n", "row 0 is 'kg' .1 of 3.*states units"),
    "underscore": ("a\n1\n1_000\n3\n", "row 1 is '1_000'"),
    "points or thousands": ("a;b\n1,5;1.000\n2,5;2\n", "column 'b' has '1.000'.*--format b=1.234,5 for thousands"),
    "commas or thousands": ("a;b\n1,500;x\n2,250;y\n", "column 'a' has '1,500'.*--format a=1234,5 for decimals"),
    "day or month": ("a\n01/02/2020\n03/04/2020\n", "such as '01/02/2020'.*--format a=day-first or"),
    "infinity": ("a,b\n1,2\n3,-Inf\n", "column 'b', row 1 is '-Inf', which is not finite"),
    "too large": ("a,b\n1,2.5\n3,1e999\n", "column 'b', row 1 is '1e999', which is not finite"),
    "too long": ("a\n5\n123456789012345678901\n", "column 'a', row 1 is '12345.*', a whole number too large"),
    "no day": ("a\n2024-02-29\n2023-02-29\n", "column 'a', row 1 is '2023-02-29', which is not a day"),
    "some days": ("a\n2024-02-29\n2024-02-29\nsoon\n", "holds dates, but row 2 is 'soon'"),
    "zones": ("a\n2024-02-29T12:30Z\n2024-02-29T12:30\n", "state a zone in all"),
    "too few fields": ("a,b\n1,2\n3\n", "line 3 has 1 field, but the first line has 2"),
    "too many fields": ("a;b\n1;2\n3;4;5\n", "line 3 has 3 fields, but the first line has 2"),
    "after a quoted newline": ('"a\nb",c\n1,2\n3\n', "line 4 has 1 field"),
    "after comments": ("#\n#\na,b\n1,2\n3\n", "line 5 has 1 field"),
    "nameless": ("a,b,\n1,2,\n3,4,z\n", "column 3 has no name, and its row 1 holds 'z'"),
    "no name": ("a,,c\n1,2,3\n", "line 1: column 2 has no name"),
    "two of one name": ("#\na,b,a\n1,2,3\n", "line 2: columns 1 and 3 are both called 'a'"),
    "header again": ("x,k\n1,2\n\nx,k\n3,4\n", "line 4 repeats the names of the columns, .* delete the line"),
    "header again, words": ("x;k\na;b\n\ufeffx;k\n", "line 3 repeats the names of the columns"),
    "header again, spaces": ("x k\n1 2\nx k\n3 4\n", "line 3 repeats the names of the columns"),
    "rows of one name": ("x,k\nanna,1.5,a\nanna,2,b\n", "names 2 columns of 3, .* 'anna' occurs 2 times: name every"),
    "unnamed numbers": ("x,k\n4,1,2\n7,2,3\n", "line 2 has 3 fields, but the first line has 2"),
    "spaces, too few": ("x k\n1 2\n3 4\n5\n6 7\n", "line 4 has 1 field, but the first line has 2"),
    "header only": ("a,b\n", "no rows"),
    "index only": ('""\n', "no rows"),
    "blank": ("\n\n", "no rows"),
    "empty": ("", "is empty"),
    "open quote": ('a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
    "latin-1": ("a,b\n1,größe\n".encode("latin-1"), r"line 2: byte 8 \(0xf6\) is not UTF-8 .* --encoding"),
    "UTF-16, cut": (b"\xff\xfea", "not utf-16"),
    "zeros": (b"\0" * 100, "NUL bytes"),
    "parquet": (b"PAR1....PAR1", "is not a csv but a parquet file"),
    "Excel": (b"PK\x03\x04", "an Excel workbook"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_malformed_text_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    assert re.search(message, refusal(put(tmp_path, content)))


def test_columns_can_be_chosen_dropped_or_read_as_text(tmp_path: Path) -> None:
    path = put(tmp_path, "id,a,b\nx,1,2\ny,3,n.d.\nz,5,6\n")
    assert read_table(path, drop="b").column_names == ["id", "a"]
    assert read_table(path, columns=["a", "id"]).to_pydict() == {"a": [1, 3, 5], "id": ["x", "y", "z"]}
    assert read_table(path, text=["b"])["b"].to_pylist() == ["2", "n.d.", "6"]
    assert "no column 'c' to drop: name one of id, a, b" in refusal(path, drop=["c"])
    assert "no column 'ids': did you mean 'id'?" in refusal(path, columns=["ids"])
    assert "keep at least one" in refusal(path, drop=["id", "a", "b"])
    assert "both called 'a'" in refusal(path, columns=["a", "a"])
    path = put(tmp_path, "a,b\n1,größe\n".encode("cp1252"))
    assert read_table(path, encoding="cp1252")["b"].to_pylist() == ["größe"]
    assert "there is no encoding 'cp-none'" in refusal(path, encoding="cp-none")
    path = put(tmp_path, "kind,1,2\n5,3,4\n6,5,6\n")  # numbers name the columns: the requested name shows it
    assert read_table(path, drop="kind").to_pydict() == {"1": [3, 5], "2": [4, 6]}
    late = put(tmp_path, "a,b\n" + "1,2\n" * 400_000 + "1,0.5\n")
    assert read_table(late)["b"][-1].as_py() == 0.5


def test_every_extension_of_text_is_read(tmp_path: Path) -> None:
    for name in ("t.txt", "t.dat", "t.data", "t.TXT"):
        words = put(tmp_path, "name  city\nAnna  Rome\nBob   Paris\n", name)
        assert read_table(words).to_pydict() == {"name": ["Anna", "Bob"], "city": ["Rome", "Paris"]}
        assert read_table(put(tmp_path, "1,u\n2,v\n", name)).to_pydict() == {"column_1": [1, 2], "column_2": ["u", "v"]}


def test_files_that_cannot_be_opened_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "a,b\n1,2\n", "train.csv")
    (tmp_path / "link.csv").symlink_to(path)
    assert read_table(tmp_path / "link.csv").num_rows == 1
    assert "did you mean" in refusal(tmp_path / "trian.csv") and "train.csv" in refusal(tmp_path / "trian.csv")
    assert "does not exist" in refusal(tmp_path / "no" / "train.csv")
    assert "does not exist" in refusal("x" * 5000 + ".csv")
    assert "unknown extension" in refusal(put(tmp_path, "a", "t.xyz"))
    assert "regular file" in refusal("/dev/null")
    (tmp_path / "none").mkdir()
    assert "without tables" in refusal(tmp_path / "none")
    monkeypatch.setattr(table_text, "LARGEST", 1000)
    assert "inflates to more than" in refusal(put(tmp_path, gzip.compress(b"1,2\n" * 4_000_000), "bomb.csv.gz"))
    assert read_table(put(tmp_path, gzip.compress(b"1,2\n" * 4000), "packed.csv.gz")).num_rows == 4000


def test_compressed_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    several = put(tmp_path, zipped(b"a\n1\n", other=b""), "t.zip")
    assert re.search(r"t\.zip must hold a single text file .*, got in/t\.csv, other: unpack it", refusal(several))
    for name, pack in list(PACKERS.items())[:4]:
        assert "is truncated" in refusal(put(tmp_path, pack(rng.bytes(9000).hex().encode())[:-9], name))


# Written tables are read back unchanged

TYPED = pa.table({
    "bool": [True, None, False, True],
    "int": [2**63 - 1, None, -(2**63), 0],
    "double": [0.1, None, -0.0, 5e-324],
    "whole double": [1.0, 2.0, 1e16, 1.7976931348623157e308],
    "text": ["x", 'say "y", twice\r\n;\t|', None, "größe"],
    "day": pa.array([dt.date(1, 1, 1), DAY, None, dt.date(9999, 12, 31)]),
    "time": pa.array([TIME, None, dt.datetime(1950, 1, 1), TIME], pa.timestamp("us")),
    "zoned": pa.array([TIME, None, dt.datetime(1950, 1, 1), TIME], pa.timestamp("us", "UTC")),
    "null": pa.nulls(4),
    "a, 'b' \"c\"\nd": [1, 2, 3, 4],
    "2024": [1.5, 2.5, 3.5, 4.5],
    "n" * 500: ["#", "b", "c", "d"],
})  # fmt: skip


@pytest.mark.parametrize("extension", ["csv", "tsv", "parquet", "feather", "arrow"])
def test_a_written_table_is_read_back_unchanged(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"t.{extension}"
    write_table(path, TYPED)
    assert read_table(path).equals(TYPED) and table_names(path) == tuple(TYPED.column_names)
    for name in TYPED.column_names:  # a single column has no delimiters, and its gaps are not blank lines
        write_table(path, TYPED.select([name]))
        assert read_table(path).equals(TYPED.select([name])), name
    x = rng.integers(0, 2**64, 5000, dtype=np.uint64).view(np.float64)  # numbers of all magnitudes
    x = x[np.isfinite(x)]
    write_table(path, pa.table({"x": x}))
    assert read_table(path)["x"].to_numpy().tobytes() == x.tobytes()
    rows = list(table_batches(path, rows=999))
    assert [b.num_rows for b in rows[:-1]] == [999] * (len(rows) - 1) and len(rows) == -(-len(x) // 999)
    assert pa.Table.from_batches(rows)["x"].to_numpy().tobytes() == x.tobytes()


def test_written_text_is_read_by_the_csv_module(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(path, TYPED)
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == TYPED.column_names
    for name, cells in zip(header, zip(*rows)):
        for cell, value in zip(cells, TYPED[name].to_pylist()):
            if value is None:
                assert cell == ""
            elif isinstance(value, float):
                assert float(cell) == value and len(cell) <= max(len(repr(value)), 4)
            elif isinstance(value, str):
                assert cell == value
    write_table(path, pa.table({"a": pa.array(["u", None, "v,w"]).dictionary_encode(), "b": [np.nan, 1, 2.5]}))
    assert path.read_bytes() == b'a,b\nu,\n,1.0\n"v,w",2.5\n'


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    batches = TYPED.to_batches(max_chunksize=1)
    for extension in ("csv", "tsv", "parquet", "feather"):
        path = put(tmp_path, "before", f"t.{extension}")
        with pytest.raises(KeyboardInterrupt), TableWriter(path, TYPED.schema) as writer:
            writer.write(batches[0])
            raise KeyboardInterrupt
        with pytest.raises(InputError, match="a batch has the columns 'a'"), TableWriter(path, TYPED.schema) as writer:
            writer.write(pa.record_batch({"a": [1]}))
        assert path.read_text() == "before" and os.listdir(tmp_path) == [path.name]
        with TableWriter(path, TYPED.schema) as writer:
            for batch in batches:
                writer.write(batch)
        assert read_table(path).equals(TYPED)
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))  # similar to a full disk
        try:
            with pytest.raises(InputError, match=f"cannot write .*t.{extension} .*: make room"):
                write_table(path, pa.table({"x": rng.normal(size=50_000)}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert read_table(path).equals(TYPED) and os.listdir(tmp_path) == [path.name]
        path.unlink()
    for name, table, message in [
        ("t.xlsx", TYPED, "extension"),
        ("no/t.csv", TYPED, "folder"),
        ("t.csv", pa.table({"a": [[1]]}), "column 'a' holds lists"),
        ("t.csv", pa.table([[1], [2]], names=["a", "a"]), "both called 'a'"),
        ("t.csv", pa.table([[1]], names=[""]), "has no name"),
        ("t.csv", pa.table({}), "no columns"),
    ]:
        with pytest.raises(InputError, match=message):
            write_table(tmp_path / name, table)
    assert os.listdir(tmp_path) == []


# Types of other programs

TYPES: dict[str, tuple[pa.Array, pa.DataType | str | None, list[Any] | None]] = {
    "decimal": (pa.array([decimal.Decimal("1.5"), None]), pa.decimal128(2, 1), [decimal.Decimal("1.5"), None]),
    "half": (pa.array(np.array([1.5, np.nan], np.float16)), pa.float16(), [1.5, None]),
    "NaN": (pa.array([1.5, np.nan, None]), pa.float64(), [1.5, None, None]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), pa.uint64(), [2**64 - 1]),
    "int8": (pa.array([1, None], pa.int8()), pa.int8(), [1, None]),
    "large text": (pa.array(["a"], pa.large_string()), pa.string(), ["a"]),
    "text view": (pa.array(["a"], pa.string_view()), pa.string(), ["a"]),
    "date64": (pa.array([DAY], pa.date64()), pa.date32(), [DAY]),
    "seconds": (pa.array([TIME.replace(microsecond=0)], pa.timestamp("s")), None, None),
    "zone": (pa.array([TIME], pa.timestamp("ns", "Europe/Berlin")), pa.timestamp("ns", "Europe/Berlin"), None),
    "categories": (
        pa.DictionaryArray.from_arrays(pa.array([1, None, 1], pa.int8()), ["v", "u"], ordered=True),
        pa.dictionary(pa.int32(), pa.string(), True), ["u", None, "u"],
    ),
    "null": (pa.nulls(2), pa.null(), [None, None]),
    "list": (pa.array([[1]]), "holds lists: spread them .* --drop 'x'", None),
    "list of fixed size": (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), "holds lists", None),
    "record": (pa.array([{"a": 1}]), "holds records", None),
    "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "holds maps", None),
    "bytes": (pa.array([b"a"]), "holds bytes", None),
    "fixed bytes": (pa.array([b"ab"], pa.binary(2)), "holds bytes", None),
    "duration": (pa.array([dt.timedelta(1)]), pa.duration("us"), [dt.timedelta(1)]),
    "time of day": (pa.array([dt.time(1)], pa.time32("ms")), pa.time32("ms"), [dt.time(1)]),
    "infinity": (pa.array([1.0, 2.0, -np.inf]), "column 'x', row 2 is not finite .-inf.", None),
    "no rows": (pa.array([], pa.int64()), "no rows", None),
}  # fmt: skip


@pytest.mark.parametrize("extension", ["parquet", "feather"])
@pytest.mark.parametrize("case", TYPES)
def test_types_of_other_programs_are_read_or_refused(tmp_path: Path, case: str, extension: str) -> None:
    column, type, values = TYPES[case]
    path, table = tmp_path / f"t.{extension}", pa.table({"x": column, "y": np.arange(len(column))})
    if extension == "parquet":
        parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    if isinstance(type, str):
        assert re.search(type, refusal(path))
        if len(column):
            assert read_table(path, drop="x").to_pydict() == {"y": list(range(len(column)))}
        return
    found = read_table(path)["x"]
    assert type is None or found.type == type  # parquet has no seconds
    assert found.to_pylist() == (column.to_pylist() if values is None else values)
    if case == "categories":
        assert found.chunk(0).dictionary.to_pylist() == ["v", "u"]


def test_odd_names_of_columns_are_kept_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    odd = ["a.b", "a", "two\nlines", "'", "x" * 10_000, "größe", " "]
    parquet.write_table(pa.table([[j] for j in range(len(odd))], names=odd), path)
    assert table_names(path) == tuple(odd)
    assert read_table(path, columns=odd[::-1]).to_pydict() == {name: [odd.index(name)] for name in odd[::-1]}
    for names, message in {
        ("a", "a"): "columns 1 and 2 are both called 'a'",
        ("a", ""): "column 2 has no name",
    }.items():
        parquet.write_table(pa.table([[1], [2]], names=names), path)
        assert message in refusal(path)
    parquet.write_table(pa.table({}), path)
    assert "keep at least one" in refusal(path)
    wide = pa.table(np.ones((3000, 1)).tolist(), names=[f"c{j}" for j in range(3000)])
    for name in ("wide.parquet", "wide.csv"):
        write_table(tmp_path / name, wide)
        assert read_table(tmp_path / name).equals(wide)
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1, 2]}, index=["u", "v"]).to_parquet(path)
    assert read_table(path).to_pydict() == {"a": [1, 2]}


def test_wrong_extensions_and_damaged_files_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", TYPED)
    write_table(tmp_path / "a.feather", TYPED)
    write_table(tmp_path / "a.csv", TYPED)
    files = {kind: (tmp_path / f"a.{kind}").read_bytes() for kind in ("parquet", "feather", "csv")}
    for source, name, message in [
        ("parquet", "b.csv", "not a csv but a parquet"),
        ("parquet", "b.feather", "is a parquet file: give it"),
        ("feather", "b.csv", "not a csv but a feather"),
        ("feather", "b.parquet", "is not a parquet file"),
        ("csv", "b.parquet", "is not a parquet file"),
        ("csv", "b.feather", "damaged or not what its name says"),
    ]:
        assert message in refusal(put(tmp_path, files[source], name))
    assert "truncated" in refusal(put(tmp_path, files["parquet"][:-20], "b.parquet"))
    assert "truncated" in refusal(put(tmp_path, gzip.compress(files["csv"])[:-20], "b.csv.gz"))
    for kind, good in {**files, "csv.gz": gzip.compress(files["csv"])}.items():
        path, refused = tmp_path / f"b.{kind}", 0
        for trial in range(90):
            content = bytearray(good)
            if trial % 3 == 0:
                content = content[: rng.integers(len(good))]
            elif trial % 3 == 1:
                content[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
            else:
                start = int(rng.integers(len(good)))
                content[start : start + int(rng.integers(9))] = rng.bytes(int(rng.integers(9)))
            path.write_bytes(content)
            try:
                read_table(path).validate(full=True)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error) and path.name in str(error)
        assert refused > 25


# Folders


def test_a_folder_of_parquet_files_is_one_table_of_a_common_type(tmp_path: Path) -> None:
    def parts(*columns: pa.Array | list[Any]) -> Path:
        for old in tmp_path.iterdir():
            old.unlink()
        put(tmp_path, "", "_SUCCESS")
        for j, column in enumerate(columns):
            parquet.write_table(pa.table({"x": column}), tmp_path / f"part-{j}.parquet")
        return tmp_path

    i32, f32 = pa.array([1, 2], pa.int32()), pa.array([1.5, 2.5], pa.float32())
    for columns, type, values in [
        ((i32, [3]), pa.int64(), [1, 2, 3]),
        ((i32, f32), pa.float64(), [1, 2, 1.5, 2.5]),
        ((f32, [0.1]), pa.float64(), [1.5, 2.5, 0.1]),
        ((pa.nulls(1), i32), pa.int32(), [None, 1, 2]),
        ((["a"], pa.array(["b"]).dictionary_encode()), pa.string(), ["a", "b"]),
    ]:
        folder = parts(*columns)
        table = read_table(folder)
        assert table["x"].type == type and table["x"].to_pylist() == values
        batches = list(table_batches(folder, rows=1))
        assert len({str(b.schema) for b in batches}) == 1 and pa.Table.from_batches(batches).equals(table)
    assert read_table(parts(*(pa.array([w, "z"]).dictionary_encode() for w in "ab")))["x"].to_pylist() == list("azbz")
    message = refusal(parts(i32, i32, ["a"]))
    assert "column 'x' is of type int32 in part-0.parquet but of type string in part-2.parquet" in message
    assert "part-1.parquet: column 'x', row 1 is not finite" in refusal(parts([1.0], [1.0, np.inf]))
    folder = parts(i32, i32)
    parquet.write_table(pa.table({"y": i32}), folder / "part-1.parquet")
    assert re.search(r"part-1\.parquet lacks column 'x', which .*part-0\.parquet has", refusal(folder))
    parquet.write_table(pa.table({"x": i32, "y": i32}), folder / "part-1.parquet")
    assert re.search(r"part-0\.parquet lacks column 'y', which .*part-1\.parquet has", refusal(folder))
    folder = parts(pa.array([2**63], pa.uint64()), i32)
    assert "do not fit the type int64" in refusal(folder)


def files_in(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet") and not isinstance(content, str):
            parquet.write_table(pa.table({"x": content}), path)
        else:
            path.write_text(content)
    return folder


NULL = "__HIVE_DEFAULT_PARTITION__"
FOLDERS: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "columns by name": ({"b.csv": "k,x\na,3\n", "a.csv": "x,k\n1,b\n2.5,c\n"}, {"x": [1, 2.5, 3], "k": list("bca")}),
    "typed once": ({"a.csv": "x\n1\n", "b.tsv": "x\nu\n", "c d/ü.csv": "x\nv\n"}, {"x": ["1", "u", "v"]}),
    "no rows in one": ({"a.csv": "x,k\n", "b.csv": "x,k\n1,b\n"}, {"x": [1], "k": ["b"]}),
    "no header": ({"a.csv": "1,2\n", "b.csv": "3,4\n"}, {"column_1": [1, 3], "column_2": [2, 4]}),
    "row indices": ({"a.csv": ",x\n0,1\n", "b.csv": ",x\n0,2\n"}, {"x": [1, 2]}),
    "other files": ({"a.csv": "x\n1\n", "a.md": "", "_SUCCESS": "", ".b.csv": "y\n1\n", "_t/c.csv": ""}, {"x": [1]}),
    "partitions": (
        {"y=2021/m=01/0.parquet": [3, 4], "y=2020/m=12/0.parquet": [1], "y=2021/m=02/0.parquet": [5], "_metadata": ""},
        {"x": [1, 3, 4, 5], "y": [2020, 2021, 2021, 2021], "m": [12, 1, 1, 2]},
    ),
    "partitions of text": ({"y=a%20b/0.csv": "x\n2\n", "y=NA/0.csv": "x\n1\n"}, {"x": [1, 2], "y": ["NA", "a b"]}),
    "days and none": ({f"d={NULL}/0.parquet": [1], "d=2024-02-29/0.parquet": [2]}, {"x": [2, 1], "d": [DAY, None]}),
    "a key that is stored": ({"x=1/0.parquet": [1], "x=2/0.parquet": [3]}, {"x": [1, 3]}),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_table_files_is_one_table(tmp_path: Path, case: str) -> None:
    files, expected = FOLDERS[case]
    folder = files_in(tmp_path / "set", files)
    table = read_table(folder)
    assert table.to_pydict() == expected and table.column_names == list(expected) == list(table_names(folder))
    assert pa.Table.from_batches(table_batches(folder, rows=1)).equals(table)
    backwards = list(expected)[::-1]
    assert read_table(folder, columns=backwards).equals(table.select(backwards))
    for name in expected if len(expected) > 1 else ():
        assert read_table(folder, drop=name).equals(table.drop_columns([name]))
        assert read_table(folder, columns=[name]).equals(table.select([name]))
    source = read(folder)
    assert source.x.equals(table) and len(source.notes) == (case == "other files")
    if any(name.endswith("parquet") for name in files):
        stream = open_stream(str(folder))
        assert pa.concat_tables([rows for _, rows in stream.pieces()]).equals(table)
        for name in expected:
            narrow = open_stream(str(folder), columns=[name])
            assert pa.concat_tables([rows for _, rows in narrow.pieces()]).equals(table.select([name]))


BAD_FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "lacks": ({"a.csv": "x,k\n1,2\n", "b.csv": "k\n1\n"}, r"b\.csv lacks column 'x', which .*a\.csv has: all"),
    "more": ({"a.csv": "x\n1\n", "b.csv": "k,x\n1,2\n"}, r"a\.csv lacks column 'k', which .*b\.csv has"),
    "kinds": ({"a.csv": "x\n1\n", "b.parquet": [1]}, r"holds a\.csv and b\.parquet, .*: keep only files of one"),
    "partitions": (
        {"y=1/a.parquet": [1], "b.parquet": [1]},
        r"y=1/a\.parquet is in partitions by y, but .*b\.parquet is in partitions by none",
    ),
    "row": ({"a.csv": "x\n1\n2\n", "b.csv": "x\n3\nu\n"}, r"column 'x' holds numbers, but row 1 of .*b\.csv is 'u'"),
    "line": ({"a.csv": "x,k\n1,2\n", "b.csv": "x,k\n3\n"}, r"b\.csv, line 2 has 1 field"),
    "empty": ({"a.csv": "x\n1\n", "b.csv": ""}, r"b\.csv is empty"),
    "no rows": ({"a.csv": "x,k\n", "b.csv": "x,k\n"}, "no rows"),
    "Delta": ({"a.parquet": [1], "_delta_log/0.json": "{}"}, "is a Delta table"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folders_that_are_not_one_table_are_refused(tmp_path: Path, case: str) -> None:
    files, message = BAD_FOLDERS[case]
    assert re.search(message, refusal(files_in(tmp_path / "set", files)))


def test_links_are_followed_and_denied_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files_in(tmp_path / "set", {"a.csv": "x\n1\n"})
    (folder / "circle").symlink_to(folder)
    (folder / "b.csv").symlink_to(put(tmp_path, "x\n2\n"))
    assert read_table(folder)["x"].to_pylist() == [1, 2]
    (folder / "c.csv").symlink_to(tmp_path / "none.csv")
    assert re.search(r"c\.csv does not exist", refusal(folder))

    def denied(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    assert "set cannot be read (permission denied): check its permissions" in refusal(folder)


def test_a_file_that_declares_too_many_rows_is_refused_whole_and_can_be_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.parquet"
    parquet.write_table(pa.table({"x": pa.repeat(0, 20_000_000)}), path)
    monkeypatch.setattr(table_text, "LARGEST", 1000)
    assert "declares 20,000,000 rows" in refusal(path)
    assert next(table_batches(path)).num_rows == 65536  # a stream needs only one batch in memory


@pytest.mark.parametrize("extension", ["parquet", "feather"])
def test_a_stream_holds_one_batch(tmp_path: Path, extension: str) -> None:
    path, group = tmp_path / f"t.{extension}", pa.table({"x": rng.normal(size=100_000)})
    with TableWriter(path, group.schema) as writer:
        for _ in range(20):
            writer.write(group)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in table_batches(path, rows=1000):
        rows += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 2_000_000 and most < path.stat().st_size / 4


# Frames


def pandas_frames() -> dict[str, Any]:
    pd = pytest.importorskip("pandas")
    whole = np.array([1, 2], np.int32)
    return {
        "numpy": pd.DataFrame({"a": whole, "b": [1.5, np.nan], "c": [True, False], "d": whole.astype(np.float16)}),
        "nullable": pd.DataFrame({
            **{name: pd.array([1, None], name) for name in ("Int64", "UInt8", "boolean", "Float32")},
            "long": pd.array([2**53 + 1, None], "Int64"),
            "string": pd.array(["x", None], "string"),
            "python": pd.array(["x", None], "string[python]"),
        }),
        "arrow": pd.DataFrame({"a": pd.array([1, None], pd.ArrowDtype(pa.int32()))}),
        "categories": pd.DataFrame({
            "a": pd.Categorical(["u", None], ["v", "u"], ordered=True),
            "b": pd.Categorical([3, 1], [3, 2, 1]),
        }),
        "objects": pd.DataFrame({"a": ["x", None], "b": [True, None], "c": [DAY, None]}, dtype=object),
        "text": pd.DataFrame({"a": ["x", None]}),
        "times": pd.DataFrame({
            "a": pd.to_datetime(["2024-02-29", None]),
            "b": pd.to_datetime(["2024-02-29", None]).tz_localize("Europe/Berlin"),
            "c": pd.to_datetime(["2024-02-29", None]).astype("datetime64[ns]"),
        }),
        "labels": pd.DataFrame(np.eye(2)),
        "mixed labels": pd.DataFrame(np.eye(2), columns=["a", 1]),
        "a name of the columns": pd.DataFrame(np.eye(2), columns=pd.Index(["p", "q"], name="all")),
        "two levels": pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_product([["a"], [1, 2]], names=["l", "m"])),
        "sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
    }  # fmt: skip


def test_pandas_frames_come_back_unchanged() -> None:
    pd = pytest.importorskip("pandas")
    for case, frame in pandas_frames().items():
        table, back = as_table(frame)
        assert table.column_names == [str(label) for label in frame.columns]
        pd.testing.assert_frame_equal(back(table), frame, obj=case)
        for j in range(len(table.column_names)):  # other rows and fewer columns keep the dtypes too
            fewer = back(table.select([j]).slice(0, 1))
            pd.testing.assert_frame_equal(fewer, frame.iloc[:1, [j]], obj=case)
    frame = pd.DataFrame({"a": [1, 2], "c": pd.Categorical(["u", "v"])}, index=["r", "s"])
    table, back = as_table(frame)
    assert back.index.equals(frame.index) and back(table).index.equals(pd.RangeIndex(2))  # type: ignore[attr-defined]
    other = back(pa.table({"a": [1, None], "c": ["u", "w"], "new": [0.5, 1]}))
    assert other["a"].tolist()[0] == 1 and other["a"].isna().tolist() == [False, True]
    assert other["c"].tolist() == ["u", "w"] and list(other.columns) == ["a", "c", "new"]


def test_polars_frames_come_back_unchanged() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({
        "int8": pl.Series([1, None], dtype=pl.Int8),
        "uint64": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
        "float32": pl.Series([0.1, None], dtype=pl.Float32),
        "text": ["x", None],
        "categorical": pl.Series(["u", None], dtype=pl.Categorical),
        "enum": pl.Series(["u", None], dtype=pl.Enum(["v", "u"])),
        "date": [DAY, None],
        "time": [TIME, None],
        "zoned": pl.Series([TIME, None]).dt.replace_time_zone("Europe/Berlin"),
        "bool": [True, None],
        "null": [None, None],
    })  # fmt: skip
    for given in (frame, frame.lazy()):
        table, back = as_table(given)
        assert back(table).equals(frame) and back(table).schema == frame.schema
        assert table["enum"].type == pa.dictionary(pa.int32(), pa.string(), True)
        assert back(table.select(["enum", "int8"])).schema == frame.select("enum", "int8").schema
    table, back = as_table(pl.DataFrame({"a": [1.5, float("nan")]}))
    assert table["a"].null_count == 1 and back(table).to_dict(as_series=False) == {"a": [1.5, None]}
    assert back(pa.table({"a": ["word"]})).to_dict(as_series=False) == {"a": ["word"]}


def test_the_way_back_is_exact() -> None:
    """Numbers that the old dtype would truncate, wrap or lose keep their own dtype."""
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    old = {"int8": np.array([1, 2], np.int8), "int64": np.array([1, 2]), "bool": np.array([True, False])}
    fields = np.array(list(zip(*old.values())), [(name, values.dtype) for name, values in old.items()])
    tables = [pa.table(dict.fromkeys(old, values)) for values in ([0.5, 1.5], [300, 2], [None, 2.5])]
    nullable = pd.DataFrame({n: pd.array(v, "boolean" if n == "bool" else n.title()) for n, v in old.items()})
    arrow = pa.table(old)
    for given in (pd.DataFrame(old), nullable, pl.DataFrame(old), fields, old, arrow):
        table, back = as_table(given)
        for other in [table, *tables]:
            found = as_table(back(other))[0].to_pydict()
            assert found == other.to_pydict(), (type(given), found)


def test_arrow_tables_and_relations_of_databases_come_back() -> None:
    types = [pa.int32(), pa.large_string(), pa.decimal128(9, 2), pa.dictionary(pa.int8(), pa.large_string())]
    columns = [
        pa.array([1, None], types[0]),
        pa.array(["x", None], types[1]),
        pa.array([decimal.Decimal("1.50"), None], types[2]),
    ]
    given = pa.table([*columns, pa.array(["u", None], types[3])], names=list("abcd"))
    table, back = as_table(given)
    assert back(table).equals(given) and table["c"].to_pylist() == [1.5, None]
    batch = given.combine_chunks().to_batches()[0]
    table, back = as_table(batch)
    assert isinstance(back(table), pa.RecordBatch) and back(table).equals(batch)
    table, back = as_table(given.to_reader())
    assert isinstance(back(table), pa.RecordBatchReader) and back(table).read_all().equals(given)
    table, back = as_table(duckdb.sql("select range::integer a, 'x' || range b, 1.25::decimal(9, 2) c from range(3)"))
    assert table.to_pydict() == {"a": [0, 1, 2], "b": ["x0", "x1", "x2"], "c": [1.25] * 3}
    assert back(table)["c"].type == pa.decimal128(9, 2)


def test_structured_arrays_and_mappings_come_back() -> None:
    dtype = [("i", "i2"), ("f", ">f4"), ("s", "U5"), ("b", "?"), ("t", "M8[D]")]
    given = np.array([(1, 2.5, "abc", True, "2024-02-29"), (3, np.nan, "d", False, "NaT")], dtype)
    table, back = as_table(given)
    assert table.to_pydict() == {"i": [1, 3], "f": [2.5, None], "s": ["abc", "d"], "b": [True, False], "t": [DAY, None]}
    assert back(table).dtype == given.dtype and all(
        np.array_equal(back(table)[n], given[n], n in "ft") for n in "ifsbt"
    )
    assert back(pa.table({"s": ["longer than five", None]}))["s"].tolist() == ["longer than five", None]
    table, back = as_table(
        {"a": [1, None], 2: np.array([1, 2], np.int8), "c": (True, False), "d": pa.array(["x", "y"])}
    )
    found = back(table)
    assert (
        found["a"] == [1, None]
        and found[2].dtype == np.int8
        and found["c"] == [True, False]
        and found["d"] == ["x", "y"]
    )


def test_frames_of_every_library_are_recognised() -> None:
    pd, pl = (pytest.importorskip(name) for name in ("pandas", "polars"))
    frame, table = pd.DataFrame({"a": [1]}), pa.table({"a": [1]})
    yes = [frame, pl.DataFrame(frame), pl.LazyFrame({"a": [1]}), table, table.to_batches()[0], table.to_reader()]
    yes += [duckdb.sql("select 1 a"), np.zeros(1, [("a", "f4")]), {"a": [1]}]
    for given in yes:
        assert is_frame(given) and as_table(given)[0].num_rows == 1, type(given)
    for given in [frame["a"], pl.Series([1]), table["a"], np.zeros((1, 1)), [[1]], "a", None, 1.0]:
        assert not is_frame(given), type(given)


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([1], "of the type list is not a table: give a data frame"),
    "an array": (np.zeros((2, 2)), "numpy.ndarray is not a table"),
    "lists": ({"a": ["x"] * 17 + [["y"]]}, "row 17 of column 'a' is a list, row 0 is text"),
    "numbers and words": ({"a": [None, 1, 2.5, "x"]}, "row 3 of column 'a' is text, row 1 is a number"),
    "truth and numbers": ({"a": [True, 1]}, "row 1 of column 'a' is a number, row 0 is true or false"),
    "dates and times": ({"a": [DAY, TIME]}, "row 1 of column 'a' is a time, row 0 is a date"),
    "words and bytes": ({"a": ["x", b"y"]}, "row 1 of column 'a' is a bytes"),
    "objects": ({"a": [object()]}, "row 0 of column 'a' is an object"),
    "complex": ({"a": [1j]}, "row 0 of column 'a' is a complex"),
    "long numbers": ({"a": [2**70]}, "column 'a' cannot be converted .*too large"),
    "lengths": ({"a": [1], "b": [1, 2]}, "column 'b' has 2 rows, column 'a' has 1"),
    "one value": ({"a": "xyz"}, "column 'a' is a str: give a sequence"),
    "two axes": ({"a": np.zeros((2, 2))}, r"column 'a' has the shape \(2, 2\)"),
    "same labels": ({"1": [1], 1: [2]}, "columns 1 and 2 are both called '1'"),
    "no columns": ({}, "no columns"),
    "no rows": ({"a": []}, "no rows"),
    "infinity": ({"a": [1.0, np.inf]}, "column 'a', row 1 is not finite"),
    "fields of bytes": (np.array([(b"x",)], [("a", "S3")]), "column 'a' holds bytes"),
    "arrow lists": (pa.table({"a": [[1]]}), "column 'a' holds lists"),
    "arrow names": (pa.table([[1], [2]], names=["a", "a"]), "both called 'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_frames_that_cannot_be_a_table_are_refused_with_the_reason(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        as_table(given)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


def test_frames_of_libraries_are_refused_with_the_position() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for given, message in [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "both called 'a'"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "both called '1'"),
        (pd.DataFrame({"a": ["x", [1]]}), "row 1 of column 'a' is a list"),
        (pd.DataFrame({"a": [1, "x"]}), "row 1 of column 'a' is text"),
        (pd.DataFrame({"a": [None, {}]}), "row 1 of column 'a' is a dict"),
        (pd.Series([1]), "Series is not a table"),
        (pl.DataFrame({"a": [[1]]}), "column 'a' holds lists"),
        (pl.DataFrame({"a": [{"b": 1}]}), "column 'a' holds records"),
        (pl.DataFrame({"a": [object()]}), "column 'a' holds objects"),
        (pl.DataFrame({"a": [1.0, -np.inf]}), "column 'a', row 1 is not finite"),
        (pl.Series([1]), "Series is not a table"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            as_table(given)
        assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
