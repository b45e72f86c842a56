"""Where networks run, and in what."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any, cast

import torch


def resolve(device: str | torch.device | None) -> torch.device:
    """Returns a device that is there; CUDA if there is any, else the CPU, for None.

    Raises:
        ValueError: If there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {device!r} here: {error}") from error
    return found


def has_bf16(kind: str) -> bool:
    """Says whether convolutions in bfloat16 run on instructions of their own.

    Args:
        kind: Type of a device, such as ``"cuda"``.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    ask = cast("Callable[[], dict[str, Any]]", getattr(torch.cpu, "get_capabilities", dict))
    capabilities = ask()  # nothing is known before torch 2.11
    return kind == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Runs what is of many small operations on one thread of the processor.

    More are no faster there, and wait for each other where another program is busy: ten times as
    long was seen.
    """
    count = _alone.enter()
    if count > 1:  # setting it is not free
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if count > 1:
            torch.set_num_threads(count)
        _alone.leave()


class _Alone:
    """How many threads there were before the first of several callers took one.

    Whoever comes while another has set it to one must not take that for what the user wants.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside, self.count = 0, 1

    def enter(self) -> int:
        """Returns how many threads there are to be afterwards."""
        with self.lock:
            if self.inside == 0:
                self.count = torch.get_num_threads()
            self.inside += 1
            return self.count

    def leave(self) -> None:
        """Is called afterwards."""
        with self.lock:
            self.inside -= 1


_alone = _Alone()


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that there is not enough memory, of whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocator of the CPU has no error of its own.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
