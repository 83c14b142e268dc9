"""How similar two images look to people: structural similarity at several scales, and features of a fixed network.

Images are ``[..., C, H, W]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from latens.networks.base import on_images

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # one per scale, from the finest (Wang, Simoncelli & Bovik 2003)


class MultiScaleSSIM(nn.Module):
    r"""MS-SSIM(x, y) of images, which is 1 if they are equal (Wang, Simoncelli & Bovik 2003).

    In Gaussian windows (standard deviation 1.5, 11 pixels or as many as fit) with means m and variances v,

    .. math:: l = \frac{2 m_x m_y + c_1}{m_x^2 + m_y^2 + c_1}, \quad s = \frac{2 v_{xy} + c_2}{v_x + v_y + c_2}, \quad
        c_1 = (0.01 R)^2, \quad c_2 = (0.03 R)^2.

    The result is a product over scales. The factor of a scale is the mean, over windows and channels, of s (of l s at
    the coarsest scale), to the power of the scale's weight. Each scale halves the one before by averaging. There are as
    many scales as a window fits into, at most 5, and their weights are scaled to sum to 1. Means below 1e-6 count as
    1e-6.

    Args:
        shape: (C, H, W).
        span: R, the range of the values.
    """

    window: Tensor
    weights: Tensor

    def __init__(self, shape: Sequence[int], span: float):
        super().__init__()
        side = min(shape[-2:])
        size = min(11, side - 1 + side % 2)
        scales = 1
        while scales < 5 and side // 2**scales >= size:
            scales += 1
        at = torch.arange(size, dtype=torch.float64) - size // 2
        line = torch.softmax(-at.square() / (2 * 1.5**2), 0)
        self.register_buffer("window", torch.outer(line, line).float(), persistent=False)
        weights = torch.tensor(_WEIGHTS[:scales], dtype=torch.float64)
        self.register_buffer("weights", (weights / weights.sum()).float(), persistent=False)
        self.c1, self.c2 = (0.01 * span) ** 2, (0.03 * span) ** 2

    def _maps(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(mean of l s; mean of s) of images ``[N, C, H, W]``, ``[N]`` each."""
        channels = x.shape[1]
        kernel = self.window.to(x).expand(channels, 1, *self.window.shape)

        def blur(image: Tensor) -> Tensor:
            return conv2d(image, kernel, groups=channels)

        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
        likeness = (2 * vxy + self.c2) / (vx + vy + self.c2)
        light = (2 * mx * my + self.c1) / (mx * mx + my * my + self.c1)
        return (light * likeness).mean((1, 2, 3)), likeness.mean((1, 2, 3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[..., C, H, W]`` twice -> ``[...]``."""
        x, y = torch.broadcast_tensors(x, y)
        lead = x.shape[:-3]
        x, y = x.flatten(0, -4), y.flatten(0, -4)
        found = torch.ones(len(x), dtype=x.dtype, device=x.device)
        for number, weight in enumerate(self.weights.to(x)):
            whole, likeness = self._maps(x, y)
            last = number == len(self.weights) - 1
            found = found * (whole if last else likeness).clamp_min(1e-6) ** weight
            if not last:
                x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        return found.unflatten(0, lead)


class FixedFeatures(nn.Module):
    """Features ``[..., F]`` of a convolutional network with random orthogonal weights, which are never trained.

    There are three layers of 3 x 3 convolutions, the last two with stride 2. The features are the responses of each
    layer after the activation, divided by the square root of the layer's size, so that every layer has the same weight.
    Random filters respond to edges and texture, and from their pooled responses objects can be distinguished far better
    than by chance (Saxe et al. 2011). The seed of the weights is fixed, nothing is downloaded, and the weights are
    saved with the model.

    Args:
        shape: (C, H, W).
        channels: the channels of the first layer; each later layer has twice as many.
    """

    def __init__(self, shape: Sequence[int], channels: int = 16):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        before = shape[0]
        self.strides = (1, 2, 2)
        for number in range(len(self.strides)):
            after = channels * 2**number
            weight = torch.randn(after, before * 9, generator=generator)
            weight = torch.linalg.qr(weight if after >= before * 9 else weight.mT)[0]
            weight = weight if after >= before * 9 else weight.mT
            weight = weight.reshape(after, before, 3, 3) * 2**0.5
            self.register_buffer(f"weight_{number}", weight.contiguous())
            before = after

    def _features(self, x: Tensor) -> Tensor:
        found = []
        for number, stride in enumerate(self.strides):
            x = torch.nn.functional.leaky_relu(
                conv2d(x, getattr(self, f"weight_{number}").to(x), stride=stride, padding=1), 0.1
            )
            found.append(x.flatten(1) / x[0].numel() ** 0.5)
        return torch.cat(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C, H, W]`` -> ``[..., F]``."""
        return on_images(self._features, x)
