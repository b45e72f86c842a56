"""Which infrared image belongs to which visible one: by the names of their files.

A *rule* says how. ``"stem"``: the names are equal up to the suffix. ``"order"``: the first with the
first, where the names of both folders are sorted as people count. The name of a scheme of
`SCHEMES`. Or two templates, ``"{stem}_T,{stem}_W"``, of the infrared and the visible name: a field
in braces stands for one or more characters, and a pair has the same in every field that both
templates have. ``{path}`` alone reaches across folders. A template holds the suffix if one of the
two does; else it is left out.

Letters and their accents are one, in whatever spelling a file system keeps them (Unicode's NFC).
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm"),
        *(".heic", ".heif"),
    }
)

SCHEMES: Mapping[str, tuple[str, ...]] = {
    # Thermal beside wide, visible or zoom, whichever there is.
    "dji": ("{stem}_T,{stem}_W", "{stem}_T,{stem}_V", "{stem}_T,{stem}_Z"),
    "flir": ("{stem},{stem}_rgb", "{stem},{stem}_RGB"),
    "kaist": ("{path}/lwir/{stem},{path}/visible/{stem}", "lwir/{stem},visible/{stem}"),
}


class Pairs(NamedTuple):
    """What belongs together.

    Attributes:
        files: Infrared and visible image by the name of the pair, which may hold slashes.
        problems: A line for each image that has no partner, or cannot be told from another one.
    """

    files: dict[str, tuple[Path, Path]]
    problems: list[str]


def find(infrared: Path, visible: Path, rule: str | None = None) -> Pairs:
    """Returns the pairs of two folders, or of one that holds both kinds.

    Args:
        infrared: Folder of infrared images.
        visible: Folder of visible ones, which may be the same.
        rule: As the module says; by default the stem, and if no two stems of two folders are
            equal, the first scheme that finds a pair.

    Raises:
        ValueError: If there is no such rule, or it finds no pair.
        OSError: If a folder cannot be listed.
    """
    shared = os.path.realpath(infrared) == os.path.realpath(visible)
    found = Pairs({}, [])
    if rule == "order":
        found = _by_order(infrared, visible)
    elif rule == "stem" or (rule is None and not shared):
        by_stem, problems = stems({"infrared": infrared, "visible": visible})
        found = Pairs({n: (f["infrared"], f["visible"]) for n, f in by_stem.items()}, problems)
    elif rule is not None:
        found = _by_templates(infrared, visible, _templates(rule), shared)
    if rule is None and not found.files:
        for name in SCHEMES:
            other = _by_templates(infrared, visible, _templates(name), shared)
            if other.files:
                logger.warning("the images are paired by the scheme %r", name)
                found = other
                break
    found = _apart(found)
    if not found.files:
        raise ValueError(_nothing(infrared, visible, found.problems))
    return found


def stems(folders: Mapping[str, Path]) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Pairs the images of folders by their stem.

    Args:
        folders: Two or more, by what they hold.

    Returns:
        By stem, in order, the image of every folder; and a line for each stem that a folder lacks
        and each image that shares its stem with another one.

    Raises:
        OSError: If a folder cannot be listed.
    """
    problems = set[str]()
    found = dict[str, dict[str, Path]]()
    for key, folder in folders.items():
        for path in images(folder):
            files = found.setdefault(_spelt(path.stem), {})
            if key in files:
                problems.add(f"{path} has the same stem as {files[key]}")
            files.setdefault(key, path)
    for files in found.values():
        one = next(iter(files.values()))
        problems |= {f"{one} has no partner in {folders[key]}" for key in folders.keys() - files}
    complete = {stem: found[stem] for stem in sorted(found) if found[stem].keys() == folders.keys()}
    return complete, sorted(problems)


def images(folder: Path, *, deep: bool = False) -> list[Path]:
    """Returns the image files of a folder by their suffix, sorted; hidden ones are left out.

    Args:
        folder: Where to look.
        deep: Whether to look into its folders too.

    Raises:
        OSError: If the folder cannot be listed.
    """
    every = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in every
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def in_order(folder: Path) -> list[Path]:
    """Returns the image files of a folder, their names sorted as people count: 2 before 10."""
    return sorted(images(folder), key=_as_people_count)


