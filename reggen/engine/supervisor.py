"""Keeps the ComfyUIs that reggen itself started: up, restarted when they crash, hang or grow, ended at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from reggen.comfy.session import ServerSession
from reggen.dataset.folder import Folder
from reggen.job.models import Server
from reggen.launch.launcher import Launch, Launched, LaunchError
from reggen.scheduler.fleet import Fleet

_GLANCE = 5.0  # seconds between looks at a process's memory and worker
_FROZEN = 120.0  # seconds without an answer from a process that lives
_RETRY = 600.0  # seconds until another try with one that could not be started again
_GIB = 1 << 30


@asynccontextmanager
async def started(
    servers: Sequence[Server], folder: Folder, tell: Callable[[str], None]
) -> AsyncIterator[dict[str, Launched]]:
    """Start what the job says is to be started, by server name; end just that when the block is left.

    One that cannot be started is told of and left out, unless there is no other server: then LaunchError.
    """
    wanted = {server.name: Launched(_launch(server, folder), tell=tell) for server in servers if server.launch}
    running: dict[str, Launched] = {}
    refused: list[LaunchError] = []

    async def start(name: str, one: Launched) -> None:
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


async def in_the_way(servers: Sequence[Server], folder: Folder) -> dict[str, str]:
    """What would keep `started` from starting a server, by its name; a look that starts nothing."""
    found: dict[str, str] = {}
    for server in servers:
        if server.launch:
            try:
                await Launched(_launch(server, folder), tell=lambda _: None).python()
            except LaunchError as error:
                found[server.name] = str(error)
    return found


def _launch(server: Server, folder: Folder) -> Launch:
    assert server.launch is not None, "asked for only where it is"
    port = server.url.rpartition(":")[2]
    return Launch(
        folder=server.launch,
        url=server.url,
        python=server.python,
        arguments=server.arguments,
        device=server.gpus[0] if server.gpus else None,
        log=folder.state / f"comfyui-{port}.log",
        memory_limit=None if server.memory_gib is None else int(server.memory_gib * _GIB),
    )


class Supervisor:
    """Keeps one of them up. ``tell`` gets sentences for people; ``wake`` is called when it may be given work again."""

    def __init__(
        self,
        one: Launched,
        session: ServerSession,
        fleet: Fleet,
        tell: Callable[[str], None],
        *,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._one, self._session, self._fleet, self._tell, self._clock = one, session, fleet, tell, clock
        self._wake, self._asked, self._spared = wake, "", False

    @property
    def name(self) -> str:
        """The server's."""
        return self._session.name

    def ask(self, why: str) -> None:
        """Restart it, for this reason."""
        self._asked = why

    async def __call__(self) -> None:
        """Restart it after a crash, and whenever it is of no use any more, for as long as the run goes on."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._one.watch())
                    group.create_task(self._glance())
            except* LaunchError as errors:  # the hour's restarts are spent, say; the night is longer
                self._tell(f"{self.name}: {errors.exceptions[0]}; it is tried again in {_RETRY / 60:.0f} min")
            await asyncio.sleep(_RETRY)

    async def _glance(self) -> None:
        while True:
            await asyncio.sleep(_GLANCE)
            if why := self._useless():
                self._asked = ""
                await self._one.restart(why)
            elif not await self._one.is_too_big():
                self._give(work=True)
            elif self._session.in_flight:
                self._give(work=False)  # between prompts: what it has is finished first
            else:
                self._give(work=False)
                try:
                    await self._one.restart("it holds more memory than it may")
                finally:  # also where the hour's restarts are spent: a large server is better than none
                    self._give(work=True)

    def _give(self, *, work: bool) -> None:
        """Whether it may be given anything new. The run is woken: its link may be up, and nothing else happens."""
        if self._spared == work:
            self._spared = not work
            self._fleet.spare(self._session.name, spared=self._spared)
            self._wake()

    def _useless(self) -> str:
        """Why it is to be restarted at once, if it is."""
        if self._session.worker_is_dead:
            return "its worker is dead"
        away = self._session.away_since
        frozen = away is not None and not self._session.refuses and self._clock() - away > _FROZEN
        if self._one.alive and frozen:
            return f"it runs and has not answered for {_FROZEN:.0f} s"
        return self._asked


def named(
    sessions: Mapping[str, ServerSession], running: Mapping[str, Launched]
) -> list[tuple[Launched, ServerSession]]:
    """The processes with their links, of those that take part."""
    return [(one, sessions[name]) for name, one in running.items() if name in sessions]
