"""An index of perceptual hashes: the pictures that may look like a given one. Bounded in memory and time.

Every hash is compared with every other: with 100,000 of them that takes a millisecond, and no tree is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

CAPACITY = 100_000  # pictures; the oldest is forgotten first
_CANDIDATES = 4
_FAR = 65  # bits: farther than two hashes can be


class PhashIndex:
    """Numbers of pictures by hash. ``bits``: how many may differ between two that may look alike.

    It takes its memory at once, 26 bytes for each of ``capacity`` pictures, and never more, the space for comparisons
    included. Memory that grew with each picture would fragment the heap.
    """

    def __init__(self, bits: int, capacity: int = CAPACITY) -> None:
        import numpy as np  # noqa: PLC0415 - a tenth of a second that only commands which compare pictures wait for

        self._bits, self._capacity, self._added = bits, max(capacity, 1), 0
        # filled, not only allocated: the system gives a page when it is written to for the first time
        self._hashes, self._numbers = np.full(self._capacity, 0, np.uint64), np.full(self._capacity, -1, np.int64)
        self._differing = np.full(self._capacity, 0, np.uint64)
        self._bit_counts, self._distances = np.full((2, self._capacity), 0, np.uint8)

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(self, number: int, phash: int) -> None:
        """Remember a picture by its own hash; beyond the capacity in place of the oldest."""
        place = self._added % self._capacity
        self._hashes[place], self._numbers[place] = phash, number
        self._added += 1

    def find(self, phashes: Sequence[int]) -> list[int]:
        """The pictures nearest to any of the hashes, the nearest first, the older one of equals; a few at most."""
        import numpy as np  # noqa: PLC0415

        count = len(self)
        hashes, differing = self._hashes[:count], self._differing[:count]
        bit_counts, distances = self._bit_counts[:count], self._distances[:count]
        distances.fill(_FAR)
        for phash in dict.fromkeys(phashes):
            np.bitwise_count(np.bitwise_xor(hashes, np.uint64(phash), out=differing), out=bit_counts)
            np.minimum(distances, bit_counts, out=distances)
        if distances.min(initial=_FAR) > self._bits:  # nearly always
            return []
        near = np.flatnonzero(distances <= self._bits)
        nearest = near[np.argsort(distances[near], kind="stable")][:_CANDIDATES]
        return [int(number) for number in self._numbers[nearest]]
