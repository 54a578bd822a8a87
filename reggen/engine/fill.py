"""Fill a dataset: everything between a valid job and its closing summary, in order.

hold the dataset > reconcile > anything missing? > room on the disk > preflight > run > report

A look at each image takes long where there are very many, and no server waits for it. It is done when the rest is
made: what was deleted or damaged by then is made anew before anything is called complete.
"""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from reggen import progress
from reggen.backoff import full_jitter
from reggen.comfy.client import Client, Timeouts
from reggen.comfy.listings import OrphanedPrompt
from reggen.comfy.session import ServerSession
from reggen.comfy.tls import HOW_TO_COPY, fingerprint
from reggen.comfy.tracker import Timings
from reggen.dataset.captioning import caption
from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import LEDGER, Ledger, now_utc
from reggen.dataset.lock import locked
from reggen.dataset.reconcile import Reconciliation, demand_filled, differing, missing
from reggen.dataset.salvage import replaced
from reggen.dataset.slot_files import SlotFiles
from reggen.engine.attempt import AttemptRunner
from reggen.engine.auto_batch import fastest_batch, sizes_for
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.preflight import ServerCheck, examine
from reggen.engine.requirements import demand_room, duplicates_of, lasting, mib
from reggen.engine.run import Run
from reggen.engine.scan_progress import ScanProgress
from reggen.engine.summary import EmptySlot, Summary
from reggen.engine.supervisor import started
from reggen.engine.takeover import Takeover
from reggen.engine.threads import ReadAhead, Threads
from reggen.engine.writer import DatasetWriter
from reggen.errors import JobError, LedgerDamaged, NoUsableServer, Problem, ReggenError, StorageError
from reggen.job.models import Dataset, Limits, Server
from reggen.launch.launcher import Launched
from reggen.planning.plan import Plan, Sample, choice_counts
from reggen.prepare.prepared_job import BATCH, PreparedJob
from reggen.progress import Progress, RunEvent
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.order_queue import FAR, NEAR
from reggen.scheduler.stop_rules import StopRules
from reggen.workflow.template import Template

_SPARE = 8 << 20  # bytes that the ledger and the log may need beside the images
_COUNTED = 100_000  # slots whose chosen values are counted for the report
_FEW = 20_000  # images whose sizes are looked at before the start: a tenth of a second
_MOST_DECODERS = 8
_WAIT = (2.0, 15.0)  # seconds between looks for a server, with --wait


async def fill_dataset(
    prepared: PreparedJob,
    job_file: str,
    observers: Observers,
    control: RunControl | None = None,
    *,
    options: RunOptions | None = None,
    timings: Timings | None = None,
) -> Summary:
    """Make what is missing of one dataset; ``prepared`` is one class of a job, ``job_file`` names it in messages.

    Raises JobError, DatasetLocked, NoUsableServer and StorageError while nothing is posted. What ends the run
    later is in the summary, beside what was made until then. No image may look like a training image.
    """
    control, options = control or RunControl(), options or RunOptions()
    folder, kept = Folder(prepared.dataset), ""
    stop_rules = StopRules(prepared.limits, options.seconds_left)
    while True:
        looked = ScanProgress(observers.tell, asyncio.get_running_loop())
        opening = _Opening(prepared, job_file, folder, options.rehearsal, kept, looked)
        try:
            async with opening.opened() as filling:
                try:
                    control.reached = await filling(control, observers, stop_rules, options.wait, timings)
                except asyncio.CancelledError:
                    control.reached = filling.known() if control.cuts else None
                    raise
                return control.reached
        except LedgerDamaged as error:
            if kept or control.asked:
                raise
            said = f"{error.doing}: it is damaged ({error.what})"
        kept = await _set_aside(folder)  # here: until the error is gone it holds the file open
        observers.note(
            f"{said}. It is kept as {kept}, and another is begun: the images that are there are checked and adopted"
        )


