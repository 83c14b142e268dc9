"""Laws of rows and of splits: how data are interpreted, what a selection keeps, and which rows are held out."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse

import latens
from latens.data.counts.sparse import SparseRows
from latens.data.lazy import some
from latens.data.rows import Asked, array_of, as_matrix, as_table, canonical_order, rows_like, rows_of
from latens.data.splits import Split, split_rows
from latens.errors import InputError
from latens.schema import Schema, Table

rng = np.random.default_rng(0)
N = 300
WORDS = rng.choice(["x", "y", "z"], N).tolist()


def mixed(**more: Any) -> pa.Table:
    return pa.table({"a": rng.normal(size=N), "w": WORDS, "n": np.arange(N) % 5} | more)


# How data are interpreted

PIXELS = {f"p{j}": rng.integers(0, 17, N) for j in range(20)}
TAKEN: dict[str, tuple[type, str, Any]] = {  # data, and the schema: arrays whose columns share a scale stay arrays
    "an array of numbers": (Schema, "continuous", rng.normal(size=(N, 3))),
    "pictures": (Schema, "levels", rng.integers(0, 256, (N, 8, 8)).astype(np.uint8)),
    "a table of pixels": (Schema, "levels", pa.table(PIXELS)),
    "a table of zeros and ones": (Schema, "binary", pa.table({k: v > 8 for k, v in PIXELS.items()})),
    "a few indicators": (Table, "table", pa.table({k: v > 8 for k, v in [*PIXELS.items()][:9]})),
    "pixels with a gap": (Table, "table", pa.table(PIXELS | {"p3": [None, *PIXELS["p3"][1:].tolist()]})),
    "pixels and a word": (Table, "table", pa.table(PIXELS | {"w": WORDS})),
    "a table of numbers": (Table, "table", pa.table({"a": rng.normal(size=N), "b": rng.normal(size=N)})),
    "an array with a gap": (Table, "table", np.array([[1.5, np.nan], [2.5, 1.0], [0.5, 2.0]])),
    "mixed columns": (Table, "table", mixed()),
    "sparse numbers": (Schema, "continuous", SparseRows(sparse.random(N, 5, 0.5, random_state=0))),
}


@pytest.mark.parametrize("case", TAKEN)
def test_data_become_the_expected_kind_of_schema(case: str) -> None:
    kind, word, x = TAKEN[case]
    rows = rows_of(x)
    assert type(rows.schema) is kind and rows.schema.kind == word and len(rows) == len(x)
    assert tuple(rows.inside.shape) == (len(x), *rows.schema.shape) and rows.c is None
    again = rows_like(x, rows.schema)
    assert torch.equal(torch.nan_to_num(again.inside[:]), torch.nan_to_num(rows.inside[:]))


def test_a_column_that_is_named_makes_a_table() -> None:
    for asked in (Asked({"p1": "count"}), Asked(condition=("p1",))):
        rows = rows_of(pa.table(PIXELS), asked=asked)
        assert isinstance(rows.schema, Table)
        assert rows.schema.field("p1").kind == ("count" if asked.columns else rows.schema.field("p2").kind)
    x = np.stack(list(PIXELS.values()), 1)
    rows = rows_of(x, asked=Asked({"column_2": "count"}))
    assert isinstance(rows.schema, Table) and rows.schema.names[1] == "column_2"
    assert rows_of(pa.table(PIXELS), asked=Asked(kind="continuous")).schema.kind == "continuous"
    with pytest.raises(InputError, match="here has no named columns, which --column needs"):
        rows_of(rng.normal(size=(N, 3, 3)), asked=Asked({"a": "count"}), where="here")


def test_matrices_become_tables_and_complete_numeric_tables_matrices() -> None:
    x = np.array([[1.0, np.nan], [3.0, 4.0]])
    table = as_table(x)
    assert table.to_pydict() == {"column_1": [1.0, 3.0], "column_2": [None, 4.0]}
    assert np.array_equal(as_matrix(as_table(x[1:], ["u", "v"])), x[1:])
    whole = pa.table({"a": pa.array([1, 2], pa.int8()), "b": pa.array([2**53 - 1, 5])})
    assert as_matrix(whole).dtype == np.int64 and as_matrix(whole, ["b"]).tolist() == [[2**53 - 1], [5]]
    for bad, message in (
        (table, r"row 0 \(counted from 0\): column 'column_2' is missing, but only complete rows fit"),
        (pa.table({"a": ["x"]}), "column 'a' is of the type string, but only numbers fit here: leave it out"),
        (pa.table({"a": [dt.date(2024, 1, 1)]}), "column 'a' is of the type date32"),
    ):
        with pytest.raises(InputError, match=message):
            as_matrix(bad)


def test_columns_are_found_by_name_or_by_place() -> None:
    rows = rows_of(mixed())
    table = mixed()
    turned = rows_like(table.select(["n", "w", "a"]).append_column("more", pa.array(WORDS)), rows.schema)
    assert torch.equal(turned.inside, rows_like(table, rows.schema).inside)
    assert isinstance(rows.schema, Table)
    numbers = rows_of(pa.table({"u": rng.normal(size=N), "v": rng.normal(size=N)}))
    x = rng.normal(size=(4, 2))
    assert np.allclose(rows_like(x, numbers.schema).inside.numpy(), x)  # an array has the columns in their order
    with pytest.raises(InputError, match=r"an array of shape \(4, 3\): give 2 columns \(u, v\)"):
        rows_like(np.zeros((4, 3)), numbers.schema)
    with pytest.raises(InputError, match="here has no column 'w', which the model was fitted to"):
        rows_like(table.drop_columns(["w"]), rows.schema, where="here").inside  # noqa: B018
    with pytest.raises(InputError, match="here has no rows"):
        rows_like(table.slice(0, 0), rows.schema, where="here")
    pixels = rows_of(pa.table(PIXELS)).schema
    assert isinstance(pixels, Schema)
    assert np.array_equal(array_of(pa.table(dict(reversed(PIXELS.items()))), pixels, "here")[:, 0], PIXELS["p0"])
    with pytest.raises(InputError, match=r"here has no column 'p7'.*it has p0, p1"):
        array_of(pa.table({k: v for k, v in PIXELS.items() if k != "p7"}), pixels, "here")


def test_taking_rows_also_takes_everything_that_belongs_to_them() -> None:
    table, labels = mixed(), np.arange(N) % 7
    rows = rows_of(table, asked=Asked(condition=("w",)), labels=labels)
    index = [5, 3, 3, 250]
    some = rows.take(index)
    assert len(some) == 4 and some.labels is not None and some.labels.tolist() == labels[index].tolist()
    assert torch.equal(some.inside, rows.inside[index]) and torch.equal(some.c["w"], rows.c["w"][index])
    assert some.handed_through["w"].to_pylist() == [WORDS[i] for i in index]
    assert torch.equal(some.take([3, 0]).inside, rows.inside[[250, 5]])
    x = rng.normal(size=(N, 3))
    assert torch.equal(rows_of(x).take(index).inside, torch.from_numpy(x[index]).float())
    lazy = rows_of(SparseRows(sparse.csr_array(np.abs(x))))
    assert torch.equal(lazy.take(index).take([3, 0]).inside[:], lazy.inside[[250, 5]])


def test_labels_are_conditions_where_they_are_asked_for() -> None:
    x, codes = rng.normal(size=(N, 3)), np.arange(N) % 3
    rows = rows_of(x, asked=Asked(condition=("label",)), labels=codes, label_names=("cat", "dog", "owl"))
    assert rows.given is not None and rows.given.given_fields[0].levels == ("cat", "dog", "owl")
    assert rows.c["label"].tolist() == codes.tolist()
    more = rows_like(x[:2], rows.schema, rows.given, labels=np.array([0, 1]), label_names=("dog", "owl"))
    assert more.c["label"].tolist() == [1, 2]  # by the words, whatever their codes
    new = rows_like(x[:2], rows.schema, rows.given, labels=np.array([0, 1]), label_names=("dog", "emu"), where="here")
    with pytest.raises(InputError, match=r"here: the condition 'label' of row 1 .* is 'emu', which was never seen"):
        new.c  # noqa: B018
    for asked, labels, message in (
        ("label", None, "here has no labels for a condition: name them with --labels"),
        ("kind", codes, "here has no column 'kind'|there is no column 'kind'"),
    ):
        with pytest.raises(InputError, match=message):
            rows_of(x, asked=Asked(condition=(asked,)), labels=labels, where="here")
    with pytest.raises(InputError, match="here has no labels, which the model takes as a condition"):
        rows_like(x, rows.schema, rows.given, where="here")


@pytest.mark.parametrize("lazy", [False, True])
def test_the_canonical_order_depends_only_on_the_contents(lazy: bool) -> None:
    x = rng.integers(0, 3, (200, 4)).astype(np.float32)
    weight = rng.integers(1, 4, 200).astype(float)
    shuffle = rng.permutation(200)

    def form(values: np.ndarray) -> Any:
        return SparseRows(sparse.csr_array(values)) if lazy else torch.from_numpy(values)

    one, other = canonical_order(form(x), weight), canonical_order(form(x[shuffle]), weight[shuffle])
    assert sorted(one) == list(range(200))
    assert np.array_equal(x[one], x[shuffle][other]) and np.array_equal(weight[one], weight[shuffle][other])


# Which rows are held out


def sides(rows: int, validation: float | str, seed: int, split: Split | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(training, held-out) row numbers, of which every split is a partition in the order of the data."""
    train, held = (part.numpy() for part in split_rows(rows, validation, seed, split))
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(rows))
    assert (np.diff(train) > 0).all() and (np.diff(held) > 0).all()
    return train, held


