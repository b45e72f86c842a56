"""The page to try umfuse, served in a thread; requests to it as anybody could send them; a pair."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import umfuse
from umfuse import geometry


@contextlib.contextmanager
def serving(app) -> Iterator[int]:
    """Serves an application, and gives the port."""
    import uvicorn

    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(port, method, path, body=None, headers=None) -> Answer:
    """Sends a request whose path stays as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def form(**fields) -> tuple[bytes, str]:
    """A multipart form, and its type; fields are texts, or names and contents of files."""
    border = secrets.token_hex(8)
    parts = []
    for name, value in fields.items():
        about = f'form-data; name="{name}"'
        if not isinstance(value, str):
            about += f'; filename="{value[0]}"'
        content = value.encode() if isinstance(value, str) else value[1]
        head = f"--{border}\r\nContent-Disposition: {about}\r\n\r\n"
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"


def fuse(port, headers=None, **fields) -> Answer:
    body, kind = form(**fields)
    return ask(port, "POST", "/fuse", body, {"Content-Type": kind, **(headers or {})})


# ---- a pair that no search finds -----------------------------------------------------------------

MARKED = ((60.0, 60.0), (260.0, 70.0), (150.0, 190.0))  # visible pixels that a person points at


class Turned(NamedTuple):
    """A street whose infrared image is turned by more than the search looks at.

    Attributes:
        infrared: Counts, uint16 (h, w).
        visible: Colour, uint8 (H, W, 3).
        transform: ``(3, 3)``, the truth.
        pairs: Places of `MARKED` in both images, as the page sends them, each off by a pixel or so.
    """

    infrared: NDArray[np.uint16]
    visible: NDArray[np.uint8]
    transform: NDArray[np.float64]
    pairs: list[list[list[float]]]


def turned(scene, degrees=45.0) -> Turned:
    height, width = scene.infrared.shape
    middle = (width / 2 - 0.5, height / 2 - 0.5)
    turn = geometry.similarity_transform(middle, middle, degrees=degrees)
    back = umfuse.Registration.from_transform(turn.inverse(), *[(height, width)] * 2)
    infrared = back.apply(scene.infrared)
    transform = turn @ torch.from_numpy(scene.transform)
    visible = torch.tensor(MARKED, dtype=torch.float64)
    seen = geometry.project_points(transform, visible)
    seen += torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 2)))
    sizes = torch.tensor([[width, height], scene.visible.shape[1::-1]])
    shares = [(one + 0.5) / size for one, size in zip((seen, visible), sizes, strict=True)]
    pairs = [list(pair) for pair in zip(*(share.tolist() for share in shares), strict=True)]
    return Turned(infrared, scene.visible, transform.numpy(), pairs)
