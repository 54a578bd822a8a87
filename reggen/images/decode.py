"""Which files are decoded at all, and their pixels in eight bits. Blocking."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import IO

from PIL import Image

# not Pillow's others: some start a program (EPS), and none is what a trainer is given
_READ = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JXL", "JPEG2000", "PPM", "TGA", "QOI")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@cache
def formats() -> tuple[str, ...]:
    """The formats that may be opened, as far as this Pillow knows them."""
    Image.init()
    return tuple(name for name in _READ if name in Image.OPEN)


def is_deep(image: Image.Image) -> bool:
    """Whether it is grey in 16 bits. Pillow's own conversion cuts these off at 255, so that nearly all is white."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def plain(image: Image.Image) -> Image.Image:
    """The picture in RGB or in eight bits of grey."""
    if image.mode in {"RGB", "L"}:
        return image
    if is_deep(image):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def chunks(png: IO[bytes], size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and length of every chunk of a PNG of so many bytes. Raises ValueError where one claims more."""
    if png.read(8) != _SIGNATURE:
        raise ValueError("it does not begin as a PNG")
    at, kind = 8, b""
    while kind != b"IEND" and at + 12 <= size:
        length, kind = struct.unpack(">I4s", png.read(8))
        if at + 12 + length > size:
            name = kind.decode("ascii", "replace")
            raise ValueError(f"its chunk {name!r} claims {length:,} bytes where {size - at - 12:,} are left")
        png.seek(length + 4, 1)
        at += 12 + length
        yield kind, length


def is_whole(png: IO[bytes], size: int) -> bool:
    """Whether a PNG ends with its end, and nothing behind. Raises ValueError as `chunks` does."""
    kind, total = b"", 8
    for kind, length in chunks(png, size):  # noqa: B007 - the last one counts
        total += 12 + length
    return kind == b"IEND" and total == size and length == 0
