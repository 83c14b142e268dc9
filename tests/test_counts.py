"""Laws of counts: sparse rows equal those of the dense matrix, summaries equal numpy's, raw counts are read from an
.h5ad file of any encoding, and every hostile file is refused with one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from commanding import call, done, refused
from parts import refusal_of
from scipy import sparse

import latens
from latens import InputError
from latens.data import read, read_table
from latens.data.counts.sparse import (
    Counts,
    SparseRows,
    column_summaries,
    counts_of,
    read_h5ad,
)
from latens.data.lazy import Subset
from latens.data.loader import ArrayLoader
from latens.data.rows import library_sizes

h5py = pytest.importorskip("h5py")
rng = np.random.default_rng(0)
GENES = [f"gene{i}" for i in range(9)]
CELLS = 20


def counts(cells: int = CELLS, genes: int = 9) -> np.ndarray:
    return rng.poisson(rng.gamma(0.3, 3.0, (cells, genes))).astype(np.float32)


refusal = partial(refusal_of, read_h5ad)


# Sparse arithmetic


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_rows_and_summaries_are_those_of_the_dense_matrix(form: str, dtype: str):
    x = counts().astype(dtype)
    x[3], x[:, 4] = 0, 0
    matrix = x if form == "dense" else sparse.csr_array(x).asformat(form)
    rows = SparseRows(matrix)
    assert rows.shape == x.shape and rows.dtype == torch.float32
    for index in (slice(None), slice(3, 11, 2), torch.tensor([5, 1, 5]), 3, []):
        assert np.array_equal(rows[index], x[index].astype(np.float32))
    assert np.array_equal(Subset(rows, [7, 2])[:], x[[7, 2]].astype(np.float32))
    found, wide = column_summaries(matrix), x.astype(np.float64)
    assert np.allclose(found.mean, wide.mean(0), rtol=1e-13) and np.allclose(found.variance, wide.var(0), rtol=1e-12)
    assert np.array_equal(found.high, wide.max(0)) and np.array_equal(found.zeros, (wide == 0).mean(0))
    assert found.whole and np.array_equal(library_sizes(rows), wide.sum(1))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_counts_are_restored_in_their_dtype(dtype: str, tmp_path: Path):
    x = np.random.default_rng(0).poisson(1.0, (60, 9)).astype(dtype)
    matrix, mean = sparse.csr_array(x), dtype if dtype.startswith("float") else "float32"
    vae = latens.VAE(latent_dim=2, epochs=1, random_state=0).fit(matrix)
    vae.save(tmp_path / "run")
    sparse.save_npz(tmp_path / "x.npz", matrix)
    found = h5ad(tmp_path / "x.h5ad", x) if dtype != "bool" else tmp_path / "x.npz"
    loaded = latens.load(tmp_path / "run")
    for each in (vae, loaded, latens.VAE(latent_dim=2, epochs=1).fit(found)):
        new = each.sample(50, random_state=0)
        assert new.dtype == dtype and (new == np.rint(new)).all()
        assert each.sample(5, mean=True).dtype == each.reconstruct(matrix).dtype == mean
        assert each.impute(matrix).dtype == dtype and np.array_equal(each.impute(matrix), x)
    codec = vae.codec()
    back = codec.decode(codec.encode(matrix))
    assert back.dtype == dtype and np.array_equal(back, x)


def test_summaries_of_signed_fractions_far_from_zero_are_exact():
    x = rng.normal(1e6, 1.0, (50, 4)) * (rng.random((50, 4)) > 0.3)
    x[:, 3] = -np.abs(rng.normal(size=50)) - 1
    found = column_summaries(sparse.csr_array(x))
    assert np.allclose(found.variance, x.var(0), rtol=1e-9) and np.array_equal(found.high, x.max(0))
    assert not found.whole
    full = column_summaries(np.full((5, 1), 1e8) + np.arange(5)[:, None])
    assert np.allclose(full.variance, 2.0, rtol=1e-12)


def test_repeated_entries_stored_zeros_and_order_make_no_difference():
    plain = sparse.csr_array(np.array([[0.0, 3, 1], [2, 0, 0]]))
    messy = sparse.csr_array(([1.0, 1, 2, 0, 2], [2, 1, 1, 0, 0], [0, 4, 5]), shape=(2, 3))
    a, b = (counts_of(SimpleNamespace(X=m, obs={}, var_names=list("abc"))) for m in (plain, messy))
    assert a.fingerprint == b.fingerprint and torch.equal(a.x[:], b.x[:])
    assert messy.nnz == 5 and not messy.has_sorted_indices  # the user's matrix is not changed
    assert np.array_equal(column_summaries(messy).zeros, [0.5, 0.5, 0.5])
    other = counts_of(SimpleNamespace(X=plain * 2, obs={}, var_names=list("abc")))
    assert other.fingerprint != a.fingerprint


def test_a_large_matrix_is_never_dense():
    """The test matrix has 10^6 x 10^5 cells, which would take 400 GB."""
    values = rng.integers(1, 9, 1000).astype(np.float32)
    where = rng.integers(0, 10**6, 1000), rng.integers(0, 10**5, 1000)
    rows = SparseRows(sparse.coo_array((values, where), shape=(10**6, 10**5)))
    found = column_summaries(rows)
    assert found.mean.sum() == pytest.approx(values.sum() / 10**6)
    assert rows[where[0][:3]].shape == (3, 10**5)
    loader = ArrayLoader(rows, batch_size=4)
    batch = next(iter(loader.batches(0)))
    assert batch.x.shape == (4, 10**5) and torch.equal(batch.x, rows[batch.rows])


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_gives_the_batches_of_the_dense_matrix(shuffle: bool):
    x = counts()
    dense = ArrayLoader(torch.from_numpy(x), batch_size=6, seed=2, shuffle=shuffle)
    lazy = ArrayLoader(SparseRows(sparse.csc_array(x)), batch_size=6, seed=2, shuffle=shuffle)
    for epoch in range(3):
        pairs = list(zip(dense.batches(epoch), lazy.batches(epoch)))
        assert len(pairs) == len(dense) and all(torch.equal(a.x, b.x) for a, b in pairs)


def test_values_that_are_not_numbers_are_refused_with_their_position():
    for bad in (np.nan, np.inf):
        x = counts().astype(float)
        x[4, 7] = bad
        with pytest.raises(InputError, match=r"at row 4, column 7 \(counted from 0\) is not finite"):
            SparseRows(x)
    with pytest.raises(InputError, match="row 0, column 1"):
        SparseRows(np.array([[1, 1e300]]))
    for other in (np.zeros(3), np.zeros((2, 2, 2)), np.array([["a"]]), "text", np.zeros((2, 2), complex)):
        with pytest.raises(InputError, match="matrix of numbers"):
            SparseRows(other)


# Files


def put_matrix(parent: Any, name: str, x: np.ndarray, form: str) -> None:
    """A matrix as anndata writes it: dense, csr or csc; "old" marks the attributes of before 0.7."""
    if form == "dense":
        parent.create_dataset(name, data=x, chunks=True, compression="gzip").attrs["encoding-type"] = "array"
        return
    kind = form.removeprefix("old ")
    matrix = sparse.csr_array(x).asformat(kind)
    group = parent.create_group(name)
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(matrix, part)
    if form.startswith("old"):
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = kind, x.shape
    else:
        group.attrs["encoding-type"], group.attrs["shape"] = f"{kind}_matrix", x.shape


def put_index(file: Any, name: str, words: list[str]) -> Any:
    group = file.create_group(name)
    group.attrs["_index"] = "names"
    group["names"] = words
    return group


def h5ad(path: Path, x: np.ndarray | None = None, form: str = "csr", **more: Any) -> Path:
    """Write an .h5ad file; ``more`` may hold raw, layers={name: x}, obs={name: values} and genes."""
    with h5py.File(path, "w") as file:
        if x is not None:
            put_matrix(file, "X", x, form)
        if "raw" in more:
            put_matrix(file.create_group("raw"), "X", more["raw"], form)
            put_index(file["raw"], "var", [f"raw{i}" for i in range(more["raw"].shape[1])])
        for name, layer in more.get("layers", {}).items():
            put_matrix(file.require_group("layers"), name, layer, form)
        put_index(file, "var", more.get("genes", GENES))
        obs = put_index(file, "obs", [f"cell{i}" for i in range(CELLS)])
        for name, values in more.get("obs", {}).items():
            obs[name] = values
    return path


@pytest.mark.parametrize("form", ["dense", "csr", "csc", "old csr", "old csc"])
def test_a_matrix_is_read_in_every_encoding(tmp_path: Path, form: str):
    x = counts()
    found = read_h5ad(h5ad(tmp_path / "a.h5ad", x, form))
    assert isinstance(found, Counts) and np.array_equal(found.x[:], x)
    assert found.names == tuple(GENES) and found.source == "X" and found.whole and found.notes == []
    assert found.labels is None and found.columns == ()
    assert found.fingerprint == counts_of(SimpleNamespace(X=x, obs={}, var_names=GENES)).fingerprint


@pytest.mark.parametrize("form", ["dense", "csr"])
def test_the_matrix_that_holds_counts_is_found(tmp_path: Path, form: str):
    x, other, path = counts(), counts(), tmp_path / "a.h5ad"
    sizes = x.sum(1) + 50.0
    logs = np.log1p(x / sizes[:, None] * 1e4)
    scaled = (logs - logs.mean(0)).astype(np.float32)

    def source(x: np.ndarray | None, **more: Any) -> tuple[str, np.ndarray, list[str]]:
        options = more.pop("options", {})
        found = read_h5ad(h5ad(path, x, form, **more), **options)
        return found.source, found.x[:].numpy(), found.notes

    for given, more, place, wanted, note in [
        (scaled, {"layers": {"counts": x}, "raw": other}, "layers/counts", x, "taken from layers/counts"),
        (x, {"layers": {"spliced": other}, "raw": other}, "X", x, None),
        (x, {"layers": {"counts": logs}}, "X", x, None),
        (scaled, {"raw": x}, "raw/X", x, "the counts are taken from raw/X"),
        (scaled, {"raw": logs, "obs": {"n_counts": sizes}}, "raw/X", x, "restored from their logarithms"),
        (logs, {"obs": {"total_counts": sizes}}, "X", x, r"restored.*expm1\(X\) x obs\['total_counts'\] / 10,000"),
        (logs.round(3), {"obs": {"nCount_RNA": sizes}}, "X", x, "restored"),
        (logs, {"obs": {"n_counts": sizes * 1.13}}, "X", logs, "no raw counts were found; .* X are taken unchanged"),
        (logs, {"obs": {"n_counts": sizes * 0}}, "X", logs, "no raw counts"),
        (logs, {"raw": logs[:, :4]}, "X", logs, "no raw counts"),
        (None, {"raw": logs}, "raw/X", logs, "no raw counts"),
        (logs, {"layers": {"counts": x}, "options": {"layer": "X"}}, "X", logs, "X does not hold whole numbers"),
        (logs, {"layers": {"spliced": x}, "options": {"layer": "spliced"}}, "layers/spliced", x, None),
        (logs, {"raw": x[:, :4], "options": {"layer": "raw"}}, "raw/X", x[:, :4], None),
    ]:  # fmt: skip
        found, values, notes = source(given, **more)
        assert found == place and np.array_equal(values, wanted.astype(np.float32)), (place, note)
        assert notes == [] if note is None else len(notes) == 1 and re.search(note, notes[0]), notes
    assert "no layer 'absent': pass --layer with one of X, a" in refusal(h5ad(path, x, layers={"a": x}), layer="absent")


def test_raw_counts_have_the_names_of_raw(tmp_path: Path):
    found = read_h5ad(h5ad(tmp_path / "a.h5ad", counts() + 0.5, raw=counts(genes=4)))
    assert found.source == "raw/X" and found.names == ("raw0", "raw1", "raw2", "raw3")
    assert found.x.shape == (CELLS, 4)


# Labels

CODES = rng.integers(0, 3, CELLS)
WORDS = np.array(["b", "unused", "a", "c"])
TYPES = WORDS[[0, 2, 3]][CODES]


def put_columns(path: Path, put: Callable[[Any], None]) -> Path:
    with h5py.File(h5ad(path, counts()), "r+") as file:
        put(file["obs"])
    return path


def categorical(obs: Any) -> None:
    obs.create_group("type").attrs["encoding-type"] = "categorical"
    obs["type/codes"], obs["type/categories"] = np.array([0, 2, 3], np.int8)[CODES], WORDS.tolist()


def categories_beside(obs: Any) -> None:
    obs["type"], obs["__categories/type"] = np.array([0, 2, 3], np.int8)[CODES], WORDS.tolist()


def strings(obs: Any) -> None:
    obs["type"] = TYPES.tolist()


def fixed_strings(obs: Any) -> None:
    obs["type"] = TYPES.astype("S")


def nullable(obs: Any) -> None:
    obs["type/values"], obs["type/mask"] = CODES, np.zeros(CELLS, bool)


def numeric_categories(obs: Any) -> None:
    obs["type/codes"], obs["type/categories"] = CODES, [0, 1, 2]


def test_a_column_is_read_in_every_encoding(tmp_path: Path):
    for put, words in [(categorical, ("b", "a", "c")), (categories_beside, ("b", "a", "c")),
                       (strings, ("a", "b", "c")), (fixed_strings, ("a", "b", "c"))]:  # fmt: skip
        found = read_h5ad(put_columns(tmp_path / "a.h5ad", put), labels="type")
        assert found.label_names == words and found.columns == ("type",), put.__name__
        assert found.labels.dtype == np.int64 and np.array_equal(np.array(words)[found.labels], TYPES)
    for put in (nullable, numeric_categories):
        found = read_h5ad(put_columns(tmp_path / "a.h5ad", put), labels="type")
        assert found.label_names is None and np.array_equal(found.labels, CODES)
    assert read_h5ad(tmp_path / "a.h5ad").labels is None
    with h5py.File(h5ad(tmp_path / "a.h5ad", counts(), obs={"a": CODES, "b": CODES, "c": CODES}), "r+") as file:
        file["obs"].attrs["column-order"] = ["c", "a"]
    assert read_h5ad(tmp_path / "a.h5ad").columns == ("c", "a", "b")


def test_names_in_newer_encodings_are_read(tmp_path: Path):
    path = h5ad(tmp_path / "a.h5ad", counts())
    for codes in (False, True):
        with h5py.File(path, "r+") as file:
            del file["var/names"]
            if codes:
                file["var/names/codes"], file["var/names/categories"] = np.arange(9)[::-1], GENES[::-1]
            else:
                file["var/names/values"], file["var/names/mask"] = GENES, np.zeros(9, bool)
        assert read_h5ad(path).names == tuple(GENES)


def test_old_files_with_records_instead_of_groups_are_read(tmp_path: Path):
    x, path = counts(), tmp_path / "a.h5ad"
    obs = np.zeros(CELLS, [("index", "S5"), ("type", "i1"), ("size", "f4"), ("word", "S1")])
    obs["type"], obs["size"], obs["word"] = CODES, np.arange(CELLS), TYPES
    with h5py.File(path, "w") as file:
        file["X"] = np.log1p(x)
        put_matrix(file, "raw.X", x, "old csr")
        file["obs"], file["uns/type_categories"] = obs, np.array(["b", "a", "c"], "S")
        file["var"] = file["raw.var"] = np.array([(g,) for g in GENES], [("index", "S8")])
    found = read_h5ad(path, labels="type")
    assert found.source == "raw/X" and found.names == tuple(GENES) and np.array_equal(found.x[:], x)
    assert found.columns == ("type", "size", "word") and found.label_names == ("b", "a", "c")
    assert np.array_equal(np.array(found.label_names)[found.labels], TYPES)
    assert read_h5ad(path, labels="size").labels.tolist() == list(range(CELLS))
    assert read_h5ad(path, labels="word").label_names == ("a", "b", "c")


def test_objects_like_anndata_are_read():
    x = counts()
    frame = pd.DataFrame({"type": pd.Categorical(TYPES, WORDS), "text": TYPES, "depth": np.arange(CELLS) / 2})
    raw = SimpleNamespace(X=sparse.csc_array(x), var_names=pd.Index(GENES))
    data = SimpleNamespace(X=np.log1p(x), obs=frame, var_names=pd.Index(GENES), layers={}, raw=raw)
    found = counts_of(data, labels="type")
    assert found.source == "raw/X" and found.columns == ("type", "text", "depth")
    assert found.label_names == ("b", "a", "c") and np.array_equal(np.array(found.label_names)[found.labels], TYPES)
    assert counts_of(data, labels="text").label_names == ("a", "b", "c")
    assert counts_of(data, labels="depth").labels.tolist() == frame["depth"].tolist()
    frame.loc[3, "type"] = None
    with pytest.raises(InputError, match=r"label 'type' of row 3 \(counted from 0\) is missing"):
        counts_of(data, labels="type")
    with pytest.raises(InputError, match=r"the obs of the data has no labels 'kind': choose one of type, text, depth"):
        counts_of(data, labels="kind")


# Hostile files


def damaged(path: Path, change: Callable[[Any], None]) -> str:
    with h5py.File(h5ad(path, counts(), "csr", obs={"n": np.arange(CELLS)}), "r+") as file:
        change(file)
    return refusal(path)


def replace(name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        if value is not None:
            file[name] = value

    return change


def set_entry(name: str, place: int, value: float) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file[name][place] = value

    return change


def attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda file: file["X"].attrs.__setitem__(name, value)


def huge(file: Any) -> None:
    del file["X"]
    file.create_dataset("X", (10**9, 10**6), "f4", chunks=(1000, 1000))


def elsewhere(file: Any) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/etc/other.h5", "/X")


def outside(file: Any) -> None:
    del file["X"]
    file.create_dataset("X", (4, 5), "u1", external=[("/etc/passwd", 0, 20)])


DAMAGE = {
    "no X": (replace("X", None), "has no X"),
    "no data": (replace("X/data", None), "X/data is missing"),
    "short data": (replace("X/data", np.ones(3)), "X has 3 values"),
    "text": (replace("X/data", ["a", "b"]), "X/data does not hold numbers"),
    "short indptr": (replace("X/indptr", np.zeros(5, int)), "indptr has 5 entries but needs 21"),
    "indptr falls": (set_entry("X/indptr", 3, 10**6), "indptr falls after entry 3"),
    "indptr starts late": (set_entry("X/indptr", 0, 1), "indptr runs from 1 to 65"),
    "indptr ends early": (set_entry("X/indptr", CELLS, 1), "indptr runs from 0 to 1"),
    "index beyond": (set_entry("X/indices", 2, 9), "indices has 9 at 2, but must have numbers from 0 to 8"),
    "index below": (set_entry("X/indices", 2, -1), "indices has -1 at 2"),
    "fractional indices": (replace("X/indices", np.ones(3)), "not integers"),
    "negative count": (set_entry("X/data", 0, -3), r"count -3 at row \d+, column \d+ .* is negative"),
    "not a number": (set_entry("X/data", 0, np.nan), "value nan at row .* not finite"),
    "no shape": (attribute("shape", "x"), "does not state its shape"),
    "negative shape": (attribute("shape", [-1, 9]), "does not state its shape"),
    "another shape": (attribute("shape", [CELLS, 4]), "numbers from 0 to 3"),
    "endless shape": (attribute("shape", [2**62, 9]), "indptr has 21 entries"),
    "unknown encoding": (attribute("encoding-type", "coo"), "the encoding 'coo'"),
    "three axes": (replace("X", np.zeros((2, 2, 2))), "not an array with 2 axes"),
    "one axis": (replace("X", np.zeros(5)), "not an array with 2 axes"),
    "declared and not there": (huge, "declares 4,000,000,000,000,000 bytes but holds 0"),
    "a link to another file": (elsewhere, "link to another file"),
    "values in another file": (outside, "lies in another file"),
    "names": (replace("var/names", ["a"]), "X has 9 columns and 1 names"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_hostile_files_are_refused_with_a_sentence(tmp_path: Path, case: str):
    change, text = DAMAGE[case]
    assert re.search(text, damaged(tmp_path / "a.h5ad", change))


def test_bad_labels_are_refused(tmp_path: Path):
    path = tmp_path / "a.h5ad"

    def no(put: Callable[[Any], None], text: str) -> None:
        assert re.search(text, refusal(put_columns(path, put), labels="type"))

    def gap(obs: Any) -> None:
        categorical(obs)
        obs["type/codes"][4] = -1

    def beyond(obs: Any) -> None:
        categorical(obs)
        obs["type/codes"][4] = 9

    def masked(obs: Any) -> None:
        nullable(obs)
        obs["type/mask"][6] = True

    def blank(obs: Any) -> None:
        obs["type"] = ["a", "", *["b"] * (CELLS - 2)]

    no(gap, r"label 'type' of row 4 \(counted from 0\) is missing")
    no(masked, "label 'type' of row 6")
    no(blank, "label 'type' of row 1")
    no(beyond, "codes of obs/type do not fit its 4 categories")
    no(lambda obs: obs.__setitem__("type", np.arange(3)), "'type' of obs has 3 entries for 20 rows")
    no(lambda obs: obs.__setitem__("type", np.arange(CELLS) + 0.5 * np.nan), "row 0")
    no(lambda obs: None, "the obs of .* has no labels 'type'")


def test_files_that_are_not_h5ad_are_refused(tmp_path: Path):
    path = tmp_path / "a.h5ad"
    assert "does not exist" in refusal(path)
    for content in (b"", b"text", bytes(5000)):
        path.write_bytes(content)
        assert "is not an .h5ad file" in refusal(path)
    whole = h5ad(path, counts()).read_bytes()
    for part in (40, 500, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        refusal(path)


def test_damaged_values_never_escape_as_another_error(tmp_path: Path):
    """Only values are damaged here: errors in the structure of HDF5 are those of its library."""
    random, path = np.random.default_rng(3), tmp_path / "a.h5ad"
    extremes = [-(2**31), -1, 0, 1, 9, 10**6, 2**31 - 1]
    refused = 0
    for trial in range(60):
        with h5py.File(h5ad(path, counts(), ("csr", "csc")[trial % 2]), "r+") as file:
            categorical(file["obs"])
            name = ("X/indptr", "X/indices", "X/data", "obs/type/codes")[trial % 4]
            low = np.iinfo(np.int8).min if name.endswith("codes") else -(2**31)
            for place in random.integers(0, len(file[name]), 3).tolist():
                file[name][place] = max(low, min(random.choice(extremes), -low - 1))
        try:
            assert read_h5ad(path, labels="type").x[:].isfinite().all()
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and "a.h5ad" in str(error)
    assert refused > 20


def test_reading_counts_needs_no_torch():
    code = "import sys, latens.data.counts.sparse; print({'torch', 'h5py', 'scipy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_codes_carry_the_names_of_cells(tmp_path: Path) -> None:
    path, names = h5ad(tmp_path / "a.h5ad", counts()), [f"cell{i}" for i in range(CELLS)]
    assert read(path).row_names == tuple(names)
    assert call("fit", path, "--epochs", 1, "--latent-dim", 2, "--out", tmp_path / "run").status == 0
    for command in ("encode", "score", "reconstruct"):
        assert call(command, tmp_path / "run", path, "--out", tmp_path / "out.csv").status == 0
        table = read_table(tmp_path / "out.csv", drop=())
        assert table.column_names[-1] == "cell" and table["cell"].to_pylist() == names


def test_queries_are_read_from_the_layer_of_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    x = counts()
    other = x[::-1].copy()
    h5ad(Path("a.h5ad"), np.log1p(x), layers={"spliced": x, "other": other})
    h5ad(Path("b.h5ad"), x, layers={"counts": other})
    common = ("--epochs", "1", "--latent-dim", "1")
    done("fit", "a.h5ad", "--out", "r", "--layer", "spliced", *common)
    done("fit", "a.h5ad", "--out", "logs", *common)
    vae = latens.load("r")
    layered = SimpleNamespace(X=np.log1p(x), obs={}, var_names=GENES, layers={"spliced": x, "other": other})
    for command in ("encode", "reconstruct", "score"):
        done(command, "r", "a.h5ad", "--out", "o.npy")
        done(command, "r", "a.h5ad", "--out", "p.npy", "--layer", "other")  # an explicit choice wins
        assert np.allclose(np.load("o.npy")[::-1], np.load("p.npy"))
        said = refused(command, "r", "b.h5ad", "--out", "q.npy")
        assert said == "b.h5ad has no layer 'spliced': pass --layer with one of X, counts"
        done(command, "r", "b.h5ad", "--out", "q.npy", "--layer", "X")
        assert np.allclose(np.load("o.npy"), np.load("q.npy"))
        done(command, "r", "b.h5ad", "--out", "q.npy", "--layer", "counts")
        assert np.allclose(np.load("p.npy"), np.load("q.npy"))
    done("encode", "r", "a.h5ad", "--out", "o.npy")
    for data in ("a.h5ad", layered):
        assert np.allclose(vae.transform(data), np.load("o.npy"), atol=1e-5)
    h5ad(Path("c.h5ad"), np.log1p(x), layers={"counts": x})  # a model of other values does not take the counts
    done("encode", "logs", "a.h5ad", "--out", "o.npy")
    done("encode", "logs", "c.h5ad", "--out", "q.npy")
    assert np.allclose(np.load("o.npy"), np.load("q.npy"))


# AnnData that are changed in place


class Backed:
    """A matrix that stays in its file until rows are read."""

    def __init__(self, matrix: Any):
        self.matrix = matrix

    def to_memory(self) -> Any:
        return self.matrix


def annotated(x: np.ndarray, held: Callable[[Any], Any] = lambda matrix: matrix, **more: Any) -> SimpleNamespace:
    matrix = held(sparse.csr_array(x))
    return SimpleNamespace(X=matrix, obs={}, var_names=pd.Index(GENES), obsm={"X_pca": x[:, :2]}, **more)


QUICK: dict[str, Any] = {"latent_dim": 2, "epochs": 1, "random_state": 0}


@pytest.mark.parametrize("layer", [None, "X", "spliced"])
def test_codes_of_an_anndata_are_kept_in_its_obsm(tmp_path: Path, layer: str | None):
    x = counts()
    layers = {"spliced": x[::-1].copy()}
    data, backed = annotated(x, layers=layers), annotated(x, Backed, layers=layers)
    path = h5ad(tmp_path / "a.h5ad", x, layers=layers)
    vae = latens.VAE(layer=layer, **QUICK).fit(data)
    z = vae.transform(data, key_added="X_latens")
    assert np.array_equal(data.obsm["X_latens"], z) and list(data.obsm) == ["X_pca", "X_latens"]
    for other in (backed, path):
        again = latens.VAE(layer=layer, **QUICK).fit(other)
        assert np.array_equal(again.transform(data), z) and np.array_equal(vae.transform(other), z)
    direct = latens.VAE(**QUICK).fit(annotated(layers["spliced"] if layer == "spliced" else x)).transform(
        annotated(layers["spliced"] if layer == "spliced" else x)
    )
    assert np.array_equal(direct, z)


def test_codes_are_stored_only_if_the_data_can_keep_them():
    x = counts()
    vae = latens.VAE(**QUICK).fit(annotated(x))
    view = annotated(x, is_view=True, isbacked=True)
    for data, key, said in (
        (x, "k", "key_added is for an AnnData, but X is of the type ndarray: omit it, and keep the returned codes"),
        (annotated(x), "a/b", "key_added must be a name like 'X_latens', got 'a/b'"),
        (annotated(x), 3, "key_added must be a name like 'X_latens', got 3"),
        (view, "k", r"the data are a view of a file-backed AnnData, which cannot store codes: pass X.to_memory\(\)"),
    ):
        with pytest.raises(InputError, match=said):
            vae.transform(data, key_added=key)
    assert list(view.obsm) == ["X_pca"]
    with pytest.raises(InputError, match=r"layer is for an AnnData or an \.h5ad, but X is of the type ndarray"):
        latens.VAE(layer="X", **QUICK).fit(x)
    with pytest.raises(InputError, match="the data has no layer 'absent': pass layer with one of X"):
        latens.VAE(layer="absent", **QUICK).fit(annotated(x))


def contents(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def note(name: str, member: Any) -> None:
        value = member[()].tolist() if isinstance(member, h5py.Dataset) else None
        found[name] = (value, {key: str(each) for key, each in member.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def test_encode_adds_codes_to_a_copy_of_an_h5ad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    h5ad(Path("a.h5ad"), counts(), obs={"type": np.array(TYPES, "S")})
    done("fit", "a.h5ad", "--out", "r", "--epochs", "1", "--latent-dim", "2")
    before = contents(Path("a.h5ad"))
    done("encode", "r", "a.h5ad", "--out", "z.npy")
    said = done("encode", "r", "a.h5ad", "--out", "b.h5ad").out
    assert "wrote b.h5ad: the data with codes in obsm['X_latens'] [" in said
    after = contents(Path("b.h5ad"))
    assert contents(Path("a.h5ad")) == before and before.items() <= after.items()
    assert {*after} - {*before} == {"obsm", "obsm/X_latens"}
    assert after["obsm"][1] == {"encoding-type": "dict", "encoding-version": "0.1.0"}
    assert np.array_equal(np.array(after["obsm/X_latens"][0], "f4"), np.load("z.npy"))
    done("encode", "r", "b.h5ad", "--out", "b.h5ad", "--key", "two")  # in place
    done("encode", "r", "b.h5ad", "--out", "b.h5ad", "--samples", "1")  # replaced
    again = contents(Path("b.h5ad"))
    assert again["obsm/two"] == after["obsm/X_latens"] != again["obsm/X_latens"]
    np.save("x.npy", counts())
    with h5py.File("a.h5ad", "r+") as file:
        file["obsm"] = np.zeros((CELLS, 2))
    for words, said in (
        ("x.npy --out c.h5ad",
         "cannot write c.h5ad: only an .h5ad can be copied with codes, but x.npy is not one: write a .npy"),
        ("a.h5ad --out c.h5ad", "a.h5ad: obsm is a link, or has an old form: write the file again with anndata"),
        ("b.h5ad --out c --key k", "--key names codes in an .h5ad, but c is not one: omit --key, or write an .h5ad"),
        ("b.h5ad --out c.h5ad --key a/b", "the key of codes must be a name like X_latens, got 'a/b'"),
        ("b.h5ad --out c.h5ad --samples 2", "cannot write c.h5ad: 2 draws per row have three axes: write .npy or .npz"),
    ):
        assert refused("encode", "r", *words.split()) == said
    assert not Path("c.h5ad").exists() and sorted(p.name for p in Path().glob(".*")) == []
