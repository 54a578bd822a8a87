"""A server that answers HTTP, but not with what is needed: a token expired, a login page, a proxy that forbids.

Its socket may live on, so nothing else would tell. After `FEW` such answers in a row to one kind of question it counts
as away; only the same questions, answered, bring it back. Pure: ``now`` is handed in.
"""

from __future__ import annotations

import math
from collections import Counter

from reggen.comfy.tracker import Timings
from reggen.errors import HttpStatusError, InvalidResponse, ServerError

FEW = 3
_LONGEST = 15.0  # times ``blind``: the pause between questions to a server that refuses begins with that, and grows
_FRONT = frozenset({401, 403, 405, 407})
_PASSING = frozenset({408, 425, 429})


def is_permanent(error: ServerError) -> bool:
    """Whether the same request can hardly ever succeed: refused by status, or answered with a web page."""
    if isinstance(error, HttpStatusError):
        return 400 <= error.status < 500 and error.status not in _PASSING
    return isinstance(error, InvalidResponse) and error.is_web_page


def is_missing(error: ServerError) -> bool:
    """Whether ComfyUI itself says that it has no such file: its 404 has no body, a proxy's has."""
    return isinstance(error, HttpStatusError) and error.status == 404 and not error.body


def is_of_the_front(error: ServerError) -> bool:
    """Whether somebody in front of the server says no, who says it to everything alike: no fault of one picture."""
    return (isinstance(error, InvalidResponse) and error.is_web_page) or (
        isinstance(error, HttpStatusError) and error.status in _FRONT
    )


class Refusals:
    """Counts wrong answers in a row. ``why`` is the reason, in words, while the server is away for it."""

    def __init__(self, timings: Timings) -> None:
        self.why = ""
        self.ask_at = math.inf
        """When to ask again."""
        self._in_a_row: Counter[str] = Counter()
        self._blind = self._pause = timings.blind

    def wrong(self, error: ServerError) -> bool:
        """An answer was not what was asked for. True when it is one of a few in a row to this kind of question."""
        self._in_a_row[error.doing] += 1
        return self._in_a_row[error.doing] >= FEW

    def refuse(self, error: ServerError, now: float) -> None:
        """It is away for this answer, whatever came before."""
        self._pause = min(_LONGEST * self._blind, 2 * self._pause) if self.why else self._blind
        self.why, self.ask_at = f"{error.doing}: {error.with_remedy}", now + max(self._pause, error.retry_after)

    def right(self, doing: str) -> None:
        """One kind of question was answered."""
        self._in_a_row.pop(doing, None)

    def healed(self) -> None:
        """Every kind of question was answered."""
        self._in_a_row.clear()
        self.why, self.ask_at, self._pause = "", math.inf, self._blind
