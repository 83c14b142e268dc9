"""Laws of a table's schema: cells become numbers and are restored unchanged; the first cell that does not fit is
named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from latens.data import infer_table
from latens.data.rows import Asked, rows_like, rows_of
from latens.errors import InputError
from latens.schema import Column, Table, schema_from_json

N = 60
rng = np.random.default_rng(0)
MOMENT = dt.datetime(2024, 2, 29, 12, 30, 5, 250)


def holes(cells: Any) -> pa.Array:
    """The cells with some of them missing."""
    values = pa.array(cells).to_pylist() if not isinstance(cells, pa.Array) else cells.to_pylist()
    values[5] = values[N - 1] = None
    return pa.array(values, pa.array(cells).type if not isinstance(cells, pa.Array) else cells.type)


def whole(dtype: str) -> np.ndarray:
    """Whole numbers up to the limits of the type, or of what a double holds."""
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**53)), min(info.max, 2**53)
    values = rng.integers(low, high, N, dtype=np.int64).astype(dtype)
    values[:2] = low, high
    return values


def coded(codes: Any, levels: Any, *, ordered: bool = False, index: str = "int8") -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.type_for_alias(index)), pa.array(levels), ordered=ordered)


WORDS = holes(rng.choice(["x", "größe", "y, z"], N).tolist())
MOMENTS = holes([MOMENT + dt.timedelta(seconds=int(k)) for k in rng.integers(0, 10**8, N)])
DAYS = holes([dt.date(1950, 1, 1) + dt.timedelta(int(k)) for k in rng.integers(0, 30_000, N)])
SIZES = [None if i == 5 else i % 3 for i in range(N)]
CELLS: dict[str, tuple[str, Any]] = {  # type of a column, and its cells
    **{name: ("continuous", holes(whole(name))) for name in ("int8", "int16", "int32", "int64", "uint32", "uint64")},
    **{name: ("count", holes(whole(name))) for name in ("uint8", "uint16")},
    "float32": ("continuous", holes(rng.normal(size=N).astype(np.float32))),
    "float64": ("continuous", holes(rng.normal(size=N))),
    "decimal": ("continuous", holes([decimal.Decimal(int(k)) / 100 for k in rng.integers(-(10**6), 10**6, N)])),
    "bool": ("binary", holes(rng.random(N) < 0.5)),
    "text": ("categorical", WORDS),
    "large text": ("categorical", WORDS.cast(pa.large_string())),
    "text view": ("categorical", WORDS.cast(pa.string_view())),
    "categories": ("categorical", WORDS.dictionary_encode()),
    "sizes": ("ordered", coded(SIZES, ["S", "M", "L"], ordered=True)),
    "sizes, one unused": ("ordered", coded(SIZES, ["XS", "S", "M", "L"], ordered=True, index="int16")),
    "two categories": ("binary", coded([i % 2 for i in range(N)], ["yes", "no"])),
    "numbers as categories": ("categorical", coded([i % 30 for i in range(N)], np.arange(30) ** 2 * 7)),
    "doubles as categories": ("categorical", coded([i % 30 for i in range(N)], rng.normal(size=30))),
    "dates as categories": ("categorical", coded(SIZES, [dt.date(2024, 1, i) for i in (1, 3, 2)])),
    "few numbers": ("ordered", holes([i % 4 - 1 for i in range(N)])),
    "date32": ("datetime", DAYS), "date64": ("datetime", DAYS.cast(pa.date64())),
    **{
        f"timestamp {unit} {zone}": ("datetime", MOMENTS.cast(pa.timestamp(unit, zone), safe=False))
        for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")
    },
    "constant": ("constant", pa.array(["x"] * N)),
    "constant int": ("constant", pa.array([2**62 + 1] * N)),
    "constant double": ("constant", pa.array([0.1] * N)),
    "constant truth": ("constant", pa.array([True] * N)),
    "constant day": ("constant", pa.array([dt.date(2024, 2, 29)] * N)),
    "constant midnight": ("constant", pa.array([dt.datetime(2024, 2, 29)] * N, pa.timestamp("us", "UTC"))),
    "constant category": ("constant", coded([1] * N, ["u", "v"])),
    "null": ("missing", pa.nulls(N)), "no text": ("missing", pa.nulls(N, pa.string())),
    "no category": ("missing", pa.nulls(N, pa.dictionary(pa.int8(), pa.string()))),
    "no moment": ("missing", pa.nulls(N, pa.timestamp("us", "UTC"))),
}  # fmt: skip


def beside(cells: pa.Array, name: str = "cells") -> pa.Table:
    """A table with the cells between two numeric columns, so that there is always something to model."""
    x = np.random.default_rng(1).normal(size=(2, len(cells)))
    return pa.table({"first": x[0], name: cells, "last": x[1]})


@pytest.mark.parametrize("case", CELLS)
def test_a_table_survives_conversion_to_numbers_and_back(case: str) -> None:
    """to_user(to_model(t)) == t in names, order, types and every cell, also through JSON and for another split into
    chunks."""
    kind, cells = CELLS[case]
    table = beside(cells)
    schema = dataclasses.replace(infer_table(table), storage="float64")
    assert schema.field("cells").kind == kind, schema.describe()
    schema = schema_from_json(json.loads(json.dumps(schema.to_json())))  # type: ignore[assignment]
    x = schema.to_model(table)
    assert x.dtype == np.float64 and x.shape == (N, 2 + (kind not in ("constant", "missing")))
    back = schema.to_user(x)
    assert back.schema == table.schema and back.to_pydict() == table.to_pydict()
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    assert np.array_equal(schema.to_model(pieces), x, equal_nan=True)
    assert np.array_equal(schema.to_model(table.select(["last", "cells", "first"])), x, equal_nan=True)


@pytest.mark.parametrize("case", CELLS)
def test_numbers_are_those_of_arrow(case: str) -> None:
    """Compare with Python's values, converted one by one."""
    kind, cells = CELLS[case]
    if kind in ("constant", "missing"):
        return
    field = infer_table(beside(cells)).field("cells")
    numbers, unknown = field.encode(cells)

    def number(value: Any) -> float:
        if value is None:
            return np.nan
        if field.levels is not None:
            return field.levels.index(str(value) if isinstance(value, dt.date) else value)
        if isinstance(value, dt.datetime):
            return (value.replace(tzinfo=None) - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1)  # by its clock
        return float((value - dt.date(1970, 1, 1)).days if isinstance(value, dt.date) else value)

    expected = np.array([number(value) for value in cells.to_pylist()])
    assert unknown == 0 and np.array_equal(np.isnan(numbers), np.isnan(expected))
    assert np.nanmax(np.abs(numbers - expected)) <= 1e-10 and field.missing == np.isnan(expected).mean()


