"""Data larger than memory: blocks on disk, and samples of their rows."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from latens import InputError
from latens.data.streams.blocks import Blocks, LazyBlocks, NpyBlocks, gather
from latens.data.streams.files import TAIL, fingerprint_files
from latens.data.streams.parquet import ParquetBlocks
from latens.data.streams.samples import held_out_rows

N = 53
X = np.arange(N * 3, dtype=np.float64).reshape(N, 3)
LABEL = np.arange(N) % 7
fsspec = pytest.importorskip("fsspec")


def encode(table: pa.Table) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    columns = [table[name].to_numpy() for name in ("a", "b", "c")]
    return torch.from_numpy(np.stack(columns, 1)), {"label": torch.tensor(table["label"].to_numpy())}


def table_of(rows: slice = slice(None)) -> pa.Table:
    return pa.table({"a": X[rows, 0], "b": X[rows, 1], "c": X[rows, 2], "label": LABEL[rows]})


def parquet(folder: Path, group: int = 10, cuts: tuple[int, ...] = (0, N)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        pq.write_table(table_of(slice(start, stop)), folder / f"part-{number}.parquet", row_group_size=group)
    return folder


def in_memory(folder: Path) -> str:
    """The files of a folder in fsspec's memory, whose open files share one position."""
    system = fsspec.filesystem("memory")
    for path in folder.iterdir():
        system.pipe_file(f"/{folder.name}/{path.name}", path.read_bytes())
    return f"memory://{folder.name}"


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def with_label(x: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return torch.from_numpy(x), {"label": torch.from_numpy((x[:, 0] / 3).astype(np.int64) % 7)}


C = {"label": LABEL}
CASES = {
    "tensor": lambda f: LazyBlocks(torch.from_numpy(X), {"label": torch.from_numpy(LABEL)}, block_rows=10),
    "array": lambda f: LazyBlocks(X, C, block_rows=N),
    "map": lambda f: LazyBlocks(np.load(npy(f / "x.npy", X), mmap_mode="r"), C, block_rows=1),
    "npy": lambda f: NpyBlocks(npy(f / "x.npy", X), with_label, block_rows=10),
    "npy, columns first": lambda f: NpyBlocks(npy(f / "x.npy", np.asfortranarray(X)), with_label, block_rows=17),
    "npy, big-endian": lambda f: NpyBlocks(npy(f / "x.npy", X.astype(">f8")), with_label, block_rows=17),
    "parquet": lambda f: ParquetBlocks(parquet(f / "p") / "part-0.parquet", encode),
    "parquet, folder": lambda f: ParquetBlocks(parquet(f / "p", 10, (0, 7, 30, 31, N)), encode),
    "parquet, cut": lambda f: ParquetBlocks(parquet(f / "p", 20), encode, most_rows=7),
    "parquet, columns": lambda f: ParquetBlocks(parquet(f / "p"), encode, ["c", "label", "b", "a"]),
    "parquet, address": lambda f: ParquetBlocks(in_memory(parquet(f / "folder", 9, (0, 20, N))), encode),
    "parquet, file address": lambda f: ParquetBlocks(f"{in_memory(parquet(f / 'file'))}/part-0.parquet", encode),
}  # fmt: skip


@pytest.fixture(params=CASES)
def blocks(request: pytest.FixtureRequest, tmp_path: Path) -> Blocks:
    return CASES[request.param](tmp_path)


def test_blocks_are_the_rows_in_order(blocks: Blocks):
    assert blocks.rows == sum(blocks.sizes) == N
    first = 0
    for block in [*range(len(blocks.sizes))]:
        rows = slice(first, first + blocks.sizes[block])
        x, c = blocks.read(block)
        assert x.dtype == torch.float64 and np.array_equal(x.numpy(), X[rows])
        assert np.array_equal(c["label"].numpy(), LABEL[rows])
        x.fill_(0)  # nobody else's memory
        assert np.array_equal(blocks.read(block)[0].numpy(), X[rows])
        first = rows.stop


def test_columns_come_in_the_order_asked_for(tmp_path: Path):
    for most_rows in (100, 4):
        blocks = ParquetBlocks(parquet(tmp_path / "p"), encode, ["c", "a"], most_rows=most_rows)
        assert blocks.schema.names == blocks.table(1).column_names == ["c", "a"]


def test_several_threads_read_at_once(blocks: Blocks):
    from concurrent.futures import ThreadPoolExecutor

    order = [*range(len(blocks.sizes))] * 4
    with ThreadPoolExecutor(4) as pool:
        read = [*pool.map(blocks.read, order)]
    whole = torch.cat([x for x, _ in read])
    assert np.array_equal(whole.numpy(), np.tile(X, (4, 1)))


def test_gather_is_indexing(blocks: Blocks):
    random = np.random.default_rng(0)
    for numbers in ([0], [N - 1, 0, N - 1], random.permutation(N), random.integers(0, N, 200)):
        x, c = gather(blocks, numbers)
        assert np.array_equal(x.numpy(), X[numbers]) and np.array_equal(c["label"].numpy(), LABEL[numbers])


def test_gather_reads_the_blocks_it_needs_once():
    read: list[int] = []

    class Counted(LazyBlocks):
        def read(self, block: int) -> tuple[torch.Tensor, None]:
            read.append(block)
            return super().read(block)

    gather(Counted(X, block_rows=10), [41, 3, 44, 0, 3])
    assert read == [0, 4]


def test_wide_rows_make_small_blocks():
    assert LazyBlocks(np.zeros((200_000, 1), np.uint8)).sizes == [65_536] * 3 + [3_392]
    assert LazyBlocks(torch.zeros(1, 1 << 20).expand(80, -1)).sizes == [8] * 10  # 4 MiB a row, 32 MiB a block


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
    "missing": (lambda f: ParquetBlocks(f / "none.parquet", encode), r"no file or folder .*none\.parquet"),
    "missing address": (lambda f: ParquetBlocks("memory://nowhere/x", encode), "no file or folder memory://nowhere/x"),
    "no protocol": (lambda f: ParquetBlocks("nosuch://x", encode), "nosuch://x cannot be reached"),
    "empty folder": (lambda f: ParquetBlocks(f, encode), r"folder without \.parquet files"),
    "no parquet": (lambda f: ParquetBlocks(npy(f / "x.npy", X), encode), "does not start with PAR1"),
    "truncated": (lambda f: ParquetBlocks(truncated(parquet(f / "p") / "part-0.parquet", 900), encode), "is truncated"),
    "types": (lambda f: ParquetBlocks(folder_of(f, u=ONE, v=WORD), encode),
              r"column 'a' is string in .*v\.parquet and double in .*u\.parquet"),
    "lacks": (lambda f: ParquetBlocks(folder_of(f, u=TEXT, v=ONE), encode), r"v\.parquet lacks column 't', which .*u"),
    "more": (lambda f: ParquetBlocks(folder_of(f, u=ONE, v=TEXT), encode), r"u\.parquet lacks column 't', which .*v"),
    "no column": (lambda f: ParquetBlocks(parquet(f / "p"), encode, ["z"]), "no column 'z': it has a, b, c, label"),
    "no rows": (lambda f: ParquetBlocks(folder_of(f, u=ONE[:0]), encode), "has no rows"),
    "npy missing": (lambda f: NpyBlocks(f / "x.npy"), "there is no file"),
    "npy truncated": (lambda f: NpyBlocks(truncated(npy(f / "x.npy", X), 1000)), "is truncated: it declares shape"),
    "npy longer": (lambda f: NpyBlocks(longer(npy(f / "x.npy", X))), "bytes follow its data"),
    "npy objects": (lambda f: NpyBlocks(npy(f / "x.npy", np.array([{}]))), "never unpickles"),
    "npy text": (lambda f: NpyBlocks(npy(f / "x.npy", np.array(["a"]))), "the values are text"),
    "npy header": (lambda f: NpyBlocks(truncated(npy(f / "x.npy", X), 40)), "is truncated: it ends before"),
    "npy no rows": (lambda f: NpyBlocks(npy(f / "x.npy", X[:0])), r"shape \(0, 3\), without rows"),
    "lengths": (lambda f: LazyBlocks(X, LABEL[:5]), r"have \[5, 53\] rows"),
    "nothing": (lambda f: LazyBlocks(X[:0]), "no rows"),
    "gather": (lambda f: gather(LazyBlocks(X), [3, N]), "no row 53: the data has the rows 0 to 52"),
    "gather none": (lambda f: gather(LazyBlocks(X), []), "no row numbers"),
    "encode": (lambda f: ParquetBlocks(parquet(f / "p"), refuse).read(2),
               r"part-0\.parquet, counting rows from its row 20 on: column 'a' has NaN at row 3"),
    "encode drops": (lambda f: gather(ParquetBlocks(parquet(f / "p"), lambda t: (encode(t)[0][1:], None)), [0]),
                     r"block 0 has \[9\] rows and declares 10"),
    "encode varies": (lambda f: gather(ParquetBlocks(parquet(f / "p"), varying), [0, 15]),
                      r"have float64 \(3,\) and float32 \(3,\) in a row"),
    "damaged": (lambda f: ParquetBlocks(damaged(parquet(f / "p") / "part-0.parquet"), encode).read(0), "damaged"),
    "changed": (lambda f: changed(parquet(f / "p") / "part-0.parquet"), "part-0.parquet"),
}  # fmt: skip