class _Template:
    """One half of a rule: the name of an image with fields in braces."""

    def __init__(self, text: str) -> None:
        parts = re.split(r"\{(\w+)\}", text)
        self.literals, self.fields = parts[::2], parts[1::2]
        if not self.fields or any(sign in literal for literal in self.literals for sign in "{}"):
            raise ValueError(f"expected fields in braces, such as {{stem}}_T, got {text!r}")
        self.said = sum(map(len, self.literals))  # characters that are no field
        self.deep = "/" in text or "path" in self.fields
        self.with_suffix = Path(text).suffix.lower() in SUFFIXES
        seen = set[str]()
        pattern = ""
        for literal, field in zip(self.literals, (*self.fields, None), strict=True):
            pattern += re.escape(literal)
            if field is not None:
                anything = ".+" if field == "path" else "[^/]+"
                pattern += f"(?P={field})" if field in seen else f"(?P<{field}>{anything})"
                seen.add(field)
        self._pattern = re.compile(pattern)

    def fields_of(self, path: Path, folder: Path) -> dict[str, str] | None:
        """Returns what stands for the fields in the name of an image; None if it does not fit."""
        inner = path.relative_to(folder)
        suffix = inner.suffix.lower() if self.with_suffix else ""
        found = self._pattern.fullmatch(_spelt(inner.with_suffix(suffix).as_posix()))
        # The fields make the name of a result, which leads to no other folder.
        if found is None or any(value in (".", "..") for value in found.groupdict().values()):
            return None
        return found.groupdict()


def _templates(rule: str) -> list[tuple[_Template, _Template]]:
    """Returns the infrared and the visible template of a rule, or of each choice of a scheme."""
    found: list[tuple[_Template, _Template]] = []
    for text in SCHEMES.get(rule, (rule,)):
        halves = text.split(",")
        if len(halves) != 2:
            raise ValueError(
                f"expected one of {', '.join(('stem', 'order', *SCHEMES))}, or two templates such "
                f'as "{{stem}}_T,{{stem}}_W", got {rule!r}'
            )
        one, other = (_Template(half) for half in halves)
        if not set(one.fields) & set(other.fields):
            raise ValueError(f"the two templates of {rule!r} have no field in common")
        found.append((one, other))
    return found


def _by_templates(
    infrared: Path, visible: Path, choices: Sequence[tuple[_Template, _Template]], shared: bool
) -> Pairs:
    folders = (infrared, visible)
    every = [
        images(folder, deep=any(choice[side].deep for choice in choices))
        for side, folder in enumerate(folders)
    ]
    files: dict[str, tuple[Path, Path]] = {}
    problems = set[str]()
    names: dict[Path, str] = {}  # of the pairs that images ask to be in
    for templates in choices:
        common = [field for field in templates[0].fields if field in templates[1].fields]
        taken = {path for both in files.values() for path in both}
        halves: list[dict[str, Path]] = []
        for side in (0, 1):
            half: dict[str, Path] = {}
            for path in every[side]:
                if path in taken:
                    continue
                fields = templates[side].fields_of(path, folders[side])
                other = shared and templates[1 - side].fields_of(path, folders[1 - side])
                # Of one folder, x_rgb fits {stem} and {stem}_rgb: the one that says more has it.
                if fields is None or (other and templates[side].said < templates[1 - side].said):
                    continue
                names[path] = name = "/".join(fields[field] for field in common)
                if half.setdefault(name, path) != path:
                    problems.add(f"{path} and {half[name]} are of one pair, {name}")
            halves.append(half)
        for name in halves[0].keys() & halves[1].keys() - files.keys():
            files[name] = (halves[0][name], halves[1][name])
    problems |= {f"{path} has no partner" for path, name in names.items() if name not in files}
    rest = {path for paths in every for path in paths} - names.keys()
    if files and rest:
        logger.warning("%d images are of no pair by their names, such as %s", len(rest), min(rest))
    return Pairs({name: files[name] for name in sorted(files)}, sorted(problems))


def _by_order(infrared: Path, visible: Path) -> Pairs:
    halves = [in_order(folder) for folder in (infrared, visible)]
    if len(halves[0]) != len(halves[1]):
        raise ValueError(
            f"the order pairs as many images as there are partners, got {len(halves[0])} infrared "
            f"and {len(halves[1])} visible ones"
        )
    count = Counter(_spelt(one.stem) for one in halves[0])
    names = [_spelt(one.stem if count[_spelt(one.stem)] == 1 else one.name) for one in halves[0]]
    return Pairs(dict(zip(names, zip(*halves, strict=True), strict=True)), [])


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _as_people_count(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _apart(found: Pairs) -> Pairs:
    """Returns pairs without those of an image and itself, by another name or a link."""
    same = [name for name, both in found.files.items() if _are_one(*both)]
    problems = [f"{found.files[name][0]} is its own partner" for name in same]
    files = {name: both for name, both in found.files.items() if name not in same}
    return Pairs(files, [*found.problems, *problems])


def _are_one(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # a link that leads nowhere, or a file that is gone: who reads it will say so
        return False


def _nothing(infrared: Path, visible: Path, problems: Sequence[str]) -> str:
    some = [images(folder, deep=True) for folder in (infrared, visible)]
    for folder, paths in zip((infrared, visible), some, strict=True):
        if not paths:
            return f"{str(folder)!r} holds no image; known suffixes: {sorted(SUFFIXES)}"
    names = " and ".join(repr(paths[0].name) for paths in some)
    more = f" ({problems[0]})" if problems else ""
    return (
        f"no image in {infrared} has a partner in {visible} by its name, such as {names}{more}: "
        'say what their names are by templates, such as "{stem}_T,{stem}_W"'
    )
