"""The shortest possible time for the work: its matrix products or convolutions, timed by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from speed.case import Repetition
from speed.peers.work import Work, wait


def maps(module: nn.Module, example: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """(map, its input, its output) of each linear or convolutional map that the example passes through, in order."""
    found: list[tuple[nn.Module, Tensor, Tensor]] = []
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

    def note(part: nn.Module, given: Any, output: Tensor) -> None:
        found.append((part, given[0].detach(), output.detach()))

    hooks = [part.register_forward_hook(note) for part in module.modules() if isinstance(part, kinds)]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    return found


def forward(part: nn.Module, x: Tensor) -> Callable[[], object]:
    """Apply the map to x without its bias."""
    if isinstance(part, nn.Linear):
        return lambda: x @ part.weight.t()
    weight, bias = part.weight, None
    if isinstance(part, nn.ConvTranspose2d):
        return lambda: nn.functional.conv_transpose2d(x, weight, bias, part.stride, part.padding)
    return lambda: nn.functional.conv2d(x, weight, bias, part.stride, part.padding)


def backward(part: nn.Module, x: Tensor, gradient: Tensor, wants_input: bool) -> Callable[[], object]:
    """The gradients of the map's weight and, unless the map comes first, of its input."""
    if isinstance(part, nn.Linear):
        rows, given = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        return lambda: (rows.t() @ given, rows @ part.weight if wants_input else None)
    turned = isinstance(part, nn.ConvTranspose2d)
    return lambda: torch.ops.aten.convolution_backward(
        gradient, x, part.weight, None, part.stride, part.padding, part.dilation, turned, part.output_padding, 1,
        [wants_input, True, False],
    )  # fmt: skip


def training(work: Work) -> Repetition:
    """Run every product or convolution of a step, forward and backward, channels last, without noise, loss or
    optimiser."""
    torch.manual_seed(0)
    encoder, decoder = work.network.encoder().to(work.device), work.network.decoder().to(work.device)
    x = torch.from_numpy(work.x[: work.batch]).to(work.device)
    z = torch.randn(len(x), work.network.latent, device=work.device)
    calls = []
    for module, example in ((encoder, x), (decoder, z)):
        for part, given, output in maps(module, example):
            first = given.data_ptr() == x.data_ptr()
            if given.dim() == 4:
                given, output = (t.contiguous(memory_format=torch.channels_last) for t in (given, output))
                part.to(memory_format=torch.channels_last)
            calls.append(forward(part, given))
            calls.append(backward(part, given, torch.randn_like(output), not first))
    steps = max(20, min(work.epochs * work.steps, 500))

    def run(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                for call in calls:
                    call()
        wait(work.device)

    run(10)

    def repeat(number: int) -> dict[str, Any]:
        began = time.perf_counter()
        run(steps)
        return {"value": work.figure(time.perf_counter() - began, steps)}

    return repeat


def products(sizes: list[tuple[int, int]], rows: int, at_once: int = 8192) -> Callable[[], float]:
    """Seconds that the matrix products of linear maps take on ``rows`` rows."""
    blocks = [(torch.randn(at_once, a), torch.randn(a, b), torch.empty(at_once, b)) for a, b in sizes]

    def run() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for _ in range(-(-rows // at_once)):
                for x, weight, out in blocks:
                    torch.mm(x, weight, out=out)
        return time.perf_counter() - began

    return run
