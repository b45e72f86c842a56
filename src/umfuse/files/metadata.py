"""What image files say beside their pixels: the meaning of the colours, when and where."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from PIL import ExifTags, Image

from umfuse.files.refused import DECODE_ERRORS

logger = logging.getLogger(__name__)

_EXIF, _ICC = "exif", "icc_profile"  # keys in `info` of PIL's images
_SPACES = {b"GRAY": (1, 2), b"RGB ": (3, 4)}  # of ICC profiles, and channels that they are for
_PLACES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_SPACE = slice(16, 20)  # where a profile names its own

# Of EXIF is kept what stays true of pixels that are turned upright and fused.
_KEPT = {
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    *(ExifTags.Base.Copyright, ExifTags.Base.XPTitle, ExifTags.Base.XPComment),
    *(ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords, ExifTags.Base.XPSubject),
}
_DROPPED = {
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight),  # of the image as stored
    *(ExifTags.Base.MakerNote, ExifTags.Base.ExifInteroperabilityOffset),  # hold places in the file
}


class Metadata(NamedTuple):
    """What an image says beside its pixels.

    Attributes:
        icc: The ICC profile of its colours.
        exif: EXIF as PIL's ``Exif.tobytes`` has it, without orientation and sizes.
    """

    icc: bytes | None = None
    exif: bytes | None = None

    def fitting(self, channels: int) -> Metadata:
        """Returns what of it is true of an image of 1 to 4 channels: a profile is for grey or RGB.

        Args:
            channels: Their number, alpha included.
        """
        fits = self.icc is not None and channels in _SPACES.get(self.icc[_SPACE], ())
        return self._replace(icc=self.icc if fits else None)

    def put(self, image: Image.Image) -> None:
        """Writes it into the ``info`` of an image, where PIL and `carried` find it."""
        found = {_ICC: self.icc, _EXIF: self.exif}
        image.info.update({name: said for name, said in found.items() if said})


NOTHING = Metadata()


def carried(image: Image.Image) -> Metadata:
    """Returns what a PIL image has in its ``info``, as it is."""
    return Metadata(image.info.get(_ICC), image.info.get(_EXIF))


def of(image: Image.Image) -> Metadata:
    """Returns what the file of a PIL image says, for its pixels turned upright."""
    return _kept(image.info.get(_ICC), image.getexif)


def of_tiff(path: Path) -> Metadata:
    """Returns the same of the first page of a TIFF that PIL does not open, unless it is BigTIFF."""
    with path.open("rb") as file:
        found = Image.Exif()
        try:
            found.load_from_fp(file)
            return _kept(found.get(ExifTags.Base.InterColorProfile), lambda: found)
        except DECODE_ERRORS:
            return NOTHING


def stored(info: dict[str, Any]) -> Metadata:
    """Returns the same of what another library has found: ``exif`` and ``icc_profile``, bytes."""

    def parsed() -> Image.Exif:
        found = Image.Exif()
        found.load(info.get(_EXIF) or b"")
        return found

    return _kept(info.get(_ICC), parsed)


def _kept(icc: bytes | None, parsed: Callable[[], Image.Exif]) -> Metadata:
    exif = Image.Exif()
    try:
        found = parsed()
        for tag in _KEPT.intersection(found):
            exif[tag] = found[tag]
        for place in _PLACES:
            inner = found.get_ifd(place)
            exif.get_ifd(place).update({tag: inner[tag] for tag in inner if tag not in _DROPPED})
        told = len(exif) or any(exif.get_ifd(place) for place in _PLACES)
        return Metadata(icc or None, exif.tobytes() if told else None)
    except DECODE_ERRORS as error:
        logger.info("EXIF that cannot be read is not kept (%s)", error)
        return Metadata(icc or None)


def to_rgb(image: Image.Image, said: Metadata, name: str) -> tuple[Image.Image, Metadata]:
    """Returns a CMYK image as sRGB by its profile, or as PIL does it without one.

    Args:
        image: In the mode CMYK.
        said: What its file says.
        name: What to call the image in the log.
    """
    plain = said._replace(icc=None)
    if said.icc is None:
        return image.convert("RGB"), plain
    try:
        from PIL import ImageCms
    except ImportError:  # an own build of Pillow
        logger.warning("%s: this Pillow knows nothing of ICC profiles, its own is dropped", name)
        return image.convert("RGB"), plain
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(said.icc))
        srgb = cast("ImageCms.ImageCmsProfile", ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("%s: its ICC profile cannot be used and is dropped (%s)", name, error)
        return image.convert("RGB"), plain
    assert converted is not None
    logger.info("%s: CMYK is converted to sRGB by its ICC profile", name)
    return converted, plain
