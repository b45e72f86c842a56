"""From a name, a Hub repository or a folder to a local folder of checked weights.

A folder of weights holds `config.json` and `model.safetensors`, whether it lies in the package, in
the cache of the Hub or on a user's disk. The manifest `weights.json` lists the weights that umfuse
knows: where they are, their sha256, licence, training data, recipe and scores.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import safetensors.torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

logger = logging.getLogger(__name__)

CONFIG = "config.json"
MODEL = "model.safetensors"
FILES = (CONFIG, MODEL)

_PACKAGE = Path(__file__).parent
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class WeightsError(OSError):
    """Weights that cannot be found, fetched or trusted; the message says what to do."""


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
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Returns a local folder that holds the weights, downloaded and checked where need be.

    Args:
        source: A name of the manifest, a folder, or a Hub repository ``org/name`` or
            ``org/name@revision``, looked up in this order; None is the manifest's default. Of the
            folder of a training run the best checkpoint is taken, else the newest.
        revision: Branch, tag or commit of a Hub repository; ``main`` if not given.
        cache_dir: Cache of the Hub; by default that of huggingface_hub.
        force_download: Fetch again what is in the cache.
        local_files_only: Never use the network.
        token: Access token of the Hub, for private repositories.

    Raises:
        WeightsError: If there are no such weights, they cannot be fetched, or their sha256 is not
            the manifest's.
    """
    known = manifest()
    name = known["default"] if source is None else os.fspath(source)
    if name in known["weights"]:
        entry = known["weights"][name]
        if "path" in entry:
            folder = _PACKAGE / entry["path"]
            for file, expected in entry["sha256"].items():
                _check(folder / file, expected, "install umfuse again")
            return folder
        repo, commit, hashes = entry.get("repo_id", ""), entry.get("revision"), entry["sha256"]
    elif Path(name).is_dir():
        folder = _checkpoint(Path(name))
        if missing := [file for file in FILES if not (folder / file).is_file()]:
            raise WeightsError(
                f"the folder {os.fspath(folder)!r} lacks {' and '.join(missing)}: pass a folder "
                "that save_pretrained or a training run has written"
            )
        return folder
    elif match := _HUB_ID.fullmatch(name):
        repo, commit, hashes = match["repo"], revision or match["revision"], {}
        logger.info("no sha256 is known for %s: its files are taken as they come", repo)
    else:
        raise WeightsError(
            f"unknown weights {name!r}: expected one of {', '.join(known['weights'])}, "
            "a folder, or a Hub repository as org/name or org/name@revision"
        )

    paths = [
        download(
            repo,
            file,
            revision=commit,
            expected=hashes.get(file),
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        for file in FILES
    ]
    return paths[0].parent


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

    Args:
        repo: ``org/name``.
        file: Its path in the repository.
        revision: Branch, tag or commit; ``main`` if not given.
        expected: Its sha256; a copy that has another one is fetched again, once. None takes the
            file as it comes.
        otherwise: What to do instead, for the error where there is no connection.
        cache_dir: As in `locate`, like the three below.
        force_download: Fetch again what is in the cache.
        local_files_only: Never use the network.
        token: Access token of the Hub.

    Raises:
        WeightsError: If the file cannot be fetched or its sha256 is not the expected one.
    """
    options: dict[str, Any] = {
        "revision": revision,
        "otherwise": otherwise,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    path = _fetch(repo, file, force_download=force_download, **options)
    if expected is not None and sha256(path) != expected:
        if not local_files_only:
            logger.warning("%s of %s is damaged: downloading it again", file, repo)
            _fetch(repo, file, force_download=True, **options)
        _check(path, expected, "delete it and download it again")
    return path


def sha256(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the configuration and the state dict of a folder of weights, on the CPU.

    Raises:
        WeightsError: If a file is missing, cut short or not what its name says.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = safetensors.torch.load_file(folder / MODEL)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"cannot read the weights in {os.fspath(folder)!r} ({error}): the files are damaged or "
            "not of umfuse; save or download them again"
        ) from error
    if not isinstance(config, dict):
        raise WeightsError(f"{os.fspath(folder / CONFIG)!r} does not hold a JSON object")
    return cast("dict[str, Any]", config), state


def write(
    folder: Path, config: dict[str, Any], state: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    """Writes `config.json` and `model.safetensors` into an existing folder, each atomically.

    Args:
        folder: Where to; files of these names are replaced.
        config: What JSON can hold.
        state: Tensors by name; no two may share memory.
        metadata: Informative strings for the header of the safetensors file.
    """
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    new = {file: folder / f".{file}.{os.getpid()}" for file in FILES}
    try:
        new[CONFIG].write_text(text, encoding="utf-8")
        safetensors.torch.save_file(tensors, new[MODEL], metadata={"format": "pt", **metadata})
        new[MODEL].chmod(new[CONFIG].stat().st_mode)  # safetensors lets only the owner read
        for file, path in new.items():
            path.replace(folder / file)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def publish(
    source: str | os.PathLike[str] | None, repo_id: str, *, token: str | bool | None = None
) -> Entry:
    """Uploads weights to the Hub and returns their entry for the manifest.

    Args:
        source: As in `locate`; its model card `README.md` goes along if there is one.
        repo_id: ``org/name``; made if it does not exist.
        token: Access token with the right to write.

    Returns:
        The entry, with the new commit. Licence, data, recipe and scores are those of the manifest
        where it lists the source, else empty: fill them in.

    Raises:
        WeightsError: If there are no such weights or the Hub refuses them.
    """
    known = manifest()
    name = known["default"] if source is None else os.fspath(source)
    folder = locate(source)
    hashes = {file: sha256(folder / file) for file in FILES}
    api = huggingface_hub.HfApi(library_name="umfuse")
    try:
        api.create_repo(repo_id, exist_ok=True, token=token)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[*FILES, "README.md"],
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
        sha256=hashes,
        bytes=sum((folder / file).stat().st_size for file in FILES),
        license=about["license"] if about else "",
        data=about["data"] if about else "",
        recipe=about["recipe"] if about else {},
        scores=about["scores"] if about else {},
    )


def holds_weights(folder: Path) -> bool:
    """Says whether a folder is one of weights or a training run with a checkpoint of them."""
    return (_checkpoint(folder) / MODEL).is_file()


def _checkpoint(folder: Path) -> Path:
    """Returns the best, or else the newest checkpoint of a training run; other folders as is."""
    if (folder / CONFIG).exists():
        return folder
    steps, best = sorted(folder.glob("checkpoints/step-*")), folder / "checkpoints" / "best"
    return best if best.is_dir() else steps[-1] if steps else folder


def _check(path: Path, expected: str, remedy: str) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} is missing: {remedy}")
    if (found := sha256(path)) != expected:
        raise WeightsError(
            f"{path} is damaged: expected sha256 {expected}, found {found}; {remedy}"
        )


def _fetch(
    repo: str,
    file: str,
    *,
    revision: str | None,
    otherwise: str,
    **options: Any,  # noqa: ANN401
) -> Path:
    try:
        download = cast("Callable[..., str]", huggingface_hub.hf_hub_download)
        return Path(download(repo, file, revision=revision, library_name="umfuse", **options))
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
        raise WeightsError(
            f"{file} of {repo!r} is not in the cache and the Hub could not be reached. "
            f"{otherwise}, or try again with a connection"
        ) from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{repo!r} holds no {file}: check the name") from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(f"could not download {file} of {repo!r}: {error}") from error
