"""The ComfyUI processes that a run starts: restarted when they crash, hang or grow, and ended with the run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from reggen.backoff import full_jitter
from reggen.comfy.session import ServerSession
from reggen.dataset.folder import Folder
from reggen.engine.timings import EngineTimings
from reggen.job.servers import Server
from reggen.launch.comfy_process import ComfyProcess, LaunchError
from reggen.launch.settings import LaunchSettings, LaunchTimings
from reggen.scheduler.server_load import ServerLoad

_GIB = 1 << 30


@asynccontextmanager
async def started(
    servers: Sequence[Server], folder: Folder, tell: Callable[[str], None], timings: LaunchTimings
) -> AsyncIterator[dict[str, ComfyProcess]]:
    """Start the servers that the job says to start, by server name; end them when the block is left.

    One that cannot be started is named to ``tell`` and left out, unless there is no other server: then its LaunchError
    is raised.
    """
    wanted = {
        server.name: ComfyProcess(_settings(server, folder), tell=tell, timings=timings)
        for server in servers
        if server.launch
    }
    running: dict[str, ComfyProcess] = {}
    refused: list[LaunchError] = []

    async def start(name: str, one: ComfyProcess) -> None:
        try:
            await one.start()
        except LaunchError as error:
            refused.append(error)
        else:
            running[name] = one

    try:
        async with asyncio.TaskGroup() as group:
            for name, one in wanted.items():
                group.create_task(start(name, one))
        for error in refused:
            if len(servers) == 1:
                raise error
            tell(str(error))
        yield running
    finally:
        async with asyncio.TaskGroup() as group:
            for one in wanted.values():
                group.create_task(one.stop())


async def launch_problems(servers: Sequence[Server], folder: Folder) -> dict[str, str]:
    """Reasons that `started` could not start a server, by server name. Starts nothing."""
    found: dict[str, str] = {}
    for server in servers:
        if server.launch:
            try:
                await ComfyProcess(_settings(server, folder), tell=lambda _: None).python()
            except LaunchError as error:
                found[server.name] = str(error)
    return found


def _settings(server: Server, folder: Folder) -> LaunchSettings:
    assert server.launch is not None, "asked for only where it is"
    port = server.url.rpartition(":")[2]
    return LaunchSettings(
        folder=server.launch,
        url=server.url,
        python=server.python,
        arguments=server.arguments,
        device=server.gpus[0] if server.gpus else None,
        headers=server.resolved_headers(),
        log=folder.state / f"comfyui-{port}.log",
        memory_limit=None if server.memory_gib is None else int(server.memory_gib * _GIB),
    )


class Supervisor:
    """Keeps one ComfyUI process running. ``tell`` gets sentences for people.

    ``wake`` is called when the server may be given work again, since nothing else may happen that wakes the run.
    """

    def __init__(
        self,
        launched: ComfyProcess,
        session: ServerSession,
        load: ServerLoad,
        tell: Callable[[str], None],
        *,
        wake: Callable[[], None],
        timings: EngineTimings,
    ) -> None:
        self._launched, self._session, self._load, self._tell = launched, session, load, tell
        self._wake, self._timings = wake, timings
        self._restart_reason, self._spared = "", False

    def ask(self, why: str) -> None:
        """Ask for a restart, for this reason; it follows within moments."""
        self._restart_reason = why

    async def __call__(self) -> None:
        """Restart the process after a crash, and whenever it cannot be used any more. Runs until it is cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._launched.watch())
                    group.create_task(self._look_again_and_again())
            except* LaunchError as errors:  # the hour's restarts are spent, for example; the night is longer
                shortest = self._timings.relaunch / 2
                pause = shortest + full_jitter(shortest)
                self._tell(f"{self._session.name}: {errors.exceptions[0]}; the next try is in {pause / 60:.0f} min")
                await asyncio.sleep(pause)

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._timings.glance)
            if why := self._reason_to_restart():
                self._restart_reason = ""
                await self._launched.restart(why)
            elif not await self._launched.is_too_big():
                self._spare(spared=False)
            elif self._session.in_flight:
                self._spare(spared=True)  # between prompts: what it has is finished first
            else:
                self._spare(spared=True)
                try:
                    await self._launched.restart("it holds more memory than it may")
                finally:  # also where the hour's restarts are spent: a large server is better than none
                    self._spare(spared=False)

    def _spare(self, *, spared: bool) -> None:
        """Give the server nothing new, or give it work again and wake the run."""
        if self._spared != spared:
            self._spared = spared
            self._load.is_spared = spared
            self._wake()

    def _reason_to_restart(self) -> str:
        """The reason to restart the process now, or ""."""
        if self._session.worker_is_dead:
            return "its worker is dead"
        away, frozen = self._session.away_since, self._timings.frozen
        silent = away is not None and not self._session.refuses and time.monotonic() - away > frozen
        if self._launched.alive and silent:
            return f"it runs and has not answered for {frozen:.0f} s"
        return self._restart_reason
