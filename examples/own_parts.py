"""A user's own part in latens' training loop: a likelihood of counts is trained, saved and evaluated.

    python examples/own_parts.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Poisson

import latens
from latens import conditionals, evaluation, models, objectives, priors


class PoissonLikelihood(nn.Module):
    """p(x|z) = prod_i Poisson(x_i; exp f_i(z)): any module whose forward returns a torch distribution is a
    likelihood."""

    def __init__(self, latent_dim: int, columns: int) -> None:
        super().__init__()
        self.log_rate = nn.Linear(latent_dim, columns)

    def forward(self, z: Tensor) -> Distribution:
        return Independent(Poisson(self.log_rate(z).clamp(max=10).exp(), validate_args=False), 1)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 2, generator=generator)
    counts = torch.poisson((z @ torch.randn(2, 12, generator=generator) * 0.5 + 1).exp(), generator=generator)
    encoder = nn.Sequential(nn.Linear(12, 32), nn.SiLU(), nn.Linear(32, 4))
    posterior, likelihood = conditionals.DiagonalNormalPosterior(encoder), PoissonLikelihood(2, 12)
    model = models.VAE(priors.StandardNormal(2), posterior, likelihood)
    with tempfile.TemporaryDirectory() as folder:
        run = latens.train(model, objectives.ELBO(), counts, epochs=30, validation=0.1, out=f"{folder}/run")
        print(f"served: {run.served}; last validation bound {run.history[-1]['validation_bound']:.3f} nats")
    found = evaluation.nll(model, counts, k=100)
    print(f"-ln p(x) = {found.mean:.3f} +- {found.standard_error:.3f} nats, effective {found.mean_ess:.0f} of 100")


if __name__ == "__main__":
    main()
