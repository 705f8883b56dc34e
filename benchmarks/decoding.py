"""One step of the diffusion prior (decode and backward): both memory modes beside a plain schedule.

The plain schedule is that of the released LD3M code: decode without gradients, then decode every
chunk again with each denoiser call checkpointed, so that the denoiser runs forward three times.

python benchmarks/decoding.py [PRIOR] [RESOLUTION] [IMAGES]
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint

from latentdc import draws
from latentdc.machine import device_name
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.loading import load_prior

STEPS, REPEATS, CHUNK = 10, 3, 10


def plain_step(prior: DiffusionPrior, z, c, noise, gradient) -> None:
    """The released schedule with the same noise in both passes."""
    with torch.no_grad():
        for part in zip(z.split(CHUNK), c.split(CHUNK), noise.split(CHUNK), strict=True):
            prior.decode(*part)
    denoiser = prior.denoiser
    prior.denoiser = _Checkpointed(denoiser)
    for part in zip(*(t.split(CHUNK) for t in (z, c, noise, gradient)), strict=True):
        prior.decode(*part[:3]).backward(part[3])
    prior.denoiser = denoiser


class _Checkpointed:
    def __init__(self, denoiser):
        self.denoiser, self.null = denoiser, denoiser.null

    def __call__(self, x, timestep, c):
        return checkpoint(self.denoiser, x, timestep, c, use_reentrant=False)


def our_step(prior: DiffusionPrior, z, c, noise, gradient) -> None:
    prior.decode(z, c, noise).backward(gradient)


def measure(mode: str, weights: str, resolution: int, images: int) -> None:
    """Print seconds per step, peak memory in GB and the sum of the gradients."""
    memory = "fast" if mode == "plain" else mode
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prior = load_prior(
        "diffusion", weights, resolution=resolution, steps=STEPS, memory=memory, chunk=CHUNK,
        device=device,
    )  # fmt: skip
    source = draws.generator(0)
    z = torch.randn(images, *prior.latent_shape, generator=source).to(device).requires_grad_()
    noise = torch.randn(z.shape, generator=source).to(device)
    gradient = torch.randn(images, 3, resolution, resolution, generator=source).to(device)
    c = prior.condition(torch.zeros(images, dtype=torch.long, device=device)).requires_grad_()
    step = plain_step if mode == "plain" else our_step
    times = []
    for _ in range(REPEATS):
        z.grad = c.grad = None
        began = time.perf_counter()
        step(prior, z, c, noise, gradient)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
    norm = float(z.grad.norm())
    print(f"{mode:<6} {min(times):8.2f} s/step {peak:6.2f} GB peak, |dz| = {norm:.6g}", flush=True)


def main() -> None:
    weights, resolution, images = (*sys.argv[1:], *["digits", "16", "20"][len(sys.argv) - 1 :])[:3]
    name = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    print(f"{name}, {torch.get_num_threads()} threads; {weights}, {images} images, {STEPS} steps")
    for mode in ("plain", "low", "fast"):
        arguments = f"{mode!r}, {weights!r}, {resolution}, {images}"
        work = f"from decoding import measure; measure({arguments})"
        subprocess.run([sys.executable, "-c", work], check=True, cwd=Path(__file__).parent)


if __name__ == "__main__":
    main()
