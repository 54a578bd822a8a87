"""Rehearsal pictures: plainly marked, different for every seed, and readable by a machine.

`paint` draws soft colours that follow from the seed, the word REHEARSAL, the seed and the start of
the prompt. Along the top edge runs a strip of small cells, three bits each, which holds the seed,
the size and a checksum of the prompt: `read_mark` gets them back from the PNG, so that a test can
tell whether the right picture ended up under the right name.
"""

from __future__ import annotations

import colorsys
import io
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from reggen.sim.state.graph import Appearance, PaintedPicture

_FIELDS = (64, 16, 16, 32, 16)  # seed, width, height, prompt checksum, index in the batch
_PAYLOAD_BITS = sum(_FIELDS)
_CELLS = -(-(_PAYLOAD_BITS + 16) // 3)  # 16 bits guard the rest
_DARK, _LIGHT = 48, 232
_SMALLEST_MARKED = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """The content of the strip of cells."""

    seed: int
    width: int
    height: int
    prompt_crc: int
    index: int = 0

    @classmethod
    def of(cls, text: str, seed: int, width: int, height: int, index: int = 0) -> Mark:
        """The mark that `paint` leaves with these arguments."""
        crc = zlib.crc32(text.encode("utf-8", "replace"))
        return cls(seed % 2**64, width % 2**16, height % 2**16, crc, index % 2**16)


def paint(  # wide: everything that a picture shows
    text: str,
    seed: int,
    width: int,
    height: int,
    *,
    index: int = 0,
    color: int | None = None,
    appearance: Appearance = "plain",
    chunks: Mapping[str, str] | None = None,
) -> bytes:
    """Paint a PNG of exactly `width` x `height`; the same bytes for the same arguments.

    `color` (0xRRGGBB) gives a plain surface, as do the appearances "black" and "flat"; like "noise", it has no mark.
    "wrong" paints another picture than the one asked for. `chunks` become PNG text.
    """
    if appearance == "wrong":
        text, seed = f"not {text}", seed ^ 0x5A5A5A5A
    plain = {"black": 0, "flat": 0x7F7F7F}.get(appearance, color)
    if appearance == "noise":
        image = Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))
    elif plain is not None:
        image = Image.new("RGB", (width, height), (plain >> 16 & 255, plain >> 8 & 255, plain & 255))
    else:
        image = _scene(seed, index, width, height)
        _write_words(image, text, seed)
        _write_mark(image, Mark.of(text, seed, width, height, index))
    return _png(image, chunks or {})


@lru_cache(maxsize=32)
def paint_file(picture: PaintedPicture, chunks: tuple[tuple[str, str], ...]) -> bytes:
    """The PNG that shows this picture. The last few are remembered, for clients that fetch ranges."""
    return paint(
        picture.text,
        picture.seed,
        picture.width,
        picture.height,
        index=picture.index,
        color=picture.color,
        appearance=picture.appearance,
        chunks=dict(chunks),
    )


def paint_preview(seed: int, width: int, height: int, share: float) -> bytes:
    """Paint a JPEG of the unfinished picture, scaled to 512 pixels as ComfyUI scales its previews."""
    scale = 512 / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    haze = Image.effect_noise((64, 64), 90).convert("RGB").resize(size)
    buffer = io.BytesIO()
    Image.blend(haze, _scene(seed, 0, *size), min(1.0, share)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def reencode(png: bytes, form: str, quality: int, channel: str) -> bytes:
    """Convert a picture to another format ("webp", "jpeg", "png"), or to its alpha channel; without text chunks."""
    with Image.open(io.BytesIO(png), formats=["PNG", "WEBP", "JPEG"]) as opened:
        image = opened.convert("RGB")
    if channel == "a":
        image = image.convert("RGBA")
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return buffer.getvalue()


def read_mark(png: bytes) -> Mark:
    """Read the mark in a picture that `paint` made. Raises ValueError if there is none, or a damaged one."""
    with Image.open(io.BytesIO(png), formats=["PNG", "WEBP", "JPEG"]) as opened:
        image = opened.convert("RGB")
    if min(image.size) < _SMALLEST_MARKED:
        raise ValueError(f"a picture of {image.size} is too small for a mark")
    bits = [int(value > 128) for cell in _centres(*image.size) for value in _pixel(image, cell)]
    payload = _number(bits[:_PAYLOAD_BITS])
    if _number(bits[_PAYLOAD_BITS : _PAYLOAD_BITS + 16]) != _guard(payload):
        raise ValueError("no mark in this picture")
    fields = []
    for width in reversed(_FIELDS):
        fields.append(payload % 2**width)
        payload >>= width
    return Mark(*reversed(fields))


def _scene(seed: int, index: int, width: int, height: int) -> Image.Image:
    """Soft patches of related hues; brightness varies enough for a perceptual hash to see it."""
    rng = random.Random(f"{seed}/{index}")
    hue = rng.random()
    hues = [hue, hue + 0.08, hue - 0.08, hue + rng.choice([0.33, 0.5])]
    coarse = Image.new("RGB", (7, 7))
    coarse.putdata([_shade(rng.choice(hues), rng.uniform(0.2, 0.7), rng.uniform(0.2, 1.0)) for _ in range(49)])
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _shade(hue: float, saturation: float, value: float) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _write_words(image: Image.Image, text: str, seed: int) -> None:
    width, height = image.size
    if min(width, height) < 48:
        return
    size = max(9, min(width, height) // 16)
    font, draw = _font(size), ImageDraw.Draw(image)
    lines = ("REHEARSAL", f"seed {seed}", text[:60].replace("\n", " "))
    for row, line in enumerate(lines):
        y = height - (len(lines) - row) * (size + size // 4) - size // 4
        draw.text((size // 2 + 1, y + 1), line, fill=(0, 0, 0), font=font)
        draw.text((size // 2, y), line, fill=(255, 255, 255), font=font)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write_mark(image: Image.Image, mark: Mark) -> None:
    if min(image.size) < _SMALLEST_MARKED:
        return
    payload = 0
    values = (mark.seed, mark.width, mark.height, mark.prompt_crc, mark.index)
    for value, width in zip(values, _FIELDS, strict=True):
        payload = payload << width | value
    bits = [int(bit) for bit in f"{payload:0{_PAYLOAD_BITS}b}{_guard(payload):016b}"]
    bits += [0] * (_CELLS * 3 - len(bits))
    cell, draw = _cell(*image.size), ImageDraw.Draw(image)
    for number, (x, y) in enumerate(_centres(*image.size)):
        red, green, blue = (_LIGHT if bit else _DARK for bit in bits[number * 3 : number * 3 + 3])
        left, top = x - cell // 2, y - cell // 2
        draw.rectangle((left, top, left + cell - 1, top + cell - 1), (red, green, blue))


def _cell(width: int, height: int) -> int:
    return max(1, min(width, height) // 64)


def _centres(width: int, height: int) -> list[tuple[int, int]]:
    cell = _cell(width, height)
    across = width // cell
    return [(n % across * cell + cell // 2, n // across * cell + cell // 2) for n in range(_CELLS)]


def _pixel(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    value = image.getpixel(at)
    if not isinstance(value, tuple):
        raise TypeError("an RGB picture was expected")
    return value


def _number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def _guard(payload: int) -> int:
    return zlib.crc32(payload.to_bytes(_PAYLOAD_BITS // 8, "big")) & 0xFFFF


def _png(image: Image.Image, chunks: Mapping[str, str]) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()
