"""Files of the Hub: fetched to the local disk, checked where their sha256 is known, and sent."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import huggingface_hub
from huggingface_hub import CommitOperationAdd, constants
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


class DamagedError(WeightsError):
    """A file that is not what it should be, or that broke off on its way."""


def download(
    repo: str,
    file: str,
    *,
    revision: str | None = None,
    expected: str | None = None,
    size: int | None = None,
    otherwise: str = "Use the embedded weights (umfuse.load()), pass a folder",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Returns the local copy of a file of a Hub repository, downloaded and checked where need be.

    It lies in a folder with the name of the commit that ``revision`` stood for. Where the network
    is turned off, by ``local_files_only`` or ``HF_HUB_OFFLINE=1``, or the Hub cannot be reached,
    the answer comes at once. A file that comes damaged is downloaded once more.

    Args:
        repo: ``org/name``.
        file: Its path in the repository.
        revision: Branch, tag or commit; ``main`` if not given.
        expected: Its sha256. None takes the file as it comes.
        size: How many bytes it has, for a better message where some are missing.
        otherwise: What to do instead, for the error where there is no connection.
        cache_dir: Cache of the Hub; by default that of huggingface_hub.
        force_download: Fetch again what is in the cache.
        local_files_only: Never use the network.
        token: Access token of the Hub, for private repositories.

    Raises:
        WeightsError: If the file cannot be fetched or its sha256 is not the expected one. A copy
            that was damaged twice does not stay in the cache.
    """
    offline = local_files_only or constants.HF_HUB_OFFLINE

    def fetch(*, anew: bool) -> Path:
        path = _fetch(
            repo,
            file,
            revision=revision,
            otherwise=otherwise,
            cache_dir=cache_dir,
            force_download=anew,
            local_files_only=offline,
            token=token,
        )
        if expected is not None:
            check(path, expected, "delete it and download it again", size=size)
        return path

    if force_download and offline:
        raise WeightsError(f"{file} of {repo!r} cannot be fetched again: {_TURNED_OFF}")
    try:
        return fetch(anew=force_download)
    except DamagedError as error:
        if offline:
            raise
        logger.warning("%s: downloading it again", error)
    try:
        return fetch(anew=True)  # takes the place of the damaged one, which others may be reading
    except DamagedError:
        _forget(repo, file, revision, cache_dir)
        raise


def upload(
    repo: str,
    files: Mapping[str, Path | bytes],
    message: str,
    *,
    token: str | bool | None = None,
) -> str:
    """Puts files into a repository of the Hub, as one commit, and returns that commit.

    Args:
        repo: ``org/name``; made if it does not exist.
        files: By their path in the repository.
        message: Of the commit.
        token: Access token with the right to write.

    Raises:
        WeightsError: If the Hub refuses them or cannot be reached.
    """
    api = huggingface_hub.HfApi(library_name="umfuse")
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        api.create_repo(repo, exist_ok=True, token=token)
        commit = api.create_commit(repo, added, commit_message=message, token=token)
    except Exception as error:  # what fails below it has no one class in all its versions
        raise WeightsError(
            f"could not publish to {repo!r}: {_reason(error)}. Check the connection, and log in "
            "with `hf auth login` as somebody who may write there"
        ) from error
    return commit.oid


