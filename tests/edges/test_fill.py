"""Filling a dataset over real sockets: the stand-in on loopback, healthy and broken."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from reggen import progress
from reggen.comfy.timings import Timings
from reggen.dataset.folder import Folder
from reggen.dataset.lock import locked
from reggen.dataset.rows import Row
from reggen.engine.control import Observers, RunControl, RunOptions
from reggen.engine.fill import fill_dataset
from reggen.engine.summary import BY_USER, Summary
from reggen.errors import DatasetLocked, JobError, NoUsableServer
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.sim import Fault, Script, Settings, Sim, paint, serve
from tests.answering import answering
from tests.conftest import RUN_TIMINGS, JobMaker, Told, eventually, filled
from tests.invariants import assert_sound, parts
from tests.ledgers import ledger_in
from tests.preparing import plan_of

QUICK = Settings(seconds=0.02)


def requests(sim: Sim, since: int = 0) -> Counter[str]:
    """How often each kind of request was answered: ids cut off, the socket left out."""
    kinds: Counter[str] = Counter()
    for one in sim.requests[since:]:
        path = one.path.removeprefix("/api")
        kinds[f"{one.method} {'/' + path.split('/')[1]}"] += 1
    return kinds


def rows(job: Job, *states: str) -> list[tuple[str, int, int | None]]:
    with ledger_in(job.dataset.state) as ledger:
        return [(row.name, row.take, row.seed) for row in ledger.slots.walk(*states)]


async def test_a_job_becomes_a_finished_dataset(job: JobMaker) -> None:
    """Every slot has its picture, under the plan's name, with a row that tells all about it."""
    async with serve(QUICK) as sim:
        told = await filled(one := job(sim.url))
        assert_sound(one)
        assert (told.summary.exit_code, told.summary.made, told.summary.missing) == (0, 6, 0)
        assert sorted(file.name for file in one.dataset.folder.iterdir()) == [f"reg_{n:03d}.png" for n in range(1, 7)]
        with ledger_in(one.dataset.state) as ledger:
            row = next(ledger.slots.walk("done"))
        assert (row.positive, row.negative, row.width, row.height) == ("a cat", "blurry", 64, 64)
        assert (row.server, row.comfyui, row.attempts) == (one.servers[0].name, "0.33.0", 1)
        assert row.busy is not None
        assert row.waited is not None
        assert row.fetched is not None


async def test_in_the_steady_state_an_image_costs_three_requests(job: JobMaker) -> None:
    """POST /prompt, one GET /history/{id}, GET /view, and nothing else: no polling while events flow."""
    async with serve(QUICK) as sim:
        patient = replace(RUN_TIMINGS, session=Timings())  # a machine that stands still is no silence of the server
        await filled(job(sim.url, dataset={"count": 20}), timings=patient)
        steady = requests(sim)
        assert {kind: steady[kind] for kind in ("POST /prompt", "GET /history", "GET /view")} == {
            "POST /prompt": 20,
            "GET /history": 21,
            "GET /view": 20,
        }, "one look at the history is the preflight's"
        assert steady["GET /queue"] == 0
        assert steady["GET /prompt"] == 2, "the preflight's, and one when the socket is open"
        assert steady["GET /ws"] == 1


async def test_two_prompts_are_in_flight_and_the_server_never_waits(job: JobMaker) -> None:
    """Never more than the depth on the server, and never fewer while there is something to post."""
    async with serve(Settings(seconds=0.2)) as sim:
        told = await filled(job(sim.url, dataset={"count": 12}))
    held_now, seen = 0, []
    for event in told.events:
        held_now += isinstance(event, progress.PromptPosted)
        held_now -= isinstance(event, progress.PromptLeft)
        seen.append(held_now)
    assert max(seen) == 2
    between = seen[seen.index(2) : len(seen) - seen[::-1].index(2)]
    assert min(between) >= 1


async def test_slow_downloads_do_not_keep_the_server_waiting(job: JobMaker) -> None:
    """A download holds no slot: the next prompts run while pictures trickle in."""
    script = Script((Fault("slow", on="view", seconds=0.3),))
    async with serve(QUICK, script=script) as sim:
        told = await filled(job(sim.url, dataset={"count": 8}))
    posts = [event.at for event in told.events if isinstance(event, progress.PromptPosted)]
    commits = [event.at for event in told.events if isinstance(event, progress.ImageSaved)]
    assert posts[3] < commits[0]


