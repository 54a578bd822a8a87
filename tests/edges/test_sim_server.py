"""The stand-in on a port: its life, its log, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from reggen.sim import Fault, Mark, Script, Settings, Sim, read_mark, run_forever, serve
from tests.conformance.harness import Comfy, eventually, plain, some_color, txt2img


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


def port_of(sim: Sim) -> int:
    """The port in a server's address."""
    return int(sim.url.rsplit(":", 1)[1])


def free_neighbours() -> int:
    """The first of two consecutive ports that nobody has."""
    while True:
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            other.bind(("127.0.0.1", port + 1))
            return port


async def test_everything_ends_with_the_context(http: aiohttp.ClientSession):
    """When `serve` returns, no task is left and the port is closed, whatever was going on."""
    before = asyncio.all_tasks()
    async with serve(Settings(seconds=30)) as sim:
        comfy = Comfy(sim.url, http)
        sim.add(Fault("silent", "history"))
        async with comfy.ear() as ear:
            await comfy.submit(txt2img(1), client_id=ear.client_id)
            await ear.until(lambda frame: frame["type"] == "execution_start")
            stuck = asyncio.create_task(comfy.get("/history"))
            await eventually(lambda: sim.count("GET", "/history") == 1)
            await sim.stop()
            with pytest.raises(aiohttp.ClientError):
                await stuck
    await eventually(lambda: asyncio.all_tasks() <= before)
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(sim.url)


async def test_stopping_waits_for_nobody(http: aiohttp.ClientSession):
    """Neither open sockets nor waiting prompts nor a request that is not answered for an hour hold up the end."""
    async with AsyncExitStack() as stack:
        async with serve(Settings(seconds=3600), Script((Fault("slow", "history", seconds=3600),))) as sim:
            comfy = Comfy(sim.url, http)
            for _ in range(5):
                await stack.enter_async_context(comfy.ear())
                await comfy.submit(txt2img(some_color()))
            assert sim.sockets == 5
            waiting = asyncio.create_task(comfy.get("/history"))
            await eventually(lambda: sim.director.armed[0].fired == 1)
        with pytest.raises(aiohttp.ClientError):
            await waiting
    assert sim.sockets == 0


async def test_many_servers_share_a_process(http: aiohttp.ClientSession):
    """A hundred servers start, work and stop within a few seconds."""
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(serve()) for _ in range(100)]
        ids = [await Comfy(sim.url, http).submit(plain(some_color())) for sim in sims]
        for sim, prompt_id in zip(sims, ids, strict=True):
            await Comfy(sim.url, http).entry(prompt_id)
        assert len({sim.url for sim in sims}) == 100
        assert [sim.executed for sim in sims] == [1] * 100


async def test_requests_are_logged_as_they_are_answered(http: aiohttp.ClientSession):
    """The log holds method, path, query, status and prompt id in the order of the answers."""
    async with serve() as sim:
        comfy = Comfy(sim.url, http)
        async with comfy.ear() as ear:
            prompt_id = await comfy.submit(plain(1), client_id=ear.client_id)
            await ear.until_done(prompt_id)
            await comfy.get(f"/history/{prompt_id}")
            await comfy.status_of("/api/view", filename="nope")
            await comfy.post("/prompt", {"prompt": {}})
        log = [(one.method, one.path, one.status, one.prompt_id) for one in sim.requests]
    assert log == [
        ("GET", "/ws", 101, None),
        ("POST", "/prompt", 200, prompt_id),
        ("GET", f"/history/{prompt_id}", 200, prompt_id),
        ("GET", "/api/view", 404, None),
        ("POST", "/prompt", 400, None),
    ]
    assert sim.requests[3].query == {"filename": "nope"}
    assert sim.count("GET", "/view") == 1
    assert [one.at for one in sim.requests] == sorted(one.at for one in sim.requests)


async def test_executed_counts_what_really_ran(http: aiohttp.ClientSession):
    """Cached prompts do not count; every saved picture does."""
    async with serve() as sim:
        comfy = Comfy(sim.url, http)
        for graph in (plain(1), plain(1), plain(2, batch=3)):
            await comfy.entry(await comfy.submit(graph))
    assert (sim.executed, sim.painted) == (2, 4)


async def test_marked_picture_comes_out_of_view(http: aiohttp.ClientSession):
    """What /view gives is the picture of the graph's own prompt, seed and size."""
    async with serve() as sim:
        comfy = Comfy(sim.url, http)
        prompt_id = await comfy.submit(txt2img(4711, size=128))
        (image,) = await comfy.images(prompt_id, "9")
        assert read_mark(await comfy.view(image)) == Mark.of("a cat", 4711, 128, 128)