COLUMNS: dict[str, Any] = {
    "words": pa.array(rng.choice([f"g{i}" for i in range(40)], N).tolist()),
    "categories": pa.array(rng.choice(["a", "b", "c", "d"], N).tolist()).dictionary_encode(),
    "numbers": rng.integers(0, 30, N),
    "truth": pa.chunked_array([pa.array(rng.random(100) < 0.3), pa.array(rng.random(200) < 0.3)]),
    "days": pa.array([dt.date(2024, 1, 1) + dt.timedelta(int(k)) for k in rng.integers(0, 50, N)]),
}


def plain(cells: Any) -> np.ndarray:
    return np.array([str(v) for v in (cells.tolist() if isinstance(cells, np.ndarray) else cells.to_pylist())])


@pytest.mark.parametrize("validation", ["auto", 0.1, 0.37])
@pytest.mark.parametrize("column", COLUMNS)
def test_no_group_is_on_both_sides(column: str, validation: float | str) -> None:
    values, held_out = plain(COLUMNS[column]), round(N * (0.1 if validation == "auto" else validation))  # type: ignore[operator]
    smallest = np.unique(values, return_counts=True)[1].min()
    for seed in range(5):
        train, held = sides(N, validation, seed, Split.of("group", COLUMNS[column], "g"))
        assert len(train) and len(held) and not set(values[train]) & set(values[held])
        assert len(held) <= max(held_out, smallest)  # never more than requested if some group is small enough


