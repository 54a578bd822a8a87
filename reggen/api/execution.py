"""One run over all classes of a job, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from reggen.api.class_execution import ClassExecution, RunParts, log_of
from reggen.api.events import ClassFinished, Note
from reggen.api.rehearsal import stand_ins
from reggen.api.summary import JobSummary
from reggen.prepare.prepared_job import PreparedJob
from reggen.progress import Progress


@dataclass(slots=True)
class JobExecution:
    """The work of one run, as a task does it."""

    classes: Sequence[PreparedJob]
    parts: RunParts
    _current: ClassExecution | None = None
    _finished: list[ClassFinished] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        """The state of the class that is being made."""
        return self._current.progress if self._current else Progress()

    async def run(self) -> JobSummary:
        """Fill one dataset after the other. Raises what `fill_dataset` raises."""
        async with AsyncExitStack() as stack:
            if self.parts.options.rehearsal:
                first = self.classes[0]
                servers = await stack.enter_async_context(stand_ins(first.servers, first.template.checkpoints))
                self.classes = [replace(one, servers=servers) for one in self.classes]
            for number, prepared in enumerate(self.classes, 1):
                if self.parts.control.asked:
                    break
                self._current = ClassExecution(self.parts, prepared, self.classes[number:], number, log_of(prepared))
                if (finished := await self._current.run()) is None:
                    break  # it was stopped before there was anything to sum up
                self._finished.append(finished)
                if self.parts.ends_with(finished.summary):
                    break
        return self._summary()

    def _summary(self) -> JobSummary:
        summaries = tuple(finished.summary for finished in self._finished)
        not_begun = tuple(prepared.dataset.class_tokens for prepared in self.classes[len(summaries) :])
        summary = JobSummary(summaries, not_begun, self.parts.control.asked > 0)
        texts = [finished.text for finished in self._finished]
        return replace(summary, text="\n".join(filter(None, [*texts, summary.rest])))

    def note(self, text: str) -> None:
        """Write a sentence into the log of the class that is being made, and emit it."""
        if self._current:
            self._current.note(text)
        else:
            self.parts.emit(Note(time.monotonic(), text))
