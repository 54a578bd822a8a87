"""Daemon threads for blocking work: a disk that does not answer holds up neither the event loop nor the process.

The interpreter waits at its exit for the threads of a ``ThreadPoolExecutor``, even when their work hangs. It does not
wait for these, and every wait for them has a limit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from reggen.errors import StorageError

LIMIT = 10.0  # seconds that leaving waits for work in progress
Answer = TypeVar("Answer")
_Arguments = ParamSpec("_Arguments")
_Job = tuple[Future[Any], Callable[[], Any]]


class Threads(Executor):
    """Up to ``count`` daemon threads, started when they are needed, for work at ``path``.

    ``leaving`` is set as soon as nobody needs a result any more. Threads that did not return within ``limit`` seconds
    are ``lost``: from then on nobody waits for them, and `do` raises StorageError.
    """

    def __init__(self, count: int, name: str, path: Path, *, limit: float = LIMIT) -> None:
        self.limit = limit
        self._count, self._name, self._path = count, name, path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ends: list[Future[None]] = []
        self._closed = self.lost = False
        self.leaving = threading.Event()

    def submit(
        self, fn: Callable[_Arguments, Answer], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Future[Answer]:
        """Queue a call for the threads, which make calls in the order they were submitted."""
        job: Future[Answer] = Future()
        self._put(job, lambda: fn(*args, **kwargs))
        return job

    def _put(self, job: Future[Any], work: Callable[[], Any]) -> None:
        if self._closed:
            raise RuntimeError(f"{self._name} is closed")
        self._jobs.put((job, work))
        if len(self._ends) < self._count:
            self._ends.append(end := Future[None]())
            end.set_running_or_notify_cancel()  # whoever waits no longer cancels only the waiting
            threading.Thread(target=self._work, args=(end,), name=self._name, daemon=True).start()

    def _work(self, end: Future[None]) -> None:
        while entry := self._jobs.get():
            job, work = entry
            if job.running() or job.set_running_or_notify_cancel():
                try:
                    answer = work()
                except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                    job.set_exception(error)
                else:
                    job.set_result(answer)
            del entry, job, work
        end.set_result(None)

    async def do(self, work: Callable[[], Answer]) -> Answer:
        """Do the work in a thread and return its answer. Raises what it raises, StorageError when threads are lost.

        When cancelled, it tells the work through ``leaving`` and waits for its end, within the limit; when cancelled
        again, it returns at once.
        """
        if self.lost:
            raise StorageError(str(self._path), "waiting for", "the disk does not answer")
        answer = asyncio.wrap_future(self.submit(work))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.leaving.set()
            await self._wait_for([answer])
            raise

    async def _wait_for(self, answers: Sequence[asyncio.Future[Any]]) -> None:
        """Wait until all are done, within the limit; those that are not done by then are cancelled."""
        try:
            await asyncio.wait(answers, timeout=0.0 if self.lost else self.limit)
        finally:
            self.lost = self.lost or not all(answer.done() for answer in answers)
            for answer in answers:
                answer.cancel()

    async def close(self, last: Callable[[], object] | None = None, *, cancel: bool = False) -> None:
        """Finish what was submitted or, with ``cancel``, drop what has not begun; then do ``last``. Within the limit.

        Raises what ``last`` raises.
        """
        if self._closed:
            return
        if cancel:
            self._drop_queued()
        jobs = [Future[Any]()] if last else []
        if last:
            jobs[0].set_running_or_notify_cancel()  # it is done whenever the threads come back
            self._put(jobs[0], last)
        self._closed = True
        self.leaving.set()
        for _ in self._ends:
            self._jobs.put(None)
        if waiting := [asyncio.wrap_future(future) for future in (*jobs, *self._ends)]:
            await self._wait_for(waiting)
        if jobs and jobs[0].done() and not jobs[0].cancelled():
            jobs[0].result()

    def _drop_queued(self) -> None:
        with suppress(Empty):
            while True:
                if entry := self._jobs.get_nowait():
                    entry[0].cancel()
