"""Every fault over loopback: what a client sees of it, and what the server did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from reggen.sim import Fault, Mark, Script, Settings, Sim, read_mark, serve
from reggen.sim.http.connections import reset
from reggen.sim.http.hub import GARBAGE
from reggen.sim.http.reply import HttpReply, HttpRequest
from tests.conformance.harness import Comfy, Ear, eventually, names, plain, some_color, txt2img

MINE = "6043546d-d4d9-426e-a359-ef43c0b4d82f"


@asynccontextmanager
async def troubled(*faults: Fault, **settings: Any) -> AsyncIterator[tuple[Sim, Comfy]]:
    """A server with these faults, and a client for it."""
    async with (
        serve(Settings(**settings), Script(faults)) as sim,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
    ):
        yield sim, Comfy(sim.url, http)


async def saved(comfy: Comfy) -> dict[str, str]:
    """A picture on the server."""
    prompt_id = await comfy.submit(txt2img(some_color()))
    (image,) = await comfy.images(prompt_id, "9")
    return image


async def finished(comfy: Comfy, ear: Ear) -> tuple[str, list[str], Any]:
    """Run a prompt: its id, its frames, its history entry."""
    prompt_id = await comfy.submit(txt2img(some_color()), client_id=ear.client_id)
    frames = await ear.until_done(prompt_id)
    return prompt_id, names(frames), await comfy.entry(prompt_id)


# Requests


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_status_before_the_prompt_is_queued(status: int):
    """The request is answered with another status, and nothing has happened."""
    async with troubled(Fault("status", "post", nth=1, status=status, retry_after=3)) as (sim, comfy):
        async with comfy.http.post(comfy.url + "/prompt", json={"prompt": plain(1)}) as response:
            assert response.status == status
            assert response.headers["Retry-After"] == "3"
        assert await comfy.get("/prompt") == {"exec_info": {"queue_remaining": 0}}
        assert await comfy.submit(plain(1))
    assert [one.status for one in sim.requests if one.path == "/prompt" and one.method == "POST"] == [status, 200]


async def test_status_after_the_prompt_was_queued():
    """A proxy's 502 may hide a prompt that is accepted and runs."""
    async with troubled(Fault("status", "post", nth=1, status=502, queued=True)) as (_, comfy):
        body = {"prompt": plain(1), "prompt_id": MINE}
        assert (await comfy.post("/prompt", body))[0] == 502
        assert (await comfy.entry(MINE))["status"]["status_str"] == "success"


@pytest.mark.parametrize("do", ["silent", "reset"])
async def test_post_without_an_answer_is_carried_out(do: str):
    """The answer never comes, or the connection breaks; the prompt runs all the same."""
    async with troubled(Fault(do, "post", nth=1)) as (sim, comfy):
        body = {"prompt": plain(1), "prompt_id": MINE}
        short = aiohttp.ClientTimeout(total=0.3)
        with pytest.raises((asyncio.TimeoutError, aiohttp.ClientError)):
            await comfy.http.post(comfy.url + "/prompt", json=body, timeout=short)
        assert (await comfy.entry(MINE))["status"]["status_str"] == "success"
    assert [one.status for one in sim.requests if one.method == "POST"] == [0]


async def test_post_without_an_answer_may_be_lost():
    """With queued = false the broken request has had no effect."""
    async with troubled(Fault("reset", "post", nth=1, queued=False)) as (_, comfy):
        with pytest.raises(aiohttp.ClientError):
            await comfy.http.post(comfy.url + "/prompt", json={"prompt": plain(1), "prompt_id": MINE})
        assert await comfy.get(f"/history/{MINE}") == {}
        assert await comfy.get("/prompt") == {"exec_info": {"queue_remaining": 0}}


async def test_rejected_prompt():
    """A valid prompt is refused as if it were not, with the words that were asked for."""
    async with troubled(Fault("reject", nth=1, message="bad day")) as (_, comfy):
        status, body = await comfy.post("/prompt", {"prompt": plain(1)})
    assert (status, body["error"]["details"]) == (400, "bad day")


@pytest.mark.parametrize(("stream", "path"), [("history", "/history"), ("queue", "/queue"), ("view", "/view")])
async def test_html_instead_of_what_was_asked_for(stream: str, path: str):
    """A page of HTML comes with status 200."""
    async with troubled(Fault("html", stream)) as (_, comfy), comfy.http.get(comfy.url + path) as response:
        assert (response.status, response.content_type) == (200, "text/html")


