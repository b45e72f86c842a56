import copy
import difflib
import logging
import os
import re
from pathlib import Path

import numpy as np
import public_api
import pytest
import torch
from benchmarks import scenes
from PIL import Image

import umfuse
from umfuse import filters, images


@pytest.fixture(scope="module")
def scene():
    return scenes.render(seed=0)


@pytest.fixture(scope="module")
def registration(scene, model):
    return umfuse.register(scene.infrared, scene.visible, weights=model)


def error(registration, scene):
    """Mean distance in infrared pixels to the truth, where there is infrared data."""
    miss = np.linalg.norm(registration.coordinates - scene.coordinates, axis=-1)
    return miss[scene.valid].mean()


def test_register_finds_the_cameras_of_a_scene(registration, scene):
    before = np.linalg.norm(scene.displacement, axis=-1)[scene.valid].mean()
    assert before > 10
    assert error(registration, scene) < 1.5
    assert registration.confidence > 0.6
    assert registration.method in ("search", "dense")
    assert (registration.valid_mask == scene.valid).mean() > 0.98


def test_registration_is_what_it_says(registration, scene):
    height, width = scene.visible.shape[:2]
    assert registration.infrared.shape == (height, width)
    assert registration.infrared.dtype == np.uint16
    assert registration.coordinates.shape == registration.displacement.shape == (height, width, 2)
    assert registration.coordinates.dtype == registration.displacement.dtype == np.float32
    assert registration.transform.shape == (3, 3)
    assert registration.valid_mask.dtype == bool
    x = (np.arange(width) + 0.5) * 320 / width - 0.5
    plain_x = registration.coordinates[..., 0] - registration.displacement[..., 0]
    np.testing.assert_allclose(plain_x, np.broadcast_to(x, (height, width)), atol=1e-3)


def test_registered_counts_are_the_original_counts(registration, scene):
    """Radiometric values survive: no stretch, no 8 bits on the way."""
    off = registration.infrared.astype(float) - scene.aligned_infrared.astype(float)
    off = np.abs(off[scene.valid])
    assert np.median(off) < 60  # hundredths of a kelvin, between the camera's noise and its blur
    assert registration.infrared.min() >= scene.infrared.min()
    assert registration.infrared.max() <= scene.infrared.max()


def test_fusion_of_files(tmp_path, scene, model):
    images.save(scene.infrared, tmp_path / "ir.tif")
    images.save(scene.visible, tmp_path / "vis.png")
    fusion = umfuse.fuse(tmp_path / "ir.tif", str(tmp_path / "vis.png"), weights=model)
    assert isinstance(fusion.image, Image.Image)
    assert fusion.image.size == (640, 480)
    assert fusion.image.mode == "RGB"
    fusion.save(tmp_path / "fused.png")
    with Image.open(tmp_path / "fused.png") as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(fusion.image))
    fusion.registration.save_infrared(tmp_path / "registered.tif")
    with Image.open(tmp_path / "registered.tif") as saved:
        assert saved.mode == "I;16"


def test_registration_is_used_again(scene, registration, model):
    again = umfuse.fuse(scene.infrared, scene.visible, registration=registration, weights=model)
    fresh = umfuse.fuse(scene.infrared, scene.visible, weights=model)
    assert np.array_equal(again.image, fresh.image)
    assert again.registration is registration


def test_registration_of_other_sizes_is_refused(scene, registration, model):
    with pytest.raises(ValueError, match="was made for an infrared image of"):
        umfuse.fuse(scene.infrared[:-2], scene.visible, registration=registration, weights=model)


def test_without_registration_the_pair_is_only_resized(scene, model):
    fusion = umfuse.fuse(scene.infrared, scene.visible, align=False, weights=model)
    assert fusion.registration is None
    resized = np.asarray(
        Image.fromarray(scene.infrared.astype(np.float32)).resize((640, 480))
    ).astype(np.uint16)
    aligned = umfuse.fuse(resized, scene.visible, align=False, weights=model)
    difference = np.abs(fusion.image.astype(float) - aligned.image.astype(float))
    assert difference.mean() < 1


