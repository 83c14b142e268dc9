"""A density fitted to the codes of a model, and the conversion of codes between the density's form and the model's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latens.densities.base import Codes, Density
from latens.densities.kinds import PRIOR, check_options, kind_of
from latens.errors import InputError
from latens.evaluation.likelihood import chunk_rows, evaluating, model_device, standard_error
from latens.schema import LIBRARY
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed, seeded
from latens.tensors.trees import Tree
from latens.training import Progress

ROWS = 100_000  # the codes of at most this many evenly spaced rows are used


@dataclass(frozen=True)
class CodeLayout:
    """The form in which a model has its codes.

    Args:
        shape: the shape of one code.
        levels: K for whole-number codes, None for real codes.
        entries: the shape of the numbers of one code, if they are entries of a codebook.
    """

    shape: tuple[int, ...]
    levels: int | None = None
    entries: tuple[int, ...] | None = None

    def to_model(self, values: Tensor, model: Any) -> Tensor:
        """Codes ``[N, D]`` as the model's z, ``[N, *shape]``."""
        if self.entries is None:
            return values.view(-1, *self.shape)
        chosen = values.view(-1, *self.entries)
        books = model.prior().codes  # L x K x Z
        chosen = chosen.unsqueeze(-1) if len(self.entries) == 1 else chosen  # N x V x L
        return sum(book[chosen[..., level]] for level, book in enumerate(books)).reshape(-1, *self.shape)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> CodeLayout:
        """The layout from its fields."""
        entries = fields["entries"]
        return cls(tuple(fields["shape"]), fields["levels"], None if entries is None else tuple(entries))


def codes_of(model: nn.Module, x: Tree, c: Tree = None, *, seed: int = 0) -> tuple[Tensor, CodeLayout]:
    """(one draw from q(z|x) for each row ``[N, D]``; the form in which the model has them).

    A posterior that chooses entries of a codebook (``index`` ``[N, V]`` or ``[N, V, levels]``) gives the entries'
    numbers. ``InputError`` for codes that consist of several parts.
    """
    total, device = trees.rows(x), model_device(model)
    size, entries, shape, found = chunk_rows(x, 1)[0], None, None, []
    for start in range(0, total, size):
        rows = slice(start, start + size)
        with evaluating(model):
            reseed(seed, Key.DENSITY_CODES, start)
            q = model.encode(*(trees.to_device(trees.take(tree, rows), device) for tree in (x, c)))  # type: ignore[operator]
            z = q.sample()
        if not isinstance(z, Tensor):
            raise InputError("the codes of this model have several parts", f"use density {PRIOR!r}")
        shape, index = tuple(z.shape[1:]), getattr(q, "index", None)
        entries = None if index is None else tuple(index.shape[1:])
        found.append((z if index is None else index).detach().flatten(1).cpu())
    assert shape is not None
    values = torch.cat(found)
    if values.is_floating_point():
        if not torch.isfinite(values).all():
            raise InputError("some codes are not finite", "fit the run again, e.g. with a lower --learning-rate")
        return values, CodeLayout(shape)
    levels = model.prior().codes.shape[1] if entries else int(values.max()) + 1  # type: ignore[operator]
    return values, CodeLayout(shape, levels, entries)


def grid_of(model: Any, form: CodeLayout) -> tuple[int, int] | None:
    """(rows, columns) of whole-number codes, None for real codes: the layout of the prior's positions. A position with
    several levels takes that many columns."""
    if form.entries is None:
        return None
    rows, columns = getattr(model.prior, "layout", None) or (1, form.entries[0])
    return rows, columns * math.prod(form.entries[1:])


