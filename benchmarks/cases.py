"""Pairs with known truth and what users do to them: the cases of `benchmarks.robustness`.

A pair comes from one of three sources: RoadScene as the two cameras saw it, a frame of each video
scene of M3SVD (aligned), a rendered street. A case changes one image by an exact transform, so that
the truth, a 3x3 from visible pixel to infrared pixel, stays known.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks import data, scenes
from torch import Tensor

from umfuse import filters, geometry, images
from umfuse.evaluate.dataset import read_homographies
from umfuse.train.protocols import protocol

SPLITS = ("train", "test")
WEIGHTS = {"roadscene": 13, "video": 9, "rendered": 8}  # of the sources in a case
SOURCES = (*WEIGHTS, "tno")  # the last one for nearly aligned pairs alone
TNO = {"train": ("train/classic", "train/tno_seq"), "test": ("test/tno",)}  # tests are other scenes
RENDERED = 200  # scenes of a split
RENDERED_SIZE = (512, 640)  # of the infrared image
KEPT = 0.94  # part of both images that stays where a field of view is set, the rest is for shifts
OFF_CENTRE = 0.06  # of a side, how far the narrower field of view is from the middle of the wider
BAR = 0.12  # of the letterboxed side, each
PARALLAX = 1 / 200  # of the long side, how far off a burnt-in overlay is
NEAR_SIDE = 256  # nearly aligned pairs, as in the paper's table


@dataclass(frozen=True)
class Pair:
    """Two images and where each visible pixel lies in the infrared one.

    Attributes:
        infrared: ``(1, 1, h, w)`` in [0, 1].
        visible: ``(1, 3, H, W)`` in [0, 1].
        transform: ``(3, 3)`` float64, visible pixel to infrared pixel; None if there is no truth.
        restore: ``(1, 2, H, W)``, what moves visible pixels before the transform; None is nothing.
        valid: ``(1, 1, H, W)`` bool, where `restore` holds.
        content: Top, left, bottom, right: infrared pixels that are picture; None is all of them.
    """

    infrared: Tensor
    visible: Tensor
    transform: Tensor | None
    restore: Tensor | None = None
    valid: Tensor | None = None
    content: tuple[int, int, int, int] | None = None

    @property
    def infrared_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.infrared.shape[-2], self.infrared.shape[-1]

    @property
    def visible_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.visible.shape[-2], self.visible.shape[-1]

    @property
    def truth(self) -> Tensor:
        """Where each visible pixel lies in the infrared image, ``(1, 2, H, W)`` float64."""
        grid = geometry.identity_grid(*self.visible_size, dtype=torch.float64)
        return geometry.project(
            self._known(), grid if self.restore is None else grid + self.restore
        )

    def locate(self, points: Tensor) -> Tensor:
        """Returns where visible points ``(N, 2)`` lie in the infrared image, float64."""
        places = points.double().T[None, :, :, None]
        if self.restore is not None:
            places = places + geometry.interpolate(self.restore, places)
        return geometry.project(self._known(), places)[0, :, :, 0].T

    def seen(self, places: Tensor) -> Tensor:
        """Says which infrared points ``(1, 2, H, W)`` lie on the picture."""
        top, left, bottom, right = self.content or (0, 0, *self.infrared_size)
        offset = torch.tensor([left, top], dtype=places.dtype).view(1, 2, 1, 1)
        return geometry.inside(places - offset, (bottom - top, right - left))

    def _known(self) -> Tensor:
        if self.transform is None:
            raise ValueError("nobody knows the truth about this pair")
        return self.transform


Change = Callable[[Pair, np.random.Generator], Pair]


@dataclass(frozen=True)
class Case:
    """What is done to a pair.

    Attributes:
        change: Returns the pair of the case.
        aligned: Whether it starts from an aligned pair.
        source: The one source of its pairs; None means those of `WEIGHTS`.
        other: Whether the infrared image is that of another scene.
        exact: Whether the truth is good enough to tell 5 px at 640.
        known: What somebody who knows the cameras says of a pair of the case: arguments of
            `umfuse.register`.
    """

    change: Change
    aligned: bool = False
    source: str | None = None
    other: bool = False
    exact: bool = True
    known: Callable[[Pair], dict[str, Any]] | None = None


def names(source: str, split: str, seed: int = 0) -> list[str]:
    """Returns the pairs of a source and a split, in the order in which they are taken."""
    if source == "rendered":
        first = RENDERED * (SPLITS.index(split) + len(SPLITS) * seed)
        return [str(number) for number in range(first, first + RENDERED)]
    if source == "video":
        files = _stems("train/m3svd") if split == "train" else []
        every = list({name.rpartition("_")[0]: name for name in files}.values())
    elif source == "tno":
        every = [f"{where}/{name}" for where in TNO[split] for name in _stems(where)]
    else:
        every = sorted(read_homographies(data.root() / split / "roadscene" / "homography.json"))
    order = np.random.default_rng([seed, len(every)]).permutation(len(every))
    return [every[index] for index in order]


def _stems(where: str) -> list[str]:
    return sorted(path.stem for path in (data.root() / where / "vis").iterdir())


def load(source: str, split: str, name: str, aligned: bool) -> Pair:
    """Returns a pair of a source, aligned or as two cameras see it (videos are aligned always)."""
    if source == "rendered":
        return _rendered(int(name), 0.0 if aligned else 1.0)
    if source == "tno":
        where, _, name = name.rpartition("/")
    else:
        where = "train/m3svd" if source == "video" else f"{split}/roadscene"
    raw = source == "roadscene" and not aligned
    infrared, visible = _read(where, "ir_raw" if raw else "ir", name), _read(where, "vis", name)
    if raw:
        transform = read_homographies(data.root() / where / "homography.json")[name].double()
    else:
        transform = geometry.resize_transform(visible.size, infrared.size)
    return Pair(infrared.luma, visible.rgb, transform)


@functools.lru_cache(maxsize=2 * WEIGHTS["rendered"])
def _rendered(number: int, strength: float) -> Pair:
    """Returns a rendered scene, every fourth one at night."""
    scene = scenes.render(
        number, infrared_size=RENDERED_SIZE, strength=strength, night=number % 4 == 3
    )
    infrared, visible = images.read(scene.infrared), images.read(scene.visible)
    return Pair(infrared.luma, visible.rgb, torch.from_numpy(scene.transform))


def _read(where: str, kind: str, name: str) -> images.Picture:
    return images.read(next((data.root() / where / kind).glob(f"{name}.*")))


def make(case: str, source: str, split: str, name: str, other: str, seed: int = 0) -> Pair:
    """Returns a pair of a case; the same arguments give the same pair.

    Args:
        case: A key of `CASES`.
        source: Where the pair comes from.
        split: ``"train"`` or ``"test"``.
        name: As `names` gives it.
        other: Another name of the source, for pairs that do not belong together.
        seed: Of what is drawn.
    """
    kind = CASES[case]
    pair = load(source, split, name, kind.aligned)
    if kind.other:
        stranger = load(source, split, other, kind.aligned)
        pair = replace(pair, infrared=stranger.infrared, transform=None)
    draws = np.random.default_rng([seed, *case.encode(), *name.encode()])
    return kind.change(pair, draws)


def unchanged(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns the pair as it is."""
    del draws
    return pair


