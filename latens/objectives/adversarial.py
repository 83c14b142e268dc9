"""Critics: players that tell two kinds of points apart, and what the model pays for it.

A critic f is the log-odds that a point is real, and descends E softplus(-f(real)) + E softplus(f(fake)); at its best
f = ln of the density of what is real over that of what is not. What the model pays never reaches the critic's weights,
and the critic's own loss never reaches the model's.
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

OPTIONS: dict[str, Any] = {"betas": (0.5, 0.9)}  # of a critic's optimiser: little momentum (Radford et al. 2016)


def telling_apart(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss from its log-odds: E softplus(-real) + E softplus(fake) (Goodfellow et al. 2014)."""
    return softplus(-real).mean() + softplus(fake).mean()


def passing_for_real(fake: Tensor) -> Tensor:
    """What a generator pays, from a critic's log-odds: E softplus(-fake), the form whose gradient does not vanish where
    the critic is sure (Goodfellow et al. 2014)."""
    return softplus(-fake).mean()


def fixed(network: nn.Module, *given: Any) -> Any:
    """``network(*given)``, through which gradients reach what is given and not the network's own weights."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    return functional_call(network, weights, given)


class Critic(Penalty):
    """A critic of codes: ``network`` takes ``[N, Z]`` to log-odds ``[N, 1]`` and is the player "critic"."""

    keeps_last = joint = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(real, fake) points, ``[N, Z]``."""
        raise NotImplementedError

    def odds(self, found: Tensor, z: Tensor, draw: Draw) -> Tensor:
        """The log-odds of codes z, ``[N, 1]``, from what the network found."""
        return found

    def own_losses(self, model: nn.Module, x: Tree, draw: Draw) -> dict[str, Tensor]:
        real, fake = (self.odds(self.network(z), z, draw) for z in map(torch.detach, self.sides(draw)))
        return {"critic": telling_apart(real, fake)}

    def players(self) -> dict[str, Player]:
        return {"critic": Player(list(self.parameters()), OPTIONS)}


class CorrelationCritic(Critic):
    """KL(q(z) || prod_j q(z_j)), the total correlation of codes, as the mean log-odds of codes against codes whose
    dimensions were shuffled over the batch each by itself (Kim & Mnih 2018)."""

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        codes = draw.codes.flatten(0, 1)
        return codes, codes.gather(0, standard_normal([], codes).argsort(0))

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        return fixed(self.network, draw.codes.flatten(0, 1)).mean()


class PriorCritic(Critic):
    """Codes that pass for draws from the prior: real are the prior's, fake the codes (Makhzani et al. 2016).

    With ``known`` the odds are the network's + ln p(z) + H(p), so that the network has only the codes' density to learn
    (Tolstikhin et al. 2018); p is a normal with a diagonal covariance.
    """

    def __init__(self, network: nn.Module, known: bool = False):
        super().__init__(network)
        self.known = known

    def odds(self, found: Tensor, z: Tensor, draw: Draw) -> Tensor:
        return found + (draw.p.log_prob(z) + draw.p.entropy()).unsqueeze(-1) if self.known else found

    def sides(self, draw: Draw) -> tuple[Tensor, Tensor]:
        return prior_codes(draw), draw.codes.flatten(0, 1)

    def forward(self, model: nn.Module, x: Tree, draw: Draw) -> Tensor:
        codes = draw.codes.flatten(0, 1)
        return passing_for_real(self.odds(fixed(self.network, codes), codes, draw))


class DataCritic(nn.Module):
    """A critic of data: ``head(trunk(x, c))``, where ``trunk`` gives the features ``[..., F]`` of a datum."""

    def __init__(self, trunk: nn.Module, head: nn.Module, reads: tuple[str, ...] = ()):
        super().__init__()
        self.trunk, self.head, self.reads = trunk, head, tuple(reads)

    def forward(self, x: Tensor, c: Tree = None) -> tuple[Tensor, Tensor]:
        """(log-odds ``[..., 1]``, features ``[..., F]``)."""
        features = self.trunk(x, {key: c[key] for key in self.reads}) if self.reads else self.trunk(x)
        return self.head(features), features


class Adversarial(Objective):
    """A generator against a critic of data (Goodfellow et al. 2014): the model pays E softplus(-f(x~)) for data x~
    generated from the prior, the critic tells them from the rows.

    The critic also pays ``slope`` / 2 E |df/du|^2 at the rows, u = x / ``unit``, without which the two may turn about
    each other for ever (Mescheder, Geiger & Nowozin 2018). It differentiates twice: unless ``slope`` is 0, the model
    has ``compile_mode = "off"``.
    """

    keeps_last = joint = True
    unit: Tensor

    def __init__(self, critic: DataCritic, slope: float = 1.0, unit: Tensor | float = 1.0):
        super().__init__()
        require(is_number(slope) and slope >= 0, "slope", "a number from 0", slope)
        self.critic, self.slope = critic, float(slope)
        self.register_buffer("unit", torch.as_tensor(unit))

    def losses(self, model: nn.Module, x: Tensor, draw: Draw) -> dict[str, Tensor]:
        made = center(draw.px)[0]
        real, fake = self.critic(x, draw.c)[0], self.critic(made.detach(), draw.c)[0]
        paid = telling_apart(real, fake)
        if self.slope:
            at = x if x.is_floating_point() else x.to(made)
            steep = jacobian_norm(lambda x: self.critic(x, draw.c)[0], at, unit=self.unit)
            paid = paid + self.slope / 2 * steep.mean()
        return {"model": passing_for_real(fixed(self.critic, made, draw.c)[0]), "critic": paid}

    def players(self, model: nn.Module) -> dict[str, Player]:
        return {
            "model": Player([p for p in model.parameters() if p.requires_grad], OPTIONS),
            "critic": Player(list(self.critic.parameters()), OPTIONS),
        }


class FeatureELBO(Objective):
    """The ELBO with a critic's features in place of the data, and a critic (Larsen et al. 2016). With features F(x),
    decoded x~ = f(z) for z ~ q(z|x) and x^ for z ~ p(z), d = |F(x) - F(x~)|^2 / 2:

    the player "model" (posterior and prior) pays rate + d, "decoder" (likelihood) pays ``weight`` d + the mean of
    E softplus(-f) over x~ and x^, and "critic" tells rows from x~ and x^.
    """

    keeps_last = joint = True

    def __init__(self, critic: DataCritic, weight: float = 1.0):
        super().__init__()
        require(is_number(weight) and weight >= 0, "weight", "a number from 0", weight)
        self.critic, self.weight = critic, float(weight)

    def losses(self, model: nn.Module, x: Tensor, draw: Draw) -> dict[str, Tensor]:
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
        decoder = [p for p in model.likelihood.parameters() if p.requires_grad]  # type: ignore[union-attr]
        rest = {id(p) for p in decoder}
        return {
            "model": Player([p for p in model.parameters() if p.requires_grad and id(p) not in rest]),
            "decoder": Player(decoder),
            "critic": Player(list(self.critic.parameters()), OPTIONS),
        }
