"""The stand-in on a real port. Moves bytes between aiohttp and `Sim`, which decides everything.

When `serve` returns, all that it has started has ended: no task, socket or thread is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from aiohttp import WSMsgType, web

from reggen.sim.faults.hostile import flood
from reggen.sim.faults.script import Fault, Script
from reggen.sim.http.connections import reset
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.machine import Sim
from reggen.sim.settings import Settings

_LARGEST_REQUEST = 100 * 2**20
_AT_ONCE = 0.001
"""Seconds in which handlers may end of themselves; aiohttp takes 0 for "no limit"."""


class WebPort:
    """A TCP port with aiohttp behind it. With port 0 the first opening chooses one, which is kept."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._sim: Sim
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}"

    async def open(self, sim: Sim) -> None:
        """Listen on behalf of `sim`. Raises OSError if the port is taken."""
        self._sim = sim
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_AT_ONCE)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls, reuse_address=True)
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening, and end what is open without a farewell."""
        for site in list(self._runner.sites):
            await site.stop()
        for transport in self.transports():
            reset(transport)
        await self._runner.cleanup()

    def transports(self) -> list[asyncio.Transport]:
        """The connections that are open."""
        server = self._runner.server
        found = [] if server is None else [connection.transport for connection in server.connections]
        return [transport for transport in found if isinstance(transport, asyncio.Transport)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._sim.tasks.own(task)
        read = await _read(request)
        if read.path == "/ws" and read.method == "GET":
            return await self._socket(request, read)
        reply, fault = await self._sim.answer(read)
        return await _respond(request, reply, fault)

    async def _socket(self, request: web.Request, read: HttpRequest) -> web.StreamResponse:
        reply, fault = await self._sim.admit(read)
        if reply.status != 101:
            return await _respond(request, reply, fault)
        ws = web.WebSocketResponse(max_msg_size=0)
        try:
            await ws.prepare(request)
        except ConnectionError:
            return web.Response()  # the client has gone; aiohttp finds that out once more
        sid = read.query.get("clientId") or uuid.uuid4().hex
        try:
            await self._sim.process.greet(sid, ws, request.transport)
            await self._listen(sid, ws)
        finally:
            self._sim.process.hub.leave(sid, ws)
        return ws

    async def _listen(self, sid: str, ws: web.WebSocketResponse) -> None:
        first = True
        async for message in ws:
            if message.type is WSMsgType.TEXT and first:
                first = False
                await self._sim.process.hear(sid, message.data)


async def _read(request: web.Request) -> HttpRequest:
    """The whole of a request as a plain value."""
    api = request.path.startswith("/api/")
    return HttpRequest(
        method=request.method,
        path=request.path.removeprefix("/api") if api else request.path,
        api=api,
        query=dict(request.query),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read(),
        at=time.time(),
    )


async def _respond(request: web.Request, reply: HttpReply, fault: Fault | None) -> web.StreamResponse:
    action = "" if fault is None else fault.do
    if action == "reset" and request.transport is not None:
        reset(request.transport)
    if action == "silent":
        await _gone(request)
    if fault is not None and action == "flood":
        return await _flood(request, fault)
    if fault is not None and action in ("cut", "trickle", "endless") and reply.status == 200:
        return await _bad_body(request, reply, fault)
    textual = reply.content_type.startswith(("text", "application/json"))
    return web.Response(
        status=reply.status or 500,
        body=reply.body,
        headers=dict(reply.headers),
        content_type=reply.content_type or None,
        charset="utf-8" if textual else None,
    )


async def _gone(request: web.Request) -> None:
    """Wait until the client has given up."""
    while request.transport is not None:  # noqa: ASYNC110 - aiohttp tells nobody
        await asyncio.sleep(0.02)


async def _flood(request: web.Request, fault: Fault) -> web.StreamResponse:
    """An endless answer, for as long as the client reads it."""
    response = web.StreamResponse(status=200 if fault.status == 503 else fault.status)
    response.content_type = "application/json"
    if fault.packed:
        response.headers["Content-Encoding"] = "gzip"
    with contextlib.suppress(ConnectionError):  # the client has gone
        await response.prepare(request)
        for piece in flood(fault.megabytes, packed=fault.packed):
            await response.write(piece)
    return response


async def _bad_body(request: web.Request, reply: HttpReply, fault: Fault) -> web.StreamResponse:
    """A body that is shorter than its declared length, comes slowly, or never ends."""
    response = web.StreamResponse(headers={**reply.headers, "Content-Type": reply.content_type})
    if fault.do != "endless":
        response.content_length = len(reply.body)
    size = max(1, -(-len(reply.body) // 10))
    with contextlib.suppress(ConnectionError):  # the client has gone
        await response.prepare(request)
        if fault.do == "cut":
            await response.write(reply.body[: int(len(reply.body) * fault.share)])
            if request.transport is not None:
                request.transport.close()
            return response
        for start in range(0, len(reply.body), size):
            await response.write(reply.body[start : start + size])
            await asyncio.sleep(fault.seconds / 10 if fault.do == "trickle" else 0)
        while fault.do == "endless":
            await response.write(bytes(65536))
            await asyncio.sleep(0.01)
    return response


@asynccontextmanager
async def serve(
    settings: Settings | None = None,
    script: Script | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Sim]:
    """A server in this event loop, listening for as long as the context lasts; with ``tls``, by https."""
    sim = Sim(settings or Settings(), script or Script(), WebPort(host, port, tls))
    await sim.start()
    try:
        yield sim
    finally:
        await sim.stop()


async def run_forever(
    settings: Settings,
    *,
    host: str,
    port: int,
    count: int,
    script: Script,
    on_ready: Callable[[list[str]], None],
) -> None:
    """Serve on `count` consecutive ports, hand `on_ready` their URLs, and go on until cancelled.

    Raises OSError if a port is taken. With port 0 each server chooses its own.
    """
    async with AsyncExitStack() as stack:
        sims = []
        for number in range(count):
            # each server has chances of its own
            own = replace(script, seed=script.seed + number)
            one = serve(settings, own, host, port + number if port else 0)
            sims.append(await stack.enter_async_context(one))
        on_ready([sim.url for sim in sims])
        await asyncio.Event().wait()
