"""A long look at many files, told while it goes on: from the thread that looks to the loop that has the faces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from reggen.progress import RunEvent, Scanning

_MOMENT = 1.0  # seconds of which nobody is told
_EVERY = 0.25  # seconds


class ScanProgress:
    """Called with the files that were looked at and all there are, in whichever thread; it tells now and then."""

    def __init__(self, tell: Callable[[RunEvent], None], loop: asyncio.AbstractEventLoop) -> None:
        self._tell, self._loop = tell, loop
        self._due: float | None = None
        self._told = False

    def __call__(self, done: int, total: int) -> None:
        """So many of them were looked at."""
        now = time.monotonic()
        self._due = now + _MOMENT if self._due is None else self._due
        over = done >= total
        if now >= self._due if not over else self._told:
            self._due, self._told = now + _EVERY, True
            with suppress(RuntimeError):  # nobody is there any more
                self._loop.call_soon_threadsafe(self._tell, Scanning(now, done, total))
        if over:
            self._due, self._told = None, False
