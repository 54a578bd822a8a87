"""Jobs of one class, prepared for a test or a bench."""

from __future__ import annotations

from reggen.job.models import Job
from reggen.planning.plan import Plan
from reggen.prepare.prepared_job import PreparedJob, prepare


def prepared_of(job: Job) -> PreparedJob:
    """The only class of a job."""
    (prepared,) = prepare(job, "test.toml")
    return prepared


def plan_of(job: Job) -> Plan:
    """The plan of its only class."""
    return prepared_of(job).plan
