"""A full disk: the run is paused until there is room again, and no sample loses a try."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from reggen import progress
from reggen.backoff import Backoff, full_jitter
from reggen.errors import StorageError
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet

_ASKED = 0.05  # seconds until it is seen whether a disk has said what room it has


class DiskRoom:
    """Pauses a run while its disk is full, and resumes it when ``needed`` bytes are free.

    ``free_bytes`` blocks, and is called in one of ``threads``.
    """

    def __init__(
        self,
        fleet: Fleet,
        free_bytes: Callable[[], int],
        threads: Executor,
        needed: int,
        tell: Callable[[RunEvent], None],
        *,
        pauses: Backoff,
    ) -> None:
        self._fleet, self._free_bytes, self._threads, self._needed = fleet, free_bytes, threads, needed
        self._tell, self._pauses = tell, pauses
        self._failures = 0  # in a row: the disk may say that it has room and refuse all the same
        self._look_at = -math.inf
        self._asking: Future[int] | None = None

    def is_full(self, error: StorageError) -> None:
        """Pause the run: a write failed for want of room."""
        now = time.monotonic()
        if not self._fleet.held:
            self._failures += 1
            self._fleet.held = True
            self._tell(progress.RunPaused(now, f"{error.doing} {error.path}: {error.what}; waiting for room"))
        self._look_at = now + self._pause()

    def has_taken_an_image(self) -> None:
        """Forget earlier failures: an image was saved."""
        self._failures = 0

    def look(self, now: float) -> float:
        """Resume the run if there is room again. Returns the time of the next look; infinite while none is needed."""
        if not self._fleet.held:
            return math.inf
        if self._asking is None and now >= self._look_at:
            self._asking = self._threads.submit(self._free_bytes)
        if self._asking is None:
            return self._look_at
        if not self._asking.done():
            return now + _ASKED
        asking, self._asking = self._asking, None
        if not asking.exception() and asking.result() >= self._needed:
            self._fleet.held = False
            self._tell(progress.RunPaused(now, ""))
            return now
        self._look_at = now + self._pause()
        return self._look_at

    def _pause(self) -> float:
        return full_jitter(self._pauses.ceiling(self._failures))
