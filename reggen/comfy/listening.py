"""The socket to one server: kept open, its frames handed on; without one, the server is asked for a sign of life."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from reggen.backoff import full_jitter
from reggen.comfy.client import Client, EventSocket
from reggen.comfy.frames import SIGNS_OF_WORK, Ended, NodeDone, Preview, Progressed, Unknown, read_frame
from reggen.comfy.listings import OrphanedPrompt
from reggen.comfy.prompts import PostedPrompts
from reggen.comfy.server_state import ServerState
from reggen.comfy.tracker import PromptTracker
from reggen.errors import HttpStatusError, InvalidResponse, ServerError, Unreachable

_MAKES_NOTHING_DUE = (NodeDone, Progressed, Preview, Unknown)  # signs of life: by far the most frames
_ORPHAN_TRIES = 3

Recognize = Callable[[Sequence[OrphanedPrompt]], Awaitable[tuple[OrphanedPrompt, ...]]]
"""Picks the prompts of an earlier run of this job out of those that any run of reggen's left on a server."""


class Listener:
    """Listens to the events of one server; ``recognize`` is None where earlier runs do not matter."""

    def __init__(
        self,
        client: Client,
        tracker: PromptTracker,
        state: ServerState,
        prompts: PostedPrompts,
        recognize: Recognize | None,
    ) -> None:
        self._client, self._tracker, self._state, self._prompts = client, tracker, state, prompts
        self._recognize = recognize
        self._socket: EventSocket | None = None
        self.orphans: tuple[OrphanedPrompt, ...] = ()
        """Prompts of an earlier run, while the server is reported up for the first time."""

    async def run(self) -> None:
        """Keep a socket open, each under a new client id, for as long as the session is used."""
        state, failures = self._state, 0
        while True:
            opened_at = state.clock()
            try:
                await self._listen()
                why = "the server closed the connection"
            except ServerError as error:
                why = error.what
            lived = state.clock() - opened_at
            self._closed(why, lived)
            await self._ask_for_life()
            failures = 1 if lived > state.timings.lasting and not self._tracker.canary.found_deaf else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(full_jitter(state.timings.reconnect.ceiling(failures))):
                    await state.found_again.wait()
            state.found_again.clear()

    async def replace_socket(self) -> None:
        """Close the socket, so that another is opened."""
        if self._socket:
            await self._socket.close()

    async def _listen(self) -> None:
        client_id = uuid.uuid4().hex
        async with self._client.connect(client_id) as socket:
            if not self._state.up:
                await self._demand_an_answer()
            self._prompts.client_id = client_id
            self._tracker.connected(self._state.clock())
            self._state.alarm.ring()
            self._state.disconnects.opened()
            await self._greet()
            self._socket, self._state.has_socket = socket, True
            async for frame in socket:
                self._dispatch(frame)

    def _dispatch(self, frame: str | bytes) -> None:
        """Hand one frame on. Synchronous, so that frames are read as fast as they come."""
        event = read_frame(frame)
        self._tracker.frame(event, self._state.clock())
        if isinstance(event, Ended) and event.blocked:
            self._prompts.note_blocked(event.prompt_id, event.blocked)
        if isinstance(event, SIGNS_OF_WORK):
            self._state.worker.saw_work()
        if not isinstance(event, _MAKES_NOTHING_DUE):
            self._state.alarm.ring_by(self._tracker.wake_at())

    def _closed(self, why: str, lived: float) -> None:
        if self._state.has_socket and not self._tracker.canary.found_deaf:
            self._state.disconnects.cut(self._state.clock(), lived)
        else:
            self._state.disconnects.failed(why)
        self._socket, self._state.has_socket = None, False
        self._tracker.disconnected()
        self._state.alarm.ring()

    async def _demand_an_answer(self) -> None:
        """Raise Unreachable unless the server answers HTTP: a socket can be opened to one that takes no prompt."""
        with suppress(HttpStatusError, InvalidResponse):  # these are answers; `Refusals` counts them
            await self._client.queue_depth()

    async def _ask_for_life(self) -> None:
        """Without a socket, find out if the server answers HTTP: then it can still be used, by polling."""
        try:
            await self._client.queue_depth()
        except ServerError as error:
            if isinstance(error, Unreachable) and not error.may_have_arrived:
                self._state.worker.replaced()  # the process is gone, and the next one has a new worker
            self._state.went_away(error.with_remedy)
        else:
            self._prompts.client_id = self._prompts.client_id or uuid.uuid4().hex
            await self._greet()

    async def _greet(self) -> None:
        """Report the server up; before it is given work, what an earlier run left on it is known."""
        if self._state.refusals.why:
            return
        if self._recognize is not None:
            self.orphans = await self._find_orphans(self._recognize)
            self._prompts.add_orphans(orphan.known_as for orphan in self.orphans)
            self._recognize = None
        else:
            await self._prompts.take_back_orphans()
        self._state.came_up()
        self.orphans = ()
        await self._prompts.take_back_orphans()

    async def _find_orphans(self, recognize: Recognize) -> tuple[OrphanedPrompt, ...]:
        for failures in range(1, _ORPHAN_TRIES + 1):
            try:
                return await recognize(await self._client.orphans())
            except ServerError:
                if failures < _ORPHAN_TRIES:
                    await asyncio.sleep(full_jitter(self._state.timings.orphans.ceiling(failures)))
        return ()  # it is used nevertheless; at worst a few prompts are paid for twice
