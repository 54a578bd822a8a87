"""The run: one task group in which the links talk, the fleet hands out errands, and attempts are made.

What the run survives is a value and ends up in an event or in the ledger; what ends it is an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from reggen import progress
from reggen.comfy.session import ServerSession
from reggen.engine.attempt import AttemptRunner
from reggen.engine.outcomes import OutcomeHandler
from reggen.engine.summary import OUT_OF_TIME
from reggen.engine.supervisor import Supervisor, named
from reggen.engine.takeover import Takeover
from reggen.errors import (
    NoUsableServer,
    SampleError,
    ServerError,
    StorageError,
)
from reggen.job.models import Limits
from reggen.launch.launcher import Launched
from reggen.planning.plan import Plan, PromptRequest, Sample
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet, WorkItem
from reggen.scheduler.retry import GiveUp
from reggen.scheduler.stop_rules import StopRules

_WAITING = 5.0  # seconds without a server that can be used, before it is worth a word
_DOZE = 60.0  # seconds between looks at the clock: a computer that slept has lost time without a timer noticing
_AT_ONCE = 32  # errands that are begun without a breath
_LONG, _SHARE = 0.001, 4  # seconds of one look at the fleet that are no matter; of longer ones the loop gets four times
_BREATH = 0.25  # seconds, at most
_GREETING = 5.0  # seconds for the servers that are ready to say what an earlier run has left on them
_WITHDRAW = 5.0  # seconds for taking our prompts from one server


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
        running: Mapping[str, Launched],
        room: int,
        free_every: Mapping[str, int],
        sick_rest: float,
        stop_rules: StopRules,
        takeover: Takeover,
        ready: Iterable[str],
        undone: Callable[[], Awaitable[list[Sample]]],
        tell: Callable[[RunEvent], None],
    ) -> None:
        """``undone`` looks for images that are none any more; it is asked once, when the others are made."""
        self._runner, self._fleet = runner, fleet
        self._sessions = {session.name: session for session in sessions}
        self._limits, self._tell = limits, tell
        self._changed = asyncio.Event()
        self._kept = [
            Supervisor(one, session, fleet, self._note, wake=self._changed.set)
            for one, session in named(self._sessions, running)
        ]
        self._aborted = False
        self._working: set[asyncio.Task[None]] = set()
        self._stop_rules = stop_rules
        self._after = OutcomeHandler(
            job_file=job_file,
            plan=plan,
            runner=runner,
            fleet=fleet,
            limits=limits,
            stop_rules=stop_rules,
            room=room,
            free_every=free_every,
            sick_rest=sick_rest,
            tell=tell,
            stop=self.stop,
            restart=self._restart,
        )
        self._undone: Callable[[], Awaitable[list[Sample]]] | None = undone
        fleet.expect(more=True)
        self._takeover, self._expected = takeover, set(ready) & set(self._sessions)
        self._away_since: float | None = None  # since when no server can be used
        self._told_away = False
        self._up: set[str] = set()  # sessions whose last event was that they are up

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

    def link_changed(self, session: ServerSession) -> None:
        """A link came up or went away."""
        now = time.monotonic()
        self._expected.discard(session.name)
        self._fleet.server_is(session.name, session.up, now)
        if session.up or session.name in self._up:  # an absence is one event, however often it comes up
            self._tell(progress.ServerChanged(now, session.name, session.up, session.why))
        (self._up.add if session.up else self._up.discard)(session.name)
        self._adopt(session, now)
        self._changed.set()

    async def __call__(self) -> None:
        """Run until nothing is missing, or stopped. Raises what ends a run: JobError, NoUsableServer, StorageError."""
        try:
            async with asyncio.TaskGroup() as group:
                talks = [talk for session in self._sessions.values() for talk in (session.listen(), session.watch())]
                talks += [supervisor() for supervisor in self._kept]
                talking = [group.create_task(talk) for talk in talks]
                try:
                    working = await self._dispatch(group)
                except StorageError as error:  # the ledger could not be read or written
                    self._after.fatal, working = self._after.fatal or error, self._working
                await _end((*talking, *working))
        finally:
            await self._withdraw()
        if self._after.refused_to_the_end() and not self._fleet.stopped:
            self._after.fatal = self._after.fatal or self._after.refused_job()
        if self._after.fatal:
            raise self._after.fatal

    def _note(self, text: str) -> None:
        self._tell(progress.Trouble(time.monotonic(), "", text))
        self._changed.set()

    def _restart(self, name: str, why: str) -> None:
        """Ask for another process, where it is ours to end."""
        for supervisor in self._kept:
            if supervisor.name == name:
                supervisor.ask(why)

    async def _look_once_more(self, undone: Callable[[], Awaitable[list[Sample]]]) -> None:
        """Have made anew what is gone or damaged; until that is known, the run is not over."""
        try:
            samples = await undone()
        except StorageError as error:
            self._after.fatal = self._after.fatal or error
        else:
            now = time.monotonic()
            if samples:
                self._tell(progress.SlotsReopened(now, tuple(sample.name for sample in samples)))
            for sample in samples:
                self._fleet.again(WorkItem(PromptRequest((sample,))), now, 0.0)
        self._fleet.expect(more=False)
        self._changed.set()

    def _adopt(self, session: ServerSession, now: float) -> None:
        """Take over what an earlier run has left on a server and this one would ask for again."""
        names: list[str] = []
        for orphan in session.left_behind:
            request = self._takeover.wanted(orphan)
            if request is not None and self._fleet.adopt(session.name, request, orphan):
                session.take_over(orphan)
                names += [sample.name for sample in request.samples]
        if names:
            self._tell(progress.PromptsTakenOver(now, session.name, tuple(names)))

    # ---- handing out

    async def _greet_all(self) -> None:
        """Wait a moment for the servers that are known to be there: one may hold what another would be given."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREETING):
                while self._expected and not (self._fleet.finished or self._aborted or self._after.fatal):
                    await self._changed.wait()
                    self._changed.clear()

    async def _dispatch(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """Hand out errands until the fleet is finished; returns the attempts that are to be cut short."""
        working = self._working

        def begin(work: Coroutine[None, None, None]) -> None:
            task = group.create_task(work)
            working.add(task)
            task.add_done_callback(working.discard)

        await self._greet_all()
        while not self._fleet.finished and not self._aborted and not self._after.fatal:
            now = time.monotonic()
            self._mind_the_end()
            for server in self._fleet.probes(now):
                begin(self._probe(self._sessions[server]))
            given = self._fleet.assign(now, min(self._stop_rules.prompts_left, _AT_ONCE))
            for server, item in given:
                if item.at is None and self._fleet.fits(server, item.request):
                    self._stop_rules.posted()  # here, so that the next look at the budget knows it
                begin(self._work(self._sessions[server], item))
            spent = time.monotonic() - now
            if len(given) >= _AT_ONCE:
                await asyncio.sleep(0)  # there may be more, after the others have had their turn
                continue
            await self._give_up_stranded(now)
            if self._undone and self._fleet.exhausted and not self._fleet.active:
                begin(self._look_once_more(self._undone))
                self._undone = None
            if not self._fleet.finished:  # handing out may have found that nothing is left
                await self._doze(now)
            if spent > _LONG:  # a large fleet: what happens meanwhile is seen to in one go
                await asyncio.sleep(min(_SHARE * spent, _BREATH))
        return working

    async def _doze(self, now: float) -> None:
        """Until something happens, or the next thing is due."""
        left = self._stop_rules.seconds_left
        wake = min(
            self._fleet.wake_at(now),
            self._give_away(now),
            self._after.look_for_room(now),
            self._mind_the_servers(now),
            now + min(left, _DOZE) if math.isfinite(left) else math.inf,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(wake) else max(0.0, wake - now)):
                await self._changed.wait()
        self._changed.clear()

    async def _probe(self, session: ServerSession) -> None:
        """A server's rest is over: it is given work when it answers, and rests longer when it does not."""
        try:
            await session.client.remaining()
        except ServerError as error:
            self._fleet.failed(session.name, time.monotonic(), error.retry_after)
        else:
            self._fleet.probed(session.name)
        self._changed.set()

    def _mind_the_end(self) -> None:
        """Stop early enough: no prompt is posted that would end too late, and what is late all the same is left."""
        if self._fleet.stopped:
            self._aborted = self._aborted or self._stop_rules.seconds_left <= 0
        elif self._stop_rules.seconds_left <= 0 or all(map(self._stop_rules.is_late, self._fleet.usable or {""})):
            self.stop(OUT_OF_TIME)
            self._aborted = self._stop_rules.seconds_left <= 0
        elif self._stop_rules.prompts_left <= 0:
            self.stop(f"the budget of {self._limits.prompts} prompts is spent")

    def _mind_the_servers(self, now: float) -> float:
        """Notice that no server can be used, say so once, and give up when the job says so. Returns when to look."""
        if self._fleet.deserted and not self._fleet.stopped:
            self._after.fatal = self._after.fatal or self._no_servers()
            return now
        able = self._fleet.well or any(session.up and session.in_flight for session in self._sessions.values())
        if able or self._fleet.stopped:
            if self._told_away and able:
                self._tell(progress.ServersAwaited(now, ""))
            self._away_since, self._told_away = None, False
            return math.inf
        since = self._away_since = now if self._away_since is None else self._away_since
        limit = since + (self._limits.give_up_after or math.inf)
        tell = since + min(_WAITING, self._limits.away)
        if now >= tell and not self._told_away:
            self._told_away = True
            self._tell(progress.ServersAwaited(now, self._why_not()))
        if now >= limit:
            self._after.fatal = self._after.fatal or self._no_servers()
            return now
        return limit if self._told_away else min(limit, tell)

    def _no_servers(self) -> NoUsableServer:
        return NoUsableServer(tuple((name, self._why_not(name)) for name in self._sessions))

    def _why_not(self, name: str = "") -> str:
        """Why a server, or the first of all, cannot be used."""
        whys = {session.name: session.why for session in self._sessions.values() if session.why}
        reasons = {**self._after.last_error, **whys, **self._after.left_out}
        if name:
            return reasons.get(name, "it gave no reason")
        return next((f"{one}: {why}" for one, why in reasons.items()), "connecting")

    async def _give_up_stranded(self, now: float) -> None:
        for item in self._fleet.stranded(now):
            await self._after.give_up(item.request.samples, GiveUp("no server that is there can make it"), item)

    def _give_away(self, now: float) -> float:
        """Prompts on a server that stays away go to the others. Returns when to come again."""
        again = math.inf
        for session in self._sessions.values():
            if session.away_since is None or not session.in_flight:
                continue
            patience = (
                0.0 if self._fleet.stopped else self._limits.away if self._fleet.others_up(session.name) else math.inf
            )
            if now - session.away_since >= patience:
                how = "refused" if session.refuses else "been away"
                session.abandon(f"it has {how} for {now - session.away_since:.0f} s", died=not session.refuses)
            else:
                again = min(again, session.away_since + patience)
        return again

    async def _work(self, session: ServerSession, item: WorkItem) -> None:
        if item.at is None and not self._fleet.fits(session.name, item.request):
            self._fleet.release(session.name)
            self._after.one_by_one(item.request.samples, item.tries, 0.0)
            self._fleet.finish(session.name)
            self._changed.set()
            return
        names = tuple(sample.name for sample in item.request.samples)
        checkpoint = dict(item.request.samples[0].settings).get("checkpoint")
        self._tell(progress.PromptPosted(time.monotonic(), session.name, names, checkpoint))

        def left() -> None:
            self._fleet.release(session.name)
            self._tell(progress.PromptLeft(time.monotonic(), session.name, names))
            self._changed.set()

        try:
            await self._attempt(session, item, left)
        except StorageError as error:
            self._after.no_storage(item, error)
        finally:
            self._fleet.finish(session.name)
            self._changed.set()

    async def _attempt(self, session: ServerSession, item: WorkItem, left: Callable[[], None]) -> None:
        try:
            result = await self._runner.attempt(session, item, left, partial(self._after.delivered, session.name))
        except (ServerError, SampleError) as error:
            await self._after.went_wrong(session, item, error)
        else:
            await self._after.took(session, item, result)
            await session.is_kept(result.made.prompt_id, whole=not (result.failures or result.unsaved))

    # ---- leaving

    async def _withdraw(self) -> None:
        """Take our prompts from every server that still answers; within a few seconds, whatever happens."""

        async def one(session: ServerSession) -> None:
            with suppress(ServerError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW):
                    await session.withdraw()

        async with asyncio.TaskGroup() as group:
            for session in self._sessions.values():
                group.create_task(one(session))


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they are over: a cancellation that meets a time-out in a library beneath can be swallowed."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
