"""Connections: the log entry of a request, a socket that can be closed, and how to break either."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from reggen.sim.http.hub import ClientSocket

LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""The socket option that makes the end of a connection a reset."""


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


class Web(ClientSocket, Protocol):
    """A web socket that can say goodbye."""

    async def close(self, *, code: int = 1000) -> Any:
        """Send a close frame and wait for the other side's."""


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection the way a killed process does: with RST instead of a farewell."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() != -1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
