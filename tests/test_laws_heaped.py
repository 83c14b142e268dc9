"""Laws of numeric columns of tables: atoms, grids and ranges, in the schema, the density and the draws."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy import integrate
from scipy.stats import ks_2samp
from torch import nn

import latens
from latens.conditionals import ColumnLikelihood, SelfMaskedColumns, TableLikelihood
from latens.data.tables.kinds import grid_of, infer_table, law_of
from latens.distributions import Heaped, Margins, extrapolating
from latens.errors import InputError
from latens.schema import Column
from latens.schema.law import SCALE, Law
from latens.tensors.numerics import positive

N = 2000
r = np.random.default_rng(5)
# values of a column; its atoms (None: every value is an atom), its grid, and the range of the other values
COLUMNS: dict[str, tuple[np.ndarray, list[float] | None, float | None]] = {
    "spend": (np.where(r.random(N) < 0.6, 0.0, r.lognormal(3, 1, N).round(2) + 0.01), [0.0], 0.01),
    "not measured": (np.where(r.random(N) < 0.15, -999.0, r.normal(20, 3, N).round(1)), [-999.0], 0.1),
    "full time": (np.where(r.random(N) < 0.4, 40.0, r.integers(1, 100, N)), [], 1.0),
    "stars": (r.choice(np.arange(1, 5.5, 0.5), N), None, 0.5),
    "two of many": (r.choice([14.0, 16.0, 200.0], N), None, 2.0),
    "heights": (r.normal(170, 8, N).round(1), [], 0.1),
    "real": (r.normal(size=N), [], None),
    "real, often 1": (np.where(r.random(N) < 0.3, 1.0, r.normal(size=N)), [1.0], None),
    "quarters of an hour": (r.integers(0, 400, N) / 96, [], 0.01),
    "skewed": (r.lognormal(0, 2, N), [], None),
    "years": (r.integers(1950, 2021, N).astype(float), None, 1.0),
    "months": (r.integers(1, 13, N).astype(float), None, 1.0),
    "few of many": (r.choice(r.normal(size=100), N), [], None),
    "few, or none": (np.where(r.random(N) < 0.2, -99.0, r.choice(r.integers(0, 900, 90), N) / 7), [-99.0], None),
    "hundreds": (100.0 * r.integers(5, 500, N), [], 100.0),
}  # fmt: skip
NAMES = list(COLUMNS)


TWO = ([-1.5, 0.8, 9.0], [0.1, 0.6, 0.3], [0.5, 0.0, -1.0])  # locations, scales and log weights of a mixture


def heaped(law: Law, loc: Any = 0.3, scale: Any = 0.4, unit: float = 1.0, mixing: list[float] | None = None) -> Heaped:
    """The law of one column with some locations, scales and log weights, and logits of its atoms."""
    logits = torch.linspace(-1, 1, max(1, len(law.atoms)), dtype=torch.float64)[None, : len(law.atoms)]
    parts = [torch.tensor(part, dtype=torch.float64).unsqueeze(-1) for part in (loc, scale)]
    weights = None if mixing is None else torch.tensor(mixing, dtype=torch.float64).unsqueeze(-1)
    return Heaped(*parts, logits, Margins.of([law], [unit]), weights)


def grid(law: Law, beyond: float = 6.0) -> np.ndarray:
    """The grid points of the law, extended beyond both ends by points at the same spacing."""
    if law.places:
        v = np.array(law.places)
        steps = 1 + np.arange(np.ceil(beyond * np.ptp(v) / np.diff(v)[[0, -1]].min()))
        return np.concatenate([v[0] - (v[1] - v[0]) * steps[::-1], v, v[-1] + (v[-1] - v[-2]) * steps])
    assert law.step is not None
    width = beyond * (law.high - law.low + law.step)
    return np.arange(np.ceil((law.low - width) / law.step), np.ceil((law.high + width) / law.step)) * law.step


@pytest.mark.parametrize("name", NAMES)
def test_atoms_grid_and_range_are_found(name: str) -> None:
    values, atoms, step = COLUMNS[name]
    law = law_of(values)
    assert law is not None and law.is_complete == (atoms is None)
    assert list(law.atoms) == (sorted(set(values)) if atoms is None else atoms)
    if name != "quarters of an hour":
        assert law.step == (None if step is None else pytest.approx(step))
    others = values if atoms is None else values[~np.isin(values, law.atoms)]
    assert (law.low, law.high) == (pytest.approx(others.min()), pytest.approx(others.max()))
    assert np.abs(law.snap(values) - values).max() < 1e-9 * np.abs(values).max()
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    strange = law.snap(r.normal(0, 3 * np.abs(values).max(), 500))
    assert np.isin(strange, [*others, *law.atoms]).all() or (strange >= law.low).all() or law.atoms
    assert strange.min() >= values.min() - 1e-9 and strange.max() <= values.max() + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_mass_is_one(name: str) -> None:
    """The mass of atoms and grid points, or of atoms and the integral of the density, is summed far beyond the
    range."""
    law = law_of(COLUMNS[name][0])
    assert law is not None
    for loc, scale, *mixing in [(0.3, 0.4), (0.0, 0.05), TWO]:
        px = heaped(law, loc, scale, (law.high - law.low) / 8, *mixing)
        if law.places:
            assert ColumnLikelihood("heaped", law=law).is_mass
            places = torch.tensor([*grid(law), *law.atoms])
            total = px.log_prob(places[:, None]).exp().sum().item()
        elif law.step is not None:
            places = np.union1d(grid(law), law.snap(grid(law)))
            places = torch.tensor(places[np.append(True, np.diff(places) > law.step / 2)])
            far = [atom for atom in law.atoms if (places - atom).abs().min() > law.step / 4]
            places = torch.cat([places, torch.tensor(far)])
            total = px.log_prob(places[:, None]).exp().sum().item() * (1.0 if law.atoms else law.step)
        else:
            ends = [-20.0, *law.scores, 20.0]
            total = sum(integrate.quad(partial(_density, px), a, b)[0] for a, b in itertools.pairwise(ends))
            total *= 1.0 if not law.atoms else 1 / px.margins.unit.item()
            heap = px.log_prob(torch.tensor(law.atoms, dtype=torch.float64)[:, None]).exp().sum() if law.atoms else 0.0
            total += float(heap)
        assert total == pytest.approx(1, abs=1e-4)


def _density(px: Heaped, g: float) -> float:
    """The density p(x) |dx/dg| at the value with the score g."""
    x = px.margins.value(torch.tensor([g], dtype=torch.float64))
    return float(px.log_prob(x).exp()[0] / px.margins.score(x)[1][0])


@pytest.mark.parametrize("name", NAMES)
def test_draws_follow_the_density_and_stay_in_the_range(name: str) -> None:
    values, _, _ = COLUMNS[name]
    law = law_of(values)
    assert law is not None
    for loc, scale, *mixing in [(0.3, 0.4), (9.0, 0.2), (-60.0, 0.01), TWO]:
        px = heaped(law, loc, scale, 1.0, *mixing)
        torch.manual_seed(0)
        drawn = law.snap(px.sample((20_000,))[:, 0].numpy())
        assert np.isfinite(drawn).all() and drawn.min() >= values.min() - 1e-9 and drawn.max() <= values.max() + 1e-9
        w = px.log_weights.exp()[0]
        for atom, weight in zip(law.atoms[:3], w[1:]):
            if law.step is None and not law.is_complete and not law.places:
                assert (drawn == atom).mean() == pytest.approx(weight.item(), abs=0.015)
        moments = px.masses()[1][0].item(), px.sample((20_000,))[:, 0]
        if not law.atoms:
            assert moments[0] == pytest.approx(moments[1].mean().item(), abs=0.06 * moments[1].std().item() + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_beyond_the_range_scores_fall_for_ever(name: str) -> None:
    values, _, _ = COLUMNS[name]
    law = law_of(values)
    assert law is not None
    px = heaped(law, unit=float(values.std()))
    far = 10.0 ** np.arange(0, 7) * (np.ptp(values) + 1)
    for x in (values.max() + far, values.min() - far):
        x = np.rint(x / law.step) * law.step if law.step is not None else x
        scores = px.log_prob(torch.tensor(x)[:, None])[:, 0]
        assert torch.isfinite(scores).all() and (scores.diff() < 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scale", "components"), [("learned", 1), ("network", 3)])
def test_before_training_the_marginal_is_that_of_the_data(name: str, scale: str, components: int) -> None:
    """A head initialised from a sample draws its values as often as the sample has them, whatever the code; gradients
    are finite at the edges."""
    values, _, _ = COLUMNS[name]
    law = law_of(values)
    column = ColumnLikelihood("heaped", unit=float(values.std()), law=law, scale=scale, components=components)
    head = TableLikelihood(nn.Identity(), [column])
    raw = head.start(torch.tensor(values)[:, None]).double().requires_grad_()
    px = head(raw.expand(1, -1))
    torch.manual_seed(1)
    drawn = np.sort(law.snap(px.sample((20_000,))[:, 0, 0].numpy()))
    at = np.unique(np.quantile(values, np.linspace(0, 1, 200)))
    cdf = [np.searchsorted(np.sort(v), at, "right") / len(v) for v in (values, drawn)]
    assert np.abs(cdf[0] - cdf[1]).max() < 0.025
    edges = torch.tensor([*law.atoms[:1], law.low, law.high, law.low - 1e5, law.high + 1e5])[:, None]
    gradient = torch.autograd.grad(head(raw.expand(len(edges), -1)).log_prob(edges).sum(), [raw, *head.parameters()])
    assert all(torch.isfinite(g).all() for g in gradient)


def test_representative_values_of_a_law_can_occur() -> None:
    law = law_of(COLUMNS["not measured"][0])
    assert law is not None
    one = torch.zeros(1, dtype=torch.float64)
    for logit, wanted in [(2.0, (-999, -999)), (0.4, (-999, -999)), (-0.4, (10, 30)), (-3.0, (10, 30))]:
        px = Heaped(one, one + 0.5, torch.tensor([[logit]], dtype=torch.float64), Margins.of([law], [3.0]))
        assert wanted[0] <= px.center.item() <= wanted[1]


@pytest.mark.parametrize("fields", [
    {"knots": [0, 1], "scores": [0, 1]},
    {"knots": [1, 0], "scores": [0, 1], "atoms": [], "step": None, "is_complete": False},
    {"knots": [0, 1], "scores": [1, 0], "atoms": [], "step": None, "is_complete": False}, "law", 3,
    {"knots": [0, 1], "scores": [0, 1], "atoms": [2, 1], "step": None, "is_complete": False},
    {"knots": [0, float("nan")], "scores": [0, 1], "atoms": [], "step": None, "is_complete": False},
])  # fmt: skip
def test_invalid_laws_are_refused(fields: Any) -> None:
    with pytest.raises(InputError, match="without a valid law"):
        Law.from_json(fields)
    with pytest.raises(InputError, match="column 'x' has no law"):
        Column("x", "continuous", "double", "heaped")


# Tables


def frame(n: int = 600) -> pd.DataFrame:
    day = pd.Timestamp("2021-01-01")
    never = dt.date(9999, 12, 31)
    days = [(day + pd.Timedelta(days=int(i))).date() for i in r.integers(0, 700, n)]
    return pd.DataFrame({
        "spend": np.where(r.random(n) < 0.6, 0.0, r.lognormal(3, 1, n).round(2) + 0.01),
        "reading": np.where(r.random(n) < 0.15, -999, r.normal(20, 9, n).clip(1).round()).astype("int32"),
        "valid_to": np.where(r.random(n) < 0.4, never, np.array(days, dtype=object)),
        "snapshot": r.choice(np.array([dt.date(2020, 9, 14), dt.date(2020, 9, 16)], dtype=object), n),
        "month": pd.to_datetime(r.choice(pd.date_range("2015-01-01", "2019-12-01", freq="MS"), n)),
        "meeting": pd.to_datetime("2024-03-01") + pd.to_timedelta(15 * r.integers(0, 3000, n), unit="min"),
        "stars": r.choice(np.arange(1, 5.5, 0.5), n),
        "visits": r.integers(0, 41, n),
        "age": r.integers(18, 80, n),
    })  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> tuple[pd.DataFrame, latens.VAE]:
    data = frame()
    return data, latens.VAE(random_state=0, epochs=8).fit(data)


def test_samples_are_values_that_the_data_could_hold(fitted: tuple[pd.DataFrame, latens.VAE]) -> None:
    data, vae = fitted
    new = vae.sample(500, random_state=0)
    for name in data:
        assert new[name].min() >= data[name].min() and new[name].max() <= data[name].max(), name
    for name in ("snapshot", "month", "stars"):
        assert set(new[name]) <= set(data[name]), name
    for name, value in (("spend", 0.0), ("reading", -999), ("valid_to", dt.date(9999, 12, 31))):
        assert (new[name] == value).mean() == pytest.approx((data[name] == value).mean(), abs=0.1)
    assert not new["reading"].between(-998, 0).any()
    assert (new["meeting"].dt.minute % 15 == 0).all() and (new["meeting"].dt.second == 0).all()
    assert dict(new.dtypes) == dict(data.dtypes)


def test_gaps_are_filled_with_values_that_can_occur(fitted: tuple[pd.DataFrame, latens.VAE]) -> None:
    data, vae = fitted
    holes = data.head(60).copy()
    for name in data:
        holes.loc[::4, name] = None
    filled = vae.impute(holes, k=20)
    for name in ("snapshot", "month", "stars", "valid_to"):
        assert set(filled[name]) <= set(data[name]) | set(pd.date_range("2021-01-01", periods=700).date), name
    others = data["reading"][data["reading"] != -999]
    assert not filled["reading"].between(-998, others.min(), inclusive="left").any()
    assert filled.isna().sum().sum() == 0


def test_scores_of_values_beyond_the_range_are_finite_and_lower(fitted: tuple[pd.DataFrame, latens.VAE]) -> None:
    data, vae = fitted
    odd = data.head(3).copy()
    odd["age"] = [50, 150, 1500]
    scores = vae.score_samples(pd.concat([data.iloc[[0]].assign(age=a) for a in odd["age"]]))
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


def test_a_law_is_stored_with_the_schema() -> None:
    schema = infer_table(pa.Table.from_pandas(frame(), preserve_index=False))
    again = type(schema).from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema and again.field("reading").law.atoms[0] == -999
    assert "-999 in 1" in again.field("reading").reason and "in steps of 1" in again.field("reading").reason


# Beyond the range


@pytest.mark.parametrize("name", NAMES)
def test_draws_stay_in_the_range_unless_they_are_extrapolated(name: str) -> None:
    """None of 10^5 draws lies outside. With extrapolation, the share outside is the mass of the density there, from the
    logistic tails of T, within 4 standard errors."""
    law = law_of(COLUMNS[name][0])
    assert law is not None
    for loc, scale in [(0.3, 1.2), (2.5, 0.4)]:
        px = heaped(law, loc, scale, unit=(law.high - law.low) / 8)
        torch.manual_seed(0)
        inside = px.sample((100_000,))[:, 0].numpy()
        ends = law.knots[0] - 1e-9, law.knots[-1] + 1e-9
        atoms = np.isin(inside, law.atoms)
        assert ((inside >= ends[0]) & (inside <= ends[1]) | atoms).all()
        with extrapolating():
            drawn = px.sample((100_000,))[:, 0].numpy()
        outside = ((drawn < ends[0]) | (drawn > ends[1])) & ~np.isin(drawn, law.atoms)
        tails = 1 / (1 + np.exp((np.array([loc, -loc]) + [-law.scores[0], law.scores[-1]]) / scale))
        mass = tails.sum() * px.log_weights.exp()[0, 0].item()
        assert outside.mean() == pytest.approx(mass, abs=4 * np.sqrt(mass / 100_000) + 1e-6)


KEPT = {
    "age": (1, None), "spend": (0.01, None), "visits": (0, None), "share": (0, 1), "small": (-128, 127),
    "unsigned": (0, 255), "height": (0, None), "balance": (None, None), "debt": (None, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def bounded() -> tuple[pd.DataFrame, latens.VAE]:
    n = 400
    data = pd.DataFrame({
        "age": r.integers(18, 80, n), "spend": r.lognormal(1, 1, n).round(2) + 0.01,
        "visits": r.negative_binomial(2, 0.2, n), "share": np.append(r.beta(2, 2, n - 2), [0.001, 0.999]),
        "small": r.integers(-120, 121, n).astype("int8"), "unsigned": r.integers(0, 250, n).astype("uint8"),
        "height": r.normal(170, 8, n).round(1),
        "balance": r.normal(0, 3, n), "debt": -r.integers(1, 900, n), "day": pd.to_datetime("2021-01-01")
        + pd.to_timedelta(r.integers(0, 700, n), unit="D"),
    })  # fmt: skip
    return data, latens.VAE(random_state=0, epochs=2).fit(data)


@pytest.mark.parametrize("extrapolate", [False, True])
def test_samples_keep_their_kind_in_and_beyond_the_range(
    bounded: tuple[pd.DataFrame, latens.VAE], extrapolate: bool
) -> None:
    data, vae = bounded
    new = vae.sample(20_000, random_state=0, extrapolate=extrapolate)
    outside = {name: ((new[name] < data[name].min()) | (new[name] > data[name].max())).mean() for name in data}
    assert dict(new.dtypes) == dict(data.dtypes)
    if not extrapolate:
        assert not any(outside.values())
        return
    assert all(0 < outside[name] < 0.05 for name in data if name not in ("share", "unsigned")), outside
    for name, (low, high) in KEPT.items():
        assert low is None or new[name].min() >= low, name
        assert high is None or new[name].max() <= high, name
    assert new["spend"].round(2).equals(new["spend"]) and new["height"].round(1).equals(new["height"])
    assert (new["day"] == new["day"].dt.normalize()).all()
    with pytest.raises(InputError, match="extrapolate"):
        vae.sample(3, mean=True, extrapolate=True)


# Off the grid

q = np.random.default_rng(8)
STRAYS: dict[str, tuple[np.ndarray, list[float], float]] = {
    "three decimals among two": (q.lognormal(3, 1, N).round(2), [3.335, 20.001, 7.777], 0.01),
    "halves among whole numbers": (q.integers(18, 80, N).astype(float), [20.5, 33.5, 71.5], 1.0),
    "halves among few": (q.integers(1, 6, N).astype(float), [2.5, 3.5], 1.0),
    "beside a heap": (np.where(q.random(N) < 0.5, 0.0, q.integers(1, 500, N)), [0.4, 12.25], 1.0),
    "the smallest and the largest": (q.integers(100, 900, N).astype(float), [99.7, 900.3], 1.0),
    "hundreds": (100.0 * q.integers(5, 500, N), [777.0, 12_345.0], 100.0),
}  # fmt: skip


@pytest.mark.parametrize("name", STRAYS)
def test_a_few_values_off_the_grid_do_not_remove_it(name: str) -> None:
    """Values off the grid are not atoms, are not drawn, and have the finite mass of the next grid point; grid points
    have mass 1."""
    most, strays, step = STRAYS[name]
    values = np.append(most, strays)
    law, alone = law_of(values), law_of(most)
    assert law is not None and alone is not None
    assert law.step == alone.step == step and law.atoms == alone.atoms
    px = heaped(law, unit=float(values.std()))
    near = np.rint(np.array(strays) / step) * step
    own, at = (px.log_prob(torch.tensor(v)[:, None])[:, 0] for v in (np.array(strays), near))
    assert torch.isfinite(own).all()
    free = ~np.isin(near, law.atoms)
    np.testing.assert_allclose(own[free], at[free], rtol=0, atol=1e-12)
    places = torch.tensor(np.union1d(grid(law), np.rint(np.array(law.atoms) / step) * step))[:, None]
    assert px.log_prob(places).exp().sum().item() * (1.0 if law.atoms else step) == pytest.approx(1, abs=1e-4)
    assert not np.isin(law.snap(px.sample((20_000,))[:, 0].numpy()), strays).any()
    assert law.low >= values.min() and law.high <= values.max()


def test_a_grid_ends_if_values_are_often_off_it() -> None:
    """Above 1 % of the rows such values lead to a finer grid; a single value as frequent as atoms becomes an atom."""
    assert law_of(np.append(q.integers(18, 800, N), q.integers(18, 800, N // 20) + 0.5)).step == 0.5
    law = law_of(np.append(q.integers(0, 3000, N), np.full(N // 100, 1234.5)))
    assert law.atoms == (1234.5,) and law.step == 1.0


def test_strays_are_restored_as_they_were() -> None:
    data = pd.DataFrame({"price": q.lognormal(3, 1, 300).round(2), "age": q.integers(18, 80, 300).astype(float)})
    data.loc[[3, 7], "price"], data.loc[[5], "age"], data.loc[[0, 9], "age"] = [9.995, 3.333], 20.5, np.nan
    vae = latens.VAE(random_state=0, epochs=2).fit(data)
    filled, new = vae.impute(data, k=20), vae.sample(500, random_state=0)
    seen = data.notna()
    assert filled[seen].equals(data[seen]) and (filled["age"][[0, 9]] % 1 == 0).all()
    assert np.isfinite(vae.score_samples(data)).all()
    assert (new["age"].dropna() % 1 == 0).all() and np.allclose(new["price"], new["price"].round(2), atol=1e-9)


def _at_shares(px: Heaped, u: torch.Tensor) -> torch.Tensor:
    """Values at given shares of the mass in the range, for each component."""
    return px._within(u, px.loc, px.scale, px._limits())


@pytest.mark.parametrize("floored", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_mixture_is_the_sum_of_its_components(name: str, floored: bool) -> None:
    """This holds for values, for the shares of the range (by the components' masses in it), and for draws: 20,000 are
    within 4 standard errors of the mean."""
    values, _, _ = COLUMNS[name]
    law = law_of(values)
    assert law is not None
    law = replace(law, floor=law.low) if floored else law
    x = torch.tensor(np.append(values[:50], [values.min() - 5, values.max() + 5]))[:, None]
    both = heaped(law, *TWO[:2], mixing=TWO[2])
    weights = torch.tensor(TWO[2], dtype=torch.float64).softmax(0)
    each = [heaped(law, loc, scale) for loc, scale in zip(*TWO[:2])]
    expected = sum(w * px.log_prob(x).exp() for w, px in zip(weights, each))
    torch.testing.assert_close(both.log_prob(x).exp(), expected, rtol=1e-9, atol=1e-12)
    inside = []
    for w, px in zip(weights, each):
        low, high = ((end - px.loc[0, 0]) / px.scale[0, 0] for end in px._limits()[:, 0])
        above = torch.sigmoid((px.loc[0, 0] - px.margins.lowest[0]) / px.scale[0, 0])
        inside.append(w * (high.sigmoid() - low.sigmoid()) / (above if law.floor is not None else 1.0))
    shares = torch.stack(inside) / sum(inside)
    torch.testing.assert_close(both._log_shares(both._limits()).exp()[..., 0].flatten(), shares, rtol=1e-9, atol=1e-9)
    firsts = torch.stack([px.masses()[1][0] for px in each])
    assert both.masses()[1][0].item() == pytest.approx((shares * firsts).sum().item(), rel=1e-9, abs=1e-12)
    torch.manual_seed(0)
    drawn = both.sample((20_000,))[:, 0]
    assert (drawn.mean() - both.mean[0]).abs() <= 4 * drawn.std() / 20_000**0.5 + 0.01 * both.variance[0].sqrt()


def test_raw_outputs_are_locations_scales_weights_and_atoms() -> None:
    law = law_of(COLUMNS["real, often 1"][0])
    column = ColumnLikelihood("heaped", law=law, scale="network", components=2)
    raw = torch.tensor([[0.5, -0.5, 0.3, -0.3, 1.0, 0.0, 2.0]])
    px = TableLikelihood(nn.Identity(), [column])(raw).base.parts[0][1]
    assert px.loc.flatten().tolist() == raw[0, :2].tolist()
    torch.testing.assert_close(px.scale.flatten(), (positive(raw[0, 2:4]).square() + 1e-6).sqrt())
    torch.testing.assert_close(px.log_mixing.flatten(), raw[0, 4:6].log_softmax(0))
    torch.testing.assert_close(px.log_weights[0, 0, :2], torch.tensor([0.0, 2.0]).log_softmax(0))


def test_several_components_are_refused_where_none_can_honour_them() -> None:
    law = law_of(COLUMNS["real"][0])
    several = ColumnLikelihood("heaped", law=law, scale="network", components=2)
    with pytest.raises(InputError, match="one component"):
        SelfMaskedColumns(nn.Linear(2, several.outputs), [several])
    for wrong in ({"components": 0}, {"components": 2}, {"components": 1.5, "scale": "network"}):
        with pytest.raises(InputError, match="component"):
            ColumnLikelihood("heaped", law=law, **wrong)


# Columns together


def mixed(seed: int = 3) -> list[tuple[str, np.ndarray]]:
    """Columns with different numbers of atoms and knots, with and without a grid."""
    return [(name, COLUMNS[name][0]) for name in np.random.default_rng(seed).permutation(NAMES)]


@pytest.mark.parametrize(("scale", "components"), [("learned", 1), ("network", 1), ("network", 3)])
def test_columns_evaluated_together_equal_separate_columns(scale: str, components: int) -> None:
    """Log-densities, means, draws (the value at a share of the mass) and gradients of one padded head of all columns
    equal those of one head per column, in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        columns = [ColumnLikelihood("heaped", unit=float(v.std()), law=law_of(v), scale=scale, components=components)
                   for _, v in mixed()]  # fmt: skip
        x = torch.tensor(np.stack([np.append(v[:40], [v.min() - 3, v.max() + 5]) for _, v in mixed()], 1))
        together = TableLikelihood(nn.Identity(), columns)
        generator = torch.Generator().manual_seed(0)
        raw = torch.randn(len(x), together.outputs, generator=generator, requires_grad=True)
        for head in together.heads:
            if scale == "learned":
                nn.init.normal_(head.log_scale, generator=generator)
        px, first = together(raw), 0
        cells = px.base.log_prob(x)
        gradient = torch.autograd.grad(cells.sum(), [raw, *together.parameters()], retain_graph=True)
        for j, column in enumerate(columns):
            alone = TableLikelihood(nn.Identity(), [column])
            own = raw[:, first : first + column.outputs].detach().requires_grad_()
            part, place = next((i, index.tolist().index(j)) for i, (index, _, _) in enumerate(together._groups())
                               if j in index)  # fmt: skip
            if scale == "learned":
                with torch.no_grad():
                    alone.heads[0].log_scale.copy_(together.heads[part].log_scale[place])
            qx, batch = alone(own), px.base.parts[part][1]
            single, u = qx.base.parts[0][1], torch.linspace(0.01, 0.99, 50).view(-1, 1, 1, 1)
            found = qx.base.log_prob(x[:, [j]])
            own_gradient = torch.autograd.grad(found.sum(), [own, *alone.parameters()])
            pairs = [(cells[:, j], found[:, 0]), (px.base.mean[:, j], qx.base.mean[:, 0]),
                     (px.base.center[:, j], qx.base.center[:, 0]),
                     (_at_shares(batch, u)[..., place], _at_shares(single, u)[..., 0]),
                     (batch.log_weights[:, place, : 1 + len(column.law.atoms)], single.log_weights[:, 0]),
                     (gradient[0][:, first : first + column.outputs], own_gradient[0])]  # fmt: skip
            if scale == "learned":
                pairs.append((gradient[1 + part][place], own_gradient[1][0]))
            for one, other in pairs:
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
            first += column.outputs
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("components", [1, 3])
def test_some_columns_of_a_table_equal_those_of_the_whole(components: int) -> None:
    """The columns have different numbers of atoms, a grid, separate values, neither, or a floor."""
    laws = [law for values, *_ in COLUMNS.values() if (law := law_of(values)) is not None]
    laws.append(replace(laws[0], floor=laws[0].low - (laws[0].step or 0.0) / 2))
    columns = [ColumnLikelihood("heaped", law=law, scale="network", components=components) for law in laws]
    raw = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 5, sum(c.outputs for c in columns))))
    likelihood, rows = TableLikelihood(nn.Identity(), columns), torch.tensor([1, 4])
    for index, part in likelihood.columns_at(raw).parts:
        for place in range(len(index)):
            one = part.cells(rows, place)
            for own, among in zip(one.masses(), part.masses()):
                torch.testing.assert_close(own, among[:, rows, place : place + 1], rtol=1e-6, atol=1e-9)
            value = part.sample()
            own = one.log_prob(value[:, rows, place : place + 1])
            torch.testing.assert_close(own, part.log_prob(value)[:, rows, place : place + 1], rtol=1e-6, atol=1e-6)