async def test_slow_answer():
    """The answer is right, but late."""
    async with troubled(Fault("slow", "history", nth=1, seconds=0.2)) as (_, comfy):
        began = time.monotonic()
        assert await comfy.get("/history") == {}
        assert time.monotonic() - began >= 0.2


async def test_a_socket_whose_connection_breaks_while_it_opens(monkeypatch: pytest.MonkeyPatch):
    """It is nobody's failure: no task of the stand-in ends with an error."""
    failed: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(str(context)))
    async with troubled() as (sim, comfy):
        admit, port = sim.admit, sim._port

        async def admit_and_break(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            admitted = await admit(ask)
            for transport in port.transports():
                reset(transport)
            return admitted

        monkeypatch.setattr(sim, "admit", admit_and_break)
        for _ in range(3):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await comfy.http.ws_connect(f"{comfy.url}/ws")
        assert await comfy.get("/history") == {}
    assert failed == []


# Pictures


async def test_cut_picture():
    """Fewer bytes arrive than Content-Length says; the next request gets them all."""
    async with troubled(Fault("cut", nth=1, share=0.5)) as (_, comfy):
        image = await saved(comfy)
        with pytest.raises(aiohttp.ClientPayloadError):
            await comfy.view(image)
        assert (await comfy.view(image)).endswith(b"IEND\xaeB`\x82")


async def test_trickling_picture():
    """The whole picture comes, in small pieces over so many seconds."""
    async with troubled(Fault("trickle", nth=1, seconds=0.3)) as (_, comfy):
        image = await saved(comfy)
        began = time.monotonic()
        read_mark(await comfy.view(image))
        assert time.monotonic() - began >= 0.25


async def test_endless_picture():
    """A body without a length goes on for as long as somebody reads."""
    async with troubled(Fault("endless", nth=1)) as (_, comfy):
        image = await saved(comfy)
        async with comfy.http.get(comfy.url + "/view", params=image) as response:
            assert "Content-Length" not in response.headers
            assert len(await response.content.readexactly(1_000_000)) == 1_000_000


async def test_swapped_picture():
    """The file is whole and valid, and another: it shows something else, and says so of itself."""
    async with troubled(Fault("swap", nth=1)) as (_, comfy):
        prompt_id = await comfy.submit(txt2img(99))
        (image,) = await comfy.images(prompt_id, "9")
        assert read_mark(await comfy.view(image)) != Mark.of("a cat", 99, 64, 64)
        assert read_mark(await comfy.view(image)) == Mark.of("a cat", 99, 64, 64)


# Sockets


async def test_dropped_socket():
    """Sockets break without a close frame; new ones open at once."""
    async with troubled(Fault("drop", "post", nth=1)) as (sim, comfy):
        async with comfy.ear() as ear:
            await comfy.submit(plain(1))
            await asyncio.wait_for(ear.connection.wait_closed(), 30)
            with pytest.raises(ConnectionClosedError) as caught:
                await ear.connection.recv()
            assert caught.value.rcvd is None
        async with comfy.ear():
            await eventually(lambda: sim.sockets == 1)


async def test_closed_socket():
    """With a close frame the client learns the code."""
    async with troubled(Fault("drop", "start", abrupt=False, code=1012)) as (_, comfy), comfy.ear() as ear:
        await comfy.submit(plain(1))
        await asyncio.wait_for(ear.connection.wait_closed(), 30)
        assert ear.connection.close_code == 1012


async def test_refused_sockets():
    """For so many seconds no socket opens; requests work."""
    async with troubled(Fault("refuse", "post", nth=1, seconds=0.3)) as (sim, comfy):
        await comfy.submit(plain(1))
        with pytest.raises(InvalidStatus):
            async with comfy.ear():
                pass
        async with asyncio.timeout(30):
            while not await opens(comfy):
                await asyncio.sleep(0.01)
    statuses = [one.status for one in sim.requests if one.path == "/ws"]
    assert (statuses[0], statuses[-1], set(statuses)) == (503, 101, {503, 101})


async def opens(comfy: Comfy) -> bool:
    """Whether a socket can be opened."""
    try:
        async with comfy.ear():
            return True
    except InvalidStatus:
        return False


async def test_refused_socket_by_number():
    """A fault on `ws` strikes one attempt."""
    async with troubled(Fault("status", "ws", nth=1, status=502)) as (_, comfy):
        with pytest.raises(InvalidStatus):
            async with comfy.ear():
                pass
        async with comfy.ear():
            pass


async def test_deaf_socket():
    """The socket stays open and answers pings, and hears nothing of its own prompt."""
    async with troubled(Fault("deafen", "post", nth=1)) as (sim, comfy), comfy.ear() as ear:
        prompt_id = await comfy.submit(plain(1), client_id=ear.client_id)
        await comfy.entry(prompt_id)
        await asyncio.wait_for(await ear.connection.ping(), 30)
        assert len(ear.frames) == 1
        assert sim.sockets == 1


async def test_lost_frame():
    """One frame of a type is missing, the others are there."""
    async with troubled(Fault("lose", event="executed", nth=1)) as (_, comfy), comfy.ear() as ear:
        _, first, _ = await finished(comfy, ear)
        _, second, _ = await finished(comfy, ear)
    assert "executed:9" not in first
    assert "executed:9" in second


async def test_lost_ending():
    """Even the last frame can be lost; history knows better."""
    async with troubled(Fault("lose", event="executing", nth=3)) as (_, comfy), comfy.ear() as ear:
        first = await comfy.submit(plain(1), client_id=ear.client_id)
        assert (await comfy.entry(first))["status"]["completed"]
        second = await comfy.submit(plain(2), client_id=ear.client_id)
        await ear.until_done(second)
    assert names(ear.about(first))[-1] == "execution_success"


async def test_duplicated_frame():
    """A frame comes twice."""
    async with troubled(Fault("duplicate", event="execution_success")) as (_, comfy), comfy.ear() as ear:
        _, shown, _ = await finished(comfy, ear)
    assert shown.count("execution_success") == 2


async def test_delayed_frame():
    """A delay holds up the frame and everything after it."""
    async with troubled(Fault("delay", event="execution_start", seconds=0.3)) as (_, comfy), comfy.ear() as ear:
        began = time.monotonic()
        await finished(comfy, ear)
        assert time.monotonic() - began >= 0.3


async def test_garbage_and_huge_frames():
    """Text that is no JSON, types nobody knows and three megabytes at once arrive between the others."""
    faults = Fault("garbage", "start"), Fault("huge", "start")
    async with troubled(*faults) as (_, comfy), comfy.http.ws_connect(comfy.url + "/ws", max_msg_size=0) as ws:
        await comfy.submit(plain(1))
        heard: list[str | bytes] = []
        async with asyncio.timeout(30):
            while not any(isinstance(one, bytes) and len(one) > 2_900_000 for one in heard):
                heard.append((await ws.receive()).data)
    assert set(GARBAGE) <= set(heard)


# Executions


@pytest.mark.parametrize(
    ("fault", "node", "kind"),
    [
        (Fault("fail", exception="OSError", message="[Errno 28]", node="SaveImage"), "9", "OSError"),
        (Fault("fail"), "3", "RuntimeError"),
        (Fault("oom"), "3", "torch.OutOfMemoryError"),
    ],
)
async def test_failing_node(fault: Fault, node: str, kind: str):
    """The prompt ends with execution_error from the node that was named, or from the sampler."""
    async with troubled(fault) as (_, comfy), comfy.ear() as ear:
        _, shown, entry = await finished(comfy, ear)
    _, data = entry["status"]["messages"][-1]
    assert shown[-2:] == ["execution_error", "executing:None"]
    assert (data["node_id"], data["exception_type"]) == (node, kind)


@pytest.mark.parametrize("appearance", ["black", "flat", "noise", "wrong"])
async def test_picture_that_is_not_right(appearance: str):
    """Everything says success, only the picture is not what it should be."""
    async with troubled(Fault(appearance)) as (_, comfy):
        prompt_id = await comfy.submit(txt2img(5))
        (image,) = await comfy.images(prompt_id, "9")
        png = await comfy.view(image)
    try:
        mark = read_mark(png)
    except ValueError:
        mark = None
    assert mark != Mark.of("a cat", 5, 64, 64)


async def test_success_without_pictures():
    """A prompt ends well and has nothing to show."""
    async with troubled(Fault("blank")) as (_, comfy), comfy.ear() as ear:
        _, shown, entry = await finished(comfy, ear)
    assert entry["outputs"] == {}
    assert "executed:9" not in shown


async def test_interrupted_by_somebody():
    """The prompt ends as interrupted though nobody here asked for it."""
    async with troubled(Fault("interrupt", nth=1)) as (_, comfy), comfy.ear() as ear:
        _, shown, entry = await finished(comfy, ear)
    assert shown[-2] == "execution_interrupted"
    assert entry["status"]["status_str"] == "error"


async def test_vanishing_prompt():
    """The prompt is gone when its turn comes; the next one runs."""
    async with troubled(Fault("vanish", nth=1)) as (_, comfy), comfy.ear() as ear:
        lost = await comfy.submit(plain(1), client_id=ear.client_id)
        kept = await comfy.submit(plain(2), client_id=ear.client_id)
        await ear.until_done(kept)
        assert await comfy.get(f"/history/{lost}") == {}
        assert ear.about(lost) == []


@pytest.mark.parametrize(("face", "running", "pending"), [("running", 1, 1), ("idle", 0, 2)])
async def test_faces_of_a_zombie(face: str, running: int, pending: int):
    """A dead worker leaves a prompt running for ever, or takes none at all."""
    async with troubled(Fault("zombie", face=face)) as (sim, comfy):
        await comfy.submit(plain(1))
        await eventually(lambda: sim.world.dead)
        await comfy.submit(plain(2))
        queue = await comfy.get("/queue")
    assert (len(queue["queue_running"]), len(queue["queue_pending"])) == (running, pending)


# The whole server


RESTARTS = [
    Fault("restart", "start", nth=1, seconds=0.1),
    Fault("restart", "post", nth=1, seconds=0.1),
    Fault("restart", "event", event="execution_start", seconds=0.1, times=1),
    Fault("restart", at=0.1, seconds=0.1),
]


@pytest.mark.parametrize("fault", RESTARTS, ids=lambda fault: fault.on)
async def test_restart_from_anywhere(fault: Fault):
    """Whatever sets it off, the server comes back with an empty memory and goes on working."""
    async with troubled(fault, seconds=0.3) as (sim, comfy):
        first = sim.world
        async with comfy.ear() as ear:
            with contextlib.suppress(aiohttp.ClientError):
                await comfy.submit(txt2img(1), client_id=ear.client_id)
            await asyncio.wait_for(ear.connection.wait_closed(), 30)
        await eventually(lambda: sim.world is not first and sim.listening)
        assert await comfy.get("/history") == {}
        assert await comfy.entry(await comfy.submit(plain(1)))


async def test_freeze_by_script():
    """A frozen server answers late, and correctly."""
    async with troubled(Fault("freeze", "post", nth=1, seconds=0.3)) as (_, comfy), comfy.ear() as ear:
        began = time.monotonic()
        await finished(comfy, ear)
        assert time.monotonic() - began >= 0.3


async def test_a_gap_in_which_none_runs_though_some_wait():
    """What collecting garbage takes between two prompts: the queue shows none running and all waiting."""
    async with troubled(Fault("gap", nth=1, seconds=30.0)) as (sim, comfy):
        await comfy.submit(plain(1))
        await comfy.submit(plain(2))
        queue = await comfy.get("/queue")
        assert (len(queue["queue_running"]), len(queue["queue_pending"])) == (0, 2)
        assert not sim.world.dead


async def test_a_gap_before_every_prompt_is_a_setting():
    """`--gap` of the stand-in: every prompt waits that long before it runs, and runs."""
    async with troubled(gap=0.05) as (_, comfy):
        begun = time.monotonic()
        await comfy.images(await comfy.submit(txt2img(some_color())), "9")
        assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize(("status", "kind"), [(401, "text/plain"), (200, "text/html")])
async def test_a_lock_refuses_every_request_and_leaves_open_sockets_alone(status: int, kind: str):
    """A token that expires, or a session: HTTP says no, frames come all the same, and it passes."""
    async with troubled() as (sim, comfy), comfy.ear() as ear:
        prompt_id = await comfy.submit(txt2img(some_color()), client_id=ear.client_id)
        sim.lock(60, status)
        assert "execution_success" in names(await ear.until_done(prompt_id))
        for path in ("/queue", "/history", "/view", "/prompt", "/ws"):
            async with comfy.http.get(comfy.url + path) as response:
                assert (response.status, response.content_type) == (status, kind)
        sim.lock(0, status)
        assert await comfy.images(prompt_id, "9")
