"""How a run is told: lines of JSON, TensorBoard, pictures, a progress bar or the logger."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from huggingface_hub.utils import tqdm
from PIL import Image
from typing_extensions import Self

from umfuse import files, images
from umfuse.train import curves

logger = logging.getLogger(__name__)


class Journal:
    """Tells how a run goes, from some step on; a context manager.

    ``RUN/log.jsonl`` holds a line per step that is told of, ``RUN/curves.png`` shows them, with
    every sample and at the end, and ``RUN/samples`` holds the pictures. Lines that come after the
    step at which the run goes on are dropped: they will be written again.

    A terminal shows a progress bar, unless ``huggingface_hub.utils.disable_progress_bars`` or the
    variable ``HF_HUB_DISABLE_PROGRESS_BARS`` says otherwise; without it the logger has the lines.

    Args:
        run: The run folder.
        start: The step at which the run goes on.
        steps: The step at which it ends.
        tensorboard: Whether ``RUN/tensorboard`` holds the same.

    Raises:
        ImportError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Path, start: int, steps: int, *, tensorboard: bool = False) -> None:
        self._run, self._steps = run, steps
        self._board = _board(run / "tensorboard", start) if tensorboard else None
        _shorten(run / "log.jsonl", start)
        self._bar: Any = tqdm(
            total=steps, initial=start, unit="step", disable=None, name="umfuse.train"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._draw()
        if self._board is not None:
            self._board.close()

    def advance(self, loss: float) -> None:
        """Moves the bar on by a step, with the newest loss that is known, or NaN."""
        if math.isfinite(loss):
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update()

    def progress(self, step: int, figures: dict[str, float]) -> None:
        """Tells how training goes; ``s_per_step`` is one of the figures."""
        self._write(step, figures)
        if self._bar.disable:
            left = (self._steps - step) * figures["s_per_step"] / 60
            logger.info("step %d/%d %s, %.1f min left", step, self._steps, _short(figures), left)

    def validation(self, step: int, figures: dict[str, float]) -> None:
        """Tells how good the result is."""
        self._write(step, figures)
        logger.info("step %d %s", step, _short(figures))

    def picture(self, step: int, image: Image.Image) -> None:
        """Shows what the result looks like."""
        folder = self._run / "samples"
        folder.mkdir(exist_ok=True)
        images.save(image, folder / f"step-{step:08d}.png")
        if self._board is not None:
            pixels = np.asarray(image.convert("RGB"))
            self._board.add_image("sample", pixels, step, dataformats="HWC")
        self._draw()

    def _draw(self) -> None:
        log = self._run / "log.jsonl"
        if log.exists() and log.stat().st_size:
            images.save(curves.picture(log), self._run / "curves.png")

    def _write(self, step: int, figures: dict[str, float]) -> None:
        line = {"step": step, **{name: float(f"{value:.6g}") for name, value in figures.items()}}
        log = self._run / "log.jsonl"
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write {log}: {error.strerror}; check space and permissions"
            ) from error
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)


def _board(folder: Path, start: int) -> Any:  # noqa: ANN401  (TensorBoard is optional)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard=True needs TensorBoard: pip install 'umfuse[tensorboard]', or leave it "
            "out; the same figures are in log.jsonl"
        ) from error
    return SummaryWriter(str(folder), purge_step=start + 1)


def _shorten(log: Path, last: int) -> None:
    """Drops the lines of steps after the last, and one that was cut short."""
    if not log.exists():
        return
    kept: list[str] = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > last:
            break
        kept.append(line)
    files.write_text(log, "".join(kept))


def _short(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())
