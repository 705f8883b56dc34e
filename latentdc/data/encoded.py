"""`EncodedSplit`: the labelled image files of one split, before anything is decoded."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

# Looked for in this order where none is named.
TEST_SPLITS = ("test", "validation", "val", "valid", "dev", "eval")


@dataclass(frozen=True)
class EncodedSplit:
    """Where the images of a split lie; what `cache` decodes.

    Attributes:
        name: source and split, for messages.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        fingerprint: changes when the files change.
        read: row -> the encoded image, callable from threads; OSError where there is none.
        locate: row -> file or row, for messages.
    """

    name: str
    labels: Tensor
    class_names: tuple[str, ...]
    fingerprint: str
    read: Callable[[int], bytes]
    locate: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)
