"""pythae's trainer on the same networks: the time of each epoch after its set-up."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from speed.case import Absent, Repetition
from speed.fits import folder
from speed.networks import Network
from speed.peers.work import Work, wait

try:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError as error:
    raise Absent(f"pythae cannot be imported ({error}): pip install pythae==0.1.2") from error


class Encoder(BaseEncoder):  # type: ignore[misc]
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> Any:
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """The decoder with a sigmoid, because pythae's cross-entropy takes probabilities."""

    def __init__(self, net: nn.Module, loss: str):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, z: torch.Tensor) -> Any:
        output = self.net(z)
        return ModelOutput(reconstruction=output.sigmoid() if self.loss == "bernoulli" else output)


def model(network: Network, shape: tuple[int, ...], loss: str, *, own: bool = False) -> Any:
    """pythae's VAE with the given networks, or with its default ones of the same latent dimension."""
    kind = "bce" if loss == "bernoulli" else "mse"
    config = VAEConfig(input_dim=shape, latent_dim=network.latent, reconstruction_loss=kind)
    return VAE(config) if own else VAE(config, Encoder(network.encoder()), Decoder(network.decoder(), loss))


def trainer(model: Any, x: torch.Tensor, batch: int, rate: float, device: str = "cpu") -> Any:
    """A trainer that is ready to run ``train_step(epoch)``, which is one epoch."""
    settings = BaseTrainerConfig(
        output_dir=str(folder()), num_epochs=1, per_device_train_batch_size=batch,
        learning_rate=rate, optimizer_cls="Adam", no_cuda=device != "cuda",
    )  # fmt: skip
    made = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=settings)
    made.prepare_training()
    return made


def training(work: Work) -> Repetition:
    torch.manual_seed(0)
    x = torch.from_numpy(work.x)
    made = trainer(model(work.network, x.shape[1:], work.loss), x, work.batch, work.rate, work.device)
    steps = -(-len(x) // work.batch)  # it also trains on the last, smaller batch

    def repeat(number: int) -> dict[str, Any]:
        wait(work.device)
        began = time.perf_counter()
        losses = [float(made.train_step(epoch + 1)) for epoch in range(work.epochs)]
        wait(work.device)
        seconds = (time.perf_counter() - began) * work.steps / steps
        return {"value": work.figure(seconds), "loss": losses[-1]}

    return repeat
