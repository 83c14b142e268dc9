"""Tables that are wrong, unusual or hostile: each mistake gets one sentence, and unusual tables get complete
results."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from commanding import blank_page, done, figures, refused

import latens
from latens import VAE, InputError, report
from latens.training.checkpoint import sealed

pytestmark = pytest.mark.usefixtures("one_thread", "here")

ROWS = 240


def frame(rows: int = ROWS) -> pd.DataFrame:
    """One column of each kind."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "num": rng.normal(size=rows).round(3), "pos": np.exp(2 * rng.normal(size=rows)).round(3) + 0.001,
        "k": rng.poisson(np.exp(1 + rng.normal(size=rows))), "cat": rng.choice(list("xyz"), rows),
        "lev": rng.integers(1, 5, rows), "yes": rng.random(rows) < 0.4,
        "day": pd.date_range("2020-01-01", periods=rows, freq="D").astype(str), "g": rng.choice(["g1", "g2"], rows),
        "gap": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)), "one": 3, "none": np.nan,
        "id": [f"u-{i}" for i in range(rows)], "a=b": rng.normal(size=rows), "a:b": rng.normal(size=rows),
    })  # fmt: skip


def variants(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Variants of a table, which a run fitted to ``data`` scores."""
    rng = np.random.default_rng(1)
    return {
        "data": data, "less": data.drop(columns="pos"), "renamed": data.rename(columns={"num": "Num"}),
        "text": data.assign(num="t" + data.num.astype(str)), "negative": data.assign(k=-data.k - 1),
        "half": data.assign(k=data.k + 0.5), "zero": data.assign(pos=0.0), "nodays": data.assign(day="monday"),
        "huge": data.assign(num=1e39), "nolevel": data.assign(cat="new"), "norows": data[:0],
        "extra": data.assign(more=1), "backwards": data[data.columns[::-1]], "onerow": data[:1],
        "gaps": data.mask(rng.random(data.shape) < 0.4), "nothing": data.mask(np.ones(data.shape, bool)),
        "unknown": data.assign(cat=data.cat.replace("x", "new")), "two": data.assign(yes=2),
        "datenum": data.assign(num=data.day), "gapless": data.assign(gap=np.nan), "few": data[:80],
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tables, schema files and two fitted runs, one of them with conditions."""
    place, before = tmp_path_factory.mktemp("tables"), Path.cwd()
    patch = pytest.MonkeyPatch()
    patch.setattr(report, "write", blank_page)
    os.chdir(place)
    try:
        for name, table in variants(frame()).items():
            table.to_csv(f"{name}.csv", index=False)
        files = {"broken": "{", "list": "[]", "kind": '{"num": "foo"}', "strange": '{"nope": "normal"}',
                 "number": '{"num": 3}', "deep": "[" * 100_000}  # fmt: skip
        pd.DataFrame({"a": [1.5, 2.5, 0.5], "b": list("xyx")}).to_csv("given.csv", index=False)
        for name, text in files.items():
            Path(f"{name}.json").write_text(text)
        done("fit", "data.csv", "--out", "run", "--epochs", 1)
        done("fit", "data.csv", "--out", "given", "--epochs", 1, "--condition", "cat", "--condition", "num")
        yield place
    finally:
        os.chdir(before)
        patch.undo()


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "write", blank_page)
    monkeypatch.chdir(folder)
    return folder


