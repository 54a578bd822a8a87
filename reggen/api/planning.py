"""The plan of a job: every image it will have, computed without a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from reggen.api.commands import redo_outdated
from reggen.api.readable import Readable, pre, table
from reggen.job.dataset import ClassDataset
from reggen.job.models import Job
from reggen.planning.plan import Sample
from reggen.prepare.prepared_job import PreparedJob, prepare
from reggen.report.plan_preview import format_plan
from reggen.wording import plural

_SHOWN = 10  # samples of each class


@dataclass(frozen=True, repr=False)
class JobPlan(Readable):
    """The images of a job, class after class: `len`, iteration and indices from 0 give their samples.

    Samples are computed when they are asked for, so that a plan of a million costs nothing. ``text`` is what
    `reggen plan` prints, with the state of the dataset and the disk when the plan was made.
    """

    source: str
    classes: tuple[PreparedJob, ...]
    text: str

    @property
    def datasets(self) -> tuple[ClassDataset, ...]:
        """The dataset of each class: folder, class tokens, and the count, also where the job says "match"."""
        return tuple(one.dataset for one in self.classes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what a trainer would want to know; each once."""
        return tuple(dict.fromkeys(warning for one in self.classes for warning in one.warnings))

    def __len__(self) -> int:
        return sum(len(one.plan) for one in self.classes)

    def __iter__(self) -> Iterator[Sample]:
        return (sample for one in self.classes for sample in one.plan)

    def __getitem__(self, index: int) -> Sample:
        place = index + len(self) if index < 0 else index
        for one in self.classes:
            if 0 <= place < len(one.plan):
                return one.plan[place]
            place -= len(one.plan)
        raise IndexError(index)

    def __repr__(self) -> str:
        return f"<JobPlan of {self.source}: {plural(len(self), 'image')}>"

    def _repr_html_(self) -> str:
        head = ("class", "name", "seed", "size", "prompt")
        rows = [
            (one.dataset.class_tokens, sample.name, sample.seed, _size(sample), sample.positive or "the workflow's")
            for one in self.classes
            for sample in islice(one.plan, _SHOWN)
        ]
        above = [f"{self.source}: {plural(len(self), 'image')}", *(f"WARNING {warning}" for warning in self.warnings)]
        return pre("\n".join(above)) + table(head, rows)


def plan(job: Job) -> JobPlan:
    """Compute what a job would make: count, sizes, seeds, prompts, disk. Blocking; needs no server.

    Raises JobError where something that the job refers to cannot be used, and StorageError.
    """
    classes = prepare(job, job.source)
    redo = redo_outdated(job, classes)
    texts = (format_plan(one, job.source, words) for one, words in zip(classes, redo, strict=True))
    return JobPlan(job.source, classes, "\n".join(texts))


def _size(sample: Sample) -> str:
    return "{} x {}".format(*sample.size) if sample.size else "the workflow's"
