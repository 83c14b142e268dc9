"""Critics: players that distinguish two kinds of points, and the losses by which the model responds.

A critic f gives the log-odds that a point is real, and minimises E softplus(-f(real)) + E softplus(f(fake)). At its
optimum, f is the log-ratio of the densities of real and fake points. The model's loss never moves the critic's weights,
and the critic's loss never moves the model's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.nn.functional import softplus

from latens.distributions import center
from latens.errors import is_number, require
from latens.models.draw import Draw
from latens.objectives.base import Objective, Penalty, Player
from latens.objectives.discrepancies import prior_codes
from latens.objectives.penalties import jacobian_norm
from latens.tensors.randomness import standard_normal
from latens.tensors.trees import Tree

OPTIONS: dict[str, Any] = {"betas": (0.5, 0.9)}  # a critic's optimiser has little momentum (Radford et al. 2016)


def telling_apart(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss from its log-odds: E softplus(-real) + E softplus(fake), a scalar (Goodfellow et al. 2014)."""
    return softplus(-real).mean() + softplus(fake).mean()


def passing_for_real(fake: Tensor) -> Tensor:
    """The generator's loss from a critic's log-odds: E softplus(-fake), a scalar (Goodfellow et al. 2014).

    In this form, the gradient does not vanish if the critic is certain.
    """
    return softplus(-fake).mean()


def fixed(network: nn.Module, *given: Any) -> Any:
    """``network(*given)``, with gradients that reach the arguments, but not the network's weights."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    return functional_call(network, weights, given)


class Critic(Penalty):
    """A critic of codes, the player "critic". ``network`` maps codes ``[N, Z]`` to log-odds ``[N, 1]``."""

    keeps_last = joint = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(real points, fake points), ``[N, Z]`` each."""
        raise NotImplementedError

    def odds(self, found: Tensor, z: Tensor, draw: Draw) -> Tensor:
        """The log-odds of codes z, from the network's output ``found``, ``[N, 1]``."""
        return found

    def own_losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        """{"critic": its loss}, a scalar."""
        real, fake = (self.odds(self.network(z), z, draw) for z in map(torch.detach, self.sides(draw)))
        return {"critic": telling_apart(real, fake)}

    def players(self) -> dict[str, Player]:
        """{"critic": its parameters}."""
        return {"critic": Player(list(self.parameters()), OPTIONS)}


class CorrelationCritic(Critic):
    r"""The total correlation of the codes, estimated by a critic (Kim & Mnih 2018).

    .. math:: \operatorname{KL}\left(q(z) \,\middle\|\, \prod_j q(z_j)\right)

    It is the mean log-odds of codes compared with codes whose dimensions are shuffled over the batch, independently.
    """

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(codes, codes with shuffled dimensions), each ``[K B, Z]``."""
        codes = draw.codes.flatten(0, 1)
        return codes, codes.gather(0, standard_normal([], codes).argsort(0))

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """The mean log-odds of the codes, in nats, a scalar."""
        return fixed(self.network, draw.codes.flatten(0, 1)).mean()


class PriorCritic(Critic):
    """Codes that pass for draws from the prior: draws from the prior are real, codes are fake (Makhzani et al. 2016).

    Args:
        network: a network from ``[N, Z]`` to ``[N, 1]``.
        known: whether the odds are the network's output + ln p(z) + H(p), so that the network has to learn only the
            density of the codes (Tolstikhin et al. 2018); p must then be a normal with a diagonal covariance.
    """

    def __init__(self, network: nn.Module, known: bool = False):
        super().__init__(network)
        self.known = known

    def odds(self, found: Tensor, z: Tensor, draw: Draw) -> Tensor:
        """The log-odds of codes z, ``[N, 1]``."""
        return found + (draw.p.log_prob(z) + draw.p.entropy()).unsqueeze(-1) if self.known else found

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(draws from the prior, codes), each ``[K B, Z]``."""
        return prior_codes(draw), draw.codes.flatten(0, 1)

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        """E softplus(-f(codes)), a scalar."""
        codes = draw.codes.flatten(0, 1)
        return passing_for_real(self.odds(fixed(self.network, codes), codes, draw))


class DataCritic(nn.Module):
    """A critic of data: ``head(trunk(x, c))``, where ``trunk`` gives the features ``[..., F]`` of a row."""

    def __init__(self, trunk: nn.Module, head: nn.Module, reads: tuple[str, ...] = ()):
        super().__init__()
        self.trunk, self.head, self.reads = trunk, head, tuple(reads)

    def forward(self, x: Tensor, c: Tree = None) -> tuple[Tensor, Tensor]:
        """(log-odds ``[..., 1]``, features ``[..., F]``)."""
        features = self.trunk(x, {key: c[key] for key in self.reads}) if self.reads else self.trunk(x)
        return self.head(features), features


