"""Facts and flaws of an image file, from its header alone or from all of its pixels. Blocking.

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
from typing import IO, NamedTuple

from PIL import ExifTags, Image, ImageStat, UnidentifiedImageError

from reggen.files import opened
from reggen.geometry import Size
from reggen.images.check import BLACK, FLAT
from reggen.images.decode import DECODE_ERRORS, PNG_SIGNATURE, png_chunks, readable_formats
from reggen.images.phash import own_phash

_FORMAT_OF_ENDING = {"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff"}
_SAMPLES = 8  # pixels each way that are looked at first
_PNG_HEADER = PNG_SIGNATURE + b"\x00\x00\x00\rIHDR"


class ImageFlaw(StrEnum):
    """A flaw of an image file, by the kind of finding that reports it."""

    EMPTY = "image-empty"
    UNREADABLE = "image-unreadable"
    TRUNCATED = "image-truncated"
    NO_END = "image-cut"
    TOO_LARGE = "image-vast"
    BLACK = "image-black"
    FLAT = "image-flat"
    WRONG_ENDING = "image-ending"
    ROTATED = "image-turned"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts about an image file. ``size`` is None where its header cannot be read; ``details`` says why.

    ``kohya_size`` is the size that kohya's imagesize 1.4.1 reads: of an extended WebP, such as one with EXIF, a pixel
    less each way (imagesize.py, get: the VP8X canvas is stored minus one, and the one is not added). ``phash`` is the
    perceptual hash, where all pixels were decoded and show enough.
    """

    size: Size | None
    kohya_size: Size | None = None
    format: str = ""
    flaws: tuple[ImageFlaw, ...] = ()
    details: str = ""
    phash: int | None = None


def read_header(path: Path) -> ImageInfo:
    """The facts that the header tells. Never raises: a file that cannot be read has a flaw."""
    try:
        with opened(path) as file:
            return _read_header(file, path)
    except OSError as error:
        return _unreadable(error.strerror or str(error))


def read_pixels(path: Path) -> ImageInfo:
    """The facts that the header and all pixels tell. Never raises: a file that cannot be read has a flaw."""
    try:
        with opened(path) as file:
            content = file.read()
    except OSError as error:
        return _unreadable(error.strerror or str(error))
    header = _read_header(io.BytesIO(content), path)
    if header.size is None or ImageFlaw.TRUNCATED in header.flaws:
        return header
    pixels = _decode(content, header.format)
    details = "; ".join(text for text in (header.details, pixels.details) if text)
    flaws = (*pixels.flaws, *header.flaws)
    return ImageInfo(header.size, header.kohya_size, header.format, flaws, details, pixels.phash)


# ---- the header


def _read_header(file: IO[bytes], path: Path) -> ImageInfo:
    head = file.read(32)
    file.seek(0)
    if not head:
        return ImageInfo(None, flaws=(ImageFlaw.EMPTY,), details="it has no bytes")
    try:
        with Image.open(file, formats=readable_formats()) as image:
            return _header_facts(image, path, head)
    except Image.DecompressionBombError:
        details = "by its header it has more pixels than Pillow decodes"
        return ImageInfo(None, flaws=(ImageFlaw.TOO_LARGE,), details=details)
    except DECODE_ERRORS as error:
        if size := _size_in_head(head):  # kohya takes this size, and fails when it loads the image
            return ImageInfo(size, size, flaws=(ImageFlaw.TRUNCATED,), details="it is cut off before its pixels")
        return _unreadable(_unknown_content(head) if isinstance(error, UnidentifiedImageError) else str(error))


def _header_facts(image: Image.Image, path: Path, head: bytes) -> ImageInfo:
    image_format = (image.format or "").lower()
    ending = path.suffix.lower().removeprefix(".")
    flaws, details = [], ""
    if image_format not in {_FORMAT_OF_ENDING.get(ending, ending), "mpo"}:
        flaws.append(ImageFlaw.WRONG_ENDING)
        details = f"it is {image_format}"
    if _orientation(image) not in {0, 1}:
        flaws.append(ImageFlaw.ROTATED)
    missing = int(head[8:16] == b"WEBPVP8X")
    kohya_size = (image.width - missing, image.height - missing)
    return ImageInfo(image.size, kohya_size, image_format, tuple(flaws), details)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, if the header holds it: Pillow's own getexif decodes a whole PNG to look behind it."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except (TypeError, *DECODE_ERRORS):
        return 1


def _size_in_head(head: bytes) -> Size | None:
    """The size in the first bytes of a PNG or a WebP, as imagesize 1.4.1 reads it."""
    if head.startswith(_PNG_HEADER) and len(head) >= 24:
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


def _unreadable(details: str) -> ImageInfo:
    return ImageInfo(None, flaws=(ImageFlaw.UNREADABLE,), details=details)


def _unknown_content(head: bytes) -> str:
    """The beginning of a file that Pillow does not know; for a JPEG's torn header imagesize has an error of its own."""
    if head.startswith(b"\xff\xd8"):
        return "it is a JPEG that ends within its header, for which kohya has ValueError: Invalid JPEG file"
    return f"it begins with {head[:16].decode('ascii', 'replace')!r}"


# ---- the pixels


class _Pixels(NamedTuple):
    """Flaws of the decoded picture, and its perceptual hash if it shows enough."""

    flaws: tuple[ImageFlaw, ...]
    details: str = ""
    phash: int | None = None


def _decode(content: bytes, image_format: str) -> _Pixels:
    try:
        with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
            image.load()  # and converted as kohya does it, which reads grey in 16 bits as nearly white
            picture = image if image.mode in {"RGB", "L"} else image.convert("RGB")
    except Image.DecompressionBombError:
        return _Pixels((ImageFlaw.TOO_LARGE,), "it has more pixels than Pillow decodes")
    except DECODE_ERRORS as error:
        return _Pixels((ImageFlaw.TRUNCATED,), str(error))
    flaws, phash = [], own_phash(picture)
    if image_format == "png" and not _has_end_chunk(content):
        flaws.append(ImageFlaw.NO_END)
    samples = picture.resize((_SAMPLES, _SAMPLES), Image.Resampling.NEAREST).tobytes()
    if phash is None or max(samples) <= BLACK:  # otherwise it shows something: no need to look at every pixel
        flaws += _blank_flaws(picture)
    return _Pixels(tuple(flaws), phash=phash)


def _has_end_chunk(png: bytes) -> bool:
    try:
        return b"IEND" in png[-64:] and any(kind == b"IEND" for kind, _ in png_chunks(io.BytesIO(png), len(png)))
    except ValueError:
        return False


def _blank_flaws(picture: Image.Image) -> list[ImageFlaw]:
    statistics = ImageStat.Stat(picture)
    if max(high for _, high in statistics.extrema) <= BLACK:
        return [ImageFlaw.BLACK]
    return [ImageFlaw.FLAT] if max(statistics.stddev) < FLAT else []


# ---- other tools of a pass over many files


def content_digest(path: Path) -> bytes | None:
    """A digest of the file's bytes, to find copies; None where it cannot be read."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "blake2b").digest()[:16]
    except OSError:
        return None


def without_pillow_warnings() -> warnings.catch_warnings[None]:
    """A context without Pillow's warnings of large images and odd metadata.

    Hold it around a whole pass over many files: the filters are the whole process's, not a thread's.
    """
    return warnings.catch_warnings(action="ignore")
