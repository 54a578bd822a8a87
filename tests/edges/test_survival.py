"""Servers that are not simply there or away: each way of being half broken, and what a run makes of it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from aiohttp import web

from reggen import progress
from reggen.backoff import Backoff
from reggen.comfy.client import Client
from reggen.dataset.rows import Row
from reggen.dataset.slot_table import SlotTable
from reggen.engine.control import RunControl
from reggen.engine.summary import OUT_OF_TIME
from reggen.errors import NoUsableServer, StorageError
from reggen.job.models import Job
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.sim.http.reply import HttpReply, HttpRequest
from tests.answering import answering
from tests.conftest import RUN_TIMINGS, JobMaker, Told, eventually, filled
from tests.edges.test_session import graph
from tests.invariants import assert_sound
from tests.preparing import plan_of

QUICK = Settings(seconds=0.02)


def made(told: Told) -> list[progress.RunEvent]:
    return [event for event in told.events if isinstance(event, progress.ImageSaved)]


def said(told: Told, kind: type[progress.RunEvent]) -> list[str]:
    return [str(getattr(event, "why", getattr(event, "text", ""))) for event in told.events if isinstance(event, kind)]


# ---- pictures that cannot be had


async def test_pictures_that_cannot_be_fetched_are_not_paid_for_again(job: JobMaker) -> None:
    """/view says no for a while: the server rests, and then hands out what it had made."""
    script = Script((Fault("status", on="view", status=403, times=7),))
    async with serve(QUICK, script=script) as sim:
        told = await filled(one := job(sim.url), limit=60)
        assert told.summary.exit_code == 0
        assert sim.executed == 6
        assert_sound(one)


async def test_a_server_that_never_hands_out_a_picture_is_left_to_the_others(job: JobMaker) -> None:
    """What it made is made elsewhere; it is not paid for picture after picture."""
    async with serve(QUICK, script=Script((Fault("status", on="view", status=403),))) as bad, serve(QUICK) as good:
        told = await filled(one := job(bad.url, good.url, dataset={"count": 12}), limit=60)
        assert told.summary.exit_code == 0
        assert bad.executed <= 6
        assert_sound(one)


async def test_a_body_without_end_costs_no_seed(job: JobMaker) -> None:
    """It is the way here that is at fault, not the picture."""
    async with serve(QUICK, script=Script((Fault("endless", nth=1),))) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 1}, limits={"megabytes": 1}))
        assert told.summary.exit_code == 0
        assert sim.executed == 1
        assert_sound(one)


# ---- rests


async def test_no_new_socket_ends_the_rest_a_server_asked_for(job: JobMaker) -> None:
    """503, come again in two seconds; the socket breaks meanwhile. Two seconds it is."""
    script = Script((Fault("status", on="post", nth=2, status=503, retry_after=2),))
    async with serve(QUICK, script=script) as sim:
        running = asyncio.create_task(filled(job(sim.url)))
        await eventually(lambda: sim.count("POST", "/prompt") >= 2)
        sim.drop_sockets()
        assert (await running).summary.exit_code == 0
        posts = [one for one in sim.requests if one.path == "/prompt" and one.method == "POST"]
        refused = next(one for one in posts if one.status == 503)
        after = [one.at - refused.at for one in posts if one.at > refused.at]
        assert min(after) >= 1.9


async def test_after_a_rest_a_server_is_asked_and_then_tried_with_one_prompt(job: JobMaker) -> None:
    """Not with as many as it is deep: they would all fail together."""
    script = Script((Fault("status", on="post", nth=(1, 2, 3, 4, 5, 6), status=502),))
    async with serve(Settings(seconds=0.1), script=script) as sim:
        one = job(sim.url, dataset={"count": 8})
        deep = Job.model_validate({**one.model_dump(by_alias=True), "servers": [{"url": sim.url, "depth": 4}]})
        told = await filled(deep, limit=60)
        assert told.summary.exit_code == 0
        failed = [one for one in sim.requests if one.path == "/prompt" and one.method == "POST" and one.status == 502]
        assert len(failed) == 6
        asked = [one.at for one in sim.requests if one.path == "/prompt" and one.method == "GET"]
        tries = sorted({round(one.at, 1) for one in failed[4:]})
        assert len(tries) == 2, "the first four go out together, and then one at a time"
        assert all(any(failed[3].at < at <= one.at for at in asked) for one in failed[4:])


async def test_a_server_that_takes_no_prompt_counts_as_none(job: JobMaker) -> None:
    """It answers everything but a post: somebody is told, and the limit for having no server holds."""
    async with serve(QUICK, script=Script((Fault("status", on="post", status=503),))) as sim:
        told = await filled(job(sim.url, limits={"give_up_after": 2.0}), limit=30)
        assert told.summary.exit_code == NoUsableServer.exit_code
        assert "503" in str(told.summary.error)
        assert len(said(told, progress.ServersAwaited)) == 1


async def test_waiting_for_a_first_server_has_the_runs_limits(job: JobMaker) -> None:
    """--wait --for: at its end the run is over, server or not."""
    end = time.monotonic() + 0.5
    with pytest.raises(NoUsableServer):
        await filled(job("http://127.0.0.1:9"), wait=True, left=lambda: end - time.monotonic(), limit=10)


async def test_an_outage_is_not_taken_for_the_time_a_prompt_needs(job: JobMaker) -> None:
    """After it the run goes on to its end, though a prompt outlived an outage that was longer than what is left."""
    left, told = 60.0, Told()
    async with serve(Settings(seconds=0.1)) as sim:
        one = job(sim.url, dataset={"count": 500}, limits={"away": 60})
        running = asyncio.create_task(filled(one, left=lambda: left, told=told))
        await eventually(lambda: len(made(told)) >= 4)
        left = 1.5  # from here on, so that no clock has to fit
        await sim.freeze(4.5)
        await eventually(lambda: len(made(told)) >= 25)
        left = 0.0
        await running
        assert told.summary.stopped == OUT_OF_TIME


def silent_over(sim: Sim, post: int, seconds: float) -> None:
    """From when this post has arrived, and is executed, nobody is answered for so long."""
    answer, seen, until = sim.answer, 0, 0.0

    async def late(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        nonlocal seen, until
        reply = None
        if (ask.method, ask.path) == ("POST", "/prompt"):
            seen += 1
            if seen == post:
                until, reply = time.monotonic() + seconds, await answer(ask)
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        return reply or await answer(ask)

    sim.answer = late  # type: ignore[method-assign]


@pytest.mark.parametrize("version", ["0.33.0", "2024-10"], ids=["our ids", "its own ids"])
async def test_a_post_that_nobody_answers_for_long_is_not_paid_for_twice(job: JobMaker, version: str) -> None:
    """Nor does anybody say whether it arrived: that is waited for, and no other is posted before it is known."""
    async with serve(Settings(seconds=0.4, version=version)) as sim:
        silent_over(sim, post=3, seconds=1.7)
        told = await filled(one := job(sim.url, limits={"request": 0.25}), limit=60)
        assert told.summary.exit_code == 0
        assert_sound(one)
        assert (sim.executed, sim.count("POST", "/prompt")) == (6, 6)


async def test_a_post_that_comes_after_the_first_look_is_not_paid_for_twice(job: JobMaker) -> None:
    """A server that thaws may see to what is asked of it before what it was sent: one look is not believed."""
    async with serve(Settings(seconds=0.4)) as sim:
        answer, seen, looked = sim.answer, 0, asyncio.Event()
        until = 0.0

        async def late(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            nonlocal seen, until
            if (ask.method, ask.path) == ("POST", "/prompt"):
                seen += 1
                if seen == 3:
                    until = time.monotonic() + 1.7
                    await looked.wait()
                return await answer(ask)
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            reply = await answer(ask)
            if until and ask.path == "/history":  # the last that a look asks for
                looked.set()
            return reply

        sim.answer = late  # type: ignore[method-assign]
        told = await filled(one := job(sim.url, limits={"request": 0.25}), limit=60)
        assert told.summary.exit_code == 0
        assert_sound(one)
        assert (sim.executed, sim.count("POST", "/prompt")) == (6, 6)


@pytest.mark.parametrize("seconds", [2.5, 3600.0], ids=["back when it was just given away", "for long"])
async def test_a_post_in_doubt_goes_to_another_server_when_its_own_stays_away(job: JobMaker, seconds: float) -> None:
    """After `limits.away`, as every prompt in flight; the run does not wait for the server to come back."""
    async with serve(QUICK) as good, serve(Settings(seconds=60)) as silent:
        silent_over(silent, post=2, seconds=seconds)
        one = job(silent.url, good.url, limits={"request": 1.0, "away": 0.3})
        told = await filled(one, limit=60)
        assert told.summary.exit_code == 0
        assert_sound(one)
        if seconds < told.summary.seconds:  # it was back in time for being told
            await eventually(lambda: silent.world.remaining == 0)


async def test_a_post_in_doubt_does_not_hold_up_a_stop(job: JobMaker) -> None:
    """Ctrl-C once, and its server says nothing: there is nothing to be finished."""
    async with serve(Settings(seconds=60)) as silent:
        silent_over(silent, post=2, seconds=3600.0)
        control = RunControl()
        running = asyncio.create_task(filled(job(silent.url, limits={"request": 1.0}), control=control, limit=60))
        await eventually(lambda: silent.count("POST", "/prompt") >= 1)
        control.interrupt()
        told = await running
        assert told.summary.exit_code == 130


@pytest.mark.parametrize("status", [401, 500])
async def test_a_post_in_doubt_is_not_waited_for_where_looks_are_refused(job: JobMaker, status: int) -> None:
    """The queue is never shown, and one post failed so that it may be queued all the same: the run still ends."""
    async with serve(QUICK, script=Script((Fault("status", on="post", nth=2, status=502),))) as sim:
        answer = sim.answer

        async def refuses(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            queue = (ask.method, ask.path) == ("GET", "/queue")
            return (HttpReply(status, b"no", content_type="text/plain"), None) if queue else await answer(ask)

        sim.answer = refuses  # type: ignore[method-assign]
        told = await filled(one := job(sim.url), limit=60)
        assert told.summary.exit_code == 0
        assert_sound(one)


async def test_a_server_without_memory_leaves_the_work_to_the_other(job: JobMaker) -> None:
    """It lacks it for everything: it rests, longer each time, instead of failing every second prompt."""
    async with serve(QUICK, script=Script((Fault("oom"),))) as small, serve(Settings(seconds=0.05)) as large:
        told = await filled(one := job(small.url, large.url, dataset={"count": 40}), limit=60)
        assert told.summary.exit_code == 0
        assert small.executed <= 20
        assert_sound(one)


async def test_a_batch_that_did_not_fit_is_not_tried_there_again(job: JobMaker) -> None:
    """The first one or two teach it; the others are made one by one at once."""
    async with serve(Settings(seconds=0.02, largest_batch=1)) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 40}, sampling={"batch": 4}))
        assert told.summary.exit_code == 0
        assert sim.executed <= 40 + 12
        assert_sound(one)


async def test_a_server_that_goes_on_painting_black_rests_and_is_tried_again(job: JobMaker) -> None:
    """Six in a row: memory freed, then a rest; a good picture ends the spell."""
    black = Script((Fault("black", nth=(1, 2, 3, 4, 5, 6, 7)),))
    async with serve(QUICK, script=black) as sim:
        told = await filled(one := job(sim.url, dataset={"count": 12}, limits={"attempts": 8}))
        assert told.summary.exit_code == 0
        assert sim.count("POST", "/free") == 2
        starts = [request.at for request in sim.requests if request.path == "/prompt" and request.method == "POST"]
        assert max(after - before for before, after in pairwise(starts)) >= 0.5
        assert_sound(one)


async def test_why_nobody_can_be_used_is_said_of_a_server_whose_pictures_are_bad(job: JobMaker) -> None:
    """It answers, and rests: "connecting" would send people to look at their network."""
    async with serve(QUICK, script=Script((Fault("black"),))) as sim:
        told = await filled(job(sim.url, limits={"attempts": 50, "give_up_after": 0.2}))
        assert told.summary.exit_code == 4
        assert "its last images are no good" in str(told.summary.error)
        assert "is black" in str(told.summary.error)


# ---- poison


@pytest.mark.parametrize("blind", [False, True], ids=["with events", "by looking"])
async def test_the_image_over_which_a_server_dies_twice_is_parked(job: JobMaker, blind: bool) -> None:
    """The third slot kills its server whenever it runs; the others are made, and it is named."""
    poison = plan_of(job()).sample(2).seed
    script = Script((Fault("restart", on="start", seed=poison, seconds=0.2),))
    async with serve(Settings(seconds=0.3), script=script) as sim:
        if blind:
            sim.refuse_sockets(600)
        told = await filled(one := job(sim.url), limit=60)
        assert [given.name for given in told.summary.given_up] == ["reg_003"]
        assert "died while making it" in told.summary.given_up[0].reason
        assert told.summary.made == 5
        started = [fault.fired for fault in sim.director.armed]
        assert started == [2], "never a third time"
        assert_sound(one)


# ---- other people


@asynccontextmanager
async def deaf_reader(sim: Sim) -> AsyncIterator[None]:
    """A client that opens a socket and never reads from it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await loop.sock_connect(one, ("127.0.0.1", int(sim.url.rsplit(":", 1)[1])))
        ask = "GET /ws?clientId=zz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        await loop.sock_sendall(one, (ask + key).encode())
        await eventually(lambda: sim.sockets >= 1)
        yield


