"""Refusals of a protocol: what its settings say wrongly, each or together. Imports no torch."""

from dataclasses import fields
from typing import TYPE_CHECKING

from latentdc.errors import InputError
from latentdc.recipe.augment import check_augment

if TYPE_CHECKING:
    from latentdc.evaluate.protocol import EvalProtocol


def check_protocol(protocol: "EvalProtocol") -> None:
    """Refuse settings out of range, or that contradict each other.

    Raises:
        InputError: names protocol and setting.
    """
    _check_budget(protocol)
    _check_numbers(protocol)
    _check_combinations(protocol)
    check_augment(protocol.augment, f"protocol {protocol.name}: augment")


def check_for_vectors(protocol: "EvalProtocol") -> None:
    """Refuse what is about images, where students are trained on feature vectors.

    Raises:
        InputError: names protocol and setting.
    """
    about_images = {
        "augment": protocol.augment is not None,
        "views": protocol.views.change,
        "test_crop": protocol.test_crop != 1,
        "labels.source": protocol.labels.source != "hard",
    }
    for key, found in about_images.items():
        _require(
            protocol,
            not found,
            f"its {key} is about images, and the data set has vectors; take the protocol vectors, "
            "or one of your own without it.",
        )


def _check_budget(protocol: "EvalProtocol") -> None:
    given = (protocol.steps is not None, protocol.epochs is not None, bool(protocol.epochs_of_ipc))
    if sum(given) != 1:
        raise InputError(
            f"protocol {protocol.name} has steps {protocol.steps} and epochs {protocol.epochs}; "
            "its budget is one of them, or epochs_of_ipc; the others are null."
        )
    for key in ("seeds", "steps", "epochs", "batch", "update_every"):
        value = getattr(protocol, key)
        _require(protocol, value is None or value >= 1, f"{key} is at least 1, got {value}.")
    for key in ("epochs_of_ipc", "batch_of_ipc"):
        table = getattr(protocol, key)
        _require(
            protocol,
            all(ipc >= 1 and value >= 1 for ipc, value in table.items()),
            f"{key} maps images per class to whole numbers of at least 1, got {table}.",
        )


def _check_numbers(protocol: "EvalProtocol") -> None:
    for key, rate in {
        "lr": protocol.lr,
        "zeta": protocol.zeta,
        "gamma": protocol.gamma,
        **{f"lr_of.{k}": v for k, v in protocol.lr_of.items()},
    }.items():
        _require(protocol, rate > 0, f"{key} is positive, got {rate}.")
    _require(
        protocol,
        protocol.weight_decay >= 0,
        f"weight_decay is at least 0, got {protocol.weight_decay}.",
    )
    for key in ("momentum", "ema", "end", "warmup", "warmup_from"):
        share = getattr(protocol, key)
        _require(protocol, share is None or 0 <= share < 1, f"{key} is in [0, 1), got {share}.")
    _require(
        protocol, 0 < protocol.test_crop <= 1, f"test_crop is in (0, 1], got {protocol.test_crop}."
    )
    _require(protocol, protocol.zeta >= 1, f"zeta is at least 1, got {protocol.zeta}.")
    _require(
        protocol,
        protocol.milestones == sorted(protocol.milestones)
        and all(0 < m < 1 for m in protocol.milestones),
        f"milestones are rising shares in (0, 1), got {protocol.milestones}.",
    )


def _check_combinations(protocol: "EvalProtocol") -> None:
    _require(
        protocol,
        (protocol.schedule == "multistep") == bool(protocol.milestones),
        f"schedule multistep and milestones come together, got {protocol.schedule} and "
        f"{protocol.milestones}.",
    )
    _require(
        protocol,
        not protocol.nesterov or protocol.momentum > 0 or protocol.optimizer != "sgd",
        "nesterov looks ahead along the momentum, which is 0; set nesterov=false.",
    )
    _require(
        protocol,
        protocol.augment is None or protocol.labels.source not in ("online", "stored"),
        "augment (DSA) acts on normalised images, which teachers do not see; use views, or "
        "labels.source=fixed.",
    )
    _check_infobatch(protocol)
    known = {f.name for f in fields(protocol)}
    wrong = [key for key in protocol.unsettled if key.partition(".")[0] not in known]
    _require(protocol, not wrong, f"unsettled names settings; {wrong} are none.")


def _check_infobatch(protocol: "EvalProtocol") -> None:
    rho = protocol.infobatch
    if rho is None:
        return
    _require(protocol, 0 < rho < 1, f"infobatch is a probability in (0, 1), got {rho}; or null.")
    reasons = {
        "labels.source": (
            protocol.labels.source != "hard",
            "soft labels say how far the teachers are, not whether an image is learned; take hard",
        ),
        "views.mix": (
            protocol.views.mix is not None,
            "a mixed image has the loss of two; take null",
        ),
        "ema": (
            protocol.ema is not None,
            "averages count steps, of which epochs then have fewer and fewer; take null",
        ),
    }
    for key, (given, reason) in reasons.items():
        _require(
            protocol, not given, f"infobatch judges each image by its own loss; {key}: {reason}."
        )


def _require(protocol: "EvalProtocol", condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"protocol {protocol.name}: {message}")
