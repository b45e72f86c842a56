"""What all tests rely on."""

import signal

import pytest
from benchmarks import scenes

import umfuse


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Ctrl-C works as in a terminal: what a shell runs in the background begins with it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def model():
    """The embedded weights."""
    return umfuse.load(device="cpu")


@pytest.fixture(scope="module")
def scene():
    """A small rendered street."""
    return scenes.render(seed=0, size=(240, 320))
