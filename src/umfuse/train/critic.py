"""The critic of CPSTN: which patches of an image look real, and the game against a generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from umfuse.train import losses


class PatchCritic(nn.Module):
    """Scores overlapping patches of 70x70 pixels (Isola et al., doi:10.1109/CVPR.2017.632).

    Args:
        channels: Of the image.
        filters: Of the first layer; 64 in the paper.
    """

    def __init__(self, channels: int = 1, filters: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, filters, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        inputs = filters
        for stride in (2, 2, 1):
            layers += [
                nn.Conv2d(inputs, 2 * inputs, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(2 * inputs),
                nn.LeakyReLU(0.2),
            ]
            inputs *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Returns scores ``(B, 1, about H / 8, about W / 8)``, without bounds.

        Args:
            image: ``(B, channels, H, W)`` in [0, 1], both sides at least 32 pixels.
        """
        scores: Tensor = self.layers(2 * image - 1)
        return scores


class ImagePool(nn.Module):
    """Former fakes for the critic, so that it does not forget them.

    Shrivastava et al., CVPR 2017, doi:10.1109/CVPR.2017.241. A checkpoint of the task holds the
    pool, so that training goes on where it stopped.

    Args:
        size: Number of images that are kept.
    """

    def __init__(self, size: int = 50) -> None:
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, fakes: Tensor, generator: torch.Generator) -> Tensor:
        """Returns a batch of the same shape: half of it new, half of it exchanged with the pool."""
        result: list[Tensor] = []
        for fake in fakes.detach().float():
            if len(self.images) < self.size:
                self.images.append(fake)
                result.append(fake)
            elif float(torch.rand((), generator=generator)) < 0.5:
                index = int(torch.randint(self.size, (), generator=generator))
                result.append(self.images[index].to(fake))
                self.images[index] = fake
            else:
                result.append(fake)
        return torch.stack(result)

    def get_extra_state(self) -> list[Tensor]:
        """Returns the images, for `state_dict`."""
        return list(self.images)

    def set_extra_state(self, state: list[Tensor]) -> None:
        """Takes the images of a checkpoint."""
        self.images = list(state)


class Adversary(nn.Module):
    """A critic and its memory: both sides of the least-squares game with one generator.

    Args:
        channels: Of the image.
        filters: Of the critic's first layer.
        pool: Former fakes that the critic sees again.
    """

    def __init__(self, channels: int = 1, filters: int = 64, pool: int = 50) -> None:
        super().__init__()
        self.critic = PatchCritic(channels, filters)
        self.pool = ImagePool(pool)

    def judge(self, fake: Tensor) -> Tensor:
        """Returns the generator's loss: how far its images are from being taken for real.

        The critic's weights get no gradient from it.
        """
        constant = {name: value.detach() for name, value in self.critic.named_parameters()}
        scores: Tensor = functional_call(self.critic, constant, (fake,))
        return losses.lsgan(scores, real=True)

    def learn(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the critic's loss on real images and on fakes, some of them former ones.

        The generator's weights get no gradient from it.
        """
        former = self.pool(fake, generator)
        return 0.5 * (
            losses.lsgan(self.critic(real), real=True)
            + losses.lsgan(self.critic(former), real=False)
        )
