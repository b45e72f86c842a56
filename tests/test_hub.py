"""Downloads from a Hub that is there, that fails in every way, or that is not there."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fake_hub
import pytest
from fake_hub import COMMIT, FakeHub
from huggingface_hub import constants
from room import room

from umfuse import hub as umfuse_hub
from umfuse.hub import MissingFileError, WeightsError, download

REPO = "somebody/umfuse-test"
BODY = bytes(range(256)) * 64
SHA256 = hashlib.sha256(BODY).hexdigest()
posix = pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
KNOWN = {"revision": COMMIT, "expected": SHA256, "size": len(BODY)}


@pytest.fixture
def hub(monkeypatch):
    server = FakeHub(REPO, {"model.bin": BODY, "config.json": b"{}"})
    fake_hub.use(monkeypatch, server.url)
    yield server
    server.close()


@pytest.fixture
def dead(monkeypatch):
    """A Hub at a port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        fake_hub.use(monkeypatch, url)
        yield url


@pytest.fixture
def hasty(monkeypatch):
    """A client that does not wait ten seconds for an answer."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


def gets(hub):
    return sum(method == "GET" for method, _ in hub.requests)


def cached(folder):
    """The contents of the files of a cache."""
    return [path.read_bytes() for path in folder.rglob("model.bin") if path.is_file()] + [
        path.read_bytes() for path in folder.glob("*/blobs/*") if path.suffix != ".incomplete"
    ]


# --- damaged -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["corrupt", "less", 500, 503])
def test_what_comes_damaged_is_fetched_once_more(hub, tmp_path, caplog, fault):
    hub.fail(fault)
    assert download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN).read_bytes() == BODY
    assert gets(hub) == 2
    assert "downloading it again" in caplog.text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("corrupt", r"damaged: expected sha256 \w{64}, found \w{64}"),
        ("less", "could not download model.bin of .*should be of size 16384 but has size 8192"),
        (503, "could not download model.bin of .*503"),
    ],
)
def test_what_stays_damaged_is_refused_and_does_not_stay(hub, tmp_path, fault, message):
    hub.fail(fault, times=9)
    with pytest.raises(WeightsError, match=message):
        download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN)
    assert gets(hub) == 2
    assert cached(tmp_path) == []


def test_a_body_that_breaks_off_is_asked_for_again(hub, tmp_path, hasty):
    hub.fail("short")
    assert download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN).read_bytes() == BODY
    hub.fail("short", times=99)
    with pytest.raises(WeightsError, match=r"could not download model\.bin of 'somebody/umfuse-te"):
        download(REPO, "model.bin", cache_dir=tmp_path / "new", **KNOWN)
    assert cached(tmp_path / "new") == []


@pytest.mark.parametrize("damage", [b"\0" * len(BODY), BODY[:100], b""])
def test_a_file_of_the_cache_that_was_damaged_since_is_mended(hub, tmp_path, damage):
    path = download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN)
    path.write_bytes(damage)
    with pytest.raises(WeightsError, match=r"model\.bin is damaged: expected"):
        download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN, local_files_only=True)
    assert path.read_bytes() == damage
    assert download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN) == path
    assert path.read_bytes() == BODY


def test_a_damaged_file_that_cannot_be_fetched_again_is_refused(hub, tmp_path, monkeypatch):
    path = download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN)
    path.write_bytes(BODY[::-1])
    hub.close()
    with pytest.raises(WeightsError, match="the Hub could not be reached"):
        download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN)


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "revision", "kind", "message"),
    [
        ("none.bin", "main", MissingFileError, r"holds no none\.bin: check the name"),
        ("model.bin", "v9", WeightsError, "has no revision 'v9'"),
        ("model.bin", "f" * 40, WeightsError, "has no revision 'ffff"),
    ],
)
def test_404_says_what_is_not_there(hub, tmp_path, file, revision, kind, message):
    with pytest.raises(kind, match=message):
        download(REPO, file, revision=revision, cache_dir=tmp_path)


def test_401_says_to_log_in_and_a_token_opens(hub, tmp_path, monkeypatch):
    hub.token = "hf_right"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    for token in (None, False):
        with pytest.raises(WeightsError, match="private: check the name, or log in with `hf auth"):
            download(REPO, "model.bin", cache_dir=tmp_path, token=token)
    with pytest.raises(WeightsError, match=r"not let you read .*401.*check the token, or log in"):
        download(REPO, "model.bin", cache_dir=tmp_path, token="hf_wrong")
    path = download(REPO, "model.bin", cache_dir=tmp_path, token="hf_right")
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_without_a_reason_says_to_log_in(hub, tmp_path, status):
    hub.fail(status, method="HEAD", times=9)
    with pytest.raises(WeightsError, match=rf"not let you read .*{status}.*hf auth login"):
        download(REPO, "model.bin", cache_dir=tmp_path)


def test_a_server_that_is_no_hub_is_told_as_such(hub, tmp_path):
    hub.fail("no ETag", method="HEAD", times=9)
    with pytest.raises(WeightsError, match="no Hub answers there: it names neither commit"):
        download(REPO, "model.bin", cache_dir=tmp_path)
    assert gets(hub) == 0


# --- busy, slow and elsewhere --------------------------------------------------------------------


def test_a_hub_that_is_busy_for_a_moment_is_waited_for(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(umfuse_hub, "_PAUSES", (0.1, 0.2))
    hub.fail(503, method="HEAD", times=2)
    assert download(REPO, "model.bin", cache_dir=tmp_path).read_bytes() == BODY
    hub.fail(503, method="HEAD", times=99)
    with pytest.raises(WeightsError, match=r"the Hub could not be reached at .* \(.*503"):
        download(REPO, "config.json", cache_dir=tmp_path)
    assert hub.faults["HEAD"] == [503] * 96


def test_a_slow_hub_is_waited_for_but_not_for_ever(hub, tmp_path, hasty):
    hub.fail(0.1, method="HEAD", times=2)
    hub.fail(0.1)
    assert download(REPO, "model.bin", cache_dir=tmp_path).read_bytes() == BODY
    hub.fail(30.0, method="HEAD", times=9)
    began = time.monotonic()
    with pytest.raises(WeightsError, match=r"could not be reached at http://127.*timed out"):
        download(REPO, "config.json", cache_dir=tmp_path)
    assert time.monotonic() - began < 3


def test_a_body_that_does_not_come_is_an_error_of_ours(hub, tmp_path, hasty):
    hub.fail(30.0, times=99)
    with pytest.raises(WeightsError, match=r"could not download model\.bin of .*timed out"):
        download(REPO, "model.bin", cache_dir=tmp_path)


def test_a_repository_that_was_renamed_is_followed(hub, tmp_path):
    hub.moved = "somebody/before"
    path = download("somebody/before", "model.bin", cache_dir=tmp_path, **KNOWN)
    assert path.read_bytes() == BODY


def test_storage_elsewhere_is_followed_and_does_not_see_the_token(hub, tmp_path):
    storage = FakeHub(REPO, hub.files)
    hub.storage, hub.token = storage.url.replace("127.0.0.1", "localhost"), "hf_right"
    try:
        path = download(REPO, "model.bin", cache_dir=tmp_path, token="hf_right", **KNOWN)
    finally:
        storage.close()
    assert path.read_bytes() == BODY
    assert gets(hub) == 0
    assert storage.authorizations == [None]


# --- not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_dead_network_is_told_at_once(dead, tmp_path, force):
    """huggingface_hub asks six times, for 23 seconds, where it has no copy."""
    began = time.monotonic()
    with pytest.raises(WeightsError, match=rf"could not be reached at {dead} \(.*refused") as told:
        download(REPO, "model.bin", cache_dir=tmp_path, force_download=force)
    assert time.monotonic() - began < 2
    assert "Use the embedded weights" in str(told.value)


def test_what_is_cached_needs_no_network(hub, tmp_path, monkeypatch):
    first = download(REPO, "model.bin", cache_dir=tmp_path)
    hub.close()
    began = time.monotonic()
    assert download(REPO, "model.bin", cache_dir=tmp_path) == first
    assert download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN) == first
    assert time.monotonic() - began < 2


def test_where_the_network_is_turned_off_nobody_is_asked(hub, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="not in the cache and the network is turned off"):
        download(REPO, "model.bin", cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for force, message in ((False, "is not in the cache"), (True, "cannot be fetched again")):
        with pytest.raises(WeightsError, match=f"{message}.*the network is turned off"):
            download(REPO, "model.bin", cache_dir=tmp_path, force_download=force)
    assert hub.requests == []


# --- a cache that cannot be written --------------------------------------------------------------


@pytest.mark.parametrize("expected", [KNOWN, {}], ids=["known", "unknown"])
def test_a_file_in_the_place_of_the_cache_is_told(hub, tmp_path, expected):
    cache = tmp_path / "cache"
    cache.write_bytes(b"mine")
    said = rf"^model\.bin of '{REPO}' cannot be put into the cache '{re.escape(str(cache))}' \(.*"
    with pytest.raises(WeightsError, match=said + "permissions, or pass another cache_dir$"):
        download(REPO, "model.bin", cache_dir=cache, **expected)
    assert gets(hub) == 0
    assert cache.read_bytes() == b"mine"


@posix
def test_a_disk_that_gets_full_is_told_and_nothing_is_asked_for_again(hub, tmp_path):
    said = r"cannot be put into the cache .* \(.*File too large.*\): check space"
    with room(len(BODY) // 2), pytest.raises(WeightsError, match=said):
        download(REPO, "model.bin", cache_dir=tmp_path, **KNOWN)
    assert gets(hub) == 1
    assert cached(tmp_path) == []


@posix
def test_a_cache_that_is_only_to_be_read_serves_what_it_holds(hub):
    """And says why it cannot hold more. Who may write everywhere is somebody else meanwhile."""
    code = f"""
