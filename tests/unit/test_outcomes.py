"""Consequences of an attempt for its samples: what is handed out again, written down, told, and what ends the run."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from reggen.backoff import Backoff
from reggen.comfy.history import Success
from reggen.dataset.rows import Rejection, Row
from reggen.engine.attempt import AttemptResult, SavedImage
from reggen.engine.disk_room import DiskRoom
from reggen.engine.outcomes import OutcomeHandler
from reggen.engine.server_faults import ServerFaults
from reggen.errors import (
    BadImage,
    DuplicateImage,
    ExecutionError,
    HttpStatusError,
    JobError,
    PromptRejected,
    SampleError,
    ServerError,
    StorageError,
    Unreachable,
)
from reggen.job.models import Limits
from reggen.planning.plan import PromptRequest
from reggen.progress import ImageSaved, RunEvent, RunPaused, SlotGivenUp, Trouble
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.retry import AttemptCounts
from reggen.scheduler.stop_rules import StopRules
from reggen.scheduler.work_item import Completed, WorkItem
from tests.conftest import JobMaker
from tests.preparing import plan_of
from tests.scheduling import batch_of, fleet, request

FULL = StorageError("ledger.sqlite", "writing the ledger", "the disk is full", full=True)
BROKEN = StorageError("ledger.sqlite", "writing the ledger", "the disk is read-only")
MADE = Completed("id", Success({}, 2.0), 3.0)


@dataclass
class Session:
    """A server as far as outcomes are concerned with it."""

    name: str = "a"
    up: bool = True
    answering: bool = True
    freed: int = 0

    async def unload_models(self) -> None:
        self.freed += 1

    async def check_polling(self) -> bool:
        return self.answering


@dataclass
class Runner:
    """Keeps the rows that would be written; ``refuse`` is raised instead."""

    rows: list[Row] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    refuse: StorageError | None = None

    async def write(self, rows: Collection[Row]) -> None:
        if self.refuse:
            raise self.refuse
        self.rows += rows

    async def reject(self, rejections: Collection[Rejection]) -> None:
        if self.refuse:
            raise self.refuse
        self.rejections += rejections


class Night:
    """An outcome handler, and everything that it touches."""

    def __init__(self, job: JobMaker, *names: str, free_every: int | None = None, **limits: Any) -> None:
        self.fleet: Fleet = fleet(dict.fromkeys(names or ("a",), 2))
        self.events: list[RunEvent] = []
        self.stopped: list[str] = []
        self.restarts: list[str] = []
        self.runner, rules = Runner(), Limits(**limits)
        tell, stop = self.events.append, self.stopped.append
        self.faults = ServerFaults(
            self.fleet, "job.toml", tell, lambda name, _why: self.restarts.append(name), sick_rest=60.0
        )
        disk = DiskRoom(self.fleet, lambda: 0, None, 1, tell, pauses=Backoff(5.0, 300.0))  # type: ignore[arg-type]
        self.handler = OutcomeHandler(
            plan=plan_of(job()),
            runner=self.runner,  # type: ignore[arg-type]
            fleet=self.fleet,
            faults=self.faults,
            disk=disk,
            limits=rules,
            stop_rules=StopRules(rules, None),
            free_every={"a": free_every} if free_every else {},
            tell=tell,
            stop=stop,
            pauses=Backoff(0.5, 30.0),
        )

    async def fail(self, error: ServerError | SampleError, item: WorkItem | None = None, **session: Any) -> Session:
        """No image came of a work item."""
        on = Session(**session)
        await self.handler.failed(on, item or WorkItem(request(0)), error)  # type: ignore[arg-type]
        return on

    async def succeed(self, item: WorkItem, result: AttemptResult, **session: Any) -> Session:
        """A prompt ended well."""
        on = Session(**session)
        await self.handler.succeeded(on, item, result)  # type: ignore[arg-type]
        return on

    def waiting(self) -> list[WorkItem]:
        """What is to be tried again, however long its pause."""
        return [waiting.item for waiting in self.fleet._waiting.due(time.monotonic() + 10_000.0)]

    def told(self, kind: type[RunEvent]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def failures(request: PromptRequest, *errors: ServerError | SampleError | None) -> AttemptResult:
    """The end of a batch whose images have a fault each, or none."""
    pairs = list(zip(request.samples, errors, strict=True))
    saved = tuple(SavedImage(sample, "id", 2.0, 3.0) for sample, error in pairs if error is None)
    return AttemptResult(MADE, saved, tuple((sample, error) for sample, error in pairs if error is not None))


def names(item: WorkItem) -> list[str]:
    return [sample.name for sample in item.request.samples]


# ---- images that are saved


def test_a_saved_image_is_told_counted_and_forgives_its_server(job: JobMaker) -> None:
    """Its time tells how fast the server is, and nothing holds it against the server that it failed before."""
    night = Night(job)
    night.fleet.health.failed("a", 0.0)
    sample = request(0).samples[0]
    night.handler.saved("a", SavedImage(sample, "id", 2.0, 3.0))
    assert [(event.name, event.busy) for event in night.told(ImageSaved)] == [("reg_001", 2.0)]
    assert night.fleet.loads["a"].seconds == 2.0
    assert not night.fleet.health.servers["a"].breaker.on_trial


async def test_an_image_ends_the_row_of_those_that_were_given_up(job: JobMaker) -> None:
    """And its prompt's time tells how late the next may be posted."""
    night = Night(job, attempts=1, give_ups_in_a_row=2)
    for _ in range(5):
        await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
        night.handler.saved("a", SavedImage(request(0).samples[0], "id", 2.0, 3.0))
    assert night.stopped == []


