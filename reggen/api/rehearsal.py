"""Stand-ins in place of a job's servers. Beside `reggen sim`, only this module imports reggen.sim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from reggen.job.servers import Server

_MOST = 8  # stand-ins; of more servers the first ones are rehearsed
_SECONDS = 0.05  # for an image


@asynccontextmanager
async def stand_ins(servers: Sequence[Server], checkpoints: tuple[str, ...]) -> AsyncIterator[tuple[Server, ...]]:
    """Serve a stand-in with these checkpoints for each of the first servers; yield the servers with its address."""
    from reggen import sim  # noqa: PLC0415 - runs that are no rehearsal do not load it

    settings = sim.Settings(seconds=_SECONDS, checkpoints=checkpoints, lenient=True)
    async with AsyncExitStack() as stack:
        served = [(server, await stack.enter_async_context(sim.serve(settings))) for server in servers[:_MOST]]
        yield tuple(
            server.model_copy(update={"url": one.url, "headers": {}, "launch": None, "certificate": None})
            for server, one in served
        )