import os, sys
from pathlib import Path
from umfuse.hub import WeightsError, download
cache = Path(sys.argv[1])
path = download({REPO!r}, "model.bin", cache_dir=cache)
for folder, _, _ in [*os.walk(cache)]:
    os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
for known in ({KNOWN!r}, {{}}):
    assert download({REPO!r}, "model.bin", cache_dir=cache, **known) == path
assert path.stat().st_size == {len(BODY)}
try:
    download({REPO!r}, "config.json", cache_dir=cache)
except WeightsError as error:
    print(error)
finally:
    os.seteuid(os.getuid())
    for folder, _, _ in os.walk(cache):
        os.chmod(folder, 0o755)
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for somebody else
        cache = Path(folder) / "cache"
        said = finish(start(code, folder, hub.url, words=[str(cache)]))
        assert said.startswith(f"config.json of '{REPO}' cannot be put into the cache '{cache}' (")
        assert "ermission denied" in said


@pytest.mark.parametrize("inside", ["", "hub"], ids=["HF_HOME", "its cache"])
def test_the_command_tells_of_a_home_that_is_no_folder(hub, tmp_path, inside):
    home = tmp_path / "home"
    (home / inside).parent.mkdir(exist_ok=True)
    (home / inside).write_bytes(b"mine")
    code = "import sys; from umfuse import cli; sys.exit(cli.main())"
    words = ["weights", "download", f"{REPO}@{COMMIT}"]
    process = start(code, home, hub.url, words=words)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"umfuse: error: config.json of '{REPO}' cannot be put into the cache ")
    assert f"'{home / 'hub'}'" in last
    assert last.endswith("or set HF_HOME to another folder")
    assert "Traceback" not in err
    assert (home / inside).read_bytes() == b"mine"


