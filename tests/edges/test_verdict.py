"""The last line of a check: one verdict, in the words of the job file."""

from __future__ import annotations

import reggen
from reggen.engine.preflight import ServerCheck
from reggen.report.check_report import LocalCheck
from reggen.report.verdict import format_verdict
from reggen.sim import Settings, serve
from tests.conftest import JobMaker

ROOM = LocalCheck(1 << 20, 1 << 30, ())


async def verdict(one: reggen.Job) -> str:
    return str(await reggen.check(one)).splitlines()[-1]


async def test_a_job_that_can_run_is_ready_and_the_command_is_told(job: JobMaker) -> None:
    """To be pasted."""
    async with serve(Settings()) as sim:
        text = str(await reggen.check(job(sim.url)))
    assert text.splitlines()[-2:] == ["Ready. Make the images with:", "  reggen.run(job)"]


async def test_a_wrong_sampler_is_told_under_its_key(job: JobMaker) -> None:
    """Not as an input of a node that its author never saw."""
    async with serve(Settings()) as sim:
        last = await verdict(job(sim.url, sampling={"sampler": "euler_a"}))
    assert last == (
        "Cannot run: sampling.sampler: 'euler_a' is not in the server's list; ComfyUI calls it 'euler_ancestral'"
    )


async def test_an_absent_checkpoint_lists_those_there_are(job: JobMaker) -> None:
    """No guess among files that have nothing in common; the reasons above are counted."""
    async with serve(Settings(checkpoints=("other.safetensors", "more.safetensors"))) as sim:
        last = await verdict(job(sim.url, sampling={"sampler": "euler_a"}))
    assert last.startswith("Cannot run: sampling.checkpoint: ")
    assert last.endswith(
        "is not in the server's list; it has other.safetensors, more.safetensors (1 more reason above)"
    )


async def test_without_a_server_the_verdict_says_how_to_get_one(job: JobMaker) -> None:
    """The key, and the option."""
    assert await verdict(job("http://127.0.0.1:9")) == (
        "Cannot run: no server answers: 127.0.0.1:9 (connection refused (is ComfyUI running there?)); "
        "start ComfyUI, correct servers in the job, or name one with --server URL"
    )


def test_servers_that_cannot_are_counted_where_others_can() -> None:
    """The run leaves them out."""
    servers = [ServerCheck("a"), ServerCheck("b", away="connection refused")]
    assert format_verdict(ROOM, servers, {}, can_run=True, then="go").startswith("Ready on 1 of 2 servers. ")


def test_a_full_disk_and_a_blocked_folder_are_reasons() -> None:
    """In the keys that can change it."""
    full = LocalCheck(4 << 30, 1 << 30, ())
    told = format_verdict(full, [ServerCheck("a")], {}, can_run=False, then="go")
    assert told == "Cannot run: the disk of dataset.root has 1,024 MiB free, and dataset.count needs about 4,096 MiB"
    blocked = LocalCheck(1, 1 << 30, ("/x is not writable",))
    assert format_verdict(blocked, [ServerCheck("a")], {}, can_run=False, then="go") == "Cannot run: /x is not writable"
