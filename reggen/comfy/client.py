"""One ComfyUI server over HTTP, and the opening of its WebSocket.

Every foreign exception of HTTP is translated here, once. What a request may have caused although it failed is
told by `Unreachable.may_have_arrived`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urljoin

import aiohttp
from yarl import URL

from reggen.comfy import describe, sanitize, tls, websocket
from reggen.comfy.history import ImageRef, Outcome, is_unknown_job, read_history, read_job
from reggen.comfy.json_stream import ItemReader
from reggen.comfy.listings import (
    OrphanedPrompt,
    Queue,
    find_in_history,
    read_orphans,
    read_queue,
    slim_entry,
    slim_item,
)
from reggen.comfy.node_classes import read_node_class
from reggen.comfy.server_info import read_free_memory, read_queue_depth, read_version
from reggen.comfy.submission import PostAccepted, read_partly_queued, read_submission
from reggen.comfy.throttle import Throttle, is_limit
from reggen.comfy.websocket import EventSocket
from reggen.errors import HttpStatusError, InvalidResponse, ReggenError, ServerError, Unreachable, UntrustedCertificate

__all__ = ["Client", "Download", "EventSocket", "Timeouts"]

_LONGEST_WAIT = 600.0  # seconds that a Retry-After is honoured
_HISTORY = "reading the history"
NOBODY = "00000000-0000-4000-8000-000000000000"
_NEWEST = 200  # history entries read for the prompts of an earlier run, which left a handful at most
_TRIES = 4  # of a question that comes too soon
_ECHOES = 2  # times its graph that a history entry may have, written with other escapes
_NO_ROUTE = (404, 405, 501)
_HOPS = 5  # redirects of a picture that are followed
_MOVED = (301, 302, 303, 307, 308)
_PACKED = "gzip, deflate"  # what we unpack
_E = TypeVar("_E", bound=ReggenError)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: opening a connection, one small request, one picture."""

    connect: float = 5.0
    request: float = 30.0
    download: float = 120.0


class Download:
    """One picture on its way: ``length`` in bytes if the server named it; iterate for the chunks."""

    def __init__(self, server: str, response: aiohttp.ClientResponse) -> None:
        self._server, self._response = server, response
        packed = "Content-Encoding" in response.headers  # the length is that of what was packed
        self.length = None if packed else response.content_length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _Translated(self._server, "downloading an image"):
            async for chunk in _unpacked(self._response):
                yield chunk


