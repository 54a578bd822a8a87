"""The lines that tell a run: one for most events, few about a scan, and one that says when the run will end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from reggen.progress import Progress, RunEvent, Scanning
from reggen.report.lines import format_duration, format_event, format_scanning

_SCAN_LINES = 10.0  # seconds between lines about a scan
_FIRST_MINUTES = 120.0  # seconds until a line says when the run will end


class Narrator:
    """Tells the events of one class.

    Events are applied to ``progress`` before they reach `lines`. ``later`` is the number of images missing from the
    classes that follow this one.
    """

    def __init__(self, progress: Progress, later: int = 0) -> None:
        self._progress, self._later = progress, later
        self._has_estimated, self._next_scan_line = False, 0.0

    def lines(self, event: RunEvent) -> Iterator[str]:
        """The lines about one event."""
        if isinstance(event, Scanning):
            yield from self._scan(event)
        elif text := format_event(event, self._progress):
            yield text
        if not self._has_estimated and event.at - self._progress.began > _FIRST_MINUTES:
            yield from self._estimate_end(event.at)

    def _scan(self, event: Scanning) -> Iterator[str]:
        """Now and then; the live display shows it all the time."""
        if event.at >= self._next_scan_line and self._progress.scanning:
            self._next_scan_line = event.at + _SCAN_LINES
            yield format_scanning(event)

    def _estimate_end(self, at: float) -> Iterator[str]:
        """Once, when the rate is known: when the images will be ready."""
        eta = self._progress.eta(at, self._later)
        if eta is not None:
            self._has_estimated = True
            subject = "all classes" if self._later else "the images"
            yield f"at this rate {subject} will be ready at {clock(eta)}, in {format_duration(eta)}"


def clock(seconds: float) -> str:
    """The time of day in so many seconds, with the weekday unless it is today."""
    then = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if then.tm_yday == time.localtime().tm_yday else "%a %H:%M", then)
