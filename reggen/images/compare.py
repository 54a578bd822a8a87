"""A closer look at two pictures whose hashes are near: the same, alike, or two pictures after all. Blocking.

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
from reggen.images.damage import DAMAGE
from reggen.images.decode import formats, plain

_SIDE, _SEEN = 96, 32  # pixels: what is kept of a picture, and what is compared of it
_STEPS = (0.025, 0.01, 0.004)  # how far an edge is moved at a time
_MOST = 0.1  # how far it may be moved in all
_EDGES = ({0}, {1}, {2}, {3}, {0, 1, 2, 3})  # moved together
_MOVES = 8  # with each step, at most
ALIKE = 0.25  # of the pictures' own deviation
_HOPES = (5 * ALIKE, 2 * ALIKE, 1.5 * ALIKE)  # what differs more before a step will not be alike after it

Cut = tuple[float, float, float, float]
_NONE: Cut = (0.0, 0.0, 0.0, 0.0)


class Match(StrEnum):
    """What two pictures are to each other."""

    SAME = "is the same picture as"
    ALIKE = "looks like"
    OTHER = "is another picture than"


def match_of(path: Path, others: Iterable[Path]) -> tuple[Path, Match] | None:
    """The first of the others that is the same picture as the one at ``path``, or looks like it.

    A file that cannot be read is another picture.
    """
    mine: Image.Image | None = None
    for other in others:
        mine = mine or _decoded(path)
        its = _decoded(other)
        if mine and its and (verdict := _judged(mine, its)) is not Match.OTHER:
            return other, verdict
    return None


def _decoded(path: Path) -> Image.Image | None:
    try:
        with opened(path) as file, Image.open(file, formats=formats()) as image:
            return plain(image).convert("RGB")
    except (Image.DecompressionBombError, *DAMAGE):
        return None


def _judged(mine: Image.Image, its: Image.Image) -> Match:
    if mine.size == its.size and ImageChops.difference(mine, its).getbbox() is None:
        return Match.SAME
    return Match.ALIKE if difference(_small(mine), _small(its)) <= ALIKE else Match.OTHER


def _small(picture: Image.Image) -> Image.Image:
    if (factor := min(picture.size) // _SIDE) > 1:
        picture = picture.reduce(factor)
    return picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def difference(mine: Image.Image, its: Image.Image) -> float:
    """What differs when they fit best, as a part of their deviation: 0 for the same, about 1.4 for strangers.

    An even change of brightness is no difference. Those that are far from alike are not fitted to the end.
    """
    cuts: tuple[Cut, Cut] = (_NONE, _NONE)
    best = _unlike(_seen(mine, _NONE), _seen(its, _NONE))
    for step, hope in zip(_STEPS, _HOPES, strict=True):
        if best > hope:
            break
        for _ in range(_MOVES):
            rest, moved = min(_tried(mine, its, cuts, step))
            if rest >= best:
                break
            best, cuts = rest, moved
    return best


def _tried(
    mine: Image.Image, its: Image.Image, cuts: tuple[Cut, Cut], step: float
) -> Iterator[tuple[float, tuple[Cut, Cut]]]:
    """What differs with one edge of one picture moved inwards or outwards."""
    one, two = _seen(mine, cuts[0]), _seen(its, cuts[1])
    for cut in _moved(cuts[0], step):
        yield _unlike(_seen(mine, cut), two), (cut, cuts[1])
    for cut in _moved(cuts[1], step):
        yield _unlike(one, _seen(its, cut)), (cuts[0], cut)


def _moved(cut: Cut, step: float) -> Iterator[Cut]:
    """With one edge moved, or all four: each alone may make matters worse where all of them mend it."""
    for edges in _EDGES:
        for move in (step, -step):
            left, top, right, bottom = (round(at + move, 6) if number in edges else at for number, at in enumerate(cut))
            if min(left, top, right, bottom) >= 0 and max(left, top, right, bottom) <= _MOST:
                yield left, top, right, bottom


def _unlike(one: Image.Image, two: Image.Image) -> float:
    apart = ImageChops.subtract(one, two, scale=2, offset=128)
    return 2 * _spread(apart) / max(min(_spread(one), _spread(two)), 1.0)


def _seen(picture: Image.Image, cut: Cut) -> Image.Image:
    left, top, right, bottom = cut
    box = (left * _SIDE, top * _SIDE, (1 - right) * _SIDE, (1 - bottom) * _SIDE)
    return picture.resize((_SEEN, _SEEN), Image.Resampling.BOX, box=box)


def _spread(image: Image.Image) -> float:
    return math.sqrt(sum(ImageStat.Stat(image).var))
