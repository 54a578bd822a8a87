"""Breakages: the server dies, sockets are cut, the server stands still, reggen itself is killed."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.chaos.between import Proxy
from tests.chaos.real import RealComfy
from tests.chaos.stage import DEADLINE, Stage
from tests.conftest import eventually

_DOWN = 5.0  # seconds that a killed server stays away
_FROZEN = 60.0
_BLACKOUT = 10.0


@asynccontextmanager
async def cuttable(comfy: RealComfy, _: Path) -> AsyncIterator[Proxy]:
    """A proxy that can cut connections."""
    between = Proxy(comfy.url)
    await between.listen()
    try:
        yield between
    finally:
        await between.close()


async def kill(stage: Stage) -> None:
    """Kill the server (SIGKILL)."""
    await _die(stage, signal.SIGKILL)


async def term(stage: Stage) -> None:
    """End the server with SIGTERM, as a service manager does."""
    await _die(stage, signal.SIGTERM)


async def _die(stage: Stage, number: signal.Signals) -> None:
    await stage.reach(0.3)
    await stage.watcher.poll()
    await stage.comfy.end(number)
    await asyncio.sleep(_DOWN)
    began = time.monotonic()
    await stage.comfy.start()
    stage.facts["away, s"] = round(_DOWN + time.monotonic() - began, 1)
    await stage.goes_on()


async def proxy(stage: Stage) -> None:
    """Cut sockets three times, then everything for a while."""
    cut = 0
    for share in (0.1, 0.25, 0.4):
        await stage.reach(share)
        await eventually(lambda: _proxy(stage).cut() > 0, DEADLINE)
        cut += 1
    await stage.reach(0.55)
    await _proxy(stage).close()
    await asyncio.sleep(_BLACKOUT)
    await _proxy(stage).listen()
    stage.facts |= {"sockets cut": cut, "nothing got through for, s": _BLACKOUT}
    await stage.goes_on()


async def deaf(stage: Stage) -> None:
    """Make the server forget reggen's socket, which stays open."""
    await stage.reach(0.2)
    client_id = _proxy(stage).client_ids[-1]
    path = f"/ws?clientId={client_id}"
    async with aiohttp.ClientSession(stage.comfy.url) as session, session.ws_connect(path) as second:
        await second.receive()  # it is registered now, in the place of the first
    since = time.monotonic()
    await eventually(
        lambda: _proxy(stage).client_ids[-1] != client_id or stage.process.returncode is not None, DEADLINE
    )
    stage.facts["heard nothing for, s"] = round(time.monotonic() - max(since, _proxy(stage).last_frame), 1)
    stage.facts["another socket"] = _proxy(stage).client_ids[-1] != client_id


async def freeze(stage: Stage) -> None:
    """Stop the server for a minute; its connections stay open."""
    await stage.reach(0.3)
    stage.comfy.send(signal.SIGSTOP)
    await asyncio.sleep(_FROZEN)
    stage.comfy.send(signal.SIGCONT)
    stage.facts["frozen, s"] = _FROZEN
    await stage.goes_on()


async def reggen(stage: Stage) -> None:
    """Kill reggen (SIGKILL) while prompts of its own are on the server."""
    await stage.reach(0.3)
    stage.process.kill()
    await stage.process.wait()
    await stage.start()
    await eventually(lambda: "taken over" in stage.output or stage.process.returncode is not None, DEADLINE)
    found = re.search(r"\d (\S.*) taken over from an earlier run on", stage.output)
    stage.facts["taken over"] = found.group(1) if found else "nothing"


def _proxy(stage: Stage) -> Proxy:
    """The proxy of a breakage."""
    assert isinstance(stage.between, Proxy)
    return stage.between
