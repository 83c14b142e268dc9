"""Batches of data larger than memory: positions, windows and threads of the loader."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from parts import MemoryBlocks, assert_same, data, timeless, vae
from scipy import stats

from latens import InputError, objectives
from latens.data.loader import ArrayLoader, Batch
from latens.data.streams import loader as stream_loader
from latens.data.streams.blocks import GatheredRows
from latens.data.streams.loader import StreamLoader, ahead
from latens.data.transforms import binarize
from latens.tensors import trees
from latens.training import Settings, Trainer


class Fake:
    """Blocks of given sizes in which row i holds i; counts what is read and how many blocks are in memory."""

    def __init__(self, sizes: list[int], fails: int | None = None):
        self.sizes, self.rows, self.fails = sizes, sum(sizes), fails
        self.read_blocks: list[int] = []
        self.alive = self.most = 0
        self._lock = threading.Lock()
        self._first = np.cumsum([0, *sizes])

    def read(self, block: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if block == self.fails:
            raise KeyError("as itself")
        rows = torch.arange(int(self._first[block]), int(self._first[block + 1]))
        with self._lock:
            self.read_blocks.append(block)
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(rows, self._let_go)
        return {"x": rows}, rows * 2

    def _let_go(self) -> None:
        with self._lock:
            self.alive -= 1


UNEQUAL = [3, 1, 7, 5, 2, 9, 4, 4]
CASES = {  # block sizes, batch, window, rows held out
    "even": ([5] * 8, 5, 2, []),
    "uneven": (UNEQUAL, 4, 3, []),
    "one window": (UNEQUAL, 4, 99, [0, 34]),
    "one block": ([30], 7, 8, [3]),
    "small windows": ([1] * 20, 6, 1, [2, 3]),
    "large batch": (UNEQUAL, 100, 2, [1]),
    "whole blocks out": (UNEQUAL, 4, 2, [3, *range(11, 16), 20]),
    "batch of one": (UNEQUAL, 1, 2, [5]),
}


def make(case: str, shuffle: bool = True, seed: int = 0, workers: int = 1, **options) -> StreamLoader:
    sizes, size, window, out = CASES[case]
    return StreamLoader(
        Fake(sizes), batch_size=size, window=window, window_rows=1, exclude=out, shuffle=shuffle, seed=seed,
        workers=workers, **options,
    )  # fmt: skip


def rows_of(batches: list[Batch]) -> list[int]:
    return torch.cat([b.rows for b in batches]).tolist() if batches else []


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_row_occurs_once_per_epoch_and_no_held_out_row_does(case: str, shuffle: bool):
    loader = make(case, shuffle)
    kept = sorted({*range(loader.blocks.rows)} - {*CASES[case][3]})
    batches = [*loader.batches(3)]
    seen = rows_of(batches)
    assert loader.rows == len(kept) and len(batches) == len(loader)
    for batch in batches:
        assert torch.equal(batch.x["x"], batch.rows) and torch.equal(batch.c, 2 * batch.rows)
        assert torch.equal(batch.numbers, batch.rows) and batch.weight is None
    if not shuffle:
        assert seen == kept
        assert all(len(b.rows) == loader.batch_size for b in batches[:-1])
        return
    assert all(len(b.rows) == loader.batch_size for b in batches)
    assert len(seen) == len(kept) // loader.batch_size * loader.batch_size
    assert len({*seen}) == len(seen) and {*seen} <= {*kept}
    over_time = {row for epoch in range(60) for row in rows_of([*loader.batches(epoch)])}
    assert over_time == {*kept}  # rows that one epoch leaves out are used in another


@pytest.mark.parametrize("case", CASES)
def test_rows_stay_within_their_window_and_batches_run_on_across_windows(case: str):
    loader = make(case)
    first = np.cumsum([0, *loader.blocks.sizes])
    seen, at = rows_of([*loader.batches(1)]), 0
    for window in loader.windows(1):
        assert window.start == at
        own = {row for block in window.blocks for row in range(first[block], first[block + 1])} - {*CASES[case][3]}
        assert len(own) == window.stop - window.start and {*seen[window.start : window.stop]} <= own
        at = window.stop
    assert at == loader.rows
    gone = {b for b in range(len(first) - 1) if {*range(first[b], first[b + 1])} <= {*CASES[case][3]}}
    assert not gone & {*loader.blocks.read_blocks}  # blocks of which no row is wanted


def test_every_window_has_an_order_of_its_own():
    loader = StreamLoader(Fake([12] * 6), batch_size=12, window=1, window_rows=1)
    orders = {tuple((batch.rows - batch.rows.min()).tolist()) for epoch in (0, 1) for batch in loader.batches(epoch)}
    assert len(orders) == 12  # the chance that two of 12! orders agree is one in 7 million


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_batches_from_a_position_are_those_of_an_uninterrupted_pass(case: str, shuffle: bool):
    whole = [*make(case, shuffle, seed=4).batches(2)]
    for start in range(len(whole) + 1):
        loader = make(case, shuffle, seed=4)
        rest = [*loader.batches(2, start)]
        assert len(rest) == len(whole) - start
        for a, b in zip(whole[start:], rest):
            assert torch.equal(a.rows, b.rows) and torch.equal(a.x["x"], b.x["x"]) and torch.equal(a.c, b.c)
        low, high = start * loader.batch_size, min(len(loader) * loader.batch_size, loader.rows)
        needed = {b for w in loader.windows(2) if max(w.start, low) < min(w.stop, high) for b in w.blocks}
        assert sorted(loader.blocks.read_blocks) == sorted(needed)  # each once


@pytest.mark.parametrize("case", CASES)
def test_numbers_do_not_depend_on_the_workers(case: str):
    passes = [rows_of([*make(case, workers=workers).batches(5)]) for workers in (0, 1, 4)]
    assert passes[0] == passes[1] == passes[2]


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {(s, e): tuple(rows_of([*make("uneven", seed=s).batches(e)])) for s in (0, 1) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    torch.manual_seed(99)
    assert tuple(rows_of([*make("uneven", seed=1).batches(1)])) == orders[1, 1]


@pytest.mark.parametrize("size", [1, 4, 35, 99])
def test_without_shuffling_the_batches_are_those_of_the_loader_of_arrays(size: int):
    x, c = torch.rand(35, 3), {"label": torch.arange(35)}
    arrays = ArrayLoader(x, c, batch_size=size, shuffle=False, seed=6, transform=binarize)
    stream = StreamLoader(MemoryBlocks(x, c, block_rows=8), batch_size=size, seed=6, transform=binarize, window_rows=9)
    stream = stream.in_order()
    assert len(arrays) == len(stream)
    for epoch in (0, 1):
        for a, b in zip(arrays.batches(epoch), stream.batches(epoch), strict=True):
            assert torch.equal(a.x, b.x) and torch.equal(a.c["label"], b.c["label"]) and torch.equal(a.rows, b.rows)


def test_the_transform_depends_on_seed_epoch_and_row():
    x = torch.full((64, 8), 0.5)

    def passed(epoch: int, **options) -> torch.Tensor:
        loader = StreamLoader(MemoryBlocks(x, block_rows=8), transform=binarize, **options)
        batches = [*loader.batches(epoch)]
        return torch.cat([b.x for b in batches])[torch.cat([b.rows for b in batches]).argsort()]

    once = passed(0, batch_size=8, window=2, window_rows=1)
    assert torch.equal(once, passed(0, batch_size=16, workers=0))
    assert not torch.equal(once, passed(1, batch_size=8))


# How well it shuffles


def test_position_and_row_number_are_uncorrelated():
    """Under a random order of m blocks, the correlation of a row's number with its position has mean 0 and a variance
    of at most 1 / (m - 1) + 1 / (n - 1) (a permutation of m fixed values, and of the rows within). The mean over E
    epochs is within 4.5 standard errors: false alarm rate 7e-6 per case."""
    epochs = 60
    for blocks, window in ((40, 5), (40, 40), (12, 3)):
        loader = StreamLoader(MemoryBlocks(np.arange(blocks * 25), block_rows=25), batch_size=25, window=window,
                              window_rows=1, workers=0)  # fmt: skip
        orders = [rows_of([*loader.batches(epoch)]) for epoch in range(epochs)]
        found = [np.corrcoef(np.arange(len(order)), order)[0, 1] for order in orders]
        variance = 1 / (blocks - 1) + 1 / (blocks * 25 - 1)
        assert abs(np.mean(found)) < 4.5 * (variance / epochs) ** 0.5
        assert np.mean(np.square(found)) < 3 * variance


def test_a_row_may_come_anywhere_and_neighbours_are_separated():
    """Over 600 seeds the position of a row is uniform, and, given that position, so is the position of its neighbour
    (false alarm rate 1e-5)."""
    positions = []
    for seed in range(600):
        loader = StreamLoader(MemoryBlocks(np.arange(24), block_rows=4), batch_size=1, seed=seed, window=6, workers=0)
        order = rows_of([*loader.batches(0)])
        positions.append((order.index(9), order.index(10)))
    a, b = np.array(positions).T
    assert stats.chisquare(np.bincount(a, minlength=24)).pvalue > 1e-5
    gaps = np.bincount((b - a) % 24, minlength=24)
    assert gaps[0] == 0 and stats.chisquare(gaps[1:]).pvalue > 1e-5


# Blocks in memory, and threads


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_two_windows_and_one_block_per_worker_are_in_memory(workers: int, monkeypatch: pytest.MonkeyPatch):
    taken = set()

    class Recorded(GatheredRows):
        def put(self, *arguments) -> None:
            super().put(*arguments)
            taken.update(leaf.data_ptr() for leaf in trees.leaves(self.space))

    monkeypatch.setattr(stream_loader, "GatheredRows", Recorded)
    loader = StreamLoader(Fake([6] * 20), batch_size=4, window=3, window_rows=1, workers=workers)
    windows = loader.windows(0)
    kept = []
    for number, batch in enumerate(loader.batches(0)):
        kept.append(batch)  # keeping a batch does not keep its window in memory
        position = (number + 1) * 4 - 1
        in_use = next(w.number for w in windows if w.start <= position < w.stop)
        allowed = sum(len(w.blocks) for w in windows[: in_use + (2 if workers else 1)])
        assert len(loader.blocks.read_blocks) <= allowed
        assert torch.equal(batch.x["x"], batch.rows)
    assert loader.blocks.most <= max(1, workers)
    assert len(taken) <= 3 * (2 if workers else 1)  # three leaves: x, c and the row numbers
    assert all(torch.equal(batch.x["x"], batch.rows) for batch in kept)


def test_windows_close_at_their_bounds():
    def sizes(row_bytes: int = 0, **options) -> list[int]:
        blocks = Fake([10] * 12)
        blocks.row_bytes = row_bytes
        loader = StreamLoader(blocks, batch_size=5, **options)
        return [window.stop - window.start for window in loader.windows(0)]

    assert sizes() == [120]
    assert sizes(window_rows=1) == [80, 40]
    assert sizes(window=1, window_rows=35) == [40, 40, 40]
    assert sizes(row_bytes=1000, window_bytes=25_000) == [30] * 4


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("latens-reader")]


@pytest.mark.parametrize("how", ["exhausted", "closed", "collected", "never begun"])
def test_the_threads_of_a_loader_end(how: str):
    loader = make("even", workers=3)
    batches = loader.batches(0)
    if how == "exhausted":
        assert len([*batches]) == len(loader)
    elif how != "never begun":
        next(batches)
        assert readers()
        batches.close() if how == "closed" else None
    del batches
    gc.collect()
    assert not readers()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_reaches_the_caller_unchanged_and_ends_the_threads(workers: int):
    loader = StreamLoader(Fake([5] * 6, fails=4), batch_size=5, window=2, window_rows=1, shuffle=False, workers=workers)
    batches = loader.batches(0)
    for first in range(0, 20, 5):  # the batches of the windows before the error
        assert next(batches).rows.tolist() == [*range(first, first + 5)]
    with pytest.raises(KeyError, match="as itself"):
        next(batches)
    del batches
    assert not readers()


def test_jobs_are_at_most_one_group_ahead():
    begun: list[int] = []

    def job(number: int) -> int:
        begun.append(number)
        return number

    groups = ([lambda n=n: job(n), lambda n=n: job(n + 100)] for n in range(6))
    for number, group in enumerate(ahead(groups, 2)):
        assert group == [number, number + 100]
        assert max(n % 100 for n in begun) <= number + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": [3, 3]}, "must be increasing numbers from 0 to 9"),
        ({"exclude": [-1]}, "must be increasing"),
        ({"exclude": torch.tensor([10])}, "must be increasing"),
        ({"exclude": [*range(10)]}, "all 10 rows are held out"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, got 0"),
        ({"workers": -1}, "workers must be a whole number from 0"),
        ({"window": 0}, "window must be a whole number of blocks from 1"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        StreamLoader(MemoryBlocks(np.arange(10)), **{"batch_size": 2} | options)


@pytest.mark.usefixtures("one_thread")
def test_a_model_trains_on_a_stream_and_continues_exactly():
    """Training, validation and the final pass over a stream: one trainer does half an epoch, another the rest."""
    x = torch.from_numpy(data(96)).float()

    def trainer(workers: int) -> Trainer:
        options = {"window": 2, "window_rows": 1, "workers": workers}
        loader = StreamLoader(MemoryBlocks(x, block_rows=10), batch_size=12, exclude=range(80, 96), **options)
        held = StreamLoader(MemoryBlocks(x[80:], block_rows=10), batch_size=8, shuffle=False, **options)
        return Trainer(vae(), objectives.ELBO(), loader, held, settings)

    settings = Settings(epochs=3, batch_size=12, device="cpu", compile=False).settle(80)
    whole, other = trainer(0).run(), trainer(2).run()
    assert_same(whole.model.state_dict(), other.model.state_dict())
    assert timeless(whole.history) == timeless(other.history) and whole.history
    first = trainer(1)
    for batch in first.loader.batches(0):
        first.update(batch)
        if first.position == 3:
            break
    for batch in trainer(2).loader.batches(0, first.position):
        first.update(batch)
    first.epoch, first.position = 1, 0
    assert_same(first.run().model.state_dict(), whole.model.state_dict())


def test_readers_take_one_core_each_and_leave_one_to_the_caller():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(ahead([[torch.get_num_threads] * 4, [torch.get_num_threads]], 2)) == [[1] * 4, [1]]
        assert torch.get_num_threads() == 2
        assert list(ahead([[torch.get_num_threads]], 0)) == [[2]]
    finally:
        torch.set_num_threads(before)