def test_a_large_group_is_not_held_out() -> None:
    """One group of 900 rows and two of 50: a tenth is one or both of the small ones, whatever the seed."""
    groups = np.repeat([0, 1, 2], [900, 50, 50])
    for seed in range(20):
        _, held = sides(1000, 0.1, seed, Split.of("group", groups, "g"))
        assert held.min() >= 900 and len(held) in (50, 100)
    _, held = sides(1000, 0.01, 0, Split.of("group", groups, "g"))
    assert len(held) == 50  # no group is small enough: the smallest


@pytest.mark.parametrize("column", ["numbers", "truth", "days"])
def test_in_a_split_by_time_the_latest_rows_are_held_out(column: str) -> None:
    cells = COLUMNS[column]
    values = cells if isinstance(cells, np.ndarray) else np.array(cells.to_pylist())
    for validation in (0.1, 0.5):
        train, held = sides(N, validation, 0, Split.of("time", cells, "t"))
        assert len(held) == round(N * validation) and values[held].min() >= values[train].max()


@pytest.mark.parametrize("column", COLUMNS)
def test_every_level_has_its_share(column: str) -> None:
    values = plain(COLUMNS[column])
    for validation, seed in ((0.1, 0), (0.25, 1), (0.5, 2)):
        _, held = sides(N, validation, seed, Split.of("stratified", COLUMNS[column], "s"))
        for level in set(values):
            size = (values == level).sum()
            assert abs((values[held] == level).sum() - validation * size) <= 0.5 + 1e-9


