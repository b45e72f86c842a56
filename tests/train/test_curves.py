import json

import numpy as np
import pytest
from PIL import Image
from tiny import CONFIG, Noise, Task

from umfuse import draw
from umfuse.train import curves, fit
from umfuse.train.journal import Journal


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_each_figure_of_the_log_is_a_curve(tmp_path):
    log = tmp_path / "log.jsonl"
    write(log, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "held": 1.0}])
    expected = draw.curves({"loss": [(1, 3.0), (2, 2.0)], "held": [(2, 1.0)]})
    assert np.array_equal(np.asarray(curves.picture(log)), np.asarray(expected))
    with log.open("a") as file:
        file.write('{"step": 3, "lo')  # being written
    assert np.array_equal(np.asarray(curves.picture(log)), np.asarray(expected))


def test_a_log_without_figures_is_refused(tmp_path):
    log = tmp_path / "log.jsonl"
    for text in ("", "no log\n", "[]\n", '{"loss": 1}\n'):
        log.write_text(text)
        with pytest.raises(ValueError, match=r"log\.jsonl holds no figures|is no log of a run"):
            curves.picture(log)


def test_a_run_draws_its_curves(tmp_path):
    fit(Task(), Noise(), CONFIG, tmp_path, stop=8)
    with Image.open(tmp_path / "curves.png") as picture:
        first = np.asarray(picture)
    assert np.array_equal(first, np.asarray(curves.picture(tmp_path / "log.jsonl")))
    fit(Task(), Noise(), CONFIG, tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert not np.array_equal(first, np.asarray(picture))


def test_curves_are_there_with_every_sample(tmp_path):
    with Journal(tmp_path, 0, 9) as journal:
        journal.picture(1, Image.new("L", (5, 4)))
        assert not (tmp_path / "curves.png").exists()  # no figure yet
        journal.validation(2, {"score": 0.5})
        journal.picture(2, Image.new("L", (5, 4)))
        assert (tmp_path / "curves.png").exists()
