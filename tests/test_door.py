"""Any image through the door: a right answer, or a documented error that says what to do.

Images are drawn by hypothesis: every kind, dtype, shape and layout in memory, with values that
hurt. What must be read, and what refused, is said by `readable`, which knows nothing of the door.
"""

from __future__ import annotations

import copy
import os
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import umfuse
from umfuse.files import radiometric
from umfuse.images import Picture, read

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

LARGEST = 1e37  # of values
SLACK = 1e-3  # by which floats may leave [0, 1]
SIDES = st.sampled_from([1, 7, 8, 9, 12, 16, 40])
SHAPES = st.one_of(
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES, st.sampled_from([1, 3, 4])),
    st.tuples(SIDES, SIDES, st.sampled_from([1, 3, 4])),
    st.tuples(st.sampled_from([8, 9]), st.sampled_from([8, 700])),
    st.tuples(st.sampled_from([0, 1, 2, 5, 9, 300]), st.sampled_from([0, 1, 9])),
    st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 9]), max_size=5).map(tuple),
)
RANGES = st.sampled_from(
    [None, None, "dtype", "minmax", "percentile", (0, 1), (-20.0, 50.0), (0, LARGEST)]
)
INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
FLOATS = ["f2", "f4", "f8", "g"]
OTHERS = ["?", "c8", "c16", "O", "U3", "S2", "M8[s]", "m8[s]", "V4"]
TENSORS = {
    **{kind: getattr(torch, name) for kind, name in {"u1": "uint8", "i1": "int8"}.items()},
    **{kind: getattr(torch, name) for kind, name in {"u2": "uint16", "i2": "int16"}.items()},
    **{kind: getattr(torch, name) for kind, name in {"u4": "uint32", "i4": "int32"}.items()},
    **{kind: getattr(torch, name) for kind, name in {"u8": "uint64", "i8": "int64"}.items()},
    **{kind: getattr(torch, name) for kind, name in {"f2": "float16", "f4": "float32"}.items()},
    "f8": torch.float64,
}


class Values(NamedTuple):
    """How the numbers of an image are drawn."""

    kind: str
    seed: int
    bad: float  # what some of them are instead
    share: float  # of these


VALUES = st.builds(
    Values,
    st.sampled_from(["unit", "unit", "constant", "whole", "degrees", "tiny", "steps"]),
    st.integers(0, 999),
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 9e36, -9e36, -3.4e38, 1e300, -9999.0, 1e-45]),
    st.sampled_from([0.0, 0.0, 0.01, 0.5, 1.0]),
)


def numbers(shape: tuple[int, ...], dtype: str, values: Values) -> np.ndarray:
    """An array of a kind of values; what a dtype does not hold is the nearest that it does."""
    rng = np.random.default_rng(values.seed)
    kind = np.dtype(dtype)
    if kind.kind not in "uif":
        return np.zeros(shape, kind)
    unit = rng.random(shape)
    info = np.iinfo(kind) if kind.kind in "ui" else np.finfo(kind)
    found = {
        "unit": unit if kind.kind == "f" else unit * min(float(info.max), 2**23),
        "constant": np.full(shape, 0.5 if values.seed % 2 else 100.0),
        "whole": unit * min(float(info.max), LARGEST) * 1.9 + max(float(info.min), -LARGEST),
        "degrees": unit * 120 - 40,
        "tiny": unit * 1e-42,
        "steps": (unit > 0.5) * 100.0,
    }[values.kind]
    found = np.where(rng.random(shape) < values.share, values.bad, found)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return found.astype(kind)
    # The largest float64 that a wide integer holds.
    top = float(info.max) if info.bits < 64 else np.nextafter(float(info.max), 0)
    return np.clip(np.nan_to_num(found), float(info.min), top).astype(kind)


def readable(array: np.ndarray, channels: int, range: object) -> bool:
    """Whether an image of numbers (..., H, W, C) can be read.

    Args:
        array: The numbers, those of other dtypes left out.
        channels: Their number, alpha included.
        range: As the door takes it.
    """
    colours = array[..., : channels - (channels % 2 == 0)]
    with np.errstate(over="ignore"):
        values = colours.astype(np.float32)
    lost = np.isnan(values).any(-1)
    data = values[~lost]
    if min(array.shape[-3:-1]) < 8 or 0 in array.shape or lost.all((-1, -2)).any():
        return False
    if np.abs(data).max() > LARGEST:
        return False
    if array.dtype.kind == "f" and range in (None, "dtype"):
        return bool(data.min() >= -SLACK and data.max() <= 1 + SLACK)
    return True


