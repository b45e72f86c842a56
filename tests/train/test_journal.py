import io
import json
import logging
import os
import sys
from dataclasses import replace

import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from PIL import Image
from room import room
from tiny import CONFIG, Noise, Task

from umfuse.train import fit
from umfuse.train.journal import Journal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_loss_and_time_left_instead_of_lines(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    caplog.set_level(logging.INFO)
    fit(Task(), Noise(), CONFIG, tmp_path, stop=8)
    shown = terminal.getvalue().split("\r")[-1]
    assert "8/12" in shown
    assert "loss 0." in shown
    assert "<00:0" in shown
    assert "min left" not in caplog.text
    fit(Task(), Noise(), CONFIG, tmp_path)
    assert "12/12" in terminal.getvalue()


def test_one_switch_silences_the_bar(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    caplog.set_level(logging.INFO)
    disable_progress_bars("umfuse")
    try:
        fit(Task(), Noise(), CONFIG, tmp_path)
    finally:
        enable_progress_bars("umfuse")
    assert terminal.getvalue() == ""
    assert "step 12/12" in caplog.text


def test_lines_after_the_start_are_dropped(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with Journal(tmp_path, 2, 9) as journal:
        journal.validation(4, {"score": 1 / 3})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2},
        {"step": 4, "score": 0.333333},
    ]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_full_disk_says_which_file_has_no_room(tmp_path):
    Journal(tmp_path, 0, 9).validation(1, {"score": 0.25})
    with room(40), pytest.raises(OSError, match=r"cannot write .*log\.jsonl: .*check space"):
        Journal(tmp_path, 1, 9).validation(2, {"score": 0.25})
    Journal(tmp_path, 1, 9).validation(2, {"score": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "score": 0.25}, {"step": 2, "score": 0.5}]


def test_without_tensorboard_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'umfuse\[tensorboard\]'"):
        fit(Task(), Noise(), replace(CONFIG, tensorboard=True), tmp_path)


def test_tensorboard_holds_figures_and_samples(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start in (0, 2):  # what a resumed run writes again replaces what was there
        with Journal(tmp_path, start, 9, tensorboard=True) as journal:
            for step in (1 + start, 2 + start, 3 + start):
                journal.progress(step, {"loss": 0.5 + start, "s_per_step": 0.1})
            journal.picture(3 + start, Image.new("L", (5, 4), 7))
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = [(event.step, event.value) for event in events.Scalars("loss")]
    assert values == [(1, 0.5), (2, 0.5), (3, 2.5), (4, 2.5), (5, 2.5)]
    sample = events.Images("sample")[-1]
    assert (sample.step, sample.width, sample.height) == (5, 5, 4)
