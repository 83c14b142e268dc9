"""Find the term and the rows that made the loss or the gradient of a step infinite or NaN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latens.errors import FitError
from latens.models.draw import Draw
from latens.training.checkpoint import Checkpoints
from latens.training.players import PlayerOptimizer
from latens.training.processes import Processes
from latens.training.settings import Settings


class NonFiniteError(FitError):
    """A loss or gradient was not finite; see ``step``, ``term`` and ``rows``. The step changed no weight."""

    def __init__(self, message: str, step: int, term: str, rows: list[int]):
        super().__init__(message)
        self.step, self.term, self.rows = step, term, rows


def not_finite(
    step: int, term: str, rows: list[int], blamed: bool, settings: Settings, store: Checkpoints | None
) -> NonFiniteError:
    """The error for a term that is not finite in ``rows`` or, if ``blamed`` is false, somewhere in the batch."""
    shown = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    where = f"for row{'s' * (len(rows) > 1)} {shown}" if blamed else f"in the batch of rows {shown}"
    kept = f", which are kept in {store.folder}" if store else ""
    return NonFiniteError(
        f"at step {step} the {term} is not finite {where} (counted from 0), so training stopped without changing the "
        f"weights{kept}: check these rows, or lower learning_rate (now {float(settings.learning_rate):g}) or clip "
        f"(now {float(settings.clip):g})",
        step, term, rows,
    )  # fmt: skip


def nothing_moved(count: int, norm: float, settings: Settings) -> str:
    """The message for a run that skipped all updates between two validations."""
    return (
        f"{count} updates in a row were skipped and nothing was learned, as the last gradient's norm was {norm:.3g} "
        f"and skip_norm is {settings.longest:g}: raise it (0 skips none)"
    )


def left_out(skipped: int, steps: int, settings: Settings) -> str:
    """A remark about skipped updates."""
    text = (
        f"{skipped:,} of {steps:,} updates were skipped, because a gradient was not finite or its norm not below "
        f"skip_norm = {settings.longest:g}"
    )
    return text + (": raise it, or lower learning_rate" if skipped > steps / 10 else "")


def find_cause(
    draw_rows: Callable[[slice], Draw], losses: dict[str, Tensor], players: dict[str, PlayerOptimizer],
    processes: Processes, share: slice, total: int,
) -> tuple[str, list[int]]:  # fmt: skip
    """(term, positions in the joint batch) of a value that is not finite: in a term, a loss, or the gradient of a term.

    ``draw_rows(rows)`` repeats the draw of the step for some rows of this process. Each process calls this function
    with its share of the joint batch, and all get the same answer. There are no positions if no single row is
    responsible.
    """
    for name, value in _named_terms(draw_rows(slice(0, share.stop - share.start))).items():
        bad = _joint(~torch.isfinite(value.detach()).all(0), processes, share, total)
        if bad:
            return name, bad
    for name, loss in losses.items():
        if processes.any(not bool(torch.isfinite(loss.detach()))):
            return f"loss of the player {name!r}", []
    # row by row, because a joint backward pass spreads the NaN of one row to all (0 x infinity)
    parameters = [p for player in players.values() for p in player.parameters]
    flags: dict[str, list[bool]] = {}
    for row in range(share.stop - share.start):
        for name, value in _named_terms(draw_rows(slice(row, row + 1))).items():
            flags.setdefault(name, []).append(_bad_gradient(value, parameters))
    for name, each in flags.items():
        bad = _joint(torch.tensor(each), processes, share, total)
        if bad:
            return f"gradient of {name}", bad
    return "gradient", []


def _named_terms(draw: Draw) -> dict[str, Tensor]:
    terms = {"distortion -ln p(x|z)": draw.log_px, "ln p(z)": draw.log_pz}
    if draw.log_qz is not None:
        terms |= {"ln q(z|x)": draw.log_qz, "rate KL(q || p)": draw.rate()}
    return terms


def _joint(bad: Tensor, processes: Processes, share: slice, total: int) -> list[int]:
    flags = torch.zeros(total, device=processes.device)
    flags[share] = bad.to(flags)
    return processes.sum([flags])[0].nonzero().flatten().tolist()


def _bad_gradient(value: Tensor, parameters: list[nn.Parameter]) -> bool:
    if not value.requires_grad or not parameters:
        return False
    found = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
    return any(not bool(torch.isfinite(g).all()) for g in found if g is not None)
