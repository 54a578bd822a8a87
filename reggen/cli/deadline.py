"""The end of a run as --until and --for give it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import time as time_of_day
from typing import NamedTuple

from reggen.errors import JobError, Problem


class Deadline(NamedTuple):
    """The end of a run: a time of day in local time, or a length from now; neither where it has none."""

    until: datetime | None = None
    within: timedelta | None = None


def deadline(
    job_file: str, until: str | None, for_: str | None, *, now: Callable[[], datetime] = datetime.now
) -> Deadline:
    """Parse the next time of day that reads like ``until`` ("07:00") or the length ``for_`` ("8h30m").

    Raises JobError. ``now`` gives local time.
    """
    if until and for_:
        raise JobError(job_file, (Problem("--until", "and --for say the same thing twice"),))
    if for_:
        return Deadline(within=_length(job_file, for_))
    return Deadline(until=_next(job_file, until, now())) if until else Deadline()


def _length(job_file: str, text: str) -> timedelta:
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", text.replace(" ", ""))
    if not match or not any(int(part or 0) for part in match.groups()):
        problem = Problem("--for", f"{text[:40]!r} is not a length of time", "write 8h, 90m or 1h30m")
        raise JobError(job_file, (problem,))
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _next(job_file: str, text: str, now: datetime) -> datetime:
    try:
        clock = time_of_day.fromisoformat(text)
    except ValueError:
        raise JobError(job_file, (Problem("--until", f"{text!r} is not a time of day", "write 07:00"),)) from None
    end = datetime.combine(now.date(), clock.replace(tzinfo=None))
    return end if end > now else end + timedelta(days=1)
