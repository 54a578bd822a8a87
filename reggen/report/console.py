"""The display of a run: live on a terminal, lines with times everywhere else.

It draws on the console that the command line hands it, and on nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reggen.progress import Progress, RunEvent, ServerView
from reggen.report.lines import format_duration, format_scanning
from reggen.report.narrator import Narrator, clock

_MOST_NOTES = 3
_MOST_SERVERS = 16
_LONG = 10.0  # seconds after which the display says how long a prompt has been running


class Display:
    """Shows the events of one class, notes, and its closing summary.

    Events are applied to ``progress`` before they reach `tell`. ``later`` is the number of images missing from the
    classes that follow this one. ``log`` gets the sentence that nobody watches any more.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        progress: Progress,
        later: int = 0,
        log: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._console, self._title, self._progress, self._later, self._log = console, title, progress, later, log
        self._narrator = Narrator(progress, later)
        self._notes: list[str] = []
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._is_over = False

    def tell(self, event: RunEvent) -> None:
        """Show one event of the run; the live display does so by itself."""
        if not self._live:
            for text in self._narrator.lines(event):
                self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def note(self, text: str) -> None:
        """Show a sentence for people that is not an event."""
        self._notes.append(text)
        del self._notes[:-_MOST_NOTES]
        if self._is_over:
            self._print(text)
        elif not self._live:
            self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def _print(self, text: str) -> None:
        try:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        except (OSError, SystemExit):  # the reader of a pipe has gone; rich would end the program for it
            self.detach()

    def close(self, text: str) -> None:
        """Print the closing summary; the live display is off the terminal by then."""
        self._is_over = True
        self._print(text)

    def detach(self) -> None:
        """Stop printing since the terminal is gone; the run continues and its log too."""
        self._live = True  # no lines either
        sys.stdout = self._console.file = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
        self._log("the terminal was closed; the run continues")

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
        state, at = self._progress, now()
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
        state = self._progress
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
        state = self._progress
        if rate := state.rate(at):
            pace = f"{1 / rate:.2f} s per image" if rate < 2 else f"{rate:.1f} images/s"
            head.append(f"   {pace}", style="not bold")
        if (eta := state.eta(at)) is not None:
            head.append(f"   {format_duration(eta)} left, ready at {clock(eta)}", style="cyan")
        if self._later and (eta := state.eta(at, self._later)) is not None:
            head.append(f"   all classes at {clock(eta)}", style="cyan")

    def _bar(self) -> RenderableType:
        bar = ProgressBar(total=max(1, self._progress.total), completed=self._progress.done, width=None)
        return Padding(bar, 0)  # a bar on its own does not end its line


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
