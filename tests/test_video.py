"""Videos: frames in at their full depth, frames out with their times, and `umfuse video`."""

import sys

import numpy as np
import pytest
from benchmarks import scenes
from test_rig import counts, frame

from umfuse import Registration, cli, images
from umfuse.cli.video import Shot, together
from umfuse.files import video
from umfuse.files.video import Frame

av = pytest.importorskip("av")
SHAPE = (48, 64)


def pixels(kind, number=0, shape=SHAPE):
    rng = np.random.default_rng(number)
    if kind == "deep":
        return rng.integers(0, 65536, shape).astype(np.uint16)
    return rng.integers(0, 256, shape if kind == "grey" else (*shape, 3)).astype(np.uint8)


def write(path, frames, **options):
    with video.writing(path, **options) as writer:
        for one in frames:
            writer.write(one)


@pytest.mark.parametrize("kind", ["deep", "grey", "colour"])
def test_ffv1_keeps_every_number_and_time(tmp_path, kind):
    times = [0.0, 0.04, 0.12]
    written = [Frame(time, pixels(kind, number)) for number, time in enumerate(times)]
    write(tmp_path / "a.mkv", written, codec="ffv1")
    found = list(video.frames(tmp_path / "a.mkv", "infrared"))
    assert [one.time for one in found] == pytest.approx(times, abs=1e-3)
    for one, expected in zip(found, written, strict=True):
        assert one.image.dtype == expected.image.dtype
        np.testing.assert_array_equal(one.image, expected.image)


@pytest.mark.parametrize("bits", [10, 12])
def test_counts_of_less_than_16_bits_are_read_as_stored(tmp_path, bits):
    counts = pixels("deep") >> (16 - bits)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=9)
        stream.height, stream.width = SHAPE
        stream.pix_fmt = f"gray{bits}le"
        made = av.VideoFrame.from_ndarray(counts, format=f"gray{bits}le")
        container.mux([*stream.encode(made), *stream.encode(None)])
    (found,) = video.frames(tmp_path / "a.mkv", "infrared")
    np.testing.assert_array_equal(found.image, counts)
    assert video.rate(tmp_path / "a.mkv") == 9


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("shape", [(48, 64), (47, 63)])
def test_h264_looks_like_what_was_written(tmp_path, suffix, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = np.stack([2 * y + 40, 2 * x + 60, 200 - y - x], -1).astype(np.uint8)
    write(tmp_path / f"a{suffix}", [Frame(number / 25, smooth) for number in range(5)])
    found = list(video.frames(tmp_path / f"a{suffix}", "visible"))
    assert [one.time for one in found] == pytest.approx([number / 25 for number in range(5)])
    for one in found:  # with one row and column more where the sides were odd
        part = one.image[: shape[0], : shape[1]].astype(int)
        assert np.abs(part - smooth).mean() < 3


def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"infrared: .*a\.mp4 cannot be read as a video"):
        list(video.frames(tmp_path / "a.mp4", "infrared"))
    with pytest.raises(ValueError, match="cannot be read as a video"):
        video.rate(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError):
        list(video.frames(tmp_path / "none.mp4", "infrared"))


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    grey = Frame(0.0, pixels("grey"))
    with pytest.raises(ValueError, match=r"expected a suffix of \.avi"):
        write(tmp_path / "a.png", [grey])
    with pytest.raises(ValueError, match="codec 'none' cannot be used here"):
        write(tmp_path / "a.mp4", [grey], codec="none")
    with pytest.raises(ValueError, match="libx264 does not hold 16-bit grey; ffv1 in"):
        write(tmp_path / "a.mp4", [Frame(0.0, pixels("deep"))])
    with pytest.raises(ValueError, match="codec 'ffv1' cannot be used here: 'webm' format"):
        write(tmp_path / "a.webm", [grey], codec="ffv1")
    with pytest.raises(ValueError, match=r"expected frames of shape \(48, 64\)"):
        write(tmp_path / "a.mp4", [grey, Frame(0.1, pixels("grey", shape=(50, 64)))])
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ImportError, match=r"pip install 'umfuse\[video\]'"):
        list(video.frames(tmp_path / "a.mp4", "infrared"))
    with pytest.raises(ImportError, match=r"pip install 'umfuse\[video\]'"):
        write(tmp_path / "b.mp4", [])


