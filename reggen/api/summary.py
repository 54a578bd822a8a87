"""The end of a run over all classes of a job."""

from __future__ import annotations

from dataclasses import dataclass

from reggen.api.readable import Readable, pre, table
from reggen.engine.summary import Summary
from reggen.errors import COMPLETE, INCOMPLETE, STOPPED
from reggen.report.lines import format_duration


@dataclass(frozen=True)
class JobSummary(Readable):
    """The result of a run. Counts are of images; `str` gives the text that `reggen run` prints.

    ``classes`` are the summaries of the classes that were begun, in the job's order; ``not_begun`` names the others.
    ``interrupted``: somebody asked the run to stop.
    """

    classes: tuple[Summary, ...]
    not_begun: tuple[str, ...] = ()
    interrupted: bool = False
    text: str = ""

    @property
    def total(self) -> int:
        """Images that the classes begun have when they are complete."""
        return sum(one.total for one in self.classes)

    @property
    def made(self) -> int:
        """Images made by this run."""
        return sum(one.made for one in self.classes)

    @property
    def missing(self) -> int:
        """Images that the classes begun still lack."""
        return sum(one.missing for one in self.classes)

    @property
    def complete(self) -> bool:
        """True when every class has all of its images."""
        return self.exit_code == COMPLETE

    @property
    def exit_code(self) -> int:
        """The exit code of `reggen run`: 0 when every class is complete, else the worst of the classes'."""
        worst = max((one.exit_code for one in self.classes), default=COMPLETE)
        if not self.not_begun or any(one.error for one in self.classes):
            return worst
        return STOPPED if self.interrupted else max(worst, INCOMPLETE)

    @property
    def rest(self) -> str:
        """A sentence about the classes that were not begun; empty if there are none."""
        if not self.not_begun:
            return ""
        if not self.classes:
            return "Stopped before the first image was asked for. The same command starts again."
        return f"Not begun: {', '.join(self.not_begun)}. The same command goes on there."

    def _repr_html_(self) -> str:
        head = ("folder", "images", "made", "missing", "given up", "time")
        return table(head, map(_row, self.classes)) + pre(self.text)


def _row(one: Summary) -> tuple[object, ...]:
    done = f"{one.total - one.missing:,} of {one.total:,}"
    return one.dataset, done, one.made, one.missing, len(one.given_up), format_duration(one.seconds)
