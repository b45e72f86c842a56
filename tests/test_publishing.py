import json
import shutil

import fake_hub
import pytest
from fake_hub import FakeHub
from huggingface_hub import ModelCard

import umfuse
from umfuse import card, cli, weights
from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig, DifnConfig, MatcherConfig
from umfuse.pipeline import Umfuse
from umfuse.publishing import publish

REPO = "somebody/umfuse-test"
ALL = (*weights.FILES, weights.CPSTN)
SIZES = UmfuseConfig(
    cpstn=CpstnConfig(filters=4, blocks=1),
    mrrn=MatcherConfig(channels=(8, 8, 8), descriptor=8, context=8, width=8),
    difn=DifnConfig(features=4, output="blend"),
    fixed="visible",
    working_size=128,
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = FakeHub(REPO, {})
    fake_hub.use(monkeypatch, server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    server.token = "hf_right"
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path):
    model = Umfuse(SIZES)
    model.license = "CC-BY-4.0"
    model.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def published(hub):
    return hub.commits[hub.main]


def test_what_was_published_is_listed_fetched_checked_and_loaded(hub, folder, monkeypatch):
    entry = publish(folder, REPO, data="A roof.", scores={"median": 1.5})
    assert entry["repo_id"] == REPO
    assert entry["revision"] == hub.main
    assert len(entry["revision"]) == 40
    assert entry["license"] == "CC-BY-4.0"
    assert entry["data"] == "A roof."
    assert entry["scores"] == {"median": 1.5}
    known = {"default": "mine", "weights": {"mine": entry}}
    monkeypatch.setattr(weights, "manifest", lambda: json.loads(json.dumps(known)))
    hub.fail("corrupt")
    found = weights.locate("mine", cpstn=True)
    for file in ALL:
        assert (found / file).read_bytes() == (folder / file).read_bytes()
        assert entry["files"][file]["bytes"] == (folder / file).stat().st_size
        assert entry["files"][file]["sha256"] == weights.sha256(folder / file)
    model = umfuse.load("mine", device="cpu")
    assert model.config == SIZES
    assert model.license == "CC-BY-4.0"


def test_the_card_goes_along_and_says_what_is_known(hub, folder, caplog):
    publish(folder, REPO, data="A roof.")
    text = published(hub)["README.md"].decode()
    assert "## Data\n\nA roof.\n" in text
    assert "These weights: CC-BY-4.0." in text
    assert f"the card of {REPO} does not state: Recipe, Scores" in caplog.text
    assert ModelCard(text).data.license == "cc-by-4.0"
    assert "A roof." not in (folder / "README.md").read_text()  # a folder is left as it is


def test_the_embedded_weights_take_their_words_from_the_manifest(hub, caplog):
    entry, known = publish(None, REPO), weights.manifest()["weights"]["embedded"]
    assert {key: entry[key] for key in ("license", "data", "recipe", "scores", "files")} == {
        key: known[key] for key in ("license", "data", "recipe", "scores", "files")
    }
    assert set(published(hub)) == {*ALL, "README.md"}
    text = published(hub)["README.md"].decode()
    assert known["data"] in text
    assert "- hardware: one core" in text
    assert card.unstated(text) == []
    assert caplog.text == ""


def test_the_card_of_people_stays_and_is_completed(hub, folder):
    (folder / "README.md").write_text("# Mine\n\n## Terms\n\nAsk me.\n", encoding="utf-8")
    publish(folder, REPO)
    text = published(hub)["README.md"].decode()
    assert "# Mine\n\n## Terms\n\nAsk me.\n\n## Data" in text


def test_weights_without_cpstn_are_published_without(hub, folder):
    (folder / weights.CPSTN).unlink()
    assert set(publish(folder, REPO)["files"]) == set(weights.FILES)
    assert set(published(hub)) == {*weights.FILES, "README.md"}


def test_a_run_says_how_it_was_trained(hub, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run / "checkpoints/best")
    (run / "train.json").write_text('{"steps": 500}')
    assert publish(run, REPO)["recipe"] == {"steps": 500}
    assert publish(run, REPO, recipe={"by": "hand"})["recipe"] == {"by": "hand"}


def test_who_may_not_write_is_told(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(weights.WeightsError, match="hf auth login"):
        publish(folder, REPO)


def test_the_command_publishes_and_adds_to_a_manifest(hub, folder, tmp_path, capsys):
    manifest, scores = tmp_path / "weights.json", tmp_path / "scores.json"
    manifest.write_text('{"default": "embedded", "weights": {}}')
    scores.write_text('{"median": 1.5}')
    words = ["weights", "publish", REPO, "--from", str(folder)]
    told = ["--data", "A roof.", "--scores", str(scores), "--manifest", str(manifest)]
    assert cli.main([*words, *told]) == 0
    printed = json.loads(capsys.readouterr().out)["umfuse-test"]
    assert printed == json.loads(manifest.read_text())["weights"]["umfuse-test"]
    assert printed["revision"] == hub.main
    assert printed["scores"] == {"median": 1.5}
    assert "A roof." in published(hub)["README.md"].decode()


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--manifest", None, "none.json does not exist"),
        ("--scores", None, "cannot read"),
        ("--scores", "{", "cannot read"),
        ("--recipe", "[1]", "must hold a JSON object"),
    ],
)
def test_files_that_are_none_are_told_before_anything_is_sent(
    hub, folder, tmp_path, capsys, option, text, message
):
    path = tmp_path / "none.json"
    if text is not None:
        path.write_text(text)
    words = ["weights", "publish", REPO, "--from", str(folder), option, str(path)]
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
    assert hub.requests == []
