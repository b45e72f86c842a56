"""How good fused images are."""

from __future__ import annotations

from PIL import Image

from umfuse import api, draw, metrics
from umfuse.evaluate.report import Scores
from umfuse.evaluate.task import Files, by_head, check_size, numbers, read, shown
from umfuse.images import ImageLike, Picture, Range
from umfuse.pipeline import Umfuse


class Fusion:
    """Compares a fused image with ``vis`` and with the infrared image where it belongs, ``ir``.

    Args:
        model: Fuses ``input`` with ``vis``; None takes ``result``.
        register: Whether the model aligns the two before.
        range: Of infrared values, as in `umfuse.fuse`.
    """

    rank_by = "VIF"

    def __init__(self, model: Umfuse | None, *, register: bool, range: Range | None) -> None:
        self.model, self.register = model, register
        self.range: Range | None = range
        self.metrics = by_head(metrics.FUSION)

    def score(self, name: str, files: Files) -> dict[str, Scores]:
        """Returns the scores of the fused image; see `Task.score`."""
        infrared, visible, fused = (picture.luma for picture in self._pictures(files))
        return {
            "result": numbers(
                {head: of(fused, infrared, visible) for head, of in metrics.FUSION.items()}
            )
        }

    def draw(self, name: str, files: Files, caption: str) -> Image.Image:
        """Returns the sources and the fused image; see `Task.draw`."""
        infrared, visible, fused = (shown(picture) for picture in self._pictures(files))
        panels = [
            ("infrared, aligned", infrared),
            (f"visible: {name}", visible),
            (f"fused, {caption}", fused),
        ]
        if files.get("input", files["ir"]) != files["ir"]:
            panels.insert(1, ("infrared, as it came", shown(read(files["input"], self.range))))
        return draw.sheet(panels, columns=2 if len(panels) == 4 else 3)

    def _pictures(self, files: Files) -> tuple[Picture, Picture, Picture]:
        """Returns infrared, visible and fused."""
        infrared, visible = read(files["ir"], self.range), read(files["vis"])
        check_size(visible, infrared, "visible")
        result: ImageLike
        if self.model is None:
            result = files["result"]
        else:
            result = api.fuse(
                files["input"],
                files["vis"],
                registration=self.register,
                range=self.range,
                weights=self.model,
            ).image
        fused = read(result, like=visible)
        check_size(fused, infrared, "fused")
        return infrared, visible, fused
