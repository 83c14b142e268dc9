"""Levels that never occur together: found if that is not chance, and then impossible in the density and in outputs."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from commanding import done, refused
from torch import nn

import latens
from latens.conditionals import Allowed, ColumnLikelihood, ColumnsInOrder, TableLikelihood
from latens.data.rows import Asked, rows_of
from latens.data.tables.frames import as_table
from latens.networks import Seen
from latens.schema import Table
from latens.schema.rules import Combinations, settle_levels

COLUMNS = [
    ColumnLikelihood("categorical", levels=3), ColumnLikelihood("bernoulli"), ColumnLikelihood("ordinal", levels=4),
    ColumnLikelihood("categorical", levels=4),
]  # fmt: skip
VALUES = torch.tensor(list(itertools.product(range(3), range(2), range(4), range(4))), dtype=torch.float64)


def people(n: int = 3000, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    sex = r.choice(["f", "m"], n)
    title = np.where(sex == "m", r.choice(["Mr", "Dr"], n), r.choice(["Ms", "Mrs", "Dr"], n))
    return pd.DataFrame({
        "sex": sex, "age": r.integers(18, 80, n), "title": title,
        "pregnant": (sex == "f") & (r.random(n) < 0.2),
        "grade": np.where(title == "Dr", r.choice(["A", "B"], n), r.choice(["B", "C"], n)),
    })  # fmt: skip


def schema_of(data: pd.DataFrame, *rules: str) -> Table:
    return rows_of(as_table(data)[0], None, Asked(rules=rules)).schema


def impossible(t: pd.DataFrame) -> int:
    """The rows with levels that never occur together."""
    pregnant = t["pregnant"].astype(str).str.lower() == "true"
    return int((
        (t["sex"].eq("m") & t["title"].isin(["Ms", "Mrs"])) | (t["sex"].eq("f") & t["title"].eq("Mr"))
        | (t["sex"].eq("m") & pregnant) | (pregnant & t["title"].eq("Mr"))
        | (t["title"].eq("Dr") & t["grade"].eq("C")) | (t["title"].isin(["Mr", "Ms", "Mrs"]) & t["grade"].eq("A"))
    ).sum())  # fmt: skip


@pytest.fixture(scope="module")
def vae():
    return latens.VAE(2, epochs=2, random_state=0).fit(people())


# The density


def allowed(seed: int) -> list[Allowed]:
    """Random allowed combinations: of the last column with the first two, and of the third with the first. One level of
    each target is always allowed."""
    torch.manual_seed(seed)
    last, third = torch.rand(4, 3, 4) < 0.6, torch.rand(4, 4) < 0.6
    last[..., 0], third[:, 2] = True, True
    return [Allowed(3, (0, 1), last), Allowed(2, (0,), third)]


def likelihood(kind: str, seed: int) -> TableLikelihood:
    """A likelihood of four columns with few values, with two codes and random weights."""
    bound, outputs = allowed(seed), sum(column.outputs for column in COLUMNS)
    if kind == "codes":
        return TableLikelihood(nn.Linear(2, outputs).double(), COLUMNS, allowed=bound)
    seen = [Seen(3), Seen(2), Seen(4), Seen(4)]
    part = ColumnsInOrder(nn.Linear(2, outputs), COLUMNS, seen, hidden=6, allowed=bound).double()
    nn.init.normal_(part.further)
    return part


def possible(bound: list[Allowed]) -> torch.Tensor:
    return torch.stack([each.levels[tuple(VALUES[:, j].long() for j in (*each.sources, each.target))]
                        for each in bound]).all(0)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["codes", "autoregressive"])
def test_the_density_is_normalised_over_allowed_combinations(kind: str, seed: int) -> None:
    part, z = likelihood(kind, seed), torch.randn(2, dtype=torch.float64).expand(len(VALUES), 2)
    p, ok = part(z).log_prob(VALUES).exp().detach(), possible(allowed(seed))
    assert not ok.all() and p[ok].sum().item() == pytest.approx(1, abs=1e-12)
    assert (p[~ok] == 0).all() and (p[ok] > 0).all()


@pytest.mark.parametrize("kind", ["codes", "autoregressive"])
def test_the_density_is_that_of_the_columns_divided_by_the_allowed_mass(kind: str) -> None:
    """Compare with the unrestricted density: p(k) / sum of p over the allowed levels, column by column."""
    part, z = likelihood(kind, 0), torch.randn(2, dtype=torch.float64).expand(len(VALUES), 2)
    bound = part(z).cells(VALUES).exp()
    part.allowed, rules = {}, {each.target: each for each in allowed(0)}
    free = part(z).cells(VALUES).exp()
    for j, rule in rules.items():
        others = [i for i in range(4) if i != j]
        for row in range(len(VALUES)):
            alike = (VALUES[:, others] == VALUES[row, others]).all(1)
            levels = rule.levels[tuple(VALUES[row, i].long() for i in rule.sources)]
            total = free[alike, j][levels[VALUES[alike, j].long()]].sum()
            expected = free[row, j] / total * levels[VALUES[row, j].long()]
            assert bound[row, j].item() == pytest.approx(expected.item(), abs=1e-12)
    rest = [j for j in range(4) if j not in rules]
    assert torch.equal(bound[:, rest], free[:, rest])


@pytest.mark.parametrize("kind", ["codes", "autoregressive"])
def test_draws_follow_the_density_and_none_is_impossible(kind: str) -> None:
    """Each frequency in 20,000 draws is within 4.5 standard errors (false alarm rate below 0.1 %)."""
    part, z, n = likelihood(kind, 1), torch.randn(2, dtype=torch.float64), 20_000
    p = part(z.expand(len(VALUES), 2)).log_prob(VALUES).exp().detach()
    torch.manual_seed(1)
    places = (part(z.expand(n, 2)).sample().unsqueeze(1) == VALUES).all(-1)
    frequency = places.double().mean(0)
    assert (frequency[p == 0] == 0).all()
    assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / n).sqrt() + 1e-12).all()


def test_a_missing_source_allows_what_any_level_of_it_allows_and_gradients_are_finite() -> None:
    rule = Combinations("b", ("a",), "", (5, None, 3, 4), (2, 2))
    levels = torch.from_numpy(~np.isnan(rule.rows[:, :-1]))
    columns = [ColumnLikelihood("bernoulli"), ColumnLikelihood("bernoulli")]
    part = TableLikelihood(nn.Linear(1, 2), columns, allowed=[Allowed(1, (0,), levels)])
    x = torch.tensor([[torch.nan, 1.0], [0.0, torch.nan], [0.0, 0.0], [1.0, 1.0]])
    cells = part(torch.zeros(4, 1)).cells(x)
    free = TableLikelihood(part.network, columns)(torch.zeros(4, 1)).cells(x)
    assert cells[2, 1] == 0 and cells[1, 1] == 0
    assert torch.equal(cells[:, 0], free[:, 0]) and torch.allclose(cells[[0, 3], 1], free[[0, 3], 1])
    assert all(g.isfinite().all() for g in torch.autograd.grad(cells.sum(), list(part.parameters())))


def test_a_source_after_its_column_is_refused() -> None:
    with pytest.raises(ValueError, match="must come before"):
        TableLikelihood(nn.Linear(1, 4), [COLUMNS[0], COLUMNS[1]], allowed=[Allowed(0, (1,), torch.ones(3, 3).bool())])


# Rows


def test_combinations_are_found_with_their_chance_and_stored(vae) -> None:
    rules = [rule for rule in vae.schema_.rules if isinstance(rule, Combinations)]
    assert {rule.target for rule in rules} == {"title", "pregnant", "grade"}
    assert "by accident 1 in 10^" in rules[0].reason and "combinations in none of 3,000 rows" in rules[0].reason
    assert Table.from_json(json.loads(json.dumps(vae.schema_.to_json()))) == vae.schema_


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_is_found_among_independent_or_rare_levels(seed: int) -> None:
    r, n = np.random.default_rng(seed), 2000
    levels = [f"l{k}" for k in range(30)]
    data = pd.DataFrame({name: r.choice(levels, n, p=r.dirichlet(np.ones(30))) for name in "abcd"})
    assert not schema_of(data).rules


@pytest.mark.parametrize("dependence", ["codes", "autoregressive"])
@pytest.mark.parametrize("rules", [[], ["none", "sex & title", "sex & pregnant", "title & grade", "title & pregnant"],
                                   ["none", "sex & title & pregnant & grade"]])  # fmt: skip
def test_samples_imputed_cells_and_reconstructions_are_possible(dependence: str, rules: list[str]) -> None:
    data = people()
    vae = latens.VAE(2, recipe=latens.Recipe("vae", dependence=dependence), epochs=1, rules=rules, random_state=0)
    vae.fit(data)
    assert impossible(vae.sample(100_000, random_state=1)) == 0
    holes = data.astype(object).where(np.random.default_rng(1).random(data.shape) > 0.4, None)
    filled = vae.impute(holes, k=5, random_state=0)
    assert impossible(filled) == impossible(vae.reconstruct(data)) == 0
    seen = holes.notna().to_numpy()
    assert (filled.astype(str).to_numpy()[seen] == data.astype(str).to_numpy()[seen]).all()
    shares = filled["title"].value_counts(normalize=True) - data["title"].value_counts(normalize=True)
    assert shares.abs().max() < 0.2


def test_as_few_impossible_cells_as_possible_change_their_level() -> None:
    """Later columns change first, and take frequent levels first; allowed cells and given cells stay."""
    rules = [Combinations("b", ("a",), "", (5, None, 3, 4, 2, 9), (2, 3)),
             Combinations("c", ("b",), "", (9, 9, 9, None, 9, 9), (3, 2))]  # fmt: skip
    u = {"a": np.array([0.0, 0.0, 0.0, 1.0]), "b": np.array([1.0, 1.0, 0.0, 1.0]), "c": np.array([1.0, 1.0, 0.0, 1.0])}
    made = dict(u)
    settle_levels(rules, made)
    assert made["a"].tolist() == u["a"].tolist()
    assert made["b"].tolist() == [0, 0, 0, 1] and made["c"].tolist() == [1, 1, 0, 0]
    told = dict(u)
    free = {"a": np.ones(4, bool), "b": np.zeros(4, bool), "c": np.array([True, True, True, False])}
    settle_levels(rules, told, free)
    assert told["a"].tolist() == [1, 1, 0, 1] and told["b"].tolist() == u["b"].tolist()
    assert told["c"].tolist() == [0, 0, 0, 1]  # nothing can repair the last row


def test_rows_with_impossible_combinations_are_counted_and_have_finite_scores(vae) -> None:
    odd = people(50, seed=2)
    odd.loc[0, ["sex", "title"]] = ["m", "Mrs"]
    with pytest.warns(UserWarning, match="'title': 1 cell with values that break a rule"):
        scores = vae.score_samples(odd)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("text", "words"), [
    ("sex & age", "combinations need levels"), ("sex & sex", "named twice"), ("sex & nothing", "no column 'nothing'"),
    ("sex &", "cannot be read"), ("sex & title <= age", "cannot be read"), ("age2 & sex", "no column"),
])  # fmt: skip
def test_wrong_combinations_are_refused_in_a_sentence(text: str, words: str) -> None:
    data = people(400).assign(age=np.random.default_rng(0).normal(0, 1, 400))
    with pytest.raises(latens.InputError, match=words):
        schema_of(data, text)


def test_combinations_that_all_occur_are_refused() -> None:
    r = np.random.default_rng(0)
    data = pd.DataFrame({"a": r.choice(["x", "y"], 400), "b": r.choice(["u", "v", "w"], 400)})
    with pytest.raises(latens.InputError, match="every combination occurs"):
        schema_of(data, "a & b")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_command_line_keeps_impossible_combinations_out(form: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = people(1500)
    getattr(data, f"to_{form}")(f"t.{form}", index=False)
    assert "sex & title" in done("schema", f"t.{form}").out
    done("fit", f"t.{form}", "--out", "run", "--epochs", "1", "--rule", "sex & title & pregnant", "--rule", "none")
    done("sample", "run", "-n", "20000", "--out", f"new.{form}")
    new = getattr(pd, f"read_{form}")(f"new.{form}")
    assert impossible(new.assign(grade="B")) == 0 and set(new["title"]) == set(data["title"])
    assert "cannot be read" in refused("fit", f"t.{form}", "--out", "no", "--rule", "sex &")