async def test_another_client_that_stops_reading_silences_nobody_for_long(job: JobMaker) -> None:
    """The server stops publishing for everybody, and large frames pile up: the run looks instead."""
    async with serve(QUICK, script=Script((Fault("huge", on="start"),))) as sim, deaf_reader(sim):
        told = await filled(one := job(sim.url, dataset={"count": 20}), limit=60)
        assert told.summary.exit_code == 0
        assert sim.executed == 20
        assert_sound(one)


async def test_a_queue_shared_with_others_previews_and_all(job: JobMaker) -> None:
    """Somebody else's prompts run between ours, with and without a client id; each keeps its own."""
    async with serve(Settings(seconds=0.03, previews=True)) as sim, Client(sim.url) as other:
        running = asyncio.create_task(filled(one := job(sim.url, dataset={"count": 15}), limit=60))
        for number in range(12):
            client = {"client_id": "x"} if number % 2 else {}
            await other.post({"prompt": graph(9_000 + number), **client})
            await eventually(lambda number=number: sim.painted >= number)  # type: ignore[misc]
        assert (await running).summary.exit_code == 0
        await eventually(lambda: not sim.world.remaining)
        assert sim.executed == 15 + 12
        assert_sound(one)


async def test_a_prompt_of_somebody_else_that_runs_for_ever_holds_up_only_its_own_server(job: JobMaker) -> None:
    """It is not ours to interrupt: it is said, and the other server takes our work."""
    stuck = Script((Fault("zombie", on="start", nth=1, face="running"),))
    async with serve(QUICK, script=stuck) as sim, serve(QUICK) as free, Client(sim.url) as other:
        theirs = (await other.post({"prompt": graph(99), "client_id": "x"})).prompt_id
        await eventually(lambda: sim.world.running is not None)
        told = await filled(one := job(sim.url, free.url), limit=30)
        assert told.summary.exit_code == 0
        assert any("another client's prompt" in why for why in said(told, progress.ServerChanged))
        assert sim.world.running is not None
        assert sim.world.running.prompt_id == theirs
        assert_sound(one)


