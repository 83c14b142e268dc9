"""Generative models without a posterior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latens.errors import InputError
from latens.models.draw import Draw
from latens.models.vae import VAE
from latens.tensors.trees import Tree, rows


class NoPosterior(nn.Module):
    """Stands in place of the posterior in a model that has none; calling it raises ``InputError``."""

    reads: tuple[str, ...] = ()

    def forward(self, x: Tree, c: Tree = None) -> None:
        """Raises ``InputError``, as rows have no codes."""
        raise InputError("this model generates and has no posterior, so rows have no codes", "use a model that encodes")


class Generator(VAE):
    """z ~ p(z) and x = f(z), the mean of ``likelihood``. It makes data, but gives no codes of rows and no density of x.

    ``encode`` raises ``InputError``. A draw has one new row for each given row, and its distortion is NaN (Goodfellow
    et al. 2014).
    """

    def __init__(self, prior: nn.Module, likelihood: nn.Module):
        super().__init__(prior, NoPosterior(), likelihood)

    def draw(self, x: Tree, k: int = 1, c: Tree = None, seen: Tree = None) -> Draw:
        """z ~ p(z) for k x B new rows. ``log_px`` is NaN and ``log_qz`` is None, because nothing is known about the
        given rows.
        """
        p = self._run("prior", c=c)
        z = p.sample(torch.Size((k,) if p.batch_shape else (k, rows(x))))
        log_pz = p.log_prob(z)
        px = self._run("likelihood", z, c=c)
        return Draw(z, torch.full_like(log_pz, torch.nan), log_pz, None, px, p, p, c).check(k, rows(x))

    def sample(self, n: int, c: Tree = None, mean: bool = False) -> Tensor:
        """n new rows ``[n, *event]``; they have no noise, so ``mean`` changes nothing."""
        return super().sample(n, c, mean=True)
