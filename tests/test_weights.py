import hashlib
import json
import re
import shutil
import time
from pathlib import Path

import fake_hub
import pytest
import safetensors.torch
import torch
from fake_hub import COMMIT, FakeHub

import umfuse
from umfuse import weights
from umfuse.config import UmfuseConfig

REPO = "somebody/umfuse-test"
CONFIG = UmfuseConfig(fixed="visible")
STATE = {"layer.weight": torch.arange(6.0), "cpstn.weight": torch.arange(3.0)}
ALL = (*weights.FILES, weights.CPSTN)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "weights"
    path.mkdir()
    weights.write(path, CONFIG, STATE, {"library": "umfuse", "license": "MIT"})
    return path


@pytest.fixture
def files(folder):
    return {file: (folder / file).read_bytes() for file in ALL}


@pytest.fixture
def hub(files, monkeypatch):
    server = FakeHub(REPO, files)
    fake_hub.use(monkeypatch, server.url)
    yield server
    server.close()


@pytest.fixture
def listed(files, monkeypatch):
    """A manifest that lists the weights of the fake Hub as "known"."""
    entry = {
        "repo_id": REPO,
        "revision": COMMIT,
        "files": {
            name: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
            for name, body in files.items()
        },
    }
    known = {"default": "known", "weights": {"known": entry}}
    monkeypatch.setattr(weights, "manifest", lambda: known)


def test_written_weights_read_back(folder):
    stored = weights.read(folder)
    assert stored.config == CONFIG
    assert stored.license == "MIT"
    assert list(stored.state) == ["layer.weight"]
    assert torch.equal(stored.state["layer.weight"], STATE["layer.weight"])
    assert weights.locate(folder) == folder
    keys = re.findall(r'^  "(\w+)"', (folder / weights.CONFIG).read_text(), re.M)
    assert keys == sorted(CONFIG.to_dict())  # as people look for them


def test_a_folder_or_a_run_says_that_it_holds_weights(folder, tmp_path):
    assert weights.holds_weights(folder)
    assert not weights.holds_weights(tmp_path)
    shutil.copytree(folder, tmp_path / "run" / "checkpoints" / "step-00000002")
    assert weights.holds_weights(tmp_path / "run")


def test_cpstn_is_read_where_it_is_asked_for_or_needed(folder):
    whole = weights.read(folder, cpstn=True)
    assert whole.state.keys() == STATE.keys()
    assert all(torch.equal(whole.state[key], STATE[key]) for key in STATE)
    assert weights.read(folder, cpstn=False).state.keys() == weights.read(folder).state.keys()
    (folder / weights.CONFIG).write_text(json.dumps(UmfuseConfig().to_dict()))
    assert weights.read(folder).state.keys() == STATE.keys()
    for use in (weights.locate, weights.read):
        with pytest.raises(ValueError, match="cpstn=False cannot be"):
            use(folder, cpstn=False)
    (folder / weights.CPSTN).unlink()
    with pytest.raises(weights.WeightsError, match=r"lacks cpstn\.safetensors: train or convert"):
        weights.locate(folder)