def test_stored_numbers_keep_what_matters() -> None:
    """float32 where it loses less than a thousandth of a standard deviation, float64 where it would lose more."""
    near, far = rng.normal(size=N), 1.7e9 + rng.normal(size=N)
    assert infer_table(pa.table({"x": near})).storage == "float32"
    assert infer_table(pa.table({"x": near, "y": far})).storage == "float64"
    with pytest.raises(InputError, match="beyond the range of float32"):
        infer_table(pa.table({"x": near * 1e60}))
    table = pa.table({"price": np.round(rng.gamma(2, 50, N), 2)})
    schema = infer_table(table)
    assert schema.storage == "float32" and schema.fields[0].decimals == 2
    assert schema.to_user(schema.to_model(table)).equals(table)  # rounded as the column was


# Back from numbers that no cell had


def test_numbers_between_grid_points_are_restored_in_their_type() -> None:
    """Whole numbers are rounded and kept in range, codes are levels, NaN is a null."""
    cases: list[tuple[Any, float, Any]] = [
        (holes(whole("int8")), 1e9, 127), (holes(whole("int8")), -1e9, -128), (holes(whole("int64")), 1e30, None),
        (holes(whole("uint8")), -3.0, 0), (holes(np.arange(N) % 30), -3.0, 0), (holes(np.arange(N) * 2 - 9), 3.4, 3),
        (WORDS, 1.4, "x"), (WORDS, 99.0, "y, z"), (coded(SIZES, ["S", "M", "L"], ordered=True), -1.0, "S"),
        (holes(rng.random(N) < 0.5), 0.6, True), (holes(np.round(rng.normal(size=N), 1)), 0.26, 0.3),
        (DAYS, 19782.4, dt.date(2024, 2, 29)), (WORDS, np.nan, None), (DAYS, np.nan, None),
    ]  # fmt: skip
    for cells, number, expected in cases:
        field = infer_table(beside(cells)).field("cells")
        [value] = field.decode(np.array([number])).to_pylist()
        if number == 1e30:
            assert value == max(v for v in cells.to_pylist() if v is not None)
            continue
        assert value == expected and type(value) is type(expected), (field, number)


