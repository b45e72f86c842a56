"""The one displacement convention of umfuse, and every operation on fields and coordinates.

A *displacement* is a float32 tensor ``(B, 2, H, W)``: channel 0 is x (to the right), channel 1 is y
(down), in pixels of the grid that it lives on. It is a backward map on the visible grid::

    registered[y, x] = moving[y + d_y[y, x], x + d_x[y, x]]

*Coordinates* are ``(B, 2, H, W)`` too, but absolute: the (x, y) pixel of the sampled image, which
may have any size. A *transform* is a 3x3 matrix that sends a visible pixel (x, y, 1) to an infrared
pixel. Pixel centres lie at integers, so plain resizing by ``s`` sends ``i`` to
``(i + 0.5) * s - 0.5``. Outside an image its border is replicated, and a mask says so.

Fields and coordinates are float32 under every autocast: a coordinate in bfloat16 is off by up to a
pixel at 1024. Transforms are float64 on the CPU, wherever the images are: some devices know no
float64. Nothing here has parameters, everything is differentiable and free of fixed sizes.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor


def identity_grid(
    height: int,
    width: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Returns the coordinates of every pixel of a grid.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        device: Where the grid is made.
        dtype: A floating type that holds the coordinates exactly: float32 or float64.

    Returns:
        ``(1, 2, height, width)``: x in channel 0, y in channel 1.
    """
    # torch.arange keeps height and width symbolic in torch.export; torch.linspace does not.
    x = torch.arange(width, device=device, dtype=dtype)
    y = torch.arange(height, device=device, dtype=dtype)
    return _grid(x, y)


def part_of_grid(
    size: tuple[int, int], rows: slice, columns: slice, device: torch.device | str | None = None
) -> Tensor:
    """Returns the coordinates of some pixels of a grid, ``(1, 2, h, w)`` float32.

    Args:
        size: Height and width of the whole grid.
        rows: Which of its rows.
        columns: Which of its columns.
        device: Where they are made.
    """
    x, y = (
        torch.arange(*part.indices(length), device=device, dtype=torch.float32)
        for part, length in ((columns, size[1]), (rows, size[0]))
    )
    return _grid(x, y)


def _grid(x: Tensor, y: Tensor) -> Tensor:
    height, width = y.shape[0], x.shape[0]  # symbols where they are exported, unlike len
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))[None]


