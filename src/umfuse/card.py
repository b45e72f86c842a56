"""The model card: what is said of weights to those who find them on the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from huggingface_hub import ModelCard, ModelCardData

NOT_STATED = "Not stated."


class About(NamedTuple):
    """What only those who trained weights know of them; what is left out is not stated.

    Attributes:
        license: Of the weights, such as ``"MIT"``.
        data: What they were trained on, and where it comes from.
        recipe: How they were trained.
        scores: What was measured with them, on what.
    """

    license: str | None = None
    data: str = ""
    recipe: Mapping[str, Any] = {}
    scores: Mapping[str, Any] = {}


def new(about: About) -> ModelCard:
    """Returns a card with all its sections."""
    metadata = ModelCardData(
        library_name="umfuse",
        pipeline_tag="image-to-image",
        tags=["image-fusion", "image-registration", "infrared", "thermal", "arxiv:2205.11876"],
    )
    return complete(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_INTRODUCTION}"), about)


def complete(card: ModelCard, about: About) -> ModelCard:
    """Returns a card with the sections that it lacks or does not state, and the right licence.

    What people wrote into it stays.

    Args:
        card: Any card, of umfuse or not.
        about: What is known of the weights.
    """
    found = {key: value for key, value in card.data.to_dict().items() if key != "license"}
    if about.license is not None:
        found["license"] = about.license.lower()
    text = card.text.strip() + "\n"
    open_ones = unstated(text)
    for title, body in _sections(about).items():
        section = re.compile(rf"^## {title}\s*?\n.*?(?=^## |\Z)", re.M | re.S)
        if not section.search(text):
            text += f"\n## {title}\n\n{body}\n"
        elif title in open_ones:
            text = section.sub(lambda _, new=f"## {title}\n\n{body}\n\n": new, text)
    metadata = ModelCardData(**found, ignore_metadata_errors=True).to_yaml()
    return ModelCard(f"---\n{metadata}\n---\n\n{text.strip()}\n")


def unstated(text: str) -> list[str]:
    """Returns the titles of the sections of a card that state nothing."""
    pattern = rf"^## (.+)\n+{re.escape(NOT_STATED)}"
    return cast("list[str]", re.findall(pattern, text, re.M))


def _sections(about: About) -> dict[str, str]:
    return {
        "Data": about.data or NOT_STATED,
        "Recipe": _listed(about.recipe) or NOT_STATED,
        "Scores": _listed(about.scores) or NOT_STATED,
        "Limits": _LIMITS,
        "Terms": f"{_terms(about.license)}\n\nThe terms of the images are those of who published "
        "them.",
        "Paper": _PAPER,
    }


def _terms(license: str | None) -> str:
    return NOT_STATED if license is None else f"These weights: {license}."


def _listed(values: Mapping[str, Any], indent: str = "") -> str:
    """Returns nested values as a Markdown list."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = _listed(cast("Mapping[str, Any]", value), f"{indent}  ")
            lines += [f"{indent}- {key}:", inner]
        else:
            items = cast("list[object]", value) if isinstance(value, list) else [value]
            lines.append(f"{indent}- {key}: {', '.join(str(item) for item in items)}")
    return "\n".join(lines)


_INTRODUCTION = """\
# Weights of umfuse

They align and fuse infrared and visible images of one scene that are not registered: two cameras
side by side, of different resolution, field of view and bit depth.

```python
import umfuse

# weights: the name of this repository, or of a folder with its files
fusion = umfuse.fuse("ir.tif", "vis.jpg", weights="org/name")
fusion.save("fused.png")
```
"""
_LIMITS = """\
- An alignment can fail, at night and on flat scenes above all. `Registration.confidence` is near 0
  then; below 0.3 the infrared image is only resized.
- Cameras and scenes unlike those under "Data" may come out worse. `umfuse evaluate` measures it,
  `umfuse train` mends it.
- Fused images are for looking at: brightness in them is not temperature. The registered infrared
  image keeps its values.
- Nothing was tested for uses in which an object that does not show brings somebody to harm."""
_PAPER = """\
The method: Di Wang, Jinyuan Liu, Xin Fan and Risheng Liu, "Unsupervised Misaligned Infrared and
Visible Image Fusion via Cross-Modality Image Generation and Registration", IJCAI 2022,
[arXiv:2205.11876](https://arxiv.org/abs/2205.11876),
[doi:10.24963/ijcai.2022/487](https://doi.org/10.24963/ijcai.2022/487). Please cite it."""
