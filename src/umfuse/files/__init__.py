"""Image files: opened whole and upright, written completely or not at all.

Pillow reads and writes them; tifffile, if it is installed, the TIFFs that Pillow cannot.
"""

from umfuse.files.opening import declare_nodata, declared_nodata, open_image, upright
from umfuse.files.replacing import replacing
from umfuse.files.saving import FLOAT_SLACK, save
from umfuse.files.tiff import Array

__all__ = [
    "FLOAT_SLACK",
    "Array",
    "declare_nodata",
    "declared_nodata",
    "open_image",
    "replacing",
    "save",
    "upright",
]