# --- the environment, which huggingface_hub reads when it is imported ----------------------------


def start(code, folder, url, words=(), **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *words],
        env={**os.environ, "HF_HOME": str(folder), "HF_ENDPOINT": url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


FETCH = f"""
from umfuse.hub import download
print(download({REPO!r}, "model.bin", **{KNOWN!r}))
"""


def test_endpoint_home_and_token_are_those_of_the_environment(hub, tmp_path):
    hub.token = "hf_right"
    path = finish(start(FETCH, tmp_path, hub.url, HF_TOKEN="hf_right"))
    assert path.startswith(str(tmp_path / "hub"))
    assert Path(path).read_bytes() == BODY
    assert set(hub.authorizations) == {"Bearer hf_right"}


def test_a_token_that_was_saved_by_logging_in_is_used(hub, tmp_path):
    hub.token = "hf_right"
    (tmp_path / "token").write_text("hf_right")
    assert finish(start(FETCH, tmp_path, hub.url))


def test_the_environment_turns_the_network_off_and_the_answer_comes_at_once(hub, tmp_path):
    code = """
import time
from pathlib import Path
from umfuse import weights
began = time.monotonic()
try:
    weights.locate("somebody/umfuse-test")
except weights.WeightsError as error:
    print(time.monotonic() - began < 2, error)
"""
    said = finish(start(code, tmp_path, hub.url, HF_HUB_OFFLINE="1"))
    assert said.startswith("True")
    assert "the network is turned off" in said
    assert hub.requests == []


@pytest.mark.parametrize("fault", ["corrupt", 0.5])
def test_two_processes_that_fetch_the_same_both_get_it(hub, tmp_path, fault):
    """Of a slow Hub, and of one that sends what is damaged first."""
    hub.fail(fault)
    both = [start(FETCH, tmp_path, hub.url) for _ in range(2)]
    paths = {finish(process) for process in both}
    assert len(paths) == 1
    assert cached(tmp_path / "hub") == [BODY, BODY]  # by its name, and where that points to


# --- sent ----------------------------------------------------------------------------------------


def test_what_is_sent_can_be_fetched(hub, tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    files = {"one.txt": tmp_path / "one", "README.md": b"two"}
    commit = umfuse_hub.upload(REPO, files, "Both", token="hf_any")
    for name, content in (("one.txt", b"1"), ("README.md", b"two")):
        path = download(REPO, name, revision=commit, cache_dir=tmp_path / "cache")
        assert path.read_bytes() == content
        assert path.parent.name == commit


def test_who_may_not_send_is_told(hub, dead, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"could not publish to 'a/b': .*refused.*hf auth login"):
        umfuse_hub.upload("a/b", {"one": b"1"}, "One", token="hf_any")
    fake_hub.use(monkeypatch, hub.url)
    hub.token = "hf_right"
    with pytest.raises(WeightsError, match=r"could not publish to 'a/b': .*401.*hf auth login"):
        umfuse_hub.upload("a/b", {"one": b"1"}, "One", token="hf_wrong")
