"""Git LFS pointers: small texts that stand in a clone for files that were not fetched."""

from __future__ import annotations

from pathlib import Path

_SIGNATURE = b"version https://git-lfs.github.com/spec/v1"


def pointer(path: Path) -> str | None:
    """Returns what to say of a file that is a pointer; None of every other file.

    Args:
        path: It need not exist.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                return None
    except OSError:
        return None
    return f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
