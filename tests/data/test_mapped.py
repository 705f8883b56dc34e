import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from latentdc.data.dataset import Dataset
from latentdc.data.open import open_dataset
from latentdc.images import MappedImages, fetch, from_uint8, place
from latentdc.recipe import Data
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.data.conftest import picture


@pytest.fixture
def levels():
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8, generator=source)


@pytest.fixture
def file(tmp_path, levels):
    path = tmp_path / "images.bin"
    path.write_bytes(levels.numpy().tobytes())
    return path


def dataset(images) -> Dataset:
    return Dataset(images, torch.tensor([0, 1, 0, 1, 1, 0, 1]), ("a", "b"), torch.arange(7), "toy")


def test_a_part_of_a_part_reads_the_right_images(file, levels):
    mapped = MappedImages.open(file, (7, 3, 4, 4))
    part = dataset(mapped).select(torch.tensor([6, 2, 4, 5])).select(torch.tensor([3, 0]))
    assert part.labels.tolist() == [0, 1] and part.hashes.tolist() == [5, 6]
    assert part.images.shape == (2, 3, 4, 4) and part.images.nbytes == 2 * 48
    assert torch.equal(part.images[torch.tensor([1, 0, 1])], levels[[6, 5, 6]])
    assert torch.equal(part.images[slice(1, 9)], levels[[6]])


def test_a_part_copies_nothing_so_that_it_sees_a_change_of_the_file(file):
    part = dataset(MappedImages.open(file, (7, 3, 4, 4))).select(torch.tensor([2, 3]))
    file.write_bytes(bytes(7 * 48))  # in place: the file that is mapped
    assert part.images[slice(None)].max() == 0


def test_images_of_a_folder_are_sent_to_another_process(tmp_path):
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        picture(len(name)).save(tmp_path / "pets" / name / "1.png")
    data = Data(source=str(tmp_path / "pets"), resolution=8, cache=str(tmp_path / "cache"))
    train = open_dataset(data, "train")
    for one in (train, train.select(torch.tensor([1])), SyntheticSet.from_real(train)):
        back = pickle.loads(ForkingPickler.dumps(one))  # as multiprocessing does
        assert torch.equal(back.images[:], one.images[:]) and torch.equal(back.labels, one.labels)


def test_batches_and_hashes_are_those_of_the_same_images_in_memory(file, levels):
    rows, cpu = torch.tensor([5, 1, 3]), torch.device("cpu")
    mapped = dataset(MappedImages.open(file, (7, 3, 4, 4))).select(rows)
    in_memory = dataset(levels).select(rows)
    assert set_hash(mapped) == set_hash(in_memory)
    chosen = torch.tensor([2, 0])
    batch = fetch(place(mapped.images, cpu), chosen, cpu)
    assert torch.equal(batch, from_uint8(in_memory.images[chosen]))


def test_members_of_a_class_are_in_order(levels):
    data = dataset(levels)
    assert data.members(0).tolist() == [0, 2, 5] and data.members(1).tolist() == [1, 3, 4, 6]
