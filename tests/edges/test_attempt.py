"""One attempt on a real socket: what is in the dataset afterwards, what is reported, and what is raised."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from reggen.backoff import Backoff
from reggen.comfy.client import Client
from reggen.comfy.session import ServerSession
from reggen.dataset.download import Downloads
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, open_dataset
from reggen.dataset.rows import Row
from reggen.engine.attempt import AttemptResult, AttemptRunner, SavedImage
from reggen.engine.threads import Threads
from reggen.engine.writer import DatasetWriter
from reggen.errors import (
    BadImage,
    ExecutionError,
    ForbiddenWord,
    HttpStatusError,
    NotDownloaded,
    PromptRejected,
    StorageError,
)
from reggen.planning.plan import PromptRequest
from reggen.prompts.guard import Guard
from reggen.scheduler.work_item import WorkItem
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.workflow.walk import Binding
from tests.conftest import SESSION_TIMINGS, JobMaker, eventually
from tests.preparing import prepared_of

QUICK = Settings(seconds=0.02)


@dataclass
class Bench:
    """A stand-in, a session with it, and a runner whose dataset is open."""

    sim: Sim
    session: ServerSession
    runner: AttemptRunner
    folder: Folder
    ledger: Ledger
    requests: list[PromptRequest]
    left: int = 0
    saved: list[str] = field(default_factory=list)

    @property
    def item(self) -> WorkItem:
        """The first prompt of the job."""
        return WorkItem(self.requests[0])

    def has_left(self) -> None:
        """Count a prompt that has left the server."""
        self.left += 1

    def is_saved(self, image: SavedImage) -> None:
        """Keep the name of an image that is in the dataset."""
        self.saved.append(image.sample.name)

    async def attempt(self, item: WorkItem | None = None) -> AttemptResult:
        """Make an attempt, and keep what it reports."""
        async with asyncio.timeout(30):
            return await self.runner.attempt(self.session, item or self.item, self.has_left, self.is_saved)

    def images(self) -> list[str]:
        """The names in the image folder."""
        return sorted(file.stem for file in self.folder.images.iterdir())


@asynccontextmanager
async def bench(
    job: JobMaker, *faults: Fault, batch: int = 1, settings: Settings = QUICK, forbid: tuple[str, ...] = ()
) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(serve(settings, script=Script(faults)))
        prepared = prepared_of(job(sim.url, sampling={"batch": batch}))
        folder = Folder(prepared.dataset)
        ledger = stack.enter_context(open_dataset(folder))
        thread, disk, decoders = (Threads(1, "test", folder.images) for _ in range(3))
        stack.push_async_callback(thread.close)
        writer = DatasetWriter(folder, ledger, ".txt", thread)
        stack.push_async_callback(writer.close)
        stack.push_async_callback(disk.close)
        stack.push_async_callback(decoders.close)
        session = ServerSession(await stack.enter_async_context(Client(sim.url, name="here")), timings=SESSION_TIMINGS)
        talking = [asyncio.create_task(session.listen()), asyncio.create_task(session.watch())]
        stack.callback(lambda: [task.cancel() for task in talking])
        await eventually(lambda: session.up)
        runner = AttemptRunner(
            run_id=uuid.uuid4(),
            template=prepared.template,
            folder=folder,
            ledger=ledger,
            writer=writer,
            downloads=Downloads(folder.parts, 1 << 20, disk, decoders),
            check_settings=prepared.check_settings,
            guard=Guard(forbid),
            recipe=prepared.recipe,
            versions={"here": "0.33.0"},
            pauses=Backoff(0.01, 0.02),
        )
        yield Bench(sim, session, runner, folder, ledger, list(prepared.plan.requests(0, 6, {}, ())))


async def test_an_attempt_makes_the_images_of_its_prompt(job: JobMaker) -> None:
    """Each is in the dataset, has its row, and is reported; the prompt has left once."""
    async with bench(job, batch=3) as one:
        result = await one.attempt()
        assert ([image.sample.name for image in result.saved], result.failures, result.unsaved) == (one.saved, (), ())
        assert one.saved == one.images() == ["reg_001", "reg_002", "reg_003"]
        rows: list[Row] = list(one.ledger.slots.walk("done"))
        assert {(row.server, row.comfyui, row.attempts, row.batch) for row in rows} == {("here", "0.33.0", 1, 3)}
        assert [row.position for row in rows] == [0, 1, 2]
        assert one.left == 1


async def test_a_prompt_that_fails_has_left_nevertheless(job: JobMaker) -> None:
    """Its server has room again, and nothing is in the dataset."""
    async with bench(job, Fault("fail")) as one:
        with pytest.raises(ExecutionError):
            await one.attempt()
        assert (one.left, one.saved, one.images()) == (1, [], [])


async def test_a_forbidden_word_is_never_posted(job: JobMaker) -> None:
    """And holds no place on a server."""
    async with bench(job, forbid=("cat",)) as one:
        with pytest.raises(ForbiddenWord):
            await one.attempt()
        assert (one.left, one.sim.count("POST", "/prompt")) == (1, 0)


async def test_images_that_are_made_are_downloaded_without_another_post(job: JobMaker) -> None:
    """The work item says where they are; its prompt holds no place any more."""
    async with bench(job, Fault("status", on="view", status=403, times=5)) as one:
        first = await one.attempt()
        ((_, error),) = first.failures
        assert isinstance(error, HttpStatusError)
        await eventually(lambda: one.session.up)
        again = await one.attempt(WorkItem(one.requests[0], at="here", made=first.made))
        assert (again.failures, one.images()) == ((), ["reg_001"])
        assert (one.left, one.sim.count("POST", "/prompt")) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "kind", "downloads"),
    [
        (Fault("status", on="view", status=500), HttpStatusError, 5),
        (Fault("status", on="view", status=404), HttpStatusError, 5),
        (Fault("black"), BadImage, 1),
    ],
)
async def test_an_image_is_downloaded_as_often_as_it_may_help(
    job: JobMaker, fault: Fault, kind: type[Exception], downloads: int
) -> None:
    """Then its error is in the result, and no part file is left of it."""
    async with bench(job, fault) as one:
        ((sample, error),) = (await one.attempt()).failures
        assert (sample.name, type(error)) == ("reg_001", kind)
        assert one.sim.count("GET", "/view") == downloads
        assert list(one.folder.parts.iterdir()) == []


async def test_a_file_that_the_server_does_not_have_is_asked_for_twice(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached prompt may name such a file: the image is made again, and that is no fault of the server's."""
    async with bench(job) as one:
        monkeypatch.setattr(type(one.sim.disk), "find", lambda *_: None)
        ((_, error),) = (await one.attempt()).failures
        assert isinstance(error, NotDownloaded)
        assert one.sim.count("GET", "/view") == 2


