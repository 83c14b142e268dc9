"""Conditions: samples of a level resemble its rows, and every part takes the condition from the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from commanding import done, figures, refused
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import latens
from latens.data import read, write
from latens.data.rows import Asked, rows_of
from latens.errors import InputError
from latens.recipes import Recipe
from latens.runs import fitting, outputs
from latens.training import Settings


def stones(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """A table in which the price follows the weight, price, weight and colour depend on the cut, and a year shifts the
    price."""
    rng = np.random.default_rng(seed)
    cut = rng.choice(["fair", "good", "ideal"], rows, p=[0.2, 0.3, 0.5])
    place = pd.Series(cut).map({"fair": 0.0, "good": 0.7, "ideal": 1.5}).to_numpy()
    weight = np.exp(rng.normal(-0.5 * place, 0.3))
    year = rng.uniform(0, 10, rows)
    price = np.exp(6 + 1.5 * np.log(weight) + 0.1 * year + rng.normal(0, 0.2, rows))
    colour = np.where(rng.random(rows) < 0.2 + 0.4 * place, "white", "yellow")
    return pd.DataFrame({"cut": cut, "weight": weight, "year": year, "price": price, "colour": colour})


@pytest.fixture(scope="module")
def fitted() -> tuple[latens.VAE, pd.DataFrame]:
    data = stones()
    return latens.VAE(3, condition=["cut", "year"], epochs=40, random_state=0).fit(data), data


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["fair", "good", "ideal"])
def test_samples_of_a_level_have_the_marginals_of_its_rows(fitted, cut: str):
    """ln price, ln weight and colour of each level's samples: means are within 0.15 of the level's standard deviation,
    and Kolmogorov-Smirnov distances below 0.1 (the levels are 0.8 to 2.3 standard deviations apart)."""
    vae, data = fitted
    real, drawn = data[data.cut == cut], vae.sample(1500, given={"cut": cut}, random_state=1)
    assert (drawn.cut == cut).all() and list(drawn.columns) == list(data.columns)
    for name in ("weight", "price"):
        a, b = np.log(real[name]), np.log(drawn[name])
        assert abs(a.mean() - b.mean()) < 0.15 * a.std() and stats.ks_2samp(a, b).statistic < 0.1, name
    assert abs((real.colour == "white").mean() - (drawn.colour == "white").mean()) < 0.1


DIAMONDS = Path(__file__).parents[1] / "bench" / "data" / "diamonds.csv"


@pytest.mark.slow
@pytest.mark.skipif(not DIAMONDS.exists(), reason="bench/README.md says where bench/data/diamonds.csv comes from")
def test_samples_of_diamonds_have_the_marginals_of_each_cut():
    """The fit has a third of the default length. `table` is a whole number in 98 of 100 rows. A density is smooth
    where these rows have steps of up to a fifth, so it is compared with the rows after rounding. The depths of
    different levels are up to 0.77 apart."""
    rows = pd.read_csv(DIAMONDS)
    rows = rows.drop(columns=[name for name in rows if not name.strip() or name.startswith("Unnamed")])
    vae = latens.VAE(condition=["cut"], random_state=0, epochs=16).fit(rows)
    for cut, real in rows.groupby("cut"):
        drawn = vae.sample(4000, given={"cut": cut}, random_state=0)
        for name in ("carat", "depth", "price", "x", "y", "z"):
            assert stats.ks_2samp(real[name], drawn[name]).statistic < 0.1, (cut, name)
        assert stats.ks_2samp(real.table.round(), drawn.table.round()).statistic < 0.12, cut
        for name in ("color", "clarity"):
            shares = [frame[name].value_counts(normalize=True) for frame in (real, drawn)]
            assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.06, (cut, name)


def test_a_condition_can_be_given_or_is_drawn_from_the_data(fitted):
    vae, _ = fitted
    early, late = (vae.sample(800, given={"year": y}, random_state=0) for y in (0.0, 10.0))
    assert (early.year == 0).all() and set(early.cut) == {"fair", "good", "ideal"}
    assert 0.6 < np.log(late.price).mean() - np.log(early.price).mean() < 1.4  # exactly 1 in the data
    free = vae.sample(800, random_state=0)
    assert abs(free.year.mean() - 5) < 0.6 and abs((free.cut == "ideal").mean() - 0.5) < 0.08


def test_codes_scores_and_fills_take_the_condition_from_the_data(fitted):
    vae, data = fitted
    some = data[:50].copy()
    other = some.assign(cut="fair", year=9.0)
    assert not np.allclose(vae.transform(some), vae.transform(other))
    assert not np.allclose(vae.score_samples(some), vae.score_samples(other))
    holes = some.copy()
    holes.loc[:20, "price"] = np.nan
    cheap, dear = (vae.impute(holes.assign(year=y), k=200).price[:20] for y in (0.0, 10.0))
    assert (np.log(dear) - np.log(cheap)).mean() > 0.5


def test_conditions_that_are_missing_unseen_or_unknown_are_refused(fitted):
    vae, data = fitted
    for change, words in (
        ({"cut": "round"}, "the condition 'cut' of row 0 (counted from 0) is 'round', which was never seen"),
        ({"year": np.nan}, "the condition 'year' of row 0 (counted from 0) is missing"),
    ):
        with pytest.raises(InputError) as error:
            vae.transform(data[:3].assign(**change))
        assert words in str(error.value)
    with pytest.raises(ValueError):
        vae.transform(data[:3].drop(columns="cut"))
    for given, words in (({"cut": "round"}, "give one of fair, good, ideal"), ({"size": 3}, "no condition 'size'"),
                         ({"year": "old"}, "must be a number, got 'old'")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            vae.sample(2, given=given)
    with pytest.raises(InputError, match="reads no condition 'cut'"):
        latens.VAE(2, epochs=1).fit(data[:50]).sample(1, given={"cut": "fair"})


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_a_classifier_recognises_the_digit_that_was_asked_for(prior: str):
    """The classifier recognises at least 95 % of 500 samples; it is right for 98 % of real digits."""
    digits = load_digits()
    classifier = SVC(gamma=0.001).fit(digits.data[::2], digits.target[::2])
    source = read("digits")
    rows = rows_of(source.x, None, Asked(condition=("label",)), labels=source.labels, label_names=source.label_names)
    run = fitting.fit_recipe(rows, Recipe("vae", prior=prior), Settings(seed=0))
    drawn = [outputs.sample(run, 50, mean=False, seed=d, given={"label": d}).reshape(50, -1) for d in range(10)]
    hits = [(classifier.predict(each) == d).mean() for d, each in enumerate(drawn)]
    assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("recipe", ["vae", "beta_vae", "iwae", "ae"])
def test_every_recipe_takes_conditions(recipe: str):
    data = stones(120)
    vae = latens.VAE(2, recipe=recipe, condition="cut", epochs=1, random_state=0).fit(data)
    assert vae.run_.model.reads == {"cut"}
    assert vae.reconstruct(data).columns.tolist() == data.columns.tolist()


def test_conditions_work_in_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("stones.csv", pa.Table.from_pandas(stones(300)))
    done("fit", "stones.csv", "--out", "run", "--condition", "cut", "--epochs", "2", "--prior", "conditional")
    for command in ("encode", "reconstruct", "score", "impute"):
        done(command, "run", "stones.csv", "--out", f"{command}.parquet")
    done("sample", "run", "--set", "cut=ideal", "-n", "7", "--out", "s.csv")
    table = read("s.csv").x
    assert table["cut"].to_pylist() == ["ideal"] * 7 and table.column_names == list(stones(1).columns)
    assert figures("evaluate", "run", "--k", "5")["rows"] == 30
    assert "give one of fair, good, ideal" in refused("sample", "run", "--set", "cut=x", "--out", "t.csv")
    assert "CONDITION=VALUE" in refused("sample", "run", "--set", "cut", "--out", "t.csv")
    assert "no column 'shape'" in refused("fit", "stones.csv", "--out", "r2", "--condition", "shape")
    assert "digits has no column" in refused("fit", "digits", "--out", "r2", "--condition", "shape")
    done("fit", "digits", "--out", "digits-run", "--condition", "label", "--epochs", "1")
    done("sample", "digits-run", "--set", "label=3", "--out", "three.png", "-n", "4")
