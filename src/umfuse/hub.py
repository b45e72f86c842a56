"""Files of the Hub on the local disk, checked where their sha256 is known."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from umfuse import lfs

logger = logging.getLogger(__name__)


class WeightsError(OSError):
    """Weights that cannot be found, fetched or trusted; the message says what to do."""


class MissingFileError(WeightsError):
    """A folder or a repository of weights that lacks one of their files."""


def download(
    repo: str,
    file: str,
    *,
    revision: str | None = None,
    expected: str | None = None,
    otherwise: str = "Use the embedded weights (umfuse.load()), pass a folder",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Returns the local copy of a file of a Hub repository, downloaded and checked where need be.

    It lies in a folder with the name of the commit that ``revision`` stood for. Where the network
    is turned off, by ``local_files_only`` or ``HF_HUB_OFFLINE=1``, the answer comes at once.

    Args:
        repo: ``org/name``.
        file: Its path in the repository.
        revision: Branch, tag or commit; ``main`` if not given.
        expected: Its sha256; a copy that has another one is fetched again, once. None takes the
            file as it comes.
        otherwise: What to do instead, for the error where there is no connection.
        cache_dir: Cache of the Hub; by default that of huggingface_hub.
        force_download: Fetch again what is in the cache.
        local_files_only: Never use the network.
        token: Access token of the Hub, for private repositories.

    Raises:
        WeightsError: If the file cannot be fetched or its sha256 is not the expected one.
    """
    offline = local_files_only or constants.HF_HUB_OFFLINE
    options: dict[str, Any] = {
        "revision": revision,
        "otherwise": otherwise,
        "cache_dir": cache_dir,
        "local_files_only": offline,
        "token": token,
    }
    path = _fetch(repo, file, force_download=force_download, **options)
    if expected is not None and sha256(path) != expected:
        if not offline:
            logger.warning("%s of %s is damaged: downloading it again", file, repo)
            _fetch(repo, file, force_download=True, **options)
        check(path, expected, "delete it and download it again")
    return path


def sha256(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check(path: Path, expected: str, remedy: str) -> None:
    """Raises `WeightsError`, which tells the remedy, if a file is missing or has another sha256."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: {remedy}")
    if (found := sha256(path)) != expected:
        raise WeightsError(
            lfs.pointer(path)
            or f"{path} is damaged: expected sha256 {expected}, found {found}; {remedy}"
        )


def _fetch(
    repo: str,
    file: str,
    *,
    revision: str | None,
    otherwise: str,
    local_files_only: bool,
    **options: Any,  # noqa: ANN401
) -> Path:
    options |= {"revision": revision, "local_files_only": local_files_only}
    try:
        fetch = cast("Callable[..., str]", huggingface_hub.hf_hub_download)
        return Path(fetch(repo, file, library_name="umfuse", **options))
    except HFValidationError as error:
        raise WeightsError(f"{repo!r} is no name of a Hub repository: {error}") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"the Hub has no repository {repo!r}, or it is private: check the name, or log in "
            "with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{repo!r} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        why = (
            "the network is turned off (local_files_only or HF_HUB_OFFLINE)"
            if local_files_only
            else "the Hub could not be reached"
        )
        raise WeightsError(
            f"{file} of {repo!r} is not in the cache and {why}. {otherwise}, or try again with a "
            "connection"
        ) from error
    except EntryNotFoundError as error:
        raise MissingFileError(f"{repo!r} holds no {file}: check the name") from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(f"could not download {file} of {repo!r}: {error}") from error
