"""What an image file is, found as far as it is needed: by its header, or decoded whole. Blocking.

Pillow releases the interpreter while it decodes, so threads decode on all cores.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageStat, UnidentifiedImageError

from reggen.files import opened
from reggen.geometry import Size
from reggen.images.check import BLACK, FLAT
from reggen.images.damage import DAMAGE
from reggen.images.decode import chunks, formats
from reggen.images.phash import own_phash

_NAMES = {"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff"}
_SPOTS = 8  # each way, at which a picture is looked at first
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


class ImageFlaw(StrEnum):
    """What can be wrong with an image file."""

    EMPTY = "image-empty"
    ALIEN = "image-unreadable"
    TORN = "image-truncated"
    CUT = "image-cut"
    VAST = "image-vast"
    BLACK = "image-black"
    FLAT = "image-flat"
    ENDING = "image-ending"
    TURNED = "image-turned"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image file. ``size`` is None where its header cannot be read; ``details`` says what was found instead.

    ``seen`` is the size that kohya's imagesize 1.4.1 reads: of an extended WebP, such as one with EXIF, a pixel
    less each way (imagesize.py, get: the VP8X canvas is stored minus one, and the one is not added). ``own`` is the
    perceptual hash of one that was decoded and shows enough.
    """

    size: Size | None
    seen: Size | None = None
    kind: str = ""
    flaws: tuple[ImageFlaw, ...] = ()
    details: str = ""
    own: int | None = None


def glance(path: Path) -> ImageInfo:
    """Read the header only. Never raises: what cannot be read has a flaw."""
    try:
        with opened(path) as file:
            return _glance(file, path)
    except OSError as error:
        return ImageInfo(None, flaws=(ImageFlaw.ALIEN,), details=error.strerror or str(error))


def _glance(file: IO[bytes], path: Path) -> ImageInfo:
    head = file.read(32)
    file.seek(0)
    if not head:
        return ImageInfo(None, flaws=(ImageFlaw.EMPTY,), details="it has no bytes")
    try:
        with Image.open(file, formats=formats()) as image:
            return _described(image, path, head)
    except Image.DecompressionBombError:
        return ImageInfo(None, flaws=(ImageFlaw.VAST,), details="it says it has more pixels than Pillow decodes")
    except DAMAGE as error:
        if size := _claimed(head):  # kohya takes this size, and fails when it loads the image
            return ImageInfo(size, size, flaws=(ImageFlaw.TORN,), details="it is cut off before its pixels")
        unknown = isinstance(error, UnidentifiedImageError)
        return ImageInfo(None, flaws=(ImageFlaw.ALIEN,), details=_alien(head) if unknown else str(error))


def _claimed(head: bytes) -> Size | None:
    """The size that the first bytes of a PNG or a WebP claim, as imagesize 1.4.1 reads it."""
    if head.startswith(_PNG) and len(head) >= 24:
        return struct.unpack(">2L", head[16:24])
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8 ":
            return struct.unpack("<2H", head[26:30])
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little"), int.from_bytes(head[27:30], "little")
    return None


def _alien(head: bytes) -> str:
    """What a file is that Pillow does not know; of a JPEG's torn header imagesize has an error of its own."""
    if head.startswith(b"\xff\xd8"):
        return "it is a JPEG that ends within its header, for which kohya has ValueError: Invalid JPEG file"
    return f"it begins with {head[:16].decode('ascii', 'replace')!r}"


def _described(image: Image.Image, path: Path, head: bytes) -> ImageInfo:
    kind = (image.format or "").lower()
    ending = path.suffix.lower().removeprefix(".")
    flaws = [ImageFlaw.ENDING] if kind not in {_NAMES.get(ending, ending), "mpo"} else []
    if _orientation(image) not in {0, 1}:
        flaws.append(ImageFlaw.TURNED)
    short = int(head[8:16] == b"WEBPVP8X")
    seen = (image.width - short, image.height - short)
    return ImageInfo(image.size, seen, kind, tuple(flaws), f"it is {kind}" if ImageFlaw.ENDING in flaws else "")


def _orientation(image: Image.Image) -> int:
    """From EXIF as far as the header holds it: Pillow's own getexif decodes a whole PNG to look behind it."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except (TypeError, *DAMAGE):
        return 1


def look(path: Path) -> ImageInfo:
    """Decode the whole image and judge what is on it. Never raises."""
    try:
        with opened(path) as file:
            content = file.read()
    except OSError as error:
        return ImageInfo(None, flaws=(ImageFlaw.ALIEN,), details=error.strerror or str(error))
    picture = _glance(io.BytesIO(content), path)
    if picture.size is None or ImageFlaw.TORN in picture.flaws:
        return picture
    flaws, details, own = _judged(content, picture.kind)
    said = "; ".join(words for words in (picture.details, details) if words)
    return ImageInfo(picture.size, picture.seen, picture.kind, (*flaws, *picture.flaws), said, own)


def _judged(content: bytes, kind: str) -> tuple[tuple[ImageFlaw, ...], str, int | None]:
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            image.load()  # and converted as kohya does it, which reads grey in 16 bits as nearly white
            drawn = image if image.mode in {"RGB", "L"} else image.convert("RGB")
    except Image.DecompressionBombError:
        return (ImageFlaw.VAST,), "it has more pixels than Pillow decodes", None
    except DAMAGE as error:
        return (ImageFlaw.TORN,), str(error), None
    flaws, own = [ImageFlaw.CUT] if kind == "png" and not _ends(content) else [], own_phash(drawn)
    spots = drawn.resize((_SPOTS, _SPOTS), Image.Resampling.NEAREST).tobytes()
    if own is None or max(spots) <= BLACK:
        flaws += _bare(drawn)  # otherwise it shows something, and there is no need to look at every pixel
    return tuple(flaws), "", own


def _ends(png: bytes) -> bool:
    try:
        return b"IEND" in png[-64:] and any(kind == b"IEND" for kind, _ in chunks(io.BytesIO(png), len(png)))
    except ValueError:
        return False


def _bare(drawn: Image.Image) -> list[ImageFlaw]:
    statistics = ImageStat.Stat(drawn)
    if max(high for _, high in statistics.extrema) <= BLACK:
        return [ImageFlaw.BLACK]
    return [ImageFlaw.FLAT] if max(statistics.stddev) < FLAT else []


def digest(path: Path) -> bytes | None:
    """A fingerprint of the file's bytes, to find copies; None where it cannot be read."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "blake2b").digest()[:16]
    except OSError:
        return None


def quietly() -> warnings.catch_warnings[None]:
    """Without Pillow's warnings of large images and odd metadata.

    Hold it around a whole pass over many files: the filters are the whole process's, not a thread's.
    """
    return warnings.catch_warnings(action="ignore")
