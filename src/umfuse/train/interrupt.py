"""Ctrl-C that lets the step in progress end."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self


class Interrupt:
    """Keeps the first SIGINT or SIGTERM of a ``with`` block until its end.

    The block looks at `received` and ends when it can; the signal then does what it would have
    done. A second signal does so at once. Outside the main thread, which alone gets signals,
    nothing is changed, nor for signals that are ignored.

    Attributes:
        received: The number of the signal, None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        if self.received is not None and kind is None:
            signal.raise_signal(self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._former:
            number, former = self._former.popitem()
            signal.signal(number, former)


def shield(worker: int) -> None:
    """Keeps signals that are meant for the main process from a data worker.

    Ctrl-C, and ``torchrun`` when it is told to end, signal all processes of a group at once. The
    loader ends its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
