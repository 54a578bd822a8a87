"""Fill a dataset: everything between a valid job and its closing summary, in order.

hold the dataset > reconcile > anything missing? > room on the disk > preflight > run > report

A look at each image takes long where there are very many, and no server waits for it. It is done when the rest is
made: what was deleted or damaged by then is made anew before anything is called complete.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from reggen import progress
from reggen.comfy.client import Client, Timeouts
from reggen.comfy.follow import Pace
from reggen.comfy.launch import Launched
from reggen.comfy.link import Link
from reggen.dataset.check import Demands
from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder, held
from reggen.dataset.ledger import Ledger, now_utc
from reggen.dataset.resume import Reconciling, caption, differing, missing
from reggen.dataset.study import BATCH, Brief, settings_of, with_batch
from reggen.engine.adopt import Heritage
from reggen.engine.attempt import Bench
from reggen.engine.fleet import Fleet
from reggen.engine.gauge import gauge, sizes_for
from reggen.engine.halt import Halt
from reggen.engine.keep import started
from reggen.engine.preflight import Examined, examine
from reggen.engine.run import Run
from reggen.engine.scribe import Scribe
from reggen.engine.shelf import FAR, NEAR
from reggen.engine.summary import BY_USER, Given, Summary
from reggen.errors import (
    JobError,
    NoServers,
    Problem,
    ReggenError,
    StorageError,
)
from reggen.job import Job
from reggen.plan import Plan, Sample, negative
from reggen.progress import Progress, RunEvent
from reggen.workflow import Template, template

BYTES_PER_PIXEL = 1.6  # of a PNG of a painted picture; the true figure lies between 0.6 and 2.2
_SPARE = 8 << 20  # bytes that the ledger and the log may need beside the images
_COUNTED = 100_000  # slots whose chosen values are counted for the report
_FEW = 20_000  # images whose sizes are looked at before the start: a tenth of a second
_MOST_DECODERS = 8
_WAIT = (2.0, 15.0)  # seconds between looks for a server, with --wait
Answer = TypeVar("Answer")


class Control:
    """What a person may ask of a run while it goes on."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._task: asyncio.Task[Summary] | None = None
        self._asked = 0

    @property
    def asked(self) -> int:
        """How often `interrupt` was called."""
        return self._asked

    def steer(self, run: Run) -> None:
        """From here on there is a run to steer."""
        self._run = run
        if self._asked:
            run.stop(BY_USER)

    def interrupt(self) -> None:
        """Once: finish what is in flight. Twice: leave at once, resumable. Before the run: end."""
        self._asked += 1
        if self._run is None and self._task is not None:
            self._task.cancel()
        elif self._run is not None and self._asked == 1:
            self._run.stop(BY_USER)
        elif self._run is not None:
            self._run.abort()

    async def guard(self, task: asyncio.Task[Summary]) -> Summary:
        """Await the task that fills a dataset; the run of an earlier one is over."""
        self._task, self._run = task, None
        return await task


