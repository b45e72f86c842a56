"""A file that takes the place of another one when it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """Gives a file to write that takes the place of another one when it is complete.

    Args:
        path: The file to be; its folder must exist.

    Raises:
        ValueError: If what writes to it says that the format cannot hold the image.
        OSError: If it cannot be written; what was there is as it was.
    """
    target = Path(os.path.realpath(path))  # a link stays a link to the new file
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {path}: the folder {target.parent} does not exist; create it first"
        )
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    # In the same folder, so that the rename is atomic; not by tempfile, which ignores the umask.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        if error.errno is None:  # Pillow's way to say that the format has no such mode
            raise ValueError(
                f"cannot write {path}: {error}; convert the image, or choose another format"
            ) from error
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}; "
            "no file was changed, check space and permissions",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text as UTF-8, completely or not at all, as `replacing`.

    Args:
        path: The file to be; its folder must exist.
        text: What is to be in it; names of files that are no text stay what they are.

    Raises:
        OSError: If it cannot be written; what was there is as it was.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
