"""A metric of codes for the data at hand."""

from __future__ import annotations

from latens import conditionals, models
from latens.errors import is_whole, require
from latens.recipes.choices.info import DataInfo
from latens.recipes.choices.parts import encoder
from latens.recipes.choices.pseudo_inputs import spread_rows


def centroid_metric(
    info: DataInfo, latent_dim: int, network: str, centroids: int, temperature: float, floor: float
) -> models.CentroidMetric:
    """A metric around ``centroids`` evenly spaced rows of the sample (of the data, if they have fewer)."""
    require(is_whole(centroids) and 1 <= centroids <= 1000, "centroids", "a whole number from 1 to 1000", centroids)
    net = conditionals.Features(encoder(info, [latent_dim * (latent_dim + 1) // 2], network), info.reads)
    rows, given = spread_rows(info, min(int(centroids), info.rows))
    return models.CentroidMetric(net, rows, latent_dim, given, temperature=temperature, floor=floor)
