"""HTTP requests to one server: paced, timed, with limits on the size of answers, and without secrets in the errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import aiohttp
from yarl import URL

from reggen.comfy import describe, sanitize, tls
from reggen.comfy.json_stream import ItemReader
from reggen.comfy.redaction import Redactor
from reggen.comfy.throttle import Throttle, is_limit, is_worth_repeating
from reggen.comfy.translation import translated
from reggen.errors import HttpStatusError, InvalidResponse, Unreachable

REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_RETRY_AFTER = 600.0  # seconds
_TRIES = 4  # of a query that a limit on requests turned away
_ENCODINGS = "gzip, deflate"  # those that `sanitize.Unpacker` unpacks


def _agent() -> str:
    try:
        return f"reggen/{version('reggen')}"
    except PackageNotFoundError:
        return "reggen"


AGENT = _agent()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: for opening a connection, for one small request, for one picture."""

    connect: float = 5.0
    request: float = 30.0
    download: float = 120.0


class Transport:
    """HTTP with one server. Use it between `open` and `close`. Its methods raise ServerError and nothing else.

    ``headers`` go to this server only. ``pin`` is the SHA-256 of the only certificate that it may show.
    """

    def __init__(
        self, url: str, name: str, *, headers: Mapping[str, str], timeouts: Timeouts, pin: bytes | None
    ) -> None:
        self.url, self.name = url, name
        self.headers, self.timeouts, self.pin = dict(headers), timeouts, pin
        self.redactor = Redactor(name, self.headers.values())
        self._throttle = Throttle()
        self._has_answered = False
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make requests possible; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": AGENT},  # the job's own headers are added to requests to its own server only
            # requests are timed here: aiohttp's own total can swallow a cancellation that meets it
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeouts.connect),
            connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=60),
            auto_decompress=False,  # what is unpacked is measured on the way
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session of aiohttp."""
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        return self._session

    def own_options(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The options of a request to this very server: the job's headers and these, and the pinned certificate."""
        pin = aiohttp.Fingerprint(self.pin) if self.pin else True
        return {"headers": {**self.headers, **headers}, "ssl": pin, "allow_redirects": False}

    # ---- requests

    async def json(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (200,),
        largest: int = sanitize.LARGEST_ANSWER,
    ) -> tuple[int, Any]:
        """The status and the JSON value of an answer of at most ``largest`` bytes."""
        async with self._request(method, path, doing, body=body, allowed=allowed) as response:
            text = sanitize.decode_text(await _read(response, largest))
            try:
                return response.status, sanitize.parse_json(text)
            except sanitize.Unacceptable as error:
                raise self.not_json(doing, text, content_type(response), error.what) from None

    async def listing(self, path: str, doing: str, slim: Callable[[Any], Any], *, lists: bool) -> dict[str, Any]:
        """An answer that can be long, read item by item (see `ItemReader`)."""
        reader, first = ItemReader(slim, lists=lists), b""
        async with self._request("GET", path, doing) as response:
            try:
                async for chunk in unpacked(response, sanitize.LARGEST_LISTING):
                    first = first or chunk
                    reader.feed(chunk)
                return reader.end()
            except sanitize.Unacceptable as error:
                text = sanitize.decode_text(first)
                raise self.not_json(doing, text, content_type(response), error.what) from None

    async def post(self, path: str, doing: str, body: Mapping[str, Any]) -> None:
        """Make a request whose answer has no content that matters."""
        async with self._request("POST", path, doing, body=body) as response:
            await _read(response, sanitize.LARGEST_ANSWER)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, its body still unread. A query that a limit on requests turned away is repeated at its pace."""
        is_query = method == "GET"
        options: Any = {**self.own_options({"Accept-Encoding": _ENCODINGS}), "json": body}
        remaining, answered = _TRIES if is_query else 1, False
        while not answered:
            remaining -= 1
            try:
                async with (
                    self.exchange(doing, self.timeouts.request, is_query=is_query),
                    self._first_contact(self.session.request(method, self.url + path, **options), doing) as response,
                ):
                    await self.demand_status(response, doing, path.partition("?")[0], allowed)
                    answered = True
                    self.passed()
                    yield response
            except HttpStatusError as error:
                if answered or not remaining or not is_limit(error, is_query=is_query) or not is_worth_repeating(error):
                    raise

    @asynccontextmanager
    async def exchange(self, doing: str, seconds: float, *, is_query: bool = True) -> AsyncIterator[None]:
        """One request and its answer: in its turn, within a time limit, with foreign exceptions translated."""
        if wait := self._throttle.wait(time.monotonic()):
            await asyncio.sleep(wait)
        try:
            with translated(self.name, doing):
                async with asyncio.timeout(seconds):
                    yield
        except HttpStatusError as error:
            if is_limit(error, is_query=is_query):
                self._throttle.limited(error, time.monotonic())
            raise

    def passed(self) -> None:
        """Note that no limit on requests turned a request away."""
        self._throttle.passed()

    @asynccontextmanager
    async def _first_contact(self, request: Any, doing: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request. A server that hangs up at the very first one may speak TLS at this port."""
        try:
            async with request as response:
                self._has_answered = True
                yield response
        except aiohttp.ServerDisconnectedError:
            url = URL(self.url)
            if self._has_answered or url.scheme != "http":
                raise
            if not await tls.is_spoken(url.host or "", url.port or 80, self.timeouts.connect):
                raise
            raise Unreachable(self.name, doing, tls.PLAIN_HTTP) from None

    # ---- answers that are not what was asked for

    async def demand_status(
        self, response: aiohttp.ClientResponse, doing: str, route: str, allowed: tuple[int, ...] = (200,), by: str = ""
    ) -> None:
        """Raise HttpStatusError unless the status is allowed. ``by`` is another host that answered, "" for none."""
        if response.status in allowed:
            return
        wait = _seconds(response.headers.get("Retry-After", ""))
        if (location := response.headers.get("Location")) and response.status in REDIRECTS:
            what = describe.redirect(self.url, route, location)
        else:
            what = describe.summary(sanitize.decode_text(await _beginning(response)), content_type(response))
            what = f"{by} says {what or 'nothing more'}" if by else what
        raise HttpStatusError(self.name, doing, response.status, self.redactor.text(what), wait)

    async def demand_no_page(self, response: aiohttp.ClientResponse, doing: str) -> None:
        """Raise InvalidResponse for a web page."""
        if describe.is_page("", kind := content_type(response)):
            raise self.not_json(doing, sanitize.decode_text(await _beginning(response)), kind, sanitize.NOT_JSON)

    def not_json(self, doing: str, text: str, kind: str, what: str) -> InvalidResponse:
        """The error for an answer that cannot be read for the reason ``what``: its beginning and content type."""
        if describe.is_page(text, kind):
            page = f"it answered with {describe.page(text)}; something in front of ComfyUI answers, a login or a proxy"
            return InvalidResponse(self.name, doing, self.redactor.text(page), is_web_page=True)
        if what == sanitize.NOT_JSON:
            what = f"{what} but {self.redactor.text(describe.excerpt(text))!r}"
        return InvalidResponse(self.name, doing, what)


