"""One thing is refused and the rest is not: it costs what it is, and neither its server nor the night."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from aiohttp import web

from reggen import progress
from reggen.backoff import Backoff, full_jitter
from reggen.comfy.client import NOBODY, Client
from reggen.comfy.history import ImageRef, Success
from reggen.comfy.session import ServerSession
from reggen.engine.supervisor import Supervisor
from reggen.errors import NO_SERVER, HttpStatusError, PromptLost
from reggen.prepare.prepared_job import prepare
from reggen.scheduler.health import FleetHealth
from reggen.scheduler.server_load import ServerLoad
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.sim.http.reply import SERVER_ERROR, HttpReply, HttpRequest, as_json, as_text
from reggen.workflow.graph import Graph
from tests.answering import answering
from tests.conftest import RUN_TIMINGS, SESSION_TIMINGS, JobMaker, Told, eventually, filled
from tests.edges.test_refused import LAST, QUICK, absences, troubles
from tests.edges.test_session import BRIEF, graph, open_session, run
from tests.invariants import assert_sound

PAGE = HttpReply(404, b"<html><title>404 Not Found</title></html>", "text/html")
BLOCKED = as_text("blocked", 403)
HASTY = replace(RUN_TIMINGS, retry=Backoff(0.01, 0.02), rest=Backoff(0.01, 0.02), download=Backoff(0.02, 0.02))
"""The pauses after a failure, told to be quick."""


def spoil(sim: Sim, wanted: Callable[[HttpRequest], bool], reply: HttpReply) -> list[HttpRequest]:
    """Answer what is wanted with this reply, and the rest as ever; the asks that were spoilt, as they come."""
    answer, spoilt = sim.answer, list[HttpRequest]()

    async def answers(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        if not wanted(ask):
            return await answer(ask)
        spoilt.append(ask)
        return reply, None

    sim.answer = answers  # type: ignore[method-assign]
    return spoilt


def first_history(sim: Sim) -> Callable[[HttpRequest], bool]:
    """The polls of the first prompt that was posted."""

    def wanted(ask: HttpRequest) -> bool:
        ids = [one.prompt_id for one in sim.requests if one.method == "POST" and one.prompt_id]
        return bool(ids) and ask.path == f"/history/{ids[0]}"

    return wanted


def committed(told: Told) -> int:
    return sum(isinstance(event, progress.ImageSaved) for event in told.events)


def posts_of(text: str) -> Callable[[HttpRequest], bool]:
    return lambda ask: ask.method == "POST" and ask.path == "/prompt" and text.encode() in ask.body


# ---- pictures


@pytest.mark.parametrize(
    ("reply", "away"),
    [(SERVER_ERROR, 0), (PAGE, 0), (as_json({"error": "no such file"}, 404), 0), (BLOCKED, 1)],
    ids=["500", "404 page", "404 words", "403"],
)
async def test_a_picture_that_alone_is_refused_is_made_again(job: JobMaker, reply: HttpReply, away: int) -> None:
    """Its server is not away for it; of a 403 that is known once it has handed out another one, which it is asked."""
    async with serve(QUICK) as sim:
        names: list[str] = []

        def third(ask: HttpRequest) -> bool:
            if ask.path == "/view" and ask.query["filename"] not in names:
                names.append(ask.query["filename"])
            return ask.path == "/view" and names[2:3] == [ask.query["filename"]]

        spoilt = spoil(sim, third, reply)
        told = await filled(wanted := job(sim.url), timings=HASTY)
        assert told.summary.exit_code == 0
        assert len(spoilt) > 3
        assert sim.executed == 7
        assert len(absences(told)) == away
        assert "made the image, but it could not be downloaded" in troubles(told)
        assert_sound(wanted)


# ---- histories


@pytest.mark.parametrize("limits", [{}, {"give_up_after": 1.0}])
async def test_a_prompt_whose_own_history_cannot_be_read_is_made_again(job: JobMaker, limits: dict[str, float]) -> None:
    """Others are followed to their ends meanwhile: the server is not away, and nothing else is paid twice."""
    async with serve(QUICK) as sim:
        spoilt = spoil(sim, first_history(sim), SERVER_ERROR)
        told = await filled(wanted := job(sim.url, limits=limits), timings=HASTY)
        assert told.summary.exit_code == 0
        assert sim.executed == 7
        assert len(spoilt) < 20
        assert not absences(told)
        assert "reading the history: HTTP 500" in troubles(told)
        assert_sound(wanted)


async def test_prompts_whose_histories_can_never_be_read_end_the_run(job: JobMaker) -> None:
    """Each counts as an attempt, though nothing is wrong with what is asked of an id that nobody knows."""
    async with serve(QUICK) as sim:
        spoil(sim, lambda ask: ask.path.startswith("/history/") and NOBODY not in ask.path, SERVER_ERROR)
        told = await filled(job(sim.url, dataset={"count": 1}, limits={"attempts": 2}), timings=HASTY)
        assert told.summary.exit_code == 1
        assert sim.executed == 2
        (gave_up,) = (event for event in told.events if isinstance(event, progress.SlotGivenUp))
        assert "reading the history: HTTP 500" in gave_up.reason


def large(characters: int = 5_000_000) -> Graph:
    """A graph with a reference picture in it, as base64."""
    made = graph(1)
    made["77"] = {"class_type": "ETN_LoadImageBase64", "inputs": {"image": "A" * characters}}
    return made


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of aiohttp: a large body, written in one go
async def test_a_prompt_of_a_large_graph_is_followed_to_its_end() -> None:
    """Its history entry repeats the graph, and is as large as that."""
    async with open_session(replace(QUICK, lenient=True)) as (_, session):
        changes: list[bool] = []
        session.on_change = lambda one: changes.append(one.up)
        async with asyncio.timeout(30):
            outcome = await session.execute(large(), str(uuid.uuid4()), {"index": 1})
        assert isinstance(outcome, Success)
        assert all(changes)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of aiohttp: a large body, written in one go
async def test_somebody_else_s_large_graph_in_the_queue_is_no_reason_to_be_away() -> None:
    """Every poll of the queue reads it, too."""
    async with (
        open_session(Settings(seconds=0.7, lenient=True)) as (sim, session),
        Client(sim.url, timeouts=BRIEF) as other,
    ):
        changes: list[str] = []
        sim.refuse_sockets(60)
        sim.drop_sockets()
        await eventually(lambda: "no events" in session.why)
        await other.post({"prompt": large(8_000_000), "client_id": "somebody", "prompt_id": str(uuid.uuid4())})
        session.on_change = lambda one: changes.append("" if one.up else one.why)
        assert isinstance(await run(session, 2), Success)
        assert sim.count("GET", "/queue") > 1
        assert not any(changes)


async def test_a_busy_jobs_route_is_waited_for() -> None:
    """A 429 of /api/jobs says that the route exists, where /history does not."""
    async with serve(QUICK, Script((Fault("status", "history", status=404),))) as sim, Client(sim.url) as client:
        busy = spoil(sim, lambda ask: ask.path.startswith("/jobs/") and not busy, as_text("slow down", 429))
        await client.check_polling()
        assert len(busy) == 1


@pytest.mark.parametrize("reply", [HttpReply(429, b"", "", {"Retry-After": "90"}), as_text("bad gateway", 502)])
async def test_a_jobs_route_that_fails_is_not_said_to_be_missing(reply: HttpReply) -> None:
    """It is told as it is, so that it is waited for as long as it wants."""
    async with serve(QUICK, Script((Fault("status", "history", status=404),))) as sim, Client(sim.url) as client:
        spoil(sim, lambda ask: ask.path.startswith("/jobs/"), reply)
        with pytest.raises(HttpStatusError) as caught:
            await client.check_polling()
        assert caught.value.status == reply.status
        assert caught.value.retry_after == float(reply.headers.get("Retry-After", 0))


# ---- a server that refuses, and what else happens to it


async def test_nothing_spins_while_a_worker_rests_and_its_server_refuses() -> None:
    """There is nothing to ask before the rest is over."""
    async with serve(QUICK) as sim, Client(sim.url, timeouts=BRIEF) as client:
        asked = [0]

        def clock() -> float:
            asked[0] += 1
            return time.monotonic()

        session = ServerSession(client, timings=replace(SESSION_TIMINGS, rest=Backoff(0.5, 0.5), gap=0.3), clock=clock)
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[object]] = [
                group.create_task(session.listen()),
                group.create_task(session.watch()),
            ]
            await eventually(lambda: session.up)
            sim.process.zombie()
            tasks += [group.create_task(lost(session, number)) for number in (1, 2)]
            await eventually(lambda: session.worker_is_dead)
            for _ in range(3):
                session.picture_refused(
                    ImageRef("a.png", "", "output"), HttpStatusError(sim.url, "downloading an image", 403, "no")
                )
            assert session.refuses
            before = asked[0]
            sim.drop_sockets()  # as any proxy does: there is something to wake up for
            await eventually(lambda: not session.worker_is_dead)
            assert before < asked[0] < before + 200, "each turn asks the clock a few times"
            for task in tasks:
                task.cancel()


async def lost(session: ServerSession, number: int) -> None:
    with suppress(PromptLost):
        await run(session, number)


class _Process:
    """A ComfyUI that was started here, as its keeper knows it."""

    alive = True

    def __init__(self) -> None:
        self.polls, self.restarts = 0, list[str]()

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def is_too_big(self) -> bool:
        self.polls += 1
        return False

    async def restart(self, why: str) -> None:
        self.restarts.append(why)


async def test_a_comfyui_that_refuses_is_not_restarted_as_frozen() -> None:
    """It answers, however long it is away for what it answers; one that does not is frozen."""
    async with open_session() as (sim, session):
        process = _Process()
        load = ServerLoad(2, FleetHealth([session.name], full_jitter, 0.0).servers[session.name])
        timings = replace(RUN_TIMINGS, glance=0.01, frozen=0.0)
        supervisor = Supervisor(process, session, load, print, wake=lambda: None, timings=timings)  # type: ignore[arg-type]
        keeping = asyncio.create_task(supervisor())
        sim.lock(LAST, 401)
        assert not await session.check_polling()
        assert session.refuses
        seen = process.polls
        await eventually(lambda: process.polls >= seen + 3)
        assert session.away_since is not None
        assert not process.restarts
        await sim.stop()
        await eventually(lambda: bool(process.restarts))
        assert "has not answered" in process.restarts[0]
        keeping.cancel()


async def test_what_was_abandoned_while_a_server_refused_is_taken_back_when_it_does_not() -> None:
    """The other servers make it: what still waits or runs there would be paid for twice."""
    async with open_session(Settings(seconds=30.0)) as (sim, session):
        prompts = [asyncio.create_task(run(session, number)) for number in (1, 2)]
        await eventually(lambda: sim.world.remaining == 2 and session.in_flight == 2)
        sim.lock(LAST, 401)
        assert not await session.check_polling()
        session.abandon("it has refused for 30 s")
        assert all(isinstance(one, PromptLost) for one in await asyncio.gather(*prompts))
        sim.lock(0, 401)
        await eventually(lambda: session.up)
        await eventually(lambda: sim.world.remaining == 0)
        assert sim.sockets == 1, "no new socket did it"


async def test_a_process_that_is_gone_does_not_refuse() -> None:
    """Polls that its death has met are no wrong answers."""
    async with open_session(Settings(seconds=0.05), Fault("slow", "history", seconds=0.3)) as (sim, session):
        polls, history = [0], session.client.history

        async def counted(prompt_id: str) -> object:
            polls[0] += 1
            return await history(prompt_id)

        session.client.history = counted  # type: ignore[method-assign, assignment]
        prompts = [asyncio.create_task(run(session, number)) for number in (1, 2)]
        await eventually(lambda: polls[0] > 0)
        await sim.stop()
        await eventually(lambda: session.refuses or polls[0] > 6)
        assert not session.up
        assert not session.refuses
        assert "refused" in session.why, "the connection"
        for prompt in prompts:
            prompt.cancel()
        await asyncio.gather(*prompts, return_exceptions=True)


async def test_a_server_that_refused_and_dies_refuses_no_more() -> None:
    """It is waited for as every one that is gone, and used when it is there again."""
    async with open_session() as (sim, session):
        sim.lock(LAST, 401)
        assert not await session.check_polling()
        await sim.stop()
        await eventually(lambda: not session.refuses)
        assert not session.up
        sim.lock(0, 401)
        await sim.start()
        await eventually(lambda: session.up)


async def test_an_expired_token_is_reported_with_its_remedy_where_the_socket_is_cut_too() -> None:
    """Whoever is first to notice says what to do."""
    async with open_session() as (sim, session):
        sim.lock(LAST, 401)
        sim.drop_sockets()
        await eventually(lambda: not session.up)
        assert "HTTP 401" in session.why
        assert "headers = {" in session.why


async def test_frames_of_a_node_pack_do_not_bring_a_server_up_whose_http_is_reset(job: JobMaker) -> None:
    """A monitor tells the load of the GPU many times a second, through all of it; what is needed is an answer."""
    async with serve(QUICK) as sim:
        told = Told()
        wanted = job(sim.url, dataset={"count": 30}, limits={"give_up_after": 0.7})
        running = asyncio.create_task(filled(wanted, told=told))
        await eventually(lambda: sim.executed >= 3)
        for stream in ("post", "view", "history", "queue", "other"):
            sim.add(Fault("reset", stream, queued=False))
        frame = json.dumps({"type": "crystools.monitor", "data": {"cpu_utilization": 1}})
        while not running.done():
            sim.send(frame)
            await asyncio.wait([running], timeout=0.01)
        await running
        assert told.summary.exit_code == NO_SERVER
        assert len(absences(told)) == 1


async def test_new_sockets_do_not_bring_a_server_up_whose_http_is_reset(job: JobMaker) -> None:
    """Each of them can be opened and speaks; what is needed is an answer, so the server is away once."""
    async with serve(QUICK) as sim:
        told = Told()
        wanted = job(sim.url, dataset={"count": 30}, limits={"give_up_after": 0.7})
        running = asyncio.create_task(filled(wanted, told=told))
        await eventually(lambda: sim.executed >= 3)
        for stream in ("post", "view", "history", "queue", "other"):
            sim.add(Fault("reset", stream, queued=False))
        await eventually(lambda: bool(absences(told)))
        while not running.done():
            sim.drop_sockets()
            await asyncio.wait([running], timeout=0.1)
        await running
        assert told.summary.exit_code == NO_SERVER
        assert len(absences(told)) == 1


# ---- posts


async def test_a_post_that_was_carried_out_and_answered_with_a_page_is_searched_for(job: JobMaker) -> None:
    """A proxy's own answer tells nothing of what arrived: it is not paid for twice."""
    async with serve(Settings(seconds=0.1), Script((Fault("html", "post", nth=2, queued=True),))) as sim:
        told = await filled(job(sim.url))
        assert told.summary.exit_code == 0
        assert sim.executed == 6
        assert sim.count("POST", "/prompt") == 6


