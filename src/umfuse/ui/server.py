"""The server of the page: where it listens, and until when."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from umfuse.pipeline import Umfuse
from umfuse.ui.app import application

HERE = ("127.0.0.1", "localhost", "[::1]")  # as browsers name this machine
_CONNECTIONS = 64  # at once


def serve(model: Umfuse, host: str, port: int, said: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C, which lets the pair in work be finished.

    Args:
        model: What fuses.
        host: Address to listen at.
        port: 0 takes a free one.
        said: Is called with the URL of the page when it can be reached.

    Raises:
        ValueError: If there can be no such port.
        OSError: If there is no such address, or the port is taken.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"expected a port from 0 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error}; choose another") from error
    page = application(model, (*HERE, host) if is_local(host) else ("*",))
    with listener:
        config = uvicorn.Config(
            page,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
        )
        server = uvicorn.Server(config)
        page.state.is_ending = lambda: server.should_exit
        said(url(host, listener.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):  # how it is ended
            server.run(sockets=[listener])


def is_local(host: str) -> bool:
    """Says whether only this machine reaches an address to listen at."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url(host: str, port: int) -> str:
    """Returns what to type into a browser."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
