"""The comparison of two pictures whose hashes are near: the same, alike, or different. Blocking.

Hashes of figures before a white wall are near each other, whoever stands there. So the two are laid over each other,
small and in colour, and their edges moved until they fit best: each may be a cut of the other, by up to a tenth.
What remains is weighed against the contrast of the pictures themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from reggen.files import opened
from reggen.images.decode import DECODE_ERRORS, eight_bit, readable_formats

ALIKE = 0.25
"""The largest difference of pictures that look alike, as a part of their own deviation."""
_KEPT_SIDE, _COMPARED_SIDE = 96, 32  # pixels: of the reduced picture, and of a window of it when it is compared
_STEPS = (0.025, 0.01, 0.004)  # how far an edge is moved at a time, as a part of the side
_HOPELESS = (5 * ALIKE, 2 * ALIKE, 1.5 * ALIKE)  # a larger difference before a step is never small enough after it
_LARGEST_CUT = 0.1  # how far an edge is moved in all
_EDGES = ({0}, {1}, {2}, {3}, {0, 1, 2, 3})  # moved together
_MOVES = 8  # with each step, at most

Cut = tuple[float, float, float, float]
"""The parts of the sides that are cut off: left, top, right, bottom."""
_UNCUT: Cut = (0.0, 0.0, 0.0, 0.0)


class Match(StrEnum):
    """The relation of two pictures, as a sentence says it."""

    SAME = "is the same picture as"
    ALIKE = "looks like"
    DIFFERENT = "is another picture than"


def first_match(path: Path, others: Iterable[Path]) -> tuple[Path, Match] | None:
    """The first of the others that is the same picture as the one at ``path``, or looks like it.

    A file that cannot be read matches none.
    """
    picture: Image.Image | None = None
    for other in others:
        picture = picture or _decoded(path)
        candidate = _decoded(other)
        if picture and candidate and (match := _match(picture, candidate)) is not Match.DIFFERENT:
            return other, match
    return None


def _decoded(path: Path) -> Image.Image | None:
    try:
        with opened(path) as file, Image.open(file, formats=readable_formats()) as image:
            return eight_bit(image).convert("RGB")
    except (Image.DecompressionBombError, *DECODE_ERRORS):
        return None


def _match(one: Image.Image, two: Image.Image) -> Match:
    if one.size == two.size and ImageChops.difference(one, two).getbbox() is None:
        return Match.SAME
    return Match.ALIKE if difference(_reduced(one), _reduced(two)) <= ALIKE else Match.DIFFERENT


def _reduced(picture: Image.Image) -> Image.Image:
    if (factor := min(picture.size) // _KEPT_SIDE) > 1:
        picture = picture.reduce(factor)
    return picture.resize((_KEPT_SIDE, _KEPT_SIDE), Image.Resampling.BILINEAR)


def difference(one: Image.Image, two: Image.Image) -> float:
    """The difference of two reduced pictures where they fit best, as a part of their deviation.

    0 for the same picture, about 1.4 for unrelated ones. An even change of brightness does not count. Pictures that
    are far from alike are not fitted to the end.
    """
    cuts: tuple[Cut, Cut] = (_UNCUT, _UNCUT)
    best = _residue(_window(one, _UNCUT), _window(two, _UNCUT))
    for step, hopeless in zip(_STEPS, _HOPELESS, strict=True):
        if best > hopeless:
            break
        for _ in range(_MOVES):
            residue, moved = min(_one_edge_moved(one, two, cuts, step))
            if residue >= best:
                break
            best, cuts = residue, moved
    return best


def _one_edge_moved(
    one: Image.Image, two: Image.Image, cuts: tuple[Cut, Cut], step: float
) -> Iterator[tuple[float, tuple[Cut, Cut]]]:
    """The differences after one edge of one picture was moved inwards or outwards, each with its cuts."""
    first, second = _window(one, cuts[0]), _window(two, cuts[1])
    for cut in _moved(cuts[0], step):
        yield _residue(_window(one, cut), second), (cut, cuts[1])
    for cut in _moved(cuts[1], step):
        yield _residue(first, _window(two, cut)), (cuts[0], cut)


def _moved(cut: Cut, step: float) -> Iterator[Cut]:
    """The cut with one edge moved, or with all four: a picture may fit better only when all have moved."""
    for edges in _EDGES:
        for move in (step, -step):
            left, top, right, bottom = (round(at + move, 6) if number in edges else at for number, at in enumerate(cut))
            if min(left, top, right, bottom) >= 0 and max(left, top, right, bottom) <= _LARGEST_CUT:
                yield left, top, right, bottom


def _residue(one: Image.Image, two: Image.Image) -> float:
    rest = ImageChops.subtract(one, two, scale=2, offset=128)
    return 2 * _deviation(rest) / max(min(_deviation(one), _deviation(two)), 1.0)


def _window(picture: Image.Image, cut: Cut) -> Image.Image:
    left, top, right, bottom = cut
    box = (left * _KEPT_SIDE, top * _KEPT_SIDE, (1 - right) * _KEPT_SIDE, (1 - bottom) * _KEPT_SIDE)
    return picture.resize((_COMPARED_SIDE, _COMPARED_SIDE), Image.Resampling.BOX, box=box)


def _deviation(image: Image.Image) -> float:
    return math.sqrt(sum(ImageStat.Stat(image).var))
