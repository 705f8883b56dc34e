"""The data set card: README.md with the YAML front matter that the Hub and `datasets` read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData
from torch import Tensor

from latentdc import hub
from latentdc.errors import InputError, counted
from latentdc.images import Images, Kind, kind_of
from latentdc.plain_text import in_markdown, in_one_line
from latentdc.preprocessing import Whitening
from latentdc.published import published, published_yaml
from latentdc.recipe.evaluate import REPO
from latentdc.results.result import from_json
from latentdc.results.tables import to_markdown
from latentdc.synthetic import folder as layout

_TEMPLATE = """\
# {title}

A small stand-in for the training {samples} of **{source}**, made by latentdc to train classifiers
on: {contents}, {per_class} in each of {classes}.{picture}

## How to load it

```python
from datasets import load_dataset

train = load_dataset("NAME", split="train")  # columns `{column}` and `label`
```

```python
from latentdc.synthetic import SyntheticSet

synthetic = SyntheticSet.from_pretrained("NAME")  # with z, c and noise, where the set has them
```
{floats}{training}

## Results

{results}

## How it was made

{provenance}{papers}

{recipe}

## How to repeat it

{repeat}

## Limits and licence

{limits} Scores hold for the students and the protocol they were measured with.
The set inherits the gaps and biases of the {samples} and of the prior it was made from.

The licence of this set is what the front matter of this card states; `unknown` means that nobody
stated one, and latentdc guesses none. The set is derived from the {samples} and the prior: their
licences and terms of use apply too.
"""

_REPEAT = """\
```bash
hf download NAME recipe.yaml --repo-type dataset --local-dir repeat
latentdc distill repeat/recipe.yaml
latentdc verify NAME
```

The second line makes the set again; the last one trains the students again, and says whether the
accuracies above hold. Where the recipe names a folder, add yours, such as `data.source=FOLDER`."""
_FOLDED = """\
<details>
<summary>Recipe</summary>

{fence}yaml
{recipe}
{fence}

</details>"""
# What of `made` in the provenance is said, in this order.
_MADE = {
    "command": "Command",
    "date": "Date",
    "data_hash": "Fingerprint of the training split",
    "latentdc": "latentdc",
    "commit": "Commit",
    "torch": "torch",
    "diffusers": "diffusers",
    "device": "Device",
    "processes": "Processes",
    "precision": "Precision",
}
# Papers on arXiv by what the provenance says: of methods, objectives, and parts of sampling.
PAPERS = {
    "mosaic": "2502.06434",
    "rded": "2312.03526",
    "refine": "2506.22637",
    "dm": "2110.04181",
    "dc": "2006.05929",
    "mtt": "2203.11932",
    "denoise": "2506.22637",
    "mode": "2505.18963",
    "text_mode": "2512.03844",
    "features": "2510.17421",
    "learnability": "2604.00519",
    "semantic": "2605.03877",
    "transport": "2605.03877",
    "anchors": "2407.15138",  # as starts
    "gaussian": "2505.18399",
}
_LATENT_MATCHING = "2403.03881"  # LD3M

_TASKS = {"images": "image-classification", "vectors": "tabular-classification"}
_FEATURE = {"name": "features", "list": "float32"}
_CONTENTS = {
    "images": "{count} images of {size} x {size} pixels",
    "vectors": "{count} feature vectors of {size} values, in the units of that data set",
}
_LIMITS = {
    "images": """\
The images are made for training classifiers, not for looking at, and need not show what their
labels say to a human eye.""",
    "vectors": """\
The vectors are made for training classifiers on features of the same extractor, whose values are
standardised by the mean and standard deviation of the training split.""",
}

_FLOATS = """

The pixels do not fit into 8 bits. The images in the parquet file are rounded and clamped for
viewing; the exact ones, which were scored, are `images` in `latents.safetensors` (float32,
nominally in [-1, 1]). latentdc loads these."""


_WHITENED = """

The set is made for whitened images, and scored with them: normalise training and test images by
mean {mean} and std {std} of images in [0, 1], flatten them (channels, rows, columns), subtract
`mean` and multiply by `matrix`, both in `zca.safetensors`. `synthetic.whitening` does it."""

_LEARNED_LR = """

Learned with the images: a learning rate of {lr:.6g} for students trained by SGD."""

_WEIGHTS = """

