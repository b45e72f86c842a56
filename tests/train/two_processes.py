"""What `test_distributed.py` lets two processes do: ``torchrun two_processes.py FOLDER``."""

import faulthandler
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny import CONFIG, Noise, Task
from torch import nn

from umfuse.train import fit
from umfuse.train.distributed import World, is_first, join

SHARED = replace(CONFIG, batch=4, workers=1)


class Apart(Task):
    """Begins with other weights in each process, and keeps what it saw and drew last in buffers."""

    def __init__(self):
        super().__init__(dropout=0)
        with torch.no_grad():
            self.network[0].weight.add_(int(os.environ.get("RANK", "0")))
        self.register_buffer("last", torch.zeros((), dtype=torch.int64))
        self.register_buffer("drawn", torch.zeros(()))

    def forward(self, batch):
        self.last.copy_(batch["seed"][-1])
        self.drawn.copy_(torch.rand(()))
        return super().forward(batch)


class Stopped(Task):
    """Gets a Ctrl-C in its fourth call."""

    def forward(self, batch):
        if self.calls == 3:
            signal.raise_signal(signal.SIGINT)
        return super().forward(batch)


def gradients(world: World, folder: Path) -> None:
    """Each process reaches a parameter of its own, both one, and none the last."""
    parameters = nn.ParameterList(torch.ones(2, 3) for _ in range(4))
    (parameters[world.rank] * (1 + world.rank) + 10 * parameters[2]).sum().backward()
    world.sum_gradients(list(parameters))
    torch.save([p.grad for p in parameters], folder / f"gradients-{world.rank}.pt")


def main(folder: Path) -> None:
    world = join("cpu")
    (folder / f"first-{world.rank}").write_text(str(is_first()))
    gradients(world, folder)

    task = Apart()
    fit(task, Noise(), SHARED, folder / "run", stop=7)
    fit(Apart(), Noise(), SHARED, folder / "moved", stop=7)
    resumed = Apart()
    fit(resumed, Noise(), SHARED, folder / "run")
    straight = Apart()
    fit(straight, Noise(), SHARED, folder / "straight")
    for name, one in (("resumed", resumed), ("straight", straight)):
        torch.save(one.state_dict(), folder / f"{name}-{world.rank}.pt")

    calls, started = [], []
    fit(
        Task(),
        Noise(),
        replace(SHARED, steps=4),
        folder / "hooks",
        validate=lambda average: calls.append("validate") or {"score": 1.0},
        validate_every=2,
        best="score",
        started=lambda: started.append("started"),
    )
    (folder / f"started-{world.rank}").write_text(" ".join(started))
    (folder / f"calls-{world.rank}").write_text(" ".join(calls))

    try:
        fit(Task(poison=3 if world.rank == 1 else None), Noise(), SHARED, folder / "nan")
    except FloatingPointError as error:
        (folder / f"error-{world.rank}").write_text(str(error))

    try:
        fit(Stopped() if world.rank == 1 else Task(), Noise(), SHARED, folder / "stopped")
    except KeyboardInterrupt:
        (folder / f"stopped-{world.rank}").touch()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(240, exit=True)  # where it waits, should it wait for ever
    main(Path(sys.argv[1]))
