"""What `fit` costs beside the training itself: `python -m benchmarks.loop`.

DIFN's task, as the embedded weights were trained, on crops of rendered pairs prepared by two
workers.

- Overhead: bare steps (forward, backward, AdamW on a batch that lies ready) and steps of `fit` take
  turns in one process. A step of `fit` goes from one call of the task to the next: the crops,
  clipping, the average, the guard, a line of the log and the progress bar are in it. The
  checkpoint, timed apart, is spread over the steps between two of them. Medians in milliseconds, by
  the wall clock and by the CPU time of the process, which others on the machine disturb less.
- Waiting: in a run without turns, the time until the crops of a step are there, by its log.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks import data
from benchmarks import scenes as demo
from PIL import Image
from torch.utils.data import default_collate

from umfuse.networks import Difn, DifnConfig
from umfuse.train import CropConfig, Crops, PairDataset, TrainConfig, checkpoints, fit
from umfuse.train.augment import Photometric
from umfuse.train.tasks import DifnTask

WARM = 10  # steps until the workers and the caches are warm


def rendered(folder: Path) -> Crops:
    """Writes six registered pairs and returns crops of them."""
    for seed in range(6):
        scene = demo.render(seed, (360, 480))
        counts = scene.aligned_infrared.astype(float)
        grey = (255 * (counts - counts.min()) / np.ptp(counts)).round().astype(np.uint8)
        for kind, image in (("ir", grey), ("vis", scene.visible)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / kind / f"{seed}.png")
    augmentation = Photometric(gamma=0.4, contrast=0.2)
    config = CropConfig(
        size=(144, 144), scale=(0.6, 1.2), infrared=augmentation, visible=augmentation
    )
    return Crops(PairDataset(folder / "ir", folder / "vis"), config)


def difn_task() -> DifnTask:
    """Returns the task, untrained."""
    torch.manual_seed(0)
    return DifnTask(Difn(DifnConfig(features=16, output="blend")))


class Bare:
    """A step without a loop around it."""

    def __init__(self, crops: Crops, config: TrainConfig) -> None:
        self.task = difn_task().to(config.device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.task.parameters(), config.lr, betas=config.betas)
        self.device, self.bf16 = torch.device(config.device), config.bf16
        self.batch = {}
        for name, value in default_collate([crops[k] for k in range(config.batch)]).items():
            layout = torch.channels_last if value.dim() == 4 else torch.preserve_format
            self.batch[name] = value.to(self.device, memory_format=layout)

    def step(self) -> None:
        """Computes the gradient and moves the weights."""
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task(self.batch)["loss"]
        loss.backward()
        self.optimiser.step()


class Watch:
    """Durations by kind, in seconds of the wall clock and of this process's CPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.durations: dict[str, list[tuple[float, float]]] = {}

    def start(self) -> None:
        """Begins a duration."""
        self.began = self._now()

    def stop(self, kind: str) -> None:
        """Ends it."""
        now = self._now()
        passed = now[0] - self.began[0], now[1] - self.began[1]
        self.durations.setdefault(kind, []).append(passed)

    def median(self, kind: str) -> np.ndarray:
        """Returns the medians of a kind, wall clock and CPU."""
        return np.median(self.durations[kind], axis=0)

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def overhead(crops: Crops, config: TrainConfig, run: Path) -> list[list[object]]:
    """Returns the rows of bare steps, steps of `fit` and checkpoints, and what `fit` adds."""
    watch, bare, calls = Watch(config.device), Bare(crops, config), 0

    def take_turns(*_: object) -> None:
        nonlocal calls
        if calls > WARM:
            watch.stop("fit")
        if calls >= WARM:
            watch.start()
            bare.step()
            watch.stop("bare")
        calls += 1
        watch.start()

    task = difn_task()
    task.register_forward_pre_hook(take_turns)
    fit(task, crops, replace(config, log_every=1, save_every=config.steps), run)
    state = checkpoints.read(run / "checkpoints" / f"step-{config.steps:08d}")
    for step in range(10):
        watch.start()
        checkpoints.write(run, {**state, "step": config.steps + 1 + step}, keep=config.keep)
        watch.stop("checkpoint")
    step, bare_step = watch.median("fit"), watch.median("bare")
    share = watch.median("checkpoint") / config.save_every
    return [
        ["bare step, ms", *(1e3 * bare_step)],
        ["step of fit, ms", *(1e3 * step)],
        [f"checkpoint / {config.save_every}, ms", *(1e3 * share)],
        ["fit adds, %", *(100 * ((step + share) / bare_step - 1))],
    ]


def waiting(crops: Crops, config: TrainConfig, run: Path) -> list[list[object]]:
    """Returns the row of the share of a step that waits for crops."""
    fit(difn_task(), crops, replace(config, log_every=1), run)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()][WARM:]
    waits, steps = ([line[name] for line in lines] for name in ("wait_s", "s_per_step"))
    return [["waiting, %", 100 * sum(waits) / sum(steps), ""]]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150, help="of each run")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare crops")
    parser.add_argument("--device", default="cpu")
    data.page_option(parser)
    options = parser.parse_args()
    config = TrainConfig(options.steps, lr=2e-3, workers=options.workers, device=options.device)
    config = config.settled(torch.device(options.device).type)
    with tempfile.TemporaryDirectory() as folder:
        crops = rendered(Path(folder) / "pairs")
        rows = overhead(crops, config, Path(folder) / "turns")
        rows += waiting(crops, config, Path(folder) / "waiting")
    data.report(options, "loop", ("", "wall clock", "CPU"), rows)


if __name__ == "__main__":
    main()
