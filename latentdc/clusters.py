"""Clusters of many points, by scikit-learn, and which points are outliers."""

from typing import Any

import torch
from torch import Tensor

from latentdc.draws import key_seed


def k_means(points: Any, clusters: int, seed: int, *keys: int | str) -> tuple[Tensor, Tensor]:
    """(K, D) float32 centres of clusters and (N,) the cluster of each point; the best of 3 starts.

    Of points (N, D), an array or tensor, in so many clusters at most. The starts have keys, such as
    a class.
    """
    from sklearn.cluster import KMeans  # takes a second

    state = key_seed(seed, "k-means", *keys) % 2**32
    means = KMeans(min(clusters, len(points)), n_init=3, random_state=state).fit(points)
    labels = torch.from_numpy(means.labels_).long()
    return torch.from_numpy(means.cluster_centers_).float(), labels


def inliers(points: Tensor, share: float, neighbours: int) -> Tensor:
    """Ascending rows (M,) without the `share` of points (N, D) of the highest local outlier factor.

    Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000. The share is
    rounded down; density is measured by `neighbours`, by fewer where there are not as many.
    """
    from sklearn.neighbors import LocalOutlierFactor

    left_out = int(share * len(points))
    if left_out == 0:
        return torch.arange(len(points))
    found = LocalOutlierFactor(n_neighbors=min(neighbours, len(points) - 1)).fit(points.numpy())
    factors = torch.from_numpy(-found.negative_outlier_factor_)
    rows: Tensor = factors.argsort(stable=True)[: len(points) - left_out].sort().values
    return rows