def content_type(response: aiohttp.ClientResponse) -> str:
    """The media type of an answer, without parameters and in lower case."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def unpacked(response: aiohttp.ClientResponse, largest: int | None = None) -> AsyncIterator[bytes]:
    """The body of an answer in pieces, unpacked. Raises Unacceptable when it has more than ``largest`` bytes."""
    unpacker, total = sanitize.Unpacker(response.headers.get("Content-Encoding", "")), 0
    async for packed in response.content.iter_any():
        for chunk in unpacker.feed(packed):
            total += len(chunk)
            if largest is not None and total > largest:
                raise sanitize.Unacceptable(f"the answer is larger than {largest >> 20} MB")
            yield chunk


async def _read(response: aiohttp.ClientResponse, largest: int) -> bytes:
    return b"".join([chunk async for chunk in unpacked(response, largest)])


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of a body; the rest is left unread, so the connection is not used again."""
    content = bytearray()
    try:
        async for chunk in unpacked(response):
            content += chunk
            if len(content) > sanitize.LARGEST_ERROR_BODY:
                break
    except sanitize.Unacceptable:
        pass  # the status says enough
    return bytes(content)


def _seconds(retry_after: str) -> float:
    """A Retry-After header in seconds; a date is compared with our clock. 0.0 for none."""
    if retry_after.isdecimal():
        return min(_LONGEST_RETRY_AFTER, float(retry_after))
    try:
        wait = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (TypeError, ValueError, LookupError, OverflowError):
        return 0.0
    return min(_LONGEST_RETRY_AFTER, max(0.0, wait))
