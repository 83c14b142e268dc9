"""Arrays of one kind of values: the choice of a likelihood, and the numbers it starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from latens.errors import InputError
from latens.recipes.choices.info import DataInfo, one_of
from latens.schema import LIBRARY, Schema

LIKELIHOODS = (
    "auto", "normal", "bernoulli", "categorical", "discretized_logistic", "poisson", "negative_binomial",
    "zero_inflated_negative_binomial", "continuous_bernoulli",
)  # fmt: skip
COUNTS = {
    "poisson": "PoissonLikelihood", "negative_binomial": "NegativeBinomialLikelihood",
    "zero_inflated_negative_binomial": "ZeroInflatedNegativeBinomialLikelihood",
}  # fmt: skip

NORMAL = "pass --likelihood normal"

COUNT_UNIT = 0.1  # the standard deviation of ln(1 + x) if one row in fifty has a count of 1


def likelihood_name(info: DataInfo, likelihood: str) -> str:
    """The likelihood that suits the values seen; ``InputError`` if the likelihood that was named does not."""
    one_of("likelihood", likelihood, LIKELIHOODS)
    schema = info.schema
    if likelihood == "auto":
        chosen = {"binary": "bernoulli", "levels": "discretized_logistic", "count": "negative_binomial"}
        likelihood = chosen.get(schema.kind, "normal")
        words = {
            "bernoulli": "Bernoulli", "normal": "Normal with one observation variance",
            "discretized_logistic": f"DiscretizedLogistic over {schema.levels} levels, ln p of their masses",
            "negative_binomial": "NegativeBinomial" + (", library size as offset" if offset_of(info) else ""),
        }[likelihood]  # fmt: skip
        info.choices["likelihood"] = f"likelihood = {words}: {schema.reason}"
    elif likelihood == "bernoulli" and schema.kind != "binary":
        raise InputError(
            f"likelihood = bernoulli needs the values 0 and 1 only (seen: {schema.reason})",
            "for grey values pass --likelihood discretized_logistic or normal",
        )
    elif likelihood in ("categorical", "discretized_logistic") and schema.levels is None:
        wanted = "whole numbers from 0, or evenly spaced ones"
        raise InputError(f"likelihood = {likelihood} needs {wanted} (seen: {schema.reason})", NORMAL)
    elif likelihood in COUNTS and schema.kind != "count":
        raise InputError(
            f"likelihood = {likelihood} needs counts (seen: {schema.reason})",
            "if the values are counts, pass --kind count",
        )
    elif (
        likelihood == "continuous_bernoulli"
        and isinstance(schema, Schema)
        and not (schema.low >= 0 and schema.high <= 1)
    ):
        raise InputError(f"likelihood = {likelihood} needs numbers in [0, 1] (seen: {schema.reason})", NORMAL)
    return likelihood


def offset_of(info: DataInfo) -> str | None:
    """The key of the condition that holds the logarithm of each row's total, for counts with many columns."""
    return LIBRARY if isinstance(info.schema, Schema) and info.schema.has_library else None


def standardisation(info: DataInfo) -> tuple[Tensor, Tensor]:
    """(shift, unit) in the user's units. The shift is the mean of each cell. The unit is one standard deviation for all
    pixels of an image, or for all levels; otherwise each column has its own.

    A column that does not vary in the sample gets the mean unit of the other columns (1 if none varies). If it never
    varies, it has no density anyway (``varying_cells``); if it varies only in held-out rows, these stay comparable.
    Encoders see counts as ln(1 + x), in units of at least ``COUNT_UNIT``, so that a single count in a column that is
    almost always 0 does not move a code far. ``InputError`` if the spread is out of the range of the floats in which
    networks compute.
    """
    schema, default = info.schema, torch.get_default_dtype()
    pooled = schema.is_image or schema.is_discrete
    wide = torch.float64 if schema.storage == "float64" else default
    if info.sample is None:
        return torch.zeros(schema.shape, dtype=wide), torch.ones(() if pooled else schema.shape)
    sample = info.sample.double()
    if schema.kind == "count":  # encoders see counts as ln(1 + x)
        sample = sample.log1p()
    shift = sample.mean(0)
    unit = (sample - shift).square().mean().sqrt() if pooled else sample.std(0, correction=0)
    floats = torch.finfo(default)
    beyond = (unit != 0) & ~((unit >= floats.tiny) & (unit <= floats.max))
    if beyond.any():
        cell = int(beyond.flatten().nonzero()[0])
        where = f"column {schema.names[cell]!r}" if schema.names else "the data" if pooled else f"column {cell}"
        raise InputError(
            f"the standard deviation of {where}, {float(unit.flatten()[cell]):.3g}, is beyond the range of "
            f"{str(default)[6:]} ({floats.tiny:.0e} to {floats.max:.0e})", "give the values in another unit",
        )
    rounding = 1e-12 * (shift.abs().max() if pooled else shift.abs())
    varies = unit > rounding
    usual = unit[varies].mean() if varies.any() else torch.ones((), dtype=unit.dtype)
    unit = torch.where(varies, unit, usual)
    shift = shift if pooled else torch.where(varies, shift, sample[0])  # so that a constant is exact to the last digit
    if schema.kind == "count":
        unit = unit.clamp_min(COUNT_UNIT)
    return shift.to(wide), unit.to(default)


def varying_cells(info: DataInfo) -> Tensor | None:
    """A mask of the columns that vary, ``[*shape]``; None if all vary, and for pixels, which share one unit."""
    if not info.schema.constant or info.schema.is_image or info.schema.is_discrete:
        return None
    mask = torch.ones(info.columns, dtype=torch.bool)
    mask[list(info.schema.constant)] = False
    return mask.view(info.shape)


def variance_of(variance: float | str) -> float | str:
    """The observation variance as a number, "learned" or "optimal"; ``InputError`` for anything else."""
    try:
        return variance if variance in ("learned", "optimal") else float(variance)
    except (TypeError, ValueError):
        raise InputError(f"variance must be a positive number, 'learned' or 'optimal', got {variance!r}") from None


def never_seen(info: DataInfo) -> Tensor:
    """A mask of the cells that are 0 in every row, ``[*shape]``."""
    mask = torch.zeros(info.columns, dtype=torch.bool)
    mask[list(info.schema.constant)] = True
    return mask.view(info.shape) & (mean_of(info) == 0)


def mean_of(info: DataInfo) -> Tensor:
    """The mean of each cell over the sample, ``[*shape]``."""
    assert info.sample is not None
    return info.sample.to(torch.get_default_dtype()).mean(0)
