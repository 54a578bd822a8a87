"""The run: one task group in which sessions talk to servers, the fleet hands out work, and attempts are made.

A failure that the run survives is a value and ends up in an event or in the ledger; what ends the run is an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from reggen import progress
from reggen.comfy.session import ServerSession
from reggen.engine.attempt import AttemptRunner
from reggen.engine.availability import Availability
from reggen.engine.disk_room import DiskRoom
from reggen.engine.outcomes import OutcomeHandler
from reggen.engine.run_state import RunState
from reggen.engine.server_faults import ServerFaults
from reggen.engine.summary import OUT_OF_TIME
from reggen.engine.supervisor import Supervisor
from reggen.engine.takeover import Takeover
from reggen.errors import SampleError, ServerError, StorageError
from reggen.planning.plan import PromptRequest, Sample
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.retry import GiveUp
from reggen.scheduler.stop_rules import StopRules
from reggen.scheduler.work_item import WorkItem
from reggen.wording import plural

_CLOCK = 60.0  # seconds between looks at the clock: a computer that slept has lost time without a timer noticing
_AT_ONCE = 32  # work items that are begun before other tasks get their turn
_LONG, _SHARE = 0.001, 4  # an assignment that takes more seconds is followed by a sleep of so many times as long
_LONGEST_SLEEP = 0.25  # seconds of that sleep
_GREETING = 5.0  # seconds for the servers that are ready to name the prompts that an earlier run left on them
_WITHDRAW = 5.0  # seconds for taking our prompts from one server's queue


@dataclass(kw_only=True)
class Run:
    """One run over the missing slots of a plan. Call it once; its ``state`` may end it at any time.

    ``find_undone`` finds images that were deleted or damaged meanwhile; it is called once, when the others are made.
    ``not_greeted`` names the servers that passed the preflight, until their sessions are up.
    """

    state: RunState
    fleet: Fleet
    sessions: Mapping[str, ServerSession]
    supervisors: Iterable[Supervisor]
    runner: AttemptRunner
    outcomes: OutcomeHandler
    faults: ServerFaults
    availability: Availability
    disk: DiskRoom
    stop_rules: StopRules
    takeover: Takeover
    not_greeted: set[str]
    find_undone: Callable[[], Awaitable[list[Sample]]] | None
    tell: Callable[[RunEvent], None]
    _attempts: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _told_up: set[str] = field(default_factory=set, init=False)  # servers whose last event was that they are up

    def session_changed(self, session: ServerSession) -> None:
        """Note that a server came up or went away, and take over what an earlier run left on it."""
        now, name = time.monotonic(), session.name
        self.not_greeted.discard(name)
        self.fleet.health.server_changed(name, up=session.up, now=now)
        if session.up or name in self._told_up:  # an absence is one event, however often it comes up
            self.tell(progress.ServerChanged(now, name, session.up, session.why))
        (self._told_up.add if session.up else self._told_up.discard)(name)
        self._take_over(session, now)
        self.state.wake()

    async def __call__(self) -> None:
        """Run until nothing is missing, or stopped. Raises JobError, NoUsableServer or StorageError."""
        self.fleet.expects_more = self.find_undone is not None
        try:
            async with asyncio.TaskGroup() as group:
                talks = [talk for session in self.sessions.values() for talk in (session.listen(), session.watch())]
                talks += [supervisor() for supervisor in self.supervisors]
                talking = [group.create_task(talk) for talk in talks]
                with self.state.errors_end_the_run():
                    await self._dispatch(group)
                await _cancel((*talking, *self._attempts))
        finally:
            await self._withdraw()
        with self.state.errors_end_the_run():
            if not self.fleet.stopped:
                self.faults.demand_possible_job(at_end=True)
        if self.state.ended_by:
            raise self.state.ended_by

    def _take_over(self, session: ServerSession, now: float) -> None:
        """Take over what an earlier run has left on a server and this one would ask for again."""
        names: list[str] = []
        for orphan in session.orphans:
            request = self.takeover.request_for(orphan)
            if request is not None and self.fleet.adopt(session.name, request, orphan):
                session.take_over(orphan)
                names += [sample.name for sample in request.samples]
        if names:
            self.tell(progress.PromptsTakenOver(now, session.name, tuple(names)))

    # ---- handing out

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        """Hand out work until nothing is left to do. Raises what ends the run."""
        await self._wait_for_greetings()
        while not self.state.is_over:
            now = time.monotonic()
            self._stop_in_time()
            for name in self.fleet.health.start_probes(now):
                self._begin(group, self._probe(self.sessions[name]))
            handed_out = self._hand_out(group, now)
            spent = time.monotonic() - now
            if handed_out >= _AT_ONCE:
                await asyncio.sleep(0)  # there may be more, after the others have had their turn
                continue
            await self._give_up_refused(now)
            if self.find_undone and self.fleet.exhausted and not self.fleet.active:
                self._begin(group, self._look_once_more(self.find_undone))
                self.find_undone = None
            if not self.fleet.finished:  # handing out may have found that nothing is left
                await self.state.sleep(self._seconds_to_next(now))
            if spent > _LONG:  # a large fleet: what happens meanwhile is handled in one pass
                await asyncio.sleep(min(_SHARE * spent, _LONGEST_SLEEP))

    def _begin(self, group: asyncio.TaskGroup, work: Coroutine[None, None, None]) -> None:
        """Begin a task that is cancelled when the run ends."""

        async def guarded() -> None:
            with self.state.errors_end_the_run():
                await work

        task = group.create_task(guarded())
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _wait_for_greetings(self) -> None:
        """Wait a moment for the servers that are known to be there: one may hold what another would be given."""
        until = time.monotonic() + _GREETING
        while self.not_greeted and not self.state.is_over and (left := until - time.monotonic()) > 0:
            await self.state.sleep(left)

    def _hand_out(self, group: asyncio.TaskGroup, now: float) -> int:
        """Begin an attempt for each work item that a server can take now; returns their number."""
        given = self.fleet.assign(now, min(self.stop_rules.prompts_left, _AT_ONCE))
        for name, item in given:
            if item.at is None and self.fleet.loads[name].fits(item.request):
                self.stop_rules.posted()  # here, so that the next look at the budget counts it
            self._begin(group, self._attempt(self.sessions[name], item))
        return len(given)

    def _seconds_to_next(self, now: float) -> float:
        """Seconds until something is due; may be infinite. Does on the way what is due already."""
        left = self.stop_rules.seconds_left
        next_at = min(
            self.fleet.wake_at(now),
            self.availability.release_prompts(now),
            self.disk.look(now),
            self.availability.look(now),
            now + min(left, _CLOCK) if math.isfinite(left) else math.inf,
        )
        return next_at - now

    def _stop_in_time(self) -> None:
        """Stop before the time or the prompts are spent: no prompt is posted that would end too late.

        Prompts that are late nevertheless are left on their servers.
        """
        rules = self.stop_rules
        if self.fleet.stopped:
            self.state.aborted = self.state.aborted or rules.seconds_left <= 0
        elif rules.seconds_left <= 0 or all(map(rules.is_late, self.fleet.health.usable or {""})):
            self.state.stop(OUT_OF_TIME)
            self.state.aborted = rules.seconds_left <= 0
        elif rules.prompts_left <= 0:
            self.state.stop(f"the budget of {plural(rules.prompts or 0, 'prompt')} is spent")

    async def _probe(self, session: ServerSession) -> None:
        """Ask a server whose rest is over whether it answers; if not, it rests longer."""
        try:
            await session.client.queue_depth()
        except ServerError as error:
            self.fleet.health.failed(session.name, time.monotonic(), error.retry_after)
        else:
            self.fleet.health.probe_answered(session.name)
        self.state.wake()

    async def _give_up_refused(self, now: float) -> None:
        for item in self.fleet.take_refused(now):
            verdict = GiveUp("no server that is there can make it")
            await self.outcomes.give_up(item.request.samples, verdict, item)

    async def _look_once_more(self, find_undone: Callable[[], Awaitable[list[Sample]]]) -> None:
        """Reopen the slots of images that are gone or damaged; until they are known, the run is not over."""
        try:
            samples = await find_undone()
            now = time.monotonic()
            if samples:
                self.tell(progress.SlotsReopened(now, tuple(sample.name for sample in samples)))
            for sample in samples:
                self.fleet.again(WorkItem(PromptRequest((sample,))), now)
        finally:
            self.fleet.expects_more = False
            self.state.wake()

    # ---- attempts

    async def _attempt(self, session: ServerSession, item: WorkItem) -> None:
        """Make one work item on one server, and draw the consequences. Raises what ends the run."""
        load = self.fleet.loads[session.name]
        if item.at is None and not load.fits(item.request):
            load.release()
            self.outcomes.one_by_one(item.request.samples, item.tries)
            self.fleet.finish(session.name)
            self.state.wake()
            return
        names = tuple(sample.name for sample in item.request.samples)
        checkpoint = dict(item.request.samples[0].settings).get("checkpoint")
        self.tell(progress.PromptPosted(time.monotonic(), session.name, names, checkpoint))

        def has_left() -> None:
            load.release()
            self.tell(progress.PromptLeft(time.monotonic(), session.name, names))
            self.state.wake()

        try:
            await self._make(session, item, has_left)
        except StorageError as error:
            self.outcomes.storage_failed(item, error)
        finally:
            self.fleet.finish(session.name)
            self.state.wake()

    async def _make(self, session: ServerSession, item: WorkItem, has_left: Callable[[], None]) -> None:
        try:
            result = await self.runner.attempt(session, item, has_left, partial(self.outcomes.saved, session.name))
        except (ServerError, SampleError) as error:
            await self.outcomes.failed(session, item, error)
        else:
            await self.outcomes.succeeded(session, item, result)
            await session.release(result.made.prompt_id, saved=not (result.failures or result.unsaved))

    # ---- leaving

    async def _withdraw(self) -> None:
        """Take our prompts out of the queue of every server that still answers, within a few seconds."""

        async def withdraw_from(session: ServerSession) -> None:
            with suppress(ServerError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW):
                    await session.withdraw()

        async with asyncio.TaskGroup() as group:
            for session in self.sessions.values():
                group.create_task(withdraw_from(session))


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are over: a cancellation that meets a time-out in a library beneath can be swallowed."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