async def test_a_second_run_of_a_finished_job_posts_nothing(job: JobMaker) -> None:
    """It does not even ask the server for anything."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        before = len(sim.requests)
        told = await filled(one)
        assert len(sim.requests) == before
        assert (told.summary.made, told.summary.exit_code) == (0, 0)


async def test_a_deleted_image_is_rejected_and_made_again_with_another_seed(job: JobMaker) -> None:
    """Exactly that slot, in its next take."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        seed = {name: seed for name, _, seed in rows(one, "done")}["reg_003"]
        stale = one.dataset.folder / "reg_003_0064x0064_sd.npz"
        stale.write_bytes(b"a latent of the old picture")
        (one.dataset.folder / "reg_003.png").unlink()
        posted = sim.count("POST", "/prompt")
        told = await filled(one)
        assert sim.count("POST", "/prompt") == posted + 1
        assert not stale.exists(), "kohya would train on the old latent"
        assert_sound(one)
        assert told.summary.reconciled.deleted == ["reg_003"]
        again = {name: (take, seed) for name, take, seed in rows(one, "done")}["reg_003"]
        assert again[0] == 1
        assert again[1] != seed


async def test_the_count_can_be_raised(job: JobMaker) -> None:
    """What is there stays; only the rest is made."""
    async with serve(QUICK) as sim:
        await filled(job(sim.url, dataset={"count": 4}))
        told = await filled(more := job(sim.url, dataset={"count": 7}))
        assert told.summary.made == 3
        assert sim.count("POST", "/prompt") == 7
        assert_sound(more)


async def test_the_same_job_makes_the_same_pictures_on_any_servers(job: JobMaker) -> None:
    """Seeds and prompts belong to the slots, not to servers or order."""
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(serve(QUICK)) for _ in range(3)]
        await filled(one := job(sims[0].url, dataset={"count": 9}))
        first = {file.name: Image.open(file).tobytes() for file in one.dataset.folder.iterdir()}
        shutil.rmtree(one.dataset.root)
        await filled(one := job(*(sim.url for sim in sims), dataset={"count": 9}))
        second = {file.name: Image.open(file).tobytes() for file in one.dataset.folder.iterdir()}
        assert first == second
        assert all(sim.painted for sim in sims)


async def test_an_image_without_a_row_is_adopted(job: JobMaker) -> None:
    """A crash between rename and row loses nothing: the file says itself which seed made it."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        shutil.rmtree(one.dataset.state)
        told = await filled(one)
        assert sim.count("POST", "/prompt") == 6
        assert len(told.summary.reconciled.adopted) == 6
        assert_sound(one)


async def test_a_file_that_is_no_image_is_set_aside_and_its_slot_filled(job: JobMaker) -> None:
    """It is moved, never deleted: it may be all that somebody has."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        shutil.rmtree(one.dataset.state)
        (one.dataset.folder / "reg_002.png").write_bytes(b"<html>not found</html>")
        await filled(one)
        assert_sound(one)
        [aside] = Folder(one.dataset).rejected.iterdir()
        assert aside.read_bytes() == b"<html>not found</html>"


async def test_a_batch_makes_one_prompt_for_several_slots(job: JobMaker) -> None:
    """batch = 4 posts two prompts for seven slots, each slot with its own position."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, dataset={"count": 7}, sampling={"batch": 4}))
        assert sim.count("POST", "/prompt") == 2
        assert_sound(one)
        (one.dataset.folder / "reg_002.png").unlink()
        await filled(one)
        assert sim.count("POST", "/prompt") == 3
        assert_sound(one)


@pytest.mark.parametrize("kind", ["webp", "jpg"])
async def test_other_formats_are_made_from_what_the_server_saved(job: JobMaker, kind: str) -> None:
    """The ending says what the file is, and the note survives for the day the ledger is lost."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, dataset={"format": kind, "count": 2, "metadata": "keep"}))
        assert_sound(one)
        for file in one.dataset.folder.iterdir():
            with Image.open(file) as image:
                assert (image.format, image.size) == ({"webp": "WEBP", "jpg": "JPEG"}[kind], (64, 64))
        before = rows(one, "done")
        shutil.rmtree(one.dataset.state)
        await filled(one)
        assert rows(one, "done") == before
        assert sim.count("POST", "/prompt") == 2


