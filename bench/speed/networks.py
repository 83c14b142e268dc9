"""The networks that all contenders of a case train, in plain torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


def chain(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Linear maps with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


@dataclass(frozen=True)
class Mlp:
    """A network inputs - hidden - latent and back; the encoder gives means and raw variances."""

    inputs: int
    hidden: tuple[int, ...]
    latent: int

    @property
    def encoder_sizes(self) -> tuple[int, ...]:
        return (self.inputs, *self.hidden, 2 * self.latent)

    @property
    def decoder_sizes(self) -> tuple[int, ...]:
        return (self.latent, *self.hidden[::-1], self.inputs)

    def encoder(self) -> nn.Module:
        return nn.Sequential(*chain(self.encoder_sizes))

    def decoder(self) -> nn.Module:
        return nn.Sequential(*chain(self.decoder_sizes))


@dataclass(frozen=True)
class Conv:
    """A network for 28 x 28 images: two 4 x 4 convolutions of stride 2, one hidden layer, and back."""

    channels: tuple[int, int] = (32, 64)
    hidden: int = 256
    latent: int = 10
    inputs: int = 784

    def encoder(self) -> nn.Module:
        first, second = self.channels
        return nn.Sequential(
            nn.Conv2d(1, first, 4, 2, 1), nn.ReLU(), nn.Conv2d(first, second, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            *chain((second * 49, self.hidden, 2 * self.latent)),
        )  # fmt: skip

    def decoder(self) -> nn.Module:
        first, second = self.channels
        return AnyLead(nn.Sequential(
            *chain((self.latent, self.hidden, second * 49)), nn.ReLU(), nn.Unflatten(-1, (second, 7, 7)),
            nn.ConvTranspose2d(second, first, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(first, 1, 4, 2, 1),
        ))  # fmt: skip


class AnyLead(nn.Module):
    """A network of vectors applied over any leading axes, such as that of draws."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Tensor:  # ... x Z
        return self.net(z) if z.dim() == 2 else self.net(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


Network = Mlp | Conv


@torch.no_grad()
def negative_elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor, *, softplus: bool, draws: int = 5) -> float:
    """The test bound, -ELBO with a Bernoulli likelihood, nats per row: one function for the weights of all contenders.

    ``softplus``: whether the raw variance goes through softplus, shifted so that 0 gives 1, and not through exp.
    """
    generator, total = torch.Generator().manual_seed(1), 0.0
    for rows in x.split(1000):
        mean, raw = encoder(rows).chunk(2, -1)
        variance = nn.functional.softplus(raw + 0.5413248546129181) if softplus else raw.exp()
        rate = 0.5 * (mean.square() + variance - 1 - variance.log()).sum()
        noise = torch.randn((draws, *mean.shape), generator=generator)
        logits = decoder(mean + variance.sqrt() * noise)
        cost = (nn.functional.softplus(logits) - rows * logits).sum() / draws
        total += float(rate + cost)
    return total / len(x)