async def test_a_saved_image_ends_what_was_said_of_its_server(job: JobMaker) -> None:
    """Why it cannot be used is its last failure, until something goes well."""
    night = Night(job)
    await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
    said = [night.faults.reasons({})]
    night.handler.saved("a", SavedImage(request(0).samples[0], "id", 2.0, 3.0))
    assert [*said, night.faults.reasons({})] == [{"a": "KSampler raised RuntimeError on a: boom"}, {}]
    assert night.faults.reasons({"a": "connecting"}) == {"a": "connecting"}


async def test_memory_is_freed_after_as_many_images_as_the_job_says(job: JobMaker) -> None:
    """When the prompt has ended that made the last of them; then the count begins again."""
    night, one = Night(job, free_every=2), request(0)
    freed = []
    for _ in range(5):
        night.handler.saved("a", SavedImage(one.samples[0], "id", 2.0, 3.0))
        freed.append((await night.succeed(WorkItem(one), failures(one, None))).freed)
    assert freed == [0, 1, 0, 1, 0]


# ---- prompts that fail


async def test_a_failed_prompt_is_tried_again_elsewhere_first(job: JobMaker) -> None:
    """Told once, with the same take, and one post counted."""
    night = Night(job, "a", "b")
    await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
    (again,) = night.waiting()
    assert (again.tries.posts, again.tries.attempts, again.tries.avoid) == (1, 1, frozenset({"a"}))
    assert again.request.samples[0].take == 0
    assert [event.text for event in night.told(Trouble)] == ["reg_001: KSampler raised RuntimeError on a: boom"]
    assert night.runner.rows == []


async def test_a_sample_that_is_given_up_has_a_row_an_event_and_no_more_tries(job: JobMaker) -> None:
    """The row has the reason and the number of posts."""
    night = Night(job, attempts=1)
    await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"), WorkItem(batch_of(2)))
    assert night.waiting() == []
    assert [(row.name, row.state, row.take, row.attempts) for row in night.runner.rows] == [
        ("reg_001", "given_up", 0, 1),
        ("reg_002", "given_up", 0, 1),
    ]
    assert {row.reason for row in night.runner.rows} == {"KSampler raised RuntimeError on a: boom (tried once)"}
    assert [event.name for event in night.told(SlotGivenUp)] == ["reg_001", "reg_002"]


async def test_too_many_given_up_in_a_row_stop_the_run(job: JobMaker) -> None:
    """In good order, with the last reason; once it is stopped nobody stops it again."""
    night = Night(job, attempts=1, give_ups_in_a_row=2)
    for _ in range(2):
        await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
    assert len(night.stopped) == 1
    assert night.stopped[0].startswith("2 prompts in a row had to be given up, the last because KSampler raised")
    night.fleet.stopped = True
    await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
    assert len(night.stopped) == 1