def outcome(image: object, **options: Any) -> Picture | Exception:
    """The picture that was read, or the documented error."""
    try:
        return read(image, name="visible", **options)
    except (TypeError, ValueError, OSError) as error:
        refusal = error
    assert "visible: " in str(refusal)
    assert len(str(refusal)) > 30
    return refusal


def check(picture: Picture) -> None:
    """A picture is finite, and in [0, 1] where it is looked at."""
    assert picture.values.dtype == torch.float32
    assert picture.channels in (1, 3)
    assert picture.values.isfinite().all()
    assert not picture.values.requires_grad
    for part in (picture.luma, picture.rgb):
        assert part.shape[2:] == picture.size
        assert ((part >= 0) & (part <= 1 + 1e-6)).all()
    assert picture.rgb.shape[1] == 3


def same(back: np.ndarray, came: np.ndarray, lost: np.ndarray, colours: int) -> None:
    """What is given back is what came, as far as float32 has it; NaN where a colour was lost."""
    with np.errstate(over="ignore"):
        wanted = came.astype(np.float32).astype(np.float64)
    wanted[..., :colours] = np.where(lost[..., None], np.nan, wanted[..., :colours])
    given = back.astype(np.float64)
    if came.dtype.kind == "f":
        np.testing.assert_array_equal(given, wanted)
    else:  # the largest float32 that the integer holds
        np.testing.assert_allclose(given, wanted, rtol=2e-7, atol=0)


# ---- arrays -----------------------------------------------------------------------------


def laid(array: np.ndarray, layout: str) -> np.ndarray:
    """The same image, or a part of it, in another order in memory."""
    if array.ndim < 2:
        return array
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    return {
        "plain": lambda: array,
        "upside down": lambda: array[::-1],
        "mirrored": lambda: array[:, ::-1],
        "every other": lambda: array[::2],
        "transposed": lambda: array.swapaxes(0, 1),
        "Fortran": lambda: np.asfortranarray(array),
        "swapped": lambda: array.astype(array.dtype.newbyteorder(">")),
        "channels reversed": lambda: array[..., ::-1],
    }[layout]()


LAYOUTS = st.sampled_from(
    [
        *("plain", "upside down", "mirrored", "every other", "transposed", "Fortran", "swapped"),
        *("broadcast", "channels reversed"),
    ]
)


@given(SHAPES, st.sampled_from(INTEGERS + FLOATS), VALUES, LAYOUTS, RANGES, st.booleans())
@settings(max_examples=1200)
def test_arrays(shape, dtype, values, layout, range, writeable) -> None:
    array = np.asarray(laid(numbers(shape, dtype, values), layout))
    if not writeable:
        array.flags.writeable = False
    before, flags = array.copy(), str(array.flags)
    found = outcome(array, range=range)
    assert str(array.flags) == flags
    np.testing.assert_array_equal(array, before)

    planes = array[..., None] if array.ndim == 2 else array
    fits = planes.ndim == 3 and planes.shape[-1] in (1, 3, 4)
    assert isinstance(found, Picture) == (fits and readable(planes, planes.shape[-1], range)), found
    if not isinstance(found, Picture):
        return
    check(found)
    assert found.planes.shape[1] == planes.shape[-1]
    for back in (found.give_back(found.planes, found.missing), found.fused(found.luma)):
        assert isinstance(back, np.ndarray)
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert not np.shares_memory(back, array)
        back[...] = 0
    np.testing.assert_array_equal(array, before)
    lost = np.isnan(planes[..., : found.channels]).any(-1)
    back = found.give_back(found.planes, found.missing)
    same(np.asarray(back).reshape(planes.shape), planes, lost, found.channels)


@given(st.sampled_from(OTHERS), SHAPES)
@settings(max_examples=60)
def test_arrays_of_other_types(dtype, shape) -> None:
    found = outcome(np.zeros(shape, np.dtype(dtype)))
    assert isinstance(found, TypeError)
    assert "expected integers or floats" in str(found)


