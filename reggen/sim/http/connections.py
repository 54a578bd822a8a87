"""Connections: the log of requests, a socket as the stand-in sees it, and how a killed process ends either."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol

from reggen.sim.http.reply import HttpRequest

LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""The socket option that makes the end of a connection a reset."""
LOG_LIMIT = 200_000
"""Requests remembered, at most."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was answered. `status` is 0 where no answer was given, 101 for a socket."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    prompt_id: str | None
    at: float
    """Seconds since the server was made."""


class RequestLog(list[Request]):
    """Requests in the order in which they were answered; the older half goes when there are too many."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self._began = began

    def add(self, request: HttpRequest, status: int, prompt_id: str | None = None) -> None:
        """Enter a request that has just been answered with this status."""
        if len(self) >= LOG_LIMIT:
            del self[: LOG_LIMIT // 2]
        path = f"/api{request.path}" if request.api else request.path
        at = time.monotonic() - self._began
        self.append(Request(request.method, path, dict(request.query), status, prompt_id, at))


class ClientSocket(Protocol):
    """The part of a web socket that the stand-in uses."""

    @property
    def closed(self) -> bool:
        """True if nothing can be sent any more."""

    async def send_str(self, data: str) -> None:
        """Send a text frame."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary frame."""

    async def close(self, *, code: int = 1000) -> Any:
        """Send a close frame and wait for the other side's."""


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection the way a killed process does: with RST instead of a farewell."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() != -1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
