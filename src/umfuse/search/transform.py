"""The search itself: from likely starts to one transform, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from umfuse import devices, geometry
from umfuse.search import correlation, ecc, homography, likelihood, working
from umfuse.search.correlation import DISTINCT, Grid
from umfuse.search.known import NOTHING, Known
from umfuse.search.view import SMALLEST, View, size_of
from umfuse.search.working import WorkingPair

# Sizes are the long side of the image that is searched, in pixels. All values were chosen on the
# RoadScene train split (benchmarks/search.py), none on a test split.
# Upright cameras of like fields of view deserve a fine grid; turned ones are found on a coarse one,
# which forgives the angle between two steps, and refined like the others.
COARSE = 1.12  # from one scale to the next
NARROW = (Grid(216, (0.0,)), Grid(112, (-8.0, -4.0, 4.0, 8.0), step=COARSE))
# Where these have no clear answer: fields of view far apart, and cameras turned further.
WIDE = (
    Grid(384, (0.0,), (2.0, 4.2), (1.0,), 4),
    Grid(640, (0.0,), (0.24, 0.5), (1.0,), 8),
    Grid(112, (-20.0, -16.0, -12.0, 12.0, 16.0, 20.0), (0.5, 2.0), (1.0,), 4, COARSE),
)
TURNED = Grid(160, (0.0,), (0.5, 2.0), (1.0,), 4)  # beside a quarter turn
FIRST = 2  # candidates of a grid that are refined before the others
SMALL_SIZE = 160
MIDDLE_SIZE = 320
CLEAR = 150.0  # log posterior that ends the search; wrong places had up to 125
LIKELY = 35.0  # the same of what stands out from all others of a fine grid
ENOUGH = 10.0  # log posterior below which nothing is moved
SURE = 0.9  # confidence of the narrow search that makes the wide one needless
ANGLE_STEP = 4.0  # degrees, of rotations that are known


class SearchResult(NamedTuple):
    """The global transform between two cameras, and how much speaks for it.

    Attributes:
        transform: ``(3, 3)`` float64, visible pixel ``(x, y, 1)`` to infrared pixel, on the CPU.
            Plain resizing, or what was known, where nothing better was found.
        confidence: In [0, 1]; low means "do not trust this alignment".
        log_likelihood: Log-likelihood ratio of the transform against chance.
        plain: The same for plain resizing, or what was known.
        runner_up: Log posterior of the best clearly different candidate.
        correlation: Of the orientation features where the images overlap, in [-1, 1].
    """

    transform: Tensor
    confidence: float
    log_likelihood: float
    plain: float
    runner_up: float
    correlation: float


@torch.no_grad()
def find_transform(infrared: Tensor, visible: Tensor, known: Known = NOTHING) -> SearchResult:
    """Returns the transform from visible to infrared pixels, and how far to trust it.

    Constant bars at the edges of the images are not looked at.

    Args:
        infrared: Luma in [0, 1], ``(h, w)``, ``(1, h, w)`` or ``(1, 1, h, w)``.
        visible: The same, of any size and aspect of its own.
        known: Of the two cameras; the search looks nowhere else.

    Returns:
        A transform that differs from plain resizing, or from what is known, only where the evidence
        asks for it.

    Raises:
        TypeError: An image is not a floating tensor.
        ValueError: An image has another shape.
    """
    vis = _single(visible, "visible")
    ir = _single(infrared, "infrared").to(vis.device)
    size, target = size_of(vis), size_of(ir)
    if min(*size, *target) < 2 * SMALLEST or working.is_constant(vis) or working.is_constant(ir):
        plain = known.transform(size, target)
        return SearchResult(plain, 0.0, 0.0, 0.0, 0.0, 0.0)
    ready = working.prepared(known.upright(ir), vis, known)
    # Geometry in bfloat16 is off by pixels.
    with torch.autocast(vis.device.type, enabled=False), devices.one_thread():
        pool = _searched(ready.pair)
    best = pool.best
    within = float(likelihood.precision(ready.pair, pool.transforms[best][None]))
    return SearchResult(
        known.back(target) @ (ready.plain if best == 0 else ready.outward(pool.transforms[best])),
        pool.confidence * within,
        float(pool.ratios[best]),
        pool.plain,
        pool.runner_up,
        float(pool.correlations[best]),
    )


def _searched(pair: WorkingPair) -> _Pool:
    """Returns what was looked at, what is likelier and cheaper first, until there is an answer."""
    pool = _Pool(pair)
    narrow, wide, turned = _grids(pair.known)
    pool.explore(likelihood.default_transforms(pair))
    for grid in narrow:
        if not pool.clear:
            found = pool.candidates(grid)
            pool.explore(found[:FIRST])
            if len(found) > FIRST and not pool.clear:
                pool.explore(found[FIRST:])
        if pool.settled:
            break
    if pool.confidence < SURE and wide:
        pool.explore(torch.cat([pool.candidates(grid) for grid in wide]))
    if pool.confidence < SURE and turned:
        beside = [pool.candidates(grid, turn) for turn in (1, 2, 3) for grid in turned]
        pool.explore(torch.cat(beside))
    pool.refine()
    return pool


def _grids(known: Known) -> tuple[Sequence[Grid], Sequence[Grid], Sequence[Grid]]:
    """Returns the narrow grids, the wide ones and those beside a quarter turn, as far as known."""
    narrow, wide, turned = NARROW, WIDE, (TURNED,)
    if known.rotation is not None:
        low, high = known.rests
        steps = math.ceil((high - low) / ANGLE_STEP)
        angles = tuple(low + (high - low) * step / steps for step in range(steps + 1))
        middle = (known.middle[1],)
        narrow = (NARROW[0]._replace(rotations=middle), NARROW[1]._replace(rotations=angles))
        wide, turned = tuple(grid._replace(rotations=middle) for grid in WIDE[:2]), ()
    if known.fov is not None:
        wide = wide[2:]  # these are of other fields of view
        narrow, wide, turned = (
            tuple(_scaled(grid, known.fovs) for grid in some) for some in (narrow, wide, turned)
        )
    return narrow, wide, turned


def _scaled(grid: Grid, fovs: tuple[float, float]) -> Grid:
    """Returns a grid of other fields of view; the image that sees less keeps enough pixels."""
    far = max(fovs[1], 1 / fovs[0]) / grid.scales[1]
    return grid._replace(longest=round(grid.longest * max(1.0, far)), scales=fovs)


class _Pool:
    """Transforms of a pair that were looked at, and what speaks for them.

    Args:
        pair: The images. Those with the infrared one turned by 90, 180 and 270 degrees follow.

    Attributes:
        transforms: ``(N, 3, 3)`` float64, visible to infrared pixel of the pair as it is.
        ratios: ``(N,)``, log-likelihood ratios.
        correlations: ``(N,)``.
        rank: ``(N,)``, log posteriors: ratios and priors.
        plain: Log-likelihood ratio of plain resizing, or what is known.
    """

    def __init__(self, pair: WorkingPair) -> None:
        quarters = [torch.rot90(pair.infrared.image, turn, (2, 3)) for turn in (1, 2, 3)]
        self.pairs = [pair, *(pair._replace(infrared=View(one)) for one in quarters)]
        self.back = _quarter_turns(pair.infrared.size)
        self.transforms = torch.empty(0, 3, 3, dtype=torch.float64)
        self.ratios = self.correlations = self.rank = torch.empty(0)
        self.add(pair.plain[None])
        self.plain = float(self.ratios[0])

    def add(self, found: Tensor) -> None:
        """Takes transforms ``(N, 3, 3)``, visible to infrared pixel."""
        ratios, correlations = likelihood.compare(self.pairs[0], found)
        turns = _quarters(found)
        rank = ratios.clone()
        for turn in cast("list[int]", turns.unique().tolist()):
            some = turns == turn
            rank[some] += likelihood.log_prior(
                self.pairs[turn], self.back[turn].inverse() @ found[some]
            )
            rank[some] += likelihood.UNLIKELY if turn else 0.0
        self.transforms = torch.cat((self.transforms, found))
        self.ratios = torch.cat((self.ratios, ratios))
        self.correlations = torch.cat((self.correlations, correlations))
        self.rank = torch.cat((self.rank, rank))

    def explore(self, starts: Tensor) -> None:
        """Takes what transforms ``(N, 3, 3)`` lead to."""
        self.add(_refined(self.pairs[0], starts))

    def candidates(self, grid: Grid, turn: int = 0) -> Tensor:
        """Returns the likeliest transforms of a grid beside quarter turns, ``(N, 3, 3)``."""
        return self.back[turn] @ correlation.candidates(self.pairs[turn], grid)

    def refine(self) -> None:
        """Refines the best transforms to homographies."""
        turns = _quarters(self.transforms)
        turn = int(turns[self.best])
        leaders = torch.where(turns == turn, self.rank, -math.inf).topk(2).indices
        there = self.back[turn].inverse() @ self.transforms[leaders]
        pair = self.pairs[turn]
        # Two starts that met at one place end at one place.
        apart = float(pair.distance(there[1:], there[0])) > 0.2 * DISTINCT
        found = [homography.refine(pair, one) for one in there[: 1 + apart]]
        self.add(self.back[turn] @ torch.stack(found))

    @property
    def clear(self) -> bool:
        """Whether one of the transforms needs no other to be compared with."""
        return float(self.rank.max()) >= CLEAR

    @property
    def settled(self) -> bool:
        """Whether the best transform stands out from all that a fine grid has found."""
        best = float(self.rank[self.best])
        return best >= CLEAR or (best >= LIKELY and best >= 3 * self.runner_up)

    @property
    def best(self) -> int:
        """The likeliest transform; plain resizing if nothing speaks for any."""
        best = int(self.rank.argmax())
        return best if float(self.rank[best]) >= ENOUGH else 0

    @property
    def runner_up(self) -> float:
        """The log posterior of the best transform that is clearly another one, at least 0."""
        apart = self.pairs[0].distance(self.transforms, self.transforms[self.best])
        return max(0.0, float(torch.where(apart > DISTINCT, self.rank, -math.inf).max()))

    @property
    def confidence(self) -> float:
        """How far to trust that the best transform is at the right place, in [0, 1]."""
        rank = max(float(self.rank[self.best]), 1e-3)
        # A runner-up half as good halves the confidence; repeated structure makes many.
        unique = 1 / (1 + (2 * self.runner_up / rank) ** 6)
        return unique / (1 + math.exp(-0.5 * (rank - self.runner_up - ENOUGH / 2)))


def _quarter_turns(size: tuple[int, int]) -> Tensor:
    """Returns the transforms from quarter turns of an image to the image, ``(4, 3, 3)``."""
    bottom, right = size[0] - 1.0, size[1] - 1.0
    return torch.tensor(
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[0, -1, right], [1, 0, 0], [0, 0, 1]],
            [[-1, 0, right], [0, -1, bottom], [0, 0, 1]],
            [[0, 1, 0], [-1, 0, bottom], [0, 0, 1]],
        ],
        dtype=torch.float64,
    )


def _quarters(transforms: Tensor) -> Tensor:
    """Returns which of `_quarter_turns` is nearest to transforms ``(N, 3, 3)``: ``(N,)``."""
    linear = transforms[:, :2, :2] / transforms[:, 2:, 2:]
    return (geometry.rotation(linear) / (math.pi / 2)).round().long() % 4


def _refined(pair: WorkingPair, starts: Tensor) -> Tensor:
    """Returns the affine maps that starts lead to, two for each: ``(2 N, 3, 3)``."""
    details = likelihood.detail(pair, starts)
    found: list[Tensor] = []
    for factor in cast("list[int]", details.unique().tolist()):
        group, small, middle = starts[details == factor], factor * SMALL_SIZE, factor * MIDDLE_SIZE
        # Two ways up: directly, and by way of a smaller picture, whose hills are wider.
        wide = ecc.refine(pair, group, small, ((1.2, 12),))
        group = ecc.refine(pair, group, middle, ((1.5, 12),))
        found.append(ecc.refine(pair, torch.cat((group, wide)), middle, ((1.0, 8),)))
    return torch.cat(found)


def _single(image: Tensor, name: str) -> Tensor:
    """Returns a luma image as ``(1, 1, H, W)`` float32."""
    if not isinstance(image, Tensor) or not image.is_floating_point():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a floating tensor of luma in [0, 1], got {type(image)}")
    if image.ndim not in (2, 3, 4) or image.shape[:-2].numel() != 1 or image.numel() == 0:
        raise ValueError(
            f"{name} must be one luma image of shape (H, W), (1, H, W) or (1, 1, H, W), "
            f"got {tuple(image.shape)}; convert colour to luma and search one pair at a time"
        )
    return image.detach().float().reshape(1, 1, *image.shape[-2:])