async def fill(
    brief: Brief,
    job_file: str,
    *,
    tell: Callable[[RunEvent], None],
    note: Callable[[str], None],
    control: Control | None = None,
    wait: bool = False,
    left: Callable[[], float] | None = None,
    rehearsal: bool = False,
    pace: Pace | None = None,
) -> Summary:
    """Make what is missing of one dataset: of a job of one class.

    ``tell`` gets every event, ``note`` a sentence now and then for people. With ``wait`` it waits for a server
    instead of raising NoServers; ``left`` tells how many seconds it has. Raises JobError, Busy, NoServers, StorageError
    while nothing is posted; what ends the run later is in the summary, beside what was made by then.
    A ``rehearsal`` and a real run never share a dataset. No image may look like a training image.
    """
    job, plan = brief.job, brief.plan
    training = [image.path for image in brief.training.images] if brief.training else []
    made_of, folder, demands = template(job), Folder(job.dataset), demands_of(job)
    state = Progress()

    def both(event: RunEvent) -> None:
        state.apply(event)
        tell(event)

    warnings = brief.warnings
    with held(folder):
        folder.prepare()
        ledger = Ledger.open(folder.state / "ledger.sqlite")
        try:
            ledger.claim(job_file, lasting(job, rehearsal=rehearsal))
            done = ledger.counts(len(plan)).get("done", 0)
            demand_room(job, folder, len(plan) - done)
            duplicates = duplicates_of(job, folder, ledger, training)
            reconciling = Reconciling(folder, ledger, plan, demands, duplicates)
            await _in_thread(reconciling.by_name)
            there = ledger.counts(len(plan)).get("done", 0)
            if there <= _FEW or there == len(plan):
                changed = await _in_thread(partial(differing, folder, ledger.path, len(plan)))
                await _in_thread(partial(reconciling.by_size, changed))
            if job.captions.write != "none":
                captioned = await _in_thread(partial(caption, folder, ledger, plan, job.captions, brief.guard))
                warnings += (*captioned.words(job.captions.extension),)
            for warning in warnings:
                note(warning)
            filling = _Filling(
                brief,
                job_file,
                made_of,
                folder,
                ledger,
                reconciling,
                state,
                both,
                note,
                Halt(job.limits, left),
                duplicates,
            )
            return await filling(control or Control(), wait, pace)
        finally:
            ledger.close()
            folder.tidy()


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    """Something that blocks and needs the dataset: leaving waits for it, whatever happens."""
    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def _decoders() -> int:
    """Threads that decode and check: one core is left to the event loop, and no more than a few want its interpreter.

    With more of them than cores the loop waited so long for its turn that servers waited for their next prompt.
    """
    return max(1, min(_MOST_DECODERS, (os.cpu_count() or 1) - 1))


def lasting(job: Job, *, rehearsal: bool = False) -> dict[str, object]:
    """What must stay the same for as long as a dataset lives."""
    return {"prefix": job.dataset.prefix, "format": job.dataset.format, "rehearsal": rehearsal}


def demand_room(job: Job, folder: Folder, images: int) -> None:
    """Raises StorageError when so many images cannot fit."""
    need, free = bytes_needed(job, images), folder.free_bytes()
    if free < need / 2:
        what = f"{images:,} images need about {mib(need)} and {mib(free)} are free"
        raise StorageError(str(folder.images), "looking for room at", what)


