"""An index of perceptual hashes: which pictures may look like this one? Pure, bounded in memory and time.

Two hashes that differ in few bits agree whole in at least one of a few bands (the pigeonhole principle), so only
pictures that share a band with a query are compared. Beyond `_MOST_BANDS` that no longer helps and all are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

MOST = 100_000  # pictures; the oldest is forgotten first
_CANDIDATES = 4
_FEWEST_BANDS, _MOST_BANDS = 7, 11
_LOOKS = 2_000  # pictures of one chain, the newest first: where all are alike it would be all of them
_WIDTH = 64


class _Band:
    """Some of the bits: the places whose hashes have the same ones, as chains from the newest to the oldest."""

    def __init__(self, low: int, high: int, most: int) -> None:
        self._low, self._mask = low, (1 << high - low) - 1
        self._heads, self._older = array("i", [-1]) * (self._mask + 1), array("i", [-1]) * most

    def part(self, one: int) -> int:
        """The bits of a hash that are this band's."""
        return one >> self._low & self._mask

    def places(self, part: int) -> Iterator[int]:
        """The places with these bits."""
        place = self._heads[part]
        while place >= 0:
            yield place
            place = self._older[place]

    def add(self, place: int, one: int) -> None:
        """A new place."""
        part = self.part(one)
        self._older[place], self._heads[part] = self._heads[part], place

    def forget(self, place: int, one: int) -> None:
        """A place that is about to be used again."""
        part = self.part(one)
        if self._heads[part] == place:
            self._heads[part] = self._older[place]
            return
        newer = next(other for other in self.places(part) if self._older[other] == place)
        self._older[newer] = self._older[place]


class Likeness:
    """Numbers of pictures by hash. ``bits``: how many may differ between two that may look alike.

    It takes its memory at once, 44 bytes for each of ``most`` pictures, and never more.
    """

    def __init__(self, bits: int, most: int = MOST) -> None:
        self._bits, self._most, self._seen = bits, max(most, 1), 0
        self._hashes, self._numbers = array("Q", [1]) * self._most, array("q", [-1]) * self._most
        count = max(bits + 1, _FEWEST_BANDS)
        edges = [_WIDTH * n // count for n in range(count + 1)] if count <= _MOST_BANDS else []
        self._bands = [_Band(low, high, self._most) for low, high in pairwise(edges)]

    def __len__(self) -> int:
        return min(self._seen, self._most)

    def add(self, number: int, own: int) -> None:
        """Remember a picture by its own hash; beyond ``most`` in the place of the oldest."""
        place = self._seen % self._most
        for band in self._bands:
            if self._seen >= self._most:
                band.forget(place, self._hashes[place])
            band.add(place, own)
        self._hashes[place], self._numbers[place] = own, number
        self._seen += 1

    def find(self, hashes: Sequence[int]) -> list[int]:
        """The pictures nearest to any of the hashes, the nearest first, the older one of equals; a few at most.

        The first hash is the picture's own, and the others are of windows of it.
        """
        if not hashes or not self._seen:
            return []
        queries = list(dict.fromkeys(hashes))
        distances: dict[int, int] = {}
        for place in self._near(queries):
            one = self._hashes[place]
            if (distance := min((one ^ query).bit_count() for query in queries)) <= self._bits:
                distances[place] = distance
        nearest = sorted(distances, key=lambda place: (distances[place], place))
        return [self._numbers[place] for place in nearest[:_CANDIDATES]]

    def _near(self, queries: Sequence[int]) -> set[int]:
        """All that can be near a query, and some that are not: one look at each instead of one for every query."""
        own, hashes = queries[0], self._hashes
        reach = self._bits + max((own ^ query).bit_count() for query in queries)
        if not self._bands:
            return {place for place in range(len(self)) if (hashes[place] ^ own).bit_count() <= reach}
        met = (
            place
            for band in self._bands
            for part in {band.part(query) for query in queries}
            for place in islice(band.places(part), _LOOKS)
        )
        return {place for place in met if (hashes[place] ^ own).bit_count() <= reach}
