"""The schedule of the released LD3M code, written plainly: what latentdc is measured against.

One step of the generator's part there (github.com/Brian-Moser/prune_and_distill):

1. decode without gradients, in chunks of 10 images;
2. decode every chunk again with a checkpoint around each UNet call and another one inside it around
   each transformer block, and send the gradient back.

In float32, with attention as matrix products, the skip's codes looked up in every step and schedule
coefficients sent as tensors in every step. Unlike there, both passes see the same noise: otherwise
no gradients could be compared.
"""

import warnings

import torch
from diffusers import VQModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from models import Networks
from torch.utils.checkpoint import checkpoint

CHUNK, NAME = 10, "released"
warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")


class Released:
    """LD3M's `x0` form with guidance."""

    def __init__(self, networks: Networks, *, steps: int, guidance: float = 3.0) -> None:
        self.unet, self.autoencoder = networks.unet, networks.autoencoder
        self.unet.set_attn_processor(AttnProcessor())
        for block in self.unet.modules():
            if isinstance(block, BasicTransformerBlock):
                block.forward = _nested(block.forward)
        device = self.unet.device
        null = len(networks.embedding.config["class_names"])
        self.null = networks.embedding(torch.tensor([null], device=device))
        self.cumulated = networks.scheduler.alphas_cumprod.to(device)
        self.steps, self.guidance = steps, guidance
        self.scale = float(self.autoencoder.config.get("scaling_factor") or 1)
        self.shift = float(self.autoencoder.config.get("shift_factor") or 0)

    def step(self, z, c, noise, gradient) -> None:
        """Both passes over all images."""
        with torch.no_grad():
            for part in zip(z.split(CHUNK), c.split(CHUNK), noise.split(CHUNK), strict=True):
                self.decode(*part)
        for part in zip(*(t.split(CHUNK) for t in (z, c, noise, gradient)), strict=True):
            self.decode(*part[:3]).backward(part[3])

    def decode(self, z, c, noise):
        return self.image(self.latents(z, c, noise))

    def latents(self, z, c, noise):
        stride, last = 1000 // self.steps, self.steps - 1
        tau = [1 + index * stride for index in range(self.steps)]
        x = self.full(z, self.cumulated[tau[-1]]).sqrt() * z
        x = x + (1 - self.full(z, self.cumulated[tau[-1]])).sqrt() * noise
        for index in reversed(range(self.steps)):
            here = self.full(z, self.cumulated[tau[index]])
            before = self.full(z, self.cumulated[tau[index - 1] if index else 0])
            e = self.predict(x, torch.full((len(z),), tau[index], device=z.device), c)
            x0 = (x - (1 - here).sqrt() * e) / here.sqrt()
            x0 = (1 - index / last) * x0 + index / last * self.quantise(z)
            x = before.sqrt() * x0 + (1 - before).sqrt() * e
        return x

    def predict(self, x, times, c):
        both = torch.cat([self.null.expand_as(c), c])
        made = checkpoint(self.call, torch.cat([x, x]), times.repeat(2), both, use_reentrant=True)
        without, under = made.chunk(2)
        return without + self.guidance * (under - without)

    def call(self, x, times, c):
        return self.unet(x, times, encoder_hidden_states=c).sample

    def quantise(self, z):
        if not isinstance(self.autoencoder, VQModel):
            return z
        raw = self.autoencoder.quantize(z / self.scale + self.shift)[0]
        return (raw - self.shift) * self.scale

    def image(self, x):
        return self.autoencoder.decode(x / self.scale + self.shift).sample.clamp(-1, 1)

    @staticmethod
    def full(z, value):
        return torch.full((len(z), 1, 1, 1), float(value), device=z.device)


def _nested(forward):
    def again(hidden_states, encoder_hidden_states=None, **unused):
        def run(hidden, states):
            return forward(hidden, encoder_hidden_states=states)

        return checkpoint(run, hidden_states, encoder_hidden_states, use_reentrant=True)

    return again
