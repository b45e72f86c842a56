"""The page of a run: every pair with its picture, worst first, as HTML that opens from disk."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

STYLE = """
body { background: #18191e; color: #e8eaee; font: 16px/1.5 system-ui, sans-serif; margin: 2em auto;
  max-width: 80em; padding: 0 1em }
h2 { margin: 2em 0 0; overflow-wrap: anywhere }
p { margin: 0.3em 0 }
img { max-width: 100% }
.failed { color: #ff8a80 }
.doubtful { color: #ffd180 }
"""


def pictures(page: Path) -> Path:
    """Returns the folder of a page's pictures, ``NAME.jpg`` of each pair: ``PAGE_files``."""
    return page.with_name(f"{page.stem}_files")


def write(page: Path, rows: Iterable[Mapping[str, str]], min_confidence: float) -> None:
    """Writes the page, completely or not at all.

    Args:
        page: Where to. The pictures that are there are shown, also those of an earlier run.
        rows: What the table of the run says of each pair, by column.
        min_confidence: Below it an alignment was not used.

    Raises:
        OSError: If it cannot be written.
    """
    from umfuse import files

    pairs = sorted(rows, key=_order)
    failed = sum(bool(row["error"]) for row in pairs)
    doubtful = sum(_is_doubtful(row, min_confidence) for row in pairs)
    number = f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}"
    counts = f"{number}, {failed} failed, {doubtful} doubtful"
    sections = "\n".join(_section(row, page, min_confidence) for row in pairs)
    text = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>umfuse: {counts}</title>
<style>{STYLE}</style>
<h1>{counts}</h1>
<p>The worst come first. Where edges go on from square to square of the checkerboards, the images
are aligned; where the certainty is yellow the images themselves confirm it. An alignment of a
confidence below {min_confidence:g} is doubtful and was not used.</p>
{sections}
</html>
"""
    with files.replacing(page) as file:
        file.write(text.encode("utf-8", "replace"))  # names on disk may be no text


def _order(row: Mapping[str, str]) -> tuple[bool, float]:
    """Sorts errors first, then by confidence; pairs without one were not aligned here."""
    return not row["error"], float(row["confidence"] or "inf")


def _is_doubtful(row: Mapping[str, str], min_confidence: float) -> bool:
    return not row["error"] and float(row["confidence"] or "inf") < min_confidence


def _section(row: Mapping[str, str], page: Path, min_confidence: float) -> str:
    name, confidence, method = row["pair"], row["confidence"], row["method"]
    lines = [f"<h2>{html.escape(name)}</h2>"] if name else []
    if row["error"]:
        lines.append(f'<p class="failed">failed: {html.escape(row["error"])}</p>')
    elif _is_doubtful(row, min_confidence):
        lines.append('<p class="doubtful">doubtful: the alignment that was found is not used</p>')
    if confidence:
        meter = f'<meter low="{min_confidence:g}" value="{confidence}"></meter>'
        lines.append(
            f"<p>confidence {float(confidence):.2f} {meter} method {html.escape(method)}</p>"
        )
    elif not row["error"]:
        known = "by an alignment that was given" if method else "as it came"
        lines.append(f"<p>fused {known}</p>")
    picture = pictures(page) / f"{name}.jpg"
    if name and not row["error"] and picture.is_file():
        place = quote(os.fsencode(picture.relative_to(page.parent).as_posix()))
        image = f'<img src="{place}" loading="lazy" alt="{html.escape(name)}: before and after">'
        lines.append(f'<a href="{place}">{image}</a>')
    return "\n".join(["<section>", *lines, "</section>"])
