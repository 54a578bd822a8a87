"""One class of a run: its log, its report, its listings and its notices around the filling of its dataset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reggen.api.events import ClassFinished, ClassStarted, Event, Note
from reggen.dataset.exports import write_listings
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import Summary
from reggen.engine.threads import Threads
from reggen.errors import TIME_UP, ReggenError, StorageError
from reggen.prepare.prepared_job import PreparedJob
from reggen.progress import Progress, RunEvent
from reggen.report.closing import format_closing, write_report
from reggen.report.morning.next_steps import NextSteps
from reggen.report.narrator import Narrator
from reggen.report.notify import Notices
from reggen.report.run_log import RunLog
from reggen.report.status import count_missing

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class RunParts:
    """The parts of a run that its classes share. ``source`` names the job; ``emit`` gets every event; ``steps`` are
    the commands that a report offers.
    """

    source: str
    notices: Notices
    options: RunOptions
    control: RunControl
    emit: Callable[[Event], None]
    steps: NextSteps

    def ends_with(self, summary: Summary) -> bool:
        """True when the classes after this one are left for the next run."""
        return bool(self.control.asked or summary.error or summary.exit_code == TIME_UP)


@dataclass(slots=True)
class ClassExecution:
    """The work on the ``number``-th class (from 1). Events reach ``emit`` after they are folded into ``progress``."""

    parts: RunParts
    prepared: PreparedJob
    following: Sequence[PreparedJob]
    number: int
    log: RunLog
    progress: Progress = field(default_factory=Progress)

    async def run(self) -> ClassFinished | None:
        """Fill the dataset; None when it was stopped before it had begun. Raises what `fill_dataset` raises."""
        threads = Threads(1, "reggen-report", self.prepared.dataset.state)
        self.parts.notices.on_failure = self.note
        try:
            later = await self._unless_stopped(threads.do(partial(_lacking, self.following)))
            if later is None or (summary := await self._fill(later)) is None:
                return None
            finished = self._finished(summary, await threads.do(partial(self._closing, summary)))
            await self._write_report(summary)
            await self._write_page(summary, threads)
            await self._write_listings(summary, threads)
            await self.parts.notices.finished(summary)
            return finished
        finally:
            await threads.close(self.log.close)

    async def _fill(self, later: int) -> Summary | None:
        """The summary; None when it was stopped before it had begun."""
        parts, dataset, narrator = self.parts, self.prepared.dataset, Narrator(self.progress, later)
        classes = self.number + len(self.following)
        started = ClassStarted(
            time.monotonic(), dataset.class_tokens, dataset.folder, self.number, classes=classes, later=later
        )
        parts.emit(started)
        observers = Observers(partial(self._tell, narrator), self.note, self.progress)
        filling = fill_dataset(self.prepared, parts.source, observers, parts.control, options=parts.options)
        try:
            return await self._unless_stopped(filling) or parts.control.reached
        except ReggenError as error:
            await parts.notices.failed(error)
            raise

    async def _unless_stopped(self, work: Coroutine[Any, Any, Answer]) -> Answer | None:
        """The result of work that a stop may cancel, and None where it did."""
        try:
            return await self.parts.control.guard(asyncio.create_task(work))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.parts.control.asked or (task and task.cancelling()):
                raise
            return None

    def _tell(self, narrator: Narrator, event: RunEvent) -> None:
        for text in narrator.lines(event):
            self.log.write(text)
        self.parts.notices.tell(event)
        self.parts.emit(event)

    def note(self, text: str) -> None:
        """Write a sentence into the log, and emit it."""
        self.log.write(text)
        self.parts.emit(Note(time.monotonic(), text))

    def _closing(self, summary: Summary) -> str:
        """The closing summary; where the run goes on, its last line says with what."""
        goes_on = self.following and not self.parts.ends_with(summary)
        then = f"Now: {self.following[0].dataset.class_tokens}" if goes_on else ""
        return format_closing(summary, rehearsal=self.parts.options.rehearsal, then=then)

    def _finished(self, summary: Summary, text: str) -> ClassFinished:
        self.log.write(text)
        event = ClassFinished(time.monotonic(), self.prepared.dataset.class_tokens, summary, text)
        self.parts.emit(event)
        return event

    async def _write_report(self, summary: Summary) -> None:
        file = self.prepared.dataset.state / "report.json"
        try:
            await _in_time(partial(write_report, summary, file), file)
        except StorageError as error:
            self.note(f"The images are there, but their report is not: {error}")

    async def _write_page(self, summary: Summary, threads: Threads) -> None:
        """Write the morning report where this run made images; a person who stops a run does not wait for it."""
        if not summary.made or self.parts.control.asked:
            return
        try:
            await self._unless_stopped(threads.do(self._page))
        except StorageError as error:
            self.note(f"The images are there, but their page is not: {error}")

    def _page(self) -> int:
        """Write the page, with a library that only this needs; the number of files. Blocking."""
        from reggen.report.morning.page import write_morning_report  # noqa: PLC0415

        return len(write_morning_report([self.prepared], self.parts.source, self.parts.steps))

    async def _write_listings(self, summary: Summary, threads: Threads) -> None:
        """Write the lists of images that the job asks for; a stop leaves them to the next run."""
        write = partial(write_listings, self.prepared.dataset, summary.total)
        try:
            if await self._unless_stopped(threads.do(write)) is None:
                self.note("The images are there, but a list of them is not: stopped by you; the next run writes it")
        except StorageError as error:
            self.note(f"The images are there, but a list of them is not: {error}")


async def _in_time(write: Callable[[], None], file: Path) -> None:
    """Write a small file, and wait no longer than for any disk when a run is left. Raises StorageError."""
    threads = Threads(1, "reggen-report", file)
    await threads.close(write)
    if threads.lost:
        raise StorageError(str(file), "writing", "the disk does not answer")


def log_of(prepared: PreparedJob) -> RunLog:
    """The log of a class; its file is opened with its first line."""
    return RunLog(prepared.dataset.state / "run.log")


def _lacking(classes: Sequence[PreparedJob]) -> int:
    """The number of images that these classes lack, by their ledgers alone. Blocking."""
    return sum(count_missing(one.dataset) for one in classes)