R = np.random.default_rng(7)
GRIDS = {
    "sevens": (3.0 + 7 * R.integers(0, 400, 3_000), 7.0, 3.0),
    "eighths": (R.integers(0, 900, 3_000) / 8, 0.125, 0.0),
    "prices that end in .99": (R.integers(1, 600, 3_000) + 0.99, 1.0, 0.99),
    "days in seconds": (86_400.0 * R.integers(17_000, 19_000, 3_000), 86_400.0, 0.0),
    "shifts of eight hours": (21_600.0 + 28_800 * R.integers(0, 3_000, 3_000), 28_800.0, 21_600.0),
    "Celsius of whole Fahrenheit": ((R.integers(-40, 500, 3_000) - 32) / 1.8, 5 / 9, 0.0),
    "feet in metres": (0.3048 * R.integers(1, 900, 3_000), 0.3048, 0.0),
    "one in two hundred off": (np.append(3.0 + 7 * R.integers(0, 400, 3_000), R.integers(0, 2_800, 15)), 7.0, 3.0),
    "whole": (R.integers(0, 900, 3_000).astype(float), 1.0, 0.0),
    "hundredths": (R.integers(0, 90_000, 3_000) / 100, 0.01, 0.0),
    "nearly all even": (np.append(2.0 * R.integers(0, 900, 3_000), 2.0 * R.integers(0, 900, 100) + 1), 1.0, 0.0),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_of_any_step_and_origin_are_found(name: str) -> None:
    """The step and the origin found are those that generated the values, and draws lie on this grid."""
    values, step, origin = GRIDS[name]
    law = law_of(values)
    assert law is not None and law.step == pytest.approx(step, rel=1e-9) and Law.from_json(law.to_json()) == law
    assert (law.origin - origin) / step == pytest.approx(round((law.origin - origin) / step), abs=1e-6)
    margins = Margins.of([law], [float(values.std())])
    drawn = law.snap(Heaped(*torch.tensor([[0.0], [SCALE]]), torch.zeros(1, 0), margins).sample((2_000,))[:, 0].numpy())
    places = (drawn - origin) / step
    np.testing.assert_allclose(places, np.rint(places), atol=1e-5)
    assert drawn.min() >= values.min() - 1e-9 and drawn.max() <= values.max() + 1e-9


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [3, 6, 12, 40])
def test_no_grid_is_found_by_accident(count: int, seed: int) -> None:
    """A few whole numbers drawn from a thousand get no coarser step, except by chance once in a million columns."""
    r = np.random.default_rng([seed, count])
    values = np.sort(r.choice(np.arange(1.0, 1_000.0), count, replace=False))
    through_zero = grid_of(values, np.ones(count), steps=(10.0, 5.0, 2.5, 2.0, 1.0))
    found = grid_of(values, np.ones(count))
    assert found is not None and through_zero is not None and found.step <= 10 * max(1.0, through_zero.step)
    assert found.origin == 0.0
    assert grid_of(np.sort(r.normal(size=count * 10)), np.ones(count * 10)) is None


