"""Importance-weighted NLL of 100 images, with K = 1000 draws for each, and the network of mlp.py."""

import math
import time

from speed.case import Case, Size

ORDER = 5
GOAL = "4.3 x pythae, 0.65 of the floor (stretch: 0.8)"


def data(size: Size):
    import torch

    from speed import inputs

    return torch.from_numpy(inputs.binary(inputs.fashion(size)[1])[: size.of(100, 10)]), size.of(1000, 50)


def network():
    import torch

    from speed.networks import Mlp

    torch.manual_seed(0)
    return Mlp(784, (512,), 10)


def timed(call):
    """A repetition that times ``call`` and records the nats it found."""
    call()

    def repeat(number):
        began = time.perf_counter()
        nats = call()
        return {"value": time.perf_counter() - began, "nats": float(nats)}

    return repeat


def latens(size: Size):
    from latens.evaluation import nll
    from speed.peers import ours
    from speed.peers.work import Work

    x, k = data(size)
    model = ours.model(Work(network(), x))
    return timed(lambda: nll(model, x, k).mean)


def pythae(size: Size):
    """pythae with the batch size that suits it best, and without the gradients that its get_nll would record."""
    import torch

    from speed.peers import pythae_loop

    x, k = data(size)
    model = pythae_loop.model(network(), (784,), "bernoulli")

    def nll(batch, rows=x):
        with torch.no_grad():
            return model.get_nll(rows, n_samples=k, batch_size=batch)

    def seconds(batch):
        began = time.perf_counter()
        nll(batch, x[:10])
        return time.perf_counter() - began

    best = min([b for b in (50, 100, 200, 500, 1000) if b <= k], key=seconds)
    return timed(lambda: nll(best))


def plain(size: Size):
    """A plain loop over ten images at a time, with all their draws at once."""
    import torch

    x, k = data(size)
    encoder, decoder = network().encoder(), network().decoder()

    @torch.no_grad()
    def nll():
        total = 0.0
        for rows in x.split(10):
            mean, log_variance = encoder(rows).chunk(2, -1)
            noise = torch.randn(k, *mean.shape)
            z = mean + (0.5 * log_variance).exp() * noise
            logits = decoder(z)
            log_px = -torch.nn.functional.binary_cross_entropy_with_logits(
                logits, rows.expand_as(logits), reduction="none"
            ).sum(-1)
            log_w = log_px - 0.5 * (z**2).sum(-1) + 0.5 * (noise**2 + log_variance).sum(-1)
            total += float((math.log(k) - torch.logsumexp(log_w, 0)).sum())
        return total / len(x)

    return timed(nll)


def floor(size: Size):
    from itertools import pairwise

    from speed import floors

    x, k = data(size)
    run = floors.products([*pairwise(network().decoder_sizes)], len(x) * k, at_once=min(10_000, len(x) * k))
    return lambda number: {"value": run()}


CASES = [
    Case(
        "nll", "NLL of 100 images, K = 1000", GOAL, "s",
        {"latens": latens, "pythae": pythae, "plain": plain, "floor": floor},
        ours="latens", theirs="pythae", floor="floor",
    )
]  # fmt: skip
