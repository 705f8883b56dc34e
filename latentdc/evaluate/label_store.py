"""Soft labels on disk: the teachers' logits of every image's view in each of some epochs.

Shen and Xing, "FKD", ECCV 2022, https://arxiv.org/abs/2112.01528, store them so for ImageNet and
SRe2L (https://arxiv.org/abs/2306.13092) for distilled sets, by batch and with the coordinates of
every crop. Here they are kept by image, and the view is replayed from (seed, epoch): no batch size,
order or worker count has to be the same later, and an epoch costs 2 bytes per class and image, or
less. One safetensors file for each epoch, read through a memory map. Fewer epochs than a training
has are drawn from again, as LPLD (https://arxiv.org/abs/2410.15919) prunes labels, whole epochs at
a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from latentdc import draws, io
from latentdc.errors import InputError

_FACTS = "labels.json"
_IDENTITY = "labels"  # key in the header of a file
_VERSION = 2  # of the files
STORE_SEED = 0  # of the views whose labels are stored
Coded = dict[str, Tensor]


@dataclass(frozen=True)
class LabelStore:
    """A folder of stored labels.

    Attributes:
        folder: holds `labels.json` and `epoch-*.safetensors`, or is a link to such a folder.
        facts: what the labels depend on, in JSON's types.
    """

    folder: Path
    facts: Mapping[str, object]

    @classmethod
    def under(cls, parent: Path, facts: Mapping[str, object]) -> "LabelStore":
        """The store of these facts, in a folder named by their hash."""
        facts = {"version": _VERSION, **facts}
        return cls(parent / io.fingerprint(facts), facts)

    @property
    def identity(self) -> str:
        """16 hex digits of the facts, which every file holds."""
        return io.fingerprint(io.as_read_back(self.facts))

    def require_own(self) -> None:
        """Refuse labels whose facts are missing or others; a folder without any is nobody's."""
        there = (self.folder / _FACTS).exists() or any(self._files())
        if there and (difference := self.difference(self.folder)) is not None:
            raise InputError(difference)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-?????.safetensors"))

    def difference(self, given: Path) -> str | None:
        """How the labels in the folder `given` differ from these; None where they do not."""
        try:
            found = dict(io.read_json(given / _FACTS))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{given} holds no stored labels: {error}.") from error
        ours = io.as_read_back(self.facts)
        differing = [key for key in ours if found.get(key) != ours[key]]
        if not differing:
            return None
        key = differing[0]
        return (
            f"the stored labels {given} are of another {', '.join(differing)}: {key} is "
            f"{found.get(key)} there and {ours[key]} here; take those that were made for this set "
            "and protocol, or leave --labels out to make them."
        )

    def link(self, given: Path | None = None) -> None:
        """Make the folder a link to `given`, unless it is a real one; remove a broken link."""
        target = None if given is None else given.resolve()
        if self.folder.is_symlink() and (target is not None or not self.folder.exists()):
            self.folder.unlink()
        if target is not None and not self.folder.exists():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.symlink_to(target, target_is_directory=True)

    def path(self, epoch: int) -> Path:
        """The file of one epoch."""
        return self.folder / f"epoch-{epoch:05d}.safetensors"

    def write(self, epoch: int, coded: Coded) -> None:
        """Keep the labels of one epoch, whole or not at all."""
        if not (self.folder / _FACTS).is_file():
            io.write_json(self.folder / _FACTS, self.facts)
        io.save_tensors(self.path(epoch), coded, {_IDENTITY: self.identity})

    def read(self, epoch: int) -> Coded:
        """The labels of one epoch, memory-mapped; a missing, damaged or foreign file is refused."""
        path = self.path(epoch)
        try:
            coded, header = io.load_with_metadata(path)
            if header.get(_IDENTITY, self.identity) != self.identity:  # earlier files have none
                raise ValueError("it is of another set, protocol or teacher")
            return coded
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read the stored labels {path}: {error}; delete the file to have it made "
                "again."
            ) from error

    def bytes(self) -> int:
        """On disk; 0 where the labels have been removed. What a kill left half written is none."""
        self.require_own()
        if not (files := self._files()):
            return 0
        for path in files:
            self.read(int(path.stem.removeprefix("epoch-")))
        return sum(path.stat().st_size for path in (self.folder / _FACTS, *files))


def encode(logits: Tensor, precision: Literal["float16", "uint8"], top: int | None) -> Coded:
    """Logits (N, C) as they are stored, on the CPU.

    `uint8` divides the range of each image into 255 steps. `top` keeps so many of the largest
    logits of each image, and the mean of the others, which at a high temperature is all that
    matters of them.
    """
    kept, coded = logits.float().cpu(), {}
    if top is not None and top < logits.shape[1]:
        values, classes = kept.topk(top, dim=1)
        rest = (kept.sum(dim=1) - values.sum(dim=1)) / (logits.shape[1] - top)
        coded = {"classes": classes.to(torch.int32), "rest": rest.half()}
        kept = values
    if precision == "float16":
        return {**coded, "logits": kept.half().contiguous()}
    low, high = kept.aminmax(dim=1)
    step = ((high - low) / 255).clamp(min=1e-12)
    levels = ((kept - low[:, None]) / step[:, None]).round().to(torch.uint8)
    return {**coded, "levels": levels, "low": low, "step": step}


def decode(coded: Coded, rows: Tensor, classes: int) -> Tensor:
    """Logits (B, classes) float32 of the images at `rows` (B,), on the CPU."""
    part = {key: tensor[rows] for key, tensor in coded.items()}
    if "logits" in part:
        logits = part["logits"].float()
    else:
        logits = part["low"][:, None] + part["levels"].float() * part["step"][:, None]
    if "classes" not in part:
        return logits
    whole = part["rest"].float()[:, None].repeat(1, classes)
    return whole.scatter_(1, part["classes"].long(), logits)


def replayed_epoch(epoch: int, stored: int, epochs: int, seed: int) -> int:
    """The stored epoch that a training's `epoch` sees: its own, or one drawn from fewer."""
    if stored >= epochs:
        return epoch
    return int(torch.randint(stored, (), generator=draws.generator(seed, "stored epoch", epoch)))