@pytest.mark.parametrize("kind", ["array", "tensor", "pil", "grey", "float"])
def test_results_mirror_what_came(kind, scene, registration, model):
    ir, vis = scene.infrared, scene.visible
    if kind == "tensor":
        ir = torch.from_numpy(ir.astype(np.float32) / 65535)[None]
        vis = torch.from_numpy(vis).permute(2, 0, 1)
    elif kind == "pil":
        ir, vis = Image.fromarray(ir), Image.fromarray(vis)
    elif kind == "grey":
        vis = vis[..., 1]
    elif kind == "float":
        vis = vis.astype(np.float64) / 255
    fusion = umfuse.fuse(
        ir, vis, registration=registration, ir_range="percentile", weights=model
    ).image
    assert type(fusion) is type(vis)
    if kind == "pil":
        assert (fusion.size, fusion.mode) == (vis.size, vis.mode)
    else:
        assert fusion.shape == vis.shape
        assert fusion.dtype == vis.dtype


def test_colour_is_the_visible_colour(scene, registration, model):
    fused = umfuse.fuse(
        scene.infrared, scene.visible, registration=registration, weights=model
    ).image
    clipped = ((fused == 0) | (fused == 255)).any(-1)  # or faded, at the edge of the gamut
    before = np.asarray(Image.fromarray(scene.visible).convert("YCbCr")).astype(int)
    after = np.asarray(Image.fromarray(fused).convert("YCbCr")).astype(int)
    assert clipped.mean() < 0.2
    assert np.abs(before - after)[..., 1:][~clipped].mean() <= 1


@pytest.mark.parametrize("night", [False, True])
def test_hardly_a_pixel_is_clipped(night, model):
    scene = scenes.render(seed=1, night=night)
    luma = umfuse.fuse(scene.infrared, scene.visible, weights=model).luma * 255
    assert ((luma < 0.5) | (luma > 254.5)).mean() < 0.005


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA")
def test_real_pairs_keep_their_colour_and_are_not_clipped(model):
    root = Path(os.environ["UMFUSE_DATA"]) / "test/roadscene"
    errors, clipped = [], []
    for path in sorted((root / "vis").iterdir())[::5]:
        infrared = next((root / "ir").glob(f"{path.stem}.*"))
        fusion = umfuse.fuse(infrared, path, align=False, weights=model)
        before, after = images.read(path), images.read(fusion.image)
        whole = ((after.rgb > 0) & (after.rgb < 1)).all(1, keepdim=True)
        errors.append(255 * (before.chroma - after.chroma).abs()[whole.expand(-1, 2, -1, -1)])
        clipped.append(((fusion.luma < 0.5 / 255) | (fusion.luma > 254.5 / 255)).mean())
    assert torch.cat(errors).mean() <= 1
    assert np.mean(clipped) < 0.005


