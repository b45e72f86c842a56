import copy
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import repocard
from room import room
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import umfuse
from umfuse import weights, weights_folder
from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig, DifnConfig, MatcherConfig
from umfuse.pipeline import Umfuse
from umfuse.weights import WeightsError

RENDERS = UmfuseConfig(
    cpstn=CpstnConfig(filters=4, blocks=1),
    mrrn=MatcherConfig(channels=(8, 8, 8), descriptor=8, context=8, width=8),
    difn=DifnConfig(features=4, output="blend"),
    working_size=128,
)
SEES = replace(RENDERS, fixed="visible")


def save(config, folder, **changes):
    model = Umfuse(config)
    for name, value in changes.items():
        setattr(model, name, value)
    model.save_pretrained(folder)
    return model


def about(folder):
    return repocard.metadata_load(folder / "README.md")


# --- CPSTN ---------------------------------------------------------------------------------------


def test_cpstn_is_loaded_where_it_is_asked_for_or_needed(tmp_path):
    saved = save(SEES, tmp_path / "sees")
    save(RENDERS, tmp_path / "renders")
    for asked, there in ((None, False), (False, False), (True, True)):
        model = Umfuse.from_pretrained(tmp_path / "sees", cpstn=asked)
        assert (model.cpstn is not None) is there
    for key, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    for asked in (None, True):
        assert Umfuse.from_pretrained(tmp_path / "renders", cpstn=asked).cpstn is not None
    with pytest.raises(ValueError, match="cpstn=False cannot be"):
        Umfuse.from_pretrained(tmp_path / "renders", cpstn=False)
    with pytest.raises(ValueError, match="needs its CPSTN"):
        Umfuse(RENDERS, cpstn=False)


def test_a_model_without_cpstn_works_and_says_how_to_render(tmp_path):
    save(SEES, tmp_path)
    model = Umfuse.from_pretrained(tmp_path)
    infrared, visible = torch.rand(1, 1, 48, 64), torch.rand(1, 3, 48, 64)
    assert copy.deepcopy(model)(infrared, visible).pseudo_infrared is None
    with pytest.raises(RuntimeError, match=r"umfuse\.load\(\.\.\., cpstn=True\)"):
        model.render(visible)
    assert umfuse.load(tmp_path, device="cpu").cpstn is None
    assert umfuse.load(tmp_path, device="cpu", cpstn=True).render(visible).shape == (1, 1, 48, 64)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
