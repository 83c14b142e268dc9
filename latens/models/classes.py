"""A class in addition to the codes, which is known only for some rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from latens.distributions import Drawn
from latens.errors import is_whole, require
from latens.models.draw import Draw
from latens.models.vae import VAE
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree, map_tree, rows


@dataclass
class ClassDraw(Draw):
    """A draw of a :class:`Classified` model, with intermediate results.

    Args:
        each: the draw of z for every class, with log-densities ``[K, Y, B]``.
        log_qy: ln q(y|x), ``[B, Y]``.
        given: the known classes ``[B]``, NaN for rows whose class is not known.
    """

    each: Draw | None = None
    log_qy: Tensor = field(default_factory=lambda: torch.empty(0))
    given: Tensor = field(default_factory=lambda: torch.empty(0))


class Classified(VAE):
    r"""A VAE with a class y that only some rows have (M2 of Kingma et al. 2014).

    .. math:: p(y)\, p(z)\, p(x \mid y, z), \qquad q(y \mid x)\, q(z \mid x, y), \qquad p(y) = 1 / Y

    If the class c[``key``] of a row is NaN or not given, it is part of the codes, and E[w] = p(x); if it is given,
    E[w] = p(x|y). Codes are z followed by y as 0 and 1 (for means, as probabilities). Every class is evaluated, and
    then the drawn one, so a draw costs as much as ``classes`` + 1 draws.

    Args:
        prior: p(z).
        posterior: q(z|x, y), which reads ``key``.
        likelihood: p(x|y, z), which reads ``key``.
        classifier: ``classifier(x, c)`` gives the logits of q(y|x), ``[B, Y]``.
        classes: Y, at least 2.
        key: the name of the class among the conditions.
    """

    def __init__(
        self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module, classifier: nn.Module, classes: int,
        key: str = "label",
    ):  # fmt: skip
        super().__init__(prior, posterior, likelihood)
        require(is_whole(classes) and classes >= 2, "classes", "a whole number from 2", classes)
        self.classifier, self.classes, self.key = classifier, int(classes), key

    def _given(self, c: Tree, n: int, like: Tensor) -> Tensor:
        """The classes ``[B]``, NaN for rows without a given class."""
        if c is None or self.key not in c:
            return like.new_full((n,), torch.nan)
        return c[self.key].reshape(n)

    def _with(self, c: Tree, y: Tensor) -> Tree:
        """The condition with classes ``y`` ``[..., B]``."""
        others = {} if c is None else {k: v for k, v in c.items() if k != self.key}
        seen = getattr(self.posterior, "reads", ())
        wide = {k: v.reshape(-1).expand(y.shape)[..., None] if k in seen else v for k, v in others.items()}
        return wide | {self.key: y[..., None]}

    def classify(self, x: Tree, c: Tree = None) -> Tensor:
        """q(y|x), ``[B, Y]``."""
        return self.classifier(x, c).softmax(-1)

    def _every(self, x: Tree, c: Tree) -> tuple[Distribution, Tree]:
        """(q(z|x, y) for every class ``[Y, B]``, the condition)."""
        n = rows(x)
        y = torch.arange(self.classes, dtype=torch.get_default_dtype(), device=self.device_of(x))
        given = self._with(c, y.view(-1, 1).expand(-1, n))
        wide = map_tree(lambda leaf: leaf.expand(self.classes, *leaf.shape), x)
        return self._run("posterior", wide, c=given), given

    @staticmethod
    def device_of(x: Tree) -> torch.device:
        """The device of the rows."""
        return x.device if isinstance(x, Tensor) else next(iter(x.values())).device

    def draw(self, x: Tree, k: int = 1, c: Tree = None) -> ClassDraw:  # type: ignore[override]
        """k draws of class and z for each row, with log-densities ``[k, B]``."""
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        log_qy = self.classifier(x, c).log_softmax(-1)  # B x Y
        given = self._given(c, rows(x), log_qy)
        q, conditions = self._every(x, c)
        z = q.mean + q.variance.sqrt() * standard_normal((k, self.classes), q.mean[0])  # K x Y x B x Z
        px, p = self._run("likelihood", z, c=conditions), self._run("prior", c=conditions)
        each = Draw(z, px.log_prob(x), p.log_prob(z), q.log_prob(z), px, p, q, conditions)
        y = self._classes(k, log_qy, given)
        at = y.unsqueeze(1)  # K x 1 x B
        assert each.log_qz is not None
        log_pz, log_qz = (part.gather(1, at).squeeze(1) for part in (each.log_pz, each.log_qz))
        free = given.isnan().to(z)
        log_qz = log_qz + free * log_qy.t().expand(k, -1, -1).gather(1, at).squeeze(1)
        log_pz = log_pz - free * torch.log(log_pz.new_tensor(float(self.classes)))
        chosen = z.gather(1, at[..., None].expand(-1, -1, -1, z.shape[-1])).squeeze(1)
        codes = (chosen, one_hot(y, self.classes).to(z))
        px = self.decode(torch.cat(codes, -1), c)
        both = self._codes(q, log_qy, given)  # for p and q, as neither p(z, y) nor q(z, y|x) has a closed form
        found = ClassDraw(codes, px.log_prob(x), log_pz, log_qz, px, both, both, c, None, (), each, log_qy, given)
        found.check(k, rows(x))
        return found

    def _classes(self, k: int, log_qy: Tensor, given: Tensor) -> Tensor:
        """The given class, or a draw from q(y|x): ``[K, B]`` whole numbers."""
        level = torch.special.ndtr(standard_normal((k,), log_qy[..., :1])).clamp_max(1 - 1e-6)
        drawn = (level > log_qy.exp().cumsum(-1)[..., :-1]).sum(-1)
        return torch.where(given.isnan(), drawn, given.nan_to_num().long())

    def encode(self, x: Tree, c: Tree = None) -> Drawn:
        """q(z, y|x), ``[B, Z + Y]``.

        Its mean is the mean of z under the given or most probable class, followed by the probabilities of the classes.
        """
        log_qy = self.classifier(x, c).log_softmax(-1)
        return self._codes(self._every(x, c)[0], log_qy, self._given(c, rows(x), log_qy))

    def _codes(self, q: Distribution, log_qy: Tensor, given: Tensor) -> Drawn:
        """Codes of z and y from q(z|x, y) for every class."""
        best = torch.where(given.isnan(), log_qy.argmax(-1), given.nan_to_num().long())
        sure = one_hot(best, self.classes).to(log_qy)
        odds = torch.where(given.isnan().unsqueeze(-1), log_qy.exp(), sure)
        size = q.mean.shape[-1]

        def pick(values: Tensor, y: Tensor) -> Tensor:  # K x Y x B x Z at K x B
            return values.gather(1, y[:, None, :, None].expand(-1, -1, -1, size)).squeeze(1)

        def draw(k: int) -> Tensor:
            z = q.mean + q.variance.sqrt() * standard_normal((k, self.classes), q.mean[0])
            y = self._classes(k, log_qy, given)
            return torch.cat([pick(z, y), one_hot(y, self.classes).to(z)], -1)

        return Drawn(torch.cat([pick(q.mean.unsqueeze(0), best.unsqueeze(0)).squeeze(0), odds], -1), draw)

    def decode(self, z: Tree, c: Tree = None) -> Distribution:
        """p(x|z, y) for codes ``[..., Z + Y]``; y is the largest of the last Y entries."""
        y = z[..., -self.classes :].argmax(-1).to(z.dtype)
        return super().decode(z[..., : -self.classes], self._with(c, y))

    def generated(self, n: int, c: Tree = None) -> Distribution:
        """p(x|z, y) at n draws from p(z), over rows ``[n, *event]``; a class that is not given is drawn from p(y)."""
        some = next(self.parameters())
        given = self._given(c, n, some)
        level = torch.rand(n, dtype=some.dtype, device=some.device)
        y = torch.where(given.isnan(), (level * self.classes).floor().clamp_max(self.classes - 1), given)
        return super().generated(n, self._with(c, y))
