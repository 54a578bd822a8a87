"""The last line of a check: Ready, or Cannot run and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reggen.engine.preflight import ServerCheck
from reggen.engine.requirements import mib
from reggen.report.check_report import LocalCheck
from reggen.wording import plural


def format_verdict(
    local: LocalCheck, servers: Sequence[ServerCheck], unstartable: Mapping[str, str], *, can_run: bool, then: str
) -> str:
    """One sentence on whether a job can run, with the first reason in the words of the job file where it cannot.

    ``then`` is the command that runs it.
    """
    if can_run:
        return f"Ready{_on_how_many(servers)}. Make the images with:\n  {then}"
    reasons = [*_local_reasons(local), *_server_reasons(servers, unstartable)]
    more = f" ({plural(len(reasons) - 1, 'more reason')} above)" if len(reasons) > 1 else ""
    return f"Cannot run: {reasons[0] if reasons else 'no server can be used'}{more}"


def _on_how_many(servers: Sequence[ServerCheck]) -> str:
    ready = sum(one.ready for one in servers)
    return f" on {ready} of {len(servers)} servers" if 0 < ready < len(servers) else ""


def _local_reasons(local: LocalCheck) -> list[str]:
    room = (
        f"the disk of dataset.root has {mib(local.free_bytes)} free, and dataset.count needs about "
        f"{mib(local.needed_bytes)}"
    )
    return [*local.blockers, *([] if local.has_room else [room])]


def _server_reasons(servers: Sequence[ServerCheck], unstartable: Mapping[str, str]) -> list[str]:
    """Reasons why no server can be used; problems of those that answer go before absences."""
    unfit = dict.fromkeys(problem for one in servers for problem in one.problems)
    if unfit:
        return list(unfit)
    if unstartable:
        return [f"ComfyUI cannot be started: {why}" for why in unstartable.values()]
    if any(one.ready for one in servers):
        return []
    away = [f"{one.server} ({one.away})" for one in servers if one.away]
    remedy = "start ComfyUI, correct servers in the job, or name one with --server URL"
    return [f"no server answers: {away[0]}; {remedy}"] if away else []
