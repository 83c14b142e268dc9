"""Laws of the sources: written data are read back unchanged, and every bad file is refused with one sentence."""

from __future__ import annotations

import errno
import gzip
import os
import re
import resource
import struct
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets

from latens.data import EMBEDDED, Source, fingerprint, infer, read, write
from latens.data.rows import as_matrix, rows_of
from latens.errors import InputError
from latens.machine.atomic import atomic_write, write_bytes, write_text

IDX_CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
DTYPES = [*IDX_CODES, "bool", "uint16", "int64", "float16"]
rng = np.random.default_rng(0)


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def idx(x: np.ndarray) -> bytes:
    header = bytes([0, 0, IDX_CODES[x.dtype.name], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    return header + x.astype(x.dtype.newbyteorder(">")).tobytes()


def refusal(path: str | Path, **options: object) -> str:
    """The sentence with which reading is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        read(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and not message.endswith("."), message
    assert Path(str(path)).name.split(":")[0] in message, message
    return message


# Written data are read back unchanged


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extension", ["npy", "npz", "idx", "idx.gz", "csv", "tsv"])
def test_a_written_array_is_read_back_unchanged(tmp_path: Path, extension: str, dtype: str) -> None:
    table = extension in ("csv", "tsv")
    if "idx" in extension and dtype not in IDX_CODES:
        return
    x = values(dtype, (20, 6) if table else (20, 4, 5))
    path = tmp_path / f"data.{extension}"
    if "idx" in extension:
        path.write_bytes(gzip.compress(idx(x)) if extension.endswith("gz") else idx(x))
    else:
        write(path, x, names=list("abcdef") if table else None)
    source = read(path)
    assert isinstance(source, Source) and source.labels is None and source.origin == str(path)
    assert source.names == (tuple("abcdef") if table else None) and source.is_table == table
    assert source.fingerprint == fingerprint(source.x)
    if table:
        assert source.x.column_names == list("abcdef")
        assert {str(kind) for kind in source.x.schema.types} == {"double" if dtype.startswith("float") else "int64"}
        assert as_matrix(source.x).astype(dtype).tobytes() == x.tobytes()
        assert len(rows_of(source.x).inside) == 20
    else:
        assert source.x.shape == x.shape and source.x.dtype.isnative
        assert source.x.dtype == dtype and source.x.tobytes() == x.tobytes()
        assert source.fingerprint == fingerprint(x)
        infer(source.x)


def test_arrays_written_by_other_programs_are_read(tmp_path: Path) -> None:
    x = values("float64", (5, 4))
    for name, array in {"fortran": np.asfortranarray(x), "big": x.astype(">f8"), "strided": x[:, ::2]}.items():
        np.save(tmp_path / f"{name}.npy", array)
        source = read(tmp_path / f"{name}.npy")
        assert np.array_equal(source.x, array) and source.x.dtype.isnative
    np.savez_compressed(tmp_path / "packed.npz", features=x, y=np.arange(5))
    source = read(str(tmp_path / "packed.npz"))
    assert np.array_equal(source.x, x) and source.labels is not None
    assert source.labels.tolist() == [0, 1, 2, 3, 4] and source.origin.endswith("packed.npz:features")


def test_the_fingerprint_depends_only_on_the_contents() -> None:
    x = values("float32", (2000, 700))
    prints = {fingerprint(y) for y in (x, x.T, x.reshape(700, 2000), x.view("int32"), x[:-1], x + 1)}
    assert len(prints) == 6
    assert fingerprint(np.asfortranarray(x)) == fingerprint(x.astype(">f4")) == fingerprint(x)


def test_the_fingerprint_of_a_table_depends_only_on_its_cells() -> None:
    columns = {"n": [1.0, None, 3.0], "word": ["x", None, "y"]}
    table = pa.table(columns)
    again = [
        pa.concat_tables([table.slice(0, 1), table.slice(1)]),  # another split into chunks
        pa.table({"n": pa.array([1.0, np.nan, 3.0]), "word": columns["word"]}),  # NaN is a missing cell
        table.slice(0),
    ]
    assert {fingerprint(other) for other in again} == {fingerprint(table)}
    others = [
        table.select(["word", "n"]), table.rename_columns(["m", "word"]), table.slice(1),
        table.set_column(0, "n", pa.array([1, None, 3])),
        pa.table(columns | {"word": ["x", "", "y"]}), pa.table(columns | {"word": [None, "x", "y"]}),
        pa.table(columns | {"n": [1.0, 3.0, None]}), pa.table(columns | {"word": ["x\0", None, "y"]}),
    ]  # fmt: skip
    assert len({fingerprint(other) for other in [table, *others]}) == 9


@pytest.mark.parametrize("name", EMBEDDED)
def test_built_in_sets_have_their_rows_and_labels(name: str) -> None:
    source = read(name)
    data = getattr(datasets, f"load_{name}")()
    assert source.labels is not None and np.array_equal(source.labels, data.target)
    assert (source.label_names is None) == (name == "diabetes")
    assert source.origin == name and source.is_table == (name != "digits")
    if name == "digits":
        assert source.names is None and np.array_equal(source.x, data.images)
        return
    assert np.array_equal(as_matrix(source.x), data.data)
    assert source.names == tuple(source.x.column_names) == tuple(data.feature_names)
    fewer = read(name, drop=source.names[0])
    assert fewer.names == source.names[1:] and fewer.x.equals(source.x.drop_columns([source.names[0]]))


def test_an_array_of_an_npz_is_chosen_by_its_name(tmp_path: Path) -> None:
    a, b = values("float32", (3, 2)), values("float32", (4, 2))
    path = tmp_path / "two.npz"
    np.savez(path, a=a, b=b)
    assert "a, b" in refusal(path)
    assert "has no array 'c': choose one of a, b" in refusal(f"{path}:c")
    source = read(f"{path}:b")
    assert np.array_equal(source.x, b) and source.origin == f"{path}:b"
    np.savez(path, x_train=a, y_train=[1, 2, 3], x_test=b[:3], y_test=[7, 8, 9], name=["u", "v", "u"])
    assert read(path).labels.tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert read(f"{path}:x_test").labels.tolist() == [7, 8, 9]  # type: ignore[union-attr]
    words = read(path, labels="name")
    assert words.labels.tolist() == [0, 1, 0] and words.label_names == ("u", "v")  # type: ignore[union-attr]
    assert "x_train, y_train" in refusal(path, labels="nothing")


def test_labels_are_found_next_to_idx_images(tmp_path: Path) -> None:
    images, labels = values("uint8", (6, 4, 4)), np.arange(6, dtype="uint8")
    for i, (one, two) in enumerate([
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
    ]):  # fmt: skip
        folder = tmp_path / str(i)
        folder.mkdir()
        for name, x in ((one, images), (two, labels)):
            (folder / name).write_bytes(gzip.compress(idx(x)) if name.endswith("gz") else idx(x))
        source = read(folder / one)
        assert np.array_equal(source.x, images) and source.labels.tolist() == list(range(6))  # type: ignore[union-attr]
        (folder / two).write_bytes(idx(labels[:5]))
        assert "5 labels" in refusal(folder / one)


def test_labels_may_come_from_another_file(tmp_path: Path) -> None:
    data = tmp_path / "x.npy"
    np.save(data, values("float32", (4, 3)))
    files = {
        "numbers.npy": lambda p: np.save(p, np.array([3, 1, 2, 2])),
        "column.npy": lambda p: np.save(p, np.array([[3], [1], [2], [2]])),
        "y.idx": lambda p: p.write_bytes(idx(np.array([3, 1, 2, 2], "uint8"))),
        "bare.csv": lambda p: p.write_text("3\n1\n2\n2\n"),
        "named.csv": lambda p: p.write_text("kind\n3\n1\n2\n2\n"),
    }
    for name, make in files.items():
        make(tmp_path / name)
        source = read(data, labels=tmp_path / name)
        assert source.labels.tolist() == [3, 1, 2, 2] and source.label_names is None  # type: ignore[union-attr]
    np.save(tmp_path / "words.npy", np.array(["b", "a", "c", "c"]))
    (tmp_path / "words.csv").write_text("kind\nb\na\nc\nc\n")
    for name in ("words.npy", "words.csv"):
        source = read(data, labels=tmp_path / name)
        assert source.labels.tolist() == [1, 0, 2, 2] and source.label_names == ("a", "b", "c")  # type: ignore[union-attr]

    def no(name: str, text: str) -> None:
        with pytest.raises(InputError, match=text):
            read(data, labels=tmp_path / name)

    (tmp_path / "short.csv").write_text("1\n2\n")
    (tmp_path / "wide.csv").write_text("1,2\n2,3\n4,5\n6,7\n")
    (tmp_path / "gap.csv").write_text('a\nnan\nb\n""\nc\n')
    np.save(tmp_path / "nan.npy", np.array([1, 2, np.nan, 4]))
    np.save(tmp_path / "square.npy", np.zeros((4, 4)))
    np.save(tmp_path / "objects.npy", np.array([{}, 1, 2, 3], dtype=object), allow_pickle=True)
    no("short.csv", "2 labels, .* 4 rows")
    no("wide.csv", "more than one column")
    no("nan.npy", "label of row 2 .* is missing")
    no("square.npy", r"shape \(4, 4\)")
    no("objects.npy", "unpickles")
    no("absent.npy", "no labels .*absent.npy', .*no file of that name")


# Tables

TABLES = {
    "header": "a,b\n1,2\n3,4\n",
    "no final newline": "a,b\n1,2\n3,4",
    "windows": "a,b\r\n1,2\r\n3,4\r\n",
    "old mac": "a,b\r1,2\r3,4\r",
    "byte order mark": "\ufeffa,b\n1,2\n3,4\n",
    "semicolons": "a;b\n1;2\n3;4\n",
    "tabs": "a\tb\n1\t2\n3\t4\n",
    "quotes": '"a","b"\n"1","2"\n"3","4"\n',
    "blank lines": "\n\na,b\n\n1,2\n\n\n3,4\n\n",
    "spaces": " a , b \n 1 , 2 \n3, 4\n",
    "signs": "a,b\n+1,2\n+3,+4\n",
    "hash header": "# a,b\n1,2\n3,4\n",
    "row index": ",a,b\n0,1,2\n1,3,4\n",
    "row names": '"","a","b"\n"x",1,2\n"y",3,4\n',
}


@pytest.mark.parametrize("case", TABLES)
def test_text_tables_of_every_form_are_read_compressed_or_not(tmp_path: Path, case: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(TABLES[case].encode())
    source = read(path)
    assert source.x.to_pydict() == {"a": [1, 3], "b": [2, 4]} and source.names == ("a", "b")
    packed = tmp_path / "table.csv.gz"
    packed.write_bytes(gzip.compress(TABLES[case].encode()))
    assert read(packed).x.equals(source.x)


def test_a_header_is_told_from_data(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text, names, shape in [
        ("1,2\n3,4\n", ("column_1", "column_2"), (2, 2)),
        ("0,1,2\n5,6,7\n8,9,1\n", ("0", "1", "2"), (2, 3)),
        ("a\n1\n2\n", ("a",), (2, 1)),
        ("1\n2\n", ("column_1",), (2, 1)),
        ('"a\nb",c\n1,2\n3,4\n', ("a\nb", "c"), (2, 2)),
        ("label,1x1,1x2\n5,0,0\n4,0,1\n", ("label", "1x1", "1x2"), (2, 3)),
        ('"a;x","b;y"\n1,2\n3,4\n', ("a;x", "b;y"), (2, 2)),
    ]:
        path.write_text(text)
        source = read(path)
        assert source.names == names and source.x.shape == shape, text
    path.write_text("kind,1,2\nx,3,4\ny,5,6\n")  # numbers name the columns: the requested name shows it
    assert read(path, labels="kind").names == ("1", "2")
    path.write_text("5.1,3.5,setosa\n4.9,3.0,virginica\n")
    source = read(path, labels="column_3")
    assert source.x.shape == (2, 2) and source.names == ("column_1", "column_2")
    assert source.label_names == ("setosa", "virginica")


def test_columns_may_be_labels_or_dropped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,note,x,y,kind\n7,"a\n""b"", c",0.5,1,cat\n8,,1.5,2,dog\n9,z,2.5,3,cat\n')
    source = read(path, labels="kind", drop=["id", "note"])
    assert source.x.to_pydict() == {"x": [0.5, 1.5, 2.5], "y": [1, 2, 3]} and source.names == ("x", "y")
    assert source.labels.tolist() == [0, 1, 0] and source.label_names == ("cat", "dog")  # type: ignore[union-attr]
    whole = read(path, labels="id", drop=("note", "x", "kind"))
    assert whole.labels.tolist() == [7, 8, 9] and whole.label_names is None  # type: ignore[union-attr]
    assert [str(kind) for kind in whole.x.schema.types] == ["int64"]
    assert "no column 'age'" in refusal(path, drop="age")
    assert "id, note, x, y, kind" in refusal(path, labels="species")
    assert "label of row 1" in refusal(path, labels="note", drop=["kind"])
    assert "no column besides" in refusal(path, drop=["id", "note", "x", "y", "kind"])
    late = tmp_path / "late.csv"
    late.write_text("a,b\n" + "1,2\n" * 400_000 + "1,0.5\n")
    assert read(late).x.slice(400_000).to_pydict() == {"a": [1], "b": [0.5]}


CELLS: dict[str, tuple[str | bytes, dict[str, list[Any]]]] = {  # all cells, numbers or not, are data
    "text": ("a,b\n1,2\n3,x y\n", {"a": [1, 3], "b": ["2", "x y"]}),
    "text after a quoted newline": ('"a\nb",c\n1,2\n3,x\n', {"a\nb": [1, 3], "c": ["2", "x"]}),
    "text in a file without header": ("1,2\n3,x\n", {"column_1": [1, 3], "column_2": ["2", "x"]}),
    "text in every row": ("a,b\n1,x\n2,y\n", {"a": [1, 2], "b": ["x", "y"]}),
    "truth": ("a,b\n1,true\n2,false\n", {"a": [1, 2], "b": [True, False]}),
    "dates": ("a,b\n1,2020-01-01\n2,2020-01-02\n", {"a": [1, 2], "b": [date(2020, 1, 1), date(2020, 1, 2)]}),
    "decimal comma": ("a;b\n1,5;2\n3,5;4\n", {"a": [1.5, 3.5], "b": [2, 4]}),
    "missing": ("a,b\n1,2\n3,\n", {"a": [1, 3], "b": [2, None]}),
    "missing, in words": ("a,b\n1,2\n3,NA\n", {"a": [1, 3], "b": [2, None]}),
    "missing without header": ("1,2,3\n4,,6\n", {"column_1": [1, 4], "column_2": [2, None], "column_3": [3, 6]}),
    "missing in the first line": ("1,NA,3\n4,5,6\n", {"column_1": [1, 4], "column_2": [None, 5], "column_3": [3, 6]}),
    "NaN": ("a,b\n1,2\n3,nan\n", {"a": [1, 3], "b": [2, None]}),
    "utf-16": ("a,b\n1,2\n".encode("utf-16"), {"a": [1], "b": [2]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CELLS)
def test_cells_become_the_expected_values(tmp_path: Path, case: str) -> None:
    content, expected = CELLS[case]
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read(path).x.to_pydict() == expected


BAD_TABLES = {
    "mixed": ("a,b\n1,2\n3,4\n5,x y\n", r"column 'b' holds numbers, but row 2 is 'x y' \(1 of 3.*--drop 'b'"),
    "underscore": ("a,b\n1,1_000\n2,3\n4,5\n", "column 'b' holds numbers, but row 0 is '1_000'"),
    "infinity": ("a,b\n1,2\n3,inf\n", "column 'b', row 1 is 'inf', which is not finite"),
    "too large": ("a,b\n1,2\n3,1e999\n", "column 'b', row 1 is '1e999', which is not finite"),
    "too few fields": ("a,b\n1,2\n3\n", "line 3 has 1 field, but the first line has 2"),
    "too many fields": ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, but the first line has 2"),
    "wider than its header": ("a,b\n1,2,3\n4,5,6\n", "line 2 has 3 fields"),
    "two of one name": ("a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
    "no name": ("a,,c\n1,2,3\n", "column 2 has no name"),
    "header only": ("a,b\n", "no rows"),
    "blank": ("\n\n", "no rows"),
    "open quote": ('a,b\n1,"2\n3,4\n', "unexpected end of data"),
    "latin-1": ("größe,b\n1,2\n".encode("latin-1"), r"line 1: byte 2 \(0xf6\) is not UTF-8 text: .*--encoding"),
    "zeros": (b"\0" * 100, "NUL bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_tables_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    content, message = BAD_TABLES[case]
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert re.search(message, refusal(path))


# Bad files


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def npy_bytes(x: np.ndarray) -> bytes:
    header = f"{{'descr': '{x.dtype.str}', 'fortran_order': False, 'shape': {x.shape}, }}\n"
    return npy(header, x.tobytes())


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000), }\n"
OBJECTS = "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n"
plain = idx(values("uint8", (6, 4, 4)))
zipped = gzip.compress(plain)
BAD_FILES = {
    "empty.npy": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "text.npy": (b"hello world", "not an .npy"),
    "version.npy": (b"\x93NUMPY\x09\x00" + bytes(99), "version 9.0"),
    "magic.npy": (b"\x93NUMPY", "version"),
    "header.npy": (npy("{'descr': '<f8', 'shape'}\n"), "damaged"),
    "cut-header.npy": (npy(HUGE)[:40], "truncated"),
    "huge.npy": (npy(HUGE, bytes(64)), "truncated.*8,000,000,000,000,000 bytes .*has 64"),
    "negative.npy": (npy(HUGE.replace("1000)", "-1000)")), "negative"),
    "short.npy": (npy_bytes(np.zeros((4, 3)))[:-1], "truncated"),
    "long.npy": (npy_bytes(np.zeros((4, 3))) + b"x", "1 byte follows"),
    "objects.npy": (npy(OBJECTS, bytes(16)), "never unpickles"),
    "words.npy": (npy_bytes(np.array([["ab", "c"]] * 3)), "text"),
    "complex.npy": (npy_bytes(np.ones((3, 2), complex)), "Complex"),
    "records.npy": (npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }\n", bytes(8)), "numbers"),
    "text.npz": (b"hello world", "zip"),
    "magic.idx": (b"\x00\x01" + plain[2:], "its magic is 00 01 08 03"),
    "type.idx": (b"\x00\x00\x07" + plain[3:], "its magic is 00 00 07 03"),
    "axes.idx": (b"\x00\x00\x08\x00" + plain[4:], "magic"),
    "tiny.idx": (b"\x00\x00", "magic"),
    "header.idx": (plain[:9], "truncated"),
    "short.idx": (plain[:-1], "truncated"),
    "long.idx": (plain + b"x", "1 byte follows"),
    "huge.idx": (b"\x00\x00\x08\x03" + b"\xff" * 12 + bytes(100), "truncated"),
    "huge.idx.gz": (gzip.compress(b"\x00\x00\x08\x03" + b"\xff" * 12 + bytes(100)), "truncated"),
    "large.idx.gz": (gzip.compress(b"\x00\x00\x08\x01\x00\x00\xc0\x00" + bytes(100)), "truncated"),
    "short.idx.gz": (gzip.compress(plain[:-1]), "truncated"),
    "long.idx.gz": (gzip.compress(plain + b"x"), "more bytes follow"),
    "cut-images-idx3-ubyte.gz": (zipped[:-9], "truncated"),
    "garbage-images-idx3-ubyte.gz": (zipped + b"garbage", "gzip"),
    "flipped-images-idx3-ubyte.gz": (zipped[:-6] + bytes([zipped[-6] ^ 1]) + zipped[-5:], "CRC"),
    "table.parquet": (b"PAR1", "is truncated, as it ends before its data does"),
    "noextension": (b"1,2", "unknown extension"),
    "table.csv.gz": (gzip.compress(b"a,b\n1,2\n")[:-5], "truncated"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    assert re.search(message, refusal(tmp_path / name))


def test_damaged_archives_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    x = values("float64", (40, 3))
    np.savez_compressed(path, x=x)
    good = path.read_bytes()
    for content in (good[:-1], good + b"x", b"x" + good, good[: len(good) // 2], good[:100] + b"?" + good[101:]):
        path.write_bytes(content)
        refusal(path)
    np.savez(path, x=np.array([{}, 1], dtype=object), allow_pickle=True)  # type: ignore[arg-type]
    assert "never unpickles" in refusal(f"{path}:x")
    for member, message in {
        npy_bytes(x)[:-8]: "truncated", npy_bytes(x) + b"x": "follow", b"?": "not an .npy", npy(HUGE): "truncated",
    }.items():  # fmt: skip
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", member)
        assert message in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy_bytes(x))
    assert "compressed" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        pass
    assert "none" in refusal(path)


def test_files_that_are_missing_or_unreadable_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "train.npy", values("float32", (4, 3)))
    assert "did you mean" in refusal(tmp_path / "trian.npy") and "train.npy" in refusal(tmp_path / "trian.npy")
    assert "digits, wine" in refusal(tmp_path / "zzz.h5")
    assert "did you mean digits?" in refusal("digit")
    assert "holds no images" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "no" / "train.npy")
    assert "regular file" in refusal("/dev/null")
    assert "does not exist" in refusal("x" * 5000 + ".npy")
    for options in ({"drop": "a"}, {"labels": "nothing-there"}):
        refusal(tmp_path / "train.npy", **options)
    with pytest.raises(InputError, match="name one of alcohol"):
        read("wine", drop="alcool")
    with pytest.raises(InputError, match="pixels"):
        read("digits", drop="pixel_0_0")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    assert "permission denied" in refusal(tmp_path / "train.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "packed.npz", "a.csv", "a.csv.gz", "a.idx", "a.idx.gz"])
def test_no_damage_raises_anything_else(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(len(name))
    x = values("float32", (8, 3))
    path = tmp_path / name
    if name == "packed.npz":
        np.savez_compressed(path, x=x, y=np.arange(8))
    elif "idx" in name:
        path.write_bytes(gzip.compress(idx(x)) if name.endswith("gz") else idx(x))
    else:
        plain_path = tmp_path / name.removesuffix(".gz")
        write(plain_path, x, names=["a", "b", "c"] if "csv" in name else None)
        if name.endswith("gz"):
            path.write_bytes(gzip.compress(plain_path.read_bytes()))
    good = path.read_bytes()
    refused = 0
    for trial in range(120):
        content = bytearray(good)
        if trial % 3 == 0:
            content = content[: random.integers(len(good))]
        elif trial % 3 == 1:
            content[random.integers(len(good))] ^= 1 << random.integers(8)
        else:
            start = random.integers(len(good))
            content[start : start + random.integers(9)] = random.bytes(random.integers(9))
        path.write_bytes(content)
        try:
            read(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and name in str(error)
    assert refused > 40


# Writing


def test_arrays_that_a_file_cannot_hold_are_not_written(tmp_path: Path) -> None:
    x = values("float32", (4, 3))
    for path, array, names, message in [
        ("a.xlsx", x, None, "extension"),
        ("no/a.npy", x, None, "folder"),
        ("folder.npy", x, None, "is a folder"),
        ("a.csv", np.zeros((2, 2, 2)), None, "2 axes"),
        ("a.csv", x, ["a"], "1 names for 3 columns"),
        ("a.npy", np.array([{}]), None, "objects"),
        ("a.csv", np.array([["a"]]), None, "text"),
    ]:
        (tmp_path / "folder.npy").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=message):
            write(tmp_path / path, array, names)
    with pytest.raises(InputError, match="regular file"):
        write_bytes("/dev/null", b"")
    assert os.listdir(tmp_path) == ["folder.npy"]


def test_a_single_column_and_awkward_names_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write(path, np.array([1.5, 2.5]), names=["score"])
    assert path.read_text() == "score\n1.5\n2.5\n"
    names = ['a "b"', "c,d", "größe"]
    x = np.array([[1.5, -0.0, 1e-300], [2, 0.1, np.pi]])
    write(path, x, names=names)
    source = read(path)
    assert source.names == tuple(names) and as_matrix(source.x).tobytes() == x.tobytes()


@pytest.mark.parametrize("extension", ["npy", "npz", "csv"])
def test_a_full_disk_is_reported_and_leaves_the_old_file(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    path.write_text("before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))  # behaves like a full disk
    try:
        with pytest.raises(InputError, match=f"cannot write .*a.{extension} .*: make room") as caught:
            write(path, np.random.default_rng(0).normal(size=(5000, 10)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [path.name] and path.read_text() == "before"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "größe")
    assert path.read_bytes() == "größe".encode()
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        (temporary,) = (name for name in os.listdir(tmp_path) if name != "a.txt")
        assert temporary.startswith(".") and temporary.endswith(".tmp")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a.txt"] and path.read_text() == "größe"
    link = tmp_path / "link"
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a.txt \(no space left on device\)"):
        write_text(path, "lost")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "link"] and path.read_text() == "new"


def umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_importing_the_data_layer_imports_no_heavy_package() -> None:
    code = "import sys, latens.data; print({'torch', 'pyarrow', 'sklearn', 'pandas'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