def test_a_state_without_cpstn_is_not_put_beside_the_cpstn_of_another(folder, files):
    with pytest.raises(weights.WeightsError, match=r"holds a cpstn\.safetensors.*cpstn=True"):
        weights.write(folder, CONFIG, {"layer.weight": torch.zeros(6)}, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_run_is_its_best_checkpoint_or_its_newest(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(weights.WeightsError, match=r"lacks config\.json and model\.safetensors"):
        weights.locate(run)
    for name in ("step-00000002", "step-00000010", "unfinished-step-00000012"):
        shutil.copytree(folder, run / "checkpoints" / name)
    assert weights.locate(run).name == "step-00000010"
    shutil.copytree(folder, run / "checkpoints/best")
    assert weights.locate(str(run)).name == "best"
    (run / "checkpoints/best" / weights.MODEL).unlink()
    with pytest.raises(weights.WeightsError, match=r"best' lacks model\.safetensors"):
        weights.locate(run)
    for file in weights.FILES:
        shutil.copy(folder / file, run)
    assert weights.locate(run) == run


def test_failed_write_leaves_the_old_weights_whole(folder, files, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        weights.write(folder, UmfuseConfig(), STATE, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_hub_repository_is_downloaded(hub, files, tmp_path):
    found = weights.locate(REPO, cache_dir=tmp_path / "cache")
    for file in weights.FILES:
        assert (found / file).read_bytes() == files[file]
    assert weights.locate(f"{REPO}@{COMMIT}", cache_dir=tmp_path / "cache") == found
    assert not (found / weights.CPSTN).exists()  # nobody asked for it
    assert weights.locate(REPO, cpstn=True, cache_dir=tmp_path / "cache") == found
    assert (found / weights.CPSTN).read_bytes() == files[weights.CPSTN]


def test_files_are_of_one_commit_whatever_is_pushed_in_between(hub, files, tmp_path):
    other, cache = "f" * 40, tmp_path / "cache"
    pushed = {file: body + b" " for file, body in files.items()}
    hub.push_before(weights.MODEL, other, pushed)
    found = weights.locate(REPO, cpstn=True, cache_dir=cache)
    assert {file: (found / file).read_bytes() for file in ALL} == files
    assert weights.locate(REPO, cpstn=True, cache_dir=cache, local_files_only=True) == found
    found = weights.locate(REPO, cpstn=True, cache_dir=cache)
    assert {file: (found / file).read_bytes() for file in ALL} == pushed


def test_a_repository_that_nobody_vouches_for_is_said_to_be(hub, listed, tmp_path, caplog):
    weights.locate("known", cache_dir=tmp_path)
    assert caplog.text == ""
    weights.locate(REPO, cache_dir=tmp_path)
    assert f"the files of {REPO} on the Hub are taken as they come" in caplog.text
    assert "without a commit they may change" in caplog.text
    caplog.clear()
    weights.locate(REPO, revision=COMMIT, cache_dir=tmp_path)
    assert "taken as they come" in caplog.text
    assert "may change" not in caplog.text


@pytest.mark.parametrize(
    "source",
    [
        *(
            "runs/mine",
            Path("mine"),
            Path("runs/mine"),
            "./mine",
            "../mine/one",
            "~/no-such-folder",
        ),
        *("/no/such", "org/name/more", "runs\\mine", ".mine"),
    ],
    ids=str,
)
def test_a_path_is_never_looked_up_on_the_hub(hub, monkeypatch, tmp_path, source):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(weights.WeightsError, match="there is no folder"):
        weights.locate(source, cache_dir=tmp_path)
    assert hub.requests == []


def test_a_revision_says_that_the_hub_is_meant(hub, monkeypatch, tmp_path):
    (tmp_path / "somebody").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(weights.WeightsError, match="org/name@revision"):
        weights.locate(REPO, cache_dir=tmp_path)
    assert weights.locate(f"{REPO}@main", cache_dir=tmp_path).name == COMMIT
    assert weights.locate(REPO, revision="main", cache_dir=tmp_path).name == COMMIT


def test_weights_of_another_format_are_said_to_be_that(folder, tmp_path):
    """Before anything that those of today would have is missed."""
    config = {**UmfuseConfig().to_dict(), "format_version": 1}
    (folder / weights.CONFIG).write_text(json.dumps(config))
    (folder / weights.CPSTN).unlink()
    with pytest.raises(weights.WeightsError, match="reads format_version 2, the config has 1"):
        weights.locate(folder)


def test_known_weights_need_no_request_the_second_time(hub, listed, tmp_path):
    first = weights.locate("known", cache_dir=tmp_path)
    hub.requests.clear()
    assert weights.locate("known", cache_dir=tmp_path) == first
    assert weights.locate(cache_dir=tmp_path, local_files_only=True) == first
    assert hub.requests == []


def test_damaged_download_is_fetched_again(hub, listed, files, tmp_path):
    hub.fail("corrupt")
    found = weights.locate("known", cpstn=True, cache_dir=tmp_path)
    assert {file: (found / file).read_bytes() for file in ALL} == files


def test_a_file_that_the_manifest_does_not_list_is_refused(hub, listed, tmp_path):
    del weights.manifest()["weights"]["known"]["files"][weights.CPSTN]
    with pytest.raises(weights.WeightsError, match=r"these weights have no cpstn\.safetensors"):
        weights.locate("known", cpstn=True, cache_dir=tmp_path)


def test_a_file_that_is_as_the_manifest_says_but_for_its_size_is_refused(hub, listed, tmp_path):
    weights.manifest()["weights"]["known"]["files"][weights.MODEL]["bytes"] += 1
    with pytest.raises(weights.WeightsError, match=r"damaged: expected \d+ bytes, found \d+"):
        weights.locate("known", cache_dir=tmp_path)


@pytest.mark.parametrize("revision", ["main", "v1", "0123456", COMMIT.upper(), COMMIT + "0", ""])
def test_a_manifest_that_names_no_commit_is_refused(hub, listed, tmp_path, revision):
    weights.manifest()["weights"]["known"]["revision"] = revision
    with pytest.raises(weights.WeightsError, match=rf"'known' to '{revision}', which may change"):
        weights.locate("known", cache_dir=tmp_path)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/nothing", "the Hub has no repository 'nobody/nothing'"),
        (f"{REPO}@v9", "has no revision 'v9'"),
        ("no-such-weights", "unknown weights 'no-such-weights': expected one of embedded"),
        ("a/b@c d", "unknown weights 'a/b@c d'"),
        ("bad--name/--", "no name of a Hub repository"),
    ],
)
def test_what_does_not_exist_is_named(hub, tmp_path, source, message):
    with pytest.raises(weights.WeightsError, match=message):
        weights.locate(source, cache_dir=tmp_path)


def test_repository_without_weights_is_refused(hub, tmp_path):
    del hub.files[weights.MODEL]
    with pytest.raises(weights.WeightsError, match=r"holds no model\.safetensors"):
        weights.locate(REPO, cache_dir=tmp_path)


def test_offline_and_not_cached_names_the_way_out(tmp_path):
    began = time.monotonic()
    with pytest.raises(weights.WeightsError, match=r"turned off .*umfuse\.load\(\)"):
        weights.locate(REPO, cache_dir=tmp_path, local_files_only=True)
    assert time.monotonic() - began < 2


def test_folder_without_weights_says_what_is_missing(tmp_path):
    (tmp_path / weights.CONFIG).write_text("{}")
    with pytest.raises(weights.WeightsError, match=r"lacks model\.safetensors"):
        weights.locate(tmp_path)


@pytest.mark.parametrize("file", ALL)
def test_damaged_file_is_reported(folder, file):
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(weights.WeightsError, match="damaged"):
        weights.read(folder, cpstn=True)


@pytest.mark.parametrize("file", ALL)
def test_a_git_lfs_pointer_is_told_as_such(folder, file):
    path = folder / file
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n")
    said = rf"{re.escape(str(path))} is a Git LFS pointer.*run `git lfs pull`"
    with pytest.raises(weights.WeightsError, match=said):
        weights.read(folder, cpstn=True)
    with pytest.raises(weights.WeightsError, match=said):
        weights.check(path, "0" * 64, "install umfuse again")


def test_a_tensor_that_two_files_hold_is_refused(folder):
    """The first one is named."""
    state = {"other.weight": torch.zeros(2), **STATE}
    weights.write(folder, CONFIG, state, {})
    shutil.copy(folder / weights.MODEL, folder / weights.CPSTN)
    with pytest.raises(weights.WeightsError, match=r"both files hold layer\.weight"):
        weights.read(folder, cpstn=True)


def test_config_must_be_an_object(folder):
    (folder / weights.CONFIG).write_text("[1]")
    with pytest.raises(weights.WeightsError, match="JSON object"):
        weights.read(folder)


def test_manifest_is_whole():
    known = weights.manifest()
    assert known["default"] in known["weights"]
    for entry in known["weights"].values():
        assert set(entry["files"]) >= set(weights.FILES)
        for file in entry["files"].values():
            assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])
            assert file["bytes"] > 0
        assert all(entry[key] for key in ("license", "data", "recipe", "scores"))
        assert ("path" in entry) is not ("repo_id" in entry)
        if "path" in entry:
            folder = Path(umfuse.__file__).parent / entry["path"]
            assert {path.name for path in folder.iterdir()} == set(entry["files"])
            assert weights.read(folder).license == entry["license"]
        else:
            assert re.fullmatch(r"[0-9a-f]{40}", entry["revision"])


