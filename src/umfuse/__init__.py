"""Align and fuse infrared and visible image pairs that are not registered.

`fuse` and `register` take images of any kind, `Rig` the frames of a video; `load` gives the model
behind them. `metrics` scores results, `umfuse.train` fine-tunes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umfuse import metrics
    from umfuse.api import Fusion, fuse, load, register
    from umfuse.config import UmfuseConfig
    from umfuse.pipeline import Umfuse
    from umfuse.registration import Registration, RegistrationError
    from umfuse.rig import Rig
    from umfuse.weights import WeightsError

__version__ = "0.1.0"

__all__ = [
    "Fusion",
    "Registration",
    "RegistrationError",
    "Rig",
    "Umfuse",
    "UmfuseConfig",
    "WeightsError",
    "fuse",
    "load",
    "metrics",
    "register",
]

if "torch" not in sys.modules:
    # Read when torch is imported. Threads that spin while they wait take the time of whatever else
    # is running: seven times as long was seen beside one busy program on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Imported on first use: `umfuse --help` need not wait for torch.
_WHERE = {
    "Fusion": "api",
    "Registration": "registration",
    "RegistrationError": "registration",
    "Rig": "rig",
    "Umfuse": "pipeline",
    "UmfuseConfig": "config",
    "WeightsError": "weights",
    "fuse": "api",
    "load": "api",
    "register": "api",
}


def __getattr__(name: str) -> object:
    if name == "metrics":
        return import_module("umfuse.metrics")
    if name in _WHERE:
        return getattr(import_module(f"umfuse.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
