"""Opening a dataset for a run: locked, its ledger and folder reconciled, its captions written where they lack."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from reggen.dataset.captioning import supply_captions
from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, open_dataset
from reggen.dataset.lock import locked
from reggen.dataset.reconcile import Reconciliation, changed_slots
from reggen.dataset.salvage import replace_damaged
from reggen.engine.requirements import demand_room, duplicates_of, lasting
from reggen.engine.threads import Threads
from reggen.engine.timings import EngineTimings
from reggen.job.dataset import Dataset
from reggen.prepare.prepared_job import PreparedJob


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A dataset that this process holds. Its ledger and folder are touched in ``thread`` only.

    ``slots`` is their number; ``warnings`` are sentences for people about what was found.
    """

    slots: int
    folder: Folder
    ledger: Ledger
    thread: Threads
    reconciliation: Reconciliation
    duplicates: Duplicates | None
    warnings: tuple[str, ...]

    async def count_done(self) -> int:
        """Count the slots that are filled."""
        return await self.thread.do(self.counted_done)

    def counted_done(self) -> int:
        """Count the slots that are filled. Blocking."""
        return self.ledger.slots.counts(self.slots).get("done", 0)


@dataclass(frozen=True, slots=True)
class Opening:
    """A dataset about to be opened.

    ``damaged_as`` is the name under which a damaged ledger was set aside before; ``on_progress`` gets the number of
    images that were looked at and their total.
    """

    prepared: PreparedJob
    job_file: str
    folder: Folder
    rehearsal: bool
    damaged_as: str
    on_progress: Callable[[int, int], None]
    timings: EngineTimings

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenDataset]:
        """Hold the dataset while the block runs. Raises JobError, DatasetLocked, StorageError and LedgerDamaged.

        All file work is done in one thread. Leaving the block waits for that thread, within limits: it ends with the
        image it is at.
        """
        thread, stack = Threads(1, "reggen-dataset", self.folder.images, limit=self.timings.leaving), ExitStack()
        try:
            yield await thread.do(partial(self._open, thread, stack))
        finally:
            await thread.close(stack.close)

    def _open(self, thread: Threads, stack: ExitStack) -> OpenDataset:
        """Lock, read and reconcile. Blocking; what has to be closed later goes on the stack."""
        prepared, folder, stopped = self.prepared, self.folder, thread.leaving.is_set
        ledger = stack.enter_context(open_dataset(folder))
        self._claim(ledger)
        training = [image.path for image in prepared.training_set.images] if prepared.training_set else []
        duplicates = duplicates_of(prepared.checks, folder, training, stopped)
        reconciliation = self._reconciled(ledger, duplicates, stopped)
        captions = prepared.captions
        changes = supply_captions(folder, ledger, prepared.plan, captions, prepared.guard, stopped=stopped)
        said = changes.warnings(captions, _recaption_command(self.job_file, prepared.dataset))
        warnings = (*prepared.warnings, *said)
        return OpenDataset(len(prepared.plan), folder, ledger, thread, reconciliation, duplicates, warnings)

    def _claim(self, ledger: Ledger) -> None:
        """Claim the dataset for this job. Raises JobError for another kind of set, StorageError without room."""
        prepared, folder, slots = self.prepared, self.folder, len(self.prepared.plan)
        ledger.facts.claim(self.job_file, lasting(prepared.dataset, rehearsal=self.rehearsal))
        missing = slots - ledger.slots.counts(slots).get("done", 0)
        demand_room(folder, missing, prepared.bytes_needed(missing))
        folder.delete_report()

    def _reconciled(self, ledger: Ledger, duplicates: Duplicates | None, stopped: Callable[[], bool]) -> Reconciliation:
        plan, folder = self.prepared.plan, self.folder
        settings = self.prepared.check_settings
        made = Reconciliation(folder, ledger, settings, duplicates, stopped=stopped, on_progress=self.on_progress)
        made.found.ledger = self.damaged_as
        made.by_name(plan)
        done = ledger.slots.counts(len(plan)).get("done", 0)
        if done <= self.timings.sized_at_start or done == len(plan):
            made.by_size(plan, changed_slots(folder, len(plan), stopped))
        return made


async def begin_another_ledger(folder: Folder, limit: float) -> str:
    """Set a damaged ledger aside and begin another; returns the name under which it is kept."""

    def begin() -> str:
        with locked(folder):
            return replace_damaged(folder.state).name

    thread = Threads(1, "reggen-dataset", folder.images, limit=limit)
    try:
        return await thread.do(begin)
    finally:
        await thread.close()


def _recaption_command(job_file: str, dataset: Dataset) -> str:
    """The shell command that writes the captions of this dataset again."""
    words = ["python", "-m", "reggen", "recaption", job_file, "--output", str(dataset.root)]
    words += ["--class", dataset.class_tokens]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
