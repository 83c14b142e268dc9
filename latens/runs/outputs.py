"""From codes and numbers back to rows in the user's form: samples, with conditions, and decoded codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latens import evaluation
from latens.data import tables
from latens.data.rows import Rows, condition_column
from latens.data.streams.sources import joined_rows
from latens.data.tables.reading import written as in_forms
from latens.data.tables.types import with_index
from latens.distributions import center, drawing_within, extrapolating
from latens.errors import InputError, is_whole, require
from latens.evaluation.likelihood import chunks, evaluating, model_device, rows_at_once
from latens.machine.memory import free_memory
from latens.runs import gaps
from latens.runs.record import Run
from latens.schema import LIBRARY, AnySchema, Column, Table
from latens.schema.rules import Function, Intervals
from latens.tensors import trees
from latens.tensors.randomness import Key, seed_of, seeded
from latens.tensors.trees import Tree

if TYPE_CHECKING:
    from latens.densities import Fitted
    from latens.runs.margins import MarginMaps

WINDOW = 1 << 17  # approximate rows of a window of samples
MAPPED = 10_000  # draws of a density from which maps of margins are made
REDRAWS = 200  # a row that a rule takes out of range is drawn again at most this many times


def schema_of(run: Run) -> AnySchema:
    """The schema of a run made from data; ``InputError`` if it has none."""
    if run.schema is None:
        raise InputError("this run has no schema (your own parts on a tree of data)", "use its model directly")
    return run.schema


def conditions(
    run: Run, n: int, given: Mapping[str, Any], seed: int | np.random.Generator
) -> tuple[Tree, dict[str, Any]]:  # fmt: skip
    """Conditions of ``n`` rows: those in ``given``. The remaining conditions are drawn from rows of the fit, if
    possible from rows that agree with those given. With a generator instead of a seed, the draws continue where it
    stands.

    Returns:
        (c in the model's form, or None; the columns of conditions as arrow arrays).

    Raises:
        InputError: the model does not read a condition, or never saw a value of it.
    """
    table, named = run.given, _numbers(run.given, given)
    seen = {name: np.asarray(values, dtype=np.float64) for name, values in (run.data.get("conditions") or {}).items()}
    names = [*(() if table is None else table.conditions), *([LIBRARY] if LIBRARY in seen else [])]
    if not names:
        return None, {}
    if isinstance(run.schema, Table):
        _require_known(run.schema, named, given)
    drawn = _draw(seen, named, n, seed)
    if lacking := [name for name in names if name not in drawn]:
        raise InputError(f"the condition {lacking[0]!r} is not given", f"pass --set {lacking[0]}=VALUE")
    storage = run.schema.storage if isinstance(run.schema, Table) else "float32"
    c = {name: torch.from_numpy(drawn[name].astype(storage)) for name in names}
    columns = () if table is None else table.given_fields
    return c, {column.name: column.decode(drawn[column.name], given=True) for column in columns}


def _numbers(table: Table | None, given: Mapping[str, Any]) -> dict[str, float]:
    """{condition: the number that stands for its value}."""
    if table is not None:
        return {name: _value(condition_column(table, name), value) for name, value in given.items()}
    for name in given:
        raise InputError(f"the model reads no condition {name!r}", f"fit it with --condition {name}")
    return {}


def _value(column: Column, value: Any) -> float:
    """The number for a value of a condition, which may also be given as text."""
    if not column.outputs_codes:
        return _number(column, value)
    for code, level in enumerate(column.levels or ()):
        if level == value or str(level) == str(value):
            return float(code)
    known = ", ".join(str(level) for level in (column.levels or ())[:20])
    raise InputError(f"the condition {column.name!r} was never {value!r} in the fit", f"give one of {known}")


def _number(column: Column, value: Any) -> float:
    import pyarrow as pa

    dates = column.kind == "datetime"
    kind = "a date or time" if dates else "a number"
    wrong = f"the condition {column.name!r} must be {kind}, got {value!r}"
    remedy = f"write it as {column.written_as}" if dates or column.form else "give a number, such as 1.5"
    try:
        if column.form is not None and isinstance(value, str):
            cells = column.form.read(pa.array([value]))[0]
        else:
            cells = pa.array(np.array([value], dtype="datetime64[us]")) if dates else pa.array([float(value)])
    except (TypeError, ValueError):
        raise InputError(wrong, remedy) from None
    number = float(column.encode(cells, "--set")[0][0])
    if number != number or abs(number) > float(np.finfo(np.float32).max):
        raise InputError(wrong, remedy + ("" if dates else ", within float32"))
    return number


def _require_known(schema: Table, named: Mapping[str, float], given: Mapping[str, Any]) -> None:
    """``InputError`` if a rule says nothing about the value of a condition."""
    for rule in schema.rules:
        name = rule.sources[0]
        if name not in named or not isinstance(rule, Function):
            continue
        column, number = schema.ruled[name], named[name]
        further = isinstance(rule, Intervals) and column.time == "dates"  # in another year the target may be another
        low, high = (column.low, column.high) if further else (None, None)
        beyond = (low is not None and number < low) or (high is not None and number > high)
        if beyond or not rule.of(np.array([number]))[1].all():
            what = f"the rule {rule.text} has no {rule.target} for {name} = {given[name]}"
            raise InputError(what, "give a value of the condition that the data of the fit have")


def _draw(
    seen: Mapping[str, np.ndarray], named: Mapping[str, float], n: int, seed: int | np.random.Generator
) -> dict[str, np.ndarray]:  # fmt: skip
    others = [name for name in seen if name not in named]
    found = {name: np.full(n, value) for name, value in named.items()}
    if not others:
        return found
    rows = np.arange(len(seen[others[0]]))
    for name, value in named.items():
        agree = rows[seen[name][rows] == value] if name in seen else rows
        rows = agree if len(agree) else rows
    random = seed if isinstance(seed, np.random.Generator) else np.random.default_rng([seed % 2**63, Key.CONDITIONS])
    pick = random.choice(rows, n)
    return found | {name: seen[name][pick] for name in others}


def codes(run: Run, rows: Rows) -> np.ndarray:
    """Posterior means E[z|x], ``[N, Z]`` float32, in the order of the rows."""
    return evaluation.codes(run.model, rows.inside, rows.c).numpy().astype(np.float32)


def posterior_samples(run: Run, rows: Rows, draws: int, seed: int) -> np.ndarray:
    """Draws from q(z|x), ``[draws, N, Z]`` float32."""
    model: Any = run.model
    with torch.no_grad(), seeded(seed, Key.CODES):
        q = model.encode(rows.inside[:], rows.c)
        require_memory(draws * len(rows), int(q.event_shape[-1]), f"{draws:,} draws per row")
        return q.sample(torch.Size((draws,))).numpy().astype(np.float32)


def reconstructed(run: Run, rows: Rows) -> Any:
    """Each row decoded from its posterior mean, in the user's form: the mean or mode of p(x|z, c)."""
    kind = next((p.dtype for p in run.model.parameters() if p.is_floating_point()), torch.float32)
    z = torch.from_numpy(codes(run, rows)).to(kind)
    return rows.in_order(decoded(run, z, rows.c, rows.handed_through))


def sample(
    run: Run, n: int, *, mean: bool, seed: int, given: Mapping[str, Any] | None = None, density: Fitted | None = None,
    missing: bool = True, extrapolate: bool = False,
) -> Any:  # fmt: skip
    """New rows in the user's form: z from p(z|c), or from a density fitted to the codes, and then x from p(x|z, c).

    Args:
        run: the run.
        n: the number of rows.
        mean: whether x is the mean or mode of p(x|z, c) instead of a draw.
        seed: the seed of the draws.
        given: conditions, ``{name: value}``.
        density: the density that replaces the prior.
        missing: whether cells of a table are missing as often as in the data.
        extrapolate: whether draws of numbers may lie outside the range of the data.

    Raises:
        InputError: ``extrapolate`` is combined with means, or the rows do not fit into memory.
    """
    require(is_whole(n) and n >= 1, "the number of samples", "a whole number from 1", n)
    require_memory(n, schema_of(run).columns, f"{n:,} samples")
    with sampling(
        run, n, mean=mean, seed=seed, given=given, density=density, missing=missing, extrapolate=extrapolate
    ) as windows:
        first = next(windows)
        if len(first) == n:
            return first
        if hasattr(first, "column_names"):
            return joined_rows([first, *windows])
        whole, done = np.empty((n, *first.shape[1:]), first.dtype), len(first)
        whole[:done] = first
        for x in windows:
            whole[done : done + len(x)] = x
            done += len(x)
        return whole


@contextmanager
def sampling(
    run: Run, n: int, *, mean: bool, seed: int, given: Mapping[str, Any] | None = None, density: Fitted | None = None,
    missing: bool = True, extrapolate: bool = False,
) -> Iterator[Iterator[Any]]:  # fmt: skip
    """The samples of :func:`sample` in windows of rows, with one window in memory at a time. Iterate inside the block,
    since torch draws from the seed only there."""
    schema = schema_of(run)
    if extrapolate and mean:
        raise InputError("extrapolate applies to draws, not to means", "omit it")
    count = rows_at_once(schema.columns)
    size = count * max(1, WINDOW // count)
    margins = margins_of(run, density, have=not (mean or extrapolate))
    random = np.random.default_rng([seed % 2**63, Key.CONDITIONS])

    def window(first: int) -> Any:
        rows = min(size, n - first)
        c, cells = conditions(run, rows, given or {}, random)
        own = seed_of(seed, Key.PART, first) if first else seed
        z = None if density is None else density.draw(run.model, rows, own)
        gapped = None if mean else _Gapped.of(run, rows, c, seed, within=(first, n))
        x = _Drawing(run, rows, c, z, gapped, mean, margins).drawn()
        return to_user(schema, x, cells, mean=mean, beyond=extrapolate, gapped=gapped if missing else None)

    with (
        evaluating(run.model), seeded(seed, Key.SAMPLE), torch.no_grad(), extrapolating(extrapolate),
        drawing_within(margins.limits),
    ):  # fmt: skip
        yield map(window, range(0, n, size))


@dataclass(frozen=True)
class _Drawing:
    """Rows that are drawn part by part: their number, conditions, codes (None: from the prior), gaps, whether they are
    means, and the maps of their margins."""

    run: Run
    rows: int
    c: Tree
    z: Tensor | None
    gapped: _Gapped | None
    mean: bool
    margins: MarginMaps

    def drawn(self) -> np.ndarray:
        """The numbers of the rows, ``[rows, *event]``."""
        count = rows_at_once(schema_of(self.run).columns)
        parts = (self._part(slice(i, min(i + count, self.rows))) for i in range(0, self.rows, count))
        return trees.below(parts, self.rows).numpy()

    def _part(self, rows: slice) -> Tensor:
        """Draw rows; repeat those in which a rule takes its target out of the range to which draws are confined."""
        x, schema = self._draw(rows), schema_of(self.run)
        if not isinstance(schema, Table) or not schema.rules or self.mean:
            return x
        known, left = schema.known_of(trees.take(self.c, rows)), np.arange(len(x))
        for _ in range(REDRAWS):
            own = {name: values[left] for name, values in known.items()}
            left = left[schema.outward(x.numpy()[left], own)[1]]
            if not len(left):
                break
            x[torch.from_numpy(left)] = self._draw(rows.start + left)
        return x

    def _draw(self, rows: Any) -> Tensor:
        x = self._of_model(rows)
        if not self.margins.maps:
            return x
        return torch.from_numpy(self.margins.mapped(x.cpu().double().numpy())).to(x.dtype)

    def _of_model(self, rows: Any) -> Tensor:
        model, some = self.run.model, trees.take(self.c, rows)
        size = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        if self.z is None and (self.gapped is None or not hasattr(model, "generated")):
            return model.sample(size, some, mean=self.mean)  # type: ignore[operator]
        px = (
            model.generated(size, some) if self.z is None  # type: ignore[operator]
            else model.decode(self.z[rows].to(model_device(model)), some)  # type: ignore[operator]
        )  # fmt: skip
        return self.gapped.draw(px, rows) if self.gapped is not None else center(px) if self.mean else px.sample()


def margins_of(run: Run, density: Fitted | None = None, *, have: bool = True) -> MarginMaps:
    """The maps that give samples the margins of the data, also if codes are drawn from a density; none unless
    ``have``."""
    from latens.runs.margins import MarginMaps

    schema, maps = schema_of(run), run.data.get("margins") if have else None
    found = MarginMaps(schema, maps or {})
    if not maps or density is None:
        return found
    model: Any = run.model
    with evaluating(model), seeded(int(run.settings.seed), Key.MARGINS, 1), torch.no_grad():
        z = density.draw(model, MAPPED, seed_of(int(run.settings.seed), Key.MARGINS))
        parts = (model.decode(some.to(model_device(model))).sample() for some in z.split(rows_at_once(schema.columns)))
        x = torch.cat([part.cpu() for part in parts])
    return found.again(x.double().numpy())


def drawn(run: Run, n: int, seed: int) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """Draws of n rows of a table, made as in :func:`sample`, part by part: p(x|z, c), x ``[B, columns]``, and the mask
    of observed cells."""
    c, _ = conditions(run, n, {}, seed)
    gapped, count = _Gapped.of(run, n, c, seed), rows_at_once(schema_of(run).columns)
    for start in range(0, n, count):
        rows = slice(start, min(start + count, n))
        px = run.model.generated(rows.stop - start, trees.take(c, rows))  # type: ignore[operator]
        x = px.sample() if gapped is None else gapped.draw(px, rows)
        gone = None if gapped is None or gapped.mask is None else gapped.mask[rows][:, gapped.places]
        yield px, x, torch.ones_like(x, dtype=torch.bool) if gone is None else torch.from_numpy(~gone)


class _Gapped:
    """Rows of a table in which cells are missing as often as in the run's data.

    Args:
        schema: the schema of the rows.
        n: the number of rows in all.
        data: what the run stores of its rows, with the trees of :func:`latens.runs.gaps.learned`.
        known: conditions, ``[n]`` each.
        seed: the seed of the draws.
        within: if these rows are a part of more rows, (number of the first row, number of all rows).
    """

    def __init__(
        self, schema: Table, n: int, data: Mapping[str, Any], known: dict[str, np.ndarray], seed: int,
        within: tuple[int, int] | None = None,
    ):  # fmt: skip
        self.schema, self.trees, self.known, self.seed = schema, data["gaps"], known, seed
        self.in_order = {tree["column"]: tree for tree in data.get("gaps_in_order", ())}
        self.within = within or (0, n)
        self.names = tuple(field.name for field in schema.outer)
        self.places = [self.names.index(name) for name in schema.names]
        self.mask: np.ndarray | None = None
        self.kept: set[str] = set()  # the columns whose gaps are those in the mask
        self.rows = n

    @classmethod
    def of(cls, run: Run, n: int, c: Tree, seed: int, within: tuple[int, int] | None = None) -> _Gapped | None:
        """The gaps of a run; None if no cell of its data was missing."""
        if not isinstance(run.schema, Table) or not run.data.get("gaps"):
            return None
        known = {name: v.double().numpy() for name, v in (c or {}).items()} if isinstance(c, Mapping) else {}
        return cls(run.schema, n, run.data, known, seed, within)

    def draw(self, px: Any, rows: Any) -> Tensor:
        """Draws of px. If columns are drawn one after the other, their gaps are, too."""
        base = getattr(px, "base", None)
        if not hasattr(base, "with_gaps"):
            return px.sample()
        known, places = {name: values[rows] for name, values in self.known.items()}, np.arange(self.rows)[rows]
        if self.mask is None:
            self.mask = np.zeros((self.rows, len(self.names)), bool)
        mask, is_sequential = self.mask, base.is_sequential  # type: ignore[union-attr]
        self.kept = {name for name in self.names if not is_sequential or self.in_order.get(name, {}).get("own")}

        def together(x: Tensor, columns: Sequence[int]) -> Tensor:
            u = self.schema.outward(x.flatten(end_dim=-2).numpy(), self.schema.known_of(known))[0]
            seed = seed_of(self.seed, Key.GAPS, self.within[0] + int(places[0]))
            mask[places] = np.isnan(gaps.drawn(self.trees, self.names, np.stack([*u.values()], 1), known, seed))
            return torch.from_numpy(mask[places][:, self.places]).view(x.shape)

        def in_order(told: Tensor, columns: Sequence[int]) -> Tensor:
            seen = known | dict(zip(self.schema.names, told.flatten(end_dim=-2).numpy().T))
            trees = [self.in_order.get(self.schema.names[j]) for j in columns]
            share = np.stack([np.zeros(len(places)) if tree is None else gaps.shares(tree, seen) for tree in trees], -1)
            gone = torch.rand(share.shape, dtype=torch.float64) < torch.from_numpy(share)
            mask[np.ix_(places, [self.places[j] for j in columns])] = gone.numpy()
            return gone.view(*told.shape[:-1], -1)

        return base.with_gaps(in_order if is_sequential else together)[0]  # type: ignore[union-attr]

    def leave_out(self, u: np.ndarray) -> np.ndarray:
        """The numbers ``[n, columns]`` with NaN in missing cells. Gaps that were drawn with the values stay, except
        in columns whose gaps follow from the values, or whose gaps the model does not see as the user does."""
        held = {} if self.mask is None else {name: self.mask[:, self.names.index(name)] for name in self.kept}
        return gaps.drawn(self.trees, self.names, u, self.known, self.seed, self.within, held)


def drawn_again(run: Run, rows: Rows, seed: int) -> Any:
    """For each row, a draw from p(x|z, c) at a draw z ~ q(z|x, c), in the form and with the gaps of :func:`sample`."""
    model: Any = run.model
    schema, c = schema_of(run), rows.c
    count = max(1, rows_at_once(schema.columns) // 2)  # halved, since memory holds densities and draws
    gapped = _Gapped.of(run, len(rows), c, seed)

    def draw(px: Any, some: slice) -> Tensor:
        return (px.sample() if gapped is None else gapped.draw(px, some))[0]

    margins = margins_of(run)
    with evaluating(model), seeded(seed, Key.RECONSTRUCT), torch.no_grad(), drawing_within(margins.limits):
        parts = (draw(model.draw(xs, 1, cs).px, some) for some, xs, cs in chunks(model, rows.inside, c, count))
        x = trees.below(parts, len(rows)).numpy()
    x = margins.again(x).mapped(x)
    fields = () if run.given is None else run.given.given_fields
    cells = {f.name: f.decode(c[f.name].numpy(), given=True) for f in fields}
    return to_user(schema, x, cells, gapped=gapped)


def require_memory(rows: int, columns: int, what: str) -> None:
    """Raise ``InputError`` if rows x columns numbers, at 8 bytes each for the draw and again for the answer, exceed the
    free memory."""
    needed, there = 16 * int(rows) * int(columns), free_memory()
    if needed > there:
        raise InputError(
            f"{what} would take {needed / 2**30:,.0f} GiB of memory, but only {there / 2**30:,.0f} are free",
            "ask for fewer",
        )


def decoded(run: Run, z: Tensor, c: Tree = None, cells: Mapping[str, Any] | None = None) -> Any:
    """Codes ``[N, Z]`` decoded into the user's form: the mean or mode of p(x|z, c)."""
    return to_user(schema_of(run), evaluation.decode(run.model, z, c).numpy(), cells, mean=True)


def written(x: Any, run: Run, rows: Rows | None = None, out: str | Path = "") -> Any:
    """Values in the form in which they are returned or written to ``out``. Columns of text get the form of ``rows``, or
    of the rows of the fit."""
    if not hasattr(x, "column_names"):
        return x
    as_text = Path(out).suffix.lower() in (".csv", ".tsv")
    if rows is not None:
        return rows.written(x, as_text=as_text)
    fields = run.schema.fields if isinstance(run.schema, Table) else ()
    x = in_forms(x, {f.name: f.form for f in fields if f.form}, as_text=as_text)
    back = tables.frames.restored(run.data.get("frame"))
    return with_index(x, None, back.schema) if isinstance(back, tables.frames.ArrowBack) and not as_text else x


def to_user(
    schema: AnySchema, x: np.ndarray, cells: Mapping[str, Any] | None = None, *, mean: bool = False,
    beyond: bool = False, gapped: _Gapped | None = None,
) -> Any:  # fmt: skip
    """Numbers in the user's form: an array, or an arrow table.

    Args:
        schema: the schema.
        x: numbers of the model, ``[N, *event]``.
        cells: columns of conditions, which are put back in their places.
        mean: whether the numbers are means; means of counts remain fractions.
        beyond: whether numbers may lie outside the range of the data.
        gapped: which cells are to be missing; None for no cell.
    """
    if not isinstance(schema, Table):
        return schema.to_user(schema.settled(x, mean=mean, beyond=beyond), mean=mean)
    if gapped is None:
        return schema.to_user(x, cells, mean=mean, beyond=beyond)
    return schema.to_user(x, cells, mean=mean, beyond=beyond, gaps=gapped.leave_out, hidden=gapped.mask)
