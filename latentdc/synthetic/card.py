"""The data set card: README.md with the YAML front matter that the Hub and `datasets` read."""

import re
from collections.abc import Mapping, Sequence

from huggingface_hub import DatasetCard, DatasetCardData
from torch import Tensor

from latentdc.errors import InputError
from latentdc.images import Images, Kind, Whitening, kind_of
from latentdc.plain_text import in_markdown, in_one_line
from latentdc.published import published, published_yaml
from latentdc.results.result import from_json
from latentdc.results.tables import to_markdown
from latentdc.synthetic import folder as layout

TEMPLATE = """\
# {title}

A small stand-in for the training {samples} of **{source}**, made by latentdc to train classifiers
on: {contents}, {per_class} in each of {classes} classes.{picture}

## How it was made

{provenance}

{recipe}

## Results

{results}

## How to load it

```python
from datasets import load_dataset

train = load_dataset("NAME", split="train")  # columns `{column}` and `label`
```

```python
from latentdc.synthetic import SyntheticSet

synthetic = SyntheticSet.from_pretrained("NAME")  # with z, c and noise, where the set has them
```

`NAME` is the Hub id of this data set, or the path of a copy.{floats}{training}

## Limits and licence

{limits} Scores hold for the students and the protocol they were measured with.
The set inherits the gaps and biases of the {samples} and of the prior it was made from. It is
derived from them: their licences and terms of use apply, and no licence is granted beyond them.
"""

TASKS = {"images": "image-classification", "vectors": "tabular-classification"}
FEATURE = {"name": "features", "list": "float32"}
CONTENTS = {
    "images": "{count} images of {size} x {size} pixels",
    "vectors": "{count} feature vectors of {size} values, in the units of that data set",
}
LIMITS = {
    "images": """\
The images are made for training classifiers, not for looking at, and need not show what their
labels say to a human eye.""",
    "vectors": """\
The vectors are made for training classifiers on features of the same extractor, whose values are
standardised by the mean and standard deviation of the training split.""",
}

FLOATS = """

The pixels do not fit into 8 bits. The images in the parquet file are rounded and clamped for
viewing; the exact ones, which were scored, are `images` in `latents.safetensors` (float32,
nominally in [-1, 1]). latentdc loads these."""


WHITENED = """

The set is made for whitened images, and scored with them: normalise training and test images by
mean {mean} and std {std} of images in [0, 1], flatten them (channels, rows, columns), subtract
`mean` and multiply by `matrix`, both in `zca.safetensors`. `synthetic.whitening` does it."""

LEARNED_LR = """

Learned with the images: a learning rate of {lr:.6g} for students trained by SGD."""

WEIGHTS = """

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

    Arguments and errors as of `dataset_card`.
    """
    provenance = published(provenance)
    recipe = None if recipe is None else published_yaml(recipe)
    results = None if results is None else published(results)
    card = dataset_card(
        images,
        labels,
        class_names,
        provenance=provenance,
        training=training,
        recipe=recipe,
        results=results,
    )
    texts: Texts = {layout.PROVENANCE: provenance, layout.CARD: card}
    texts |= {} if recipe is None else {layout.RECIPE: recipe}
    return texts | ({} if results is None else {layout.RESULTS: results})


def dataset_card(
    images: Images,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    provenance: Mapping[str, object],
    training: str = "",
    recipe: str | None = None,
    results: Mapping[str, object] | None = None,
) -> str:
    """The card of a set: front matter and text.

    The parts are those of `SyntheticSet`, with the text of `training_facts`, the YAML of the
    resolved recipe, and results as `latentdc.results.result.to_json` gives; other plain values are
    listed.

    Raises:
        InputError: results that are neither.
    """
    named = provenance.get("dataset", "an image data set")
    source = in_markdown(named)
    counts = labels.bincount(minlength=len(class_names))
    least, most = int(counts.min()), int(counts.max())
    per_class = f"{least}" if least == most else f"{least} to {most}"
    kind, count = kind_of(images), len(labels)
    size = f"{per_class} {kind[:-1] if per_class == '1' else kind} per class"
    text = TEMPLATE.format(
        title=f"{source}, {size}",
        source=source,
        contents=CONTENTS[kind].format(count=count, size=images.shape[-1]),
        picture="" if kind == "vectors" else "\n\n![Images of the set](grid.png)",
        column="features" if kind == "vectors" else "image",
        samples=kind,
        limits=LIMITS[kind],
        per_class=per_class,
        classes=len(class_names),
        provenance=_listed(provenance) or "It was not recorded.",
        training=training,
        recipe="" if recipe is None else _fenced(recipe.strip()),
        results="Not measured." if results is None else _results(results),
        floats=FLOATS if kind == "images" and images.is_floating_point() else "",
    )
    front = _front_matter(f"{in_one_line(named)}, {size}", kind, count, class_names).to_yaml()
    return str(DatasetCard(f"---\n{front}\n---\n\n{text}"))


def _front_matter(
    title: str, kind: Kind, count: int, class_names: Sequence[str]
) -> DatasetCardData:
    names = {str(label): name for label, name in enumerate(class_names)}
    return DatasetCardData(
        pretty_name=title,
        license="unknown",
        task_categories=[TASKS[kind]],
        size_categories=[_size_category(count)],
        tags=["dataset-distillation", "latentdc"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*"}],
            }
        ],
        dataset_info={
            "features": [
                FEATURE if kind == "vectors" else {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
            ],
        },
    )


def training_facts(
    learned_lr: float | None, whitening: Whitening | None, weights: Tensor | None
) -> str:
    """Text of what students of a set need beside its images."""
    text = ""
    if whitening is not None:
        mean, std = whitening.normalization.mean, whitening.normalization.std
        text += WHITENED.format(mean=list(mean), std=list(std))
    if learned_lr is not None:
        text += LEARNED_LR.format(lr=learned_lr)
    if weights is not None:
        shares = weights / weights.double().mean()
        text += WEIGHTS.format(least=float(shares.min()), most=float(shares.max()))
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
    return "\n\n".join(filter(None, [table, _listed(results)])) or "Not measured."


def _listed(values: Mapping[str, object]) -> str:
    """A Markdown list of the plain values of a mapping."""
    plain = {key: value for key, value in values.items() if _is_plain(value)}
    return "\n".join(f"- {in_markdown(key)}: {_cell(value)}" for key, value in plain.items())


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else in_markdown(value)


def _fenced(recipe: str) -> str:
    """A block of YAML, inside a fence that is longer than any run of backticks in it."""
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`+", recipe)), 0)
    return f"{fence}yaml\n{recipe}\n{fence}"
