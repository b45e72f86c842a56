import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from fake_hub import COMMIT, FakeHub

import umfuse
from umfuse import weights

REPO = "somebody/umfuse-test"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "weights"
    path.mkdir()
    weights.write(path, {"width": 4}, {"layer.weight": torch.arange(6.0)}, {"library": "umfuse"})
    return path


@pytest.fixture
def files(folder):
    return {file: (folder / file).read_bytes() for file in weights.FILES}


@pytest.fixture
def hub(files, monkeypatch):
    server = FakeHub(REPO, files)
    download = weights.huggingface_hub.hf_hub_download

    def from_fake(*args, **kwargs):
        return download(*args, endpoint=server.url, **kwargs)

    monkeypatch.setattr(weights.huggingface_hub, "hf_hub_download", from_fake)
    yield server
    server.close()


@pytest.fixture
def listed(files, monkeypatch):
    """A manifest that lists the weights of the fake Hub as "known"."""
    entry = {
        "repo_id": REPO,
        "revision": COMMIT,
        "sha256": {name: hashlib.sha256(body).hexdigest() for name, body in files.items()},
    }
    known = {"default": "known", "weights": {"known": entry}}
    monkeypatch.setattr(weights, "manifest", lambda: known)


def test_written_weights_read_back(folder):
    config, state = weights.read(folder)
    assert config == {"width": 4}
    assert torch.equal(state["layer.weight"], torch.arange(6.0))
    assert weights.locate(folder) == folder


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

    monkeypatch.setattr(weights.safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        weights.write(folder, {"width": 5}, {}, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_hub_repository_is_downloaded(hub, files, tmp_path):
    found = weights.locate(REPO, cache_dir=tmp_path / "cache")
    assert {file: (found / file).read_bytes() for file in weights.FILES} == files
    assert weights.locate(f"{REPO}@{COMMIT}", cache_dir=tmp_path / "cache") == found


def test_known_weights_need_no_request_the_second_time(hub, listed, tmp_path):
    first = weights.locate("known", cache_dir=tmp_path)
    hub.requests.clear()
    assert weights.locate("known", cache_dir=tmp_path) == first
    assert weights.locate(cache_dir=tmp_path, local_files_only=True) == first
    assert hub.requests == []


def test_damaged_download_is_fetched_again(hub, listed, files, tmp_path):
    hub.damage = 1
    found = weights.locate("known", cache_dir=tmp_path)
    assert {file: (found / file).read_bytes() for file in weights.FILES} == files


def test_download_that_stays_damaged_is_refused(hub, listed, tmp_path):
    hub.damage = 99
    with pytest.raises(weights.WeightsError, match=r"damaged: expected sha256 \w{64}, found"):
        weights.locate("known", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/nothing", "the Hub has no repository 'nobody/nothing'"),
        (f"{REPO}@v9", "has no revision 'v9'"),
        ("no-such-weights", "unknown weights 'no-such-weights': expected one of embedded"),
        ("a/b/c", "unknown weights 'a/b/c'"),
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
    with pytest.raises(weights.WeightsError, match=r"umfuse\.load\(\)"):
        weights.locate(REPO, cache_dir=tmp_path, local_files_only=True)


def test_folder_without_weights_says_what_is_missing(tmp_path):
    (tmp_path / weights.CONFIG).write_text("{}")
    with pytest.raises(weights.WeightsError, match=r"lacks model\.safetensors"):
        weights.locate(tmp_path)


@pytest.mark.parametrize("file", weights.FILES)
def test_damaged_file_is_reported(folder, file):
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(weights.WeightsError, match="damaged"):
        weights.read(folder)


def test_config_must_be_an_object(folder):
    (folder / weights.CONFIG).write_text("[1]")
    with pytest.raises(weights.WeightsError, match="JSON object"):
        weights.read(folder)


def test_publish_uploads_and_returns_the_entry(folder, monkeypatch):
    calls = []

    class Api:
        def __init__(self, **options):
            pass

        def create_repo(self, repo, **options):
            calls.append(("create", repo))

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, **options):
            calls.append(("upload", repo_id, Path(folder_path), allow_patterns))
            return type("Commit", (), {"oid": COMMIT})

    monkeypatch.setattr(weights.huggingface_hub, "HfApi", Api)
    entry = weights.publish(folder, REPO)
    assert calls == [
        ("create", REPO),
        ("upload", REPO, folder, ["config.json", "model.safetensors", "README.md"]),
    ]
    assert entry["revision"] == COMMIT
    assert entry["sha256"][weights.MODEL] == weights.sha256(folder / weights.MODEL)


def test_refused_publication_is_a_weights_error(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("403 Forbidden")

    monkeypatch.setattr(weights.huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(weights.WeightsError, match="hf auth login"):
        weights.publish(folder, REPO)


def test_manifest_is_whole():
    known = weights.manifest()
    assert known["default"] in known["weights"]
    for entry in known["weights"].values():
        assert set(entry["sha256"]) == set(weights.FILES)
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in entry["sha256"].values())
        assert entry["bytes"] > 0
        assert all(entry[key] for key in ("license", "data", "recipe", "scores"))
        if "path" in entry:
            folder = Path(umfuse.__file__).parent / entry["path"]
            assert sum((folder / file).stat().st_size for file in weights.FILES) == entry["bytes"]
        else:
            assert re.fullmatch(r"[0-9a-f]{40}", entry["revision"])


def test_embedded_weights_are_found_and_verified():
    assert (weights.locate() / weights.MODEL).is_file()


def test_damaged_package_is_reported(monkeypatch, tmp_path, files):
    (tmp_path / "weights.json").write_text(
        json.dumps(
            {"default": "here", "weights": {"here": {"path": ".", "sha256": {"x": "0" * 64}}}}
        )
    )
    (tmp_path / "x").write_bytes(b"")
    monkeypatch.setattr(weights, "_PACKAGE", tmp_path)
    with pytest.raises(weights.WeightsError, match="install umfuse again"):
        weights.locate()
