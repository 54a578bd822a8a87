"""What a person sees while it runs: a live display on a terminal, lines with times everywhere else."""

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
from reggen.report.lines import line, looks, span

_LOOKS = 10.0  # seconds between lines that say how far a long look is
_FIRST_MINUTES = 120.0  # seconds until it is said when the run will be over


class Display:
    """Takes every event; shows it, and writes it to the log."""

    def __init__(self, console: Console, title: str, log: Logger | None, later: int = 0) -> None:
        """``later`` is how many images the classes after this one still lack."""
        self.state, self._later = Progress(), later
        self._console, self._title, self._log = console, title, log
        self._notes: list[str] = []
        self._live = console.is_terminal
        self._told_end, self._look_due = False, 0.0

    def tell(self, event: RunEvent) -> None:
        """One event of the run."""
        self.state.apply(event)
        if isinstance(event, Scanning):
            self._look(event)
        elif text := line(event, self.state):
            self._say(text)
        if not self._told_end and event.at - self.state.began > _FIRST_MINUTES:
            self._tell_end(event.at)

    def _look(self, event: Scanning) -> None:
        """Say it now and then; the live display has it all the time."""
        if event.at >= self._look_due and self.state.looking and (text := line(event, self.state)):
            self._look_due = event.at + _LOOKS
            self._say(text)

    def _tell_end(self, at: float) -> None:
        """Once, when the rate is known: whether one can sleep until then."""
        eta = self.state.eta(at, self._later)
        if eta is not None:
            self._told_end = True
            what = "all classes are" if self._later else "it is"
            self._say(f"at this rate {what} ready at {_clock(eta)}, in {span(eta)}")

    def note(self, text: str) -> None:
        """A sentence for people, from before or beside the run."""
        self._notes.append(text)
        del self._notes[:-3]
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
        """The last words; the log has them, too."""
        if self._log:
            for one in text.splitlines():
                self._log.info(one)
        self._print(text)

    def detach(self) -> None:
        """Nobody watches any more: the run goes on, and the log has it all."""
        if self._log:
            self._log.info("the terminal was closed; the run goes on")
        self._live = True  # no lines either
        sys.stdout = self._console.file = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process lives

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it for as long as the block runs."""
        if not self._live:
            yield
            return
        with Live(get_renderable=self.render, console=self._console, refresh_per_second=4, transient=True):
            yield

    def render(self, now: Callable[[], float] = time.monotonic) -> RenderableType:
        """The display at this moment."""
        state, at = self.state, now()
        parts: list[RenderableType] = [self._head(at), self._bar()]
        if state.servers:
            parts.append(_servers(state.servers, at))
        problems = [*self._notes, *(f"{span(at - when)} ago  {text}" for when, text in state.problems)]
        parts.extend(Text(text, style="yellow", overflow="ellipsis", no_wrap=True) for text in problems)
        if state.waiting:
            parts.append(Text(state.waiting, style="red"))  # the whole of it: it says what to do
        if state.paused:
            parts.append(Text(f"paused: {state.paused}", style="bold yellow"))
        if state.stopping:
            parts.append(Text(f"finishing what is in flight: {state.stopping}", style="bold"))
        parts.append(Text(_keys(state), style="dim"))
        return Group(*parts)

    def _head(self, at: float) -> Text:
        state = self.state
        head = Text(self._title, style="bold")
        if state.total:
            head.append(f"   {state.done:,} of {state.total:,}", style="not bold")
        if state.looking or not state.total:
            head.append(f"   {looks(state.looking) if state.looking else 'looking at what lies there'}", style="cyan")
        if state.given_up:
            head.append(f"   {len(state.given_up)} given up", style="red")
        if state.waiting:
            head.append("   waiting for a server", style="bold red")
            return head
        rate, eta = state.rate(at), state.eta(at)
        if rate:
            head.append(f"   {1 / rate:.2f} s an image" if rate < 2 else f"   {rate:.1f} images/s", style="not bold")
        if eta is not None:
            head.append(f"   {span(eta)} left, ready at {_clock(eta)}", style="cyan")
        if self._later and (eta := state.eta(at, self._later)) is not None:
            head.append(f"   all classes at {_clock(eta)}", style="cyan")
        return head

    def _bar(self) -> RenderableType:
        bar = ProgressBar(total=max(1, self.state.total), completed=self.state.done, width=None)
        return Padding(bar, 0)  # the bar alone ends no line


def _clock(seconds: float) -> str:
    """The time of day in so many seconds; with the day, when that is not today's."""
    then = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if then.tm_yday == time.localtime().tm_yday else "%a %H:%M", then)


def _servers(servers: dict[str, ServerView], at: float) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for title in ("server", "now", "queued", "made", "failures", ""):
        table.add_column(title, justify="right" if title in {"queued", "made", "failures"} else "left")
    for name, view in list(servers.items())[:16]:
        now, *queued = view.holds or ["-"]
        if view.holds and at - view.since >= 10:
            now += f" ({span(at - view.since)})"
        failures = Text(str(view.failures), style="yellow" if view.failures else "dim")
        state = Text(view.why, style="yellow" if view.up else "red", overflow="ellipsis", no_wrap=True)
        mark = Text(name, style="green" if view.up else "red")
        table.add_row(mark, now, str(len(queued)), f"{view.made:,}", failures, state)
    if len(servers) > 16:
        up = sum(view.up for view in servers.values())
        table.add_row(f"and {len(servers) - 16} more", f"{up} of {len(servers)} ready", "", "", "", "")
    return table


def _keys(state: Progress) -> str:
    if state.stopping:
        return "Ctrl-C again leaves at once; everything stays resumable"
    return "Ctrl-C once: finish what is in flight; twice: leave at once, resumable"
