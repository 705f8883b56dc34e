import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentdc.errors import InputError
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.export import export_pt
from latentdc.synthetic.foreign.tensors import read_tensors
from tests.evaluate.toys import stripes
from tests.synthetic.foreign.layouts import dc, mtt

NAMES = ("rows", "columns", "chessboard")
PLAIN = Normalization((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
SEEN = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2
LABELS = torch.arange(3).repeat_interleave(2)


def test_students_see_the_numbers_that_dc_left(tmp_path):
    found, _ = read_tensors(dc(tmp_path / "res_DC_x.pt", SEEN, LABELS), NAMES, None, None, PLAIN)
    torch.testing.assert_close(PLAIN(found.images), SEEN, atol=1e-5, rtol=0)
    assert (
        torch.equal(found.labels, LABELS) and found.soft_labels is None and found.learned_lr is None
    )


def test_of_several_experiments_the_first_is_read_and_that_is_said(tmp_path, capsys):
    path = dc(tmp_path / "res.pt", SEEN, LABELS, experiments=5)
    found, _ = read_tensors(path, NAMES, 1, None, PLAIN)
    torch.testing.assert_close(PLAIN(found.images), SEEN[::2], atol=1e-5, rtol=0)
    assert "holds 5 sets, one per experiment; the first is scored" in capsys.readouterr().err


@pytest.mark.parametrize("experiments", [1, 3])
@pytest.mark.parametrize("soft", [torch.randn(6, 3), torch.randn(1, 3), torch.randn(3, 3), True])
def test_dc_files_are_read_with_soft_labels_beside_them(tmp_path, capsys, experiments, soft):
    path = dc(tmp_path / "res.pt", SEEN, LABELS, experiments=experiments)
    torch.save(torch.load(path, weights_only=False) | {"soft_labels": soft}, path)
    found, _ = read_tensors(path, NAMES, None, None, PLAIN)
    torch.testing.assert_close(PLAIN(found.images), SEEN, atol=1e-5, rtol=0)
    assert torch.equal(found.labels, LABELS) and found.soft_labels is None
    assert "not read: soft_labels; " in capsys.readouterr().err


def test_whitened_tensors_are_whitened_again_to_the_same_numbers(tmp_path):
    zca = fit_whitening(stripes(300).images, PLAIN, name="x")
    folder = mtt(tmp_path, SEEN, LABELS, lr=0.03)
    found, _ = read_tensors(folder, NAMES, None, None, zca)
    torch.testing.assert_close(zca(found.images), SEEN, atol=1e-3, rtol=0)
    assert found.learned_lr == pytest.approx(0.03)
    again, _ = read_tensors(folder / "images_best.pt", NAMES, None, None, zca)
    assert torch.equal(again.images, found.images)


def test_soft_labels_are_kept_as_logits(tmp_path):
    logits = (
        torch.randn(6, 3, generator=torch.Generator().manual_seed(1)) + 4 * torch.eye(3)[LABELS]
    )
    found, _ = read_tensors(mtt(tmp_path / "a", SEEN, logits), NAMES, None, None, PLAIN)
    assert torch.equal(found.soft_labels, logits) and torch.equal(found.labels, LABELS)
    shares = logits.softmax(dim=1)
    found, _ = read_tensors(mtt(tmp_path / "b", SEEN, shares), NAMES, 1, None, PLAIN)
    torch.testing.assert_close(found.soft_labels.softmax(dim=1), shares[::2])


SHARES = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8]]).repeat_interleave(2, 0)


@pytest.mark.parametrize(
    ("soft", "told"),
    [
        (SHARES * torch.linspace(0.9, 0.98, 6)[:, None], r"add up to 0\.9 to 0\.98; they are read"),
        (SHARES * 100, r"add up to 100; they are read as logits"),
        ((SHARES * 255).round().byte(), r"add up to 25\d to 25\d; they are read as logits"),
        (SHARES.log(), None),
        (SHARES, None),
        (SHARES * torch.linspace(3, 5, 6)[:, None], None),  # of a last layer with a ReLU
    ],
)
def test_probabilities_that_do_not_add_up_to_one_are_warned_of(tmp_path, capsys, soft, told):
    read_tensors(mtt(tmp_path, SEEN, soft), NAMES, None, None, PLAIN)
    found = capsys.readouterr().err
    assert re.search(told, found) if told else "add up to" not in found


