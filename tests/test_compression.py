"""Compressed files: decompression returns the data bit for bit, or one sentence says why it cannot."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from commanding import done, figures, refused
from PIL import Image
from pyarrow import parquet
from scipy import sparse

import latens
from latens.errors import InputError
from latens.runs.coding import arrays, rans, tables
from latens.runs.coding.codec import Codec
from latens.runs.coding.container import MAGIC, Container
from latens.runs.coding.rounding import Rounding, from_varints, varints

ROOT = Path(__file__).parent.parent
KEPT = Path(__file__).parent / "compressed"  # a run, rows and their file, which every later version must decode


def drawn(kind: str, rows: int) -> np.ndarray:
    """Up to 300 rows, each determined by two numbers."""
    return _all(kind)[-rows:]


def _all(kind: str, rows: int = 300) -> np.ndarray:
    random = np.random.default_rng(0)
    z = random.normal(size=(rows, 2))
    if kind == "binary":
        return (z @ random.normal(size=(2, 24)) > random.normal(size=24)).astype(np.uint8)
    if kind == "counts":
        return random.poisson(np.exp(1 + z @ random.normal(size=(2, 6)) / 2)).astype(np.int32)
    grey = 8 + 4 * np.sin(z @ random.normal(size=(2, 30))) + random.normal(size=(rows, 30))
    levels = np.clip(np.rint(grey), 0, 16).reshape(rows, 5, 6)
    return {"levels": levels.astype(np.uint8), "floats": levels / 16, "rows of floats": levels.astype(np.float32)}[kind]


# (name of the data, options of the fit)
RUNS: dict[str, tuple[str, dict]] = {
    "binary": ("binary", {}),
    "levels": ("levels", {}),
    "categories": ("levels", {"likelihood": "categorical"}),
    "levels in a mixture": ("levels", {"recipe": latens.Recipe("vae", prior="mixture")}),
    "entries of a codebook": ("levels", {"recipe": "vq"}),
    "entries of three codebooks": ("levels", {"recipe": latens.Recipe("residual_vq", codes=7)}),
    "codes on a grid": ("levels", {"recipe": "fsq"}),
    "categories of codes": ("levels", {"recipe": "reinforce"}),
    "a ladder": ("levels", {"recipe": "ladder"}),
    "a deep ladder": ("levels", {"recipe": latens.Recipe("deep_ladder", network="mlp")}),
    "a deep ladder of grids": ("levels", {"recipe": latens.Recipe("deep_ladder", network="conv")}),
    "steps": ("floats", {}),
    "float pixels": ("rows of floats", {}),
    "counts": ("counts", {"kind": "count"}),
    "Poisson": ("counts", {"kind": "count", "likelihood": "poisson"}),
    "zero-inflated": ("counts", {"kind": "count", "likelihood": "zero_inflated_negative_binomial"}),
}


class Fits(dict[str, latens.VAE]):
    """The runs, each fitted to few rows when it is first used."""

    def __missing__(self, name: str) -> latens.VAE:
        kind, options = RUNS[name]
        self[name] = latens.VAE(latent_dim=2, epochs=2, random_state=0, **options).fit(drawn(kind, 300))
        return self[name]


class Codecs(dict[str, Codec]):
    def __init__(self, fitted: Fits):
        super().__init__()
        self.fitted = fitted

    def __missing__(self, name: str) -> Codec:
        self[name] = self.fitted[name].codec()
        return self[name]


@pytest.fixture(scope="module")
def fitted() -> Fits:
    return Fits()


@pytest.fixture(scope="module")
def codecs(fitted: Fits) -> Codecs:
    return Codecs(fitted)


@pytest.mark.parametrize("rows", [1, 2, 257])
@pytest.mark.parametrize("name", RUNS)
def test_what_is_encoded_is_decoded_bit_for_bit(name: str, rows: int, codecs: dict[str, Codec]):
    x = drawn(RUNS[name][0], rows)
    back = codecs[name].decode(codecs[name].encode(x))
    assert back.dtype == x.dtype and back.shape == x.shape and back.tobytes() == x.tobytes()


@pytest.mark.parametrize("name", RUNS)
def test_a_file_has_the_length_that_the_frequencies_of_its_symbols_imply(
    name: str, codecs: dict[str, Codec], monkeypatch: pytest.MonkeyPatch
):
    bits = [0.0]
    push, pop = rans.Stack.push, rans.Stack.pop

    def counted(stack: rans.Stack, start: np.ndarray, frequency: np.ndarray, **more: bool) -> None:
        bits[0] += np.log2(rans.TOTAL / frequency).sum()
        push(stack, start, frequency, **more)

    def given_back(stack: rans.Stack, find: rans.Find, count: int, **more: bool) -> np.ndarray:
        def counting(slots: np.ndarray, cells: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            symbol, start, frequency = find(slots, cells)
            bits[0] -= np.log2(rans.TOTAL / frequency).sum()
            return symbol, start, frequency

        return pop(stack, counting, count, **more)

    monkeypatch.setattr(rans.Stack, "push", counted)
    monkeypatch.setattr(rans.Stack, "pop", given_back)
    found = codecs[name].pack(latens.data.rows.rows_like(drawn(RUNS[name][0], 257), codecs[name].schema))
    codes = sum(getattr(codecs[name].model, "layers", (2,)))
    lent, ends = 29 + 2 * codes, 16 + 8 + 8 + 16  # bytes: words of the first row's code; head, lane, checksums
    assert bits[0] / 8 <= found.coded <= 1.01 * bits[0] / 8 + lent + ends


def test_a_stack_returns_symbols_in_reverse_order():
    random = np.random.default_rng(0)
    for lanes in (1, 3, 64):
        stack = rans.Stack(lanes)
        put = []
        for count in (1, 5, 200, 64):
            frequency = random.integers(1, 1 << random.integers(1, 28), size=count)
            start = random.integers(0, rans.TOTAL - frequency + 1)
            put.append((start, frequency))
            stack.push(start, frequency, turned=bool(count % 2))
        for start, frequency in put[::-1]:
            def find(slots: np.ndarray, cells: slice, start=start, frequency=frequency):
                assert ((start[cells] <= slots) & (slots < start[cells] + frequency[cells])).all()
                return slots, start[cells], frequency[cells]

            stack.pop(find, len(start), turned=bool(len(start) % 2))
        assert np.array_equal(stack.heads, rans.first_heads(lanes)) and not len(stack.words)
        with pytest.raises(rans.Exhausted):
            stack.pop(lambda slots, cells: (slots, slots, np.ones_like(slots)), 40 * lanes)


# Files with wrong checksums are refused


def test_every_changed_byte_of_a_file_is_refused(codecs: dict[str, Codec]):
    data = codecs["binary"].encode(drawn("binary", 3))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(InputError):
            codecs["binary"].decode(bytes(changed))


def test_truncated_and_extended_files_are_refused(codecs: dict[str, Codec]):
    data = codecs["binary"].encode(drawn("binary", 3))
    for length in range(len(data)):
        with pytest.raises(InputError):
            codecs["binary"].decode(data[:length])
    with pytest.raises(InputError, match="followed by other data"):
        codecs["binary"].decode(data + b"\0")


def test_the_file_of_another_run_is_refused(codecs: dict[str, Codec]):
    data = codecs["levels"].encode(drawn("levels", 3))
    with pytest.raises(InputError, match="another run"):
        codecs["categories"].decode(data)


def test_data_outside_the_schema_are_refused(codecs: dict[str, Codec]):
    for bad in (np.full((1, 5, 6), 17, np.uint8), np.zeros((1, 6, 5), np.uint8), np.zeros((0, 5, 6), np.uint8)):
        with pytest.raises(InputError):
            codecs["levels"].encode(bad)


# Files are the same on every machine


def test_the_file_of_an_earlier_version_is_decoded():
    codec = latens.load(KEPT / "run").codec()
    x, data = np.load(KEPT / "rows.npy"), (KEPT / "rows.latens").read_bytes()
    assert np.array_equal(codec.decode(data), x) and codec.encode(x) == data

SETTINGS: list[dict[str, str]] = [
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OMP_NUM_THREADS": "2"},
    {"ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512", "OMP_NUM_THREADS": "4"},
]
ELSEWHERE = """
import sys, glob, numpy as np
from latens.runs import record
for name in ("levels", "counts", "a ladder"):
    codec, x = record.load(name).codec(), np.load(name + ".npy")
    for file in glob.glob(name + "-*.latens"):
        assert np.array_equal(codec.decode(open(file, "rb").read()), x), file
    open(f"{name}-{sys.argv[1]}.latens", "wb").write(codec.encode(x))