FAULTS = {
    "socket dropped": Fault("drop", on="start", every=2),
    "socket closed politely": Fault("drop", on="start", every=3, abrupt=False),
    "sockets refused for a while": Fault("refuse", on="post", nth=2, seconds=0.5),
    "deaf": Fault("deafen", on="start", nth=(2, 4)),
    "final frame lost": Fault("lose", event="executing", every=3),
    "success frame lost": Fault("lose", event="execution_success"),
    "all status frames lost": Fault("lose", event="status"),
    "frames twice": Fault("duplicate", on="event"),
    "frames late": Fault("delay", on="event", every=5, seconds=0.2),
    "garbage frames": Fault("garbage", on="start"),
    "huge frames": Fault("huge", on="start", every=3),
    "post answered 500 though queued": Fault("status", on="post", every=2, status=500, queued=True),
    "post answered 502": Fault("status", on="post", every=2, status=502),
    "post answered 429 with Retry-After": Fault("status", on="post", nth=2, status=429, retry_after=1),
    "post answered with HTML": Fault("html", on="post", every=3),
    "post reset though queued": Fault("reset", on="post", every=2),
    "post never answered though queued": Fault("silent", on="post", nth=2),
    "dies over a post": Fault("restart", on="post", nth=3, seconds=0.3),
    "history 500": Fault("status", on="history", every=3, status=500),
    "view 404": Fault("status", on="view", every=2, status=404),
    "view 503": Fault("status", on="view", every=2, status=503),
    "view cut": Fault("cut", on="view", every=2),
    "view HTML": Fault("html", on="view", every=3),
    "view reset": Fault("reset", on="view", every=3),
    "node fails once": Fault("fail", on="start", nth=2),
    "out of memory once": Fault("oom", on="start", nth=2),
    "success without images": Fault("blank", on="start", nth=2),
    "interrupted by somebody": Fault("interrupt", on="start", nth=2),
    "deleted by somebody": Fault("vanish", on="start", nth=3),
    "restart with amnesia": Fault("restart", on="start", nth=3, seconds=0.3),
    "frozen for a while": Fault("freeze", on="start", nth=3, seconds=0.7),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_of_the_server_costs_no_image(job: JobMaker, fault: Fault) -> None:
    """Whatever the server does now and then, the set is complete, each picture right, and none twice."""
    async with serve(QUICK, script=Script((fault,))) as sim:
        told = await filled(one := job(sim.url))
        assert told.summary.exit_code == 0, told
        assert_sound(one)
        seeds = [seed for _, _, seed in rows(one, "done")]
        assert len(set(seeds)) == 6


@pytest.mark.parametrize("what", ["black", "flat"])
async def test_a_bad_picture_is_made_again_with_another_seed(job: JobMaker, what: str) -> None:
    """Black or of one colour: the next take."""
    async with serve(QUICK, script=Script((Fault(what, nth=2),))) as sim:
        told = await filled(one := job(sim.url))
        assert told.summary.exit_code == 0
        assert sorted(take for _, take, _ in rows(one, "done")) == [0, 0, 0, 0, 0, 1]
        assert_sound(one)


async def test_a_sample_that_always_fails_is_given_up_and_named(job: JobMaker) -> None:
    """Bounded tries, then the run goes on; the exit code says that something is missing."""
    broken = Script((Fault("fail", exception="ValueError", message="this prompt is cursed"),))
    async with serve(QUICK, script=broken) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 3}, limits={"attempts": 2}))
        assert told.summary.exit_code == 1
        assert sim.count("POST", "/prompt") == 6
        assert [given.name for given in told.summary.given_up] == ["reg_001", "reg_002", "reg_003"]
        assert "this prompt is cursed" in told.summary.given_up[0].reason
        assert parts(one) == []


async def test_what_was_given_up_is_tried_again_by_the_next_run(job: JobMaker) -> None:
    """Once the fault is repaired; nobody has to say which ones."""
    async with serve(QUICK, script=Script((Fault("fail", times=4),))) as sim:
        first = await filled(one := job(sim.url, dataset={"count": 2}, limits={"attempts": 2}))
        assert first.summary.missing == 2
        second = await filled(one)
        assert second.summary.exit_code == 0
        assert_sound(one)


async def test_a_run_that_makes_nothing_but_failures_ends_itself(job: JobMaker) -> None:
    """Ten in a row without one image in between: the night is not burnt on it."""
    async with serve(QUICK, script=Script((Fault("fail"),))) as sim:
        told = await filled(job(sim.url, dataset={"count": 500}, limits={"attempts": 1}))
        assert told.summary.exit_code == 1
        assert "in a row" in told.summary.stopped
        assert sim.count("POST", "/prompt") < 20


async def test_a_failed_prompt_is_tried_elsewhere_first(job: JobMaker) -> None:
    """One server cannot; the other one makes them all."""
    async with serve(QUICK, script=Script((Fault("fail"),))) as bad, serve(QUICK) as good:
        told = await filled(one := job(bad.url, good.url))
        assert told.summary.exit_code == 0
        assert_sound(one)
        assert {row.server for row in done_rows(one)} == {one.servers[1].name}


