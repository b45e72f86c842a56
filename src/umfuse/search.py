"""Global alignment of an infrared and a visible camera: no learning, no parameters.

Both images are reduced to the orientation of their gradients, with the angle doubled so that a hot
object on a cold ground and its inverse look the same. A grid of scales, aspects and rotations is
correlated over all translations by FFT; the best peaks, and plain resizing, are refined to affine
maps and compared; the winner is refined to a homography. A candidate is judged by its *evidence*:
the log-likelihood ratio of "these two feature maps are correlated" against "they are not", which
grows with the correlation and with the number of pixels that carry it, so that a small overlap
which fits by chance does not win over a large one which fits less well but for a reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters

# Sizes are the long side of the image that is searched, in pixels. All values were chosen on the
# RoadScene train split (benchmarks/search.py), none on a test split.
# Upright cameras deserve a fine grid; turned ones are found on a coarse one, which forgives the
# angle between two steps, and refined like the others.
COARSE = ((216, (0.0,)), (112, (-8.0, -4.0, 4.0, 8.0)))  # size, rotations in degrees
SMALL_SIZE = 160
MIDDLE_SIZE = 320
WORKING_SIZE = 640  # larger images are reduced to it at once
COARSE_SIGMA = 0.8
SCALES = (0.5, 2.0)  # relative to plain resizing: fields of view up to a factor of two apart
SCALE_STEP = 1.08  # half a step moves the end of a half frame of 80 px by 3 px, within reach
ASPECTS = (0.9, 1.0, 1.11)  # pixel aspects; the raw RoadScene pairs need 0.93 to 1.14
PEAKS = 3  # peaks kept per scale, aspect and rotation
CANDIDATES = 8  # distinct peaks of each coarse grid that are refined
FIRST = 2  # of them before the others
CLEAR = 150.0  # evidence (with its prior) that ends the search; wrong places had up to 125
DISTINCT = 0.05  # of the infrared long side: closer candidates are one
NORMALISING_RADIUS = 12  # pixels around which gradient energy is averaged
WHITENING_RADIUS = 8  # pixels; local means carry the layout (sky, road), not the position
FLOOR = 0.3  # of the mean gradient energy: what is flatter is noise
CLIP = 2.0  # in local standard deviations: no single edge decides
PIXELS_PER_SAMPLE = 16.0  # neighbouring feature pixels are not independent
NEAR = 0.06  # of the frame: most pairs that arrive are roughly aligned already
NEAR_BONUS = 6.0  # log of about how many more places there are far away than near
SCALE_SPREAD, ROTATION_SPREAD, SHIFT_SPREAD = 0.5, 8.0, 0.35  # weak Gaussian prior
ENOUGH = 10.0  # evidence (with its prior) below which nothing is moved
# The last refinement: infrared long side, blur, stride of the points, steps.
FINE = ((320, 1.3, 2, 10), (320, 0.8, 2, 10), (480, 0.8, 2, 8))
# What two cameras side by side may differ by, standard deviations with the half long side as unit:
# shear, perspective right and down, log aspect, rotation. Pixels are square, axes nearly parallel.
SPREADS = (0.01, 0.02, 0.02, 0.1, 0.02)
PIXELS_PER_TERM = 32.0  # as PIXELS_PER_SAMPLE, where the prior of the last refinement is weighed
SETTLED = 2e-4  # of the half long side: 0.05 pixels at 480
BORDER = 2  # pixels at the edge of a mask whose gradients are not trusted
SMALLEST = 8  # pixels; below it there is nothing to search


class Search(NamedTuple):
    """The global transform between two cameras, and how much speaks for it.

    Attributes:
        transform: ``(3, 3)`` float64, visible pixel ``(x, y, 1)`` to infrared pixel, on the device
            of the visible image. Plain resizing where nothing better was found.
        confidence: In [0, 1]; low means "do not trust this alignment".
        evidence: Log-likelihood ratio of the transform against chance.
        plain: The same for plain resizing.
        rival: The same for the best clearly different candidate.
        correlation: Of the orientation features where the images overlap, in [-1, 1].
    """

    transform: Tensor
    confidence: float
    evidence: float
    plain: float
    rival: float
    correlation: float


@torch.no_grad()
def search(visible: Tensor, infrared: Tensor) -> Search:
    """Returns the transform from visible to infrared pixels, and how far to trust it.

    Args:
        visible: Luma in [0, 1], ``(H, W)``, ``(1, H, W)`` or ``(1, 1, H, W)``.
        infrared: The same, of any size and aspect of its own.

    Returns:
        A transform that differs from plain resizing only where the evidence asks for it.

    Raises:
        TypeError: An image is not a floating tensor.
        ValueError: An image has another shape.
    """
    vis, ir = _single(visible, "visible"), _single(infrared, "infrared").to(visible.device)
    device = visible.device
    size, target = _size(vis), _size(ir)
    plain = _resizing(size, target)
    if min(*size, *target) < 2 * SMALLEST or float(vis.std()) < 1e-4 or float(ir.std()) < 1e-4:
        return Search(plain.to(device), 0.0, 0.0, 0.0, 0.0, 0.0)
    # Everything below happens on reduced images; the transform is mapped back at the end.
    small, reduced = _reduced(vis), _reduced(ir)
    before, after = _resizing(size, _size(small)), _resizing(target, _size(reduced))
    frame = _Frame(small, reduced, _resizing(_size(small), _size(reduced)))

    middle, evidence, rank = _candidates(frame)
    best = int(rank.argmax())
    far = _distance(frame, middle, middle[best]) > DISTINCT
    rival = float(rank[far].max()) if bool(far.any()) else 0.0
    base, _ = _evidence(frame, frame.plain[None], MIDDLE_SIZE)
    if float(rank[best]) < ENOUGH or float(evidence[best]) < float(base[0]):
        score = float(base[0])
        return Search(plain.to(device), 0.1 * _squash(score), score, score, rival, 0.0)
    leaders = middle[rank.topk(2).indices]
    # Two starts that met at one place settle at one place.
    apart = float(_distance(frame, leaders[1:], leaders[0])) > 0.2 * DISTINCT
    fine = torch.stack([_settle(frame, one) for one in leaders[: 1 + apart]])
    final, correlations = _evidence(frame, fine, MIDDLE_SIZE)
    top = int((final + _log_prior(frame, fine)).argmax())
    transform = after.inverse() @ fine[top] @ before
    score = float(final[top])
    # A rival half as good halves the confidence; repeated structure makes many.
    unique = 1 / (1 + (2 * max(rival, 0.0) / float(rank[best])) ** 6)
    sure = unique * _squash(float(rank[best]) - max(rival, 0.0) - ENOUGH / 2)
    return Search(
        (transform / transform[2, 2]).to(device),
        sure,
        score,
        float(base[0]),
        rival,
        float(correlations[top]),
    )


def orientation(image: Tensor, sigma: float, radius: int = NORMALISING_RADIUS) -> Tensor:
    """Returns the gradient orientation of an image, its angle doubled: ``(B, 2, H, W)``.

    The two channels are the cosine and sine of twice the angle, so that reversing the contrast
    changes nothing; their length is the gradient magnitude over its local root mean square, at
    most ``CLIP``. Differentiable; constant images give zeros.

    Args:
        image: ``(B, 1, H, W)`` in [0, 1].
        sigma: Of the Gaussian applied first, in pixels.
        radius: Of the window of the local root mean square, in pixels.
    """
    # The root lifts the dark half of a night scene to where its gradients count.
    lifted = (image.clamp(0, 1) + 0.01).sqrt()
    right, down = filters.gradient(filters.blur(lifted, sigma))
    energy = right * right + down * down
    typical = filters.box(energy, radius) + FLOOR * energy.mean((2, 3), keepdim=True) + 1e-8
    length = ((energy + 1e-12) / typical).sqrt().clamp(max=CLIP)
    double = torch.cat((right * right - down * down, 2 * right * down), 1)
    return double * (length / (energy + 1e-12))


def similarity(visible: Tensor, registered: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns how well an infrared image on the visible grid explains the visible one: ``(B,)``.

    The correlation of the orientation features over valid pixels, averaged over two scales,
    in [-1, 1]; 0 where there is no evidence.

    Args:
        visible: ``(B, 1, H, W)`` luma in [0, 1].
        registered: ``(B, 1, H, W)``, infrared sampled on the visible grid.
        valid: ``(B, 1, H, W)`` bool, or None for everywhere.
    """
    mask = torch.ones_like(visible) if valid is None else valid.to(visible.dtype)
    # Gradients that look across the border of the mask see the replicated edge, not the scene.
    mask = 1 - F.max_pool2d(1 - mask, 2 * BORDER + 1, 1, BORDER)
    scores: list[Tensor] = []
    for sigma in (1.0, 2.0):
        a, b = (_whiten(orientation(x, sigma)) * mask for x in (visible, registered))
        power = (a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt()
        scores.append((a * b).sum((1, 2, 3)) / (power + 1e-6))
    return torch.stack(scores).mean(0)


class _Frame(NamedTuple):
    """A pair at its working size. Transforms inside the search are between these pixels."""

    visible: Tensor
    infrared: Tensor
    plain: Tensor


def _candidates(frame: _Frame) -> tuple[Tensor, Tensor, Tensor]:
    """Returns refined transforms ``(N, 3, 3)``, their evidence, and that with their prior."""
    transforms, evidence = torch.empty(0, 3, 3, dtype=torch.float64), torch.empty(0)
    rank = evidence
    for starts in _starts(frame):
        reached = _reach(frame, starts)
        transforms = torch.cat((transforms, reached))
        evidence = torch.cat((evidence, _evidence(frame, reached, MIDDLE_SIZE)[0]))
        rank = evidence + _log_prior(frame, transforms)
        if float(rank.max()) >= CLEAR:
            break
    return transforms, evidence, rank


def _starts(frame: _Frame) -> Iterator[Tensor]:
    """Yields transforms to refine, ``(N, 3, 3)`` each, what is likelier and cheaper first."""
    yield _stays(frame)
    for longest, rotations in COARSE:
        found = _coarse(frame, longest, rotations)
        yield found[:FIRST]
        yield found[FIRST:]


def _reach(frame: _Frame, starts: Tensor) -> Tensor:
    """Returns the transforms that starts lead to, two for each: ``(2 N, 3, 3)``."""
    # Two ways up: directly, and by way of a smaller picture, whose hills are wider.
    wide = _refine(frame, starts, SMALL_SIZE, ((1.2, 12),), 1000)
    straight = _refine(frame, starts, MIDDLE_SIZE, ((1.5, 12), (1.0, 8)), 1000)
    return torch.cat((straight, _refine(frame, wide, MIDDLE_SIZE, ((1.0, 8),), 1000)))


# --- coarse: every scale, aspect, rotation and translation ---------------------------------------


def _coarse(frame: _Frame, longest: int, rotations: tuple[float, ...]) -> Tensor:
    """Returns the likely distinct transforms of a coarse grid, best first: ``(N, 3, 3)``."""
    (h, w), (height, width) = _size(frame.visible), _size(frame.infrared)
    low = SCALES[0] * min(width / w, height / h)
    high = SCALES[1] * max(width / w, height / h)
    steps = math.ceil(math.log(high / low) / math.log(SCALE_STEP))
    inner: list[tuple[float, float]] = []
    outer: list[tuple[float, float]] = []
    for step in range(steps + 1):
        scale = low * (high / low) ** (step / steps)
        for aspect in ASPECTS:
            x, y = scale * aspect**0.5, scale / aspect**0.5
            # The image with the smaller field of view moves over the other one.
            if w * x * h * y <= width * height:
                inner.append((x, y))
            else:
                outer.append((1 / x, 1 / y))
    evidence, transforms = _slide(frame.infrared, frame.visible, inner, longest, rotations)
    if outer:
        more, back = _slide(frame.visible, frame.infrared, outer, longest, rotations)
        evidence = torch.cat((evidence, more))
        transforms = torch.cat((transforms, back.inverse()))
    rank = evidence + _log_prior(frame, transforms)
    places = _corners(transforms, (h, w))
    found: list[Tensor] = []
    for _ in range(CANDIDATES):
        best = int(rank.argmax())
        if rank[best] == -math.inf:
            break
        found.append(transforms[best])
        apart = _length(places - places[best]).mean(-1)
        rank[apart < DISTINCT * max(height, width)] = -math.inf
    return torch.stack(found)


def _slide(
    fixed: Tensor,
    moving: Tensor,
    scales: list[tuple[float, float]],
    longest: int,
    rotations: tuple[float, ...],
) -> tuple[Tensor, Tensor]:
    """Returns evidence ``(N,)`` and transforms ``(N, 3, 3)``, moving to fixed pixel, of peaks."""
    shape = _size(fixed)
    grid = _fitted(shape, longest)
    reduce = _resizing(shape, grid)
    mask = _inner(torch.ones(1, 1, *grid, device=fixed.device))
    still = _whiten(orientation(_resized(fixed, grid), COARSE_SIGMA)) * mask
    h, w = _size(moving)
    down, right = h * float(reduce[1, 1]), w * float(reduce[0, 0])
    sizes = [(max(SMALLEST, round(down * y)), max(SMALLEST, round(right * x))) for x, y in scales]
    correlate = _Correlation(still, mask, (max(y for y, _ in sizes), max(x for _, x in sizes)))
    evidence: list[Tensor] = []
    transforms: list[Tensor] = []
    for size in sizes:
        turned, inside = _rotated(_resized(moving, size), rotations)
        features = _whiten(orientation(turned, COARSE_SIGMA)) * inside
        maps = correlate(features, inside)
        # A peak is as high as all pixels within its reach.
        ridge = F.max_pool2d(maps, (1, 7), 1, (0, 3))
        ridge = F.max_pool2d(ridge, (7, 1), 1, (3, 0))
        value, index = torch.where(maps == ridge, maps, 0.0).flatten(1).topk(PEAKS, 1)
        evidence.append(value.flatten())
        shift = torch.eye(3, dtype=torch.float64).repeat(len(maps), PEAKS, 1, 1)
        shift[..., 0, 2] = (index % maps.shape[2]).cpu().double() - size[1] // 2
        shift[..., 1, 2] = (index // maps.shape[2]).cpu().double() - size[0] // 2
        turn = _turns(size, rotations)[:, None] @ _resizing((h, w), size)
        transforms.append((reduce.inverse() @ shift @ turn).flatten(0, 1))
    return torch.cat(evidence).cpu(), torch.cat(transforms)


class _Correlation:
    """The evidence of every shift of one image over another.

    Args:
        still: ``(1, 2, H, W)`` features.
        mask: ``(1, 1, H, W)``, 0 where `still` is unknown (and zero).
        largest: Height and width that no moving image exceeds.
    """

    COARSE = 4  # overlaps are smooth: a quarter of the resolution does

    def __init__(self, still: Tensor, mask: Tensor, largest: tuple[int, int]) -> None:
        self.shape = height, width = _size(still)
        h, w = largest
        self.size = (_fast(max(height + h // 2 + 1, h)), _fast(max(width + w // 2 + 1, w)))
        self.low = (self.size[0] // self.COARSE, self.size[1] // self.COARSE)
        self.still = _spectrum(still, self.size)
        power = still.square().sum(1, keepdim=True)
        self.sums = _spectrum(self._pool(torch.cat((power, mask, mask), 1)), self.low)

    def __call__(self, moving: Tensor, inside: Tensor) -> Tensor:
        """Returns the evidence of every shift that keeps the centre of `moving` inside.

        Args:
            moving: ``(B, 2, h, w)`` features.
            inside: ``(B, 1, h, w)``, 0 where `moving` is unknown (and zero).

        Returns:
            ``(B, H, W)``: entry ``[y, x]`` puts the first pixel of `moving`
            at ``(y - h // 2, x - w // 2)``.
        """
        (height, width), (h, w) = self.shape, _size(moving)
        spectrum = (self.still * _spectrum(moving, self.size).conj()).sum(1)
        product = cast("Tensor", torch.fft.irfft2(spectrum, s=self.size))
        moved = moving.square().sum(1, keepdim=True)
        other = _spectrum(self._pool(torch.cat((inside, moved, inside), 1)), self.low)
        sums = cast("Tensor", torch.fft.irfft2(self.sums * other.conj(), s=self.low))
        # Entry i of the small maps is shift 4 i, entry 0 of the large ones shift 0.
        sums = F.pad(sums * self.COARSE**2, (0, 1, 0, 1), mode="circular")
        big = (self.low[0] * self.COARSE + 1, self.low[1] * self.COARSE + 1)
        sums = F.interpolate(sums, big, mode="bilinear", align_corners=True)[..., :-1, :-1]
        sums = sums.clamp_min(1e-3)
        maps = _gain(product / (sums[:, 0] * sums[:, 1] + 1e-3).sqrt(), sums[:, 2])
        rows = torch.arange(-(h // 2), height - h // 2, device=moving.device) % self.size[0]
        columns = torch.arange(-(w // 2), width - w // 2, device=moving.device) % self.size[1]
        return maps[:, rows][:, :, columns]

    def _pool(self, maps: Tensor) -> Tensor:
        h, w = _size(maps)
        return F.avg_pool2d(F.pad(maps, (0, -w % self.COARSE, 0, -h % self.COARSE)), self.COARSE)


def _spectrum(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return cast("Tensor", torch.fft.rfft2(maps, s=size))


def _rotated(image: Tensor, rotations: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Returns the image turned by each angle about its centre, and where it is valid."""
    size = _size(image)
    if rotations == (0.0,):
        return image, _inner(torch.ones_like(image))
    maps = _turns(size, rotations).inverse().to(image)
    place = _project(maps, _pixels(size, image.device).flatten(1, 2))
    turned = _sample(image.expand(len(maps), -1, -1, -1), place.reshape(-1, *size, 2))
    return turned, _covered(place, size).reshape(-1, 1, *size)


def _turns(size: tuple[int, int], rotations: tuple[float, ...]) -> Tensor:
    """Returns the rotations about the centre of an image, ``(R, 3, 3)``."""
    angle = torch.tensor(rotations, dtype=torch.float64).deg2rad()
    turn = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0], turn[:, 0, 1] = angle.sin(), -angle.sin()
    centre = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
    turn[:, :2, 2] = centre - turn[:, :2, :2] @ centre
    return turn


# --- candidates: prior, evidence, refinement -----------------------------------------------------


def _stays(frame: _Frame) -> Tensor:
    """Returns what claims least: plain resizing, and square pixels that fit or fill."""
    (h, w), (height, width) = _size(frame.visible), _size(frame.infrared)
    starts = [frame.plain]
    x, y = width / w, height / h
    if abs(math.log(x / y)) > 0.03:
        for scale in (min(x, y), max(x, y)):
            square = torch.eye(3, dtype=torch.float64)
            square[0, 0] = square[1, 1] = scale
            square[0, 2] = (width - 1) / 2 - scale * (w - 1) / 2
            square[1, 2] = (height - 1) / 2 - scale * (h - 1) / 2
            starts.append(square)
    return torch.stack(starts)


def _log_prior(frame: _Frame, transforms: Tensor) -> Tensor:
    """Returns how plausible transforms are before the pictures are compared, ``(N,)``."""
    (h, w), (height, width) = _size(frame.visible), _size(frame.infrared)
    linear = transforms[:, :2, :2]
    scale = linear.det().abs().clamp_min(1e-6).sqrt() / (width / w * height / h) ** 0.5
    turn = torch.rad2deg(
        torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
    )
    centre = _corners(transforms, (h, w))[:, 4] - torch.tensor([(width - 1) / 2, (height - 1) / 2])
    shift = _length(centre / torch.tensor([width, height]))
    wide = (scale.log() / SCALE_SPREAD) ** 2 + (turn / ROTATION_SPREAD) ** 2
    wide = -0.5 * (wide + (shift / SHIFT_SPREAD) ** 2)
    near = torch.stack([_distance(frame, transforms, stay) for stay in _stays(frame)]).amin(0)
    return (wide + NEAR_BONUS * (-0.5 * (near / NEAR) ** 2).exp()).float()


def _distance(frame: _Frame, transforms: Tensor, other: Tensor) -> Tensor:
    """Returns how far transforms are from another one, as a part of the infrared long side."""
    shape = _size(frame.visible)
    apart = _length(_corners(transforms, shape) - _corners(other, shape)).mean(-1)
    return apart / max(_size(frame.infrared))


def _gain(correlation: Tensor, pixels: Tensor) -> Tensor:
    """Returns the log-likelihood gained by a correlation over a number of pixels; 0 if negative."""
    return -0.5 / PIXELS_PER_SAMPLE * pixels * torch.log1p(-correlation.clamp(0, 0.99).square())


def _evidence(frame: _Frame, transforms: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Returns the evidence and the correlation of transforms, ``(N,)`` each."""
    grid = _fitted(_size(frame.infrared), longest)
    reduce = _resizing(_size(frame.infrared), grid)
    still = _whiten(orientation(_resized(frame.infrared, grid), 1.0))
    gains: list[Tensor] = []
    correlations: list[Tensor] = []
    for transform in transforms:
        image, mask = _render(frame.visible, reduce @ transform, grid)
        a, b = _whiten(orientation(image, 1.0)) * mask, still * mask
        power = (a.square().sum() * b.square().sum()).sqrt()
        correlation = (a * b).sum() / (power + 1e-3)
        gains.append(_gain(correlation, mask.sum()))
        correlations.append(correlation)
    return torch.stack(gains).cpu(), torch.stack(correlations).cpu()


def _refine(
    frame: _Frame,
    transforms: Tensor,
    longest: int,
    stages: tuple[tuple[float, int], ...],
    count: int,
) -> Tensor:
    """Returns transforms moved to the nearest maximum of the correlation, ``(N, 3, 3)``.

    Args:
        frame: The pair.
        transforms: Where to start, ``(N, 3, 3)``.
        longest: Working size: the long side of the infrared image.
        stages: Blur and number of steps, one after the other.
        count: The number of visible edge points that are followed.
    """
    grid = _fitted(_size(frame.infrared), longest)
    reduce = _resizing(_size(frame.infrared), grid)
    image = _resized(frame.infrared, grid)
    for sigma, steps in stages:
        still = _whiten(orientation(image, sigma))
        points: list[Tensor] = []
        values: list[Tensor] = []
        for transform in transforms:
            picture, mask = _render(frame.visible, reduce @ transform, grid)
            chosen, value = _strongest(_whiten(orientation(picture, sigma)) * mask, count)
            points.append(chosen)
            values.append(value)
        change = _climb(torch.stack(values), torch.stack(points), still, steps)
        transforms = reduce.inverse() @ change.cpu().double() @ reduce @ transforms
    return transforms


def _strongest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the places ``(N, 2)`` of the strongest ridges of a map, and its values there."""
    energy = features.square().sum(1)
    ridge = F.max_pool2d(F.max_pool2d(energy, (1, 3), 1, (0, 1)), (3, 1), 1, (1, 0)) == energy
    # Ridge points first, then what lies beside them.
    order = torch.where(ridge, energy, energy * 1e-3).flatten()
    index = order.topk(min(count, order.numel())).indices
    width = features.shape[-1]
    return torch.stack((index % width, index // width), -1).float(), features[0].flatten(1)[
        :, index
    ].T


def _climb(values: Tensor, points: Tensor, still: Tensor, steps: int) -> Tensor:
    """Returns the affine maps that best lay visible points onto the infrared features.

    Maximises the correlation by Gauss-Newton steps on its enhanced form (Evangelidis and Psarakis,
    DOI 10.1109/TPAMI.2008.113), damped after Levenberg and Marquardt, for a batch of starts.

    Args:
        values: ``(B, N, 2)`` features of the visible points.
        points: ``(B, N, 2)`` where they lie at the start, infrared pixels.
        still: ``(1, 2, H, W)`` features of the infrared image.
        steps: Number of steps.

    Returns:
        ``(B, 3, 3)``, pixel to pixel, the identity where nothing was better.
    """
    (height, width), batch = _size(still), len(values)
    stack = _with_gradients(still)
    radius = max(height, width) / 2
    unit = torch.tensor(
        [[radius, 0, (width - 1) / 2], [0, radius, (height - 1) / 2], [0, 0, 1]],
        device=still.device,
    )
    place = _project(unit.inverse(), points)
    used = (values.square().sum(-1) > 0).to(values)
    eye = torch.eye(3, device=still.device).repeat(batch, 1, 1)
    best, trial = eye, eye
    reached = torch.full((batch,), -1.0, device=still.device)
    damping = torch.full_like(reached, 1e-3)
    state: list[Tensor] = []
    for step in range(steps + 1):
        moved = _project(trial, place)
        target = _project(unit, moved)
        weight = used * _covered(target, (height, width), 0)
        # One row per start: the sampler wants a picture, so points lie in its second axis.
        seen = _sample(stack, target[None])[0].permute(1, 2, 0)
        got, slope_x, slope_y = seen.chunk(3, -1)
        weighted = weight[..., None]
        agree = (weighted * values * got).sum((1, 2))
        power = (weighted * got * got).sum((1, 2))
        own = (weighted * values * values).sum((1, 2))
        lost = weight.sum(1) / used.sum(1).clamp_min(1)
        score = agree / (power * own + 1e-9).sqrt() * lost.sqrt()
        better = score > reached
        best = torch.where(better[:, None, None], trial, best)
        reached = torch.where(better, score, reached)
        damping = torch.where(better, damping * 0.5, damping * 8).clamp(1e-4, 1e3)
        if step == steps:
            break
        jacobian = _jacobian(place, slope_x, slope_y) * radius
        heavy = jacobian * weight[..., None, None]
        heavy, jacobian = heavy.flatten(1, 2).transpose(1, 2), jacobian.flatten(1, 2)
        fresh = [
            heavy @ jacobian,
            (heavy @ values.flatten(1)[..., None])[..., 0],
            (heavy @ got.flatten(1)[..., None])[..., 0],
            agree,
            power,
        ]
        # A start that got worse goes back to its best point, with more damping.
        state = [
            torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(fresh, state or fresh, strict=True)
        ]
        change = _step(state, damping)
        length = radius * change.abs().sum(1, keepdim=True)
        change = change * (6.0 / length.clamp_min(6.0))
        trial = best + F.pad(change, (0, 3)).view(batch, 3, 3)
    return unit @ best @ unit.inverse()


def _jacobian(place: Tensor, slope_x: Tensor, slope_y: Tensor) -> Tensor:
    """Returns the derivative of the features by the entries of affine maps, ``(B, N, 2, 6)``."""
    point = F.pad(place, (0, 1), value=1.0)[:, :, None]
    return torch.cat((slope_x[..., None] * point, slope_y[..., None] * point), -1)


def _step(state: list[Tensor], damping: Tensor) -> Tensor:
    """Returns the step towards a higher correlation from its normal equations, ``(B, P)``."""
    matrix, toward, own, agree, power = state
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    matrix = matrix + torch.diag_embed(diagonal * damping[:, None] + 1e-4 * mean + 1e-6)
    solved = _solve(matrix, torch.stack((toward, own), -1))
    above = power - (own * solved[..., 1]).sum(1)
    below = agree - (toward * solved[..., 1]).sum(1)
    gain = torch.where(below > 1e-3 * above, above / below.clamp_min(1e-6), 3.0).clamp(0.5, 20)
    return gain[:, None] * solved[..., 0] - solved[..., 1]


# --- the winner: a homography under a prior on camera pairs ---------------------------------------


class _Level(NamedTuple):
    """Features at one size. Normalised points have the half long side of their image as unit."""

    points: Tensor
    """``(N, 2)`` visible, normalised."""
    values: Tensor
    """``(N, 2)`` visible features there."""
    pixels: float
    """Infrared pixels of this level that the points stand for."""
    infrared: Tensor
    """``(1, 6, h, w)`` infrared features and their slopes to the right and down."""


def _settle(frame: _Frame, transform: Tensor) -> Tensor:
    """Returns the homography ``(3, 3)`` nearest to a transform that is likeliest a posteriori."""
    from_visible = _unit(_size(frame.visible))
    from_infrared = _unit(_size(frame.infrared))
    middle = from_infrared @ transform @ from_visible.inverse()
    middle = middle / middle[2, 2]
    for longest, sigma, stride, steps in FINE:
        scale = float(middle[:2, :2].det().abs().sqrt())
        middle = _ascend(_level(frame, longest, sigma, stride, scale), middle, steps)
    return from_infrared.inverse() @ middle @ from_visible


def _level(frame: _Frame, longest: int, sigma: float, stride: int, scale: float) -> _Level:
    """Returns features at a size of the infrared image, with the visible one at the same scale."""
    image = _resized(frame.infrared, _fitted(_size(frame.infrared), longest))
    picture = _resized(frame.visible, _fitted(_size(frame.visible), round(longest * scale)))
    moving = _whiten(orientation(image, sigma))
    fixed = _whiten(orientation(picture, sigma))
    size = _size(picture)
    place = _pixels(size, picture.device)[0, BORDER:-BORDER:stride, BORDER:-BORDER:stride]
    values = fixed[0, :, BORDER:-BORDER:stride, BORDER:-BORDER:stride]
    points = _project(_unit(size).to(place), place.flatten(0, 1))
    return _Level(points, values.flatten(1).T, float(stride**2), _with_gradients(moving))


def _ascend(level: _Level, start: Tensor, steps: int) -> Tensor:
    """Returns the normalised homography of the highest posterior on the way up from a start.

    The correlation is climbed as in `_climb`; shear, perspective, aspect and rotation, which little
    texture leaves open, are held by `_bends` and their `SPREADS`.
    """
    size = _size(level.infrared)
    to_pixel = _unit(size).inverse().to(level.points)
    x, y = level.points.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # How a point moves by each entry of a map near the identity: (2, 8, N).
    basis = torch.stack(
        (
            torch.stack((x, y, one, zero, zero, zero, -x * x, -x * y)),
            torch.stack((zero, zero, zero, x, y, one, -x * y, -y * y)),
        )
    )
    precision = torch.tensor(SPREADS, dtype=torch.float64) ** -2
    steady = torch.eye(8, dtype=torch.float64)
    current, best, highest = start, start, -math.inf
    settled = False
    for step in range(steps + 1):
        matrix = current.to(level.points)
        seen = _project(matrix, level.points)  # normalised infrared
        place = _project(to_pixel, seen)
        inside = _covered(place, size, 1)
        features, right, down = _sample(level.infrared, place[None, None])[0, :, 0].T.chunk(3, -1)
        values, found = level.values * inside[:, None], features * inside[:, None]
        agree, power = (values * found).sum().double(), found.square().sum().double()
        own = values.square().sum().double()
        correlation = (agree / (power * own + 1e-9).sqrt()).clamp(1e-3, 0.98)
        weight = inside.sum().double() * level.pixels * (MIDDLE_SIZE / max(size)) ** 2
        weight = weight / PIXELS_PER_TERM
        bends = _bends(current[None])[0]
        score = -0.5 * weight * torch.log1p(-correlation.square())
        score = float(score - 0.5 * (precision * bends.square()).sum())
        if score > highest:
            best, highest = current, score
        if step == steps or settled:
            break
        depth = (level.points @ matrix[2, :2] + matrix[2, 2])[:, None]
        by_x = (matrix[:2, 0] - seen * matrix[2, 0]) / depth  # of `seen`, (N, 2)
        by_y = (matrix[:2, 1] - seen * matrix[2, 1]) / depth
        radius = float(to_pixel[0, 0]) * inside[:, None]
        slope_x = radius * (right * by_x[:, :1] + down * by_x[:, 1:])  # (N, 2)
        slope_y = radius * (right * by_y[:, :1] + down * by_y[:, 1:])
        slopes = slope_x.T[:, None] * basis[0] + slope_y.T[:, None] * basis[1]  # (2, 8, N)
        slopes = slopes.transpose(0, 1).flatten(1)
        normal = (slopes @ slopes.T).double().cpu()
        toward = (slopes @ values.T.flatten()).double().cpu()
        along = (slopes @ found.T.flatten()).double().cpu()
        solved = _solve(
            normal + torch.diag(normal.diagonal() * 1e-6 + 1e-9), torch.stack((toward, along), 1)
        )
        above, below = power.cpu() - along @ solved[:, 1], agree.cpu() - toward @ solved[:, 1]
        gain = above / below if below > 1e-9 else (power / own).sqrt().cpu()
        square = float(correlation) ** 2
        unit = float(weight) * square / ((1 - square) * float(power) + 1e-9)
        nudged = torch.eye(3, dtype=torch.float64) + F.pad(1e-4 * steady, (0, 1)).view(8, 3, 3)
        turn = ((_bends(current @ nudged) - bends) / 1e-4).T  # of the bends, (5, 8)
        push = unit * (gain.clamp(0.1, 20) * toward - along) - turn.T @ (precision * bends)
        curve = unit * normal + turn.T @ (precision[:, None] * turn)
        change = _solve(curve + torch.diag(1e-3 * curve.diagonal() + 1e-9), push)
        change = F.pad(change.clamp(-0.1, 0.1), (0, 1)).view(3, 3)
        current = current @ (torch.eye(3, dtype=torch.float64) + change)
        current = current / current[2, 2]
        settled = float(change.abs().max()) < SETTLED
    return best


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    return cast("Tensor", torch.linalg.solve(matrix, right))


def _bends(maps: Tensor) -> Tensor:
    """Returns shear, perspective (2), log aspect and rotation of normalised maps: ``(B, 5)``."""
    maps = maps / maps[:, 2:, 2:]
    linear = maps[:, :2, :2] - maps[:, :2, 2:] * maps[:, 2:, :2]  # at the middle of the image
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(1))
    shear, turn = b / a + c / d, (c / d - b / a) / 2
    return torch.stack((shear, maps[:, 2, 0], maps[:, 2, 1], (d / a).abs().log(), turn), 1)


def _unit(size: tuple[int, int]) -> Tensor:
    """Returns the map from pixels to normalised points: middle 0, half long side 1."""
    radius, (h, w) = max(size) / 2, size
    rows = [[1 / radius, 0, -(w - 1) / 2 / radius], [0, 1 / radius, -(h - 1) / 2 / radius]]
    return torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64)


def _with_gradients(features: Tensor) -> Tensor:
    """Returns features ``(1, 2, H, W)`` with their slopes to the right and down: 6 channels."""
    return torch.cat((features, *filters.gradient(features)), 1)


# --- pictures and coordinates --------------------------------------------------------------------


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


def _render(visible: Tensor, transform: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns the visible image as a transform lays it on the infrared grid, and where it lies."""
    shape = _size(visible)
    corner = _corners(transform, shape)
    across, down = corner[[1, 3]] - corner[[0, 2]], corner[[2, 3]] - corner[[0, 1]]
    x, y = float(_length(across).mean()) / shape[1], float(_length(down).mean()) / shape[0]
    # Reduced first to the resolution it will have, or sampling would alias.
    size = (
        min(shape[0], max(SMALLEST, round(shape[0] * y))),
        min(shape[1], max(SMALLEST, round(shape[1] * x))),
    )
    back = (transform @ _resizing(shape, size).inverse()).inverse()
    place = _project(back[None].to(visible), _pixels(grid, visible.device).flatten(1, 2))
    image = _sample(_resized(visible, size), place.reshape(-1, *grid, 2))
    return image, _covered(place, size).reshape(-1, 1, *grid)


def _length(offsets: Tensor) -> Tensor:
    """Returns the lengths of vectors along the last axis."""
    return offsets.square().sum(-1).sqrt()


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Returns a size reduced, never enlarged, to a long side."""
    scale = min(1.0, longest / max(size))
    return max(SMALLEST, round(size[0] * scale)), max(SMALLEST, round(size[1] * scale))


def _reduced(image: Tensor) -> Tensor:
    return _resized(image, _fitted(_size(image), WORKING_SIZE))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if _size(image) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def _resizing(source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Returns plain resizing as a transform: ``i -> (i + 0.5) * scale - 0.5``, float64."""
    y, x = target[0] / source[0], target[1] / source[1]
    rows = [[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def _pixels(size: tuple[int, int], device: torch.device) -> Tensor:
    """Returns the coordinates of every pixel, ``(1, H, W, 2)``."""
    x = torch.arange(size[1], dtype=torch.float32, device=device)
    y = torch.arange(size[0], dtype=torch.float32, device=device)
    return torch.stack((x.expand(size), y[:, None].expand(size)), -1)[None]


def _project(maps: Tensor, points: Tensor) -> Tensor:
    """Returns points ``(..., N, 2)`` through maps ``(..., 3, 3)``."""
    moved = points @ maps[..., :2, :2].transpose(-1, -2) + maps[..., None, :2, 2]
    return moved / (points @ maps[..., 2, :2, None] + maps[..., None, 2:, 2])


def _corners(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns where the four corners and the centre of an image go, ``(..., 5, 2)``."""
    h, w = size[0] - 1.0, size[1] - 1.0
    points = torch.tensor([[0, 0], [w, 0], [0, h], [w, h], [w / 2, h / 2]], dtype=torch.float64)
    return _project(maps, points.expand(*maps.shape[:-2], 5, 2))


def _sample(image: Tensor, place: Tensor) -> Tensor:
    """Returns the image at pixel coordinates ``(B, H, W, 2)``, bilinear, borders replicated."""
    size = torch.tensor([image.shape[-1], image.shape[-2]], device=image.device)
    grid = (2 * place + 1) / size - 1
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _covered(place: Tensor, size: tuple[int, int], border: int = BORDER) -> Tensor:
    """Returns 1 where coordinates ``(..., 2)`` lie inside an image, else 0."""
    last = torch.tensor([size[1] - 1 - border, size[0] - 1 - border], device=place.device)
    return ((place >= border) & (place <= last)).all(-1).to(place)


def _inner(mask: Tensor) -> Tensor:
    """Returns a mask with its outermost pixels set to zero."""
    mask = mask.clone()
    mask[..., :BORDER, :] = mask[..., -BORDER:, :] = 0
    mask[..., :BORDER] = mask[..., -BORDER:] = 0
    return mask


def _whiten(features: Tensor) -> Tensor:
    """Returns features without their local mean."""
    return features - filters.box(filters.box(features, WHITENING_RADIUS), WHITENING_RADIUS)


def _fast(size: int) -> int:
    """Returns the next multiple of 8 whose FFT is fast."""
    size += -size % 8
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 8


def _squash(value: float) -> float:
    return 1 / (1 + math.exp(-value / 2))
