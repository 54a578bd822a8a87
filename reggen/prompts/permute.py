"""Permutations and shares, computed for any index by itself and never stored.

`shuffled` is a permutation that costs the same for six things as for 10**60: a Feistel network over a rectangle of
numbers a little larger than what is permuted, applied until the result is inside. `Shares` gives indices to weighted
parts as Sainte-Lague gives out seats: always to the part that is furthest behind its share. No part is ever more than
an index or so from its share, whatever the number of indices, and a larger number changes nothing in the first ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import shake_128
from math import gcd, isqrt, lcm

_ROUNDS = 8
_PERIOD = 1 << 16  # indices after which shares repeat; finer weights are rounded


def shuffled(index: int, size: int, key: str) -> int:
    """The image of ``index`` in the permutation of ``range(size)`` that belongs to ``key``."""
    if size < 2:
        return 0
    rows = isqrt(size - 1) + 1
    columns = -(-size // rows)
    place = _feistel(index, rows, columns, key)
    while place >= size:
        place = _feistel(place, rows, columns, key)
    return place


def _feistel(place: int, rows: int, columns: int, key: str) -> int:
    """A permutation of ``range(rows * columns)``: row and column are shifted by a hash of each other, in turn."""
    left, right = divmod(place, columns)
    for number in range(0, _ROUNDS, 2):
        left = (left + _hash(right, rows, f"{key}/{number}")) % rows
        right = (right + _hash(left, columns, f"{key}/{number + 1}")) % columns
    return left * columns + right


def _hash(value: int, below: int, key: str) -> int:
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    length = below.bit_length() // 8 + 8  # enough bytes to make the remainder uniform to 2**-56
    return int.from_bytes(shake_128(key.encode() + b"/" + data).digest(length), "big") % below


class Shares:
    """Indices given to parts by weight; the weights are integers, not all 0.

    Over every ``period`` indices each part has exactly its share; equal weights take turns. Weights that add
    up to more than 65,536, after division by their common divisor, are rounded to shares of 1/65,536.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = _reduced(weights)
        self.period = sum(self._weights)
        seats = [
            ((2 * rank + 1) / (2 * weight), part, rank)  # doubles distinguish all fractions of this size
            for part, weight in enumerate(self._weights)
            for rank in range(weight)
        ]
        self._turns = [(part, rank) for _, part, rank in sorted(seats)]
        self._places = {turn: place for place, turn in enumerate(self._turns)}

    def turn(self, index: int) -> tuple[int, int]:
        """The part that an index belongs to, and the number of indices it had before."""
        times, place = divmod(index, self.period)
        part, rank = self._turns[place]
        return part, times * self._weights[part] + rank

    def index(self, part: int, turn: int) -> int:
        """The index of a part's turn: the reverse of `turn`. The part's weight must not be 0."""
        times, rank = divmod(turn, self._weights[part])
        return times * self.period + self._places[part, rank]


def smallest_integers(weights: Sequence[Fraction]) -> list[int]:
    """The smallest integers in the same proportion; not all weights may be 0."""
    if weights.count(weights[0]) == len(weights):  # the usual case, and much faster
        return [1] * len(weights)
    scale = lcm(*(weight.denominator for weight in weights))
    scaled = [int(weight * scale) for weight in weights]
    common = gcd(*scaled)
    return [weight // common for weight in scaled]


def _reduced(weights: Sequence[int]) -> list[int]:
    reduced = smallest_integers([Fraction(weight) for weight in weights])
    limit = max(_PERIOD, len(weights))
    if (total := sum(reduced)) <= limit:
        return reduced
    rounded = [max(1, round(weight * limit / total)) if weight else 0 for weight in reduced]
    return smallest_integers([Fraction(weight) for weight in rounded])


def partner(turn: int, size: int, other: int) -> int:
    """The one of ``other`` things that meets the ``turn``-th of a cycle of ``size``, so that every pair meets once.

    Over ``size * other`` turns each of the ``size`` things meets each of the ``other`` once, and every
    ``other`` turns from a multiple of it on hold each of them once. Without the second term six prompts
    and two samplers would stay in step and meet in six pairs only.
    """
    return (turn + turn // lcm(size, other)) % other
