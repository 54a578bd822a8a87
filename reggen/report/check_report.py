"""The result of a check as text: can this job run, here and on its servers?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reggen.dataset.folder import Folder
from reggen.engine.preflight import ServerCheck
from reggen.engine.requirements import lasting, mib
from reggen.job.dataset import ClassDataset
from reggen.job.servers import Server
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.status import read_conflicts
from reggen.report.workflow_report import format_account
from reggen.wording import plural


@dataclass(frozen=True, slots=True)
class LocalCheck:
    """The checks of a job on this computer. ``blockers`` are reasons why a run could not write its datasets."""

    needed_bytes: int
    free_bytes: int
    blockers: tuple[str, ...]

    @property
    def has_room(self) -> bool:
        """True unless the disk is surely too small: the needed bytes are an estimate, and may be twice the truth."""
        return self.free_bytes >= self.needed_bytes / 2

    @property
    def passed(self) -> bool:
        """True when nothing here would stop a run."""
        return self.has_room and not self.blockers


def check_locally(prepared_jobs: Sequence[PreparedJob]) -> LocalCheck:
    """Check the disk and the folders of all classes of a job. Raises LedgerDamaged."""
    datasets = [prepared.dataset for prepared in prepared_jobs]
    return LocalCheck(
        sum(prepared.bytes_needed(len(prepared.plan)) for prepared in prepared_jobs),
        Folder(datasets[0]).free_bytes(),
        tuple(blocker for dataset in datasets for blocker in _blockers(dataset)),
    )


def _blockers(dataset: ClassDataset) -> Iterator[str]:
    folder = Folder(dataset)
    yield from map(str, read_conflicts(folder.state, lasting(dataset)))
    nearest = folder.images
    while not nearest.exists() and nearest.parent != nearest:
        nearest = nearest.parent
    if not nearest.is_dir():
        yield f"{nearest} is a file, not a folder"
    elif not os.access(nearest, os.W_OK):
        yield f"{nearest} is not writable"


def format_check(
    prepared: PreparedJob,
    job_file: str,
    local: LocalCheck,
    servers: Sequence[ServerCheck],
    unstartable: Mapping[str, str],
    *,
    proposed: Mapping[str, Sequence[str]],
) -> str:
    """The result of all checks, several lines; ``prepared`` is the first class of the job.

    ``unstartable`` has the reason for each server that reggen is to start and cannot, ``proposed`` what may be written
    into the job from the models of a server.
    """
    only = servers[0].server if len(servers) == 1 else ""
    blockers = (*local.blockers, *(why for server, why in unstartable.items() if server == only))
    disk = f"{mib(local.free_bytes)} free, about {mib(local.needed_bytes)} needed"
    lines = [f"{job_file}: the job file and its workflow are valid"]
    lines.append(f"  disk         {disk}" + ("" if local.has_room else ": NOT ENOUGH"))
    lines.extend(f"  BLOCKED      {blocker}" for blocker in blockers)
    lines.extend(f"  WARNING      {warning}" for warning in prepared.warnings)
    lines.extend(f"  prior        {note}" for note in prepared.prior)
    if prepared.workflow:
        lines.extend(f"  {line}" for line in format_account(prepared.template.graph, prepared.template.account))
    settings = {server.name: server for server in prepared.servers}
    for check in servers:
        why_not = unstartable.get(check.server, "")
        lines.append(f"  {check.server}  {_verdict(check, settings.get(check.server), why_not)}")
        lines.extend(f"      {line}" for line in why_not.splitlines() if not only)
        lines.extend(f"      {problem}" for problem in check.problems)
        lines.extend(f"      {one.input} {name!r} is used there" for one, name in check.files.items())
        lines.extend(f"      {line}" for one in proposed.get(check.server, ()) for line in one.splitlines())
    return "\n".join(lines)


def _verdict(check: ServerCheck, settings: Server | None, why_not: str) -> str:
    if check.away and settings and settings.launch and not why_not:
        return f"not running; `run` starts it from {settings.launch}"
    if check.away:
        return f"away: {check.away}"
    if check.problems:
        return f"ComfyUI {check.version}: cannot run this job"
    busy = f"; {plural(check.queue_depth, 'prompt')} queued there already" if check.queue_depth else ""
    return f"ComfyUI {check.version}: ready{busy}"
