"""Clocks that give the seconds until a run has to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta


def steady() -> float:
    """Seconds of a clock that no correction moves, and that goes on while the computer sleeps."""
    # Python's own monotonic clock stands still in a sleep on Linux and macOS; these go on, under different names
    clock = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_MONOTONIC", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def seconds_left(
    until: datetime | None,
    within: timedelta | None,
    *,
    now: Callable[[], datetime] = datetime.now,
    steady: Callable[[], float] = steady,
) -> Callable[[], float] | None:
    """A function that gives the seconds until the earlier of two ends; None where there is neither.

    ``until`` follows the clock on the wall, wherever it jumps (local time, where no zone is given); ``within`` counts
    from now, whatever happens to that clock.
    """
    ends: list[Callable[[], float]] = []
    if until is not None:
        end_of_day = until  # converted each time: the clocks may change tonight
        ends.append(lambda: (end_of_day.astimezone() - now().astimezone()).total_seconds())  # noqa: PLW0108
    if within is not None:
        end = steady() + within.total_seconds()
        ends.append(lambda: end - steady())
    return (lambda: min(one() for one in ends)) if ends else None
