"""batch = "auto": the size of batch that a server makes fastest, found out once and kept."""

from __future__ import annotations

from typing import Any

import pytest

from reggen.engine.auto_batch import BatchTimes, sizes_for
from reggen.job.models import Job
from reggen.prepare.prepared_job import BATCH, prepare
from reggen.sim import Fault, Settings, Sim, serve
from tests.conftest import JobMaker, filled
from tests.invariants import assert_sound
from tests.ledgers import ledger_in


def auto(job: JobMaker, *sims: Sim, count: int = 40, **sampling: Any) -> Job:
    made = job(*(sim.url for sim in sims), dataset={"count": count}, sampling={"batch": "auto", **sampling})
    servers = tuple(server.model_copy(update={"keep_history": True}) for server in made.servers)
    return made.model_copy(update={"servers": servers})


def kept(one: Job) -> Any:
    with ledger_in(one.dataset.state) as ledger:
        return ledger.facts.get(BATCH)


def batches(sim: Sim) -> list[int]:
    """Of every prompt that it ended, in turn."""
    graphs = (entry["prompt"][2] for entry in sim.world.history.values())
    nodes = (node for graph in graphs for node in graph.values())
    return [node["inputs"]["batch_size"] for node in nodes if node["class_type"] == "EmptyLatentImage"]


async def test_where_batches_are_faster_they_are_used_and_kept(job: JobMaker) -> None:
    """A prompt of this server costs 60 ms however many images it makes. Another run measures nothing."""
    async with serve(Settings(seconds=0.0, prompt_seconds=0.06)) as sim:
        one = auto(job, sim)
        told = await filled(one)
        assert told.summary.exit_code == 0
        assert kept(one) == 4, "forty images may cost eight: one to load the model, and 1, 2 and 4"
        assert batches(sim) == [1, 1, 2, 4, *[4] * 10]
        assert told.notes[0].startswith("finding out which batch"), "minutes may go by, and nobody is to wonder"
        assert any("batch = 4" in note for note in told.notes)
        (prepared,) = prepare(one, "job.toml")
        assert_sound(prepared)
        await filled(auto(job, sim, count=48))
        assert batches(sim)[14:] == [4, 4]


async def test_what_does_not_fit_is_not_used(job: JobMaker) -> None:
    """Three images of a prompt fit: four are tried once, memory is freed, and it is two."""
    async with serve(Settings(seconds=0.0, prompt_seconds=0.05, largest_batch=3)) as sim:
        one = auto(job, sim)
        await filled(one)
        assert kept(one) == 2
        assert sim.count("POST", "/free") >= 1
        assert max(batches(sim)[4:]) == 2


async def test_several_servers_get_the_batch_that_is_good_for_all(job: JobMaker) -> None:
    """The smaller one decides."""
    large = Settings(seconds=0.0, prompt_seconds=0.06)
    small = Settings(seconds=0.0, prompt_seconds=0.06, largest_batch=1)
    async with serve(large) as first, serve(small) as second:
        one = auto(job, first, second, count=40)
        await filled(one)
        assert kept(one) == 1
        assert_sound(one)


async def test_a_server_that_breaks_meanwhile_is_left_out_and_the_run_goes_on(job: JobMaker) -> None:
    """Nothing is kept where nothing was found out; the images are made one by one."""
    async with serve(Settings(seconds=0.0)) as sim:
        sim.add(Fault("fail", times=1))
        one = auto(job, sim)
        told = await filled(one)
        assert told.summary.exit_code == 0
        assert kept(one) is None
        assert sim.world.remaining == 0
        assert_sound(one)


async def test_a_small_job_measures_nothing(job: JobMaker) -> None:
    """Sixteen images are made before it would pay."""
    async with serve(Settings(seconds=0.0)) as sim:
        one = auto(job, sim, count=16)
        told = await filled(one)
        assert batches(sim) == [1] * 16
        assert told.notes == []


@pytest.mark.parametrize(("missing", "sizes"), [(16, []), (17, [1, 2, 4]), (160, [1, 2, 4]), (640, [1, 2, 4, 8, 16])])
def test_it_costs_a_small_part_of_what_is_to_be_made(missing: int, sizes: list[int]) -> None:
    """At most a twentieth, or eight images."""
    assert list(sizes_for(missing)) == sizes


def test_the_smallest_that_is_nearly_as_fast_is_taken() -> None:
    """A larger batch that saves less than 5 % only costs memory, and more when it fails."""
    assert BatchTimes("a", {1: 1.0, 2: 0.8, 4: 0.77, 8: 0.9}).best == 2
    assert BatchTimes("a", {1: 1.0, 2: 0.96, 4: 1.1}).best == 1
