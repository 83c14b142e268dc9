"""Frames keep index, types, time zones, units and levels; a message names columns that are left out."""

from __future__ import annotations

import datetime as dt
import pickle
import re
import sys
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from commanding import call

import latens
from latens import VAE, InputError
from latens.data.tables.types import index_names

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]
N = 60
RNG = np.random.default_rng(0)
Z, LEVEL = RNG.normal(size=N), np.arange(N) % 3
SECONDS = np.round(3000 * np.abs(Z) + 5).astype(int)
MOMENTS = pd.Series([dt.datetime(2021, 6, 1) + dt.timedelta(seconds=int(2e6 * z)) for z in Z])
SPANS = pd.Series(pd.to_timedelta(SECONDS, unit="s"))
DECIMALS = [Decimal(int(n)).scaleb(-2) for n in SECONDS]
CLOCK = [(dt.datetime(2000, 1, 1) + dt.timedelta(seconds=int(n))).time() for n in SECONDS]


def objects(values: Any) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def levels(categories: Any, **options: Any) -> pd.Series:
    """A categorical column with three levels in use and a fourth that no row has."""
    return pd.Series(pd.Categorical.from_codes(LEVEL, categories=categories, **options))


DATES = [dt.date(2020, 1, 1), dt.date(2020, 2, 29), dt.date(2021, 1, 1), dt.date(2030, 1, 1)]
STAMPS = pd.to_datetime(DATES) + pd.Timedelta("3h")
PANDAS: dict[str, pd.Series] = {
    **{f"moments in {unit}": MOMENTS.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")},
    **{f"spans in {unit}": SPANS.astype(f"timedelta64[{unit}]") for unit in ("s", "ms", "us", "ns")},
    "a named zone": MOMENTS.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
    "a fixed zone": MOMENTS.dt.tz_localize(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "nullable numbers": pd.Series(SECONDS, dtype="Int64"),
    "nullable truth": pd.Series(LEVEL > 0, dtype="boolean"),
    "nullable floats": pd.Series(Z, dtype="Float32"),
    "texts": pd.Series(np.array(["x", "y", "w"])[LEVEL], dtype="string"),
    "bytes of numbers": pd.Series(LEVEL * 40 + 7, dtype="uint8"),
    "half floats": pd.Series(Z.astype("float16")),
    "arrow decimals": pd.Series(DECIMALS, dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
    "arrow dates": pd.Series(MOMENTS.dt.date, dtype=pd.ArrowDtype(pa.date32())),
    "arrow times": pd.Series(CLOCK, dtype=pd.ArrowDtype(pa.time64("us"))),
    "arrow spans": pd.Series(SPANS, dtype=pd.ArrowDtype(pa.duration("ms"))),
    "Decimal": objects(DECIMALS),
    "date": objects(MOMENTS.dt.date),
    "datetime": objects(MOMENTS.dt.to_pydatetime()),
    "time": objects(CLOCK),
    "timedelta": objects(span.to_pytimedelta() for span in SPANS),
    "truth": objects(bool(n) for n in LEVEL),
    **{f"periods {freq}": MOMENTS.dt.to_period(freq) for freq in ("D", "W", "M", "Q")},
    "intervals": pd.Series(pd.cut(Z, [-9, -1, 1, 9]).astype(pd.IntervalDtype("float64", "right"))),
    "words": levels(list("abcd")),
    "ordered words": levels(list("dcba"), ordered=True),
    "whole": levels([10, 20, 40, 7]),
    "fractions": levels([0.5, 1.25, -2, 9.75]),
    "dates": levels(DATES),
    "stamps": levels(STAMPS),
    "zoned stamps": levels(STAMPS.tz_localize("Europe/Berlin")),
    "truths": pd.Series(pd.Categorical(LEVEL > 0)),
    "hours": levels(pd.to_timedelta([1, 5, 7, 9], unit="h")),
    "clocks": levels([dt.time(h) for h in range(4)]),
    "sums": levels([Decimal("1.5"), Decimal("2.25"), Decimal("3"), Decimal("4")]),
    "cut": pd.Series(pd.cut(Z, [-9, -1, 1, 9, 99])),
    "qcut": pd.Series(pd.qcut(Z, 4)),
    "cut moments": pd.Series(pd.cut(MOMENTS, 3)),
    "months": levels(pd.period_range("2020", periods=4, freq="M")),
    "mixed": levels([1, "a", 2.5, "b"]),
}


def holed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with two gaps in each column except the last."""
    found = frame.copy()
    for j, name in enumerate(frame.columns[:-1]):
        found[name] = found[name].mask(pd.Series(np.isin(np.arange(N), [j % N, (j + 7) % N]), index=frame.index))
    return found


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VAE]:
    frame = pd.DataFrame(PANDAS | {"x": Z})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(frame)
        fresh.save(folder := tmp_path_factory.mktemp("frames") / "run")
    return {"fresh": fresh, "loaded": latens.load(folder)}


@pytest.mark.parametrize("state", ["fresh", "loaded"])
def test_every_type_of_pandas_is_restored(fits: dict[str, VAE], state: str) -> None:
    frame = pd.DataFrame(PANDAS | {"x": Z})
    frame.index = pd.Index(RNG.permutation(N), name="who")
    gaps = holed(frame)
    filled, again = fits[state].impute(gaps, k=10), fits[state].reconstruct(frame)
    sampled = fits[state].sample(40, random_state=0)
    assert filled.index.equals(frame.index) and filled.index.name == again.index.name == "who"
    for name, cells in frame.items():
        seen = gaps[name].notna()
        assert filled[name].notna().all(), name
        assert list(map(str, filled[name][seen])) == list(map(str, gaps[name][seen])), name
        assert gaps[name].dtype == filled[name].dtype and cells.dtype == again[name].dtype, name
        if cells.dtype == object:
            assert len({type(value) for value in [*cells, *filled[name]]}) == 1, name
    assert sampled.dtypes.equals(frame.dtypes) and list(sampled.index) == list(range(40))
    for name in set(frame.select_dtypes("category")):
        assert set(sampled[name]) <= set(frame[name]), name  # a level that no row has is never sampled


ARROW: dict[str, Any] = {
    **{f"moments {u}": pa.array(MOMENTS).cast(pa.timestamp(u), safe=False) for u in ("s", "ms", "us", "ns")},
    **{f"spans {u}": pa.array(SECONDS).cast(pa.duration("s")).cast(pa.duration(u)) for u in ("s", "ns")},
    **{str(t): pa.array(CLOCK).cast(t, safe=False) for t in (pa.time32("s"), pa.time32("ms"), pa.time64("ns"))},
    "zone": pa.array(MOMENTS).cast(pa.timestamp("ms", "America/New_York")),
    "decimals": pa.array(DECIMALS, pa.decimal128(7, 2)),
    "wide decimals": pa.array(DECIMALS, pa.decimal256(40, 2)),
    "half": pa.array(Z.astype("float16")),
    "large": pa.array(np.array(["x", "y", "w"])[LEVEL].tolist(), pa.large_string()),
    "small codes": pa.DictionaryArray.from_arrays(
        pa.array(LEVEL, pa.int8()), pa.array(["lo", "mid", "hi"]), ordered=True
    ),
    "dates": pa.DictionaryArray.from_arrays(pa.array(LEVEL, pa.int8()), pa.array(DATES[:3])),
    "x": pa.array(Z),
}


def gappy(table: pa.Table) -> pa.Table:
    rows = [np.where(np.isin(np.arange(N), [j, j + 7]), None, np.arange(N)) for j in range(table.num_columns - 1)]
    columns = [c.take(pa.array(r, pa.int64())) for c, r in zip(table.columns, [*rows, np.arange(N)])]
    return pa.table(columns, names=table.column_names)


def test_every_type_of_arrow_and_polars_is_restored() -> None:
    enum = pl.Series("enum", np.array(["u", "v"])[LEVEL % 2].tolist(), dtype=pl.Enum(["q", "u", "v"]))
    table = pa.table({n: c for n, c in ARROW.items() if n not in ("wide decimals", "dates")})
    polars, gaps_of_polars = pl.from_arrow(table), pl.from_arrow(gappy(table))
    assert isinstance(polars, pl.DataFrame) and isinstance(gaps_of_polars, pl.DataFrame)
    pairs: list[tuple[Any, Any]] = [
        (pa.table(ARROW), gappy(pa.table(ARROW))),
        (polars.with_columns(enum), gaps_of_polars.with_columns(enum)),
    ]
    for whole, gaps in pairs:
        vae = VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(whole)
        filled = vae.impute(gaps, k=10)
        assert filled.schema == vae.reconstruct(gaps).schema == vae.sample(3).schema == whole.schema
        for name in ARROW:
            if name in whole.schema.names if isinstance(whole, pa.Table) else name in whole.columns:
                before, after = (
                    frame[name].to_pylist() if isinstance(frame, pa.Table) else frame[name].to_list()
                    for frame in (gaps, filled)
                )
                assert None not in after and all(b is None or a == b for a, b in zip(after, before)), name


def test_nanoseconds_are_restored_and_described() -> None:
    r = np.random.default_rng(0)
    table = pa.table({
        "time": pa.array(r.integers(0, 86_400 * 10**9, 60)).cast(pa.time64("ns")),
        "span": pa.array(r.integers(0, 86_400 * 10**9, 60)).cast(pa.duration("ns")),
        "when": pa.array(r.integers(0, 10**18, 60)).cast(pa.timestamp("ns", "UTC")), "x": r.normal(size=60),
    })  # fmt: skip
    vae = VAE(latent_dim=2, epochs=1, random_state=0).fit(table)
    assert vae.sample(5, random_state=0).schema.types == table.schema.types
    high = table.set_column(0, "time", pa.array([86_400 * 10**9 - 1] * 60).cast(pa.time64("ns")))
    assert "time is 23:59:59.999999, above the largest value" in vae.score_table(high)["reason"][0].as_py()


def test_structured_arrays_and_lists_are_restored() -> None:
    fields = {
        "s": "M8[s]",
        "D": "M8[D]",
        "M": "M8[M]",
        "h": "m8[h]",
        "us": "m8[us]",
        "half": "f2",
        "big": ">f4",
        "x": "f8",
    }
    array = np.zeros(N, list(fields.items()))
    for name, values in zip(fields, [MOMENTS, MOMENTS, MOMENTS.astype("M8[s]"), SECONDS, SECONDS, Z, Z, Z]):
        array[name] = values
    lists: dict[str, Any] = {
        "decimal": DECIMALS,
        "time": CLOCK,
        "span": [span.to_pytimedelta() for span in SPANS],
        "x": Z.tolist(),
        "day": MOMENTS.dt.date.tolist(),
        "truth": [None if n == 2 else bool(n) for n in LEVEL],
    }
    for data in (array, lists):
        vae = VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(data)
        for found in (vae.impute(data, k=10), vae.reconstruct(data), vae.sample(3)):
            for name in fields if data is array else lists:
                if data is array:
                    assert found.dtype == array.dtype
                else:
                    assert {type(v) for v in found[name]} <= {type(v) for v in lists[name]}
    assert (vae.impute(lists, k=10)["time"], vae.impute(lists, k=10)["decimal"]) == (CLOCK, DECIMALS)


TABLE = pa.table(ARROW)
ENUM = pl.Series("enum", np.array(["u", "v"])[LEVEL % 2].tolist(), dtype=pl.Enum(["q", "u", "v"]))
WIDE = pd.DataFrame({("a", 1): Z, ("a", 2): LEVEL, ("b", 1): SECONDS * 1.5})
FORMS: dict[str, Any] = {
    "pandas, labels that are numbers": pd.DataFrame({1: Z, 7: LEVEL, 2.5: SECONDS}),
    "pandas, labels of two levels": WIDE.set_axis(pd.MultiIndex.from_tuples(WIDE.columns, names=["u", None]), axis=1),
    "pandas, labels of dates": WIDE.set_axis(pd.date_range("2020", periods=3, name="day"), axis=1),
    "pandas, texts of every storage": pd.DataFrame(
        {name: pd.Series(np.array(["x", "y", "w"])[LEVEL], dtype=dtype) for name, dtype in {
            "nullable": "string[pyarrow]", "python": "string[python]", "arrow": pd.ArrowDtype(pa.string()),
            "object": object}.items()}
        | {"x": Z, "coded": pd.Series(pd.arrays.ArrowExtensionArray(pa.array(list("xyw") * 20).dictionary_encode()))}
    ),
    "pandas, sparse": pd.DataFrame({"s": pd.arrays.SparseArray(np.where(LEVEL, 0.0, Z)), "x": Z}),
    "pandas, sparse around a value": pd.DataFrame(
        {str(v): pd.arrays.SparseArray(np.where(LEVEL, v, w), fill_value=v)
         for v, w in ((0.0, 3.0), (-1.5, 3.0), (7, 3), (True, False))} | {"x": Z}
    ),
    "pandas, labels that are tuples": WIDE.set_axis(
        pd.Index([("a", 1), ("a", 2), (None,)], tupleize_cols=False), axis=1
    ),
    "pandas, labels that are a range": WIDE.set_axis(pd.RangeIndex(3, 9, 2, name="k"), axis=1),
    "pandas, open intervals": pd.DataFrame({"cut": pd.cut(Z, [-np.inf, 0, np.inf], right=False), "x": Z}),
    "pandas, on one scale": pd.DataFrame(LEVEL.reshape(-1, 2) % 2, columns=pd.Index([3, 4], name="bit"), dtype="int8"),
    "arrow": TABLE, "arrow batch": TABLE.combine_chunks().to_batches()[0],
    "polars": pl.from_arrow(TABLE.drop_columns(["dates", "wide decimals"])).with_columns(ENUM),  # type: ignore[union-attr]
    "structured": np.array(list(zip(Z, SECONDS)), [("a", ">f4"), ("b", "i2")]),
    "mapping": {1: Z.astype("float32"), "b": SECONDS.tolist(), "d": DECIMALS},
}  # fmt: skip


def is_same(one: Any, other: Any) -> bool:
    """Whether two frames have the same type, labels, dtypes and cells."""
    if isinstance(one, pd.DataFrame):
        return one.equals(other) and one.dtypes.equals(other.dtypes) and one.columns.identical(other.columns)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and bool((one == other).all())
    if isinstance(one, dict):
        kinds = [[(n, type(values), getattr(values, "dtype", None)) for n, values in x.items()] for x in (one, other)]
        return kinds[0] == kinds[1] and all(np.array_equal(one[name], other[name]) for name in one)
    return bool(type(one) is type(other) and one.schema == other.schema and one.equals(other))


@pytest.mark.parametrize("form", FORMS)
def test_a_loaded_run_samples_frames_as_the_fitted_one(form: str, tmp_path: Path) -> None:
    vae = VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(FORMS[form])
    vae.save(tmp_path / "r")
    loaded, again = latens.load(tmp_path / "r"), pickle.loads(pickle.dumps(vae))
    fresh = vae.sample(9, random_state=0)
    assert type(fresh) is type(FORMS[form])
    assert is_same(fresh, loaded.sample(9, random_state=0)) and is_same(fresh, again.sample(9, random_state=0))
    codes = vae.transform(FORMS[form])
    assert is_same(vae.inverse_transform(codes), loaded.inverse_transform(codes))


def test_a_loaded_run_samples_arrow_tables_if_its_library_is_not_installed(
    fits: dict[str, VAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fits["loaded"].run_.folder
    assert folder is not None
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pandas", None)
        loaded = latens.load(folder)
    found = loaded.sample(40, random_state=0)
    for name in ("dates", "stamps", "zoned stamps", "hours", "clocks", "sums", "whole", "fractions", "words"):
        wanted = pa.array(PANDAS[name], from_pandas=True)
        assert found[name].combine_chunks().dictionary.to_pylist() == wanted.dictionary.to_pylist(), name
    loaded.run_.data["frame"] = {"library": "pandas", "columns": 3}
    loaded.save(folder.with_name("damaged"))
    with pytest.raises(InputError, match=r"damaged.*data\.frame"):
        latens.load(folder.with_name("damaged"))


# The index

SMALL = pd.DataFrame({"a": Z, "b": np.where(LEVEL == 0, np.nan, 2 * Z)})
INDEXES = {
    "range": pd.RangeIndex(100, 100 + 2 * N, 2),
    "shuffled": pd.Index(RNG.permutation(N)),
    "words": pd.Index([f"p{i}" for i in range(N)], name="p"),
    "moments": pd.DatetimeIndex(MOMENTS, name="when"),
    "two levels": pd.MultiIndex.from_arrays([LEVEL, np.arange(N)], names=["g", None]),
    "repeated": pd.Index(LEVEL, name="g"),
    "periods": pd.period_range("2020", periods=N, freq="M"),
}


@pytest.fixture(scope="module")
def small() -> VAE:
    return VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(SMALL)


@pytest.mark.parametrize("kind", INDEXES)
def test_rows_keep_their_index(small: VAE, kind: str) -> None:
    frame = SMALL.set_axis(INDEXES[kind], axis=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [small.impute(frame, k=10), small.reconstruct(frame), *small.impute(frame, k=10, draws=2)]
    assert all(f.index.equals(frame.index) and f.index.names == frame.index.names for f in found)
    assert found[0]["a"].tolist() == frame["a"].tolist()
    said = [w for w in caught if "more than once" in str(w.message)]
    assert bool(said) == (kind == "repeated") and all(w.filename == __file__ for w in caught)
    assert small.sample(3).index.equals(pd.RangeIndex(3))


def test_frames_of_whole_numbers_on_one_scale_are_restored_as_frames() -> None:
    frame = pd.DataFrame(RNG.integers(0, 2, (N, 4)), columns=list("abcd"), index=RNG.permutation(N))
    vae = VAE(latent_dim=1, epochs=1, network="linear", random_state=0).fit(frame)
    assert vae.impute(frame).equals(frame) and vae.sample(3).columns.equals(frame.columns)
    assert vae.reconstruct(frame[list("dcba")]).index.equals(frame.index)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    frame = pd.DataFrame({"a": Z, "b": pd.Series(SECONDS, dtype="Int64").mask(LEVEL == 0), "c": levels(list("abcd"))})
    folder = tmp_path_factory.mktemp("stored")
    frame.set_axis(INDEXES["words"], axis=0).to_parquet(folder / "t.parquet")
    call("fit", folder / "t.parquet", "--out", folder / "r", "--epochs", "1", "--latent-dim", "1")
    return folder, frame


@pytest.mark.parametrize("index", ["words", "shuffled", "two levels", "range"])
@pytest.mark.parametrize("stream", [False, True])
def test_files_keep_the_index_that_pandas_wrote(
    stored: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, stream: bool
) -> None:
    folder, frame = stored
    frame = frame.set_axis(INDEXES[index], axis=0)
    frame.to_parquet(tmp_path / "t.parquet")
    assert {f.name for f in latens.load(folder / "r").schema_.fields} == {"a", "b", "c"}  # type: ignore[union-attr]
    monkeypatch.setattr("latens.cli.commands.inputs.is_large", lambda path: stream)
    for words in ("impute --k 10", "impute --draws 2 --k 10", "reconstruct", "score --k 3", "encode"):
        command, *more = words.split()
        call(command, folder / "r", tmp_path / "t.parquet", "--out", tmp_path / "o.parquet", *more)
        found = pd.read_parquet(tmp_path / "o.parquet")
        if "--draws" in more:
            found = found[found.pop("imputation") == 1]
            if index == "range":
                continue
        assert found.index.equals(frame.index), words
        if command in ("impute", "reconstruct"):
            assert found.dtypes.equals(frame.dtypes), words


def test_a_csv_keeps_the_column_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SMALL.set_axis([f"{i:03d}" for i in range(N)], axis=0).to_csv("t.csv")
    call("fit", "t.csv", "--out", "r", "--epochs", "1", "--latent-dim", "1")
    call("impute", "r", "t.csv", "--out", "o.csv", "--k", "10")
    before, after = (Path(name).read_text().splitlines() for name in ("t.csv", "o.csv"))
    assert [line for line in before if not line.endswith(",")] == [a for a, b in zip(after, before) if b[-1] != ","]
    assert [line.split(",")[0] for line in after] == [line.split(",")[0] for line in before]
    call("impute", "r", "t.csv", "--out", "o.parquet", "--k", "10")
    assert pd.read_parquet("o.parquet").index.tolist() == [f"{i:03d}" for i in range(N)]


@pytest.mark.parametrize(
    "notes", [b"[]", b'"x"', b"{", b'{"index_columns": 3}', b'{"columns": [1]}', b'{"columns": [{"field_name": []}]}']
)
def test_metadata_of_pandas_are_not_trusted(notes: bytes) -> None:
    assert index_names(pa.schema([("a", pa.int8())], {b"pandas": notes})) == []


# Messages


def said(work: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    assert all(issubclass(w.category, UserWarning) and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def test_python_warns_of_what_the_command_line_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(
        {"a": Z, "id": [f"u{i}" for i in range(N)], "none": np.nan, "c": np.array(["x", "y", "w"])[LEVEL]}
    )
    query = frame.assign(c="new", more=1)
    frame.to_csv("t.csv", index=False)
    query.to_csv("q.csv", index=False)
    vae = VAE(latent_dim=1, epochs=1, random_state=0)
    done = call("fit", "t.csv", "--out", "r", "--epochs", "1", "--latent-dim", "1")
    printed = [
        line.removeprefix("warning: ") for line in (done.out + done.err).splitlines() if line.startswith("warning")
    ]
    told = said(lambda: vae.fit(frame))
    assert set(told) <= set(printed) and all(any(name in line for line in told) for name in ("'id'", "'none'"))
    for command, work in {
        "impute": lambda: vae.impute(query, k=10),
        "reconstruct": lambda: vae.reconstruct(query),
        "score": lambda: vae.anomaly_scores(query),
    }.items():
        done = call(command, "r", "q.csv", "--out", "o.csv")
        told = said(work)
        assert all(line.removeprefix("the data: ") in done.out + done.err for line in told), command
        assert any("(more)" in line for line in told) and any("60 cells with" in line for line in told), command
    assert not said(lambda: VAE(latent_dim=1, epochs=1).fit(pd.DataFrame({"a": np.tile(Z, 4), "b": np.tile(Z**2, 4)})))


@pytest.mark.parametrize("stream", [False, True])
def test_omitted_columns_are_named_in_memory_and_streamed(
    stored: tuple[Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    folder, frame = stored
    frame.assign(more=1, odd=[[1, 2]] * N).to_parquet(tmp_path / "q.parquet")
    monkeypatch.setattr("latens.cli.commands.inputs.is_large", lambda path: stream)
    for words in ("impute --k 3", "encode", "reconstruct", "score --k 3", "evaluate --k 3 --rows 5", "report"):
        command, *more = words.split()
        out = ("--out", tmp_path / ("o.html" if command == "report" else "o.parquet")) * (command != "evaluate")
        done = call(command, folder / "r", tmp_path / "q.parquet", *out, *more)
        said = f"{tmp_path / 'q.parquet'}: 2 columns that the model was not fitted to are left out (more, odd)"
        assert done.status == 0 and said in done.out, (command, done)


@pytest.mark.parametrize("cells, said", [
    (["01/02/2021", "03/04/2021", "05/06/2021"], "pass formats={'d': 'day-first'} or formats={'d': 'month-first'}"),
    ([[1], [2], [3]], "or leave the column out with columns={'d': 'drop'}"),
])  # fmt: skip
def test_messages_of_python_name_its_arguments(cells: list[Any], said: str) -> None:
    frame = pd.DataFrame({"d": cells * (N // 3), "x": Z})
    with pytest.raises(InputError, match=re.escape(said)):
        VAE().fit(frame)


def test_a_frame_can_be_held_out(small: VAE) -> None:
    vae = VAE(latent_dim=1, epochs=1, validation=SMALL[["b", "a"]]).fit(SMALL)
    assert vae.run_.data["validation"] == "given" and VAE(epochs=1, validation=SMALL).fit(SMALL)


def test_columns_are_found_by_name(small: VAE) -> None:
    other = SMALL[["b", "a"]].assign(more="x")
    assert small.impute(other, k=10)[["a", "b"]].equals(small.impute(SMALL, k=10))
    assert np.array_equal(small.anomaly_scores(other), small.anomaly_scores(SMALL))
    with pytest.raises(InputError, match="no column 'b'"):
        small.impute(SMALL[["a"]])
    with pytest.raises(ValueError, match="same order"):  # as scikit-learn requires
        small.transform(SMALL[["b", "a"]])


DAYS = [dt.date(2021, 6, 1) + dt.timedelta(days=int(100 * z)) for z in Z]
COMPACT = pd.Series([int(f"{day:%Y%m%d}") for day in DAYS])
MIDNIGHTS = pd.Series(pd.to_datetime(DAYS))
STAMPED = [f"{day}T00:00+02:00" for day in DAYS]
LIBRARIES = {"pandas": lambda x: x, "polars": pl.from_pandas, "arrow": pa.Table.from_pandas}


def fitted(frame: Any, **options: Any) -> VAE:
    return VAE(latent_dim=1, epochs=1, network="linear", random_state=0, **options).fit(frame)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "Float64", "object"])
def test_dates_as_numbers_stay_dates_if_gaps_turn_them_into_floats(dtype: str, library: str) -> None:
    whole = pd.DataFrame({"day": COMPACT, "x": Z})
    gaps = pd.DataFrame({"day": COMPACT.astype("float64").where(LEVEL > 0).astype(dtype), "x": Z})
    vae = fitted(LIBRARIES[library](gaps))
    for cells in (vae.impute(LIBRARIES[library](gaps), k=5)["day"], vae.sample(30, gaps=False)["day"]):
        texts = [str(int(float(str(cell)))) for cell in cells.to_numpy()]
        assert all(dt.datetime.strptime(text, "%Y%m%d") for text in texts)
    filled = fitted(whole).impute(gaps, k=5)
    assert filled["day"][LEVEL > 0].astype(int).tolist() == COMPACT[LEVEL > 0].tolist()
    assert pd.to_datetime(filled["day"].astype(int).astype(str), format="%Y%m%d").notna().all()


@pytest.mark.parametrize("fit_to, bad", [("int64", 20211399), ("int64", 3), ("float64", 1.5), ("float64", 20211399.0)])
def test_a_number_that_is_not_a_date_does_not_change_other_scores(fit_to: str, bad: float) -> None:
    frame = pd.DataFrame({"day": COMPACT.astype(fit_to), "x": Z})
    vae, other = fitted(frame), frame.copy()
    other.loc[3, "day"] = bad
    table, usual = vae.score_table(other), vae.score_table(frame)
    assert table["log_px"].drop(3).equals(usual["log_px"].drop(3)) and table["log_px"][3] == -np.inf
    assert table["reason"][3] == f"day is '{bad:g}', which is not a date".replace("2.02114e+07", "20211399")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"])
def test_midnights_of_a_zone_stay_midnights(zone: str, library: str) -> None:
    frame = pd.DataFrame({"when": MIDNIGHTS.dt.tz_localize(zone).where(LEVEL > 0), "x": Z})
    vae = fitted(LIBRARIES[library](frame))
    filled = vae.impute(LIBRARIES[library](frame), k=5)["when"].to_numpy()
    for cells in (filled, vae.sample(30)["when"].to_numpy()):
        local = pd.DatetimeIndex(pd.to_datetime(pd.Series(list(cells)), utc=True).dropna()).tz_convert(zone)
        assert (local == local.normalize()).all()


def test_midnights_of_an_offset_in_text_stay_midnights() -> None:
    frame = pd.DataFrame({"when": pd.Series(STAMPED).where(LEVEL > 0), "x": Z})
    vae = fitted(frame)
    for cells in (vae.impute(frame, k=5)["when"], vae.sample(30)["when"].dropna()):
        assert cells.str.endswith("T00:00+02:00").all()


def test_hours_that_clocks_show_twice_are_kept() -> None:
    hours = pd.Series(pd.date_range("2021-10-30 20:00", periods=N, freq="15min", tz="Europe/Berlin"))
    frame = pd.DataFrame({"when": hours.where(np.arange(N) != 5), "x": Z})
    filled = fitted(frame).impute(frame, k=5)["when"]
    assert filled.drop(5).equals(hours.drop(5)) and filled.dtype == hours.dtype
    elsewhere = frame.assign(when=frame["when"].dt.tz_convert("Asia/Tokyo"))
    assert np.allclose(fitted(frame).score_samples(elsewhere), fitted(frame).score_samples(frame), atol=1e-3)


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_lists_are_left_out_if_that_is_allowed(library: str) -> None:
    frame = pd.DataFrame({"x": Z, "kind": np.array(list("abc"))[LEVEL]})
    odd, plain = LIBRARIES[library](frame.assign(odd=[[1, 2]] * N)), LIBRARIES[library](frame)
    vae = fitted(plain)
    for call_it in (vae.impute, vae.reconstruct, vae.score_table):
        with pytest.warns(UserWarning, match=r"1 column that the model was not fitted to is left out \(odd\)"):
            call_it(odd)
    sampled = fitted(odd, columns={"odd": "drop"}).sample(2)
    assert list(getattr(sampled, "column_names", sampled.columns)) == ["x", "kind"]
    with pytest.raises(InputError, match=r"column 'odd'.*leave the column out"):
        fitted(odd)


@pytest.mark.parametrize("cell, reason", [
    ({"when": "01.01.1950"}, "when is 01.01.1950, below the smallest value seen in the fit"),
    ({"price": "$9,999,999.00"}, "price is $9,999,999.00, above the largest value seen in the fit ($"),
    ({"fee": "$6.00"}, "fee is $6.00, but it was always $5.00 in the fit"),
])  # fmt: skip
def test_reasons_show_cells_as_they_are_written(cell: dict[str, str], reason: str) -> None:
    when, price = [f"{day:%d.%m.%Y}" for day in DAYS], [f"${abs(z) * 3000 + 20:,.2f}" for z in Z]
    frame = pd.DataFrame({"when": when, "price": price, "fee": "$5.00", "x": Z})
    other = frame.copy()
    other.loc[2, list(cell)] = list(cell.values())
    assert fitted(frame).score_table(other)["reason"][2].startswith(reason)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_arrays_come_back_as_arrays_from_a_model_of_frames(small: VAE, tmp_path: Path, dtype: str) -> None:
    array = np.column_stack([10 * Z, 20 * Z]).astype(dtype)
    found = small.impute(array, k=5), small.reconstruct(array)
    assert all(isinstance(each, np.ndarray) and each.shape == array.shape for each in found)
    assert np.array_equal(found[0], array) and found[0].dtype == dtype
    assert isinstance(small.score_table(array), pa.Table)
    gaps = np.where(LEVEL[:, None] == [0, 3], np.nan, array)
    vae = fitted(gaps)
    vae.save(tmp_path / "r")
    again = latens.load(tmp_path / "r")
    for each in (vae, again):
        assert isinstance(each.sample(3), np.ndarray) and np.isfinite(each.impute(gaps, k=5)).all()
        assert isinstance(each.impute(pd.DataFrame(gaps, columns=["column_1", "column_2"]), k=5), pd.DataFrame)


BELOW = np.arange(N) < 15  # rows with small values
SPREAD = np.where(BELOW, LEVEL, np.arange(N) * 30)
DAY = dt.datetime(2021, 6, 1)
TYPES: dict[str, tuple[pa.Array, pa.DataType]] = {  # values of a fit, and a type that holds the small ones only
    "int8": (pa.array(SPREAD), pa.int8()),
    "uint8": (pa.array(np.where(BELOW, LEVEL, -SPREAD)), pa.uint8()),
    "int64": (pa.array(np.where(BELOW, LEVEL, 0.25 * SPREAD)), pa.int64()),
    "half": (pa.array(np.where(BELOW, LEVEL, 1e3 * SPREAD)), pa.float16()),
    "decimal": (pa.array(np.where(BELOW, LEVEL, 0.25 * SPREAD)), pa.decimal128(9, 0)),
    "date": (pa.array([DAY + dt.timedelta(hours=int(24 * s if b else s)) for s, b in zip(SPREAD, BELOW)]), pa.date32()),
    "seconds": (pa.array([dt.timedelta(milliseconds=int(1000 * s if b else s)) for s, b in zip(SPREAD, BELOW)]),
                pa.duration("s")),
    "clock": (pa.array([(DAY + dt.timedelta(milliseconds=int(1000 * s if b else s))).time()
                        for s, b in zip(SPREAD, BELOW)]), pa.time32("s")),
    "levels": (pa.array(np.where(BELOW, LEVEL, 300 + LEVEL)), pa.int8()),
    "constant": (pa.array(np.full(N, 300)), pa.int8()),
}  # fmt: skip
NARROW = {  # only the small values are in these rows
    name: pa.array([v if b and name != "constant" else None for v, b in zip(cells.to_pylist(), BELOW)], cells.type)
    for name, (cells, _) in TYPES.items()
}


@pytest.mark.parametrize("library", ["arrow", "pandas", "polars"])
@pytest.mark.parametrize("name", TYPES)
def test_filled_cells_do_not_depend_on_the_type_of_the_others(name: str, library: str) -> None:
    """Values that the type cannot hold widen it; they neither wrap around (300 to 44 in int8) nor lose fractions."""
    if (name, library) in {("half", "polars"), ("clock", "polars")}:
        pytest.skip("polars has no such type")
    wide, narrow = NARROW[name], NARROW[name].cast(TYPES[name][1])
    as_frame: Any = {"arrow": lambda table: table, "pandas": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
                "polars": pl.from_arrow}[library]  # fmt: skip
    kind = {"c": "categorical"} if name == "levels" else None
    vae = fitted(as_frame(pa.table({"c": TYPES[name][0], "z": Z})), columns=kind)
    wanted, found = (vae.impute(as_frame(pa.table({"c": c, "z": Z})), k=10)["c"] for c in (wide, narrow))
    one, other = (pa.array(c) if library == "pandas" else c.to_arrow() if library == "polars" else c.combine_chunks()
                  for c in (wanted, found))  # fmt: skip
    assert other.null_count == 0 and one.equals(other.cast(one.type)), (one, other)


def test_new_levels_of_an_enum_are_filled_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = np.array(["u", "v", "ü"])[LEVEL]
    fit = pl.DataFrame({"c": pl.Series(words.tolist(), dtype=pl.Enum(["q", "ü", "v", "u"])), "x": Z + 9 * LEVEL})
    less = pl.Series([None if word == "ü" else word for word in words], dtype=pl.Enum(["v", "u"]))
    fit.write_parquet("t.parquet")
    fit.with_columns(less.alias("c")).write_parquet("g.parquet")
    assert call("fit", "t.parquet", "--out", "r", "--epochs", "20", "--latent-dim", "1").status == 0
    assert call("impute", "r", "g.parquet", "--out", "o.parquet", "--k", "20").status == 0
    filled = latens.load("r").impute(pl.read_parquet("g.parquet"), k=20)
    for found in (pl.read_parquet("o.parquet"), filled):
        assert found["c"].null_count() == 0 and "ü" in found["c"].to_list()
        assert all(a in (None, b) for a, b in zip(less.to_list(), found["c"].to_list()))


class Derived(pd.DataFrame):
    """A frame of a package that builds on pandas."""


def test_frames_derived_from_those_of_pandas_are_frames_of_pandas(small: VAE, tmp_path: Path) -> None:
    frame = Derived(SMALL.set_index(INDEXES["words"]))
    assert small.impute(frame, k=5).equals(small.impute(pd.DataFrame(frame), k=5))
    vae = fitted(frame)
    vae.save(tmp_path / "r")
    assert vae.sample(4, random_state=0).equals(latens.load(tmp_path / "r").sample(4, random_state=0))


@pytest.mark.parametrize("stream", [False, True])
def test_files_keep_the_metadata_of_their_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latens.cli.commands.inputs.is_large", lambda path: stream)
    pandas = pd.DataFrame({"day": COMPACT.astype("Int64").mask(LEVEL == 0), "x": Z})
    pandas["b"] = pd.Series(LEVEL, dtype="Int8")
    polars = pl.DataFrame({"enum": ENUM, "x": [None, *Z[1:].tolist()]})
    for frame, read in ((pandas, pd.read_parquet), (polars, pl.read_parquet)):
        (frame.to_parquet if frame is pandas else frame.write_parquet)("t.parquet")  # type: ignore[attr-defined]
        name = type(frame).__module__.partition(".")[0]
        common = ("--out", name, "--epochs", "1", "--latent-dim", "1", *["--stream"] * stream)
        assert call("fit", "t.parquet", *common).status == 0
        assert call("impute", name, "t.parquet", "--out", "o.parquet", "--k", "3").status == 0
        assert call("sample", name, "--out", "s.parquet").status == 0
        for path in ("o.parquet", "s.parquet"):
            found: Any = read(path)
            assert list(found.dtypes) == list(frame.dtypes), (path, found)


@pytest.mark.parametrize("labels", [["a", 0, 1], [0, "a", None], [True, "x", 2.5], [pd.Timestamp("2020"), "b", "c"]])
def test_column_labels_of_which_only_some_are_text_are_refused_in_a_sentence(labels: list[Any]) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=pd.Index(labels, dtype=object))
    with pytest.raises(InputError, match="of which only one is text: make all of them text"):
        latens.VAE(2, epochs=1).fit(frame)
