"""Exponential back-off with full jitter: one place that computes it, many that wait."""

from __future__ import annotations

import random
from dataclasses import dataclass

_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double with each failure in a row, in seconds, from ``first`` to ``longest``."""

    first: float
    longest: float

    def ceiling(self, failures: int) -> float:
        """The longest pause after so many failures in a row, at least 1."""
        return min(self.longest, self.first * 2.0 ** min(max(failures, 1) - 1, _MOST_DOUBLINGS))


def full_jitter(ceiling: float) -> float:
    """Seconds between 0 and a ceiling, at random: servers that failed together do not come back together."""
    return random.uniform(0, ceiling)
