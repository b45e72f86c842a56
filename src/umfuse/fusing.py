"""A registered infrared image and a visible one become one: whole, or a part at a time.

Where a gradient is asked for it is done whole. Else coordinates, sampling and the network go band
by band and tile by tile, which gives the same; of the whole image little more is held than the two
images that the network compares.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import noise, resampling, search, tiles
from umfuse.networks import Difn
from umfuse.networks.difn import Seen, global_means
from umfuse.resampling import Places, Sampler


def whole(
    difn: Difn,
    infrared: Tensor,
    grey: Tensor,
    coordinates: Tensor,
    registered: Tensor | None = None,
    missing: Tensor | None = None,
    means: Tensor | None = None,
) -> Tensor:
    """Returns what `umfuse.Umfuse.fuse` does, differentiable.

    Args:
        difn: The network.
        infrared: ``(B, 1, h, w)`` in [0, 1].
        grey: ``(B, 1, H, W)`` in [0, 1], the visible luma.
        coordinates: ``(B, 2, H, W)``: the infrared pixel that each visible pixel looks at.
        registered: As in `umfuse.Umfuse.fuse`, like the others.
        missing: See there.
        means: See there.
    """
    infrared, registered = _without_noise(infrared, registered)
    if registered is None:
        registered, _ = resampling.resample(infrared, coordinates)
    size = (infrared.shape[-2], infrared.shape[-1])
    weight = resampling.coverage(coordinates, size, missing) * _shows_something(infrared)
    seen = _seen(difn, registered, grey, weight, means)
    every = (slice(0, grey.shape[-2]), slice(0, grey.shape[-1]))
    # Continued beyond the frame, so that the zeros around a convolution leave no border.
    pair = F.pad(torch.cat((registered, grey), 1), (difn.radius,) * 4, mode="replicate")
    return torch.lerp(grey, _window(difn, pair, seen.around(every, difn.radius)), weight)


@torch.no_grad()
def tiled(
    difn: Difn,
    infrared: Tensor,
    grey: Tensor,
    places: Places,
    registered: Tensor | None = None,
    missing: Tensor | None = None,
    means: Tensor | None = None,
) -> Tensor:
    """Returns what `whole` does, a part at a time.

    Args:
        difn: As there, like the others.
        infrared: See there.
        grey: See there.
        places: The coordinates.
        registered: See there.
        missing: See there.
        means: See there.
    """
    infrared, registered = _without_noise(infrared, registered)
    size = (infrared.shape[-2], infrared.shape[-1])
    shows, ends = _shows_something(infrared), places.ends(size)
    steps = places.steps()
    sampler = Sampler(infrared, steps)
    shown = None if missing is None else Sampler(resampling.shown(missing), steps)
    image, weight = torch.empty_like(grey), torch.empty_like(grey)
    for rows in tiles.bands(places.size):
        place = places.part(rows, slice(None))
        image[:, :, rows] = sampler(place) if registered is None else registered[:, :, rows]
        weight[:, :, rows] = shows * resampling.feathered(
            place, size, ends, None if shown is None else shown(place)
        )
    seen = _seen(difn, image, grey, weight, means)
    fused = torch.empty_like(grey)
    for window in tiles.squares(places.size):
        pair = torch.cat([_around(one, window, difn.radius) for one in (image, grey)], 1)
        part = (..., *window)
        fused[part] = torch.lerp(
            grey[part], _window(difn, pair, seen.around(window, difn.radius)), weight[part]
        )
    return fused


def _without_noise(infrared: Tensor, registered: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns images without the noise of their sensor; registered ones only where they had none.

    A graph that is exported knows no sensor: there they stay.
    """
    if resampling.exporting():
        return infrared, registered
    clean = noise.without_noise(infrared)
    return clean, registered if clean is infrared else None


def _seen(difn: Difn, infrared: Tensor, grey: Tensor, weight: Tensor, means: Tensor | None) -> Seen:
    """Returns what is seen of whole images, with means that may be held over a video.

    Where the infrared image has ended its border goes on, and where it has no data what was filled
    in: an edge there would be taken for one of the scene. The means are of data alone.
    """
    if means is None:
        means = global_means(torch.lerp(grey, infrared, weight), grey)
    return difn.look(infrared, grey, means)


def _window(difn: Difn, pair: Tensor, seen: Seen) -> Tensor:
    """Returns the luma of infrared and visible images ``(B, 2, ...)``, without their margins."""
    margin = difn.radius
    fused: Tensor = difn(pair[:, :1], pair[:, 1:], seen)
    return fused[..., margin:-margin, margin:-margin].clamp(0, 1)


def _around(image: Tensor, window: tiles.Window, margin: int) -> Tensor:
    """Returns a window of images and what is around it; beyond the frame its border goes on."""
    pads, inside = list[int](), list[slice]()
    for part, size in zip(window, image.shape[-2:], strict=True):
        first, last = part.start - margin, part.stop + margin
        inside.append(slice(max(0, first), min(size, last)))
        pads = [max(0, -first), max(0, last - size), *pads]
    return F.pad(image[..., inside[0], inside[1]], pads, mode="replicate")


def _shows_something(infrared: Tensor) -> Tensor:
    """Returns 1 for images ``(B, 1, h, w)`` that are not constant, else 0: ``(B, 1, 1, 1)``."""
    image = infrared.detach().float()
    centred = image - image.mean((1, 2, 3), keepdim=True)
    deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (deviation >= search.CONSTANT).to(torch.float32)