ENDINGS = {
    "prices": (
        np.floor(R.gamma(2, 40, 4_000)) + R.choice([0.99, 0.49, 0.0], 4_000, p=[0.6, 0.3, 0.1]), 1.0, [0.0, 0.49, 0.99],
    ),
    "incomes in thousands and hundreds": (
        np.round(R.lognormal(10.9, 0.6, 4_000) / (w := R.choice([1e3, 1e2], 4_000, p=[0.6, 0.4]))) * w, 1_000.0, [0.0],
    ),
    "some in five hundreds": (
        np.round(R.gamma(2, 9e3, 6_000) / (w := R.choice([1, 500], 6_000))) * w, 1_000.0, [0.0, 500.0],
    ),
    "lengths in halves": (
        np.floor(R.gamma(3, 30, 3_000)) + R.choice([0.0, 0.5, 0.3], 3_000, p=[0.7, 0.2, 0.1]), 1.0, [0.0, 0.3, 0.5],
    ),
}  # fmt: skip
PLAIN = {
    "whole": np.round(R.gamma(2, 4_000, 4_000)), "cents": np.round(R.gamma(2, 40, 4_000), 2),
    "falling": np.round(R.exponential(900, 4_000)), "counts": R.poisson(300, 4_000).astype(float),
    "few rows": np.round(R.gamma(2, 4_000, 150)), "real": R.normal(size=4_000),
    "odd": 2 * R.integers(0, 900, 3_000) + 1.0, "narrow": np.round(R.normal(300, 20, 3_000)),
    "around zero": np.round(R.normal(0, 700, 1_000)),
}  # fmt: skip
# name: (values, the period, the endings within it that are possible)
RADIX = {
    "hours and minutes": (100 * R.integers(0, 24, 1_500) + R.integers(0, 60, 1_500), 100, range(60)),
    "of few rows": (100 * R.integers(7, 20, 90) + R.integers(0, 60, 90), 100, range(60)),
    "with seconds": (
        R.integers(0, 24, 900) * 10_000 + R.integers(0, 60, 900) * 100 + R.integers(0, 60, 900), 10_000,
        np.add.outer(100 * np.arange(60), np.arange(60)).ravel(),
    ),
    "year and week": (100 * R.integers(1990, 2024, 800) + R.integers(1, 53, 800), 100, range(1, 53)),
    "year and quarter": (10 * R.integers(1980, 2023, 600) + R.integers(1, 5, 600), 10, range(1, 5)),
    "floor and room": (100 * R.integers(1, 25, 700) + R.integers(1, 13, 700), 100, range(1, 13)),
    "four places, no run": (100 * R.integers(1, 90, 800) + R.choice([0, 25, 26, 80], 800), 100, [0, 25, 26, 80]),
    "feet and inches": (R.integers(3, 60, 900) + R.integers(0, 12, 900) / 100, 1, np.arange(12) / 100),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_last_digits_keep_their_shares(name: str) -> None:
    """Draws of a column that is independent of the codes end as the values do: each frequent ending is within five
    standard errors of its share (false alarm rate below 1e-5 per case); values of the data are unchanged."""
    values, period, endings = ENDINGS[name]
    column = infer_table(pa.table({"x": values})).field("x")
    law = column.law
    assert law is not None and Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    assert " end in " in column.reason
    np.testing.assert_allclose(law.snap(np.unique(values)), np.unique(values), atol=1e-9 * period)
    torch.manual_seed(0)
    margins = Margins.of([law], [float(values.std())])
    none = torch.zeros(1, len(law.atoms))
    drawn = law.snap(Heaped(*torch.tensor([[0.0], [SCALE]]), none, margins).sample((8_000,))[:, 0].numpy())
    for ending in endings:
        seen, share = (np.isclose(v % period, ending, atol=1e-6 * period).mean() for v in (values, drawn))
        assert abs(seen - share) < 5 * np.sqrt(seen * (1 - seen) * (1 / len(values) + 1 / len(drawn))) + 0.005
    assert drawn.min() >= values.min() - 1e-9 and drawn.max() <= values.max() + 1e-9


# name: (numbers ``[n]``, the digits of all of them, and of those that are rounded further)
PARTLY = {
    "cents, 60 % whole": (lambda r, n: r.uniform(0, 100, n), 2, 0),
    "thousandths, 60 % whole": (lambda r, n: r.uniform(0, 100, n), 3, 0),
    "few whole numbers": (lambda r, n: r.normal(0, 12, n), 2, 0), "fewer": (lambda r, n: r.gamma(4, 5, n), 2, 0),
    "large": (lambda r, n: r.lognormal(7, 1, n), 2, 0),
    "whole, 60 % in tens": (lambda r, n: r.uniform(0, 1e5, n), 0, -1),
    "whole, 60 % in hundreds": (lambda r, n: r.uniform(0, 1e5, n), 0, -2),
    "cents, 60 % in tenths": (lambda r, n: r.uniform(0, 90, n), 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("n", [600, 4_000])
@pytest.mark.parametrize("name", PARTLY)
def test_cells_rounded_further_than_others_keep_their_share(name: str, n: int) -> None:
    """For each number of digits, the share of the cells that have no more is that of the values, within five standard
    errors (false alarm rate below 1e-5 per case) and 0.02 for the smoothed margin."""
    draw, fine, coarse = PARTLY[name]
    r = np.random.default_rng(n)
    exact = draw(r, n)
    values = np.where(r.random(n) < 0.6, np.round(exact, coarse), np.round(exact, fine))
    law = infer_table(pa.table({"x": values})).field("x").law
    assert law is not None
    np.testing.assert_allclose(law.snap(np.unique(values)), np.unique(values), atol=1e-9)
    torch.manual_seed(0)
    margins, none = Margins.of([law], [float(values.std())]), torch.zeros(1, len(law.atoms))
    drawn = law.snap(Heaped(*torch.tensor([[0.0], [SCALE]]), none, margins).sample((8_000,))[:, 0].numpy())
    for digits in range(-3, fine + 1):
        seen, share = (float((np.abs(x - np.round(x, digits)) < 1e-6).mean()) for x in (values, drawn))
        error = np.sqrt(seen * (1 - seen) * (1 / n + 1 / len(drawn)))
        assert abs(seen - share) < 5 * error + 0.02, (digits, seen, share)


# name: (numbers ``[n]`` on no grid, {digits: the share of the cells that are rounded to this number of digits})
NO_GRID = {
    "half whole": (lambda r, n: r.normal(1000, 100, n), {0: 0.5}),
    "a tenth whole": (lambda r, n: r.uniform(-400, 400, n), {0: 0.1}),
    "nine tenths in cents": (lambda r, n: r.gamma(2, 40, n), {2: 0.9}),
    "tens and whole": (lambda r, n: r.normal(500, 200, n), {-1: 0.3, 0: 0.3}),
    "hundreds, whole and tenths": (lambda r, n: r.uniform(0, 9000, n), {-2: 0.2, 0: 0.3, 1: 0.3}),
    "a long tail": (lambda r, n: r.lognormal(7, 1.2, n), {0: 0.5}),
    "small": (lambda r, n: r.normal(0, 1e-3, n), {5: 0.4}),
    "none": (lambda r, n: r.normal(0, 100, n), {}),
}  # fmt: skip


@pytest.mark.parametrize("n", [1_500, 6_000])
@pytest.mark.parametrize("name", NO_GRID)
def test_rounded_cells_among_numbers_on_no_grid_keep_their_share(name: str, n: int) -> None:
    """As above; the smaller digits include the larger ones. Rounded values stay as they are."""
    draw, rounded = NO_GRID[name]
    r = np.random.default_rng(n)
    values, kind = draw(r, n), r.random(n)
    for digits, share in rounded.items():
        values, kind = np.where((kind >= 0) & (kind < share), np.round(values, digits), values), kind - share
    law = infer_table(pa.table({"x": values})).field("x").law
    assert law is not None and Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    assert (law.rounded == ()) == (rounded == {})
    whole = np.unique(np.round(values, max(rounded, default=0)))
    whole = whole[(whole >= law.low) & (whole <= law.high)]
    assert not rounded or np.allclose(law.snap(whole), whole, rtol=1e-12)
    torch.manual_seed(0)
    margins = Margins.of([law], [float(values.std())])
    often = torch.tensor([[(values == atom).mean() for atom in law.atoms]]).view(1, len(law.atoms))
    atoms = (often / (1 - often.sum())).log()
    drawn = law.snap(Heaped(*torch.tensor([[0.0], [SCALE]]), atoms, margins).sample((8_000,))[:, 0].numpy())
    for digits in range(-3, 6):
        seen, share = (float((x == np.round(x, digits)).mean()) for x in (values, drawn))
        error = np.sqrt(seen * (1 - seen) * (1 / n + 1 / len(drawn)))
        assert abs(seen - share) < 5 * error + 0.02, (digits, seen, share)
    assert drawn.min() >= values.min() and drawn.max() <= values.max()


@pytest.mark.parametrize("name", PLAIN)
def test_last_digits_that_occur_equally_often_are_left_alone(name: str) -> None:
    """By chance, a distance of 2 / sqrt(n) from even shares is exceeded once in 1,500 columns; the seed is fixed."""
    law = infer_table(pa.table({"x": PLAIN[name]})).field("x").law
    assert law is None or law.calendar is None


@pytest.mark.parametrize("name", RADIX)
def test_last_digits_that_cannot_occur_are_never_drawn(name: str) -> None:
    """For digits to a base other than ten in a column that is independent of the codes, draws have only possible
    endings, have the spread of the values (false alarm rate below 1e-3 per case, with an allowance of 2 % for the shape
    of the margin), and reach both ends."""
    values, period, endings = RADIX[name]
    values = values.astype(float)
    law = infer_table(pa.table({"x": values})).field("x").law
    assert law is not None and Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    np.testing.assert_allclose(law.snap(np.unique(values)), np.unique(values), atol=1e-9 * period)
    torch.manual_seed(0)
    none = torch.zeros(1, len(law.atoms))
    margins = Margins.of([law], [float(values.std())])
    drawn = law.snap(Heaped(*torch.tensor([[0.0], [SCALE]]), none, margins).sample((8_000,))[:, 0].numpy())
    scaled = np.rint((drawn % period) / law.step) if law.step else drawn % period
    assert np.isin(scaled, np.rint(np.array(endings) / (law.step or 1.0))).all()
    far = ks_2samp(values, drawn).statistic
    assert far < 1.95 * np.sqrt(1 / len(values) + 1 / len(drawn)) + 0.02
    whole = np.unique(values // period)
    for end in whole[[0, -1]]:
        seen, found = (v[v // period == end] % period for v in (values, drawn))
        error = seen.std() * np.sqrt(1 / len(seen) + 1 / len(found))
        assert abs(seen.mean() - found.mean()) < 4 * error + 0.02 * period
    assert law.low == values.min() and law.high == values.max()


FINE = {  # columns of which float32 would move single values to other places of their grid
    "multiples": lambda r, n: (1959.2668 * r.binomial(30, 0.4, n)).round(4) + (r.random(n) < 0.4)
    * r.uniform(0, 9e3, n).round(4),
    "endings": lambda r, n: r.integers(1e6, 9e6, n) + r.choice([0.99, 0.5, 0.0, 0.25], n, p=[0.4, 0.2, 0.2, 0.2]),
    "whole": lambda r, n: np.where(r.random(n) < 0.3, 41_000_001, r.integers(3e7, 6e7, n)),
    "rounded": lambda r, n: np.where(r.random(n) < 0.5, r.integers(1e6, 9e6, n), r.uniform(1e6, 9e6, n).round(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_values_that_float32_cannot_tell_from_their_neighbours_keep_their_shares(name: str) -> None:
    """Shares of frequent values and of endings. 4.5 standard errors of the difference of two shares are exceeded by
    chance in 1 of 150,000 comparisons."""
    random, n = np.random.default_rng(5), 3000
    data = pd.DataFrame({"x": FINE[name](random, n), "y": random.normal(size=n)}).round(4)
    samples = latens.VAE(2, epochs=8, random_state=0).fit(data).sample(20_000)
    own, made = (each["x"].to_numpy(float) for each in (data, samples))
    for read in (lambda x: x, lambda x: (x % 1).round(4)):
        values, counts = np.unique(read(own), return_counts=True)
        for value in values[counts > 0.02 * n]:
            share = (read(own) == value).mean()
            error = (share * (1 - share) * (1 / n + 1 / len(made))) ** 0.5
            assert (read(made) == value).mean() == pytest.approx(share, abs=4.5 * error + 0.05 * share)
