"""What Accelerate's launcher and config ask for, and which of it no work here would take up.

Settings reach this process as variables; some options of `accelerate launch` stand in its command
line alone.
"""

import os
import re

import psutil
import torch
from accelerate.utils import is_torch_xla_available

from latentdc.errors import InputError, in_short

SHARDING = {  # by what Accelerate calls it, the variable in which it is set
    "FSDP": "ACCELERATE_USE_FSDP",
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
    "a parallelism config": "ACCELERATE_USE_PARALLELISM_CONFIG",
}


def refuse_ignored() -> None:
    """Refuse what Accelerate's config asks for and no work here would take up."""
    config = "Accelerate's config or launcher asks for"
    for name, variable in SHARDING.items():
        if os.environ.get(variable, "false").lower() in ("true", "1", "yes"):
            raise InputError(
                f"{config} {name}, which divides one model; latentdc divides classes and trainings "
                "among whole copies. Launch with --multi_gpu (a config of distributed_type "
                "MULTI_GPU), and spare memory with prior.memory=low."
            )
    if os.environ.get("ACCELERATE_USE_SAGEMAKER", "false").lower() == "true":
        kind = os.environ.get("ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE")
        if kind != "NO":  # as Accelerate reads it: unset is data parallel, too
            raise InputError(
                f"{config} SageMaker's own library (ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE={kind}), "
                "which trains what Accelerate prepares, and latentdc prepares nothing so; take a "
                "distributed_type of NO there, and torchrun for several processes."
            )
    if is_torch_xla_available():
        raise InputError(
            "torch_xla is installed, so that Accelerate would compute on a TPU or another device "
            "of XLA, which latentdc does not know; set USE_TORCH_XLA=0, or uninstall it."
        )
    given = str(asked_for("gradient_accumulation_steps"))  # which only DeepSpeed's are told
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", given)
    if steps != "1":
        raise InputError(
            f"{config} gradient_accumulation_steps={steps}, and latentdc takes the batches that "
            "recipes and protocols name; leave it at 1, and spare memory with prior.chunk and "
            "distill.classes_per_step."
        )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() not in ("", "no"):
        raise InputError(
            f"{config} dynamo_backend={backend}, which compiles what Accelerate prepares, and "
            "latentdc prepares nothing so; leave it at no, and compile priors with "
            "prior.compile=true."
        )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision.lower() == "fp8":
        raise InputError(
            f"{config} mixed_precision=fp8, in which only what Accelerate prepares computes, and "
            "latentdc prepares nothing so; take bf16."
        )
    if precision not in ("no", "bf16", "fp16"):  # which Accelerate names, and computes as `no`
        raise InputError(
            f"{config} mixed_precision={precision} (ACCELERATE_MIXED_PRECISION), and there are no, "
            "bf16 and fp16; take one of these."
        )
    device = os.environ.get("ACCELERATE_TORCH_DEVICE")
    try:
        if torch.empty(1, device=device).is_meta:
            raise ValueError("its tensors hold no numbers")
    except Exception as error:  # each device has its own: AssertionError, ModuleNotFoundError
        raise InputError(
            f"ACCELERATE_TORCH_DEVICE={device} is no device here ({in_short(error)}); unset it."
        ) from error


def asked_for(option: str) -> int:
    """The N of `accelerate launch --num_processes N`, our parent, or of the like; 1 without."""
    try:
        line = " ".join(psutil.Process(os.getppid()).cmdline())
    except psutil.Error:
        return 1
    asked = re.search(f"--{option.replace('_', '[-_]')}[= ](\\d+)", line)
    return int(asked[1]) if asked and "accelerate" in line else 1
