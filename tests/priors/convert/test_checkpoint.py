import warnings

import pytest
import torch

from latentdc.errors import InputError
from latentdc.priors.convert.checkpoint import read_checkpoint
from tests.shared import shared_data

OLD = {"_use_new_zipfile_serialization": False}


def content():
    return {"state_dict": {"a": torch.arange(1000.0)}, "epoch": 3}


@pytest.mark.parametrize("how", [{}, OLD], ids=["zipped", "before torch 1.6"])
def test_a_state_dict_is_read_alone_or_with_what_is_beside_it(tmp_path, how):
    torch.save(content(), tmp_path / "full", **how)
    torch.save(content()["state_dict"], tmp_path / "bare", **how)
    full, bare = (read_checkpoint(tmp_path / name) for name in ("full", "bare"))
    assert full.weights["a"].equal(torch.arange(1000.0)) and full.weights.keys() == {"a"}
    assert bare.weights["a"].equal(full.weights["a"])
    assert (full.beside, bare.beside) == (("epoch",), ())


@pytest.mark.parametrize("how", [{}, OLD], ids=["zipped", "before torch 1.6"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_one_clear_line(tmp_path, how, share):
    path = tmp_path / "model.ckpt"
    torch.save(content(), path, **how)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"model.ckpt cannot be read as .* it was cut off"):
        read_checkpoint(path)


def test_what_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "model.ckpt"
    with pytest.raises(InputError, match=r"no file .*model.ckpt; give a checkpoint"):
        read_checkpoint(path)
    path.write_text("<!DOCTYPE html><title>404</title>")
    with pytest.raises(InputError, match="cut off or is something else"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="holds a list and no state dict"):
        read_checkpoint(path)
    torch.save({"loss": 0.5}, path)
    with pytest.raises(InputError, match=r"holds no tensors; its keys are \['loss'\]"):
        read_checkpoint(path)


def test_a_torchscript_program_is_not_loaded(tmp_path, monkeypatch):
    path = tmp_path / "model.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what such files come from
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match="it is a TorchScript program"):
        read_checkpoint(path)


def test_a_real_trainers_checkpoint_is_read():
    found = read_checkpoint(shared_data("compvis_small") / "model.ckpt")
    assert len(found.weights) == 463 and found.beside == ("global_step", "epoch")