def test_embedded_weights_are_found_and_verified():
    assert (weights.locate(cpstn=True) / weights.MODEL).is_file()


def test_damaged_package_is_reported(monkeypatch, tmp_path):
    for body in (b"", b"abcd"):
        known = {"sha256": "0" * 64, "bytes": 4}
        entry = {"path": ".", "files": {weights.CONFIG: known}}
        (tmp_path / "weights.json").write_text(
            json.dumps({"default": "here", "weights": {"here": entry}})
        )
        (tmp_path / weights.CONFIG).write_bytes(body)
        monkeypatch.setattr(weights, "_PACKAGE", tmp_path)
        with pytest.raises(weights.WeightsError, match=r"damaged.*install umfuse again"):
            weights.locate()


@pytest.mark.parametrize("file", [weights.CONFIG, weights.MODEL, weights.CPSTN])
def test_every_file_of_the_package_is_verified(file, monkeypatch, tmp_path):
    package = Path(umfuse.__file__).parent
    entry = weights.manifest()["weights"]["embedded"]
    shutil.copyfile(package / "weights.json", tmp_path / "weights.json")
    shutil.copytree(package / entry["path"], tmp_path / entry["path"])
    monkeypatch.setattr(weights, "_PACKAGE", tmp_path)
    assert weights.locate("embedded", cpstn=True) == tmp_path / entry["path"]
    content = bytearray((tmp_path / entry["path"] / file).read_bytes())
    content[-2] ^= 1
    (tmp_path / entry["path"] / file).write_bytes(content)
    with pytest.raises(weights.WeightsError, match=rf"{file}.*damaged.*install umfuse again"):
        weights.locate("embedded", cpstn=True)
