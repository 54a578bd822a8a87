"""One server in conversation: sockets that break in every way, prompts that go astray."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.history import Outcome, Success
from reggen.comfy.session import ServerSession
from reggen.errors import PromptInterrupted, PromptLost, Unreachable
from reggen.sim import Fault, Script, Settings, Sim, serve
from reggen.workflow.graph import Graph, built_in
from tests.conftest import SESSION_TIMINGS, eventually

BRIEF = Timeouts(connect=1.0, request=1.0, download=2.0)


@asynccontextmanager
async def open_session(settings: Settings | None = None, *faults: Fault) -> AsyncIterator[tuple[Sim, ServerSession]]:
    """A stand-in and a session with it that is up."""
    settings = settings or Settings(seconds=0.02)
    async with serve(settings, script=Script(faults)) as sim, Client(sim.url, timeouts=BRIEF) as client:
        session = ServerSession(client, timings=SESSION_TIMINGS)
        async with asyncio.TaskGroup() as group:
            talking = [group.create_task(session.listen()), group.create_task(session.watch())]
            await eventually(lambda: session.up)
            yield sim, session
            for task in talking:
                task.cancel()


def graph(seed: int) -> Graph:
    made = built_in()
    made["4"]["inputs"]["ckpt_name"] = "AnythingXL_inkBase.safetensors"
    made["3"]["inputs"]["seed"] = seed
    made["5"]["inputs"].update(width=64, height=64)
    return made


async def run(session: ServerSession, seed: int = 1) -> Outcome:
    async with asyncio.timeout(30):
        return await session.execute(graph(seed), str(uuid.uuid4()), {"index": seed})


async def test_a_prompt_comes_back_with_its_images() -> None:
    """Posted, followed, and polled once."""
    async with open_session() as (sim, session):
        outcome = await run(session)
        assert isinstance(outcome, Success)
        assert len(outcome.images["9"]) == 1
        assert outcome.seconds is not None
        assert sum("/history" in request.path for request in sim.requests) == 1
        assert session.in_flight == 0


async def test_every_socket_has_a_client_id_of_its_own() -> None:
    """Reused, the server would unregister the new socket together with the old one."""
    async with open_session() as (sim, session):
        for number in (1, 2, 3):
            sim.drop_sockets()
            await eventually(lambda: sim.sockets == 0)
            await eventually(lambda: sim.sockets == 1)
            assert isinstance(await run(session, number), Success)
        ids = [request.query["clientId"] for request in sim.requests if request.path == "/ws"]
        assert len(ids) == len(set(ids)) >= 2


async def test_a_deaf_socket_is_found_out_and_replaced() -> None:
    """It is open, pings are answered, and nothing is heard: the missing canary tells."""
    async with open_session() as (sim, session):
        sim.deafen()
        assert isinstance(await run(session), Success)
        await eventually(lambda: sim.count("GET", "/ws") >= 2 or sim.sockets == 1)
        await eventually(lambda: not session.why)
        polls = sum("/queue" in request.path for request in sim.requests)
        assert isinstance(await run(session, 2), Success)
        assert sum("/queue" in request.path for request in sim.requests) == polls, "hearing again: no more polling"


async def test_without_any_socket_prompts_are_followed_by_polling() -> None:
    """HTTP works, /ws does not: gently, and every image comes."""
    async with open_session() as (sim, session):
        sim.refuse_sockets(60)
        sim.drop_sockets()
        await eventually(lambda: "polling instead" in session.why)
        assert session.up
        assert isinstance(await run(session), Success)


async def test_a_prompt_that_ends_while_the_socket_is_gone_is_settled_after() -> None:
    """Nothing is replayed: what was in flight is polled."""
    async with open_session(Settings(seconds=0.2)) as (sim, session):
        running = asyncio.create_task(run(session))
        await eventually(lambda: session.in_flight == 1)
        sim.refuse_sockets(0.5)
        sim.drop_sockets()
        assert isinstance(await running, Success)


async def test_a_restart_with_amnesia_loses_the_prompt_and_says_so() -> None:
    """It is neither queued nor in the history any more."""
    async with open_session(Settings(seconds=5.0)) as (sim, session):
        running = asyncio.create_task(run(session))
        await eventually(lambda: session.in_flight == 1)
        await sim.restart(down=0.2)
        assert isinstance(await running, PromptLost)
        await eventually(lambda: session.up)


async def test_a_server_that_goes_away_is_reported_and_comes_back() -> None:
    """`up` says whether there is any point in posting."""
    async with open_session() as (sim, session):
        await sim.stop()
        await eventually(lambda: not session.up and session.away_since is not None)
        await sim.start()
        await eventually(lambda: session.up and session.away_since is None)
        assert isinstance(await run(session), Success)


async def test_somebody_s_interrupt_is_distinguished_from_a_failure() -> None:
    """The history says "error" for both; the last message decides."""
    async with open_session(Settings(seconds=2.0)) as (sim, session):
        running = asyncio.create_task(run(session))
        await eventually(lambda: sim.world.running is not None)
        sim.process.interrupt()
        assert isinstance(await running, PromptInterrupted)


@pytest.mark.parametrize("version", ["0.33.0", "0.3.64", "2024-10", "2024-07"])
async def test_servers_of_all_years_are_followed(version: str) -> None:
    """Own ids, no execution_success, no frames for cached outputs: the ending is found all the same."""
    async with open_session(Settings(seconds=0.02, version=version)) as (_, session):
        for seed in (1, 2, 2):
            outcome = await run(session, seed)
            assert isinstance(outcome, Success)
            assert len(outcome.images["9"]) == 1


async def test_a_post_without_an_answer_is_searched_for_and_not_repeated() -> None:
    """The prompt was queued although the answer never came: it is found by its id, and runs once."""
    async with open_session(None, Fault("silent", on="post", nth=1)) as (sim, session):
        assert isinstance(await run(session), Success)
        assert sim.executed == 1


async def test_letting_go_ends_every_prompt_as_lost_and_takes_it_back_later() -> None:
    """The server stays away, others do the work; when it is back, it must not do it as well."""
    async with open_session(Settings(seconds=5.0)) as (sim, session):
        running = [asyncio.create_task(run(session, seed)) for seed in (1, 2)]
        await eventually(lambda: session.in_flight == 2)
        session.abandon("tested")
        assert [type(await one) for one in running] == [PromptLost, PromptLost]
        sim.drop_sockets()
        await eventually(lambda: not sim.world.pending)


async def test_withdrawing_takes_own_prompts_and_leaves_other_people_s() -> None:
    """By id: the queue may be shared."""
    async with open_session(Settings(seconds=5.0)) as (sim, session), Client(sim.url, timeouts=BRIEF) as other:
        theirs = await other.post({"prompt": graph(99), "client_id": "x"})
        running = [asyncio.create_task(run(session, seed)) for seed in (1, 2)]
        await eventually(lambda: session.in_flight == 2)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await session.withdraw()
        assert (await other.queue()).running == (theirs.prompt_id,)
        assert (await other.queue()).pending == ()


async def test_an_old_server_is_not_interrupted() -> None:
    """Before September 2025 an interrupt ended whatever ran: better let our own finish than hit a stranger's."""
    async with open_session(Settings(seconds=1.0, version="2024-10")) as (sim, session):
        running = asyncio.create_task(run(session))
        await eventually(lambda: sim.world.running is not None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await session.withdraw()
        assert sim.count("POST", "/interrupt") == 0


async def test_a_post_to_a_dead_server_is_unreachable_at_once() -> None:
    """Known not to have arrived: nothing to search for."""
    async with open_session() as (sim, session):
        await sim.stop()
        with pytest.raises(Unreachable) as caught:
            await run(session)
        assert not caught.value.may_have_arrived
        await sim.start()


async def drop_dead(session: ServerSession, running: asyncio.Task[Outcome]) -> None:
    """The prompt comes back as lost, and the session says what is wrong with the server."""
    ending = await running
    assert isinstance(ending, PromptLost)
    assert "its worker is dead" in ending.what
    assert not session.up
    assert "restart that ComfyUI" in session.why


async def test_a_server_that_takes_prompts_and_runs_none_is_found_out() -> None:
    """Its worker thread died: HTTP answers, the queue does not move."""
    async with open_session(None, Fault("zombie", on="start", nth=1, face="idle")) as (_, session):
        await drop_dead(session, asyncio.create_task(run(session)))


async def test_a_prompt_that_runs_for_ever_is_interrupted_and_its_server_found_out() -> None:
    """Nothing is heard of it, and the interrupt changes nothing."""
    async with open_session(None, Fault("zombie", on="start", nth=1, face="running")) as (sim, session):
        await drop_dead(session, asyncio.create_task(run(session)))
        assert sim.count("POST", "/interrupt") == 1


async def test_a_dead_worker_s_server_is_used_again_once_it_was_restarted() -> None:
    """The new process has a new worker."""
    async with open_session(None, Fault("zombie", on="start", nth=1)) as (sim, session):
        await drop_dead(session, asyncio.create_task(run(session)))
        await sim.restart(down=0.1)
        await eventually(lambda: session.up)
        assert isinstance(await run(session), Success)


async def test_a_slow_prompt_is_not_taken_for_a_dead_worker() -> None:
    """Silent for long, as model loading is, and well: judged by polling, not by silence."""
    async with open_session(Settings(seconds=1.2)) as (_, session):
        assert isinstance(await run(session), Success)


async def test_a_server_that_once_did_not_answer_a_poll_is_found_again_with_nothing_in_flight() -> None:
    """Its socket stayed open and it is idle: no frame and no poll would ever tell."""
    async with open_session(None, Fault("reset", on="history", nth=(1, 2))) as (_, session):
        assert not await session.check_polling()
        assert not session.up
        await eventually(lambda: session.up)
        assert isinstance(await run(session), Success)


@pytest.mark.parametrize("version", ["0.33.0", "2024-07"])
async def test_what_is_kept_is_taken_out_of_the_history_some_at_a_time(version: str) -> None:
    """Prompts whose pictures are saved, by the server's own ids; the rest at the end. Others stay."""
    async with open_session(Settings(seconds=0.0, version=version)) as (sim, _):
        other = Client(sim.url, timeouts=BRIEF)
        async with other, asyncio.TaskGroup() as group:
            session = ServerSession(other, timings=SESSION_TIMINGS, keeps_history=False)
            talking = [group.create_task(session.listen()), group.create_task(session.watch())]
            await eventually(lambda: session.up)
            for number in range(40):
                prompt_id = str(uuid.uuid4())
                await session.execute(graph(number), prompt_id, {"index": number})
                await session.release(prompt_id, saved=number != 7)
            assert sim.count("POST", "/history") == 1
            await session.withdraw()
            assert sim.count("POST", "/history") == 2
            assert len(sim.world.history) == 1
            for task in talking:
                task.cancel()


async def test_frames_of_a_worker_that_works_clear_the_suspicion_against_it() -> None:
    """A long gap before our prompt, under watch already; somebody else's frames show that the worker lives."""
    async with open_session(None, Fault("gap", nth=1, seconds=2.5)) as (sim, session):
        running = asyncio.create_task(run(session))
        await eventually(lambda: sim.count("GET", "/queue") >= 2)
        while not running.done():
            sim.send('{"type": "progress", "data": {"prompt_id": "another", "value": 1, "max": 2}}')
            await asyncio.wait({running}, timeout=0.05)
        assert isinstance(running.result(), Success)
        assert not session.worker_is_dead