@dataclass(slots=True)
class _Filling:
    """One call of `fill`, with the dataset in hand."""

    brief: Brief
    job_file: str
    template: Template
    folder: Folder
    ledger: Ledger
    reconciling: Reconciling
    state: Progress
    tell: Callable[[RunEvent], None]
    note: Callable[[str], None]
    halt: Halt
    duplicates: Duplicates | None
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=now_utc)
    versions: dict[str, str | None] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """Of one class, its count known."""
        return self.brief.job

    @property
    def plan(self) -> Plan:
        """Its slots."""
        return self.brief.plan

    async def __call__(self, control: Control, wait: bool, pace: Pace | None) -> Summary:
        total, before = len(self.plan), self._done
        servers = tuple(server.name for server in self.job.servers)
        self.tell(progress.Began(self.begun, total, before, servers))
        if before == total:
            return self._summary()
        self._room(total - before)
        async with started(self.job, self.folder, self.note) as running, connected(self.job) as clients:
            examined = {one.server: one for one in await self._preflight(clients, wait)}
            self.versions = {name: one.version for name, one in examined.items()}
            fit = [client for client in clients if not examined[client.name].problems]
            ready = [name for name, one in examined.items() if one.ready]
            if self.job.sampling.gauged:
                await self._gauge([client for client in fit if client.name in ready], total - before)
            return self._summary(await self._run(control, fit, ready, running, pace))

    @property
    def _done(self) -> int:
        """Slots that are filled."""
        return self.ledger.counts(len(self.plan)).get("done", 0)

    async def _undone(self, scribe: Scribe) -> list[Sample]:
        """What is to be made anew: what was deleted or broken meanwhile, or could not be looked at before the start."""
        left = threading.Event()
        try:
            look = partial(differing, self.folder, self.ledger.path, len(self.plan), left.is_set)
            changed = await asyncio.to_thread(look)
        finally:
            left.set()
        undone = await scribe.do(partial(self.reconciling.by_size, changed)) if changed else []
        return [self.plan.sample(index, take) for index, take in undone]

    def _room(self, images: int) -> None:
        demand_room(self.job, self.folder, images)
        need, free = bytes_needed(self.job, images), self.folder.free_bytes()
        if free < need:
            self.note(f"the disk may become full: {images} images need about {mib(need)}, {mib(free)} are free")

    @property
    def _patience(self) -> float:
        """Seconds to wait for a first server."""
        return self.job.limits.give_up_after or math.inf

    async def _preflight(self, clients: Sequence[Client], wait: bool) -> list[Examined]:
        pause, told = _WAIT[0], False
        while True:
            examined = await examine(clients, self.template)
            if any(one.ready for one in examined):
                if told:
                    self.tell(progress.Waiting(time.monotonic(), ""))
                for one in examined:
                    if not one.ready:
                        self.tell(progress.ServerChanged(time.monotonic(), one.server, up=False, why=one.why))
                return examined
            problems = unfit(examined)
            if problems and not (wait and any(one.away for one in examined)):
                raise JobError(self.job_file, problems)
            if not wait or time.monotonic() - self.begun >= self._patience or self.halt.seconds_left <= 0:
                raise NoServers(tuple((one.server, one.why) for one in examined))
            if not told:
                told = True
                for one in examined:
                    self.tell(progress.ServerChanged(time.monotonic(), one.server, up=False, why=one.why))
                self.tell(progress.Waiting(time.monotonic(), "; ".join(f"{one.server}: {one.why}" for one in examined)))
            await asyncio.sleep(min(pause, self.halt.seconds_left))
            pause = min(_WAIT[1], pause * 1.5)

    async def _gauge(self, clients: Sequence[Client], missing: int) -> None:
        """Find out the batch once for this dataset; with several servers the one that is good for all."""
        if clients and any(sizes_for(missing // len(clients))):
            self.note("finding out which batch is made fastest; the pictures of these prompts are not kept")
        found = await gauge(clients, self.template, self.plan, missing, self.halt.seconds_left)
        if not found:
            return  # too few images, or nobody answered: one by one, and the next run tries again
        batch = min(one.best for one in found)
        self.ledger.keep_fact(BATCH, batch)
        for one in found:
            self.note(str(one))
        self.note(f"batch = {batch} from here on, for this dataset")
        job = with_batch(self.job, batch)
        self.brief = replace(self.brief, job=job, plan=Plan(job, self.plan.source))
        self.reconciling.plan = self.plan

    async def _run(
        self,
        control: Control,
        clients: Sequence[Client],
        ready: Sequence[str],
        running: Mapping[str, Launched],
        pace: Pace | None,
    ) -> ReggenError | None:
        """One run over what is missing; what ended it before its time, if anything did."""
        run_id = uuid.uuid4()
        reader = Ledger.read(self.ledger.path)
        assert reader is not None, "it was opened for writing above"
        todays = recipe(self.job, self.template)
        earlier = [uuid.UUID(run) for run in reader.runs()]
        heritage = Heritage(self.plan, reader, earlier, self.template)
        scribe = Scribe(self.folder, self.ledger, self.job.captions.extension, self.duplicates)
        threads = ThreadPoolExecutor(_decoders(), thread_name_prefix="reggen-check")
        bench = Bench(
            run_id=run_id,
            template=self.template,
            folder=self.folder,
            ledger=self.ledger,
            scribe=scribe,
            threads=threads,
            demands=demands_of(self.job),
            guard=self.brief.guard,
            most_bytes=self.job.limits.megabytes << 20,
            recipe=todays,
            versions=self.versions,
        )
        names = {client.name for client in clients}
        depths = {server.name: server.depth for server in self.job.servers if server.name in names}
        limits = self.job.limits
        pace = pace or Pace(silence=limits.silence, stall=limits.stall, gap=limits.gap)
        ours = heritage.ours if earlier else None
        keeps = {server.name: server.keep_history for server in self.job.servers}
        links = [Link(client, pace=pace, ours=ours, keeps_history=keeps[client.name]) for client in clients]
        run = Run(
            job_file=self.job_file,
            plan=self.plan,
            bench=bench,
            fleet=Fleet(
                depths,
                missing(reader, self.plan),
                patience=self.job.limits.away,
                images=len(self.plan) - self._done,
                window=FAR if self.job.matrix.checkpoint else NEAR,
            ),
            links=links,
            limits=self.job.limits,
            running=running,
            sick_rest=pace.sick,
            halt=self.halt,
            free_every={server.name: server.free_every for server in self.job.servers if server.free_every},
            room=bytes_needed(self.job, sum(depth or 2 for depth in depths.values())) + _SPARE,
            heritage=heritage,
            ready=ready,
            undone=partial(self._undone, scribe),
            tell=self.tell,
        )
        for link in links:
            link.on_change = run.link_changed
        self.ledger.begin_run(str(run_id), now_utc())
        fatal: ReggenError | None = None
        try:
            control.steer(run)
            await run()
        except ReggenError as error:
            fatal = error
        finally:
            threads.shutdown(cancel_futures=True)
            await scribe.close()
            reader.close()
        with suppress(StorageError):  # a full disk may be what ended it, and has been told
            self.ledger.end_run(str(run_id), now_utc(), str(fatal or self.state.stopping or "finished"))
        return fatal

    def _summary(self, error: ReggenError | None = None) -> Summary:
        total, done = len(self.plan), self._done
        before = min(self.state.before, done)  # a run that is cut short may not have told yet what is damaged
        given_up = [Given(row.name, row.reason or "") for row in self.ledger.walk("given_up", stop=total)]
        return Summary(
            job_file=self.job_file,
            dataset=self.folder.images,
            total=total,
            before=before,
            made=done - before,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            given_up=tuple(given_up),
            servers=self.state.servers,
            versions=self.versions,
            resumed=self.reconciling.found,
            strangers=tuple(self.folder.strangers()),
            beyond=self.folder.beyond(total),
            values=settings_of(self.brief, self.ledger.done(0, min(total, _COUNTED))),
            other_recipes=tuple(self.ledger.other_recipes(recipe(self.job, self.template), total)),
            stopped=self.state.stopping,
            error=error,
        )


@asynccontextmanager
async def connected(job: Job) -> AsyncIterator[list[Client]]:
    """A client for each of the job's servers. Raises JobError when a header names an unset variable."""
    problems, headers = [], []
    for number, server in enumerate(job.servers):
        try:
            headers.append(server.resolved_headers())
            if any(set(value) & set("\r\n\0") for value in headers[-1].values()):
                problems.append(Problem(f"servers[{number}].headers", "has a value of more than one line"))
        except KeyError as error:
            key = f"servers[{number}].headers"
            problems.append(Problem(key, f"the environment has no {error.args[0]}", "set it, or take it out"))
    if problems:
        raise JobError("the job", tuple(problems))
    limits = job.limits
    timeouts = Timeouts(limits.connect, limits.request, limits.download)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Client(server.url, name=server.name, headers=header, timeouts=timeouts))
            for server, header in zip(job.servers, headers, strict=True)
        ]


