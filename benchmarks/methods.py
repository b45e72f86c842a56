"""What the tables compare: ways to align a pair, and ways to fuse an aligned one.

A way to align is called with the infrared image ``(1, 1, h, w)`` and the visible one
``(1, 3, H, W)``, both in [0, 1], and returns the coordinates ``(1, 2, H, W)`` that every visible
pixel looks at. A way to fuse is called with the registered infrared image and the visible luma,
``(1, 1, H, W)`` each, and returns the fused one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks import train
from torch import Tensor

import umfuse
from umfuse import geometry
from umfuse.pipeline import Umfuse, luma
from umfuse.train.losses import saliency_weight

LEAST_INLIERS = 12  # of SIFT
PAPER = Path(__file__).parent / "weights" / "paper"  # of `benchmarks.paper_weights`
Align = Callable[[Tensor, Tensor], Tensor]
Fuse = Callable[[Tensor, Tensor], Tensor]


@functools.lru_cache(maxsize=1)
def paper() -> Umfuse:
    """Returns the paper's system, its three networks trained together."""
    return umfuse.load(PAPER, device="cpu", cpstn=True)


# ---- align ---------------------------------------------------------------------------------------


def sizes(infrared: Tensor, visible: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns height and width of both."""
    return (infrared.shape[-2], infrared.shape[-1]), (visible.shape[-2], visible.shape[-1])


def plain(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the ``(3, 3)`` of plain resizing, visible pixel to infrared pixel."""
    moving, fixed = sizes(infrared, visible)
    return geometry.resize_transform(fixed, moving)


def by_transform(find: Callable[[Tensor, Tensor], Tensor]) -> Align:
    """Makes a way to align of one that finds a ``(3, 3)``."""

    def align(infrared: Tensor, visible: Tensor) -> Tensor:
        size = sizes(infrared, visible)[1]
        return geometry.project_grid(find(infrared, visible), size)

    return align


def by_network(network: torch.nn.Module, render: Callable[[Tensor], Tensor]) -> Align:
    """Makes a way to align of a network that predicts a displacement.

    Args:
        network: Called as an `umfuse.networks.Mrrn` of one channel.
        render: Makes the fixed image of the visible one ``(1, 3, H, W)``: a CPSTN, or `luma`.
    """

    @torch.inference_mode()
    def align(infrared: Tensor, visible: Tensor) -> Tensor:
        transform = plain(infrared, visible)
        moving = geometry.sample(
            infrared, geometry.project_grid(transform, sizes(infrared, visible)[1])
        )[0]
        fixed = render(visible.expand(-1, 3, -1, -1)).float()
        displacement = network(fixed, moving).displacement
        return geometry.project(transform, geometry.to_coordinates(displacement))

    return align


def mattes(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns SimpleITK's affine map of the largest Mattes mutual information."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    start = plain(infrared, visible)
    affine = sitk.AffineTransform(2)
    affine.SetMatrix(start[:2, :2].flatten().tolist())
    affine.SetTranslation(start[:2, 2].tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(affine, True)
    fixed, moving = (sitk.GetImageFromArray(_array(x)) for x in (visible, infrared))
    method.Execute(fixed, moving)
    found = torch.eye(3, dtype=torch.float64)
    found[:2, :2] = torch.tensor(affine.GetMatrix(), dtype=torch.float64).view(2, 2)
    found[:2, 2] = torch.tensor(affine.GetTranslation(), dtype=torch.float64)
    return found


def sift(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the homography of OpenCV's SIFT matches by RANSAC, or plain resizing.

    Four matches always fit one, so a homography of few inliers is taken for none.
    """
    import cv2

    detector = cv2.SIFT_create(4000)
    pictures = [(_array(x) * 255).astype(np.uint8) for x in (visible, infrared)]
    (a, da), (b, db) = (detector.detectAndCompute(picture, None) for picture in pictures)
    if da is None or db is None or len(b) < 2:
        return plain(infrared, visible)
    pairs = cv2.BFMatcher().knnMatch(da, db, k=2)
    good = [m for m, n in pairs if m.distance < 0.85 * n.distance]
    if len(good) < 4:
        return plain(infrared, visible)
    points = [
        np.array([a[m.queryIdx].pt for m in good]),
        np.array([b[m.trainIdx].pt for m in good]),
    ]
    found, inliers = cv2.findHomography(points[0], points[1], cv2.RANSAC, 5.0)
    if found is None or int(inliers.sum()) < LEAST_INLIERS:
        return plain(infrared, visible)
    return torch.from_numpy(found)


def ecc(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns OpenCV's ECC affine map from plain resizing; plain resizing where it fails."""
    import cv2

    start = plain(infrared, visible)
    affine = start[:2].numpy().astype(np.float32)
    rule = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    fixed, moving = _array(visible), _array(infrared)
    try:
        _, affine = cv2.findTransformECC(fixed, moving, affine, cv2.MOTION_AFFINE, rule, None, 5)
    except cv2.error:
        return start
    return torch.cat((torch.from_numpy(affine).double(), start[2:]))


CLASSICAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "SimpleITK MI": mattes,
    "ECC": ecc,
    "SIFT+RANSAC": sift,
}


def aligners(model: Umfuse) -> dict[str, Align]:
    """Returns every way to align by name; most networks only if `benchmarks.train` trained them.

    The homography of a pair is that of the whole pipeline, if that was asked for the pair just
    before.
    """
    found: dict[str, Align] = {"misaligned input": by_transform(plain)}
    for name, network in train.trained("registration/"):
        render = model.cpstn if train.VARIANTS[f"registration/{name}"].pseudo else luma
        found[name] = by_network(network, render)
    found["paper's system"] = by_network(paper().mrrn, paper().cpstn)
    for name, find in CLASSICAL.items():
        found[name] = by_transform(find)
    register = functools.lru_cache(maxsize=1)(model.register)
    found["umfuse"] = lambda *pair: register(*pair)[0].coordinates(sizes(*pair)[1])
    found["umfuse, homography"] = by_transform(lambda *pair: register(*pair)[0].transform[0])
    return found


def _array(image: Tensor) -> np.ndarray:
    return luma(image)[0, 0].numpy()


# ---- fuse ----------------------------------------------------------------------------------------


def average(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the plain mean."""
    return (infrared + visible) / 2


def saliency_mean(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mean that the paper's saliency loss has for its target."""
    return torch.lerp(visible, infrared, saliency_weight(infrared, visible))


def laplacian_pyramid(infrared: Tensor, visible: Tensor, levels: int = 4) -> Tensor:
    """Returns the fusion of Burt and Adelson's pyramids, doi:10.1109/TCOM.1983.1095851.

    Of every detail the source with the larger smoothed magnitude wins; the base is the
    saliency-weighted mean.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
        levels: Of detail.
    """
    weight = saliency_weight(infrared, visible)
    details: list[Tensor] = []
    for _ in range(levels):
        smaller = [_halve(one) for one in (infrared, visible, weight)]
        a, b = (
            one - _enlarge(low, one) for one, low in zip((infrared, visible), smaller, strict=False)
        )
        stronger = _blur(a.abs()) > _blur(b.abs())
        details.append(torch.where(stronger, a, b))
        infrared, visible, weight = smaller
    fused = torch.lerp(visible, infrared, weight)
    for detail in reversed(details):
        fused = _enlarge(fused, detail) + detail
    return fused.clamp(0, 1)


def difn(model: Umfuse) -> Fuse:
    """Returns the model's DIFN, on images of any size."""

    @torch.no_grad()
    def fuse(infrared: Tensor, visible: Tensor) -> Tensor:
        place = geometry.identity_grid(*sizes(infrared, visible)[1])
        with model.autocast():
            return model.fuse(infrared, visible, place)

    return fuse


def fusers(model: Umfuse) -> dict[str, Fuse]:
    """Returns every way to fuse by name."""
    found: dict[str, Fuse] = {
        "average": average,
        "saliency mean": saliency_mean,
        "maximum": torch.maximum,
        "Laplacian pyramid": laplacian_pyramid,
    }
    found["paper's DIFN"] = difn(paper())
    return {**found, "umfuse": difn(model)}


def _blur(image: Tensor) -> Tensor:
    """Filters with the 5-tap binomial window, borders replicated."""
    window = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, window.view(1, 1, 1, 5)), window.view(1, 1, 5, 1))


def _halve(image: Tensor) -> Tensor:
    return _blur(image)[..., ::2, ::2]


def _enlarge(image: Tensor, like: Tensor) -> Tensor:
    """Doubles an image: `_halve` keeps the even pixels, so corners stay where they are."""
    height, width = image.shape[-2:]
    doubled = F.interpolate(
        image, (2 * height - 1, 2 * width - 1), mode="bilinear", align_corners=True
    )
    down, right = like.shape[-2] - doubled.shape[-2], like.shape[-1] - doubled.shape[-1]
    return F.pad(doubled, (0, right, 0, down), mode="replicate")
