"""Every test here runs twice: against the stand-in, and against a ComfyUI that is named to us.

Start a ComfyUI with the checkpoint AnythingXL_inkBase.safetensors (any weights will do) and

    REGGEN_LIVE_URL=http://127.0.0.1:8188 pytest tests/conformance

to find out whether the stand-in still tells the truth. The stand-in is a ComfyUI 0.33. Where an older server answers
otherwise, the test says from which version on it applies, by `since`, and is skipped there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest

from reggen.sim import Settings, serve
from tests.conformance.harness import Comfy

LIVE = os.environ.get("REGGEN_LIVE_URL", "")


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark that `since` puts on a test."""
    config.addinivalue_line("markers", "since(version, what): applies to servers of this version or newer only")


@pytest.fixture(
    params=[
        "sim",
        pytest.param("live", marks=pytest.mark.skipif(not LIVE, reason="REGGEN_LIVE_URL names no ComfyUI server")),
    ]
)
async def comfy(request: pytest.FixtureRequest) -> AsyncIterator[Comfy]:
    """The server under question."""
    async with aiohttp.ClientSession() as http:
        if request.param == "live":
            live = await Comfy.met(LIVE.rstrip("/"), http)
            _skip_older(live, request.node.iter_markers("since"))
            yield live
            return
        async with serve(Settings(seconds=0.15)) as sim:
            yield await Comfy.met(sim.url, http)


def _skip_older(live: Comfy, marks: Iterable[pytest.Mark]) -> None:
    """Skip a test that does not apply to this version, or may not: one that tells no version counts as old."""
    for mark in marks:
        first, what = mark.args
        if not live.has(first):
            pytest.skip(f"{what}: since ComfyUI {first}, and this one is {live.version or 'of an unknown version'}")