@pytest.mark.parametrize("place", [0, 2], ids=["first", "last"])
async def test_a_text_that_a_firewall_refuses_costs_its_own_images_only(job: JobMaker, place: int) -> None:
    """Wherever it stands in the plan, next to whatever: its server makes all the others."""
    texts = ["a cat", "a dog"]
    texts.insert(place, "a bird")
    async with serve(QUICK) as sim:
        spoilt = spoil(sim, posts_of("a bird"), BLOCKED)
        limits = {"give_ups_in_a_row": 1000, "give_up_share": 1.0}
        wanted = job(sim.url, dataset={"count": 36}, prompts={"positive": texts}, limits=limits)
        told = await filled(wanted)
        assert committed(told) == sim.executed == 24
        assert not absences(told)
        assert spoilt
        assert all(b"a bird" in ask.body for ask in spoilt)


async def test_a_text_over_which_every_server_raises_rests_no_server(job: JobMaker) -> None:
    """Of a LoRA that is broken, say: what raises here and elsewhere is the prompt's fault, and is given up."""
    quick = replace(QUICK, seconds=0.01)
    async with serve(quick) as one, serve(quick) as two:
        limits = {"attempts": 2, "give_ups_in_a_row": 1000, "give_up_share": 1.0}
        wanted = job(one.url, two.url, dataset={"count": 60}, limits=limits)
        (prepared,) = prepare(wanted, "test.toml")
        for sample in (prepared.plan.sample(index, 0) for index in range(60)):
            if "bird" in (sample.positive or ""):
                one.add(Fault("fail", seed=sample.seed))
                two.add(Fault("fail", seed=sample.seed))
        told = await filled(wanted, timings=HASTY)
        assert "every prompt raises there" not in troubles(told)
        assert committed(told) == 40
        assert sum(isinstance(event, progress.SlotGivenUp) for event in told.events) == 20


# ---- redirects


@pytest.mark.parametrize("form", ["http://LOCALHOST:{}/here", "HTTP://localhost:{}/here"])
async def test_this_server_in_other_letters_is_this_server(form: str) -> None:
    """A picture's address on it is given its headers."""
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/here":
            seen.append(request.headers.get("X-Api-Key"))
            return web.Response(body=b"png", content_type="image/png")
        return web.Response(status=302, headers={"Location": form.format(request.url.port)})

    async with answering(handler) as url:
        here = url.replace("127.0.0.1", "localhost")
        own = Client(here, headers={"X-Api-Key": "secret"}, timeouts=BRIEF)
        async with own as client, client.view(ImageRef("a.png", "", "output")) as download:
            assert [piece async for piece in download] == [b"png"]
    assert seen == ["secret"]
