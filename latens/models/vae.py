"""The variational autoencoder: it combines a prior, a posterior and a likelihood."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import center, rsample_and_log_prob
from latens.models.draw import Draw
from latens.tensors.trees import Tree, leaves, rows


def _takes_condition(part: nn.Module, given: int) -> bool:
    """Whether ``part.forward`` accepts a condition after its first ``given`` arguments."""
    parameters = list(inspect.signature(part.forward).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    further = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][given:]
    return bool(further) and (further[0].default is inspect.Parameter.empty or further[0].name in ("c", "condition"))


class VAE(nn.Module):
    r"""A variational autoencoder (Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014).

    .. math:: p(x) = \int p(z)\, p(x \mid z)\, dz, \qquad q(z \mid x) \approx p(z \mid x)

    x, z and c are trees of tensors with rows on the leading axis. Each part is a module whose ``forward`` returns a
    distribution; a part of your own may omit the condition from its signature.

    Args:
        prior: ``prior(c)``, p(z).
        posterior: ``posterior(x, c)``, q(z|x).
        likelihood: ``likelihood(z, c)``, p(x|z).

    >>> from latens import conditionals, priors
    >>> model = VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(5, 4)),
    ...             conditionals.NormalLikelihood(nn.Linear(2, 5), variance=0.1))
    >>> draw = model.draw(torch.zeros(7, 5), k=3)
    >>> draw.log_w.shape
    torch.Size([3, 7])
    """

    def __init__(self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module):
        super().__init__()
        self.prior, self.posterior, self.likelihood = prior, posterior, likelihood
        self._conditioned = {
            "prior": _takes_condition(prior, 0),
            "posterior": _takes_condition(posterior, 1),
            "likelihood": _takes_condition(likelihood, 1),
        }

    @property
    def reads(self) -> frozenset[str] | None:
        """The keys of the condition that the parts read; None if a part takes conditions without declaring which."""
        taking = [getattr(self, name) for name, takes in self._conditioned.items() if takes]
        if not all(hasattr(part, "reads") for part in taking):
            return None
        return frozenset(key for part in taking for key in part.reads)

    def _run(self, name: str, *given: Tree, c: Tree) -> Distribution:
        part = getattr(self, name)
        return part(*given, c) if self._conditioned[name] else part(*given)

    def draw(self, x: Tree, k: int = 1, c: Tree = None, seen: Tree = None) -> Draw:
        """k reparameterised draws for each row of x, with ln p(x|z), ln p(z) and ln q(z|x), each ``[k, B]`` nats.

        Args:
            x: ``[B, *event]``.
            k: the number of draws.
            c: conditions ``[B]``.
            seen: what the posterior sees instead of x (a corrupted x).

        Raises:
            ValueError: k < 1, or a part gives densities of a different shape.
        """
        if k < 1:
            raise ValueError(f"the number of draws k must be at least 1, got {k}")
        q = self.encode(x if seen is None else seen, c)  # B x Z
        z, log_qz = rsample_and_log_prob(q, k)  # K x B x Z, K x B
        px = self._run("likelihood", z, c=c)
        p = self._run("prior", c=c)
        if self.training and hasattr(self.prior, "without"):  # for a prior made of rows: no row may explain itself
            p = self.prior.without(p, x)  # type: ignore[operator]
        return Draw(z, px.log_prob(x), p.log_prob(z), log_qz, px, p, q, c).check(k, rows(x))

    def encode(self, x: Tree, c: Tree = None) -> Distribution:
        """q(z|x), ``[B, Z]``; its ``mean`` is the code of each row."""
        return self._run("posterior", x, c=c)

    def decode(self, z: Tree, c: Tree = None) -> Distribution:
        """p(x|z) for codes ``[..., Z]``."""
        return self._run("likelihood", z, c=c)

    def sample(self, n: int, c: Tree = None, mean: bool = False) -> Tensor:
        """n new rows ``[n, *event]``: z ~ p(z), then x ~ p(x|z).

        With ``mean``, x is the value that stands for p(x|z): its mean or, for categories, its mode. A condition c has n
        rows.
        """
        with torch.no_grad():
            px = self.generated(n, c)
            return center(px) if mean else px.sample()

    def generated(self, n: int, c: Tree = None) -> Distribution:
        """p(x|z) at n draws z ~ p(z), over rows ``[n, *event]``."""
        p = self._run("prior", c=c)
        lead = p.batch_shape
        z = p.sample(torch.Size(() if lead and lead[0] == n and leaves(c) else (n,)))
        return self._run("likelihood", z, c=c)
