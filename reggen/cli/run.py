"""The command that makes images: run, its display, and the signals that end it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import reggen
from reggen.cli.deadline import Deadline, deadline
from reggen.cli.options import Count, JobFile, Output, Servers, load
from reggen.cli.process_limits import allow_many_files, collect_seldom, give_back_memory
from reggen.errors import JobError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from reggen.report.console import Display


def run(  # wide: typer reads the options of a command from its parameters
    job_file: JobFile,
    count: Count = None,
    output: Output = None,
    server: Servers = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Paint marked images with a built-in stand-in, into rehearsal/.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a server if none answers.")] = False,
    until: Annotated[str | None, typer.Option(metavar="HH:MM", help="Stop at this time of day.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="8h30m", help="Stop after this long.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines instead of the live display.")] = False,
) -> None:
    """Make the images that a dataset still lacks.

    Exit codes: 0 complete, 1 images missing, 2 bad job, 3 time is up, 4 no usable server, 5 storage,
    130 stopped by you.
    """
    allow_many_files()
    give_back_memory()
    if rehearse and server:
        raise JobError(job_file, (Problem("--server", "makes no sense with --rehearse, which brings its own"),))
    if rehearse and output is None:
        output = Path("rehearsal") / Path(job_file).stem
    end = deadline(job_file, until, for_)
    job = load(job_file, count, output, server)
    console = _console(plain=plain, quiet=quiet)
    summary = asyncio.run(_run(job, end, console, rehearse=rehearse, wait=wait))
    if summary.rest and not quiet:
        print(summary.rest)
    raise typer.Exit(summary.exit_code)


def _console(*, plain: bool, quiet: bool) -> Console:
    """The console that a run is shown on: live where it can be, or lines, or nothing at all."""
    from rich.console import Console

    return Console(force_terminal=False if plain or quiet else None, quiet=quiet)


async def _run(job: reggen.Job, end: Deadline, console: Console, *, rehearse: bool, wait: bool) -> reggen.JobSummary:
    """Run a job beside its display, heeding signals and keeping the computer awake."""
    from wakepy import keep

    faces = _Faces(console, Path(job.source).stem, " (rehearsal)" if rehearse else "")
    running = reggen.run(job, wait=wait, until=end.until, within=end.within, rehearse=rehearse, on_event=faces.tell)
    faces.watch(running)
    with nullcontext() if rehearse else keep.running(on_fail="pass"), closing(faces):
        async with running:
            collect_seldom(len(job.servers))
            with _signals(running, faces.detach):
                return await running.summary()


class _Faces:
    """The displays of a run, one for each class; the title has a name, the class tokens and a remark."""

    def __init__(self, console: Console, name: str, remark: str) -> None:
        self._console, self._name, self._remark = console, name, remark
        self._is_detached = False
        self._running: reggen.JobRun | None = None
        self._display: Display | None = None
        self._live = ExitStack()

    def watch(self, running: reggen.JobRun) -> None:
        """Show the state of this run."""
        self._running = running

    def tell(self, event: reggen.Event) -> None:
        """Show one event."""
        if isinstance(event, reggen.ClassStarted):
            self._begin(event)
        elif isinstance(event, reggen.ClassFinished):
            self.close()
            self._shown.close(event.text)
        elif isinstance(event, reggen.Note):
            self._shown.note(event.text)
        else:
            self._shown.tell(event)

    @property
    def _shown(self) -> Display:
        assert self._display is not None, "a class begins with ClassStarted"
        return self._display

    def _begin(self, event: reggen.ClassStarted) -> None:
        from reggen.report.console import Display

        assert self._running is not None, "it is watched before it begins"
        self._display = Display(
            self._console,
            f"{self._name}: {event.class_tokens}{self._remark}",
            self._running.progress,
            later=event.later,
            log=self._running.note,
        )
        if self._is_detached:
            self._display.detach()
        self._live.enter_context(self._display.shown())

    def detach(self) -> None:
        """Show nothing from here on: the terminal was closed."""
        self._is_detached = True
        if self._display:
            self._display.detach()

    def close(self) -> None:
        """Take the live display off the terminal."""
        self._live.close()


def _heeded() -> Collection[int]:
    """The signals that a run handles: those that the system has, but not a hangup that nohup ignores."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [one for one in known if one.name != "SIGHUP" or signal.getsignal(one) != signal.SIG_IGN]


@contextmanager
def _signals(running: reggen.JobRun, hung_up: Callable[[], None]) -> Iterator[None]:
    """Handle signals while the block runs: Ctrl-C stops once, SIGTERM twice, a closed terminal ends only the display.

    SIGUSR1 is Ctrl-C once, however often it comes: a batch system sends it some time before it kills, to a process
    and to those that started it.
    """
    loop = asyncio.get_running_loop()

    def asked(*_: object) -> None:
        loop.call_soon_threadsafe(running.stop)

    def ended(*_: object) -> None:
        asked()
        asked()

    def once() -> None:
        if not running.stops:
            running.stop()

    def warned(*_: object) -> None:
        loop.call_soon_threadsafe(once)

    def closed(*_: object) -> None:
        loop.call_soon_threadsafe(hung_up)

    handlers = {"SIGINT": asked, "SIGTERM": ended, "SIGUSR1": warned, "SIGHUP": closed}
    heeded = _heeded()
    for number in heeded:
        signal.signal(number, handlers[signal.Signals(number).name])
    try:
        yield
    finally:
        for number in heeded:  # the run is over: no signal may change its exit code
            signal.signal(number, signal.SIG_IGN)
