"""Did a prompt arrive whose post had no clear answer? A policy for the search. Pure: the caller makes the requests.

The rules:

- A server that answers the search and was there all the time knows: it has the prompt, or never got it.
- A server that was frozen executes what it was sent when it thaws, perhaps after it answers a search. So one that was
  unreachable meanwhile must deny the prompt twice.
- Failures of a server that is there count, so that they end; those of one that is away do not: it is waited for.
"""

from __future__ import annotations

from enum import Enum, auto

from reggen.comfy.timings import Timings
from reggen.errors import ServerError, Unreachable

_SEARCHES = 4
_AFTER_ABSENCE = 2  # searches that one answer counts as, after the server was unreachable


class ArrivalVerdict(Enum):
    """The result of the search so far."""

    ARRIVED = auto()
    NEVER_ARRIVED = auto()
    SEARCH_AGAIN = auto()
    UNKNOWN = auto()


class ArrivalSearch:
    """One search; ``reason`` is why its last request failed."""

    def __init__(self, timings: Timings) -> None:
        self.reason = "no answer"
        self._timings = timings
        self._searches = 0
        self._was_away = False

    def answered(self, known_as: str | None) -> ArrivalVerdict:
        """Take in an answer: the server's id of the prompt, None when it does not have it."""
        if known_as:
            return ArrivalVerdict.ARRIVED
        self._searches += _AFTER_ABSENCE
        if self._was_away and self._searches < _SEARCHES:
            return ArrivalVerdict.SEARCH_AGAIN
        return ArrivalVerdict.NEVER_ARRIVED

    def failed(self, error: ServerError, *, was_up: bool) -> ArrivalVerdict:
        """Take in an error; ``was_up``: the server counted as up when it was asked."""
        self.reason = error.what
        self._searches += was_up
        self._was_away = self._was_away or isinstance(error, Unreachable)
        return ArrivalVerdict.UNKNOWN if self._searches >= _SEARCHES else ArrivalVerdict.SEARCH_AGAIN

    def longest_pause(self, *, is_up: bool) -> float:
        """The longest pause before the next request, in seconds."""
        if self._was_away or not is_up:
            return self._timings.poll_interval
        return self._timings.search.ceiling(self._searches)
