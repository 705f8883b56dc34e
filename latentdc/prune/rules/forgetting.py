"""Forgetting events: how often an image that was right comes out wrong again.

Toneva et al., "An Empirical Study of Example Forgetting", ICLR 2019,
https://arxiv.org/abs/1812.05159. Counted between the ends of epochs, when the whole set is seen by
one network (the paper counts between the steps in which an image is trained on). An image that was
never right gets the number of epochs: it is the hardest, not, as with no events, the easiest.
"""

from torch import Tensor


def forgetting(margins: Tensor) -> Tensor:
    """(N,) number of changes from right to wrong; E for images that were never right.

    Args:
        margins: (E, N) logit of the label minus the largest other one; right where positive.
    """
    right = margins > 0
    events = (right[:-1] & ~right[1:]).sum(dim=0).float()
    events[~right.any(dim=0)] = len(margins)
    return events
