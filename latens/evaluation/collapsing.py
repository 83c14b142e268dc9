r"""Collapse: which layers and dimensions of a code carry no information about a row, why, and what can be done.

Three figures show it. The **rate** of a dimension, :math:`E_x KL(q(z_i|x) \| p(z_i))` in nats, is its cost in the
bound; it is 0 if the posterior equals the prior. Its **spread**, :math:`\mathrm{Var}_x E[z_i|x] / \mathrm{Var} z_i`
(Burda et al. 2016), is 0 if the code is the same for every row. The **use** of a code in one layer, in nats per row,

.. math:: E[\ln p(x|z)] - E[\ln p(x|z')], \qquad z' \text{ the code of another row,}

is what the decoder loses without the code. It is 0 if the decoder ignores the code, whatever the encoder writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latens.conditionals import TableLikelihood
from latens.evaluation.latent import (
    ACTIVE,
    active_units,
    codes_and_means,
    decode,
    prior_variance,
    rate_per_dimension,
    why_inactive,
)
from latens.evaluation.likelihood import chunks, evaluating, spaced
from latens.evaluation.shown import InNotebooks
from latens.models import Generator
from latens.tensors import trees
from latens.tensors.randomness import Key, reseed, untouched
from latens.tensors.trees import Tree

CODED = ("bernoulli", "categorical", "ordinal")  # families of levels
ROWS = 2000  # the figures are computed on this many evenly spaced rows
LITTLE = 0.1  # a layer with a rate or a use below this many nats carries no information


@dataclass(frozen=True)
class LayerUse:
    """The figures of one layer of codes; layers are listed from the top.

    Attributes:
        size, active: the number of its dimensions, and of those that depend on x.
        rate: nats per row; None if the rate does not split by layer.
        use: what the decoder loses if the code is taken from another row, nats per row; None if there are several
            layers (each reads the one above), or codes cannot be decoded.
        rates, spreads: the rate (nats; None if it does not split by dimension) and the spread of each dimension.
    """

    size: int
    active: int
    rate: float | None
    use: float | None
    rates: list[float] | None
    spreads: list[float]

    @property
    def state(self) -> str:
        """ "in use", "partly inactive", "collapsed" (no dimension depends on x, or the rate is below 0.1 nats), or
        "ignored" (the decoder does not read the layer)."""
        if not self.active or (self.rate is not None and self.rate < LITTLE):
            return "collapsed"
        if self.use is not None and self.use < LITTLE:
            return "ignored"
        return "in use" if self.active == self.size else "partly inactive"


@dataclass(frozen=True)
class Collapse(InNotebooks):
    """How much of the code is in use; see :func:`collapse`.

    Attributes:
        verdict, cause, remedy: sentences with their figures; cause and remedy are empty if all is in use.
        layers: the layers of the code, from the top.
        noise: the share of the cells' variance that reconstructions miss; None if some cells are levels.
    """

    verdict: str
    cause: str
    remedy: str
    layers: list[LayerUse]
    noise: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types."""
        return asdict(self) | {"layers": [asdict(each) | {"state": each.state} for each in self.layers]}

    def lines(self) -> list[tuple[str, str]]:
        """(name, sentence) pairs."""
        return [(name, text) for name in ("verdict", "cause", "remedy") if (text := getattr(self, name))]

    def table(self) -> list[list[str]]:
        """A row for each layer, below the headings."""
        head = ["layer", "dimensions", "active", "rate", "used", "state"]
        return [head] + [
            [str(i), str(each.size), str(each.active), _nats(each.rate), _nats(each.use), each.state]
            for i, each in enumerate(self.layers)
        ]

    def records(self) -> list[dict[str, Any]]:
        """A row for each dimension: layer, number, rate, spread, and whether it is active."""
        found, number = [], 0
        for i, layer in enumerate(self.layers):
            for j, spread in enumerate(layer.spreads):
                rate = None if layer.rates is None else layer.rates[j]
                found.append({"layer": i, "dimension": number, "rate": rate, "spread": spread,
                              "active": spread > ACTIVE})  # fmt: skip
                number += 1
        return found


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} nats"


@torch.no_grad()
@untouched()
def collapse(model: nn.Module, x: Tree, c: Tree = None, *, beta: float = 1.0, seed: int = 0) -> Collapse | None:
    """How much of the code is in use, on at most 2,000 evenly spaced rows. None for a model without codes, or with a
    posterior that has no density.

    Args:
        model: the model.
        x: rows in the model's form, ``[N, *event]``.
        c: conditions.
        beta: the weight of the rate in training.
        seed: the seed of the draws, and of the exchange of codes between rows.

    >>> from latens import conditionals, models, priors
    >>> model = models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...                    conditionals.NormalLikelihood(nn.Linear(2, 5)))
    >>> found = collapse(model, torch.randn(50, 5))
    >>> [layer.size for layer in found.layers]
    [2]
    """
    picked = spaced(trees.rows(x), ROWS)
    x, c = trees.take(x, picked), trees.take(c, picked)
    if isinstance(model, Generator) or trees.rows(x) < 2:
        return None
    _, first, given = next(chunks(model, x, c))
    draw = model.draw(first, 1, given)  # type: ignore[operator]
    if draw.log_qz is None:
        return None
    codes, means = codes_and_means(model, x, c)
    variance = torch.as_tensor(prior_variance(model, x, c)).double().cpu()
    means = means.double()
    spread = means.var(0, correction=min(1, len(means) - 1)) / variance.clamp_min(1e-300)
    active = active_units(means, variance)
    sizes = tuple(draw.layers) or (means.shape[1],)
    if sum(sizes) != means.shape[1]:
        sizes = (means.shape[1],)
    each = rate_per_dimension(model, x, c)
    use, rate = _use_and_rate(model, x, c, sizes, seed)
    layers, start = [], 0
    for i, size in enumerate(sizes):
        part = slice(start, start + size)
        layers.append(LayerUse(
            size, int(active[part].sum()), rate[i], use[i], None if each is None else each[part].tolist(),
            spread[part].tolist(),
        ))  # fmt: skip
        start += size
    return _judged(model, x, layers, beta, _noise(model, x, codes, c))


