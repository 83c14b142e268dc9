"""Data larger than memory: blocks on disk, and samples of their rows."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from parts import MemoryBlocks
from scipy import stats

from latens import InputError
from latens.data.streams import sources
from latens.data.streams.addresses import TAIL, fingerprint_files
from latens.data.streams.loader import StreamLoader
from latens.data.streams.parquet import ParquetBlocks
from latens.data.streams.samples import held_out_rows
from latens.data.streams.sources import NpyStream

N = 53
X = np.arange(N * 3, dtype=np.float64).reshape(N, 3)
LABEL = np.arange(N) % 7
fsspec = pytest.importorskip("fsspec")


def rows_of(piece: pa.Table | np.ndarray) -> np.ndarray:
    return piece if isinstance(piece, np.ndarray) else np.stack([piece[name].to_numpy() for name in "abc"], 1)


def table_of(rows: slice = slice(None)) -> pa.Table:
    return pa.table({"a": X[rows, 0], "b": X[rows, 1], "c": X[rows, 2], "label": LABEL[rows]})


def parquet(folder: Path, group: int = 10, cuts: tuple[int, ...] = (0, N)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        pq.write_table(table_of(slice(start, stop)), folder / f"part-{number}.parquet", row_group_size=group)
    return folder


def in_memory(folder: Path) -> str:
    """The files of a folder in fsspec's memory file system, whose open files share one position."""
    system = fsspec.filesystem("memory")
    for path in folder.iterdir():
        system.pipe_file(f"/{folder.name}/{path.name}", path.read_bytes())
    return f"memory://{folder.name}"


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


CASES = {
    "npy": lambda f: NpyStream(str(npy(f / "x.npy", X))).piece,
    "npy, columns first": lambda f: NpyStream(str(npy(f / "x.npy", np.asfortranarray(X)))).piece,
    "npy, big-endian": lambda f: NpyStream(str(npy(f / "x.npy", X.astype(">f8")))).piece,
    "parquet": lambda f: ParquetBlocks(parquet(f / "p") / "part-0.parquet").table,
    "parquet, folder": lambda f: ParquetBlocks(parquet(f / "p", 10, (0, 7, 30, 31, N))).table,
    "parquet, cut": lambda f: ParquetBlocks(parquet(f / "p", 20), most_rows=7).table,
    "parquet, columns": lambda f: ParquetBlocks(parquet(f / "p"), ["c", "label", "b", "a"]).table,
    "parquet, address": lambda f: ParquetBlocks(in_memory(parquet(f / "folder", 9, (0, 20, N)))).table,
    "parquet, file address": lambda f: ParquetBlocks(f"{in_memory(parquet(f / 'file'))}/part-0.parquet").table,
}  # fmt: skip


@pytest.fixture(params=CASES)
def piece(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sources, "BLOCK_ROWS", 17)
    return CASES[request.param](tmp_path)


def test_blocks_are_the_rows_in_order(piece: Any):
    first, sizes = 0, piece.__self__.sizes
    assert sum(sizes) == N
    for block, size in enumerate(sizes):
        found, rows = piece(block), slice(first, first + size)
        assert rows_of(found).dtype == np.float64 and np.array_equal(rows_of(found), X[rows])
        if isinstance(found, np.ndarray):
            found.fill(0)  # memory that is not shared
        else:
            assert np.array_equal(found["label"].to_numpy(), LABEL[rows])
        assert np.array_equal(rows_of(piece(block)), X[rows])
        first = rows.stop


def test_columns_have_the_requested_order(tmp_path: Path):
    for most_rows in (100, 4):
        blocks = ParquetBlocks(parquet(tmp_path / "p"), ["c", "a"], most_rows=most_rows)
        assert blocks.schema.names == blocks.table(1).column_names == ["c", "a"]


def test_several_threads_read_at_once(piece: Any):
    from concurrent.futures import ThreadPoolExecutor

    order = [*range(len(piece.__self__.sizes))] * 4
    with ThreadPoolExecutor(4) as pool:
        read = [*pool.map(piece, order)]
    assert np.array_equal(np.concatenate([*map(rows_of, read)]), np.tile(X, (4, 1)))


