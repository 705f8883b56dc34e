"""Clusters of many points, by scikit-learn, and which points are outliers."""

from typing import Any

import torch
from torch import Tensor

from latentdc.draws import key_seed


def k_means(points: Any, clusters: int, seed: int, *keys: int | str) -> tuple[Tensor, Tensor]:
    """Centres of the clusters and the cluster of each point, the best of three starts.

    Args:
        points: (N, D) float array or tensor.
        clusters: at most so many.
        seed: of the starts.
        keys: of them, such as a class.

    Returns:
        (K, D) float32 and (N,) int64.
    """
    from sklearn.cluster import KMeans  # takes a second

    state = key_seed(seed, "k-means", *keys) % 2**32
    means = KMeans(min(clusters, len(points)), n_init=3, random_state=state).fit(points)
    labels = torch.from_numpy(means.labels_).long()
    return torch.from_numpy(means.cluster_centers_).float(), labels


def inliers(points: Tensor, share: float, neighbours: int) -> Tensor:
    """Ascending rows (M,) without the `share` of points of the highest local outlier factor.

    Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000.

    Args:
        points: (N, D).
        share: that is left out, rounded down.
        neighbours: that density is measured by; fewer where there are not as many.
    """
    from sklearn.neighbors import LocalOutlierFactor

    left_out = int(share * len(points))
    if left_out == 0:
        return torch.arange(len(points))
    found = LocalOutlierFactor(n_neighbors=min(neighbours, len(points) - 1)).fit(points.numpy())
    factors = torch.from_numpy(-found.negative_outlier_factor_)
    rows: Tensor = factors.argsort(stable=True)[: len(points) - left_out].sort().values
    return rows
