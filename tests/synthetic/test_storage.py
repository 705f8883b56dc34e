import pytest
import torch

from latentdc.evaluate.label_store import encode
from latentdc.priors.load import load_prior
from latentdc.recipe import PriorSettings
from latentdc.synthetic import storage
from latentdc.synthetic.storage import (
    decoder_bytes,
    image_bytes,
    soft_label_bytes,
    stored_image_bytes,
)
from tests.synthetic.sets import float_images, random_set


@pytest.mark.parametrize("precision", ["float16", "uint8"])
@pytest.mark.parametrize("top", [None, 3, 7])
def test_bytes_of_soft_labels_are_those_that_are_stored(precision, top):
    coded = encode(torch.randn(5, 7), precision, top)
    stored = sum(tensor.nbytes for tensor in coded.values())
    assert soft_label_bytes(5, 7, epochs=4, precision=precision, top=top) == 4 * stored


def test_the_bytes_of_stored_images_are_found_without_decoding_them(tmp_path):
    random_set().save_pretrained(tmp_path / "levels")
    random_set(images=float_images()).save_pretrained(tmp_path / "floats")
    assert stored_image_bytes(tmp_path / "levels") == random_set().storage()["images/png"]
    assert stored_image_bytes(tmp_path / "floats") == float_images().nbytes


def test_every_quality_of_jpeg_is_stated():
    sizes = random_set().storage()
    assert {"images/jpeg95", "images/jpeg75"} < sizes.keys()


def test_a_decoder_is_counted_without_its_encoder():
    assert decoder_bytes(load_prior(PriorSettings(kind="pixel"), resolution=16)) == 0
    prior = load_prior(PriorSettings(weights="digits"), resolution=16)
    space = prior.autoencoder.autoencoder
    parts = [space.decoder, space.post_quant_conv]
    expected = sum(p.numel() for part in parts if part is not None for p in part.parameters())
    expected += sum(
        p.numel()
        for part in vars(prior.denoiser).values()
        if isinstance(part, torch.nn.Module)
        for p in part.parameters()
    )
    assert decoder_bytes(prior) == 4 * expected


def test_images_are_counted_as_png_and_floats_by_their_four_bytes(monkeypatch):
    made = random_set()
    assert image_bytes(made) == made.storage()["images/png"]
    assert image_bytes(random_set(images=float_images())) == float_images().nbytes
    assert image_bytes(random_set(images=torch.zeros(8, 7))) == 8 * 7 * 4
    monkeypatch.setattr(storage, "MOST", made.images.numel() - 1)  # large sets are not counted
    assert image_bytes(made) is None