async def test_out_of_memory_frees_the_server_before_the_next_try(job: JobMaker) -> None:
    """And where that did not help, a batch is made one by one, in the next take."""
    night = Night(job)
    error = ExecutionError("a", "KSampler", "OutOfMemoryError", "no room", out_of_memory=True)
    assert (await night.fail(error, WorkItem(batch_of(2)))).freed == 1
    (again,) = night.waiting()
    night.fleet._waiting.remove(night.fleet._waiting.due(1e12)[0])
    await night.fail(error, again)
    assert [(names(item), item.request.samples[0].take) for item in night.waiting()] == [
        (["reg_001"], 1),
        (["reg_002"], 1),
    ]
    assert not night.fleet.loads["a"].fits(batch_of(2))


@pytest.mark.parametrize(("up", "answering", "spent"), [(True, True, True), (False, True, False), (True, False, True)])
async def test_a_post_refused_for_good_counts_only_where_the_server_is_there(
    job: JobMaker, *, up: bool, answering: bool, spent: bool
) -> None:
    """One that is away refuses everything: that says nothing about this post."""
    night = Night(job)
    blocked = HttpStatusError("a", "posting", 403, "blocked")
    await night.fail(blocked, up=up, answering=answering)
    (again,) = night.waiting()
    assert (again.tries.permanent == 1) is spent


async def test_when_every_server_rejects_the_first_prompts_the_job_is_wrong(job: JobMaker) -> None:
    """In the last server's words, and before anything else is posted; one prompt that is taken rules it out."""
    night = Night(job, "a", "b")
    await night.fail(PromptRejected("a", ("no such sampler",)))
    await night.fail(PromptRejected("b", ("no such sampler",)), name="b")
    with pytest.raises(JobError, match="no such sampler"):
        await night.fail(PromptRejected("b", ("no such sampler",)), name="b")
    taken = Night(job, "a", "b")
    taken.fleet.health.prompt_ended("a")
    for _ in range(3):
        await taken.fail(PromptRejected("b", ("no such sampler",)), name="b")


async def test_rejections_by_one_server_of_two_are_no_fault_of_the_job(job: JobMaker) -> None:
    """The other may take it; at the end of the run fewer are enough."""
    night = Night(job, "a", "b")
    for _ in range(3):
        await night.fail(PromptRejected("a", ("no such sampler",)))
    night.faults.demand_possible_job()
    with pytest.raises(JobError):
        night.faults.demand_possible_job(at_end=True)


# ---- images that fail, of a prompt that ended well


async def test_a_bad_image_is_asked_for_again_with_the_next_seed(job: JobMaker) -> None:
    """It stands in the ledger as rejected, in its take; the slot goes on with the next."""
    night, one = Night(job), request(0)
    await night.succeed(WorkItem(one), failures(one, BadImage("reg_001", "is black")))
    assert not night.fleet.health.took_none, "its prompt was taken"
    assert [(rejection.idx, rejection.take, rejection.reason) for rejection in night.runner.rejections] == [
        (0, 0, "is black")
    ]
    assert [(row.state, row.take) for row in night.runner.rows] == [("rejected", 1)]
    (again,) = night.waiting()
    assert again.request.samples[0].take == 1


async def test_of_a_batch_bad_images_are_asked_for_one_by_one_and_the_others_together(job: JobMaker) -> None:
    """Torn ones keep their seed: they are made again in one prompt."""
    night, four = Night(job), batch_of(4)
    torn = [BadImage(f"reg_00{number}", "is torn", torn=True) for number in (1, 3)]
    result = failures(four, torn[0], BadImage("reg_002", "is black"), torn[1], None)
    await night.succeed(WorkItem(four), result)
    assert sorted((names(item), item.request.samples[0].take) for item in night.waiting()) == [
        (["reg_001", "reg_003"], 0),
        (["reg_002"], 1),
    ]


@pytest.mark.parametrize(
    ("error", "freed"), [(BadImage("reg_001", "is black"), 1), (DuplicateImage("reg_001", "is reg_002's twin"), 0)]
)
async def test_prompts_with_bad_images_only_make_a_server_sick(job: JobMaker, error: BadImage, freed: int) -> None:
    """After three its memory is freed. A duplicate is no fault of the server's."""
    night, one = Night(job, attempts=99), request(0)
    sessions = [await night.succeed(WorkItem(one), failures(one, error)) for _ in range(3)]
    assert sum(session.freed for session in sessions) == freed


async def test_one_good_image_of_a_batch_says_that_the_server_is_well(job: JobMaker) -> None:
    """However bad the others are."""
    night, two = Night(job, attempts=99), batch_of(2)
    for _ in range(9):
        session = await night.succeed(WorkItem(two), failures(two, None, BadImage("reg_002", "is black")))
        assert session.freed == 0


