"""What `benchmarks.budget` counts and measures, on things of known size."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from benchmarks import budget

import umfuse


def test_work_is_counted_exactly():
    image, weight = torch.rand(1, 2, 8, 9), torch.rand(5, 2, 3, 3)
    work = budget.worked(lambda: F.conv2d(image, weight, padding=1))
    assert (work.calls, work.macs) == (1, 8 * 9 * 5 * 2 * 9)
    assert work.bytes == 4 * (image.numel() + weight.numel() + 5 * 8 * 9)
    work = budget.worked(lambda: image[:, :1].transpose(2, 3) + 1)  # views are no work
    assert (work.calls, work.macs, work.bytes) == (1, 0, 4 * 2 * 8 * 9)


def test_what_takes_longer_is_told():
    few, many = (
        (lambda: torch.rand(100, 100) @ torch.rand(100, 100)),
        (lambda: [torch.rand(100, 100) @ torch.rand(100, 100) for _ in range(50)]),
    )
    one, other = budget.seconds((few, many), 5)
    assert other > 5 * one


def test_a_busy_machine_is_told():
    code = "while True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3 * os.cpu_count())]
    try:
        assert budget.quiet().startswith("not quiet: load average")
    finally:
        for one in busy:
            one.kill()
            one.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="no times of children there")
def test_a_process_is_measured():
    _, small = budget.process(["-c", "pass"])
    took, peak = budget.process(["-c", "sum(range(10**6)); bytearray(b'1') * 400_000_000"])
    assert 0.3 < peak - small < 0.5
    assert took > 0.05
    with pytest.raises(SystemExit, match="failed"):
        budget.process(["-c", "raise SystemExit(3)"])


@pytest.mark.slow
def test_the_profile_shares_out_the_whole(monkeypatch):
    monkeypatch.setattr(budget, "SIZE", (96, 128))
    lines = list(budget.profile(umfuse.load(device="cpu"), 1))
    assert [line[0] for line in lines][-2:] == ["colour, as it came", "all"]
    assert sum(line[3] for line in lines[:-1]) == lines[-1][3]
    assert sum(line[2] for line in lines[:-1]) == pytest.approx(lines[-1][2])
