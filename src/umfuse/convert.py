"""The checkpoints of the paper's authors as weights that `umfuse.load` takes.

The files are those of github.com/wdhudiekou/UMF-CMGR (commit 17a7af5): ``latest_net_G.pth`` of
CPSTN, ``reg_*.pth`` of MRRN and ``fus_*.pth`` of DIFN. A file is read without running code that it
may hold, and taken only if it holds every tensor of its network and none else.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from umfuse.networks import Cpstn, Difn, Mrrn
from umfuse.pipeline import Umfuse
from umfuse.weights import WeightsError

logger = logging.getLogger(__name__)

Network = Literal["cpstn", "mrrn", "difn"]
Source = str | os.PathLike[str]
State = dict[str, Tensor]


class Converted(NamedTuple):
    """What `convert` wrote.

    Attributes:
        folder: The weights, for `umfuse.load`.
        converted: Networks that came from the authors' files.
        filled: Networks that no file was given for, taken from other weights.
    """

    folder: Path
    converted: tuple[Network, ...]
    filled: tuple[Network, ...]


def convert(
    out: Source,
    *,
    cpstn: Source | None = None,
    mrrn: Source | None = None,
    difn: Source | None = None,
    fill: Source | None = None,
    license: str | None = None,
) -> Converted:
    """Writes the authors' networks, as far as their files are at hand, as a folder of weights.

    Args:
        out: The folder, made if missing; weights that it holds are replaced.
        cpstn: ``latest_net_G.pth``, the generator from visible to infrared.
        mrrn: ``reg_*.pth``.
        difn: ``fus_*.pth``.
        fill: Where networks without a file come from, with their sizes: a source of
            `weights.locate`; None means the embedded weights.
        license: Of the result, for its card. None says nothing: the authors' files name none.

    Raises:
        ValueError: If no file is given.
        WeightsError: If a file cannot be read or is not the checkpoint that it should be.
    """
    files: dict[Network, Source | None] = {"cpstn": cpstn, "mrrn": mrrn, "difn": difn}
    given: dict[Network, str] = {
        name: os.fspath(file) for name, file in files.items() if file is not None
    }
    missing: tuple[Network, ...] = tuple(name for name in files if name not in given)
    if not given:
        raise ValueError("convert needs at least one checkpoint: cpstn, mrrn or difn")
    states = {name: translate(name, _read(file), file) for name, file in given.items()}
    base = Umfuse.from_pretrained(fill, cpstn="cpstn" in missing or None) if missing else Umfuse()
    if missing:
        logger.warning(
            "no checkpoint was given for %s: taken from %s",
            " and ".join(missing),
            "the embedded weights" if fill is None else os.fspath(fill),
        )
        states |= {name: base.get_submodule(name).state_dict() for name in missing}
    sizes: dict[str, Any] = {name: _network(name).config for name in given}
    model = Umfuse(replace(base.config, **sizes))
    for name, state in states.items():
        model.get_submodule(name).load_state_dict(state)
    model.license = license
    folder = Path(out)
    model.save_pretrained(folder)
    return Converted(folder, tuple(given), missing)


def translate(network: Network, checkpoint: dict[str, Any], name: str = "checkpoint") -> State:
    """Returns the state dict of one of our networks, of the paper's sizes, from an authors' one.

    Wrappers (``"net"``, the ``module.`` of a parallel model) are taken off. Of MRRN the grids,
    which only say "256x256", and the second names of its layers are dropped; its fields change
    from (y, x) to (x, y).

    Args:
        network: Which one it is.
        checkpoint: As the authors' code saved it.
        name: What to call it in errors.

    Raises:
        WeightsError: If a tensor is missing or left over, or layers of two names differ.
    """
    state = _unwrap(checkpoint, name)
    if network == "mrrn":
        state = _without_twins(state, name)
    result: State = {}
    for theirs, ours in _LAYERS[network]().items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" in state:
                result[f"{ours}.{part}"] = state.pop(f"{theirs}.{part}")
    expected = _network(network).state_dict()
    lacks = sorted(expected.keys() - result.keys())
    if lacks or state:
        raise WeightsError(
            f"{name!r} is no checkpoint of the authors' {network}: it lacks {len(lacks)} of "
            f"{len(expected)} tensors{_first(lacks)} and has {len(state)} that do not belong to it"
            f"{_first(sorted(state))}"
        )
    for key, value in expected.items():
        if result[key].shape != value.shape:
            raise WeightsError(
                f"{name!r} does not have the sizes of the paper's {network}: expected "
                f"{tuple(value.shape)} for {key}, got {tuple(result[key].shape)}"
            )
    return _with_x_first(result) if network == "mrrn" else result


def _read(path: str) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"cannot read {path!r} as a checkpoint of tensors: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path!r} holds no state dict but {type(found).__name__}")
    return cast("dict[str, Any]", found)


def _unwrap(checkpoint: dict[str, Any], name: str) -> State:
    inner = checkpoint.get("net", checkpoint)
    named = cast("dict[str, object]", inner) if isinstance(inner, dict) else {}
    state = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not state or len(state) < len(named):
        raise WeightsError(f"{name!r} holds something else than the tensors of one network")
    parallel = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if parallel else key: state[key] for key in state}


def _network(name: Network) -> Cpstn | Mrrn | Difn:
    """Returns a network of the paper's sizes, without values."""
    with torch.device("meta"):
        return {"cpstn": Cpstn, "mrrn": Mrrn, "difn": Difn}[name]()


