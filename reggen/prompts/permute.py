"""How slots are dealt out: by computing, never by remembering, so that any slot can be asked for first.

`shuffled` is a permutation that costs the same for six things as for 10**60: a Feistel network over a
rectangle of numbers a little larger than what is permuted, walked until it lands inside. `Shares` deals
slots out to weighted parts as Sainte-Lague deals out seats: always the part next that is furthest behind
its share. No part is ever more than a slot or so from its share, whatever the number of slots, and raising
that number changes nothing in the slots there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import shake_128
from math import gcd, isqrt, lcm

_ROUNDS = 8
_PERIOD = 1 << 16  # slots after which shares repeat; weights finer than that are rounded


def shuffled(index: int, size: int, key: str) -> int:
    """Where ``index`` stands in the permutation of ``range(size)`` that belongs to ``key``."""
    if size < 2:
        return 0
    rows = isqrt(size - 1) + 1
    columns = -(-size // rows)
    place = _stirred(index, rows, columns, key)
    while place >= size:
        place = _stirred(place, rows, columns, key)
    return place


def _stirred(place: int, rows: int, columns: int, key: str) -> int:
    """A permutation of ``range(rows * columns)``: each half is moved by a hash of the other, in turn."""
    left, right = divmod(place, columns)
    for number in range(0, _ROUNDS, 2):
        left = (left + _hash(right, rows, f"{key}/{number}")) % rows
        right = (right + _hash(left, columns, f"{key}/{number + 1}")) % columns
    return left * columns + right


def _hash(value: int, below: int, key: str) -> int:
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    length = below.bit_length() // 8 + 8  # bytes enough that the remainder is even to 2**-56
    return int.from_bytes(shake_128(key.encode() + b"/" + data).digest(length), "big") % below


class Shares:
    """Slots dealt out to parts by weight: whole numbers, not all 0.

    Over every ``period`` slots each part has exactly its share; equal weights take turns. Weights that add
    up to more than 65,536, when their common divisor is out, are rounded to shares of 1/65,536.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = _reduced(weights)
        self.period = sum(self._weights)
        seats = [
            ((2 * rank + 1) / (2 * weight), part, rank)  # doubles tell all fractions of this size apart
            for part, weight in enumerate(self._weights)
            for rank in range(weight)
        ]
        self._turns = [(part, rank) for _, part, rank in sorted(seats)]
        self._places = {turn: place for place, turn in enumerate(self._turns)}

    def turn(self, index: int) -> tuple[int, int]:
        """Whose slot it is, and how many slots that part had before."""
        times, place = divmod(index, self.period)
        part, rank = self._turns[place]
        return part, times * self._weights[part] + rank

    def slot(self, part: int, turn: int) -> int:
        """The slot of a part's turn: the reverse of `turn`. The part's weight must not be 0."""
        times, rank = divmod(turn, self._weights[part])
        return times * self.period + self._places[part, rank]


def whole(weights: Sequence[Fraction]) -> list[int]:
    """The smallest whole numbers in the same proportion; not all weights may be 0."""
    if weights.count(weights[0]) == len(weights):  # nearly always, and then much faster
        return [1] * len(weights)
    scale = lcm(*(weight.denominator for weight in weights))
    scaled = [int(weight * scale) for weight in weights]
    common = gcd(*scaled)
    return [weight // common for weight in scaled]


def _reduced(weights: Sequence[int]) -> list[int]:
    reduced = whole([Fraction(weight) for weight in weights])
    limit = max(_PERIOD, len(weights))
    if (total := sum(reduced)) <= limit:
        return reduced
    rounded = [max(1, round(weight * limit / total)) if weight else 0 for weight in reduced]
    return whole([Fraction(weight) for weight in rounded])


def met(turn: int, size: int, other: int) -> int:
    """Which of ``other`` things meets the ``turn``-th of a cycle of ``size``, so that all pairs are met once.

    Over ``size * other`` turns each of the ``size`` things meets each of the ``other`` once, and every
    ``other`` turns from a multiple of it on hold each of them once. Without the second term six prompts
    and two samplers would be locked in step and meet in six pairs only.
    """
    return (turn + turn // lcm(size, other)) % other
