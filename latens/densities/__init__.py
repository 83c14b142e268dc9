"""Densities over codes that are fitted after training; new codes can be drawn from them instead of the prior.

A density is a module whose ``forward(c)`` returns a distribution over codes, as a prior does. Each kind is a function
``kind(codes, *, options) -> Density``; its signature is its configuration.
"""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.densities.base import Codes, Density
    from latens.densities.fitted import Fitted, fit
    from latens.densities.flows import Flow
    from latens.densities.kinds import KINDS, options
    from latens.densities.metric import MetricChain
    from latens.densities.mixtures import GaussianMixture, KernelDensity
    from latens.densities.pixelcnn import PixelCNN
    from latens.densities.stage import SecondStage
    from latens.densities.store import load, save
    from latens.densities.transformer import Transformer
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "base": "Codes Density", "fitted": "Fitted fit", "flows": "Flow",
        "kinds": "KINDS options", "metric": "MetricChain", "mixtures": "GaussianMixture KernelDensity",
        "pixelcnn": "PixelCNN", "stage": "SecondStage", "store": "load save", "transformer": "Transformer",
    })  # fmt: skip