@dataclass
class Fitted:
    """A fitted density, with its options and the record of its fit.

    Args:
        kind: the name of the kind.
        options: the options of the kind.
        density: the density itself.
        form: the form in which the model has its codes.
        record: ``source`` and ``rows`` (the data of the codes), ``codes`` (which codes), ``seed``, ``held_out`` and
            ``standard_error`` (mean ln p of held-out codes, nats), ``prior`` (the same mean under the prior),
            ``bound`` (whether ``held_out`` is a lower bound), and ``seconds``.
    """

    kind: str
    options: dict[str, Any]
    density: Density
    form: CodeLayout
    record: dict[str, Any] = field(default_factory=dict)

    def draw(self, model: nn.Module, n: int, seed: int = 0) -> Tensor:
        """n codes in the model's form, ``[n, *shape]``."""
        return self.form.to_model(self.density.sample(n, seed), model)

    def line(self) -> str:
        """What was fitted, as one sentence."""
        said = f"{self.kind} of {self.record['codes']} ({self.record['rows']:,} rows of {self.record['source']})"
        if self.record["held_out"] is None:
            return said
        least = "at least " if self.record["bound"] else ""
        under = self.record["prior"]
        prior = "" if under is None else f"; under the prior {under:.3f}"
        return f"{said}: held-out codes ln p = {least}{self.record['held_out']:.3f} nats{prior}"

    def to_json(self) -> dict[str, Any]:
        """Everything except the density's tensors."""
        return {
            "kind": self.kind, "options": self.options, "config": self.density.config, "form": asdict(self.form),
            "dtype": _dtype(self.density), "record": self.record,
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: dict[str, Any], model: nn.Module) -> Fitted:
        """A density with these fields, and fresh tensors."""
        density = kind_of(fields["kind"]).build(fields["config"], model).to(getattr(torch, fields["dtype"]))
        return cls(fields["kind"], fields["options"], density, CodeLayout.from_json(fields["form"]), fields["record"])


def _dtype(density: Density) -> str:
    found = [t.dtype for t in (*density.parameters(), *density.buffers()) if t.is_floating_point()]
    return str(found[0])[6:]


def fit(
    model: nn.Module, x: Tree, kind: str, given: dict[str, Any] | None = None, *, source: str = "memory",
    c: Tree = None, seed: int = 0, progress: Progress | None = None,
) -> Fitted:  # fmt: skip
    """Fit a density to one posterior draw of each row, for at most 100,000 rows.

    A tenth of the codes, at most 10,000, is held out: it chooses between fits of the kind, and judges the result.

    Args:
        model: a trained model.
        x: ``[N, *event]``.
        kind: the name of the density.
        given: options of the kind; other options have their defaults.
        source: the name of the data, for the record.
        c: conditions; only the library size is accepted.
        seed: the seed of the codes, the split and the fit.
        progress: where progress is shown.

    Raises:
        InputError: the kind or an option is unknown, the codes are not of the sort that the kind takes, or there are
            conditions. (A single density of all codes could not follow the condition that samples are given.)
    """
    chosen = check_options(kind, given or {})
    require_unconditional(c or ())
    start, count = time.monotonic(), trees.rows(x)
    if count > ROWS:
        pick = torch.arange(ROWS) * count // ROWS
        x, c = trees.take(x, pick), trees.take(c, pick)
    values, form = codes_of(model, x, c, seed=seed)
    more: dict[str, Any] = {"levels": form.levels, "grid": grid_of(model, form), "model": model}
    codes = Codes.split(values, seed=seed, progress=progress, **more)
    density = kind_of(kind).fit(codes, **chosen).eval()
    record = {
        "source": source, "rows": len(values), "codes": "one draw from q(z|x) per row", "seed": seed, "held_out": None,
        "standard_error": None, "prior": None, "bound": density.is_bound,
    }  # fmt: skip
    if density.has_log_prob:
        with seeded(seed, Key.DENSITY_SAMPLE):
            scores = density.log_prob(codes.held).double()
        record |= {"held_out": float(scores.mean()), "standard_error": standard_error(scores)}
        record["prior"] = _under_prior(model, codes.held, form)
    record["seconds"] = round(time.monotonic() - start, 2)
    return Fitted(kind, chosen, density, form, record)


def _under_prior(model: Any, held: Tensor, form: CodeLayout) -> float | None:
    """Mean ln p of codes under the model's own prior; None if the prior has no density of codes."""
    try:
        with torch.no_grad():
            found = float(model.prior().log_prob(form.to_model(held, model).to(model_device(model))).mean())
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError):  # an unusual model or prior
        return None
    return found if math.isfinite(found) else None


def require_unconditional(names: Iterable[str]) -> None:
    """Raise ``InputError`` if there are conditions other than the library size."""
    named = sorted(set(names) - {LIBRARY})
    if named:
        raise InputError(
            f"this run is conditioned on {named[0]!r}, which a single density of all codes cannot follow",
            f"sample with --density {PRIOR}, or fit a run without --condition",
        )
