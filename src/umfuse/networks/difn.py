"""DIFN, the dual-path interaction fusion network (Sec. 2.4 of doi:10.24963/ijcai.2022/487)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umfuse.networks.padding import crop, pad

CELL = 8  # side in pixels of what the wide view sees as one
BLOCK = 16  # outputs that a convolution computes together

Interaction = Literal["gated", "equation"]
OutputActivation = Literal["tanh", "blend"]


@dataclass(frozen=True)
class DifnConfig:
    """Sizes of a `Difn`; the defaults are the paper's.

    Attributes:
        features: Channels of every feature map.
        dense_layers: 3x3 layers of each residual dense block.
        growth: Channels that each of these layers adds; None means ``features``.
        interaction: ``"gated"`` is the interaction module of the authors' code (629,253 parameters
            with the defaults), ``"equation"`` is Eq. 5-7 of the paper (485,889).
        output: ``"tanh"`` is the authors' last activation. ``"blend"`` predicts how much of each
            input to take and a correction within the room that is left, and so stays in [0, 1].
        global_means: Whether both paths see the mean of each of the two whole images: how bright is
            bright depends on the picture, of which a pixel sees only a few neighbours.
        shuffle: Side of the squares of pixels that the paths see as channels of one; the network
            runs at that part of the resolution, the inputs that it blends do not.
        view: Channels of a wide view, at 1/8 of the resolution, that both paths see; 0 for none.
            It tells a bright sky from a bright wall.
    """

    features: int = 64
    dense_layers: int = 3
    growth: int | None = None
    interaction: Interaction = "gated"
    output: OutputActivation = "tanh"
    global_means: bool = False
    shuffle: int = 1
    view: int = 0

    def __post_init__(self) -> None:
        growth = self.features if self.growth is None else self.growth
        if min(self.features, self.dense_layers, growth) < 1:
            raise ValueError(
                "features, dense_layers and growth must be at least 1, "
                f"got {self.features}, {self.dense_layers} and {self.growth}"
            )
        if self.shuffle not in (1, 2, 4, CELL):
            raise ValueError(f"shuffle must be 1, 2, 4 or {CELL}, got {self.shuffle}")
        if self.view < 0:
            raise ValueError(f"view must be at least 0, got {self.view}")
        for name, value, choices in (
            ("interaction", self.interaction, get_args(Interaction)),
            ("output", self.output, get_args(OutputActivation)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


class Difn(nn.Module):
    """Fuses a registered infrared image with the luma of a visible one.

    Two paths of one convolution and a residual dense block each, an interaction between them, and
    one or two convolutions to the image. There is no normalisation, so a tile gives exactly what
    the whole image gives if it has a margin of `radius` pixels, begins at a multiple of `CELL`, and
    is shown its part of what `look` has seen of the whole images.

    Args:
        config: Sizes; None means the paper's.
    """

    def __init__(self, config: DifnConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DifnConfig()
        self.infrared = _Path(config)
        self.visible = _Path(config)
        self.view = _View(config.view) if config.view else None
        width, channels = config.features, 2 if config.output == "blend" else 1
        channels *= config.shuffle**2
        self.interaction: _GatedInteraction | _EquationInteraction
        self.tail: nn.Module
        if config.interaction == "gated":
            self.interaction = _GatedInteraction(width)
            self.tail = nn.Sequential(
                nn.Conv2d(2 * width, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)
            )
            last = self.tail[1]
        else:
            self.interaction = _EquationInteraction(width)
            self.tail = last = nn.Conv2d(2 * width, channels, 3, padding=1)
        if config.output == "blend":  # training starts from the plain average
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    @property
    def stride(self) -> int:
        """Side of the squares of pixels that the network takes together, 1 in the paper's."""
        return self.config.shuffle if self.view is None else CELL

    @property
    def radius(self) -> int:
        """How many pixels away an input pixel can change the output: 8 in the paper's network.

        Beside what `look` has seen; rounded up to a multiple of `CELL` where the network has a
        `stride`, to which tiles must keep.
        """
        around = 4 if self.config.interaction == "gated" else 1
        radius = (1 + self.config.dense_layers + around) * self.config.shuffle
        return -(-radius // CELL) * CELL if self.stride > 1 else radius

    def look(self, infrared: Tensor, visible: Tensor, means: Tensor | None = None) -> Seen:
        """Returns what tiles must know of the whole images.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], like the next one.
            visible: See there.
            means: ``(B, 2, 1, 1)``, what stands for `global_means`; None takes those.
        """
        view = None if self.view is None else self.view(infrared, visible)
        return Seen(global_means(infrared, visible) if means is None else means, view)

    def forward(self, infrared: Tensor, visible: Tensor, seen: Seen | None = None) -> Tensor:
        """Returns the fused luma.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], on the grid of ``visible``.
            visible: ``(B, 1, H, W)`` in [0, 1].
            seen: What `look` saw of the images that these are tiles of, cut by `Seen.around`; None
                takes them for whole.

        Returns:
            ``(B, 1, H, W)``. In [0, 1] with ``output="blend"``; in [-1, 1] with ``"tanh"``, which
            is not clamped here so that training keeps its gradients: clamp it before use.

        Raises:
            ValueError: If an image has not one channel or the two differ in shape.
        """
        if infrared.dim() != 4 or infrared.shape[1] != 1 or infrared.shape != visible.shape:
            raise ValueError(
                "Difn expects two images (B, 1, H, W) of the same shape, got "
                f"{tuple(infrared.shape)} and {tuple(visible.shape)}; "
                "register the infrared image on the visible grid and pass luma"
            )
        height, width = visible.shape[-2:]
        if seen is None:
            seen = self.look(infrared, visible).around((slice(0, height), slice(0, width)), 0)
        if self.stride > 1:
            infrared, visible = (pad(one, self.stride, "replicate") for one in (infrared, visible))
        features = self.interaction(*self._paths(infrared, visible, seen))
        raw: Tensor = self.tail(features)
        if self.config.shuffle > 1:
            raw = F.pixel_shuffle(raw, self.config.shuffle)
        fused = self._output(raw, infrared, visible)
        return crop(fused, height, width) if self.stride > 1 else fused

    def _paths(self, infrared: Tensor, visible: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Returns the features of both images, each beside what was seen of the whole ones."""
        step = self.config.shuffle
        if step > 1:
            infrared, visible = (F.pixel_unshuffle(one, step) for one in (infrared, visible))
        beside: list[Tensor] = []
        if self.config.global_means:
            beside.append(seen.means.to(visible.dtype).expand(-1, -1, *visible.shape[-2:]))
        if seen.view is not None:
            beside.append(_enlarged(seen.view, CELL // step).to(visible.dtype))
        if beside:
            infrared, visible = (torch.cat((one, *beside), 1) for one in (infrared, visible))
        return self.infrared(infrared), self.visible(visible)

    def _output(self, raw: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
        exact = torch.promote_types(visible.dtype, torch.float32)
        raw = raw.to(exact)
        if self.config.output == "tanh":
            return raw.tanh()
        choice, correction = raw[:, :1].sigmoid(), raw[:, 1:].tanh()
        mean = torch.lerp(visible.to(exact), infrared.to(exact), choice)
        # Up to 1 on one side, down to 0 on the other: no value can leave the range of an image.
        return mean + torch.where(correction > 0, correction * (1 - mean), correction * mean)


class Seen(NamedTuple):
    """What a `Difn` knows of whole images, of which it may fuse a part."""

    means: Tensor
    """``(B, 2, 1, 1)``, `global_means`; looked at with ``config.global_means``."""
    view: Tensor | None
    """``(B, view, h, w)``, one pixel for each `CELL`; None without ``config.view``."""

    def around(self, window: tuple[slice, slice], margin: int) -> Seen:
        """Returns what a tile is shown: its part of the view, and one cell more on each side.

        Args:
            window: Rows and columns of the tile, which begin at multiples of `CELL`.
            margin: Pixels that the tile has around it, a multiple of `CELL`.
        """
        if self.view is None:
            return self
        view, more = self.view, margin // CELL + 1
        for dim, part in zip((2, 3), window, strict=True):
            cells = torch.arange(
                part.start // CELL - more,
                (part.stop + CELL - 1) // CELL + more,
                device=view.device,
            )
            view = view.index_select(dim, cells.clamp(0, view.shape[dim] - 1))
        return self._replace(view=view)


def global_means(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mean of each of two images ``(B, 1, H, W)`` as ``(B, 2, 1, 1)``."""
    return torch.cat([image.mean((2, 3), keepdim=True) for image in (infrared, visible)], 1)


class _View(nn.Module):
    """What is around: means and deviations of cells, in a few convolutions that reach far."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, channels, 3, padding=1, padding_mode="replicate"),
            *(
                layer
                for d in (1, 2, 4)
                for layer in (
                    nn.LeakyReLU(0.2),
                    nn.Conv2d(
                        channels, channels, 3, padding=d, dilation=d, padding_mode="replicate"
                    ),
                )
            ),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        means: list[Tensor] = []
        squares: list[Tensor] = []
        for image in (infrared, visible):  # one after the other: they may be large
            padded = pad(image, CELL, "replicate")
            means.append(F.avg_pool2d(padded, CELL))
            squares.append(F.avg_pool2d(padded.square(), CELL))
        mean, square = torch.cat(means, 1), torch.cat(squares, 1)
        deviation = ((square - mean.square()).clamp_min(0) + 1e-5).sqrt()
        view: Tensor = self.layers(torch.cat((mean, deviation), 1))
        return view


def _enlarged(view: Tensor, factor: int) -> Tensor:
    """Returns a view at ``factor`` times its resolution, without the cell around it."""
    if factor == 1:
        return view[..., 1:-1, 1:-1]
    large = F.interpolate(view, scale_factor=factor, mode="bilinear", align_corners=False)
    return large[..., factor:-factor, factor:-factor]


class _Path(nn.Module):
    """One convolution and a residual dense block: (B, C, H, W) -> (B, features, H, W)."""

    def __init__(self, config: DifnConfig) -> None:
        super().__init__()
        width = config.features
        growth = width if config.growth is None else config.growth
        inputs = config.shuffle**2 + 2 * config.global_means + config.view
        self.head = nn.Conv2d(inputs, width, 3, padding=1)
        self.dense = nn.ModuleList(
            nn.Conv2d(width + i * growth, growth, 3, padding=1, bias=False)
            for i in range(config.dense_layers)
        )
        self.merge = nn.Conv2d(width + config.dense_layers * growth, width, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        first = features = nn.functional.leaky_relu(self.head(image), 0.2)
        for layer in self.dense:
            features = torch.cat((features, layer(features).relu()), 1)
        return first + self.merge(features)


class _EquationInteraction(nn.Module):
    """Eq. 5 and 6: one attention map from both paths, added to each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        attention = 1 + (self.query(infrared) * self.key(visible)).sigmoid()
        return torch.cat((infrared * attention, visible * attention), 1)


class _GatedInteraction(nn.Module):
    """The authors' code: the attention over 3x3, then two linear gates a path.

    The gates weigh the features as they are and the features after attention, per pixel.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width, 3, padding=1)
        self.key = nn.Conv2d(width, width, 3, padding=1)
        self.infrared_gates = nn.Conv2d(2 * width, 2, 3, padding=1)
        self.visible_gates = nn.Conv2d(2 * width, 2, 3, padding=1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        attention = (self.query(infrared) * self.key(visible)).sigmoid()
        paths: list[Tensor] = []
        for features, gates in ((infrared, self.infrared_gates), (visible, self.visible_gates)):
            attended = features * attention
            both = torch.cat((features, attended), 1)
            paths.append(features * _gate(gates, 0, both) + attended * _gate(gates, 1, both))
        return torch.cat(paths, 1)


def _gate(gates: nn.Conv2d, number: int, features: Tensor) -> Tensor:
    """Returns one of two gates, for each channel: ``(B, 1 or C, H, W)``."""
    width = features.shape[1] // 2
    weight, bias = gates.weight[number : number + 1], gates.bias
    assert bias is not None
    bias = bias[number : number + 1]
    if width <= BLOCK and features.dtype == torch.bfloat16:
        # As many outputs cost what one does, and products of like shapes a quarter of others.
        weight, bias = weight.expand(width, -1, -1, -1), bias.expand(width)
    return F.conv2d(features, weight, bias, padding=1)
