"""Settling, once per run, how the prior trades memory for work."""

from pathlib import Path

from accelerate import Accelerator

from latentdc import launch
from latentdc.io import read_json
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import Plan, choose_plan, describe_plan, free_bytes


def settle_memory(
    prior: Prior, images: int, saved: Path | None, accelerator: Accelerator
) -> dict[str, object]:
    """Give a prior whose memory is `auto` its plan, the same on all processes.

    A run that is continued by as many processes keeps the plan that it began with, so that it
    rounds as before.

    Args:
        prior: to be settled.
        images: that a process decodes together, at most.
        saved: checkpoint to go on from.
        accelerator: names the processes; the main one measures and prints.

    Returns:
        `memory` and `chunk`, facts for the next checkpoints; nothing for pixels.
    """
    if not isinstance(prior, AutoencoderPrior | DiffusionPrior):
        return {}
    if prior.plan is None:
        prior.plan = _recorded(saved, accelerator.num_processes)
    if prior.plan is None:
        measured = _measured(prior, images) if accelerator.is_main_process else None
        agreed = launch.agree(accelerator, measured)
        assert isinstance(agreed, Plan)
        prior.plan = agreed
    return {"memory": prior.plan.memory, "chunk": prior.plan.chunk}


def _recorded(saved: Path | None, processes: int) -> Plan | None:
    facts = {} if saved is None else read_json(saved / "state.json")
    if "memory" not in facts or facts.get("processes") != processes:
        return None
    return Plan(facts["memory"], facts["chunk"])


def _measured(prior: AutoencoderPrior | DiffusionPrior, images: int) -> Plan:
    needs, free = prior.needs(), free_bytes(prior.device)
    plan = choose_plan(needs, images, free)
    print(describe_plan(plan, needs, images, free))
    return plan
