"""Encoder, decoder and scorer of a run as modules from tensors to tensors, and as programs of core operations.

    >>> from latens.runs.export import graphs
    >>> decoder = graphs.decoder(run)                  # doctest: +SKIP
    >>> decoder.inputs, decoder.outputs                # doctest: +SKIP
    (('z',), ('value',))
    >>> program = graphs.program(decoder)              # doctest: +SKIP
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import Bernoulli, Categorical, Columns, InOrder, Observed, Ordinal, center
from latens.evaluation.likelihood import evaluating, parts_asking_for_gradients
from latens.models.generator import Generator
from latens.runs.export import cells, operators
from latens.runs.export.noise import Plan
from latens.runs.export.simplifying import simplified
from latens.runs.outputs import schema_of
from latens.runs.record import Run
from latens.schema import LIBRARY, AnySchema, Table
from latens.tensors.trees import flat_codes

Outputs = dict[str, Tensor]


class Graph(nn.Module):
    """A part of a run's model, from tensors to tensors.

    The inputs are the part's own (``x`` or ``z``), one ``[B]`` for each condition and finally, if the part draws,
    standard normal ``noise`` ``[B, n]``. ``outputs`` names the tensors that it returns.

    Args:
        name: "encoder", "decoder" or "scorer".
        model: the model, which is not copied.
        first: the name of the first input.
        row: one row of the first input, in its type.
        conditions: one value for each condition.
        compute: ``compute(model, first input, conditions)`` returns the named outputs.

    Raises:
        NotImplementedError: the part draws in a way that given noise cannot replace.
    """

    def __init__(
        self, name: str, model: nn.Module, first: str, row: Tensor, conditions: dict[str, Tensor],
        compute: Callable[[Any, Tensor, Any], Outputs],
    ):  # fmt: skip
        super().__init__()
        self.name, self.model, self.first, self.row, self.compute = name, model, first, row, compute
        self.conditions = conditions
        if gradients := parts_asking_for_gradients(model):
            raise NotImplementedError(f"{type(gradients[0]).__name__} takes gradients whenever it encodes")
        self.plan: Plan | None = None
        found: list[Outputs] = []

        def call(rows: int) -> None:
            found.append(self._run(*self.given(rows)))

        with evaluating(model):
            self.plan = Plan(call)
        self.outputs = tuple(found[-1])

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return (self.first, *self.conditions, *(["noise"] if self.plan is not None and self.plan.size else []))

    def given(self, rows: int) -> tuple[Tensor, ...]:
        """Inputs of some rows that differ only in the noise."""
        tensors = [self.row, *self.conditions.values()]
        found = [each.expand(rows, *each.shape).contiguous() for each in tensors]
        noise = [torch.randn(rows, self.plan.size)] if self.plan is not None and self.plan.size else []
        return (*found, *noise)

    def _run(self, *given: Tensor) -> Outputs:
        c = dict(zip(self.conditions, given[1:])) or None
        return self.compute(self.model, given[0], c)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of ``outputs``."""
        drawn = self.plan.drawing(given[-1]) if self.plan is not None and self.plan.size else nullcontext()
        with operators.Replaced(), drawn:
            return tuple(self._run(*given).values())


def encoder(run: Run) -> Graph:
    """x ``[B, *event]`` -> ``mean`` of q(z|x) ``[B, Z]`` (the code of each row), and its ``deviation``."""
    _require(run, "encode")
    return Graph("encoder", run.model, "x", row(run), conditions(run), _reading(run, _encoded))


def decoder(run: Run) -> Graph:
    """z ``[B, Z]`` -> ``value`` ``[B, *event]``, the mean or mode of p(x|z) in the model's numbers, as `reconstruct`
    has it before :meth:`latens.schema.Table.to_user`.

    A table has further outputs: ``cells`` ``[B, columns]``, the numbers and codes that `reconstruct` writes (on their
    grids, within their ranges, with rules kept); ``deviation`` ``[B, D]``, the standard deviation of each number (NaN
    for columns with levels); and ``probabilities`` ``[B, P]`` of all levels of the columns that have levels, in order.
    If each column depends on those before it, it depends on their values here.
    """
    _require(run, "encode", "decode")
    schema = schema_of(run)
    return Graph("decoder", run.model, "z", code(run), conditions(run), _decoding(schema))


def scorer(run: Run) -> Graph:
    """x ``[B, *event]`` and noise -> nats of each row ``[B]`` at one draw of z: ``distortion`` and, if there is a
    bound, ``rate`` (in closed form if there is one) and ``log_weight``, ln p(x|z) + ln p(z) - ln q(z|x)."""
    _require(run, "draw")
    return Graph("scorer", run.model, "x", row(run), conditions(run), _reading(run, _scored))


def _require(run: Run, *methods: str) -> None:
    for method in methods:
        if not callable(getattr(run.model, method, None)):
            raise NotImplementedError(f"the model has no method {method}")


def row(run: Run) -> Tensor:
    """A possible row in the form that the graphs take, ``[*event]``: the model's form or, for a table with rules, the
    number of each column as float64."""
    schema = schema_of(run)
    if not isinstance(schema, Table):
        filled = torch.full(schema.shape, schema.ends[0], dtype=torch.float64)
        return filled.to(getattr(torch, schema.storage))
    found = [0.0 if column.outputs_codes else column.low or 0.0 for column in schema.outer]
    return torch.tensor(found, dtype=torch.float64 if schema.rules else getattr(torch, schema.storage))


