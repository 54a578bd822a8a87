"""Foreign exceptions of HTTP, turned into reggen's own in one place."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from reggen.comfy import describe, sanitize, tls
from reggen.errors import InvalidResponse, ServerError, Unreachable, UntrustedCertificate


@contextmanager
def translated(server: str, doing: str) -> Iterator[None]:
    """Raise a ServerError for whatever aiohttp, the sockets and `sanitize` raise in the block."""
    try:
        yield
    except (aiohttp.ClientError, OSError, UnicodeError, asyncio.IncompleteReadError, sanitize.Unacceptable) as error:
        raise _translation(server, doing, error) from error


def _translation(server: str, doing: str, error: Exception) -> ServerError:
    match error:
        case sanitize.Unacceptable():
            return InvalidResponse(server, doing, error.what)
        case aiohttp.ClientConnectorCertificateError():
            return UntrustedCertificate(server, doing, _untrusted(error.certificate_error))
        case aiohttp.ServerFingerprintMismatch():
            return UntrustedCertificate(server, doing, tls.OTHER_CERTIFICATE)
        case aiohttp.ClientConnectorError():
            return Unreachable(server, doing, describe.connection_error(error.os_error))
        case aiohttp.ConnectionTimeoutError():
            return Unreachable(server, doing, describe.connection_error(error))
        case TimeoutError():
            return Unreachable(server, doing, "no answer in time", may_have_arrived=True)
    return Unreachable(server, doing, describe.connection_error(error), may_have_arrived=True)


def _untrusted(cause: Exception) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return tls.untrusted(cause)
    return "its certificate is not trusted"
