"""Judgement of images that are there: reject them by number, or have their captions written again. Blocking."""

from __future__ import annotations

from collections.abc import Sequence

from reggen.dataset import captioning
from reggen.dataset import reject as rejecting
from reggen.dataset.captioning import CaptionChanges
from reggen.dataset.ledger import Ledger
from reggen.dataset.reject import RejectResult
from reggen.errors import JobError, Problem
from reggen.job.models import Job
from reggen.prepare.prepared_job import PreparedJob, prepare


def reject(
    job: Job, numbers: Sequence[int | str], *, class_tokens: str | None = None, why: str = "rejected by hand"
) -> RejectResult:
    """Reject images by number, as deleting their files does: the next run makes others, with other seeds.

    Numbers are those of the file names, also as ranges: 17, "42-45". ``class_tokens`` names the class where the job
    has several. Raises JobError, DatasetLocked and StorageError.
    """
    prepared = _one_class(job, class_tokens)
    indices = rejecting.parse_slots([str(one) for one in numbers], len(prepared.plan))
    return rejecting.reject(prepared.dataset, prepared.plan, indices, why)


def reject_outdated(job: Job, *, class_tokens: str | None = None, why: str = "outdated") -> RejectResult:
    """Reject the images that were made with other settings than the job has now, as `reject` does."""
    prepared = _one_class(job, class_tokens)
    indices: list[int] = []
    if ledger := Ledger.read(prepared.dataset.state):
        with ledger:
            found = ledger.slots.other_recipes(prepared.recipe, len(prepared.plan))
            indices = [index for numbers in found for index in numbers]
    return rejecting.reject(prepared.dataset, prepared.plan, indices, why) if indices else RejectResult((), ())


def purge(job: Job, *, class_tokens: str | None = None) -> int:
    """Delete the images that were set aside, and return their number. Raises JobError, DatasetLocked, StorageError."""
    return rejecting.purge(_one_class(job, class_tokens).dataset)


def recaption(job: Job, *, class_tokens: str | None = None) -> CaptionChanges:
    """Write the captions of all finished images as captions.write says now; other texts are set aside.

    Raises JobError, DatasetLocked and StorageError.
    """
    prepared = _one_class(job, class_tokens)
    return captioning.rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard)


def _one_class(job: Job, class_tokens: str | None) -> PreparedJob:
    """The class that was named, or the only one."""
    classes = prepare(job, job.source)
    words = [prepared.dataset.class_tokens for prepared in classes]
    if class_tokens is None and len(classes) == 1:
        return classes[0]
    if class_tokens not in words:
        raise JobError("the command line", (Problem("--class", f"is one of {', '.join(words)}"),))
    return classes[words.index(class_tokens)]