def shots(rate, count, start=0.0):
    return [Shot(start + number / rate, number, str(number)) for number in range(count)]


def test_each_visible_frame_gets_the_nearest_infrared_one(caplog):
    def paired(*both):
        return [(infrared.image, visible.image) for infrared, visible in together(*both)]

    assert paired(shots(25, 3), shots(25, 3)) == [(0, 0), (1, 1), (2, 2)]
    assert paired(shots(10, 3), shots(20, 5)) == [(0, 0), (1, 1), (1, 2), (2, 3), (2, 4)]
    assert paired(shots(20, 5), shots(10, 3)) == [(0, 0), (2, 1), (4, 2)]
    assert not caplog.records
    assert paired(shots(10, 2), shots(10, 9)) == [(0, 0), (1, 1), (1, 2)]
    assert "the infrared frames end at 0.10 s" in caplog.text
    assert paired([], shots(10, 9)) == []


# ---- the command --------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two videos: infrared of 16 bits at 10 frames per second, visible at 20."""
    folder = tmp_path_factory.mktemp("clips")
    street = scenes.render(seed=3, size=(240, 320))
    deep = [counts(street, number).astype(np.uint16) * 20 + 28000 for number in range(4)]
    infrared = [Frame(number / 10, image) for number, image in enumerate(deep)]
    visible = [Frame(number / 20, frame(street, number)[1]) for number in range(8)]
    write(folder / "ir.mkv", infrared, codec="ffv1", rate=10)
    write(folder / "vis.mp4", visible, rate=20)
    for kind, frames in (("ir", infrared), ("vis", visible[::2])):
        (folder / kind).mkdir()
        for number, one in enumerate(frames):
            images.save(one.image, folder / kind / f"{number + 8}.png")  # 8, 9, 10, 11
    return folder


def test_two_videos_become_one(clips, tmp_path, capsys, caplog):
    arguments = ["video", str(clips / "ir.mkv"), str(clips / "vis.mp4"), "--frames", "2"]
    out, saved = tmp_path / "out.mp4", tmp_path / "rig.npz"
    assert cli.main([*arguments, "-o", str(out), "--save-registration", str(saved)]) == 0
    assert "infrared 10 and visible 20 frames per second" in caplog.text
    assert capsys.readouterr().out == f"{out}\n"
    found = list(video.frames(out, "fused"))
    assert [one.time for one in found] == pytest.approx([number / 20 for number in range(8)])
    seen = list(video.frames(clips / "vis.mp4", "visible"))
    assert found[0].image.shape == seen[0].image.shape
    apart = np.abs(found[3].image.astype(int) - seen[3].image).mean()
    assert 3 < apart < 80  # fused, and still the same place
    assert Registration.load(saved).confidence > 0.9
    # The registration that was found serves the next recording.
    deep = tmp_path / "deep.mkv"
    again = [*arguments, "-o", str(deep), "--registration", str(saved)]
    assert cli.main([*again, "--grey16", "--codec", "ffv1"]) == 0
    first = next(video.frames(deep, "fused"))
    assert first.image.dtype == np.uint16
    assert len(np.unique(first.image)) > 1000


def test_folders_in_and_out(clips, tmp_path):
    out = tmp_path / "fused"
    arguments = ["video", str(clips / "ir"), str(clips / "vis"), "-o", str(out), "--frames", "1"]
    assert cli.main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["10.png", "11.png", "8.png", "9.png"]
    picture = images.read(out / "8.png")
    assert picture.size == (240, 320)
    assert picture.channels == 3


def test_wrong_usage_of_video(clips, tmp_path, capsys):
    both = [str(clips / "ir.mkv"), str(clips / "vis.mp4")]
    assert cli.main(["video", *both, "-o", str(tmp_path / "a.mp4"), "--grey16"]) == 2
    assert "needs a codec that keeps 16 bits" in capsys.readouterr().err
    assert cli.main(["video", "none.mp4", both[1], "-o", str(tmp_path / "a.mp4")]) == 2
    assert "none.mp4 does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["video", str(tmp_path / "empty"), both[1], "-o", str(tmp_path / "b")]) == 1
    assert "there are no frames" in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()
