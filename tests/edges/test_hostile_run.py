"""Whole runs against servers that answer with what nobody should: they end as if nothing had been said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from reggen.job.servers import Server
from reggen.sim import Fault, Script, Settings, serve
from reggen.sim.faults.hostile import ODD
from tests.answering import answering
from tests.certificates import certificate
from tests.conftest import JobMaker, filled

QUICK = Settings(seconds=0.005)
LIMITS = {"request": 5.0, "connect": 2.0, "download": 5.0, "away": 30.0, "attempts": 10}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("on", ["post", "history", "queue", "view"])
async def test_answers_without_measure_cost_no_image(job: JobMaker, on: str, packed: bool) -> None:
    """Now and then, with success or as a failure: the images are made, and none is given up."""
    good = Fault("flood", on, nth=2, megabytes=80, packed=packed, status=200)
    bad = Fault("flood", on, nth=4, megabytes=80, packed=packed, status=500)
    async with serve(QUICK, Script((good, bad))) as sim:
        told = await filled(job(sim.url, limits=LIMITS))
    assert (told.summary.made, told.summary.given_up) == (6, ())


@pytest.mark.parametrize("body", ODD)
async def test_odd_answers_cost_no_image(job: JobMaker, body: str) -> None:
    """On every kind of request: no traceback, no image given up, nothing odd in what was told."""
    faults = tuple(Fault("odd", on, nth=2, body=body) for on in ("post", "history", "queue", "view"))
    async with serve(QUICK, Script(faults)) as sim:
        told = await filled(job(sim.url, limits=LIMITS))
    assert (told.summary.made, told.summary.given_up) == (6, ())
    words = "\n".join((*map(str, told.events), *told.notes))
    words.encode()
    assert "\x1b" not in words
    assert "\u202e" not in words


async def test_pictures_in_a_store_are_fetched_and_made_once(job: JobMaker) -> None:
    """/view sends to a store, which is never told the job's headers; each image costs one prompt."""
    told_to_the_store: list[str] = []
    async with serve(QUICK) as sim, aiohttp.ClientSession() as session:

        async def store(request: web.Request) -> web.Response:
            told_to_the_store.append(repr(dict(request.headers)))
            async with session.get(f"{sim.url}/view?{request.query_string}") as response:
                return web.Response(body=await response.read(), content_type="image/png")

        async with answering(store) as bucket:

            async def front(request: web.Request) -> web.Response:
                assert request.headers["X-Api-Key"] == "s3cret"
                if request.path == "/view":
                    return web.Response(status=302, headers={"Location": f"{bucket}/signed?{request.query_string}"})
                body = await request.read()
                async with session.request(request.method, sim.url + request.path_qs, data=body) as response:
                    return web.Response(body=await response.read(), status=response.status)

            async with answering(front) as url:
                server = Server.model_validate({"url": url, "headers": {"X-Api-Key": "s3cret"}})
                told = await filled(job(limits=LIMITS).model_copy(update={"servers": (server,)}))
        assert (told.summary.made, sim.executed) == (6, 6)
    assert len(told_to_the_store) == 6
    assert "s3cret" not in "".join(told_to_the_store)


async def test_a_night_over_a_pinned_connection(job: JobMaker, tmp_path: Path) -> None:
    """HTTP, socket and pictures, with ComfyUI's own kind of certificate."""
    shown = certificate(tmp_path)
    async with serve(QUICK, tls=shown.server) as sim:
        server = Server.model_validate({"url": sim.url, "certificate": str(shown.pem)})
        told = await filled(job(limits=LIMITS).model_copy(update={"servers": (server,)}))
    assert sim.url.startswith("https://")
    assert told.summary.made == 6


async def test_a_redirected_socket_leaves_polling(job: JobMaker) -> None:
    """No events come from there; the images do, and what is wrong is said."""
    heard = asyncio.Event()

    async def elsewhere(_: web.Request) -> web.Response:
        heard.set()
        return web.Response()

    async with answering(elsewhere) as other, serve(QUICK, Script((Fault("redirect", "ws", to=other),))) as sim:
        told = await filled(job(sim.url, limits=LIMITS))
    assert told.summary.made == 6
    assert not heard.is_set()
    assert f'write its new address, url = "{other}"' in "\n".join(map(str, told.events))


async def test_what_a_blocking_node_says_is_told(job: JobMaker) -> None:
    """The history calls it a success without pictures; only a frame has the words, and their escapes are left out."""
    message = "the safety node \x1b[31msays no"
    async with serve(QUICK, Script((Fault("blocked", message=message),))) as sim:
        told = await filled(job(sim.url, limits={**LIMITS, "attempts": 1}))
    reasons = [given.reason for given in told.summary.given_up]
    assert reasons
    assert all("a node blocked it: the safety node  [31msays no" in reason for reason in reasons), reasons
