"""Posteriors over categories, over the entries of a codebook, and over numbers and categories together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.errors import is_number, is_whole, require, require_count
from latens.tensors.numerics import positive
from latens.tensors.randomness import uniform
from latens.tensors.trees import Tree


class OneHotPosterior(Conditional):
    r"""Categories as codes, one-hot; the network gives ``[..., V * K]`` logits f(x).

    .. math:: q(z \mid x) = \prod_v \operatorname{Categorical}(z_v; \operatorname{softmax}(f_v(x)))

    Args:
        network: maps x to ``[..., V * K]``.
        categories: the number of categories, K.
        temperature: > 0, the temperature of the straight-through gradient of draws; None for no gradient.
        reads: the keys of the condition that the network sees.
    """

    def __init__(
        self, network: nn.Module, categories: int, temperature: float | None = None, reads: tuple[str, ...] = ()
    ):
        super().__init__(network, reads)
        good = temperature is None or (is_number(temperature) and temperature > 0)
        require(good, "temperature", "a positive number", temperature)
        self.categories, self.temperature = categories, temperature

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., V * K]``."""
        return d.OneHot(output.unflatten(-1, (-1, self.categories)), self.temperature)


class RelaxedPosterior(Conditional):
    r"""Categories relaxed to the simplex (Maddison, Mnih & Teh 2017); the network gives ``[..., V * K]`` logits f(x).

    .. math:: q(z \mid x) = \prod_v \operatorname{Concrete}(z_v; f_v(x), T)

    Args:
        network: maps x to ``[..., V * K]``.
        categories: the number of categories, K.
        temperature: T, from 0.4 to 1000. Below 0.4, draws would be 0 in single precision; above 1000, their density
            would have no correct digits. ``ValueError`` for other numbers.
        reads: the keys of the condition that the network sees.
    """

    def __init__(self, network: nn.Module, categories: int, temperature: float, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        good = is_number(temperature) and 0.4 <= temperature <= 1000
        require(good, "temperature", "a number from 0.4 to 1,000", temperature)
        self.categories, self.temperature = categories, float(temperature)

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., V * K]``."""
        return d.Relaxed(output.unflatten(-1, (-1, self.categories)), self.temperature)


class NormalAndCategoriesPosterior(Conditional):
    r"""Z normal codes next to V categories (Dupont 2018); the network gives ``[..., 2 Z + V K]``: g, raw h, logits f.

    .. math:: q(z \mid x) = \mathcal{N}(z_1; g(x), \operatorname{diag} h(x))
        \prod_v \operatorname{Categorical}(z_{2v}; \operatorname{softmax}(f_v(x)))

    Args:
        network: maps x to ``[..., 2 Z + V K]``.
        latent_dim: the number of normal codes, Z.
        categories: the number of categories, K.
        temperature: > 0, the temperature of the straight-through gradient of the categories.
        reads: the keys of the condition that the network sees.
    """

    def __init__(
        self, network: nn.Module, latent_dim: int, categories: int, temperature: float, reads: tuple[str, ...] = ()
    ):
        super().__init__(network, reads)
        require(is_number(temperature) and temperature > 0, "temperature", "a positive number", temperature)
        self.latent_dim, self.categories, self.temperature = latent_dim, categories, temperature

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z + V K]``."""
        mean, raw, logits = output.tensor_split([self.latent_dim, 2 * self.latent_dim], -1)
        categories = d.OneHot(logits.unflatten(-1, (-1, self.categories)), self.temperature)
        return d.Joint([d.DiagonalNormal(mean, positive(raw, 1e-8)), categories])


