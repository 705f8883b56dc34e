"""Images live decoded on the device where they fit; what must be sent never makes the host wait."""

import torch
from torch import Tensor

from latentdc.images import from_uint8


def place(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device, or where they are if they would fill half of its free memory."""
    if device.type == "cuda" and images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if images.numel() * images.element_size() > free // 2:
            return images
    return images.to(device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, from pinned memory so that the host does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def fetch(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """(B, 3, H, W) floats in [-1, 1] on the device: `rows` (B,), on the CPU, of placed images."""
    picked = send(images[send(rows, images.device)], device)
    return picked if picked.is_floating_point() else from_uint8(picked)
