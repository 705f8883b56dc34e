"""DD-Ranking's scores: how much of an accuracy is the set's own, not its labels' or its views'.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025,
https://github.com/NUS-HPC-AI-Lab/DD-Ranking. All accuracies are of one student on one test set.

Here they are shares in [0, 1], which is the range that the exponential is scaled for. Version
0.2.0 of the package feeds percentage points into it, so its values leave [0, 1] and are not
comparable with these. It also picks learning rates by test accuracy and trains the real row in
full; which accuracies go in here is the caller's choice and has to be said beside the number. The
weights of 1/2 are the package's defaults; the sources do not argue for another.
"""

import math

from latentdc.errors import InputError


def hard_label_recovery(real_hard: float, synthetic_hard: float) -> float:
    """HLR = Acc(real, hard) - Acc(synthetic, hard), in [-1, 1]: the smaller, the better.

    Args:
        real_hard: all real images, hard labels.
        synthetic_hard: the set, hard labels.
    """
    return _share(real_hard) - _share(synthetic_hard)


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR = Acc(synthetic, any) - Acc(random, any), in [-1, 1]: the larger, the better.

    Args:
        synthetic: the set, with labels of any kind.
        random: as many real images per class, with labels of the same kind.
    """
    return _share(synthetic) - _share(random)


def label_robust_score(hlr: float, ior: float, *, weight: float = 0.5) -> float:
    """LRS: alpha = w IOR - (1 - w) HLR, brought to [0, 1].

    Args:
        hlr: `hard_label_recovery`.
        ior: `improvement_over_random`.
        weight: w in [0, 1].
    """
    return _scaled(_weight(weight) * ior - (1 - weight) * hlr)


def augmentation_robust_score(augmented: float, plain: float, *, weight: float = 0.5) -> float:
    """ARS: beta = g IOR(augmented) + (1 - g) IOR(plain), brought to [0, 1].

    Args:
        augmented: `improvement_over_random` where students see augmented views.
        plain: the same without augmentation.
        weight: g in [0, 1].
    """
    return _scaled(_weight(weight) * augmented + (1 - weight) * plain)


def _scaled(value: float) -> float:
    """(e^x - e^-1) / (e - e^-1): [-1, 1] -> [0, 1], no difference (0) at 0.269."""
    lowest = math.exp(-1)
    return (math.exp(value) - lowest) / (math.e - lowest)


def _share(accuracy: float) -> float:
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracies are shares in [0, 1], got {accuracy}; for 56.5 % pass 0.565.")
    return accuracy


def _weight(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise InputError(f"a weight is in [0, 1], got {weight}; the usual one is 0.5.")
    return weight
