"""Figures of matplotlib that notebooks show. Imports neither torch nor matplotlib."""

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from latentdc.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of matplotlib, in inches, which notebooks show without pyplot.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            'a figure needs matplotlib; install it with pip install "latentdc[plots]".'
        ) from error

    drawn = Figure(figsize=(width, height), layout="constrained")
    drawn._repr_png_ = partial(_png, drawn)  # type: ignore[attr-defined]  # asked for by IPython
    return drawn


def _png(drawn: "Figure") -> bytes:
    content = BytesIO()
    drawn.savefig(content, format="png")
    return content.getvalue()