def masks(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@given(
    st.sampled_from([(9, 12), (9, 12, 1), (9, 12, 3), (9, 12, 4), (8, 300)]),
    st.sampled_from(["u1", "u2", "i4", "f4", "f8"]),
    VALUES,
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
@settings(max_examples=200)
def test_masked_arrays(shape, dtype, values, share, hard) -> None:
    array = np.ma.array(numbers(shape, dtype, values), mask=masks(shape, share, 1), hard_mask=hard)
    array.fill_value = 7
    before = array.copy()
    found = outcome(array, range="percentile")
    np.testing.assert_array_equal(array.mask, before.mask)
    np.testing.assert_array_equal(array.data, before.data)

    planes = array[..., None] if array.ndim == 2 else array
    channels = planes.shape[-1]
    blank = planes.mask[..., : channels - (channels % 2 == 0)].any(-1, keepdims=True)
    seen = np.where(blank, np.nan, planes.data.astype("f8"))
    assert isinstance(found, Picture) == readable(seen, channels, "percentile"), found
    if not isinstance(found, Picture):
        return
    check(found)
    assert found.planes.shape[1] == channels
    back = found.give_back(found.planes, found.missing)
    assert isinstance(back, np.ma.MaskedArray)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.fill_value == 7
    lost = np.isnan(seen[..., : found.channels]).any(-1, keepdims=True)
    mask = np.ma.getmaskarray(back).reshape(planes.shape)
    np.testing.assert_array_equal(mask[..., : found.channels].all(-1, keepdims=True), lost)
    same(
        np.asarray(back.data, "f8").reshape(planes.shape)[~lost[..., 0]],
        planes.data[~lost[..., 0]],
        np.zeros(int((~lost).sum()), bool),
        found.channels,
    )


# ---- tensors ----------------------------------------------------------------------------


def placed(tensor: Tensor, layout: str) -> Tensor:
    if tensor.ndim < 2:
        return tensor
    return {
        "plain": lambda: tensor,
        "gradient": lambda: tensor.requires_grad_() if tensor.is_floating_point() else tensor,
        "transposed": lambda: tensor.transpose(-1, -2),
        "every other": lambda: tensor[..., ::2],
        "expanded": lambda: tensor[..., :1, :].expand(tensor.shape),
        "channels last": lambda: (
            tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        ),
        "inference": lambda: tensor,
    }[layout]()


@given(
    st.one_of(
        st.tuples(SIDES, SIDES),
        st.tuples(st.sampled_from([1, 3, 4]), SIDES, SIDES),
        st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 3, 4]), SIDES, SIDES),
        st.tuples(st.sampled_from([8, 700]), st.sampled_from([8, 9])),
        st.lists(st.sampled_from([0, 1, 2, 3, 9]), max_size=5).map(tuple),
    ),
    st.sampled_from([*TENSORS, "bfloat16"]),
    VALUES,
    st.sampled_from(
        ["plain", "gradient", "transposed", "every other", "expanded", "channels last"]
    ),
    RANGES,
)
@settings(max_examples=900)
def test_tensors(shape, dtype, values, layout, range) -> None:
    kind = "f4" if dtype == "bfloat16" else dtype
    tensor = torch.from_numpy(np.asarray(numbers(shape, kind, values)))
    tensor = placed(tensor.bfloat16() if dtype == "bfloat16" else tensor, layout)
    before, version = tensor.detach().clone(), tensor._version
    found = outcome(tensor, range=range)
    assert tensor._version == version
    assert torch.equal(tensor.detach().nan_to_num(), before.nan_to_num())

    channels = shape[-3] if tensor.ndim > 2 else 1
    fits = tensor.ndim in (2, 3, 4) and channels in (1, 3, 4) and tensor.numel() > 0
    if fits:
        exact = before.float() if dtype == "bfloat16" else before
        planes = exact.reshape(-1, channels, *tensor.shape[-2:]).movedim(1, -1).numpy()
        fits = readable(planes, channels, range)
    assert isinstance(found, Picture) == fits, found
    if not isinstance(found, Picture):
        return
    check(found)
    assert found.planes.shape[1] == channels
    for back in (found.give_back(found.planes, found.missing), found.fused(found.luma)):
        assert isinstance(back, Tensor)
        assert back.dtype == tensor.dtype
        assert back.shape == tensor.shape
        assert not back.requires_grad
        back.zero_()
    assert torch.equal(tensor.detach().nan_to_num(), before.nan_to_num())
    back = found.give_back(found.planes, found.missing)
    back = back.float() if dtype == "bfloat16" else back
    lost = np.isnan(planes[..., : found.channels]).any(-1)
    back = back.reshape(-1, channels, *tensor.shape[-2:]).movedim(1, -1).numpy()
    same(back, planes, lost, found.channels)