async def test_images_that_are_made_and_not_handed_out_are_downloaded_later(job: JobMaker) -> None:
    """From the same server after a rest, without another post; after three rounds they are made again."""
    night, item = Night(job, "a", "b"), WorkItem(batch_of(2))
    refused = HttpStatusError("a", "downloading an image", 502, "bad gateway", 90.0)
    for _ in range(2):
        await night.succeed(item, failures(item.request, None, refused))
        (waiting,) = night.fleet._waiting.due(1e12)
        night.fleet._waiting.remove(waiting)
        item = WorkItem(batch_of(2), waiting.item.tries)
        assert (names(waiting.item), waiting.item.at, waiting.item.made) == (["reg_002"], "a", MADE)
        assert waiting.item.tries.posts == 0
    assert night.fleet.health.servers["a"].breaker.rests_until >= time.monotonic() + 80.0, "as it asked for"
    await night.succeed(item, failures(item.request, None, refused))
    (again,) = night.waiting()
    assert (again.made, again.tries.posts, again.tries.fetches, again.tries.attempts) == (None, 1, 0, 1)


async def test_an_absence_is_no_round_of_downloads(job: JobMaker) -> None:
    """Pictures of a server that is away are waited for."""
    night, one = Night(job), request(0)
    gone = Unreachable("a", "downloading an image", "no answer")
    for _ in range(9):
        await night.succeed(WorkItem(one), failures(one, gone), up=False)
    assert {item.tries.fetches for item in night.waiting()} == {0}


# ---- the disk here


async def test_a_full_disk_pauses_the_run_and_costs_no_try(job: JobMaker) -> None:
    """Of a batch only what is not saved yet is made again."""
    night, three = Night(job), batch_of(3)
    result = AttemptResult(MADE, (), (), three.samples[1:], FULL)
    await night.succeed(WorkItem(three), result)
    (again,) = night.waiting()
    assert names(again) == ["reg_002", "reg_003"]
    assert (again.tries.attempts, again.tries.posts) == (0, 1)
    assert night.fleet.held
    assert [event.why for event in night.told(RunPaused)] == [
        "writing the ledger ledger.sqlite: the disk is full; waiting for room"
    ]


@pytest.mark.parametrize(("error", "stopped"), [(BROKEN, False), (FULL, True)])
async def test_a_disk_that_cannot_be_waited_for_ends_the_run(
    job: JobMaker, error: StorageError, *, stopped: bool
) -> None:
    """Broken, or full while the run is being stopped: nobody waits for room then."""
    night, one = Night(job), request(0)
    if stopped:
        night.fleet.stopped = True
    with pytest.raises(StorageError, match=error.what):
        await night.succeed(WorkItem(one), AttemptResult(MADE, (), (), one.samples, error))
    assert night.waiting() == []


async def test_a_given_up_slot_that_cannot_be_written_is_tried_again(job: JobMaker) -> None:
    """A full ledger is the disk's fault, and nothing is told that is not on the disk."""
    night = Night(job, attempts=1)
    night.runner.refuse = FULL
    await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))
    assert len(night.waiting()) == 1
    assert night.told(SlotGivenUp) == []
    night.runner.refuse = BROKEN
    with pytest.raises(StorageError, match="read-only"):
        await night.fail(ExecutionError("a", "KSampler", "RuntimeError", "boom"))


async def test_a_rejected_take_that_cannot_be_written_stops_nothing(job: JobMaker) -> None:
    """A later run finds out again; this one goes on with the next take."""
    night, one = Night(job), request(0)
    night.runner.refuse = BROKEN
    await night.succeed(WorkItem(one), failures(one, BadImage("reg_001", "is black")))
    assert [item.request.samples[0].take for item in night.waiting()] == [1]


def test_a_sample_s_next_take_follows_from_the_plan(job: JobMaker) -> None:
    """Each in a prompt of its own, with what was spent on it."""
    night = Night(job)
    tries = AttemptCounts(posts=3)
    night.handler.one_by_one(batch_of(2).samples, tries)
    plan = plan_of(job())
    assert [item.request.samples for item in night.waiting()] == [(plan.sample(0, 1),), (plan.sample(1, 1),)]
    assert {item.tries for item in night.waiting()} == {tries}
