"""The receivers of a job's notices, tried once."""

from __future__ import annotations

import os
from dataclasses import dataclass

from reggen.api.readable import Readable
from reggen.errors import COMPLETE, INCOMPLETE, JobError, Problem
from reggen.job.models import Job
from reggen.report.notify import try_addresses


@dataclass(frozen=True)
class NoticesTried(Readable):
    """The result of a trial notice to each address: True where the service took it. ``exit_code`` is the command's."""

    taken: tuple[bool, ...]
    text: str

    @property
    def exit_code(self) -> int:
        """0 where every service took the notice, else 1."""
        return COMPLETE if all(self.taken) else INCOMPLETE


def notify(job: Job) -> NoticesTried:
    """Send a trial notice to each address in notify.urls. Blocking. Raises JobError for addresses that are unusable."""
    if not job.notify.urls:
        problem = Problem("notify.urls", "is missing", "write [notify], and below it urls = ['${NTFY}']")
        raise JobError(job.source, (problem,))
    taken = try_addresses(job.notify, job.source, os.environ)
    lines = [f"notify.urls[{at}]: {'sent' if one else 'NOT sent: ' + _WHY}" for at, one in enumerate(taken)]
    return NoticesTried(taken, "\n".join(lines))


_WHY = "the service refused it or was not reached; compare the address with Apprise's page on it"
