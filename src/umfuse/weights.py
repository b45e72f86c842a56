"""From a name, a Hub repository or a folder to a local folder of checked weights.

The manifest `weights.json` lists the weights that umfuse knows: where they are, their files with
sha256 and size, licence, training data, recipe and scores.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, cast

from typing_extensions import NotRequired, TypedDict

from umfuse.hub import MissingFileError, WeightsError, check, download, sha256, upload
from umfuse.weights_folder import (
    CONFIG,
    CPSTN,
    FILES,
    MODEL,
    Stored,
    beside,
    differences,
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
    "File",
    "Manifest",
    "MissingFileError",
    "Stored",
    "WeightsError",
    "differences",
    "download",
    "holds_weights",
    "locate",
    "manifest",
    "misfit",
    "read",
    "sha256",
    "upload",
    "write",
]

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parent
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class File(TypedDict):
    """One file of an entry, as it was when the entry was written."""

    sha256: str
    bytes: int


class Entry(TypedDict):
    """One set of weights in the manifest."""

    path: NotRequired[str]
    """Folder inside the package; an entry has either this or the two below."""
    repo_id: NotRequired[str]
    revision: NotRequired[str]
    """The full commit: it cannot change, and a cached one needs no network at all."""
    files: dict[str, File]
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
    listed: dict[str, File] | None = None
    if entry := known["weights"].get(name):
        listed = entry["files"]
        if "path" in entry:
            return _in_package(_PACKAGE / entry["path"], listed, cpstn)
        repo, commit = entry.get("repo_id", ""), entry.get("revision", "")
        if not _COMMIT.fullmatch(commit):
            raise WeightsError(
                f"the manifest pins {name!r} to {commit!r}, which may change, and not to a "
                "commit of 40 hexadecimal digits"
            )
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
        known = None if listed is None else _entry(file, listed)
        return download(
            repo,
            file,
            revision=revision,
            expected=known and known["sha256"],
            size=known and known["bytes"],
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )

    folder = fetch(CONFIG, commit).parent
    for file in beside(folder, cpstn):
        fetch(file, folder.name)  # the commit, whatever has been pushed since
    return folder


def _in_package(folder: Path, listed: dict[str, File], cpstn: bool | None) -> Path:
    def verify(file: str) -> None:
        known = _entry(file, listed)
        check(folder / file, known["sha256"], "install umfuse again", size=known["bytes"])

    verify(CONFIG)
    for file in beside(folder, cpstn):
        verify(file)
    return folder


def _entry(file: str, listed: dict[str, File]) -> File:
    """Returns what the manifest says of a file of weights."""
    if file not in listed:
        raise MissingFileError(f"these weights have no {file}: choose others, or do without it")
    return listed[file]


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