The images weigh {least:.3g} to {most:.3g} times their mean (`weights` in `latents.safetensors`);
the loss of image k counts N w_k / sum(w) times."""


Texts = dict[str, str | Mapping[str, object]]  # by file: text, or what is written as JSON


def folder_texts(
    images: Images,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    provenance: Mapping[str, object],
    training: str,
    recipe: str | None,
    results: Mapping[str, object] | None,
) -> Texts:
    """What stands beside the samples in a set's folder; nothing of it tells a path of this machine.

    The parts are those of `SyntheticSet`, with the text of `training_text`, the YAML of the
    resolved recipe, and results as `latentdc.results.result.to_json` gives; other plain values are
    listed.

    Raises:
        InputError: results that are neither.
    """
    provenance = published(provenance)
    recipe = None if recipe is None else published_yaml(recipe)
    results = None if results is None else published(results)
    named = provenance.get("dataset", "an image data set")
    source = in_markdown(named)
    counts = labels.bincount(minlength=len(class_names))
    least, most = int(counts.min()), int(counts.max())
    per_class = f"{least}" if least == most else f"{least} to {most}"
    kind, count = kind_of(images), len(labels)
    papers = _papers(provenance)
    size = f"{per_class} {kind[:-1] if per_class == '1' else kind} per class"
    text = _TEMPLATE.format(
        title=f"{source}, {size}",
        source=source,
        contents=_CONTENTS[kind].format(count=count, size=images.shape[-1]),
        picture="" if kind == "vectors" else "\n\n![Images of the set](grid.png)",
        column="features" if kind == "vectors" else "image",
        samples=kind,
        limits=_LIMITS[kind],
        per_class=per_class,
        classes=counted(len(class_names), "class"),
        provenance=_listed(provenance) or "It was not recorded.",
        papers="".join(f"\n- paper: https://arxiv.org/abs/{paper}" for paper in papers),
        training=training,
        recipe="" if recipe is None else _folded(recipe.strip()),
        repeat=_repeat(provenance, recipe),
        results="Not measured." if results is None else _results(results),
        floats=_FLOATS if kind == "images" and images.is_floating_point() else "",
    )
    tags = ["dataset-distillation", "latentdc"]
    tags += [f"ipc-{least}"] if least == most else []
    tags += [f"arxiv:{paper}" for paper in papers]
    front = DatasetCardData(
        pretty_name=f"{in_one_line(named)}, {size}",
        license=hub.UNKNOWN,
        size_categories=[_size_category(count)],
        source_datasets=[str(named)] if REPO.fullmatch(str(named)) else None,
        tags=tags,
        **_columns(kind, class_names),
    )
    card = str(DatasetCard(f"---\n{front.to_yaml()}\n---\n\n{hub.marked(text)}"))
    texts: Texts = {layout.PROVENANCE: provenance, layout.CARD: card}
    texts |= {} if recipe is None else {layout.RECIPE: recipe}
    return texts | ({} if results is None else {layout.RESULTS: results})


def _columns(kind: Kind, class_names: Sequence[str]) -> dict[str, Any]:
    """Front matter about what the rows are, and where they lie."""
    names = {str(label): name for label, name in enumerate(class_names)}
    rows = {"split": "train", "path": "data/train-*"}
    return {
        "task_categories": [_TASKS[kind]],
        "configs": [{"config_name": "default", "data_files": [rows]}],
        "dataset_info": {
            "features": [
                _FEATURE if kind == "vectors" else {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
            ],
        },
    }


def training_text(
    learned_lr: float | None, whitening: Whitening | None, weights: Tensor | None
) -> str:
    """Text of what students of a set need beside its images."""
    text = ""
    if whitening is not None:
        mean, std = whitening.normalization.mean, whitening.normalization.std
        text += _WHITENED.format(mean=list(mean), std=list(std))
    if learned_lr is not None:
        text += _LEARNED_LR.format(lr=learned_lr)
    if weights is not None:
        shares = weights / weights.double().mean()
        text += _WEIGHTS.format(least=float(shares.min()), most=float(shares.max()))
    return text


def _size_category(count: int) -> str:
    """The Hub's name for a number of rows."""
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for bound, name in bounds.items() if count < bound), "1M<n<10M")


def _results(results: Mapping[str, object]) -> str:
    """The table of results of this version, beside other plain values."""
    try:
        table = to_markdown(from_json(results)) if results.get("results") else ""
    except (LookupError, TypeError, ValueError) as error:
        why = error if isinstance(error, InputError) else repr(error)
        raise InputError(
            f"results are plain values, or what latentdc.results.result.to_json gives: {why}"
        ) from error
    others = {key: value for key, value in results.items() if not table or key != "version"}
    return "\n\n".join(filter(None, [table, _listed(others)])) or "Not measured."


def _listed(values: Mapping[str, object]) -> str:
    """A Markdown list of the plain values of a mapping."""
    return "\n".join(
        f"- {in_markdown(key)}: {_cell(value)}"
        for key, value in values.items()
        if value is None or isinstance(value, str | int | float)
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else in_markdown(value)


def _folded(recipe: str) -> str:
    """YAML to be unfolded, inside a fence that is longer than any run of backticks in it."""
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`+", recipe)), 0)
    return _FOLDED.format(fence=fence, recipe=recipe)


def _repeat(provenance: Mapping[str, object], recipe: str | None) -> str:
    """What it was made of and by, and the commands that do it again."""
    made = provenance.get("made")
    facts = made if isinstance(made, Mapping) else {}
    lines = [f"- {said}: {_cell(facts[key])}" for key, said in _MADE.items() if facts.get(key)]
    if recipe is None:
        return "\n".join([*lines, "", "Its recipe was not recorded."]).strip()
    return "\n".join([*lines, "", _REPEAT]).strip()


def _papers(provenance: Mapping[str, object]) -> list[str]:
    """Papers of what made the set, as far as they are known."""
    settings = provenance.get("settings")
    parts = settings if isinstance(settings, Mapping) else {}
    named = [provenance.get("method"), provenance.get("objective"), parts.get("start")]
    named += [
        name for name, part in parts.items() if isinstance(part, Mapping) and part.get("scale")
    ]
    anchors = parts.get("anchors")
    named += [anchors.get("kind")] if isinstance(anchors, Mapping) else []
    found = [PAPERS[name] for name in named if isinstance(name, str) and name in PAPERS]
    if provenance.get("method") == "matching" and provenance.get("prior") == "diffusion":
        found.insert(0, _LATENT_MATCHING)
    return list(dict.fromkeys(found))