def test_wide_rows_make_small_blocks(tmp_path: Path):
    def sizes(array: np.ndarray) -> list[int]:
        return NpyStream(str(npy(tmp_path / "x.npy", array))).sizes

    assert sizes(np.zeros((200_000, 1), np.uint8)) == [65_536] * 3 + [3_392]
    assert sizes(np.zeros((40, 1 << 20), np.uint8)) == [32, 8]  # 1 MiB per row, 32 MiB per block


# What is refused, in one sentence


def truncated(path: Path, left: int) -> Path:
    path.write_bytes(path.read_bytes()[:left])
    return path


def folder_of(folder: Path, **tables: pa.Table) -> Path:
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


ONE, WORD, TEXT = pa.table({"a": [1.5]}), pa.table({"a": ["x"]}), pa.table({"a": [1.5], "t": ["x"]})
BAD = {
    "missing": (lambda f: ParquetBlocks(f / "none.parquet"), r"no file or folder .*none\.parquet"),
    "missing address": (lambda f: ParquetBlocks("memory://nowhere/x"), "no file or folder memory://nowhere/x"),
    "no protocol": (lambda f: ParquetBlocks("nosuch://x"), "nosuch://x cannot be reached"),
    "empty folder": (lambda f: ParquetBlocks(f), r"folder without \.parquet files"),
    "no parquet": (lambda f: ParquetBlocks(npy(f / "x.npy", X)), "does not start with PAR1"),
    "truncated": (lambda f: ParquetBlocks(truncated(parquet(f / "p") / "part-0.parquet", 900)), "is truncated"),
    "types": (lambda f: ParquetBlocks(folder_of(f, u=ONE, v=WORD)),
              r"column 'a' is string in .*v\.parquet but double in .*u\.parquet"),
    "lacks": (lambda f: ParquetBlocks(folder_of(f, u=TEXT, v=ONE)), r"v\.parquet lacks column 't', which .*u"),
    "more": (lambda f: ParquetBlocks(folder_of(f, u=ONE, v=TEXT)), r"u\.parquet lacks column 't', which .*v"),
    "no column": (lambda f: ParquetBlocks(parquet(f / "p"), ["z"]), "no column 'z': name one of a, b, c, label"),
    "no rows": (lambda f: ParquetBlocks(folder_of(f, u=ONE[:0])), "has no rows"),
    "npy missing": (lambda f: NpyStream(str(f / "x.npy")), "there is no file"),
    "npy truncated": (lambda f: NpyStream(str(truncated(npy(f / "x.npy", X), 1000))), "is truncated, as it declares"),
    "npy longer": (lambda f: NpyStream(str(longer(npy(f / "x.npy", X)))), "byte.* follows? its data"),
    "npy objects": (lambda f: NpyStream(str(npy(f / "x.npy", np.array([{}])))), "never unpickles"),
    "npy text": (lambda f: NpyStream(str(npy(f / "x.npy", np.array(["a"])))), "the values are text"),
    "npy header": (lambda f: NpyStream(str(truncated(npy(f / "x.npy", X), 40))), "is truncated, as it ends before"),
    "npy no rows": (lambda f: NpyStream(str(npy(f / "x.npy", X[:0]))), r"has no rows"),
    "block drops": (lambda f: first_batch(Dropping(X)), r"block 0 has 9 rows but declares 10"),
    "block varies": (lambda f: first_batch(Varying(X)), r"float64 \(3,\), int64 \(\), but the rows of another"),
    "damaged": (lambda f: ParquetBlocks(damaged(parquet(f / "p") / "part-0.parquet")).table(0), "damaged"),
    "changed": (lambda f: changed(parquet(f / "p") / "part-0.parquet"), "part-0.parquet"),
}  # fmt: skip


class Dropping(MemoryBlocks):
    def read(self, block: int) -> tuple[torch.Tensor, None]:
        return super().read(block)[0][1:], None


class Varying(MemoryBlocks):
    def read(self, block: int) -> tuple[torch.Tensor, None]:
        x = super().read(block)[0]
        return (x.float() if block else x), None


def first_batch(blocks: MemoryBlocks) -> None:
    next(StreamLoader(blocks, batch_size=15, shuffle=False, workers=0).batches(0))


def longer(path: Path) -> Path:
    path.write_bytes(path.read_bytes() + b"\0")
    return path


def damaged(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    return path


def changed(path: Path) -> None:
    blocks = ParquetBlocks(path)
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(9)}), path)
    blocks.table(len(blocks.sizes) - 1)


@pytest.mark.parametrize("case", BAD)
def test_refusals_are_one_sentence(case: str, tmp_path: Path):
    make, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