@pytest.mark.parametrize(("size", "why"), [(100, "File too large"), (5000, ".*File too large.*")])
def test_a_full_disk_leaves_the_weights_that_were_there(tmp_path, size, why):
    """Of 100 bytes the config is too large, of 5,000 the tensors."""
    save(SEES, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = rf"cannot write the weights in '\S*': {why}; check space"
    with room(size), pytest.raises(OSError, match=said):
        save(replace(SEES, working_size=160), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_embedded_weights_leave_cpstn_on_the_disk():
    assert umfuse.load(device="cpu").cpstn is None
    assert umfuse.load(device="cpu", cpstn=True).cpstn is not None


def test_saving_neither_loses_the_cpstn_of_a_folder_nor_keeps_that_of_others(tmp_path):
    saved = save(SEES, tmp_path / "whole")
    before = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    model = Umfuse.from_pretrained(tmp_path / "whole")
    with pytest.raises(WeightsError, match=r"load it with cpstn=True, save it elsewhere"):
        model.save_pretrained(tmp_path / "whole")
    assert {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()} == before
    model.save_pretrained(tmp_path / "part")
    model.save_pretrained(tmp_path / "part")
    assert not (tmp_path / "part" / weights.CPSTN).exists()
    assert Umfuse.from_pretrained(tmp_path / "part").cpstn is None
    with pytest.raises(WeightsError, match=r"lacks cpstn\.safetensors"):
        Umfuse.from_pretrained(tmp_path / "part", cpstn=True)
    Umfuse.from_pretrained(tmp_path / "whole", cpstn=True).save_pretrained(tmp_path / "part")
    state = Umfuse.from_pretrained(tmp_path / "part", cpstn=True).state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved.state_dict().items())


# --- licence -------------------------------------------------------------------------------------


def test_new_weights_have_no_licence_until_one_is_said(tmp_path):
    save(SEES, tmp_path / "new")
    assert "license" not in about(tmp_path / "new")
    for file in (weights.MODEL, weights.CPSTN):
        with safe_open(tmp_path / "new" / file, "pt") as opened:
            assert "license" not in opened.metadata()
    assert Umfuse.from_pretrained(tmp_path / "new").license is None


def test_a_licence_goes_with_the_weights_and_what_is_trained_from_them(tmp_path):
    save(SEES, tmp_path / "mine", license="CC-BY-4.0")
    assert about(tmp_path / "mine")["license"] == "cc-by-4.0"
    for file in (weights.MODEL, weights.CPSTN):
        with safe_open(tmp_path / "mine" / file, "pt") as opened:
            assert opened.metadata()["license"] == "CC-BY-4.0"
    again = Umfuse.from_pretrained(tmp_path / "mine")
    assert again.license == "CC-BY-4.0"
    copy.deepcopy(again).save_pretrained(tmp_path / "tuned")
    assert Umfuse.from_pretrained(tmp_path / "tuned").license == "CC-BY-4.0"


def test_the_embedded_weights_have_the_licence_of_the_manifest():
    known = weights.manifest()["weights"]["embedded"]["license"]
    assert umfuse.load(device="cpu").license == known == "MIT"


def test_a_card_that_is_there_gets_the_licence_of_the_new_weights(tmp_path, caplog):
    save(SEES, tmp_path, license="MIT")
    card = tmp_path / "README.md"
    card.write_text(card.read_text() + "\nMy words.\n")
    save(SEES, tmp_path, license="MIT")
    assert caplog.text == ""
    save(SEES, tmp_path)
    assert "gave the licence as mit, these weights as None" in caplog.text
    assert "license" not in about(tmp_path)
    assert about(tmp_path)["library_name"] == "umfuse"
    assert "My words." in card.read_text()
    card.write_text("No front matter.\n")
    save(SEES, tmp_path, license="MIT")
    assert about(tmp_path) == {"license": "mit"}
    assert "No front matter." in card.read_text()


# --- strict --------------------------------------------------------------------------------------


def change_state(folder, change):
    state = load_file(folder / weights.MODEL)
    change(state)
    save_file(state, folder / weights.MODEL)


def refused(folder, message):
    with pytest.raises(WeightsError, match=f"do not fit this umfuse: .*{message}"):
        Umfuse.from_pretrained(folder)


def test_missing_extra_and_misshapen_tensors_are_named(tmp_path):
    save(SEES, tmp_path)
    name = "difn.tail.1.weight"
    change_state(tmp_path, lambda state: state.update(spare=torch.zeros(2)))
    refused(tmp_path, "nothing takes spare$")
    change_state(tmp_path, lambda state: state.update({name: torch.zeros(3, 1)}))
    refused(tmp_path, rf"nothing takes spare; of another shape: {name} is \(3, 1\) in place of \(")
    change_state(tmp_path, lambda state: state.pop(name))
    refused(tmp_path, f"they lack {name}; nothing takes spare$")
    change_state(tmp_path, lambda state: state.pop("spare"))
    refused(tmp_path, f"they lack {name}$")
    change_state(
        tmp_path, lambda state: state.update({f"more{i}": torch.zeros(1) for i in range(3)})
    )
    refused(tmp_path, "nothing takes more0, more1, more2$")
    change_state(tmp_path, lambda state: state.update(more3=torch.zeros(1), more4=torch.zeros(1)))
    refused(tmp_path, "nothing takes more0, more1, more2 and 2 more$")
    change_state(tmp_path, lambda state: state.clear())
    refused(tmp_path, r"they lack difn\.\S+, difn\.\S+, difn\.\S+ and \d+ more$")


def change_config(folder, change):
    config = json.loads((folder / weights.CONFIG).read_text())
    change(config)
    (folder / weights.CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(depth=3), r"config has unknown keys \['depth'\]"),
        (
            lambda config: config["difn"].update(depth=3),
            r"config\.difn has unknown keys \['depth'\]",
        ),
        (lambda config: config["mrrn"].update(a=1, b=2), r"config\.mrrn has unknown .*'a', 'b'"),
        (lambda config: config.update(difn=3), r"config\.difn must hold keys, got 3"),
        (lambda config: config.update(working_size="big"), "'<' not supported"),
        (lambda config: config.update(fixed="infrared"), "fixed must be one of"),
        (
            lambda config: config.update(format_version=3),
            "format_version 2, the config has 3",
        ),
        (lambda config: config.update(format_version="2"), "format_version 2, the config has '2'"),
        (lambda config: config.pop("format_version"), "format_version 2, the config has None"),
    ],
)
def test_a_config_of_another_umfuse_is_refused(tmp_path, change, message):
    save(SEES, tmp_path)
    change_config(tmp_path, change)
    refused(tmp_path, message)


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        lambda model: model.half(),
        lambda model: model.bfloat16(),
        lambda model: model.double(),
        lambda model: model.to(torch.bfloat16),
        lambda model: model.to("cpu", torch.float16),
        lambda model: model.to(torch.zeros(1, dtype=torch.float64)),
        lambda model: model.type(torch.float16),
    ],
    ids=["half", "bfloat16", "double", "to", "to device", "to tensor", "type"],
)
def test_weights_stay_in_float32_and_the_way_to_bfloat16_is_said(convert):
    model = Umfuse(SEES)
    with pytest.raises(TypeError, match=r"model\.precision = 'bfloat16'"):
        convert(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_moving_and_copying_work_as_before():
    model = Umfuse(SEES)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.to("cpu") is model.float() is model.cpu() is model.to(torch.float32) is model
    model.to(memory_format=torch.channels_last).share_memory()
    for other in (model, copy.deepcopy(model)):
        assert all(torch.equal(other.state_dict()[key], value) for key, value in state.items())
    assert copy.deepcopy(model).to("meta").device.type == "meta"
    assert model.to_empty(device="meta").device.type == "meta"


def test_a_failed_save_leaves_the_old_config(tmp_path, monkeypatch):
    save(SEES, tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_folder.safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(SEES, tmp_path)
    assert (tmp_path / weights.CONFIG).read_bytes() == (
        tmp_path / "copy" / weights.CONFIG
    ).read_bytes()