FIT, SCORE, SET = "fit data.csv --out x --epochs 1", "score run {}.csv --out s.csv", "sample given --out s.csv --set"
WORDS: dict[str, str] = {
    # columns
    f"{FIT} --column num=positive": "'num' .*positive.*-3",
    f"{FIT} --column num=count": "'num' .*count.*negative",
    f"{FIT} --column num=binary": "'num' .*binary.*values",
    f"{FIT} --column num=bounded:0:1": "'num' .*beyond the bounds",
    f"{FIT} --column num=bounded:a:b": "'num'.*LOW:HIGH",
    f"{FIT} --column num=nothing": "'num'.*not a kind.*positive",
    f"{FIT} --column num=drop --column num=normal": "'num' twice",
    f"{FIT} --column nope=normal": "no column 'nope': did you mean 'none'",
    f"{FIT} --column num": "NAME=KIND",
    f"{FIT} --column cat=continuous": "'cat' .*texts",
    f"{FIT} --column cat=ordered:x,y": "level 'z'.*name every level",
    f"{FIT} --column cat=ordered:x,x,y,z": "twice",
    f"{FIT} --column none=normal": "every cell is missing",
    f"{FIT} --drop nope": "no column 'nope'",
    f"{FIT} --condition one": "'one' is constant.*cannot be a condition",
    f"{FIT} --condition none": "'none' is missing.*cannot be a condition",
    f"{FIT} --condition id": "'id' is identifier.*cannot be a condition",
    f"{FIT} --condition cat --drop cat": "no column 'cat'",
    f"{FIT} --condition gap": "condition 'gap' is missing in 20.8% of the rows: fill it",
    f"{FIT} --kind count": "column",
    f"{FIT} --kind counts": "the kind must be one of .*, got 'counts'",
    f"{FIT} --kind count --column num=normal": "--kind reads .*--column needs columns: omit one of them",
    f"{FIT} --kind count --condition cat": "--kind reads .*--condition needs columns: omit one of them",
    f"{FIT} --layout TC": "--layout is for arrays, but .*data.csv is a table: omit --layout",
    f"{FIT} --labels cat --split time=cat": "texts",
    "fit given.csv --out x --condition a --condition b": "every column is a condition.*omit one",
    "evaluate run data.csv --labels cat": "--labels cat would remove a column that the model reads: omit --labels",
    f"{FIT} --split group=nope": "no column 'nope'",
    f"{FIT} --split group=": "group=COLUMN",
    f"{FIT} --split foo=g": "group=COLUMN",
    f"{FIT} --split group=one": "one group",
    f"{FIT} --split time=cat": "texts",
    f"{FIT} --split time=gap": "row \\d+ .*no value",
    f"{FIT} --split group=g --validation data.csv": "--split.*--validation",
    f"{FIT} --schema broken.json": "broken.json is not JSON",
    f"{FIT} --schema list.json": "list.json must hold an object",
    f"{FIT} --schema number.json": "number.json must hold an object",
    f"{FIT} --schema kind.json": "'foo' is not a kind",
    f"{FIT} --schema strange.json": "no column 'nope'",
    f"{FIT} --schema absent.json": "absent.json cannot be read",
    # other data
    SCORE.format("less"): "less.csv has no column 'pos'",
    SCORE.format("renamed"): "no column 'num'",
    SCORE.format("text"): "'num' is possible .row 0",
    SCORE.format("negative"): "row 0 .*'k' has -6: .*negative",
    SCORE.format("half"): "row 0 .*'k' has 5.5: .*whole",
    SCORE.format("zero"): "row 0 .*'pos' has 0: .*above 0",
    SCORE.format("nodays"): "'day' is possible .row 0",
    SCORE.format("huge"): "'num' is possible .row 0.*float32",
    SCORE.format("norows"): "norows.csv .*no rows",
    "score given nolevel.csv --out s.csv": "condition 'cat' of row 0 .*never seen.*x, y, z",
    "impute given gaps.csv --out s.csv": "condition 'cat' of row \\d+ .*is missing",
    f"{SET} cat=new": "'cat' was never 'new'.*x, y, z",
    f"{SET} num=abc": "'num' must be a number, got 'abc'",
    f"{SET} num=nan": "'num' must be a number",
    f"{SET} pos=1": "no condition 'pos': name one of cat, num",
    f"{SET} cat": "CONDITION=VALUE",
    "sample run --out s.csv --set cat=x": "reads no condition 'cat'",
    # outputs
    "impute run gaps.csv --out gaps.csv": "it is the input",
    "impute run gaps.csv --out s.csv --uncertainty s.csv": "same file",
    "reconstruct run data.csv --out s.npy": "cannot write s.npy: .*'cat'.*.csv, .tsv, .parquet",
    "impute run gaps.csv --out s.npz --draws 2": "cannot write s.npz: .*'cat'.*.csv, .tsv, .parquet",
    "impute run gaps.csv --out s.csv --k 99999999999999": r"\(--k\) would take .* GiB .*ask for fewer",
    "impute run gaps.csv --out s.csv --uncertainty gaps.csv": "it is the input",
    "sample run --out run/metrics.csv": "part of the run",
    "score run gaps.csv --out nowhere/s.csv": "nowhere does not exist",
}  # fmt: skip
FAULTY = {
    f"{FIT} --schema deep.json": "deep.json",
    f"{FIT} --column num=bounded:-1e308:1e308": "'num'",
    f"{SET} num=1e39": "'num'.*float32",
    f"{SET} cat=x --set cat=y": "twice",
    "score given huge.csv --out s.csv": "'num'.*float32",
    SCORE.format("datenum"): "'num'",
    "impute run gaps.csv --out s.csv --uncertainty u.npy": "u.npy",
}


