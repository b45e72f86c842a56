"""Weights go to the Hub, with a card that says what they are."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from umfuse import card, weights
from umfuse.card import About
from umfuse.weights import Entry, File

logger = logging.getLogger(__name__)

CARD = "README.md"


def publish(
    source: str | os.PathLike[str] | None,
    repo_id: str,
    *,
    data: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> Entry:
    """Uploads weights and their card to the Hub and returns their entry for the manifest.

    The card is the `README.md` of the folder, if there is one, with the sections that it lacks. A
    warning names those that state nothing. The licence is that which the weights were saved with.

    Args:
        source: As in `weights.locate`.
        repo_id: ``org/name``; made if it does not exist.
        data: What they were trained on; by default what the manifest says, where it lists them.
        recipe: How they were trained; by default what the manifest says, or the config of the
            training run that ``source`` is.
        scores: What was measured with them; by default what the manifest says.
        token: Access token with the right to write.

    Returns:
        The entry, with the new commit.

    Raises:
        WeightsError: If there are no such weights, or the Hub refuses them or cannot be reached.
    """
    try:
        folder = weights.locate(source, cpstn=True)
    except weights.MissingFileError:
        folder = weights.locate(source)
    known = weights.manifest()
    listed = known["weights"].get(known["default"] if source is None else os.fspath(source))
    about = About(
        license=weights.read(folder).license,
        data=data or (listed["data"] if listed else ""),
        recipe=recipe or (listed["recipe"] if listed else _recipe(source)),
        scores=scores or (listed["scores"] if listed else {}),
    )
    paths = {file: folder / file for file in (*weights.FILES, weights.CPSTN)}
    paths = {file: path for file, path in paths.items() if path.is_file()}
    text = str(_card(folder, about))
    if unstated := card.unstated(text):
        logger.warning("the card of %s does not state: %s", repo_id, ", ".join(unstated))
    content: dict[str, Path | bytes] = {**paths, CARD: text.encode()}
    commit = weights.upload(repo_id, content, "Upload umfuse weights", token=token)
    return Entry(
        repo_id=repo_id,
        revision=commit,
        files={
            file: File(sha256=weights.sha256(path), bytes=path.stat().st_size)
            for file, path in paths.items()
        },
        license=about.license or "",
        data=about.data,
        recipe=dict(about.recipe),
        scores=dict(about.scores),
    )


def _card(folder: Path, about: About) -> ModelCard:
    if not (folder / CARD).is_file():
        return card.new(about)
    return card.complete(ModelCard((folder / CARD).read_text(encoding="utf-8")), about)


def _recipe(source: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Returns the config of a training run; of other weights nothing is known."""
    file = Path(source or "").expanduser() / "train.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