class Codebook(nn.Module):
    """L levels of K codes in D dimensions. Each level takes the code nearest to what the earlier levels left over.

    Args:
        levels: the number of levels, L.
        size: K, at least 2.
        dim: the dimensions of an entry, D.
        decay: with a number in (0, 1), codes are moving averages of the vectors that chose them, kept in buffers (van
            den Oord et al. 2017, appendix). A code with less than a twentieth of an even share of the data then moves
            next to the most used code, and each gets half of that code's share (Linde, Buzo & Gray 1980). With None,
            codes are parameters, moved by the gradient of :class:`latens.objectives.CodebookLoss`.

    >>> codes, index = Codebook(1, 4, 2)(torch.zeros(3, 2))
    >>> codes.shape, index.shape
    (torch.Size([3, 2]), torch.Size([3, 1]))
    """

    codes: Tensor
    shares: Tensor
    sums: Tensor
    squares: Tensor
    steps: Tensor

    def __init__(self, levels: int, size: int, dim: int, decay: float | None = 0.99):
        super().__init__()
        require_count(levels, "levels")
        require(is_whole(size) and size >= 2, "the number of codes", "a whole number from 2", size)
        require(is_whole(dim) and dim >= 1, "the dimension of codes", "a whole number from 1", dim)
        good = decay is None or (is_number(decay) and 0 < decay < 1)
        require(good, "decay", "a number between 0 and 1", decay)
        self.decay = decay
        start = torch.randn(levels, size, dim) * 0.5 ** torch.arange(levels).view(-1, 1, 1)
        if decay is None:
            self.codes = nn.Parameter(start)
            return
        self.register_buffer("codes", start)
        self.register_buffer("shares", torch.full((levels, size), 1 / size))
        self.register_buffer("sums", start / size)
        self.register_buffer("squares", start.square().sum(-1) / size)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def start(self, values: Tensor) -> None:
        """Start with evenly spaced rows of ``values`` ``[N, D]`` as codes; each further level starts with rows of what
        the levels before it left over."""
        size = self.codes.shape[1]
        left = values.to(self.codes)
        for book in self.codes:
            picked = torch.arange(size, device=left.device) * len(left) // size
            book.copy_(left[picked] + 1e-3 * left.std() * torch.randn_like(book))
            left = left - book[self._nearest(left, book)]
        if self.decay is not None:
            self.sums.copy_(self.codes * self.shares.unsqueeze(-1))
            self.squares.copy_(self.codes.square().sum(-1) * self.shares)

    @staticmethod
    def _nearest(values: Tensor, book: Tensor) -> Tensor:
        return (book.square().sum(-1) - 2 * values @ book.mT).argmin(-1)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(nearest codes ``[..., D]``, summed over the levels; their indices ``[..., L]``)."""
        total, chosen = torch.zeros_like(values), []
        for book in self.codes:
            index = self._nearest((values - total).detach(), book.detach())
            total = total + book[index]
            chosen.append(index)
        return total, torch.stack(chosen, -1)

    @torch.no_grad()
    def assigned(self, values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Weight, sum and sum of squared lengths of the vectors that chose each code, ``[L, K, D + 2]``.

        Args:
            values: ``[N, D]``.
            index: ``[N, L]``.
            weight: ``[N]``.
        """
        found, left = [], values
        for level, book in enumerate(self.codes):
            hot = torch.zeros(len(left), len(book), dtype=left.dtype, device=left.device)
            hot = hot.scatter(1, index[:, level : level + 1], weight.to(left).unsqueeze(-1))
            columns = [torch.ones_like(left[:, :1]), left, left.square().sum(-1, keepdim=True)]
            found.append(hot.mT @ torch.cat(columns, -1))
            left = left - book[index[:, level]]
        return torch.stack(found)

    @torch.no_grad()
    def follow(self, assigned: Tensor) -> None:
        """Move the averages, and with them the codes, towards those of a batch. Averages are over shares, so the size
        of the batch does not matter."""
        assert self.decay is not None
        assigned = assigned.to(self.codes) / assigned[..., 0].sum(-1).clamp_min(1e-12).to(self.codes)[:, None, None]
        for average, new in ((self.shares, assigned[..., 0]), (self.sums, assigned[..., 1:-1]),
                             (self.squares, assigned[..., -1])):  # fmt: skip
            average.lerp_(new, 1 - self.decay)
        self.codes.copy_(self.sums / self.shares.clamp_min(1e-8).unsqueeze(-1))
        self.steps += 1
        for level in range(len(self.codes)):
            self._restart(level)

    def _restart(self, level: int) -> None:
        """Move each dead code next to the most used code, and give each of the two half of that code's share."""
        shares, size = self.shares[level], self.shares.shape[1]
        dead = (shares < 0.05 / size).nonzero().flatten().tolist()
        if not dead:
            return
        rows = torch.arange(size, device=shares.device)
        away = uniform(int(self.steps) * 1009 + level, rows, self.codes.shape[-1]).to(self.codes) - 0.5
        for code in dead:
            top = int(shares.argmax())
            spread = (self.squares[level, top] / shares[top] - self.codes[level, top].square().sum()).clamp_min(1e-12)
            new = self.codes[level, top] + away[code] * (spread / len(away[code])).sqrt()
            for average in (self.shares, self.sums, self.squares):
                average[level, top] /= 2
            shares[code], self.codes[level, code] = shares[top], new
            self.sums[level, code] = new * shares[top]
            self.squares[level, code] = self.squares[level, top]


class NearestCode(Conditional):
    r"""All mass on the codes nearest to f(x), which is a vector at each of V positions (van den Oord et al. 2017).

    .. math:: z = f + \operatorname{stop}(\mathrm{code} - f)

    so that the gradient passes straight through to f. The network gives ``[..., V * D]``.

    Args:
        network: maps x to ``[..., V * D]``.
        book: the codes.
        reads: the keys of the condition that the network sees.
    """

    def __init__(self, network: nn.Module, book: Codebook, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        self.book = book

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., V * D]``."""
        codes, index = self.book(output.unflatten(-1, (-1, self.book.codes.shape[-1])))
        flat = codes.flatten(-2)
        return d.Quantised(flat.detach() + (output - output.detach()), output, index, flat)

    @torch.no_grad()
    def observe(self, x: Tensor, draw: Any) -> Tensor | None:
        """:meth:`Codebook.assigned` for the weighted rows of the batch, ``[L, K, D + 2]``; None if the gradient moves
        the codes.
        """
        if self.book.decay is None:
            return None
        q = draw.q
        values = q.before.unflatten(-1, (-1, self.book.codes.shape[-1]))
        weight = values.new_ones(len(values)) if draw.weight is None else draw.weight
        weight = weight[:, None].expand(values.shape[:2])
        return self.book.assigned(values.flatten(0, 1), q.index.flatten(0, 1), weight.flatten())

    def after_step(self, observed: Tensor) -> None:
        """Move the codes towards what ``observe`` found."""
        self.book.follow(observed)


class FiniteScalars(Conditional):
    """Each dimension of tanh(f(x)) rounded to one of ``levels`` evenly spaced numbers in [-1, 1] (Mentzer et al. 2024).

    The gradient passes straight through the rounding. Raises ``ValueError`` for fewer than 2 levels.
    """

    def __init__(self, network: nn.Module, levels: int, reads: tuple[str, ...] = ()):
        super().__init__(network, reads)
        require(is_whole(levels) and levels >= 2, "levels", "a whole number from 2", levels)
        self.levels = levels

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        """q(z|x) over codes ``[..., Z]``."""
        bounded = output.tanh()
        index = ((bounded.detach() + 1) * (self.levels - 1) / 2).round()
        value = index * 2 / (self.levels - 1) - 1
        return d.Quantised(value + (bounded - bounded.detach()), bounded, index.long().unsqueeze(-1))