async def test_restart_forgets_everything_but_the_files(http: aiohttp.ClientSession):
    """Sockets break, the port is closed for a while; then history is empty and numbers begin anew."""
    async with serve(Settings(seconds=30)) as sim:
        comfy = Comfy(sim.url, http)
        async with comfy.ear() as ear:
            saved = await comfy.submit(plain(1), client_id=ear.client_id)
            (image,) = await comfy.images(saved, "2")
            await comfy.submit(txt2img(1))
            restart = asyncio.create_task(sim.restart(down=0.2))
            await asyncio.wait_for(ear.connection.wait_closed(), 30)
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.get(sim.url + "/prompt")
            await restart
        assert await comfy.get(f"/history/{saved}") == {}
        assert await comfy.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert await comfy.view(image)
        status, body = await comfy.post("/prompt", {"prompt": plain(2)})
        assert (status, body["number"]) == (200, 0)


async def test_frozen_server_carries_out_what_was_given_up(http: aiohttp.ClientSession):
    """Frozen, it accepts connections and answers nothing; an abandoned POST runs after the thaw."""
    prompt_id = "6043546d-d4d9-426e-a359-ef43c0b4d82f"
    async with serve() as sim:
        comfy = Comfy(sim.url, http)
        async with comfy.ear() as ear:
            freezing = asyncio.create_task(sim.freeze(0.6))
            await asyncio.sleep(0)
            body = {"prompt": plain(1), "prompt_id": prompt_id}
            with pytest.raises(asyncio.TimeoutError):
                await http.post(sim.url + "/prompt", json=body, timeout=aiohttp.ClientTimeout(total=0.2))
            pong = await ear.connection.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(pong), 0.1)
            await freezing
            await asyncio.wait_for(pong, 30)
        assert (await comfy.entry(prompt_id))["status"]["status_str"] == "success"


async def test_vanished_prompt_leaves_no_trace(http: aiohttp.ClientSession):
    """A prompt that somebody deletes is neither in the queue nor in history."""
    async with serve(Settings(seconds=30)) as sim:
        comfy = Comfy(sim.url, http)
        await comfy.submit(txt2img(1))
        waiting = await comfy.submit(plain(1))
        sim.process.vanish(waiting)
        queue = await comfy.get("/queue")
        assert (len(queue["queue_running"]), queue["queue_pending"]) == (1, [])


async def test_zombie_accepts_and_never_runs(http: aiohttp.ClientSession):
    """When the worker is dead everything answers, cancel says yes, and nothing moves."""
    async with serve(Settings(seconds=30)) as sim:
        comfy = Comfy(sim.url, http)
        running = await comfy.submit(txt2img(1))
        await comfy.submit(plain(1))
        await eventually(lambda: sim.world.running is not None)
        sim.process.zombie()
        assert await comfy.post(f"/api/jobs/{running}/cancel", b"") == (200, {"cancelled": True})
        await comfy.submit(plain(2))
        queue = await comfy.get("/queue")
    assert [item[1] for item in queue["queue_running"]] == [running]
    assert len(queue["queue_pending"]) == 2


async def test_interrupt_by_somebody_else(http: aiohttp.ClientSession):
    """A test can interrupt what runs, as a person at the server would."""
    async with serve(Settings(seconds=30)) as sim:
        comfy = Comfy(sim.url, http)
        async with comfy.ear() as ear:
            prompt_id = await comfy.submit(txt2img(1), client_id=ear.client_id)
            await ear.until(lambda frame: frame == {"type": "executing", "data": frame["data"]})
            await eventually(lambda: sim.world.running is not None)
            sim.process.interrupt()
            frames = await ear.until_done(prompt_id)
    assert "execution_interrupted" in {frame["type"] for frame in frames}


async def test_run_forever_serves_several_ports_until_cancelled(http: aiohttp.ClientSession):
    """It reports its addresses when all of them answer, and closes them when cancelled."""
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    free = free_neighbours()
    settings = Settings(version="2024-10")
    task = asyncio.create_task(
        run_forever(settings, host="127.0.0.1", port=free, count=2, script=Script(), on_ready=ready.set_result)
    )
    urls = await asyncio.wait_for(ready, 30)
    assert urls == [f"http://127.0.0.1:{free}", f"http://127.0.0.1:{free + 1}"]
    for url in urls:
        stats = await Comfy(url, http).get("/system_stats")
        assert stats["system"]["comfyui_version"] == "unknown"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(urls[0])


async def test_taken_port_is_an_os_error():
    """Two servers cannot have one port."""
    async with serve() as sim:
        with pytest.raises(OSError, match="address"):
            async with serve(port=port_of(sim)):
                pass
