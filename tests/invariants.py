"""The invariants of a dataset, which hold after every run, whatever went wrong in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reggen.dataset.caption_files import CAPTIONS
from reggen.dataset.folder import Folder
from reggen.job.models import Job
from reggen.planning.plan import Plan
from reggen.prepare.prepared_job import PreparedJob
from reggen.sim import Mark, read_mark
from tests.ledgers import ledger_in
from tests.preparing import plan_of


def assert_sound(job: Job | PreparedJob, plan: Plan | None = None, *, complete: bool = True) -> None:
    """Check a dataset that the stand-in painted.

    Each slot is done or given up, once; files and ledger agree; every hash matches; every picture is the right one for
    its slot and take; no part file is left. `complete`: every slot is settled.
    """
    folder, plan = Folder(job.dataset), plan or (plan_of(job) if isinstance(job, Job) else job.plan)
    with ledger_in(folder.state) as ledger:
        done = list(ledger.slots.walk("done", stop=len(plan)))
        given_up = list(ledger.slots.walk("given_up", stop=len(plan)))
    settled = [row.idx for row in (*done, *given_up)]
    assert len(settled) == len(set(settled))
    if complete:
        assert sorted(settled) == list(range(len(plan)))
    assert {f"{row.name}.{job.dataset.format}" for row in done} == {
        file.name for file in folder.images.iterdir() if file.suffix not in CAPTIONS
    }
    for row in done:
        sample = plan.sample(row.idx, row.take)
        file = folder.file(row.name)
        made_of: tuple[int | None, str | None] = (sample.seed, sample.positive)
        if row.reason == "adopted" and not job.dataset.keeps_metadata:
            made_of = (None, None)  # there is no note in the image to adopt
        assert (row.name, row.seed, row.positive) == (sample.name, *made_of)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row.sha256
        if job.dataset.format == "png":
            assert sample.size is not None
            mark = Mark.of(sample.positive or "", sample.seed, *sample.size, sample.position)
            assert read_mark(file.read_bytes()) == mark, f"{file.name} shows another picture"
    assert parts(job) == []


def parts(job: Job | PreparedJob) -> list[Path]:
    """Part files: images that were not finished."""
    return [*job.dataset.state.glob("parts/*"), *job.dataset.folder.glob("*.part")]
