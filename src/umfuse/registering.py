"""How a pair is registered: from nothing, from the points of a matcher, or from a guess.

All three end in the dense stage of the model, and in a `Registration` that says how far to trust
it. What is not trusted is not used: `unbent` is what stands in its place.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import borders, certainty, geometry, matching, resampling, search
from umfuse.images import Picture
from umfuse.matching import PointMatcher
from umfuse.pipeline import Alignment, Umfuse
from umfuse.registration import Method, Registration
from umfuse.search import NOTHING, Known, ecc, homography, likelihood, working

ENOUGH = 10.0  # log-likelihood at which a transform is as likely right as wrong
FULL_SHARE = 0.25  # of right matches, from which on more of them say nothing more
# How a guess is refined before it becomes a homography, as `umfuse.search.ecc` takes it: directly,
# and by way of ever smaller pictures, whose hills are wider.
STRAIGHT = (320, ((1.5, 12), (1.0, 8)))
WAYS_UP = ((), ((160, ((1.2, 12),)),), ((80, ((1.2, 12),)), (160, ((1.2, 12),))))


def from_nothing(
    model: Umfuse, infrared: Picture, visible: Picture, known: Known = NOTHING
) -> Registration:
    """Returns what the search and the dense stage find, looking where the cameras may be."""
    alignment, (found,) = model.register(
        infrared.luma.to(model.device), visible.rgb.to(model.device), known
    )
    plain = known.transform(visible.size, infrared.size)
    method: Method = "search"
    if torch.equal(found.transform, plain):
        method = "given" if known else "resize"
    if bool(alignment.dense):
        method = "dense"
    return replace(
        _registration(alignment, infrared, visible),
        method=method,
        confidence=found.confidence,
        log_likelihood=found.log_likelihood,
        runner_up=found.runner_up,
        correlation=found.correlation,
    )


def from_points(
    model: Umfuse, infrared: Picture, visible: Picture, matcher: PointMatcher
) -> Registration:
    """Returns the homography of a matcher's points, and what the dense stage makes of it.

    Raises:
        ValueError: If the matcher returns something else than `matching.PointMatcher` says.
    """
    lumas = (_luma(infrared), _luma(visible))
    fit = None
    if not any(search.is_constant(luma) for luma in lumas):
        found = matching.match(matcher, *(luma.numpy() for luma in lumas))
        fit = matching.homography(found, infrared.size)
    if fit is None:
        return _refused(infrared, visible)
    judge = Judge(infrared, visible)
    aligned = _aligned(model, infrared, visible, fit.transform)
    # What the dense stage fits may be another transform than that of the points.
    evidence, correlation = max(judge(fit.transform), judge.of(aligned))
    return replace(
        aligned,
        method="matcher",
        confidence=confidence_of(evidence, fit.share) * judge.precision(fit.transform),
        log_likelihood=evidence,
        correlation=correlation,
    )


def from_guess(
    model: Umfuse, infrared: Picture, visible: Picture, guess: Registration
) -> Registration:
    """Returns a guess, refined as far as the pair explains it better.

    Its method is "given" if nothing explains the pair better than the guess as it came.
    """
    numbers = {"runner_up": math.nan, "content": borders.content(infrared.luma)}
    given = holding(replace(guess, method="given", **numbers), infrared, visible)
    if any(search.is_constant(picture.luma) for picture in (infrared, visible)):
        return replace(given, confidence=0.0, log_likelihood=0.0, correlation=0.0)
    judge = Judge(infrared, visible)
    transform = torch.from_numpy(guess.transform)
    evidence, correlation = before = judge(transform)
    method: Method = "given"
    refined = judge.refined(transform)
    now = judge(refined)
    if now[0] > evidence:
        (evidence, correlation), transform, method = now, refined, "search"
    aligned = _aligned(model, infrared, visible, transform)
    if aligned.field.any():
        method = "dense"
        # Its global part is another one than it was given.
        evidence, correlation = max((evidence, correlation), judge.of(aligned))
    # Of a guess with a field the transform alone says too little.
    better = not guess.field.any() or judge.explains(aligned) > judge.explains(guess)
    if method == "given" or not better:
        (evidence, correlation), aligned, method = before, given, "given"
    return replace(
        aligned,
        method=method,
        confidence=confidence_of(evidence) * judge.precision(transform),
        log_likelihood=evidence,
        correlation=correlation,
    )


def resized(
    infrared_size: tuple[int, int], visible_size: tuple[int, int], known: Known = NOTHING
) -> Registration:
    """Returns plain resizing of an infrared image to a visible one, or what is known of both.

    Args:
        infrared_size: Height and width.
        visible_size: Height and width.
        known: Of the two cameras.
    """
    plain = known.transform(visible_size, infrared_size)
    return Registration.from_transform(plain, infrared_size, visible_size)


def holding(registration: Registration, infrared: Picture, visible: Picture) -> Registration:
    """Returns a registration with what it may be asked for of a pair, and little of the visible."""
    return replace(registration, _picture=infrared, _visible=certainty.held(visible))


def unbent(found: Registration, guess: Registration | None = None) -> Registration:
    """Returns what stands in the place of a registration that is not trusted.

    Args:
        found: Its confidence and numbers remain, so that one can see why.
        guess: What the caller took for likely; None means plain resizing.
    """
    method: Method = "resize" if guess is None else "given"
    if guess is None:
        guess = resized(found.infrared_size, found.visible_size)
    return replace(found, transform=guess.transform, field=guess.field, method=method)


def confidence_of(evidence: float, share: float = 1.0) -> float:
    """Returns how far to trust a transform that no search has found, in [0, 1].

    Args:
        evidence: Its log-likelihood ratio against chance.
        share: Of the matches that it comes from, those that it explains.
    """
    return min(1.0, share / FULL_SHARE) / (1 + math.exp(min((ENOUGH - evidence) / 2, 700.0)))


class Judge:
    """Says of transforms between the pixels of two pictures how well they explain the pair."""

    def __init__(self, infrared: Picture, visible: Picture) -> None:
        lumas = (_luma(infrared)[None, None], _luma(visible)[None, None])
        self.ready = working.prepared(*lumas)
        self.pair = self.ready.pair
        self.seen = borders.content(lumas[1])

    def __call__(self, transform: Tensor) -> tuple[float, float]:
        """Returns the log-likelihood ratio and the correlation of a transform ``(3, 3)``."""
        ratios, correlations = likelihood.compare(self.pair, self.ready.inward(transform)[None])
        return float(ratios[0]), float(correlations[0])

    def precision(self, transform: Tensor) -> float:
        """Returns the chance that a transform ``(3, 3)`` that is right is precise too."""
        return float(likelihood.precision(self.pair, self.ready.inward(transform)[None]))

    def of(self, registration: Registration) -> tuple[float, float]:
        """Returns the same of the global part of a registration."""
        return self(torch.from_numpy(registration.transform))

    def refined(self, transform: Tensor) -> Tensor:
        """Returns the likeliest homography ``(3, 3)`` that a transform leads to."""
        start = self.ready.inward(transform)[None]
        starts = [start]
        for way in WAYS_UP:
            one = start
            for longest, stages in (*way, STRAIGHT):
                one = ecc.refine(self.pair, one, longest, stages)
            starts.append(one)
        candidates = torch.cat(starts)
        best = candidates[int(likelihood.compare(self.pair, candidates)[0].argmax())]
        return self.ready.outward(homography.refine(self.pair, best))

    def explains(self, registration: Registration) -> float:
        """Returns the similarity of the pictures as a registration, with its field, lays them."""
        size = self.pair.visible.size
        coordinates = borders.part(registration.tensor(), self.seen)
        coordinates = F.interpolate(coordinates, size, mode="bilinear")
        coordinates = geometry.project(self.ready.after, coordinates)
        moved, valid = resampling.resample(self.pair.infrared.image, coordinates)
        return float(search.similarity(moved, self.pair.visible.image, valid)[0])


def _aligned(model: Umfuse, infrared: Picture, visible: Picture, transform: Tensor) -> Registration:
    """Returns what the dense stage makes of a transform ``(3, 3)``."""
    with torch.no_grad(), model.autocast():
        alignment = model.align_content(
            infrared.luma.to(model.device), visible.rgb.to(model.device), transform
        )
    return _registration(alignment, infrared, visible)


def _registration(alignment: Alignment, infrared: Picture, visible: Picture) -> Registration:
    """Returns the alignment of one pair, without what is to be said of it."""
    size = (alignment.field.shape[-2], alignment.field.shape[-1])
    scale = torch.tensor([visible.size[1] / size[1], visible.size[0] / size[0]])
    field = alignment.field[0].movedim(0, -1).cpu() * scale
    found = Registration(
        transform=alignment.transform[0].numpy(),
        field=field.contiguous().numpy(),
        infrared_size=infrared.size,
        visible_size=visible.size,
        content=borders.content(infrared.luma),
    )
    return holding(found, infrared, visible)


def _refused(infrared: Picture, visible: Picture) -> Registration:
    """Returns plain resizing, of which nothing is known."""
    numbers = {"log_likelihood": 0.0, "correlation": 0.0, "confidence": 0.0}
    found = replace(resized(infrared.size, visible.size), content=borders.content(infrared.luma))
    return holding(replace(found, method="resize", **numbers), infrared, visible)


def _luma(picture: Picture) -> Tensor:
    """Returns the luma ``(h, w)`` of a picture on the CPU."""
    return picture.luma[0, 0].cpu()
