"""Values finer than float64: new timestamps in nanoseconds lie on the step of the data and repeat the data's repeated
timestamps exactly; whole numbers that floats cannot tell apart are left out."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from commanding import done

import latens
from latens.schema import Table

N, FIRST = 600, pd.Timestamp("2021-03-01").value
HEAP = FIRST + 200 * 86_400 * 10**9 + 123_456_789


def stamps(seed: int = 0) -> pd.DataFrame:
    """Columns of timestamps: on each step, with few values, with a heap, before 1970, within a second, with gaps, and
    in a zone."""
    rng = np.random.default_rng(seed)
    draw = lambda: FIRST + rng.integers(0, 400 * 86_400 * 10**9, N)
    found = {f"step {tick}": draw() // tick * tick for tick in (1, 10, 100, 1000)}
    found |= {"few": rng.choice(draw()[:12], N), "heap": np.where(rng.random(N) < 0.4, HEAP, draw())}
    found |= {"old": draw() - 3 * 10**18, "second": FIRST + rng.integers(0, 10**9, N)}
    data = pd.DataFrame({name: pd.to_datetime(values).astype("datetime64[ns]") for name, values in found.items()})
    data["gaps"] = pd.Series(pd.to_datetime(draw()).astype("datetime64[ns]")).where(rng.random(N) < 0.8)
    data["zone"] = pd.Series(pd.to_datetime(draw()).astype("datetime64[ns]")).dt.tz_localize("Asia/Tokyo")
    return data.assign(x=rng.normal(size=N))


LIBRARIES = {
    "pandas": lambda data: data, "polars": pl.from_pandas,
    "arrow": lambda data: pa.Table.from_pandas(data, preserve_index=False),
}  # fmt: skip


def require_steps(new: pd.DataFrame) -> None:
    """All 2000 rows lie on the step of their column, and a tenth of them (standard error 0.007) also lie on the next
    coarser step; the tolerance is 5 standard errors."""
    data = stamps()
    for name in data.columns.drop(["x", "few", "heap"]):
        whole = new[name].dropna().astype(data[name].dtype).astype("int64")
        tick = int(name.split()[1]) if name.startswith("step") else 1
        assert (whole % tick == 0).all(), name
        assert tick == 1000 or abs((whole % (10 * tick) == 0).mean() - 0.1) < 0.035, name
        assert new[name].min() >= data[name].min() and new[name].max() <= data[name].max(), name
    assert new["few"].isin(data["few"]).all() and new["few"].nunique() == 12
    share = (data["heap"] == pd.Timestamp(HEAP)).mean()
    assert abs((new["heap"] == pd.Timestamp(HEAP)).mean() - share) < 0.07  # 5 standard errors, and the model's error


@pytest.mark.parametrize("library", LIBRARIES)
def test_samples_are_on_the_step_of_the_data(library):
    made = LIBRARIES[library](stamps())
    vae = latens.VAE(2, epochs=2, random_state=0, nll_draws=5).fit(made)
    assert Table.from_json(json.loads(json.dumps(vae.schema_.to_json()))) == vae.schema_
    new = vae.sample(2000, random_state=1)
    if library == "arrow":
        assert new.schema.types == made.schema.types
    require_steps(new if library == "pandas" else new.to_pandas())
    filled = vae.impute(made, k=5)
    filled = filled if library == "pandas" else filled.to_pandas()
    seen = stamps().notna()
    pd.testing.assert_frame_equal(filled.where(seen), stamps().where(seen), check_dtype=False)


@pytest.mark.parametrize("more", [(), ("--stream",)], ids=["memory", "stream"])
def test_text_has_nine_digits_and_the_step_of_the_data(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    stamps().drop(columns="zone").to_csv("in.csv", index=False)
    done("fit", "in.csv", "--out", "run", "--epochs", "2", *more)
    done("sample", "run", "-n", "2000", "--out", "out.csv")
    new = pd.read_csv("out.csv", dtype=str)
    times = [name for name in new if name not in ("x", "step 1000")]
    assert all(new[name].dropna().str.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}").all() for name in times)
    read = {name: pd.to_datetime(new[name]) for name in new if name != "x"}
    require_steps(new.assign(**read, zone=stamps()["zone"].sample(2000, replace=True, random_state=0).to_numpy()))


def test_times_that_hardly_vary_have_no_formula():
    rng = np.random.default_rng(0)
    near = pd.to_datetime(FIRST + rng.integers(0, 5000, N)).astype("datetime64[ns]")
    data = stamps().assign(near=near)
    assert not [rule for rule in latens.VAE(2, epochs=1, nll_draws=5).fit(data).schema_.rules if rule.kind == "formula"]


@pytest.mark.parametrize("first, dtype", [(2**63, "uint64"), (-(2**62), "int64"), (2**60, "int64")])
def test_whole_numbers_that_floats_cannot_tell_apart_are_left_out(first, dtype):
    rng = np.random.default_rng(0)
    near = np.array([first + step for step in rng.integers(1, 50, N).tolist()], dtype=dtype)
    data = pd.DataFrame({"near": near, "same": np.full(N, near[0]), "x": rng.normal(size=N)})
    with pytest.warns(UserWarning, match="'near' is left out as an identifier: whole numbers that differ by less than"):
        vae = latens.VAE(2, epochs=1, nll_draws=5, random_state=0).fit(data)
    new, again = vae.sample(5, random_state=0), vae.reconstruct(data)
    assert "near" not in new and (new["same"] == near[0]).all() and (again["near"] == near).all()
