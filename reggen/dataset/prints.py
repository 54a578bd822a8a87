"""Perceptual hashes: 64 bits of what a picture shows, the same for a copy of it in another size or format.

The picture is averaged into 12 x 12 cells, in luminance and two chrominances. Of the cosine transform of each the
lowest frequencies are kept, 32 + 16 + 16 without the constant ones, as one bit each: whether the coefficient is
clearly above nothing. The higher ones would tell more and move with every cut edge.

A cut moves all frequencies a little. So a new picture is looked for under eleven hashes: of itself, of five windows
a little smaller, for pictures that were cut out of it, and of five a little larger, its edges drawn out, for pictures
it was cut out of. Only the first is kept. `tests/bench/gates.py` measures what is found and what is falsely suspected.
Blocking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import add, mul, sub
from pathlib import Path

from PIL import Image

from reggen.dataset.damage import DAMAGE

_CELLS = 12
_HALF = _CELLS // 2
_BITS = (32, 16, 16)  # of luminance and the two chrominances
_SIDE, _EDGE = 96, 6  # of the reduced picture, in pixels, and how far its edges are drawn out
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_CUT = 0.045  # how much smaller the windows are, each way
_CLEARLY = 0.2  # of the root mean square of the coefficients
_SCALE = 1 << 12
_LEAST = 1.5  # grey levels that a coefficient must be worth to be a one: of less, the coder's noise decides
_CONTRAST = 3.0  # standard deviation of the cells' luminance or colour, below which there is nothing to compare

Box = tuple[float, float, float, float]


def _windows() -> Iterator[Box]:
    """The whole, then smaller and larger windows, around the middle and at the corners."""
    yield _WHOLE
    for a in (_CUT, -_CUT):
        yield a / 2, a / 2, 1 - a / 2, 1 - a / 2
        yield from ((0, 0, 1 - a, 1 - a), (a, 0, 1, 1 - a), (0, a, 1 - a, 1), (a, a, 1, 1))


WINDOWS = tuple(_windows())
_MIXED = [place * 23 % 64 for place in range(64)]  # low and high, grey and colour side by side: `likeness` cuts bands
_WAVES = [
    [round(_SCALE * math.cos(math.pi * u * (2 * x + 1) / (2 * _CELLS))) for x in range(_HALF)] for u in range(_CELLS)
]
_ORDER = sorted(
    ((u, v) for u in range(_CELLS) for v in range(_CELLS) if u or v), key=lambda at: (at[0] ** 2 + at[1] ** 2, at)
)


def _kept(count: int) -> tuple[int, list[tuple[int, int]]]:
    """How many frequencies each way are needed for the lowest ``count``, and which these are."""
    lowest = _ORDER[:count]
    return max(max(at) for at in lowest) + 1, lowest


_KEPT = [_kept(count) for count in _BITS]


def prints(image: Image.Image) -> tuple[int, ...]:
    """The hashes under which a picture is looked for, its own first; empty where it shows too little to compare."""
    thumb = reduced(image)
    if not _tells(thumb):
        return ()
    padded = _padded(thumb)
    return tuple(_hash(padded, window) for window in WINDOWS)


def own_print(image: Image.Image) -> int | None:
    """The first of `prints`, for a fraction of the time."""
    thumb = reduced(image)
    return _hash(_padded(thumb), _WHOLE) if _tells(thumb) else None


def print_of(path: Path) -> int | None:
    """The same of a file; None also where it cannot be read."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded no larger than needed
            return own_print(image)
    except (Image.DecompressionBombError, *DAMAGE):
        return None


def reduced(image: Image.Image) -> Image.Image:
    """The whole picture on 96 x 96 pixels, in luminance and colours."""
    picture = image if image.mode in {"RGB", "L"} else image.convert("RGB")
    factor = min(picture.size) // _SIDE
    if factor > 1:
        picture = picture.reduce(factor)
    return picture.convert("YCbCr").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _tells(thumb: Image.Image) -> bool:
    data = thumb.resize((_CELLS, _CELLS), Image.Resampling.BOX).tobytes()
    return max(_deviation(data[band::3]) for band in range(3)) >= _CONTRAST


def _deviation(values: bytes) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum(map(mul, values, values)) / len(values) - mean * mean)


def _padded(thumb: Image.Image) -> Image.Image:
    """With its edges drawn out on all sides."""
    last = _SIDE - 1
    middle = Image.new(thumb.mode, (_SIDE + 2 * _EDGE, _SIDE))
    middle.paste(thumb, (_EDGE, 0))
    middle.paste(thumb.crop((0, 0, 1, _SIDE)).resize((_EDGE, _SIDE)), (0, 0))
    middle.paste(thumb.crop((last, 0, _SIDE, _SIDE)).resize((_EDGE, _SIDE)), (_EDGE + _SIDE, 0))
    padded = Image.new(thumb.mode, (middle.width, _SIDE + 2 * _EDGE))
    padded.paste(middle, (0, _EDGE))
    padded.paste(middle.crop((0, 0, middle.width, 1)).resize((middle.width, _EDGE)), (0, 0))
    padded.paste(middle.crop((0, last, middle.width, _SIDE)).resize((middle.width, _EDGE)), (0, _EDGE + _SIDE))
    return padded


def _hash(padded: Image.Image, window: Box) -> int:
    left, top, right, bottom = (_EDGE + part * _SIDE for part in window)
    cells = padded.resize((_CELLS, _CELLS), Image.Resampling.BOX, box=(left, top, right, bottom)).tobytes()
    found: list[bool] = []
    for band, (frequencies, lowest) in enumerate(_KEPT):
        waves = _transformed(_rows(cells[band::3]), frequencies)
        values = [waves[v][u] for u, v in lowest]
        level = _CLEARLY * math.sqrt(sum(map(mul, values, values)) / len(values))
        level = max(level, _LEAST * _SCALE * _SCALE * _CELLS)
        found += [value > level for value in values]
    return sum(found[number] << place for place, number in enumerate(_MIXED))


def _rows(values: bytes) -> list[bytes]:
    return [values[start : start + _CELLS] for start in range(0, len(values), _CELLS)]


def _transformed(rows: Sequence[Sequence[int]], frequencies: int) -> list[tuple[int, ...]]:
    """The lowest coefficients of the two-dimensional cosine transform, by row and column frequency."""
    return _waves(_waves(rows, frequencies), frequencies)


def _waves(rows: Sequence[Sequence[int]], frequencies: int) -> list[tuple[int, ...]]:
    """Every row transformed; turned, so that doing it twice transforms both ways and turns it back.

    Cosines are even or odd about the middle of a row: half the products suffice.
    """
    found = []
    for row in rows:
        near, far = row[:_HALF], row[: _HALF - 1 : -1]
        halves = (list(map(add, near, far)), list(map(sub, near, far)))
        found.append([sum(map(mul, _WAVES[u], halves[u & 1])) for u in range(frequencies)])
    return list(zip(*found, strict=True))
