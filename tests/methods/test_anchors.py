import math
from types import SimpleNamespace

import pytest
import torch

from latentdc.clusters import inliers, k_means
from latentdc.draws import choose, generator
from latentdc.errors import RunError
from latentdc.methods.anchors import RealLatents, clustered, encoded, moments, rows_by_hash
from latentdc.recipe import Sampling, Select
from tests.methods import setup


def two_heaps():
    source = torch.Generator().manual_seed(0)
    near, far = torch.randn(6, 1, 2, 2, generator=source), torch.randn(2, 1, 2, 2, generator=source)
    return torch.cat([near, far + 100])


def test_centres_are_the_means_of_their_clusters_and_masses_their_shares():
    latents = two_heaps()
    centres, masses = clustered(latents, 2, 0, "cat")
    order = masses.argsort(descending=True)
    torch.testing.assert_close(masses[order], torch.tensor([0.75, 0.25]))
    wanted = torch.stack([latents[:6].mean(dim=0), latents[6:].mean(dim=0)])
    torch.testing.assert_close(centres[order], wanted)


def test_medoids_are_the_real_latents_nearest_to_the_centres():
    latents = two_heaps()
    centres, masses = clustered(latents, 2, 0, "cat")
    medoids, same = clustered(latents, 2, 0, "cat", medoids=True)
    assert masses.equal(same)
    for medoid, centre in zip(medoids, centres, strict=True):
        nearest = (latents - centre).flatten(1).norm(dim=1).argmin()
        assert medoid.equal(latents[nearest])


def test_clusters_are_keyed_by_class():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    one, again, other = (k_means(points, 7, 0, name)[0] for name in ("cat", "cat", "dog"))
    assert one.equal(again) and not one.equal(other)


def test_outliers_are_those_of_the_lowest_density():
    """Six values in a row and one far off: local outlier factor with two neighbours."""
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [30.0], [5.0]])
    assert inliers(points, 0.15, 2).tolist() == [0, 1, 2, 3, 4, 6]
    assert inliers(points, 0.0, 2).tolist() == inliers(points, 0.14, 2).tolist() == list(range(7))


def test_moments_are_those_of_all_latents_after_they_were_inverted():
    latents = torch.randn(37, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    mean, std = moments(latents, lambda z: 2 * z + 1, torch.device("cpu"))
    torch.testing.assert_close(mean, 2 * latents.mean(dim=0) + 1)
    torch.testing.assert_close(std, 2 * latents.std(dim=0, correction=0))


def test_what_is_kept_of_a_class_is_mean_and_deviation_of_its_latents():
    data, cpu = setup.dataset(), torch.device("cpu")
    prior = SimpleNamespace(class_names=None, device=cpu, encode=lambda images: 2 * images)
    settings = Sampling(select=Select(kind="nearest", space="latents"))
    kept = RealLatents(data, prior, settings, 1, 0).summary(1).latents
    latents = encoded(data, rows_by_hash(data, 1), prior.encode, cpu)
    wanted = torch.stack([latents.mean(dim=0), latents.std(dim=0, correction=0)])
    torch.testing.assert_close(kept, wanted)


def test_anchors_are_made_without_the_outliers_of_their_class():
    data, cpu = setup.dataset(), torch.device("cpu")
    prior = SimpleNamespace(class_names=None, device=cpu, encode=lambda images: 2 * images)
    settings = Sampling(anchors={"kind": "centres", "outliers": 0.34, "neighbours": 2})
    kept = RealLatents(data, prior, settings, 2, 0).of(1)
    latents = encoded(data, rows_by_hash(data, 1), prior.encode, cpu)
    rows = inliers(latents.flatten(1), 0.34, 2)
    assert len(rows) == 4 < len(latents) and kept.latents.equal(latents[rows])
    anchors, masses = clustered(latents[rows], 2, 0, data.class_names[1])
    assert kept.anchors.equal(anchors) and kept.masses.equal(masses)


def test_the_gaussian_of_a_class_is_of_latents_inverted_under_it_to_the_first_step():
    """Some of its images, drawn by its name; the prior has the classes in another order."""
    data, cpu, asked = setup.dataset(), torch.device("cpu"), []

    def invert(z, labels, stop):
        asked.append((labels.tolist(), stop))
        return 2 * z + 1

    prior = SimpleNamespace(
        class_names=data.class_names[::-1],
        device=cpu,
        encode=lambda images: 3 * images,
        invert=invert,
        start_index=lambda share: round(10 * share),
    )
    settings = Sampling(
        start="anchors", strength=0.4, eta=0, anchors={"kind": "gaussian", "inverted": 4}
    )
    starts, name = RealLatents(data, prior, settings, 5, 7).of(2).starts, data.class_names[2]
    assert asked == [([0] * 4, 4)]
    rows = rows_by_hash(data, 2)
    rows = rows[choose(len(rows), 4, generator(7, "inverted", name)).sort().values]
    noisy = 2 * encoded(data, rows, prior.encode, cpu) + 1
    normal = torch.randn(5, *noisy.shape[1:], generator=generator(7, "gaussian", name))
    wanted = noisy.mean(dim=0) + noisy.std(dim=0, correction=0) * normal
    torch.testing.assert_close(starts, wanted)


@pytest.mark.parametrize("label", [0, 2])
def test_images_of_a_class_come_in_an_order_of_their_own(label):
    data = setup.dataset()
    turned = data.select(torch.arange(len(data)).flip(0))
    one, other = (
        encoded(some, rows_by_hash(some, label), lambda images: 2 * images, torch.device("cpu"))
        for some in (data, turned)
    )
    assert one.equal(other) and one.shape == (6, 3, 8, 8)


@pytest.mark.parametrize(
    ("encode", "invert", "told"),
    [
        (lambda images: 2 * images, lambda z, *_, **__: z * math.inf, "inverted latents of 'zero'"),
        (lambda images: images / 0, lambda z, *_, **__: z, "encoded images of 'zero'"),
    ],
)
def test_latents_that_overflow_are_no_arguments_of_the_user(encode, invert, told):
    """On a CPU the prior would refuse them as such, on a GPU they would be sampled from."""
    prior = SimpleNamespace(
        class_names=None, device=torch.device("cpu"), encode=encode, invert=invert
    )
    prior.start_index = lambda strength: 0
    settings = Sampling(anchors={"kind": "gaussian"}, start="anchors", eta=0)
    with pytest.raises(RunError, match=rf"{told} are not finite.*take other weights|{told} .*Take"):
        RealLatents(setup.dataset(), prior, settings, 1, 0).of(0)
