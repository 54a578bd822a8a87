"""Proxies between reggen and a server: one of connections, and one that understands HTTP.

`Proxy` cuts sockets, or everything. `Front` answers in the server's place where its rule says so, as nginx does in
front of many servers, with a prefix or a certificate if wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

_PORTS = range(first := 21_000 + 50 * (os.getpid() % 20), first + 50)
"""Ports that nothing takes while the proxy is closed: no outgoing connection, and no other process of this program."""

_HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "content-length", "content-encoding"}
_PAGE = "<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


class Between(Protocol):
    """A stand-in for the server's address: a job is pointed at it instead."""

    keys: str
    """Further keys of the server's table in the job file, as TOML."""

    @property
    def url(self) -> str:
        """The address where it listens."""


class Proxy:
    """A TCP proxy before the server that knows which connections are sockets, and can cut them or everything."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "127.0.0.1", parts.port or 80
        self.keys = ""
        self._open: dict[asyncio.StreamWriter, bool] = {}
        self._server: asyncio.Server | None = None
        self._port = 0
        self.client_ids: list[str] = []
        """Client ids of the sockets that were opened, in order."""
        self.last_frame = 0.0
        """Time at which the server last sent a data frame over a socket."""

    @property
    def url(self) -> str:
        """The address where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def listen(self) -> None:
        """Listen, on the same port each time. Raises OSError if none is free."""
        for port in (self._port,) if self._port else _PORTS:
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
                self._port = port
                return
        raise OSError("no port is free")

    async def close(self) -> None:
        """Refuse connections, and cut what is open."""
        if self._server is not None:
            self._server.close()
        self.cut(sockets_only=False)
        await asyncio.sleep(0)

    def cut(self, *, sockets_only: bool = True) -> int:
        """Cut the sockets, or every connection, without a close frame; the number of connections cut."""
        doomed = [writer for writer, is_socket in self._open.items() if is_socket or not sockets_only]
        for writer in doomed:
            writer.transport.abort()
        return len(doomed)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
            return
        found = re.match(rb"GET /ws\?(?:[^ ]*&)?clientId=([^& ]+)", head)
        if found:
            self.client_ids.append(found.group(1).decode())
        self._open[writer] = self._open[up_writer] = bool(found)
        up_writer.write(head)
        try:
            both = (self._pipe(reader, up_writer), self._pipe(up_reader, writer, frames=bool(found)))
            await asyncio.gather(*both)
        finally:
            for one in (writer, up_writer):
                self._open.pop(one, None)
                one.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, frames: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                # Beyond the handshake, only whole data frames count: a pong is an answer from a socket that is deaf.
                if frames and data[0] & 0x0F in (1, 2):
                    self.last_frame = time.monotonic()
                writer.write(data)
                await writer.drain()
        writer.close()


Rule = Callable[[web.Request], web.StreamResponse | None]
"""The answer in the server's place, or None to pass the request on."""


def server_itself(_: web.Request) -> None:
    """The rule that passes everything on."""


def page(status: int, title: str, **headers: str) -> web.Response:
    """An HTML page as web servers make them for people."""
    return web.Response(status=status, text=_PAGE.format(title=title), content_type="text/html", headers=headers)


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]


class Front:
    """An HTTP proxy before the server, sockets included, with a rule that may answer in the server's place."""

    def __init__(self, upstream: str, rule: Rule = server_itself, *, prefix: str = "", keys: str = "") -> None:
        self._upstream, self._prefix = upstream, prefix
        self.rule, self.keys = rule, keys
        self._url = ""
        self.requests: list[SeenRequest] = []

    @property
    def url(self) -> str:
        """The address where it listens."""
        return self._url

    @asynccontextmanager
    async def open(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
        """Serve on a port of this machine, with a certificate if one is given."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            async with aiohttp.ClientSession(auto_decompress=False) as self._session:
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
                port = runner.addresses[0][1]
                self._url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{self._prefix}"
                yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(SeenRequest(request.method, request.path, dict(request.headers)))
        if not request.raw_path.startswith(self._prefix + "/"):
            return page(404, "404 Not Found")
        if (answer := self.rule(request)) is not None:
            return answer
        path = request.raw_path.removeprefix(self._prefix)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._bridge(request, path)
            url = URL(self._upstream + path, encoded=True)
            body = await request.read()
            async with self._session.request(
                request.method, url, data=body, headers=headers, allow_redirects=False
            ) as answered:
                kept = {key: value for key, value in answered.headers.items() if key.lower() not in _HOP_BY_HOP}
                return web.Response(status=answered.status, body=await answered.read(), headers=kept)
        except aiohttp.ClientError:
            return page(502, "502 Bad Gateway")

    async def _bridge(self, request: web.Request, path: str) -> web.StreamResponse:
        url = URL(self._upstream + path, encoded=True)
        async with self._session.ws_connect(url, max_msg_size=0) as server:
            client = web.WebSocketResponse(max_msg_size=0)
            await client.prepare(request)
            pumps = {asyncio.create_task(_pump(server, client)), asyncio.create_task(_pump(client, server))}
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            await client.close()
        return client


async def _pump(source: Any, sink: Any) -> None:
    """Pass messages on from one end of a socket to the other, until either has gone."""
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
