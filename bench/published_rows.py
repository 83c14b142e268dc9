"""The published rows: each has its data and binarisation, model, objective, schedule, estimator, value and source.

A row builds its model from training rows ``[N, 784]`` of 0 … 255 or of 0 and 1. ``theirs`` is the schedule of the
source; ``epochs`` is the length of ours, about a tenth of theirs, with one batch size and a learning rate that falls
linearly to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latens import conditionals, models, networks, objectives, priors

Built = tuple[nn.Module, objectives.Objective]
PIXELS = 784


@dataclass(frozen=True)
class Row:
    """One published value.

    Attributes:
        data: "mnist" or "fashion", and after a dash "dynamic" (drawn anew in each epoch, test rows once), "static" (the
            files of Larochelle & Murray 2011) or "raw" (8 bits); or a table, and "mnar".
        network: the network, in words.
        build: a function from training rows to (model, objective).
        epochs: the length of our schedule.
        theirs: the schedule of the source, in words.
        k: draws of the importance-weighted estimate or of an imputation; 0 for minus the ELBO in bits per dimension.
        value: the published value.
        source: the publication of the value.
        settings: options of :func:`latens.train`.
    """

    data: str
    network: str
    build: Callable[[Tensor], Built]
    epochs: int
    theirs: str
    k: int
    value: float
    source: str
    settings: dict[str, Any] = field(default_factory=lambda: {"batch_size": 100, "learning_rate": 3e-3})

    @property
    def unit(self) -> str:
        """The unit of the value."""
        return "RMSE" if self.data.endswith("mnar") else "nats" if self.k else "bits/dim"


class Gated(nn.Module):
    """A gated linear map (W x + b) sigmoid(V x + c), ``[..., inputs]`` -> ``[..., outputs]`` (Dauphin et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value, self.gate = networks.Linear(inputs, outputs), networks.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * self.gate(x).sigmoid()


def gated(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(Gated(inputs, 300), Gated(300, 300), networks.Linear(300, outputs))


def layers(*hidden: int, act: str) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: networks.mlp(inputs, outputs, hidden, act=act)


def binary(
    x: Tensor, size: int, net: Callable[[int, int], nn.Module], prior: str = "standard", components: int = 500
) -> models.VAE:
    """A VAE of 784 pixels of 0 and 1; its decoder is initialised at the pixels' means."""
    share = x.float().mean(0) / (255 if x.max() > 1 else 1)
    encoder, decoder = nn.Sequential(networks.Standardize(share, 1.0), net(PIXELS, 2 * size)), net(size, PIXELS)
    networks.start_at(decoder, share.clamp(1e-3, 1 - 1e-3).logit())
    posterior = conditionals.DiagonalNormalPosterior(encoder)
    few = x[torch.arange(components) * len(x) // components].float() / (255 if x.max() > 1 else 1)
    kinds: dict[str, Callable[[], nn.Module]] = {
        "standard": lambda: priors.StandardNormal(size),
        "vamp": lambda: priors.Vamp(posterior, priors.PseudoInputs(few, torch.zeros(PIXELS), torch.ones(PIXELS))),
        "exemplar": lambda: priors.Exemplar(posterior, few),
    }
    return models.VAE(kinds[prior](), posterior, conditionals.BernoulliLikelihood(decoder))


def of_gated(objective: Callable[[], objectives.Objective], prior: str = "standard") -> Callable[[Tensor], Built]:
    return lambda x: (binary(x, 40, gated, prior), objective())


def of_tanh(objective: Callable[[], objectives.Objective]) -> Callable[[Tensor], Built]:
    return lambda x: (binary(x, 50, layers(200, 200, act="tanh")), objective())


def sphere(x: Tensor) -> Built:
    """A VAE whose codes lie on the 10-dimensional sphere in 11 coordinates, with a ReLU network of 256 and 128
    units."""
    plain = binary(x, 11, layers(256, 128, act="relu"))
    encoder = nn.Sequential(plain.posterior.network[0], networks.mlp(PIXELS, 12, (256, 128), act="relu"))
    decoder = nn.Sequential(networks.Scale(11**0.5), plain.likelihood.network)
    likelihood = conditionals.BernoulliLikelihood(decoder)
    return models.VAE(
        priors.UniformSphere(11), conditionals.VonMisesFisherPosterior(encoder), likelihood
    ), objectives.ELBO()


def hamiltonian(x: Tensor) -> Built:
    plain = binary(x, 64, layers(300, act="softplus"))
    return models.Hamiltonian(
        plain.prior, plain.posterior, plain.likelihood, steps=4, step_size=0.05
    ), objectives.ELBO()


def raw(x: Tensor) -> Built:
    """A VAE of 8-bit pixels: mixtures of ``COMPONENTS`` discretised logistics, initialised near the pixels' means."""
    mean = x.float().mean(0)
    encoder = nn.Sequential(networks.Standardize(mean, 128.0), networks.mlp(PIXELS, 100, (200,), act="relu"))
    last = networks.mlp(50, 3 * COMPONENTS * PIXELS, (200,), act="relu")
    spread = torch.linspace(-0.5, 0.5, COMPONENTS).unsqueeze(1)
    start = [mean / 127.5 - 1 + spread, torch.full((COMPONENTS, PIXELS), -2.0), torch.zeros(COMPONENTS, PIXELS)]
    with torch.no_grad():
        networks.start_at(last, torch.cat(start))
    decoder = nn.Sequential(last, nn.Unflatten(-1, (3 * COMPONENTS, PIXELS)))
    likelihood = conditionals.DiscretizedLogisticLikelihood(decoder, 256, components=COMPONENTS)
    return models.VAE(
        priors.StandardNormal(50), conditionals.DiagonalNormalPosterior(encoder), likelihood
    ), objectives.ELBO()


def self_masked(hidden: tuple[int, ...]) -> Callable[[Tensor], Built]:
    """not-MIWAE of a table of standardised columns with gaps. The model of a gap is that a cell is missing if its value
    is above a threshold that is learned. As in the source's "self-masking known", the model knows which columns have
    gaps and that the large values are the missing ones."""

    def build(x: Tensor) -> Built:
        count = x.shape[1]
        size, columns = count - 1, [conditionals.ColumnLikelihood("normal")] * count
        encoder = nn.Sequential(
            networks.Standardize(mask=True), networks.mlp(2 * count, 2 * size, (128, 128), act="tanh")
        )
        decoder = networks.mlp(size, count, hidden, act="tanh")
        likelihood = conditionals.SelfMaskedColumns(decoder, columns)
        with torch.no_grad():
            networks.start_at(decoder, likelihood.start(x))
            likelihood.slope[x.isnan().any(0)] = STEEP
        posterior = conditionals.DiagonalNormalPosterior(encoder)
        return models.VAE(priors.StandardNormal(size), posterior, likelihood), objectives.IWAE(20)

    return build


COMPONENTS = 3
STEEP = 10.0  # log-odds of a gap per standard deviation of the value; training changes it little
GATED, TANH = "gated 784-300-300-40", "784-200-200-50, tanh"
BURDA = "Burda, Grosse & Salakhutdinov (2016), table 1"
CLUSTERING = "re-run in the README of andrejkorenic/reconstruction-likelihood-clustering"
PYTHAE = "pythae, examples/scripts/reproducibility"
EXEMPLAR = "Norouzi, Fleet & Norouzi (2020)"
IW3280 = "3,280 epochs in eight stages, batch 20"
STOPPED = "early stopping at 865 to 983 epochs, batch 100"
BITS_BACK = "-ELBO in Townsend, Bird & Barber (2019)"
NOT_MIWAE = "Ipsen, Mattei & Frellsen (2021), the best of their variants"
LAST = {"batch_size": 64, "learning_rate": 3e-3, "keep": "last"}


def iwae(k: int) -> Callable[[], objectives.Objective]:
    return lambda: objectives.IWAE(k)


ROWS: dict[str, Row] = {
    "mnist-vae-gated": Row("mnist-dynamic", GATED, of_gated(objectives.ELBO), 100, STOPPED, 5000, 84.45, CLUSTERING),
    "mnist-iwae5-gated": Row("mnist-dynamic", GATED, of_gated(iwae(5)), 100, STOPPED, 5000, 83.37, CLUSTERING),
    "mnist-iwae50-gated": Row("mnist-dynamic", GATED, of_gated(iwae(50)), 100, STOPPED, 5000, 82.88, CLUSTERING),
    "mnist-vamp-gated": Row(
        "mnist-dynamic", f"{GATED}, 500 pseudo-inputs", of_gated(objectives.ELBO, "vamp"), 100, STOPPED, 5000, 82.29,
        CLUSTERING),
    "mnist-exemplar-gated": Row(
        "mnist-dynamic", f"{GATED}, 500 fixed exemplars (theirs: all rows)", of_gated(objectives.ELBO, "exemplar"), 100,
        STOPPED, 5000, 82.09, EXEMPLAR),
    "mnist-vae-tanh": Row("mnist-dynamic", TANH, of_tanh(objectives.ELBO), 328, IW3280, 5000, 86.76, BURDA),
    "mnist-iwae5-tanh": Row("mnist-dynamic", TANH, of_tanh(iwae(5)), 328, IW3280, 5000, 85.54, BURDA),
    "mnist-iwae50-tanh": Row("mnist-dynamic", TANH, of_tanh(iwae(50)), 328, IW3280, 5000, 84.78, BURDA),
    "mnist-miwae-tanh": Row(
        "mnist-dynamic", TANH, of_tanh(lambda: objectives.IWAE(8, m=8)), 328, IW3280, 5000, 84.97,
        "Rainforth et al. (2018)"),
    "mnist-piwae-tanh": Row(
        "mnist-dynamic", TANH, of_tanh(lambda: objectives.PIWAE(8, 8)), 328, IW3280, 5000, 84.46,
        "Rainforth et al. (2018)"),
    "mnist-ciwae-tanh": Row(
        "mnist-dynamic", TANH, of_tanh(lambda: objectives.IWAE(64, mix=0.05)), 328, IW3280, 5000, 84.57,
        "Rainforth et al. (2018)"),
    "mnist-sphere": Row(
        "mnist-dynamic", "784-256-128, ReLU, 10-dimensional sphere", sphere, 50, "500 epochs, batch 64", 500, 93.16,
        "Davidson et al. (2018)"),
    "static-vae": Row(
        "mnist-static", "784-400-40, ReLU", lambda x: (binary(x, 40, layers(400, act="relu")), objectives.ELBO()), 50,
        "500 epochs, batch 100", 200, 89.78, PYTHAE),
    "static-vamp-gated": Row(
        "mnist-static", f"{GATED}, 500 pseudo-inputs", of_gated(objectives.ELBO, "vamp"), 200,
        "up to 2,000 epochs, batch 100", 5000, 85.57, "Tomczak & Welling (2018)"),
    "static-iwae50-tanh": Row("mnist-static", TANH, of_tanh(iwae(50)), 328, IW3280, 5000, 86.82, PYTHAE),
    "static-hvae": Row(
        "mnist-static", "784-300-64, softplus, 4 leapfrog steps", hamiltonian, 200, "2,000 epochs, batch 100", 1000,
        86.21, PYTHAE),
    "fashion-vae-gated": Row(
        "fashion-dynamic", GATED, of_gated(objectives.ELBO), 100, "early stopping, batch 100", 5000, 228.70, EXEMPLAR),
    "fashion-vamp-gated": Row(
        "fashion-dynamic", f"{GATED}, 500 pseudo-inputs", of_gated(objectives.ELBO, "vamp"), 100,
        "early stopping, batch 100", 5000, 227.35, EXEMPLAR),
    "fashion-exemplar-gated": Row(
        "fashion-dynamic", f"{GATED}, 500 fixed exemplars (theirs: all rows)", of_gated(objectives.ELBO, "exemplar"),
        100, "early stopping, batch 100", 5000, 226.75, EXEMPLAR),
    "mnist-bits-back": Row(
        "mnist-dynamic", "784-100-40, ReLU", lambda x: (binary(x, 40, layers(100, act="relu")), objectives.ELBO()), 20,
        "20 epochs, batch 100", 0, 0.19, BITS_BACK),
    "mnist-raw-bits-back": Row(
        "mnist-raw", f"784-200-50, ReLU, {COMPONENTS} discretised logistics per pixel (theirs: beta-binomial)", raw, 20,
        "20 epochs, batch 100", 0, 1.39, BITS_BACK),
    **{f"{name}-not-miwae": Row(
        f"{name}-mnar", f"tanh 128-128, d = {size}, k = 20", self_masked((128, 128)), epochs,
        "up to 100,000 steps of 16 rows", 10_000, value, NOT_MIWAE, LAST)
       for name, size, epochs, value in (
           ("concrete", 7, 160, 1.12), ("red", 10, 100, 1.07), ("yeast", 7, 110, 0.77), ("breast", 29, 300, 0.72))},
}  # fmt: skip
