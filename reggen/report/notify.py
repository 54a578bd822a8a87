"""Notices to wherever the user looks in the morning, through Apprise. A failing notice never disturbs a run."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from reggen.engine.summary import Summary
from reggen.errors import JobError, Problem, ReggenError
from reggen.job.servers import Notify
from reggen.progress import RunEvent, RunPaused, ServersAwaited

_LIMIT = 30.0  # seconds for one notice
_STUCK = 600.0  # seconds without any server before somebody is told


class Notices:
    """Watches a run's events and says what a sleeper would want to be told."""

    def __init__(self, notify: Notify, job_file: str, environ: Mapping[str, str]) -> None:
        self._title = f"reggen: {job_file}"
        self._apprise = _apprise(notify, job_file, environ)
        self._stuck: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def tell(self, event: RunEvent) -> None:
        """One event of the run."""
        if self._apprise is None:
            return
        if isinstance(event, RunPaused) and event.why:
            self._send(f"paused: {event.why}")
        if isinstance(event, ServersAwaited):
            self._watch(event)

    def _watch(self, event: ServersAwaited) -> None:
        """No server that can be used for ten minutes is worth a notice; one that comes back in time is not."""
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
        if event.why:
            text = f"stuck: no server could be used for {_STUCK / 60:.0f} minutes ({event.why})"
            self._stuck = asyncio.get_running_loop().call_later(_STUCK, self._send, text)

    async def failed(self, error: ReggenError) -> None:
        """The run ended before it could make anything; waits within a limit, as `finished` does."""
        await self._last(f"failed: {error}")

    async def finished(self, summary: Summary) -> None:
        """How the run ended; waits for everything that is still being sent, within a limit."""
        done = summary.total - summary.missing
        text = f"finished: {done} of {summary.total} images"
        if summary.missing:
            text = f"finished with gaps: {text.removeprefix('finished: ')}, {len(summary.given_up)} given up"
        if why := summary.error or summary.stopped:
            text += f" ({why})"
        await self._last(text)

    async def _last(self, text: str) -> None:
        if self._stuck:
            self._stuck.cancel()
        if self._apprise is not None:
            self._send(text)
            await asyncio.wait(self._sending, timeout=_LIMIT)

    def _send(self, text: str) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, text: str) -> None:
        with suppress(Exception):  # whatever a service does at night, the images go on
            async with asyncio.timeout(_LIMIT):
                await asyncio.to_thread(self._apprise.notify, title=self._title, body=text)


def _apprise(notify: Notify, job_file: str, environ: Mapping[str, str]) -> Any:
    """The library with the job's addresses in it; None when the job names none. Raises JobError."""
    if not notify.urls:
        return None
    if importlib.util.find_spec("apprise") is None:
        problem = Problem("notify.urls", "needs Apprise", "pip install 'reggen[notify]'")
        raise JobError(job_file, (problem,))
    import apprise  # noqa: PLC0415 - optional, and slow to import

    logging.getLogger("apprise").disabled = True  # it would name the addresses, which are secrets
    carrier = apprise.Apprise()
    problems = []
    for number, url in enumerate(notify.resolved(environ)):
        if isinstance(url, KeyError):
            problems.append(Problem(f"notify.urls[{number}]", f"the environment has no {url.args[0]}", "set it"))
        elif not carrier.add(url):
            problems.append(Problem(f"notify.urls[{number}]", "is no address that Apprise understands"))
    if problems:
        raise JobError(job_file, tuple(problems))
    return carrier
