import io

import torch
from PIL import Image

from latentdc.evaluate import image_bytes as module
from latentdc.evaluate.image_bytes import image_bytes
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import stripes

LABELS, NAMES = torch.tensor([0, 1]), ("a", "b")


def test_levels_are_counted_as_png_and_floats_by_their_four_bytes():
    data, size = stripes(5), 0
    for image in data.images:
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
        size += len(buffer.getvalue())
    assert image_bytes(data) == size
    assert image_bytes(SyntheticSet(torch.zeros(2, 3, 4, 4), LABELS, NAMES)) == 2 * 48 * 4
    assert image_bytes(SyntheticSet(torch.zeros(2, 7), LABELS, NAMES)) == 2 * 7 * 4


def test_large_sets_are_not_counted(monkeypatch):
    monkeypatch.setattr(module, "MOST", 5 * 3 * 8 * 8)
    assert image_bytes(stripes(5)) is not None
    assert image_bytes(stripes(6)) is None