@pytest.mark.parametrize("words", [*WORDS, *FAULTY])
def test_a_bad_table_is_refused_in_a_sentence(words: str) -> None:
    sentence = refused(*shlex.split(words))
    assert re.search({**WORDS, **FAULTY}[words], sentence), sentence


@pytest.mark.parametrize("name", ["extra", "backwards", "gaps", "unknown"])
def test_odd_rows_are_scored_and_filled(name: str) -> None:
    """Additional or reordered columns, missing cells and unseen levels do not change the columns of the output."""
    done("score", "run", f"{name}.csv", "--out", "s.csv", "--k", 5)
    assert np.isfinite(pd.read_csv("s.csv").log_px).all()
    done("reconstruct", "run", f"{name}.csv", "--out", "q.csv")
    done("impute", "run", f"{name}.csv", "--out", "i.csv", "--k", 5)
    assert not pd.read_csv("i.csv").drop(columns=["none", "id", "one"]).isna().any(axis=None)


@pytest.mark.parametrize("name", ["gapless", "nothing"])
def test_columns_without_any_cell_are_filled(name: str) -> None:
    """A csv does not say which type a column has if all its cells are missing."""
    done("impute", "run", f"{name}.csv", "--out", "i.csv", "--k", 5)
    assert not pd.read_csv("i.csv").drop(columns=["none", "id", "one"]).isna().any(axis=None)


def test_a_requested_split_is_made() -> None:
    """Small data have no held-out rows by default, but a split that is asked for is made."""
    refused("fit", "onerow.csv", "--out", "x", "--epochs", 1, "--split", "group=one")
    done("fit", "few.csv", "--out", "few-run", "--epochs", 1, "--split", "group=g")
    assert "no rows are held out" not in " ".join(json.loads(Path("few-run/run.json").read_text())["warnings"])


@pytest.mark.parametrize("kind", ["stratified", "group"])
def test_rows_are_held_out_by_the_column_of_labels(kind: str) -> None:
    """--labels removes the column from the table, and the run still finds the same held-out rows."""
    done("fit", "few.csv", "--out", f"{kind}-run", "--epochs", 1, "--labels", "g", "--split", f"{kind}=g")
    asked = json.loads(Path(f"{kind}-run/run.json").read_text())
    assert "no rows are held out" not in " ".join(asked["warnings"])
    assert "held-out rows" in figures("evaluate", f"{kind}-run", "--k", 2)["data"]


