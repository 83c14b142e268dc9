"""Rules between columns: they are found if they are not chance, kept in the density (normalised over allowed rows) and
in every generated row, and named for rows that break them."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from commanding import done, figures, refused

import latens
from latens import conditionals
from latens.data.rows import Asked, rows_like, rows_of
from latens.data.sources import read
from latens.data.streams import survey as streams
from latens.data.streams.samples import held_out_rows
from latens.data.streams.sources import open_stream
from latens.data.streams.survey import survey
from latens.data.tables.frames import as_table
from latens.errors import InputError
from latens.recipes.choices.tables import likelihood_of
from latens.schema import Table
from latens.schema.rules import Confined

N = 400
LEVELS = list("abcdefgh")
LAST = pd.Timestamp("2261-12-31")


def frame(n: int = N, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 8, n)
    start = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3000, n), unit="D")
    end = start + pd.to_timedelta(rng.poisson(5, n), unit="D")
    seen = pd.Series(end + pd.to_timedelta(rng.integers(0, 90, n), unit="D"))
    net = rng.lognormal(3, 1, n).round(2)
    tax = rng.lognormal(1, 1, n).round(2)
    count, price = rng.integers(1, 40, n), rng.lognormal(2, 0.5, n).round(2)
    drug, celsius = rng.choice(["none", "A", "B"], n), rng.normal(20, 5, n).round(1)
    return pd.DataFrame({
        "education": np.array(LEVELS)[level], "num": level + 1, "start": start, "end": end,
        "closed": seen.mask(rng.random(n) < 0.2, LAST), "net": net, "tax": tax, "total": (net + tax).round(2),
        "count": count, "price": price, "amount": (count * price).round(2), "drug": drug,
        "dose": np.where(drug == "none", np.nan, rng.normal(5, 1, n).round(2)), "celsius": celsius,
        "fahrenheit": (1.8 * celsius + 32).round(2), "days": (end - start).days,
    })  # fmt: skip


RULES = {  # rule as text: how many rows of a frame break it
    "education -> num": lambda t: (t.education.map(dict(zip(LEVELS, range(1, 9)))) != t.num).sum(),
    "end <= closed": lambda t: (t.end > t.closed).sum(),
    "end = start + days": lambda t: ((t.end - t.start).dt.days != t.days).sum(),
    "total = net + tax": lambda t: ((t.total - t.net - t.tax).abs() > 1e-6).sum(),
    "amount = count * price": lambda t: ((t.amount - t["count"] * t.price).abs() > 0.005001).sum(),
    "fahrenheit = 1.8 * celsius + 32": lambda t: ((t.fahrenheit - 1.8 * t.celsius - 32).abs() > 1e-6).sum(),
    "dose missing where drug = none": lambda t: (t.dose.isna() != (t.drug == "none")).sum(),
}
ORDER = {"start <= end": lambda t: (t.start > t.end).sum()}


def schema_of(data: pd.DataFrame, *rules: str, **columns: str) -> Table:
    found = rows_of(as_table(data)[0], None, Asked(columns, rules=rules)).schema
    assert isinstance(found, Table)
    return found


@pytest.fixture(scope="module")
def vae():
    return latens.VAE(2, epochs=2, random_state=0, nll_draws=5).fit(frame())


def test_rules_are_found_and_are_not_chance():
    found = {rule.text: rule.reason for rule in schema_of(frame()).rules}
    assert set(found) == set(RULES) and all("by accident 1 in 10^" in reason for reason in found.values())
    described = schema_of(frame()).describe()
    assert all(text in described for text in RULES)
    assert not schema_of(frame(), "none").rules and not schema_of(frame(60)).rules


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_is_found_among_independent_columns(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "a": rng.choice(list("uvw"), N), "b": rng.choice([0, 1], N, p=[0.98, 0.02]), "low": rng.uniform(0, 1, N),
        "high": rng.uniform(5, 9, N), "n": rng.poisson(4, N), "id": rng.permutation(N) // 2,
        "gap": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
    })  # fmt: skip
    assert not schema_of(table).rules


@pytest.mark.parametrize("mean", [45, 47])
def test_an_order_that_rarely_matters_does_not_remove_the_heaps_of_a_column(mean):
    """A share that is at least 0 and the score that it comes from are in order only because of their scales."""
    score = np.random.default_rng(0).normal(size=4000)
    schema = schema_of(pd.DataFrame({"share": np.maximum(np.round(mean + 30 * score, 1), 0), "score": score}))
    assert [(type(rule), rule.target) for rule in schema.rules] == [(Confined, "score")]
    assert {field.name: field for field in schema.modelled} == schema.outer_by_name
    assert schema.field("share").law.atoms == (0,)


@pytest.mark.parametrize("text", [*RULES, *ORDER])
def test_samples_keep_every_rule_and_the_ranges(vae, text):
    data, drawn = frame(), vae.sample(5000, random_state=1)
    assert (RULES | ORDER)[text](drawn) == 0
    for name in ("num", "start", "end", "net", "total", "count", "amount", "fahrenheit"):
        assert data[name].min() <= drawn[name].min() and drawn[name].max() <= data[name].max(), name
    assert list(drawn.columns) == list(data.columns) and (drawn.dtypes == data.dtypes).all()
    assert 0.1 < (drawn.closed == LAST).mean() < 0.3
    assert drawn.closed[drawn.closed != LAST].max() <= data.closed[data.closed != LAST].max() + pd.Timedelta(days=90)


def test_rows_of_any_numbers_keep_every_rule():
    schema = schema_of(frame())
    rng = np.random.default_rng(0)
    low, high = (np.array([getattr(f, end) if f.levels is None else code for f in schema.modelled], dtype=float)
                 for end, code in (("low", 0), ("high", 1)))  # fmt: skip
    x = low + (high - low) * rng.uniform(-0.2, 1.2, (100_000, schema.columns))
    x[:, schema.names.index("education")] = rng.integers(0, 8, len(x))
    table = schema.to_user(x, gaps=lambda u: np.where(rng.random(u.shape) < 0, np.nan, u)).to_pandas()
    assert {text: broken(table) for text, broken in (RULES | ORDER).items()} == dict.fromkeys(RULES | ORDER, 0)


def test_rows_are_restored_as_they_are():
    data = frame()
    schema, (table, back) = schema_of(data), as_table(data)
    read = Table.from_json(json.loads(json.dumps(schema.to_json())))
    assert read == schema
    again = back(schema.to_user(read.to_model(table)))
    pd.testing.assert_frame_equal(again, data, rtol=1e-6)
    old = schema_of(data, "none").to_json()
    del old["rules"]
    assert Table.from_json(old) == schema_of(data, "none")


@pytest.mark.parametrize("sign", ["<=", "<"])
@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0])
def test_the_density_is_normalised_over_the_allowed_rows(sign, spread):
    """The sum is over every pair of whole numbers and every level with the value it determines; other rows have no
    mass."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 30, N)
    level = rng.integers(0, 3, N)
    data = pd.DataFrame({"a": a, "b": a + rng.integers(sign == "<", 12, N), "level": np.array(list("uvw"))[level],
                         "code": level * 10})  # fmt: skip
    schema = schema_of(data, f"a {sign} b", a="heaped", b="heaped")
    assert schema.names == ("a", "b", "level")
    heads = [likelihood_of(column) for column in schema.modelled]
    raw = torch.from_numpy(rng.normal(size=sum(head.outputs for head in heads)) * spread)
    part = conditionals.TableLikelihood(torch.nn.Identity(), heads).double()
    wide = np.arange(-150, 450)
    pairs = pd.DataFrame([(i, j) for i in wide for j in wide if (i < j if sign == "<" else i <= j)], columns=["a", "b"])
    pairs = pairs[(pairs.a > -150) & (pairs.a < 190) & (pairs.b - pairs.a < 250)]
    total = 0.0
    for word, code in zip("uvw", (0, 10, 20)):
        rows = as_table(pairs.assign(level=word, code=code))[0]
        x = torch.from_numpy(schema.to_model(rows)).double()
        assert not x.isnan().any()
        total += part(raw.expand(1, -1)).log_prob(x).exp().sum().item()
    assert total == pytest.approx(1.0, abs=1e-5), total
    floor = schema.modelled[1].law.floor
    assert floor == (0.5 if sign == "<" else -0.5)
    below = torch.tensor([[3.0, floor - 0.5, 0.0]], dtype=torch.float64)
    assert part(raw.expand(1, -1)).log_prob(below).item() == -math.inf