def _reading(run: Run, compute: Callable[[Any, Tensor, Any], Outputs]) -> Callable[[Any, Tensor, Any], Outputs]:
    """The same function, but from the columns of a table whose rules must first be applied to get the model's form."""
    schema = schema_of(run)
    if not isinstance(schema, Table) or not schema.rules:
        return compute
    return lambda model, x, c: compute(model, cells.inward(schema, x, c), in_storage(schema, c))


def in_storage(schema: AnySchema | None, c: Any) -> Any:
    """Conditions in the model's form, or None. For a table with rules, graphs take conditions as float64."""
    if not c or not isinstance(schema, Table):
        return c or None
    return {name: values.to(getattr(torch, schema.storage)) for name, values in c.items()}


def conditions(run: Run) -> dict[str, Tensor]:
    """One value for each condition that the run's model is given, by name; float64 for a table with rules."""
    seen = run.data.get("conditions") or {}
    names = [*(() if run.given is None else run.given.conditions), *([LIBRARY] if LIBRARY in seen else [])]
    storage = "float32"
    if isinstance(run.schema, Table):
        storage = "float64" if run.schema.rules else run.schema.storage
    return {name: torch.tensor(float(seen[name][0]), dtype=getattr(torch, storage)) for name in names}


def code(run: Run) -> Tensor:
    """A possible code ``[Z]``: the code of :func:`row`, or a draw from the prior if the model has no encoder."""
    model: Any = run.model
    known = {name: value[None] for name, value in conditions(run).items()} or None
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    schema, own = schema_of(run), row(run)[None]
    given = in_storage(schema, known)
    if isinstance(schema, Table) and schema.rules:
        own = cells.inward(schema, own, known)
    with evaluating(model):
        if isinstance(model, Generator):
            z = model.draw(own, 1, given).codes[0]
        else:
            z = center(model.encode(own, given))
        return flat_codes(z, leading=1)[0].to(kind)


def _encoded(model: Any, x: Tensor, c: Any) -> Outputs:
    q = model.encode(x, c)
    found = {"mean": flat_codes(center(q), leading=1)}
    spread = _deviation(q)
    return found if spread is None else found | {"deviation": flat_codes(spread, leading=1)}


def _deviation(q: Distribution) -> Tensor | None:
    try:
        variance = q.variance
    except (NotImplementedError, AttributeError, ValueError):
        return None
    return None if variance is None else variance.sqrt() if isinstance(variance, Tensor) else None


def _decoding(schema: AnySchema) -> Callable[[Any, Tensor, Any], Outputs]:
    def compute(model: Any, z: Tensor, c: Any) -> Outputs:
        project = getattr(getattr(model, "prior", None), "project", None)
        px = model.decode(z if project is None else project(z), in_storage(schema, c))
        value = center(px)
        found = {"value": value}
        columns = px.base if isinstance(px, Observed) else None
        if isinstance(columns, InOrder):
            columns = columns.given(value)
        if not isinstance(schema, Table) or not isinstance(columns, Columns):
            return found
        found["cells"] = cells.outward(schema, value, c)
        found["deviation"] = columns.variance.sqrt().expand(value.shape)
        levels = probabilities(columns)
        return found if levels is None else found | {"probabilities": levels}

    return compute


def probabilities(columns: Columns) -> Tensor | None:
    """``[..., P]``, the probabilities of all levels of the columns that have levels, column after column."""
    found, keys = [], []
    for index, part in columns.parts:
        if levels := _levels(part):
            shape = part.batch_shape
            every = torch.arange(levels).to(index.device, torch.get_default_dtype()).reshape(-1, *[1] * len(shape))
            found.append(part.log_prob(every.expand(levels, *shape)).movedim(0, -1).flatten(-2))
            keys.append((index.unsqueeze(-1) + torch.arange(levels) / levels).flatten())
    return torch.cat(found, -1)[..., torch.cat(keys).argsort()].exp() if found else None


def _levels(part: Distribution) -> int:
    """The number of levels of each column of a part; 0 if its columns have none."""
    if isinstance(part, Categorical):
        return part.logits.shape[-1]
    return part.cutpoints.shape[-1] + 1 if isinstance(part, Ordinal) else 2 * isinstance(part, Bernoulli)


def _scored(model: Any, x: Tensor, c: Any) -> Outputs:
    draw = model.draw(x, 1, c)
    found = {"distortion": draw.distortion[0]}
    return found if not draw.has_density else found | {"rate": draw.rate()[0], "log_weight": draw.log_w[0]}


def traced(graph: Graph) -> torch.export.ExportedProgram:
    """The graph for any number of rows, with its weights, in ATen operations that runtimes support.

    Raises:
        NotImplementedError: torch cannot trace the graph.
    """
    rows = torch.export.Dim("rows")
    with evaluating(graph.model), torch.no_grad(), quiet():
        given = graph.given(3)
        try:
            found = torch.export.export(graph, given, dynamic_shapes=(tuple({0: rows} for _ in given),), strict=False)
            return simplified(found)
        except Exception as error:  # torch raises errors of many kinds, and none says what the user can do
            raise NotImplementedError(f"torch.export cannot trace it ({_first_sentence(error)})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the remarks of the exporter, which are meant for its developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _first_sentence(error: Exception) -> str:
    return re.split(r"[.!]\s|\n", str(error).rstrip("."), maxsplit=1)[0] or type(error).__name__


def program(graph: Graph) -> torch.export.ExportedProgram:
    """:func:`traced` in core ATen operations alone."""
    with quiet():
        return traced(graph).run_decompositions()
