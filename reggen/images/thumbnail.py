"""Small copies of pictures: for people to look at, and as a few grey cells for counting layouts. Blocking."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from reggen.files import opened
from reggen.images.decode import DECODE_ERRORS, eight_bit, readable_formats

if TYPE_CHECKING:
    import numpy as np

SIDE = 128
"""The longest side of a thumbnail, in pixels."""
_CELLS = 16
_QUALITY = 72
_ALIKE = 512  # pictures of which every pair is compared


def thumbnail(file: Path, side: int = SIDE) -> bytes | None:
    """A JPEG of a picture with this longest side; None for a file that is not a whole picture."""
    try:
        with opened(file) as stream, Image.open(stream, formats=readable_formats()) as image:
            image.draft("RGB", (2 * side, 2 * side))
            small = eight_bit(image).convert("RGB")
            small.thumbnail((side, side))
            made = io.BytesIO()
            small.save(made, "JPEG", quality=_QUALITY)
            return made.getvalue()
    except (*DECODE_ERRORS, Image.DecompressionBombError):
        return None


def contact_sheet(thumbnails: Sequence[bytes], columns: int = 12, side: int = SIDE) -> bytes:
    """One JPEG with all thumbnails in rows."""
    rows = -(-len(thumbnails) // columns) or 1
    sheet = Image.new("RGB", (columns * side, rows * side), "#181818")
    for number, data in enumerate(thumbnails):
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            left = number % columns * side + (side - image.width) // 2
            sheet.paste(image, (left, number // columns * side + (side - image.height) // 2))
    made = io.BytesIO()
    sheet.save(made, "JPEG", quality=80)
    return made.getvalue()


def layout_of(data: bytes) -> np.ndarray:
    """The layout of a thumbnail: 256 grey cells with mean 0 and length 1, or all 0 for one plain colour."""
    import numpy as np  # noqa: PLC0415 - loaded by those who need it

    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        cells = np.asarray(image.convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX), dtype=float).ravel()
    cells -= cells.mean()
    length = float(np.linalg.norm(cells))
    return cells / length if length > 1.0 else np.zeros_like(cells)


def effective_number(layouts: Sequence[np.ndarray]) -> float:
    """The number of different layouts that a set is worth: its Vendi score, from 1 to the number of pictures.

    The exponential of the entropy of the eigenvalues of the similarity matrix (Friedman and Dieng, 2022), which are
    those of the 256 x 256 matrix of the cells. Similarity is the cosine.
    """
    import numpy as np  # noqa: PLC0415

    told = [one for one in layouts if one.any()]
    plain = len(layouts) - len(told)  # all plain pictures are one layout
    if not told:
        return 1.0 if layouts else 0.0
    matrix = np.stack(told)
    values = np.linalg.eigvalsh(matrix.T @ matrix / len(layouts))
    values = np.append(values[values > 1e-12], [plain / len(layouts)] if plain else [])
    return float(np.exp(-np.sum(values * np.log(values))))


def most_alike(layouts: Sequence[np.ndarray], most: int) -> list[tuple[int, int, float]]:
    """The pairs with the most similar layouts, as two positions and a cosine; of the first few hundred pictures."""
    import numpy as np  # noqa: PLC0415

    if len(layouts) < 2:
        return []
    matrix = np.stack(layouts[:_ALIKE])
    alike = np.triu(matrix @ matrix.T, k=1)
    order = np.argsort(alike, axis=None)[::-1][:most]
    pairs = [np.unravel_index(int(position), alike.shape) for position in order]
    return [(int(one), int(other), float(alike[one, other])) for one, other in pairs if alike[one, other] > 0]
