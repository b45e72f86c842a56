from __future__ import annotations

import numpy as np
import pytest
import torch
from patterns import HEIGHT, WIDTH, as_array, pattern
from PIL import Image

from umfuse import images
from umfuse.images import read

# ---- round trips ---------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize(
    "dtype",
    ["u1", "i1", "u2", ">u2", "i2", "u4", "i4", ">i4", "i8", "u8", "f2", "f4", ">f4", "f8", "g"],
)
def test_array_goes_back_as_it_came(dtype: str, channels: int | None) -> None:
    array = pattern(dtype, channels)
    if array.dtype.itemsize > 4 and array.dtype.kind == "f":
        array = array.astype(np.float32).astype(dtype)
    picture = read(array, range="minmax")
    back = picture.give_back(picture.values)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert picture.values.dtype == torch.float32
    assert picture.size == (HEIGHT, WIDTH)
    assert picture.channels == (channels or 1)


@pytest.mark.parametrize("leading", [(), (1,), (3,), (1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.uint16,
        torch.int32,
        torch.uint32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ],
)
def test_tensor_goes_back_as_it_came(dtype: torch.dtype, leading: tuple[int, ...]) -> None:
    shape = (*leading, HEIGHT, WIDTH)
    generator = torch.Generator().manual_seed(0)
    top = 100 if dtype.itemsize == 1 else 30000
    if dtype.is_floating_point:
        tensor = torch.rand(shape, generator=generator).to(dtype)
    else:
        tensor = torch.randint(0, top, shape, generator=generator).to(dtype)
    picture = read(tensor)
    assert picture.values.shape == ((*(1, 1, *leading)[-2:], HEIGHT, WIDTH))
    back = picture.give_back(picture.values)
    assert isinstance(back, torch.Tensor)
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert torch.equal(back.double(), tensor.double())


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F"])
def test_pil_goes_back_as_it_came(mode: str) -> None:
    kind = {"L": "u1", "RGB": "u1", "I;16": "u2", "I": "i4", "F": "f4"}[mode]
    array = pattern(kind, 3 if mode == "RGB" else None)
    picture = read(Image.fromarray(array))
    back = picture.give_back(picture.values)
    assert isinstance(back, Image.Image)
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back), array)


def test_views_read_only_and_non_contiguous_arrays() -> None:
    base = pattern("f4", 3)
    for view in (base[::-1], base[:, ::-1], base.transpose(1, 0, 2), base[..., ::-1]):
        view.flags.writeable = False
        picture = read(view)
        np.testing.assert_array_equal(as_array(picture.give_back(picture.values)), view)


def test_the_input_is_copied() -> None:
    array, tensor = pattern("f4"), torch.rand(HEIGHT, WIDTH)
    for image in (array, tensor):
        picture = read(image)
        before = picture.values.clone()
        image[...] = 0
        assert torch.equal(picture.values, before)


def test_tensors_are_detached() -> None:
    picture = read(torch.rand(1, HEIGHT, WIDTH, requires_grad=True))
    assert not picture.values.requires_grad


def test_another_size_can_be_given_back() -> None:
    picture = read(pattern("u2"), name="infrared")
    back = picture.give_back(torch.full((1, 1, 9, 31), 14000.4))
    assert isinstance(back, np.ndarray)
    assert back.shape == (9, 31)
    assert back.dtype == np.uint16
    assert (back == 14000).all()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_are_clipped_and_never_wrap(dtype: str) -> None:
    picture = read(pattern(dtype))
    info = np.iinfo(np.dtype(dtype))
    values = torch.full((1, 1, HEIGHT, WIDTH), 1e30)
    top = as_array(picture.give_back(values))
    bottom = as_array(picture.give_back(-values))
    assert (bottom == info.min).all()
    # The largest float32 below the maximum, which is the maximum itself up to 16 bits.
    assert (top > info.max * 0.9999).all()
    if info.bits <= 16:
        assert (top == info.max).all()


def test_rounding_is_to_the_nearest() -> None:
    picture = read(pattern("u1"))
    values = torch.full((1, 1, HEIGHT, WIDTH), 7.6)
    assert (as_array(picture.give_back(values)) == 8).all()


