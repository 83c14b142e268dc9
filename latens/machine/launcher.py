"""How this process was started: alone, or as one of several by torchrun, accelerate, MPI or Slurm."""

from __future__ import annotations

import os
from collections.abc import Sequence

SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def _number(names: Sequence[str], default: int) -> int:
    """The first whole number found in these environment variables."""
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdigit()), default)


def is_first() -> bool:
    """Whether this is the main process of a run."""
    return _number(RANK, 0) == 0


def launched() -> int:
    """The number of processes that were started for this run."""
    return _number(SIZE, 1)


def was_restarted() -> bool:
    """Whether torchrun started this process again after a failure (``--max-restarts``)."""
    return _number(["TORCHELASTIC_RESTART_COUNT"], 0) > 0


def stay_alone() -> None:
    """From now on, work as one process, whatever the launcher has started."""
    for name in (*SIZE, *RANK, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def meant_more() -> str | None:
    """The remark to show if a process trains alone although its launcher started several; otherwise None."""
    if launched() > 1:
        return None
    words = "so this process trains alone: start several with `torchrun --nproc-per-node N -m latens fit …`"
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        return f"accelerate launch was asked for several processes but starts only one on CPUs, {words}"
    for launcher, name in (("srun", "SLURM_STEP_NUM_TASKS"), *(("mpirun", name) for name in SIZE[1:])):
        if (count := _number([name], 1)) > 1:
            return f"{launcher} started {count} processes, but WORLD_SIZE says 1, {words}"
    return None
