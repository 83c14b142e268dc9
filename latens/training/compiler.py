"""The step as one captured graph."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from latens.training.callbacks import Progress


def can_compile(model: nn.Module, backend: str, device: torch.device, progress: Progress) -> bool:
    """Whether there is something to compile with, and the model's ``compile_mode`` is not "off"; a note if not."""
    if backend == "inductor" and device.type == "cpu" and not has_compiler():
        progress.note("no C++ compiler was found, so the step is not compiled and runs eagerly")
        return False
    return getattr(model, "compile_mode", "full") != "off"


def compiled(step: Callable[..., Any], model: nn.Module, backend: str) -> Callable[..., Any]:
    """``step`` under ``torch.compile``, as one graph unless the model's ``compile_mode`` says "partial".

    Its noise is that of the eager step. ``step`` may take gradients. What compiling left on disk may be damaged (by a
    run that was killed): a first call that fails is repeated without it.
    """
    options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
    full = getattr(model, "compile_mode", "full") == "full"
    graph = torch.compile(step, backend=backend, fullgraph=full, options=options)
    proven = False

    def call(*given: Any) -> Any:
        nonlocal proven
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            if proven:
                return graph(*given)
            state = torch.get_rng_state()
            try:
                found = graph(*given)
            except Exception:
                torch._dynamo.reset()
                torch.set_rng_state(state)
                with torch._inductor.config.patch(force_disable_caches=True):
                    found = graph(*given)
            proven = True
            return found

    return call


def has_compiler() -> bool:
    """Whether the C++ compiler that torch would call is there."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None
