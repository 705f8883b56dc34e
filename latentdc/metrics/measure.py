"""Measure one set beside as many random real images: the work of `python -m latentdc.metrics`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdc import io, modes, plain_text, ranks
from latentdc.data.dataset import Dataset, random_images
from latentdc.errors import InputError
from latentdc.evaluate import class_numbers, label_store, loading, teachers
from latentdc.evaluate.evaluate import check_sets
from latentdc.evaluate.setting import open_setting, require_comparable
from latentdc.images import fetch
from latentdc.metrics import diversity
from latentdc.metrics.kid import kernel_distance
from latentdc.metrics.redundancy import increments, redundancy
from latentdc.priors.base import Prior
from latentdc.priors.load import load_prior, prior_networks
from latentdc.prune.scorers import AT_ONCE, Classifier
from latentdc.recipe import Data, PriorSettings
from latentdc.recipe.labels import Teacher
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.open import SetSource, open_set, row_names
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash

NAME = "metrics.json"
_VERSION = 1
_LISTED = 20  # classes that are printed one by one
Facts = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What to measure beside storage."""

    network: Teacher | None = None  # for entropy and diversity
    lpips: bool = False  # diversity by LPIPS
    kid: bool = False  # distance to the real training images
    redundancy: int | None = None  # images of each class in an increment of the sets
    protocol: EvalProtocol | None = None  # of their students, with hard labels


