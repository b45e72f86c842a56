"""What all tests rely on."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Ctrl-C works as in a terminal: what a shell runs in the background begins with it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