def test_labels_may_be_dropped_as_well() -> None:
    done("fit", "few.csv", "--out", "dropped-run", "--epochs", 1, "--labels", "g", "--drop", "g")
    assert "g" not in latens.load("dropped-run").schema_.names


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_filled_copies_keep_a_column_that_has_the_name_of_their_number(extension: str) -> None:
    """The column with the number of the copy gets another name, a message says so, and the user's column stays."""
    data = frame(60)[["num", "gap", "cat"]].rename(columns={"num": "imputation", "cat": "imputation_2"})
    data.to_csv("taken.csv", index=False)
    done("fit", "taken.csv", "--out", f"taken-{extension}", "--epochs", 1)
    found = figures("impute", f"taken-{extension}", "taken.csv", "--out", f"i.{extension}", "--k", 5, "--draws", 2)
    assert any("'imputation_3'" in warning for warning in found["warnings"])
    made = pd.read_csv("i.csv") if extension == "csv" else pd.read_parquet("i.parquet")
    assert list(made.columns) == ["imputation_3", *data.columns]
    assert np.allclose(made.imputation[60:], data.imputation) and made.imputation_3.tolist() == [0] * 60 + [1] * 60


def odd(rng: np.random.Generator, n: int = 60) -> dict[str, pd.DataFrame]:
    """Tables that are unusual but valid."""
    b, levels = rng.normal(size=n), rng.choice(list("xyz"), n)
    return {
        "one column": pd.DataFrame({"a": b}), "one of levels": pd.DataFrame({"a": levels}),
        "two rows": pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}),
        "wide": pd.DataFrame({f"c{i}": rng.normal(size=n) if i % 2 else levels for i in range(100)}),
        "dates": pd.DataFrame({"d": pd.date_range("2020-01-01", periods=n, freq="7h"), "b": b}),
        "gaps in truth": pd.DataFrame({"p": pd.array([True, False, None] * (n // 3), "boolean"), "b": b}),
        "names": pd.DataFrame({"größe": b, "a\nb": b**3, "a=b": levels, " sp ": -b, "<b>": b, "$x_{": levels}),
        "taken names": pd.DataFrame({"label": levels, "imputation": b, "x": b**2, "z0": -b}),
        "tails": pd.DataFrame({"a": 1e6 * rng.standard_cauchy(n), "b": b}),
        "words": pd.DataFrame({"a": rng.choice(["None", "w" * 3000, "NA ", "0"], n), "b": b}),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(odd(np.random.default_rng(0))))
def test_odd_tables_pass_through_every_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After fit, sample, score and reconstruct, names and order are unchanged and numbers are finite."""
    monkeypatch.chdir(tmp_path)
    table = odd(np.random.default_rng(0))[name]
    table.to_parquet("t.parquet", index=False)
    done("fit", "t.parquet", "--out", "r", "--epochs", 1)
    done("sample", "r", "--out", "s.parquet", "-n", 20, "--no-gaps")
    done("score", "r", "t.parquet", "--out", "c.parquet", "--k", 5)
    done("reconstruct", "r", "t.parquet", "--out", "q.parquet")
    for made in (pd.read_parquet("s.parquet"), pd.read_parquet("q.parquet")):
        assert list(made.columns) == list(table.columns)
        assert not made.isna().any(axis=None) and np.isfinite(made.select_dtypes("number").to_numpy(float)).all()


SCALES = {"1e-8": (0.0, 1e-8), "1e-13": (0.0, 1e-13), "on a billion": (1e9, 1e-4), "1e30": (0.0, 1e30)}


@pytest.mark.parametrize("name", SCALES)
def test_the_unit_of_a_column_does_not_matter(name: str) -> None:
    """Samples of a column in any unit have its spread, within a factor of 1.5 for 4,000 draws after one epoch."""
    rng = np.random.default_rng(0)
    shift, unit = SCALES[name]
    data = pd.DataFrame({"a": shift + unit * rng.normal(size=300), "b": rng.normal(size=300)})
    spread = VAE(epochs=1).fit(data).sample(4_000)["a"].std() / data["a"].std()
    assert 1 / 1.5 < spread < 1.5, spread


@pytest.mark.parametrize("unit", [1e39, 1e150, 1e-300])
def test_numbers_beyond_float32_are_refused(unit: float) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="float32"):
        VAE(epochs=1).fit(pd.DataFrame({"a": unit * rng.normal(size=60), "b": rng.normal(size=60)}))


def test_every_sample_has_a_finite_score() -> None:
    """Rounding never turns a sample of a positive column into 0, where the column has no density."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": np.exp(2 * rng.normal(size=400) - 3).round(2) + 0.01, "b": rng.normal(size=400)})
    model = VAE(epochs=1, columns={"a": "positive"}).fit(data)
    assert np.isfinite(model.score_samples(model.sample(2_000))).all()


BASE = frame()[["num", "cat"]]
FRAMES: dict[str, Callable[[], Any]] = {
    "no columns": lambda: pd.DataFrame(), "no rows": lambda: BASE[:0], "one row": lambda: BASE[:1],
    "of all sorts": lambda: BASE.assign(o=[1, "a", None, 2.5] * 60), "lists": lambda: BASE.assign(o=[[1]] * ROWS),
    "a zone of no place": lambda: pa.table({"a": BASE.num, "o": pa.array([0] * ROWS, pa.timestamp("s", "Mars/Base"))}),
    "categories that read the same": lambda: BASE.assign(o=pd.Categorical([1, "1"] * (ROWS // 2), [1, "1"])),
    "complex": lambda: BASE.assign(o=BASE.num + 1j),
    "infinite": lambda: BASE.assign(o=np.inf), "no name": lambda: BASE.rename(columns={"num": ""}),
    "records": lambda: pa.table({"a": BASE.num, "o": [{"q": 1}] * ROWS}), "no batch": lambda: pa.table(BASE)[:0],
    "lengths": lambda: {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}, "scalars": lambda: {"a": 1, "b": 2},
    "two axes": lambda: {"a": np.ones((9, 2))},
    "sparse complex": lambda: sp.csr_matrix(np.eye(5) * 1j), "sparse nan": lambda: sp.csr_matrix(np.eye(5) * np.nan),
    "sparse without columns": lambda: sp.csr_matrix((5, 0)),
}  # fmt: skip
FAULTY_FRAMES: dict[str, Callable[[], Any]] = {
    "twice": lambda: pa.Table.from_arrays([pa.array(BASE.num)] * 2, names=["a", "a"]),
    "twice in pandas": lambda: pd.DataFrame(np.ones((9, 2)), columns=["a", "a"]),
    "sparse index": lambda: broken_csr(),
}


def broken_csr() -> Any:
    x = sp.csr_matrix(np.eye(60))
    x.indices[3] = 999
    return x


@pytest.mark.parametrize("name", [*FRAMES, *FAULTY_FRAMES])
def test_bad_frames_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        VAE(epochs=1).fit({**FRAMES, **FAULTY_FRAMES}[name]())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"columns": {"nope": "normal"}}, "no column 'nope'"), ({"columns": {"num": "foo"}}, "not a kind"),
     ({"condition": "nope"}, "no column 'nope'"), ({"condition": ["num", "cat"]}, "no column is left"),
     ({"columns": "num=positive"}, "columns"),
     ({"columns": {"num": 5}}, "num"),
     ({"condition": 5}, "condition")],
)  # fmt: skip
def test_bad_options_of_tables_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        VAE(epochs=1, **options).fit(BASE)


