"""Filling a dataset: everything between a prepared job and its summary.

    open the dataset > anything missing? > room on the disk > preflight > run > look once more > summary

Comparing the sizes of very many images takes long, and no server waits for it: that is done when the rest is made.
Images that are found deleted or damaged then are made again before anything is called complete.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from reggen import progress
from reggen.comfy.client import Client
from reggen.dataset.folder import Folder
from reggen.dataset.rows import now_utc
from reggen.dataset.slot_files import SlotFiles
from reggen.engine.auto_batch import fastest_batch, sizes_for
from reggen.engine.clients import connected
from reggen.engine.compose import Composition, UsableServers
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.opening import OpenDataset, Opening, begin_another_ledger
from reggen.engine.preflight import ready_servers
from reggen.engine.requirements import demand_room, mib
from reggen.engine.scan_progress import ScanProgress
from reggen.engine.summary import EmptySlot, Summary
from reggen.engine.supervisor import started
from reggen.engine.timings import EngineTimings
from reggen.errors import LedgerDamaged, ReggenError, StorageError
from reggen.planning.plan import choice_counts
from reggen.prepare.prepared_job import BATCH, PreparedJob
from reggen.progress import Progress
from reggen.scheduler.stop_rules import StopRules
from reggen.wording import plural
from reggen.workflow.template import Template

_COUNTED = 100_000  # slots whose chosen values are counted for the report


async def fill_dataset(
    prepared: PreparedJob,
    job_file: str,
    observers: Observers,
    control: RunControl | None = None,
    *,
    options: RunOptions | None = None,
    timings: EngineTimings | None = None,
) -> Summary:
    """Make what is missing of one dataset; ``prepared`` is one class of a job, ``job_file`` names it in messages.

    Raises JobError, DatasetLocked, NoUsableServer and StorageError while nothing is posted. What ends the run
    later is in the summary, beside what was made until then. No image may look like a training image.
    """
    control, options = control or RunControl(), options or RunOptions()
    timings = timings or EngineTimings.of(prepared.limits)
    stop_rules = StopRules(prepared.limits, options.seconds_left)
    filling = _Filling(prepared, job_file, observers, control, options, stop_rules, timings)
    try:
        return await filling()
    except LedgerDamaged as error:
        if control.asked:
            raise
        said = f"{error.doing}: it is damaged ({error.what})"
    kept_as = await begin_another_ledger(filling.folder, timings.leaving)  # here: the error holds the file open
    observers.note(f"{said}. It is kept as {kept_as}, and another is begun: existing images are checked and adopted")
    return await replace(filling, damaged_as=kept_as)()


@dataclass(slots=True)
class _Filling:
    """One try to fill a dataset. ``damaged_as`` is the name under which a damaged ledger was set aside before."""

    prepared: PreparedJob
    job_file: str
    observers: Observers
    control: RunControl
    options: RunOptions
    stop_rules: StopRules
    timings: EngineTimings
    began: float = field(default_factory=time.monotonic)
    began_utc: str = field(default_factory=now_utc)
    damaged_as: str = ""
    dataset: OpenDataset = field(init=False)
    versions: dict[str, str | None] = field(default_factory=dict, init=False)

    @property
    def folder(self) -> Folder:
        """The folders of the dataset."""
        return Folder(self.prepared.dataset)

    @property
    def progress(self) -> Progress:
        """The state that the events of this run lead to."""
        return self.observers.progress

    async def __call__(self) -> Summary:
        """Open the dataset and make what is missing. Raises as `fill_dataset` does, and LedgerDamaged."""
        timings, loop = self.timings, asyncio.get_running_loop()
        scan_progress = ScanProgress(
            self.observers.tell, loop, silence=timings.scan_silence, interval=timings.scan_interval
        )
        rehearsal = self.options.rehearsal
        opening = Opening(self.prepared, self.job_file, self.folder, rehearsal, self.damaged_as, scan_progress, timings)
        async with opening.opened() as self.dataset:
            try:
                self.control.reached = summary = await self._filled()
            except asyncio.CancelledError:
                self.control.reached = self.known() if self.control.cuts_short else None
                raise
        return summary

    async def _filled(self) -> Summary:
        """Make what is missing of the open dataset."""
        servers, thread = self.prepared.servers, self.dataset.thread
        for warning in self.dataset.warnings:
            self.observers.note(warning)
        total, done = len(self.prepared.plan), await self.dataset.count_done()
        self.observers.tell(progress.RunStarted(self.began, total, done, tuple(server.name for server in servers)))
        if done == total:
            return await thread.do(self._summary)
        if warning := await thread.do(partial(self._room_warning, total - done)):
            self.observers.note(warning)
        async with (
            connected(servers, self.prepared.limits, self.job_file) as clients,
            started(servers, self.dataset.folder, self.observers.note, self.timings.launch) as launched,
        ):
            examined = await ready_servers(
                clients,
                self.prepared.template,
                self.job_file,
                self.observers.tell,
                seconds_left=self._seconds_to_wait if self.options.wait else None,
                pauses=self.timings.first_server,
            )
            self.versions = {one.server: one.version for one in examined}
            unfit = {one.server for one in examined if one.problems}
            fit = [client for client in clients if client.name not in unfit]
            ready = frozenset(one.server for one in examined if one.ready)
            template = self.prepared.template
            templates = {one.server: template.with_files(one.files) for one in examined if one.files}
            if self.prepared.batch is None:
                await self._find_batch([client for client in fit if client.name in ready], templates, total - done)
            ended_by = await self._run(UsableServers(fit, ready, self.versions, launched, templates))
            return await thread.do(partial(self._summary, ended_by))

    def _seconds_to_wait(self) -> float:
        """Seconds that a first server may still be waited for."""
        patience = self.prepared.limits.give_up_after or math.inf
        return min(patience - (time.monotonic() - self.began), self.stop_rules.seconds_left)

    def _room_warning(self, images: int) -> str:
        """A sentence where the disk may become full, or "". Blocking. Raises StorageError where it surely would."""
        folder, need = self.dataset.folder, self.prepared.bytes_needed(images)
        demand_room(folder, images, need)
        free = folder.free_bytes()
        if free >= need:
            return ""
        wanted = f"about {mib(need)} are needed for {plural(images, 'image')}"
        return f"the disk may become full: {wanted}, {mib(free)} are free"

    async def _find_batch(self, clients: Sequence[Client], templates: Mapping[str, Template], missing: int) -> None:
        """Measure the fastest batch once for this dataset; with several servers the one that all of them can make."""
        plan = self.prepared.plan
        if clients and any(sizes_for(missing // len(clients))):
            self.observers.note("finding out which batch is made fastest; the images of these prompts are not kept")
        pairs = [(client, templates.get(client.name, self.prepared.template)) for client in clients]
        found = await fastest_batch(pairs, plan, missing, self.stop_rules.seconds_left)
        if not found:
            return  # too few images, or no server answered: one by one, and the next run tries again
        batch = min(one.best for one in found)
        await self.dataset.thread.do(partial(self.dataset.ledger.facts.put, {BATCH: batch}))
        for one in found:
            self.observers.note(str(one))
        self.observers.note(f"batch = {batch} from here on, for this dataset")
        self.prepared = self.prepared.with_batch(batch)

    async def _run(self, servers: UsableServers) -> ReggenError | None:
        """Run once over what is missing; the error that ended it early, if one did. Raises LedgerDamaged."""
        composition = Composition(
            self.prepared,
            self.job_file,
            self.dataset,
            servers,
            self.stop_rules,
            self.timings,
            self.observers,
        )
        ended_by: ReggenError | None = None
        async with composition.composed() as run:
            try:
                self.control.steer(run.state)
                await run()
            except LedgerDamaged:
                raise
            except ReggenError as error:
                ended_by = error
            except asyncio.CancelledError:  # its prompts stay on the servers, for the next run to find
                if not self.control.cuts_short:
                    raise
        with suppress(StorageError):  # a full disk may be what ended it, and has been told
            await composition.note_end(str(ended_by or self.progress.stopping or "finished"))
        return ended_by

    def _summary(self, ended_by: ReggenError | None = None) -> Summary:
        """The summary of a run that has ended. Blocking."""
        ledger, folder, total = self.dataset.ledger, self.dataset.folder, len(self.prepared.plan)
        done = self.dataset.counted_done()
        before = min(self.progress.before, done)  # a run that is cut short may not have told yet what is damaged
        given_up = [EmptySlot(row.name, row.reason or "") for row in ledger.slots.walk("given_up", stop=total)]
        return replace(
            self.known(),
            before=before,
            made=done - before,
            given_up=tuple(given_up),
            foreign_images=tuple(SlotFiles(folder).foreign_images()),
            images_beyond=SlotFiles(folder).count_beyond(total),
            choices=choice_counts(self.prepared.plan, ledger.slots.done(0, min(total, _COUNTED))),
            other_recipes=tuple(ledger.slots.other_recipes(self.prepared.recipe, total)),
            error=ended_by,
        )

    def known(self) -> Summary:
        """The summary as far as it is known without reading the disk."""
        return Summary(
            job_file=self.job_file,
            dataset=self.dataset.folder.images,
            total=len(self.prepared.plan),
            before=self.progress.before,
            made=self.progress.made,
            seconds=time.monotonic() - self.began,
            started=self.began_utc,
            given_up=tuple(EmptySlot(name, reason) for name, reason in self.progress.given_up.items()),
            servers=self.progress.servers,
            versions=self.versions,
            reconciled=self.dataset.reconciliation.found,
            captions=self.prepared.caption_extension,
            stopped=self.progress.stopping,
        )