@pytest.mark.parametrize("shape", [(3, 20, 20), (20, 20), (1, 1), (0, 9)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_tensors_without_pixels(shape, dtype) -> None:
    found = outcome(torch.empty(shape, dtype=dtype, device="meta"))
    assert isinstance(found, (TypeError, ValueError))


# ---- PIL images -------------------------------------------------------------------------

MODES = {
    **{"1": 1, "L": 1, "P": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1, "F": 1},
    **{"LA": 2, "La": 2, "PA": 2, "RGB": 3, "YCbCr": 3, "HSV": 3, "LAB": 3},
    **{"RGBA": 4, "RGBa": 4, "RGBX": 4, "CMYK": 4},
}
GIVEN = {  # the mode that comes back
    **{"1": {"L"}, "L": {"L", "LA"}, "I": {"I"}, "F": {"F"}},
    **{"P": {"L", "LA", "RGB", "RGBA"}, "RGB": {"RGB", "RGBA"}},
    **{mode: {"I;16"} for mode in ("I;16", "I;16B", "I;16L")},
    **{"LA": {"LA"}, "La": {"LA"}, "PA": {"LA", "RGBA"}, "RGBA": {"RGBA"}, "RGBa": {"RGBA"}},
    **{mode: {"RGB"} for mode in ("YCbCr", "HSV", "RGBX", "CMYK")},
}


@given(
    st.sampled_from(sorted(MODES)),
    st.tuples(SIDES, SIDES),
    st.integers(0, 999),
    RANGES,
    st.sampled_from([None, None, 0, 7, 300, (1, 2, 3), (1, 2), b"\0\x80", b"", "white", -1.5]),
    st.sampled_from([None, None, "0", "-9999", "nan", "", "text", "1e400", 0]),
)
@settings(max_examples=500)
def test_pil_images(mode, size, seed, range, transparency, nodata) -> None:
    rng = np.random.default_rng(seed)
    if mode in ("I", "F"):
        kind = "i4" if mode == "I" else "f4"
        image = Image.fromarray(numbers((size[1], size[0]), kind, Values("whole", seed, 0.0, 0.0)))
    else:
        bits = {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)
        stride = (size[0] * bits * MODES[mode] + 7) // 8
        image = Image.frombytes(mode, size, rng.bytes(stride * size[1]))
    if mode in ("P", "PA"):
        image.putpalette(rng.bytes(3 * (seed % 257)))
    for key, value in {"transparency": transparency, "GDAL_NODATA": nodata}.items():
        if value is not None:
            image.info[key] = value
    before, info = copy.deepcopy(image), dict(image.info)
    found = outcome(image, range=range)
    assert image.tobytes() == before.tobytes()
    assert image.mode == mode
    assert image.info == info
    if min(size) < 8 or mode == "LAB":
        assert isinstance(found, ValueError)
    elif transparency is nodata is None and not (mode == "F" and range in (None, "dtype")):
        assert isinstance(found, Picture), found
        if mode in ("L", "RGB", "RGBA", "LA", "I;16", "I;16B", "I;16L"):
            pixels = np.asarray(image).reshape(*size[::-1], -1)
            np.testing.assert_array_equal(found.planes[0].movedim(0, -1).numpy(), pixels)
    if not isinstance(found, Picture):
        return
    assert found.size == size[::-1]
    check(found)
    for back in (found.give_back(found.planes, found.missing), found.fused(found.luma)):
        assert isinstance(back, Image.Image)
        assert back.size == size
        assert back.mode in GIVEN[mode]


# ---- options ----------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    [
        *(0, 1, 1.0, 0.5, -9999, -9999.5, 255, 256, 2**31, 2**63, 2**64, 10**400, 1e-45, 1e-60),
        *(3e38, 1e300, -1e300, np.nan, np.inf, -np.inf, True, np.float32(7), np.int16(3)),
        *(np.uint64(2**63), np.float128(1) if hasattr(np, "float128") else 1.5),
    ]
)
NONSENSE = st.sampled_from(
    ["", "5", b"5", [], (), {}, {1: 2}, object, 1j, (1,), (1, 2, 3), (1, 2, 3, 4), [0], "min"]
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "range": st.one_of(st.tuples(NUMBERS, NUMBERS), st.lists(NUMBERS, max_size=3), NONSENSE),
        "nodata": st.one_of(NUMBERS, NONSENSE),
        "band": st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS, NUMBERS), NONSENSE),
        "channels": st.sampled_from(["rgb", "bgr", "RGB", "", None, 3, ["rgb"]]),
    },
)


