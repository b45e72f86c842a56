"""A folder of weights: its files, read and written.

It holds `config.json`, `model.safetensors` (the networks that register and fuse) and, if the model
has a CPSTN, `cpstn.safetensors`, whether it lies in the package, in the cache of the Hub or on a
user's disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from umfuse import lfs
from umfuse.config import UmfuseConfig
from umfuse.hub import MissingFileError, WeightsError

CONFIG = "config.json"
MODEL = "model.safetensors"
FILES = (CONFIG, MODEL)  # of every folder of weights
CPSTN = "cpstn.safetensors"  # of those that have one; a third of the embedded weights

_CPSTN_KEY = "cpstn."


class Stored(NamedTuple):
    """What a folder of weights holds."""

    config: UmfuseConfig
    state: dict[str, Tensor]
    """By name, those of CPSTN as ``cpstn.*`` if it was asked for or is needed."""
    license: str | None


def find(path: Path, cpstn: bool | None) -> Path:
    """Returns the folder of weights that a folder stands for: of a training run, a checkpoint.

    Args:
        path: A folder.
        cpstn: As in `beside`.

    Raises:
        WeightsError: If a file is missing, or the config is damaged or of another umfuse.
        ValueError: If ``cpstn`` is False and the model needs it.
    """
    folder = _checkpoint(path)
    whole = all((folder / file).is_file() for file in FILES)
    files = (CONFIG, *beside(folder, cpstn)) if whole else FILES
    if missing := [file for file in files if not (folder / file).is_file()]:
        remedy = "pass a folder that save_pretrained or a training run has written"
        if missing == [CPSTN]:
            remedy = "train or convert one, or pass weights that were saved with their CPSTN"
        raise MissingFileError(
            f"the folder {os.fspath(folder)!r} lacks {' and '.join(missing)}: {remedy}"
        )
    return folder


def beside(folder: Path, cpstn: bool | None) -> tuple[str, ...]:
    """Returns the files of tensors that go with the config in a folder.

    Args:
        folder: Of weights; only its config is looked at.
        cpstn: Whether `CPSTN` is one of them; None: if the config says that the model needs it.

    Raises:
        WeightsError: If the config is missing, damaged or of another umfuse.
        ValueError: If ``cpstn`` is False and the model needs it.
    """
    needed = _config(folder).needs_cpstn
    if needed and cpstn is False:
        raise ValueError(
            f"the weights in {os.fspath(folder)!r} register to the image that CPSTN makes: "
            "cpstn=False cannot be"
        )
    return (MODEL, CPSTN) if needed or cpstn else (MODEL,)


def holds_weights(folder: Path) -> bool:
    """Says whether a folder is one of weights or a training run with a checkpoint of them."""
    return (_checkpoint(folder) / MODEL).is_file()


def read(folder: Path, *, cpstn: bool | None = None) -> Stored:
    """Returns what a folder of weights holds, on the CPU.

    Args:
        folder: As `find` gives it.
        cpstn: As in `beside`.

    Raises:
        WeightsError: If a file is missing, cut short, not what its name says or of another umfuse.
        ValueError: If ``cpstn`` is False and the model needs it.
    """
    config, files = _config(folder), beside(folder, cpstn)
    try:
        parts = [safetensors.torch.load_file(folder / file) for file in files]
        with cast("Any", safetensors).safe_open(folder / MODEL, "pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    state = dict[str, Tensor]()
    for part in parts:
        if twice := sorted(state.keys() & part.keys()):
            raise misfit(folder, ValueError(f"both files hold {twice[0]}"))
        state |= part
    return Stored(config, state, metadata.get("license"))


def write(
    folder: Path, config: UmfuseConfig, state: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    """Writes the files of a folder of weights into an existing folder, each atomically.

    Args:
        folder: Where to; files of these names are replaced.
        config: Of the model.
        state: Tensors by name, those of CPSTN as ``cpstn.*`` if there are any; no two may share
            memory.
        metadata: Informative strings for the headers of the safetensors files; ``license`` is read
            back.

    Raises:
        WeightsError: If the state has no CPSTN and would come to lie beside that of other weights.
        OSError: If a file cannot be written.
    """
    _check_room(folder, state)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    parts = dict[str, dict[str, Tensor]]({MODEL: {}})
    for key, value in state.items():
        file = CPSTN if key.startswith(_CPSTN_KEY) else MODEL
        parts.setdefault(file, {})[key] = value.detach().cpu().contiguous()
    new = {file: folder / f".{file}.{os.getpid()}" for file in (CONFIG, *parts)}
    try:
        new[CONFIG].write_text(text, encoding="utf-8")
        for file, tensors in parts.items():
            safetensors.torch.save_file(tensors, new[file], metadata={"format": "pt", **metadata})
            new[file].chmod(new[CONFIG].stat().st_mode)  # safetensors lets only the owner read
        for file, path in new.items():
            path.replace(folder / file)
    except (OSError, SafetensorError) as error:
        raise OSError(
            getattr(error, "errno", None),
            f"cannot write the weights in {os.fspath(folder)!r}: "
            f"{getattr(error, 'strerror', None) or error}; check space and permissions",
        ) from error
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def misfit(folder: Path, why: object) -> WeightsError:
    """Returns the error of weights that are whole, but not of this version's models."""
    return WeightsError(f"the weights in {os.fspath(folder)!r} do not fit this umfuse: {why}")


def differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Returns what is wrong with a state dict, if anything is: the tensors and their shapes.

    Args:
        state: Tensors by name.
        expected: Those of the model.
    """
    shapes = {
        key: f"{key} is {tuple(state[key].shape)} in place of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    }
    found = {
        "they lack": sorted(expected.keys() - state.keys()),
        "nothing takes": sorted(state.keys() - expected.keys()),
        "of another shape:": [shapes[key] for key in sorted(shapes)],
    }
    return "; ".join(f"{what} {_some(names)}" for what, names in found.items() if names) or None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _checkpoint(folder: Path) -> Path:
    """Returns the best, or else the newest checkpoint of a training run; other folders as is."""
    if (folder / CONFIG).exists():
        return folder
    steps, best = sorted(folder.glob("checkpoints/step-*")), folder / "checkpoints" / "best"
    return best if best.is_dir() else steps[-1] if steps else folder


def _check_room(folder: Path, state: dict[str, Tensor]) -> None:
    """Refuses to leave a CPSTN beside others' weights, and to remove it unasked."""
    if (folder / CPSTN).exists() and not any(key.startswith(_CPSTN_KEY) for key in state):
        raise WeightsError(
            f"the folder {os.fspath(folder)!r} holds a {CPSTN}, and the model to be saved has no "
            "CPSTN: load it with cpstn=True, save it elsewhere, or remove that file first"
        )


def _config(folder: Path) -> UmfuseConfig:
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error
    if not isinstance(values, dict):
        raise WeightsError(f"{os.fspath(folder / CONFIG)!r} does not hold a JSON object")
    try:
        return UmfuseConfig.from_dict(cast("dict[str, Any]", values))
    except (TypeError, ValueError) as error:
        raise misfit(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> WeightsError:
    pointers = filter(None, (lfs.pointer(folder / file) for file in (*FILES, CPSTN)))
    return WeightsError(
        next(pointers, None)
        or f"cannot read the weights in {os.fspath(folder)!r} ({error}): the files are damaged or "
        "not of umfuse; save or download them again"
    )