# ---- the disk here


async def test_a_ledger_that_cannot_take_a_given_up_slot_costs_no_finished_one(
    job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at just that row: the images of the same prompt stand, and only the rest is tried again."""
    timings = replace(RUN_TIMINGS, room=Backoff(0.2, 1.0))
    put, full = SlotTable.put, [True]

    def once_full(self: SlotTable, rows: list[Row]) -> None:
        rows = list(rows)
        if full and any(row.state == "given_up" for row in rows):
            full.clear()
            raise StorageError("ledger.sqlite", "writing the ledger", "the disk is full", full=True)
        put(self, rows)

    monkeypatch.setattr(SlotTable, "put", once_full)
    missing = Script((Fault("status", on="view", nth=(4, 5), status=404),))
    async with serve(QUICK, script=missing) as sim:
        one = job(sim.url, dataset={"count": 4}, sampling={"batch": 4}, limits={"attempts": 1})
        told = await filled(one, timings=timings)
        committed = [event.name for event in told.events if isinstance(event, progress.ImageSaved)]
        assert len(committed) == len(set(committed)) == 4
        assert not (one.dataset.state / "rejected").exists()
        assert_sound(one)


# ---- secrets


@asynccontextmanager
async def echoing(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """A server or proxy in front of one that answers everything in the same way."""

    async def page(request: web.Request) -> web.Response:
        return answer(request)

    async with answering(page) as url:
        yield url


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: web.Response(status=401, text=f"bad header Authorization: {request.headers['Authorization']}"),
        lambda request: web.Response(text=f"<html>who is {request.headers['Authorization'].split()[1]}?</html>"),
        lambda _: web.Response(status=302, headers={"Location": "http://x/login?token=s3cret-word"}),
    ],
    ids=["quoted", "in a page", "in a redirect"],
)
async def test_a_secret_that_a_server_repeats_is_not_repeated_here(
    job: JobMaker, answer: Callable[[web.Request], web.Response]
) -> None:
    """Neither in the error nor in what is told."""
    async with echoing(answer) as url:
        document = job(url).model_dump(by_alias=True)
        secret = [{"url": url, "headers": {"Authorization": "Bearer s3cret-word"}}]
        with pytest.raises(NoUsableServer) as caught:
            await filled(Job.model_validate({**document, "servers": secret}))
        assert "s3cret-word" not in str(caught.value)
