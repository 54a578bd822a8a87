"""The commands that judge images that are there: reject and redo, a person's word; doctor, the trainer's rules."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reggen.cli.options import JobFile, Output, load, stoppable
from reggen.errors import COMPLETE, INCOMPLETE, JobError, Problem

if TYPE_CHECKING:
    from reggen.diagnosis.model import DoctorReport
    from reggen.diagnosis.scope import DoctorOptions
    from reggen.job.models import Job
    from reggen.kohya.buckets import Bucketing
    from reggen.prepare.prepared_job import PreparedJob

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
    stoppable()
    from reggen.dataset import reject as rejecting
    from reggen.prepare.prepared_job import prepare

    if not numbers and not purge:
        raise JobError("the command line", (Problem("NUMBER", "is missing", "write 17, or 42-45"),))
    prepared = _one_class(prepare(load(job_file, None, output, None), job_file), of_class)
    if numbers:
        indices = rejecting.parse_slots(numbers, len(prepared.plan))
        done = rejecting.reject(prepared.dataset, prepared.plan, indices, why)
        if done.set_aside:
            print(f"{len(done.set_aside)} set aside in .reggen: {', '.join(done.set_aside)}")
        if done.empty:
            print(f"{len(done.empty)} had no image{'' if done.set_aside else ', so nothing was set aside'}: ", end="")
            print(", ".join(done.empty))
        others = "others, with the same prompts and other seeds" if done.set_aside else "what is missing"
        print(f"The next run makes {others}:")
        print(f"  {_run_again(job_file, output, rehearsal=done.rehearsal)}")
    if purge:
        print(f"{rejecting.purge(prepared.dataset)} files deleted for good")


def _run_again(job_file: str, output: Path | None, *, rehearsal: bool) -> str:
    """The command line that fills this dataset, for a shell."""
    return _command("run", job_file, output) + " --rehearse" * rehearsal


def _command(name: str, job_file: str, output: Path | None) -> str:
    """A command line about this dataset, for a shell."""
    from reggen.report.shell import shell_word

    windows = os.name == "nt"
    words = [f"python -m reggen {name}", shell_word(job_file, windows=windows)]
    return " ".join([*words, "--output", shell_word(str(output), windows=windows)] if output else words)


def redo(job_file: JobFile, numbers: Numbers = None, output: Output = None, of_class: OfClass = None) -> None:
    """Have images made again by number: the same prompt, another seed. The same as `reject`."""
    reject(job_file, numbers, output, of_class, "to be made again", purge=False)


def recaption(job_file: JobFile, output: Output = None, of_class: OfClass = None) -> None:
    """Write the captions of finished images anew, as captions.write says; what said something else is set aside."""
    stoppable()
    from reggen.dataset.captioning import rewrite_captions
    from reggen.prepare.prepared_job import prepare

    prepared = _one_class(prepare(load(job_file, None, output, None), job_file), of_class)
    done = rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard)
    print(f"{done.written.count:,} captions written")
    if done.set_aside:
        print(f"{done.set_aside.count:,} that said something else are kept in .reggen: {done.set_aside}")
    if done.unknown:
        print(f"{done.unknown.count:,} images keep what they have, for nobody knows their prompt: {done.unknown}")


def _one_class(prepared_jobs: Sequence[PreparedJob], of_class: str | None) -> PreparedJob:
    """The class that was named, or the only one."""
    words = [prepared.dataset.class_tokens for prepared in prepared_jobs]
    if of_class is None and len(prepared_jobs) == 1:
        return prepared_jobs[0]
    if of_class not in words:
        raise JobError("the command line", (Problem("--class", f"is one of {', '.join(words)}"),))
    return prepared_jobs[words.index(of_class)]


def doctor(
    folder: Annotated[str, typer.Argument(metavar="DIR|JOB", help="The --reg_data_dir, or the job that fills it.")],
    train: Annotated[Path | None, typer.Option(help="The trainer's --train_data_dir.")] = None,
    config: Annotated[Path | None, typer.Option(help="The trainer's --dataset_config.")] = None,
    resolution: Annotated[str | None, typer.Option(metavar="512|512,768", help="As the trainer is told; 512.")] = None,
    min_bucket_reso: Annotated[int | None, typer.Option(min=1, help="256.")] = None,
    max_bucket_reso: Annotated[int | None, typer.Option(min=1, help="1024.")] = None,
    bucket_reso_steps: Annotated[int | None, typer.Option(min=1, help="64.")] = None,
    bucket_no_upscale: Annotated[bool | None, typer.Option("--bucket-no-upscale/--bucket-upscale")] = None,
    bucket: Annotated[
        bool | None, typer.Option("--bucket/--no-bucket", help="--enable_bucket; on, or with --config as that says.")
    ] = None,
    caption_extension: Annotated[str | None, typer.Option(help="Captions the trainer reads; .caption.")] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(help="A word that must be in no caption nor class; may be given several times.")
    ] = None,
    output: Output = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only, decode nothing.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without a loss.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Examine a regularization set exactly as kohya's trainer will read it. Works on any folder.

    A job says what its trainer is told; options given here go over it, and --forbid adds to its guard.
    Exit codes: 0 all is well, 1 something is not, or images were taken out by --fix, 2 it cannot be examined.
    """
    stoppable()
    from reggen.diagnosis.doctor import examine
    from reggen.diagnosis.fixes import apply_fixes
    from reggen.diagnosis.scope import DoctorOptions
    from reggen.report.doctor_report import doctor_report_data, format_doctor_report

    job = load(folder, None, output, None) if folder.endswith(".toml") and not Path(folder).is_dir() else None
    if job and not job.dataset.root.exists():
        hint = f"run it first: {_command('run', folder, output)}"
        raise JobError(folder, (Problem("dataset.root", f"there is no folder {job.dataset.root} yet", hint),))
    if output and job is None:
        raise JobError("the command line", (Problem("--output", "goes with a job; here the folder is named already"),))
    options: dict[str, Any] = {
        "resolution": _resolution(resolution) if resolution is not None else None,
        "enabled": bucket,
        "min_reso": min_bucket_reso,
        "max_reso": max_bucket_reso,
        "steps": bucket_reso_steps,
        "no_upscale": bucket_no_upscale,
    }
    said = {name: value for name, value in options.items() if value is not None}
    question = _of_job(job, train, config) if job else DoctorOptions(Path(folder), train, config, _buckets(config))
    if job and not job.classes:
        question = replace(question, redo_command=_command("redo", folder, output))
    question = replace(
        question,
        bucketing=replace(question.bucketing, **said),
        caption_ending=question.caption_ending if caption_extension is None else caption_extension,
        find_forbidden=_finder(job, folder, tuple(forbid or ())),
        quick=quick,
    )
    known: dict[Path, Any] | None = {} if fix else None
    with _bar("examining") as tell:
        found = examine(question, progress=tell, known=known)
    taken = 0
    if fix:
        before = _images(found)
        for done in apply_fixes(found):
            print(done, file=sys.stderr if as_json else sys.stdout)
        found = examine(question, known=known)
        taken = before - _images(found)
    then = _refill(taken, folder if job else "", output, found) if taken else ""
    if as_json:
        print(json.dumps({**doctor_report_data(found), "taken_out": taken}, indent=2, ensure_ascii=False))
        if then:
            print(then, file=sys.stderr)
    else:
        print(format_doctor_report(found, then))
    raise typer.Exit(COMPLETE if found.well and not taken else INCOMPLETE)


