"""Everything that only a GPU can tell, in one command of at most 9 minutes, in order of worth.

python benchmarks/gpu.py [--out runs/gpu] [--latents FILE]   # measure; again, go on with the rest
python benchmarks/gpu.py --tiny --out FOLDER                 # all of it in small, on a CPU too
python benchmarks/gpu_page.py runs/gpu/gpu.json              # into docs/performance.md

`gpu.json` is written whole after every row, so that a run that is cut loses nothing. Each part has
a time limit of its own; what breaks or does not fit says so, and the next part follows. Weights are
random.
"""

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_parts
import psutil
import torch
from accelerate import Accelerator
from gpu_parts import Rows, Scale, TimeUp

from latentdc.io import read_json, write_json
from latentdc.runtime import this_machine

MINUTES = 9.0
SHARED = 10  # times as long may a part take in small, where others may use the CPU too


@dataclass(frozen=True)
class Part:
    """What is measured together.

    Attributes:
        title: of its table.
        rows: yields them.
        seconds: after which it is stopped.
    """

    title: str
    rows: Callable[[Scale], Rows]
    seconds: float


PARTS = {
    "unet step": Part("A step of LD3M's ImageNet model (cin256)", gpu_parts.unet_step, 75),
    "transformer step": Part("A step of DiT-XL/2", gpu_parts.transformer_step, 85),
    "evaluation": Part("A whole evaluation of ResNet-18", gpu_parts.whole_evaluation, 60),
    "stacked": Part("Seeds of ConvNet-3 trained side by side", gpu_parts.stacked_seeds, 30),
    "scoring": Part("Scoring by losses", gpu_parts.loss_scoring, 35),
    "precision": Part("bf16 against float32", gpu_parts.precisions, 35),
    "resume": Part("A distillation that is continued", gpu_parts.resumed, 35),
    "prior": Part("Training a small prior of colour images", gpu_parts.prior_training, 90),
    "compile": Part("torch.compile", gpu_parts.compiled_step, 90),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of gpu.json")
    parser.add_argument("--tiny", action="store_true", help="small networks, on a CPU too")
    parser.add_argument("--latents", type=Path, help="safetensors with latents and labels")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all parts together")
    options = parser.parse_args()
    if not (torch.cuda.is_available() or options.tiny):
        sys.exit("there is no GPU here; --tiny runs all of it in small on the CPU.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = Scale(device, options.out, tiny=options.tiny, latents=options.latents)
    options.out.mkdir(parents=True, exist_ok=True)
    imports = time.time() - psutil.Process().create_time()
    measure(scale, options.out / "gpu.json", 60 * options.minutes - imports)
    print(f"measured: {options.out / 'gpu.json'}", flush=True)
    os._exit(0)  # else torch's compiler waits up to 5 minutes for its workers, whatever they do


def measure(scale: Scale, path: Path, seconds: float) -> dict[str, Any]:
    """Every part that `path` lacks or that was not finished there, while the seconds last."""
    end = time.monotonic() + seconds
    facts = {
        "machine": this_machine(Accelerator(cpu=scale.device.type == "cpu")),
        "tiny": scale.tiny,
    }
    found: dict[str, Any] = {**facts, "parts": {}}
    for name, part in PARTS.items():
        found["parts"][name] = {"title": part.title, "rows": [], "ended": "not begun", "s": 0.0}
    if path.is_file() and all(dict(read_json(path)).get(k) == v for k, v in facts.items()):
        found = dict(read_json(path))
    write_json(path, found)
    for name, part in PARTS.items():
        limit = min(part.seconds * (SHARED if scale.tiny else 1), end - time.monotonic())
        result, rows = found["parts"][name], []
        if result["ended"] == "whole" or limit < 1:
            continue
        result["ended"] = "cut"
        began = time.monotonic()
        try:
            with time_limit(limit):
                for row in part.rows(scale):
                    print(f"{name}: {row}", flush=True)
                    rows.append(row)
                    if len(rows) >= len(result["rows"]):  # a shorter run than before takes none
                        result["rows"] = rows
                    write_json(path, found)
            result |= {"rows": rows, "ended": "whole"}
        except TimeUp:
            result["ended"] = f"stopped after {limit:.0f} s"
        except Exception as error:  # whatever one part meets, the others are measured
            result["ended"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        result["s"] = round(time.monotonic() - began, 1)
        print(f"{name}: {result['ended']}, {result['s']} s", flush=True)
        write_json(path, found)
        gc.collect()
        if scale.device.type == "cuda":
            torch.cuda.empty_cache()
    return found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the block after so many seconds."""

    def stop(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
