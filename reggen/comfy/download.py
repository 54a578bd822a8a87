"""Pictures over HTTP: GET /view, streamed, and its redirects to a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from reggen.comfy import describe
from reggen.comfy.history import ImageRef
from reggen.comfy.translation import translated
from reggen.comfy.transport import REDIRECTS, Transport, unpacked
from reggen.errors import HttpStatusError

DOWNLOADING = "downloading an image"
_MOST_REDIRECTS = 5


class Download:
    """One picture on its way: ``length`` in bytes if the server announced it; iterate it for the chunks."""

    def __init__(self, server: str, response: aiohttp.ClientResponse) -> None:
        self._server, self._response = server, response
        is_packed = "Content-Encoding" in response.headers  # then the length is that of the packed picture
        self.length = None if is_packed else response.content_length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translated(self._server, DOWNLOADING):
            async for chunk in unpacked(self._response):
                yield chunk


@asynccontextmanager
async def downloading(transport: Transport, image: ImageRef) -> AsyncIterator[Download]:
    """GET /view, within the time limit for a download. Raises ServerError."""
    async with (
        transport.exchange(DOWNLOADING, transport.timeouts.download),
        _picture(transport, image) as response,
    ):
        transport.passed()
        yield Download(transport.name, response)


@asynccontextmanager
async def _picture(transport: Transport, image: ImageRef) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to GET /view.

    A server may answer with the picture's address in a store: it is followed, without the job's headers.
    """
    params = {"filename": image.filename, "subfolder": image.subfolder, "type": image.kind}
    url, plain = URL(f"{transport.url}/view").with_query(params), {"Accept-Encoding": "identity"}
    home = _origin(URL(transport.url))
    for _ in range(_MOST_REDIRECTS + 1):
        is_own = _origin(url) == home
        options: Any = transport.own_options(plain) if is_own else {"headers": plain, "allow_redirects": False}
        async with transport.session.get(url, **options) as response:
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not location:
                await transport.demand_status(response, DOWNLOADING, "/view", by="" if is_own else str(url.host))
                await transport.demand_no_page(response, DOWNLOADING)
                yield response
                return
            url = _next(transport, url, location, response.status)
    what = f"it redirects more than {_MOST_REDIRECTS} times"
    raise HttpStatusError(transport.name, DOWNLOADING, response.status, what)


def _next(transport: Transport, url: URL, location: str, status: int) -> URL:
    try:
        found = URL(urljoin(str(url), location), encoded=True)  # a signed address must not be quoted again
        if found.scheme in {"http", "https"} and found.origin().host:
            return found
    except ValueError:
        pass
    address = transport.redactor.text(describe.excerpt(location))
    what = f"it redirects to {address!r}, which is not the address of a picture"
    raise HttpStatusError(transport.name, DOWNLOADING, status, what)


def _origin(url: URL) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address; one that is kept as it was written may have its host in any case."""
    return url.scheme.lower(), (url.host or "").lower(), url.port
