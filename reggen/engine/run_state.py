"""The state of a run that others may change: stopped, aborted, ended by an error; and its wake-ups."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reggen import progress
from reggen.errors import JobError, NoUsableServer, ReggenError, StorageError
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet


class RunState:
    """Ends a run, and wakes it. `stop` and `abort` may be called at any time."""

    def __init__(self, fleet: Fleet, tell: Callable[[RunEvent], None]) -> None:
        self.aborted = False
        self.ended_by: ReggenError | None = None
        self._fleet, self._tell = fleet, tell
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """True when nothing more is handed out and nothing is active, or the run is to be left at once."""
        return self._fleet.finished or self.aborted or self.ended_by is not None

    def stop(self, why: str) -> None:
        """Post nothing more; what is in flight is finished."""
        self._fleet.stopped = True
        self._tell(progress.RunStopping(time.monotonic(), why))
        self.wake()

    def abort(self) -> None:
        """Leave at once: own prompts are taken out of the queues, everything stays resumable."""
        self.aborted = True
        self._fleet.stopped = True
        self.wake()

    @contextmanager
    def errors_end_the_run(self) -> Iterator[None]:
        """Keep the first error that ends the run, so that all its tasks are ended before it is raised."""
        try:
            yield
        except (JobError, NoUsableServer, StorageError) as error:
            self.ended_by = self.ended_by or error
            self.wake()

    def wake(self) -> None:
        """Have the run look again what there is to do."""
        self._changed.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep until something changes, for at most so many seconds; they may be infinite."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else max(0.0, seconds)):
                await self._changed.wait()
        self._changed.clear()
