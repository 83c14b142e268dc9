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


def compiled(
    step: Callable[..., Any], model: nn.Module, backend: str, device: torch.device, progress: Progress
) -> Callable[..., Any]:  # fmt: skip
    """``step`` under ``torch.compile``, as one graph unless the model's ``compile_mode`` says "partial" or "off".

    Its noise is that of the eager step. Without a C++ compiler the step runs eagerly, and a note says so.
    """
    mode = getattr(model, "compile_mode", "full")
    if mode == "off":
        return step
    if backend == "inductor" and device.type == "cpu" and not has_compiler():
        progress.note("no C++ compiler was found, so the step is not compiled and runs eagerly")
        return step
    options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
    return torch.compile(step, backend=backend, fullgraph=mode == "full", options=options)


def has_compiler() -> bool:
    """Whether the C++ compiler that torch would call is there."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None
