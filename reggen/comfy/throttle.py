"""The pace of requests to a server that limits them. Pure: ``now`` is handed in, and the caller waits.

A limit on requests answers 429, or 503 without a body (nginx's default), and lets a later request pass. So requests
are not spaced until that happens; then the gap between them grows with each refusal, and shrinks as requests pass.
"""

from __future__ import annotations

import math

from reggen.errors import HttpStatusError

_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_FIRST_GAP, _LONGEST_GAP = 0.25, 2.0  # seconds
_GROWTH, _SHRINKAGE = 1.5, 0.98
_NEGLIGIBLE = 0.05  # seconds: a shorter gap is dropped


def is_limit(error: HttpStatusError, *, is_query: bool = True) -> bool:
    """Tell a request that came too soon from one that failed; a post that is answered 503 may have been executed."""
    return error.status == _TOO_MANY_REQUESTS or (is_query and error.status == _UNAVAILABLE)


def is_worth_repeating(error: HttpStatusError) -> bool:
    """Tell a request that can be repeated at its next turn from one that the server wants to wait longer."""
    return error.retry_after <= _LONGEST_GAP


class Throttle:
    """The gaps between requests to one server. Each request takes its turn with `wait`."""

    def __init__(self) -> None:
        self._gap, self._next = 0.0, -math.inf

    def wait(self, now: float) -> float:
        """Take a turn: the seconds until it comes."""
        if not self._gap:
            return 0.0
        turn = max(now, self._next)
        self._next = turn + self._gap
        return turn - now

    def limited(self, error: HttpStatusError, now: float) -> None:
        """Note that a request came too soon."""
        self._gap = min(_LONGEST_GAP, max(_FIRST_GAP, self._gap * _GROWTH))
        self._next = max(self._next, now + max(self._gap, min(error.retry_after, _LONGEST_GAP)))

    def passed(self) -> None:
        """Note that a request was answered."""
        if self._gap:
            self._gap = self._gap * _SHRINKAGE if self._gap > _NEGLIGIBLE else 0.0