async def _set_aside(folder: Folder) -> str:
    """Begin another ledger; the name under which the damaged one is kept."""

    def begin() -> str:
        with locked(folder):
            return replaced(folder.state / LEDGER).name

    thread = Threads(1, "reggen-dataset", folder.images)
    try:
        return await thread.do(begin)
    finally:
        await thread.close()


@dataclass(frozen=True, slots=True)
class _Opening:
    """What is known of a dataset before it is opened; ``kept`` is the name of a damaged ledger that was set aside."""

    prepared: PreparedJob
    job_file: str
    folder: Folder
    rehearsal: bool
    kept: str
    looked: Callable[[int, int], None]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[_Filling]:
        """Hold the dataset for as long as the block runs; all that blocks is done in a thread of its own.

        Leaving waits for that thread, within limits: it ends with the image it is at.
        """
        thread, stack = Threads(1, "reggen-dataset", self.folder.images), ExitStack()
        try:
            yield await thread.do(partial(self._open, thread, stack))
        finally:
            await thread.close(stack.close)

    def _open(self, thread: Threads, stack: ExitStack) -> _Filling:
        """Bring the ledger and the folder to agree. Blocking; what is to be closed goes on the stack."""
        prepared, plan, folder, left = self.prepared, self.prepared.plan, self.folder, thread.leaving.is_set
        training = [image.path for image in prepared.training_set.images] if prepared.training_set else []
        stack.enter_context(locked(folder))
        stack.callback(folder.delete_parts)
        folder.prepare()
        demand_filled(folder)
        ledger = stack.enter_context(Ledger.open(folder.state / LEDGER))
        ledger.claim(self.job_file, lasting(prepared.dataset, rehearsal=self.rehearsal))
        missing_now = len(plan) - ledger.counts(len(plan)).get("done", 0)
        demand_room(folder, missing_now, prepared.bytes_needed(missing_now))
        folder.delete_report()
        duplicates = duplicates_of(prepared.checks, folder, ledger, training, left)
        reconciling = Reconciliation(
            folder, ledger, plan, prepared.check_settings, duplicates, stopped=left, looked=self.looked
        )
        reconciling.found.ledger = self.kept
        reconciling.by_name()
        there = ledger.counts(len(plan)).get("done", 0)
        if there <= _FEW or there == len(plan):
            reconciling.by_size(differing(folder, ledger.path, len(plan), left))
        warnings = self.prepared.warnings
        captioned = caption(folder, ledger, plan, prepared.captions, prepared.guard, stopped=left)
        warnings += (*captioned.words(prepared.captions, _rewriting(self.job_file, prepared.dataset)),)
        return _Filling(
            prepared, self.job_file, prepared.template, folder, ledger, thread, reconciling, duplicates, warnings
        )


def _rewriting(job_file: str, dataset: Dataset) -> str:
    """The command that writes the captions of this dataset anew, for a shell."""
    words = ["python", "-m", "reggen", "recaption", job_file, "--output", str(dataset.root)]
    words += ["--class", dataset.class_tokens]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _decoders() -> int:
    """Threads that decode and check: one core is left to the event loop, and no more than a few want its interpreter.

    With more of them than cores the loop waited so long for its turn that servers waited for their next prompt.
    """
    return max(1, min(_MOST_DECODERS, (os.cpu_count() or 1) - 1))


