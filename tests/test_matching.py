"""One homography from right and wrong points."""

import numpy as np
import pytest
import torch

from umfuse import geometry, matching

TRANSFORM = torch.tensor([[0.52, 0.03, -20.0], [-0.02, 0.5, 12.0], [1e-5, -4e-5, 1.0]]).double()
SIZE = (256, 320)


def matches(right, wrong, noise=0.5, seed=0):
    """Visible points of 640x480 with their images, then as many that are anywhere."""
    rng = np.random.default_rng(seed)
    visible = torch.from_numpy(rng.uniform((60, 20), (620, 460), (right + wrong, 2)))
    infrared = geometry.project_points(TRANSFORM, visible)
    infrared += torch.from_numpy(rng.normal(0, noise, infrared.shape))
    infrared[right:] = torch.from_numpy(rng.uniform((0, 0), (320, 256), (wrong, 2)))
    return matching.Matches(infrared, visible, torch.ones(right + wrong).double())


def error(transform):
    apart = geometry.corners(transform, (480, 640)) - geometry.corners(TRANSFORM, (480, 640))
    return float(apart.square().sum(-1).sqrt().max())


@pytest.mark.parametrize(("right", "wrong"), [(12, 0), (40, 10), (100, 200), (1000, 3000)])
def test_wrong_matches_are_borne_with(right, wrong):
    fit = matching.homography(matches(right, wrong), SIZE)
    assert error(fit.transform) < 6 / right**0.5 + 0.3
    assert fit.inliers[:right].double().mean() > 0.98
    assert fit.inliers[right:].double().mean() < 0.02 if wrong else True
    assert fit.share == pytest.approx(right / (right + wrong), abs=0.03)


def test_the_fit_to_all_inliers_is_better_than_one_through_four():
    found = matches(200, 100, noise=1.0)
    four = matching._hypotheses(found, torch.Generator().manual_seed(0))
    best = four[matching._scores(found, four, 2.56).argmax()]
    assert error(matching.homography(found, SIZE).transform) < 0.7 * error(best)


def test_what_is_random_is_refused():
    for seed in range(5):
        found = matches(0, 60, seed=seed)
        assert matching.homography(found, SIZE) is None


def test_too_few_matches_are_refused():
    assert matching.homography(matches(7, 0), SIZE) is None


@pytest.mark.parametrize("kind", ["one place", "a line"])
def test_points_without_a_homography_do_no_harm(kind):
    line = torch.linspace(0, 100, 30).double()[:, None].expand(-1, 2)
    places = torch.zeros(30, 2).double() if kind == "one place" else line
    found = matching.homography(matching.Matches(places, places, torch.ones(30).double()), SIZE)
    assert found is None or bool(found.transform.isfinite().all())


def test_the_same_matches_give_the_same_homography():
    one, other = (matching.homography(matches(30, 60), SIZE) for _ in range(2))
    assert torch.equal(one.transform, other.transform)
    state = torch.random.get_rng_state()
    matching.homography(matches(30, 60), SIZE)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_threshold_grows_with_the_infrared_image():
    found = matches(50, 0, noise=3.0)
    assert matching.homography(found, (1024, 1280)).share > matching.homography(found, SIZE).share


def test_weights_decide():
    """More wrong matches that agree, but of little weight."""
    found = matches(30, 40)
    found.infrared[30:] = found.visible[30:] * 0.4
    found.weight[30:] = 0.1
    fit = matching.homography(found, SIZE)
    assert error(fit.transform) < 2


def test_what_a_matcher_may_return():
    points = [[1, 2], [3, 4], [5, 6]]
    images = (np.zeros((4, 5), np.float32), np.zeros((6, 7), np.float32))
    seen = []

    def matcher(*given):
        seen.extend(given)
        return answer

    for answer in (
        (points, points),
        (np.array(points), torch.tensor(points), None),
        [torch.tensor(points, requires_grad=False), points, [1, 0, 3]],
    ):
        found = matching.match(matcher, *images)
        assert found.infrared.dtype == torch.float64
        assert len(found.visible) == (2 if len(answer) == 3 and answer[2] is not None else 3)
        assert float(found.weight.mean()) == pytest.approx(1)
    assert seen[0] is images[0]
    assert seen[1] is images[1]
    answer = ([], [])
    assert matching.match(matcher, *images).infrared.shape == (0, 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "as a tuple, got NoneType"),
        (([[1, 2]],), "as a tuple, got tuple"),
        (([[1, 2]], [[1, 2], [3, 4]]), r"got shapes \[\(1, 2\), \(2, 2\), \(1,\)\]"),
        (([[1, 2, 3]], [[1, 2, 3]]), "got shapes"),
        (([[1, 2]], [[1, np.nan]]), "all finite"),
        (([[1, 2]], [[1, 2]], [-1]), "no weight negative"),
    ],
)
def test_what_a_matcher_may_not_return(answer, message):
    with pytest.raises(ValueError, match=message):
        matching.match(lambda *images: answer, np.zeros((4, 5)), np.zeros((4, 5)))
