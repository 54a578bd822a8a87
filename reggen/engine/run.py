"""The run: one task group in which the links talk, the fleet hands out errands, and attempts are made.

What the run survives is a value and ends up in an event or in the ledger; what ends it is an exception.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from reggen import progress
from reggen.comfy.launch import Launched
from reggen.comfy.link import Link
from reggen.dataset.ledger import Row, now_utc
from reggen.engine.adopt import Heritage
from reggen.engine.attempt import Bench, Receipt, Result
from reggen.engine.breaker import Care
from reggen.engine.fleet import Errand, Fleet, Made
from reggen.engine.halt import Halt
from reggen.engine.keep import Keeper, named
from reggen.engine.retry import GiveUp, Tries, decide
from reggen.errors import (
    BadImage,
    Failed,
    JobError,
    NoServers,
    Problem,
    Refused,
    ReggenError,
    Rejected,
    SampleError,
    ServerError,
    StorageError,
    Unfetched,
)
from reggen.job import Limits
from reggen.plan import Order, Plan, Sample
from reggen.progress import RunEvent

_HOPELESS = 3  # prompts refused before the first one was taken: the job is at fault, not the sample
_ROOM_PAUSES = (5.0, 300.0)  # seconds between looks for room on a full disk
_FETCHES = 3  # rounds of fetching a picture that is made, before it is made anew
_WAITING = 5.0  # seconds without a server that can be used, before it is worth a word
_DOZE = 60.0  # seconds between looks at the clock: a computer that slept has lost time without a timer noticing
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
        free_every: Mapping[str, int],
        sick_rest: float,
        left: Callable[[], float] | None,
        heritage: Heritage,
        ready: Iterable[str],
        tell: Callable[[RunEvent], None],
    ) -> None:
        self._job_file, self._plan, self._bench, self._fleet = job_file, plan, bench, fleet
        self._links = {link.name: link for link in links}
        self._limits, self._tell = limits, tell
        self._kept = [Keeper(one, link, fleet, self._note) for one, link in named(self._links, running)]
        self._changed = asyncio.Event()
        self._fatal: ReggenError | None = None
        self._aborted = False
        self._working: set[asyncio.Task[None]] = set()
        self._refusals: list[Rejected] = []
        self._halt = Halt(limits, left)
        self._served: Counter[str] = Counter()  # images of each server, since its memory was last freed
        self._look_for_room_at, self._room_pause = -math.inf, _ROOM_PAUSES[0]
        self._room, self._sick_rest = room, sick_rest
        self._heritage, self._expected = heritage, set(ready) & set(self._links)
        self._last_error: dict[str, str] = {}
        self._free_every = dict(free_every)
        self._away_since: float | None = None  # since when no server can be used
        self._told_away = False

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
        self._changed.set()

    async def __call__(self) -> None:
        """Run until nothing is missing, or stopped. Raises what ends a run: JobError, NoServers, StorageError."""
        try:
            async with asyncio.TaskGroup() as group:
                talks = [talk for link in self._links.values() for talk in (link.listen(), link.watch())]
                talks += [keeper() for keeper in self._kept]
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

        def begin(work: Coroutine[None, None, None]) -> None:
            task = group.create_task(work)
            working.add(task)
            task.add_done_callback(working.discard)

        await self._greet_all()
        while not self._fleet.finished and not self._aborted and not self._fatal:
            now = time.monotonic()
            self._mind_the_end()
            for server in self._fleet.probes(now):
                begin(self._probe(self._links[server]))
            for server, errand in self._fleet.assign(now, self._halt.prompts_left):
                begin(self._work(self._links[server], errand))
            await self._give_up_stranded(now)
            await self._doze(now)
        return working

    async def _doze(self, now: float) -> None:
        """Until something happens, or the next thing is due."""
        left = self._halt.seconds_left
        wake = min(
            self._fleet.wake_at(now),
            self._give_away(now),
            self._look_for_room(now),
            self._mind_the_servers(now),
            now + min(left, _DOZE) if math.isfinite(left) else math.inf,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(wake) else max(0.0, wake - now)):
                await self._changed.wait()
        self._changed.clear()

    async def _probe(self, link: Link) -> None:
        """A server's rest is over: it is given work when it answers, and rests longer when it does not."""
        try:
            await link.client.remaining()
        except ServerError as error:
            self._fleet.failed(link.name, time.monotonic(), error.wait if isinstance(error, Refused) else 0.0)
        else:
            self._fleet.probed(link.name)
        self._changed.set()

    def _mind_the_end(self) -> None:
        """Stop early enough: no prompt is posted that would end too late, and what is late all the same is left."""
        if self._fleet.stopped:
            self._aborted = self._aborted or self._halt.seconds_left <= 0
        elif self._halt.seconds_left <= 0 or all(map(self._halt.is_late, self._fleet.usable or {""})):
            self.stop("the time is up")
            self._aborted = self._halt.seconds_left <= 0
        elif self._halt.prompts_left <= 0:
            self.stop(f"the budget of {self._limits.prompts} prompts is spent")

    def _mind_the_servers(self, now: float) -> float:
        """Notice that no server can be used, say so once, and give up when the job says so. Returns when to look."""
        able = self._fleet.well or any(link.up and link.in_flight for link in self._links.values())
        if able or self._fleet.stopped:
            if self._told_away:
                self._tell(progress.Waiting(now, ""))
            self._away_since, self._told_away = None, False
            return math.inf
        since = self._away_since = now if self._away_since is None else self._away_since
        limit = since + (self._limits.give_up_after or math.inf)
        tell = since + min(_WAITING, self._limits.away)
        if now >= tell and not self._told_away:
            self._told_away = True
            self._tell(progress.Waiting(now, self._why_not()))
        if now >= limit:
            self._fatal = self._fatal or NoServers(tuple((name, self._why_not(name)) for name in self._links))
            return now
        return limit if self._told_away else min(limit, tell)

    def _why_not(self, name: str = "") -> str:
        """Why a server, or the first of all, cannot be used."""
        reasons = {**self._last_error, **{link.name: link.why for link in self._links.values() if link.why}}
        if name:
            return reasons.get(name, "it gave no reason")
        return next((f"{one}: {why}" for one, why in reasons.items()), "connecting")

    async def _give_up_stranded(self, now: float) -> None:
        for errand in self._fleet.stranded(now):
            await self._give_up(errand.order.samples, GiveUp("every server refused it"), errand)

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
                link.abandon(f"it has been away for {now - link.away_since:.0f} s", died=True)
            else:
                again = min(again, link.away_since + patience)
        return again

    async def _work(self, link: Link, errand: Errand) -> None:
        names = tuple(sample.name for sample in errand.order.samples)
        self._tell(progress.Posted(time.monotonic(), link.name, names))
        if errand.at is None:
            self._halt.posted()

        def left() -> None:
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
        if errand.at is None and not self._fleet.fits(link.name, errand.order):
            left()
            self._one_by_one(errand.order.samples, errand.tries, 0.0)
            return
        try:
            result = await self._bench.attempt(link, errand, left, partial(self._delivered, link.name))
        except (ServerError, SampleError) as error:
            await self._judge_server(link, errand, error)
            await self._failed(link, errand, errand.order.samples, error)
        else:
            await self._took(link, errand, result)

    def _one_by_one(self, samples: Iterable[Sample], tries: Tries, ceiling: float) -> None:
        """The next take of some samples, each a prompt of its own."""
        for sample in samples:
            single = Order((self._plan.sample(sample.index, sample.take + 1),))
            self._fleet.again(Errand(single, tries), time.monotonic(), ceiling)

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
        self._fleet.accepted(link.name)
        if self._served[link.name] >= self._free_every.get(link.name, math.inf):
            self._served[link.name] = 0
            await _free(link)
        unfetched = [pair for pair in result.failures if isinstance(pair[1], ServerError)]
        bad = [error for _, error in result.failures if _wants_new_seed(error)]
        if unfetched:
            await self._fetch_later(link, errand, result.made, unfetched)
        if result.storage:
            self._no_storage(Errand(Order(result.unsaved), errand.tries), result.storage)
        if bad and not result.receipts:
            await self._is_sick(link)
        same_take = [pair for pair in result.failures if isinstance(pair[1], SampleError) and pair[1] not in bad]
        if same_take:
            await self._failed(link, errand, tuple(sample for sample, _ in same_take), same_take[0][1])
        for sample, error in result.failures:
            if error in bad:
                await self._failed(link, errand, (sample,), error)

    def _delivered(self, server: str, receipt: Receipt) -> None:
        """An image is in the dataset."""
        self._fleet.delivered(server)
        self._last_error.pop(server, None)
        self._halt.made(server, receipt.waited)
        self._room_pause = _ROOM_PAUSES[0]
        self._served[server] += 1
        now = time.monotonic()
        self._tell(progress.Committed(now, server, receipt.sample.name, receipt.busy, receipt.prompt_id))

    async def _fetch_later(
        self, link: Link, errand: Errand, made: Made, failures: list[tuple[Sample, ServerError | SampleError]]
    ) -> None:
        """Pictures that are made and could not be had: the server rests, and is asked for them again."""
        samples, error = tuple(sample for sample, _ in failures), failures[0][1]
        now = time.monotonic()
        self._fleet.failed(link.name, now, error.wait if isinstance(error, Refused) else 0.0)
        tries = replace(errand.tries, fetches=errand.tries.fetches + 1)
        if tries.fetches < _FETCHES:
            self._tell(progress.Trouble(now, link.name, _sentence(samples, error)))
            self._fleet.again(Errand(Order(samples), tries, at=link.name, made=made), now, 0.0)
        else:
            anew = replace(errand, tries=replace(tries, fetches=0))
            await self._failed(link, anew, samples, Unfetched(link.name, str(error)))

    async def _is_sick(self, link: Link) -> None:
        """Black pictures, or no memory, prompt after prompt."""
        care = self._fleet.sick(link.name, time.monotonic(), self._sick_rest)
        if care is not Care.NOTHING:
            await _free(link)
        if care is Care.RESTART:
            for keeper in self._kept:
                if keeper.name == link.name:
                    keeper.ask("its pictures are bad, one after another, and freeing its memory changes nothing")

    async def _judge_server(self, link: Link, errand: Errand, error: ServerError | SampleError) -> None:
        """What a failed prompt says about the server it was on."""
        now = time.monotonic()
        self._last_error[link.name] = str(error)
        if isinstance(error, ServerError):
            self._fleet.failed(link.name, now, error.wait if isinstance(error, Refused) else 0.0)
        elif isinstance(error, Rejected):
            if self._fleet.refused(link.name):
                text = f"{link.name} keeps refusing what others take and is left out of this run: {error}"
                self._tell(progress.Trouble(now, link.name, text))
            self._hopeless(error)
        elif isinstance(error, Failed) and error.out_of_memory:
            if link.name in errand.tries.freed and errand.order.batch > 1:
                self._fleet.overflowed(link.name, errand.order.batch)
            await self._is_sick(link)
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
            await _free(link)
        tries = verdict.tries.counted()
        if verdict.next_take:
            self._one_by_one(samples, tries, verdict.ceiling)
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
        try:
            await self._bench.write(rows)
        except StorageError as error:  # what became of the others of its prompt stands
            self._no_storage(Errand(Order(samples), errand.tries), error)
            return
        for sample in samples:
            self._tell(progress.GaveUp(time.monotonic(), sample.name, verdict.reason, server))
        if (why := self._halt.gave_up(verdict, len(samples))) and not self._fleet.stopped:
            self.stop(why)

    # ---- leaving

    async def _withdraw(self) -> None:
        """Take our prompts from every server that still answers; within a few seconds, whatever happens."""

        async def one(link: Link) -> None:
            with suppress(ServerError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW):
                    await link.withdraw()

        await asyncio.gather(*(one(link) for link in self._links.values()))


async def _free(link: Link) -> None:
    """Ask a server to free its memory; one that does not answer will be found out otherwise."""
    with suppress(ServerError):
        await link.client.free()


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
