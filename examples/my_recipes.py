"""A recipe and a posterior written by a user of latens.

    PYTHONPATH=examples latens fit iris --out run --recipe my_recipes:laplace_vae
    PYTHONPATH=examples latens evaluate run --recipe my_recipes:laplace_vae

The second command names the recipe again: code is never executed because a file in a run folder names it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from latens import conditionals, models, objectives, priors
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for
from latens.tensors.numerics import positive
from latens.tensors.trees import Tree


class LaplacePosterior(conditionals.Conditional):
    """q(z|x) = prod_i Laplace(z_i; m_i(x), b_i(x)). The KL divergence has no closed form, so it is estimated from
    draws."""

    def distribution(self, output: Tensor, given: Tree) -> Distribution:
        location, raw = output.chunk(2, -1)
        return Independent(Laplace(location, positive(raw, 1e-6), validate_args=False), 1)


def laplace_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:
    """A VAE whose posterior has heavier tails than the normal."""
    size = latent_size(info, latent_dim)
    posterior = LaplacePosterior(encoder(info, [size, size], network))
    model = models.VAE(priors.StandardNormal(size), posterior, likelihood_for(info, size, likelihood, network))
    return model, objectives.ELBO(beta)