def done_rows(one: Job) -> list[Row]:
    with ledger_in(one.dataset.state) as ledger:
        return list(ledger.slots.walk("done"))


async def test_a_dead_server_leaves_its_work_to_the_other(job: JobMaker) -> None:
    """Gone for good in mid-run: the rest is made elsewhere, and the run does not wait for it."""
    async with AsyncExitStack() as stack:
        mortal = await stack.enter_async_context(serve(Settings(seconds=0.1)))
        other = await stack.enter_async_context(serve(Settings(seconds=0.1)))
        one = job(mortal.url, other.url, dataset={"count": 12})
        running = asyncio.create_task(filled(one, limit=60))
        await eventually(lambda: mortal.painted >= 1)
        await mortal.stop()
        told = await running
        assert told.summary.exit_code == 0
        assert_sound(one)


async def test_an_unknown_checkpoint_stops_the_run_before_it_starts(job: JobMaker) -> None:
    """The preflight names the node, the value and the nearest one that exists; nothing is posted."""
    async with serve(QUICK) as sim:
        with pytest.raises(JobError) as caught:
            await filled(job(sim.url, sampling={"checkpoint": "AnythingXL_inkBas.safetensors"}))
        assert "did you mean 'AnythingXL_inkBase.safetensors'?" in str(caught.value)
        assert "sampling.checkpoint" in str(caught.value)
        assert caught.value.exit_code == 2
        assert sim.count("POST", "/prompt") == 0


async def test_a_job_that_every_server_refuses_stops_at_once(job: JobMaker) -> None:
    """What the preflight cannot see, the first rejections tell; the night does not go on for 500 images."""
    async with serve(QUICK, script=Script((Fault("reject", message="not today"),))) as sim:
        told = await filled(job(sim.url, dataset={"count": 500}))
        assert told.summary.exit_code == 2
        assert "not today" in str(told.summary.error)
        assert sim.count("POST", "/prompt") <= 5


async def test_one_server_without_the_checkpoint_is_left_out(job: JobMaker) -> None:
    """The other one can: the job is not wrong, the server is."""
    lacking = Settings(seconds=0.02, checkpoints=("other.safetensors",))
    async with serve(lacking) as poor, serve(QUICK) as rich:
        told = await filled(one := job(poor.url, rich.url))
        assert told.summary.exit_code == 0
        assert poor.painted == 0
        assert_sound(one)
        assert poor.count("POST", "/prompt") == 0
        changes = [event for event in told.events if isinstance(event, progress.ServerChanged)]
        assert any("left out" in change.why and "it has other.safetensors" in change.why for change in changes)


async def test_no_server_is_told_with_what_to_do(job: JobMaker) -> None:
    """Exit 4, every address with what happened there, and three ways on."""
    with pytest.raises(NoUsableServer) as caught:
        await filled(job("http://127.0.0.1:9", "http://127.0.0.1:10"))
    assert caught.value.exit_code == 4
    for word in ("127.0.0.1:9", "127.0.0.1:10", "--server", "--wait", "--rehearse"):
        assert word in str(caught.value)


async def test_wait_waits_for_a_server(job: JobMaker) -> None:
    """It says so once and begins when one is there."""
    async with serve(QUICK) as sim:
        one = job(sim.url)
        await sim.stop()
        running = asyncio.create_task(filled(one, wait=True))
        await asyncio.sleep(0)
        await sim.start()
        told = await running
        assert told.summary.exit_code == 0


async def test_two_runs_at_once_are_one_too_many(job: JobMaker) -> None:
    """The second says who holds the dataset."""
    async with serve(QUICK) as sim:
        one = job(sim.url)
        with locked(Folder(one.dataset)), pytest.raises(DatasetLocked) as caught:
            await filled(one)
        assert "process" in str(caught.value)
        assert (await filled(one)).summary.exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
async def test_a_second_run_changes_nothing_though_the_lock_was_deleted(job: JobMaker) -> None:
    """It is told who holds the dataset; the first run's images, parts and verdict stand."""
    async with serve(QUICK) as sim:
        one = job(sim.url, dataset={"count": 12})
        first = asyncio.create_task(filled(one))
        await eventually((one.dataset.folder / "reg_002.png").exists)
        (one.dataset.state / "lock").unlink()
        with pytest.raises(DatasetLocked, match="process"):
            await filled(one)
        assert (await first).summary.exit_code == 0
        assert_sound(one)


