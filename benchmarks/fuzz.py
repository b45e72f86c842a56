"""Random files through the door and the reader of weights: `python -m benchmarks.fuzz`.

Fuzzing with `atheris` (pip install atheris): bytes that reach new lines of umfuse are kept and
changed again, for 10 minutes. They start from a file of each kind of `benchmarks.files`, a folder
of small weights and a saved registration, whose check sums are not looked at. What comes must be a
result, or one of the errors that are documented, with a message; all else ends the command with the
bytes, as ``crash-*``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import os
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

LARGEST = 2**18  # bytes of an input
ERRORS = (TypeError, ValueError, OSError)  # that are documented; WeightsError is an OSError
TARGETS = ("image", "weights", "config", "registration")
READERS = ("images", "pipeline", "registration", "registration_file", "weights_folder")


def main() -> None:
    """Fuzzes until the time is up, or something comes that must not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS, help="start from files of one kind")
    options = parser.parse_args()
    fuzzer: Any = importlib.import_module("atheris")
    with fuzzer.instrument_imports(include=["umfuse"]):
        for module in READERS:  # what is imported later has no lines that are seen as new
            importlib.import_module(f"umfuse.{module}")
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "corpus").mkdir()
        for number, content in enumerate(starts(root)):
            if options.only in (None, TARGETS[content[0]]):
                (root / "corpus" / str(number)).write_bytes(content)

        def look(content: bytes) -> None:
            check(root, content)

        words = [f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
        words += [f"-max_len={LARGEST}", "-timeout=60", "-rss_limit_mb=8192", str(root / "corpus")]
        fuzzer.Setup([sys.argv[0], *words], look)
        fuzzer.Fuzz()


def starts(root: Path) -> list[bytes]:
    """Returns inputs: a byte that says what the others are, of `TARGETS`."""
    from benchmarks import files

    import umfuse
    from umfuse import weights_folder

    found = [b"\0" + kind.write()[0] for kind in files.kinds() if kind.format != "TIFF"]
    tiffs = [kind for kind in files.kinds() if kind.format == "TIFF"]
    found += [b"\0" + kind.write()[0] for kind in tiffs[::8]]
    model = small()
    model.save_pretrained(root / "weights")
    found.append(b"\1" + (root / "weights" / weights_folder.MODEL).read_bytes())
    found.append(b"\2" + (root / "weights" / weights_folder.CONFIG).read_bytes())
    identity = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    umfuse.Registration.from_transform(identity, (9, 12), (9, 12)).save(root / "a.npz")
    with zipfile.ZipFile(root / "a.npz") as saved, zipfile.ZipFile(root / "plain", "w") as plain:
        for name in saved.namelist():  # not compressed: what is changed is a number
            plain.writestr(name, saved.read(name))
    found.append(b"\3" + (root / "plain").read_bytes())
    return [content for content in found if len(content) <= LARGEST]


def small() -> Any:
    """Returns a model whose weights are a small file: most of it is the names of tensors."""
    from umfuse.config import UmfuseConfig
    from umfuse.networks import CpstnConfig, DifnConfig, MatcherConfig
    from umfuse.pipeline import Umfuse

    matcher = MatcherConfig(channels=(2, 2, 2), descriptor=2, context=2, width=2)
    difn = DifnConfig(features=1, dense_layers=1, output="blend")
    cpstn = CpstnConfig(filters=1, blocks=1)
    return Umfuse(UmfuseConfig(cpstn=cpstn, mrrn=matcher, difn=difn, fixed="visible"))


def check(root: Path, content: bytes) -> str:
    """Reads what bytes say, and says what came of it: the target, and the error if there was one.

    Args:
        root: A folder to write to, with the small weights.
        content: As `starts` has them.

    Raises:
        AssertionError: If something else came than what is documented.
    """
    target, body = TARGETS[content[0] % len(TARGETS) if content else 0], content[1:]
    try:
        if target == "image":
            _image(root, body)
        elif target == "registration":
            _registration(root, body)
        else:
            _weights(root, target, body)
    except ERRORS as error:
        if len(str(error)) < 10 or (target == "image" and "visible: " not in str(error)):
            raise AssertionError(f"an error that says too little: {error!r}") from error
        return f"{target}: {type(error).__name__}"
    return target


def _image(root: Path, body: bytes) -> None:
    from umfuse.images import read

    (root / "image").write_bytes(body)
    picture = read(root / "image", name="visible", range="minmax")
    luma = picture.luma
    if not (luma.isfinite().all() and luma.min() >= 0 and luma.max() <= 1):
        raise AssertionError("values outside of [0, 1]")
    picture.give_back(picture.planes, picture.missing)


def _registration(root: Path, body: bytes) -> None:
    import umfuse

    (root / "read.npz").write_bytes(body)
    with mock.patch.object(zipfile.ZipExtFile, "_update_crc", return_value=None):
        found = umfuse.Registration.load(root / "read.npz")
    few = math.prod(found.visible_size) < 10**4
    for numbers in (found.transform, found.coordinates if few else found.field):
        if not math.isfinite(float(abs(numbers).max())):
            raise AssertionError("a transform or coordinates that are not finite")


def _weights(root: Path, target: str, body: bytes) -> None:
    from umfuse import weights_folder
    from umfuse.pipeline import Umfuse

    folder = root / "read"
    folder.mkdir(exist_ok=True)
    for file in weights_folder.FILES:
        (folder / file).write_bytes((root / "weights" / file).read_bytes())
    if target == "config":
        (folder / weights_folder.CONFIG).write_bytes(body)
        _refuse_the_huge(body)
    else:
        (folder / weights_folder.MODEL).write_bytes(body)
    Umfuse.from_pretrained(folder)


def _refuse_the_huge(body: bytes) -> None:
    """Leaves out models that no memory holds: a config may ask for them."""
    try:
        text = json.dumps(json.loads(body))
    except (ValueError, RecursionError):
        return
    if any(len(part) > 3 for part in "".join(c if c.isdigit() else " " for c in text).split()):
        raise ValueError("a size that is left out here")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
