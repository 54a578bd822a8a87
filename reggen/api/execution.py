"""One run over all classes of a job, each with its log, its report, its listings and its notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from reggen.api.events import ClassFinished, ClassStarted, Event, Note
from reggen.api.rehearsal import stand_ins
from reggen.api.summary import JobSummary
from reggen.dataset.exports import write_listings
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import Summary
from reggen.engine.threads import Threads
from reggen.errors import TIME_UP, ReggenError, StorageError
from reggen.job.dataset import Dataset
from reggen.prepare.prepared_job import PreparedJob
from reggen.progress import Progress, RunEvent
from reggen.report.closing import format_closing, write_report
from reggen.report.narrator import Narrator
from reggen.report.notify import Notices
from reggen.report.run_log import RunLog
from reggen.report.status import count_missing


@dataclass(slots=True)
class JobExecution:
    """The work of one run. ``emit`` gets every event after it is folded into ``progress``, which is of one class."""

    source: str
    classes: Sequence[PreparedJob]
    notices: Notices
    options: RunOptions
    control: RunControl
    emit: Callable[[Event], None]
    progress: Progress = field(default_factory=Progress)
    _log: RunLog | None = None
    _narrator: Narrator | None = None

    async def run(self) -> JobSummary:
        """Fill one class after the other. Raises what `fill_dataset` raises."""
        async with AsyncExitStack() as stack:
            if self.options.rehearsal:
                first = self.classes[0]
                servers = await stack.enter_async_context(stand_ins(first.servers, first.template.checkpoints))
                self.classes = [replace(one, servers=servers) for one in self.classes]
            summaries, texts = [], []
            for number, prepared in enumerate(self.classes):
                if self.control.asked:
                    break
                following = self.classes[number + 1 :]
                if (ended := await self._class(prepared, number + 1, following)) is None:
                    break  # it was stopped before there was anything to sum up
                summaries.append(ended.summary)
                texts.append(ended.text)
                if self._ends(ended.summary):
                    break
        not_begun = tuple(prepared.dataset.class_tokens for prepared in self.classes[len(summaries) :])
        summary = JobSummary(tuple(summaries), not_begun, self.control.asked > 0)
        return replace(summary, text="\n".join(filter(None, [*texts, summary.rest])))

    def _ends(self, summary: Summary) -> bool:
        """True when the classes after this one are left for the next run."""
        return bool(self.control.asked or summary.error or summary.exit_code == TIME_UP)

    async def _class(
        self, prepared: PreparedJob, number: int, following: Sequence[PreparedJob]
    ) -> ClassFinished | None:
        """Fill one class; None when it was stopped before it had begun."""
        dataset = prepared.dataset
        files = Threads(1, "reggen-report", dataset.state)
        later = await files.do(lambda: sum(count_missing(one.dataset) for one in following))
        self.progress = Progress()
        self._narrator, self._log = Narrator(self.progress, later), RunLog(dataset.state / "run.log")
        words, classes = dataset.class_tokens, len(self.classes)
        try:
            self.emit(ClassStarted(time.monotonic(), words, dataset.folder, number, classes, later))
            summary = await self._filled(prepared)
            if summary is None:
                return None
            then = f"Now: {following[0].dataset.class_tokens}" if following and not self._ends(summary) else ""
            text = format_closing(summary, rehearsal=self.options.rehearsal, then=then)
            self._log.write(text)
            finished = ClassFinished(time.monotonic(), words, summary, text)
            self.emit(finished)
            await self._write_files(dataset, summary, files)
            await self.notices.finished(summary)
        finally:
            await files.close(self._log.close)
        return finished

    async def _filled(self, prepared: PreparedJob) -> Summary | None:
        """The summary of one class; None when it was stopped before it had begun."""
        observers = Observers(self._tell, self.note, self.progress)
        filling = fill_dataset(prepared, self.source, observers, self.control, options=self.options)
        try:
            return await self.control.guard(asyncio.create_task(filling))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.control.asked or (task and task.cancelling()):
                raise
            return self.control.reached
        except ReggenError as error:
            await self.notices.failed(error)
            raise

    def _tell(self, event: RunEvent) -> None:
        if self._log and self._narrator:
            for text in self._narrator.lines(event):
                self._log.write(text)
        self.notices.tell(event)
        self.emit(event)

    def note(self, text: str) -> None:
        """Write a sentence into the log, and emit it."""
        if self._log:
            self._log.write(text)
        self.emit(Note(time.monotonic(), text))

    async def _write_files(self, dataset: Dataset, summary: Summary, files: Threads) -> None:
        """Write report.json and the listings; what cannot be written is a note."""
        report = dataset.state / "report.json"
        try:
            await _in_time(partial(write_report, summary, report), report)
        except StorageError as error:
            self.note(f"The images are there, but their report is not: {error}")
        try:
            await files.do(partial(write_listings, dataset, summary.total))
        except StorageError as error:
            self.note(f"The images are there, but a list of them is not: {error}")


async def _in_time(write: Callable[[], None], file: Path) -> None:
    """Write a small file, and wait no longer than for any disk when a run is left. Raises StorageError."""
    threads = Threads(1, "reggen-report", file)
    await threads.close(write)
    if threads.lost:
        raise StorageError(str(file), "writing", "the disk does not answer")
