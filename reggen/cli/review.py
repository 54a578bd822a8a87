"""The commands about images that are there: reject and redo, recaption, doctor."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import reggen
from reggen.cli.options import AsJson, JobFile, Output, load, stoppable
from reggen.errors import COMPLETE, INCOMPLETE, JobError, Problem
from reggen.wording import plural

Numbers = Annotated[list[str] | None, typer.Argument(metavar="NUMBER", help="Numbers of images, such as 17 42-45.")]
OfClass = Annotated[str | None, typer.Option("--class", metavar="TOKENS", help="The class, if the job has several.")]


def reject(  # wide: typer reads the options of a command from its parameters
    job_file: JobFile,
    numbers: Numbers = None,
    output: Output = None,
    of_class: OfClass = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the ledger.")] = "rejected by hand",
    purge: Annotated[bool, typer.Option("--purge", help="Delete all rejected images for good.")] = False,
) -> None:
    """Reject images by number; the next run makes others.

    It does what deleting their files does, keeps them in .reggen, and notes the reason.
    """
    stoppable()
    if not numbers and not purge:
        raise JobError("the command line", (Problem("NUMBER", "is missing", "write 17, or 42-45"),))
    job = load(job_file, None, output, None)
    if numbers:
        _tell(job, reggen.reject(job, numbers, class_tokens=of_class, why=why))
    if purge:
        print(f"{plural(reggen.purge(job, class_tokens=of_class), 'file')} deleted for good")


def redo(
    job_file: JobFile,
    numbers: Numbers = None,
    output: Output = None,
    of_class: OfClass = None,
    outdated: Annotated[bool, typer.Option("--outdated", help="Those made with other settings than now.")] = False,
) -> None:
    """Have images made again as the job says now, with other seeds.

    The same as `reject`, with another reason in the ledger: the next run makes them. --outdated takes the images that
    were made with another prompt, size or setting.
    """
    if outdated:
        stoppable()
        job = load(job_file, None, output, None)
        done = reggen.reject_outdated(job, class_tokens=of_class)
        if done.set_aside or done.empty:
            _tell(job, done)
        else:
            print("no image was made with other settings")
        if not numbers:
            return
    reject(job_file, numbers, output, of_class, "to be made again", purge=False)


def _tell(job: reggen.Job, done: reggen.RejectResult) -> None:
    """Print the images that were rejected, and the command that makes others."""
    from reggen.api.commands import run_again

    if done.set_aside:
        print(f"{len(done.set_aside)} set aside in .reggen: {', '.join(done.set_aside)}")
    if done.empty:
        remark = "" if done.set_aside else ", so nothing was set aside"
        print(f"{len(done.empty)} had no image{remark}: {', '.join(done.empty)}")
    others = "others, as the job says now, with other seeds" if done.set_aside else "what is missing"
    print(f"The next run makes {others}:\n  {run_again(job, rehearsal=done.rehearsal)}")


def recaption(job_file: JobFile, output: Output = None, of_class: OfClass = None) -> None:
    """Write the captions of finished images again.

    As captions.write in the job says now; captions that say something else are set aside.
    """
    stoppable()
    done = reggen.recaption(load(job_file, None, output, None), class_tokens=of_class)
    print(f"{plural(done.written.count, 'caption')} written")
    if done.set_aside:
        print(f"{done.set_aside.count:,} that said something else are kept in .reggen: {done.set_aside}")
    if done.unknown:
        print(f"captions left as they are, since the prompt is not known: {done.unknown.count:,} ({done.unknown})")


def doctor(  # wide: typer reads the options of a command from its parameters
    folder: Annotated[str, typer.Argument(metavar="DIR|JOB", help="The --reg_data_dir, or the job that fills it.")],
    train: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The trainer's --train_data_dir.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The trainer's --dataset_config.")] = None,
    resolution: Annotated[
        str | None, typer.Option(metavar="512|512,768", help="The trainer's --resolution; else 512.")
    ] = None,
    min_bucket_reso: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The trainer's --min_bucket_reso; else 256.")
    ] = None,
    max_bucket_reso: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The trainer's --max_bucket_reso; else 1024.")
    ] = None,
    bucket_reso_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The trainer's --bucket_reso_steps; else 64.")
    ] = None,
    bucket_no_upscale: Annotated[
        bool | None,
        typer.Option("--bucket-no-upscale/--bucket-upscale", help="With --bucket_no_upscale or without; else without."),
    ] = None,
    bucket: Annotated[
        bool | None,
        typer.Option("--bucket/--no-bucket", help="With --enable_bucket or without; else as --config says, or with."),
    ] = None,
    caption_extension: Annotated[
        str | None, typer.Option(metavar=".EXT", help="The trainer's --caption_extension; else .caption.")
    ] = None,
    forbid: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A word that no caption and no class may have; repeat it for several."),
    ] = None,
    output: Output = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only, decode nothing.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed without a loss.")] = False,
    as_json: AsJson = False,
) -> None:
    """Examine a regularization set as kohya's trainer will read it.

    Works on any folder. A job knows the options of its trainer; options given here replace them, and --forbid adds to
    the words that it forbids.

    Exit codes: 0 all is well, 1 there is a finding or --fix took images out, 2 it cannot be examined.
    """
    stoppable()
    with _bar("examining") as tell:
        examined = reggen.doctor(
            _target(folder, output),
            train=train,
            config=config,
            resolution=None if resolution is None else _resolution(resolution),
            min_bucket_reso=min_bucket_reso,
            max_bucket_reso=max_bucket_reso,
            bucket_reso_steps=bucket_reso_steps,
            bucket_no_upscale=bucket_no_upscale,
            enable_bucket=bucket,
            caption_extension=caption_extension,
            forbid=forbid or (),
            quick=quick,
            fix=fix,
            on_progress=tell,
            on_fix=lambda done: print(done, file=sys.stderr if as_json else sys.stdout),
        )
    _print(examined, as_json=as_json)
    raise typer.Exit(COMPLETE if examined.well else INCOMPLETE)


def _target(folder: str, output: Path | None) -> str | reggen.Job:
    """The job where its file was named, else the folder."""
    if folder.endswith(".toml") and not Path(folder).is_dir():
        return load(folder, None, output, None)
    if output:
        raise JobError("the command line", (Problem("--output", "goes with a job; here the folder is named already"),))
    return folder


def _print(examined: reggen.Examination, *, as_json: bool) -> None:
    if not as_json:
        print(examined)
        return
    print(json.dumps(examined.as_json(), indent=2, ensure_ascii=False))
    if examined.then:
        print(examined.then, file=sys.stderr)


def _resolution(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:[,x](\d{1,5}))?", text.replace(" ", ""))
    if not match:
        problem = Problem("--resolution", f"{text!r} is not a resolution", "write 512 or 512,768")
        raise JobError("the command line", (problem,))
    return int(match[1]), int(match[2] or match[1])


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr while that is a terminal; yields a function of the images done and in all."""
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
