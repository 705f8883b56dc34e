"""Images live decoded on the device where they fit; what must be sent never makes the host wait."""

import torch
from torch import Tensor

from latentdc.data.mapped import Images, MappedImages
from latentdc.samples import as_floats

_CACHED = 200_000  # values of a thread's part of a batch: 65 images of 32 px


def place(images: Images, device: torch.device) -> Images:
    """The images on the device, or where they are if they would fill half of its free memory."""
    if device.type == "cuda" and images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free // 2:
            return images
    if isinstance(images, Tensor):
        return images.to(device)
    return images if device.type == "cpu" else _copied(images, device)


def _copied(images: MappedImages, device: torch.device, block: int = 1024) -> Tensor:
    """All images on the device, read a block at a time."""
    copy = torch.empty(images.shape, dtype=images.dtype, device=device)
    for start in range(0, len(images), block):
        copy[start : start + block] = images[slice(start, start + block)].to(device)
    return copy


def forward_batch(images: Images, most: int, device: torch.device) -> int:
    """Images in a forward pass without gradients: `most`, or on a CPU as many as its caches hold.

    There the activations of larger batches go through memory: 512 images of 32 px take twice as
    long each as 32 do. It follows from sizes and threads, never from a clock, so that the same
    numbers come out each time.
    """
    if device.type != "cpu":
        return most
    return min(most, max(8, torch.get_num_threads() * _CACHED // images.shape[1:].numel()))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, from pinned memory so that the host does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def fetch(images: Images, rows: Tensor, device: torch.device) -> Tensor:
    """(B, 3, H, W) floats in [-1, 1] on the device: `rows` (B,), on the CPU, of placed images.

    Of vectors (B, D) float32, as they are.
    """
    return as_floats(send(images[send(rows, images.device)], device))