# ---- colour --------------------------------------------------------------------------


def test_luma_and_chroma_are_those_of_pil() -> None:
    array = pattern("u1", 3)
    picture = read(array)
    assert picture.chroma is not None
    ours = torch.cat([picture.luma * 255, picture.chroma * 255 + 128], 1)[0].movedim(0, -1)
    theirs = np.asarray(Image.fromarray(array).convert("YCbCr"), dtype=np.float32)
    assert np.abs(ours.numpy() - theirs).max() <= 1.0
    assert np.abs(ours.numpy() - theirs).mean() < 0.5  # rounding alone


def test_rgb_is_in_the_unit_range_and_grey_is_replicated() -> None:
    array = pattern("u1", 3)
    np.testing.assert_allclose(
        read(array).rgb[0].movedim(0, -1).numpy(), array / 255, rtol=0, atol=1e-6
    )
    grey = read(array[..., 0])
    assert grey.rgb.shape == (1, 3, HEIGHT, WIDTH)
    assert grey.chroma is None
    for channel in range(3):
        assert torch.equal(grey.rgb[:, channel : channel + 1], grey.luma)


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_fusing_its_own_luma_changes_nothing(dtype: str, channels: int | None) -> None:
    array = pattern(dtype, channels)
    picture = read(array)
    back = picture.fused(picture.luma)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_allclose(back.astype(float), array.astype(float), rtol=0, atol=2e-6)


def test_fused_keeps_the_colour_of_the_picture() -> None:
    array = np.full((HEIGHT, WIDTH, 3), (140, 120, 100), dtype=np.uint8)
    picture = read(array)
    fused = read(as_array(picture.fused(picture.luma + 0.1)))
    assert picture.chroma is not None
    assert fused.chroma is not None
    assert (fused.luma - picture.luma - 0.1).abs().max() < 1 / 255
    assert (fused.chroma - picture.chroma).abs().max() < 1 / 255


def test_colours_that_leave_the_gamut_fade_and_keep_luma_and_hue() -> None:
    array = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    array[..., 0] = 255
    picture = read(array)
    luma = torch.linspace(0, 1, HEIGHT * WIDTH).view(1, 1, HEIGHT, WIDTH)
    fused = read(as_array(picture.fused(luma)))
    assert picture.chroma is not None
    assert fused.chroma is not None
    assert (fused.luma - luma).abs().max() < 1 / 255  # a clipped red would be too dark
    share = (fused.chroma * picture.chroma).sum(1) / picture.chroma.square().sum(1)
    assert (fused.chroma - share[:, None] * picture.chroma).abs().max() < 1 / 255
    assert share.min() < 0.01  # black and white have no colour
    assert share.max() > 0.95  # at its own luma the red is whole


