"""Write a Parquet data set of mixed columns and any number of rows in bounded memory; a seed always gives the same
bytes.

    python bench/make_stream.py --rows 10000000 --out data/stream --seed 0

Ten columns driven by two hidden factors: x1 to x4 continuous and correlated, income positive with a heavy tail, visits
and events counts, region (4 levels) and product (40 levels) text, active 0 or 1. Two per cent of all cells are missing
completely at random. The folder has files of 1,000,000 rows, in row groups of 100,000, and each row group is a function
of (seed, its number).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 100_000
FILE_GROUPS = 10
MISSING = 0.02
LOADINGS = np.array([[1.0, 0.8, 0.0, -0.5], [0.0, 0.6, 1.0, 0.9]])  # loadings of the two factors on x1 .. x4
REGIONS = ["east", "north", "south", "west"]
PRODUCTS = [f"p{number:02d}" for number in range(40)]
SCHEMA = pa.schema(
    [(name, pa.float32()) for name in ("x1", "x2", "x3", "x4", "income")]
    + [("visits", pa.int32()), ("events", pa.int32()), ("region", pa.string()), ("product", pa.string())]
    + [("active", pa.int8())]
)


def group(seed: int, number: int, rows: int) -> pa.Table:
    """The rows of one row group."""
    random = np.random.default_rng([seed, number])
    factors = random.standard_normal((rows, 2))
    first, second = factors.T
    x = factors @ LOADINGS + 0.5 * random.standard_normal((rows, 4))
    income = np.exp(10 + 0.5 * first) * (1 + random.pareto(2.5, rows))
    visits = random.poisson(np.exp(0.5 + 0.4 * second))
    events = random.negative_binomial(2, 1 / (1 + np.exp(1 + 0.5 * first)))
    region = (first > 0) * 2 + (second + random.standard_normal(rows) > 0)
    product = np.clip(np.floor(20 + 8 * (first + 0.5 * random.standard_normal(rows))), 0, 39).astype(np.int32)
    active = random.random(rows) < 1 / (1 + np.exp(-2 * second))
    columns = [*x.T, income, visits, events, region, product, active]
    arrays = []
    for field, values in zip(SCHEMA, columns):
        gone = random.random(rows) < MISSING
        if field.type == pa.string():
            levels = pa.array(REGIONS if field.name == "region" else PRODUCTS)
            codes = pa.array(values.astype(np.int32), mask=gone)
            arrays.append(pa.DictionaryArray.from_arrays(codes, levels).cast(pa.string()))
        else:
            arrays.append(pa.array(values.astype(field.type.to_pandas_dtype()), type=field.type, mask=gone))
    return pa.table(arrays, schema=SCHEMA)


def write(rows: int, out: Path, seed: int) -> None:
    """Write the data set; a folder that already holds Parquet files is refused."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("*.parquet")):
        raise SystemExit(f"{out} holds Parquet files: give a new folder, or remove them")
    groups = -(-rows // GROUP_ROWS)
    for file, start in enumerate(range(0, groups, FILE_GROUPS)):
        with pq.ParquetWriter(out / f"part-{file:05d}.parquet", SCHEMA) as writer:
            for number in range(start, min(start + FILE_GROUPS, groups)):
                table = group(seed, number, min(GROUP_ROWS, rows - number * GROUP_ROWS))
                writer.write_table(table, row_group_size=GROUP_ROWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="write this many rows, 1 to 1,000,000,000")
    parser.add_argument("--out", type=Path, required=True, help="create this folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 1 <= options.rows <= 1_000_000_000:
        parser.error("--rows must be from 1 to 1,000,000,000")
    write(options.rows, options.out, options.seed)


if __name__ == "__main__":
    main()
