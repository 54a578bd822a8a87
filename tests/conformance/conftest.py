"""Every test here runs twice: against the stand-in, and against a ComfyUI that is named to us.

Start a ComfyUI 0.33 with the checkpoint AnythingXL_inkBase.safetensors (any weights will do) and

    REGGEN_LIVE_URL=http://127.0.0.1:8188 pytest tests/conformance

to find out whether the stand-in still tells the truth.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest

from reggen.sim import Settings, serve
from tests.conformance.harness import Comfy

LIVE = os.environ.get("REGGEN_LIVE_URL", "")


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
            yield Comfy(LIVE.rstrip("/"), http)
            return
        async with serve(Settings(seconds=0.15)) as sim:
            yield Comfy(sim.url, http)
