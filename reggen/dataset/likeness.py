"""An index of perceptual hashes: which pictures may look like this one? Bounded in memory and time.

Every hash is compared with every other: with 100,000 of them that is a millisecond in all, and nothing is cleverer
than needed.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 100_000  # pictures; the oldest is forgotten first
_CANDIDATES = 4
_FAR = 65  # bits: farther than two hashes can be


class Likeness:
    """Numbers of pictures by hash. ``bits``: how many may differ between two that may look alike.

    It takes its memory at once, 16 bytes for each of ``most`` pictures, and never more.
    """

    def __init__(self, bits: int, most: int = MOST) -> None:
        import numpy as np  # noqa: PLC0415 - a tenth of a second that no command waits for which compares nothing

        self._bits, self._most, self._seen = bits, max(most, 1), 0
        self._hashes, self._numbers = np.zeros(self._most, np.uint64), np.zeros(self._most, np.int64)

    def __len__(self) -> int:
        return min(self._seen, self._most)

    def add(self, number: int, own: int) -> None:
        """Remember a picture by its own hash; beyond ``most`` in the place of the oldest."""
        place = self._seen % self._most
        self._hashes[place], self._numbers[place] = own, number
        self._seen += 1

    def find(self, hashes: Sequence[int]) -> list[int]:
        """The pictures nearest to any of the hashes, the nearest first, the older one of equals; a few at most."""
        import numpy as np  # noqa: PLC0415

        known = self._hashes[: len(self)]
        distances = np.full(len(known), _FAR, np.uint8)
        for one in dict.fromkeys(hashes):
            np.minimum(distances, np.bitwise_count(known ^ np.uint64(one)), out=distances)
        near = np.flatnonzero(distances <= self._bits)
        nearest = near[np.argsort(distances[near], kind="stable")][:_CANDIDATES]
        return [int(number) for number in self._numbers[nearest]]