async def test_stopping_once_finishes_what_is_in_flight(job: JobMaker) -> None:
    """No new prompts; what the server has is fetched; the next run does the rest."""
    control = RunControl()
    async with serve(Settings(seconds=0.1)) as sim:
        one = job(sim.url, dataset={"count": 20})
        running = asyncio.create_task(filled(one, control=control))
        await eventually(lambda: sim.painted >= 2)
        control.interrupt()
        told = await running
        assert (told.summary.exit_code, told.summary.stopped) == (130, BY_USER)
        assert told.summary.made == sim.count("POST", "/prompt") < 20
        assert (await filled(one)).summary.exit_code == 0
        assert_sound(one)


async def test_stopping_while_the_second_set_waits_for_a_server(job: JobMaker) -> None:
    """The run of the first one is over, and is nobody to ask any more."""
    control = RunControl()
    async with serve(QUICK) as sim:
        first = asyncio.create_task(filled(job(sim.url, dataset={"count": 1}), control=control))
        told = await control.guard(_summary_of(first))
        assert told.exit_code == 0
    more = Told()
    second = asyncio.create_task(filled(job(sim.url, dataset={"count": 2}), control=control, wait=True, told=more))
    waiting = asyncio.create_task(control.guard(_summary_of(second)))
    await eventually(lambda: any(isinstance(event, progress.ServersAwaited) for event in more.events))
    control.interrupt()
    await asyncio.wait({waiting}, timeout=5)
    assert waiting.cancelled()


def _summary_of(running: asyncio.Task[Told]) -> asyncio.Task[Summary]:
    async def summary() -> Summary:
        return (await running).summary

    return asyncio.create_task(summary())


async def test_stopping_twice_leaves_at_once_and_takes_its_prompts_along(job: JobMaker) -> None:
    """Own prompts are deleted by id; other people's stay in the queue."""
    control = RunControl()
    async with serve(Settings(seconds=5)) as sim:
        one = job(sim.url, dataset={"count": 20})
        running: asyncio.Task[Told] = asyncio.create_task(filled(one, control=control))
        await eventually(lambda: sim.count("POST", "/prompt") == 2)
        control.interrupt()
        control.interrupt()
        told = await running
        assert told.summary.exit_code == 130
        deletes = [request for request in sim.requests if request.method == "POST" and request.path == "/queue"]
        assert deletes
        await eventually(lambda: sim.world.remaining == 0)
        assert parts(one) == []


async def test_the_prefix_of_a_folder_cannot_change(job: JobMaker) -> None:
    """The same numbers would name other files."""
    async with serve(QUICK) as sim:
        await filled(job(sim.url, dataset={"count": 1}))
        with pytest.raises(JobError, match="begun with 'reg'"):
            await filled(job(sim.url, dataset={"count": 1, "prefix": "img"}))