def test_a_random_split_holds_out_the_documented_share() -> None:
    assert [len(sides(n, "auto", 0)[1]) for n in (2, 199, 200, 1000, 49_999, 60_000)] == [0, 0, 20, 100, 4999, 5000]
    assert len(sides(10, 0.25, 0)[1]) == 2 and len(sides(10, 0.0, 0)[1]) == 0
    for bad in (1.0, -0.1, "half", True, 1):
        with pytest.raises(InputError, match="validation must be 'auto', a fraction"):
            split_rows(10, bad, 0)  # type: ignore[arg-type]
    for rows, fraction in ((10, 0.99), (10, 0.01)):
        with pytest.raises(InputError, match="leaves none of 10 rows for"):
            split_rows(rows, fraction, 0)


def test_a_split_is_a_function_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nothing else: not of torch's or numpy's generators, threads, hash seeds, or the process it is made in."""
    kinds: dict[str, Split | None] = {"random": None} | {
        kind: Split.of(kind, COLUMNS["words"], "c") for kind in ("group", "stratified")
    }
    for split in kinds.values():
        found = [sides(N, 0.2, seed, split)[1].tolist() for seed in range(4)]
        torch.manual_seed(7), np.random.seed(7)
        before = torch.get_rng_state()
        assert found == [sides(N, 0.2, seed, split)[1].tolist() for seed in range(4)]
        assert torch.equal(before, torch.get_rng_state())
        assert len({tuple(held) for held in found}) == 4
    code = """
import numpy as np, pyarrow as pa
from latens.data.splits import Split, split_rows
cells = pa.array([f"g{i * 7 % 23}" for i in range(100)])
print([split_rows(100, 0.2, 3, split)[1].tolist() for split in (None, Split.of("group", cells, "g"),
       Split.of("stratified", cells, "g"))])
"""
    outputs = set()
    for hashed, threads in (("1", "1"), ("2", "4")):
        environment = os.environ | {
            "PYTHONHASHSEED": hashed, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(Path(latens.__file__).parents[1]),
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_impossible_splits_are_refused() -> None:
    gaps = pa.array(["a", None, "b"])
    for kind, cells, message in (
        ("kind", gaps, "--split must be group=COLUMN, time=COLUMN, stratified=COLUMN, got kind=g"),
        ("group", gaps, r"--split group=g: row 1 \(counted from 0\) has no value: fill it"),
        ("stratified", np.array([1.0, 2.0, np.nan]), "stratified=g: row 2 .* has no value"),
        ("time", pa.array(["a", "b"]), "time=g: the column holds texts, which have no order in time: name"),
    ):
        with pytest.raises(InputError, match=message):
            Split.of(kind, cells, "g")
    with pytest.raises(InputError, match="all rows are of one group, so none can be held out"):
        split_rows(100, 0.1, 0, Split.of("group", np.zeros(100), "g"))


def test_a_run_with_columns_of_every_kind_can_be_loaded(tmp_path):
    """Loading checks a record with a row that its columns can hold."""
    rng = np.random.default_rng(0)
    table = pa.table({
        "tiny": np.exp(rng.normal(size=300) * 2) / 1e7, "share": rng.beta(2, 2, 300), "n": rng.poisson(30, 300),
        "date": pa.array(rng.integers(9000, 9999, 300).astype(np.int32)).cast(pa.date32()),
        "yes": rng.random(300) < 0.5,
        "word": rng.choice(["a", "b", "c"], 300), "below": -np.exp(rng.normal(size=300)),
    })  # fmt: skip
    vae = latens.VAE(2, epochs=1, random_state=0).fit(table)
    vae.save(tmp_path / "run")
    assert latens.load(tmp_path / "run").sample(3).schema.names == table.schema.names


@pytest.mark.parametrize("limit", [0, 2**40])
def test_selected_rows_are_the_same_whether_copied_or_not(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("latens.data.lazy.COPIED_BYTES", limit)
    x = torch.arange(30.0).reshape(10, 3)
    few = some(x, torch.tensor([7, 2, 2]))
    assert isinstance(few, torch.Tensor) == (limit > 0)
    assert few[:].tolist() == x[[7, 2, 2]].tolist() and few[torch.tensor([1, 0])].tolist() == x[[2, 7]].tolist()