def test_fused_undoes_the_range() -> None:
    counts = np.linspace(28000, 33000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    picture = read(counts, range=(27000, 34000))
    np.testing.assert_array_equal(as_array(picture.fused(picture.luma)), counts)
    half = as_array(picture.fused(torch.full_like(picture.luma, 0.5)))
    assert (half == 30500).all()


def test_fused_mirrors_the_kind() -> None:
    path_like = Image.fromarray(pattern("u1", 3))
    assert isinstance(read(path_like).fused(read(path_like).luma), Image.Image)
    tensor = torch.rand(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    picture = read(tensor)
    fused = picture.fused(picture.luma)
    assert isinstance(fused, torch.Tensor)
    assert fused.dtype == torch.float64
    torch.testing.assert_close(fused, tensor, rtol=0, atol=1e-6)


def test_fused_and_give_back_refuse_other_shapes() -> None:
    picture = read(pattern("u1", 3))
    with pytest.raises(ValueError, match=r"expected a luma of shape \(1, 1, 12, 20\)"):
        picture.fused(torch.zeros(1, 1, HEIGHT, WIDTH + 1))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*as many channels"):
        picture.give_back(torch.zeros(1, 1, HEIGHT, WIDTH))
    with pytest.raises(ValueError, match="one by one"):
        picture.give_back(torch.zeros(2, 3, HEIGHT, WIDTH))


# ---- range ---------------------------------------------------------------------------


def test_default_range_of_thermal_counts_is_a_percentile_stretch() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(29000, 30000, (64, 64)).astype(np.uint16)
    counts[0, 0], counts[0, 1] = 65535, 0  # a dead and a hot pixel
    luma = read(counts).luma
    assert luma.min() == 0
    assert luma.max() == 1
    assert 0.45 < float(luma.mean()) < 0.55
    assert float(read(counts, range="minmax").luma.std()) < 0.02
    assert float(read(counts, range="dtype").luma.std()) < 0.02


def test_default_range_of_8_bit_and_floats_is_the_type() -> None:
    array = np.clip(pattern("u1"), 60, 90)
    np.testing.assert_allclose(read(array).luma[0, 0].numpy(), array / 255, atol=1e-6)
    floats = pattern("f4") * 0.5
    np.testing.assert_array_equal(read(floats).luma[0, 0].numpy(), floats)


def test_range_in_units_of_the_image() -> None:
    celsius = np.linspace(-10, 50, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    luma = read(celsius, range=(0, 40)).luma[0, 0].numpy()
    np.testing.assert_allclose(luma, np.clip(celsius / 40, 0, 1), atol=1e-6)


def test_a_colour_image_is_stretched_by_one_range_for_all_channels() -> None:
    array = pattern("u2", 3) // 8 + np.array([100, 200, 300], dtype=np.uint16)
    picture = read(array, range="minmax")
    assert picture.low.numel() == 1
    assert float(picture.rgb.amin()) == 0
    assert float(picture.rgb.amax()) == 1
    assert float(picture.rgb[:, 0].amax()) < 1


def test_each_image_of_a_batch_has_its_own_range() -> None:
    batch = torch.stack([torch.full((1, HEIGHT, WIDTH), 10.0), torch.rand(1, HEIGHT, WIDTH)])
    both = read(batch, range="minmax")
    alone = read(batch[1:], range="minmax")
    assert torch.equal(both.luma[1:], alone.luma)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
@pytest.mark.parametrize("range_", ["minmax", "percentile"])
def test_a_constant_image_becomes_zero(dtype: str, range_: images.Range) -> None:
    array = np.full((HEIGHT, WIDTH), 100, dtype=dtype)
    picture = read(array, range=range_)
    assert (picture.luma == 0).all()
    np.testing.assert_array_equal(as_array(picture.fused(picture.luma)), array)


def test_percentiles_that_meet_fall_back_to_the_extremes() -> None:
    array = np.full((100, 100), 300, dtype=np.uint16)
    array[50, 50] = 400
    luma = read(array).luma
    assert luma[0, 0, 50, 50] == 1
    assert float(luma.sum()) == 1


def test_percentile_of_more_pixels_than_torch_quantile_takes() -> None:
    big = torch.arange(4200 * 4000, dtype=torch.int32).view(4200, 4000)
    luma = read(big, range="percentile").luma
    assert float(luma.mean()) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "range_",
    ["stretch", (5, 5), (6, 5), (0, float("nan")), (0, float("inf")), (1,), (1, 2, 3), 7, ("a", 1)],
)
def test_wrong_ranges_are_refused(range_: object) -> None:
    with pytest.raises(ValueError, match=r"visible: expected range to be 'dtype'.*got.*give two"):
        read(pattern("u1"), name="visible", range=range_)


@pytest.mark.parametrize("scale", [255.0, 2.0, -1.0])
def test_floats_outside_the_unit_range_need_a_range(scale: float) -> None:
    array = pattern("f4") * scale
    with pytest.raises(ValueError, match=r"expected floats in \[0, 1\], got .*pass range="):
        read(array)
    with pytest.raises(ValueError, match=r"expected floats in \[0, 1\]"):
        read(torch.from_numpy(array))
    read(array, range="minmax")


# ---- modes of PIL -------------------------------------------------------------------


def test_a_grey_palette_with_opacity_keeps_it() -> None:
    grey, opacity = pattern("u1"), pattern("u1", seed=3)
    image = Image.fromarray(grey).convert("P").convert("PA")
    image.putalpha(Image.fromarray(opacity))
    picture = read(image)
    assert picture.alpha is not None
    np.testing.assert_array_equal(as_array(picture.alpha[0, 0]), opacity)
    np.testing.assert_array_equal(as_array(picture.values[0, 0]), grey)


def test_palettes() -> None:
    array = pattern("u1", 3) // 64 * 64
    colour = Image.fromarray(array).quantize(64)
    picture = read(colour)
    expected = np.asarray(colour.convert("RGB"))
    np.testing.assert_array_equal(as_array(picture.give_back(picture.values)), expected)

    grey = Image.fromarray(pattern("u1")).convert("P")
    back = read(grey).give_back(read(grey).values)
    assert isinstance(back, Image.Image)
    assert back.mode == "L"
    np.testing.assert_array_equal(np.asarray(back), np.asarray(grey.convert("L")))


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("1", "L"),
        ("LA", "LA"),
        ("La", "LA"),
        ("RGBA", "RGBA"),
        ("RGBa", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("PA", "RGBA"),
    ],
)
def test_other_modes_of_pil(mode: str, back: str) -> None:
    image = Image.fromarray(pattern("u1", 3))
    if mode in ("La", "RGBa"):
        image = image.convert(mode.upper()).convert(mode)
    else:
        image = image.convert("L" if mode == "1" else "RGBA" if mode == "PA" else "RGB")
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    given = read(image).give_back(read(image).planes)
    assert isinstance(given, Image.Image)
    assert given.mode == back
    if mode in ("LA", "RGBA", "CMYK"):
        np.testing.assert_array_equal(np.asarray(given), np.asarray(image.convert(back)))
    if mode == "1":
        assert set(np.unique(np.asarray(given))) == {0, 255}


def test_modes_without_a_meaning_here_are_refused() -> None:
    with pytest.raises(ValueError, match="PIL mode 'LAB'; convert it to 'RGB'"):
        read(Image.new("LAB", (WIDTH, HEIGHT)))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_opacity_is_not_looked_at_and_comes_back(dtype: str) -> None:
    rgba = pattern(dtype, 4)
    tensor = torch.from_numpy(np.moveaxis(rgba, -1, 0).copy())
    for image in (rgba, tensor, *([Image.fromarray(rgba)] if dtype == "u1" else [])):
        picture, opaque = read(image, range="dtype"), read(rgba[..., :3].copy(), range="dtype")
        assert picture.channels == 3
        assert torch.equal(picture.luma, opaque.luma)
        assert picture.planes.shape == (1, 4, HEIGHT, WIDTH)
        for back in (picture.give_back(picture.planes), picture.fused(picture.luma)):
            assert type(back) is type(image)
            array = np.moveaxis(as_array(back), 0, -1) if image is tensor else as_array(back)
            np.testing.assert_allclose(array, rgba, rtol=0, atol=2e-6 if dtype == "f4" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_becomes_opacity(mode: str) -> None:
    image = Image.fromarray(pattern("u1", None if mode == "L" else 3))
    image = image.quantize(8) if mode == "P" else image
    image.info["transparency"] = image.getpixel((0, 0))
    expected = image.convert("LA" if mode == "L" else "RGBA")
    picture = read(image)
    assert picture.alpha is not None
    assert picture.alpha[0, 0, 0, 0] == 0
    back = picture.give_back(picture.planes)
    np.testing.assert_array_equal(as_array(back), np.asarray(expected))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_bgr_of_opencv_comes_back_as_bgr(dtype: str, channels: int) -> None:
    rgb = pattern(dtype, channels)
    order = [2, 1, 0, 3][:channels]
    expected = read(rgb, range="dtype")
    for bgr in (rgb[..., order], torch.from_numpy(np.moveaxis(rgb[..., order], -1, 0).copy())):
        picture = read(bgr, range="dtype", channels="bgr")
        assert torch.equal(picture.luma, expected.luma)
        assert torch.equal(picture.rgb, expected.rgb)
        for back in (picture.give_back(picture.planes), picture.fused(picture.luma)):
            np.testing.assert_allclose(as_array(back), as_array(bgr), rtol=0, atol=2e-6)
        shown = as_array(picture.form.shown(picture.give_back(picture.planes)))
        shown = np.moveaxis(shown, 0, -1) if isinstance(bgr, torch.Tensor) else shown
        np.testing.assert_array_equal(shown, rgb)


def test_the_order_of_channels_is_said_of_arrays_alone() -> None:
    image = Image.fromarray(pattern("u1", 3))
    assert torch.equal(read(image, channels="bgr").rgb, read(image).rgb)
    grey = pattern("u1")
    assert torch.equal(read(grey, channels="bgr").luma, read(grey).luma)
    with pytest.raises(ValueError, match="expected channels to be 'rgb' or 'bgr', got 'rbg'"):
        read(grey, channels="rbg")


def test_false_colour_infrared_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    read(pattern("u1", 3), name="visible")
    read(np.repeat(pattern("u1", 1), 3, axis=2), name="infrared")
    assert not caplog.records
    read(pattern("u1", 3), name="infrared")
    assert "false-colour palette is not temperature" in caplog.text


# ---- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize("image", [None, 3, 2.5, [[1, 2], [3, 4]], b"a.png", object()])
def test_other_types_are_refused(image: object) -> None:
    with pytest.raises(TypeError, match=r"infrared: expected a path, a PIL image.*got \w+; wrap"):
        read(image, name="infrared")


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        ("?", "multiply it by 255 as uint8"),
        ("c8", "pass its magnitude"),
        ("O", "cast it to"),
        ("U1", "cast it to"),
        ("M8[s]", "cast it to"),
    ],
)
def test_other_array_dtypes_are_refused(dtype: str, remedy: str) -> None:
    message = rf"expected integers or floats, got an array of dtype .*; .*{remedy}"
    with pytest.raises(TypeError, match=message):
        read(np.zeros((HEIGHT, WIDTH), dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_tensor_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="expected a dense tensor of integers or floats, got torch"):
        read(torch.zeros(HEIGHT, WIDTH).to(dtype))
    with pytest.raises(TypeError, match="sparse"):
        read(torch.eye(HEIGHT).to_sparse())


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((), "one image at a time"),
        ((20,), "one image at a time"),
        ((12, 20, 5), "say which one to use, band=0 to band=4"),
        ((12, 20, 2), "say which one to use, band=0 to band=1"),
        ((3, 12, 20), r"np.moveaxis\(array, 0, -1\)"),
        ((2, 12, 20, 3), "one image at a time"),
    ],
)
def test_other_array_shapes_are_refused(shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(ValueError, match=r"expected an array \(H, W\).*got shape.*" + remedy):
        read(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((), "pass one image"),
        ((20,), "pass one image"),
        ((5, 12, 20), "say which one to use, band=0 to band=4"),
        ((2, 12, 20), "say which one to use, band=0 to band=1"),
        ((12, 20, 3), r"movedim\(-1, -3\)"),
        ((1, 1, 1, 12, 20), "pass one image"),
    ],
)
def test_other_tensor_shapes_are_refused(shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(ValueError, match=r"expected a tensor \(H, W\).*got shape.*" + remedy):
        read(torch.zeros(shape))


def test_empty_and_tiny_images_are_refused() -> None:
    for empty in (np.zeros((0, 20)), torch.zeros(3, 0, 20), Image.new("L", (0, 0))):
        with pytest.raises(ValueError, match="expected pixels, got an empty"):
            read(empty)
    with pytest.raises(ValueError, match="expected pixels, got an empty tensor"):
        read(torch.zeros(0, 3, 12, 20))
    for tiny in (np.zeros((1, 1)), torch.zeros(20, 7), Image.new("RGB", (1, 1))):
        with pytest.raises(ValueError, match=r"expected at least 8 x 8 pixels, got \d x \d+"):
            read(tiny)
    read(np.zeros((8, 8)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
def test_tensors_stay_on_their_device(dtype: torch.dtype) -> None:
    tensor = (torch.rand(2, 3, HEIGHT, WIDTH) * (1 if dtype.is_floating_point else 255)).to(dtype)
    picture = read(tensor.cuda())
    assert picture.values.is_cuda
    back = picture.give_back(picture.values.cpu())
    assert isinstance(back, torch.Tensor)
    assert back.is_cuda
    assert torch.equal(back.cpu().double(), tensor.double())
