"""Figures of matplotlib, which notebooks show. Imports neither torch nor matplotlib."""

import re
import warnings
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdc import ranks
from latentdc.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_LACKS = r"Glyph \d+ .*missing from"  # a warning of matplotlib, for each character


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


def save(drawn: "Figure", target: Path | BytesIO, **given: Any) -> None:
    """Write a figure by its `savefig`; one note tells of characters that the font lacks."""
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", _LACKS)
        drawn.savefig(target, **given)
    for one in told:
        if not re.match(_LACKS, str(one.message)):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if any(re.match(_LACKS, str(one.message)) for one in told):
        ranks.note(
            "matplotlib's font lacks characters of some names, which pictures show as boxes; name "
            "fonts that have them as font.family in a matplotlibrc."
        )


def _png(drawn: "Figure") -> bytes:
    content = BytesIO()
    save(drawn, content, format="png")
    return content.getvalue()
