"""Names of the classes of a converted model; imports no torch."""

from pathlib import Path

from latentdc.errors import InputError
from latentdc.priors.compvis.model import Classes
from latentdc.recipe.subsets import wordnet_ids

IMAGENET = 1000


def class_names(classes: Classes, file: Path | None) -> tuple[str, ...]:
    """A name for each row of the embedding but the last, which stands for no class.

    Args:
        classes: of the YAML.
        file: one name per line. Without it, 1000 classes are ImageNet's, by WordNet id, and others
            are `class_0`, `class_1`, ..., which match no data set by accident.

    Raises:
        InputError: another number of names, or an embedding without a row for no class.
    """
    count = classes.n_classes - 1
    if file is not None:
        return _read(file, count)
    if classes.n_classes == IMAGENET:
        raise InputError(
            f"cond_stage_config has n_classes={IMAGENET}, which is ImageNet without a row for no "
            "class; guidance needs one. If the last row is that, name the others with --classes."
        )
    return wordnet_ids() if count == IMAGENET else tuple(f"class_{i}" for i in range(count))


def _read(file: Path, count: int) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    if len(names) != count or len(set(names)) != count or "" in names:
        raise InputError(
            f"{file} has {len(names)} lines, {len(set(names) - {''})} different names; the "
            f"embedding has {count} classes and a row for no class: give {count} names, one a line."
        )
    return names
