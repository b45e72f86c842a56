"""Align and fuse infrared and visible image pairs that are not registered.

`fuse` and `register` take images of any kind; `load` gives the model behind them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umfuse.api import Fusion, Registration, fuse, load, register
    from umfuse.config import UmfuseConfig
    from umfuse.pipeline import Umfuse
    from umfuse.weights import WeightsError

__version__ = "0.1.0"

__all__ = [
    "Fusion",
    "Registration",
    "Umfuse",
    "UmfuseConfig",
    "WeightsError",
    "fuse",
    "load",
    "register",
]


def __getattr__(name: str) -> object:
    # Imported on first use: `umfuse --help` need not wait for torch.
    if name in __all__:
        for module in ("umfuse.weights", "umfuse.config", "umfuse.pipeline", "umfuse.api"):
            found = vars(import_module(module)).get(name)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