async def test_another_prompts_picture_never_enters_a_slot(job: JobMaker) -> None:
    """A server whose file names came back serves an old picture with HTTP 200: the note in it tells."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, dataset={"count": 2}))
        stolen = (one.dataset.folder / "reg_001.png").read_bytes()
    asked: Counter[str] = Counter()

    async def page(request: web.Request) -> web.StreamResponse:
        """A proxy that answers the first look at every picture with the stolen one."""
        target = f"{sim.url}{request.path_qs}"
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                request.method, target, data=await request.read(), headers={"Content-Type": "application/json"}
            ) as answer,
        ):
            asked[request.path_qs] += 1
            stale = request.path == "/view" and asked[request.path_qs] == 1
            return web.Response(status=answer.status, body=stolen if stale else await answer.read())

    shutil.rmtree(one.dataset.root)
    async with serve(QUICK) as sim, answering(page) as url:
        told = await filled(one := job(url, dataset={"count": 3}, sampling={"seed": 5}))
        assert told.summary.exit_code == 0
        assert_sound(one)
        assert {count for path, count in asked.items() if path.startswith("/view")} == {2}


def within(seconds: float) -> Callable[[], float]:
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


async def test_a_run_ends_in_time(job: JobMaker) -> None:
    """Nothing is posted that would end too late, and what is made by then stays."""
    async with serve(Settings(seconds=0.2)) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 500}), left=within(2.0))
        assert told.summary.stopped == "the time is up"
        assert told.summary.exit_code == 3
        assert 3 <= told.summary.made <= 10
        assert sim.world.remaining == 0
        assert_sound(one, complete=False)


async def test_a_prompt_that_would_end_too_late_is_taken_back(job: JobMaker) -> None:
    """Nobody knew how long one takes; at the end of the time it is left."""
    async with serve(Settings(seconds=3600.0)) as sim:
        told = await filled(job(sim.url, dataset={"count": 5}), left=within(1.0))
        assert told.summary.made == 0
        await eventually(lambda: sim.world.remaining == 0)


async def test_all_servers_away_for_too_long_end_the_run_when_asked_to(job: JobMaker) -> None:
    """Without the limit it waits; with it, exit 4 says who was tried."""
    async with serve(Settings(seconds=0.1)) as sim:
        one = job(sim.url, dataset={"count": 50}, limits={"give_up_after": 0.5})
        running = asyncio.create_task(filled(one))
        await eventually(lambda: sim.painted >= 2)
        await sim.stop()
        told = await running
        assert told.summary.exit_code == 4
        assert told.summary.made >= 1


async def test_a_server_that_paints_black_is_freed_and_then_left_to_rest(job: JobMaker) -> None:
    """NaN latents stay until the model is loaded again: memory is freed after three in a row."""
    black = Fault("black", on="start", nth=(1, 2, 3))
    async with serve(QUICK, script=Script((black,))) as sim:
        told = await filled(one := job(sim.url))
        assert told.summary.exit_code == 0
        assert sim.count("POST", "/free") == 1
        assert_sound(one)


async def test_a_batch_that_does_not_fit_is_made_one_by_one(job: JobMaker) -> None:
    """Out of memory twice: then smaller."""
    async with serve(QUICK, script=Script((Fault("oom", nth=(1, 2)),))) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 4}, sampling={"batch": 4}))
        assert told.summary.exit_code == 0
        assert sim.count("POST", "/prompt") == 6
        assert_sound(one)


async def test_a_server_that_comes_a_moment_later_is_asked_before_the_job_is_called_wrong(job: JobMaker) -> None:
    """One refuses everything; the other is only restarting."""
    refusing = Script((Fault("reject"),))
    async with serve(QUICK, script=refusing) as bad, serve(QUICK) as good:
        one = job(bad.url, good.url, limits={"away": 20})
        await good.stop()
        running = asyncio.create_task(filled(one))
        await eventually(lambda: bad.count("POST", "/prompt") >= 1)
        await good.start()
        told = await running
        assert told.summary.exit_code == 0
        assert_sound(one)


@pytest.mark.parametrize(("count", "batch"), [(8, 4), (4, 4), (1, 1)])
async def test_a_small_job_that_is_refused_is_a_wrong_job_too(job: JobMaker, count: int, batch: int) -> None:
    """Exit 2, however few prompts there were to refuse."""
    async with serve(QUICK, script=Script((Fault("reject"),))) as sim:
        told = await filled(job(sim.url, dataset={"count": count}, sampling={"batch": batch}))
        assert told.summary.exit_code == 2


async def test_one_failing_batch_does_not_end_the_night(job: JobMaker) -> None:
    """Ten in a row are counted in prompts, not in pictures."""
    async with serve(QUICK, script=Script((Fault("fail", nth=2),))) as sim:
        told = await filled(job(sim.url, dataset={"count": 48}, sampling={"batch": 16}, limits={"attempts": 1}))
        assert told.summary.made == 32


async def test_another_server_on_the_port_is_called_so(job: JobMaker) -> None:
    """Its page of HTML helps nobody; a pod that is still starting has the same one."""

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="<!DOCTYPE HTML><html>Error response</html>")

    async with answering(page) as url:
        with pytest.raises(NoUsableServer, match="no ComfyUI is there, or none yet"):
            await filled(job(url))


def cut_short(job: Job, name: str) -> None:
    """An image is on the disk in part only."""
    image = job.dataset.folder / f"{name}.png"
    image.write_bytes(image.read_bytes()[:300])


async def test_a_damaged_image_is_found_and_made_again(job: JobMaker) -> None:
    """Cut short on the disk after it was done: the next run sees its size, checks it, and sets it aside."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        cut_short(one, "reg_002")
        told = await filled(one)
        assert told.summary.made == 1
        assert_sound(one)


async def test_of_very_many_images_the_sizes_are_looked_at_when_the_rest_is_made(job: JobMaker) -> None:
    """No server waits for that look; what it finds is made in the same run, which says so and counts it once."""
    few = replace(RUN_TIMINGS, sized_at_start=3)
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url), timings=few)
        cut_short(one, "reg_002")
        (one.dataset.folder / "reg_005.png").unlink()
        told = await filled(one, timings=few)
        summary = told.summary
        assert (summary.before, summary.made, summary.missing, summary.exit_code) == (4, 2, 0, 0)
        made = [event.name for event in told.events if isinstance(event, progress.ImageSaved)]
        assert made == ["reg_005", "reg_002"]
        assert (summary.reconciled.deleted, len(summary.reconciled.set_aside)) == (["reg_005"], 1)
        undone = [event.names for event in told.events if isinstance(event, progress.SlotsReopened)]
        assert undone == [("reg_002",)]
        assert [view.made for view in summary.servers.values()] == [2]
        assert_sound(one)


