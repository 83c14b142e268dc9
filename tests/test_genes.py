"""Laws of counts by gene: columns are found by name in any container, values that are not counts are refused, means may
be fractions, and a gene that no row of the fit has costs what half a count would."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse, stats

import latens
from latens import VAE, InputError, conditionals
from latens.data import read
from latens.data.counts.sparse import SparseRows
from latens.data.rows import rows_like, rows_of
from latens.schema import Column, Table
from latens.training.checkpoint import load_state, state_of

ROWS, GENES = 60, 50
NAMES = np.array([f"g{j:02d}" for j in range(GENES)])
TURNED = np.random.default_rng(1).permutation(GENES)
QUICK: dict[str, Any] = {"latent_dim": 2, "epochs": 2, "random_state": 0, "nll_draws": 5}
COUNTS = np.random.default_rng(0).poisson(np.linspace(0.1, 3, GENES), (ROWS, GENES)).astype(np.float32)
BATCH = np.array(["b1", "b2"])[np.arange(ROWS) % 2]


def annotated(x: np.ndarray, names: Sequence[str], obs: Any = None) -> Any:
    return SimpleNamespace(X=sparse.csr_matrix(x), obs={} if obs is None else obs, var_names=pd.Index(names))


HOLDERS: dict[str, Callable[[np.ndarray, Sequence[str]], Any]] = {
    "AnnData": annotated,
    "pandas": lambda x, names: pd.DataFrame(x, columns=names),
    "polars": lambda x, names: pl.DataFrame(dict(zip(names, x.T))),
    "arrow": lambda x, names: pa.table(dict(zip(names, x.T))),
}
FITTED: dict[str, VAE] = {}


def fitted(holder: str) -> VAE:
    if holder not in FITTED:
        FITTED[holder] = VAE(**QUICK, kind="count").fit(HOLDERS[holder](COUNTS, NAMES))
    return FITTED[holder]


def dense(x: Any) -> np.ndarray:
    return np.column_stack([c.to_numpy() for c in x.columns]) if isinstance(x, pa.Table) else np.asarray(x)


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("loaded", [False, True], ids=["fitted", "loaded"])
def test_columns_are_found_by_name_and_come_back_in_their_order(holder: str, loaded: bool, tmp_path: Path):
    vae = fitted(holder)
    if loaded:
        vae.save(tmp_path / "run")
        vae = latens.load(tmp_path / "run").set_params(nll_draws=5)
    plain, turned = HOLDERS[holder](COUNTS, NAMES), HOLDERS[holder](COUNTS[:, TURNED], NAMES[TURNED])
    for method in ("transform", "score_samples", "anomaly_scores"):
        assert np.array_equal(getattr(vae, method)(plain), getattr(vae, method)(turned)), method
    means = vae.reconstruct(turned)
    assert np.array_equal(dense(vae.reconstruct(plain))[:, TURNED], dense(means))
    assert np.array_equal(dense(vae.impute(turned)), COUNTS[:, TURNED])
    if holder != "AnnData":
        named = means.column_names if holder == "arrow" else means.columns
        assert type(means) is type(turned) and list(named) == list(NAMES[TURNED])
    more = HOLDERS[holder](np.c_[COUNTS[:, TURNED], COUNTS[:, :1]], [*NAMES[TURNED], "odd"])
    with pytest.warns(UserWarning, match=r"1 column that the model was not fitted to is left out \(odd\)"):
        assert np.array_equal(vae.transform(more), vae.transform(plain))


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize(
    ("names", "columns", "said"),
    [
        (NAMES[:-3], slice(-3), "no column 'g47' and 2 others of 50"),
        ([f"E{j}" for j in range(GENES)], slice(None), "none of the 50 columns that the model was fitted to (g00"),
    ],
)
def test_missing_genes_are_named(holder: str, names: Sequence[str], columns: slice, said: str):
    with pytest.raises(InputError, match=re.escape(said)):
        fitted(holder).transform(HOLDERS[holder](COUNTS[:, columns], list(names)))


def test_genes_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"two genes called 'g00': make names unique \(var_names_make_uniq"):
        VAE(**QUICK).fit(annotated(COUNTS, ["g00", *NAMES[:-1]]))


NO_COUNTS = {
    "log-normalised values": np.log1p(COUNTS), "scaled values, some below 0": COUNTS - COUNTS.mean(0),
    "normalised values": COUNTS / COUNTS.sum(1, keepdims=True) * 1e4,
    "": np.where(COUNTS == 9, 0.25, COUNTS),
}  # fmt: skip
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_array, "coo": sparse.coo_matrix,
    "AnnData": lambda x: annotated(x, NAMES),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_values_that_are_not_counts_are_refused_sparse_and_dense(what: str, form: str):
    x, vae = FORMS[form](NO_COUNTS[what]), fitted("AnnData")
    said = f"counts must be whole numbers from 0{f', and these look like {what}; give raw counts' if what else ''}"
    for method in (vae.transform, vae.score_samples, vae.reconstruct, vae.impute, VAE(**QUICK, kind="count").fit):
        with warnings.catch_warnings(), pytest.raises(InputError, match=re.escape(said) + "$"):
            warnings.simplefilter("ignore")  # a matrix has no column names
            method(x)


def test_the_last_row_of_sparse_counts_is_checked():
    x = np.r_[np.tile(COUNTS, (5, 1)), np.full((1, GENES), 0.5)]
    with pytest.raises(InputError, match=r"0\.5 at row 300, column 0 "):
        VAE(**QUICK, kind="count").fit(sparse.csr_array(x))


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float32", "float64"])
def test_means_of_counts_are_fractions(dtype: str):
    x = COUNTS.astype(dtype)
    schema = rows_of(SparseRows(x)).schema if dtype == "float32" else rows_of(x, asked=asked("count")).schema
    means = np.full((3, GENES), 0.3)
    found = schema.to_user(means, mean=True)
    assert found.dtype.kind == "f" and np.allclose(found, 0.3) and not schema.to_user(means).any()
    table = Table((Column("n", "count", dtype.replace("float32", "float").replace("float64", "double"), decimals=0),))
    assert table.to_user(means[:, :1], mean=True).column("n").to_pylist() == [0.3] * 3
    assert table.to_user(means[:, :1]).column("n").to_pylist() == [0] * 3


def asked(kind: str) -> Any:
    from latens.data.rows import Asked

    return Asked(kind=kind)


@pytest.mark.parametrize("holder", HOLDERS)
def test_draws_are_counts_and_their_means_are_the_means(holder: str):
    vae, x = fitted(holder), HOLDERS[holder](COUNTS, NAMES)
    for found in (vae.reconstruct(x), vae.sample(200, mean=True), vae.inverse_transform(vae.transform(x))):
        assert abs(dense(found).mean() - COUNTS.mean()) < 0.2 and (dense(found) % 1 != 0).mean() > 0.9
    drawn = dense(vae.sample(50))
    assert (drawn % 1 == 0).all() and drawn.min() >= 0


# Rare genes


@pytest.mark.parametrize("part", [conditionals.PoissonLikelihood, conditionals.NegativeBinomialLikelihood])
@pytest.mark.parametrize("offset", [None, "size"])
def test_smoothing_adds_half_a_count(part: Any, offset: str | None):
    """A rate r becomes (N r + 1/2) / (N + 1) for N rows, and a share p becomes (M p + 1/2) / (M + D/2) for M counts
    over D cells."""
    f = torch.tensor([[0.3, -2.0, -80.0]], dtype=torch.float64)
    n, d, size = 20, 3, 7.0
    s = 1 / (n + 1) if offset is None else (d / 2) / (n + d / 2)
    c = None if offset is None else {"size": torch.tensor([size], dtype=torch.float64).log()}
    found = part(torch.nn.Identity(), offset=offset, smoothing=s).double()(f, c).mean
    r = f.exp() if offset is None else f.softmax(-1)
    right = (n * r + 0.5) / (n + 1) if offset is None else size * (n * r + 0.5) / (n + d / 2)
    assert torch.allclose(found, right, rtol=1e-6)
    a = torch.tensor([0.5, 0.5, 0.1], dtype=torch.float64)  # the added amount can differ from cell to cell
    s = 1 / (n + 1) if offset is None else a.sum().item() / (n + a.sum().item())
    found = part(torch.nn.Identity(), offset=offset, smoothing=s, pseudo=a).double()(f, c).mean
    right = (n * r + a) / (n + 1) if offset is None else size * (n * r + a) / (n + a.sum())
    assert torch.allclose(found, right, rtol=1e-6)


def test_samples_keep_the_totals_even_if_most_genes_were_never_seen():
    x = (np.random.default_rng(0).random((480, 200)) < 0.001).astype("float32")
    assert (x.sum(0) == 0).mean() > 0.5
    new = latens.VAE(latent_dim=2, random_state=0, epochs=20).fit(sparse.csr_matrix(x)).sample(4000, random_state=0)
    new, total = np.asarray(new, dtype=float), x.sum(1).mean()
    se = (total / 4000) ** 0.5  # standard error of a Poisson mean; 3 of them, and 15 % for the fit
    assert abs(new.sum(1).mean() - total) < 3 * se + 0.15 * total
    assert not new[:, x.sum(0) == 0].any()


def test_weights_saved_before_smoothing_existed_are_read():
    new = torch.nn.Sequential(conditionals.PoissonLikelihood(torch.nn.Linear(2, 3), smoothing=0.1))
    old = {name: tensor.clone() for name, tensor in state_of(new).items() if not name.endswith("smoothing")}
    again = torch.nn.Sequential(conditionals.PoissonLikelihood(torch.nn.Linear(2, 3)))
    load_state(again, old, "an old file")
    assert again[0].smoothing == 0 and torch.equal(again[0].network.weight, new[0].network.weight)
    with pytest.raises(InputError, match="no tensor"):
        load_state(again, {"0.smoothing": old["0.network.bias"].sum()}, "a broken file")


@pytest.mark.parametrize("columns", [60, 20], ids=["shares of the total", "rates"])
def test_an_unseen_gene_costs_what_half_a_count_would(columns: int):
    r = np.random.default_rng(3)
    x = r.poisson(np.exp(r.normal(-2, 1, columns)), (200, columns))
    x[:, 3] = 0
    vae = VAE(latent_dim=2, epochs=30, random_state=0, nll_draws=20).fit(sparse.csr_matrix(x))
    new = x[:20].copy()
    new[:, 3] = 1
    rate = (x.sum(0) + 0.5) / (len(x) + 1)
    simple = stats.poisson(rate).logpmf(new).sum(1)
    assert (vae.score_samples(sparse.csr_matrix(new)) > simple - 8).all()


def test_rows_without_a_count_have_no_expected_count():
    x = np.zeros((40, GENES))
    x[::4] = COUNTS[:10]
    rows = rows_of(SparseRows(x))
    assert rows.c is not None
    assert np.allclose(np.exp(rows.c["log_library_size"].numpy()), np.maximum(x.sum(1), 1e-3))


# Conditions and files


@pytest.mark.parametrize(
    ("column", "kind"),
    [(pd.Series(pd.Categorical(BATCH)), "categorical"), (BATCH, "categorical"), (np.arange(ROWS) % 3, "categorical"),
     (np.linspace(0, 1, 60) ** 2, "categorical"), (np.arange(ROWS) % 2 == 0, "categorical")],
)  # fmt: skip
def test_a_column_of_obs_is_a_condition(column: Any, kind: str):
    obs = pd.DataFrame({"batch": column, "other": 1})
    x = annotated(COUNTS, NAMES, obs)
    vae = VAE(**QUICK, condition="batch").fit(x)
    assert vae.run_.given.field("batch").kind in (kind, "binary")
    turned = annotated(COUNTS[:, TURNED], NAMES[TURNED], obs)
    assert np.array_equal(vae.transform(x), vae.transform(turned))
    value = obs["batch"].iloc[3]
    assert vae.sample(4, given={"batch": value}).shape == (4, GENES)
    with pytest.raises(InputError, match=r"no column 'batch' .*name one of other"):
        vae.transform(annotated(COUNTS, NAMES, obs[["other"]]))
    with pytest.raises(InputError, match=r"no column 'nowhere' .*name one of batch, other"):
        VAE(**QUICK, condition="nowhere").fit(x)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("compressed", [False, True])
def test_sparse_npz_files_are_counts(form: str, compressed: bool, tmp_path: Path):
    for kind in (sparse.csr_matrix, sparse.csr_array):
        sparse.save_npz(tmp_path / "x.npz", kind(COUNTS).asformat(form), compressed=compressed)
        source = read(tmp_path / "x.npz")
        assert np.array_equal(source.x[:].numpy(), COUNTS) and rows_of(source.x).schema.kind == "count"


WHOLE = sparse.csr_array(COUNTS)
DAMAGE: dict[str, dict[str, Any]] = {
    "format": {"format": np.array(b"xyz")}, "not text": {"format": np.array(3)},
    "index": {"indices": WHOLE.indices + 90},
    "shape": {"shape": np.array([ROWS, GENES, 1])}, "negative": {"shape": np.array([-1, GENES])},
    "huge": {"shape": np.array([10**12, GENES])}, "lengths": {"indptr": np.zeros(3, int)},
    "text": {"data": np.array(["a"])}, "NaN": {"data": np.full(WHOLE.nnz, np.nan)},
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_sparse_files_are_refused(what: str, tmp_path: Path):
    parts = {name: getattr(WHOLE, name) for name in ("data", "indices", "indptr", "shape")}
    np.savez(tmp_path / "x.npz", **{"format": np.array(b"csr")} | parts | DAMAGE[what])
    with pytest.raises(InputError, match=r"x\.npz"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("mark", [".zgroup", ".zarray", "zarr.json"])
def test_a_zarr_store_is_named(mark: str, tmp_path: Path):
    (tmp_path / mark).write_text("{}")
    with pytest.raises(InputError, match=r"is a Zarr store.*\.h5ad"):
        read(tmp_path)


def test_rows_of_another_width_are_refused_before_they_are_read():
    rows = rows_of(SparseRows(COUNTS))
    with pytest.raises(InputError, match=r"the data must be of shape \(n, 50\), got \(60, 49\)"):
        rows_like(SparseRows(COUNTS[:, 1:]), rows.schema)
    assert dataclasses.replace(rows).order is None
