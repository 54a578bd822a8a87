"""The command that makes images: run, its display and notices, and the signals that end it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reggen.cli.options import Count, JobFile, Output, Servers, load
from reggen.cli.process_limits import allow_many_files, collect_seldom, give_back_memory
from reggen.cli.standin import stand_ins_for
from reggen.errors import COMPLETE, STOPPED, TIME_UP, JobError, Problem, ReggenError, StorageError

if TYPE_CHECKING:
    from reggen.engine.control import RunControl
    from reggen.engine.summary import Summary
    from reggen.job.dataset import ClassDataset, Dataset
    from reggen.prepare.prepared_job import PreparedJob
    from reggen.progress import RunEvent


def run(
    job_file: JobFile,
    count: Count = None,
    output: Output = None,
    server: Servers = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Against a built-in stand-in, into rehearsal/.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a server when none answers.")] = False,
    until: Annotated[str | None, typer.Option(metavar="HH:MM", help="Be done by then; post nothing too late.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="8h30m", help="Be done after so long.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live display.")] = False,
) -> None:
    """Make what is missing of a dataset.

    Exit codes: 0 complete, 1 images missing, 2 bad job, 3 the time is up, 4 no usable server, 5 storage, 130 stopped
    by you.
    """
    from reggen.cli.deadline import deadline
    from reggen.engine.control import RunControl
    from reggen.prepare.prepared_job import prepare

    allow_many_files()
    give_back_memory()
    if rehearse and server:
        raise JobError(job_file, (Problem("--server", "makes no sense with --rehearse, which brings its own"),))
    if rehearse and output is None:
        output = Path("rehearsal") / Path(job_file).stem
    prepared_jobs = prepare(load(job_file, count, output, server), job_file)
    control, left = RunControl(), deadline(job_file, until, for_)
    handled = _heeded()
    code = COMPLETE
    for number, prepared in enumerate(prepared_jobs, 1):
        filling = _fill(
            prepared,
            job_file,
            control,
            rehearse=rehearse,
            wait=wait,
            plain=plain,
            left=left,
            heeded=handled,
            following=[one.dataset for one in prepared_jobs[number:]],
        )
        summary = asyncio.run(filling)
        if summary is None:
            print("Stopped before the first image was asked for. The same command starts again.")
            raise typer.Exit(STOPPED)
        code = max(code, summary.exit_code)
        if control.asked or summary.error or summary.exit_code == TIME_UP:
            break  # the other classes are for the next run
    raise typer.Exit(code)


async def _fill(
    prepared: PreparedJob,
    job_file: str,
    control: RunControl,
    *,
    rehearse: bool,
    wait: bool,
    plain: bool,
    left: Callable[[], float] | None,
    heeded: Collection[int],
    following: Sequence[ClassDataset],
) -> Summary | None:
    from rich.console import Console
    from wakepy import keep

    from reggen.engine.control import Observers, RunOptions
    from reggen.engine.fill import fill_dataset
    from reggen.job.servers import Notify
    from reggen.report.closing import format_closing, write_report
    from reggen.report.console import Display
    from reggen.report.notify import Notices
    from reggen.report.run_log import open_log
    from reggen.report.status import count_missing

    dataset, console = prepared.dataset, Console(force_terminal=False) if plain else Console()
    collect_seldom(len(prepared.servers))
    async with AsyncExitStack() as stack:
        if rehearse:
            checkpoints = prepared.template.checkpoints
            prepared = replace(prepared, servers=await stand_ins_for(prepared.servers, checkpoints, stack))
        else:
            stack.enter_context(keep.running(on_fail="pass"))
        title = f"{Path(job_file).stem}: {dataset.class_tokens}{' (rehearsal)' if rehearse else ''}"
        display = Display(console, title, open_log(dataset.state / "run.log"), sum(map(count_missing, following)))
        notices = Notices(Notify() if rehearse else prepared.notify, job_file, os.environ)

        def tell(event: RunEvent) -> None:
            display.tell(event)
            notices.tell(event)

        filling = fill_dataset(
            prepared,
            job_file,
            Observers(tell, display.note, display.progress),
            control,
            options=RunOptions(wait=wait, seconds_left=left, rehearsal=rehearse),
        )
        with _signals(control, display.detach, heeded):
            with display.shown():
                try:
                    summary = await control.guard(asyncio.create_task(filling))
                except asyncio.CancelledError:
                    if not control.asked:
                        raise
                    if control.reached is None:
                        return None
                    summary = control.reached
                except ReggenError as error:
                    await notices.failed(error)
                    raise
            then = f"Now: {following[0].class_tokens}" if following else ""
            goes_on = not (control.asked or summary.error)
            display.close(format_closing(summary, rehearsal=rehearse, then=then if goes_on else ""))
            try:
                await _in_time(partial(write_report, summary, file := dataset.state / "report.json"), file)
            except StorageError as error:
                display.close(f"The images are there, but their report is not: {error}")
            try:
                await asyncio.to_thread(_list, dataset, summary.total)
            except StorageError as error:
                display.close(f"The images are there, but a list of them is not: {error}")
        await notices.finished(summary)
        return summary


async def _in_time(write: Callable[[], None], file: Path) -> None:
    """Write a small file, and wait no longer than for any disk when a run is left. Raises StorageError."""
    from reggen.engine.threads import Threads

    threads = Threads(1, "reggen-report", file)
    await threads.close(write)
    if threads.lost:
        raise StorageError(str(file), "writing", "the disk does not answer")


def _list(dataset: Dataset, count: int) -> None:
    """Write the lists of finished images that the job asks for."""
    from reggen.dataset.exports import write_listings

    write_listings(dataset, count)


def _heeded() -> Collection[int]:
    """The signals that mean something here: those the system has, but for a hangup that nohup has had ignored."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [one for one in known if one.name != "SIGHUP" or signal.getsignal(one) != signal.SIG_IGN]


@contextmanager
def _signals(control: RunControl, hung_up: Callable[[], None], heeded: Collection[int]) -> Iterator[None]:
    """Ctrl-C asks nicely, then firmly; a termination is firm at once; a closed terminal ends only the display.

    SIGUSR1 is Ctrl-C once, however often it comes: a batch system sends it some time before it kills, to a process
    and to those that started it.
    """
    loop = asyncio.get_running_loop()

    def asked(*_: object) -> None:
        loop.call_soon_threadsafe(control.interrupt)

    def ended(*_: object) -> None:
        asked()
        asked()

    def once() -> None:
        if not control.asked:
            control.interrupt()

    def warned(*_: object) -> None:
        loop.call_soon_threadsafe(once)

    def closed(*_: object) -> None:
        loop.call_soon_threadsafe(hung_up)

    handlers = {"SIGINT": asked, "SIGTERM": ended, "SIGUSR1": warned, "SIGHUP": closed}
    for number in heeded:
        signal.signal(number, handlers[signal.Signals(number).name])
    try:
        yield
    finally:
        for number in heeded:  # all is said and done: nothing that comes now may change the exit code
            signal.signal(number, signal.SIG_IGN)
