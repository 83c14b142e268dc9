"""Build the contenders of a training case from the work that they share. Each imports its library in its own
process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from speed.case import Absent, Build, Repetition, Size

LATENS = {"latens": {}, "latens compiled": {"compile": True}, "latens eager": {"compile": False}}
PEERS = {  # module, function
    "pythae": ("peers.pythae_loop", "training"),
    "JAX scan": ("peers.jax_loop", "training"),
    "PyOD": ("peers.tables", "pyod"),
    "TVAE": ("peers.tables", "tvae"),
    "scVI": ("peers.tables", "scvi"),
    "floor": ("floors", "training"),
}


def contenders(work: Callable[[Size], Any], *peers: str, **plain: dict[str, Any]) -> dict[str, Build]:
    """The contenders: latens with its default choice, compiled and eager; one plain loop for each mapping of options in
    ``plain``; and further ``peers``."""
    made = {name: _build(work, "peers.ours", "training", settings) for name, settings in LATENS.items()}
    made |= {
        "plain" if name == "plain" else f"plain, {name.replace('_', ' ')}":
        _build(work, "peers.plain", "training", options) for name, options in plain.items()
    }  # fmt: skip
    return made | {name: _build(work, *PEERS[name], {}) for name in peers}


def in_bfloat16(work: Callable[[Size], Any]) -> dict[str, Build]:
    """latens compiled, with products in bfloat16, on processors that have them."""
    name = "latens compiled bf16"
    return {name: _build(work, "peers.ours", "training", {"compile": True, "precision": "bf16"})}


def times(found: dict[str, Any], one: str, other: str) -> dict[str, float]:
    """{a name: how many times as fast ``one`` is as ``other``, by medians}, if both were measured."""
    if one not in found or other not in found:
        return {}
    return {f"{one} times {other}": round(found[one]["median"] / found[other]["median"], 2)}


def _build(work: Callable[[Size], Any], module: str, function: str, options: dict[str, Any]) -> Build:
    return partial(_start, work, module, function, options)


def _start(
    work: Callable[[Size], Any], module: str, function: str, options: dict[str, Any], size: Size
) -> Repetition:  # fmt: skip
    found = work(size)
    if found.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise Absent("torch sees no CUDA device on this machine")
    if options.get("precision") == "bf16":
        import torch

        from latens.training.precision import has_bfloat16

        if not has_bfloat16(torch.device(found.device)):
            raise Absent("this processor has no bfloat16 instructions")
    return getattr(importlib.import_module(f"speed.{module}"), function)(found, **options)