@pytest.mark.parametrize("rate", [0.03, torch.tensor(0.03), np.float32(0.03), torch.tensor([0.03])])
def test_a_learned_rate_may_be_the_third_of_a_tuple(tmp_path, rate):
    torch.save((SEEN, LABELS, rate), tmp_path / "x.pt")
    found, _ = read_tensors(tmp_path / "x.pt", NAMES, None, None, PLAIN)
    assert found.learned_lr == pytest.approx(0.03)
    torch.save((SEEN, LABELS, -0.03), tmp_path / "x.pt")
    with pytest.raises(InputError, match="no learning rate: one finite number above 0"):
        read_tensors(tmp_path / "x.pt", NAMES, None, None, PLAIN)


def test_our_own_export_comes_back(tmp_path):
    data = stripes(6)
    order = data.labels.argsort(stable=True)
    export_pt(SyntheticSet(data.images, data.labels, data.class_names), tmp_path / "x.pt")
    found, _ = read_tensors(
        tmp_path / "x.pt", NAMES[::-1], None, None, PLAIN
    )  # named, so any order fits
    torch.testing.assert_close((found.images + 1) * 127.5, data.images[order].float())
    assert torch.equal(found.labels, 2 - data.labels[order])
    soft = 4 * torch.eye(3)[data.labels] - 1
    more = {"soft_labels": soft.roll(1, 1), "weights": torch.arange(1.0, 7), "learned_lr": 0.03}
    export_pt(replace(SyntheticSet.from_real(data), **more), tmp_path / "soft.pt")
    found, _ = read_tensors(tmp_path / "soft.pt", NAMES[::-1], None, None, PLAIN)
    assert torch.equal(found.soft_labels, soft.roll(1, 1)[order].flip(1))
    assert torch.equal(found.labels, 2 - data.labels[order])  # not those that soft ones say
    assert torch.equal(found.weights, more["weights"][order]) and found.learned_lr == 0.03


class Code:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": [[SEEN, Code()]]}, "holds more than tensors and numbers"),
        ({"weights": SEEN}, "holds neither a tensor of images nor"),
        ({"data": [[SEEN[:, :2], LABELS]]}, r"floats of N x 3 x H x W, got \(6, 2, 8, 8\)"),
        ({"data": [[SEEN, LABELS[:5]]]}, r"6 images need as many labels.*got \(5,\)"),
        ({"data": [[SEEN / 0, LABELS]]}, "not finite"),
        ({"data": [[SEEN, LABELS + 2]]}, "has labels 2 to 4, and the test set's 3 classes are 0"),
        ({"data": [[SEEN, LABELS * 0]]}, "no images of 2 of the test set's 3 classes"),
        ({"data": [[SEEN, torch.rand(6, 5)]]}, "soft labels are of 5 classes, the test set has 3"),
        (SEEN, "holds one tensor alone; .* such as images_x.pt and labels_x.pt"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_nothing_in_them_is_run(
    tmp_path, capsys, content, message
):
    torch.save(content, tmp_path / "images_x.pt")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "images_x.pt", NAMES, None, None, PLAIN)
    assert "run" not in capsys.readouterr().out


def test_pictures_of_a_whitened_set_and_damaged_files_are_refused(tmp_path):
    torch.save(SEEN, tmp_path / "images_zca_5.pt")
    with pytest.raises(InputError, match=r"score images_5\.pt with data\.zca=true"):
        read_tensors(tmp_path / "images_zca_5.pt", NAMES, None, None, PLAIN)
    whole = dc(tmp_path / "x.pt", SEEN, LABELS).read_bytes()
    for damaged in (b"", b"no tensors", pickle.dumps(3, protocol=2)[:-2], whole[:-1000]):
        (tmp_path / "x.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="or is damaged"):
            read_tensors(tmp_path / "x.pt", NAMES, None, None, PLAIN)


def test_a_whitening_of_another_size_is_refused(tmp_path):
    zca = fit_whitening(stripes(300).images[:, :, :4, :4], PLAIN, name="x")
    with pytest.raises(InputError, match=r"set data\.resolution=8"):
        read_tensors(mtt(tmp_path, SEEN, LABELS), NAMES, None, None, zca)
