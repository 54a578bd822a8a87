"""An index of perceptual hashes: which pictures may look like this one? Bounded in memory and time.

Every hash is compared with every other: with 100,000 of them that is a millisecond in all, and nothing is cleverer
than needed.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 100_000  # pictures; the oldest is forgotten first
_CANDIDATES = 4
_FAR = 65  # bits: farther than two hashes can be


class PhashIndex:
    """Numbers of pictures by hash. ``bits``: how many may differ between two that may look alike.

    It takes its memory at once, 26 bytes for each of ``most`` pictures, and never more: what is compared with has
    its place, too. Memory that grew with each picture would lie scattered among what others give back.
    """

    def __init__(self, bits: int, most: int = MOST) -> None:
        import numpy as np  # noqa: PLC0415 - a tenth of a second that no command waits for which compares nothing

        self._bits, self._most, self._seen = bits, max(most, 1), 0
        # filled, not only asked for: the system gives a page when it is written to for the first time
        self._hashes, self._numbers = np.full(self._most, 0, np.uint64), np.full(self._most, -1, np.int64)
        self._differing = np.full(self._most, 0, np.uint64)
        self._bit_counts, self._distances = np.full((2, self._most), 0, np.uint8)

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

        there = len(self)
        known, differing = self._hashes[:there], self._differing[:there]
        counts, distances = self._bit_counts[:there], self._distances[:there]
        distances.fill(_FAR)
        for one in dict.fromkeys(hashes):
            np.bitwise_count(np.bitwise_xor(known, np.uint64(one), out=differing), out=counts)
            np.minimum(distances, counts, out=distances)
        if distances.min(initial=_FAR) > self._bits:  # nearly always
            return []
        near = np.flatnonzero(distances <= self._bits)
        nearest = near[np.argsort(distances[near], kind="stable")][:_CANDIDATES]
        return [int(number) for number in self._numbers[nearest]]
