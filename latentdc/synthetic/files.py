"""The files in the folder of a synthetic set, written and read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch

from latentdc.report import save_grid
from latentdc.synthetic import folder as layout
from latentdc.synthetic.card import dataset_card
from latentdc.synthetic.rows import read_rows, write_rows

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet


def write_files(
    synthetic: "SyntheticSet",
    folder: Path,
    recipe: str | None,
    results: Mapping[str, object] | None,
) -> None:
    """Write all files of a set into an empty folder; see `SyntheticSet.save_pretrained`."""
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

    images, labels = synthetic.levels(), synthetic.labels.cpu()
    (folder / layout.ROWS).parent.mkdir()
    write_rows(folder / layout.ROWS, images, labels, synthetic.class_names)
    save_grid(folder / layout.GRID, images, labels, synthetic.class_names)
    # As bytes: safetensors' own writer does not raise OSError when the disk is full.
    (folder / layout.LATENTS).write_bytes(safetensors.torch.save(synthetic.tensors()))


def read_files(folder: Path) -> dict[str, Any]:
    """The fields of a `SyntheticSet`: float images, where there are any, in place of the PNGs."""
    images, labels, class_names = read_rows(folder / layout.ROWS)
    provenance = json.loads((folder / layout.PROVENANCE).read_text(encoding="utf-8"))
    tensors = safetensors.torch.load_file(folder / layout.LATENTS)
    return {
        "images": images,
        "labels": labels,
        "class_names": class_names,
        "provenance": provenance,
        **tensors,
    }


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(dict(content), indent=2) + "\n"
