"""Evaluation of models: likelihoods with their errors, the latent space, and baselines in the same units."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.evaluation import imputation
    from latens.evaluation.annealing import Annealed, Certificate, annealed_nll, certify
    from latens.evaluation.baselines import PCABaseline
    from latens.evaluation.collapsing import Collapse, collapse
    from latens.evaluation.estimators import Estimator
    from latens.evaluation.factors import (
        DCI,
        Disentanglement,
        InfoMEC,
        beta_vae_score,
        dci,
        disentanglement,
        factor_vae_score,
        infomec,
        irs,
        mig,
        modularity,
        sap,
    )
    from latens.evaluation.geodesics import curve_length, geodesic
    from latens.evaluation.grid import grid_nll
    from latens.evaluation.images import (
        ImageEvaluation,
        SampleScores,
        evaluate_images,
        frechet_distance,
        kernel_distance,
        nearest_rows,
        neighbour_scores,
        psnr,
        ssim,
    )
    from latens.evaluation.imputation import Imputation, impute
    from latens.evaluation.inference import InferenceGaps, RateParts, inference_gaps, rate_parts
    from latens.evaluation.labels import (
        LabelEvaluation,
        LabelScores,
        cluster_agreement,
        evaluate_labels,
        knn_accuracy,
        label_scores,
        linear_probe,
    )
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
    from latens.evaluation.tails import largest_k_hat, pareto_shape
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "annealing": "Annealed Certificate annealed_nll certify", "baselines": "PCABaseline",
        "collapsing": "Collapse collapse", "estimators": "Estimator",
        "geodesics": "curve_length geodesic",
        "inference": "InferenceGaps RateParts inference_gaps rate_parts", "grid": "grid_nll",
        "factors": "DCI Disentanglement InfoMEC beta_vae_score dci disentanglement factor_vae_score infomec irs mig "
        "modularity sap",
        "images": "ImageEvaluation SampleScores evaluate_images frechet_distance kernel_distance nearest_rows "
        "neighbour_scores psnr ssim", "imputation": "Imputation impute",
        "labels": "LabelEvaluation LabelScores cluster_agreement evaluate_labels knn_accuracy label_scores "
        "linear_probe",
        "latent": "EnergyDistance Smoothness active_units codes collapse_warning decode distance_from_sampled "
        "energy_distance interpolate rate_per_dimension smoothness",
        "likelihood": "NLL Bound bits_per_dimension distortion elbo nll", "summary": "Evaluation evaluate",
        "tails": "largest_k_hat pareto_shape",
        "": "imputation",
    })  # fmt: skip