def _use_and_rate(
    model: nn.Module, x: Tree, c: Tree, sizes: tuple[int, ...], seed: int
) -> tuple[list[float | None], list[float | None]]:
    """(use, rate) of each layer, nats per row; None for a figure that does not exist."""
    count, lost = trees.rows(x), 0.0 if len(sizes) == 1 else None
    reseed(seed, Key.INFERENCE, 0, 2)
    rate: list[float | None] = [0.0] * len(sizes)
    with evaluating(model):
        for _, xs, cs in chunks(model, x, c):
            draw = model.draw(xs, 1, cs)  # type: ignore[operator]
            own = draw.rates()
            if len(own) == len(sizes) and draw.has_density:
                rate = [None if r is None else r + float(part.double().sum()) / count for r, part in zip(rate, own)]
            else:
                rate = [None] * len(sizes)
            more = None if lost is None else _lost(model, xs, cs, draw.codes[0])
            lost = None if lost is None or more is None else lost + more / count
    return [lost] * len(sizes), rate


def _lost(model: nn.Module, x: Tree, c: Tree, z: Tensor) -> float | None:
    """The sum over rows of ln p(x|z) - ln p(x|z'); None if codes cannot be decoded."""
    if len(z) < 2:
        return 0.0
    other = z.roll(int(torch.randint(1, len(z), ())), 0)
    try:
        own, mixed = (model.decode(codes, c).log_prob(x).double() for codes in (z, other))  # type: ignore[operator]
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # a model of the user's own, whose codes are decoded in another way
    gap = own - mixed
    return float(gap[gap.isfinite()].sum())


def _noise(model: nn.Module, x: Tree, codes: Tensor, c: Tree) -> float | None:
    """The mean squared error of reconstructions divided by the variance, averaged over the cells that vary."""
    likelihood = getattr(model, "likelihood", None)
    if not isinstance(x, Tensor) or (isinstance(likelihood, TableLikelihood) and any(
        column.family in CODED for column in likelihood.columns)):  # fmt: skip
        return None
    again, rows = decode(model, codes, c).double(), x.double()
    variance = rows.var(0, correction=0)
    if again.shape != rows.shape or rows.isnan().any() or not (variance > 0).any():
        return None
    return float(((again - rows).square().mean(0) / variance)[variance > 0].mean())


def _judged(model: nn.Module, x: Tree, layers: list[LayerUse], beta: float, noise: float | None) -> Collapse:
    active, size = sum(each.active for each in layers), sum(each.size for each in layers)
    dead = [f"{i} ({_nats(each.rate)})" for i, each in enumerate(layers) if each.state == "collapsed"]
    if len(dead) == len(layers):
        rate = "" if layers[0].rate is None else f": its rate is {sum(e.rate or 0.0 for e in layers):.3f} nats"
        verdict = f"the code has collapsed{rate}, with {active} of {size} dimensions active"
    elif dead:
        verdict = f"layer{'s' * (len(dead) > 1)} {', '.join(dead)} collapsed; {active} of {size} dimensions are active"
    elif layers[0].state == "ignored":
        return Collapse(
            f"the decoder ignores the code: it predicts a row equally well from another row's code (use "
            f"{layers[0].use:.3f} nats), though {active} of {size} dimensions are active",
            "a decoder that sees cells of the row itself, or has too few parameters to read the code",
            "use a weaker decoder (--dependence codes for tables), or hold the rate (capacity_vae)", layers, noise,
        )  # fmt: skip
    elif active < size:
        verdict = f"{active} of {size} dimensions in use, {size - active} inactive"
    else:
        return Collapse(f"all {size} dimensions are in use", "", "", layers, noise)
    cause, remedy = why_inactive(model, x if isinstance(x, Tensor) else None, active, size, beta, noise)
    if len(layers) > 1:
        remedy += "; a ladder can hold a layer at a given rate with free_bits, or use fewer layers"
    return Collapse(verdict, cause, remedy, layers, noise)


def per_dimension(found: Collapse, most: int = 16) -> Iterator[tuple[str, str]]:
    """(name, text) for each layer: the rates of its dimensions, or the spreads if there are no rates, the largest
    first."""
    start = 0
    for i, layer in enumerate(found.layers):
        values = layer.spreads if layer.rates is None else layer.rates
        order = sorted(range(layer.size), key=lambda j: -values[j])[:most]
        text = ", ".join(f"{values[j]:.2f} (z {start + j})" for j in order) + ", …" * (layer.size > most)
        what = "spread" if layer.rates is None else "rate, nats"
        yield f"{what}{f', layer {i}' if len(found.layers) > 1 else ''}", text
        start += layer.size
