"""The display of a run: live on a terminal, lines with times everywhere else.

It draws on the console that the command line hands it, and on nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import Logger
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reggen.progress import Progress, RunEvent, Scanning, ServerView
from reggen.report.lines import format_duration, format_event, format_scanning

_SCAN_LINES = 10.0  # seconds between lines about a scan
_FIRST_MINUTES = 120.0  # seconds until a line says when the run will end
_MOST_NOTES = 3
_MOST_SERVERS = 16
_LONG = 10.0  # seconds after which the display says how long a prompt has been running


class Display:
    """Shows every event and writes it to the log.

    Events are applied to ``progress`` before they reach `tell`. ``later`` is the number of images missing from the
    classes that follow this one.
    """

    def __init__(self, console: Console, title: str, log: Logger | None, later: int = 0) -> None:
        self._console, self._title, self._log = console, title, log
        self.progress, self._later = Progress(), later
        self._notes: list[str] = []
        self._live = console.is_terminal
        self._has_estimated, self._next_scan_line = False, 0.0

    def tell(self, event: RunEvent) -> None:
        """Show one event of the run."""
        if isinstance(event, Scanning):
            self._tell_scan(event)
        elif text := format_event(event, self.progress):
            self._say(text)
        if not self._has_estimated and event.at - self.progress.began > _FIRST_MINUTES:
            self._estimate_end(event.at)

    def _tell_scan(self, event: Scanning) -> None:
        """Say it now and then; the live display shows it all the time."""
        if event.at >= self._next_scan_line and self.progress.scanning:
            self._next_scan_line = event.at + _SCAN_LINES
            self._say(format_scanning(event))

    def _estimate_end(self, at: float) -> None:
        """Say once, when the rate is known, when the images will be ready."""
        eta = self.progress.eta(at, self._later)
        if eta is not None:
            self._has_estimated = True
            subject = "all classes" if self._later else "the images"
            self._say(f"at this rate {subject} will be ready at {_clock(eta)}, in {format_duration(eta)}")

    def note(self, text: str) -> None:
        """Show a sentence for people that is not an event."""
        self._notes.append(text)
        del self._notes[:-_MOST_NOTES]
        self._say(text)

    def _say(self, text: str) -> None:
        if self._log:
            self._log.info(text)
        if not self._live:
            self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def _print(self, text: str) -> None:
        try:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        except (OSError, SystemExit):  # the reader of a pipe has gone; rich would end the program for it
            self.detach()

    def close(self, text: str) -> None:
        """Print the closing summary, and write it to the log."""
        if self._log:
            for line in text.splitlines():
                self._log.info(line)
        self._print(text)

    def detach(self) -> None:
        """Stop printing since the terminal is gone; the run continues and its log too."""
        if self._log:
            self._log.info("the terminal was closed; the run continues")
        self._live = True  # no lines either
        sys.stdout = self._console.file = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the live display while the block runs."""
        if not self._live:
            yield
            return
        with Live(get_renderable=self.render, console=self._console, refresh_per_second=4, transient=True):
            yield

    def render(self, now: Callable[[], float] = time.monotonic) -> RenderableType:
        """The display at this moment."""
        state, at = self.progress, now()
        parts: list[RenderableType] = [self._head(at), self._bar()]
        if state.servers:
            parts.append(_servers(state.servers, at))
        problems = (f"{format_duration(at - when)} ago  {text}" for when, text in state.problems)
        texts = (*self._notes, *problems)
        parts.extend(Text(text, style="yellow", overflow="ellipsis", no_wrap=True) for text in texts)
        if state.waiting:
            parts.append(Text(state.waiting, style="red"))  # the whole of it: its end says what to do
        if state.paused:
            parts.append(Text(f"paused: {state.paused}", style="bold yellow"))
        if state.stopping:
            parts.append(Text(f"finishing what is in flight: {state.stopping}", style="bold"))
        parts.append(Text(_keys(state), style="dim"))
        return Group(*parts)

    def _head(self, at: float) -> Text:
        state = self.progress
        head = Text(self._title, style="bold")
        if state.total:
            head.append(f"   {state.done:,} of {state.total:,}", style="not bold")
        if state.scanning or not state.total:
            scan = format_scanning(state.scanning) if state.scanning else "checking the folder"
            head.append(f"   {scan}", style="cyan")
        if state.given_up:
            head.append(f"   {len(state.given_up):,} given up", style="red")
        if state.waiting:
            head.append("   waiting for a server", style="bold red")
        else:
            self._append_pace(head, at)
        return head

    def _append_pace(self, head: Text, at: float) -> None:
        state = self.progress
        if rate := state.rate(at):
            pace = f"{1 / rate:.2f} s per image" if rate < 2 else f"{rate:.1f} images/s"
            head.append(f"   {pace}", style="not bold")
        if (eta := state.eta(at)) is not None:
            head.append(f"   {format_duration(eta)} left, ready at {_clock(eta)}", style="cyan")
        if self._later and (eta := state.eta(at, self._later)) is not None:
            head.append(f"   all classes at {_clock(eta)}", style="cyan")

    def _bar(self) -> RenderableType:
        bar = ProgressBar(total=max(1, self.progress.total), completed=self.progress.done, width=None)
        return Padding(bar, 0)  # a bar on its own does not end its line


def _clock(seconds: float) -> str:
    """The time of day in so many seconds, with the weekday unless it is today."""
    then = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if then.tm_yday == time.localtime().tm_yday else "%a %H:%M", then)


def _servers(servers: dict[str, ServerView], at: float) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for title in ("server", "now", "queued", "made", "failures", ""):
        table.add_column(title, justify="right" if title in {"queued", "made", "failures"} else "left")
    for name, view in list(servers.items())[:_MOST_SERVERS]:
        running, *queued = view.holds or ["-"]
        if view.holds and at - view.since >= _LONG:
            running += f" ({format_duration(at - view.since)})"
        failures = Text(str(view.failures), style="yellow" if view.failures else "dim")
        why = Text(view.why, style="yellow" if view.up else "red", overflow="ellipsis", no_wrap=True)
        server = Text(name, style="green" if view.up else "red")
        table.add_row(server, running, str(len(queued)), f"{view.made:,}", failures, why)
    if len(servers) > _MOST_SERVERS:
        up = sum(view.up for view in servers.values())
        table.add_row(f"and {len(servers) - _MOST_SERVERS} more", f"{up} of {len(servers)} ready", "", "", "", "")
    return table


def _keys(state: Progress) -> str:
    if state.stopping:
        return "Ctrl-C again: leave at once; the same command continues later"
    return "Ctrl-C: finish what is in flight; twice: leave at once, the same command continues later"