async def test_an_image_that_is_deleted_while_the_run_goes_on_is_made_again(job: JobMaker) -> None:
    """Nothing is called complete that is not: all are looked at once more at the end."""
    async with serve(QUICK) as sim:
        one = job(sim.url, dataset={"count": 12})
        running = asyncio.create_task(filled(one))
        await eventually((one.dataset.folder / "reg_007.png").exists)
        (one.dataset.folder / "reg_001.png").unlink()
        (one.dataset.folder / "reg_004.png").write_bytes(b"")
        told = await running
        assert (told.summary.exit_code, told.summary.missing) == (0, 0)
        assert sorted(told.summary.reconciled.deleted) == ["reg_001", "reg_004"]
        assert sim.count("POST", "/prompt") == 14
        assert_sound(one)


async def test_damaged_images_are_made_whatever_else_has_failed(job: JobMaker) -> None:
    """What was given up meanwhile is not paid for again, and what is damaged does not stay so."""
    few = replace(RUN_TIMINGS, sized_at_start=0)
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url), timings=few)
        cut_short(one, "reg_002")
        (one.dataset.folder / "reg_005.png").unlink()
    cursed = plan_of(one).sample(4, 1).seed
    async with serve(QUICK, script=Script((Fault("fail", seed=cursed),))) as sim:
        told = await filled(job(sim.url, limits={"attempts": 3}), timings=few)
        assert sim.count("POST", "/prompt") == 4
        assert [given.name for given in told.summary.given_up] == ["reg_005"]
        assert (told.summary.before, told.summary.made, told.summary.missing) == (4, 1, 1)


async def test_a_disk_that_refuses_the_look_ends_the_run_in_words(job: JobMaker) -> None:
    """What else was missing is made by then, and stands in the summary."""
    few = replace(RUN_TIMINGS, sized_at_start=0)
    async with serve(Settings(seconds=0.2)) as sim:
        await filled(one := job(sim.url), timings=few)
        cut_short(one, "reg_002")
        (one.dataset.folder / "reg_005.png").unlink()
        running = asyncio.create_task(filled(one, timings=few))
        await eventually(lambda: sim.count("POST", "/prompt") == 7)
        (one.dataset.state / "rejected").write_bytes(b"a file where a folder should be")
        told = await running
        assert (told.summary.made, told.summary.exit_code) == (1, 5)
        assert "rejected: it is a file where a folder belongs" in str(told.summary.error)


async def test_of_a_set_that_seems_whole_the_sizes_are_looked_at_first(job: JobMaker) -> None:
    """Nothing else is to be made, so nobody waits; and without it nothing would be found to be missing."""
    few = replace(RUN_TIMINGS, sized_at_start=0)
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url), timings=few)
        cut_short(one, "reg_002")
        told = await filled(one, timings=few)
        assert (told.summary.before, told.summary.made, told.summary.missing) == (5, 1, 0)
        assert_sound(one)


async def test_a_run_that_is_stopped_looks_at_no_sizes_any_more(job: JobMaker) -> None:
    """Whoever asked it to stop wants it to stop; the run that makes the last image looks at them."""
    few = replace(RUN_TIMINGS, sized_at_start=0)
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, dataset={"count": 2}), timings=few)
        cut_short(one, "reg_002")
        told = await filled(more := job(sim.url, limits={"prompts": 1}), timings=few)
        assert (told.summary.before, told.summary.made, told.summary.reconciled.set_aside) == (2, 1, [])
        told = await filled(more.model_copy(update={"limits": one.limits}), timings=few)
        assert (told.summary.missing, len(told.summary.reconciled.set_aside)) == (0, 1)
        assert_sound(one.model_copy(update={"dataset": more.dataset}))


