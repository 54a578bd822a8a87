"""The HTTP clients of a job's servers, with their headers, certificates and time-outs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.tls import HOW_TO_COPY, fingerprint
from reggen.engine.threads import Threads
from reggen.errors import JobError, Problem
from reggen.job.models import Limits
from reggen.job.servers import Server

_SEPARATORS = set("\r\n\0")  # of lines: in a header's value they would begin another header


@asynccontextmanager
async def connected(servers: Sequence[Server], limits: Limits, job_file: str) -> AsyncIterator[list[Client]]:
    """One client for each of the job's servers. Raises JobError when a header or a certificate cannot be used."""
    problems: list[Problem] = []
    headers = [_headers(number, server, problems) for number, server in enumerate(servers)]
    pins = await _pins(servers, problems)
    if problems:
        raise JobError(job_file, tuple(problems))
    timeouts = Timeouts(limits.connect, limits.request, limits.download)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Client(server.url, name=server.name, headers=header, timeouts=timeouts, pin=pin)
            )
            for server, header, pin in zip(servers, headers, pins, strict=True)
        ]


def _headers(number: int, server: Server, problems: list[Problem]) -> dict[str, str]:
    """The headers of a server with the environment's values in them; adds to the problems."""
    key = f"servers[{number}].headers"
    try:
        headers = server.resolved_headers()
    except KeyError as error:
        problems.append(Problem(key, f"the environment has no {error.args[0]}", "set it, or take it out"))
        return {}
    if any(_SEPARATORS & set(value) for value in headers.values()):
        problems.append(Problem(key, "has a value of more than one line"))
    return headers


async def _pins(servers: Sequence[Server], problems: list[Problem]) -> list[bytes | None]:
    """The fingerprint of each server's pinned certificate; None where none is pinned. Adds to the problems."""
    pins: list[bytes | None] = []
    thread = Threads(1, "reggen-certificates", Path())
    try:
        for number, server in enumerate(servers):
            pins.append(None)
            if not server.certificate:
                continue
            try:
                pins[-1] = await thread.do(partial(fingerprint, server.certificate))
            except (OSError, ValueError) as error:
                what = f"{server.certificate} cannot be used: {getattr(error, 'strerror', None) or error}"
                problems.append(Problem(f"servers[{number}].certificate", what, HOW_TO_COPY.format(server.netloc)))
    finally:
        await thread.close()
    return pins
