"""One WebSocket to a ComfyUI server. Foreign exceptions are translated here; redirects are not followed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from reggen.comfy import describe, sanitize, tls
from reggen.comfy.transport import AGENT, Transport
from reggen.errors import HttpStatusError, Unreachable, UntrustedCertificate

_LARGEST_FRAME = 1 << 26  # bytes; a 1024 px picture sent as a frame has 3 MB, and the library's own limit is 1 MiB
_NEXT_ADDRESS_AFTER = 0.25  # seconds after which the next address of a host name is tried beside the first
_DOING = "connecting"


class EventSocket:
    """An open WebSocket. Iterate it for the frames; it ends, or raises Unreachable, when the connection is lost."""

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


class _NoRedirects(connect):
    """Does not follow redirects: the library would send the job's headers to another host."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class _OtherCertificate(Exception):
    """The certificate is not the pinned one; nothing was sent."""


def _pinned(pin: bytes) -> type[ClientConnection]:
    class Pinned(ClientConnection):
        async def handshake(self, *args: Any, **options: Any) -> None:
            if not tls.is_pinned(self.transport.get_extra_info("ssl_object"), pin):
                raise _OtherCertificate
            await super().handshake(*args, **options)

    return Pinned


async def open_socket(transport: Transport, client_id: str) -> EventSocket:
    """Open /ws. Raises Unreachable and HttpStatusError."""
    server, url = transport.name, transport.url
    try:
        return EventSocket(server, await _connected(transport, f"ws{url.removeprefix('http')}/ws?clientId={client_id}"))
    except InvalidStatus as error:
        raise transport.redactor.error(_status_error(server, url, error)) from error
    except _OtherCertificate as error:
        raise UntrustedCertificate(server, _DOING, tls.OTHER_CERTIFICATE) from error
    except ssl.SSLCertVerificationError as error:
        raise UntrustedCertificate(server, _DOING, tls.untrusted(error)) from error
    except (OSError, WebSocketException, ValueError, LookupError, EOFError) as error:
        raise transport.redactor.error(Unreachable(server, _DOING, describe.connection_error(error))) from error


async def _connected(transport: Transport, address: str) -> ClientConnection:
    secure: dict[str, Any] = {}
    if transport.pin:
        secure = {"create_connection": _pinned(transport.pin), "ssl": tls.unverified_context()}
    elif transport.url.startswith("https:"):
        secure = {"ssl": await asyncio.to_thread(tls.verified_context)}
    return await _NoRedirects(
        address,
        additional_headers=transport.headers,
        user_agent_header=AGENT,
        compression=None,
        open_timeout=transport.timeouts.connect,
        close_timeout=1,
        ping_interval=20,
        ping_timeout=60,  # a node that holds the interpreter lock delays pongs for seconds
        max_size=_LARGEST_FRAME,
        max_queue=1024,
        proxy=None,
        sock=await _connected_socket(transport.url, transport.timeouts.connect),
        **secure,
    )


async def _connected_socket(url: str, seconds: float) -> socket.socket:
    """A connection to the first address of the host that answers; a dead address does not delay the next for long."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(seconds):
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        return await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, interleave=1)


def _status_error(server: str, url: str, error: InvalidStatus) -> HttpStatusError:
    response = error.response
    status, locations = response.status_code, response.headers.get_all("Location")
    if 300 <= status < 400 and locations:
        return HttpStatusError(server, _DOING, status, describe.redirect(url, "/ws", locations[0]))
    kind = "".join(response.headers.get_all("Content-Type")[:1]).partition(";")[0].strip().lower()
    body = sanitize.decode_text(bytes(response.body or b""))
    return HttpStatusError(server, _DOING, status, describe.summary(body, kind))
