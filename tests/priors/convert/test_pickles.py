"""What may be in a checkpoint beside its tensors, and what may not."""

import argparse
import builtins
import collections
import datetime
import enum
import functools
import operator
import os
import pathlib
import pickle
import subprocess
import sys
import types
import typing

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from latentdc.errors import InputError
from latentdc.priors.convert.checkpoint import read_checkpoint

LAYOUTS = {"zipped": True, "before torch 1.6": False}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def save(request, tmp_path):
    def write(content):
        path = tmp_path / "model.ckpt"
        torch.save(content, path, _use_new_zipfile_serialization=request.param)
        return path

    return write


def state():
    return collections.OrderedDict(
        a=torch.arange(6.0).view(2, 3), b=torch.nn.Parameter(torch.ones(2).half())
    )


class Colour(enum.Enum):
    RED = 1


class Log(dict):
    pass


@pytest.fixture
def gone(monkeypatch):
    """Classes of a package that is there when a checkpoint is saved and not when it is loaded."""
    module = types.ModuleType("lightning_of_old")

    class ModelCheckpoint:
        def __init__(self):
            self.best = {"score": torch.tensor(0.5)}

    class Attributes(dict):
        pass

    class Items(list):
        pass

    for kind in (ModelCheckpoint, Attributes, Items):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module
    monkeypatch.delitem(sys.modules, module.__name__, raising=False)


def test_the_objects_of_a_trainer_are_passed_over(save, gone, monkeypatch):
    path = save(
        {
            "state_dict": state(),
            "callbacks": {gone.ModelCheckpoint: {"best": np.float64(3.0)}},
            "callback": gone.ModelCheckpoint(),
            "hyper_parameters": gone.Attributes(lr=0.1, items=gone.Items([1, 2])),
            "config": OmegaConf.create({"model": {"params": [1, {"a": None}]}}),
            "paths": {pathlib.PurePosixPath("a"): datetime.datetime(2021, 12, 1)},
            "python": [
                Colour.RED,
                Log(a=1),
                argparse.Namespace(b=2),
                functools.partial(int, base=2),
            ],
            "plain": [{1, 2}, frozenset([3]), b"4", 5j, slice(6), collections.Counter("7")],
            "torch": [torch.float16, torch.Size([1]), torch.device("cuda:0"), typing.Any],
            "array": np.arange(3),
        }
    )
    monkeypatch.delitem(sys.modules, gone.__name__)
    found = read_checkpoint(path)
    assert gone.__name__ not in sys.modules
    assert {key: (t.dtype, t.tolist()) for key, t in found.weights.items()} == {
        "a": (torch.float32, [[0, 1, 2], [3, 4, 5]]),
        "b": (torch.float16, [1, 1]),
    }
    assert found.beside[:2] == ("callbacks", "callback") and "array" in found.beside


class Call:
    """Pickled as a call that happens when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Call(os.system, "touch mark"), "system"),
        (Call(subprocess.Popen, ["touch", "mark"]), "subprocess.Popen"),
        (Call(builtins.eval, "open('mark', 'w')"), "builtins.eval"),
        (Call(builtins.exec, "open('mark', 'w')"), "builtins.exec"),
        (Call(builtins.open, "mark", "w"), "io.open"),
        (Call(builtins.getattr, dict, "fromkeys"), "builtins.getattr"),
        (Call(builtins.__import__, "this"), "builtins.__import__"),
        (Call(operator.attrgetter, "__globals__"), "operator.attrgetter"),
        (Call(pickle.loads, b"N."), "pickle.loads"),
        (Call(torch.load, "mark"), "torch.serialization.load"),
        (Call(torch.save, 1, "mark"), "torch.serialization.save"),
        (Call(torch.hub.load, "user/name", "model"), "torch.hub.load"),
        (Call(torch.nn.functional.normalize, torch.ones(2)), "functional.normalize"),
    ],
)
def test_a_file_that_holds_a_call_is_refused_and_nothing_is_run(
    save, tmp_path, monkeypatch, call, named
):
    monkeypatch.chdir(tmp_path)
    path = save({"state_dict": state(), "extra": call})
    with pytest.raises(InputError, match=rf"wants to use \S*{named}, .*nothing of it was run"):
        read_checkpoint(path)
    assert not (tmp_path / "mark").exists()


def write_old(path: pathlib.Path, last: bytes) -> None:
    """A file of before torch 1.6 whose content is the pickle `last`."""
    header = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(header) + last)


def test_a_pickle_cannot_reach_through_what_it_may_use(tmp_path):
    """By a dotted name, which newer protocols allow."""
    path = tmp_path / "model.ckpt"
    module, name = b"torch._utils", b"_rebuild_tensor_v2.__globals__"
    write_old(path, b"\x80\x04\x8c\x0c" + module + b"\x8c\x1e" + name + b"\x93.")
    with pytest.raises(InputError, match=r"_rebuild_tensor_v2.__globals__, which weights"):
        read_checkpoint(path)


def test_a_pickle_cannot_change_what_it_may_use(tmp_path):
    """By giving a function a state, which sets its attributes."""
    path = tmp_path / "model.ckpt"
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    state = b"N}X\x0c\x00\x00\x00__defaults__Ns\x86b."  # (None, {"__defaults__": None})
    write_old(path, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state)
    with pytest.raises(InputError, match="cannot be read as a torch checkpoint"):
        read_checkpoint(path)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults
