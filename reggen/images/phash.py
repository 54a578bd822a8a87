"""Perceptual hashes: 64 bits of a picture's content, the same for a copy in another size or format. Blocking.

The picture is averaged into 12 x 12 cells, in luminance and two chrominances. Of the cosine transform of each the
lowest frequencies are kept, 32 + 16 + 16 without the constant ones, as one bit each: 1 where the coefficient is
clearly above zero. Higher frequencies would tell more, but they change with every cut edge.

A cut moves all frequencies a little. So a new picture is looked for under eleven hashes: of itself, of five windows
a little smaller, for pictures that were cut out of it, and of five a little larger, its edges drawn out, for pictures
it was cut out of. Only the first is kept. `tests/bench/gates.py` measures recall and false alarms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from reggen.files import opened
from reggen.images.decode import DECODE_ERRORS, eight_bit, readable_formats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS = 12
_BITS = (32, 16, 16)  # of luminance and the two chrominances
_SIDE, _EDGE = 96, 6  # of the reduced picture, in pixels, and how far its edges are drawn out
_CUT = 0.045  # how much smaller the windows are, each way
_CLEARLY = 0.2  # of the root mean square of the coefficients: above it a bit is 1
_SCALE = 1 << 12
_LEAST = 1.5  # grey levels that a coefficient must be worth to be a 1: of less, the coder's noise decides
_CONTRAST = 3.0  # standard deviation of the cells' luminance or colour, below which there is nothing to compare

Box = tuple[float, float, float, float]
"""Left, top, right, bottom of a window, as parts of the picture's sides."""
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def _windows() -> Iterator[Box]:
    """The whole picture, then smaller and larger windows, around the middle and at the corners."""
    yield _WHOLE
    for cut in (_CUT, -_CUT):
        yield cut / 2, cut / 2, 1 - cut / 2, 1 - cut / 2
        yield from ((0, 0, 1 - cut, 1 - cut), (cut, 0, 1, 1 - cut), (0, cut, 1 - cut, 1), (cut, cut, 1, 1))


_WINDOWS = tuple(_windows())
_BIT_ORDER = [place * 23 % 64 for place in range(64)]  # spreads the three bands over the whole hash
_LOWEST_FIRST = sorted(
    ((u, v) for u in range(_CELLS) for v in range(_CELLS) if u or v), key=lambda at: (at[0] ** 2 + at[1] ** 2, at)
)
_KEPT = [tuple(zip(*_LOWEST_FIRST[:count], strict=True)) for count in _BITS]  # frequencies as columns and rows


@cache
def _cosines() -> NDArray[Any]:
    """Frequencies x cells, in whole numbers, so that a hash is the same on every machine."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second, in the thread that needs it and not before the first post

    steps = np.arange(_CELLS)
    angles = np.pi * np.outer(steps, 2 * steps + 1) / (2 * _CELLS)
    cosines: NDArray[Any] = np.rint(_SCALE * np.cos(angles)).astype(np.int64)
    return cosines


def phashes(image: Image.Image) -> tuple[int, ...]:
    """The hashes under which a picture is looked for, its own first; empty where it shows too little to compare."""
    thumbnail = _reduced(image)
    return tuple(_hashes(_padded(thumbnail), _WINDOWS)) if _has_contrast(thumbnail) else ()


def own_phash(image: Image.Image) -> int | None:
    """The picture's own hash, the first of `phashes`, for a fraction of the time; None where it shows too little."""
    thumbnail = _reduced(image)
    return _hashes(_padded(thumbnail), [_WHOLE])[0] if _has_contrast(thumbnail) else None


def file_phash(path: Path) -> int | None:
    """The own hash of an image file; None also where it cannot be read."""
    try:
        with opened(path) as file, Image.open(file, formats=readable_formats()) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded no larger than needed
            return own_phash(image)
    except (Image.DecompressionBombError, *DECODE_ERRORS):
        return None


def _reduced(image: Image.Image) -> Image.Image:
    """The whole picture on 96 x 96 pixels, in luminance and colours."""
    picture = eight_bit(image)
    factor = min(picture.size) // _SIDE
    if factor > 1:
        picture = picture.reduce(factor)
    return picture.convert("YCbCr").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _has_contrast(thumbnail: Image.Image) -> bool:
    return float(_cells(thumbnail, _WHOLE, edge=0).std(axis=(0, 1)).max()) >= _CONTRAST


def _cells(picture: Image.Image, window: Box, edge: int) -> NDArray[Any]:
    """12 x 12 cells x 3 bands of a window of a picture that has so wide an edge around it."""
    import numpy as np  # noqa: PLC0415

    left, top, right, bottom = (edge + part * _SIDE for part in window)
    found = picture.resize((_CELLS, _CELLS), Image.Resampling.BOX, box=(left, top, right, bottom))
    return np.asarray(found, dtype=np.int64)


def _padded(thumbnail: Image.Image) -> Image.Image:
    """The thumbnail with its edges drawn out on all sides."""
    import numpy as np  # noqa: PLC0415

    return Image.fromarray(np.pad(np.asarray(thumbnail), ((_EDGE, _EDGE), (_EDGE, _EDGE), (0, 0)), mode="edge"))


def _hashes(padded: Image.Image, windows: Sequence[Box]) -> list[int]:
    """One hash for each window: the lowest coefficients of the cosine transforms, each as one bit."""
    import numpy as np  # noqa: PLC0415

    cells = np.stack([_cells(padded, window, _EDGE) for window in windows]).transpose(0, 3, 1, 2)
    transforms = _cosines() @ cells @ _cosines().T  # windows x bands x rows x columns
    found = []
    for band, (columns, rows) in enumerate(_KEPT):
        values = transforms[:, band, rows, columns].astype(np.float64)
        level = _CLEARLY * np.sqrt(np.square(values).mean(axis=1))
        found.append(values > np.maximum(level, _LEAST * _SCALE * _SCALE * _CELLS)[:, None])
    bits = np.concatenate(found, axis=1)[:, _BIT_ORDER]
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
