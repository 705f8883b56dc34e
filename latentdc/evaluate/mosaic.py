"""Mosaics: images that show several pictures in a grid, and which views look at one of them alone.

A crop inside one cell is the third step of PCA (https://arxiv.org/abs/2502.06434). It is defined by
the grid of a mosaic, so that sets that know their grid are seen by no other, and single images,
which have no cells, are cropped as a whole.
"""

from dataclasses import replace

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.labelled import LabelledImages
from latentdc.recipe.labels import Views
from latentdc.recipe.protocol import EvalProtocol


def grid_of(labelled: LabelledImages) -> int | None:
    """Pictures along each side of a set's images: 1 for real images, None where it is not known."""
    if isinstance(labelled, Dataset):
        return 1
    return labelled.grid


def views_for(views: Views, labelled: LabelledImages) -> Views:
    """The views of a set under a protocol: single images have no cells."""
    return replace(views, cells=None) if grid_of(labelled) == 1 else views


def protocol_for(protocol: EvalProtocol, labelled: LabelledImages) -> EvalProtocol:
    """The protocol as a set meets it; its hash is that of what is trained."""
    if protocol.views.cells is None:
        return protocol
    return replace(protocol, views=views_for(protocol.views, labelled))


def require_grid(labelled: LabelledImages, views: Views, name: str) -> None:
    """Refuse to crop a mosaic by the cells of another grid.

    Raises:
        InputError: says both.
    """
    grid = grid_of(labelled)
    if views.cells is not None and grid not in (None, 1, views.cells):
        raise InputError(
            f"the {name} set has mosaics of {grid} x {grid} and the protocol crops in cells of "
            f"{views.cells} x {views.cells}; set protocol.views.cells={grid}, or null to crop from "
            "whole mosaics."
        )
