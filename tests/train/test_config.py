import json
from dataclasses import replace

import pytest

from umfuse.train import TrainConfig
from umfuse.train.config import read_config, write_config


def test_the_rate_rises_then_falls():
    config = TrainConfig(steps=100, lr=1.0, warmup=10, final_lr=0.1)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1)
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[99] == pytest.approx(0.1, abs=1e-3)
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_the_rate_may_be_constant():
    config = TrainConfig(steps=100, lr=1e-3, warmup=0, final_lr=1)
    assert {config.rate(step) for step in range(200)} == {1e-3}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch", 0, "batch must be at least 1, got 0"),
        ("accumulate", 0, "accumulate must be at least 1, got 0"),
        ("clip", 0.0, "clip must be above 0, or None"),
        ("ema", 1.0, r"ema must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_configs_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(steps=1, **{name: value})


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_file_gives_the_config_back(tmp_path, clip):
    config = TrainConfig(steps=7, clip=clip, betas=(0.5, 0.9), device="cuda")
    write_config(tmp_path, replace(config, steps=1))
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    assert [path.name for path in tmp_path.iterdir()] == ["train.json"]


def test_a_config_of_an_older_umfuse_is_read(tmp_path):
    (tmp_path / "train.json").write_text('{"steps": 7, "betas": [0.9, 0.99]}')
    assert read_config(tmp_path) == TrainConfig(steps=7)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no run folder: it holds no train\.json"):
        read_config(tmp_path)


def test_a_config_of_a_newer_umfuse_is_refused(tmp_path):
    write_config(tmp_path, TrainConfig(steps=7))
    values = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps({**values, "sharpness": 2}))
    with pytest.raises(ValueError, match=r"unknown keys \['sharpness'\]"):
        read_config(tmp_path)


def test_only_what_changes_the_result_is_in_conflict():
    config = TrainConfig(steps=100, warmup=10)
    manner = replace(config, workers=2, device="cuda", log_every=1, save_every=1, keep=9)
    manner = replace(manner, accumulate=4, channels_last=False, tensorboard=True)
    assert config.conflicts(manner, 50) == []
    assert config.conflicts(replace(config, bf16=False, batch=2), 50) == ["batch", "bf16"]
    longer = replace(config, steps=200)
    assert longer.conflicts(config, 50) == ["steps"]
    assert longer.conflicts(config, 10) == []  # the rates of the warm-up are the same
    assert replace(longer, final_lr=1).conflicts(replace(config, final_lr=1), 50) == []


@pytest.mark.parametrize("native", [False, True])
def test_bf16_is_used_where_the_device_has_it_unless_it_is_said(native, monkeypatch):
    asked = []
    monkeypatch.setattr("umfuse.train.config.has_bf16", lambda kind: asked.append(kind) or native)
    config = TrainConfig(steps=1)
    assert config.bf16 is None
    assert config.settled("cuda").bf16 is native
    assert asked == ["cuda"]
    for said in (False, True):
        assert replace(config, bf16=said).settled("cuda").bf16 is said
        assert config.settled("cuda", replace(config, bf16=said)).bf16 is said
    assert asked == ["cuda"]
