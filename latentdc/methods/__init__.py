"""Methods: what makes a synthetic set of a core set. They are peers, each in a file of its own.

`latentdc.recipe.methods.METHODS` lists them with their settings. A method knows neither recipes,
run folders nor evaluation; `context` holds what it may use.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.recipe.methods import METHODS
from latentdc.synthetic.synthetic_set import SyntheticSet

Method = Callable[[Coreset, Prior | None, Any, Context], SyntheticSet]
"""(core set, prior or None, settings, context) -> synthetic set; all processes call it together."""


def find_method(kind: str) -> Method:
    """The method of a name in `METHODS`, or of `module:function`.

    Raises:
        InputError: there is no such module or function.
    """
    module, _, name = (METHODS[kind].function if kind in METHODS else kind).partition(":")
    try:
        found: Method = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"method.kind={kind}: {error}.") from error
    return found
