"""The status of a job's datasets, beside a run or without one."""

from __future__ import annotations

from dataclasses import dataclass

from reggen.api.commands import redo_outdated
from reggen.api.readable import Readable
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.report.status import DatasetStatus, format_status, read_status


@dataclass(frozen=True)
class JobStatus(Readable):
    """Progress of a job's datasets, one for each class. Counts are of images."""

    classes: tuple[DatasetStatus, ...]
    text: str

    @property
    def wanted(self) -> int:
        """Images that the finished datasets have."""
        return sum(one.wanted for one in self.classes)

    @property
    def done(self) -> int:
        """Images that are made."""
        return sum(one.done for one in self.classes)

    @property
    def missing(self) -> int:
        """Images still to be made."""
        return self.wanted - self.done


def status(job: Job) -> JobStatus:
    """The progress of a job: done, missing, given up, rejected. Blocking. Raises JobError and StorageError."""
    prepared = prepare(job, job.source)
    classes = tuple(read_status(one.dataset, one.recipe) for one in prepared)
    words = redo_outdated(job, prepared)
    return JobStatus(classes, "\n".join(map(format_status, classes, words)))
