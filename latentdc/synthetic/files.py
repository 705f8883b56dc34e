"""The files in the folder of a synthetic set, written and read."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from latentdc.images import load_whitening, save_whitening
from latentdc.io import read_json
from latentdc.published import published, published_yaml
from latentdc.report import save_grid
from latentdc.synthetic import folder as layout
from latentdc.synthetic.card import dataset_card
from latentdc.synthetic.rows import read_rows, rows_per_shard, write_rows
from latentdc.synthetic.vector_rows import holds_vectors, read_vectors, write_vectors

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet

TENSORS = {"z", "c", "noise", "soft_labels", "weights", "images", "learned_lr", "grid"}


def write_files(
    synthetic: "SyntheticSet",
    folder: Path,
    recipe: str | None,
    results: Mapping[str, object] | None,
) -> None:
    """Write all files of a set into an empty folder; see `SyntheticSet.save_pretrained`."""
    synthetic = replace(synthetic, provenance=published(synthetic.provenance))
    recipe = None if recipe is None else published_yaml(recipe)
    results = None if results is None else published(results)
    texts = {
        layout.PROVENANCE: _json(synthetic.provenance),
        layout.CARD: dataset_card(synthetic, recipe, results),
    }
    if recipe is not None:
        texts[layout.RECIPE] = recipe
    if results is not None:
        texts[layout.RESULTS] = _json(results)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")

    (folder / layout.ROWS).parent.mkdir()
    if synthetic.kind == "vectors":
        write_vectors(folder / layout.ROWS, synthetic)
    else:
        _write_images(folder, synthetic)
    # As bytes: safetensors' own writer does not raise OSError when the disk is full.
    (folder / layout.LATENTS).write_bytes(safetensors.torch.save(synthetic.tensors()))
    if synthetic.whitening is not None:
        save_whitening(folder / layout.WHITENING, synthetic.whitening)


def _write_images(folder: Path, synthetic: "SyntheticSet") -> None:
    images, labels = synthetic.levels(), synthetic.labels.cpu()
    size = rows_per_shard(images)
    starts = range(0, len(labels), size)
    for start, name in zip(starts, layout.shard_names(len(starts)), strict=True):
        here = slice(start, start + size)
        write_rows(folder / name, images[here], labels[here], synthetic.class_names, first=start)
    save_grid(folder / layout.GRID, images, labels, synthetic.class_names)


def read_files(folder: Path) -> dict[str, Any]:
    """The fields of a `SyntheticSet`: float images, where there are any, in place of the PNGs.

    Raises:
        InputError: a file is damaged or missing; the line names it.
    """
    shards = layout.shards(folder)
    with layout.reading(shards[0]):
        read = read_vectors if holds_vectors(shards[0]) else read_rows
    images, labels, class_names = read(shards)
    with layout.reading(folder / layout.PROVENANCE):
        provenance = read_json(folder / layout.PROVENANCE)
        if not isinstance(provenance, dict):
            raise ValueError(f"it holds a {type(provenance).__name__}, not facts by their names")
    with layout.reading(folder / layout.LATENTS):
        tensors = _latents(folder / layout.LATENTS, images)
    whitening = None
    if (folder / layout.WHITENING).is_file():
        with layout.reading(folder / layout.WHITENING):
            whitening = load_whitening(folder / layout.WHITENING)
    return {
        "whitening": whitening,
        "images": images,
        "labels": labels,
        "class_names": class_names,
        "provenance": provenance,
        **tensors,
    }


def _latents(path: Path, images: Tensor) -> dict[str, Any]:
    """What `SyntheticSet.tensors` gave.

    Raises:
        ValueError: other tensors than those, or not of their form.
    """
    tensors: dict[str, Any] = safetensors.torch.load_file(path)
    if strange := sorted(tensors.keys() - TENSORS):
        raise ValueError(f"it holds {', '.join(strange)}, which no set has")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
    if (floats := tensors.get("images")) is not None and floats.shape != images.shape:
        raise ValueError(f"images of {tuple(floats.shape)} beside PNGs of {tuple(images.shape)}")
    if (lr := tensors.get("learned_lr")) is not None:
        tensors["learned_lr"] = float(lr)
    if (grid := tensors.get("grid")) is not None:
        if grid.is_floating_point():
            raise ValueError(f"grid is a whole number, got {float(grid)}")
        tensors["grid"] = int(grid)
    return tensors


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(dict(content), indent=2) + "\n"