def test_constants_and_given_columns_go_back_to_their_places() -> None:
    table = pa.table({
        "note": [f"n{i}" for i in range(N)], "x": rng.normal(size=N), "c": ["k"] * N, "word": WORDS,
        "y": np.arange(N) % 2,
    })  # fmt: skip
    schema = infer_table(table, condition=["word"])
    assert schema.names == ("x", "y") and [f.name for f in schema.given_fields] == ["word"]
    back = schema.to_user(np.array([[0.5, 1], [1.5, 0]]), {"word": pa.array(["x", "größe"])})
    assert back.to_pydict() == {"x": [0.5, 1.5], "c": ["k", "k"], "word": ["x", "größe"], "y": [1, 0]}
    handed = schema.to_user(schema.to_model(table), {name: table.column(name) for name in ("note", "word")})
    assert handed.column_names == table.column_names and handed.schema.types == table.schema.types
    with pytest.raises(InputError, match=r"the array must be of shape \(n, 2\), got \(3, 5\)"):
        schema.to_user(np.zeros((3, 5)))


# What does not fit


def test_levels_never_seen_are_missing_and_counted() -> None:
    table = pa.table({"word": ["a", "b", "c"] * 20, "truth": [True, False] * 30, "x": rng.normal(size=N)})
    schema = infer_table(table)
    new = pa.table({"word": ["a", "z", None, "z"], "truth": [True, None, False, True], "x": [0.5, None, 1.0, 2.0]})
    unknown: dict[str, int] = {}
    x = schema.to_model(new, unknown=unknown)
    expected = [[0, 1, 0.5], [np.nan, np.nan, np.nan], [np.nan, 0, 1], [np.nan, 1, 2]]
    assert np.array_equal(x, expected, equal_nan=True) and unknown == {"word": 2}
    rows = rows_like(new, schema)
    assert rows.unknown == {"word": 2} and rows_like(table, schema).unknown == {}
    assert torch.equal(torch.isnan(rows.inside), torch.isnan(torch.from_numpy(x)))


