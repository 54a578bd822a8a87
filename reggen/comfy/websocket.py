"""One WebSocket to a ComfyUI server. Foreign exceptions are translated here; redirects are not followed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from reggen.comfy import describe, sanitize, tls
from reggen.errors import HttpStatusError, Unreachable, UntrustedCertificate

_LARGEST_FRAME = 1 << 26  # a 1024 px picture sent as a frame has 3 MB; the library's own limit is 1 MiB
_FALL_THROUGH = 0.25  # seconds after which the next address of a host name is tried beside the first
_DOING = "connecting"


class EventSocket:
    """An open WebSocket. Iterate it for the frames; it ends, or raises Unreachable, when it is gone."""

    def __init__(self, server: str, connection: ClientConnection) -> None:
        self._server, self._connection = server, connection

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        try:
            async for frame in self._connection:
                yield frame
        except ConnectionClosed as error:
            raise Unreachable(self._server, "listening", "the connection was lost") from error

    async def close(self) -> None:
        """Close it; takes a second at most."""
        await self._connection.close()


class _Straight(connect):
    """Stays where it is sent: the library would take the job's headers along to another host."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class _OtherCertificate(Exception):
    """Before anything was said."""


def _pinned(pin: bytes) -> type[ClientConnection]:
    class Pinned(ClientConnection):
        async def handshake(self, *args: Any, **options: Any) -> None:
            if not tls.is_pinned(self.transport.get_extra_info("ssl_object"), pin):
                raise _OtherCertificate
            await super().handshake(*args, **options)

    return Pinned


async def opened(
    server: str, url: str, client_id: str, *, headers: Mapping[str, str], agent: str, timeout: float, pin: bytes | None
) -> EventSocket:
    """Open /ws below ``url``. Raises Unreachable and HttpStatusError, whose texts may hold what the headers say."""
    secure: dict[str, Any] = {}
    if pin:
        secure = {"create_connection": _pinned(pin), "ssl": tls.unchecked()}
    elif url.startswith("https:"):
        secure = {"ssl": await asyncio.to_thread(tls.usual)}
    try:
        connection = await _Straight(
            f"ws{url.removeprefix('http')}/ws?clientId={client_id}",
            additional_headers=headers,
            user_agent_header=agent,
            compression=None,
            open_timeout=timeout,
            close_timeout=1,
            ping_interval=20,
            ping_timeout=60,  # a node that holds the interpreter lock delays pongs for seconds
            max_size=_LARGEST_FRAME,
            max_queue=1024,
            proxy=None,
            sock=await _reached(url, timeout),
            **secure,
        )
    except InvalidStatus as error:
        raise _refusal(server, url, error) from error
    except _OtherCertificate as error:
        raise UntrustedCertificate(server, _DOING, tls.OTHER) from error
    except ssl.SSLCertVerificationError as error:
        raise UntrustedCertificate(server, _DOING, tls.untrusted(error)) from error
    except (OSError, WebSocketException, ValueError, LookupError, EOFError) as error:
        raise Unreachable(server, _DOING, describe.happened(error)) from error
    return EventSocket(server, connection)


async def _reached(url: str, timeout: float) -> socket.socket:
    """A connection to the first address of the host that answers; a dead one is not waited for."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(timeout):
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        return await start_connection(found, happy_eyeballs_delay=_FALL_THROUGH, interleave=1)


def _refusal(server: str, url: str, error: InvalidStatus) -> HttpStatusError:
    response = error.response
    status, elsewhere = response.status_code, response.headers.get_all("Location")
    if 300 <= status < 400 and elsewhere:
        return HttpStatusError(server, _DOING, status, describe.moved(url, "/ws", elsewhere[0]))
    kind = "".join(response.headers.get_all("Content-Type")[:1]).partition(";")[0].strip().lower()
    return HttpStatusError(
        server, _DOING, status, describe.in_short(sanitize.decode_text(bytes(response.body or b"")), kind)
    )
