"""Functions over record batches, and the engines that they run under."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from commanding import call, done
from pyarrow import parquet

import latens
from latens import InputError
from latens.data.tables.files import read_table

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"scorer": {"k": 5}, "encoder": {}, "imputer": {"k": 20}}
COMMANDS = {"scorer": ("score", "--k", 5), "encoder": ("encode",), "imputer": ("impute", "--k", 20)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run fitted to two numeric columns, one with gaps, and a text column, with `rows.parquet` next to it."""
    folder, rng = tmp_path_factory.mktemp("batches"), np.random.default_rng(0)
    b = [None if i % 7 == 3 else float(value) for i, value in enumerate(rng.normal(size=120))]
    words = np.array(["x", "y"])[rng.integers(0, 2, 120)].tolist()
    rows = pa.table({"key": [f"0{i}" for i in range(120)], "a": rng.normal(size=120), "b": b, "word": words})
    parquet.write_table(rows, folder / "rows.parquet")
    done("fit", folder / "rows.parquet", "--out", folder / "run", "--drop", "key", "--epochs", 1, "--latent-dim", 2)
    return folder / "run"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_batch_functions_give_what_the_command_writes(run: Path, name: str, tmp_path: Path):
    rows = parquet.read_table(run.parent / "rows.parquet")
    made = getattr(latens, name)(run, keep=["key"], **OPTIONS[name])
    command, *words = COMMANDS[name]
    done(command, run, run.parent / "rows.parquet", "--out", tmp_path / "o.parquet", "--keep", "key", *words)
    expected = read_table(tmp_path / "o.parquet")
    again = pickle.loads(pickle.dumps(made))
    for function in (made, again):
        assert function(rows).select(expected.column_names).equals(expected)
    (batch,) = rows.to_batches()
    found = made(batch)
    assert isinstance(found, pa.RecordBatch) and pa.Table.from_batches([found]).equals(made(rows).combine_chunks())
    empty = made(batch.slice(0, 0))
    assert empty.num_rows == 0 and empty.schema.names == found.schema.names
    assert made.schema.names == found.schema.names[1:]


def test_scores_do_not_depend_on_the_batch(run: Path):
    rows, score = parquet.read_table(run.parent / "rows.parquet"), latens.scorer(run, k=5)
    whole = score(rows).column("log_px").to_numpy()
    pieces = [score(batch).column("log_px").to_numpy() for batch in rows.to_batches(max_chunksize=17)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-5)


def test_mistakes_in_batches_are_refused(run: Path):
    rows = parquet.read_table(run.parent / "rows.parquet")
    with pytest.raises(InputError, match="keep must be a list of columns"):
        latens.scorer(run, keep="key")
    with pytest.raises(InputError, match="no column 'kye' to keep"):
        latens.scorer(run, keep=["kye"])(rows)
    with pytest.raises(InputError, match="does not exist"):
        latens.encoder(run / "nothing")(rows)
    with pytest.raises(InputError, match="no column 'word'"):
        latens.encoder(run)(rows.drop_columns(["word"]))


def test_ray_writes_the_same_bytes_as_local_processes(run: Path, tmp_path: Path):
    given = ("score", run, run.parent / "rows.parquet", "--k", 3, "--workers", 2)
    try:
        import ray  # noqa: F401
    except ImportError:
        said = call(*given, "--out", f"{tmp_path}/ray/", "--engine", "ray")
        assert said.status == 2 and "Ray, which is not installed: pip install 'latens[ray]'" in said.err
        pytest.skip("ray is not installed")
    for engine in ("ray", "processes"):
        done(*given, "--out", f"{tmp_path}/{engine}/", "--engine", engine)
    made = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("ray", "processes")]
    assert made[0] == made[1]


def test_dask_takes_functions_of_batches(run: Path):
    dask = pytest.importorskip("dask")
    rows, encode = parquet.read_table(run.parent / "rows.parquet"), latens.encoder(run)
    found = dask.compute(*(dask.delayed(encode)(rows.slice(first, 40)) for first in (0, 40, 80)), scheduler="sync")
    assert pa.concat_tables(found).num_rows == 120


def test_spark_takes_functions_of_batches(run: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    try:
        spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    except Exception as error:
        pytest.skip(f"Spark does not start: {' '.join(str(error).split())[:100]}")
    encode = latens.encoder(run)
    frame = spark.read.parquet(str(run.parent / "rows.parquet")).drop("key")
    assert frame.mapInArrow(lambda batches: map(encode, batches), from_arrow_schema(encode.schema)).count() == 120
    spark.stop()