async def test_one_image_of_a_batch_that_fails_spoils_no_other(job: JobMaker) -> None:
    """Each has an end of its own."""
    async with bench(job, Fault("status", on="view", status=500, nth=(2, 3, 4, 5, 6)), batch=3) as one:
        result = await one.attempt()
        assert [sample.name for sample, _ in result.failures] == ["reg_002"]
        assert one.images() == one.saved == ["reg_001", "reg_003"]


async def test_a_disk_that_refuses_leaves_the_rest_of_a_batch_unsaved(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved before stands; from the refused image on they are made again, and not tried here any more."""
    sync, refusal = Folder.sync, StorageError("reg_002", "saving", "the disk is full", full=True)

    def full(self: Folder, part: object) -> None:
        if "reg_002" in str(part):
            raise refusal
        sync(self, part)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "sync", full)
    async with bench(job, batch=3) as one:
        result = await one.attempt()
        assert result.storage is refusal
        assert [sample.name for sample in result.unsaved] == ["reg_002", "reg_003"]
        assert one.saved == one.images() == ["reg_001"]


async def test_an_image_that_is_being_saved_is_reported_though_the_attempt_is_cancelled(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the dataset: whoever counts images must count it."""
    begun, keep = asyncio.Event(), DatasetWriter.keep

    def noted(self: DatasetWriter, *given: object) -> asyncio.Future[None]:
        begun.set()
        return keep(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DatasetWriter, "keep", noted)
    async with bench(job) as one:
        attempt = asyncio.create_task(one.attempt())
        await begun.wait()
        attempt.cancel()
        await asyncio.wait([attempt])
        await one.runner.writer.close()
        assert attempt.cancelled()
        assert one.saved == one.images() == ["reg_001"]


async def test_an_attempt_that_is_cancelled_while_its_prompt_runs_has_left(job: JobMaker) -> None:
    """The fleet counts it no longer; the session takes it from the queue."""
    async with bench(job, settings=Settings(seconds=30.0)) as one:
        attempt = asyncio.create_task(one.attempt())
        await eventually(lambda: one.sim.count("POST", "/prompt") == 1 and one.session.in_flight == 1)
        attempt.cancel()
        await asyncio.wait([attempt])
        assert (one.left, one.saved) == (1, [])


async def test_a_server_with_other_file_names_is_sent_these(job: JobMaker) -> None:
    """Its own template is bound, and no other server's."""
    async with bench(job) as one:
        files = {Binding("3", "sampler_name"): "its_own"}  # which this server does not have, and says so
        one.runner.templates = {"elsewhere": one.runner.template.with_files(files)}
        assert (await one.attempt()).failures == ()
        one.runner.templates = {"here": one.runner.template.with_files(files)}
        with pytest.raises(PromptRejected, match="its_own"):
            await one.attempt()