@dataclass(slots=True)
class _Filling:
    """One call of `fill_dataset`, with the dataset in hand. Ledger and folder are touched in ``thread`` only."""

    prepared: PreparedJob
    job_file: str
    template: Template
    folder: Folder
    ledger: Ledger
    thread: Threads
    reconciling: Reconciliation
    duplicates: Duplicates | None
    warnings: tuple[str, ...] = ()
    state: Progress = field(default_factory=Progress)
    faces: Observers = field(init=False)
    stop_rules: StopRules = field(init=False)
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=now_utc)
    versions: dict[str, str | None] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """Its slots."""
        return self.prepared.plan

    def tell(self, event: RunEvent) -> None:
        """Fold an event into the state, and tell the faces."""
        self.state.apply(event)
        self.faces.tell(event)

    async def __call__(
        self, control: RunControl, faces: Observers, stop_rules: StopRules, wait: bool, timings: Timings | None
    ) -> Summary:
        self.faces, self.stop_rules = faces, stop_rules
        for warning in self.warnings:
            faces.note(warning)
        total, before = len(self.plan), await self.thread.do(self._done)
        servers = self.prepared.servers
        self.tell(progress.RunStarted(self.begun, total, before, tuple(server.name for server in servers)))
        if before == total:
            return await self.thread.do(self._summary)
        if warning := await self.thread.do(partial(self._room, total - before)):
            faces.note(warning)
        async with (
            started(servers, self.folder, faces.note) as running,
            connected(servers, self.prepared.limits, self.job_file) as clients,
        ):
            examined = {one.server: one for one in await self._preflight(clients, wait)}
            self.versions = {name: one.version for name, one in examined.items()}
            fit = [client for client in clients if not examined[client.name].problems]
            ready = [name for name, one in examined.items() if one.ready]
            if self.prepared.batch is None:
                await self._gauge([client for client in fit if client.name in ready], total - before)
            fatal = await self._run(control, fit, ready, running, timings)
            return await self.thread.do(partial(self._summary, fatal))

    def _done(self) -> int:
        """Slots that are filled. Blocking."""
        return self.ledger.counts(len(self.plan)).get("done", 0)

    async def _undone(self, readers: Threads) -> list[Sample]:
        """What is to be made anew: what was deleted or broken meanwhile, or could not be looked at before the start."""
        look = partial(differing, self.folder, self.ledger.path, len(self.plan), readers.leaving.is_set)
        changed = await readers.do(look)
        undone = await self.thread.do(partial(self.reconciling.by_size, changed)) if changed else []
        return [self.plan.sample(index, take) for index, take in undone]

    def _room(self, images: int) -> str:
        """What there is to say of the room on the disk. Blocking. Raises StorageError where it cannot be enough."""
        need, free = self.prepared.bytes_needed(images), self.folder.free_bytes()
        demand_room(self.folder, images, need)
        return f"the disk may become full: {images} images need about {mib(need)}, {mib(free)} are free" * (free < need)

    @property
    def _patience(self) -> float:
        """Seconds to wait for a first server."""
        return self.prepared.limits.give_up_after or math.inf

    async def _preflight(self, clients: Sequence[Client], wait: bool) -> list[ServerCheck]:
        pause, told = _WAIT[0], False
        while True:
            examined = await examine(clients, self.template)
            if any(one.ready for one in examined):
                if told:
                    self.tell(progress.ServersAwaited(time.monotonic(), ""))
                for one in examined:
                    if not one.ready:
                        self.tell(progress.ServerChanged(time.monotonic(), one.server, up=False, why=one.why))
                return examined
            problems = unfit(examined)
            if problems and not (wait and any(one.away for one in examined)):
                raise JobError(self.job_file, problems)
            if not wait or time.monotonic() - self.begun >= self._patience or self.stop_rules.seconds_left <= 0:
                raise NoUsableServer(tuple((one.server, one.why) for one in examined))
            if not told:
                told = True
                for one in examined:
                    self.tell(progress.ServerChanged(time.monotonic(), one.server, up=False, why=one.why))
                self.tell(
                    progress.ServersAwaited(time.monotonic(), "; ".join(f"{one.server}: {one.why}" for one in examined))
                )
            await asyncio.sleep(min(pause, self.stop_rules.seconds_left))
            pause = min(_WAIT[1], pause * 1.5)

    async def _gauge(self, clients: Sequence[Client], missing: int) -> None:
        """Find out the batch once for this dataset; with several servers the one that is good for all."""
        if clients and any(sizes_for(missing // len(clients))):
            self.faces.note("finding out which batch is made fastest; the pictures of these prompts are not kept")
        found = await fastest_batch(clients, self.template, self.plan, missing, self.stop_rules.seconds_left)
        if not found:
            return  # too few images, or nobody answered: one by one, and the next run tries again
        batch = min(one.best for one in found)
        await self.thread.do(partial(self.ledger.keep_fact, BATCH, batch))
        for one in found:
            self.faces.note(str(one))
        self.faces.note(f"batch = {batch} from here on, for this dataset")
        self.prepared = self.prepared.with_batch(batch)
        self.reconciling.plan = self.plan

    async def _run(
        self,
        control: RunControl,
        clients: Sequence[Client],
        ready: Sequence[str],
        running: Mapping[str, Launched],
        timings: Timings | None,
    ) -> ReggenError | None:
        """One run over what is missing; what ended it before its time, if anything did. Raises LedgerDamaged."""
        run_id = uuid.uuid4()
        async with AsyncExitStack() as stack:
            readers = Threads(1, "reggen-reader", self.folder.state)
            reader, earlier = await self.thread.do(partial(self._begin, run_id))
            stack.push_async_callback(readers.close, reader.close)
            takeover = Takeover(self.plan, reader, earlier, self.template)
            window = FAR if "checkpoint" in self.template.axes else NEAR
            requests = await ReadAhead(missing(reader, self.plan), readers, window).begin()
            images = len(self.plan) - await self.thread.do(self._done)
            names = {client.name for client in clients}
            depths = {server.name: server.depth for server in self.prepared.servers if server.name in names}
            limits = self.prepared.limits
            timings = timings or Timings(silence=limits.silence, stall=limits.stall, gap=limits.gap)
            extension = self.prepared.captions.extension
            writer = DatasetWriter(
                self.folder, self.ledger, extension, self.thread, self.duplicates, moved=self._was_there
            )
            stack.push_async_callback(writer.close)
            threads = Threads(_decoders(), "reggen-check", self.folder.parts)
            stack.push_async_callback(threads.close, cancel=True)
            sessions = self._sessions(clients, timings, takeover.ours if earlier else None)
            run = Run(
                job_file=self.job_file,
                plan=self.plan,
                runner=self._runner(run_id, writer, threads),
                fleet=Fleet(
                    depths,
                    requests,
                    full_jitter,
                    patience=self.prepared.limits.away,
                    images=images,
                    window=window,
                    one_text=self.plan.has_one_text,
                ),
                sessions=sessions,
                limits=self.prepared.limits,
                running=running,
                sick_rest=timings.sick,
                stop_rules=self.stop_rules,
                free_every={server.name: server.free_every for server in self.prepared.servers if server.free_every},
                room=self.prepared.bytes_needed(sum(depth or 2 for depth in depths.values())) + _SPARE,
                takeover=takeover,
                ready=ready,
                undone=partial(self._undone, readers),
                tell=self.tell,
            )
            for session in sessions:
                session.on_change = run.link_changed
            fatal: ReggenError | None = None
            try:
                control.steer(run)
                await run()
            except LedgerDamaged:
                raise
            except ReggenError as error:
                fatal = error
            except asyncio.CancelledError:  # its prompts stay on the servers, for the next run to find
                if not control.cuts:
                    raise
        with suppress(StorageError):  # a full disk may be what ended it, and has been told
            outcome = str(fatal or self.state.stopping or "finished")
            await self.thread.do(partial(self.ledger.end_run, str(run_id), now_utc(), outcome))
        return fatal

    def _was_there(self, name: str) -> None:
        """Say that a file of somebody else's was set aside."""
        self.reconciling.found.captions.append(name)
        self.faces.note(f"{name} lay where an image's own file belongs; it is kept in {self.folder.rejected}")

    def _begin(self, run_id: uuid.UUID) -> tuple[Ledger, list[uuid.UUID]]:
        """Note that a run begins. Blocking; a ledger to be read beside this one, and the runs before it."""
        reader = Ledger.read(self.ledger.path)
        assert reader is not None, "it was opened for writing"
        earlier = [uuid.UUID(run) for run in reader.runs()]
        self.ledger.begin_run(str(run_id), now_utc())
        return reader, earlier

    def _sessions(
        self, clients: Sequence[Client], timings: Timings, ours: Callable[[OrphanedPrompt], bool] | None
    ) -> list[ServerSession]:
        keeps = {server.name: server.keep_history for server in self.prepared.servers}
        return [
            ServerSession(client, timings=timings, ours=ours, keeps_history=keeps[client.name]) for client in clients
        ]

    def _runner(self, run_id: uuid.UUID, writer: DatasetWriter, threads: Threads) -> AttemptRunner:
        return AttemptRunner(
            run_id=run_id,
            template=self.template,
            folder=self.folder,
            ledger=self.ledger,
            writer=writer,
            threads=threads,
            check_settings=self.prepared.check_settings,
            guard=self.prepared.guard,
            most_bytes=self.prepared.limits.megabytes << 20,
            recipe=self.prepared.recipe,
            versions=self.versions,
        )

    def _summary(self, error: ReggenError | None = None) -> Summary:
        """How it ended. Blocking."""
        total, done = len(self.plan), self._done()
        before = min(self.state.before, done)  # a run that is cut short may not have told yet what is damaged
        given_up = [EmptySlot(row.name, row.reason or "") for row in self.ledger.walk("given_up", stop=total)]
        return replace(
            self.known(),
            before=before,
            made=done - before,
            given_up=tuple(given_up),
            strangers=tuple(SlotFiles(self.folder).foreign_images()),
            beyond=SlotFiles(self.folder).count_beyond(total),
            values=choice_counts(self.plan, self.ledger.done(0, min(total, _COUNTED))),
            other_recipes=tuple(self.ledger.other_recipes(self.prepared.recipe, total)),
            error=error,
        )

    def known(self) -> Summary:
        """How far it is, as far as that is known without asking the disk."""
        return Summary(
            job_file=self.job_file,
            dataset=self.folder.images,
            total=len(self.plan),
            before=self.state.before,
            made=self.state.made,
            seconds=time.monotonic() - self.begun,
            started=self.started,
            given_up=tuple(EmptySlot(name, reason) for name, reason in self.state.given_up.items()),
            servers=self.state.servers,
            versions=self.versions,
            resumed=self.reconciling.found,
            captions=self.prepared.caption_extension,
            stopped=self.state.stopping,
        )


@asynccontextmanager
async def connected(servers: Sequence[Server], limits: Limits, job_file: str) -> AsyncIterator[list[Client]]:
    """A client for each of the job's servers. Raises JobError when a header or a certificate cannot be had."""
    problems, headers, pins = [], [], []
    for number, server in enumerate(servers):
        try:
            headers.append(server.resolved_headers())
            if any(set(value) & set("\r\n\0") for value in headers[-1].values()):
                problems.append(Problem(f"servers[{number}].headers", "has a value of more than one line"))
        except KeyError as error:
            key = f"servers[{number}].headers"
            problems.append(Problem(key, f"the environment has no {error.args[0]}", "set it, or take it out"))
        try:
            pins.append(await asyncio.to_thread(fingerprint, server.certificate) if server.certificate else None)
        except (OSError, ValueError) as error:
            what = f"{server.certificate} cannot be used: {getattr(error, 'strerror', None) or error}"
            problems.append(Problem(f"servers[{number}].certificate", what, HOW_TO_COPY.format(server.netloc)))
    if problems:
        raise JobError(job_file, tuple(problems))
    timeouts = Timeouts(limits.connect, limits.request, limits.download)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Client(server.url, name=server.name, headers=header, timeouts=timeouts, pin=pin)
            )
            for server, header, pin in zip(servers, headers, pins, strict=True)
        ]


def unfit(examined: Sequence[ServerCheck]) -> tuple[Problem, ...]:
    """What keeps servers from taking the job, where one that answers is unfit; those that are away are named, too."""
    found = [Problem(one.server, problem) for one in examined for problem in one.problems]
    away = [Problem(one.server, one.away) for one in examined if one.away]
    return (*found, *away) if found else ()