class Adversarial(Objective):
    r"""A generator against a critic of data (Goodfellow et al. 2014).

    The model minimises E softplus(-f(x~)) for rows x~ generated from the prior; the critic distinguishes them from real
    rows.

    The critic's loss also has a penalty on its slope at the real rows,

    .. math:: \frac{\mathrm{slope}}{2} \operatorname{E} \left\lVert \frac{\partial f}{\partial u} \right\rVert^2, \qquad
        u = x / \mathrm{unit},

    since otherwise the two may go round in circles and never converge (Mescheder, Geiger & Nowozin 2018). The penalty
    needs second derivatives, so unless ``slope`` is 0 the model must have ``compile_mode = "off"``.

    Args:
        critic: the critic f.
        slope: the weight of the penalty, from 0.
        unit: the scale of the data.
    """

    keeps_last = joint = True
    unit: Tensor

    def __init__(self, critic: DataCritic, slope: float = 1.0, unit: Tensor | float = 1.0):
        super().__init__()
        require(is_number(slope) and slope >= 0, "slope", "a number from 0", slope)
        self.critic, self.slope = critic, float(slope)
        self.register_buffer("unit", torch.as_tensor(unit))

    def losses(self, model: nn.Module, x: Tensor, draw: Draw) -> dict[str, Tensor]:
        """{"model": generator's loss, "critic": its loss with the slope penalty}, scalars."""
        made = center(draw.px)[0]
        real, fake = self.critic(x, draw.c)[0], self.critic(made.detach(), draw.c)[0]
        paid = telling_apart(real, fake)
        if self.slope:
            at = x if x.is_floating_point() else x.to(made)
            steep = jacobian_norm(lambda x: self.critic(x, draw.c)[0], at, unit=self.unit)
            paid = paid + self.slope / 2 * steep.mean()
        return {"model": passing_for_real(fixed(self.critic, made, draw.c)[0]), "critic": paid}

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{"model": all trained parameters of the model, "critic": those of the critic}."""
        return {
            "model": Player([p for p in model.parameters() if p.requires_grad], OPTIONS),
            "critic": Player(list(self.critic.parameters()), OPTIONS),
        }


class FeatureELBO(Objective):
    r"""The ELBO with a critic's features instead of the data; the critic is trained as well (Larsen et al. 2016).

    Let F(x) be features, x~ = f(z) decoded from z ~ q(z|x), x^ = f(z) decoded from z ~ p(z), and :math:`d = \tfrac12
    \lVert F(x) - F(\tilde x) \rVert^2`. Then

    * the player "model" (posterior and prior) minimises rate + d;
    * "decoder" (likelihood) minimises ``weight`` d + the mean of E softplus(-f) over x~ and x^;
    * "critic" distinguishes rows from x~ and x^.

    Args:
        critic: f, with the features F.
        weight: from 0.
    """

    keeps_last = joint = True

    def __init__(self, critic: DataCritic, weight: float = 1.0):
        super().__init__()
        require(is_number(weight) and weight >= 0, "weight", "a number from 0", weight)
        self.critic, self.weight = critic, float(weight)

    def losses(self, model: nn.Module, x: Tensor, draw: Draw) -> dict[str, Tensor]:
        """{"model", "decoder", "critic": loss}, scalars."""
        again, made = center(draw.px)[0], center(self._new(model, draw))
        (odds, features), (made_odds, _) = (fixed(self.critic, each, draw.c) for each in (again, made))
        apart = 0.5 * (features - fixed(self.critic, x, draw.c)[1]).square().sum(-1).mean()
        rate = draw.rate().mean()
        passing = (passing_for_real(odds) + passing_for_real(made_odds)) / 2
        fakes = torch.cat([self.critic(each.detach(), draw.c)[0] for each in (again, made)])
        return {
            "model": self.anneal * rate + apart,
            "decoder": self.weight * apart + passing,
            "critic": telling_apart(self.critic(x, draw.c)[0], fakes),
        }

    def _new(self, model: nn.Module, draw: Draw) -> Distribution:
        return model.decode(prior_codes(draw), draw.c)  # type: ignore[operator]

    def players(self, model: nn.Module) -> dict[str, Player]:
        """{"model": posterior and prior, "decoder": likelihood, "critic": the critic}."""
        decoder = [p for p in model.likelihood.parameters() if p.requires_grad]  # type: ignore[union-attr]
        rest = {id(p) for p in decoder}
        return {
            "model": Player([p for p in model.parameters() if p.requires_grad and id(p) not in rest]),
            "decoder": Player(decoder),
            "critic": Player(list(self.critic.parameters()), OPTIONS),
        }