def test_a_slightly_warmer_target_of_a_16_bit_camera_is_seen(model):
    """1 % of 16 bits is 2.6 grey levels of 8 bits, and less than the scene has anyway."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    target = np.hypot(x - 200, y - 90) < 7
    ring = (np.hypot(x - 200, y - 90) < 20) & (np.hypot(x - 200, y - 90) > 10)
    counts = 29000 + 2 * x + 0.01 * 65535 * target + rng.normal(0, 20, target.shape)
    visible = (100 + 40 * np.sin(x / 7) * np.cos(y / 9)).astype(np.uint8)
    fusion = umfuse.fuse(counts.astype(np.uint16), visible, align=False, weights=model)
    fused, grey = fusion.image.astype(float), visible.astype(float)
    rise = fused[target].mean() - fused[ring].mean()
    assert rise - (grey[target].mean() - grey[ring].mean()) > 40


def test_16_bit_grey_comes_out_where_asked(tmp_path, scene, registration, model):
    fusion = umfuse.fuse(scene.infrared, scene.visible, registration=registration, weights=model)
    assert fusion.luma.dtype == np.float32
    assert fusion.luma.shape == scene.visible.shape[:2]
    fusion.save(tmp_path / "fused.png", grey16=True)
    with Image.open(tmp_path / "fused.png") as saved:
        assert saved.mode == "I;16"
        counts = np.asarray(saved)
    assert np.abs(counts / 65535 - fusion.luma).max() < 1e-5
    assert len(np.unique(counts)) > 5000  # not 8 bits that were spread
    deep = (scene.visible[..., 1].astype(np.uint16) * 257).copy()
    mirrored = umfuse.fuse(scene.infrared, deep, registration=registration, weights=model).image
    assert mirrored.dtype == np.uint16
    assert len(np.unique(mirrored)) > 5000


def test_fused_image_keeps_both_sources(scene, registration, model):
    """People glow in the result, and the lines of the road, which have no heat, stay."""
    fused = umfuse.fuse(
        scene.infrared, scene.visible[..., 1], registration=registration, weights=model
    ).image.astype(float)
    heat, grey = scene.aligned_infrared.astype(float), scene.visible[..., 1].astype(float)
    # By what differs from its surroundings: a sky is as bright as in the visible image.
    fused, heat, grey = (
        (image - filters.box(torch.from_numpy(image)[None, None], 7)[0, 0].numpy())[scene.valid]
        for image in (fused, heat, grey)
    )
    assert np.corrcoef(fused, grey)[0, 1] > 0.6
    assert np.corrcoef(fused, heat)[0, 1] > np.corrcoef(grey, heat)[0, 1] + 0.2


def test_where_infrared_is_missing_stands_the_visible_image(scene, model):
    half = scene.infrared[:, :160]
    shrink = scene.transform.copy()
    fused = umfuse.fuse(half, scene.visible, registration=shrink, weights=model)
    missing = ~fused.registration.valid_mask
    assert missing.mean() > 0.2
    off = fused.image[missing].astype(int) - scene.visible[missing].astype(int)
    assert np.abs(off).max() <= 1


def test_aligned_pair_is_left_alone(model):
    scene = scenes.render(seed=5, strength=0.0)
    registration = umfuse.register(scene.infrared, scene.visible, weights=model)
    assert error(registration, scene) < 0.5


def test_doubtful_alignment_is_said(caplog, model):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (96, 128), dtype=np.uint8)
    other = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING, logger="umfuse.api"):
        registration = umfuse.register(noise, other, weights=model)
    assert registration.confidence < 0.3
    assert "doubtful" in caplog.text
    assert np.abs(registration.displacement).max() < 0.5


def test_constant_images_do_no_harm(model):
    flat = np.full((64, 80), 90, dtype=np.uint8)
    fusion = umfuse.fuse(flat, flat, weights=model)
    assert fusion.registration.confidence == 0
    assert np.array_equal(fusion.image, flat)


@pytest.mark.parametrize("size", [(8, 8), (9, 200), (16, 17), (33, 64)])
def test_small_images_pass(size, model):
    rng = np.random.default_rng(1)
    ir = rng.integers(0, 255, size, dtype=np.uint8)
    fused = umfuse.fuse(ir, np.repeat(ir[..., None], 3, 2), weights=model).image
    assert fused.shape == (*size, 3)


def test_batch_is_refused_with_the_way_out(model):
    batch = torch.rand(2, 1, 32, 32)
    with pytest.raises(ValueError, match=r"batch of 2; .*infer of the model of umfuse\.load"):
        umfuse.fuse(batch, batch, weights=model)


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_unknown_device_is_named(device):
    with pytest.raises(ValueError, match=f"no device '{device}'"):
        umfuse.load(device=device)


def test_bad_images_name_their_role(scene):
    with pytest.raises(TypeError, match="infrared"):
        umfuse.register(None, scene.visible)
    with pytest.raises(ValueError, match="visible"):
        umfuse.register(scene.infrared, np.full((32, 32), np.nan))


def test_embedded_model_is_loaded_once(scene):
    from umfuse import api

    small = scene.visible[:64, :64, 0]
    api._cached.cache_clear()
    umfuse.fuse(small, small, align=False)
    umfuse.fuse(small, small, align=False)
    assert api._cached.cache_info().hits == 1


def test_weights_that_were_trained_on_are_loaded_again(tmp_path, scene, model):
    small = scene.visible[:64, :64, 0]
    other = copy.deepcopy(model)
    other.save_pretrained(tmp_path / "run")
    before = umfuse.fuse(small, 255 - small, align=False, weights=tmp_path / "run").luma
    with torch.no_grad():
        for parameter in other.difn.parameters():
            parameter.add_(0.05)
    other.save_pretrained(tmp_path / "run")
    after = umfuse.fuse(small, 255 - small, align=False, weights=tmp_path / "run").luma
    assert np.abs(after - before).max() > 0.01


def test_a_device_and_a_loaded_model_exclude_each_other(scene, model):
    with pytest.raises(ValueError, match="move the model instead"):
        umfuse.register(scene.infrared, scene.visible, weights=model, device="cpu")


def test_precision_is_said_when_loading():
    assert umfuse.load(device="cpu", precision="float32").precision == "float32"
    with pytest.raises(ValueError, match="precision must be one of auto, bfloat16, float32"):
        umfuse.load(device="cpu", precision="float16")


def test_infer_does_for_a_batch_what_fuse_does_for_a_pair(scene, model):
    day, night = scene, scenes.render(seed=0, night=True)
    ranges = {"ir_range": (27000, 33000)}
    infrared = torch.cat(
        [images.read(one.infrared, range=(27000, 33000)).luma for one in (day, night)]
    )
    visible = torch.cat([images.read(one.visible).rgb for one in (day, night)])
    out = model.infer(infrared, visible)
    for number, one in enumerate((day, night)):
        alone = umfuse.fuse(one.infrared, one.visible, weights=model, **ranges)
        assert np.abs(out.fused[number, 0].numpy() - alone.luma).max() < 1e-5
        assert float(out.confidence[number]) == pytest.approx(alone.registration.confidence)
        coordinates = out.coordinates[number].movedim(0, -1).numpy()
        np.testing.assert_allclose(coordinates, alone.registration.coordinates, atol=1e-3)


def test_infer_only_resizes_doubtful_pairs_as_fuse_does(model):
    rng = np.random.default_rng(0)
    infrared, visible = rng.integers(0, 255, (2, 96, 128), dtype=np.uint8)
    alone = umfuse.fuse(infrared, visible, weights=model)
    assert alone.registration.confidence < 0.3
    pair = (images.read(one).luma for one in (infrared, visible))
    out = model.infer(*pair)
    assert np.abs(out.fused[0, 0].numpy() - alone.luma).max() < 1e-5
    torch.testing.assert_close(out.transform[0], torch.eye(3).double())


def test_a_visible_image_of_16_bits_is_taken_whole(scene, model):
    """Percentiles would change it where the infrared camera saw nothing."""
    deep = (scene.visible.astype(np.uint16) * 100)[..., 1].copy()
    half = scene.infrared[:, :160]
    fused = umfuse.fuse(half, deep, registration=scene.transform, weights=model)
    missing = ~fused.registration.valid_mask
    assert missing.any()
    assert np.abs(fused.image[missing].astype(int) - deep[missing]).max() <= 1


def test_a_visible_float_of_0_to_255_is_told_its_own_option(scene, model):
    with pytest.raises(ValueError, match=r"visible: .*pass vis_range=\(low, high\)"):
        umfuse.register(scene.infrared, scene.visible.astype(np.float32), weights=model)
    fused = umfuse.fuse(
        scene.infrared,
        scene.visible.astype(np.float32),
        vis_range=(0, 255),
        align=False,
        weights=model,
    )
    assert fused.image.max() > 100


def test_the_public_api_is_this():
    """What stands there stays, or goes through a deprecation; the changelog names every change."""
    known = (Path(__file__).parent / "public_api.txt").read_text(encoding="utf-8")
    change = difflib.unified_diff(known.splitlines(), public_api.text().splitlines(), n=0)
    assert list(change) == [], "as wished and in CHANGELOG.md? see tests/public_api.py"


def test_the_public_api_is_all_seen():
    """Each kind of it, in the list that the test above compares."""
    text = public_api.text()
    for line in (
        "umfuse: fuse",
        "umfuse.load(source: 'str | os.PathLike[str] | None' = None, *, ",
        "umfuse.Fusion.save(self, path: ",
        "umfuse.Registration.confidence",
        "umfuse.Registration.displacement",
        "umfuse.Registration.load(path: ",
        "umfuse.Umfuse.license",
        "umfuse.metrics.FUSION",
        "umfuse.metrics.ssim(fused: 'Tensor', ",
        "umfuse.train.TrainConfig.steps",
        "umfuse.files.video.Frame(time: 'float', image: 'Array')",
        "umfuse weights publish --data --from ",
        "registrations.csv: pair method ",
    ):
        assert f"\n{line}" in f"\n{text}", line
    assert "umfuse.Umfuse.push_to_hub" not in text  # of huggingface_hub
    assert not re.search(r"\.__?\w+\(", text)
    for name in umfuse.__all__:
        assert re.search(rf"^umfuse\.{name}\b", text, re.M), f"{name} is not on docs/api.md"


def test_results_show_themselves(scene, registration, model):
    fusion = umfuse.fuse(scene.infrared, scene.visible, registration=registration, weights=model)
    assert repr(fusion).startswith("Fusion(640x480, Registration(")
    for result in (fusion, registration):
        assert len(repr(result)) < 120
        assert result._repr_png_().startswith(b"\x89PNG")


def test_public_names_are_there():
    for name in umfuse.__all__:
        assert getattr(umfuse, name).__doc__
    assert set(umfuse.__all__) <= set(dir(umfuse))
    with pytest.raises(AttributeError, match="no attribute 'defuse'"):
        umfuse.defuse  # noqa: B018
