"""What teachers say of the views of a set."""

import torch
from torch import Tensor, nn

from latentdc.augment.views import Draws, draw_views, view
from latentdc.evaluate.sets import views_for
from latentdc.evaluate.soft import STORE_SEED
from latentdc.images import place
from latentdc.recipe.labels import Views
from latentdc.synthetic.synthetic_set import SyntheticSet

BATCH = 256  # images that teachers label at once


def view_logits(
    teachers: nn.Module,
    labelled: SyntheticSet,
    views: Views,
    epoch: int | None,
    *,
    device: torch.device,
    rows: Tensor | None = None,
) -> Tensor:
    """Logits (N, C) of the views of an epoch of stored labels, on the CPU.

    Args:
        teachers: on the device.
        labelled: the set.
        views: the protocol's.
        epoch: None takes the images as they are.
        device: where the views are made.
        rows: (N,) of the images wanted; None means all.
    """
    images, draws = labelled.images, Draws()
    count, size = len(images), images.shape[-1]
    if epoch is not None:
        own = views_for(views, labelled)
        draws = draw_views(own, count=count, size=size, seed=STORE_SEED, epoch=epoch)
    placed = place(images, device)
    wanted = torch.arange(count) if rows is None else rows
    return torch.cat(
        [teachers(view(placed, some, draws, device)).cpu() for some in wanted.split(BATCH)]
    )