"""


def test_files_do_not_depend_on_the_instruction_set_or_the_number_of_threads(
    fitted: dict[str, latens.VAE], codecs: dict[str, Codec], tmp_path: Path
):
    for name in ("levels", "counts", "a ladder"):
        fitted[name].save(tmp_path / name)
        np.save(tmp_path / f"{name}.npy", drawn(RUNS[name][0], 300))
    known = ["DEFAULT", "AVX2", "AVX512"].index(torch.backends.cpu.get_cpu_capability())  # what this processor has
    for number, setting in enumerate(SETTINGS[: 1 + known]):
        environment = os.environ | setting | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", ELSEWHERE, str(number)], cwd=tmp_path, env=environment, check=True)
    for name in ("levels", "counts", "a ladder"):
        files = {file.read_bytes() for file in tmp_path.glob(f"{name}-*.latens")}
        assert files == {codecs[name].encode(drawn(RUNS[name][0], 300))}


# The commands


def test_the_commands_give_the_data_back(
    fitted: dict[str, latens.VAE], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    fitted["levels"].save("run")
    x = drawn("levels", 300)
    np.savez("x.npz", x=x, y=np.arange(300))
    done("compress", "run", "x.npz", "--labels", "y", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "back.npz")
    found = np.load("back.npz")
    assert np.array_equal(found["x"], x) and found["x"].dtype == x.dtype and np.array_equal(found["y"], np.arange(300))
    assert Path("x.latens").stat().st_size < x.size / 2
    for words in (
        ("compress", "run", "x.npz", "--out", "x.zip"), ("decompress", "run", "x.npz", "--out", "y.npy"),
        ("decompress", "run", "x.latens", "--out", "y.latens"), ("decompress", "run", "none.latens", "--out", "y.npy"),
        ("decompress", "run", "x.latens", "--out", "y.csv"), ("decompress", "run", "x.latens", "--out", "y.parquet"),
        ("decompress", "run", "x.latens", "--out", "x.latens"), ("compress", "run", "x.npz", "--out", "no/x.latens"),
    ):  # fmt: skip
        refused(*words)


# Other contents of an archive


def blocks_of_counts() -> sparse.csr_array:
    """60 x 5 counts with a row of zeros."""
    found = np.random.default_rng(1).poisson(0.8, (60, 5))
    found[7] = 0
    return sparse.csr_array(found)


def test_an_archive_is_restored_with_all_of_its_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arrays keep their names and order; to write a single array would lose the others, so it is refused."""
    monkeypatch.chdir(tmp_path)
    x = drawn("levels", 60)
    others = {"labels": np.arange(60) % 3, "file": np.array(["ä", "b"]), "days": np.array(["2020-01-01"], "M8[D]"),
              "one": np.float64(3), "none": np.zeros((0, 2), bool)}  # fmt: skip
    np.savez("x.npz", images=x, **{name: array for name, array in others.items() if name != "file"})
    with zipfile.ZipFile("x.npz", "a") as archive, archive.open("file.npy", "w") as member:
        np.lib.format.write_array(member, others["file"])
    done("fit", "x.npz", "--out", "run", "--epochs", 1, "--latent-dim", 2)
    done("compress", "run", "x.npz", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "y.npz")
    one, two = np.load("x.npz"), np.load("y.npz")
    assert one.files == two.files
    for name in one.files:
        assert one[name].dtype == two[name].dtype and one[name].shape == two[name].shape
        assert one[name].tobytes() == two[name].tobytes()
    assert "labels" in refused("decompress", "run", "x.latens", "--out", "z.npy")
    np.savez("z.npz", images=x, parts=np.zeros(2, [("a", "f4")]))
    assert "parts" in refused("compress", "run", "z.npz", "--out", "z.latens")


