"""Laws of tables whose columns depend on the earlier columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commanding import done, refused
from torch import Tensor, nn
from torch.nn.functional import silu

import latens
from latens.conditionals import Allowed, ColumnLikelihood, ColumnsInOrder, TableLikelihood
from latens.networks import Seen
from latens.schema.law import Law

COLUMNS = [
    ColumnLikelihood("categorical", levels=3), ColumnLikelihood("bernoulli"),
    ColumnLikelihood("ordinal", levels=4), ColumnLikelihood("categorical", levels=4),
]  # fmt: skip
SEEN = [Seen(3), Seen(2), Seen(4), Seen(4)]
VALUES = torch.tensor(list(itertools.product(range(3), range(2), range(4), range(4))), dtype=torch.float64)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def likelihood(seed: int = 0) -> ColumnsInOrder:
    """A likelihood of four columns with few values, with two codes and random weights."""
    torch.manual_seed(seed)
    outputs = sum(column.outputs for column in COLUMNS)
    part = ColumnsInOrder(nn.Linear(2, outputs), COLUMNS, SEEN, hidden=6)
    nn.init.normal_(part.further)
    return part


def probabilities(part: nn.Module, z: Tensor) -> Tensor:
    return part(z.expand(len(VALUES), 2)).log_prob(VALUES).exp().detach()


@pytest.mark.parametrize("seed", range(3))
def test_the_mass_of_all_rows_is_one(seed: int) -> None:
    assert probabilities(likelihood(seed), torch.randn(2)).sum().item() == pytest.approx(1, abs=1e-12)


def test_heads_in_order_start_as_independent_columns() -> None:
    part = likelihood()
    nn.init.zeros_(part.further)
    apart = TableLikelihood(nn.Identity(), COLUMNS)
    apart.load_state_dict({k: v for k, v in part.state_dict().items() if k.startswith("heads")}, strict=False)
    part.own.load_state_dict(part.heads.state_dict())
    z = torch.randn(len(VALUES), 2)
    expected = apart(part.network(z)).log_prob(VALUES)
    torch.testing.assert_close(part(z).log_prob(VALUES), expected)


def test_codes_learn_as_with_independent_columns() -> None:
    """Gradients of the raw outputs are those of independent columns; gradients of the other parts are those of ln
    p(x)."""
    part, raw = likelihood(), torch.randn(len(VALUES), sum(column.outputs for column in COLUMNS), requires_grad=True)
    own = [p for name, p in part.named_parameters() if not name.startswith(("network", "heads"))]
    found = torch.autograd.grad(part.distribution(raw, None).log_prob(VALUES).sum(), [raw, *own])
    apart = TableLikelihood(nn.Identity(), COLUMNS)
    apart.heads.load_state_dict(part.heads.state_dict())
    expected = torch.autograd.grad(apart.distribution(raw, None).log_prob(VALUES).sum(), raw)
    assert torch.equal(found[0], expected[0])
    with torch.no_grad():
        part.further[0] += 1e-5
        up = part.distribution(raw, None).log_prob(VALUES).sum()
        part.further[0] -= 2e-5
        down = part.distribution(raw, None).log_prob(VALUES).sum()
    place = [name for name, _ in part.named_parameters() if not name.startswith(("network", "heads"))].index("further")
    assert ((up - down) / 2e-5).item() == pytest.approx(found[1 + place][0].sum().item(), rel=1e-5)


ALL = [
    ColumnLikelihood("heaped", law=Law(knots=(0.0, 1.0, 3.0, 9.0), scores=(-2.0, -0.5, 0.4, 2.0), atoms=(0.0, 9.0))),
    ColumnLikelihood("heaped", law=Law(knots=(0.0, 2.0, 9.0), scores=(-2.0, 0.1, 2.0), step=1.0), scale="network",
                     components=3),
    ColumnLikelihood("normal", shift=2.0, unit=3.0), ColumnLikelihood("normal", shift=2.0, scale="network"),
    ColumnLikelihood("categorical", levels=3), ColumnLikelihood("ordinal", levels=4),
    ColumnLikelihood("ordinal", levels=4), ColumnLikelihood("categorical", levels=3), ColumnLikelihood("bernoulli"),
]  # fmt: skip


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("holes", [False, True])
def test_both_likelihoods_at_once_equal_separate_ones(restricted: bool, holes: bool) -> None:
    """Values and gradients are those of two passes, whether or not heads have parameters."""
    torch.manual_seed(1)
    allowed = [Allowed(6, (4,), torch.rand(4, 4) > 0.3), Allowed(7, (4, 6), torch.rand(4, 5, 3) > 0.3)]
    for each in allowed:
        each.levels[..., 0] = True
    seen = [Seen(column.levels or (2 if column.family == "bernoulli" else None)) for column in ALL]
    outputs = sum(column.outputs for column in ALL)
    part = ColumnsInOrder(nn.Identity(), ALL, seen, hidden=5, allowed=allowed if restricted else ())
    for p in part.parameters():
        nn.init.normal_(p, std=0.5)
    tops = [9, 9, 9, 9, 2, 3, 3, 2, 1]
    x = torch.stack([torch.randint(0, top + 1, (13,)).double() for top in tops], -1)
    if holes:
        x[torch.rand(x.shape) < 0.2] = torch.nan
    raw = torch.randn(2, 13, outputs, requires_grad=True)
    weights = [raw, *part.parameters()]
    together = part.distribution(raw, None).cells(x)
    with torch.no_grad():
        alone = part.distribution(raw, None).cells(x)
    torch.testing.assert_close(together, alone)
    found = torch.autograd.grad(together.sum(), weights, allow_unused=True)
    # the same by two passes: independent columns, then columns that see each other without gradients to the raw outputs
    apart = TableLikelihood(nn.Identity(), ALL, allowed=allowed if restricted else ())
    apart.heads = part.heads
    lead = torch.autograd.grad(apart.distribution(raw, None).cells(x).sum(), weights, allow_unused=True)
    hidden = silu(part.mixed(silu(part.told(raw.detach()) + part.before(x, range(len(ALL))).unsqueeze(1))))
    wide = torch.einsum("d...h,dho->...do", hidden, part.further)
    further = torch.cat([wide[..., j, : column.outputs] for j, column in enumerate(ALL)], -1)
    filled = torch.where(x.isnan(), part.distribution(raw, None).base.given(x).fill, x)
    each = part.columns_at(raw.detach() + further, x, part.own).log_prob(filled)
    own = torch.autograd.grad(each[~x.isnan().expand_as(each)].sum(), weights, allow_unused=True)
    for whole, one, other in zip(found, lead, own):
        expected = sum((g for g in (one, other) if g is not None), torch.zeros(()))
        torch.testing.assert_close(torch.zeros(()) + (0 if whole is None else whole), expected + torch.zeros(()))


def test_heads_in_order_start_with_the_marginals_of_a_sample() -> None:
    columns = [ColumnLikelihood("normal", shift=1.0, unit=2.0), ColumnLikelihood("categorical", levels=3)]
    sample = torch.stack([1.0 + 0.5 * torch.randn(500), torch.randint(0, 3, (500,)).double()], -1)
    part, apart = (
        ColumnsInOrder(nn.Identity(), columns, [Seen(), Seen(3)], hidden=4),
        TableLikelihood(nn.Identity(), columns),
    )
    raw = part.start(sample).expand(500, -1)
    torch.testing.assert_close(apart.start(sample).expand(500, -1), raw)
    torch.testing.assert_close(part(raw).log_prob(sample), apart(raw).log_prob(sample))


def test_columns_at_their_floor_are_those_of_the_served_heads() -> None:
    columns = [ColumnLikelihood("normal"), ColumnLikelihood("normal")]
    part = ColumnsInOrder(nn.Identity(), columns, [Seen(), Seen()], hidden=4)
    with torch.no_grad():
        part.heads[0].log_scale[0] = part.own[0].log_scale[1] = -20.0
    assert part.floor_hits() == [1]


@pytest.mark.parametrize(("rows", "columns", "in_order"), [(2400, 5, True), (1900, 5, False), (2400, 70, False)])
def test_dependence_is_the_default_for_tables_with_many_rows_and_few_columns(
    rows: int, columns: int, in_order: bool
) -> None:
    torch.set_default_dtype(torch.float32)
    data = tied(rows) if columns == 5 else pd.DataFrame(np.random.default_rng(0).normal(size=(rows, columns)))
    data = data.rename(columns=str).assign(kind=np.where(data.iloc[:, 0] > 0, "a", "b"))
    vae = latens.VAE(2, epochs=1, validation=0.0, rules="none", random_state=0).fit(data)
    assert (type(vae.model_.likelihood) is ColumnsInOrder) == in_order
    assert vae.run_.settings.average == (0.998 if rows >= 2000 else 0.0)


@pytest.mark.parametrize("j", range(4))
def test_a_column_sees_those_before_it_and_no_other(j: int) -> None:
    part, z = likelihood(), torch.randn(2).expand(len(VALUES), 2)
    cells = part(z).cells(VALUES)
    other = VALUES.clone()
    other[:, j] = (other[:, j] + 1) % (VALUES[:, j].max() + 1)
    moved = part(z).cells(other)
    assert torch.equal(moved[:, :j], cells[:, :j])
    assert all((moved[:, i] - cells[:, i]).abs().max() > 1e-3 for i in range(j + 1, 4))


def test_missing_cells_carry_no_information() -> None:
    """After a missing cell, the others are as in a model without the weights of that column; gradients are finite."""
    part, z = likelihood(), torch.randn(2).expand(len(VALUES), 2)
    holes = VALUES.clone()
    holes[:, 1] = torch.nan
    found = part(z).cells(holes)
    loss = part(z).log_prob(holes).sum()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(part.parameters())))
    with torch.no_grad():
        part.before.weight[1] = 0.0
    torch.testing.assert_close(found, torch.where(holes.isnan(), 0.0, part(z).cells(VALUES)))


@pytest.mark.parametrize("only", [[0], [2], [3], [1, 3]])
def test_selected_columns_equal_those_among_all(only: list[int]) -> None:
    part, z = likelihood(), torch.randn(len(VALUES), 2)
    px = part(z).base
    assert isinstance(px, latens.distributions.InOrder)
    some, members = px.columns(VALUES, only)
    found, every = some.log_prob(VALUES[:, members]), px.given(VALUES).log_prob(VALUES)
    torch.testing.assert_close(found[:, [members.index(j) for j in only]], every[:, only])


def test_draws_follow_the_density() -> None:
    """The frequency of each of the 96 possible rows in 20,000 draws is within 4.5 standard errors (false alarm rate
    below 0.1 %)."""
    part, z = likelihood(), torch.randn(2)
    p, n = probabilities(part, z), 20_000
    torch.manual_seed(1)
    drawn = part(z.expand(n, 2)).sample()
    places = (drawn.unsqueeze(1) == VALUES).all(-1)
    assert places.any(1).all()
    frequency = places.double().mean(0)
    assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / n).sqrt() + 2e-3 * p + 1e-5).all()


def test_completed_rows_keep_what_is_observed() -> None:
    part, z = likelihood(), torch.randn(len(VALUES), 2)
    holes = torch.where(torch.rand_like(VALUES) < 0.4, torch.nan, VALUES)
    filled = part(z).base.completed(holes)
    assert filled.isfinite().all() and torch.equal(filled[~holes.isnan()], VALUES[~holes.isnan()])


def tied(rows: int) -> pd.DataFrame:
    """A table with nearly equal sizes and a price that follows from them."""
    r = np.random.default_rng(0)
    size = r.gamma(4, 1, rows)
    long, wide = size + r.normal(0, 0.02, rows), size + r.normal(0, 0.02, rows)
    return pd.DataFrame({"size": size, "long": long, "wide": wide, "price": long * wide * r.lognormal(0, 0.1, rows),
                         "kind": np.where(size > 4, "big", "small")})  # fmt: skip


def test_tied_columns_gain_from_dependence_in_bound_samples_and_imputation() -> None:
    torch.set_default_dtype(torch.float32)
    data, held = tied(2400)[:2000], tied(2400)[2000:].reset_index(drop=True)
    bounds, ties = {}, {}
    for dependence in ("codes", "autoregressive"):
        vae = latens.VAE(2, recipe=latens.Recipe("vae", dependence=dependence), epochs=60, random_state=0).fit(data)
        new = vae.sample(1000, random_state=0)
        bounds[dependence], ties[dependence] = vae.score(held), (new["long"] - new["wide"]).std()
    holes = held.assign(wide=held["wide"].where(np.arange(len(held)) % 2 == 0))
    filled = vae.impute(holes, k=20, random_state=0)
    error = (filled["wide"] - held["wide"])[holes["wide"].isna()].std()
    assert bounds["autoregressive"] > bounds["codes"] + 0.2, bounds
    assert ties["autoregressive"] < ties["codes"], ties
    assert error < 0.3 and filled["wide"][::2].equals(held["wide"][::2])


def test_dependence_is_an_option_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    tied(300).to_csv("t.csv", index=False)
    done("fit", "t.csv", "--out", "run", "--dependence", "autoregressive", "--epochs", "2")
    done("sample", "run", "-n", "50", "--out", "new.csv")
    done("encode", "run", "t.csv", "--out", "z.npy")
    assert list(pd.read_csv("new.csv")) == list(tied(3)) and len(np.load("z.npy")) == 300
    assert "auto, codes, autoregressive" in refused("fit", "t.csv", "--out", "no", "--dependence", "any")
    asked = ("--out", "no", "--dependence", "autoregressive")
    assert "missing = mnar" in refused("fit", "t.csv", *asked, "--missing", "mnar")
    assert "array" in refused("fit", "digits", *asked)
    assert not Path("no").exists()
