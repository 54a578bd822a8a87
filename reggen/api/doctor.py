"""Examine a regularization set exactly as kohya's trainer will read it, and fix what can be fixed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reggen.api.commands import command, run_again
from reggen.api.readable import Readable
from reggen.dataset.recorded import rehearsed
from reggen.diagnosis.doctor import examine
from reggen.diagnosis.fixes import apply_fixes
from reggen.diagnosis.inspection import InspectedImage
from reggen.diagnosis.model import DoctorReport
from reggen.diagnosis.scope import DoctorOptions
from reggen.errors import JobError, Problem
from reggen.job.models import Job
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules
from reggen.prepare.prepared_job import guard_of
from reggen.prompts.guard import Guard
from reggen.report.doctor_report import doctor_report_data, format_doctor_report

Folder = str | os.PathLike[str]


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True)
class Examination(Readable):
    """The findings about a set. ``text`` is what `reggen doctor` prints.

    ``fixed`` are sentences about what was fixed; ``taken_out`` is the number of images that this moved out of the set,
    and ``then`` says how to replace them.
    """

    report: DoctorReport
    fixed: tuple[str, ...]
    taken_out: int
    then: str
    text: str

    @property
    def well(self) -> bool:
        """True when there is neither an error nor a warning, and no image was taken out."""
        return self.report.well and not self.taken_out

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**doctor_report_data(self.report), "taken_out": self.taken_out}


def doctor(  # wide: kohya's own options, by their names
    target: Folder | Job,
    *,
    train: Folder | None = None,
    config: Folder | None = None,
    resolution: tuple[int, int] | None = None,
    min_bucket_reso: int | None = None,
    max_bucket_reso: int | None = None,
    bucket_reso_steps: int | None = None,
    bucket_no_upscale: bool | None = None,
    enable_bucket: bool | None = None,
    caption_extension: str | None = None,
    forbid: Iterable[str] = (),
    quick: bool = False,
    fix: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_fix: Callable[[str], None] = _ignore,
) -> Examination:
    """Examine a regularization set: any folder given as --reg_data_dir, or the one that a job fills. Blocking.

    A job knows the options of its trainer; options given here replace them, and ``forbid`` adds to its guard. ``quick``
    reads headers only. ``fix`` fixes what can be fixed without a loss, then examines again. ``on_progress`` gets the
    images done and in all; ``on_fix`` gets each sentence of ``fixed`` at once. Raises JobError and StorageError.
    """
    buckets: dict[str, Any] = {
        "resolution": resolution,
        "is_known": None if resolution is None else True,
        "enabled": enable_bucket,
        "min_reso": min_bucket_reso,
        "max_reso": max_bucket_reso,
        "steps": bucket_reso_steps,
        "no_upscale": bucket_no_upscale,
    }
    options = _options(target, _path(train), _path(config))
    options = replace(
        options,
        bucketing=replace(options.bucketing, **{name: value for name, value in buckets.items() if value is not None}),
        captions=_captions(options, caption_extension),
        find_forbidden=_finder(target, tuple(forbid)),
        quick=quick,
    )
    job = target if isinstance(target, Job) else None
    if not fix:
        report = examine(options, progress=on_progress)
        return Examination(report, (), 0, "", format_doctor_report(report))
    return _examined_and_fixed(options, job, on_progress, on_fix)


def _captions(options: DoctorOptions, ending: str | None) -> CaptionRules:
    return options.captions if ending is None else replace(options.captions, ending=ending)


def _path(given: Folder | None) -> Path | None:
    return None if given is None else Path(given)


def _examined_and_fixed(
    options: DoctorOptions,
    job: Job | None,
    on_progress: Callable[[int, int], None] | None,
    on_fix: Callable[[str], None],
) -> Examination:
    known: dict[Path, InspectedImage] = {}
    report = examine(options, progress=on_progress, known=known)
    images, fixed = _images(report), list[str]()
    for done in apply_fixes(report):
        on_fix(done)
        fixed.append(done)
    report = examine(options, known=known)
    taken_out = images - _images(report)
    then = _refill(taken_out, job, report) if taken_out else ""
    return Examination(report, tuple(fixed), taken_out, then, format_doctor_report(report, then))


def _images(report: DoctorReport) -> int:
    """The number of images in the class folders, each folder counted once."""
    return sum({one.subset.folder: one.images for one in report.folders}.values())


def _refill(taken_out: int, job: Job | None, report: DoctorReport) -> str:
    """Say how images that were taken out are replaced."""
    what = (
        "1 image was taken out of the set, and is"
        if taken_out == 1
        else f"{taken_out:,} images were taken out, and are"
    )
    if job is None:
        return f"{what} missing now. Next: run the job that fills this folder again"
    rehearsal = any(rehearsed(one.subset.folder) for one in report.folders)
    return f"{what} missing now. Next: {run_again(job, rehearsal=rehearsal)}"


def _options(target: Folder | Job, train: Path | None, config: Path | None) -> DoctorOptions:
    """The options as far as the target decides on them. Raises JobError."""
    if not isinstance(target, Job):
        return DoctorOptions(Path(target), train, config, _buckets(config))
    if not target.dataset.root.exists():
        hint = f"run it first: {run_again(target, rehearsal=False)}"
        raise JobError(target.source, (Problem("dataset.root", f"there is no folder {target.dataset.root} yet", hint),))
    options = _of_job(target, train, config)
    return options if target.classes else replace(options, redo_command=command("redo", target))


def _of_job(job: Job, train: Path | None, config: Path | None) -> DoctorOptions:
    """The options that a job has for its trainer; a training set given here takes the place of the job's."""
    dataset, training = job.dataset, job.training
    words = [block.tokens for block in job.classes] or [dataset.class_tokens]
    options = DoctorOptions(
        dataset.root,
        train,
        config,
        _buckets(config),
        CaptionRules(job.captions.extension if job.captions.write != "none" else ".caption"),
        expected_folders=frozenset(f"{dataset.repeats}_{one}" for one in words),
        near_duplicates=job.checks.duplicates,
    )
    if training is None:
        return options
    options = replace(options, bucketing=training.command_line_bucketing, captions=training.command_line_captions)
    options = replace(options, validation=training.command_line_validation)
    if (train and not training.folder) or (config and not training.config):  # whether it has buckets is another matter
        return replace(options, bucketing=replace(options.bucketing, enabled=config is None))
    if train or config:
        return options
    return replace(options, train=training.folder, config=training.config, repeats=training.repeats)


def _buckets(config: Path | None) -> Bucketing:
    """The buckets of a trainer of which nothing else is known."""
    return Bucketing((512, 512), enabled=config is None, is_known=False)


def _finder(target: Folder | Job, forbidden: Sequence[str]) -> Callable[[str], str | None] | None:
    """A function that finds a forbidden word in a text: one of the job's guard, or one given here."""
    job = target if isinstance(target, Job) else None
    source = job.source if job else ""
    try:
        guards = [guard_of(job.guard, job.trigger)] if job else []
        source = "the command line"
        guards.append(Guard(forbidden, allow=job.guard.allow if job else (), key="--forbid"))
    except JobError as error:
        raise JobError(source, error.problems) from None
    guards = [guard for guard in guards if guard]
    if not guards:
        return None

    def find(text: str) -> str | None:
        return next((offence.forbidden for guard in guards if (offence := guard.find(text))), None)

    return find
