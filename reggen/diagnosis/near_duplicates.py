"""Pictures that look like another, of the set itself or of the training set. Blocking.

A hash raises a suspicion (`likeness`), a closer look at both files confirms it (`compare`), as in the gate for new
pictures (`duplicates`); but each is looked for under its own hash alone, which is made while it is decoded anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reggen.dataset.duplicates import training_phashes
from reggen.images.compare import Match, first_match
from reggen.images.phash_index import CAPACITY, PhashIndex

_BITS = 2
"""How many bits of two suspects' hashes may differ: few, for a closer look takes ten times as long as decoding.

Of copies of the pictures in tests/gallery.py it finds all through JPEG, 97 of 100 a little brighter, 94 at 90 % size,
90 cut by 2 % and 61 cut by 5 %; of 80,000 pairs of strangers it suspects none, where 4 bits suspect 8.
"""


class NearDuplicates:
    """What was seen so far, by hash; of ``count`` pictures to come no more are remembered than `PhashIndex` holds."""

    def __init__(self, training: Sequence[Path], count: int) -> None:
        self._training, self._most = tuple(training), max(1, min(count, CAPACITY))
        self._theirs, self._ours = PhashIndex(_BITS, len(self._training)), PhashIndex(_BITS, self._most)
        self._paths: list[Path] = []
        self._next = 0
        for number, own in training_phashes(self._training, lambda: False):
            self._theirs.add(number, own)

    def seen(self, path: Path, own: int | None) -> tuple[Path, Match] | None:
        """An earlier picture, or a train image, that this one is or looks like; one that is like none is remembered."""
        if own is None:
            return None
        near = [self._training[number] for number in self._theirs.find([own])]
        near += [self._paths[place] for place in self._ours.find([own])]
        found = first_match(path, (other for other in near if other != path)) if near else None
        if found is None:
            self._remember(path, own)
        return found

    def _remember(self, path: Path, own: int) -> None:
        place = self._next % self._most  # where the index, too, has forgotten the oldest
        self._paths[place : place + 1] = [path]
        self._ours.add(place, own)
        self._next += 1
