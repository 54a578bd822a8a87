"""A server that answers, but not with what is needed: an expired token, a login page, a proxy that forbids.

Its socket may live on, so nothing else would tell. After `IN_A_ROW` such answers to one kind of request the server
counts as away; only the same requests, answered, bring it back. ``now`` is handed in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from reggen.backoff import Backoff, full_jitter
from reggen.comfy.timings import Timings
from reggen.errors import HttpStatusError, InvalidResponse, ServerError

IN_A_ROW = 3
_LONGEST_PAUSE = 15.0  # poll intervals
_BY_PROXIES = frozenset({401, 403, 405, 407})
_TRANSIENT = frozenset({408, 425, 429})


def is_permanent(error: ServerError) -> bool:
    """Tell an error that the same request will hardly ever overcome: a status of refusal, or a web page."""
    if isinstance(error, HttpStatusError):
        return 400 <= error.status < 500 and error.status not in _TRANSIENT
    return isinstance(error, InvalidResponse) and error.is_web_page


def is_missing(error: ServerError) -> bool:
    """Tell ComfyUI's own 404 for a file that it does not have: it has no body, while a proxy's has one."""
    return isinstance(error, HttpStatusError) and error.status == 404 and not error.body


def is_by_proxy(error: ServerError) -> bool:
    """Tell a refusal by something in front of ComfyUI, which refuses everything alike: no fault of one picture."""
    if isinstance(error, HttpStatusError):
        return error.status in _BY_PROXIES
    return isinstance(error, InvalidResponse) and error.is_web_page


class Refusals:
    """Counts wrong answers in a row. ``why`` is the reason, in words, while the server is away for it."""

    def __init__(self, timings: Timings, jitter: Callable[[float], float] = full_jitter) -> None:
        self.why = ""
        self.ask_at = math.inf
        """The time to try again."""
        self._in_a_row: Counter[str] = Counter()
        self._interval, self._jitter = timings.poll_interval, jitter
        self._backoff = Backoff(timings.poll_interval, _LONGEST_PAUSE * timings.poll_interval)
        self._refusals = 0  # in a row, while it is away for them

    def count(self, error: ServerError) -> bool:
        """Count a wrong answer. True when there were a few in a row to this kind of request."""
        self._in_a_row[error.doing] += 1
        return self._in_a_row[error.doing] >= IN_A_ROW

    def begin(self, error: ServerError, now: float) -> None:
        """Take the server for away because of this answer, or go on to."""
        self._refusals = self._refusals + 1 if self.why else 1
        pause = max(self._backoff.ceiling(self._refusals), error.retry_after)
        self.why = f"{error.doing}: {error.with_remedy}"
        self.ask_at = now + pause + self._jitter(self._interval)

    def answered(self, doing: str) -> None:
        """Note a right answer to one kind of request."""
        self._in_a_row.pop(doing, None)

    def end(self) -> None:
        """Note that all kinds of requests are answered."""
        self._in_a_row.clear()
        self.why, self.ask_at = "", math.inf
