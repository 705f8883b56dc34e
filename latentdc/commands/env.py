"""What a report of a fault needs to know of the machine: `latentdc env`."""

import os
import platform
import sys
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version

from latentdc import __version__, cli

_PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "accelerate", "datasets"),
    *("huggingface_hub", "safetensors", "einops", "numpy", "pandas", "pyarrow", "scikit-learn"),
)
_VARIABLES = ("LATENTDC_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


def arguments(parser: cli.Parser) -> None:
    """None."""
    parser.description = "Versions and devices, for a report."


def run(options: Namespace) -> None:
    """Print versions, processor, devices and the variables that matter, one a line."""
    print("\n".join(f"{name}: {value}" for name, value in _facts().items()))


def _facts() -> dict[str, str]:
    """Names and values of what `latentdc env` prints; no path of a user but those of variables."""
    import torch  # takes a second, and wrong arguments are refused before

    from latentdc.runtime import device_name

    found = {"latentdc": __version__, "python": sys.version.split()[0]}
    found["system"] = platform.platform()
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["processor"] = device_name(torch.device("cpu"))
    found["cores"] = f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch"
    found["vectors"] = torch.backends.cpu.get_cpu_capability()
    found["CUDA"] = torch.version.cuda or "none"
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        found[f"GPU {index}"] = f"{device_name(torch.device('cuda', index))}, {memory:.0f} GiB"
    if not torch.cuda.is_available():
        found["GPU"] = "none that torch can use"
    return found | {name: os.environ.get(name, "not set") for name in _VARIABLES}
