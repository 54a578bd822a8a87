"""The polls of one server: when they are due, and what follows from their answers."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from reggen.comfy.client import Client
from reggen.comfy.history import READING_HISTORY, Outcome, Success
from reggen.comfy.listings import READING_QUEUE, Queue
from reggen.comfy.prompts import PostedPrompts
from reggen.comfy.recovery import Recovery
from reggen.comfy.server_state import ServerState
from reggen.comfy.tracker import PromptTracker
from reggen.comfy.watchdog import POLLS_PER_GAP, WorkerVerdict
from reggen.errors import NotDownloaded, ServerError, Unreachable

_UNREADABLE = 6  # failed polls in a row of one prompt's history, until just this one counts as unreadable
_REASONS = {
    WorkerVerdict.DEAD: "it accepts prompts and executes none of them: its worker is dead; restart that ComfyUI",
    WorkerVerdict.BLOCKED: "another client's prompt has been running there for very long, and ours wait behind it",
}


class Poller:
    """Polls the prompts of one server whenever the tracker says so."""

    def __init__(
        self,
        client: Client,
        tracker: PromptTracker,
        state: ServerState,
        prompts: PostedPrompts,
        recovery: Recovery,
        *,
        replace_socket: Callable[[], Awaitable[None]],
    ) -> None:
        """``replace_socket`` is called when the socket is deaf."""
        self._client, self._tracker, self._state = client, tracker, state
        self._prompts, self._recovery, self._replace_socket = prompts, recovery, replace_socket
        self._failures: Counter[str] = Counter()  # polls in a row of one prompt's history that went wrong

    async def run(self) -> None:
        """Poll for as long as the session is used."""
        while True:
            await self._state.alarm.sleep_until(self._wake_at())
            await self._poll_due()

    def _wake_at(self) -> float:
        state = self._state
        rest_over = state.worker.rests_until if state.worker.resting else math.inf
        if state.refusals.why:
            return state.refusals.ask_at if state.is_unwatched else rest_over
        try_again = state.clock() + state.timings.poll_interval if state.is_unwatched else math.inf
        return min(self._tracker.wake_at(), rest_over, try_again)

    async def _poll_due(self) -> None:
        state, now = self._state, self._state.clock()
        if state.worker.end_rest(now):
            await self._prompts.take_back_orphans()
            state.came_up()
        if state.up and state.why and state.has_socket:
            state.came_up()  # a socket that was cut again and again has held for a while
        if state.has_socket and self._tracker.canary.check(now):
            await self._replace_socket()
        due = self._tracker.due(now)
        if state.is_unwatched and (state.refusals.why or not due):
            await self._recovery.try_again()
        if state.refusals.why:
            return
        if due.full:
            await self._poll_queue(due.full)
        await self._poll_histories(due.quick, queued=None)

    async def _poll_queue(self, prompt_ids: Sequence[str]) -> None:
        """Make a full poll: the queue first, the history second, so that a prompt cannot slip between the two."""
        try:
            queue = await self._client.queue()
        except ServerError as error:
            for prompt_id in prompt_ids:
                self._tracker.poll_failed(prompt_id, self._state.clock())
            if isinstance(error, Unreachable):
                self._state.went_away(error.what)
            elif self._state.refusals.count(error):
                await self._recovery.check_polling()
            return
        self._state.refusals.answered(READING_QUEUE)
        self._state.answered()
        queued = {*queue.running, *queue.pending}
        for prompt_id in prompt_ids:
            if prompt_id in queued:
                self._tracker.polled(prompt_id, None, queued=True, now=self._state.clock())
        await self._judge_worker(queue)
        await self._poll_histories([prompt_id for prompt_id in prompt_ids if prompt_id not in queued], queued=False)

    async def _judge_worker(self, queue: Queue) -> None:
        """Find out if the worker thread died: such a server answers everything and does nothing."""
        now, timings = self._state.clock(), self._state.timings
        ours = [prompt_id for prompt_id in queue.running if prompt_id in self._prompts]
        heard_at = max(map(self._tracker.heard_at, ours), default=None)
        match verdict := self._state.worker.judge(queue, heard_at, now):
            case WorkerVerdict.DEAD | WorkerVerdict.BLOCKED:
                self._state.went_away(_REASONS[verdict])
                self._prompts.abandon(_REASONS[verdict])
                self._state.alarm.ring()
            case WorkerVerdict.POLL_AGAIN:
                self._tracker.poll_all_by(now + timings.gap / POLLS_PER_GAP)
            case WorkerVerdict.INTERRUPT:
                self._tracker.poll_all_by(now + timings.mercy)
                with suppress(ServerError):
                    if await self._client.aims_interrupts():
                        await self._client.interrupt(ours[0])

    async def _poll_histories(self, prompt_ids: Sequence[str], queued: bool | None) -> None:
        if len(prompt_ids) == 1:  # nearly always
            await self._poll_history(prompt_ids[0], queued)
            return
        async with asyncio.TaskGroup() as group:
            for prompt_id in prompt_ids:
                group.create_task(self._poll_history(prompt_id, queued))

    async def _poll_history(self, prompt_id: str, queued: bool | None) -> None:
        """Poll one prompt; ``queued`` is what the queue said of it, None when it was not read."""
        try:
            ended = await self._client.history(prompt_id)
        except ServerError as error:
            self._tracker.poll_failed(prompt_id, self._state.clock())
            if isinstance(error, Unreachable):
                self._state.went_away(error.what)
            else:
                await self._count_failure(prompt_id, error)
            return
        self._state.refusals.answered(READING_HISTORY)
        self._failures.pop(prompt_id, None)
        self._state.answered()
        if isinstance(ended, Success):
            self._state.worker.saw_success()
        elif ended is not None:
            self._state.worker.saw_work()
        outcome = self._tracker.polled(prompt_id, ended, queued, self._state.clock())
        if outcome is not None:
            self._settle(prompt_id, outcome)

    async def _count_failure(self, prompt_id: str, error: ServerError) -> None:
        """Count a wrong answer; after a few in a row find out if all polls are refused, or only this prompt's."""
        self._failures[prompt_id] += 1
        if self._state.refusals.count(error):
            if not await self._recovery.check_polling():
                return
            self._state.refusals.answered(READING_HISTORY)
        if self._failures[prompt_id] >= _UNREADABLE:
            self._settle(prompt_id, NotDownloaded(self._client.name, f"{READING_HISTORY}: {error.with_remedy}"))

    def _settle(self, prompt_id: str, outcome: Outcome) -> None:
        self._failures.pop(prompt_id, None)
        self._prompts.settle(prompt_id, outcome)
