"""Methods: what makes a synthetic set of a core set. They are peers, each in a file of its own.

`latentdc.recipe.methods.METHODS` lists them with their settings. A method knows neither recipes,
run folders nor evaluation; `context` holds what it may use.
"""

from collections.abc import Callable, Mapping
from inspect import iscode, isfunction, signature, unwrap
from typing import Any, NamedTuple

from latentdc.arguments import require_a
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.recipe.fields import show
from latentdc.recipe.methods import METHODS
from latentdc.recipe.own import resolve
from latentdc.synthetic.synthetic_set import SyntheticSet

Method = Callable[[Coreset, Prior | None, Any, Context], SyntheticSet]
"""(core set, prior or None, settings, context) -> synthetic set; all processes call it together."""

_TAKES = "(core set, prior, settings, context)"


class FoundMethod(NamedTuple):
    """The method that a recipe names.

    Attributes:
        make: the method itself.
        takes_prior: whether it works in the space of a prior. One of your own does unless its
            second argument is annotated with `None`.
        asks_classifier: whether one of your own asks `Context`'s classifier, which is tried on test
            images; of others a recipe tells it.
        check_data: (counts, prior, settings, context): refuses what the method cannot make of these
            data and this prior, before anything is scored; `counts` are the different images of
            each class that the core set has at most.
    """

    make: Method
    takes_prior: bool
    asks_classifier: bool
    check_data: Callable[[Mapping[str, int], Prior | None, Any, Context], None] | None


def find_method(kind: str) -> FoundMethod:
    """The method of a name in `METHODS`, or of one's own `package.module:function`."""
    if kind in METHODS:
        known = METHODS[kind]
        check = None if known.check_data is None else resolve(known.check_data, "method.kind")
        return FoundMethod(resolve(known.function, "method.kind"), known.prior, False, check)
    found: Method = resolve(kind, "method.kind")
    label = f"method.kind={kind.partition('#')[0]} is a function {_TAKES} -> SyntheticSet, got "
    if not callable(found):
        raise InputError(f"{label}{show(found)}.")
    try:
        signature(found).bind(*range(4))
    except TypeError as error:
        raise InputError(f"{label}{signature(found)}.") from error
    except ValueError:  # of builtins
        return FoundMethod(found, True, False, None)
    _, *others = signature(found).parameters.values()
    takes_prior = not others or others[0].annotation not in (None, "None")
    return FoundMethod(found, takes_prior, _asks_classifier(found), None)


def _asks_classifier(method: Method) -> bool:
    """Whether its code, or that of functions of its module that it calls, names `real_classifier`.

    Networks have a `classifier` of their own.
    """
    waiting: list[Any] = [method, vars(type(method)).get("__call__")]
    seen: set[Any] = set()
    while waiting:
        function = waiting.pop()
        function = unwrap(function) if callable(function) else function
        if not isfunction(function) or function in seen:
            continue
        seen.add(function)
        codes = [function.__code__]
        for code in codes:
            codes += [inner for inner in code.co_consts if iscode(inner)]
            if "real_classifier" in code.co_names:
                return True
            called = map(function.__globals__.get, code.co_names)
            home = function.__module__
            waiting += [one for one in called if getattr(one, "__module__", None) == home]
    return False


def require_set(made: object, kind: str, train: Dataset, ipc: int) -> None:
    """Refuse what a method of one's own returned and a table would show under a wrong ipc."""
    class_names, shape = train.class_names, tuple(train.images.shape[1:])
    name = f"what method.kind={kind.partition('#')[0]} returned"
    require_a(SyntheticSet, made, name, "such as SyntheticSet(images, labels, class_names)")
    assert isinstance(made, SyntheticSet)
    if made.class_names != class_names:
        raise InputError(f"{name} has not the classes of the data set in their order.")
    if tuple(made.images.shape[1:]) != shape:
        raise InputError(
            f"{name} has samples of shape {tuple(made.images.shape[1:])}, and those of the data "
            f"set are {shape}; make them alike."
        )
    counts = {*made.counts}
    if counts != {ipc}:
        raise InputError(
            f"{name} has {' or '.join(map(str, sorted(counts)))} of each class, and ipc is "
            f"{ipc}; make Context.ipc of each."
        )