# --- which of their layers is which of ours ------------------------------------------------------


def _cpstn_layers() -> dict[str, str]:
    layers = {"model.1": "encoder.0", "model.4": "encoder.3", "model.7": "encoder.6"}
    for block in range(9):
        layers[f"model.{10 + block}.conv_block.1"] = f"blocks.{block}.layers.0"
        layers[f"model.{10 + block}.conv_block.5"] = f"blocks.{block}.layers.3"
    return layers | {"model.19": "decoder.0", "model.22": "decoder.3", "model.26": "decoder.6"}


def _mrrn_layers() -> dict[str, str]:
    layers = {f"enc.{i}.main": f"encoder.{i // 3}.{2 * (i % 3)}" for i in range(6)}
    for level, scale in enumerate((2, 1)):
        for i in range(3):
            layers[f"conv{scale}_{i}.main"] = f"levels.{level}.decoder.{2 * i}"
            layers[f"dc_conv{scale}_{i}.0"] = f"levels.{level}.refine.{2 * i}"
        layers[f"predict_flow{scale}a"] = f"levels.{level}.head"
        layers[f"predict_flow{scale}b"] = f"levels.{level}.refine.6"
    return layers


def _difn_layers() -> dict[str, str]:
    layers: dict[str, str] = {}
    for ours, head, path in (("infrared", "conv1_1", "ir_path"), ("visible", "conv2_1", "vi_path")):
        layers[f"{head}.0"] = f"{ours}.head"
        for i in range(3):
            layers[f"{path}.0.dense_layers.{i}.conv"] = f"{ours}.dense.{i}"
        layers[f"{path}.0.conv_1x1"] = f"{ours}.merge"
    return layers | {
        "fuse.query_conv": "interaction.query",
        "fuse.key_conv": "interaction.key",
        "fuse.gamma1": "interaction.infrared_gates",
        "fuse.gamma2": "interaction.visible_gates",
        "fuse_res": "tail.0",
        "out_conv": "tail.1",
    }


_LAYERS: dict[Network, Callable[[], dict[str, str]]] = {
    "cpstn": _cpstn_layers,
    "mrrn": _mrrn_layers,
    "difn": _difn_layers,
}
# The list `enc` of their MRRN holds, from 6 on, the layers that have a name of their own as well.
_TWINS = tuple(
    f"{name}{part}"
    for scale in (2, 1)
    for name, part in (
        *((f"conv{scale}_{i}", ".main") for i in range(3)),
        (f"predict_flow{scale}a", ""),
        *((f"dc_conv{scale}_{i}", ".0") for i in range(3)),
        (f"predict_flow{scale}b", ""),
    )
)


def _without_twins(state: State, name: str) -> State:
    """Drops the grids and the second names, if they name the same values."""
    for key in ("spatial_transform.grid", "spatial_transform_f.grid"):
        state.pop(key, None)
    for index, twin in enumerate(_TWINS, 6):
        layer, _, rest = twin.partition(".")
        for part in ("weight", "bias"):
            inner = f"{rest}.{part}" if rest else part
            second = state.pop(f"enc.{index}.{inner}", None)
            first = state.get(f"{layer}.{inner}")
            if second is not None and (first is None or not torch.equal(first, second)):
                raise WeightsError(
                    f"{name!r} is damaged: enc.{index}.{inner} and {layer}.{inner} are two names "
                    "of one tensor, but differ"
                )
    return state


def _with_x_first(state: State) -> State:
    """Exchanges the channels of every field, where it is written and where it is read."""
    for level in (0, 1):
        for layer in ("head", "refine.6"):
            for part in ("weight", "bias"):
                key = f"levels.{level}.{layer}.{part}"
                state[key] = state[key].flip(0)
        key = f"levels.{level}.refine.0.weight"
        state[key] = state[key].flip(1)
    key = "levels.1.decoder.0.weight"  # cost, 16 features, the field from below, its features
    weight = state[key]
    state[key] = torch.cat((weight[:, :17], weight[:, 17:19].flip(1), weight[:, 19:]), 1)
    return state


def _first(names: list[str]) -> str:
    return f" ({names[0]}, ...)" if names else ""
