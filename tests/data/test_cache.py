import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
import torch
from PIL import Image, ImageFile

from latentdc import io
from latentdc.data import decode, encoded
from latentdc.data.dataset import Dataset
from latentdc.data.open import encoded_split, open_dataset
from latentdc.errors import InputError
from latentdc.images import MappedImages
from latentdc.recipe import Data
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.data.conftest import picture


def open_tree(tree, resolution=8, **keys):
    return open_dataset(Data(source=str(tree), resolution=resolution, **keys), "train")


def test_a_second_opening_decodes_nothing(tree, monkeypatch):
    first = open_tree(tree)
    monkeypatch.setattr(encoded, "decode", lambda *_: pytest.fail("decoded again"))
    second = open_tree(tree)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.hashes, second.hashes)
    assert torch.equal(first.labels, second.labels)


def test_another_resolution_and_changed_files_are_decoded_anew(tree):
    before = open_tree(tree)
    assert open_tree(tree, 16).resolution == 16
    picture(99, (9, 9)).save(tree / "train/cat/0.png")
    after = open_tree(tree)
    assert (before.hashes != after.hashes).tolist() == [True] + [False] * 5


def test_a_file_of_the_same_size_and_time_is_decoded_anew(tree):
    for path in tree.rglob("*.png"):
        picture(1).save(path.with_suffix(".bmp"))
        path.unlink()
        os.utime(path.with_suffix(".bmp"), (0, 0))  # as tools that make archives set all times
    before = open_tree(tree)
    path = tree / "train/cat/0.bmp"
    size = path.stat().st_size
    time.sleep(0.02)  # longer than a tick of the clock that dates files
    picture(99).save(path)
    os.utime(path, (0, 0))
    assert path.stat().st_size == size
    for _ in range(2):
        after = open_tree(tree)
        assert (before.hashes != after.hashes).tolist() == [True] + [False] * 5


def test_no_image_is_left_out_because_the_system_has_no_room_to_open_it(tree, monkeypatch):
    def full(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("latentdc.data.folder.read_picture", full)
        with pytest.raises(OSError, match="Too many open files"):
            open_tree(tree, unreadable="skip")
    assert len(open_tree(tree, unreadable="skip")) == 6


def test_files_whose_rights_change_stay_decoded_also_in_a_cache_that_is_read_only(
    tree, monkeypatch
):
    before = open_tree(tree)
    time.sleep(0.02)  # longer than a tick of the clock that dates files
    for path in tree.rglob("*.png"):
        path.chmod(0o444)
    monkeypatch.setattr(encoded.locks, "locked", lambda *_, **__: pytest.fail("written to"))
    assert torch.equal(open_tree(tree).images, before.images)


@pytest.mark.smoke
def test_sets_of_every_size_are_memory_mapped_and_equal(tree, monkeypatch):
    small = open_tree(tree)
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 0)
    large = open_tree(tree)
    everything = slice(None)
    assert torch.equal(large.images[everything], small.images)
    file = next(Data().cache_folder.rglob("images.bin"))
    size = file.stat().st_size
    file.write_bytes(bytes(size))  # the same file: whoever has mapped it sees the change
    assert large.images[everything].max() == 0 == small.images.max()


def test_images_written_to_leave_the_cache_as_it_is(tree):
    open_tree(tree).images.zero_()
    assert open_tree(tree).images.max() > 0


def test_a_thread_decodes_on_each_core_that_the_process_may_use(tree, monkeypatch):
    seen = set()

    def noted(content: bytes, resolution: int) -> object:
        seen.add(threading.get_ident())
        time.sleep(0.01)
        return decode.decode(content, resolution)

    monkeypatch.setattr(encoded, "_CHUNK", 1)
    monkeypatch.setattr(encoded, "decode", noted)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 9})
    open_tree(tree)
    assert len(seen) == 2


def test_few_images_are_decoded_ahead_of_those_that_are_written(tree, monkeypatch):
    started = []

    def noted(content: bytes, resolution: int) -> object:
        started.append(1)
        return decode.decode(content, resolution)

    monkeypatch.setattr(encoded, "_CHUNK", 1)
    monkeypatch.setattr(encoded, "decode", noted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    images = encoded_split(Data(source=str(tree), resolution=8), "train").decode(8)
    next(images)
    time.sleep(0.05)
    assert len(started) <= 3


def test_mapped_sets_are_told_apart_without_being_read(tree, monkeypatch):
    in_memory = set_hash(open_tree(tree))
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 0)
    mapped, other = open_tree(tree), open_tree(tree, 16)
    monkeypatch.setattr(MappedImages, "__getitem__", lambda *_: pytest.fail("read"))
    rows = torch.tensor([2, 0])
    found = [set_hash(one) for one in (mapped, other, mapped.select(rows), mapped.select(rows[:1]))]
    assert len({in_memory, *found}) == 5
    assert set_hash(SyntheticSet.from_real(open_tree(tree))) == found[0]
    assert set_hash(open_tree(tree)) == found[0]


def test_many_blocks_keep_the_order_of_the_rows(tree, monkeypatch):
    in_one = open_tree(tree)
    monkeypatch.setattr(encoded, "_CHUNK", 1)
    monkeypatch.setattr(encoded, "_BLOCK", 1)
    other = open_tree(tree, cache=str(tree / "other"))
    assert torch.equal(in_one.images, other.images)
    assert torch.equal(in_one.hashes, other.hashes)