def demands_of(job: Job) -> Demands:
    """What every image of a job must be."""
    return Demands.by(job.checks, job.size, job.limits.megapixels)


def duplicates_of(job: Job, folder: Folder, ledger: Ledger, training: Sequence[Path] = ()) -> Duplicates | None:
    """The gate against duplicates, where the job wants it."""
    checks = job.checks
    return Duplicates(folder, ledger.path, checks.likeness, training) if checks.duplicates else None


def recipe(job: Job, made_of: Template) -> str:
    """A fingerprint of everything but the seed that decides what the images show."""
    bindings = {name: str(bound) for name, bound in made_of.bindings.items()}
    training = job.training if job.prompts.source or job.sampling.size else None
    asked = [job.prompts, job.matrix, training]
    words = [None if one is None else one.model_dump(mode="json") for one in asked]
    facts = [
        made_of.graph,
        bindings,
        made_of.output,
        dict(made_of.fixed),
        words,
        negative(job, made_of.negative),
        job.size,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def bytes_needed(job: Job, images: int) -> int:
    """What so many images may take on the disk; a guess where the workflow decides on the size."""
    width, height = job.size or (1024, 1024)
    return int(images * width * height * BYTES_PER_PIXEL)


def mib(size: int) -> str:
    """A size in bytes as people say it."""
    if size < 1 << 20:
        return "less than 1 MiB"
    return f"{size / (1 << 20):,.0f} MiB" if size < 10 << 30 else f"{size / (1 << 30):,.1f} GiB"


def unfit(examined: Sequence[Examined]) -> tuple[Problem, ...]:
    """What keeps servers from taking the job, where one that answers is unfit; those that are away are named, too."""
    found = [Problem(one.server, problem) for one in examined for problem in one.problems]
    away = [Problem(one.server, one.away) for one in examined if one.away]
    return (*found, *away) if found else ()
