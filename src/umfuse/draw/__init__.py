"""Pictures for people: displacement, certainty, checkerboards, overlays, flicker, sheets, curves.

Images come as NumPy arrays, (H, W) or (H, W, 3), or as PIL images. 8-bit pixels are shown as they
are, floats in [0, 1] too, and everything else (16-bit counts, degrees) is stretched between
percentiles 1 and 99 for display.
"""

from umfuse.draw.certainty import certainty_color
from umfuse.draw.displacement import flow_color
from umfuse.draw.pairs import checkerboard, flicker, overlay
from umfuse.draw.plots import curves
from umfuse.draw.sheets import registration_sheet, sheet
from umfuse.draw.shown import Displayable, png

__all__ = [
    "Displayable",
    "certainty_color",
    "checkerboard",
    "curves",
    "flicker",
    "flow_color",
    "overlay",
    "png",
    "registration_sheet",
    "sheet",
]
