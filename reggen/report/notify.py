"""Notices about a run, sent through Apprise. A notice that fails never disturbs the run."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from reggen.engine.summary import Summary
from reggen.errors import JobError, Problem, ReggenError
from reggen.job.servers import Notify
from reggen.progress import RunEvent, RunPaused, ServersAwaited
from reggen.report.lines import format_duration
from reggen.wording import cut, plural

_LIMIT = 30.0  # seconds for one notice


class Notices:
    """Sends a notice when a run pauses, has no server for ``stuck_after`` seconds, fails or ends.

    ``on_failure`` gets a sentence for a notice that could not be sent. Raises JobError for unusable addresses.
    """

    def __init__(
        self, notify: Notify, job_file: str, environ: Mapping[str, str], *, stuck_after: float = 600.0
    ) -> None:
        self._title, self._stuck_after = f"reggen: {job_file}", stuck_after
        self._apprise = _apprise(notify, job_file, environ)
        self.on_failure: Callable[[str], object] = lambda _: None
        self._stuck: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def tell(self, event: RunEvent) -> None:
        """Send a notice about an event, where it is worth one."""
        if self._apprise is None:
            return
        if isinstance(event, RunPaused) and event.why:
            self._send(f"paused: {event.why}")
        if isinstance(event, ServersAwaited):
            self._watch_servers(event)

    def _watch_servers(self, event: ServersAwaited) -> None:
        """Send a notice when no server can be used for long; a shorter outage is not worth one."""
        self._cancel_stuck()
        if event.why:
            text = f"stuck: no server could be used for {format_duration(self._stuck_after)} ({event.why})"
            self._stuck = asyncio.get_running_loop().call_later(self._stuck_after, self._send, text)

    async def failed(self, error: ReggenError) -> None:
        """Tell that the run ended before it could make anything. Waits as `finished` does."""
        await self._send_last(f"failed: {error}")

    async def finished(self, summary: Summary) -> None:
        """Tell how the run ended, and wait for all notices that are still being sent, within a limit."""
        done = summary.total - summary.missing
        text = f"{done:,} of {plural(summary.total, 'image')}"
        if summary.missing:
            text += f", {len(summary.given_up):,} given up"
        if why := summary.error or summary.stopped:
            text += f" ({why})"
        await self._send_last(f"{'finished with gaps' if summary.missing else 'finished'}: {text}")

    async def _send_last(self, text: str) -> None:
        self._cancel_stuck()
        if self._apprise is not None:
            self._send(text)
            await asyncio.wait(self._sending, timeout=_LIMIT)

    def _cancel_stuck(self) -> None:
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None

    def _send(self, text: str) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, text: str) -> None:
        taken = False
        with suppress(Exception):  # whatever the service does, the run continues
            async with asyncio.timeout(_LIMIT):
                taken = await asyncio.to_thread(self._apprise.notify, title=self._title, body=text)
        if not taken:
            told = cut(text.partition("\n")[0])
            self.on_failure(f"a notice could not be sent ({told}); `python -m reggen notify JOB` tries the addresses")


def try_addresses(notify: Notify, job_file: str, environ: Mapping[str, str]) -> tuple[bool, ...]:
    """Send a trial notice to each address, and tell which services took it. Blocking. Raises JobError."""
    service = _apprise(notify, job_file, environ)
    title, body = f"reggen: {job_file}", "a trial notice: this is where reggen's notices arrive"
    return tuple(bool(one.notify(title=title, body=body)) for one in service or ())


def _apprise(notify: Notify, job_file: str, environ: Mapping[str, str]) -> Any:
    """Apprise with the job's addresses; None when the job has none. Raises JobError."""
    if not notify.urls:
        return None
    if importlib.util.find_spec("apprise") is None:
        problem = Problem("notify.urls", "needs Apprise, which is not installed", "pip install 'reggen[notify]'")
        raise JobError(job_file, (problem,))
    import apprise  # noqa: PLC0415 - optional, and slow to import

    logging.getLogger("apprise").disabled = True  # it logs the addresses, which are secrets
    service = apprise.Apprise()
    problems = []
    for number, url in enumerate(notify.resolved(environ)):
        if isinstance(url, KeyError):
            problems.append(Problem(f"notify.urls[{number}]", f"the environment has no {url.args[0]}", "set it"))
        elif not service.add(url):
            problems.append(Problem(f"notify.urls[{number}]", "is not an address that Apprise understands"))
    if problems:
        raise JobError(job_file, tuple(problems))
    return service