def test_options() -> None:
    are_read: list[bool] = []

    @given(
        OPTIONS,
        st.sampled_from(["array", "tensor", "image"]),
        st.sampled_from([(9, 12), (9, 12, 1), (9, 12, 3), (9, 12, 4), (9, 12, 7)]),
        st.sampled_from(["u1", "u2", "u8", "i2", "i8", "f2", "f4", "f8"]),
        VALUES,
    )
    @settings(max_examples=900)
    def look(options, container, shape, dtype, values) -> None:
        image: Any = numbers(shape, dtype, values)
        if container == "tensor":
            image = torch.from_numpy(image)
            image = image.movedim(-1, 0) if image.ndim > 2 else image
        elif container == "image":
            shape = (9, 12, 3) if len(shape) > 2 else shape
            image = Image.fromarray(numbers(shape, "u1", values))
        found = outcome(image, **options)
        are_read.append(isinstance(found, Picture))
        if isinstance(found, Picture):
            check(found)
            for back in (found.give_back(found.planes, found.missing), found.fused(found.luma)):
                assert isinstance(back, type(image))

    look()
    assert 0.1 < np.mean(are_read) < 0.9


@given(st.one_of(st.text(max_size=30), st.sampled_from(["\0", "a\0b", "\ud800.png", "a" * 5000])))
@settings(max_examples=200)
def test_paths_that_lead_nowhere(tmp_path_factory, text) -> None:
    found = outcome(str(tmp_path_factory.getbasetemp() / "nothing" / text.replace("/", "")))
    assert isinstance(found, (OSError, ValueError))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_no_data_of_wide_integers_is_compared_exactly(kind, value) -> None:
    array = np.zeros((9, 12), np.int64)
    array[0], array[1] = value, value - 1 if value > 0 else value + 1
    picture = read(kind(array), nodata=value)
    assert picture.missing is not None
    assert picture.missing[0, 0].all(1).tolist() == [True] + 8 * [False]
    back = picture.give_back(picture.planes, picture.missing)
    np.testing.assert_array_equal(np.asarray(back)[0], value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for name in ("infrared", "visible"):
        with pytest.raises(ValueError, match=r"a\.jpg is a pipe or a device; save what it gives"):
            read(tmp_path / "a.jpg", name=name)
    assert not radiometric.is_readable(tmp_path / "a.jpg")


def test_links_that_lead_nowhere(tmp_path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(OSError, match=r"visible: cannot open the image file: .*loop\.png"):
        read(tmp_path / "loop.png", name="visible")
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        read(tmp_path / "gone.png", name="visible")


def test_paths_of_bytes(tmp_path) -> None:
    class Entry:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "a.png")

    Image.new("L", (9, 12)).save(tmp_path / "a.png")
    assert read(Entry()).size == (12, 9)


# ---- the whole way ----------------------------------------------------------------------


@given(
    st.sampled_from(["u1", "u2", "f4", "f2", "f8", "i4"]),
    st.sampled_from([(8, 8), (8, 9), (9, 40), (64, 8), (33, 47)]),
    st.sampled_from([(8, 8, 3), (9, 8), (16, 50, 3), (70, 9, 4), (40, 48, 1)]),
    VALUES,
    VALUES,
    st.booleans(),
)
@settings(max_examples=40)
def test_fusions_of_small_images(model, dtype, infrared_size, visible_size, hot, seen, align):
    infrared = numbers(infrared_size, dtype, hot)
    visible = numbers(visible_size, "u1", seen)
    before = infrared.copy(), visible.copy()
    options = {"align": align, "ir_range": "percentile", "on_failure": "return"}
    if not readable(infrared[..., None], 1, "percentile"):
        with pytest.raises(ValueError, match=r"^infrared: "):
            umfuse.fuse(infrared, visible, weights=model, **options)
        return
    fusion = umfuse.fuse(infrared, visible, weights=model, **options)
    for image, copied in zip((infrared, visible), before, strict=True):
        np.testing.assert_array_equal(image, copied)
    assert fusion.image.dtype == visible.dtype
    assert fusion.image.shape == visible.shape
    assert np.isfinite(fusion.luma).all()
    if fusion.registration is not None:
        assert np.isfinite(fusion.registration.coordinates).all()
        assert np.isfinite(fusion.registration.transform).all()
        assert np.asarray(fusion.registration.infrared).shape == visible_size[:2]
