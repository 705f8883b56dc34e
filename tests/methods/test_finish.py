"""The set at the end: class by class, in memory or through a file, and pictures of a part."""

import os

import pytest
import torch

from latentdc import checkpoint
from latentdc.methods import decode
from latentdc.methods.context import Context
from latentdc.methods.decode import gather_classes, show_latents, synthetic_set
from latentdc.methods.latents import Latents, initial_latents
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.priors.pixel import PixelPrior
from tests.methods import setup


def ends_with(latents, prior, folder=None):
    context = Context() if folder is None else checkpoint.in_folder(folder, Context())
    return synthetic_set(latents, prior, setup.CLASSES, context)


def ends(prior, folder=None, ipc=3):
    latents = initial_latents(setup.dataset(), prior, range(3), ipc=ipc, seed=0)
    return latents, ends_with(latents, prior, folder)


@pytest.mark.parametrize("clamp", [True, False])
def test_a_set_through_a_file_is_the_one_in_memory_and_leaves_no_file(tmp_path, monkeypatch, clamp):
    prior = PixelPrior(8, clamp=clamp)
    _, in_memory = ends(prior)
    monkeypatch.setattr(decode, "MEMORY_LIMIT", 0)
    _, mapped = ends(prior, tmp_path)
    assert torch.equal(in_memory.images, mapped.images)
    assert mapped.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_before_the_file_is_mapped_and_leaves_none(tmp_path, monkeypatch):
    """Writing to a mapped file of holes would end the process by SIGBUS."""

    def full(descriptor, start, size):
        assert (start, size) == (0, 9 * 3 * 8 * 8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decode, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        ends(PixelPrior(8), tmp_path)
    assert list(tmp_path.iterdir()) == []


class Twins:
    """Two processes that hold the same latents, of odd and of even classes."""

    num_processes, process_index = 2, 0

    def __init__(self):
        self.exchanges = 0

    def gather(self, rows):
        self.exchanges += 1
        return torch.cat([rows, rows])


def test_a_thousand_classes_are_exchanged_in_few_blocks(monkeypatch):
    z = tuple(torch.full((1, 2), float(label)) for label in range(0, 1000, 2))
    latents, twins = Latents(tuple(range(0, 1000, 2)), 1, z, None, None), Twins()
    owned = [latents.classes, tuple(range(1, 1000, 2))]
    monkeypatch.setattr(decode, "gather_object", lambda _: owned)
    target, empty = torch.empty(1000, 1, 2), torch.empty(0, 1, 2)
    gather_classes(latents, lambda some: torch.stack(some.z), target, empty, twins)
    assert target[:, 0, 0].tolist() == [label // 2 * 2 for label in range(1000)]
    assert twins.exchanges == 1
    monkeypatch.setattr(decode, "BLOCK", 100 * 8)  # bytes of so many classes, in whole batches
    gather_classes(latents, lambda some: torch.stack(some.z), target, empty, twins)
    assert twins.exchanges == 1 + 6


def test_images_of_a_distilled_set_are_no_mosaics():
    """So that views that cut mosaics into cells crop them whole, as they do the random images."""
    _, made = ends(PixelPrior(8))
    assert made.grid == 1


def test_few_images_are_decoded_at_a_time_and_each_once(monkeypatch):
    sizes, whole = [], PixelPrior.decode

    def counted(self, z, c, noise):
        sizes.append(len(z))
        return whole(self, z, c, noise)

    monkeypatch.setattr(PixelPrior, "decode", counted)
    monkeypatch.setattr(decode, "RENDERED", 4)
    latents, made = ends(PixelPrior(8), ipc=2)
    assert sizes == [4, 2]  # two classes, then one
    levels = torch.cat(latents.z).detach().add(1).mul(127.5).round().to(torch.uint8)
    assert torch.equal(made.images, levels)


def test_pixels_beyond_the_limits_are_kept_as_floats():
    prior = PixelPrior(8, clamp=False)
    latents = initial_latents(setup.dataset(), prior, range(3), ipc=2, seed=0)
    latents.z[1].data[0, 0, 0, 0] = 1.5
    made = ends_with(latents, prior)
    assert made.images.dtype == torch.float32 and made.images.max() == 1.5


def test_students_of_whitened_pixels_see_what_was_optimised():
    """Though z stays in [-1, 1] where its image does not, and is nowhere near that of a PNG."""
    unit = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    whitening = fit_whitening(setup.dataset().images, unit, name="toy")
    prior = PixelPrior(8, clamp=False, whitening=whitening)
    latents = initial_latents(setup.dataset(), prior, range(3), ipc=2, seed=0)
    latents.z[1].data[0, 0, 0, :4] = 0.99
    made = ends_with(latents, prior)
    assert made.z.abs().max() < 1 < made.images.abs().max()
    torch.testing.assert_close(whitening(made.floats()), made.z, rtol=0, atol=1e-5)


def test_a_picture_decodes_what_it_shows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("latentdc.methods.decode.SHOWN", (2, 1))
    decoded, whole = [], PixelPrior.decode

    def counted(self, z, c, noise):
        decoded.append(len(z))
        return whole(self, z, c, noise)

    monkeypatch.setattr(PixelPrior, "decode", counted)
    prior = PixelPrior(8)
    latents = initial_latents(setup.dataset(), prior, range(3), ipc=3, seed=0)
    context = checkpoint.in_folder(tmp_path, Context())
    show_latents(7, latents, prior, setup.CLASSES, context)
    assert sum(decoded) == 2 and (tmp_path / "grids" / "step-00000007.png").is_file()
