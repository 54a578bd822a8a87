"""Run a job: its events while they happen, and its summary at the end."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self

from reggen.api.class_execution import RunParts
from reggen.api.deadline import seconds_left
from reggen.api.events import Event
from reggen.api.execution import JobExecution
from reggen.api.from_sync import wait_for
from reggen.api.morning import next_steps
from reggen.api.summary import JobSummary
from reggen.engine.control import RunControl, RunOptions
from reggen.engine.threads import Threads
from reggen.job.models import Job
from reggen.job.servers import Notify
from reggen.prepare.prepared_job import PreparedJob, prepare
from reggen.progress import Progress
from reggen.report.notify import Notices

_KEPT = 65_536  # events that wait to be read; of more the oldest are dropped


def run(  # wide: the choices of `reggen run`, by name
    job: Job,
    *,
    wait: bool = False,
    until: datetime | None = None,
    within: timedelta | None = None,
    rehearse: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> JobRun:
    """A run that makes the images that a job's datasets lack; it begins when its block is entered.

        async with reggen.run(job) as running:
            async for event in running:
                ...
            summary = await running.summary()

    ``wait``: wait for a first server instead of raising NoUsableServer. The run stops at ``until`` (local time if it
    has no zone) or ``within`` this long, whichever is earlier, and posts no prompt that would end later.
    ``rehearse``: built-in stand-ins take the servers' places and paint marked pictures; load the job with another
    ``output`` for it, since a rehearsal and a real run never share a dataset. ``on_event`` is called with each event at
    once, on the event loop, and must not block; iterating then gives none.
    """
    return JobRun(job, RunOptions(wait, seconds_left(until, within), rehearse), on_event)


def run_sync(  # wide: the choices of `run`
    job: Job,
    *,
    wait: bool = False,
    until: datetime | None = None,
    within: timedelta | None = None,
    rehearse: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> JobSummary:
    """Run a job to its end, from code that is not asynchronous; in a notebook too, whose event loop is running.

    The arguments are those of `run`. The run has a thread of its own, where ``on_event`` is called. Ctrl-C once
    finishes what is in flight, twice leaves at once; then KeyboardInterrupt is raised. Raises what `run` raises.
    """
    running = run(job, wait=wait, until=until, within=within, rehearse=rehearse, on_event=on_event)

    async def whole() -> JobSummary:
        async with running:
            return await running.summary()

    return wait_for(whole, running.stop)


class JobRun:
    """A run in progress for as long as its ``async with`` block lasts; iterating over it gives its events.

    Leaving the block early is Ctrl-C once: what is in flight is finished, and a later run of the same job continues.
    Cancelling the block does the same; a second cancellation leaves at once. Entering raises JobError; iteration,
    `summary` and leaving raise what ends the run before it could make anything: JobError, DatasetLocked,
    NoUsableServer, StorageError.
    """

    def __init__(self, job: Job, options: RunOptions, on_event: Callable[[Event], None] | None = None) -> None:
        self._job, self._options, self._on_event = job, options, on_event
        self._control = RunControl()
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._execution: JobExecution | None = None
        self._task: asyncio.Task[JobSummary] | None = None
        self._fault: Exception | None = None
        self._is_delivered = False

    @property
    def progress(self) -> Progress:
        """The state of the class that is being made, folded from all events until now."""
        return self._execution.progress if self._execution else Progress()

    @property
    def stops(self) -> int:
        """The number of calls of `stop`."""
        return self._control.asked

    def stop(self) -> None:
        """End the run; call it from any thread. Once: finish what is in flight. Twice: leave at once."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is None or here is self._loop:
            self._control.interrupt()
        else:
            self._loop.call_soon_threadsafe(self._control.interrupt)

    def note(self, text: str) -> None:
        """Write a sentence into the run's log, and emit it as an event."""
        if self._execution:
            self._execution.note(text)

    async def summary(self) -> JobSummary:
        """Wait for the end of the run, and return its summary. Raises what ended it before it could make anything."""
        await asyncio.wait({self._begun()})
        return self._result()

    def _begun(self) -> asyncio.Task[JobSummary]:
        if self._task is None:
            raise RuntimeError("the run has not begun; write: async with reggen.run(job) as running")
        return self._task

    def _result(self) -> JobSummary:
        self._is_delivered = True
        if self._fault:
            raise self._fault
        return self._begun().result()

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a run can be entered once; call reggen.run again for another")
        self._loop = asyncio.get_running_loop()
        threads = Threads(1, "reggen-prepare", self._job.dataset.root)
        try:
            classes, notices = await threads.do(partial(_prepare, self._job, self._options))
        finally:
            await threads.close()
        parts = RunParts(
            self._job.source,
            notices,
            self._options,
            self._control,
            self._emit,
            next_steps(self._job),
        )
        self._execution = JobExecution(classes, parts)
        self._task = asyncio.create_task(self._execution.run(), name="reggen-run")
        self._task.add_done_callback(lambda _: self._arrived.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, is_cancelled = self._begun(), False
        if not task.done():
            self.stop()
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                is_cancelled = True
                self.stop()
        if is_cancelled:
            raise asyncio.CancelledError
        if error is None and not self._is_delivered:
            self._result()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        task = self._begun()
        while not self._events:
            if task.done():
                self._result()
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def _emit(self, event: Event) -> None:
        if self._on_event is None:
            self._events.append(event)
            self._arrived.set()
        else:
            try:
                self._on_event(event)
            except Exception as error:  # noqa: BLE001 - the caller's own fault: the run ends in order, then it is raised
                self._fault, self._on_event = error, None
                self.stop()


def _prepare(job: Job, options: RunOptions) -> tuple[tuple[PreparedJob, ...], Notices]:
    """Read what the job refers to. Blocking. Raises JobError."""
    notify = Notify() if options.rehearsal else job.notify
    return prepare(job, job.source), Notices(notify, job.source, os.environ)
