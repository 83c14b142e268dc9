"""Random numbers as pure functions: of (run seed, step) for training, and of (run seed, row) for data.

A training step seeds torch from ``(seed, step)``. There is no other random state, so a resumed run continues exactly.
The layout in force decides which noise each row gets:

* ``independent``: every row has its own noise (training, ``evaluate``);
* ``shared``: all rows have the same K noise vectors (``score_samples``, where the score of a row depends on no other
  row);
* ``part(start, total)``: this process holds rows ``start …`` of a joint batch of ``total`` rows and takes its share of
  the joint noise, so that several processes draw what one process would have drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from enum import IntEnum, unique

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


@unique
class Key(IntEnum):
    """What a seed is for. This is the second key of :func:`seed_of`, after the seed of the run, so that no two draws of
    a run share random numbers.
    """

    ORDER, TRANSFORM = 1, 2  # the order of an epoch's rows, and their transforms
    STEP, VALIDATE, SETTLE, MARGINS = 11, 12, 13, 14
    EVALUATE = 21
    WEIGHTS, SPLIT, STREAM_SPLIT = 31, 32, 33
    COMPARE_SAMPLE, COMPARE_PAIRS = 41, 42
    REPORT = 50
    SAMPLE, CODES, CONDITIONS, RECONSTRUCT, HALVES = 51, 52, 53, 54, 55
    REPORT_ROWS, REPORT_SAMPLE, REPORT_PAIRS, REPORT_LEVELS, REPORT_HALVES = 56, 57, 58, 59, 60
    IMPUTE, SCORE_TERMS, GAPS, VIEWS, PART = 61, 62, 63, 64, 65
    PROPOSAL, MIXTURE, ANNEAL, INFERENCE = 71, 72, 73, 74
    DENSITY_HELD_OUT, DENSITY_FIT = 81, 82
    FLOW_WEIGHTS, STAGE_WEIGHTS, STRING_WEIGHTS = 83, 84, 85
    METRIC_CHAIN, DENSITY_CODES, DENSITY_SAMPLE = 86, 87, 88
    FACTOR_VOTES, IMAGE_ROWS, IMAGE_FEATURES, CLUSTERS, BASELINES = 91, 92, 93, 94, 95


def seed_of(*keys: int) -> int:
    """One 63-bit seed from several integers (the finaliser of splitmix64, Steele et al. 2014, folded).

    >>> seed_of(1, 2) == seed_of(1, 2), seed_of(1, 2) == seed_of(2, 1)
    (True, False)
    """
    state = 0x9E3779B97F4A7C15
    for key in keys:
        state = (state ^ (key & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def reseed(*keys: int) -> None:
    """From now on, let torch draw from the seed of ``keys``, on every device in use."""
    seed = seed_of(*keys)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would walk the stack for CUDA to seed lazily


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Draws within the block, or in a decorated function, leave the random generators of the caller unchanged."""
    with torch.random.fork_rng(devices=cuda_devices()):
        yield


@contextlib.contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Within the block, torch draws from the seed of ``keys``. The random generators of the caller stay unchanged."""
    with untouched():
        reseed(*keys)
        yield


def cuda_devices() -> list[int]:
    """The CUDA devices whose generators must be preserved: the current device, if CUDA is in use."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []


def uniform(seed: int, rows: Tensor, size: int) -> Tensor:
    """Uniform numbers in [0, 1) as a function of (seed, row) alone: ``rows`` ``[B]`` int64 -> ``[B, size]`` float32.

    A row gets the same numbers in any batch, order, process or worker. Dynamic binarisation, dequantisation and
    corruption use them.
    """
    column = torch.arange(size, dtype=torch.int64, device=rows.device)
    state = _mix(_mix(rows.unsqueeze(-1) + _int64(seed)) + column * _int64(0x9E3779B97F4A7C15))
    return ((state >> 40) & 0xFFFFFF).to(torch.float32) / float(1 << 24)


def _int64(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(state: Tensor) -> Tensor:
    # int64 wraps around; a mask turns the arithmetic shift into a logical one
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _int64(0xBF58476D1CE4E5B9)
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _int64(0x94D049BB133111EB)
    return state ^ ((state >> 31) & ((1 << 33) - 1))


# (start, total) of the joint batch; total 0: independent rows; total -1: shared by all rows
_layout: tuple[int, int] = (0, 0)


@contextlib.contextmanager
def _with_layout(layout: tuple[int, int]) -> Iterator[None]:
    global _layout
    before, _layout = _layout, layout
    try:
        yield
    finally:
        _layout = before


def shared() -> contextlib.AbstractContextManager[None]:
    """The layout in which all rows have the same noise vectors."""
    return _with_layout((0, -1))


def part(start: int, total: int) -> contextlib.AbstractContextManager[None]:
    """The layout of a process that holds the rows from ``start`` of a joint batch of ``total`` rows."""
    return _with_layout((start, total))


def standard_normal(samples: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise ``[*samples, *like.shape]`` in the layout in force. The first axis of ``like`` is the axis
    of rows.
    """
    start, total = _layout
    shape, count = list(like.shape), len(samples)
    if total == 0 or not shape:
        return torch.randn([*samples, *shape], dtype=like.dtype, device=like.device)
    drawn = 1 if total < 0 else total
    noise = torch.randn([*samples, drawn, *shape[1:]], dtype=like.dtype, device=like.device)
    if total < 0:
        return noise.expand([*samples, *shape])
    return noise.narrow(count, start, shape[0])
