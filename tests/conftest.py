"""What all tests rely on."""

import signal

import pytest
from benchmarks import scenes

import umfuse

try:
    import hypothesis
except ImportError:
    pass  # tests that need it are left out
else:
    # The same cases every time, on a slow machine too, and no folder of those that failed.
    hypothesis.settings.register_profile(
        "umfuse",
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("umfuse")


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