def sha256(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check(path: Path, expected: str, remedy: str, *, size: int | None = None) -> None:
    """Raises `WeightsError`, which tells the remedy, if a file is not the one that it should be.

    Args:
        path: The file.
        expected: Its sha256.
        remedy: What to do if it has another one.
        size: How many bytes it should have, if known.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: {remedy}")
    found = path.stat().st_size
    if size is not None and found != size:
        raise DamagedError(
            lfs.pointer(path)
            or f"{path} is damaged: expected {size} bytes, found {found}; {remedy}"
        )
    if (digest := sha256(path)) != expected:
        raise DamagedError(
            lfs.pointer(path)
            or f"{path} is damaged: expected sha256 {expected}, found {digest}; {remedy}"
        )


_PAUSES = (1.0, 2.0)  # seconds before asking a busy Hub again
_TURNED_OFF = "the network is turned off (local_files_only or HF_HUB_OFFLINE)"


def _fetch(
    repo: str,
    file: str,
    *,
    revision: str | None,
    otherwise: str,
    cache_dir: str | os.PathLike[str] | None,
    force_download: bool,
    local_files_only: bool,
    token: str | bool | None,
) -> Path:
    """Returns the local copy of a file, or says in our words why there is none."""
    try:
        if not local_files_only and (
            force_download or _cached(repo, file, revision, cache_dir) is None
        ):
            _knock(repo, file, revision, token)
        fetch = cast("Callable[..., str]", huggingface_hub.hf_hub_download)
        path = fetch(
            repo,
            file,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            library_name="umfuse",
        )
        return Path(path)
    except HFValidationError as error:
        raise WeightsError(f"{repo!r} is no name of a Hub repository: {error}") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"the Hub has no repository {repo!r}, or it is private: check the name, or log in "
            "with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{repo!r} has no revision {revision!r}") from error
    except (LocalEntryNotFoundError, ConnectionError) as error:
        if _status(error) in (401, 403):
            raise _refused(repo, error) from error
        why = _TURNED_OFF
        if not local_files_only:
            why = f"the Hub could not be reached at {constants.ENDPOINT} ({_reason(error)})"
        raise WeightsError(
            f"{file} of {repo!r} is not in the cache and {why}. {otherwise}, or try again with a "
            "connection"
        ) from error
    except EntryNotFoundError as error:
        raise MissingFileError(f"{repo!r} holds no {file}: check the name") from error
    except Exception as error:  # requests, httpx or httpx2 by the version: they share no class
        if _status(error) in (401, 403):
            raise _refused(repo, error) from error
        if _of_the_disk(error):
            raise _unwritable(repo, file, cache_dir, error) from error
        kind = DamagedError if _broke_off(error) else WeightsError
        raise kind(f"could not download {file} of {repo!r}: {_reason(error)}") from error


def _cached(
    repo: str, file: str, revision: str | None, cache_dir: str | os.PathLike[str] | None
) -> Path | None:
    """Returns the copy of a file in the cache, if there is one."""
    found = huggingface_hub.try_to_load_from_cache(
        repo, file, None if cache_dir is None else Path(cache_dir), revision
    )
    return Path(found) if isinstance(found, str) else None


def _knock(repo: str, file: str, revision: str | None, token: str | bool | None) -> None:
    """Raises `ConnectionError` if there is no Hub where it should be, or it stays busy.

    A network that is not there is asked once, and a busy Hub three times. huggingface_hub asks both
    for half a minute, or not at all, by its version.
    """
    url = huggingface_hub.hf_hub_url(repo, file, revision=revision)
    for pause in (*_PAUSES, None):
        try:
            found = huggingface_hub.get_hf_file_metadata(
                url, token=token, timeout=constants.HF_HUB_ETAG_TIMEOUT, library_name="umfuse"
            )
        except HfHubHTTPError as error:
            if (_status(error) or 0) < 500:
                return  # hf_hub_download says what is the matter
            if pause is None:
                raise ConnectionError(_reason(error)) from error
            time.sleep(pause)
        except Exception as error:  # as in _fetch
            if _of_the_disk(error):
                raise  # HF_HOME, which may hold a token, is no folder
            raise ConnectionError(_reason(error)) from error
        else:
            if found.commit_hash is None or found.etag is None:
                raise ConnectionError("no Hub answers there: it names neither commit nor ETag")
            return


def _refused(repo: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"the Hub does not let you read {repo!r} ({_reason(error)}): check the token, or log in "
        "with `hf auth login`"
    )


def _unwritable(
    repo: str, file: str, cache_dir: str | os.PathLike[str] | None, error: Exception
) -> WeightsError:
    folder = os.fspath(constants.HF_HUB_CACHE if cache_dir is None else cache_dir)
    other = "set HF_HOME to another folder" if cache_dir is None else "pass another cache_dir"
    return WeightsError(
        f"{file} of {repo!r} cannot be put into the cache {folder!r} ({_reason(error)}): check "
        f"space and permissions, or {other}"
    )


def _of_the_disk(error: Exception) -> bool:
    """Says whether an error is of a file here, and not of the network."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and (error.filename is not None or error.errno in full)


def _cause(error: Exception) -> BaseException:
    """Returns what lies behind the error of a file that is not in the cache either."""
    behind = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return behind or error


def _reason(error: Exception) -> str:
    """Returns the message of an error on one line."""
    cause = _cause(error)
    return " ".join(str(cause).split()) or type(cause).__name__


def _status(error: Exception) -> int | None:
    """Returns what the Hub answered with, if it did."""
    response = getattr(_cause(error), "response", None)
    return None if response is None else response.status_code


def _broke_off(error: Exception) -> bool:
    """Says whether to ask for a file again: the answer was cut short, or the Hub busy."""
    if (status := _status(error)) is not None:
        return status >= 500
    if isinstance(error, OSError):
        return error.errno is None  # none of the system, such as a full disk
    return type(error).__name__ == "RemoteProtocolError"  # of httpx, where one has it


def _forget(
    repo: str, file: str, revision: str | None, cache_dir: str | os.PathLike[str] | None
) -> None:
    """Removes a file from the cache: its name in the commit, and what the name stands for."""
    if (path := _cached(repo, file, revision, cache_dir)) is not None:
        content = path.resolve()
        path.unlink()
        content.unlink(missing_ok=True)
