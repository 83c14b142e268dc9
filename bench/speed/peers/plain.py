"""The training loop of the vae in pytorch/examples, on rows in memory without a DataLoader, which makes it faster."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speed.case import Repetition
from speed.peers.work import Work, wait


def loss_of(work: Work, logits: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    if work.loss == "bernoulli":
        cost = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    else:
        cost = 0.5 * F.mse_loss(logits, x, reduction="sum")
    return cost - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())


def training(work: Work, *, channels_last: bool = False, **adam: Any) -> Repetition:
    torch.manual_seed(0)
    form = {"memory_format": torch.channels_last} if channels_last else {}
    encoder, decoder = (part.to(work.device, **form) for part in (work.network.encoder(), work.network.decoder()))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=work.rate, **adam)
    x = torch.from_numpy(work.x).to(work.device)

    def epoch(steps: int) -> float:
        order, total = torch.randperm(len(x), device=work.device), 0.0
        for step in range(steps):
            rows = x[order[step * work.batch : (step + 1) * work.batch]]
            rows = rows.contiguous(**form)
            optimizer.zero_grad()
            mean, log_variance = encoder(rows).chunk(2, -1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            loss = loss_of(work, decoder(z), rows, mean, log_variance) / work.batch
            loss.backward()
            total += loss.item()
            optimizer.step()
        return total / steps

    epoch(min(20, work.steps))

    def repeat(number: int) -> dict[str, Any]:
        wait(work.device)
        began = time.perf_counter()
        losses = [epoch(work.steps) for _ in range(work.epochs)]
        wait(work.device)
        return {"value": work.figure(time.perf_counter() - began), "loss": losses[-1]}

    return repeat
