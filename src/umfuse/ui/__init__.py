"""A page in the browser to try umfuse: `umfuse demo --serve` (extra `ui`)."""

from umfuse.ui.app import application
from umfuse.ui.server import is_local, serve

__all__ = ["application", "is_local", "serve"]
