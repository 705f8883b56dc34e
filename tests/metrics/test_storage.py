import pytest
import torch

from latentdc.evaluate.label_store import encode
from latentdc.metrics.storage import decoder_bytes, soft_label_bytes
from latentdc.priors.load import load_prior
from latentdc.recipe import PriorSettings


@pytest.mark.parametrize("precision", ["float16", "uint8"])
@pytest.mark.parametrize("top", [None, 3, 7])
def test_bytes_of_soft_labels_are_those_that_are_stored(precision, top):
    coded = encode(torch.randn(5, 7), precision, top)
    stored = sum(tensor.nbytes for tensor in coded.values())
    assert soft_label_bytes(5, 7, epochs=4, precision=precision, top=top) == 4 * stored


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
