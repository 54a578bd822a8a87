"""The requests that reggen makes to one ComfyUI server: a method for each of them.

Errors are reggen's own; `Unreachable.may_have_arrived` says if a request that failed may have been executed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from reggen.comfy import sanitize
from reggen.comfy.download import Download, downloading
from reggen.comfy.history import READING_HISTORY, ImageRef, Outcome, is_unknown_job, read_history, read_job
from reggen.comfy.listings import (
    FINDING_ORPHANS,
    READING_QUEUE,
    OrphanedPrompt,
    Queue,
    find_in_history,
    read_orphans,
    read_queue,
    slim_entry,
    slim_item,
)
from reggen.comfy.node_classes import read_node_class
from reggen.comfy.server_info import read_architecture, read_free_memory, read_models, read_queue_depth, read_version
from reggen.comfy.submission import QUEUEING, PostAccepted, read_partly_queued, read_submission
from reggen.comfy.transport import Timeouts, Transport
from reggen.comfy.websocket import EventSocket, open_socket
from reggen.errors import HttpStatusError, InvalidResponse, ReggenError, ServerError

__all__ = ["NOBODY", "Client", "Download", "EventSocket", "Timeouts"]

NOBODY = "00000000-0000-4000-8000-000000000000"
"""The id of no prompt."""
_RECENT = 100  # history entries that are searched for one prompt
_NEWEST = 200  # history entries that are read for the prompts of an earlier run, which left a handful at most
_ECHOES = 2  # a history entry may have so many times the characters of its graph, escaped in another way
_NO_ROUTE = (404, 405, 501)


class Client:  # methods: one for each request that reggen makes
    """One server. Use it as an async context manager. Every method raises ServerError and nothing else.

    ``headers`` go to this server only. ``pin`` is the SHA-256 of the only certificate that it may show.
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
        self._transport = Transport(
            self.url, self.name, headers=headers or {}, timeouts=timeouts or Timeouts(), pin=pin
        )
        self.redactor = self._transport.redactor
        self._largest_graph = 0  # characters of the largest that was posted: a history entry repeats it
        self._has_jobs_only = False  # the proxy in front of it lets no /history through, but /api/jobs

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    # ---- prompts

    async def post(self, body: Mapping[str, Any]) -> PostAccepted:
        """POST /prompt. Raises PromptRejected too; nothing is left queued then."""
        self._largest_graph = max(self._largest_graph, len(json.dumps(body["prompt"])))
        status, answer = await self._transport.json("POST", "/prompt", QUEUEING, body=body, allowed=(200, 400))
        result = read_submission(self.name, status, answer)
        if isinstance(result, PostAccepted):
            return result
        if status == 200 and (queued := read_partly_queued(answer)):
            await self.take_back([queued])
        raise self.redactor.error(result)

    async def queue(self) -> Queue:
        """GET /queue."""
        return read_queue(self.name, await self._queue(READING_QUEUE))

    async def history(self, prompt_id: str) -> Outcome | None:
        """GET /history/{id}: how the prompt ended, or None while it has not or when it is not known."""
        if not self._has_jobs_only:
            largest = sanitize.LARGEST_ANSWER + _ECHOES * min(self._largest_graph, sanitize.LARGEST_LISTING)
            path = f"/history/{quote(prompt_id, safe='')}"
            try:
                _, body = await self._transport.json("GET", path, READING_HISTORY, largest=largest)
                return self._redacted(read_history(self.name, prompt_id, body))
            except HttpStatusError as error:
                if error.status != 404:
                    raise
        return await self._job(prompt_id)

    async def _job(self, prompt_id: str) -> Outcome | None:
        """GET /api/jobs/{id}: the same as `history`, for servers whose proxy lets no /history through."""
        path = f"/api/jobs/{quote(prompt_id, safe='')}"
        try:
            status, body = await self._transport.json("GET", path, READING_HISTORY, allowed=(200, 404))
        except ServerError as error:
            if self._has_jobs_only or not _is_no_route(error):
                raise
            raise _cannot_be_polled(self.name) from None
        if status == 404 and not is_unknown_job(body):
            raise _cannot_be_polled(self.name)
        self._has_jobs_only = True
        return None if status == 404 else self._redacted(read_job(self.name, prompt_id, body))

    async def find(self, prompt_id: str) -> str | None:
        """The server's id of the prompt posted under ``prompt_id``, queued or ended; None when it never arrived."""
        if known_as := (await self.queue()).find(prompt_id):
            return known_as
        if await self.history(prompt_id) is not None:
            return prompt_id
        if self._has_jobs_only:  # such a server keeps the id that it is given
            return None
        return find_in_history(self.name, await self._history(_RECENT, READING_HISTORY), prompt_id)

    async def orphans(self) -> list[OrphanedPrompt]:
        """Prompts that any run of reggen's left on the server: queued, or among the newest that ended well."""
        queue = await self._queue(FINDING_ORPHANS)  # first: what leaves it enters the history
        return read_orphans(self.name, queue, await self._history(_NEWEST, FINDING_ORPHANS))

    async def delete(self, prompt_ids: Iterable[str]) -> None:
        """Take prompts out of the queue, by id. Running and unknown ones are left as they are."""
        await self._transport.post("/queue", "taking prompts out of the queue", {"delete": list(prompt_ids)})

    async def forget(self, prompt_ids: Iterable[str]) -> None:
        """Take ended prompts out of the history, by id. Unknown ones are no error."""
        await self._transport.post("/history", "clearing up the history", {"delete": list(prompt_ids)})

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt one prompt. Only for servers that aim interrupts: older ones end whatever is running."""
        await self._transport.post("/interrupt", "interrupting a prompt", {"prompt_id": prompt_id})

    async def take_back(self, prompt_ids: Iterable[str]) -> None:
        """Take our own prompts out of the queue, and interrupt one that is running where interrupts can be aimed."""
        mine = set(prompt_ids)
        queue = await self.queue()
        here = {known_as for prompt_id in mine if (known_as := queue.find(prompt_id))}
        await self.delete(sorted(mine | here))
        running = here & set((await self.queue()).running)
        if running and await self.aims_interrupts():
            for prompt_id in running:
                await self.interrupt(prompt_id)

    async def check_polling(self) -> None:
        """Make the requests that polling a prompt takes, for a prompt that nobody posted; raises their errors."""
        await self.queue()
        await self.history(NOBODY)

    async def unload_models(self) -> None:
        """Ask the server to unload its models and drop its cache after the current prompt."""
        await self._transport.post("/free", "freeing memory", {"unload_models": True, "free_memory": True})

    # ---- facts

    async def queue_depth(self) -> int:
        """The number of running and waiting prompts of all clients; the cheapest sign of life."""
        _, body = await self._transport.json("GET", "/prompt", "asking for a sign of life")
        return read_queue_depth(self.name, body)

    async def version(self) -> str:
        """ComfyUI's version as the server gives it, or "unknown"."""
        _, body = await self._transport.json("GET", "/system_stats", "asking for the version")
        return self.redactor.text(read_version(body))

    async def free_memory(self) -> float | None:
        """The free share of the fullest device's memory, from 0 to 1; None when the server gives none."""
        _, body = await self._transport.json("GET", "/system_stats", "asking for its memory")
        return read_free_memory(body)

    async def aims_interrupts(self) -> bool:
        """Tell if an interrupt by prompt id spares other prompts: so it is where a later route, /api/jobs, exists."""
        try:
            await self._transport.json("GET", "/api/jobs?limit=1", "asking what the server can do")
        except ServerError:
            return False
        return True

    async def node_class(self, name: str) -> dict[str, Any] | None:
        """A node class as /object_info describes it; None when the server does not have it."""
        path, largest = f"/object_info/{quote(name, safe='')}", sanitize.LARGEST_NODE_CLASS
        _, body = await self._transport.json("GET", path, "asking for its nodes", largest=largest)
        return read_node_class(self.name, body, name)

    async def models(self, folder: str) -> list[str]:
        """The files in a folder of models, such as checkpoints; [] where the server does not say."""
        path, largest = f"/models/{quote(folder, safe='')}", sanitize.LARGEST_NODE_CLASS
        status, body = await self._transport.json(
            "GET", path, "asking for its models", allowed=(200, *_NO_ROUTE), largest=largest
        )
        return read_models(body) if status == 200 else []

    async def architecture(self, folder: str, file: str) -> str:
        """The architecture that a model's header names, or ""."""
        path = f"/view_metadata/{quote(folder, safe='')}?filename={quote(file, safe='')}"
        try:
            return read_architecture((await self._transport.json("GET", path, "asking for a model's header"))[1])
        except ServerError:  # it has no header, or the server no such route
            return ""

    async def model_details(self, folder: str) -> Any:
        """GET /experiment/models/{folder}, for newer servers: the files of a folder with their sizes, unread."""
        path = f"/experiment/models/{quote(folder, safe='')}"
        _, body = await self._transport.json("GET", path, "asking for its models", largest=sanitize.LARGEST_NODE_CLASS)
        return body

    # ---- pictures and frames

    @asynccontextmanager
    async def view(self, image: ImageRef) -> AsyncIterator[Download]:
        """GET /view, streamed."""
        async with downloading(self._transport, image) as download:
            yield download

    @asynccontextmanager
    async def connect(self, client_id: str) -> AsyncIterator[EventSocket]:
        """Open /ws. A client id must never be used twice: the server unregisters the new socket with the old one."""
        socket = await open_socket(self._transport, client_id)
        try:
            yield socket
        finally:
            await socket.close()

    # ---- answers

    async def _queue(self, doing: str) -> dict[str, Any]:
        return await self._transport.listing("/queue", doing, slim_item, lists=True)

    async def _history(self, count: int, doing: str) -> dict[str, Any]:
        return await self._transport.listing(f"/history?max_items={count}", doing, slim_entry, lists=False)

    def _redacted(self, outcome: Outcome | None) -> Outcome | None:
        return self.redactor.error(outcome) if isinstance(outcome, ReggenError) else outcome


def _is_no_route(error: ServerError) -> bool:
    is_missing = isinstance(error, HttpStatusError) and error.status in _NO_ROUTE
    return is_missing or isinstance(error, InvalidResponse)


def _cannot_be_polled(server: str) -> HttpStatusError:
    what = "it has neither /history nor /api/jobs, so prompts cannot be followed there"
    return HttpStatusError(server, READING_HISTORY, 404, what)