def test_an_interrupted_decoding_leaves_nothing_under_a_final_name(tree, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoded, "decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_tree(tree)
    assert not Data().cache_folder.exists()
    monkeypatch.setattr(encoded, "decode", decode.decode)
    assert len(open_tree(tree)) == 6


def test_a_cache_that_cannot_be_written_is_an_input_error(tree):
    (tree / "file").touch()
    with pytest.raises(InputError, match=r"pass another data\.cache=FOLDER"):
        open_tree(tree, cache=str(tree / "file"))


def test_of_two_that_open_at_once_one_decodes(tree, monkeypatch):
    calls = []

    def slow(content: bytes, resolution: int) -> object:
        calls.append(resolution)
        time.sleep(0.02)
        return decode.decode(content, resolution)

    monkeypatch.setattr(encoded, "decode", slow)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(open_tree, [tree, tree])
    assert torch.equal(first.images, second.images)
    assert len(calls) == 6


def test_greyscale_jpegs_open_beside_colour(tree):
    picture(5).convert("L").save(tree / "train/cat/grey.JPEG", "JPEG")
    train = open_tree(tree)
    assert len(train) == 7
    grey = train.images[3]
    assert torch.equal(grey[0], grey[1])


def test_a_decoded_split_is_read_from_a_cache_that_cannot_be_written(tree, monkeypatch):
    first = open_tree(tree)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock, "FileLock", read_only)
    monkeypatch.setattr(encoded, "decode", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(open_tree(tree).images, first.images)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENAMETOOLONG])
def test_a_place_that_cannot_be_written_is_one_line_with_the_reason(tree, monkeypatch, code):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=rf"{os.strerror(code)}.*another data\.cache=FOLDER"):
        open_tree(tree)


@pytest.mark.parametrize("folder", ["x" * 300, "a/" * 2500 + "b"])
def test_a_cache_of_too_long_a_name_is_an_input_error(tree, folder):
    with pytest.raises(InputError, match=r"cache.*(too long|another data\.cache)"):
        open_tree(tree, cache=str(tree / folder))


@pytest.mark.parametrize("name", ["images.bin", "samples.safetensors"])
@pytest.mark.parametrize("content", [b"", b"short", None])
def test_a_damaged_cache_is_one_line_that_says_what_to_remove(tree, name, content):
    open_tree(tree)
    path = next(Data().cache_folder.rglob(name))
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"decoded images .* are damaged .*; remove them"):
        open_tree(tree)


def test_a_changed_byte_of_the_decoded_images_is_found(tree):
    open_tree(tree)
    path = next(Data().cache_folder.rglob("images.bin"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"decoded images .* are damaged \(images\.bin is not as"):
        open_tree(tree)


def test_what_decodes_otherwise_has_a_cache_of_its_own(tree, monkeypatch):
    before = open_tree(tree)
    darker = lambda content, size: (decode.decode(content, size)[0] // 2, 7)  # noqa: E731
    monkeypatch.setattr(encoded, "decode", darker)
    encoded.decoder_fingerprint.cache_clear()
    assert torch.equal(open_tree(tree).images, before.images // 2)
    monkeypatch.undo()
    encoded.decoder_fingerprint.cache_clear()
    assert torch.equal(open_tree(tree).images, before.images)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_no_leave_of_pillow_brings_half_a_picture_into_a_data_set(tree, monkeypatch, suffix):
    cut = tree / f"train/cat/cut.{suffix}"
    picture(50, (64, 64)).save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match=rf"cannot decode .*cut\.{suffix}: .*mend or remove it"):
        open_tree(tree)
    with pytest.raises(InputError, match=rf"cannot decode .*cut\.{suffix}: .*mend or remove it"):
        Dataset.from_folder(tree / "train", resolution=8)
    assert len(open_tree(tree, unreadable="skip")) == 6
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # the caller's own


def test_a_full_disk_is_not_blamed_on_the_cache(tree, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(io, "save_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        open_tree(tree)
    monkeypatch.undo()
    assert len(open_tree(tree, cache=str(tree / "other"))) == 6


def test_long_and_odd_names_of_a_source_are_kept_in_the_cache(tree):
    odd = tree.parent / ("long " * 45 + "\u202e")
    tree.rename(odd)
    assert len(open_tree(odd)) == 6
    assert all(len(path.name) < 150 for path in Data().cache_folder.iterdir())


def test_names_of_large_letters_are_shortened_by_their_bytes(tree):
    odd = tree.parent / ("\U0001f600" * 60)
    tree.rename(odd)
    (odd / "train").rename(odd / odd.name)
    assert len(open_dataset(Data(source=str(odd), resolution=8, train=odd.name), "train")) == 6


def test_a_link_that_leads_to_another_copy_of_like_files_is_decoded_anew(tree):
    link = tree.parent / "link"
    for number in range(2):
        copy = tree.parent / str(number)
        for path in tree.rglob("*.png"):
            place = copy / path.relative_to(tree)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(place, "BMP")
            os.utime(place, (0, 0))
        link.unlink(missing_ok=True)
        link.symlink_to(copy)
        assert int(open_tree(link).images[0].max()) == number
