"""Progress of a long scan of files, passed from the thread that scans to the event loop that shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from reggen.progress import RunEvent, Scanning


class ScanProgress:
    """Passes on the progress of a scan, from any thread.

    A scan that is over within ``silence`` seconds is not reported at all, a longer one every ``interval`` seconds.
    """

    def __init__(
        self,
        tell: Callable[[RunEvent], None],
        loop: asyncio.AbstractEventLoop,
        *,
        silence: float,
        interval: float,
    ) -> None:
        self._tell, self._loop = tell, loop
        self._silence, self._interval = silence, interval
        self._tell_at: float | None = None
        self._told = False

    def __call__(self, done: int, total: int) -> None:
        """Note that so many of the files were looked at."""
        now = time.monotonic()
        self._tell_at = now + self._silence if self._tell_at is None else self._tell_at
        over = done >= total
        if now >= self._tell_at if not over else self._told:
            self._tell_at, self._told = now + self._interval, True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._tell, Scanning(now, done, total))
        if over:
            self._tell_at, self._told = None, False
