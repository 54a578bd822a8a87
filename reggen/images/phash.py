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

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from reggen.files import opened
from reggen.images.damage import DAMAGE
from reggen.images.decode import formats, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS = 12
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
_MIXED = [place * 23 % 64 for place in range(64)]
_ORDER = sorted(
    ((u, v) for u in range(_CELLS) for v in range(_CELLS) if u or v), key=lambda at: (at[0] ** 2 + at[1] ** 2, at)
)


_KEPT = [tuple(zip(*_ORDER[:count], strict=True)) for count in _BITS]  # the lowest, as columns and rows


@cache
def _waves() -> NDArray[Any]:
    """Frequencies x cells, in whole numbers, so that a hash is the same on every machine."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second, in the thread that needs it and not before the first post

    steps = np.arange(_CELLS)
    waves: NDArray[Any] = np.rint(_SCALE * np.cos(np.pi * np.outer(steps, 2 * steps + 1) / (2 * _CELLS))).astype(
        np.int64
    )
    return waves


def phashes(image: Image.Image) -> tuple[int, ...]:
    """The hashes under which a picture is looked for, its own first; empty where it shows too little to compare."""
    thumb = reduced(image)
    if not _tells(thumb):
        return ()
    return tuple(_hashes(_padded(thumb), WINDOWS))


def own_phash(image: Image.Image) -> int | None:
    """The first of `phashes`, for a fraction of the time."""
    thumb = reduced(image)
    return _hashes(_padded(thumb), [_WHOLE])[0] if _tells(thumb) else None


def phash_of(path: Path) -> int | None:
    """The same of a file; None also where it cannot be read."""
    try:
        with opened(path) as file, Image.open(file, formats=formats()) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded no larger than needed
            return own_phash(image)
    except (Image.DecompressionBombError, *DAMAGE):
        return None


def reduced(image: Image.Image) -> Image.Image:
    """The whole picture on 96 x 96 pixels, in luminance and colours."""
    picture = plain(image)
    factor = min(picture.size) // _SIDE
    if factor > 1:
        picture = picture.reduce(factor)
    return picture.convert("YCbCr").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _tells(thumb: Image.Image) -> bool:
    return float(_cells(thumb, _WHOLE, edge=0).std(axis=(0, 1)).max()) >= _CONTRAST


def _cells(picture: Image.Image, window: Box, edge: int) -> NDArray[Any]:
    """12 x 12 cells x 3 bands of a window of a picture that has so wide an edge around it."""
    import numpy as np  # noqa: PLC0415

    left, top, right, bottom = (edge + part * _SIDE for part in window)
    found = picture.resize((_CELLS, _CELLS), Image.Resampling.BOX, box=(left, top, right, bottom))
    return np.asarray(found, dtype=np.int64)


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


def _hashes(padded: Image.Image, windows: Sequence[Box]) -> list[int]:
    """One for each window: the lowest coefficients of the cosine transforms, each as one bit."""
    import numpy as np  # noqa: PLC0415

    cells = np.stack([_cells(padded, window, _EDGE) for window in windows]).transpose(0, 3, 1, 2)
    waves = _waves() @ cells @ _waves().T  # windows x bands x rows x columns
    found = []
    for band, (columns, rows) in enumerate(_KEPT):
        values = waves[:, band, rows, columns].astype(np.float64)
        level = _CLEARLY * np.sqrt(np.square(values).mean(axis=1))
        found.append(values > np.maximum(level, _LEAST * _SCALE * _SCALE * _CELLS)[:, None])
    bits = np.concatenate(found, axis=1)[:, _MIXED]
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