def _images(found: DoctorReport) -> int:
    """The number of images in the class folders, each folder counted once."""
    return sum({report.subset.folder: report.images for report in found.folders}.values())


def _refill(taken: int, job_file: str, output: Path | None, found: DoctorReport) -> str:
    """Words for images that were taken out, and the next command; ``job_file`` is empty for a plain folder."""
    from reggen.dataset.recorded import rehearsed

    what = "1 image was taken out of the set, and is" if taken == 1 else f"{taken:,} images were taken out, and are"
    if not job_file:
        return f"{what} missing now. Next: run the job that fills this folder again"
    rehearsal = any(rehearsed(report.subset.folder) for report in found.folders)
    return f"{what} missing now. Next: {_run_again(job_file, output, rehearsal=rehearsal)}"


def _buckets(config: Path | None) -> Bucketing:
    """What the trainer's command line says of buckets where nothing else is known."""
    from reggen.kohya.buckets import Bucketing

    return Bucketing((512, 512), enabled=config is None)


def _of_job(job: Job, train: Path | None, config: Path | None) -> DoctorOptions:
    """What a job says of its trainer; a training set that the command line names takes the place of the job's."""
    from reggen.diagnosis.scope import DoctorOptions

    dataset, training = job.dataset, job.training
    words = [block.tokens for block in job.classes] or [dataset.class_tokens]
    question = DoctorOptions(
        dataset.root,
        train,
        config,
        _buckets(config),
        job.captions.extension if job.captions.write != "none" else ".caption",
        expected_folders=frozenset(f"{dataset.repeats}_{one}" for one in words),
        near_duplicates=job.checks.duplicates,
    )
    if training is None:
        return question
    question = replace(question, bucketing=training.command_line_bucketing, caption_ending=training.caption_extension)
    if (train and not training.folder) or (config and not training.config):  # whether it has buckets is another matter
        return replace(question, bucketing=replace(question.bucketing, enabled=config is None))
    return question if train or config else replace(question, train=training.folder, config=training.config)


def _finder(job: Job | None, job_file: str, forbidden: tuple[str, ...]) -> Callable[[str], str | None] | None:
    """What says which forbidden word a text holds: one of the job's guard, or of the command line's."""
    from reggen.prepare.prepared_job import guard_of
    from reggen.prompts.guard import Guard

    allow = job.guard.allow if job else ()
    source = job_file
    try:
        guards = [guard_of(job.guard, job.trigger)] if job else []
        source = "the command line"
        guards.append(Guard(forbidden, allow=allow, key="--forbid"))
    except JobError as error:
        raise JobError(source, error.problems) from None
    guards = [guard for guard in guards if guard]
    if not guards:
        return None

    def find(text: str) -> str | None:
        return next((offence.forbidden for guard in guards if (offence := guard.find(text))), None)

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
