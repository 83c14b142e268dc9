"""Functions from a record batch to its scores, codes or filled rows, for Ray, Spark, Dask and DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latens.data.rows import Rows, known_columns, rows_like, with_kept
from latens.errors import InputError
from latens.runs import imputing, outputs, scoring
from latens.runs.record import Run, load
from latens.schema import Table
from latens.schema.arrow import pa


class OverBatches:
    """A function from an arrow record batch (or table) to another. It loads its run at the first call. It can be
    pickled: a copy in another process loads the run there.

    Args:
        run: the folder of a run.
        keep: columns of the batch to put in front of the output, unchanged.
        recipe: the name of your own recipe, if it made the run.
    """

    def __init__(self, run: str | Path, keep: Sequence[str] = (), recipe: str | None = None):
        if isinstance(keep, str):
            raise InputError(f"keep must be a list of columns, got {keep!r}", f"pass [{keep!r}]")
        self.folder, self.keep, self.recipe = str(Path(run).resolve()), tuple(keep), recipe
        self._run: Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_run": None}

    @property
    def run(self) -> Run:
        """The run, loaded once."""
        if self._run is None:
            self._run = load(self.folder, recipe=self.recipe)
            self._begin(self._run)
        return self._run

    @property
    def schema(self) -> Any:
        """The arrow schema of the output, without the columns of ``keep``."""
        rows = outputs.sample(self.run, 1, mean=False, seed=0)
        if not hasattr(rows, "column_names"):
            raise InputError(f"{self.folder} was fitted to an array, so its output has no schema", "call it on a batch")
        return self._of(rows, ()).schema

    def __call__(self, batch: Any) -> Any:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        missing = [name for name in self.keep if name not in table.column_names]
        if missing:
            raise InputError(f"the batch has no column {missing[0]!r} to keep", "name only its columns in keep")
        made = self._of(table, self.keep) if len(table) else self._empty(table)
        if not isinstance(batch, pa.RecordBatch):
            return made
        whole = made.combine_chunks().unify_dictionaries().to_batches()
        return whole[0] if whole else pa.RecordBatch.from_pylist([], schema=made.schema)

    def _empty(self, table: Any) -> Any:
        kept = table.select(list(self.keep))
        made = self.schema.empty_table()
        for name in reversed(self.keep):
            made = made.add_column(0, kept.schema.field(name), kept.column(name))
        return made

    def _of(self, table: Any, keep: Sequence[str]) -> Any:
        run, schema = self.run, outputs.schema_of(self.run)
        spare = [name for name in table.column_names if name not in known_columns(schema, run.given)]
        own = table.drop_columns(spare) if spare else table
        rows = rows_like(own, schema, run.given, where="the batch", check=not self._sifts)
        if keep:
            rows = with_kept(rows, table.select(list(keep)))
        return rows.named(self._made(rows))

    _sifts = False

    def _begin(self, run: Run) -> None:
        """Read whatever else the calls need."""

    def _made(self, rows: Rows) -> Any:
        raise NotImplementedError


class Scorer(OverBatches):
    """Scores of the rows of a batch as ``latens score`` writes them, always with a column of reasons."""

    _sifts = True

    def __init__(self, run: str | Path, k: int = 100, keep: Sequence[str] = (), recipe: str | None = None):
        super().__init__(run, keep, recipe)
        self.k = k

    def _begin(self, run: Run) -> None:
        self._calibration = scoring.read_calibration(Path(self.folder))

    def _made(self, rows: Rows) -> Any:
        scoring.require_score(self.run, rows)
        found = scoring.score(self.run, rows, self.k, self._calibration, refuse=False)
        return scoring.as_table(found, outputs.schema_of(self.run), True)


class Encoder(OverBatches):
    """The codes of the rows of a batch, in columns z0, z1, …"""

    def _made(self, rows: Rows) -> Any:
        z = outputs.codes(self.run, rows)
        return pa.table({f"z{j}": pa.array(np.ascontiguousarray(column)) for j, column in enumerate(z.T)})


class Imputer(OverBatches):
    """The rows of a batch with their missing cells filled."""

    def __init__(self, run: str | Path, k: int = 1000, keep: Sequence[str] = (), recipe: str | None = None):
        super().__init__(run, keep, recipe)
        self.k = k

    def _begin(self, run: Run) -> None:
        if not isinstance(run.schema, Table):
            raise InputError(f"{self.folder} was fitted to an array, which has no gaps to fill", "omit it")

    def _made(self, rows: Rows) -> Any:
        return outputs.written(imputing.impute(self.run, rows, k=self.k).filled, self.run, rows)


def scorer(run: str | Path, *, k: int = 100, keep: Sequence[str] = (), recipe: str | None = None) -> Scorer:
    """A picklable function from an arrow record batch (or table) to the scores of its rows.

    It loads the run at the first call in each process. The score of a row does not depend on its neighbours.

    Args:
        run: the folder of a run.
        k: the number of draws for the bound on ln p(x).
        keep: columns of the batch to put in front of the output, unchanged.
        recipe: the name of your own recipe, if it made the run.

    Raises:
        InputError: in a call, if ``latens score`` would refuse the batch.

    >>> import latens, pyarrow as pa, tempfile
    >>> from sklearn.datasets import load_iris
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> latens.VAE(latent_dim=2, epochs=2, random_state=0).fit(load_iris(as_frame=True).data).save(folder)
    >>> batch = pa.RecordBatch.from_pandas(load_iris(as_frame=True).data.head(3))
    >>> latens.scorer(folder, k=10)(batch).num_rows
    3
    """
    return Scorer(run, k, keep, recipe)


def encoder(run: str | Path, *, keep: Sequence[str] = (), recipe: str | None = None) -> Encoder:
    """A picklable function from an arrow record batch (or table) to the codes of its rows; see :func:`scorer`."""
    return Encoder(run, keep, recipe)


def imputer(run: str | Path, *, k: int = 1000, keep: Sequence[str] = (), recipe: str | None = None) -> Imputer:
    """A picklable function from an arrow record batch (or table) to its rows with missing cells filled, using ``k``
    draws for each row; see :func:`scorer`."""
    return Imputer(run, k, keep, recipe)