LAW = {
    "count": np.arange(N) % 30, "positive": np.exp(2 * rng.normal(size=N)), "number": rng.normal(size=N),
    "share": np.linspace(0, 1, N), "word": ["a", "b", "c"] * 20,
    "day": [dt.date(2024, 1, 1 + i % 28) for i in range(N)],
}  # fmt: skip
GOOD: dict[str, Any] = {name: list(values[:4]) for name, values in LAW.items()}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"count": [1, -2, 3, -4]}, "row 11 .*column 'count' has -2: a count cannot be negative"),
    "broken": ({"count": [1, 2, 2.5, 3]}, "row 12 .*column 'count' has 2.5: .*must be a whole number"),
    "zero": ({"positive": [1.0, 0.0, 2.0, 1.0]}, "row 11 .*column 'positive' has 0: .*numbers above 0"),
    "above": ({"share": [0.5, 0.2, 1.0, 1.5]}, "row 13 .*column 'share' has 1.5: .*numbers from 0 to 1"),
    "infinite": ({"number": [1.0, np.nan, -np.inf, 2.0]}, "row 12 .*column 'number' has -inf: it must be finite"),
    "beyond float32": (
        {"number": [1.0, 1e39, 1.0, 1.0]},
        r"row 11 .*column 'number' has 1e\+39: .*beyond the range of float32",
    ),
    "words for numbers": ({"number": [None, "x", "y", "z"]}, r"row 11 .*column 'number' has 'x', .*: give numbers"),
    "no column": ({"word": None}, "has no column 'word', which the model was fitted to .it has count, positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_a_column_cannot_hold_are_refused(case: str) -> None:
    change, message = REFUSED[case]
    schema = infer_table(pa.table(LAW), {"share": "bounded", "positive": "positive", "count": "count"})
    assert schema.storage == "float32" and schema.to_model(pa.table(GOOD)).shape == (4, 6)
    table = pa.table({name: values for name, values in (GOOD | change).items() if values is not None})
    with pytest.raises(InputError, match=f"^new.csv.*{message}") as caught:
        schema.to_model(table, "new.csv", first_row=10)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pa.table([[1.5, 2.5], [3.5, 4.5]], names=["a", "a"])
    with pytest.raises(InputError, match="the data has two columns called 'a': rename one"):
        infer_table(twice)
    with pytest.raises(InputError, match="here has two columns called 'a': rename one"):
        infer_table(pa.table({"a": [1.5, 2.5]})).to_model(twice, "here")
    with pytest.raises(InputError, match="the schema of the data has two columns called 'a'"):
        Table((Column("a", "count", "int64", "poisson"), Column("a", "text", "string")))


def test_conditions_are_complete_and_known() -> None:
    schema = infer_table(pa.table(LAW), condition=["word", "number"])
    c = schema.conditions_of(pa.table(GOOD))
    assert list(c) == ["word", "number"] and c["word"].tolist() == [0, 1, 2, 0]
    assert np.array_equal(c["number"], np.array(GOOD["number"], np.float32)) and c["word"].dtype == np.float32
    for change, message in (
        ({"word": ["a", None, "b", "c"]}, "the condition 'word' of row 1 .* is missing: give one of a, b, c"),
        ({"word": ["a", "b", "z", "c"]}, "the condition 'word' of row 2 .* is 'z', which was never seen in the fit"),
        ({"number": [1.0, 2.0, 3.0, np.nan]}, "the condition 'number' of row 3 .* is missing"),
        ({"word": None}, "has no column 'word'"),
    ):
        table = pa.table({n: v for n, v in (GOOD | change).items() if v is not None})  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=message):
            schema.conditions_of(table)
    for name, message in (
        ("age", "there is no column 'age'"), ("k", "'k' is constant .always 1.*cannot be a condition"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            infer_table(pa.table(LAW | {"k": [1] * N}), condition=[name])
    with pytest.raises(InputError, match="no column is left to model"):
        infer_table(pa.table({"word": LAW["word"]}), condition=["word"])


# The schema as JSON

BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no columns": (lambda s: s | {"table": {}}, "columns under 'table'"),
    "a column that is none": (lambda s: s | {"table": [7]}, "missing or unknown fields"),
    "no name": (lambda s: s | {"table": [{"kind": "count", "type": "int64"}]}, "missing or unknown fields"),
    "a later field": (lambda s: s | {"table": [s["table"][0] | {"later": 1}]}, "missing or unknown fields"),
    "another kind": (lambda s: s | {"table": [s["table"][0] | {"kind": "odd"}]}, "must be one of .*, got 'odd'"),
    "another family": (lambda s: s | {"table": [s["table"][0] | {"family": "beta"}]}, "cannot have .* 'beta'"),
    "no levels": (lambda s: s | {"table": [s["table"][4] | {"levels": None}]}, "is categorical and has no levels"),
    "no spread": (lambda s: s | {"table": [s["table"][0] | {"unit": 0.0}]}, "shift must be a finite mean"),
    "ill-typed": (lambda s: s | {"table": [s["table"][0] | {"low": "x"}]}, "no valid 'low' for column 'count'"),
    "twice": (lambda s: s | {"table": s["table"] + s["table"][:1]}, "two columns called 'count'"),
    "storage": (lambda s: s | {"storage": "float16"}, "got 'float16'"),
    "conditions": (lambda s: s | {"conditions": ["age"]}, "conditions that are not among"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_json_is_refused(case: str) -> None:
    change, message = BROKEN[case]
    fields = infer_table(pa.table(LAW), condition=["word"]).to_json()
    assert schema_from_json(json.loads(json.dumps(fields))) == infer_table(pa.table(LAW), condition=["word"])
    with pytest.raises(InputError, match=message):
        schema_from_json(change(json.loads(json.dumps(fields))))


# What each column is

M = 2000
r = np.random.default_rng(2)
PARTS = [f"{a}{b}" for a in "abcde" for b in range(60)]
KINDS: dict[str, tuple[str, str, Any]] = {  # kind, likelihood, cells
    "many normal": ("continuous", "heaped", r.normal(size=M)),
    "few normal": ("continuous", "heaped", [*r.normal(size=200), *[None] * (M - 200)]),
    "heavy tails": ("continuous", "heaped", r.standard_t(2, size=M)),
    "skewed": ("positive", "heaped", np.exp(2 * r.normal(size=M))),
    "positive, not skewed": ("continuous", "heaped", r.normal(100, 1, size=M)),
    "shares": ("bounded", "heaped", r.beta(0.5, 0.5, size=M)),
    "between 0.3 and 0.6": ("continuous", "heaped", r.uniform(0.3, 0.6, size=M)),
    "counts": ("count", "heaped", r.negative_binomial(1, 0.05, size=M)),
    "counts with zeros": ("count", "heaped", np.where(r.random(M) < 0.6, 0, r.negative_binomial(2, 0.02, size=M))),
    "ratings": ("ordered", "ordinal", r.integers(1, 6, size=M)),
    "ratings as doubles": ("ordered", "ordinal", r.integers(1, 6, size=M).astype(float)),
    "years": ("continuous", "heaped", r.integers(1950, 2020, size=M)),
    "row numbers": ("identifier", "", np.arange(M) + 17),
    "shuffled row numbers": ("identifier", "", r.permutation(M)),
    "user_id": ("identifier", "", r.permutation(10**6)[:M]),
    "amount": ("continuous", "heaped", r.permutation(10**6)[:M]),
    "two numbers": ("binary", "bernoulli", r.integers(0, 2, size=M) * 7),
    "truth": ("binary", "bernoulli", r.random(M) < 0.5),
    "yes or no": ("binary", "bernoulli", r.choice(["yes", "no"], M).tolist()),
    "places": ("categorical", "categorical", r.choice(PARTS, M).tolist()),
    "names": ("identifier", "", [f"n{i}" for i in range(M)]),
    "free text": ("text", "", [f"it was number {i * 2 // 3} that came" for i in range(M)]),
    "mostly different": ("text", "", [f"n{i * 2 // 3}" for i in range(M)]),
    "one word": ("constant", "", ["a"] * M),
    "one word and gaps": ("categorical", "categorical", ["a"] * (M - 1) + [None]),
    "one number and gaps": ("categorical", "categorical", [2**62 + 1] * (M - 1) + [None]),
    "one day and gaps": ("datetime", "heaped", [dt.date(2024, 2, 29)] * (M - 1) + [None]),
    "one span and gaps": ("continuous", "heaped", [dt.timedelta(hours=3)] * (M - 1) + [None]),
    "nothing": ("missing", "", [None] * M),
    "NaN alone": ("missing", "", np.full(M, np.nan)),
    "days": ("datetime", "heaped", [dt.date(2024, 1, 1) + dt.timedelta(int(i)) for i in r.integers(0, 900, M)]),
    "sizes": ("ordered", "ordinal", coded(r.integers(0, 3, M), ["S", "M", "L"], ordered=True)),
    "prices": ("positive", "heaped", r.gamma(2, 50, size=M).round(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_columns_are_inferred(name: str) -> None:
    kind, family, cells = KINDS[name]
    table = pa.table({"x": r.normal(size=M), name: pa.array(cells, from_pandas=True)})
    field = infer_table(table).field(name)
    assert (field.kind, field.family) == (kind, family), field
    if kind in ("identifier", "text"):
        assert "left out" in field.reason and "--column NAME=" in field.reason
    again = infer_table(pa.concat_tables([table.slice(900), table.slice(0, 900)])).field(name)
    assert (again.kind, again.levels) == (field.kind, field.levels)  # whatever the order of the rows


def test_many_categories_are_left_out_with_a_reason() -> None:
    rows = 150_000
    table = pa.table({"x": np.arange(rows) % 7 / 3, "w": [f"w{i % 100_000}" for i in range(rows)]})
    field = infer_table(table).field("w")
    assert field.kind == "text" and re.match("100,000 different texts, .* at most 10,000: left out", field.reason)
    with pytest.raises(InputError, match=r"'w' has 100,000 different values, .* takes at most 10,000"):
        infer_table(table, {"w": "categorical"})


def test_ordered_categories_keep_their_order() -> None:
    """Levels that no row has are dropped; words without a declared order are sorted by name, numbers by size."""
    table = pa.table({
        "size": coded([i % 2 for i in range(N)], ["M", "S", "XL"], ordered=True), "word": ["b", "a", "c"] * 20,
        "number": [10, 9, -1] * 20,
    })  # fmt: skip
    schema = infer_table(table, {"word": "ordered:c<a<b", "number": "categorical"})
    assert [f.levels for f in schema.fields] == [("M", "S"), ("c", "a", "b"), (-1, 9, 10)]
    assert [f.kind for f in schema.fields] == ["ordered", "ordered", "categorical"]
    assert schema.to_model(table)[:3].tolist() == [[0, 2, 2], [1, 1, 1], [0, 0, 0]]


SAID = pa.table({
    "x": r.normal(size=N), "n": np.arange(N) % 7, "neg": np.arange(N) - 5, "w": ["a", "b", "c"] * 20,
    "f": np.arange(N) / N * 5, "none": pa.nulls(N), "one": [1] * N, "day": DAYS, "id": np.arange(N),
    "name": [f"t{i}" for i in range(N)],
})  # fmt: skip
ASKED: dict[tuple[str, str], tuple[Any, ...] | str] = {  # (kind, likelihood, low, high), or the refusal
    ("n", "continuous"): ("continuous", "heaped", 0, 6), ("n", "poisson"): ("count", "poisson", 0, 6),
    ("n", "ordinal"): ("ordered", "ordinal", None, None),
    ("n", "categorical"): ("categorical", "categorical", None, None),
    ("x", "student_t"): ("continuous", "student_t", min(SAID["x"].to_pylist()), max(SAID["x"].to_pylist())),
    ("f", "bounded:0:5"): ("bounded", "heaped", 0.0, 5.0),
    ("f", "bounded"): ("bounded", "heaped", 0.0, 59 / 60 * 5),
    ("f", "beta"): ("bounded", "beta", 0.0, 59 / 60 * 5),
    ("f", "truncated_normal"): ("bounded", "truncated_normal", 0.0, 59 / 60 * 5),
    ("w", "drop"): ("dropped", "", None, None), ("one", "constant"): ("constant", "", None, None),
    ("id", "continuous"): ("continuous", "heaped", 0, N - 1),
    ("name", "categorical"): ("categorical", "categorical", None, None),
    ("n", "positive"): "cannot be positive, as its smallest value is 0: use continuous",
    ("x", "log_normal"): "cannot be positive, as its smallest value is -",
    ("neg", "count"): "cannot be count, as it has the negative value -5: use continuous",
    ("f", "poisson"): "cannot be count, as it holds numbers that are not whole",
    ("w", "continuous"): "cannot be continuous, as it holds texts: use categorical",
    ("w", "binary"): "cannot be binary, as it has 3 values: use categorical",
    ("x", "bernoulli"): "cannot be binary, as it has 60 values",
    ("w", "ordered:a,b"): "has the level 'c', which is not in 'a,b': name every level",
    ("w", "ordered:a,b,b,c"): "names a level twice",
    ("f", "bounded:0:3"): r"has values 0..4.91667, beyond the bounds 0 and 3",
    ("f", "bounded:5:5"): "must be two finite numbers, the lower first",
    ("f", "bounded:a:5"): "'a:5' is not a pair of bounds: write bounded:LOW:HIGH",
    ("f", "bounded:0:3:5"): "write bounded:LOW:HIGH",
    ("f", "continuous:3"): "continuous takes nothing after one",
    ("x", "constant"): "cannot be constant, as it has more than one value",
    ("x", "odd"): "'odd' is not a kind of column: name one of continuous, positive, .*, or a likelihood .*student_t",
    ("none", "count"): "cannot be count, as every cell is missing: leave it out with --drop",
    ("day", "categorical"): "cannot be categorical, as it holds dates or times: use datetime",
    ("age", "count"): "there is no column 'age': name one of x, n, neg",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), ASKED, ids=["=".join(said) for said in ASKED])
def test_the_user_may_override_the_kinds_of_columns(name: str, kind: str) -> None:
    expected = ASKED[name, kind]
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as caught:
            infer_table(SAID, {name: kind})
        said = str(caught.value)
        assert f"{name!r}" in said and "\n" not in said and not said.endswith(".")
        return
    field = infer_table(SAID, {name: kind}).field(name)
    assert (field.kind, field.family, field.low, field.high) == expected
    others = [(f.name, f.kind) for f in infer_table(SAID).fields if f.name != name]
    assert [(f.name, f.kind) for f in infer_table(SAID, {name: kind}).fields if f.name != name] == others


def test_tables_with_nothing_to_model_are_refused() -> None:
    for table, message in (
        (pa.table({"a": ["x"] * 5}), "no column is left to model .a: always x"),
        (pa.table({"a": [1.5]}), "at least 2 rows, got n_samples=1"),
        (pa.table({"a": [[1], [2]]}), "'a' holds list<.*>, which is neither numbers nor text nor dates"),
        (pa.table({"a": [0.5, np.nan, np.inf]}), "row 2 .*'a' has inf: give a finite number"),
        (pa.table({"a": [1e308, -1e308] * 20 + [0.5]}), "'a': its values .* are beyond the range of float32"),
    ):
        with pytest.raises(InputError, match=message):
            infer_table(table)
    with pytest.raises(InputError, match="there is no column 'b': name one of a"):
        infer_table(pa.table({"a": [1, 2]}), drop=["b"])


def test_a_schema_says_what_was_seen() -> None:
    words = infer_table(SAID, {"w": "drop"}, condition=["n"]).describe().splitlines()
    assert words[0].startswith("10 columns: 2 continuous, 1 datetime")
    assert words[1].split()[:4] == ["column", "kind", "likelihood", "missing"]
    assert [line.split()[0] for line in words[2:]] == SAID.column_names
    assert re.search("n +ordered, given +– ", words[3])
    assert re.search("w +dropped +– +– +string +left out, as asked", words[5])
    assert re.search("none +missing +– +100.0% +null +every cell is missing", words[7])
    assert rows_of(SAID, asked=Asked({"w": "drop"}, ("n",))).schema == infer_table(SAID, {"w": "drop"}, condition=["n"])


def test_the_marginal_scores_agree_with_scipy():
    from scipy import stats

    from latens.data.tables.kinds import _normal, _student_t

    train, test = np.random.default_rng(0).standard_t(3, (2, 500)) * 7 + 3
    assert np.allclose(_normal(train, test), stats.norm(train.mean(), train.std()).logpdf(test), rtol=1e-12)
    laws = [stats.t(df, *_em(train, df)) for df in (3.0, 5.0, 10.0)]
    best = max(laws, key=lambda law: law.logpdf(train).mean())
    assert np.allclose(_student_t(train, test), best.logpdf(test), rtol=1e-9)


def _em(x: np.ndarray, df: float) -> tuple[float, float]:
    """Location and scale of Student's t after 30 steps of EM, in an independent loop."""
    loc, variance = float(np.median(x)), float(np.var(x))
    for _ in range(30):
        w = [(df + 1) / (df + (each - loc) ** 2 / variance) for each in x]
        loc = sum(a * b for a, b in zip(w, x, strict=True)) / sum(w)
        variance = sum(a * (b - loc) ** 2 for a, b in zip(w, x, strict=True)) / len(x)
    return loc, variance**0.5
