"""Properties of the processor and the system: cores, the library for matrix products, and how freed memory is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache


def cores() -> int:
    """The number of cores that this process may use.

    >>> cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_of_intel() -> bool:
    """Whether the maker of the processor is Intel; False if that is unknown."""
    told = os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        told += lines.read(200)
    return "GenuineIntel" in told


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's linear map."""
    import torch

    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN computes large products faster than torch's default. If torch has MKL, that is the default, and
    oneDNN is faster only on processors with registers of 512 bits that are not Intel's, where MKL does not use them
    (docs/experiments.md)."""
    import torch

    has_wide_registers = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_onednn() and not (torch.backends.mkl.is_available() and (is_of_intel() or not has_wide_registers))


@cache
def keep_memory() -> None:
    """Let the C library keep the memory of freed tensors of up to 32 MB, so that the system need not map the same pages
    again. glibc keeps blocks up to the size of the largest block below 32 MB that was ever freed. No effect
    elsewhere."""
    import torch

    torch.empty(32_000_000, dtype=torch.uint8)


def one_core_each() -> None:
    """Make torch's operations in this thread use one core. OpenMP starts helper threads for each thread that calls it.
    If there are more helpers than cores, the helpers of the training thread are put to sleep after every operation. No
    effect if the libraries of the process cannot be listed.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # torch sets the number at its first use in a thread
    with suppress(OSError):
        threadpool_limits(1, user_api="openmp")
