"""What becomes of an errand after its attempt: images, failures, and what they say about their server and the run.

The one place where outcomes change the fleet, the ledger's other rows and the tally that may end a run. What
ends it is left in ``fatal``.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from reggen import progress
from reggen.comfy.refusals import is_permanent
from reggen.comfy.session import ServerSession
from reggen.dataset.ledger import Rejection, Row, now_utc
from reggen.engine.attempt import AttemptResult, AttemptRunner, SavedImage
from reggen.errors import (
    BadImage,
    DuplicateImage,
    ExecutionError,
    JobError,
    NotDownloaded,
    Problem,
    PromptRejected,
    ReggenError,
    SampleError,
    ServerError,
    StorageError,
)
from reggen.job.models import Limits
from reggen.planning.plan import Plan, PromptRequest, Sample
from reggen.progress import RunEvent
from reggen.scheduler.circuit_breaker import ServerCare
from reggen.scheduler.fleet import Completed, Fleet, WorkItem
from reggen.scheduler.retry import AttemptCounts, GiveUp, decide
from reggen.scheduler.stop_rules import StopRules

_HOPELESS = 3  # prompts refused before the first one was taken: the job is at fault, not the sample
_ROOM_PAUSES = (5.0, 300.0)  # seconds between looks for room on a full disk
_ASKED = 0.05  # seconds until it is seen whether a disk has said what room it has
_FETCHES = 3  # rounds of fetching a picture that is made, before it is made anew


class OutcomeHandler:
    """One run's. ``stop`` ends the run in good order, with a reason; ``restart`` asks for another ComfyUI process."""

    def __init__(
        self,
        *,
        job_file: str,
        plan: Plan,
        runner: AttemptRunner,
        fleet: Fleet,
        limits: Limits,
        stop_rules: StopRules,
        room: int,
        free_every: Mapping[str, int],
        sick_rest: float,
        tell: Callable[[RunEvent], None],
        stop: Callable[[str], None],
        restart: Callable[[str, str], None],
    ) -> None:
        self._job_file, self._plan, self._runner, self._fleet = job_file, plan, runner, fleet
        self._limits, self._stop_rules, self._tell = limits, stop_rules, tell
        self._room, self._sick_rest, self._free_every = room, sick_rest, free_every
        self._stop, self._restart = stop, restart
        self._refusals: list[PromptRejected] = []
        self._served: Counter[str] = Counter()  # images of each server, since its memory was last freed
        self._room_at, self._room_pause = -math.inf, _ROOM_PAUSES[0]
        self._asking: Future[int] | None = None  # for the room on the disk, in a thread
        self.fatal: ReggenError | None = None
        self.last_error: dict[str, str] = {}
        """By server, the last thing that went wrong there, until something goes well."""
        self.left_out: dict[str, str] = {}
        """By server that is given nothing more in this run, why."""

    def one_by_one(self, samples: Iterable[Sample], tries: AttemptCounts, ceiling: float) -> None:
        """The next take of some samples, each a prompt of its own."""
        for sample in samples:
            single = PromptRequest((self._plan.sample(sample.index, sample.take + 1),))
            self._fleet.again(WorkItem(single, tries), time.monotonic(), ceiling)

    # ---- the local disk

    def no_storage(self, item: WorkItem, error: StorageError) -> None:
        """A full disk is waited for, and costs no sample a try; whatever else it refuses ends the run."""
        if not error.full or self._fleet.stopped:
            self.fatal = self.fatal or error
            return
        now = time.monotonic()
        self._fleet.again(WorkItem(item.request, item.tries.counted()), now, 0.0)
        self._room_at = now + self._room_pause
        if not self._fleet.held:
            self._room_pause = min(_ROOM_PAUSES[1], 2 * self._room_pause)  # the disk may say it has room and lie
            self._fleet.hold()
            self._tell(progress.RunPaused(now, f"{error.doing} {error.path}: {error.what}; waiting for room"))

    def look_for_room(self, now: float) -> float:
        """Go on when there is room again. Returns when to come again."""
        if not self._fleet.held:
            return math.inf
        if self._asking is None and now >= self._room_at:
            self._asking = self._runner.threads.submit(self._runner.folder.free_bytes)
        if self._asking is None:
            return self._room_at
        if not self._asking.done():
            return now + _ASKED
        asking, self._asking = self._asking, None
        if not asking.exception() and asking.result() >= self._room:
            self._fleet.resume()
            self._tell(progress.RunPaused(now, ""))
            return now
        self._room_at = now + _ROOM_PAUSES[0]
        return self._room_at

    # ---- what came of it

    async def went_wrong(self, session: ServerSession, item: WorkItem, error: ServerError | SampleError) -> None:
        """No image came of it."""
        await self._judge_server(session, item, error)
        await self._failed(session, item, item.request.samples, error)

    async def took(self, session: ServerSession, item: WorkItem, result: AttemptResult) -> None:
        """The prompt ended well; its pictures are kept, or have a fault each."""
        self._fleet.accepted(session.name)
        if self._served[session.name] >= self._free_every.get(session.name, math.inf):
            self._served[session.name] = 0
            await session.free()
        unfetched = [pair for pair in result.failures if isinstance(pair[1], ServerError)]
        bad = [error for _, error in result.failures if _wants_new_seed(error)]
        if unfetched:
            await self._fetch_later(session, item, result.made, unfetched)
        if result.storage:
            self.no_storage(WorkItem(PromptRequest(result.unsaved), item.tries), result.storage)
        faults = [error for error in bad if not isinstance(error, DuplicateImage)]
        if faults and not result.receipts:
            self.last_error[session.name] = f"its last pictures are no good: {faults[-1]}"
            await self._is_sick(session)
        same_take = [pair for pair in result.failures if isinstance(pair[1], SampleError) and pair[1] not in bad]
        if same_take:
            await self._failed(session, item, tuple(sample for sample, _ in same_take), same_take[0][1])
        for sample, error in result.failures:
            if error in bad:
                await self._failed(session, item, (sample,), error)

    def delivered(self, server: str, receipt: SavedImage) -> None:
        """An image is in the dataset."""
        self._fleet.delivered(server)
        self.last_error.pop(server, None)
        self._stop_rules.made(server, receipt.waited)
        self._room_pause = _ROOM_PAUSES[0]
        self._served[server] += 1
        now = time.monotonic()
        if receipt.busy is not None:
            self._fleet.measured(server, receipt.busy, now)
        self._tell(progress.ImageSaved(now, server, receipt.sample.name, receipt.busy, receipt.prompt_id))

    async def _fetch_later(
        self,
        session: ServerSession,
        item: WorkItem,
        made: Completed,
        failures: list[tuple[Sample, ServerError | SampleError]],
    ) -> None:
        """Pictures that are made and could not be had: the server rests, and is asked for them again."""
        samples, error = tuple(sample for sample, _ in failures), failures[0][1]
        self.last_error[session.name] = str(error)
        now = time.monotonic()
        self._fleet.failed(session.name, now, error.retry_after if isinstance(error, ServerError) else 0.0)
        tries = replace(item.tries, fetches=item.tries.fetches + session.up)  # an absence is no round
        if tries.fetches < _FETCHES:
            self._tell(progress.Trouble(now, session.name, _sentence(samples, error)))
            self._fleet.again(WorkItem(PromptRequest(samples), tries, at=session.name, made=made), now, 0.0)
        else:
            anew = replace(item, tries=replace(tries, fetches=0))
            await self._failed(session, anew, samples, NotDownloaded(session.name, str(error)))

    async def _is_sick(self, session: ServerSession) -> None:
        """Black pictures, or no memory, prompt after prompt."""
        care = self._fleet.sick(session.name, time.monotonic(), self._sick_rest)
        if care is not ServerCare.NOTHING:
            await session.free()
        if care is ServerCare.RESTART:
            self._restart(
                session.name, "its pictures are bad, one after another, and freeing its memory changes nothing"
            )

    async def _judge_server(self, session: ServerSession, item: WorkItem, error: ServerError | SampleError) -> None:
        """What a failed prompt says about the server it was on."""
        now = time.monotonic()
        self.last_error[session.name] = (
            f"{error.doing}: {error.with_remedy}" if isinstance(error, ServerError) else str(error)
        )
        if isinstance(error, ServerError):
            await self._judge_front(session, item, error)
        elif isinstance(error, PromptRejected):
            if self._fleet.refused(session.name):
                self._leave_out(session.name, f"it keeps refusing what others take: {error}")
            self._hopeless(error)
        elif isinstance(error, ExecutionError) and error.out_of_memory:
            if session.name in item.tries.freed and item.request.batch > 1:
                self._fleet.overflowed(session.name, item.request.batch)
            await self._is_sick(session)
        elif isinstance(error, ExecutionError) and self._raised(session.name, item):
            why = "every prompt raises there while others make images, so it rests; see its console"
            text = f"{session.name}: {why}: {error}"
            self._tell(progress.Trouble(now, session.name, text))
        else:
            self._fleet.accepted(session.name)

    def _raised(self, name: str, item: WorkItem) -> bool:
        now, before = time.monotonic(), item.tries.raised
        return self._fleet.raised(name, now, self._sick_rest, text=_text(item), before=before)

    async def _judge_front(self, session: ServerSession, item: WorkItem, error: ServerError) -> None:
        """A post was refused for good: where looks are answered, only posts are, and after a few it is left out."""
        if not is_permanent(error) or not await session.answers():
            self._fleet.failed(session.name, time.monotonic(), error.retry_after)
            return
        if self._fleet.barred(session.name, _text(item)):
            self._leave_out(session.name, f"{error.doing}: {error.with_remedy}")

    def _leave_out(self, name: str, why: str) -> None:
        self.left_out[name] = why
        self._tell(progress.Trouble(time.monotonic(), name, f"{name} is left out of this run: {why}"))

    def _hopeless(self, error: PromptRejected) -> None:
        """When the first prompts are all refused, wherever they go, the job itself is wrong."""
        if not self._fleet.hopeless:
            return
        self._refusals.append(error)
        able = self._fleet.candidates(time.monotonic())
        everywhere = {refusal.server for refusal in self._refusals} >= able
        if everywhere and len(self._refusals) >= _HOPELESS:
            self.fatal = self.refused_job()

    def refused_to_the_end(self) -> bool:
        """Whether no server ever took a prompt: fewer than it takes to be sure at once."""
        return bool(self._refusals) and self._fleet.hopeless

    def refused_job(self) -> JobError:
        """The job is wrong, in the words of the server that refused last."""
        last = self._refusals[-1]
        return JobError(self._job_file, tuple(Problem(last.server, reason) for reason in last.reasons))

    async def _failed(
        self, session: ServerSession, item: WorkItem, samples: tuple[Sample, ...], error: ServerError | SampleError
    ) -> None:
        now = time.monotonic()
        able = self._fleet.candidates(now)
        ailing = self._fleet.ailing
        for_good = (
            isinstance(error, ServerError) and is_permanent(error) and session.up
        )  # otherwise it refuses everything
        verdict = decide(
            error,
            session.name,
            item.tries,
            self._limits,
            able,
            batch=item.request.batch,
            ailing=ailing,
            for_good=for_good,
        )
        if isinstance(error, BadImage):
            await self._record(samples, error, session.name)
        if isinstance(verdict, GiveUp):
            await self.give_up(samples, verdict, item, session.name)
            return
        self._tell(progress.Trouble(now, session.name, _sentence(samples, error)))
        if verdict.free_memory:
            await session.free()
        tries = verdict.tries.counted()
        if verdict.next_take:
            await self._reject(samples, str(error), item)
            self.one_by_one(samples, tries, verdict.ceiling)
        else:
            self._fleet.again(WorkItem(PromptRequest(samples), tries), now, verdict.ceiling)

    async def _record(self, samples: tuple[Sample, ...], error: BadImage, server: str) -> None:
        """Every picture that is turned away stands in the ledger, whatever becomes of its slot."""
        at = now_utc()
        with suppress(StorageError):
            await self._runner.reject(
                [Rejection(one.index, one.take, error.reason, at, one.seed, server) for one in samples]
            )

    async def _reject(self, samples: tuple[Sample, ...], reason: str, item: WorkItem) -> None:
        """Their take is spent: a later run begins with the next one, too. Where the disk is full it learns it anew."""
        with suppress(StorageError):
            await self._runner.write(_rows(samples, "rejected", samples[0].take + 1, reason, item))

    async def give_up(self, samples: tuple[Sample, ...], verdict: GiveUp, item: WorkItem, server: str = "") -> None:
        """Some samples are not tried again in this run."""
        take = samples[0].take + verdict.next_take
        try:
            await self._runner.write(_rows(samples, "given_up", take, verdict.reason, item))
        except StorageError as error:  # what became of the others of its prompt stands
            self.no_storage(WorkItem(PromptRequest(samples), item.tries), error)
            return
        for sample in samples:
            self._tell(progress.SlotGivenUp(time.monotonic(), sample.name, verdict.reason, server))
        if (why := self._stop_rules.gave_up(verdict, len(samples))) and not self._fleet.stopped:
            self._stop(why)


def _text(item: WorkItem) -> str:
    return item.request.samples[0].positive or ""


def _rows(samples: tuple[Sample, ...], state: str, take: int, reason: str, item: WorkItem) -> list[Row]:
    attempts, at = item.tries.posts + 1, now_utc()
    return [Row(sample.index, state, take, sample.name, at, reason=reason, attempts=attempts) for sample in samples]


def _wants_new_seed(error: ServerError | SampleError) -> bool:
    return isinstance(error, BadImage) and not error.torn


def _sentence(samples: tuple[Sample, ...], error: ServerError | SampleError) -> str:
    names = samples[0].name if len(samples) == 1 else f"{samples[0].name} and {len(samples) - 1} more"
    return str(error) if isinstance(error, BadImage) else f"{names}: {error}"
