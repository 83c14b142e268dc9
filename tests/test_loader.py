"""Batches with a saved position, and random numbers by (seed, row)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from latens import InputError
from latens.data.loader import ArrayLoader
from latens.data.transforms import binarize, dequantize
from latens.tensors.randomness import part, reseed, seed_of, seeded, shared, standard_normal, uniform


def images(n: int = 23) -> torch.Tensor:
    return torch.arange(n * 12).view(n, 3, 4).to(torch.uint8)


def test_eight_bit_data_stay_eight_bit_and_form_whole_batches():
    x = images()
    for batch in ArrayLoader(x, batch_size=5).batches(0):
        assert batch.x.dtype == torch.uint8
        assert torch.equal(batch.x, x[batch.rows])
    in_order = [*ArrayLoader(x, batch_size=5, shuffle=False).batches(0)]
    assert in_order[0].x.data_ptr() == x.data_ptr()  # a view, not a copy


@pytest.mark.parametrize(("rows", "size"), [(23, 5), (23, 23), (23, 100), (24, 8), (2, 1)])
def test_every_row_occurs_at_most_once_per_epoch_and_in_order_exactly_once(rows: int, size: int):
    loader = ArrayLoader(torch.arange(rows), batch_size=size)
    seen = torch.cat([b.rows for b in loader.batches(3)])
    assert len(seen) == len(loader) * min(size, rows) and len(set(seen.tolist())) == len(seen)
    assert rows - len(seen) < min(size, rows)
    assert torch.equal(torch.cat([b.rows for b in loader.in_order().batches(0)]), torch.arange(rows))
    over_time = torch.cat([b.rows for epoch in range(40) for b in loader.batches(epoch)])
    assert len(set(over_time.tolist())) == rows  # a row that one epoch leaves out is used in another


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = {
        (s, e): tuple(ArrayLoader(images(), batch_size=5, seed=s).order(e).tolist()) for s in (0, 1) for e in (0, 1)
    }
    assert len(set(orders.values())) == 4
    torch.manual_seed(99)
    again = ArrayLoader(images(), batch_size=7, seed=1)
    assert tuple(again.order(1).tolist()) == orders[1, 1]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_batches_from_a_position_are_those_of_an_uninterrupted_pass(shuffle: bool):
    def make() -> ArrayLoader:
        x = {"grey": torch.rand(23, 3), "whole": images()}
        return ArrayLoader(x, {"label": torch.arange(23)}, torch.rand(23) + 0.1, batch_size=5, seed=4, shuffle=shuffle,
                           transform=lambda x, rows, seed: x | {"grey": binarize(x["grey"], rows, seed)})  # fmt: skip

    torch.manual_seed(0)
    whole = [*make().batches(2)]
    for start in range(len(whole) + 1):
        torch.manual_seed(0)
        rest = [*make().batches(2, start)]
        assert len(rest) == len(whole) - start
        for a, b in zip(whole[start:], rest):
            assert torch.equal(a.rows, b.rows) and torch.equal(a.weight, b.weight)
            assert all(torch.equal(a.x[key], b.x[key]) for key in a.x)
            assert torch.equal(a.c["label"], b.c["label"])


def test_weights_have_mean_one_over_the_data():
    weight = torch.tensor([0.0, 2.0, 6.0, 0.0])
    loader = ArrayLoader(torch.arange(4), weight=weight, batch_size=4)
    assert loader.weight.tolist() == [0.0, 1.0, 3.0, 0.0]
    assert loader.in_order().weight.tolist() == loader.weight.tolist()
    with pytest.raises(InputError, match=r"weights of all 4 rows .* zero"):
        ArrayLoader(torch.arange(4), weight=torch.zeros(4), batch_size=4)


def test_trees_with_different_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="same number of rows"):
        ArrayLoader(torch.zeros(4), {"label": torch.zeros(5)}, batch_size=2)


def test_rows_carry_the_numbers_of_the_users_data():
    numbers = torch.tensor([10, 20, 30, 40])
    for batch in ArrayLoader(torch.arange(4), batch_size=3, numbers=numbers).batches(0):
        assert torch.equal(batch.numbers, numbers[batch.rows])
        piece = batch.part(slice(1, 3))
        assert torch.equal(piece.numbers, batch.numbers[1:]) and torch.equal(piece.rows, batch.rows[1:])


# Random numbers by (seed, row)


@pytest.mark.parametrize("transform", [binarize, dequantize], ids=lambda f: f.__name__)
def test_a_transform_is_a_function_of_seed_and_row(transform):
    x, rows = torch.rand(40, 3, 4), torch.arange(40)
    whole = transform(x, rows, 7)
    order = torch.randperm(40)
    assert torch.equal(transform(x[order], rows[order], 7), whole[order])  # any order
    for start, stop in ((0, 1), (5, 12), (39, 40)):  # any batch
        assert torch.equal(transform(x[start:stop], rows[start:stop], 7), whole[start:stop])
    assert not torch.equal(transform(x, rows, 8), whole)
    assert not torch.equal(transform(x, rows + 1, 7), whole)


def test_transforms_do_what_their_names_say():
    grey = torch.tensor([0.0, 0.25, 1.0]).expand(20_000, 3)
    drawn = binarize(grey, torch.arange(20_000), 3)
    assert drawn.dtype == torch.uint8 and drawn[:, 0].max() == 0 and drawn[:, 2].min() == 1
    assert abs(drawn[:, 1].double().mean() - 0.25) < 4.5 * (0.25 * 0.75 / 20_000) ** 0.5
    eight = torch.tensor([0, 64, 255], dtype=torch.uint8).expand(20_000, 3)
    drawn = binarize(eight, torch.arange(20_000), 3)
    assert drawn[:, 0].max() == 0 and drawn[:, 2].min() == 1
    assert abs(drawn[:, 1].double().mean() - 64 / 255) < 4.5 * (0.25 / 20_000) ** 0.5
    added = dequantize(eight, torch.arange(20_000), 3) - eight
    assert added.min() >= 0 and added.max() < 1 and abs(added.mean() - 0.5) < 4.5 / (12 * added.numel()) ** 0.5


def test_transforms_change_with_the_epoch_in_training_and_not_in_validation():
    x = torch.rand(8, 5)
    for shuffle in (True, False):
        loader = ArrayLoader(x, batch_size=8, shuffle=shuffle, transform=binarize)
        first, second = (next(loader.batches(e)) for e in (0, 1))
        back = [batch.x[batch.rows.argsort()] for batch in (first, second)]
        assert torch.equal(*back) == (not shuffle)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, seed_of(3, 4)])
def test_uniform_numbers_are_uniform_and_independent(seed: int):
    u = uniform(seed, torch.arange(2000), 50).double().numpy()
    assert u.min() >= 0 and u.max() < 1
    m = u.size
    assert stats.kstest(u.ravel()[::7], "uniform").pvalue > 1e-5
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-5 and stats.kstest(u[17], "uniform").pvalue > 1e-5
    counts = np.bincount((u.ravel() * 256).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-5
    centred = (u - 0.5) * np.sqrt(12)
    for other in (np.roll(centred, 1, 0), np.roll(centred, 1, 1), np.roll(centred, (1, 1), (0, 1))):
        assert abs((centred * other).mean()) < 4.5 / np.sqrt(m)  # neighbours in row, column and diagonal
    next_seed = (
        uniform(seed + 1 if seed < 2**62 else seed - 1, torch.arange(2000), 50).double().numpy() - 0.5
    ) * np.sqrt(12)
    assert abs((centred * next_seed).mean()) < 4.5 / np.sqrt(m)


def test_seeds_differ_in_every_key_and_leave_the_callers_generator_alone():
    seeds = {seed_of(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(seeds) == 12**3 and all(0 <= s < 2**63 for s in seeds)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1, 2):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    reseed(1, 2)
    assert torch.equal(torch.rand(3), inside)


def test_noise_is_joint_or_shared():
    like = torch.zeros(6, 2, dtype=torch.float64)
    with seeded(0):
        joint = standard_normal([3], like)
    for start, stop in ((0, 2), (2, 5), (5, 6)):
        with seeded(0), part(start, 6):
            assert torch.equal(standard_normal([3], like[start:stop]), joint[:, start:stop])
    with seeded(0), shared():
        same = standard_normal([3], like)
    assert same.shape == (3, 6, 2) and torch.equal(same, same[:, :1].expand_as(same))
