"""When a run has to be over: what --until and --for say, and the clocks that tell."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import time as time_of_day

from reggen.errors import JobError, Problem


def steady() -> float:
    """Seconds of a clock that no correction moves, and that goes on while the computer sleeps."""
    # Python's own monotonic clock stands still in a sleep on Linux and macOS; these go on, under different names
    clock = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_MONOTONIC", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def deadline(
    job_file: str,
    until: str | None,
    for_: str | None,
    *,
    now: Callable[[], datetime] = datetime.now,
    steady: Callable[[], float] = steady,
) -> Callable[[], float] | None:
    """What tells the seconds a run has left; None when it has no end. Raises JobError.

    ``until`` is the next such time of day ("07:00"), by the clock on the wall, wherever that jumps; ``for_`` a
    length ("8h30m"), whatever happens to that clock. ``now`` is local time.
    """
    if until and for_:
        raise JobError(job_file, (Problem("--until", "and --for say the same thing twice"),))
    if for_:
        over = steady() + _length(job_file, for_).total_seconds()
        return lambda: over - steady()
    if until:
        end = _next(job_file, until, now())
        return lambda: (end.astimezone() - now().astimezone()).total_seconds()  # noqa: PLW0108 - asked anew each time; the clocks may change tonight
    return None


def _length(job_file: str, text: str) -> timedelta:
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", text.replace(" ", ""))
    if not match or not any(int(part or 0) for part in match.groups()):
        raise JobError(job_file, (Problem("--for", f"{text[:40]!r} is no length of time", "write 8h, 90m or 1h30m"),))
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _next(job_file: str, text: str, now: datetime) -> datetime:
    try:
        clock = time_of_day.fromisoformat(text)
    except ValueError:
        raise JobError(job_file, (Problem("--until", f"{text!r} is no time of day", "write 07:00"),)) from None
    end = datetime.combine(now.date(), clock.replace(tzinfo=None))
    return end if end > now else end + timedelta(days=1)
