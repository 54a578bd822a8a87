"""Prompts of ours on one server, from their post to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from reggen.backoff import full_jitter
from reggen.comfy.arrival import ArrivalSearch, ArrivalVerdict
from reggen.comfy.client import Client
from reggen.comfy.history import Outcome, Success
from reggen.comfy.listings import OrphanedPrompt
from reggen.comfy.server_state import ServerState
from reggen.comfy.submission import submission
from reggen.comfy.tracker import PromptTracker
from reggen.errors import HttpStatusError, PromptLost, ServerError, Unreachable

_FORGOTTEN_TOGETHER = 32  # prompts that are taken out of the history with one request


class PostedPrompts:
    """The prompts of ours that a server holds, or may hold.

    An *orphan* is one that nobody here waits for any more: it is taken out of the server's queue when that is possible.
    """

    def __init__(self, client: Client, tracker: PromptTracker, state: ServerState, *, keeps_history: bool) -> None:
        self._client, self._tracker, self._state = client, tracker, state
        self.client_id = ""
        """The socket's: it hears the frames of prompts that are posted under it."""
        self._endings: dict[str, asyncio.Future[Outcome]] = {}
        self._blocked: dict[str, str] = {}  # messages of nodes that blocked an output, which only frames carry
        self._orphans: set[str] = set()
        self._in_doubt: set[str] = set()  # posted, and nobody knows yet if they arrived
        self._keeps_history = keeps_history
        self._saved: list[str] = []  # prompts whose history entries nobody needs
        self._known_as: dict[str, str] = {}  # our ids of ended prompts to those that the server chose

    def __contains__(self, known_as: object) -> bool:
        """True while somebody waits for the end of a prompt."""
        return known_as in self._endings

    @property
    def in_flight(self) -> int:
        """The number of prompts of ours that the server holds, or may hold."""
        return len(self._tracker.in_flight) + len(self._in_doubt)

    # ---- from post to end

    async def execute(self, graph: Mapping[str, Any], prompt_id: str, note: Mapping[str, Any]) -> Outcome:
        """Post a prompt and follow it to its end. Raises PromptRejected, and ServerError when it was not posted."""
        known_as = prompt_id
        self._tracker.posting(prompt_id, self._state.clock())
        try:
            known_as = await self._post(submission(graph, self.client_id, prompt_id, note))
            self._expect(known_as)
            self._tracker.accepted(prompt_id, known_as, self._state.clock())
            return await self._ending(known_as, prompt_id)
        except (ServerError, asyncio.CancelledError) as error:
            if not (isinstance(error, Unreachable) and not error.may_have_arrived):
                self._orphans.add(known_as)
            raise
        finally:
            self._tracker.forget(prompt_id)
            self._tracker.forget(known_as)

    async def resume(self, orphan: OrphanedPrompt) -> Outcome:
        """Follow a prompt that was taken over to its end."""
        try:
            return await self._ending(orphan.known_as, orphan.id)
        except asyncio.CancelledError:
            self._orphans.add(orphan.known_as)
            raise
        finally:
            self._tracker.forget(orphan.known_as)

    def take_over(self, orphan: OrphanedPrompt) -> None:
        """Make an earlier run's prompt ours; `resume` returns how it ends."""
        self._orphans.discard(orphan.known_as)
        self._tracker.took_over(orphan.known_as, self._state.clock())
        self._expect(orphan.known_as)

    def note_blocked(self, known_as: str, message: str) -> None:
        """Remember the message of a node that blocked an output of a prompt of ours."""
        if known_as in self._endings:
            self._blocked[known_as] = self._client.redactor.text(message)

    def settle(self, known_as: str, outcome: Outcome) -> None:
        """End a prompt."""
        self._tracker.forget(known_as)
        ending = self._endings.get(known_as)
        if ending is not None and not ending.done():
            ending.set_result(outcome)

    def _expect(self, known_as: str) -> None:
        self._endings[known_as] = asyncio.get_running_loop().create_future()
        self._state.alarm.ring()

    async def _ending(self, known_as: str, prompt_id: str) -> Outcome:
        """Wait for the poll that settles a prompt."""
        try:
            outcome = await self._endings[known_as]
        finally:
            self._endings.pop(known_as, None)
            blocked = self._blocked.pop(known_as, "")
        if not isinstance(outcome, Success):
            return outcome
        if known_as != prompt_id and not self._keeps_history:
            self._known_as[prompt_id] = known_as
        return replace(outcome, blocked=blocked) if blocked else outcome

    # ---- a post without a clear answer

    async def _post(self, body: Mapping[str, Any]) -> str:
        """Post; after an answer that leaves it open, find out if the prompt arrived before anybody posts it again."""
        try:
            return (await self._client.post(body)).prompt_id
        except ServerError as error:
            is_refused = isinstance(error, HttpStatusError) and error.status < 500
            if is_refused or (isinstance(error, Unreachable) and not error.may_have_arrived):
                raise
            if known_as := await self._find(body["prompt_id"]):
                return known_as
            raise

    async def _find(self, prompt_id: str) -> str | None:
        """Find out if a prompt arrived: the server's id of it, or None. Raises Unreachable when nobody will know.

        A server that is away is waited for, until `abandon` ends that as it does for every prompt in flight.
        """
        self._expect(prompt_id)
        self._in_doubt.add(prompt_id)
        abandoned, search = self._endings[prompt_id], ArrivalSearch(self._state.timings)
        verdict, known_as = ArrivalVerdict.SEARCH_AGAIN, None
        try:
            while verdict is ArrivalVerdict.SEARCH_AGAIN and not abandoned.done():
                verdict, known_as = await self._search(prompt_id, search)
                if verdict is ArrivalVerdict.SEARCH_AGAIN:
                    pause = full_jitter(search.longest_pause(is_up=self._state.up))
                    await asyncio.wait([abandoned], timeout=pause)
        finally:
            self._in_doubt.discard(prompt_id)
            self._endings.pop(prompt_id, None)
        if verdict is ArrivalVerdict.UNKNOWN or abandoned.done():  # then an orphan, in case that it is there
            raise Unreachable(self._client.name, "finding out if a prompt arrived", search.reason, True)
        return known_as

    async def _search(self, prompt_id: str, search: ArrivalSearch) -> tuple[ArrivalVerdict, str | None]:
        was_up = self._state.up
        try:
            known_as = await self._client.find(prompt_id)
        except ServerError as error:
            if isinstance(error, Unreachable):
                self._missed(error.what)
            return search.failed(error, was_up=was_up), None
        self._state.answered()
        return search.answered(known_as), known_as

    def _missed(self, why: str) -> None:
        """Mark the server away so that its prompts can be reassigned; if it is, tell that one more is at stake."""
        if self._state.up:
            self._state.went_away(why)
        else:
            self._state.changed()

    # ---- letting go

    def abandon(self, why: str, *, died: bool = False) -> None:
        """Let go of every prompt in flight: each ends as PromptLost, and becomes an orphan.

        ``died``: the server may have died over one of them.
        """
        for known_as, ending in list(self._endings.items()):
            self._orphans.add(known_as)
            self._tracker.forget(known_as)
            if not ending.done():
                ending.set_result(PromptLost(self._client.name, why, died=died))

    def add_orphans(self, known_as: Iterable[str]) -> None:
        """Note prompts that an earlier run left on the server."""
        self._orphans.update(known_as)

    async def take_back_orphans(self) -> None:
        """Take orphans out of the server's queue, if it answers."""
        orphans = self._orphans - set(self._endings) - set(self._tracker.in_flight)
        if orphans:
            with suppress(ServerError):
                await self._client.take_back(orphans)
                self._orphans -= orphans

    async def withdraw(self) -> None:
        """Take all our prompts out of the server's queue, and interrupt a running one where that is safe."""
        ours = {*self._tracker.in_flight, *self._orphans}
        if ours:
            await self._client.take_back(ours)
            self._orphans.clear()
        await self._forget_saved()

    async def release(self, prompt_id: str, *, saved: bool) -> None:
        """Note that nothing more is asked about a prompt that ended well; ``saved``: its pictures are on our disk.

        The history entries of saved prompts are dropped, some at a time, unless the server's history is to be kept.
        """
        known_as = self._known_as.pop(prompt_id, prompt_id)
        if self._keeps_history or not saved:
            return
        self._saved.append(known_as)
        if len(self._saved) >= _FORGOTTEN_TOGETHER:
            await self._forget_saved()

    async def _forget_saved(self) -> None:
        saved, self._saved = self._saved, []
        if saved:
            with suppress(ServerError):  # a courtesy to the server
                await self._client.forget(saved)