# Run folders that someone has edited, including the checksum

EDITS: dict[str, tuple[str, dict[str, Any]]] = {
    "levels removed": ("cat", {"levels": ["x", "y"]}), "no levels": ("cat", {"levels": []}),
    "kind": ("num", {"kind": "foo"}), "other kind": ("num", {"kind": "positive", "family": "log_normal"}),
    "family": ("num", {"family": "gauss"}), "no unit": ("num", {"unit": 0}), "negative": ("num", {"unit": -1.0}),
    "nan": ("num", {"unit": float("nan")}), "infinite": ("num", {"unit": float("inf")}),
    "word": ("num", {"unit": "1"}), "truth": ("num", {"decimals": True}), "type": ("num", {"type": "foo"}),
    "name": ("num", {"name": "pos"}), "number as name": ("num", {"name": 5}), "new field": ("num", {"more": 1}),
}  # fmt: skip
HOSTILE: dict[str, tuple[str, dict[str, Any]]] = {
    "mixed levels": ("cat", {"levels": ["x", 1, None]}), "nested levels": ("cat", {"levels": [["x"], {}, "z"]}),
    "large levels": ("cat", {"levels": [1, 2, 2**80]}), "large unit": ("num", {"unit": 10**400}),
    "decimals": ("num", {"decimals": 10**30}), "decimal type": ("num", {"type": "decimal128(99, 2)"}),
    "unit of time": ("day", {"type": "timestamp[foo, tz=Mars]"}), "type null": ("num", {"type": "null"}),
    "constant": ("one", {"value": [1]}), "constant word": ("one", {"value": "abc"}),
    "index": ("cat", {"type": "dictionary<values=string, indices=string, ordered=0>"}),
    "type binary": ("num", {"type": "binary"}),
}  # fmt: skip


