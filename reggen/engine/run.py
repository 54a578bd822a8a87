"""The run: one task group in which the links talk, the fleet hands out errands, and attempts are made.

What the run survives is a value and ends up in an event or in the ledger; what ends it is an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from reggen import progress
from reggen.comfy.launch import Launched
from reggen.comfy.link import Link
from reggen.dataset.ledger import Row, now_utc
from reggen.engine.adopt import Heritage
from reggen.engine.attempt import Bench, Result
from reggen.engine.fleet import Errand, Fleet
from reggen.engine.keep import keep, named
from reggen.engine.retry import GiveUp, decide
from reggen.errors import (
    BadImage,
    JobError,
    NoServers,
    Problem,
    Refused,
    ReggenError,
    Rejected,
    SampleError,
    ServerError,
    StorageError,
)
from reggen.job import Limits
from reggen.plan import Order, Plan, Sample
from reggen.progress import RunEvent

_HOPELESS = 3  # prompts refused before the first one was taken: the job is at fault, not the sample
_IN_A_ROW = 10  # prompts given up with no image in between: something is wrong with the whole run
_ROOM_PAUSES = (5.0, 300.0)  # seconds between looks for room on a full disk
_SICK = 3  # prompts in a row with nothing but bad pictures: the server's memory is freed; twice as many: it rests
_GREETING = 5.0  # seconds for the servers that are ready to say what an earlier run has left on them
_WITHDRAW = 5.0  # seconds for taking our prompts from one server


class Run:
    """One run over the missing slots of a plan. Call it once; `stop` and `abort` may be called at any time."""

    def __init__(
        self,
        *,
        job_file: str,
        plan: Plan,
        bench: Bench,
        fleet: Fleet,
        links: Sequence[Link],
        limits: Limits,
        running: Mapping[str, Launched],
        room: int,
        sick_rest: float,
        until: float | None,
        heritage: Heritage,
        ready: Iterable[str],
        tell: Callable[[RunEvent], None],
    ) -> None:
        self._job_file, self._plan, self._bench, self._fleet = job_file, plan, bench, fleet
        self._links = {link.name: link for link in links}
        self._limits, self._tell = limits, tell
        self._kept = named(self._links, running)
        self._changed = asyncio.Event()
        self._fatal: ReggenError | None = None
        self._aborted = False
        self._working: set[asyncio.Task[None]] = set()
        self._refusals: list[Rejected] = []
        self._given_up_in_a_row = 0
        self._bad_in_a_row: Counter[str] = Counter()
        self._look_for_room_at, self._room_pause = -math.inf, _ROOM_PAUSES[0]
        self._room, self._until, self._sick_rest = room, until, sick_rest
        self._waited: dict[str, float] = {}  # how long the last prompt of each server took, from its post
        self._heritage, self._expected = heritage, set(ready) & set(self._links)
        self._away_since: float | None = None  # since when no server can be used

    def stop(self, why: str) -> None:
        """Post nothing more; what is in flight is finished."""
        self._fleet.stop()
        self._tell(progress.Stopping(time.monotonic(), why))
        self._changed.set()

    def abort(self) -> None:
        """Leave at once: own prompts are taken out of the queues, everything stays resumable."""
        self._aborted = True
        self._fleet.stop()
        self._changed.set()

    def link_changed(self, link: Link) -> None:
        """A link came up or went away."""
        now = time.monotonic()
        self._expected.discard(link.name)
        self._fleet.server_is(link.name, link.up, now)
        self._tell(progress.ServerChanged(now, link.name, link.up, link.why))
        self._adopt(link, now)
        if any(one.up for one in self._links.values()):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
            self._tell(progress.Trouble(now, "", "no server is there; waiting for one"))
        self._changed.set()

    async def __call__(self) -> None:
        """Run until nothing is missing, or stopped. Raises what ends a run: JobError, NoServers, StorageError."""
        try:
            async with asyncio.TaskGroup() as group:
                talks = [talk for link in self._links.values() for talk in (link.listen(), link.watch())]
                talks += [keep(one, link, self._fleet, self._note) for one, link in self._kept]
                talking = [group.create_task(talk) for talk in talks]
                try:
                    working = await self._dispatch(group)
                except StorageError as error:  # the ledger could not be read or written
                    self._fatal, working = self._fatal or error, self._working
                await _end((*talking, *working))
        finally:
            await self._withdraw()
        if self._refusals and self._fleet.hopeless and not self._fleet.stopped:
            self._fatal = self._fatal or self._refused_job()  # fewer prompts than it takes to be sure at once
        if self._fatal:
            raise self._fatal

    def _note(self, text: str) -> None:
        self._tell(progress.Trouble(time.monotonic(), "", text))
        self._changed.set()

    def _adopt(self, link: Link, now: float) -> None:
        """Take over what an earlier run has left on a server and this one would ask for again."""
        names: list[str] = []
        for trace in link.left_behind:
            order = self._heritage.wanted(trace)
            if order is not None and self._fleet.adopt(link.name, order, trace):
                link.take_over(trace)
                names += [sample.name for sample in order.samples]
        if names:
            self._tell(progress.TookOver(now, link.name, tuple(names)))

    # ---- handing out

    async def _greet_all(self) -> None:
        """Wait a moment for the servers that are known to be there: one may hold what another would be given."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREETING):
                while self._expected and not (self._fleet.finished or self._aborted or self._fatal):
                    await self._changed.wait()
                    self._changed.clear()

    async def _dispatch(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """Hand out errands until the fleet is finished; returns the attempts that are to be cut short."""
        working = self._working
        await self._greet_all()
        while not self._fleet.finished and not self._aborted and not self._fatal:
            now = time.monotonic()
            self._mind_the_time(now)
            for server, errand in self._fleet.assign(now):
                task = group.create_task(self._work(self._links[server], errand))
                working.add(task)
                task.add_done_callback(working.discard)
            await self._give_up_stranded(now)
            wake = min(
                self._fleet.wake_at(now),
                self._give_away(now),
                self._look_for_room(now),
                self._until if self._until is not None else math.inf,
                self._give_up_at(),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(wake) else max(0.0, wake - now)):
                    await self._changed.wait()
            self._changed.clear()
        return working

    def _mind_the_time(self, now: float) -> None:
        """Stop early enough: no prompt is posted that would end too late, and what is late all the same is left."""
        if self._until is not None:
            for name in self._fleet.usable:
                if now + self._waited.get(name, 0.0) > self._until:
                    self._fleet.leave_out(name)
            if self._fleet.closed and not self._fleet.stopped:
                self.stop("the time is up")
            if now >= self._until:
                if not self._fleet.stopped:
                    self.stop("the time is up")
                self._aborted = True
        if now >= self._give_up_at():
            tried = tuple((link.name, link.why) for link in self._links.values())
            self._fatal = self._fatal or NoServers(tried)

    async def _give_up_stranded(self, now: float) -> None:
        for errand in self._fleet.stranded(now):
            await self._give_up(errand.order.samples, GiveUp("every server refused it"), errand)

    def _give_up_at(self) -> float:
        limit = self._limits.give_up_after
        return math.inf if limit is None or self._away_since is None else self._away_since + limit

    def _give_away(self, now: float) -> float:
        """Prompts on a server that stays away go to the others. Returns when to come again."""
        again = math.inf
        for link in self._links.values():
            if link.away_since is None or not link.in_flight:
                continue
            patience = (
                0.0 if self._fleet.stopped else self._limits.away if self._fleet.others_up(link.name) else math.inf
            )
            if now - link.away_since >= patience:
                link.abandon(f"it has been away for {now - link.away_since:.0f} s")
            else:
                again = min(again, link.away_since + patience)
        return again

    async def _work(self, link: Link, errand: Errand) -> None:
        names = tuple(sample.name for sample in errand.order.samples)
        self._tell(progress.Posted(time.monotonic(), link.name, names))

        posted = time.monotonic()

        def left() -> None:
            self._waited[link.name] = time.monotonic() - posted
            self._fleet.release(link.name)
            self._tell(progress.Left(time.monotonic(), link.name, names))
            self._changed.set()

        try:
            await self._attempt(link, errand, left)
        except StorageError as error:
            self._no_storage(errand, error)
        finally:
            self._fleet.finish(link.name)
            self._changed.set()

    async def _attempt(self, link: Link, errand: Errand, left: Callable[[], None]) -> None:
        try:
            result = await self._bench.attempt(link, errand, left)
        except (ServerError, SampleError) as error:
            await self._judge_server(link, error)
            await self._failed(link, errand, errand.order.samples, error)
        else:
            self._fleet.accepted(link.name)
            await self._took(link, errand, result)

    # ---- the local disk

    def _no_storage(self, errand: Errand, error: StorageError) -> None:
        """A full disk is waited for, and costs no sample a try; whatever else it refuses ends the run."""
        if not error.full or self._fleet.stopped:
            self._fatal = self._fatal or error
            return
        now = time.monotonic()
        self._fleet.again(Errand(errand.order, errand.tries.counted()), now, 0.0)
        self._look_for_room_at = now + self._room_pause
        if not self._fleet.held:
            self._room_pause = min(_ROOM_PAUSES[1], 2 * self._room_pause)  # the disk may say it has room and lie
            self._fleet.hold()
            self._tell(progress.Paused(now, f"{error.doing} {error.path}: {error.what}; waiting for room"))

    def _look_for_room(self, now: float) -> float:
        """Go on when there is room again. Returns when to come again."""
        if not self._fleet.held:
            return math.inf
        if now >= self._look_for_room_at:
            if self._bench.folder.free_bytes() >= self._room:
                self._fleet.resume()
                self._tell(progress.Paused(now, ""))
                return now
            self._look_for_room_at = now + _ROOM_PAUSES[0]
        return self._look_for_room_at

    # ---- what came of it

    async def _took(self, link: Link, errand: Errand, result: Result) -> None:
        for receipt in result.receipts:
            self._given_up_in_a_row = self._bad_in_a_row[link.name] = 0
            self._room_pause = _ROOM_PAUSES[0]
            now = time.monotonic()
            self._tell(progress.Committed(now, link.name, receipt.sample.name, receipt.busy, receipt.prompt_id))
        same_take = [pair for pair in result.failures if not _wants_new_seed(pair[1])]
        if same_take:
            samples = tuple(sample for sample, _ in same_take)
            await self._failed(link, errand, samples, same_take[0][1])
        if result.storage:
            unsaved = Errand(Order(result.unsaved), errand.tries)
            self._no_storage(unsaved, result.storage)
        bad = [error for _, error in result.failures if _wants_new_seed(error)]
        if bad and not result.receipts:
            await self._is_sick(link)
        for sample, error in result.failures:
            if _wants_new_seed(error):
                await self._failed(link, errand, (sample,), error)

    async def _is_sick(self, link: Link) -> None:
        """Black pictures in a row are a server's sickness more often than the seeds' fault."""
        self._bad_in_a_row[link.name] += 1
        if self._bad_in_a_row[link.name] % _SICK == 0:
            with suppress(ServerError):
                await link.client.free()
        if self._bad_in_a_row[link.name] % (2 * _SICK) == 0:
            self._fleet.failed(link.name, time.monotonic(), self._sick_rest)

    async def _judge_server(self, link: Link, error: ServerError | SampleError) -> None:
        """What a failed prompt says about the server it was on."""
        now = time.monotonic()
        if isinstance(error, ServerError):
            self._fleet.failed(link.name, now, error.wait if isinstance(error, Refused) else 0.0)
        elif isinstance(error, Rejected):
            if self._fleet.refused(link.name):
                text = f"{link.name} keeps refusing what others take and is left out of this run: {error}"
                self._tell(progress.Trouble(now, link.name, text))
            self._hopeless(error)
        else:
            self._fleet.accepted(link.name)

    def _hopeless(self, error: Rejected) -> None:
        """When the first prompts are all refused, wherever they go, the job itself is wrong."""
        if not self._fleet.hopeless:
            return
        self._refusals.append(error)
        able = self._fleet.candidates(time.monotonic())
        everywhere = {refusal.server for refusal in self._refusals} >= able
        if everywhere and len(self._refusals) >= _HOPELESS:
            self._fatal = self._refused_job()

    def _refused_job(self) -> JobError:
        last = self._refusals[-1]
        return JobError(self._job_file, tuple(Problem(last.server, reason) for reason in last.reasons))

    async def _failed(
        self, link: Link, errand: Errand, samples: tuple[Sample, ...], error: ServerError | SampleError
    ) -> None:
        now = time.monotonic()
        able = self._fleet.candidates(now)
        verdict = decide(error, link.name, errand.tries, self._limits, able, batch=errand.order.batch)
        if isinstance(verdict, GiveUp):
            await self._give_up(samples, verdict, errand, link.name)
            return
        self._tell(progress.Trouble(now, link.name, _sentence(samples, error)))
        if verdict.free_memory:
            with suppress(ServerError):
                await link.client.free()
        tries = verdict.tries.counted()
        if verdict.next_take:  # each on its own from here on
            for sample in samples:
                single = Order((self._plan.sample(sample.index, sample.take + 1),))
                self._fleet.again(Errand(single, tries), now, verdict.ceiling)
        else:
            self._fleet.again(Errand(Order(samples), tries), now, verdict.ceiling)

    async def _give_up(self, samples: tuple[Sample, ...], verdict: GiveUp, errand: Errand, server: str = "") -> None:
        rows = [
            Row(
                idx=sample.index,
                state="given_up",
                take=sample.take + verdict.next_take,
                name=sample.name,
                reason=verdict.reason,
                attempts=errand.tries.posts + 1,
                at=now_utc(),
            )
            for sample in samples
        ]
        await self._bench.write(rows)
        for sample in samples:
            self._tell(progress.GaveUp(time.monotonic(), sample.name, verdict.reason, server))
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= _IN_A_ROW and not self._fleet.stopped:
            self.stop(f"{self._given_up_in_a_row} prompts in a row were given up, the last because {verdict.reason}")

    # ---- leaving

    async def _withdraw(self) -> None:
        """Take our prompts from every server that still answers; within a few seconds, whatever happens."""

        async def one(link: Link) -> None:
            with suppress(ServerError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW):
                    await link.withdraw()

        await asyncio.gather(*(one(link) for link in self._links.values()))


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they are over: a cancellation that meets a time-out in a library beneath can be swallowed."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)


def _wants_new_seed(error: ServerError | SampleError) -> bool:
    return isinstance(error, BadImage) and not error.torn


def _sentence(samples: tuple[Sample, ...], error: ServerError | SampleError) -> str:
    names = samples[0].name if len(samples) == 1 else f"{samples[0].name} and {len(samples) - 1} more"
    return str(error) if isinstance(error, BadImage) else f"{names}: {error}"
