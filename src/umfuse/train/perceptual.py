"""Perceptual features, ψ of Eq. 8, 9 and 13: maps that stand for an image where two are compared.

The paper's are VGG-19's. `Mind` needs no download and no weights. On infrared and pseudo-infrared
pairs it tells the right place from a wrong one as well as anything that ``benchmarks.perceptual``
tries; the table is in docs/paper_differences.md. Its maps follow structure alone: brightness and
colour are left to the pixel terms (Eq. 11).

Features are constant: they are no module, hold nothing that is trained and are in no checkpoint.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import safetensors
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from typing_extensions import Self

from umfuse import weights
from umfuse.weights import WeightsError

logger = logging.getLogger(__name__)

REPO = "timm/vgg19.tv_in1k"
FILE = "model.safetensors"
REVISION = "128d4708565b3a414bcbb9bbad440b2fe37b9f18"
SHA256 = "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669"

Source = str | os.PathLike[str]


class Perceptual(Protocol):
    """What turns images into feature maps, one for each of several layers."""

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """The weight of each layer in a loss, ω of Eq. 8 and 9."""
        ...

    def __call__(self, image: Tensor, /) -> list[Tensor]:
        """Returns the maps ``(B, C_j, h_j, w_j)`` of images ``(B, 1 or 3, H, W)`` in [0, 1]."""
        ...


class Pixels:
    """The image as its own features, for images of a single modality."""

    layer_weights: tuple[float, ...] = (1.0,)

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Returns the image ``(B, C, H, W)`` alone, in float32."""
        return [image.float()]


class Mind:
    """The modality independent neighbourhood descriptor on a pyramid of images.

    Heinrich et al., Medical Image Analysis 2012, doi:10.1016/j.media.2012.05.008. Each map says how
    much the patch around a pixel resembles the patch some pixels away, in one of eight directions,
    against the mean over all of them: which way edges run, not which side is the brighter.

    Args:
        levels: Images of the pyramid, each half the size of the one before.
        radius: Of the patch, pixels of the level.
        distance: To the other patch, pixels of the level.
    """

    def __init__(self, levels: int = 3, radius: int = 1, distance: int = 2) -> None:
        self.levels, self.radius, self.distance = levels, radius, distance

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """The same for each level, one in all."""
        return (1 / self.levels,) * self.levels

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Returns eight maps in [0, 1] for each channel and level, in float32.

        Args:
            image: ``(B, C, H, W)`` in [0, 1], its sides at least ``2 ** levels`` pixels.
        """
        # The root lifts the dark half of a night scene to where its edges count.
        image = (image.float().clamp(0, 1) + 0.01).sqrt()
        maps: list[Tensor] = []
        for level in range(self.levels):
            if level:
                image = F.avg_pool2d(image, 2)
            maps.append(self._describe(image))
        return maps

    def _describe(self, image: Tensor) -> Tensor:
        """Returns (B, 8 C, H, W) of a level."""
        height, width = image.shape[-2:]
        step, radius = self.distance, self.radius
        padded = F.pad(image, (step,) * 4, mode="replicate")
        squares = [
            (image - padded[..., y : y + height, x : x + width]).square()
            for y in (0, step, 2 * step)
            for x in (0, step, 2 * step)
            if (y, x) != (step, step)
        ]
        both = F.pad(torch.cat(squares), (radius,) * 4, mode="replicate")
        distance = F.avg_pool2d(both, 2 * radius + 1, stride=1).view(8, *image.shape)
        typical = distance.mean(0)
        floor = 1e-3 * typical.mean((-2, -1), keepdim=True) + 1e-8
        maps = (-(distance - distance.amin(0)) / torch.maximum(typical, floor)).exp()
        return maps.movedim(0, 2).flatten(1, 2)


class Vgg19:
    """VGG-19 up to relu5_1, the features of the paper (Simonyan and Zisserman, arXiv:1409.1556).

    Layers are relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1. A grey image is shown in three
    channels, normalised as ImageNet was.

    Args:
        state: ``features.N.weight`` and ``features.N.bias`` of all 16 convolutions, as torchvision
            and timm name them.

    Raises:
        WeightsError: If a convolution is missing, left over or of another shape.
    """

    layer_weights: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1.0, 1.0)

    def __init__(self, state: dict[str, Tensor]) -> None:
        expected: dict[str, tuple[int, ...]] = {}
        for (index, outputs), inputs in zip(_CONVOLUTIONS, _INPUTS, strict=True):
            expected[f"features.{index}.weight"] = (outputs, inputs, 3, 3)
            expected[f"features.{index}.bias"] = (outputs,)
        found = {key: tuple(value.shape) for key, value in state.items()}
        if found != expected:
            wrong = sorted(
                key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)
            )
            raise WeightsError(
                f"these are not the 16 convolutions of VGG-19: {wrong[0]} should be of shape "
                f"{expected.get(wrong[0])}, got {found.get(wrong[0])}"
            )
        self._layers = [
            (
                index,
                state[f"features.{index}.weight"].float(),
                state[f"features.{index}.bias"].float(),
            )
            for index, _ in _CONVOLUTIONS
            if index <= _TAPS[-1]
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # constant, and 50 MB

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Returns the maps of the five layers, at 1, 1/2, 1/4, 1/8 and 1/16 of the resolution.

        Args:
            image: ``(B, 1 or 3, H, W)`` in [0, 1], its sides at least 16 pixels.
        """
        if self._layers[0][1].device != image.device:
            self._layers = [(i, w.to(image.device), b.to(image.device)) for i, w, b in self._layers]
        mean = image.new_tensor((0.485, 0.456, 0.406))[:, None, None]
        deviation = image.new_tensor((0.229, 0.224, 0.225))[:, None, None]
        x = (image.expand(-1, 3, -1, -1) - mean) / deviation
        maps: list[Tensor] = []
        for index, weight, bias in self._layers:
            if index in _POOLED:
                x = F.max_pool2d(x, 2)
            x = F.conv2d(x, weight, bias, padding=1).relu()
            if index in _TAPS:
                maps.append(x)
        return maps


