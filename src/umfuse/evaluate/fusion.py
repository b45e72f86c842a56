"""How good fused images are."""

from __future__ import annotations

from PIL import Image

from umfuse import api, draw, metrics
from umfuse.evaluate.report import Scores
from umfuse.evaluate.scorer import Files, Ranges, by_head, check_size, numbers, shown
from umfuse.images import ImageLike, Picture
from umfuse.pipeline import Umfuse


class FusionScorer:
    """Compares a fused image with ``vis`` and with the infrared image where it belongs, ``ir``.

    Args:
        model: Fuses ``input`` with ``vis``; None takes ``result``.
        align: Whether the model aligns the two before.
        ranges: Of the images.
    """

    rank_by = "VIF"

    def __init__(self, model: Umfuse | None, *, align: bool, ranges: Ranges) -> None:
        self.model, self.align = model, align
        self.ranges = ranges
        self.metrics = by_head(metrics.FUSION)

    def score(self, name: str, files: Files) -> dict[str, Scores]:
        """Returns the scores of the fused image; see `Scorer.score`."""
        infrared, visible, fused = (picture.luma for picture in self._pictures(files))
        return {
            "result": numbers(
                {head: of(fused, infrared, visible) for head, of in metrics.FUSION.items()}
            )
        }

    def draw(self, name: str, files: Files, caption: str) -> Image.Image:
        """Returns the sources and the fused image; see `Scorer.draw`."""
        infrared, visible, fused = (shown(picture) for picture in self._pictures(files))
        panels = [
            ("infrared, aligned", infrared),
            (f"visible: {name}", visible),
            (f"fused, {caption}", fused),
        ]
        if files.get("input", files["ir"]) != files["ir"]:
            panels.insert(1, ("infrared, as it came", shown(self.ranges.infrared(files["input"]))))
        return draw.sheet(panels, columns=2 if len(panels) == 4 else 3)

    def _pictures(self, files: Files) -> tuple[Picture, Picture, Picture]:
        """Returns infrared, visible and fused."""
        infrared, visible = self.ranges.infrared(files["ir"]), self.ranges.visible(files["vis"])
        check_size(visible, infrared, "visible")
        result: ImageLike
        if self.model is None:
            result = files["result"]
        else:
            result = api.fuse(
                files["input"],
                files["vis"],
                align=self.align,
                ir_range=self.ranges.ir,
                vis_range=self.ranges.vis,
                weights=self.model,
            ).image
        fused = self.ranges.visible(result, like=visible)
        check_size(fused, infrared, "fused")
        return infrared, visible, fused
