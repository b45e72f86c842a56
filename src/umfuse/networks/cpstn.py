"""CPSTN, from visible to pseudo-infrared (Sec. 2.2 of doi:10.24963/ijcai.2022/487)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from umfuse.networks.padding import crop, pad


@dataclass(frozen=True)
class CpstnConfig:
    """Sizes of a `Cpstn`; the defaults are the paper's, with 11,371,905 parameters.

    Attributes:
        filters: Channels at full resolution; twice and four times as many at 1/2 and 1/4.
        blocks: Residual blocks at 1/4.
        in_channels: Channels of the input: 3 for visible colour.
        out_channels: Channels of the output: 1 for infrared.
    """

    filters: int = 64
    blocks: int = 9
    in_channels: int = 3
    out_channels: int = 1

    def __post_init__(self) -> None:
        if min(self.filters, self.in_channels, self.out_channels) < 1 or self.blocks < 0:
            raise ValueError(
                "filters, in_channels and out_channels must be at least 1 and blocks not "
                f"negative, got {self}"
            )


class Cpstn(nn.Module):
    """Renders a visible image as an infrared camera might see it.

    The generator of CycleGAN with residual blocks, which the authors use. Its instance norm looks
    at the whole image, so it must see the whole image: never in tiles. With ``in_channels`` and
    ``out_channels`` exchanged it is the way back that the training cycle needs.

    Args:
        config: Sizes; None means the paper's.
    """

    def __init__(self, config: CpstnConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CpstnConfig()
        width = config.filters
        self.encoder = nn.Sequential(
            nn.Conv2d(config.in_channels, width, 7, padding=3, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.InstanceNorm2d(4 * width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(_Block(4 * width) for _ in range(config.blocks)))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, config.out_channels, 7, padding=3, padding_mode="reflect"),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the pseudo-infrared image.

        Args:
            image: ``(B, in_channels, H, W)`` in [0, 1], both sides at least 8 pixels; padded
                inside to a multiple of 4.

        Returns:
            ``(B, out_channels, H, W)`` in [0, 1].

        Raises:
            ValueError: If the number of channels is wrong or a side is below 8 pixels.
        """
        channels = self.config.in_channels
        if image.dim() != 4 or image.shape[1] != channels:
            raise ValueError(
                f"Cpstn expects (B, {channels}, H, W), got {tuple(image.shape)}; "
                "repeat a grey image over the channels"
            )
        height, width = image.shape[-2:]
        if height < 8 or width < 8:
            raise ValueError(
                f"Cpstn needs at least 8x8 pixels, got {height}x{width}; enlarge the image"
            )
        padded = pad(2 * image - 1, 4, "reflect")
        rendered: Tensor = self.decoder(self.blocks(self.encoder(padded)))
        return (crop(rendered, height, width).tanh() + 1) / 2


class _Block(nn.Module):
    """Two normalised convolutions added to their input, with no activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.layers(features)
        return result
