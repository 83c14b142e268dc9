"""One wide table with every kind of column passes through csv and Parquet, in memory and streamed, and every command:
no observed cell changes (compared as text in csv), and filled or sampled cells are written in the form of the
column."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from commanding import done
from pyarrow import parquet

import latens
from latens.data.streams import sources

N = 150
rng = np.random.default_rng(0)
x = rng.normal(size=N)
when = pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 900 * 24 * 60, N), unit="min")
months = pd.date_range("2009-01-01", periods=N, freq="MS")
NUMBER = r"-?\d+"
# name: (cells as text, the pattern of a cell)
TEXT: dict[str, tuple[list[str], str]] = {
    "dollars": ([f"${abs(v) * 3000:,.2f}" for v in x], r"\$\d{1,3}(,\d{3})*\.\d\d"),
    "euros": ([f"{abs(v) * 30:.2f} €".replace(".", ",") for v in x], r"\d+,\d\d €"),
    "brackets": ([f"({abs(v) * 1000:,.0f})" if v < 0 else f"{v * 1000:,.0f}" for v in x], r"\(\d+(,\d{3})?\)|\d.*"),
    "percent": ([f"{abs(v):.1%}" for v in x], r"\d+\.\d%"),
    "kilograms": ([f"{abs(v) * 10:.1f} kg" for v in x], r"\d+\.\d kg"),
    "signs": ([f"{v:+.2f}" for v in x], r"[+-]?\d\.\d\d"),
    "whole": (rng.poisson(3, N).astype(str).tolist(), r"\d+"),
    "marked": (["-" if i % 7 == 0 else f"{v:.1f}" for i, v in enumerate(x)], r"-?\d+\.\d|-|"),
    "truth": (np.where(x > 0, "True", "False").tolist(), "True|False"),
    "word": (rng.choice(["none", "some", 'say "x"', "a,b"], N).tolist(), 'none|some|say "x"|a,b'),
    "zip": ([f"0{i % 9 + 1000}" for i in range(N)], r"0\d{4}"),
    "us": (when.strftime("%m/%d/%Y").tolist(), r"\d\d/\d\d/20\d\d"),
    "german": (when.strftime("%d.%m.%Y").tolist(), r"\d\d\.\d\d\.20\d\d"),
    "named": (when.strftime("%d-%b-%Y").tolist(), r"\d\d-[A-Z][a-z]{2}-20\d\d"),
    "compact": (when.strftime("%Y%m%d").tolist(), r"20\d{6}"),
    "month": (months.strftime("%Y-%m").tolist(), r"20\d\d-\d\d"),
    "first": (months.strftime("%Y-%m-%d").tolist(), r"20\d\d-\d\d-01"),
    "minutes": (when.strftime("%Y-%m-%d %H:%M").tolist(), r"20\d\d-\d\d-\d\d \d\d:\d\d"),
    "zoned": (when.strftime("%Y-%m-%dT%H:%M:%SZ").tolist(), r"20\d\d-\d\d-\d\dT\d\d:\d\d:00Z"),
    "clock": (when.strftime("%I:%M %p").tolist(), r"\d\d:\d\d [AP]M"),
    "span": ([f"{i % 40}:{i % 60:02d}:00" for i in range(N)], r"\d+:\d\d:00"),
    "free": ([f"text {i} of many words" for i in range(N)], "text .*"),
    "always": (["12%"] * N, "12%"),
}  # fmt: skip
FRAME = pd.DataFrame({name: cells for name, (cells, _) in TEXT.items()})
GAPS = FRAME.mask(np.random.default_rng(1).random(FRAME.shape) < 0.15)
FILES = ("csv", "parquet")
ROUTES = [(run, data, out) for run in FILES for data in (*FILES, "stream") for out in FILES]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs fitted to the table as csv and as text in Parquet, and the table with gaps as both."""
    folder = tmp_path_factory.mktemp("trip")
    for name, frame in (("whole", FRAME), ("gaps", GAPS)):
        frame.to_csv(folder / f"{name}.csv", index=False)
        table = pa.Table.from_pandas(frame.astype("string"), preserve_index=False)
        parquet.write_table(table, folder / f"{name}.parquet", row_group_size=60)
    for kind in ("csv", "parquet"):
        done("fit", folder / f"whole.{kind}", "--out", folder / kind, "--epochs", 1)
    return folder


