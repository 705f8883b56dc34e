"""Real images that do not fit: read ahead from the file, the same batches as from memory."""

import pytest
import torch

from latentdc.images import MappedImages
from latentdc.methods import real as module
from latentdc.methods.real import RealBatches
from tests.methods import setup


@pytest.fixture
def mapped(tmp_path):
    from dataclasses import replace

    data = setup.dataset()
    path = tmp_path / "images.bin"
    path.write_bytes(data.images.numpy().tobytes())
    return replace(data, images=MappedImages.open(path, tuple(data.images.shape)))


def batches(data, **options) -> RealBatches:
    return RealBatches(data, range(3), batch=4, seed=0, **options)


def test_batches_from_a_file_are_those_from_memory_in_any_order(mapped):
    far, near = batches(mapped), batches(setup.dataset())
    far.expect(5, [0, 1, 2])
    for label in (2, 0, 1, 1):
        assert torch.equal(far(5, label), near(5, label))
    far.expect(6, [1, 2])
    assert torch.equal(far(6, 1), near(6, 1)) and torch.equal(far(7, 0), near(7, 0))


def test_what_is_expected_is_read_before_it_is_asked_for_and_no_more(mapped, monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 1)
    far = batches(mapped)
    far.expect(0, [2, 0, 1])
    assert list(far.coming) == [(0, 2)]
    far(0, 2)
    assert list(far.coming) == [(0, 0)]
    assert far.coming[0, 0].result().dtype == torch.uint8


def test_images_in_memory_need_no_thread():
    near = batches(setup.dataset())
    near.expect(0, [0, 1, 2])
    assert near.reader is None and near.coming == {}


def test_a_part_of_a_mapped_set_is_read_alike(mapped):
    rows = torch.arange(0, len(mapped), 2)
    far, near = batches(mapped.select(rows)), batches(setup.dataset().select(rows))
    assert torch.equal(far(0, 1), near(0, 1))
