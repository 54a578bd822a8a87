"""Keeps the ComfyUIs that reggen itself started: up, restarted when they crash, hang or grow, ended at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from reggen.comfy.launch import Launch, Launched, LaunchError
from reggen.comfy.link import Link
from reggen.dataset.folder import Folder
from reggen.engine.fleet import Fleet
from reggen.job import Job, Server

_GLANCE = 5.0  # seconds between looks at a process's memory and worker
_GIB = 1 << 30


@asynccontextmanager
async def started(job: Job, folder: Folder, tell: Callable[[str], None]) -> AsyncIterator[dict[str, Launched]]:
    """Start what the job says is to be started, by server name; end just that when the block is left.

    One that cannot be started is told of and left out, unless there is no other server: then LaunchError.
    """
    wanted = {server.name: Launched(_launch(server, folder), tell=tell) for server in job.servers if server.launch}
    try:
        results = await asyncio.gather(*(one.start() for one in wanted.values()), return_exceptions=True)
        running: dict[str, Launched] = {}
        for (name, one), result in zip(wanted.items(), results, strict=True):
            if isinstance(result, LaunchError) and len(job.servers) > 1:
                tell(str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                running[name] = one
        yield running
    finally:
        await asyncio.gather(*(one.stop() for one in wanted.values()))


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


async def keep(one: Launched, link: Link, fleet: Fleet, tell: Callable[[str], None]) -> None:
    """Restart it after a crash, a dead worker or too much memory; without it, when that cannot be done any more."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one.watch())
            group.create_task(_glance(one, link, fleet))
    except* LaunchError as errors:
        fleet.leave_out(link.name)
        tell(f"{link.name} is left out of this run: {errors.exceptions[0]}")


async def _glance(one: Launched, link: Link, fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(_GLANCE)
        if link.worker_is_dead:
            await one.restart("its worker is dead")
        elif one.too_big:
            fleet.spare(link.name)  # between prompts: what it has is finished first
            if not link.in_flight:
                await one.restart("it holds more memory than it may")
                fleet.spare(link.name, spared=False)


def named(links: Mapping[str, Link], running: Mapping[str, Launched]) -> list[tuple[Launched, Link]]:
    """The processes with their links, of those that take part."""
    return [(one, links[name]) for name, one in running.items() if name in links]
