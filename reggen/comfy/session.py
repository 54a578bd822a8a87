"""The conversation with one server: its socket, the polls, and prompts from post to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from reggen.comfy.client import Client
from reggen.comfy.history import ImageRef, Outcome
from reggen.comfy.listening import Listener, Recognize
from reggen.comfy.listings import OrphanedPrompt
from reggen.comfy.polling import Poller
from reggen.comfy.prompts import PostedPrompts
from reggen.comfy.recovery import Recovery
from reggen.comfy.server_state import ServerState
from reggen.comfy.timings import Timings
from reggen.comfy.tracker import PromptTracker
from reggen.errors import ServerError


class ServerSession:
    """A conversation with one server. `listen` and `watch` run for as long as it is used, as tasks of its owner.

    ``on_change`` is called with the session whenever `up` or `why` may have changed, or a prompt of ours is at stake.
    ``recognize`` picks prompts that an earlier run left on the server. They are in `orphans` when the session is up for
    the first time: `take_over` in ``on_change`` makes one ours, and the others are taken out of the server's queue.
    """

    def __init__(
        self,
        client: Client,
        *,
        timings: Timings | None = None,
        on_change: Callable[[ServerSession], None] = lambda _session: None,
        recognize: Recognize | None = None,
        keeps_history: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.name, self.on_change = client, client.name, on_change
        timings = timings or Timings()
        tracker = PromptTracker(client.name, timings)
        self._state = state = ServerState(timings, lambda: self.on_change(self), clock)
        self._prompts = PostedPrompts(client, tracker, state, keeps_history=keeps_history)
        self._recovery = Recovery(client, state, self._prompts)
        self._listener = Listener(client, tracker, state, self._prompts, recognize)
        self._poller = Poller(
            client, tracker, state, self._prompts, self._recovery, replace_socket=self._listener.replace_socket
        )

    async def listen(self) -> None:
        """Keep a socket open, for ever."""
        await self._listener.run()

    async def watch(self) -> None:
        """Poll what is due, for ever."""
        await self._poller.run()

    # ---- the server

    @property
    def up(self) -> bool:
        """True while prompts can be posted."""
        return self._state.up

    @property
    def why(self) -> str:
        """The reason why the server cannot be used, or not well; "" for none."""
        return self._state.why

    @property
    def away_since(self) -> float | None:
        """The time at which the server went away; None while it is up."""
        return self._state.away_since

    @property
    def refuses(self) -> bool:
        """True while the server is away because it answers with something else than what is needed: it did not die."""
        return bool(self._state.refusals.why)

    @property
    def worker_is_dead(self) -> bool:
        """True while the server accepts prompts and executes none of them; only a restart helps."""
        return self._state.worker.resting and self._state.worker.dead

    @property
    def orphans(self) -> tuple[OrphanedPrompt, ...]:
        """Prompts of an earlier run that can be taken over, while the session is reported up for the first time."""
        return self._listener.orphans

    async def check_polling(self) -> bool:
        """After a wrong answer, find out if polls are answered. If not, the server is away."""
        return await self._recovery.check_polling()

    async def unload_models(self) -> None:
        """Ask the server to free its memory. No error is raised: polls notice a server that does not answer."""
        self._state.worker.unloading(self._state.clock())
        with suppress(ServerError):
            await self.client.unload_models()

    # ---- prompts

    @property
    def in_flight(self) -> int:
        """The number of prompts of ours that the server holds, or may hold."""
        return self._prompts.in_flight

    async def execute(self, graph: Mapping[str, Any], prompt_id: str, note: Mapping[str, Any]) -> Outcome:
        """Post a prompt and follow it to its end. Raises PromptRejected, and ServerError when it was not posted."""
        return await self._prompts.execute(graph, prompt_id, note)

    def take_over(self, orphan: OrphanedPrompt) -> None:
        """Make one of `orphans` ours; `resume` returns how it ends."""
        self._prompts.take_over(orphan)

    async def resume(self, orphan: OrphanedPrompt) -> Outcome:
        """Follow a prompt that was taken over to its end."""
        return await self._prompts.resume(orphan)

    def picture_served(self, picture: ImageRef) -> None:
        """Note that a picture is being downloaded."""
        self._recovery.picture_served(picture)

    def picture_refused(self, picture: ImageRef, error: ServerError) -> bool:
        """Note that a picture was not served. True when the server is away for that, and not just this picture."""
        return self._recovery.picture_refused(picture, error)

    async def release(self, prompt_id: str, *, saved: bool) -> None:
        """Note that nothing more is asked about a prompt that ended well; ``saved``: its pictures are on our disk."""
        await self._prompts.release(prompt_id, saved=saved)

    def abandon(self, why: str, *, died: bool = False) -> None:
        """Let go of every prompt in flight: each ends as PromptLost, and leaves the queue when that is possible.

        ``died``: the server may have died over one of them.
        """
        self._prompts.abandon(why, died=died)

    async def withdraw(self) -> None:
        """Take all our prompts out of the server's queue, and interrupt a running one where that is safe."""
        await self._prompts.withdraw()
