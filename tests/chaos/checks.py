"""Checks after a night, whatever happened in it, beyond those after every run (`tests.invariants`)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row
from reggen.job.models import Job
from reggen.sim import Mark, Sim, read_mark
from tests.chaos.nights import Night
from tests.invariants import assert_sound
from tests.preparing import plan_of

_DRAINED = 5.0  # seconds in which a stand-in works off what a dead run has left behind


def rows_of(job: Job) -> list[Row]:
    """The rows in the ledger; none if there is no ledger yet."""
    ledger = Ledger.read(job.dataset.state)
    if ledger is None:
        return []
    with ledger:
        return list(ledger.slots.walk("done", "given_up", "rejected"))


def assert_settled(job: Job, report: Mapping[str, Any]) -> None:
    """Check a run that has ended of itself: every slot is done or given up, and its report agrees."""
    assert_sound(job)
    assert_marked(job)
    states = Counter(row.state for row in rows_of(job))
    given_up = {row.name: row.reason for row in rows_of(job) if row.state == "given_up"}
    assert report["wanted"] == job.dataset.count
    assert report["wanted"] == report["kept"] + report["missing"]
    assert report["kept"] == report["there_before"] + report["made"] == states["done"]
    assert report["given_up"] == given_up
    assert report["missing"] == len(given_up)
    assert all(given_up.values()), "a slot was given up without a reason"
    assert report["exit_code"] == (1 if given_up else 0)
    assert report["ended_early"] is None
    by_server = {name: server["made"] for name, server in report["servers"].items()}
    assert sum(by_server.values()) == report["made"], f"{report['made']} made, but {by_server}: {report}"


def assert_marked(job: Job) -> None:
    """Check that every picture shows its own slot and take, in any format."""
    folder, plan = Folder(job.dataset), plan_of(job)
    for row in rows_of(job):
        if row.state != "done":
            continue
        sample = plan.sample(row.idx, row.take)
        assert sample.size is not None
        wanted = Mark.of(sample.positive or "", sample.seed, *sample.size, sample.position)
        assert read_mark(folder.file(row.name).read_bytes()) == wanted, f"{row.name} shows another picture"


async def assert_nothing_left(sims: Sequence[Sim]) -> None:
    """Check that no prompt stays queued or running on a server.

    A run that was killed took nothing back, so the servers get time to work off their queues.
    """
    try:
        async with asyncio.timeout(_DRAINED):
            while any(sim.listening and sim.world.remaining for sim in sims):
                await asyncio.sleep(0.01)
    except TimeoutError:
        left = {sim.url: sim.world.remaining for sim in sims if sim.world.remaining}
        raise AssertionError(f"prompts are left on the servers: {left}") from None


def assert_paid_once(night: Night, sims: Sequence[Sim], cut_short: int) -> None:
    """Check that no prompt was executed without need.

    One is needed for each batch. Beyond that, each fault that struck may cost `Night.cost` prompts, and each of the
    `cut_short` runs all that it had in hand.
    """
    executed = sum(sim.executed for sim in sims)
    needed = math.ceil(night.count / night.batch)
    explained = sum(night.cost(fault) * times for fault, times in struck(sims).items())
    most = needed + explained + cut_short * night.in_hand
    assert executed <= most, (
        f"{executed} prompts were executed; {needed} were needed, {cut_short} runs cut short, "
        f"and the faults explain {explained}: {dict(struck(sims))}"
    )


def struck(sims: Sequence[Sim]) -> Counter[Any]:
    """The number of times that each fault has struck."""
    found: Counter[Any] = Counter()
    for sim in sims:
        for armed in sim.director.armed:
            found[armed.fault] += armed.fired
    return +found
