"""Images and feature vectors: their forms, where they lie, and what networks see of them.

Samples are images (N, 3, H, W), uint8 levels or floats in [-1, 1], or feature vectors (N, D). Every
network sees them through a `Preprocessing`: a normalisation of channels, with ZCA whitening after
it, or a standardisation of vectors.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from latentdc.io import cached, load_with_metadata, save_tensors
from latentdc.recipe.fields import check_fields, require_normalization

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EPS = 0.1  # of a whitening
MEMORY_LIMIT = 2 * 2**30  # bytes of samples, more of which stay in their file
_CHUNK = 4096  # samples summed at a time
_CONSTANT = 1e-6  # of a value's mean: a spread below it is rounding
_CACHED = 200_000  # values of a thread's part of a batch: 65 images of 32 px

Kind = Literal["images", "vectors"]


# ---- Forms ----


def from_uint8(images: Tensor) -> Tensor:
    """(..., H, W) levels 0..255 -> float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """(..., H, W) floats in [-1, 1], clamped -> nearest of the levels 0..255."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def contiguous(images: Tensor) -> Tensor:
    """The same values with rows in memory one after the other, also where a side has length 1.

    Networks are given nothing else: pictures that were read as (H, W, 3) and shifted pixels lie
    channel by channel, which a convolution takes over; some of torch's kernels for that layout
    crash on a CPU (2.14: the gradient of a 1x1 convolution with stride 2). Differentiable.
    """
    return images.contiguous().flatten().view(images.shape)  # strides of a side of 1 are free


# ---- Where samples lie ----


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Some rows of a memory-mapped tensor, in an order of their own.

    Used where a tensor of images is: it has the shape and the size of one, and an index gives one.

    Attributes:
        source: the whole file: (N, 3, H, W) uint8, or vectors (N, D) of floats.
        rows: (M,) rows of the file that stand here; None for all of them.
        contents: (N,) int64 content hash of each row of the file, in whose place nothing has to be
            read to tell one set from another; None where there are none.
        decoding: what made levels of the contents.
    """

    source: Tensor
    rows: Tensor | None = None
    contents: Tensor | None = None
    decoding: str = ""

    @classmethod
    def open(
        cls,
        path: Path,
        shape: tuple[int, int, int, int],
        contents: Tensor | None = None,
        decoding: str = "",
    ) -> "MappedImages":
        """The levels of a file; nothing is read yet."""
        size = path.stat().st_size
        flat = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        return cls(flat.view(shape), contents=contents, decoding=decoding)

    def __len__(self) -> int:
        return len(self.source if self.rows is None else self.rows)

    @property
    def shape(self) -> torch.Size:
        """(M, 3, H, W) or (M, D)."""
        return torch.Size((len(self), *self.source.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the levels."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Where an index gives its images: the CPU."""
        return self.source.device

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.shape.numel() * self.source.element_size()

    def is_floating_point(self) -> bool:
        """Whether they are floats: levels are not, vectors are."""
        return self.source.is_floating_point()

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B, 3, H, W) images at `rows` (B,), read now."""
        return self.source[rows] if self.rows is None else self.source[self.rows[rows]]

    def select(self, rows: Tensor) -> "MappedImages":
        """A view of the images at `rows` (B,); nothing is read."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def facts(self) -> dict[str, object] | None:
        """What tells these images from others, in their order; None without `contents`."""
        if self.contents is None:
            return None
        contents = self.contents if self.rows is None else self.contents[self.rows]
        return {"contents": contents, "shape": list(self.shape), "decoding": self.decoding}


Images = Tensor | MappedImages


def kind_of(samples: Images) -> Kind:
    """`vectors`, (N, D), or `images`, (N, 3, H, W)."""
    return "vectors" if len(samples.shape) == 2 else "images"


def as_floats(samples: Tensor) -> Tensor:
    """What is computed with: levels 0..255 -> float32 in [-1, 1]; other floats -> float32."""
    return samples.float() if samples.is_floating_point() else from_uint8(samples)


def place(images: Images, device: torch.device) -> Images:
    """The images on the device, or where they are if they would fill half of its free memory."""
    if device.type == "cuda" and images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free // 2:
            return images
    if isinstance(images, Tensor):
        return images.to(device)
    return images if device.type == "cpu" else _copied(images, device)


def _copied(images: MappedImages, device: torch.device, block: int = 1024) -> Tensor:
    """All images on the device, read a block at a time."""
    copy = torch.empty(images.shape, dtype=images.dtype, device=device)
    for start in range(0, len(images), block):
        copy[start : start + block] = images[slice(start, start + block)].to(device)
    return copy


def forward_batch(images: Images, most: int, device: torch.device) -> int:
    """Images in a forward pass without gradients: `most`, or on a CPU as many as its caches hold.

    There the activations of larger batches go through memory: 512 images of 32 px take twice as
    long each as 32 do. It follows from sizes and threads, never from a clock, so that the same
    numbers come out each time.
    """
    if device.type != "cpu":
        return most
    return min(most, max(8, torch.get_num_threads() * _CACHED // images.shape[1:].numel()))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, from pinned memory so that the host does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def fetch(images: Images, rows: Tensor, device: torch.device) -> Tensor:
    """(B, 3, H, W) floats in [-1, 1] on the device: `rows` (B,), on the CPU, of placed images.

    Of vectors (B, D) float32, as they are.
    """
    return as_floats(send(images[send(rows, images.device)], device))


# ---- What networks see ----


class Preprocessing(Protocol):
    """How real, synthetic and test images alike become the input of a network.

    `Normalization` and `Whitening` are of images, `Standardization` is of vectors.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> the network's input, same shape, differentiable."""

    def facts(self) -> dict[str, object]:
        """What decides a network's input, in JSON's types: the same facts, the same input."""


@dataclass(frozen=True)
class Normalization:
    """The plain preprocessing: mean and standard deviation of each channel.

    Attributes:
        mean: per channel, of images scaled to [0, 1].
        std: per channel, likewise.

    Examples:
        >>> import latentdc, torch
        >>> half = latentdc.Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> half(torch.ones(1, 3, 1, 1)).flatten().tolist()  # white, in [-1, 1]
        [2.0, 2.0, 2.0]
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        check_fields(self, "Normalization.")
        require_normalization(self.mean, self.std, "Normalization.")

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> normalised, same shape, differentiable."""
        mean = _channels(self.mean, images.device, images.dtype)
        std = _channels(self.std, images.device, images.dtype)
        return ((images + 1) / 2 - mean) / std

    def inverse(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> in [-1, 1], same shape, differentiable."""
        mean = _channels(self.mean, images.device, images.dtype)
        std = _channels(self.std, images.device, images.dtype)
        return (images * std + mean) * 2 - 1

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`."""
        return asdict(self)


@lru_cache
@torch.inference_mode(False)
def _channels(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(C, 1, 1), sent to a device once, because sending makes the host wait."""
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class Standardization:
    """A `Preprocessing` of vectors.

    Attributes:
        mean: (D,) float32, of training vectors.
        std: (D,) float32, likewise; 1 where a value never changes.
        samples: hash of the training vectors that it was fitted on.
    """

    mean: Tensor
    std: Tensor
    samples: str
    _sent: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, D) vectors -> standardised, differentiable."""
        mean, std = self._on(images.device)
        return (images - mean) / std

    def inverse(self, vectors: Tensor) -> Tensor:
        """(B, D) standardised vectors -> as they were, differentiable."""
        mean, std = self._on(vectors.device)
        return vectors * std + mean

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`; told by the vectors that it follows from."""
        return {"standardized": {"values": len(self.mean), "samples": self.samples}}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation, sent to a device once."""
        if device not in self._sent:
            self._sent[device] = (self.mean.to(device), self.std.to(device))
        return self._sent[device]


def unread_standardization(width: int) -> Standardization:
    """A standardisation for counting the cost of vectors of `width` values that were not read."""
    return Standardization(torch.zeros(width), torch.ones(width), "unread")


Unwhitened = Normalization | Standardization  # what scorers see, of images and of vectors


def fit_standardization(vectors: Images, *, name: str) -> Standardization:
    """Standardisation of a training split's vectors (N, D), whose hash is `name`, by float64."""
    width = vectors.shape[1]
    chunks = [slice(first, first + _CHUNK) for first in range(0, len(vectors), _CHUNK)]
    total = torch.zeros(width, dtype=torch.float64)
    for some in chunks:
        total += vectors[some].double().sum(dim=0)
    mean = total / len(vectors)
    squares = torch.zeros(width, dtype=torch.float64)
    for some in chunks:
        squares += (vectors[some].double() - mean).square().sum(dim=0)
    std = (squares / len(vectors)).sqrt()
    varies = std > _CONSTANT * mean.abs()
    return Standardization(mean.float(), torch.where(varies, std, 1.0).float(), name)


@dataclass(frozen=True, eq=False)
class Whitening:
    """`Normalization`, then ZCA.

    Attributes:
        normalization: of images before they are whitened.
        mean: (D,) float32, of normalised training images; D is 3 * H * W.
        matrix: (D, D) float32, symmetric.
        eps: added to the variances, so that those near zero are not blown up.
        images: hash of the training images that it was fitted on.
    """

    normalization: Normalization
    mean: Tensor
    matrix: Tensor
    eps: float
    images: str
    _sent: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )
    _inverses: dict[tuple[torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, repr=False
    )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> whitened, same shape, differentiable.

        In the precision of the images, under autocast too: half precision would drown the small
        variances.
        """
        mean, matrix = self._on(images.device, images.dtype)
        with torch.autocast(images.device.type, enabled=False):
            flat = self.normalization(images).flatten(1)
            return ((flat - mean) @ matrix).view_as(images)

    def inverse(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) whitened images -> in [-1, 1], same shape, differentiable."""
        mean, _ = self._on(images.device, images.dtype)
        key = (images.device, images.dtype)
        if key not in self._inverses:
            inverted = torch.linalg.inv(self.matrix.double())
            self._inverses[key] = inverted.to(images.device, images.dtype)
        with torch.autocast(images.device.type, enabled=False):
            flat = images.flatten(1) @ self._inverses[key] + mean
            return self.normalization.inverse(flat.view_as(images))

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`.

        The matrix is told by the images that it follows from, not by its bytes, whose last bits
        differ between machines.
        """
        zca = {"eps": self.eps, "values": len(self.mean), "images": self.images}
        return {**self.normalization.facts(), "zca": zca}

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and matrix, sent to a device once."""
        if (device, dtype) not in self._sent:
            self._sent[device, dtype] = (self.mean.to(device, dtype), self.matrix.to(device, dtype))
        return self._sent[device, dtype]


def fit_whitening(
    images: Images, normalization: Normalization, *, name: str, eps: float = EPS
) -> Whitening:
    """The whitening of a training split, computed in float64.

    Args:
        images: (N, 3, H, W) uint8, N at least 2.
        normalization: applied before.
        name: hash of the images.
        eps: added to the variances.
    """
    size = images.shape[1:].numel()
    total = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for first in range(0, len(images), _CHUNK):
        chunk = from_uint8(images[first : first + _CHUNK]).double()
        flat = normalization(chunk).flatten(1)
        total += flat.sum(dim=0)
        products.addmm_(flat.T, flat)
    mean = total / len(images)
    covariance = (products - len(images) * torch.outer(mean, mean)) / (len(images) - 1)
    variances, axes = torch.linalg.eigh(covariance)
    scales = (variances.clamp(min=0) + eps).rsqrt()
    matrix = (axes * scales) @ axes.T
    return Whitening(normalization, mean.float(), matrix.float(), eps, name)


def cached_whitening(
    folder: Path, images: Images, normalization: Normalization, name: str
) -> Whitening:
    """`fit_whitening`, computed once for these images and kept in the folder of a cache.

    Raises:
        InputError: the folder cannot be written.
    """
    facts = {**normalization.facts(), "eps": EPS, "size": images.shape[-1], "images": name}
    return cached(
        folder,
        facts,
        lambda: fit_whitening(images, normalization, name=name),
        load_whitening,
        save_whitening,
        name="zca-{}.safetensors",
        advice="pass another data.cache=FOLDER",
    )


def save_whitening(path: Path, whitening: Whitening) -> None:
    """Write one safetensors file, whole or not at all."""
    facts = {**whitening.normalization.facts(), "eps": whitening.eps, "images": whitening.images}
    tensors = {"mean": whitening.mean, "matrix": whitening.matrix}
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


def load_whitening(path: Path) -> Whitening:
    """What `save_whitening` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not as it was written.
    """
    tensors, metadata = load_with_metadata(path)
    facts = json.loads(metadata["facts"])
    normalization = Normalization(tuple(facts["mean"]), tuple(facts["std"]))
    return Whitening(
        normalization, tensors["mean"], tensors["matrix"], facts["eps"], facts["images"]
    )
