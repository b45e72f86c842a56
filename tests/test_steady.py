"""Many pairs one after the other, several at once, and the first one of a process."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

import umfuse
from umfuse import demo, devices


@pytest.fixture(scope="module")
def model():
    return umfuse.load(device="cpu")


def scene(height, width, seed):
    """A smooth picture and its inverse, as two cameras might see it."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for frequency, phase, angle in zip(*rng.uniform((0.05,), 0.5, (3, 9)), strict=True):
        total += np.sin(frequency * (x * np.cos(9 * angle) + y * np.sin(9 * angle)) + 9 * phase)
    total = np.clip(128 + 20 * total, 0, 255)
    return (255 - total).astype(np.uint8), np.stack([total] * 3, -1).astype(np.uint8)


def test_threads_give_what_one_after_the_other_gives(model):
    pairs = [scene(96 + 16 * number, 128, number) for number in range(3)]
    before = torch.get_num_threads()
    alone = [umfuse.fuse(*pair, weights=model, min_confidence=0) for pair in pairs]
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(umfuse.fuse, *pair, weights=model, min_confidence=0) for pair in pairs * 2
        ]
        for number, one in enumerate(asked):
            expected = alone[number % len(pairs)]
            found = one.result()
            np.testing.assert_array_equal(found.image, expected.image)
            np.testing.assert_array_equal(
                found.registration.transform, expected.registration.transform
            )
    assert torch.get_num_threads() == before
    assert not torch.is_autocast_enabled("cpu")


def test_a_thread_that_begins_during_a_search_keeps_its_threads():
    before, inside, others = torch.get_num_threads(), Event(), Event()

    def first():
        with devices.one_thread():
            inside.set()
            others.wait(60)

    def second():
        inside.wait(60)
        with devices.one_thread():
            during = torch.get_num_threads()
        others.set()
        return during, torch.get_num_threads()

    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(first)
            assert pool.submit(second).result() == (1, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_nothing_is_kept_of_pairs_of_changing_size(model):
    def tensors():
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    def fuse(numbers):
        for number in numbers:
            infrared, visible = scene(64 + 8 * number, 96, number)
            placed = np.eye(3)
            assert umfuse.fuse(infrared, visible, registration=placed, weights=model).luma.any()

    fuse(range(2))
    before = tensors()
    fuse(range(2, 8))
    assert tensors() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no times of children there")
def test_the_first_pair_of_a_process_takes_little_more_than_torch(tmp_path):
    import resource

    pair = demo.pair()
    fuse = ["-m", "umfuse", "fuse", str(pair.infrared), str(pair.visible)]
    commands = (["-c", "import torch"], [*fuse, "-o", str(tmp_path / "fused.png")])

    def seconds(command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    turns = [[seconds(command) for command in commands] for _ in range(4)]
    torch_alone, whole = (min(times) for times in zip(*turns[1:], strict=True))
    assert whole < 2.5 * torch_alone
