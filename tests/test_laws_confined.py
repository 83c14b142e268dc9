"""Laws of orders whose target keeps its own law: its density, draws and gradients on one side of another column."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from latens.conditionals import ColumnLikelihood, ColumnsInOrder, Limited, TableLikelihood
from latens.data.tables.kinds import law_of
from latens.distributions import Heaped, Margins
from latens.networks import Seen
from latens.schema.law import Law

N = 2000
r = np.random.default_rng(7)
COLUMNS = {
    "heights": r.normal(170, 8, N).round(1),
    "capped": np.where(r.random(N) < 0.4, 100.0, r.integers(30, 100, N)),
    "many, capped": np.where(r.random(N) < 0.4, 900.0, r.integers(30, 900, N)),
    "zeros": np.where(r.random(N) < 0.6, 0.0, r.lognormal(2, 0.6, N).round(1) + 0.1),
    "stars": r.choice(np.arange(1, 5.5, 0.5), N),
    "hundreds": 100.0 * r.integers(5, 500, N),
    "thirds": r.choice(r.integers(0, 900, 90), N) / 3,
    "real": r.normal(size=N),
    "real, often 1": np.where(r.random(N) < 0.3, 1.0, r.normal(size=N)),
    "skewed, with codes": np.where(r.random(N) < 0.1, -99.0, r.lognormal(0, 1.5, N)),
}
MIXTURES = {
    "one": ([0.3], [0.4], [0.0]), "narrow": ([0.0], [0.05], [0.0]),
    "three": ([-1.5, 0.8, 6.0], [0.1, 0.6, 0.3], [0.5, 0.0, 0.5]),  # with much of its mass above the range
}  # fmt: skip
SIDES = list(itertools.product((1, -1), (False, True)))  # (sign, whether equal values are excluded)


def law(name: str) -> Law:
    found = law_of(COLUMNS[name])
    assert found is not None
    return found


def free(name: str, mixture: str) -> Heaped:
    own = law(name)
    loc, scale, mixing = (torch.tensor(part, dtype=torch.float64).unsqueeze(-1) for part in MIXTURES[mixture])
    logits = torch.linspace(-1, 1, max(1, len(own.atoms)), dtype=torch.float64)[None, : len(own.atoms)]
    return Heaped(loc, scale, logits, Margins.of([own], [(own.high - own.low) / 8]), mixing)


def cut(px: Heaped, base: float, sign: int, strict: bool) -> Heaped:
    number = torch.tensor([base], dtype=torch.float64)
    after = torch.tensor([strict != (sign < 0)])
    return px.on_side(px.margins.cut(number, torch.tensor([sign]), after))


def bases(name: str) -> list[float]:
    """Sources at values, at heaps, between values, and near both ends."""
    values = np.unique(COLUMNS[name])
    inner = [values[len(values) // 3], values[len(values) // 2] + 0.3 * (values[1] - values[0]), *law(name).atoms[:2]]
    return [*map(float, inner), float(values[-2])]


def possible(name: str) -> np.ndarray:
    """The values that a column of masses can have, also far beyond its range."""
    own = law(name)
    if own.places:
        return np.union1d(own.places, own.atoms)
    assert own.step is not None
    width = 4 * (own.high - own.low)
    grid = own.origin + np.arange(round((own.low - width) / own.step), round((own.high + width) / own.step)) * own.step
    far = [atom for atom in own.atoms if np.abs(grid - atom).min() > own.step / 4]
    return np.sort(np.append(grid, far))


def is_allowed(values: np.ndarray, base: float, sign: int, strict: bool) -> np.ndarray:
    apart = sign * (values - base)
    return apart > 1e-9 * abs(base) if strict else apart >= -1e-9 * abs(base)


def share(px: Heaped, name: str, base: float, sign: int, strict: bool) -> float:
    """P(x is allowed) of a distribution, by enumeration or quadrature."""
    own = law(name)
    if own.step is not None or own.places:
        values = possible(name)
        values = values[is_allowed(values, base, sign, strict)]
        unit = 1.0 if own.atoms or own.places else own.step or 1.0
        return float(px.log_prob(torch.tensor(values)[:, None]).exp().sum()) * unit
    edge = max(-30.0, float(px.margins.score(torch.tensor([base], dtype=torch.float64))[0]))
    width = (30.0 - sign * edge) / 200_000  # by midpoints in the score, of which the density is smooth
    scores = edge + sign * width * (torch.arange(200_000, dtype=torch.float64)[:, None] + 0.5)
    x = px.margins.value(scores)
    density = px.log_prob(x).exp() / px.margins.score(x)[1]
    total = float(density[px.margins.atom(x) == 0].sum()) * width / (px.margins.unit.item() if own.atoms else 1.0)
    atoms = np.array(own.atoms)
    atoms = atoms[is_allowed(atoms, base, sign, strict)] if len(atoms) else atoms
    return total + (float(px.log_prob(torch.tensor(atoms)[:, None]).exp().sum()) if len(atoms) else 0.0)


@pytest.mark.parametrize("mixture", ["narrow", "three"])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_mass_of_the_allowed_values_is_one(name: str, mixture: str) -> None:
    """Of listed places, the last one at either end has no place behind it, so that their masses sum to less."""
    px = free(name, mixture)
    whole = share(px, name, -1e6, 1, False)
    for base, (sign, strict) in itertools.product(bases(name), SIDES):
        before = share(px, name, base, sign, strict)
        if before < 1e-9:
            continue
        lost = abs(1 - whole) / before + 2e-5
        assert share(cut(px, base, sign, strict), name, base, sign, strict) == pytest.approx(1, abs=lost)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_density_is_the_free_one_divided_by_the_allowed_mass_and_0_elsewhere(name: str) -> None:
    px, own = free(name, "three"), law(name)
    values = possible(name) if own.step or own.places else np.sort(np.append(np.linspace(-5, 90, 950), own.atoms))
    x = torch.tensor(values)[:, None]
    for base, (sign, strict) in itertools.product(bases(name), SIDES):
        found, before = cut(px, base, sign, strict).log_prob(x)[:, 0], px.log_prob(x)[:, 0]
        inside = torch.tensor(is_allowed(values, base, sign, strict))
        assert (found[~inside] == -math.inf).all()
        ratio = (found - before)[inside]
        if not len(ratio):
            continue
        assert ratio.max() - ratio.min() < 1e-7 and ratio.min() >= -1e-9
    none = cut(px, math.nan, 1, False)
    assert torch.allclose(none.log_prob(x), px.log_prob(x)) and torch.allclose(none.log_masses, px.log_masses)


@pytest.mark.parametrize("name", [name for name in COLUMNS if law(name).step])
def test_values_off_the_grid_that_keep_the_order_have_the_mass_of_the_nearest_allowed_place(name: str) -> None:
    """A row that was not in the fit may have more digits, and equal its limit. (.7 of a step is nearer to the place
    above it, which a limit of .7 does not allow.)"""
    px, step = free(name, "one"), law(name).step
    assert step is not None
    apart = [v for v in possible(name) if all(abs(v - atom) > 2 * step for atom in law(name).atoms)]
    v = apart[len(apart) // 2]
    for sign, part in ((-1, 0.7), (1, 0.3)):
        base, place = v + part * step, v + (sign > 0) * step
        x = torch.tensor([base, base - sign * 1e-3 * step, base + sign * 1e-3 * step, place])[:, None]
        found = cut(px, base, sign, False).log_prob(x)[:, 0]
        assert found[0] == found[2] == found[3] > -math.inf and found[1] == -math.inf
        assert cut(px, base, sign, True).log_prob(x)[0] == -math.inf


@pytest.mark.parametrize("name", COLUMNS)
def test_draws_are_those_of_rejection_sampling(name: str) -> None:
    """Kolmogorov-Smirnov tests of 20,000 draws and at least 300 accepted ones at a level of 1e-5 each; about 250 tests
    give a false alarm in 0.3 % of the runs."""
    own = law(name)
    torch.manual_seed(1)
    for mixture in ("one", "three"):
        px = free(name, mixture)
        every = own.snap(px.sample((100_000,))[:, 0].numpy())
        for base, (sign, strict) in itertools.product(bases(name), SIDES):
            settled = own.snap(cut(px, base, sign, strict).sample((20_000,))[:, 0].numpy())
            wanted = every[is_allowed(every, base, sign, strict)]
            possible = is_allowed(COLUMNS[name], base, sign, strict).any()
            assert is_allowed(settled, base, sign, strict).all() or own.step is None or not possible
            if len(wanted) >= 300:
                assert ks_2samp(settled, wanted).pvalue > 1e-5, (mixture, base, sign, strict)
                mean = float(cut(px, base, sign, strict).mean)
                error = wanted.std() / math.sqrt(len(wanted))
                assert abs(mean - wanted.mean()) <= 5 * error + 0.02 * np.std(COLUMNS[name]) + 0.5 * (own.step or 0.0)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_finite_at_the_edge_and_where_hardly_any_mass_is_allowed(name: str, dtype: torch.dtype) -> None:
    """The allowed mass falls below 1e-30; atoms that are allowed take it all."""
    own = law(name)
    margins = Margins.of([own], [1.0])
    for base, (sign, strict) in itertools.product([*bases(name), math.nan], SIDES):
        values = torch.tensor([*([base] if base == base else []), *np.unique(COLUMNS[name])[[0, 5, -6, -1]]])
        values = values.to(dtype).double()[:, None]
        for at, scale in [(0.0, 1.0), (-90.0 * sign, 1.0), (-5.0 * sign, 1e-3), (90.0 * sign, 0.01)]:
            loc = torch.full((2, 1), at, dtype=dtype, requires_grad=True)
            width = torch.full((2, 1), scale, dtype=dtype, requires_grad=True)
            logits = torch.zeros(1, len(own.atoms), dtype=dtype, requires_grad=True)
            mixing = torch.zeros(2, 1, dtype=dtype, requires_grad=True)
            px = cut(Heaped(loc, width, logits, margins, mixing), base, sign, strict)
            found = px.log_prob(values)
            assert not found.isnan().any() and (found < math.inf).all()
            safe = torch.where(found > -math.inf, found, 0.0)  # as in Observed, where the fill may be excluded
            grads = torch.autograd.grad(safe.sum(), [loc, width, logits, mixing], allow_unused=True)
            assert all(g is None or g.isfinite().all() for g in grads), (base, sign, strict, at, scale)
            assert px.sample((50,)).isfinite().all() and px.mean.isfinite().all() and px.center.isfinite().all()


def test_columns_together_equal_separate_columns_and_rows() -> None:
    torch.manual_seed(0)
    laws = [law(name) for name in COLUMNS]
    margins, n = Margins.of(laws, [1.0] * len(laws)), len(laws)
    loc, scale = torch.randn(4, 5, 2, n).double(), torch.rand(4, 5, 2, n).double() + 0.1
    most = margins.atoms.shape[-1]
    logits = torch.randn(4, 5, n, most).double().masked_fill(margins.atoms.isnan(), -math.inf)
    base = torch.tensor(np.stack([r.choice(COLUMNS[name], 5) for name in COLUMNS], 1))
    base[0, 0] = math.nan
    sign, after = torch.tensor([1, -1] * n)[:n], torch.tensor([False, True] * n)[:n]
    sign = torch.where(torch.arange(5)[:, None] < 2, sign, -sign)  # rows may lie on different sides
    px = Heaped(loc, scale, logits, margins, torch.zeros_like(loc)).on_side(margins.cut(base, sign, after))
    x = torch.tensor(np.stack([r.choice(COLUMNS[name], 5) for name in COLUMNS], 1))
    every, masses = px.log_prob(x), px.masses()
    for j in range(n):
        alone = px.on_side(None).cells(torch.tensor([3]), j)
        alone = alone.on_side(alone.margins.cut(base[3:4, j : j + 1], sign[3, j : j + 1], after[j : j + 1]))
        assert torch.allclose(alone.log_prob(x[3:4, j : j + 1])[..., 0, 0], every[:, 3, j])
        own = px.cells(torch.tensor([1, 3, 0]), j)
        assert torch.equal(own.log_prob(x[[1, 3, 0], j : j + 1])[..., 0], every[:, [1, 3, 0], j])
        for part, whole in zip(own.masses(), masses):
            assert torch.allclose(part.squeeze(2), whole[:, [1, 3, 0], j], atol=1e-12, equal_nan=True)


# Tables

GRADES = ColumnLikelihood("ordinal", levels=4)  # 0 … 3
WHOLE = ColumnLikelihood("categorical", levels=6)  # 0 … 5
SIX = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
MANY = ColumnLikelihood("heaped", law=law_of(np.arange(200.0)), unit=30)
HEADS = [WHOLE, GRADES, MANY, ColumnLikelihood("categorical", levels=3)]
LEVELS = (2.0, 0.0, 150.0)  # the numbers of the last column's levels
LIMITED = [
    Limited(1, (0,), (SIX,), (0.0, 2.0, 4.0, 5.0)), Limited(2, (0, 1, "c"), (SIX, (0.0, 2.0, 4.0, 5.0), None)),
    Limited(3, (2,), (None,), LEVELS, falling=True, strict=False),
]  # fmt: skip


def likelihood(kind: str, limited: list[Limited]) -> TableLikelihood:
    torch.manual_seed(0)
    outputs = sum(column.outputs for column in HEADS)
    if kind == "codes":
        return TableLikelihood(nn.Linear(2, outputs).double(), HEADS, allowed=limited)
    seen = [Seen(6), Seen(4), Seen(), Seen(3)]
    part = ColumnsInOrder(nn.Linear(2, outputs), HEADS, seen, hidden=6, allowed=limited).double()
    nn.init.normal_(part.further)
    return part


def every_row() -> Tensor:
    return torch.cartesian_prod(
        torch.arange(6.0), torch.arange(4.0), torch.arange(-400.0, 700.0), torch.arange(3.0)).double()  # fmt: skip


@pytest.mark.parametrize("kind", ["codes", "autoregressive"])
def test_the_density_of_rows_is_normalised_over_those_that_keep_the_orders(kind: str) -> None:
    x, grades, levels = every_row(), torch.tensor([0.0, 2.0, 4.0, 5.0]), torch.tensor(LEVELS)
    part, z = likelihood(kind, LIMITED[:2]), torch.tensor([0.3, -0.5], dtype=torch.float64).expand(len(x), 2)
    c = {"c": torch.full((len(x),), 40.0)}
    with torch.no_grad():
        p = part(z, c).log_prob(x).exp()
    grade = grades[x[:, 1].long()]
    keeps = (grade >= x[:, 0]) & (x[:, 2] >= x[:, 0]) & (x[:, 2] >= grade) & (x[:, 2] >= 40)
    assert (p[~keeps] == 0).all() and p[keeps].sum().item() == pytest.approx(1, abs=2e-5)
    part = likelihood(kind, [LIMITED[2]])
    with torch.no_grad():
        p = part(z, None).log_prob(x).exp()
    keeps = levels[x[:, 3].long()] <= x[:, 2]
    near = x[:, 2] >= 0  # below, no level is allowed
    assert (p[near & ~keeps] == 0).all() and p[near].sum().item() == pytest.approx(p.sum().item(), abs=1)


@pytest.mark.parametrize("kind", ["codes", "autoregressive"])
def test_draws_of_rows_keep_the_orders_and_missing_sources_set_no_limit(kind: str) -> None:
    part, n = likelihood(kind, LIMITED[:2]), 20_000
    z, c = torch.randn(n, 2).double(), {"c": torch.randint(-50, 150, (n,)).double()}
    x = part(z, c).sample()
    grade = torch.tensor([0.0, 2.0, 4.0, 5.0])[x[:, 1].long()]
    whole = x[:, 2].round()
    assert (grade >= x[:, 0]).all() and (whole >= x[:, 0]).all() and (whole >= grade).all() and (whole >= c["c"]).all()
    x[:, 2], holes = whole, x.clone()
    holes[:, 0] = math.nan
    bound, loose = (likelihood(kind, each)(z, c) for each in (LIMITED[:1], []))
    seen, without = bound.cells(holes)[:, 1], loose.cells(holes)[:, 1]
    assert torch.allclose(seen, without) and not torch.allclose(bound.cells(x)[:, 1], without)
    leaf = z.clone().requires_grad_()
    assert torch.autograd.grad(part(leaf, c).log_prob(holes).sum(), leaf)[0].isfinite().all()
