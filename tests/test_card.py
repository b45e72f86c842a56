import pytest
from huggingface_hub import ModelCard

from umfuse import card
from umfuse.card import About

ABOUT = About(
    license="CC-BY-4.0",
    data="40 pairs of our roof.",
    recipe={"steps": 500, "loss": {"match": 0.5, "crop": [288, 288]}},
    scores={"roof, test": {"median": 1.5}},
)
TITLES = ["Data", "Recipe", "Scores", "Limits", "Terms", "Paper"]


def titles(text):
    return [line[3:] for line in text.splitlines() if line.startswith("## ")]


def test_a_new_card_says_all_that_is_known():
    made = card.new(ABOUT)
    assert titles(made.text) == TITLES
    assert card.unstated(made.text) == []
    for said in (
        "40 pairs of our roof.",
        "- steps: 500\n- loss:\n  - match: 0.5\n  - crop: 288, 288",
        "- roof, test:\n  - median: 1.5",
        "These weights: CC-BY-4.0.",
        "those of who published them",
        "arXiv:2205.11876",
        "`Registration.confidence`",
    ):
        assert said in made.text
    found = ModelCard(str(made)).data.to_dict()
    assert found["license"] == "cc-by-4.0"
    assert found["library_name"] == "umfuse"
    assert found["pipeline_tag"] == "image-to-image"
    assert "arxiv:2205.11876" in found["tags"]


def test_what_is_not_known_is_said_to_be_that():
    made = card.new(About())
    assert titles(made.text) == TITLES
    assert card.unstated(made.text) == ["Data", "Recipe", "Scores", "Terms"]
    assert "license" not in made.data.to_dict()


def test_what_was_not_stated_is_filled_in_later():
    assert str(card.complete(card.new(About()), ABOUT)).split() == str(card.new(ABOUT)).split()
    assert str(card.complete(card.new(ABOUT), About())).count("Not stated.") == 0


def test_the_words_of_people_stay():
    words = "# Mine\n\nHello.\n\n## Data\n\nA \\1 secret.\n"
    before = f"---\nlicense: mit\ndatasets: [me/roof]\n---\n{words}"
    made = card.complete(ModelCard(before), ABOUT)
    assert made.text.strip().startswith(f"{words}\n## Recipe")
    assert titles(made.text) == TITLES
    assert "our roof" not in made.text
    assert made.data.to_dict() == {"license": "cc-by-4.0", "datasets": ["me/roof"]}


def test_a_card_that_is_complete_does_not_change():
    once = card.new(ABOUT)
    assert str(card.complete(once, ABOUT)) == str(once)


@pytest.mark.parametrize("license", ["MIT", None])
def test_the_licence_is_that_of_the_weights_whatever_the_card_said(license):
    before = ModelCard("---\nlicense: gpl-3.0\n---\nText\n")
    found = card.complete(before, About(license=license)).data.to_dict()
    assert found.get("license") == (license and license.lower())