async def test_an_image_repaired_by_hand_is_kept(job: JobMaker) -> None:
    """It still passes the checks: somebody painted over a blemish."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url))
        repaired = one.dataset.folder / "reg_002.png"
        repaired.write_bytes(paint("repaired", 99, 64, 64))
        before = repaired.read_bytes()
        told = await filled(one)
        assert (told.summary.made, told.summary.exit_code) == (0, 0)
        assert repaired.read_bytes() == before
        assert (await filled(one)).summary.reconciled.adopted == []


async def test_a_rehearsal_and_a_real_run_never_share_a_dataset(job: JobMaker) -> None:
    """Marked pictures in a training set would be found in the LoRA."""
    async with serve(QUICK) as sim:
        await filled(one := job(sim.url, dataset={"count": 1}))
        with pytest.raises(JobError, match="real pictures"):
            await fill_dataset(
                prepare(one, "test.toml")[0], "test.toml", Observers(), options=RunOptions(rehearsal=True)
            )


async def test_images_beyond_the_count_are_told_of(job: JobMaker) -> None:
    """The trainer reads whatever lies there."""
    async with serve(QUICK) as sim:
        await filled(job(sim.url, dataset={"count": 5}))
        told = await filled(job(sim.url, dataset={"count": 3}))
        assert (told.summary.total, told.summary.images_beyond) == (3, 2)


async def test_waiting_goes_on_although_a_server_that_is_there_cannot_do_it(job: JobMaker) -> None:
    """--wait: the one that can is still to come."""
    lacking = Settings(checkpoints=("other.safetensors",))
    async with serve(lacking) as poor, serve(QUICK) as rich:
        one = job(poor.url, rich.url)
        await rich.stop()
        told = Told()
        running = asyncio.create_task(filled(one, wait=True, told=told))
        await eventually(lambda: any(isinstance(event, progress.ServersAwaited) for event in told.events))
        away = {event.server: event.why for event in told.events if isinstance(event, progress.ServerChanged)}
        assert away[one.servers[1].name] == "connection refused (is ComfyUI running there?)", "beside the server"
        assert "is not in the server's list" in away[one.servers[0].name]
        await rich.start()
        await running
        assert told.summary.exit_code == 0


async def test_a_prompt_whose_post_was_never_settled_is_taken_back_at_the_end(job: JobMaker) -> None:
    """Nobody could say whether it arrived, so it was made elsewhere; nothing of ours is left running."""
    slow = Settings(seconds=3.0)
    faults = Script((Fault("silent", on="post", nth=1), Fault("status", on="queue", nth=(2, 3, 4, 5, 6), status=500)))
    async with serve(slow, script=faults) as sim, serve(QUICK) as other:
        told = await filled(one := job(sim.url, other.url, dataset={"count": 3}, limits={"request": 0.3}), limit=60)
        assert told.summary.exit_code == 0
        assert_sound(one)
        await eventually(lambda: sim.world.remaining == 0)


async def test_a_frozen_server_at_the_start_is_no_server_after_the_time_of_a_request(job: JobMaker) -> None:
    """It accepts connections and says nothing: exit 4, soon, with the same words."""
    async with serve(QUICK) as sim:
        frozen = asyncio.create_task(sim.freeze(2.5))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            with pytest.raises(NoUsableServer, match="no answer in time"):
                await filled(job(sim.url, limits={"request": 1.0}))
        await frozen


async def test_pictures_may_be_saved_where_the_server_keeps_none(job: JobMaker) -> None:
    """save = "temp": PreviewImage, no file name of ours, nothing in the output folder; the dataset is the same."""
    async with serve(QUICK) as sim:
        one = job(sim.url, sampling={"save": "temp"})
        await filled(one)
        assert_sound(one)
        assert {kind for kind, _, _ in sim.disk.files} == {"temp"}


async def test_a_run_clears_up_the_history_behind_it(job: JobMaker) -> None:
    """Unless it is to be kept. What was given up stays, for whoever wants to know why."""
    async with serve(QUICK) as sim:
        await filled(job(sim.url))
        assert sim.world.history == {}
        kept = job(sim.url, dataset={"class": "other"})
        server = kept.servers[0].model_copy(update={"keep_history": True})
        await filled(kept.model_copy(update={"servers": (server,)}))
        assert len(sim.world.history) == 6


async def test_each_checkpoint_is_loaded_once(job: JobMaker) -> None:
    """A matrix of two checkpoints: seeds and names are those of the plan, and the server switches once."""
    settings = Settings(seconds=0.0, checkpoints=("a.safetensors", "b.safetensors"))
    async with serve(settings) as sim:
        one = job(sim.url, dataset={"count": 12}, matrix={"checkpoint": ["a.safetensors", "b.safetensors"]})
        told = await filled(one)
        assert_sound(one)
        assert told.summary.servers[one.servers[0].name].switches == 1
        with ledger_in(one.dataset.state) as ledger:
            made = [row.checkpoint for row in ledger.slots.walk("done")]
        assert made == ["a.safetensors", "b.safetensors"] * 6
