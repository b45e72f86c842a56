"""From a name, a Hub repository or a folder to a local folder of checked weights.

The manifest `weights.json` lists the weights that umfuse knows: where they are, their sha256,
licence, training data, recipe and scores.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from typing_extensions import NotRequired, TypedDict

from umfuse.hub import MissingFileError, WeightsError, check, download, sha256
from umfuse.weights_folder import (
    CONFIG,
    CPSTN,
    FILES,
    MODEL,
    Stored,
    beside,
    find,
    holds_weights,
    misfit,
    read,
    write,
)

__all__ = [
    "CONFIG",
    "CPSTN",
    "FILES",
    "MODEL",
    "Entry",
    "Manifest",
    "Stored",
    "WeightsError",
    "download",
    "holds_weights",
    "locate",
    "manifest",
    "misfit",
    "publish",
    "read",
    "sha256",
    "write",
]

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parent
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class Entry(TypedDict):
    """One set of weights in the manifest."""

    path: NotRequired[str]
    """Folder inside the package; an entry has either this or the two below."""
    repo_id: NotRequired[str]
    revision: NotRequired[str]
    """The full commit: a cached one needs no network at all."""
    sha256: dict[str, str]
    bytes: int
    license: str
    data: str
    recipe: dict[str, Any]
    scores: dict[str, Any]


class Manifest(TypedDict):
    """The content of `weights.json`."""

    default: str
    weights: dict[str, Entry]


def manifest() -> Manifest:
    """Returns the weights that this version of umfuse knows, by name."""
    return cast("Manifest", json.loads((_PACKAGE / "weights.json").read_text(encoding="utf-8")))


def locate(
    source: str | os.PathLike[str] | None = None,
    *,
    cpstn: bool | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Returns a local folder that holds the weights, downloaded and checked where need be.

    Of a repository all files are of one commit: that of its branch at the first of them. If the
    manifest does not list the repository, no sha256 is known and a warning says so; its files hold
    numbers only, and no code of it is run.

    Args:
        source: A name of the manifest, a folder, or a Hub repository ``org/name`` or
            ``org/name@revision``, looked up in this order; None is the manifest's default. A path
            is never looked up on the Hub: a `Path`, and a string that starts with ``.``, ``/`` or
            ``~``, has a backslash or several slashes, or has no revision and a parent folder that
            exists. Of the folder of a training run the best checkpoint is taken, else the newest.
        cpstn: Whether `CPSTN` has to be there; None: if the config says that the model needs it.
        revision: Branch, tag or commit of a Hub repository; ``main`` if not given.
        cache_dir: As in `umfuse.hub.download`, like the three below.
        force_download: Fetch again what is in the cache.
        local_files_only: Never use the network.
        token: Access token of the Hub, for private repositories.

    Raises:
        WeightsError: If there are no such weights, they cannot be fetched, or their sha256 is not
            the manifest's.
        ValueError: If ``cpstn`` is False and the model needs it.
    """
    known = manifest()
    name = known["default"] if source is None else os.fspath(source)
    hashes: dict[str, str] | None = None
    if entry := known["weights"].get(name):
        hashes = entry["sha256"]
        if "path" in entry:
            return _in_package(_PACKAGE / entry["path"], hashes, cpstn)
        repo, commit = entry.get("repo_id", ""), entry.get("revision")
    elif (path := Path(name).expanduser()).is_dir():
        return find(path, cpstn)
    elif isinstance(source, os.PathLike) or _is_path(name, revision):
        raise WeightsError(
            f"there is no folder {name!r}: pass one that save_pretrained or a training run has "
            "written, or a Hub repository as org/name@revision"
        )
    elif match := _HUB_ID.fullmatch(name):
        repo, commit = match["repo"], revision or match["revision"]
        logger.warning(
            "the files of %s on the Hub are taken as they come: umfuse knows no sha256 of them%s",
            repo,
            ""
            if commit and _COMMIT.fullmatch(commit)
            else ", and without a commit they may change",
        )
    else:
        raise WeightsError(
            f"unknown weights {name!r}: expected one of {', '.join(known['weights'])}, "
            "a folder, or a Hub repository as org/name or org/name@revision"
        )

    def fetch(file: str, revision: str | None) -> Path:
        return download(
            repo,
            file,
            revision=revision,
            expected=None if hashes is None else _listed(file, hashes),
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )

    folder = fetch(CONFIG, commit).parent
    for file in beside(folder, cpstn):
        fetch(file, folder.name)  # the commit, whatever has been pushed since
    return folder


def publish(
    source: str | os.PathLike[str] | None, repo_id: str, *, token: str | bool | None = None
) -> Entry:
    """Uploads weights to the Hub and returns their entry for the manifest.

    Args:
        source: As in `locate`; its model card `README.md` goes along if there is one.
        repo_id: ``org/name``; made if it does not exist.
        token: Access token with the right to write.

    Returns:
        The entry, with the new commit and the licence that the weights were saved with. Data,
        recipe and scores are those of the manifest where it lists the source, else empty: fill
        them in.

    Raises:
        WeightsError: If there are no such weights or the Hub refuses them.
    """
    known = manifest()
    name = known["default"] if source is None else os.fspath(source)
    try:
        folder = locate(source, cpstn=True)
    except MissingFileError:
        folder = locate(source)
    files = [file for file in (*FILES, CPSTN) if (folder / file).is_file()]
    api = huggingface_hub.HfApi(library_name="umfuse")
    try:
        api.create_repo(repo_id, exist_ok=True, token=token)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[*files, "README.md"],
            commit_message="Upload umfuse weights",
            token=token,
        )
    except (OSError, HFValidationError) as error:
        raise WeightsError(
            f"could not publish to {repo_id!r}: {error}. Log in with `hf auth login` as somebody "
            "who may write there"
        ) from error
    about = known["weights"].get(name)
    return Entry(
        repo_id=repo_id,
        revision=commit.oid,
        sha256={file: sha256(folder / file) for file in files},
        bytes=sum((folder / file).stat().st_size for file in files),
        license=read(folder).license or "",
        data=about["data"] if about else "",
        recipe=about["recipe"] if about else {},
        scores=about["scores"] if about else {},
    )


def _in_package(folder: Path, hashes: dict[str, str], cpstn: bool | None) -> Path:
    remedy = "install umfuse again"
    check(folder / CONFIG, _listed(CONFIG, hashes), remedy)
    for file in beside(folder, cpstn):
        check(folder / file, _listed(file, hashes), remedy)
    return folder


def _listed(file: str, hashes: dict[str, str]) -> str:
    """Returns the sha256 of a file of an entry."""
    if file not in hashes:
        raise MissingFileError(f"these weights have no {file}: choose others, or do without it")
    return hashes[file]


def _is_path(name: str, revision: str | None) -> bool:
    """Says whether a string is a path, even if a repository of somebody has that name."""
    repo, at, _ = name.partition("@")
    hub = bool(at or revision)  # only there are revisions
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or repo.count("/") > 1
        or ("/" in repo and not hub and Path(name).parent.is_dir())
    )