CHANGES = {  # column, value, the column named
    "num": 3, "total": 1.0, "amount": 1.0, "fahrenheit": 60.0, "closed": pd.Timestamp("2014-01-01"),
    "end": pd.Timestamp("2016-01-01"),
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
def test_a_row_that_breaks_a_rule_is_named_and_has_a_stated_cost(vae, column):
    usual = frame()[frame().num != 3].head(3).reset_index(drop=True)
    odd = usual.copy()
    odd.loc[1, column] = CHANGES[column]
    with pytest.warns(UserWarning, match=f"column '{column}': 1 cell with values that break a rule"):
        found = vae.score_table(odd)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        was = vae.score_table(usual)
    assert "which breaks the rule" in found.reason[1] and found.reason.isna().tolist() == [True, False, True]
    if column != "closed":  # there, the row's density leaves out the bounded column
        assert was.log_px[1] - found.log_px[1] == pytest.approx(math.log(N * 0.9 + 2), abs=1e-4)
    np.testing.assert_allclose(found.log_px[[0, 2]], was.log_px[[0, 2]], atol=1e-4)


def test_filled_cells_keep_every_rule_and_computed_cells_are_exact(vae):
    data = frame(200, seed=1)
    rng, holes = np.random.default_rng(0), frame(200, seed=1)
    for name in holes.columns.difference(["dose", "drug"]):
        holes[name] = holes[name].mask(rng.random(200) < 0.25)
    filled = vae.impute(holes, k=5)
    checked = {text: broken(filled) for text, broken in (RULES | ORDER).items() if "missing" not in text}
    inexact = holes.amount.notna() & holes["count"].isna() & holes.price.isna()  # cents times a whole number
    assert checked.pop("amount = count * price") <= inexact.sum()
    assert checked == dict.fromkeys(checked, 0)
    observed = holes.notna() & (holes.columns != "dose")
    assert (filled.where(observed) == holes.where(observed)).where(observed, True).all().all()
    for told, others in (("net", ["tax", "total"]), ("days", ["start", "end"]), ("celsius", ["fahrenheit"]),
                         ("education", ["num"]), ("num", ["education"]), ("price", ["count", "amount"])):  # fmt: skip
        rows = holes[told].isna() & holes[others].notna().all(axis=1)
        close = (filled[told] == data[told]) if told in ("education",) else (filled[told] - data[told]).abs() < 0.02
        assert rows.any() and close[rows].mean() > 0.9, told


def test_reconstructions_and_means_keep_rules(vae):
    for made in (vae.reconstruct(frame()), vae.sample(50, mean=True), vae.inverse_transform(np.zeros((3, 2)))):
        held = {text: broken(made) for text, broken in (RULES | ORDER).items()
                if "missing" not in text and "amount" not in text and "days" not in text}  # fmt: skip
        assert held == dict.fromkeys(held, 0)


REFUSED = [
    ("strat <= end", "there is no column 'strat': did you mean 'start'?"),
    ("start <= ", "cannot be read"), ("start", "cannot be read"), ("start <= net", "the same kind of values"),
    ("tax <= net", "row "), ("drug -> num", "row "), ("total = net * tax", "row "),
    ("drug <= education", "only numbers or dates have an order"),
    ("dose missing where drug = C", "no level 'C'"), ("net missing where drug = none", "row "),
    ("net = net + tax", "does not compute a number"), ("total = net + ", "cannot be read"),
    ("net + tax = total + days", "must be a single column"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_impossible_rules_are_refused_in_a_sentence(text, words):
    with pytest.raises(latens.InputError, match=r"--rule") as found:
        schema_of(frame(), text)
    assert words in str(found.value) and "\n" not in str(found.value)


def test_the_first_row_that_breaks_a_declared_rule_is_named():
    data = frame()
    data.loc[[17, 30], "end"] = data.start[[17, 30]] - pd.Timedelta(days=2)
    with pytest.raises(latens.InputError, match=r"row 17 .*, which breaks --rule 'start <= end' \(2 rows"):
        schema_of(data, "none", "start <= end")


@pytest.mark.parametrize("text", ["start <= end <= closed", "closed >= end >= start", "'start' <= \"end\""])
def test_declared_orders_are_kept_in_frames_of_any_library(text):
    pl = pytest.importorskip("polars")
    data = frame()[["start", "end", "closed", "drug"]]
    vae = latens.VAE(2, epochs=1, random_state=0, rules=["none", text]).fit(pl.from_pandas(data))
    drawn = vae.sample(3000, random_state=0).to_pandas()
    assert (drawn.start <= drawn.end).all() and ("closed" not in text or (drawn.end <= drawn.closed).all())


def test_the_command_line_keeps_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = frame()[["start", "end", "net", "tax", "total", "drug"]]
    data.to_csv("t.csv", index=False)
    seen = figures("schema", "t.csv")["schema"]["rules"]
    assert {rule["rule"] for rule in seen} == {"formula", "order"}
    assert not figures("schema", "t.csv", "--rule", "none")["schema"]["rules"]
    done("fit", "t.csv", "--out", "run", "--epochs", "1", "--latent-dim", "2")
    done("sample", "run", "-n", "2000", "--out", "s.csv")
    drawn = pd.read_csv("s.csv", parse_dates=["start", "end"])
    assert (drawn.start <= drawn.end).all() and RULES["total = net + tax"](drawn) == 0
    refused("fit", "t.csv", "--out", "no", "--rule", "tax <= net")


UNSEEN = np.setdiff1d(np.arange(3000), held_out_rows(3000, 1500, streams._SAMPLE))


def _met(n: int, rare: int) -> pd.DataFrame:
    """Sex and title, of which two pairs never occur, except for ``rare`` rows with one of them."""
    rng = np.random.default_rng(0)
    sex = rng.choice(["f", "m"], n)
    title = np.where(sex == "f", rng.choice(["Mrs", "Ms", "Dr"], n), rng.choice(["Mr", "Dr"], n))
    title[UNSEEN[sex[UNSEEN] == "m"][:rare]] = "Ms"
    return pd.DataFrame({"sex": sex, "title": title, "x": rng.normal(size=n)})


def _but_for(**cells: object) -> pd.DataFrame:
    """A frame of 3,000 rows, one of which has other cells and is not in the sample."""
    data = frame(3000)
    data.loc[UNSEEN[0], list(cells)] = list(cells.values())
    return data


IN_STREAMS = {  # tables whose rules a sample of half of the rows does not show
    "all hold": frame(3000),
    "a function with a rare source": _but_for(education="z", num=17),
    "a function with a source that is missing once": _but_for(education=None),
    "a function with a row that breaks it": _but_for(num=3, education="a"),
    "an order with a row that breaks it": _but_for(start=pd.Timestamp("2024-01-01"), days=-900),
    "a difference beyond all others": _but_for(closed=pd.Timestamp("2030-01-01")),
    "a sum with a row that breaks it": _but_for(total=1.0),
    "a product with a row that breaks it": _but_for(amount=1.0),
    "a unit with a row that breaks it": _but_for(fahrenheit=99.0),
    "a gap too few": _but_for(drug="none", dose=5.0),
    "a gap too many": _but_for(drug="A", dose=np.nan),
    "combinations with rows that break one": _met(3000, rare=3),
    "combinations that hold": _met(3000, rare=0),
    "nothing to find": pd.DataFrame({"a": np.random.default_rng(0).normal(size=3000), "b": np.arange(3000) % 7.0}),
}


def _told(schema: Table) -> list[object]:
    """The rules that rows break, without the number of rows."""
    return [(rule.text, getattr(rule, "keys", None), getattr(rule, "values", None), _limits(rule),
             np.isnan(rule.rows).tolist() if hasattr(rule, "rows") else None) for rule in schema.rules]  # fmt: skip


def _limits(rule: object) -> tuple[float | None, float | None] | None:
    return (rule.difference.low, rule.difference.high) if hasattr(rule, "difference") else None


@pytest.mark.parametrize("name", IN_STREAMS)
def test_streams_have_the_rules_of_the_same_rows_in_memory(name, tmp_path, monkeypatch):
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", 1500)
    path = tmp_path / "t.parquet"
    IN_STREAMS[name].to_parquet(path, row_group_size=700)
    whole = rows_of(read(str(path)).x).schema
    assert _told(survey(open_stream(str(path))).schema) == _told(whole)
    assert bool(whole.rules) == (name != "nothing to find")


def test_streams_of_an_array_with_gaps_have_rules(tmp_path):
    x = np.random.default_rng(0).normal(size=(500, 3)).round(2)
    x = np.column_stack([x, (x[:, 0] + x[:, 1]).round(2)])
    x[3, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert [rule.text for rule in survey(open_stream(str(tmp_path / "x.npy"))).schema.rules] == [
        "column_4 = column_1 + column_2"
    ]


def test_streams_take_rules_that_are_declared(tmp_path, monkeypatch):
    monkeypatch.setattr("latens.data.streams.survey.SAMPLE", 1500)
    frame(3000).to_parquet(tmp_path / "t.parquet", row_group_size=700)
    stream = open_stream(str(tmp_path / "t.parquet"))
    assert not survey(stream, Asked(rules=("none",))).schema.rules
    asked = Asked(rules=("none", "start <= end", "total = net + tax"))
    assert [rule.text for rule in survey(stream, asked).schema.rules] == ["start <= end", "total = net + tax"]
    _but_for(total=1.0).to_parquet(tmp_path / "t.parquet", row_group_size=700)
    with pytest.raises(InputError, match=r"a sample of .*'total' is 1.0, which breaks --rule 'total = net \+ tax'"):
        survey(open_stream(str(tmp_path / "t.parquet")), asked)


def test_rows_that_break_a_rule_are_reported_by_commands_that_do_not_score(vae):
    data = frame(20)
    data.loc[3, "closed"] = pd.Timestamp("2014-01-01")
    rows = rows_like(as_table(data)[0], vae.schema_)
    assert rows.warnings == ["rule end <= closed: 1 row breaks it; the cell that it bounds counts as missing there"]
    assert rows.inside[3].isnan().any()


def _ordered(low: np.ndarray, apart: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"low": low, "high": low + apart, **more})


def _siblings() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    size, start = rng.normal(50, 15, N), pd.Series(pd.date_range("2020-01-01", periods=N, freq="D"))
    open_ = rng.random(N) < 0.4
    end = start + pd.to_timedelta(rng.integers(0, 200, N), unit="D")
    times = pd.to_datetime(rng.integers(21_600, 43_200, N), unit="s")
    later = times + pd.to_timedelta(rng.integers(0, 20_000, N), unit="s")
    return {
        "floats": _ordered(size, rng.exponential(5, N)),
        "float32": _ordered(size.astype("float32"), rng.exponential(5, N).astype("float32")),
        "counts": _ordered(rng.poisson(20, N), rng.poisson(8, N)),
        "levels": _ordered(rng.integers(1, 4, N), rng.integers(0, 4, N)),
        "dates, open": pd.DataFrame({"low": start, "status": np.where(open_, "open", "shut"), "high": end.mask(open_)}),
        "clocks": pd.DataFrame({"low": times.time, "high": later.time}),
    }  # fmt: skip


@pytest.mark.parametrize("name", _siblings())
def test_orders_of_every_kind_of_column_are_found_and_kept(name):
    data = _siblings()[name]
    table, back = as_table(data)
    schema = rows_of(table).schema
    assert isinstance(schema, Table) and "low <= high" in [rule.text for rule in schema.rules]
    again = back(schema.to_user(schema.to_model(table)))
    assert (again.low == data.low).mean() == pytest.approx(1.0, abs=0.0 if name != "floats" else 1.0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, schema.columns)) * 50 + np.nanmean(schema.to_model(table), 0)
    made = back(schema.to_user(x))
    assert (made.low <= made.high).all() and made.high.max() <= max(data.high.dropna().max(), made.low.max())


def test_a_sum_is_found_in_spite_of_gaps_and_fills_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    x[:, 2] = x[:, 0] + x[:, 1]
    whole = x.copy()
    x[np.arange(N), rng.integers(0, 3, N)] = np.where(rng.random(N) < 0.2, np.nan, x[np.arange(N), 0] * 0 + 1)
    x = np.where(np.isnan(x), np.nan, whole)
    vae = latens.VAE(2, epochs=1, random_state=0).fit(x)
    assert [rule.text for rule in vae.schema_.rules] == ["column_3 = column_1 + column_2"]
    np.testing.assert_allclose(vae.impute(x, k=5), whole, atol=1e-5)


def test_a_total_that_leaves_a_missing_count_below_0_breaks_its_sum():
    """b = 10 and total = 3: no count a is left, so a stays missing, and the row breaks the rule."""
    rng = np.random.default_rng(0)
    a, b = rng.negative_binomial(1, 0.01, (2, N))
    vae = latens.VAE(2, epochs=1, random_state=0).fit(pd.DataFrame({"a": a, "b": b, "total": a + b}))
    assert [(f.name, f.kind) for f in vae.schema_.modelled] == [("a", "count"), ("b", "count")]
    rows = pd.DataFrame({"a": [5.0, np.nan, np.nan], "b": [10.0, 10.0, 10.0], "total": [15.0, 15.0, 3.0]})
    with pytest.warns(UserWarning) as warned:
        found = vae.score_table(rows)
        filled = vae.impute(rows, k=5)
    assert not [each for each in warned if issubclass(each.category, RuntimeWarning)]
    assert "total is 3 and a is missing and b is 10, which breaks the rule total = a + b" in found.reason[2]
    assert found.reason.isna()[:2].all() and np.isfinite(found.log_px).all()
    assert filled.a[1] == 5 and filled.a[2] >= 0