@modes.precision_put_back()
def measure_saved(
    source: SetSource,
    data: Data,
    wanted: Wanted,
    output: Path,
    *,
    prior: PriorSettings,
    launch: Mapping[str, Any],
) -> Facts:
    """Measure a set and as many random images of its data.

    Args:
        source: where the set lies.
        data: that it stands for.
        wanted: what is measured beside storage.
        output: folder of `metrics.json`.
        prior: that decodes the set's latents, where it has any.
        launch: as `runtime.start` takes it.

    Returns:
        The content of `metrics.json`, which is written into the folder `output`.
    """
    setting, train = open_setting(data, launch, output)
    labelled, numbering = open_set(source, train, data)
    (name,) = row_names([source])
    require_comparable(labelled, setting.test, name)
    counts = labelled.counts
    ipc = -(-sum(counts) // len(counts))
    random = SyntheticSet.from_real(random_images(train, counts, 0))
    sets = {name: labelled, "random": random}
    content: Facts = {"version": _VERSION, "ipc": ipc, "classes": train.num_classes}
    decoder = _decoder_bytes(labelled, prior, train)
    network = None
    if wanted.redundancy is not None and wanted.protocol is not None:  # before anything is trained
        part = replace(increments(labelled, wanted.redundancy)[0], soft_labels=None)
        check_sets({"increment": part}, wanted.protocol, setting)
    if wanted.network is not None:
        quick = loading.load_protocol("quick")
        network = teachers.open_teacher(wanted.network, quick, setting, key="--network")
        accuracy = teachers.known_accuracy(network, setting, wanted.network.network)
        known = f"the network {wanted.network.network}", network
        class_numbers.check_numbers({name: (labelled, numbering)}, setting, lambda: known)
        content["network"] = {**asdict(wanted.network), "real_accuracy": accuracy}
    content["sets"] = {
        key: measure_set(one, train, network, wanted, setting.accelerator.device)
        for key, one in sets.items()
    }
    if wanted.redundancy is not None and (protocol := wanted.protocol) is not None:
        for key, one in sets.items():
            found = redundancy(one, wanted.redundancy, protocol, setting)
            content["sets"][key]["redundancy"] = found
        content["redundancy"] = {"student": protocol.students[0], "protocol": protocol.name}
    if decoder is not None:
        content["sets"][name]["storage"]["decoder/float32"] = decoder
    if setting.accelerator.is_main_process:
        try:
            io.write_json(output / NAME, content)
        except PermissionError as error:
            raise InputError(
                f"cannot write {output / NAME}; name a folder: --output FOLDER."
            ) from error
    return content


def measure_set(
    labelled: SyntheticSet,
    train: Dataset,
    network: Classifier | None,
    wanted: Wanted,
    device: torch.device,
) -> Facts:
    """Everything that is wanted of one set, in JSON's types; None where a class has no pair."""
    facts: Facts = {"images": len(labelled.labels), "hash": set_hash(labelled)}
    facts["storage"] = _storage(labelled)
    if network is not None:
        facts |= seen_by(network, labelled, device)
    if wanted.lpips:
        images = _enlarged(fetch(labelled.images, torch.arange(len(labelled.labels)), device))
        found = diversity.lpips_diversity(images, labelled.labels, diversity.lpips_distance(device))
        facts["lpips_diversity"] = _averages(found)
    if wanted.kid:
        mean, std = kernel_distance(labelled.images, train.images, device=device)
        facts["kid"] = {"mean": mean, "std": std}
    return facts


@torch.no_grad()
def seen_by(network: Classifier, labelled: SyntheticSet, device: torch.device) -> Facts:
    """What a network that knows the real images makes of a set: entropy, agreement, diversity."""
    network.eval()
    parts = [
        network.embed(fetch(labelled.images, rows, device))
        for rows in torch.arange(len(labelled.labels)).split(AT_ONCE)
    ]
    logits = torch.cat([part[0] for part in parts]).float().cpu()
    features = torch.cat([part[1] for part in parts]).float().cpu()
    found = diversity.feature_diversity(features, labelled.labels)
    return {
        "entropy": float(diversity.prediction_entropy(logits).mean()),
        "agreement": diversity.agreement(logits, labelled.labels),
        "feature_diversity": _averages(found),
        "class_diversity": {
            labelled.class_names[label]: mean
            for label, mean in ({} if found is None else found.by_class).items()
        },
    }


def _averages(found: diversity.Diversity | None) -> dict[str, float] | None:
    return None if found is None else {"mean": found.mean, "closest": found.closest}


def _decoder_bytes(labelled: SyntheticSet, prior: PriorSettings, train: Dataset) -> int | None:
    """Bytes of the weights that decode a set's latents; None without latents or weights."""
    if labelled.z is None:
        return None
    try:
        return decoder_bytes(
            load_prior(
                prior,
                resolution=train.resolution,
                class_names=train.class_names,
                device="meta",
            )
        )
    except InputError as error:
        ranks.say("note", f"the decoder's bytes are left out: {error}")
        return None


def decoder_bytes(prior: Prior) -> int:
    """Bytes in float32 of the weights that turn latents into images.

    The encoder is left out: only a distillation needs it.
    """
    return 4 * sum(
        weight.numel()
        for part, network in prior_networks(prior).items()
        for name, weight in network.named_parameters()
        if part != "autoencoder" or not name.startswith(("encoder.", "quant_conv."))
    )


def _storage(labelled: SyntheticSet) -> dict[str, int]:
    """Bytes of images, labels and latents, and those that an epoch of soft labels would add."""
    count, one = len(labelled.labels), torch.zeros(1, len(labelled.class_names))
    coded = {
        "float16": label_store.encode(one, "float16", None),
        "uint8": label_store.encode(one, "uint8", None),
        "top10 float16": label_store.encode(one, "float16", 10),
    }
    return labelled.storage() | {
        f"soft labels per epoch/{name}": count * sum(tensor.nbytes for tensor in tensors.values())
        for name, tensors in coded.items()
    }


def _enlarged(images: Tensor) -> Tensor:
    """At least 64 px wide, which LPIPS's AlexNet needs."""
    side = images.shape[-1]
    if side >= 64:
        return images
    return torch.nn.functional.interpolate(images, scale_factor=-(-64 // side), mode="nearest")


def to_text(content: Mapping[str, Any]) -> str:
    """A line per measure, a column per set."""
    sets = content["sets"]
    columns = {name: _flat(facts) for name, facts in sets.items()}
    keys = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    table = [["", *columns]]
    table += [[key, *(_shown(facts.get(key)) for facts in columns.values())] for key in keys]
    return "\n".join([*_captions(content), "", plain_text.aligned_table(table)])


def _captions(content: Mapping[str, Any]) -> list[str]:
    lines = [f"{content['classes']} classes, ipc {content['ipc']}; storage in bytes."]
    if (network := content.get("network")) is not None:
        lines.append(
            f"Entropy (nats), agreement with the labels and feature distances under "
            f"{network['network']}, right on {100 * network['real_accuracy']:.1f} % of real test "
            "images."
        )
    if (told := content.get("redundancy")) is not None:
        lines.append(
            f"Redundancy: accuracy of a {told['student']} (protocol {told['protocol']}) trained on "
            "one increment, on the others."
        )
        for name, facts in content["sets"].items():
            rows = [
                " ".join(f"{100 * a:5.1f}" for a in row) for row in facts["redundancy"]["matrix"]
            ]
            lines += [f"  {name}, trained on {k}: {row}" for k, row in enumerate(rows, start=1)]
    return lines


def _flat(facts: Mapping[str, Any]) -> dict[str, object]:
    """Nested measures as `name mean`; storage by its `part/codec`; no long lists of classes."""
    flat: dict[str, object] = {}
    for key, value in facts.items():
        if key == "hash" or (key == "class_diversity" and len(value) > _LISTED):
            continue
        if key == "redundancy":
            flat[f"redundancy of {value['each']} per class"] = value["mean"]
        elif isinstance(value, Mapping):
            prefix = "" if key == "storage" else f"{key} "
            flat |= {f"{prefix}{name}": number for name, number in value.items()}
        else:
            flat[key] = value
    return flat


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