@pytest.fixture
def edited(here: Path) -> Iterator[Callable[[Callable[[Any], None]], None]]:
    """Edit run.json of the run, renew its checksum, and restore it afterwards."""
    path = here / "run" / "run.json"
    before = path.read_bytes()

    def edit(change: Callable[[Any], None]) -> None:
        record = json.loads(before)
        del record["checksum"]
        change(record)
        path.write_text(sealed(record))

    yield edit
    path.write_bytes(before)


@pytest.mark.parametrize("name", [*EDITS, *HOSTILE])
def test_edited_schemas_are_refused(name: str, edited: Any) -> None:
    column, values = {**EDITS, **HOSTILE}[name]

    def change(record: Any) -> None:
        next(field for field in record["schema"]["table"] if field["name"] == column).update(values)

    edited(change)
    refused("sample", "run", "--out", "s.parquet", "-n", 3)


ENTRIES: dict[str, Any] = {
    "no origin": ("data", "origin", "absent.csv"), "file of others": ("data", "origin", "/etc/passwd"),
    "option of reading": ("data", "reading", {"foo": 1}), "split": ("data", "split", "group=nope"),
    "fraction": ("data", "validation", "much"), "stream": ("data", "stream", {"a": 1}),
    "latent_dim": ("recipe", "options", {"latent_dim": -1}), "recipe": ("recipe", "name", "os:system"),
}  # fmt: skip
HOSTILE_ENTRIES: dict[str, Any] = {
    "number as origin": ("data", "origin", 5), "number as split": ("data", "split", 5),
    "number as drop": ("data", "drop", 5), "number as reading": ("data", "reading", 5),
    "words as conditions": ("data", "conditions", {"cat": ["a"]}), "list of conditions": ("data", "conditions", [1]),
    "number as options": ("recipe", "options", 5), "name as option": ("recipe", "options", {"name": "ae"}),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ENTRIES, *HOSTILE_ENTRIES])
def test_edited_records_are_refused(name: str, edited: Any) -> None:
    part, entry, value = {**ENTRIES, **HOSTILE_ENTRIES}[name]
    edited(lambda record: record[part].update({entry: value}))
    refused("evaluate", "run", "--k", 2)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"format": 1'])
def test_a_damaged_calibration_is_refused(text: str, here: Path) -> None:
    path = here / "given" / "calibration.json"
    before = path.read_bytes() if path.exists() else None
    path.write_text(text)
    try:
        assert "calibration.json is damaged" in refused("score", "given", "data.csv", "--out", "s.csv", "--k", 2)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("fields", [{}, {"k": [1], "reference": "x"}])
def test_a_sealed_calibration_without_valid_contents_is_refused(fields: dict[str, Any], here: Path) -> None:
    path = here / "given" / "calibration.json"
    before = path.read_bytes() if path.exists() else None
    path.write_text(sealed({"format": 1, **fields}))
    try:
        refused("score", "given", "data.csv", "--out", "s.csv", "--k", 2)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
