"""Decoding: formats that are opened, errors of damaged files, eight-bit pixels, the chunks of a PNG. Blocking."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import IO

from PIL import Image

DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, ArithmeticError, struct.error)
"""Errors that Pillow's decoders raise for a damaged file, beside its own DecompressionBombError."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# not Pillow's others: some start a program (EPS), and trainers are given none of them
_OPENED = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JXL", "JPEG2000", "PPM", "TGA", "QOI")


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats that may be opened and that this Pillow knows."""
    Image.init()
    return tuple(name for name in _OPENED if name in Image.OPEN)


def is_16_bit_grey(image: Image.Image) -> bool:
    """True for 16 bits of grey, which Pillow's own conversion cuts off at 255, so that nearly all becomes white."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def eight_bit(image: Image.Image) -> Image.Image:
    """The picture in RGB or in eight bits of grey."""
    if image.mode in {"RGB", "L"}:
        return image
    if is_16_bit_grey(image):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def png_chunks(png: IO[bytes], size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and length of every chunk of a PNG of so many bytes. Raises ValueError where one claims more."""
    if png.read(8) != PNG_SIGNATURE:
        raise ValueError("it does not begin as a PNG")
    position, kind = 8, b""
    while kind != b"IEND" and position + 12 <= size:
        length, kind = struct.unpack(">I4s", png.read(8))
        if position + 12 + length > size:
            name = kind.decode("ascii", "replace")
            raise ValueError(f"its chunk {name!r} claims {length:,} bytes where {size - position - 12:,} are left")
        png.seek(length + 4, 1)
        position += 12 + length
        yield kind, length


def is_whole_png(png: IO[bytes], size: int) -> bool:
    """True for a PNG whose last chunk is its end, with no bytes after it. Raises ValueError as `png_chunks` does."""
    kind, total = b"", 8
    for kind, length in png_chunks(png, size):  # noqa: B007 - the last one counts
        total += 12 + length
    return kind == b"IEND" and total == size and length == 0
