"""Spacing for the requests to a server that limits them. Pure: ``now`` is handed in, and the caller does the waiting.

A limit on requests answers 429, or 503 without a word (nginx's own default), and lets the next one pass when enough
time went by. So there is no spacing until that happens; then it grows with each refusal, and shrinks as requests pass.
"""

from __future__ import annotations

import math

from reggen.errors import HttpStatusError

_LIMIT, _PERHAPS = 429, 503
_GAPS = (0.25, 2.0)  # seconds: the first and the longest
_GROWS, _SHRINKS = 1.5, 0.98
_NONE = 0.05  # seconds: a gap that is no more worth a wait


def is_limit(error: HttpStatusError, *, question: bool = True) -> bool:
    """Whether a request came too soon, rather than in vain. A 503 to something else than a question tells nothing."""
    return error.status == _LIMIT or (question and error.status == _PERHAPS)


class Throttle:
    """One server's. The turn of a request is taken with `wait`."""

    def __init__(self) -> None:
        self._gap, self._next = 0.0, -math.inf

    def wait(self, now: float) -> float:
        """Take a turn: the seconds until it comes."""
        if not self._gap:
            return 0.0
        turn = max(now, self._next)
        self._next = turn + self._gap
        return turn - now

    def limited(self, error: HttpStatusError, now: float) -> bool:
        """A request came too soon. True where it is worth asking again at its next turn: no long wait is wanted."""
        self._gap = min(_GAPS[1], max(_GAPS[0], self._gap * _GROWS))
        self._next = max(self._next, now + max(self._gap, min(error.retry_after, _GAPS[1])))
        return error.retry_after <= _GAPS[1]

    def passed(self) -> None:
        """A request was answered."""
        if self._gap:
            self._gap = self._gap * _SHRINKS if self._gap > _NONE else 0.0
