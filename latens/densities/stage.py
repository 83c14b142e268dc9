"""A VAE of the codes, as the second of two stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens import conditionals, models, networks, objectives, priors
from latens.densities.base import Codes, Density, descend
from latens.errors import require_count
from latens.tensors.numerics import log_mean_exp
from latens.tensors.randomness import Key, seeded
from latens.tensors.trees import Tree

WEIGHTS = 100  # the number of draws in the bound


class Marginal(Distribution):
    r"""The marginal of a VAE of codes: samples are exact, ``log_prob`` is a bound (Burda et al. 2016).

    .. math:: p(z) = \int p(z \mid u)\, p(u)\, du, \qquad
        \ln p(z) \ge \operatorname{E} \ln \frac1k \sum_{i=1}^k \frac{p(z \mid u_i)\, p(u_i)}{q(u_i \mid z)}
    """

    arg_constraints: dict = {}

    def __init__(self, model: models.VAE, size: int, k: int = WEIGHTS):
        self.model, self.k = model, k
        super().__init__(torch.Size(), torch.Size((size,)), validate_args=False)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:
        """Draws ``[*sample_shape, D]``."""
        return self.model.sample(torch.Size(sample_shape).numel()).view(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The importance-weighted bound with k draws, in nats, ``[...]``; its expectation is below ln p(z)."""
        flat = value.reshape(-1, *self.event_shape)
        return log_mean_exp(self.model.draw(flat, self.k).log_w, 0).view(value.shape[:-1])


class SecondStage(Density):
    """z ~ N(f(u), gamma I) in units of the codes' spread, with u ~ N(0, I) and a learned gamma; see :func:`vae`."""

    is_bound = True

    def __init__(self, size: int, latent: int, hidden: int):
        super().__init__(size=size, latent=latent, hidden=hidden)
        widths = (hidden, hidden)
        stem = networks.Standardize(torch.zeros(size), torch.ones(size))
        encoder = nn.Sequential(stem, networks.mlp(size, 2 * latent, widths))
        decoder = conditionals.NormalLikelihood(
            networks.mlp(latent, size, widths), variance="learned", shift=torch.zeros(size), unit=torch.ones(size)
        )
        self.model = models.VAE(priors.StandardNormal(latent), conditionals.DiagonalNormalPosterior(encoder), decoder)
        self.scaled = (stem, decoder)

    def forward(self, c: Tree = None) -> Distribution:
        """The distribution over codes ``[D]``."""
        return Marginal(self.model, self.config["size"])


def vae(
    codes: Codes, *, latent: int | str = "auto", hidden: int = 256, epochs: int | str = "auto"
) -> SecondStage:
    """A second VAE whose data are the codes, with a learned output scale (Dai & Wipf 2019).

    Samples are exact; densities are bounds with 100 draws.

    Args:
        codes: the codes to which it is fitted.
        latent: the number of its latent dimensions; "auto" is the number of dimensions of a code.
        hidden: the width of its networks.
        epochs: a number, or "auto".
    """
    latent = codes.reals().size if latent == "auto" else latent
    for name, value in (("latent", latent), ("hidden", hidden)):
        require_count(value, name, most=10_000)
    with seeded(codes.seed, Key.STAGE_WEIGHTS):
        density = SecondStage(codes.size, int(latent), int(hidden)).to(codes.train.dtype)
    for part in density.scaled:
        for buffer, moment in zip((part.shift, part.unit), codes.standardisation()):
            buffer.copy_(moment)
    descend(density.model, codes, objective=objectives.ELBO(), epochs=epochs)
    return density
