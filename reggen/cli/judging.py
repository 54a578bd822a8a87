"""The commands that judge images that are there: reject and redo, a person's word; doctor, the trainer's rules."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reggen.cli.options import JobFile, Output, load
from reggen.errors import COMPLETE, INCOMPLETE, JobError, Problem

if TYPE_CHECKING:
    from reggen.dataset.pointing import Question
    from reggen.dataset.study import Brief
    from reggen.guard import Guard
    from reggen.job import Job

Numbers = Annotated[list[str] | None, typer.Argument(metavar="[NUMBER ...]", help="Such as 17 42-45.")]
OfClass = Annotated[str | None, typer.Option("--class", help="Which class, where the job has several.")]


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
    brief = _one_class(study(load(job_file, None, output, None), job_file), of_class)
    if numbers:
        done = rejecting.reject(brief, rejecting.slots(numbers, len(brief.plan)), why)
        print(f"{len(done.aside)} set aside in .reggen: {', '.join(done.aside) or 'none'}")
        if done.empty:
            print(f"{len(done.empty)} had no image: {', '.join(done.empty)}")
        print(f"Next: python -m reggen run {job_file} makes others, with the same prompts and other seeds")
    if purge:
        print(f"{rejecting.purge(brief)} files deleted for good")


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
        question = _of_job(load(folder, None, output, None), question)
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
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
