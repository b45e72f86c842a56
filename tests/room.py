"""A disk that is nearly full."""

import contextlib


@contextlib.contextmanager
def room(size: int):
    """No file may become larger than this many bytes, as on a disk that is nearly full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