def test_labels_and_names_of_rows_are_restored_as_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    x, words = drawn("levels", 60), np.array(["é", "b c"] * 30)
    np.save("x.npy", x)
    np.save("words.npy", words)
    done("fit", "x.npy", "--out", "run", "--epochs", 1, "--latent-dim", 2)
    done("compress", "run", "x.npy", "--labels", "words.npy", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "y.npz")
    assert np.load("y.npz")["y"].tolist() == words.tolist() and np.array_equal(np.load("y.npz")["x"], x)
    assert "with y" in refused("decompress", "run", "x.latens", "--out", "y.npy")


def test_images_that_reading_changed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, mode in (("gray", "L"), ("clear", "LA")):
        Path(name).mkdir()
        for number, image in enumerate(drawn("levels", 60) * 15):
            Image.fromarray(np.stack([image] * 2, -1) if mode == "LA" else image, mode).save(f"{name}/{number:02d}.png")
    done("fit", "gray", "--out", "run", "--epochs", 1, "--latent-dim", 2)
    done("compress", "run", "gray", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "y.npz")
    found = np.load("y.npz")
    assert np.array_equal(found["x"], drawn("levels", 60) * 15) and found["files"][3] == "03.png"
    assert "laid on white" in refused("compress", "run", "clear", "--out", "z.latens")


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_a_sparse_matrix_is_restored_as_a_sparse_matrix(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    x = blocks_of_counts().asformat(form)
    sparse.save_npz("x.npz", x)
    done("fit", "x.npz", "--out", "run", "--epochs", 1, "--latent-dim", 2, "--kind", "count")
    done("compress", "run", "x.npz", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "y.npz")
    done("decompress", "run", "x.latens", "--out", "y.npy")
    back = sparse.load_npz("y.npz")
    assert back.dtype == x.dtype and (back != x).nnz == 0 and np.array_equal(np.load("y.npy"), x.toarray())


def test_counts_beyond_the_model_are_exact_or_refused():
    """Dense whole numbers of any size are restored; a sparse matrix, stored as float32, holds them up to 2^24."""
    x = blocks_of_counts().toarray()
    codec = latens.VAE(latent_dim=2, epochs=1, random_state=0, kind="count").fit(x).codec()
    for count in (4095, 4096, 2**24 + 1, 2**53 + 1):
        large = x.copy()
        large[3, 2] = count
        back = codec.decode(codec.encode(large))
        assert back.dtype == large.dtype and np.array_equal(back, large)
        if count < 2**24:
            assert np.array_equal(codec.decode(codec.encode(sparse.csr_array(large))), large)
        else:
            with pytest.raises(InputError, match="float32"):
                codec.encode(sparse.csr_array(large))


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_decoder_rounds_as_the_encoder_did_whatever_the_layout_in_memory(order: str):
    """Test numbers halfway between two grid points, computed elsewhere with an error of 2^-40."""
    middles = np.asarray(np.arange(12).reshape(3, 4) + 0.5, order=order)
    encoder = Rounding()
    encoder.at(0, 3)
    places = encoder(middles, 1.0)
    for error in (-(2.0**-40), 2.0**-40):
        decoder = Rounding(encoder.packed())
        decoder.at(0, 3)
        assert np.array_equal(decoder(middles + error, 1.0), places)


def test_few_bytes_that_inflate_to_many_are_refused():
    """Check peak memory for 200 KB that inflate to 200 MB of zeros, and for a header that declares 2^60 bytes."""
    whole = arrays.packed({"a": np.zeros(9)})
    head = zlib.decompress(whole)[4:].replace(b"[9]", b"[%d]" % 2**60)
    for data in (zlib.compress(bytes(2 * 10**8)), zlib.compress(struct.pack("<I", len(head) - 72) + head), whole[:-1]):
        tracemalloc.start()
        with pytest.raises(ValueError):
            arrays.unpacked(data)
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()


def test_a_header_that_declares_too_much_is_refused():
    head = MAGIC + struct.pack("<I", 1 << 31)
    with pytest.raises(InputError, match="cut off"):
        latens.runs.coding.container.Container.read(head)


# Tables


def people(rows: int = 400) -> pd.DataFrame:
    """A table with columns of every kind, with gaps, that depend on one number."""
    random = np.random.default_rng(0)
    z = random.normal(size=rows)
    days = pd.to_timedelta(random.integers(0, 900, rows), unit="D")
    return pd.DataFrame({
        "age": np.clip(np.rint(40 + 10 * z + 3 * random.normal(size=rows)), 18, 90).astype(np.int64),
        "price": np.round(np.exp(3 + z / 2 + random.normal(size=rows) / 5), 2),
        "density": (z + random.normal(size=rows)).astype(np.float32),
        "cut": pd.Categorical(np.array(["a", "b", "c"])[np.clip(np.rint(z + 1), 0, 2).astype(int)], ["c", "b", "a"]),
        "yes": z > 0, "n": random.poisson(np.exp(1 + z / 3)), "when": pd.Timestamp("2020-01-01") + days,
        "name": [f"id{i}" for i in range(rows)], "same": 7,
        "gap": np.where(random.random(rows) < 0.2, np.nan, np.round(z, 1)),
        "text": np.where(random.random(rows) < 0.1, None, np.where(z > 0.3, "x", "y")),
        "whole": pd.array(np.where(random.random(rows) < 0.1, None, random.integers(0, 5, rows)), dtype="Int64"),
    }, index=pd.Index(np.arange(rows) * 3, name="key"))  # fmt: skip


def odd(x: pd.DataFrame) -> pd.DataFrame:
    """The table with another column order, one more column, and values that no row of the fit had."""
    x = x.assign(extra=np.arange(len(x)) / 7)
    x.loc[x.index[3], "age"], x.loc[x.index[6], "text"], x.loc[x.index[9], "price"] = 1000, "unseen", 1.23456
    return x[x.columns[::-1]]


FRAMES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "as fitted": lambda x: x,
    "one row": lambda x: x[:1],
    "257 rows, backwards": lambda x: x[::-1][:257],
    "odd": odd,
    "other types": lambda x: x.astype({"age": np.int8, "density": np.float64, "n": np.int32}),
}


