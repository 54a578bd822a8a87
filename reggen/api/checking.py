"""The preflight of a job: can it run, here and now?"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from reggen.api.commands import run_again
from reggen.api.from_sync import wait_for
from reggen.api.readable import Readable
from reggen.comfy.client import Client
from reggen.dataset.folder import Folder
from reggen.engine.clients import connected
from reggen.engine.model_proposals import proposals
from reggen.engine.preflight import ServerCheck, examine, unfit
from reggen.engine.supervisor import launch_problems
from reggen.engine.threads import Threads
from reggen.errors import BAD_JOB, COMPLETE, NO_SERVER, STORAGE
from reggen.job.models import Job
from reggen.job.servers import Server
from reggen.prepare.prepared_job import PreparedJob, prepare
from reggen.report.check_report import check_locally, format_check
from reggen.report.notify import Notices
from reggen.report.verdict import format_verdict
from reggen.workflow.template import Template


@dataclass(frozen=True)
class CheckReport(Readable):
    """The findings of a preflight. ``servers`` has one finding for each server; ``exit_code`` is `reggen check`'s."""

    servers: tuple[ServerCheck, ...]
    exit_code: int
    text: str
    verdict: str = ""

    @property
    def ready(self) -> bool:
        """True when a run can begin."""
        return self.exit_code == COMPLETE


async def check(job: Job) -> CheckReport:
    """Check that a job can run: servers, node classes, models, samplers, notifications, disk. Makes nothing.

    Raises JobError where the job itself is at fault, and StorageError.
    """
    threads = Threads(1, "reggen-check", job.dataset.root)
    try:
        classes = await threads.do(partial(_prepare, job))
        first = classes[0]
        async with connected(first.servers, first.limits, job.source) as clients:
            servers = await examine(clients, first.template)
            proposed = await _proposed(job, clients, servers, first.template)
            unstartable = await launch_problems(first.servers, Folder(first.dataset))
        local = await threads.do(partial(check_locally, classes))
    finally:
        await threads.close()
    code = _servers_code(first.servers, servers, unstartable) or (COMPLETE if local.passed else STORAGE)
    found = format_check(first, job.source, local, servers, unstartable, proposed=proposed)
    then = run_again(job, rehearsal=False)
    verdict = format_verdict(local, servers, unstartable, can_run=code == COMPLETE, then=then)
    return CheckReport(tuple(servers), code, f"{found}\n{verdict}", verdict)


def check_sync(job: Job) -> CheckReport:
    """Check a job, from code that is not asynchronous; in a notebook too, whose event loop is running."""
    return wait_for(partial(check, job), interrupt=lambda: None)


async def _proposed(
    job: Job, clients: Sequence[Client], servers: Sequence[ServerCheck], template: Template
) -> dict[str, tuple[str, ...]]:
    """Lines for the job file from the models of each server that answers, by server name."""
    answering = [client for client, one in zip(clients, servers, strict=True) if not one.away]
    if job.workflow:
        return {}
    return {one.name: await proposals(one, template.checkpoints, job.sampling.family) for one in answering}


def _prepare(job: Job) -> tuple[PreparedJob, ...]:
    """Read what the job refers to. Blocking. Raises JobError."""
    classes = prepare(job, job.source)
    Notices(job.notify, job.source, os.environ)  # raises where its addresses cannot be used
    return classes


def _servers_code(servers: Sequence[Server], checked: Sequence[ServerCheck], unstartable: Collection[str]) -> int:
    """The exit code where no server can be used, else 0; one that a run would start is as good as one that is ready."""
    if unstartable and len(servers) == 1:  # a run would not even ask it
        return NO_SERVER
    started_here = {server.name for server in servers if server.launch} - set(unstartable)
    if any(one.ready or (one.away and one.server in started_here) for one in checked):
        return COMPLETE
    return BAD_JOB if unfit(checked) else NO_SERVER
