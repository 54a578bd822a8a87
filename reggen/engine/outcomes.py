"""Consequences of an attempt for its samples: images saved, tried again with what changed, or given up.

The only place where outcomes change the fleet's work, the ledger's other rows and the counts that may stop a run. A
failure that the run survives ends up in an event or in the ledger; what ends the run is raised.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from reggen import progress
from reggen.backoff import Backoff
from reggen.comfy.refusals import is_permanent
from reggen.comfy.session import ServerSession
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.engine.attempt import AttemptResult, AttemptRunner, SavedImage
from reggen.engine.disk_room import DiskRoom
from reggen.engine.server_faults import ServerFaults
from reggen.errors import (
    BadImage,
    DuplicateImage,
    NotDownloaded,
    SampleError,
    ServerError,
    StorageError,
    WrongSizeImage,
)
from reggen.job.models import Limits
from reggen.planning.plan import Plan, PromptRequest, Sample
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.retry import AttemptCounts, Circumstances, FetchAgain, GiveUp, decide, decide_fetch
from reggen.scheduler.stop_rules import StopRules
from reggen.scheduler.work_item import Completed, WorkItem


@dataclass(kw_only=True)
class OutcomeHandler:
    """Draws the consequences of each attempt of a run.

    ``free_every``: images after which a server's memory is freed, by server. ``stop`` ends the run in good order, with
    a reason; ``pauses`` are those between the tries of one sample.
    """

    plan: Plan
    runner: AttemptRunner
    fleet: Fleet
    faults: ServerFaults
    disk: DiskRoom
    limits: Limits
    stop_rules: StopRules
    free_every: Mapping[str, int]
    tell: Callable[[RunEvent], None]
    stop: Callable[[str], None]
    pauses: Backoff
    _since_freed: Counter[str] = field(default_factory=Counter, init=False)  # images since a server's memory was freed

    # ---- events of an attempt

    def saved(self, server: str, image: SavedImage) -> None:
        """Count an image that is in the dataset."""
        self.fleet.health.image_made(server)
        self.faults.forgive(server)
        self.stop_rules.made(server, image.waited)
        self.disk.has_taken_an_image()
        self._since_freed[server] += 1
        now = time.monotonic()
        if image.busy is not None:
            self.fleet.loads[server].measured(image.busy, now)
        self.tell(progress.ImageSaved(now, server, image.sample.name, image.busy, image.prompt_id))

    async def failed(self, session: ServerSession, item: WorkItem, error: ServerError | SampleError) -> None:
        """Try a prompt again that led to no image, or give it up. Raises JobError when no server can run the job."""
        await self.faults.judge(session, item, error)
        self.faults.demand_possible_job()  # before anything else is awaited: nothing more is posted then
        await self._retry_or_give_up(session, item, item.request.samples, error)

    async def succeeded(self, session: ServerSession, item: WorkItem, result: AttemptResult) -> None:
        """See to the images of a prompt that ended well: those that are not in the dataset have a fault each.

        Raises StorageError when the disk refused images for another reason than want of room.
        """
        self.fleet.health.prompt_ended(session.name)
        await self._free_in_time(session)
        not_fetched = [(sample, error) for sample, error in result.failures if isinstance(error, ServerError)]
        if not_fetched:
            await self._fetch_later(session, item, result.made, not_fetched)
        wrong = [error for _, error in result.failures if isinstance(error, WrongSizeImage)]
        if wrong and (why := self.stop_rules.wrong_size(len(wrong), wrong[-1].reason)) and not self.fleet.stopped:
            self.stop(why)
        bad = [error for _, error in result.failures if isinstance(error, BadImage) and not error.torn]
        faults = [error for error in bad if not isinstance(error, DuplicateImage | WrongSizeImage)]
        if faults and not result.saved:
            await self.faults.made_only_bad_images(session, faults[-1])
        await self._retry_images(session, item, result)
        if result.storage:
            self.storage_failed(WorkItem(PromptRequest(result.unsaved), item.tries), result.storage)

    def storage_failed(self, item: WorkItem, error: StorageError) -> None:
        """Pause the run for a full disk, which costs no sample a try. Raises every other StorageError."""
        if not error.full or self.fleet.stopped:
            raise error
        self.fleet.again(WorkItem(item.request, item.tries.with_post()), time.monotonic())
        self.disk.is_full(error)

    # ---- consequences

    def one_by_one(self, samples: Iterable[Sample], tries: AttemptCounts, longest_pause: float = 0.0) -> None:
        """Ask for the next take of some samples, each in a prompt of its own."""
        for sample in samples:
            single = PromptRequest((self.plan.sample(sample.index, sample.take + 1),))
            self.fleet.again(WorkItem(single, tries), time.monotonic(), longest_pause)

    async def give_up(self, samples: tuple[Sample, ...], verdict: GiveUp, item: WorkItem, server: str = "") -> None:
        """Try some samples no more in this run, and stop the run when too many are given up."""
        take = samples[0].take + verdict.next_take
        try:
            await self.runner.write(_rows(samples, "given_up", take, verdict.reason, item))
        except StorageError as error:  # the other images of its prompt stand
            self.storage_failed(WorkItem(PromptRequest(samples), item.tries), error)
            return
        for sample in samples:
            self.tell(progress.SlotGivenUp(time.monotonic(), sample.name, verdict.reason, server))
        if (why := self.stop_rules.gave_up(verdict, len(samples))) and not self.fleet.stopped:
            self.stop(why)

    async def _free_in_time(self, session: ServerSession) -> None:
        """Free a server's memory after as many images as the job says."""
        if self._since_freed[session.name] >= self.free_every.get(session.name, math.inf):
            self._since_freed[session.name] = 0
            await session.unload_models()

    async def _fetch_later(
        self,
        session: ServerSession,
        item: WorkItem,
        made: Completed,
        failures: list[tuple[Sample, ServerError]],
    ) -> None:
        """Let a server rest that made images and does not hand them out, and ask for them again afterwards."""
        samples, error = tuple(sample for sample, _ in failures), failures[0][1]
        self.faults.kept_images(session.name, error)
        verdict = decide_fetch(item.tries, was_up=session.up)
        if isinstance(verdict, FetchAgain):
            now = time.monotonic()
            self.tell(progress.Trouble(now, session.name, _sentence(samples, error)))
            self.fleet.again(WorkItem(PromptRequest(samples), verdict.tries, at=session.name, made=made), now)
        else:
            again = replace(item, tries=verdict.tries)
            await self._retry_or_give_up(session, again, samples, NotDownloaded(session.name, str(error)))

    async def _retry_images(self, session: ServerSession, item: WorkItem, result: AttemptResult) -> None:
        """Retry single images of a prompt: those that keep their take together, the others each by itself."""
        failures = [(sample, error) for sample, error in result.failures if isinstance(error, SampleError)]
        same_take = [(sample, error) for sample, error in failures if not _is_bad(error)]
        if same_take:
            await self._retry_or_give_up(session, item, tuple(sample for sample, _ in same_take), same_take[0][1])
        for sample, error in failures:
            if _is_bad(error):
                await self._retry_or_give_up(session, item, (sample,), error)

    async def _retry_or_give_up(
        self, session: ServerSession, item: WorkItem, samples: tuple[Sample, ...], error: ServerError | SampleError
    ) -> None:
        """Do what `retry.decide` says of a failure."""
        now = time.monotonic()
        where = Circumstances(
            session.name,
            usable=self.fleet.health.candidates(now),
            ailing=self.fleet.health.ailing,
            batch=item.request.batch,
            # a server that is away refuses everything, not just this post
            is_permanent=isinstance(error, ServerError) and is_permanent(error) and session.up,
        )
        verdict = decide(error, item.tries, self.limits, where, self.pauses)
        if isinstance(error, BadImage):
            await self._record(samples, error, session.name)
        if isinstance(verdict, GiveUp):
            await self.give_up(samples, verdict, item, session.name)
            return
        self.tell(progress.Trouble(now, session.name, _sentence(samples, error)))
        if verdict.free_memory:
            await session.unload_models()
        tries = verdict.tries.with_post()
        if verdict.next_take:
            await self._reject(samples, str(error), item)
            self.one_by_one(samples, tries, verdict.longest_pause)
        else:
            self.fleet.again(WorkItem(PromptRequest(samples), tries), now, verdict.longest_pause)

    async def _record(self, samples: tuple[Sample, ...], error: BadImage, server: str) -> None:
        """Note every rejected image in the ledger, whatever becomes of its slot."""
        at = now_utc()
        with suppress(StorageError):
            await self.runner.reject(
                [Rejection(one.index, one.take, error.reason, at, one.seed, server) for one in samples]
            )

    async def _reject(self, samples: tuple[Sample, ...], reason: str, item: WorkItem) -> None:
        """Note that a take is spent, so that a later run begins with the next. On a full disk it finds out again."""
        with suppress(StorageError):
            await self.runner.write(_rows(samples, "rejected", samples[0].take + 1, reason, item))


def _rows(samples: tuple[Sample, ...], state: str, take: int, reason: str, item: WorkItem) -> list[Row]:
    attempts, at = item.tries.posts + 1, now_utc()
    return [Row(sample.index, state, take, sample.name, at, reason=reason, attempts=attempts) for sample in samples]


def _is_bad(error: ServerError | SampleError) -> bool:
    """True for a whole image that must not enter the dataset: another seed is the remedy."""
    return isinstance(error, BadImage) and not error.torn


def _sentence(samples: tuple[Sample, ...], error: ServerError | SampleError) -> str:
    names = samples[0].name if len(samples) == 1 else f"{samples[0].name} and {len(samples) - 1} more"
    return str(error) if isinstance(error, BadImage) else f"{names}: {error}"