@pytest.fixture(scope="module")
def of_people() -> latens.VAE:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(people())


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_restored_with_values_types_gaps_order_and_index(name: str, of_people: latens.VAE):
    x, codec = FRAMES[name](people()), of_people.codec()
    pd.testing.assert_frame_equal(codec.decode(codec.encode(x)), x, check_freq=False)


def test_a_row_index_without_a_name_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """pandas and R write such an index by default, of numbers or of text."""
    monkeypatch.chdir(tmp_path)
    for name, index in (("numbers", range(1, 61)), ("words", [f"row {i}" for i in range(60)])):
        frame = pd.DataFrame({"a": np.arange(60) % 7, "b": list("xyz" * 20)}, index=pd.Index(index))
        frame.to_csv(f"{name}.csv")
        done("fit", f"{name}.csv", "--out", name, "--epochs", 1, "--latent-dim", 2)
        done("compress", name, f"{name}.csv", "--out", "x.latens")
        done("decompress", name, "x.latens", "--out", "y.csv")
        assert Path("y.csv").read_text() == Path(f"{name}.csv").read_text()


@pytest.mark.parametrize("extension", ["csv", "parquet", "feather"])
def test_a_compressed_table_file_is_restored(
    extension: str, of_people: latens.VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    of_people.save("run")
    x = odd(people())
    getattr(x, f"to_{extension}")(f"x.{extension}")
    done("compress", "run", f"x.{extension}", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", f"y.{extension}")
    if extension == "csv":
        assert Path("x.csv").read_text() == Path("y.csv").read_text()
    else:
        one, two = (getattr(pd, f"read_{extension}")(f"{name}.{extension}") for name in "xy")
        pd.testing.assert_frame_equal(two, one)
    refused("decompress", "run", "x.latens", "--out", "z.npy")


def test_a_scikit_learn_table_is_restored_even_next_to_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done("fit", "iris", "--out", "iris", "--epochs", "1", "--latent-dim", "2")
    assert figures("compress", "iris", "iris", "--out", "x.latens")["before"] == 4 * 150 * 8
    for extension in ("csv", "tsv", "parquet"):
        done("decompress", "iris", "x.latens", "--out", f"y.{extension}")
        assert latens.data.read(f"y.{extension}").x.equals(latens.data.read("iris").x)


def test_a_typed_file_is_written_as_text_if_text_keeps_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    table = pa.table({"a": random.normal(size=60).round(1), "b": random.integers(0, 9, 60), "c": ["x", "y"] * 30})
    parquet.write_table(table, "x.parquet")
    done("fit", "x.parquet", "--out", "run", "--epochs", "1", "--latent-dim", "2")
    cells = table["a"].to_pylist()[1:]
    for first, kind, good in ((1 / 3, "double", True), (-0.0, "double", True), (None, "double", True),
                              (np.nan, "double", False), (1 / 3, "float", False)):  # fmt: skip
        changed = table.set_column(0, "a", pa.array([first, *cells]).cast(kind))
        parquet.write_table(changed, "x.parquet")
        done("compress", "run", "x.parquet", "--out", "x.latens")
        if good:
            done("decompress", "run", "x.latens", "--out", "y.csv")
            assert latens.data.read("y.csv").x.equals(changed)
        else:
            refused("decompress", "run", "x.latens", "--out", "z.csv")


def changed(data: bytes, block: Callable[[bytes], bytes] | None = None, /, head: dict | None = None,
            **kept: np.ndarray) -> bytes:  # fmt: skip
    """A file with other header entries, another first block or other arrays, and matching checksums."""
    found = Container.read(data)
    blocks = list(found.blocks)
    if block is not None:
        body = block(blocks[0][1][:-16])
        blocks[0] = (blocks[0][0], body + blake2b(body, digest_size=8).digest() + blocks[0][1][-8:])
    parts = arrays.unpacked(found.residue) | kept
    plain = {name: value for name, value in found.head.items() if name not in ("format", "blocks", "residue")}
    return Container(plain | (head or {}), blocks, arrays.packed(parts)).packed()


def with_dimensions(body: bytes) -> bytes:
    """A block whose header declares 2^19 dimensions of the code."""
    (length,) = struct.unpack_from("<I", body)
    lanes, lent, _, *rest = from_varints(body[4 : 4 + length])
    head = varints([lanes, lent, 1 << 19, *rest])
    return struct.pack("<I", len(head)) + head + body[4 + length :]


def test_what_a_head_or_an_array_claims_is_checked_before_memory_is_taken_for_it(
    of_people: latens.VAE, codecs: dict[str, Codec]
):
    table, x = of_people.codec(), codecs["counts"]
    people_, counts = table.encode(odd(people())), x.encode(drawn("counts", 300))
    assert table.decode(changed(people_)).equals(odd(people()))
    assert np.array_equal(x.decode(changed(counts)), x.decode(counts))
    many = tables.packed_table(pa.table({"": pa.array(np.zeros(10**7, "i1"))}))
    tops = arrays.unpacked(Container.read(counts).residue)["tops"]
    bad = [
        (table, changed(people_, with_dimensions)), (x, changed(counts, with_dimensions)),
        *((x, changed(counts, tops=wrong)) for wrong in (tops + 2**40, tops - 2**40, tops[1:], tops[None])),
        *((table, changed(people_, **{name: many})) for name in ("whole", "cells age", "levels cut")),
        *((table, changed(people_, head={"frame": wrong})) for wrong in ([1], {"back": 1}, {"back": {"index": 3}})),
        *((table, Container({"rows": sum(n for n, _ in blocks), "run": table.fingerprint}, blocks).packed())
          for blocks in ([(2**40, b"x" * 99)], [(10**5, b"x" * 99)] * 999, [(1, b"x" * 24)] * 9)),
    ]  # fmt: skip
    for codec, data in bad:
        tracemalloc.start()
        with pytest.raises(InputError):
            codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**7
        tracemalloc.stop()


def test_a_column_without_a_type_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    table = pa.table({"a": np.arange(60) % 7, "none": pa.nulls(60), "w": ["x", "y"] * 30})
    parquet.write_table(table, "x.parquet")
    done("fit", "x.parquet", "--out", "run", "--epochs", 1, "--latent-dim", 2)
    done("compress", "run", "x.parquet", "--out", "x.latens")
    done("decompress", "run", "x.latens", "--out", "y.parquet")
    assert parquet.read_table("y.parquet").equals(table)


def test_file_and_bound_do_not_depend_on_the_unit_of_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same numbers in two units give a file of the same length and the same printed bound."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    z = random.normal(size=1000)
    a, b = (np.rint(size * z + 20 * random.normal(size=1000)) for size in (50, 30))
    b[random.random(1000) < 0.1], found = np.nan, []
    for digits in (0, 3):
        parquet.write_table(pa.table({"a": np.round(a / 10**digits, digits), "b": b}), "x.parquet")
        done("fit", "x.parquet", "--out", f"run-{digits}", "--epochs", 3, "--latent-dim", 1)
        found.append(figures("compress", f"run-{digits}", "x.parquet", "--out", f"x-{digits}.latens"))
        assert 0.97 < found[-1]["bits_per_row"] / found[-1]["ideal_bits_per_row"] < 1.1
    assert abs(found[0]["ideal_bits_per_row"] / found[1]["ideal_bits_per_row"] - 1) < 0.03


def test_a_mixed_table_with_columns_in_order_and_a_mixture_prior_is_restored():
    x = people(400)[["age", "price", "cut", "yes", "n", "gap", "text"]]
    recipe = latens.Recipe("vae", prior="mixture", dependence="autoregressive")
    codec = latens.VAE(latent_dim=2, epochs=1, random_state=0, recipe=recipe).fit(x).codec()
    data = codec.encode(x)
    pd.testing.assert_frame_equal(codec.decode(data), x)
    assert len(data) < 6000


def test_models_that_cannot_compress_are_refused_by_name():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    for recipe, word in (("vae", "Normal"), ("iaf", "posterior"), ("two_stage", "model"), ("sphere", "prior")):
        vae = latens.VAE(latent_dim=2, epochs=1, random_state=0, recipe=recipe).fit(x)
        with pytest.raises(InputError, match=word):
            vae.codec().encode(x)


def test_dates_are_coded_with_their_months_and_weekdays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file has about the length of the bound, which knows how months and weekdays divide years and weeks."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    day = np.datetime64("2019-01-01") + random.choice(1200, 900, p=(w := np.arange(1200) % 7 < 2) / w.sum())
    month = day.astype("M8[M]").astype(int) % 12
    heat = np.rint(20 * np.cos(month) + random.normal(size=900))
    parquet.write_table(pa.table({"day": day, "heat": heat}), "x.parquet")
    done("fit", "x.parquet", "--out", "run", "--epochs", 20, "--latent-dim", 1)
    found = figures("compress", "run", "x.parquet", "--out", "x.latens")
    assert 0.97 < found["bits_per_row"] / found["ideal_bits_per_row"] < 1.1
    done("decompress", "run", "x.latens", "--out", "y.parquet")
    assert parquet.read_table("y.parquet").equals(parquet.read_table("x.parquet"))
