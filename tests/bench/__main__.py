"""What reggen adds to the server's own time: wall ÷ busy, from the first post to the last durable commit.

    python -m tests.bench [--images 20] [--rounds 5] [--size 64] [--steps 20]

Runs against the live ComfyUI named by REGGEN_LIVE_URL, or else against the stand-in at half a second an
image. *Busy* is the server's own word: the sum of its execution times, from the timestamps in its
history. The other side, measured in the same run on the same server, is a bare loop: everything queued
at once over HTTP, the ends awaited by looking at the queue's length, nothing downloaded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import aiohttp

from reggen import progress, sim
from reggen.engine.fill import fill
from reggen.job import Job
from reggen.plan import Plan
from reggen.workflow import template


def job_for(url: str, root: str, options: argparse.Namespace, seed: int) -> Job:
    """A job of so many small images, whose seeds no earlier round has used."""
    return Job.model_validate(
        {
            "dataset": {"root": root, "class": "bench", "count": options.images},
            "servers": [{"url": url}],
            "sampling": {
                "checkpoint": options.checkpoint,
                "width": options.size,
                "height": options.size,
                "steps": options.steps,
                "seed": seed,
            },
            "prompts": {"positive": "a cat", "negative": "bad"},
        }
    )


async def reggen_round(url: str, options: argparse.Namespace, seed: int) -> float:
    """One dataset, whole, checks on. Returns wall ÷ busy."""
    events: list[progress.RunEvent] = []
    with tempfile.TemporaryDirectory() as root:
        summary = await fill(job_for(url, root, options, seed), "bench", tell=events.append, note=print)
    if summary.made != options.images:
        sys.exit(f"the round failed: {summary}")
    first = next(event.at for event in events if isinstance(event, progress.Posted))
    commits = [event for event in events if isinstance(event, progress.Committed)]
    return (commits[-1].at - first) / sum(commit.busy or 0.0 for commit in commits)


async def bare_round(url: str, options: argparse.Namespace, seed: int) -> float:
    """The same graphs, all queued at once and nothing downloaded. Returns wall ÷ busy."""
    job = job_for(url, "nowhere", options, seed)
    graphs = template(job)
    async with aiohttp.ClientSession(url) as session:
        begun, ids = time.monotonic(), []
        for order in Plan(job).orders(0, options.images, {}, ()):
            body = {"prompt": graphs.bind(order, f"bench/{uuid.uuid4()}"), "client_id": "bench"}
            async with session.post("/prompt", json=body) as response:
                ids.append((await response.json())["prompt_id"])
        while await _remaining(session):
            await asyncio.sleep(0.005)
        wall = time.monotonic() - begun
        return wall / sum([await _busy(session, prompt_id) for prompt_id in ids])


async def _remaining(session: aiohttp.ClientSession) -> int:
    async with session.get("/prompt") as response:
        return int((await response.json())["exec_info"]["queue_remaining"])


async def _busy(session: aiohttp.ClientSession, prompt_id: str) -> float:
    async with session.get(f"/history/{prompt_id}") as response:
        messages = dict((await response.json())[prompt_id]["status"]["messages"])
    return float(messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, so that a noisy moment meets both."""
    live = os.environ.get("REGGEN_LIVE_URL")
    async with AsyncExitStack() as stack:
        url = live or (await stack.enter_async_context(sim.serve(sim.Settings(seconds=0.5, lenient=True)))).url
        seed = uuid.uuid4().int % (1 << 50)
        await bare_round(url, options, seed)  # the model is loaded outside the measured rounds
        ours, bare = [], []
        for number in range(1, options.rounds + 1):
            ours.append(await reggen_round(url, options, seed + 2 * number * options.images))
            bare.append(await bare_round(url, options, seed + (2 * number + 1) * options.images))
    return {
        "benchmark": "wall / busy",
        "server": "live ComfyUI" if live else "stand-in",
        "images": options.images,
        "graph": f"{options.size} px, {options.steps} steps",
        "reggen": {"median": round(statistics.median(ours), 4), "rounds": [round(one, 4) for one in ours]},
        "bare, nothing downloaded": {
            "median": round(statistics.median(bare), 4),
            "rounds": [round(one, 4) for one in bare],
        },
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("aiohttp", "websockets", "Pillow")},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--checkpoint", default="AnythingXL_inkBase.safetensors")
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
