"""A posterior that starts from the encoder's, and is improved for each row by a few steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latens.conditionals import DiagonalNormalPosterior
from latens.distributions import DiagonalNormal
from latens.errors import is_number, is_whole, require, require_count
from latens.models.vae import VAE
from latens.tensors.trees import Tree


class SemiAmortised(VAE):
    r"""A VAE whose q(z|x) is the encoder's, improved by ``steps`` steps up the ELBO of each row (Kim et al. 2018).

    A step follows the natural gradient of the row's bound L. It moves the mean by less than one standard deviation and
    changes the variance by less than a factor of e:

    .. math:: m \leftarrow m + s \tanh\!\left(r s \frac{\partial L}{\partial m}\right), \qquad
        \ln h \leftarrow \ln h + \tanh\!\left(2 r \frac{\partial L}{\partial \ln h}\right), \qquad s = \sqrt{h}

    for q = N(m, diag h). Training differentiates through the steps. Evaluation takes the steps too, and computes their
    gradients even if gradients are off.

    Args:
        prior: p(z).
        posterior: a :class:`latens.conditionals.DiagonalNormalPosterior`.
        likelihood: p(x|z).
        dim: the dimensions of z, Z.
        steps: at least 1.
        rate: r > 0.
        draws: an even number of antithetic noise vectors over which L is averaged; they are fixed when the model is
            made, so that q is a function of x alone.

    Raises:
        ValueError: another kind of posterior, or an argument outside its range.
    """

    noise: Tensor
    compile_mode = "off"  # because of second derivatives

    def __init__(
        self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module, dim: int, *, steps: int = 4,
        rate: float = 0.3, draws: int = 4,
    ):  # fmt: skip
        super().__init__(prior, posterior, likelihood)
        if not isinstance(posterior, DiagonalNormalPosterior):
            raise ValueError(f"the posterior must be a DiagonalNormalPosterior, got {type(posterior).__name__}")
        require_count(steps, "steps")
        require(is_whole(draws) and draws >= 2 and draws % 2 == 0, "draws", "an even number from 2", draws)
        require(is_number(rate) and rate > 0, "rate", "a positive number", rate)
        self.steps, self.rate = int(steps), float(rate)
        half = torch.randn(draws // 2, dim)
        self.register_buffer("noise", torch.cat([half, -half]))

    def encode(self, x: Tree, c: Tree = None) -> Distribution:
        """The refined q(z|x), ``[B, Z]``."""
        start = super().encode(x, c)
        outside = torch.is_grad_enabled()
        with torch.enable_grad():
            given = (start.mean, start.variance.log())
            mean, log_h = (part if part.requires_grad else part.detach().requires_grad_() for part in given)
            for _ in range(self.steps):
                mean, log_h = self._improved(mean, log_h, x, c, through=outside and self.training)
        return DiagonalNormal(mean, log_h.exp()) if outside else DiagonalNormal(mean.detach(), log_h.detach().exp())

    def _improved(self, mean: Tensor, log_h: Tensor, x: Tree, c: Tree, through: bool) -> tuple[Tensor, Tensor]:
        """One step; with ``through`` it can itself be differentiated."""
        s = (0.5 * log_h).exp()
        z = mean + s * self.noise.unsqueeze(1)  # draws x B x Z
        fit = self.decode(z, c).log_prob(x) + self._run("prior", c=c).log_prob(z)
        bound = fit.mean(0).sum() + 0.5 * log_h.sum()  # summed over independent rows, up to a constant
        up, wide = torch.autograd.grad(bound, (mean, log_h), create_graph=through)
        return mean + s * torch.tanh(self.rate * s * up), log_h + torch.tanh(2 * self.rate * wide)
