"""The command line: the only place that prints and exits."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from reggen.errors import (
    BAD_JOB,
    COMPLETE,
    INCOMPLETE,
    NO_SERVER,
    STOPPED,
    STORAGE,
    JobError,
    Problem,
    ReggenError,
    StorageError,
)

if TYPE_CHECKING:
    from reggen.dataset.pointing import Question
    from reggen.dataset.study import Brief
    from reggen.engine.fill import Control, Summary
    from reggen.guard import Guard
    from reggen.job import Dataset, Job
    from reggen.progress import RunEvent

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Regularization images for LoRA and DreamBooth, made overnight on ComfyUI servers.",
)

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="The job file, such as configs/spyke.toml.")]
Count = Annotated[int | None, typer.Option(min=1, help="How many images, instead of dataset.count.")]
Output = Annotated[Path | None, typer.Option(help="The folder to fill, instead of dataset.root.")]
Servers = Annotated[list[str] | None, typer.Option("--server", help="A ComfyUI address; may be given several times.")]


def main() -> None:
    """Entry point: errors become sentences and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot show a character must not end a night
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except ReggenError as error:
        print(f"reggen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"reggen {version('reggen')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Which reggen.")] = False,
) -> None:
    pass


@app.command()
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

    Exit codes: 0 complete, 1 images missing, 2 bad job, 4 no usable server, 5 storage, 130 stopped by you.
    """
    from reggen.dataset.study import study
    from reggen.engine.curfew import curfew
    from reggen.engine.fill import Control

    if rehearse and server:
        raise JobError(job_file, (Problem("--server", "makes no sense with --rehearse, which brings its own"),))
    if rehearse and output is None:
        output = Path("rehearsal") / Path(job_file).stem
    briefs = study(_load(job_file, count, output, server), job_file)
    control, left = Control(), curfew(job_file, until, for_)
    code = COMPLETE
    for brief in briefs:
        summary = asyncio.run(_fill(brief, job_file, control, rehearse=rehearse, wait=wait, plain=plain, left=left))
        if summary is None:
            print("Stopped before anything was posted. The same command starts again.")
            raise typer.Exit(STOPPED)
        code = max(code, summary.exit_code)
        if control.asked or summary.error:
            break  # the other classes are for the next run
    raise typer.Exit(code)


async def _fill(
    brief: Brief,
    job_file: str,
    control: Control,
    *,
    rehearse: bool,
    wait: bool,
    plain: bool,
    left: Callable[[], float] | None,
) -> Summary | None:
    from wakepy import keep

    from reggen.engine.fill import fill
    from reggen.job import Notify
    from reggen.report.closing import closing, write_report
    from reggen.report.console import Display
    from reggen.report.lines import open_log
    from reggen.report.notify import Notices

    job = brief.job
    console = Console(force_terminal=False) if plain else Console()
    async with AsyncExitStack() as stack:
        if rehearse:
            job = await _stand_ins(job, stack)
        else:
            stack.enter_context(keep.running(on_fail="pass"))
        title = f"{Path(job_file).stem}: {job.dataset.class_words}{' (rehearsal)' if rehearse else ''}"
        display = Display(console, title, open_log(job.dataset.state / "run.log"))
        notices = Notices(Notify() if rehearse else job.notify, job_file, os.environ)

        def tell(event: RunEvent) -> None:
            display.tell(event)
            notices.tell(event)

        filling = fill(
            replace(brief, job=job),
            job_file,
            tell=tell,
            note=display.note,
            control=control,
            wait=wait,
            left=left,
            rehearsal=rehearse,
        )
        task = asyncio.create_task(filling)
        with _signals(control, display.detach):
            with display.shown():
                try:
                    summary = await control.guard(task)
                except asyncio.CancelledError:
                    if control.asked:
                        return None
                    raise
                except ReggenError as error:
                    await notices.failed(error)
                    raise
            display.close(closing(summary, rehearsal=rehearse))
            try:
                write_report(summary, job.dataset.state / "report.json")
            except StorageError as error:
                display.close(f"The images are there, but their report is not: {error}")
            try:
                await asyncio.to_thread(_list, job.dataset, summary.total)
            except StorageError as error:
                display.close(f"The images are there, but a list of them is not: {error}")
        await notices.finished(summary)
        return summary


def _list(dataset: Dataset, count: int) -> None:
    """Write the lists of finished images that the job asks for."""
    from reggen.dataset.ledger import Ledger
    from reggen.dataset.listing import write_listings

    ledger = Ledger.read(dataset.state / "ledger.sqlite") if dataset.listings else None
    if ledger is None:
        return
    try:
        write_listings(dataset, ledger, count)
    finally:
        ledger.close()


async def _stand_ins(job: Job, stack: AsyncExitStack) -> Job:
    """The same job with every server replaced by a stand-in of its own."""
    from reggen import sim

    named = (job.sampling.checkpoint, *job.matrix.checkpoint)
    servers = []
    for server in job.servers[:8]:
        checkpoints = tuple(name for name in named if name)
        settings = sim.Settings(seconds=0.05, checkpoints=checkpoints, lenient=True)
        stand_in = await stack.enter_async_context(sim.serve(settings))
        servers.append(server.model_copy(update={"url": stand_in.url, "headers": {}, "launch": None}))
    return job.model_copy(update={"servers": tuple(servers)})


@contextmanager
def _signals(control: Control, hung_up: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C asks nicely, then firmly; a termination is firm at once; a closed terminal ends only the display."""
    loop = asyncio.get_running_loop()

    def asked(*_: object) -> None:
        loop.call_soon_threadsafe(control.interrupt)

    def ended(*_: object) -> None:
        asked()
        asked()

    def closed(*_: object) -> None:
        loop.call_soon_threadsafe(hung_up)

    handlers: dict[int, Callable[..., None]] = {signal.SIGINT: asked, signal.SIGTERM: ended}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = closed
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handlers:  # all is said and done: nothing that comes now may change the exit code
            signal.signal(number, signal.SIG_IGN)


@app.command()
def plan(job_file: JobFile, count: Count = None, output: Output = None) -> None:
    """Show what would be made: count, sizes, seeds, first prompts, disk. Needs no server."""
    from reggen.dataset.study import study
    from reggen.report.preview import preview

    briefs = study(_load(job_file, count, output, None), job_file)
    print("\n".join(preview(brief, job_file) for brief in briefs))


@app.command()
def check(job_file: JobFile, count: Count = None, output: Output = None, server: Servers = None) -> None:
    """Look whether the job can run: job file, servers, nodes, checkpoint, sampler, disk. Makes nothing."""
    from reggen.dataset.study import study
    from reggen.engine.fill import connected, unfit
    from reggen.engine.preflight import Examined, examine
    from reggen.report.preview import checked
    from reggen.workflow import template

    briefs = study(_load(job_file, count, output, server), job_file)
    job = briefs[0].job
    made_of = template(job)

    async def ask() -> list[Examined]:
        async with connected(job) as clients:
            return await examine(clients, made_of)

    examined = asyncio.run(ask())
    text, room = checked(briefs, job_file, examined)
    print(text)
    started_here = {server.name for server in job.servers if server.launch}
    if not any(one.ready or (one.away and one.server in started_here) for one in examined):
        raise typer.Exit(BAD_JOB if unfit(examined) else NO_SERVER)
    raise typer.Exit(COMPLETE if room else STORAGE)


@app.command()
def status(
    job_file: JobFile,
    count: Count = None,
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how far a dataset is: done, missing, given up, rejected. Works beside a run."""
    from reggen.dataset.study import study
    from reggen.report.state import state_of, words

    states = [state_of(brief.job) for brief in study(_load(job_file, count, output, None), job_file)]
    told = states[0] if len(states) == 1 else states
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else "\n".join(map(words, states)))


Numbers = Annotated[list[str] | None, typer.Argument(metavar="[NUMBER ...]", help="Such as 17 42-45.")]
OfClass = Annotated[str | None, typer.Option("--class", help="Which class, where the job has several.")]


@app.command()
def reject(
    job_file: JobFile,
    numbers: Numbers = None,
    output: Output = None,
    of_class: OfClass = None,
    why: Annotated[str, typer.Option(help="The reason, for the ledger.")] = "rejected by hand",
    purge: Annotated[bool, typer.Option("--purge", help="Delete what was set aside so far.")] = False,
) -> None:
    """Reject images by number, as deleting them does: the next run makes others in their places."""
    from reggen.dataset import reject as rejecting
    from reggen.dataset.study import study

    if not numbers and not purge:
        raise JobError("the command line", (Problem("NUMBER", "is missing", "write 17, or 42-45"),))
    brief = _one_class(study(_load(job_file, None, output, None), job_file), of_class)
    if numbers:
        done = rejecting.reject(brief, rejecting.slots(numbers, len(brief.plan)), why)
        print(f"{len(done.aside)} set aside in .reggen: {', '.join(done.aside) or 'none'}")
        if done.empty:
            print(f"{len(done.empty)} had no image: {', '.join(done.empty)}")
        print(f"Next: python -m reggen run {job_file} makes others, with the same prompts and other seeds")
    if purge:
        print(f"{rejecting.purge(brief)} files deleted for good")


@app.command()
def redo(job_file: JobFile, numbers: Numbers = None, output: Output = None, of_class: OfClass = None) -> None:
    """Have images made again by number: the same prompt, another seed. The same as `reject`."""
    reject(job_file, numbers, output, of_class, "to be made again", purge=False)


def _one_class(briefs: Sequence[Brief], of_class: str | None) -> Brief:
    """The class that was named, or the only one."""
    words = [brief.job.dataset.class_words for brief in briefs]
    if of_class is None and len(briefs) == 1:
        return briefs[0]
    if of_class not in words:
        raise JobError("the command line", (Problem("--class", f"is one of {', '.join(words)}"),))
    return briefs[words.index(of_class)]


@app.command()
def doctor(
    folder: Annotated[str, typer.Argument(metavar="DIR|JOB", help="The --reg_data_dir, or the job that fills it.")],
    train: Annotated[Path | None, typer.Option(help="The trainer's --train_data_dir.")] = None,
    config: Annotated[Path | None, typer.Option(help="The trainer's --dataset_config.")] = None,
    resolution: Annotated[str, typer.Option(metavar="512|512,768", help="As the trainer is told.")] = "512",
    min_bucket_reso: Annotated[int, typer.Option(min=1)] = 256,
    max_bucket_reso: Annotated[int, typer.Option(min=1)] = 1024,
    bucket_reso_steps: Annotated[int, typer.Option(min=1)] = 64,
    bucket_no_upscale: Annotated[bool, typer.Option("--bucket-no-upscale")] = False,
    bucket: Annotated[
        bool | None, typer.Option("--bucket/--no-bucket", help="--enable_bucket; on, or with --config as that says.")
    ] = None,
    caption_extension: Annotated[str, typer.Option(help="Captions the trainer reads.")] = ".caption",
    forbid: Annotated[
        list[str] | None, typer.Option(help="A word that must be in no caption nor class; may be given several times.")
    ] = None,
    output: Output = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only, decode nothing.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without a loss.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Examine a regularization set exactly as kohya's trainer will read it. Works on any folder.

    Exit codes: 0 all is well, 1 something is not, 2 it cannot be examined.
    """
    from reggen.dataset.doctor import examine
    from reggen.dataset.mending import mend
    from reggen.dataset.pointing import Question
    from reggen.kohya import Bucketing
    from reggen.report import examination as report

    limits = (min_bucket_reso, max_bucket_reso, bucket_reso_steps, bucket_no_upscale)
    question = Question(
        Path(folder),
        train,
        config,
        Bucketing(_resolution(resolution), bucket if bucket is not None else config is None, *limits),
        caption_extension,
        quick,
        find_forbidden=_finder(tuple(forbid or ())),
    )
    if folder.endswith(".toml") and not Path(folder).is_dir():
        question = _of_job(_load(folder, None, output, None), question)
    known: dict[Path, Any] | None = {} if fix else None
    with _bar("examining") as tell:
        found = examine(question, tell=tell, known=known)
    if fix:
        for done in mend(found):
            print(done, file=sys.stderr if as_json else sys.stdout)
        found = examine(question, known=known)
    print(json.dumps(report.as_json(found), indent=2, ensure_ascii=False) if as_json else report.words(found))
    raise typer.Exit(COMPLETE if found.well else INCOMPLETE)


def _of_job(job: Job, question: Question) -> Question:
    """What a job says of its trainer, where the command line does not name a training set of its own."""
    from reggen.dataset.study import bucketing_of, guard_of

    dataset, training = job.dataset, job.training
    words = [block.words for block in job.classes] or [dataset.class_words]
    ending = job.captions.extension if job.captions.write != "none" else question.ending
    question = replace(
        question,
        folder=dataset.root,
        expected=frozenset(f"{dataset.repeats}_{one}" for one in words),
        ending=ending,
        find_forbidden=_finder(guard_of(job)) or question.find_forbidden,
    )
    if training is None or question.train or question.config:
        return question
    buckets = bucketing_of(training)
    return replace(
        question, train=training.folder, config=training.config, bucketing=buckets, ending=training.caption_extension
    )


def _finder(forbidden: Guard | tuple[str, ...]) -> Callable[[str], str | None] | None:
    """What says which forbidden word a text holds."""
    from reggen.guard import Guard

    guard = forbidden if isinstance(forbidden, Guard) else Guard(forbidden, key="--forbid")
    if not guard:
        return None

    def find(text: str) -> str | None:
        offence = guard.find(text)
        return None if offence is None else offence.forbidden

    return find


def _resolution(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:[,x](\d{1,5}))?", text.replace(" ", ""))
    if not match:
        problem = Problem("--resolution", f"{text!r} is no resolution", "write 512 or 512,768")
        raise JobError("the command line", (problem,))
    return int(match[1]), int(match[2] or match[1])


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr while it is a terminal; what it yields is told the images done and in all."""
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@app.command()
def config(
    job_file: JobFile,
    trainer: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TRAINER", help="kohya, kohya-toml, ai-toolkit, simpletuner, onetrainer, diffusers."
        ),
    ] = None,
    count: Count = None,
    output: Output = None,
) -> None:
    """Print what a trainer is to be told of the images, ready to be pasted. Hints that cannot be comments: stderr."""
    from reggen.dataset.study import study
    from reggen.report.served import asked
    from reggen.report.trainer import section

    found = section(trainer, asked(study(_load(job_file, count, output, None), job_file)))
    sys.stdout.write(found.text)
    for hint in found.hints:
        print(hint, file=sys.stderr)


@app.command()
def schema() -> None:
    """Print the job file's JSON schema, for editors."""
    from reggen import jobfile

    print(json.dumps(jobfile.schema(), indent=2))


@app.command(name="sim")
def stand_in(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The first server's port.")] = 8188,
    servers: Annotated[int, typer.Option("--servers", min=1, max=4096, help="How many, on consecutive ports.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds an image takes.")] = 0.5,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="A checkpoint it has; may be given several times.")
    ] = None,
    version: Annotated[str, typer.Option(help="Which ComfyUI it behaves like.")] = "0.33.0",
    faults: Annotated[Path | None, typer.Option(help="A fault script, TOML or JSON.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown nodes and names, as ComfyUI does.")] = False,
) -> None:
    """A ComfyUI stand-in, for rehearsals and tests: it paints marked pictures and breaks on request."""
    from reggen import sim

    chosen: dict[str, Any] = {"seconds": seconds, "version": version, "lenient": not (strict or checkpoint)}
    if checkpoint:
        chosen["checkpoints"] = tuple(checkpoint)
    script = _script(faults)
    try:
        settings = sim.Settings(**chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    def ready(urls: list[str]) -> None:
        more = f" ... {urls[-1]} ({len(urls)} servers)" if len(urls) > 1 else ""
        print(f"stand-in at {urls[0]}{more}; Ctrl-C ends it", flush=True)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    serving = sim.run_forever(settings, host=host, port=port, count=servers, script=script, on_ready=ready)
    try:
        asyncio.run(serving)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except (OSError, ValueError) as error:
        print(f"reggen: the stand-in cannot start at {host}:{port}: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _script(file: Path | None) -> Any:
    from reggen import sim

    if file is None:
        return sim.Script()
    try:
        text = file.read_text(encoding="utf-8")
        return sim.Script.from_json(text) if file.suffix == ".json" else sim.Script.from_toml(text)
    except (OSError, ValueError) as error:
        raise JobError(str(file), (Problem("", f"it is no fault script: {error}"),)) from None


def _load(job_file: str, count: int | None, output: Path | None, servers: list[str] | None) -> Job:
    """The job file with the command line's words over it."""
    from reggen.jobfile import load

    dataset: dict[str, Any] = {}
    if count is not None:
        dataset["count"] = count
    if output is not None:
        dataset["root"] = str(output)
    overrides: dict[str, Any] = {"dataset": dataset} if dataset else {}
    if servers:
        overrides["servers"] = list(servers)
    return load(job_file, overrides)