def identical(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns the visible image and, as infrared image, its luma."""
    del draws
    eye = torch.eye(3, dtype=torch.float64)
    return Pair(filters.luma(pair.visible), pair.visible, eye)


def constant(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns the pair as it is while the shutter of the infrared camera is closed."""
    del draws
    grey = pair.infrared.mean().expand(pair.infrared.shape).clone()
    return replace(pair, infrared=grey, transform=None)


def field_of_view(pair: Pair, draws: np.random.Generator, ratio: float) -> Pair:
    """Returns parts of both images, so that the visible one sees a multiple of the infrared one.

    Both get the long side that they had; the middles are off by a few percent.
    """
    sizes = pair.infrared_size, pair.visible_size
    # First the part of the infrared image that the visible one sees: a ratio of 1.
    corners = geometry.corners(pair.transform, pair.visible_size)[:4].view(2, 2, 2)
    (left, right), (top, bottom) = corners[..., 0].mean(0), corners[..., 1].mean(1)
    rows = _whole(float(top), float(bottom), pair.infrared_size[0])
    columns = _whole(float(left), float(right), pair.infrared_size[1])
    pair = crop_infrared(pair, rows, columns)
    rows, columns = _part(draws, pair.infrared_size, KEPT / max(1.0, ratio))
    pair = crop_infrared(pair, rows, columns, max(sizes[0]))
    rows, columns = _part(draws, pair.visible_size, KEPT * min(1.0, ratio))
    return crop_visible(pair, rows, columns, max(sizes[1]))


def _whole(first: float, last: float, side: int) -> slice:
    return slice(max(0, round(first)), min(side, round(last) + 1))


def _part(draws: np.random.Generator, size: tuple[int, int], part: float) -> tuple[slice, slice]:
    """Returns a part of an image near its middle."""
    slices = []
    for side in size:
        length = round(side * part)
        room = min((side - length) / 2, OFF_CENTRE * side)
        start = round((side - length) / 2 + draws.uniform(-room, room))
        slices.append(slice(start, start + length))
    return slices[0], slices[1]


def crop_infrared(pair: Pair, rows: slice, columns: slice, long_side: int | None = None) -> Pair:
    """Returns a pair with a part of its infrared image, resized to a long side."""
    infrared, to_part = _crop(pair.infrared, rows, columns, long_side)
    return replace(pair, infrared=infrared, transform=to_part @ pair.transform)


def crop_visible(pair: Pair, rows: slice, columns: slice, long_side: int | None = None) -> Pair:
    """Returns a pair with a part of its visible image, resized to a long side."""
    visible, to_part = _crop(pair.visible, rows, columns, long_side)
    return replace(pair, visible=visible, transform=pair.transform @ to_part.inverse())


def _crop(
    image: Tensor, rows: slice, columns: slice, long_side: int | None
) -> tuple[Tensor, Tensor]:
    """Returns a part of an image, and the transform of the image's pixels to those of the part."""
    part = image[..., rows, columns]
    shift = torch.eye(3, dtype=torch.float64)
    shift[0, 2], shift[1, 2] = -columns.start, -rows.start
    if long_side is None:
        return part, shift
    height, width = part.shape[-2:]
    factor = long_side / max(height, width)
    return _resize(part, (round(height * factor), round(width * factor)), shift)


def _resize(image: Tensor, size: tuple[int, int], before: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a resized image, and the transform of its pixels after another one."""
    resized = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
    return resized, geometry.resize_transform((image.shape[-2], image.shape[-1]), size) @ before


def rotated(pair: Pair, draws: np.random.Generator, degrees: float) -> Pair:
    """Returns a pair turned to an angle, to one side or the other, without empty corners.

    The infrared image is turned, and the largest part of its shape that has data is kept.
    """
    row = pair.transform[:2, 0] / pair.transform[:2, :2].norm(dim=1)
    now = math.degrees(math.atan2(float(row[1]), float(row[0])))
    turn = float(draws.choice([-1, 1])) * degrees - now
    height, width = pair.infrared_size
    cos, sin = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
    part = min(width / (width * cos + height * sin), height / (width * sin + height * cos))
    size = (int(height * part), int(width * part))
    turned = geometry.similarity_transform(_middle((height, width)), _middle(size), degrees=turn)
    places = geometry.project_grid(turned.inverse(), size)
    infrared = geometry.interpolate(pair.infrared, places)
    return replace(pair, infrared=infrared, transform=turned @ pair.transform)


def quarter_turns(pair: Pair, draws: np.random.Generator, turns: int) -> Pair:
    """Returns a pair whose infrared image is turned clockwise by right angles."""
    del draws
    infrared = pair.infrared.rot90(-turns, (-2, -1))
    middles = _middle(pair.infrared_size), _middle((infrared.shape[-2], infrared.shape[-1]))
    turned = geometry.similarity_transform(*middles, degrees=90 * turns)
    return replace(pair, infrared=infrared, transform=turned @ pair.transform)


def mirrored(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns a pair whose infrared image has left and right exchanged."""
    del draws
    flip = torch.eye(3, dtype=torch.float64)
    flip[0, 0], flip[0, 2] = -1, pair.infrared_size[1] - 1
    return replace(pair, infrared=pair.infrared.flip(-1), transform=flip @ pair.transform)


def said(pair: Pair, **known: float) -> dict[str, Any]:
    """Returns what is known of all pairs of a case."""
    del pair
    return known


def turn(pair: Pair) -> dict[str, Any]:
    """Returns the rotation of a pair, to a degree."""
    linear = pair.transform[:2, :2]
    angle = torch.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
    return {"rotation": round(math.degrees(angle))}


def _middle(size: tuple[int, int]) -> tuple[float, float]:
    return (size[1] - 1) / 2, (size[0] - 1) / 2


def reduced(
    pair: Pair, draws: np.random.Generator, width: int, enlarged: int | None = None
) -> Pair:
    """Returns a pair whose infrared image is the middle of its own in few pixels, 4 to 3.

    Args:
        pair: Any.
        draws: Not used.
        width: Of the infrared image; its height is 3/4 of that.
        enlarged: A width to which this image is then enlarged.
    """
    del draws
    height, across = pair.infrared_size
    down = min(height, across * 3 // 4)
    across = min(across, down * 4 // 3)
    top, left = (height - down) // 2, (pair.infrared_size[1] - across) // 2
    pair = crop_infrared(pair, slice(top, top + down), slice(left, left + across))
    for wide in (width, enlarged):
        if wide is not None:
            resized, scale = _resize(pair.infrared, (wide * 3 // 4, wide), torch.eye(3).double())
            pair = replace(pair, infrared=resized, transform=scale @ pair.transform)
    return pair


def letterboxed(pair: Pair, draws: np.random.Generator, axis: str) -> Pair:
    """Returns a pair whose infrared image has black bars at both ends of an axis, x or y."""
    del draws
    height, width = pair.infrared_size
    side = width if axis == "x" else height
    bar = round(side * BAR / (1 - 2 * BAR))
    x, y = (bar, 0) if axis == "x" else (0, bar)
    shift = torch.eye(3, dtype=torch.float64)
    shift[0, 2], shift[1, 2] = x, y
    return replace(
        pair,
        infrared=F.pad(pair.infrared, (x, x, y, y)),
        transform=shift @ pair.transform,
        content=(y, x, y + height, x + width),
    )


def overlaid(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns a pair whose infrared camera draws edges of its own visible camera into its image.

    That camera is not quite where the infrared one is: the edges are off by `PARALLAX`.
    """
    grey = filters.luma(pair.visible)
    edges = grey - filters.blur(grey, max(grey.shape) / 250)
    angle = draws.uniform(0, 2 * math.pi)
    shift = torch.eye(3, dtype=torch.float64)
    shift[:2, 2] = torch.tensor([math.cos(angle), math.sin(angle)])
    shift[:2, 2] *= PARALLAX * max(pair.infrared_size)
    places = geometry.project_grid((shift @ pair.transform).inverse(), pair.infrared_size)
    drawn, where = geometry.sample(edges, places)
    return replace(pair, infrared=(pair.infrared + drawn * where).clamp(0, 1))


def nearly_aligned(pair: Pair, draws: np.random.Generator) -> Pair:
    """Returns an aligned pair whose infrared image is moved by the protocol of the paper."""
    size = (NEAR_SIDE, NEAR_SIDE)
    infrared, visible = (
        F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
        for image in (pair.infrared, pair.visible)
    )
    moved = protocol("paper", size, int(draws.integers(2**31)))
    infrared = geometry.warp(infrared, moved.deform)[0]
    eye = torch.eye(3, dtype=torch.float64)
    return Pair(infrared, visible, eye, moved.restore, moved.valid)


NEAR = {"TNO": "tno", "RoadScene": "roadscene", "rendered": "rendered"}

CASES: Mapping[str, Case] = {
    "aligned": Case(unchanged, aligned=True),
    "identical images": Case(identical, aligned=True),
    "raw": Case(unchanged),
    **{
        f"FOV {ratio:g}": Case(partial(field_of_view, ratio=ratio), known=partial(said, fov=ratio))
        for ratio in (1, 1.5, 2, 2.5, 3, 4, 0.5, 0.4, 0.33, 0.25)
    },
    **{
        f"rotated {angle}": Case(partial(rotated, degrees=angle), known=turn)
        for angle in (5, 10, 12, 15, 20)
    },
    **{
        f"rotated {90 * turns}": Case(partial(quarter_turns, turns=turns), known=turn)
        for turns in (1, 2, 3)
    },
    "mirrored": Case(mirrored, known=partial(said, mirror=True)),
    "160x120": Case(partial(reduced, width=160)),
    "80x60": Case(partial(reduced, width=80)),
    "80x60, enlarged": Case(partial(reduced, width=80, enlarged=640)),
    "32x24": Case(partial(reduced, width=32)),
    "bars above and below": Case(partial(letterboxed, axis="y")),
    "bars left and right": Case(partial(letterboxed, axis="x")),
    "edge overlay": Case(overlaid),
    # TNO's own pairs are 4 px off: too much to tell right from wrong by 5 px at 640.
    **{
        f"nearly aligned, {name}": Case(nearly_aligned, True, source, exact=source != "tno")
        for name, source in NEAR.items()
    },
    "constant infrared": Case(constant),
    "wrong pair": Case(unchanged, other=True),
}