class Client:
    """One server. Use as an async context manager. Every method raises ServerError and nothing else.

    ``headers`` go to this server and to nobody else. ``pin`` is the SHA-256 of the only certificate it may show.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        pin: bytes | None = None,
    ) -> None:
        self.url, self.name = url.rstrip("/"), name or url
        self._headers, self._timeouts = dict(headers or {}), timeouts or Timeouts()
        self._secrets = sanitize.secret_forms(self._headers.values())
        self._pin, self._origin = pin, _origin(URL(self.url))
        self._throttle = Throttle()
        self._largest = 0  # characters of the largest graph that was posted: a history entry repeats it
        self._answered = False  # whether it ever answered in HTTP
        self._session: aiohttp.ClientSession | None = None
        self._by_jobs = False  # what is in front of it knows no /history, and knows /api/jobs

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": _AGENT},  # the job's own go to its own server only
            # whole requests are timed here: aiohttp's own total can swallow a cancellation of that moment
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect),
            connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=60),
            auto_decompress=False,  # what is unpacked is measured on the way
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, orphan: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    # ---- prompts

    async def post(self, body: Mapping[str, Any]) -> PostAccepted:
        """POST /prompt. Raises PromptRejected too; nothing is left queued then."""
        doing = "queueing a prompt"
        self._largest = max(self._largest, len(json.dumps(body["prompt"])))
        status, answer = await self._json("POST", "/prompt", doing, body=body, allowed=(200, 400))
        result = read_submission(self.name, status, answer)
        result = self._quiet(result) if isinstance(result, ReggenError) else result
        if isinstance(result, PostAccepted):
            return result
        if status == 200 and (queued := read_partly_queued(answer)):
            await self.take_back([queued])
        raise result

    async def queue(self) -> Queue:
        """GET /queue."""
        return read_queue(self.name, await self._queue("reading the queue"))

    async def history(self, prompt_id: str) -> Outcome | None:
        """GET /history/{id}: how the prompt ended, or None while it has not (or is unknown)."""
        no_history: HttpStatusError | None = None
        if not self._by_jobs:
            try:
                most = sanitize.LARGEST_ANSWER + _ECHOES * min(self._largest, sanitize.LARGEST_LISTING)
                _, body = await self._json("GET", f"/history/{quote(prompt_id, safe='')}", _HISTORY, most=most)
                return self._outcome(read_history(self.name, prompt_id, body))
            except HttpStatusError as refusal:
                if refusal.status != 404:
                    raise
                no_history = refusal
        return await self._job(prompt_id, no_history)

    async def _job(self, prompt_id: str, no_history: HttpStatusError | None) -> Outcome | None:
        """GET /api/jobs/{id}: the same of servers whose proxy knows no /history, where 404 is no unknown id."""
        path = f"/api/jobs/{quote(prompt_id, safe='')}"
        try:
            status, body = await self._json("GET", path, _HISTORY, allowed=(200, 404))
        except ServerError as error:
            gone = isinstance(error, InvalidResponse) or (
                isinstance(error, HttpStatusError) and error.status in _NO_ROUTE
            )
            if no_history and gone:
                raise _no_way_to_look(self.name) from None
            raise
        if status == 404 and not is_unknown_job(body):
            raise _no_way_to_look(self.name)
        self._by_jobs = True
        return None if status == 404 else self._outcome(read_job(self.name, prompt_id, body))

    def _outcome(self, outcome: Outcome | None) -> Outcome | None:
        return self._quiet(outcome) if isinstance(outcome, ReggenError) else outcome

    async def find(self, prompt_id: str) -> str | None:
        """The server's own id of a prompt posted under ``prompt_id``, queued or ended; None: it never arrived."""
        if known := (await self.queue()).find(prompt_id):
            return known
        if await self.history(prompt_id) is not None:
            return prompt_id
        if self._by_jobs:  # such a server keeps the id that it is given
            return None
        newest = await self._newest(100, _HISTORY)
        return find_in_history(self.name, newest, prompt_id)

    async def orphans(self) -> list[OrphanedPrompt]:
        """Prompts of reggen's that the server holds, from whichever run: queued, or among its newest done ones."""
        doing = "looking for prompts of an earlier run"
        queue = await self._queue(doing)  # first: what leaves it enters the history
        return read_orphans(self.name, queue, await self._newest(_NEWEST, doing))

    async def delete(self, prompt_ids: Iterable[str]) -> None:
        """Take prompts out of the queue, by id. Running and unknown ones are left as they are."""
        await self._said("POST", "/queue", "taking prompts out of the queue", {"delete": list(prompt_ids)})

    async def forget(self, prompt_ids: Iterable[str]) -> None:
        """Take ended prompts out of the history, by id. Unknown ones are no error."""
        await self._said("POST", "/history", "clearing up the history", {"delete": list(prompt_ids)})

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt one prompt. Only for servers that aim interrupts: older ones end whatever runs."""
        await self._said("POST", "/interrupt", "interrupting a prompt", {"prompt_id": prompt_id})

    async def take_back(self, prompt_ids: Iterable[str]) -> None:
        """Take our own prompts out of the queue, and interrupt one that runs where interrupts can be aimed."""
        mine = set(prompt_ids)
        queue = await self.queue()
        here = {known for prompt_id in mine if (known := queue.find(prompt_id))}
        await self.delete(sorted(mine | here))
        running = here & set((await self.queue()).running)
        if running and await self.aims_interrupts():
            for prompt_id in running:
                await self.interrupt(prompt_id)

    async def look(self) -> None:
        """Ask what is asked to follow a prompt, for one that nobody knows. Raises what following it would raise."""
        await self.queue()
        await self.history(NOBODY)

    async def free(self) -> None:
        """Ask the server to unload its models and drop its cache after the current prompt."""
        body = {"unload_models": True, "free_memory": True}
        await self._said("POST", "/free", "freeing memory", body)

    # ---- facts

    async def remaining(self) -> int:
        """Prompts running and waiting, everybody's. The cheapest sign of life."""
        _, body = await self._json("GET", "/prompt", "asking for a sign of life")
        return read_queue_depth(self.name, body)

    async def version(self) -> str:
        """ComfyUI's version as it names it, or "unknown"."""
        _, body = await self._json("GET", "/system_stats", "asking for the version")
        return self.hushed(read_version(body))

    async def memory_left(self) -> float | None:
        """The part of its devices' memory that is free, of the fullest; None when it does not say."""
        _, body = await self._json("GET", "/system_stats", "asking for its memory")
        return read_free_memory(body)

    async def aims_interrupts(self) -> bool:
        """Whether an interrupt by prompt id spares other prompts. Told by a route that came later."""
        try:
            await self._json("GET", "/api/jobs?limit=1", "asking what the server can do")
        except ServerError:
            return False
        return True

    async def node_class(self, name: str) -> dict[str, Any] | None:
        """A node class as /object_info describes it; None when the server does not have it."""
        path = f"/object_info/{quote(name, safe='')}"
        _, body = await self._json("GET", path, "asking for its nodes", most=sanitize.LARGEST_NODE_CLASS)
        return read_node_class(self.name, body, name)

    # ---- pictures and frames

    @asynccontextmanager
    async def view(self, image: ImageRef) -> AsyncIterator[Download]:
        """GET /view, streamed."""
        doing = "downloading an image"
        await self._turn()
        try:
            with _Translated(self.name, doing):
                async with asyncio.timeout(self._timeouts.download), self._picture(image, doing) as response:
                    self._throttle.passed()
                    yield Download(self.name, response)
        except HttpStatusError as refusal:
            if is_limit(refusal):
                self._throttle.limited(refusal, time.monotonic())
            raise

    @asynccontextmanager
    async def _picture(self, image: ImageRef, doing: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to GET /view. A store answers with the picture's address: followed, without the job's headers."""
        params = {"filename": image.filename, "subfolder": image.subfolder, "type": image.kind}
        url, plain = URL(f"{self.url}/view").with_query(params), {"Accept-Encoding": "identity"}
        for _ in range(_HOPS + 1):
            own = _origin(url) == self._origin
            options: Any = self._to_own({**self._headers, **plain}) if own else {"headers": plain}
            async with self._open.get(url, allow_redirects=False, **options) as response:
                elsewhere = response.headers.get("Location")
                if response.status not in _MOVED or not elsewhere:
                    await self._refuse(response, doing, "/view", (200,), "" if own else f"{url.host} says")
                    if describe.is_page("", kind := _kind(response)):
                        raise self._no_json(
                            doing, sanitize.decode_text(await _beginning(response)), kind, sanitize.NOT_JSON
                        )
                    yield response
                    return
                url = self._next(url, elsewhere, response.status, doing)
        raise HttpStatusError(self.name, doing, response.status, f"it sends us on more than {_HOPS} times")

    def _next(self, url: URL, elsewhere: str, status: int, doing: str) -> URL:
        try:
            found = URL(urljoin(str(url), elsewhere), encoded=True)  # a signed address is not to be written anew
            if found.scheme in {"http", "https"} and found.origin().host:
                return found
        except ValueError:
            pass
        what = f"it sends us to {self.hushed(describe.excerpt(elsewhere))!r}, which is no address of a picture"
        raise HttpStatusError(self.name, doing, status, what)

    @asynccontextmanager
    async def connect(self, client_id: str) -> AsyncIterator[EventSocket]:
        """Open /ws. A client id must never be used twice: the server unregisters the new socket with the old."""
        try:
            socket = await websocket.opened(
                self.name,
                self.url,
                client_id,
                headers=self._headers,
                agent=_AGENT,
                timeout=self._timeouts.connect,
                pin=self._pin,
            )
        except ServerError as error:
            raise self._quiet(error) from error
        try:
            yield socket
        finally:
            await socket.close()

    # ---- HTTP

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        return self._session

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read, within the time for a request. Raises ServerError.

        A question that came too soon for a limit on requests is asked again, at the pace that the limit lets pass.
        """
        tries, answered = (_TRIES if method == "GET" else 1), False
        while not answered:
            await self._turn()
            try:
                with _Translated(self.name, doing):
                    headers = {**self._headers, "Accept-Encoding": _PACKED}
                    request = self._open.request(
                        method, self.url + path, json=body, allow_redirects=False, **self._to_own(headers)
                    )
                    async with asyncio.timeout(self._timeouts.request), self._wary(request, doing) as response:
                        await self._refuse(response, doing, path.partition("?")[0], allowed)
                        answered = True
                        self._throttle.passed()
                        yield response
            except HttpStatusError as refusal:
                tries -= 1
                limit = not answered and is_limit(refusal, question=method == "GET")
                soon = limit and self._throttle.limited(refusal, time.monotonic())
                if not (soon and tries):
                    raise

    async def _turn(self) -> None:
        if wait := self._throttle.wait(time.monotonic()):
            await asyncio.sleep(wait)

    def _to_own(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The options of a request that goes to this very server."""
        return {"headers": headers, "ssl": aiohttp.Fingerprint(self._pin) if self._pin else True}

    @asynccontextmanager
    async def _wary(self, request: Any, doing: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A server that hangs up at the first request of all may speak TLS there."""
        try:
            async with request as response:
                self._answered = True
                yield response
        except aiohttp.ServerDisconnectedError:
            if self._answered or not await self._speaks_tls():
                raise
            raise Unreachable(self.name, doing, tls.PLAIN_HTTP) from None

    async def _speaks_tls(self) -> bool:
        url = URL(self.url)
        if url.scheme != "http":
            return False
        try:
            opening = asyncio.open_connection(url.host, url.port, ssl=tls.unchecked())
            _, writer = await asyncio.wait_for(opening, self._timeouts.connect)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True

    async def _said(self, method: str, path: str, doing: str, body: Mapping[str, Any]) -> None:
        """Ask for something whose answer says nothing."""
        async with self._asked(method, path, doing, body=body) as response:
            await _read(response, sanitize.LARGEST_ANSWER)

    async def _json(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (200,),
        most: int = sanitize.LARGEST_ANSWER,
    ) -> tuple[int, Any]:
        async with self._asked(method, path, doing, body=body, allowed=allowed) as response:
            text = sanitize.decode_text(await _read(response, most))
            try:
                return response.status, sanitize.parse_json(text)
            except sanitize.Unacceptable as closed:
                raise self._no_json(doing, text, _kind(response), closed.what) from None

    async def _queue(self, doing: str) -> dict[str, Any]:
        return await self._listing("/queue", doing, slim_item, lists=True)

    async def _newest(self, count: int, doing: str) -> dict[str, Any]:
        return await self._listing(f"/history?max_items={count}", doing, slim_entry, lists=False)

    async def _listing(self, path: str, doing: str, slim: Callable[[Any], Any], *, lists: bool) -> dict[str, Any]:
        """A listing that can be long, read item by item."""
        skimmer, head = ItemReader(slim, lists=lists), b""
        async with self._asked("GET", path, doing) as response:
            try:
                async for chunk in _unpacked(response, sanitize.LARGEST_LISTING):
                    head = head or chunk
                    skimmer.feed(chunk)
                return skimmer.end()
            except sanitize.Unacceptable as closed:
                raise self._no_json(doing, sanitize.decode_text(head), _kind(response), closed.what) from None

    def _no_json(self, doing: str, text: str, kind: str, what: str) -> InvalidResponse:
        if describe.is_page(text, kind):
            front = f"it answered with {describe.page(text)}; something in front of ComfyUI answers, a login or a proxy"
            return InvalidResponse(self.name, doing, self.hushed(front), True)
        if what == sanitize.NOT_JSON:
            what = f"{what} but {self.hushed(describe.excerpt(text))!r}"
        return InvalidResponse(self.name, doing, what)

    async def _refuse(
        self,
        response: aiohttp.ClientResponse,
        doing: str,
        route: str,
        allowed: tuple[int, ...],
        whose: str = "",
    ) -> None:
        if response.status in allowed:
            return
        wait = _seconds(response.headers.get("Retry-After", ""))
        if (elsewhere := response.headers.get("Location")) and response.status in _MOVED:
            what = self.hushed(describe.moved(self.url, route, elsewhere))
            raise HttpStatusError(self.name, doing, response.status, what, wait)
        said = describe.in_short(sanitize.decode_text(await _beginning(response)), _kind(response))
        told = f"{whose} {said or 'nothing more'}" if whose else said
        raise HttpStatusError(self.name, doing, response.status, self.hushed(told), wait)

    def hushed(self, text: str) -> str:
        """What a server says, without the secrets it was told: some quote the headers they refuse."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _quiet(self, error: _E) -> _E:
        """The same error, without the secrets in what the server said."""

        def hushed(fact: Any) -> Any:
            if isinstance(fact, tuple):
                return tuple(map(hushed, fact))
            return self.hushed(fact) if isinstance(fact, str) and fact != self.name else fact

        return type(error)(*map(hushed, error.args)) if self._secrets else error


def _kind(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _unpacked(response: aiohttp.ClientResponse, most: int | None = None) -> AsyncIterator[bytes]:
    """A body in pieces, as it was before it was packed. Raises Closed when it has more than ``most`` bytes."""
    unpacker, total = sanitize.Unpacker(response.headers.get("Content-Encoding", "")), 0
    async for packed in response.content.iter_any():
        for chunk in unpacker.feed(packed):
            total += len(chunk)
            if most is not None and total > most:
                raise sanitize.Unacceptable(f"the answer is larger than {most >> 20} MB")
            yield chunk


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    return b"".join([chunk async for chunk in _unpacked(response, most)])


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of a body; the rest is left unread, and the connection is given up with it."""
    content = bytearray()
    try:
        async for chunk in _unpacked(response):
            content += chunk
            if len(content) > sanitize.LARGEST_ERROR_BODY:
                break
    except sanitize.Unacceptable:
        pass  # the status says enough
    return bytes(content)


class _Translated:
    """Turns what aiohttp raises into ServerError, by a table.

    ``may_have_arrived``: the request may have been executed.
    """

    def __init__(self, server: str, doing: str) -> None:
        self._server, self._doing = server, doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, orphan: TracebackType | None
    ) -> None:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                raise UntrustedCertificate(self._server, self._doing, _words(error)) from error
            case aiohttp.ServerFingerprintMismatch():
                raise UntrustedCertificate(self._server, self._doing, tls.OTHER) from error
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                raise Unreachable(self._server, self._doing, _words(error), may_have_arrived=False) from error
            case TimeoutError():
                raise Unreachable(self._server, self._doing, "no answer in time", may_have_arrived=True) from error
            case sanitize.Unacceptable():
                raise InvalidResponse(self._server, self._doing, error.what) from error
            case aiohttp.ClientError() | OSError() | UnicodeError() | asyncio.IncompleteReadError():
                raise Unreachable(self._server, self._doing, _words(error), may_have_arrived=True) from error


def _no_way_to_look(server: str) -> HttpStatusError:
    return HttpStatusError(
        server, _HISTORY, 404, "neither /history nor /api/jobs is to be had there, so no prompt can be followed"
    )


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return (
            tls.untrusted(cause)
            if isinstance(cause, ssl.SSLCertVerificationError)
            else "its certificate is not trusted"
        )
    return describe.happened(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error)


def _agent() -> str:
    try:
        return f"reggen/{version('reggen')}"
    except PackageNotFoundError:
        return "reggen"


_AGENT = _agent()


def _origin(url: URL) -> tuple[str, str, int | None]:
    """The server of an address; an address that is kept as it was written may have its host in any case."""
    return url.scheme.lower(), (url.host or "").lower(), url.port


def _seconds(after: str) -> float:
    """A Retry-After: seconds, or a date, as far as our clock agrees with it. 0 for none."""
    if after.isdecimal():
        return min(_LONGEST_WAIT, float(after))
    try:
        wait = parsedate_to_datetime(after).timestamp() - time.time()
    except (TypeError, ValueError, LookupError, OverflowError):
        return 0.0
    return min(_LONGEST_WAIT, max(0.0, wait))