def text_of(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def looks(cells: pd.Series, name: str) -> None:
    odd = [cell for cell in cells if not re.fullmatch(TEXT[name][1], cell)]
    assert not odd, f"{name}: {odd[:3]}"


@pytest.mark.parametrize(("run", "data", "out"), ROUTES)
def test_filled_tables_keep_their_observed_cells_and_the_form_of_each_column(
    home: Path, monkeypatch: pytest.MonkeyPatch, run: str, data: str, out: str
) -> None:
    if data == "stream":
        monkeypatch.setattr(sources, "SHARE", 0.0)
    source = home / f"gaps.{'csv' if data == 'csv' else 'parquet'}"
    made = home / f"{run}-{data}.{out}"
    done("impute", home / run, source, "--out", made, "--k", 5)
    if out == "parquet" and data == "csv":  # values, as a text file has no types
        typed, again = pd.read_parquet(made), home / "again.csv"
        first = str(pd.to_datetime(FRAME["us"].iloc[0]).date())
        assert str(typed["us"].iloc[0]) == first or pd.isna(GAPS["us"].iloc[0])
        assert typed["dollars"].dtype == float and typed["truth"].dtype == bool and len(typed) == N
        done("impute", home / run, made, "--out", again, "--k", 5)
        assert len(text_of(again)) == N
        return
    found = text_of(made) if out == "csv" else pd.read_parquet(made).astype(str)
    assert list(found) == list(FRAME) and len(found) == N
    for name in FRAME:
        seen = GAPS[name].notna() & ~((name == "marked") & (GAPS[name] == "-"))
        assert found.loc[seen, name].tolist() == GAPS.loc[seen, name].tolist(), name
        if name != "free":
            looks(found.loc[~seen, name], name)


@pytest.mark.parametrize("run", ["csv", "parquet"])
@pytest.mark.parametrize("out", ["csv", "parquet"])
def test_samples_and_reconstructions_have_the_form_of_each_column(home: Path, run: str, out: str) -> None:
    for command, more in (("sample", ("-n", 60)), ("reconstruct", (home / "gaps.csv",))):
        made = home / f"{command}-{run}.{out}"
        words = [command, home / run, *more, "--out", made]
        done(*words)
        if out == "parquet" and (command == "reconstruct" or run == "csv"):  # values, as a text file has no types
            assert pd.read_parquet(made)["dollars"].dtype == float
            continue
        found = text_of(made) if out == "csv" else pd.read_parquet(made).fillna("").astype(str)
        for name in found:
            if name == "free":
                assert (found[name].replace("nan", "") == GAPS[name].fillna("")).all()
            else:
                looks(found[name], name)


def test_an_estimator_gives_what_the_command_line_writes(home: Path) -> None:
    vae = latens.load(home / "parquet")
    filled = vae.impute(GAPS, k=5)
    done("impute", home / "parquet", home / "gaps.parquet", "--out", home / "same.parquet", "--k", 5)
    same = pd.read_parquet(home / "same.parquet")
    for name in FRAME:
        a, b = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for frame in (filled, same))
        assert a == b, name


def test_a_schema_says_how_columns_are_written(home: Path) -> None:
    said = done("schema", home / "whole.csv", "--json")
    text = said if isinstance(said, str) else str(said)
    for name, shown in (("us", "%m/%d/%Y"), ("clock", "%I:%M %p"), ("span", "%-H:%M:%S")):
        assert shown in text, name


@pytest.mark.parametrize("form", ["{}", "{:,}", "${}"])
def test_means_of_counts_are_fractions_in_every_file(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Text and Parquet hold the same means, whatever the form of the counts; a column that a count determines has no
    gaps."""
    monkeypatch.chdir(tmp_path)
    r = np.random.default_rng(0)
    n = r.integers(1, 13, 900) * (1 if form == "{}" else 200)
    label = np.random.default_rng(1).integers(100, 999, n.max() + 1)[n]
    frame = pd.DataFrame({"n": [form.format(v) for v in n], "label": label, "x": r.normal(size=900)})
    frame.to_csv("t.csv", index=False)
    done("fit", "t.csv", "--out", "run", "--epochs", 1, "--latent-dim", 2, "--column", "n=count",
         "--rule", "n -> label")  # fmt: skip
    for name in ("a.csv", "a.parquet"):
        done("reconstruct", "run", "t.csv", "--out", name)
    text, stored = pd.read_csv("a.csv"), pd.read_parquet("a.parquet")
    assert not text.isna().any().any() and (text["label"] == stored["label"]).all()
    numbers = text["n"].astype(str).str.replace("[$,]", "", regex=True).astype(float)
    plain = stored["n"].astype(str).str.replace("[$,]", "", regex=True).astype(float)
    np.testing.assert_array_equal(numbers, plain)
    assert numbers.mean() == pytest.approx(n.mean(), rel=0.1) and (numbers % 1 != 0).mean() > 0.9
