"""Evaluation: likelihoods with their errors, the latent space, baselines in the same units."""

from latens.evaluation.baselines import PCABaseline
from latens.evaluation.imputation import Imputation, impute
from latens.evaluation.latent import (
    EnergyDistance,
    Smoothness,
    active_units,
    codes,
    collapse_warning,
    decode,
    distance_from_sampled,
    energy_distance,
    interpolate,
    rate_per_dimension,
    smoothness,
)
from latens.evaluation.likelihood import NLL, Bound, bits_per_dimension, distortion, elbo, nll
from latens.evaluation.summary import Evaluation, evaluate

__all__ = [
    "NLL", "Bound", "EnergyDistance", "Evaluation", "Imputation", "PCABaseline", "Smoothness", "active_units",
    "bits_per_dimension", "codes", "collapse_warning",
    "decode", "distance_from_sampled", "distortion", "elbo", "energy_distance", "evaluate", "impute",
    "interpolate", "nll",
    "rate_per_dimension", "smoothness",
]  # fmt: skip
