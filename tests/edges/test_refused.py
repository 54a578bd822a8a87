"""HTTP answers, but not with what is needed, while the sockets live: said once, waited for, and nothing paid twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from reggen import progress
from reggen.errors import NO_SERVER, NoUsableServer
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.sim.http.reply import HttpReply, HttpRequest, as_json
from tests.conftest import JobMaker, Told, eventually, filled
from tests.invariants import assert_sound

QUICK = Settings(seconds=0.02)
LAST = 10**9


def absences(told: Told) -> list[progress.ServerChanged]:
    return [event for event in told.events if isinstance(event, progress.ServerChanged) and not event.up]


def troubles(told: Told) -> str:
    return "\n".join(event.text for event in told.events if isinstance(event, progress.Trouble))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "HTTP 401: 401: you may not; give this server valid credentials in [[servers]]: headers = { Auth"),
        (403, "HTTP 403"),
        (404, "HTTP 404"),
        (502, "HTTP 502"),
        (200, 'a web page ("Sign in"); something in front of ComfyUI answers'),
    ],
)
async def test_a_server_that_refuses_everything_is_away_with_its_reason_and_heals(
    job: JobMaker, status: int, reason: str
) -> None:
    """A token that expires: away once, in words; nothing is made twice, and all is well when it is valid again."""
    async with serve(QUICK) as sim:
        told = Told()
        running = asyncio.create_task(filled(job(sim.url, dataset={"count": 12}), told=told))
        await eventually(lambda: sim.executed >= 3)
        sim.lock(LAST, status)
        await eventually(lambda: bool(absences(told)))
        assert sim.sockets == 1, "the socket lives on"
        await eventually(lambda: any(isinstance(event, progress.ServersAwaited) for event in told.events))
        sim.lock(0, status)
        await running
        (away,) = absences(told)
        assert reason in away.why
        assert told.summary.exit_code == 0
        assert sim.executed == 12
        assert_sound(job(sim.url, dataset={"count": 12}))


async def test_a_refusal_is_reported_within_seconds_at_the_pace_of_the_night() -> None:
    """Three polls in a row, two seconds apart: far within a quarter of a minute."""
    from reggen.comfy.client import Client, Timeouts
    from reggen.comfy.session import ServerSession
    from tests.edges.test_session import run

    async with serve(Settings(seconds=0.2)) as sim, Client(sim.url, timeouts=Timeouts(1, 1, 1)) as client:
        session = ServerSession(client)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(session.listen()), group.create_task(session.watch())]
            await eventually(lambda: session.up)
            prompt = group.create_task(run(session))
            await eventually(lambda: session.in_flight == 1)
            sim.lock(LAST, 401)
            await eventually(lambda: not session.up, limit=15.0)
            sim.lock(0, 401)
            await prompt
            for task in tasks:
                task.cancel()


async def test_a_history_that_is_forbidden_counts_though_the_queue_is_answered(job: JobMaker) -> None:
    """Half a proxy: what is asked about the queue succeeds each time, and says nothing about the history."""
    async with serve(QUICK) as sim:
        told = Told()
        running = asyncio.create_task(filled(job(sim.url), told=told))
        await eventually(lambda: sim.executed >= 1)
        sim.add(Fault("status", "history", status=403, times=10))
        await running
        assert any("reading the history: HTTP 403" in away.why for away in absences(told))
        assert told.summary.exit_code == 0
        assert sim.executed == 6


async def test_where_no_history_is_known_the_jobs_are_asked(job: JobMaker) -> None:
    """404 is never "unknown id": /api/jobs/{id} says the same, images, failures and all."""
    script = Script((Fault("status", "history", status=404), Fault("fail", nth=2)))
    async with serve(QUICK, script) as sim:
        told = await filled(job(sim.url))
        assert told.summary.exit_code == 0
        assert not absences(told)
        assert "RuntimeError" in troubles(told)


async def test_a_server_where_no_prompt_can_be_followed_is_named_before_the_first_post(job: JobMaker) -> None:
    """An old ComfyUI behind a proxy that knows no /history has no /api/jobs either."""
    script = Script((Fault("status", "history", status=404),))
    async with serve(Settings(version="0.3.64"), script) as sim:
        with pytest.raises(NoUsableServer, match="neither /history nor /api/jobs"):
            await filled(job(sim.url))
        assert sim.count("POST", "/prompt") == 0


@pytest.mark.parametrize("status", [413, 401, 403, 404, 405])
async def test_a_post_that_is_refused_for_good_is_not_tried_for_ever(job: JobMaker, status: int) -> None:
    """Looks are answered, posts are not: after a few the server is left out, with what to do, and the run ends."""
    async with serve(QUICK, Script((Fault("status", "post", status=status),))) as sim:
        told = await filled(job(sim.url))
        assert told.summary.exit_code == NO_SERVER
        assert f"queueing a prompt: HTTP {status}" in str(told.summary.error)
        assert sim.count("POST", "/prompt") <= 10
        assert "is left out of this run" in troubles(told)
    if status == 413:
        assert "client_max_body_size" in str(told.summary.error)


async def test_a_server_that_refuses_posts_leaves_its_work_to_the_other(job: JobMaker) -> None:
    """It is left out, once; no image loses a try."""
    async with serve(QUICK, Script((Fault("status", "post", status=413),))) as front, serve(QUICK) as good:
        wanted = job(front.url, good.url, dataset={"count": 30}, limits={"attempts": 1})
        told = await filled(wanted)
        assert told.summary.exit_code == 0
        assert front.executed == 0
        assert good.executed == 30
        assert_sound(wanted)


async def test_pictures_that_a_proxy_never_lets_through_are_made_elsewhere(job: JobMaker) -> None:
    """Their server counts as away, with the reason, and no more is sent there to be lost."""
    async with serve(QUICK, Script((Fault("status", "view", status=403),))) as front, serve(QUICK) as good:
        wanted = job(front.url, good.url, dataset={"count": 30})
        told = await filled(wanted)
        assert told.summary.exit_code == 0
        assert any("downloading an image: HTTP 403" in away.why for away in absences(told))
        assert front.executed < 15
        assert_sound(wanted)


async def test_a_login_page_in_place_of_a_picture_is_no_torn_picture(job: JobMaker) -> None:
    """The server is away until it hands the picture out; no seed is spent, and nothing is made twice."""
    async with serve(QUICK, Script((Fault("html", "view", times=9),))) as sim:
        told = await filled(job(sim.url))
        assert told.summary.exit_code == 0
        assert sim.executed == 6
        assert any('a web page ("Bad gateway")' in away.why for away in absences(told))


async def test_a_server_on_which_every_prompt_raises_is_named_and_rests(job: JobMaker) -> None:
    """Its output folder is read-only, say: the others make the images, which lose no attempts to it."""
    script = Script((Fault("fail", exception="PermissionError", message="read-only file system"),))
    async with serve(QUICK, script) as bad, serve(QUICK) as good:
        wanted = job(bad.url, good.url, dataset={"count": 40}, limits={"attempts": 2})
        told = await filled(wanted)
        assert told.summary.exit_code == 0
        assert "every prompt raises there while others make images" in troubles(told)
        assert bad.count("POST", "/prompt") < good.count("POST", "/prompt"), "it rests, though it raises at once"
        assert_sound(wanted)


async def test_a_limit_on_requests_does_not_refuse_the_start(job: JobMaker) -> None:
    """Four requests a second: the preflight waits as long as it is told, and begins."""
    faults = [Fault("status", "other", every=2, status=429, retry_after=1, times=2)]
    faults += [Fault("status", "history", nth=1, status=503)]
    async with serve(QUICK, Script(tuple(faults))) as sim:
        told = await filled(job(sim.url))
        assert told.summary.exit_code == 0
        assert not absences(told)


async def test_a_limit_on_requests_all_night_only_slows_the_run(job: JobMaker) -> None:
    """A proxy that lets one request pass every 50 ms, and no two together: every image comes, and none twice."""
    async with serve(QUICK) as sim:
        answer, last = sim.answer, [0.0]

        async def limits(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            now = time.monotonic()
            if now - last[0] < 0.05:
                return HttpReply(503, b"limited", "text/plain"), None
            last[0] = now
            return await answer(ask)

        sim.answer = limits  # type: ignore[method-assign]
        told = await filled(job(sim.url), limit=60)
        assert told.summary.exit_code == 0
        assert sim.executed == 6


async def test_one_unfit_server_and_one_that_is_off_are_both_named_while_waiting(job: JobMaker) -> None:
    """With --wait, too: the one that is there will not do, and the other is waited for."""
    async with serve(Settings(checkpoints=("other.safetensors",))) as unfit:
        wanted = job(unfit.url, "http://127.0.0.1:9", limits={"give_up_after": 0.1})
        told = Told()
        with pytest.raises(NoUsableServer) as caught:
            await filled(wanted, wait=True, told=told)
        for words in ("is not in the server's list", "connection refused"):
            assert words in str(caught.value)


async def test_a_refusal_counts_for_give_up_after(job: JobMaker) -> None:
    """All servers refuse for longer than the job will wait: exit 4, with the reason."""
    async with serve(QUICK) as sim:
        told = Told()
        wanted = job(sim.url, limits={"give_up_after": 1.0})
        running = asyncio.create_task(filled(wanted, told=told))
        await eventually(lambda: sim.executed >= 2)
        sim.lock(LAST, 401)
        await running
        assert told.summary.exit_code == NO_SERVER
        assert "HTTP 401" in str(told.summary.error)


async def test_sockets_that_a_proxy_cuts_again_and_again_are_reported_once(job: JobMaker) -> None:
    """One cut is not worth a word, and the tenth is none either."""
    async with serve(Settings(seconds=0.2), Script((Fault("drop", on="time", every=0.25, at=0.25, times=12),))) as sim:
        told = await filled(job(sim.url, dataset={"count": 16}))
        assert told.summary.exit_code == 0
        said: Sequence[progress.ServerChanged] = [
            event for event in told.events if isinstance(event, progress.ServerChanged) and event.why
        ]
        assert [event.why for event in said if "cut again and again" in event.why]
        assert len(said) <= 2
        assert sim.executed == 16


async def test_gaps_between_prompts_are_no_death(job: JobMaker) -> None:
    """Every prompt is followed by a gap in which nothing runs and some wait; polls fall into it again and again."""
    async with serve(Settings(seconds=0.02, gap=0.3)) as sim:
        told = await filled(job(sim.url, dataset={"count": 12}))
        assert not absences(told)
        assert sim.executed == 12


async def test_gaps_are_no_death_without_events_either(job: JobMaker) -> None:
    """A proxy without websockets: there is nothing but polls."""
    async with serve(Settings(seconds=0.02, gap=0.3)) as sim:
        sim.refuse_sockets(60)
        told = await filled(job(sim.url, dataset={"count": 8}))
        assert not any("dead" in away.why for away in absences(told))
        assert sim.executed == 8


async def test_prompts_on_a_server_that_refuses_are_no_suspects(job: JobMaker) -> None:
    """It did not die over them: they go to the other server, and share it with the rest."""
    async with serve(Settings(seconds=0.3)) as front, serve(Settings(seconds=0.3)) as good:
        told = Told()
        wanted = job(front.url, good.url, dataset={"count": 14}, limits={"away": 0.2})
        running = asyncio.create_task(filled(wanted, told=told))
        await eventually(lambda: front.executed >= 1)
        front.lock(LAST, 401)
        await running
        assert told.summary.exit_code == 0
        held, first, shared = 0, dict[str, str](), list[bool]()
        for event in told.events:
            if isinstance(event, progress.PromptPosted):
                (name,) = event.names
                if event.server == wanted.servers[1].name:
                    if first.get(name) == wanted.servers[0].name:
                        shared.append(held > 0)
                    held += 1
                first.setdefault(name, event.server)
            elif isinstance(event, progress.PromptLeft) and event.server == wanted.servers[1].name:
                held -= 1
        assert any(shared), "each of them had the other server to itself"


@pytest.mark.parametrize("stream", ["history", "queue"])
async def test_wrong_answers_now_and_then_are_no_absence(job: JobMaker, stream: str) -> None:
    """Two of four go wrong for a while, never three in a row: the right ones in between count."""
    wrong = tuple(number for number in range(4, 40) if number % 4 < 2)
    async with serve(QUICK, Script((Fault("status", stream, nth=wrong, status=500),))) as sim:
        if stream == "queue":  # without events every poll reads the queue
            sim.refuse_sockets(60)
            sim.answer = unseen(sim)  # type: ignore[method-assign]
        told = await filled(job(sim.url, dataset={"count": 8}), limit=60)
        assert told.summary.exit_code == 0
        assert not absences(told)
        assert sim.executed == 8


def unseen(sim: Sim) -> Callable[[HttpRequest], Coroutine[Any, Any, tuple[HttpReply, Fault | None]]]:
    """Answer GET /prompt past the faults: only polls of the queue are counted."""
    answer = sim.answer

    async def answers(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        if ask.path == "/prompt" and ask.method == "GET":
            return as_json({"exec_info": {"queue_remaining": sim.world.remaining}}), None
        return await answer(ask)

    return answers
