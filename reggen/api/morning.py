"""The morning report of a job: what its datasets show, as a page."""

from __future__ import annotations

from pathlib import Path

from reggen.api.commands import command, run_again
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.report.morning.next_steps import NextSteps


def morning_report(job: Job, to: str | Path | None = None) -> list[Path]:
    """Write the report of a job's datasets, and return the files. Blocking.

    Left out, ``to`` is ``.reggen/CLASS/report.html`` of each class, with contact-sheet.jpg beside it. Raises JobError
    and StorageError.
    """
    from reggen.report.morning.page import write_morning_report  # noqa: PLC0415 - a run imports this module

    return write_morning_report(prepare(job, job.source), job.source, next_steps(job), Path(to) if to else None)


def next_steps(job: Job) -> NextSteps:
    """The commands that the report offers."""
    return NextSteps(run_again(job, rehearsal=False), command("doctor", job) or "reggen.doctor(job)")
