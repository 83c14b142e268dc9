"""latens.VAE as a scikit-learn estimator."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import latens
from latens import VAE, InputError, Recipe
from latens.training import NonFiniteError
from latens.training.checkpoint import state_of

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "latent_dim": 2,
    "epochs": 2,
    "batch_size": 16,
    "random_state": 0,
    "nll_draws": 5,
    "network": "linear",
}


def rows(n: int = 40, columns: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, columns)) * 3 + 5 + 0.3 * rng.normal(size=(n, columns))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def same(a: VAE, b: VAE) -> bool:
    one, other = state_of(a.model_), state_of(b.model_)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# scikit-learn's own checks, without exceptions; they test the interface, so a few epochs are enough


@parametrize_with_checks([VAE(epochs=3)])
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator: VAE, check: Callable[[VAE], None]):
    try:
        check(estimator)
    except SkipTest as reason:
        assert "SCIPY_ARRAY_API is not set" in str(reason)  # the only reason to skip a check
        pytest.skip(str(reason))


def test_labels_of_rows_can_be_a_condition():
    from latens.data.rows import Asked, rows_of

    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    rows = rows_of(images, None, Asked(condition=("label",)), labels=np.arange(60) % 3)
    vae = VAE(recipe="cvae", epochs=1, random_state=0).fit(rows)
    assert vae.sample(5, given={"label": 2}, random_state=0).shape == (5, 4, 4)
    assert vae.sample(5, random_state=0).dtype == np.uint8


def test_a_refused_weight_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"weight.*zero"):
        VAE(**QUICK).fit(rows(), sample_weight=np.zeros(40))
    with pytest.raises(ValueError, match=r"one number per row, \[40\]"):
        VAE(**QUICK).fit(rows(), sample_weight=np.ones(39))


# With other tools of scikit-learn


def test_a_pipeline_and_cross_validation_take_the_estimator():
    x = rows()
    pipe = make_pipeline(StandardScaler(), VAE(**QUICK)).fit(x)
    assert pipe.transform(x).shape == (40, 2) and np.isfinite(pipe.score(x))
    assert pipe.inverse_transform(pipe.transform(x)).shape == x.shape
    assert list(pipe.get_feature_names_out()) == ["vae0", "vae1"]
    assert np.isfinite(cross_val_score(VAE(**QUICK), x, cv=2)).all()


@pytest.mark.parametrize("recipe", ["vae", Recipe("vae", beta=3.0, kl="sampled"), Recipe("beta_vae")], ids=repr)
def test_a_grid_search_varies_latent_dim_and_beta(recipe: str | Recipe):
    grid = {"latent_dim": np.array([1, 3]), "recipe__beta": np.array([0.5, 2.0])}
    search = GridSearchCV(VAE(**QUICK | {"recipe": recipe}), grid, cv=2, error_score="raise").fit(rows())
    assert len(set(search.cv_results_["mean_test_score"])) == 4  # every point of the grid is another model
    best = search.best_estimator_
    assert best.latent_dim_ == search.best_params_["latent_dim"]
    assert best.run_.objective.beta == search.best_params_["recipe__beta"]
    if isinstance(recipe, Recipe):
        assert best.recipe is not recipe and recipe.given.get("beta") in (3.0, None)  # the given estimator is unchanged
        assert best.recipe.given.get("kl") == recipe.given.get("kl")


def test_parameters_are_read_set_and_cloned():
    vae = VAE(recipe=Recipe("vae", beta=2.0), learning_rate=0.1)
    assert vae.get_params()["recipe__beta"] == 2.0
    other = clone(vae)
    assert other.recipe is not vae.recipe and other.get_params()["recipe__beta"] == 2.0
    other.set_params(recipe__beta=5.0, learning_rate=0.2)
    assert vae.recipe.given["beta"] == 2.0 and other.recipe.given["beta"] == 5.0 and other.learning_rate == 0.2
    with pytest.raises(ValueError, match="no_such"):
        vae.set_params(no_such=1)
    with pytest.raises(InputError, match=r"no option 'bta'.*did you mean 'beta'"):
        VAE(**QUICK).set_params(recipe__bta=1.0).fit(rows())
    assert "beta=2.0" in repr(vae)


def test_set_output_decides_the_library_of_frames():
    x = pd.DataFrame(rows(), columns=["a", "b", "c", "d"], index=np.arange(40) * 2)
    framed = VAE(**QUICK).set_output(transform="pandas").fit(x).transform(x)
    assert list(framed.columns) == ["vae0", "vae1"] and list(framed.index) == list(x.index)
    assert (framed.dtypes == np.float32).all()
    polar = VAE(**QUICK).set_output(transform="polars").fit(x).transform(x)
    assert isinstance(polar, pl.DataFrame) and polar.columns == ["vae0", "vae1"]
    assert np.array_equal(polar.to_numpy(), framed.to_numpy())


# Containers of data


def alike(plain: VAE, x: Any, other: VAE, y: Any) -> None:
    assert same(plain, other)
    assert np.array_equal(plain.transform(x), other.transform(y))
    assert np.array_equal(plain.score_samples(x), other.score_samples(y))


@pytest.mark.parametrize("made", [torch.from_numpy, np.asfortranarray, list], ids=["torch", "fortran", "list"])
def test_the_container_of_an_array_does_not_matter(made: Callable[[np.ndarray], Any]):
    x = rows()
    alike(VAE(**QUICK).fit(x), x, VAE(**QUICK).fit(made(x)), made(x))


MIXED = {
    "price": np.round(np.exp(rows()[:, 0]), 2), "size": rows()[:, 1], "cut": ["fair", "good", "ideal", "good"] * 10,
    "stones": np.arange(40) % 13,
}  # fmt: skip
GAPS = {"price": [3, 5], "size": [3, 11], "cut": [3, 20]}  # rows with a missing cell; row 3 has three


def holed(columns: dict[str, Any]) -> dict[str, list[Any]]:
    lists = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return {name: [None if i in GAPS.get(name, ()) else v for i, v in enumerate(lists[name])] for name in lists}


@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "gaps"])
@pytest.mark.parametrize(
    "made",
    [pd.DataFrame, pl.DataFrame, lambda x: pd.DataFrame(x).convert_dtypes(), dict],
    ids=["pandas", "polars", "pandas extension types", "mapping"],
)
def test_the_container_of_a_table_does_not_matter(made: Callable[[dict[str, Any]], Any], gaps: bool):
    columns = holed(MIXED) if gaps else MIXED
    table, other = pa.table(columns), made(columns)
    plain, second = VAE(**QUICK).fit(table), VAE(**QUICK).fit(other)
    alike(plain, table, second, other)
    assert [f.kind for f in plain.schema_.fields] == ["continuous", "continuous", "categorical", "count"]
    means = second.reconstruct(other)
    for found in (means, second.impute(other, k=20), second.sample(7)):
        assert type(found) is type(other)
        assert list(found if isinstance(found, dict) else found.columns) == list(columns)
        if isinstance(other, pd.DataFrame | pl.DataFrame):
            exact = slice(0, -1 if found is means else None)  # the mean of a count is not a whole number
            assert list(found.dtypes)[exact] == list(other.dtypes)[exact]


def test_missing_cells_are_filled_and_the_others_stay():
    table = pa.table(holed(MIXED))
    vae = VAE(**QUICK).fit(table)
    filled = vae.impute(table, k=50)
    assert filled.schema == table.schema and not any(column.null_count for column in filled.columns)
    for name, cells in table.to_pydict().items():
        assert all(a == b for a, b in zip(cells, filled.column(name).to_pylist()) if a is not None)
    draws = vae.impute(table, k=50, draws=3)
    assert len(draws) == 3 and all(draw.schema == table.schema for draw in draws)
    assert vae.impute(filled, k=50).equals(filled)
    x = rows()
    x[3, 1] = np.nan
    found = VAE(**QUICK).fit(x).impute(x, k=50)
    assert found.dtype == x.dtype and np.isfinite(found).all() and np.array_equal(found[x == x], x[x == x])


def test_tables_obey_the_laws_of_arrays(tmp_path: Path):
    """Order, neighbours, weights, pickle and a saved run obey the same laws for tables as for arrays."""
    table = pa.table(holed(MIXED))
    vae = VAE(**QUICK | {"nll_draws": 20}).fit(table)
    order, weight = np.random.default_rng(2).permutation(40), np.random.default_rng(0).integers(0, 4, 40)
    assert same(vae, VAE(**QUICK).fit(table.take(order)))
    repeated = table.take(np.repeat(np.arange(40), weight))
    assert same(VAE(**QUICK).fit(table, sample_weight=weight), VAE(**QUICK).fit(repeated))
    together = vae.score_samples(table)
    alone = np.concatenate([vae.score_samples(table.slice(i, 1)) for i in range(8)])
    assert np.isfinite(together).all() and np.allclose(alone, together[:8], rtol=1e-5)
    frame = pd.DataFrame(holed(MIXED))
    framed = VAE(**QUICK | {"nll_draws": 20}).fit(frame)
    vae.save(tmp_path / "run")
    for again in (pickle.loads(pickle.dumps(vae)), latens.load(tmp_path / "run").set_params(nll_draws=20)):
        alike(vae, table, again, table)
        assert again.schema_ == vae.schema_ and again.sample(5, random_state=1).equals(vae.sample(5, random_state=1))
    again = pickle.loads(pickle.dumps(framed))
    alike(framed, frame, again, frame)
    assert again.sample(5, random_state=1).equals(framed.sample(5, random_state=1))


def test_sparse_counts_are_never_dense_at_once(monkeypatch: pytest.MonkeyPatch):
    counts = sparse.random(300, 40, 0.2, random_state=0, data_rvs=lambda n: np.ones(n)).tocsr()
    counts.data[:] = np.random.default_rng(0).integers(1, 9, counts.nnz)
    dense = counts.toarray()
    plain = VAE(**QUICK).fit(counts)
    assert plain.transform(counts).shape == (300, 2) and plain.n_features_in_ == 40
    assert np.array_equal(plain.transform(counts), plain.transform(sparse.coo_array(counts)))
    assert same(plain, VAE(**QUICK).fit(counts[::-1])) and np.isfinite(plain.score(counts))
    assert plain.reconstruct(counts[:3]).shape == dense[:3].shape


def test_columns_of_a_frame_are_checked_by_name():
    x = pd.DataFrame(rows(), columns=["a", "b", "c", "d"])
    vae = VAE(**QUICK).fit(x)
    assert list(vae.feature_names_in_) == ["a", "b", "c", "d"] and vae.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(x[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="3 features"):
        vae.transform(x.to_numpy()[:, :3])
    vae.fit(pictures(20, 5, 4))
    assert not hasattr(vae, "feature_names_in_")


@pytest.mark.parametrize("shape", [(24, 6, 5), (24, 6, 5, 1), (24, 6, 5, 3), (24, 3, 6, 5), (24, 13, 14)])
def test_pictures_are_restored_in_their_own_layout_and_type(shape: tuple[int, ...]):
    x = pictures(*shape)
    vae = VAE(**QUICK).fit(x)
    assert vae.transform(x).shape == (24, 2) and vae.transform(x).dtype == np.float32
    for back in (
        vae.reconstruct(x),
        vae.inverse_transform(vae.transform(x)),
        vae.sample(24),
        vae.sample(24, mean=True),
    ):
        assert back.shape == x.shape and back.dtype == np.uint8
    assert vae.score_samples(x).shape == (24,) and vae.n_features_in_ == np.prod(shape[1:])
    with pytest.raises(ValueError):
        vae.transform(x[:, :-1])


def test_columns_are_restored_in_their_own_type():
    for dtype in (np.float32, np.float64):
        x = rows().astype(dtype)
        vae = VAE(**QUICK).fit(x)
        assert vae.reconstruct(x).shape == x.shape and vae.reconstruct(x).dtype == dtype
        assert vae.sample(3).dtype == dtype and vae.transform(x).dtype == np.float32
        assert vae.score_samples(x).dtype == np.float64
    whole = np.random.default_rng(0).integers(0, 2, (40, 4))
    vae = VAE(**QUICK).fit(whole)
    assert vae.sample(50).dtype == whole.dtype and set(np.unique(vae.sample(50))) <= {0, 1}


def test_a_path_stands_for_its_data(tmp_path: Path):
    x = rows()
    np.save(tmp_path / "x.npy", x)
    assert same(VAE(**QUICK).fit(tmp_path / "x.npy"), VAE(**QUICK).fit(x))
    assert np.array_equal(VAE(**QUICK).fit(x).transform(str(tmp_path / "x.npy")), VAE(**QUICK).fit(x).transform(x))


# Order, neighbours, seeds


def test_the_order_of_the_rows_matters_neither_in_fitting_nor_after():
    x, weight = rows(210), np.random.default_rng(1).uniform(0, 2, 210)  # enough rows for a validation split
    x[5], x[77] = x[3], x[3]  # duplicates with separate weights
    order = np.random.default_rng(2).permutation(210)
    for given in (None, weight):
        one = VAE(**QUICK).fit(x, sample_weight=given)
        other = VAE(**QUICK).fit(x[order], sample_weight=None if given is None else given[order])
        assert same(one, other) and one.run_.data["validation"] == "auto" and one.run_.rows == 189
    assert np.allclose(one.transform(x)[order], one.transform(x[order]), rtol=1e-6, atol=1e-6)
    assert np.allclose(one.score_samples(x)[order], one.score_samples(x[order]), rtol=1e-6)


def test_a_rows_score_does_not_depend_on_its_neighbours():
    x = rows()
    vae = VAE(**QUICK | {"nll_draws": 20}).fit(x)
    together = vae.score_samples(x)
    alone = np.concatenate([vae.score_samples(x[i : i + 1]) for i in range(8)])
    assert np.allclose(alone, together[:8], rtol=1e-6)
    assert vae.score(x) == pytest.approx(together.mean())
    assert np.array_equal(vae.score_samples(x), together)  # and the score is the same every time


def test_a_whole_number_weight_repeats_a_row_and_zero_leaves_it_out():
    x = rows(30)
    weight = np.random.default_rng(0).integers(0, 4, 30)
    assert same(VAE(**QUICK).fit(x, sample_weight=weight), VAE(**QUICK).fit(np.repeat(x, weight, axis=0)))
    spoilt = np.where(weight[:, None] == 0, 1e6, x)
    assert same(VAE(**QUICK).fit(x, sample_weight=weight), VAE(**QUICK).fit(spoilt, sample_weight=weight))
    assert same(VAE(**QUICK).fit(x, sample_weight=weight / 7), VAE(**QUICK).fit(spoilt, sample_weight=weight / 7))
    many = VAE(**QUICK).fit(x, sample_weight=weight * 10**9)  # weights do not create billions of rows
    assert many.run_.rows == (weight > 0).sum()


def test_random_state_decides_the_fit():
    x = rows()
    assert same(VAE(**QUICK).fit(x), VAE(**QUICK).fit(x))
    assert not same(VAE(**QUICK | {"random_state": 1}).fit(x), VAE(**QUICK).fit(x))
    free = {**QUICK, "random_state": None}
    assert not same(VAE(**free).fit(x), VAE(**free).fit(x))
    shared = np.random.RandomState(3)
    first, second = (VAE(**QUICK | {"random_state": shared}).fit(x) for _ in range(2))
    assert not same(first, second) and same(first, VAE(**QUICK | {"random_state": np.random.RandomState(3)}).fit(x))
    vae = VAE(**QUICK).fit(x)
    assert np.array_equal(vae.sample(5, random_state=1), vae.sample(5, random_state=1))
    assert not np.array_equal(vae.sample(5, random_state=1), vae.sample(5, random_state=2))
    assert not np.array_equal(vae.sample(5), vae.sample(5))
    state = np.random.RandomState(0)
    assert not np.array_equal(vae.sample(5, random_state=state), vae.sample(5, random_state=state))
    assert np.array_equal(vae.sample_posterior(x, 3), vae.sample_posterior(x, 3))
    assert vae.sample_posterior(x, 3).shape == (3, 40, 2)


def test_fitting_and_drawing_leave_the_global_generators_alone():
    torch.manual_seed(4)
    np.random.seed(4)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    vae = VAE(**QUICK).fit(rows())
    vae.sample(3), vae.score_samples(rows()), vae.sample_posterior(rows()), vae.evaluate(rows())
    assert torch.equal(torch.get_rng_state(), before) and np.array_equal(np.random.get_state()[1], numpys)


# Using it


def test_codes_and_numbers_of_samples_are_checked():
    vae = VAE(**QUICK).fit(rows())
    with pytest.raises(InputError, match=r"the shape of codes must be \[N, 2\], got \[3, 4\]"):
        vae.inverse_transform(np.zeros((3, 4)))
    with pytest.raises(InputError, match="finite numbers"):
        vae.inverse_transform(np.full((3, 2), np.nan))
    with pytest.raises(InputError, match="number of samples"):
        vae.sample(0)
    for call in (
        lambda: VAE().transform(rows()),
        lambda: VAE().sample(),
        lambda: VAE().inverse_transform(np.zeros((1, 2))),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_an_autoencoder_has_a_score_and_no_density():
    x = rows()
    ae = VAE(**QUICK | {"recipe": "ae"}).fit(x)
    assert ae.score(x) == pytest.approx(-((ae.reconstruct(x) - x) ** 2).mean(), rel=1e-4)
    with pytest.raises(ValueError, match="no density"):
        ae.score_samples(x)


def test_latent_dim_is_by_default_the_number_of_columns_up_to_16():
    assert VAE(**QUICK | {"latent_dim": "auto"}).fit(rows(columns=5)).latent_dim_ == 5
    assert VAE(**QUICK | {"latent_dim": "auto"}).fit(rows(columns=20)).latent_dim_ == 16


def test_validation_data_can_be_given():
    x, held = rows(60), rows(30, seed=1)
    vae = VAE(**QUICK | {"epochs": 30, "validation": held}).fit(x)
    assert vae.run_.rows == 60 and np.isfinite([row["validation_bound"] for row in vae.run_.history]).all()


def test_pickle_keeps_every_part_of_a_fit():
    x = rows()
    vae = VAE(**QUICK).fit(x)
    again = pickle.loads(pickle.dumps(vae))
    assert same(vae, again) and np.array_equal(vae.score_samples(x), again.score_samples(x))
    assert again.run_.history == vae.run_.history


@pytest.mark.parametrize("x", [rows(), pictures(24, 6, 5, 3)], ids=["columns", "pictures"])
def test_saved_and_loaded_is_the_same(x: np.ndarray, tmp_path: Path):
    vae = VAE(**QUICK | {"learning_rate": 0.01, "kl_warmup": 0.25}).fit(x)
    vae.save(tmp_path / "run")
    again = latens.load(tmp_path / "run")
    assert same(vae, again)
    assert np.array_equal(vae.transform(x), again.transform(x))
    assert np.array_equal(vae.sample(9, random_state=2), again.sample(9, random_state=2))
    assert again.set_params(nll_draws=5).score(x) == vae.score(x)
    assert (again.n_features_in_, again.latent_dim_, again.schema_) == (vae.n_features_in_, 2, vae.schema_)
    assert (again.learning_rate, again.kl_warmup, again.epochs) == (0.01, 0.25, 2)
    assert clone(again).fit(x).latent_dim_ == 2
    with pytest.raises(InputError, match="already holds a run"):
        vae.save(tmp_path / "run")


def test_a_broken_row_is_named_as_the_user_counts():
    x, weight = rows(260), np.ones(260)
    x[241], weight[:50] = np.arange(4) - 77.3, 0
    for given in (None, weight, weight / 3):
        with pytest.raises(NonFiniteError, match="not finite for row 241 ") as failure:
            VAE(**QUICK | {"recipe": "parts:poisoned", "random_state": 3}).fit(x, sample_weight=given)
        assert failure.value.rows == [241]


def test_lazy_frames_and_masked_cells_are_data_to_every_method() -> None:
    """A lazy frame equals its rows; a masked cell is missing, whatever value lies under the mask."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=60), rng.integers(0, 9, 60)], 1)
    mask = rng.random(x.shape) < 0.2
    gapped = np.where(mask, np.nan, x)
    eager = pl.DataFrame({"a": x[:, 0], "b": x[:, 1]})
    for given, same in ((eager.lazy(), eager), (np.ma.masked_array(np.where(mask, 1e6, x), mask), gapped)):
        vae, other = (latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(data) for data in (given, same))
        for name in ("transform", "score_samples", "anomaly_scores", "reconstruct", "impute"):
            found, wanted = (np.asarray(getattr(each, name)(data)) for each, data in ((vae, given), (other, same)))
            np.testing.assert_array_equal(found, wanted, err_msg=name)
    assert not np.isnan(vae.impute(given)).any() and np.nanmax(vae.sample(50)) < 1e3


@pytest.mark.parametrize("kind", [object, str])
def test_arrays_of_texts_are_refused_in_a_sentence(kind: type) -> None:
    with pytest.raises(InputError, match="holds texts, but only a data frame has columns"):
        latens.VAE(epochs=1).fit(np.array([[1.5, "a"], [2.5, "b"]] * 9, dtype=object).astype(kind))