# Index of each convolution in torchvision's `features` and its channels; those after a pooling, and
# those whose activation is a layer.
_CONVOLUTIONS = (
    *((0, 64), (2, 64)),
    *((5, 128), (7, 128)),
    *((10, 256), (12, 256), (14, 256), (16, 256)),
    *((19, 512), (21, 512), (23, 512), (25, 512)),
    *((28, 512), (30, 512), (32, 512), (34, 512)),
)
_INPUTS = (3, *(outputs for _, outputs in _CONVOLUTIONS[:-1]))
_POOLED = (5, 10, 19, 28)
_TAPS = (0, 5, 10, 19, 28)


def vgg19(
    source: Source | None = None,
    *,
    cache_dir: Source | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Vgg19:
    """Returns VGG-19 as trained on ImageNet, from the Hub or a file.

    The Hub's copy is timm's of torchvision's weights, 575 MB, of a fixed commit and sha256. The
    sha256 of another file is not known here: it is logged.

    Args:
        source: A file, the safetensors of the Hub. None downloads.
        cache_dir: As in `weights.locate`, like the two below.
        local_files_only: Never use the network.
        token: Access token of the Hub.

    Raises:
        WeightsError: If the weights cannot be found, fetched or trusted, or are not VGG-19's.
    """
    if source is not None:
        path = Path(source)
        state = _read(path)
        logger.info("VGG-19 of %s, sha256 %s", path, weights.sha256(path))
    else:
        path = weights.download(
            REPO,
            FILE,
            revision=REVISION,
            expected=SHA256,
            otherwise=_OTHERWISE,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        state = _read(path)
    return Vgg19(state)


_PLAIN: Mapping[Source, Callable[[], Perceptual]] = {"mind": Mind, "pixels": Pixels}


@functools.lru_cache(maxsize=1)  # tasks that train together share them
def load(name: Source = "mind") -> Perceptual:
    """Returns features by name: ``"mind"``, ``"pixels"``, ``"vgg19"`` (the Hub's), or by a file.

    Raises:
        WeightsError: As `vgg19`.
    """
    if name in _PLAIN:
        return _PLAIN[name]()
    return vgg19(None if name == "vgg19" else name)


_OTHERWISE = (
    'Use the features "mind", which need no download, or pass a file of VGG-19 '
    f"({FILE} of {REPO} on the Hub)"
)


def _read(path: Path) -> dict[str, Tensor]:
    """Returns the convolutions of a file; classifiers are left where they are."""
    if not path.is_file():
        raise WeightsError(f"there is no file {os.fspath(path)!r}. {_OTHERWISE}")
    try:
        with cast("Any", safetensors).safe_open(path, "pt") as file:
            names: list[str] = file.keys()
            return {key: file.get_tensor(key) for key in names if key.startswith("features.")}
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"cannot read {os.fspath(path)!r} as safetensors: {error}. {_OTHERWISE}"
        ) from error
