"""The run: one task group in which sessions talk to servers, the fleet hands out work, and attempts are made.

A failure that the run survives is a value and ends up in an event or in the ledger; what ends the run is an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from reggen import progress
from reggen.comfy.session import ServerSession
from reggen.engine.attempt import AttemptRunner
from reggen.engine.availability import Availability
from reggen.engine.disk_room import DiskRoom
from reggen.engine.outcomes import OutcomeHandler
from reggen.engine.server_faults import ServerFaults
from reggen.engine.summary import OUT_OF_TIME
from reggen.engine.supervisor import Supervisor
from reggen.engine.takeover import Takeover
from reggen.engine.timings import EngineTimings
from reggen.errors import JobError, NoUsableServer, ReggenError, SampleError, ServerError, StorageError
from reggen.job.models import Limits
from reggen.launch.launcher import Launched
from reggen.planning.plan import Plan, PromptRequest, Sample
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


class Run:
    """One run over the missing slots of a plan. Call it once; `stop` and `abort` may be called at any time."""

    def __init__(
        self,
        *,
        job_file: str,
        plan: Plan,
        runner: AttemptRunner,
        fleet: Fleet,
        sessions: Sequence[ServerSession],
        limits: Limits,
        launched: Mapping[str, Launched],
        room: int,
        free_every: Mapping[str, int],
        stop_rules: StopRules,
        takeover: Takeover,
        ready: Iterable[str],
        find_undone: Callable[[], Awaitable[list[Sample]]],
        tell: Callable[[RunEvent], None],
        timings: EngineTimings,
    ) -> None:
        """``room``: bytes that must be free to go on after the disk was full.

        ``find_undone`` finds images that were deleted or damaged meanwhile; it is asked once, when the others are made.
        """
        self._runner, self._fleet, self._stop_rules = runner, fleet, stop_rules
        self._limits, self._tell, self._takeover = limits, tell, takeover
        self._sessions = {session.name: session for session in sessions}
        self._changed = asyncio.Event()
        self._supervisors = {
            name: Supervisor(one, self._sessions[name], fleet, self._note, wake=self.wake, timings=timings)
            for name, one in launched.items()
            if name in self._sessions
        }
        self._faults = ServerFaults(fleet, job_file, tell, self._restart, sick_rest=timings.session.sick)
        self._disk = DiskRoom(fleet, runner.folder.free_bytes, runner.threads, room, tell, pauses=timings.room)
        self._outcomes = OutcomeHandler(
            plan=plan,
            runner=runner,
            fleet=fleet,
            faults=self._faults,
            room=self._disk,
            limits=limits,
            stop_rules=stop_rules,
            free_every=free_every,
            tell=tell,
            stop=self.stop,
            pauses=timings.retry,
        )
        self._availability = Availability(fleet, self._sessions, self._faults, limits, tell)
        self._attempts: set[asyncio.Task[None]] = set()
        self._find_undone: Callable[[], Awaitable[list[Sample]]] | None = find_undone
        fleet.expect(more=True)
        self._not_greeted = set(ready) & set(self._sessions)
        self._told_up: set[str] = set()  # sessions whose last event was that they are up
        self._aborted = False
        self._ended_by: ReggenError | None = None

    def stop(self, why: str) -> None:
        """Post nothing more; what is in flight is finished."""
        self._fleet.stop()
        self._tell(progress.RunStopping(time.monotonic(), why))
        self._changed.set()

    def abort(self) -> None:
        """Leave at once: own prompts are taken out of the queues, everything stays resumable."""
        self._aborted = True
        self._fleet.stop()
        self._changed.set()

    def wake(self) -> None:
        """Look again what there is to do: something has changed."""
        self._changed.set()

    def session_changed(self, session: ServerSession) -> None:
        """Note that a server came up or went away, and take over what an earlier run left on it."""
        now = time.monotonic()
        self._not_greeted.discard(session.name)
        self._fleet.health.server_changed(session.name, up=session.up, now=now)
        if session.up or session.name in self._told_up:  # an absence is one event, however often it comes up
            self._tell(progress.ServerChanged(now, session.name, session.up, session.why))
        (self._told_up.add if session.up else self._told_up.discard)(session.name)
        self._take_over(session, now)
        self._changed.set()

    async def __call__(self) -> None:
        """Run until nothing is missing, or stopped. Raises JobError, NoUsableServer or StorageError."""
        try:
            async with asyncio.TaskGroup() as group:
                talks = [talk for session in self._sessions.values() for talk in (session.listen(), session.watch())]
                talks += [supervisor() for supervisor in self._supervisors.values()]
                talking = [group.create_task(talk) for talk in talks]
                with self._errors_end_the_run():
                    await self._dispatch(group)
                await _cancel((*talking, *self._attempts))
        finally:
            await self._withdraw()
        with self._errors_end_the_run():
            if not self._fleet.stopped:
                self._faults.demand_possible_job(at_end=True)
        if self._ended_by:
            raise self._ended_by

    @contextmanager
    def _errors_end_the_run(self) -> Iterator[None]:
        """Keep the first error that ends the run, so that all tasks can be ended before it is raised."""
        try:
            yield
        except (JobError, NoUsableServer, StorageError) as error:
            self._ended_by = self._ended_by or error
            self._changed.set()

    def _note(self, text: str) -> None:
        self._tell(progress.Trouble(time.monotonic(), "", text))
        self._changed.set()

    def _restart(self, name: str, why: str) -> None:
        """Ask for another ComfyUI process, where this run started it."""
        if supervisor := self._supervisors.get(name):
            supervisor.ask(why)

    def _take_over(self, session: ServerSession, now: float) -> None:
        """Take over what an earlier run has left on a server and this one would ask for again."""
        names: list[str] = []
        for orphan in session.orphans:
            request = self._takeover.request_for(orphan)
            if request is not None and self._fleet.adopt(session.name, request, orphan):
                session.take_over(orphan)
                names += [sample.name for sample in request.samples]
        if names:
            self._tell(progress.PromptsTakenOver(now, session.name, tuple(names)))

    # ---- handing out

    @property
    def _is_over(self) -> bool:
        return self._fleet.finished or self._aborted or self._ended_by is not None

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        """Hand out work until nothing is left to do. Raises what ends the run."""
        await self._wait_for_greetings()
        while not self._is_over:
            now = time.monotonic()
            self._stop_in_time()
            for name in self._fleet.health.start_probes(now):
                self._begin(group, self._probe(self._sessions[name]))
            handed_out = self._hand_out(group, now)
            spent = time.monotonic() - now
            if handed_out >= _AT_ONCE:
                await asyncio.sleep(0)  # there may be more, after the others have had their turn
                continue
            await self._give_up_refused(now)
            if self._find_undone and self._fleet.exhausted and not self._fleet.active:
                self._begin(group, self._look_once_more(self._find_undone))
                self._find_undone = None
            if not self._fleet.finished:  # handing out may have found that nothing is left
                await self._sleep(now)
            if spent > _LONG:  # a large fleet: what happens meanwhile is handled in one pass
                await asyncio.sleep(min(_SHARE * spent, _LONGEST_SLEEP))

    def _begin(self, group: asyncio.TaskGroup, work: Coroutine[None, None, None]) -> None:
        """Begin a task that is cancelled when the run ends."""

        async def guarded() -> None:
            with self._errors_end_the_run():
                await work

        task = group.create_task(guarded())
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _wait_for_greetings(self) -> None:
        """Wait a moment for the servers that are known to be there: one may hold what another would be given."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREETING):
                while self._not_greeted and not self._is_over:
                    await self._changed.wait()
                    self._changed.clear()

    def _hand_out(self, group: asyncio.TaskGroup, now: float) -> int:
        """Begin an attempt for each work item that a server can take now; returns their number."""
        given = self._fleet.assign(now, min(self._stop_rules.prompts_left, _AT_ONCE))
        for name, item in given:
            if item.at is None and self._fleet.loads[name].fits(item.request):
                self._stop_rules.posted()  # here, so that the next look at the budget counts it
            self._begin(group, self._attempt(self._sessions[name], item))
        return len(given)

    async def _sleep(self, now: float) -> None:
        """Sleep until something happens, or something is due."""
        left = self._stop_rules.seconds_left
        wake_at = min(
            self._fleet.wake_at(now),
            self._availability.release_prompts(now),
            self._disk.look(now),
            self._availability.look(now),
            now + min(left, _CLOCK) if math.isfinite(left) else math.inf,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(wake_at) else max(0.0, wake_at - now)):
                await self._changed.wait()
        self._changed.clear()

    def _stop_in_time(self) -> None:
        """Stop before the time or the prompts are spent: no prompt is posted that would end too late.

        Prompts that are late nevertheless are left on their servers.
        """
        if self._fleet.stopped:
            self._aborted = self._aborted or self._stop_rules.seconds_left <= 0
        elif self._stop_rules.seconds_left <= 0 or all(
            map(self._stop_rules.is_late, self._fleet.health.usable or {""})
        ):
            self.stop(OUT_OF_TIME)
            self._aborted = self._stop_rules.seconds_left <= 0
        elif self._stop_rules.prompts_left <= 0:
            self.stop(f"the budget of {plural(self._limits.prompts or 0, 'prompt')} is spent")

    async def _probe(self, session: ServerSession) -> None:
        """Ask a server whose rest is over whether it answers; if not, it rests longer."""
        try:
            await session.client.queue_depth()
        except ServerError as error:
            self._fleet.health.failed(session.name, time.monotonic(), error.retry_after)
        else:
            self._fleet.health.probe_answered(session.name)
        self._changed.set()

    async def _give_up_refused(self, now: float) -> None:
        for item in self._fleet.take_refused(now):
            verdict = GiveUp("no server that is there can make it")
            await self._outcomes.give_up(item.request.samples, verdict, item)

    async def _look_once_more(self, find_undone: Callable[[], Awaitable[list[Sample]]]) -> None:
        """Reopen the slots of images that are gone or damaged; until they are known, the run is not over."""
        try:
            samples = await find_undone()
            now = time.monotonic()
            if samples:
                self._tell(progress.SlotsReopened(now, tuple(sample.name for sample in samples)))
            for sample in samples:
                self._fleet.again(WorkItem(PromptRequest((sample,))), now)
        finally:
            self._fleet.expect(more=False)
            self._changed.set()

    # ---- attempts

    async def _attempt(self, session: ServerSession, item: WorkItem) -> None:
        """Make one work item on one server, and draw the consequences. Raises what ends the run."""
        if item.at is None and not self._fleet.loads[session.name].fits(item.request):
            self._fleet.release(session.name)
            self._outcomes.one_by_one(item.request.samples, item.tries)
            self._fleet.finish(session.name)
            self._changed.set()
            return
        names = tuple(sample.name for sample in item.request.samples)
        checkpoint = dict(item.request.samples[0].settings).get("checkpoint")
        self._tell(progress.PromptPosted(time.monotonic(), session.name, names, checkpoint))

        def has_left() -> None:
            self._fleet.release(session.name)
            self._tell(progress.PromptLeft(time.monotonic(), session.name, names))
            self._changed.set()

        try:
            await self._make(session, item, has_left)
        except StorageError as error:
            self._outcomes.storage_failed(item, error)
        finally:
            self._fleet.finish(session.name)
            self._changed.set()

    async def _make(self, session: ServerSession, item: WorkItem, has_left: Callable[[], None]) -> None:
        try:
            result = await self._runner.attempt(session, item, has_left, partial(self._outcomes.saved, session.name))
        except (ServerError, SampleError) as error:
            await self._outcomes.failed(session, item, error)
        else:
            await self._outcomes.succeeded(session, item, result)
            await session.release(result.made.prompt_id, saved=not (result.failures or result.unsaved))

    # ---- leaving

    async def _withdraw(self) -> None:
        """Take our prompts out of the queue of every server that still answers, within a few seconds."""

        async def withdraw_from(session: ServerSession) -> None:
            with suppress(ServerError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW):
                    await session.withdraw()

        async with asyncio.TaskGroup() as group:
            for session in self._sessions.values():
                group.create_task(withdraw_from(session))


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are over: a cancellation that meets a time-out in a library beneath can be swallowed."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
