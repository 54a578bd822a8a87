"""A new run asks the servers for what an earlier one of its own has left there, before it pays for it again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

import pytest

from reggen.comfy.listings import OrphanedPrompt
from reggen.job.models import Job
from reggen.planning.plan import PromptRequest
from reggen.progress import PromptsTakenOver
from reggen.scheduler.fleet import Fleet
from reggen.sim import Fault, Script, Settings, Sim, serve
from tests.conftest import JobMaker, Told, eventually, filled
from tests.invariants import assert_sound

VERSIONS = ["0.33.0", "0.3.64", "2024-10", "2024-07"]


async def killed(job: Job, *sims: Sim, posts: int) -> None:
    """A run that ends after so many posts and takes nothing back, as if by kill -9; its servers go on."""
    before = _posted(sims)
    task = asyncio.create_task(filled(job))
    await eventually(lambda: _posted(sims) >= before + posts)
    for sim in sims:
        sim.add(Fault("status", "queue", times=1, status=502))  # the question what there is to be taken back
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _posted(sims: Iterable[Sim]) -> int:
    return sum(sim.count("POST", "/prompt") for sim in sims)


def taken_over(told: Told) -> list[str]:
    return sorted(name for event in told.events if isinstance(event, PromptsTakenOver) for name in event.names)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("batch", [1, 3])
async def test_what_is_done_or_queued_there_is_not_paid_for_again(job: JobMaker, version: str, batch: int) -> None:
    """The running and the waiting prompt of a killed run become images of the next, on servers of every age."""
    async with serve(Settings(seconds=0.4, version=version)) as sim:
        made = job(sim.url, sampling={"batch": batch})
        await killed(made, sim, posts=2)
        assert sim.world.remaining == 2
        told = await filled(made)
        assert_sound(made)
        assert len(taken_over(told)) == 2 * batch
        assert sim.count("POST", "/prompt") == 6 / batch
        assert sim.executed == 6 / batch


async def test_what_ended_meanwhile_is_fetched(job: JobMaker) -> None:
    """The server worked on after the run was dead: its pictures lie there, paid for."""
    async with serve(Settings(seconds=0.05)) as sim:
        made = job(sim.url)
        await killed(made, sim, posts=4)
        await eventually(lambda: not sim.world.remaining)
        told = await filled(made)
        assert told.summary.exit_code == 0
        assert_sound(made)
        assert taken_over(told)
        assert sim.executed == 6


async def test_each_server_is_asked_before_any_is_given_work(job: JobMaker) -> None:
    """What the slower one still holds is not handed to the faster one meanwhile."""
    async with serve(Settings(seconds=0.2)) as one, serve(Settings(seconds=0.2)) as other:
        made = job(one.url, other.url, dataset={"count": 8})
        await killed(made, one, other, posts=4)
        told = await filled(made)
        assert_sound(made)
        assert len(taken_over(told)) == 4
        assert one.executed + other.executed == 8


async def test_what_nobody_would_ask_for_today_is_taken_from_the_queue(job: JobMaker) -> None:
    """The prompts were changed between the runs: what the first one queued is not what is wanted now."""
    async with serve(Settings(seconds=0.3)) as sim:
        await killed(job(sim.url), sim, posts=2)
        changed = job(sim.url, prompts={"positive": "a horse"})
        told = await filled(changed)
        assert_sound(changed)
        assert taken_over(told) == []
        assert sim.world.remaining == 0
        assert sim.executed <= 1 + 6, "the running one may have got anywhere, the waiting one never ran"


async def test_other_datasets_and_other_people_keep_theirs(job: JobMaker) -> None:
    """Two datasets share a server: the one's prompts are none of the other's, though the slots are the same."""
    async with serve(Settings(seconds=0.3)) as sim:
        first, second = job(sim.url), job(sim.url, dataset={"class": "other"})
        await killed(second, sim, posts=2)
        await filled(second)
        await killed(first, sim, posts=2)
        before = [one.prompt_id for one in sim.requests if one.path == "/prompt"][-2:]
        told = await filled(job(sim.url, dataset={"class": "other", "count": 7}))
        assert taken_over(told) == []
        assert {sim.world.history[prompt_id]["status"]["status_str"] for prompt_id in before if prompt_id} == {
            "success"
        }


async def test_a_server_that_does_not_tell_is_used_all_the_same(job: JobMaker) -> None:
    """It answers no question about its history at the start: a few may be paid for twice, no image is lost."""
    async with serve(Settings(seconds=0.15)) as sim:
        made = job(sim.url)
        await killed(made, sim, posts=2)
        sim.add(Fault("status", "history", times=3, status=502))
        await filled(made, limit=60)
        assert_sound(made)


async def test_an_image_that_is_gone_is_made_again(job: JobMaker) -> None:
    """The history knows the prompt, but its file has been deleted."""
    async with serve(Settings(seconds=0.05)) as sim:
        made = job(sim.url)
        await killed(made, sim, posts=4)
        await eventually(lambda: not sim.world.remaining)
        sim.disk.files.clear()
        told = await filled(made)
        assert taken_over(told)
        assert told.summary.exit_code == 0
        assert_sound(made)


async def test_a_first_run_asks_nothing(job: JobMaker) -> None:
    """There is no earlier one."""
    async with serve(Settings(), Script()) as sim:
        await filled(job(sim.url))
        assert sim.count("GET", "/queue") == 0


async def test_a_run_whose_every_slot_was_orphans_ends(job: JobMaker) -> None:
    """Nothing is left to hand out, and nothing will happen any more: that is the end, not a wait."""
    async with serve(Settings(seconds=0.1)) as sim:
        made = job(sim.url, dataset={"count": 2})
        await killed(made, sim, posts=2)
        told = await filled(made, limit=10)
        assert told.summary.exit_code == 0
        assert len(taken_over(told)) == 2
        assert sim.executed == 2


async def test_a_run_ends_that_finds_out_only_after_a_rest_that_nothing_is_left(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was left behind, and the server rests while it is fetched: the look at the plan comes last, and is the end.

    Nothing happens after it, so a run that waits for something to happen waits for ever.
    """
    adopt = Fleet.adopt

    def adopt_and_rest(self: Fleet, name: str, request: PromptRequest, orphan: OrphanedPrompt) -> bool:
        taken = adopt(self, name, request, orphan)
        self.health.failed(name, time.monotonic(), at_least=1.0)
        return taken

    async with serve(Settings(seconds=0.05)) as sim:
        made = job(sim.url, dataset={"count": 2})
        await killed(made, sim, posts=2)
        monkeypatch.setattr(Fleet, "adopt", adopt_and_rest)
        told = await filled(made, limit=20)
        assert told.summary.exit_code == 0
        assert sim.executed == 2