def refuse(table: pa.Table) -> tuple[torch.Tensor, None]:
    raise InputError("column 'a' has NaN at row 3")


def varying(table: pa.Table) -> tuple[torch.Tensor, None]:
    x = encode(table)[0]
    return x.float() if x[0, 0] > 0 else x, None


def longer(path: Path) -> Path:
    path.write_bytes(path.read_bytes() + b"\0")
    return path


def damaged(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    return path


def changed(path: Path) -> None:
    blocks = ParquetBlocks(path, encode)
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(9)}), path)
    blocks.read(len(blocks.sizes) - 1)


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_is_said_in_one_sentence(case: str, tmp_path: Path):
    make, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


# Samples


def test_samples_are_uniform():
    """Chi-square of how often each of the 66 pairs of 12 rows is chosen; false alarms 1e-5."""
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


def test_samples_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="hold out 11 of 10 rows"):
        held_out_rows(10, 11)


def test_a_fingerprint_notices_changed_files_and_no_other_place(tmp_path: Path):
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
    for column in table.columns:  # 2 % missing, standard error 0.0014; false alarms 7e-6 a column
        assert abs(column.null_count / 10_000 - 0.02) < 4.5 * (0.02 * 0.98 / 10_000) ** 0.5
    assert len(table["region"].unique().drop_null()) == 4 and len(table["product"].unique().drop_null()) == 40