# Samples


def test_samples_are_uniform():
    """Chi-square of how often each of the 66 pairs of 12 rows is chosen; false alarm rate 1e-5."""
    pairs = np.zeros((12, 12))
    for seed in range(2000):
        a, b = held_out_rows(12, 2, seed)
        pairs[a, b] += 1
    assert stats.chisquare(pairs[np.triu_indices(12, 1)]).pvalue > 1e-5


@pytest.mark.parametrize(
    ("rows", "count"), [(1, 0), (1, 1), (10, 5), (10, 6), (1000, 500), (1000, 999), (10**15, 1000)]
)
def test_held_out_rows_are_distinct_and_increasing(rows: int, count: int):
    held = held_out_rows(rows, count, seed=3)
    assert held.dtype == np.int64 and len(held) == count and (np.diff(held) > 0).all()
    assert count == 0 or (held[0] >= 0 and held[-1] < rows)
    assert np.array_equal(held, held_out_rows(rows, count, seed=3))
    if 0 < count < rows and rows > 10:
        assert not np.array_equal(held, held_out_rows(rows, count, seed=4))


def test_impossible_samples_are_refused():
    with pytest.raises(InputError, match="11 of 10 rows cannot be held out"):
        held_out_rows(10, 11)


def test_a_fingerprint_changes_with_the_files_and_not_with_their_location(tmp_path: Path):
    folder = parquet(tmp_path / "p", 10, (0, 20, N))
    first = fingerprint_files([folder])
    assert fingerprint_files(reversed([*folder.iterdir()])) == first == fingerprint_files([in_memory(folder)])
    moved = folder.rename(tmp_path / "q")
    assert fingerprint_files([moved]) == first
    (moved / "part-1.parquet").rename(moved / "part-2.parquet")
    renamed = fingerprint_files([moved])
    pq.write_table(table_of(slice(0, 20)).set_column(0, "a", pa.array(X[:20, 0] + 1)), moved / "part-0.parquet")
    rewritten = fingerprint_files([moved])
    large = tmp_path / "large"
    large.write_bytes(b"\0" * (2 * TAIL))
    (moved / "notes.txt").write_text("beside")
    assert fingerprint_files([moved], ".parquet") == rewritten != fingerprint_files([moved])
    found = {first, renamed, rewritten, fingerprint_files([large]), fingerprint_files([longer(large)])}
    large.write_bytes(large.read_bytes()[:-1] + b"\1")
    assert len({*found, fingerprint_files([large])}) == 6


def test_the_benchmarks_set_is_a_function_of_its_seed(tmp_path: Path):
    script = Path(__file__).parent.parent / "bench" / "make_stream.py"
    if not script.exists():
        pytest.skip("an installed copy without bench/")
    spec = importlib.util.spec_from_file_location("make_stream", script)
    make_stream = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_stream)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_stream.write(10_000, tmp_path / name, seed)
    table = pq.read_table(tmp_path / "a")
    assert table.num_rows == 10_000 and table.num_columns == 10
    assert table.equals(pq.read_table(tmp_path / "b")) and not table.equals(pq.read_table(tmp_path / "c"))
    for column in table.columns:  # 2 % missing, standard error 0.0014; false alarm rate 7e-6 per column
        assert abs(column.null_count / 10_000 - 0.02) < 4.5 * (0.02 * 0.98 / 10_000) ** 0.5
    assert len(table["region"].unique().drop_null()) == 4 and len(table["product"].unique().drop_null()) == 40


@pytest.mark.parametrize("order", [[*range(8)], [*range(8)][::-1], [3, 0, 7, 1, 4, 2, 6, 5, 3]])
def test_parts_of_row_groups_are_those_rows_in_any_order(order: list[int], tmp_path: Path):
    table = pa.table({"a": range(300), "b": [str(i % 7) for i in range(300)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=150)
    blocks = ParquetBlocks(tmp_path / "x.parquet", most_rows=40, unit_rows=80)
    assert blocks.sizes == [40, 40, 40, 30] * 2 and blocks.units == [0, 0, 1, 1, 2, 2, 3, 3]
    first = [0, 40, 80, 120, 150, 190, 230, 270]
    for block in order:
        found = blocks.table(block)
        assert found.to_pydict() == table.slice(first[block], blocks.sizes[block]).to_pydict()
