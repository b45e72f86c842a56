"""Image files: opened whole, upright and exactly, written completely or not at all.

Pillow reads and writes them; what it would not read exactly is read here, or by what the extras
`tiff` and `heif` bring, or refused.
"""

from umfuse.files import bands, metadata
from umfuse.files.arrays import Array
from umfuse.files.metadata import NOTHING, Metadata
from umfuse.files.opening import declare_nodata, declared_nodata, existing, open_image, upright
from umfuse.files.refused import ARRAY_ERRORS, DECODE_ERRORS
from umfuse.files.replacing import replacing, write_text
from umfuse.files.saving import FLOAT_SLACK, save

__all__ = [
    "ARRAY_ERRORS",
    "DECODE_ERRORS",
    "FLOAT_SLACK",
    "NOTHING",
    "Array",
    "Metadata",
    "bands",
    "declare_nodata",
    "declared_nodata",
    "existing",
    "metadata",
    "open_image",
    "replacing",
    "save",
    "upright",
    "write_text",
]