def interpolate(image: Tensor, coordinates: Tensor) -> Tensor:
    """Returns an image at absolute pixel coordinates: bilinear, borders replicated.

    Args:
        image: ``(B, C, h, w)``, of any size.
        coordinates: ``(B, 2, H, W)`` pixels of ``image``; a batch of one, of either, serves all.

    Returns:
        ``(B, C, H, W)`` in float32 (float64 if one of the inputs is).
    """
    dtype = torch.promote_types(image.dtype, coordinates.dtype)
    dtype = dtype if dtype == torch.float64 else torch.float32
    batch = max(image.shape[0], coordinates.shape[0])
    height, width = image.shape[-2:]
    x, y = coordinates.to(dtype).unbind(1)
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    return F.grid_sample(
        image.to(dtype).expand(batch, -1, -1, -1),
        grid.expand(batch, -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )


def nearest(image: Tensor, coordinates: Tensor) -> Tensor:
    """Returns the pixels of ``(B, C, h, w)`` nearest to coordinates, borders replicated."""
    x = coordinates[:, 0].round().long().clamp(0, image.shape[-1] - 1)
    y = coordinates[:, 1].round().long().clamp(0, image.shape[-2] - 1)
    index = (y * image.shape[-1] + x).flatten(1)[:, None].expand(-1, image.shape[1], -1)
    return image.flatten(2).gather(2, index).view(*image.shape[:2], *coordinates.shape[-2:])


def sample(image: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what `interpolate` does, and where the coordinates lie on the image.

    Args:
        image: ``(B, C, h, w)``, of any size.
        coordinates: ``(B, 2, H, W)`` pixels of ``image``.

    Returns:
        The values ``(B, C, H, W)`` and the mask ``(B, 1, H, W)`` of `inside`.
    """
    values = interpolate(image, coordinates)
    mask = inside(coordinates, (image.shape[-2], image.shape[-1]))
    return values, mask.expand(values.shape[0], -1, -1, -1)


def inside(coordinates: Tensor, size: tuple[int, int], border: float = -0.5) -> Tensor:
    """Returns the mask ``(B, 1, H, W)`` of coordinates ``(B, 2, H, W)`` that lie on an image.

    Args:
        coordinates: Pixels.
        size: Height and width of the image.
        border: Pixels inwards of the outermost pixel centres; by default the half pixel outwards
            that these pixels reach.
    """
    x, y = coordinates[:, :1], coordinates[:, 1:]
    across = (x >= border) & (x <= size[1] - 1 - border)
    return across & (y >= border) & (y <= size[0] - 1 - border)


def warp(image: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Resamples an image through a displacement of its own size.

    Args:
        image: ``(B, C, H, W)``.
        displacement: ``(B, 2, H, W)`` pixels.

    Returns:
        The values and the validity mask of `sample`.
    """
    return sample(image, to_coordinates(displacement))


def to_coordinates(displacement: Tensor) -> Tensor:
    """Returns the absolute coordinates ``(B, 2, H, W)`` that a displacement points to."""
    height, width = displacement.shape[-2:]
    dtype = torch.float64 if displacement.dtype == torch.float64 else torch.float32
    grid = identity_grid(height, width, device=displacement.device, dtype=dtype)
    return grid + displacement.to(dtype)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Returns the one displacement that equals two warps in turn.

    ``warp(warp(image, first), second)`` is ``warp(image, compose(first, second))``, but for the
    second interpolation that the latter saves.

    Args:
        first: ``(B, 2, H, W)``, applied to the image first.
        second: ``(B, 2, H, W)``, applied to the result.
    """
    return second + warp(first, second)[0]


def invert(displacement: Tensor, iterations: int = 30) -> tuple[Tensor, Tensor]:
    """Returns the inverse of a displacement by fixed-point iteration, and its error.

    ``inverse(q) = -displacement(q + inverse(q))`` contracts while the field stretches by less than
    its own length, which holds for every field that does not fold.

    Args:
        displacement: ``(B, 2, H, W)`` pixels.
        iterations: Steps; the error shrinks by the field's steepest gradient in each.

    Returns:
        The inverse ``(B, 2, H, W)`` and, per pixel, how far inverse and displacement in turn miss
        the starting point: ``(B, 1, H, W)`` pixels. Where the field leaves the grid its border
        value goes on.
    """
    inverse = torch.zeros_like(displacement)
    for _ in range(iterations):
        inverse = -warp(displacement, inverse)[0]
    error = compose(displacement, inverse).square().sum(1, keepdim=True).sqrt()
    return inverse, error


def resize_field(displacement: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings a displacement to a grid of another size and scales its values with it.

    Args:
        displacement: ``(B, 2, h, w)`` pixels of that grid.
        size: Height and width of the new grid.

    Returns:
        ``(B, 2, *size)`` pixels of the new grid.
    """
    height, width = displacement.shape[-2:]
    resized = F.interpolate(displacement.float(), size, mode="bilinear", align_corners=False)
    x, y = resized.unbind(1)
    return torch.stack((x * (size[1] / width), y * (size[0] / height)), 1)


def field_at(displacement: Tensor, size: tuple[int, int], points: Tensor) -> Tensor:
    """Returns what a displacement adds at points of a finer grid over the same image.

    Args:
        displacement: ``(1, 2, h, w)``, pixels of the finer grid.
        size: Height and width of that grid.
        points: ``(1, 2, H, W)``, its pixels, also between and beside them.
    """
    height, width = displacement.shape[-2:]
    return interpolate(displacement, project(resize_transform(size, (height, width)), points))


def resize_transform(source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Returns the transform of plain resizing.

    Args:
        source: Height and width of the grid that pixels come from.
        target: Height and width of the grid that they are sent to.

    Returns:
        ``(3, 3)`` float64: a source pixel to the target pixel at the same relative place.
    """
    sy, sx = target[0] / source[0], target[1] / source[1]
    return torch.tensor(
        [[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]], dtype=torch.float64
    )


def project(transform: Tensor, coordinates: Tensor) -> Tensor:
    """Sends coordinates through a projective transform.

    Args:
        transform: ``(3, 3)`` or ``(B, 3, 3)``.
        coordinates: ``(B, 2, H, W)`` pixels.

    Returns:
        ``(B, 2, H, W)`` pixels, in the type of ``coordinates``. Points at or behind the horizon
        of the transform (third component not positive) land far outside every image.
    """
    matrix = transform if transform.dim() == 3 else transform[None]
    projected = _project(matrix.movedim(0, -1)[..., None, None], *coordinates.unbind(1))
    return torch.stack(projected, 1)


def project_points(transform: Tensor, points: Tensor) -> Tensor:
    """Sends points through projective transforms, as `project`.

    Args:
        transform: ``(..., 3, 3)``.
        points: ``(..., N, 2)``, (x, y).

    Returns:
        ``(..., N, 2)``, in the type of ``points``.
    """
    projected = _project(transform.movedim((-2, -1), (0, 1))[..., None], *points.unbind(-1))
    return torch.stack(projected, -1)


def _project(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the projected x and y; rows and columns of the matrices are axes 0 and 1."""
    # Plain products: a matrix product would be cast to bfloat16 under autocast.
    rows = matrix.to(x.dtype).to(x.device).unbind(0)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in rows)
    front = w > 1e-9
    w = torch.where(front, w, torch.ones_like(w))
    far = torch.full_like(w, -1e6)
    return torch.where(front, u / w, far), torch.where(front, v / w, far)


def corners(transform: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns where transforms ``(..., 3, 3)`` send the corners and the centre of an image.

    Args:
        transform: Pixel of the image to pixel of another one.
        size: Height and width of the image.

    Returns:
        ``(..., 5, 2)`` float64: upper left, upper right, lower left, lower right, centre.
    """
    bottom, right = size[0] - 1.0, size[1] - 1.0
    places = [[0, 0], [right, 0], [0, bottom], [right, bottom], [right / 2, bottom / 2]]
    points = torch.tensor(places, dtype=torch.float64)
    return project_points(transform.double(), points.expand(*transform.shape[:-2], 5, 2))


def similarity_transform(
    centre: tuple[float, float],
    target: tuple[float, float],
    scale: tuple[float, float] = (1.0, 1.0),
    degrees: float = 0.0,
) -> Tensor:
    """Returns the transform ``(3, 3)`` float64 that scales and turns about a point.

    Args:
        centre: (x, y) of the point.
        target: (x, y) that it is sent to.
        scale: Along x and y, before the turn.
        degrees: From x towards y.
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    (x, y), (cx, cy) = scale, centre
    linear = [[x * cos, -y * sin], [x * sin, y * cos]]
    rows = [[a, b, to - a * cx - b * cy] for (a, b), to in zip(linear, target, strict=True)]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


def rotation(linear: Tensor) -> Tensor:
    """Returns by how much linear maps ``(N, 2, 2)`` turn, radians from x towards y: ``(N,)``."""
    return torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])


def normalising(size: tuple[int, int]) -> Tensor:
    """Returns the transform to points whose origin is the middle and whose unit the half long side.

    Args:
        size: Height and width of the image whose pixels are sent.
    """
    radius, (height, width) = max(size) / 2, size
    middle = ((width - 1) / 2, (height - 1) / 2)
    return similarity_transform(middle, (0.0, 0.0), (1 / radius, 1 / radius))


def project_grid(
    transform: Tensor, size: tuple[int, int], device: torch.device | str | None = None
) -> Tensor:
    """Returns the coordinates ``(B, 2, *size)`` float32 that a transform gives a whole grid.

    Args:
        transform: ``(3, 3)`` or ``(B, 3, 3)``, grid pixel to image pixel.
        size: Height and width of the grid.
        device: Where the grid is made; by default where the transform is.
    """
    return project(transform, identity_grid(*size, device=device or transform.device))


def fit_affine(points: Tensor, images: Tensor) -> Tensor:
    """Returns the affine transform that sends three points to their images.

    Args:
        points: ``(3, 2)``, (x, y) pixels.
        images: ``(3, 2)`` pixels.

    Returns:
        ``(3, 3)`` float64.

    Raises:
        ValueError: If the points are not three, or lie on a line.
    """
    if points.shape != (3, 2) or images.shape != (3, 2):
        raise ValueError(
            f"fit_affine needs 3 points (x, y), got {tuple(points.shape)} and {tuple(images.shape)}"
        )
    one = torch.ones(3, 1, dtype=torch.float64)
    known = torch.cat((points.double(), one), 1)
    if torch.linalg.matrix_rank(known) < 3:
        raise ValueError("fit_affine needs points that do not lie on a line")
    return cast("Tensor", torch.linalg.solve(known, torch.cat((images.double(), one), 1))).mT


def fit_homography(points: Tensor, images: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns the transform that sends points to their images best, in weighted least squares.

    The direct linear transform on points shifted and scaled to about [-1, 1] (Hartley, 1997,
    doi:10.1109/34.601246).

    Args:
        points: ``(B, 2, H, W)`` pixels.
        images: ``(B, 2, H, W)`` pixels.
        weight: ``(B, 1, H, W)``, positive for at least four points; None weighs all alike.

    Returns:
        ``(B, 3, 3)`` float64 on the CPU, lower right element 1.

    Raises:
        ValueError: If there are fewer than four points, which no homography can be fitted to.
    """
    batch, count = len(images), images[0, 0].numel()
    if count < 4:
        raise ValueError(f"fit_homography needs at least 4 points, got {count}")
    w = torch.ones(batch, 1, count) if weight is None else weight.cpu().flatten(2)
    w = w.double()[:, 0]
    w = w / w.sum(1, keepdim=True)
    flat = points.cpu().flatten(2).double().expand(batch, -1, -1)
    points, from_points = _normalise(flat, w)
    images, from_images = _normalise(images.cpu().flatten(2).double(), w)
    (x, y), (u, v) = points.unbind(1), images.unbind(1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows = torch.cat(
        (
            torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y, -u), -1),
            torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y, -v), -1),
        ),
        1,
    )
    normal = rows.mT @ (rows * torch.cat((w, w), 1)[..., None])  # (B, 9, 9)
    vectors = cast("Tensor", torch.linalg.eigh(normal)[1])
    fitted = vectors[:, :, 0].view(batch, 3, 3)  # of the smallest eigenvalue
    transform = from_images.inverse() @ fitted @ from_points
    return transform / transform[:, 2:, 2:]


def _normalise(points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns points (B, 2, N) of mean 0 and rms radius sqrt(2), and the transform to them."""
    mean = (points * weight[:, None]).sum(2, keepdim=True)
    centred = points - mean
    rms = (centred.square().sum(1) * weight).sum(1).clamp_min(1e-12).sqrt()
    scale = 2**0.5 / rms
    transform = torch.zeros(len(points), 3, 3, dtype=points.dtype, device=points.device)
    transform[:, 0, 0] = transform[:, 1, 1] = scale
    transform[:, :2, 2] = -scale[:, None] * mean[:, :, 0]
    transform[:, 2, 2] = 1
    return centred * scale[:, None, None], transform
