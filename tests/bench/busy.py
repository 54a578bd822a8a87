"""Wall ÷ busy from the first post to the last durable commit: the time that reggen adds to the server's own.

    python -m tests.bench.busy [--images 20] [--rounds 5] [--size 64] [--steps 20] [--seconds 0.4]

Runs against the live ComfyUI named by REGGEN_LIVE_URL, or else against a stand-in in a process of its own, at so many
seconds an image. Goals: 1.005 at 0.4 s an image, 1.10 at 10 ms. *Busy* is the server's own word: the sum of its
execution times, from the timestamps in its history. *Pauses* are gaps of more than 0.1 s between one prompt's end and
the next one's start while the next one was queued: ComfyUI's worker collects garbage for a third of a second every ten
seconds, with any client. The other side, measured in the same run on the same server, is a bare loop: everything
queued at once over HTTP, the ends awaited by looking at the queue's length, nothing downloaded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from reggen import progress
from reggen.engine.control import Observers
from reggen.engine.fill import fill_dataset
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from tests.bench.facts import machine, versions
from tests.bench.servers import stand_ins
from tests.preparing import plan_of, prepared_of


def job_for(url: str, root: str, options: argparse.Namespace, seed: int) -> Job:
    """A job of small images, whose seeds no earlier round has used."""
    return Job.model_validate(
        {
            "dataset": {"root": root, "class": "bench", "count": options.images},
            "servers": [{"url": url, "keep_history": True}],
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


@dataclass(frozen=True)
class BusyRound:
    """One round: seconds from the first post to the end, the server's share of it, its pauses and its gaps."""

    images: int
    wall: float
    busy: float
    pauses: float
    gap: float

    @classmethod
    async def of(cls, url: str, wall: float, images: int) -> BusyRound:
        """Ask the server for the times of its newest prompts."""
        newest = f"/history?max_items={3 * images}"  # others may use the server too
        async with aiohttp.ClientSession(url) as session, session.get(newest) as response:
            entries = [entry for entry in (await response.json()).values() if _is_ours(entry)]
        spans = sorted(map(_span, entries))[-images:]
        gaps = [after[0] - before[1] for before, after in pairwise(spans)]
        busy = sum(end - start for start, end in spans)
        return cls(images, wall, busy, sum(gap for gap in gaps if gap > 0.1), statistics.median(gaps))


def _is_ours(entry: dict[str, Any]) -> bool:
    savers = [node for node in entry["prompt"][2].values() if node["class_type"] == "SaveImage"]
    done = entry["status"]["status_str"] == "success"
    return done and any(node["inputs"]["filename_prefix"].startswith(("reggen/", "bench/")) for node in savers)


def _span(entry: dict[str, Any]) -> tuple[float, float]:
    messages = dict(entry["status"]["messages"])
    return messages["execution_start"]["timestamp"] / 1000, messages["execution_success"]["timestamp"] / 1000


async def reggen_round(url: str, options: argparse.Namespace, seed: int) -> BusyRound:
    """Make one dataset with all checks, timed from the first post to the last durable commit."""
    events: list[progress.RunEvent] = []
    with tempfile.TemporaryDirectory() as root:
        (prepared,) = prepare(job_for(url, root, options, seed), "bench")
        summary = await fill_dataset(prepared, "bench", Observers(events.append, print))
    if summary.made != options.images:
        sys.exit(f"the round failed: {summary}")
    first = next(event.at for event in events if isinstance(event, progress.PromptPosted))
    last = max(event.at for event in events if isinstance(event, progress.ImageSaved))
    return await BusyRound.of(url, last - first, options.images)


async def bare_round(url: str, options: argparse.Namespace, seed: int) -> BusyRound:
    """Queue the same graphs all at once, and download nothing."""
    job = job_for(url, "nowhere", options, seed)
    graphs = prepared_of(job).template
    async with aiohttp.ClientSession(url) as session:
        begun = time.monotonic()
        for request in plan_of(job).requests(0, options.images, {}, ()):
            body = {"prompt": graphs.bind(request, f"bench/{uuid.uuid4()}"), "client_id": "bench"}
            async with session.post("/prompt", json=body) as response:
                await response.read()
        while await _remaining(session):
            await asyncio.sleep(0.005)
        wall = time.monotonic() - begun
    return await BusyRound.of(url, wall, options.images)


async def _remaining(session: aiohttp.ClientSession) -> int:
    async with session.get("/prompt") as response:
        return int((await response.json())["exec_info"]["queue_remaining"])


def side(rounds: list[BusyRound]) -> dict[str, Any]:
    """Medians over the rounds, and the rounds themselves."""
    return {
        "wall / busy": round(statistics.median(one.wall / one.busy for one in rounds), 4),
        "wall / (busy + the server's own pauses)": round(
            statistics.median(one.wall / (one.busy + one.pauses) for one in rounds), 4
        ),
        "images per second": round(statistics.median(one.images / one.wall for one in rounds), 3),
        "gap between prompts, median, ms": round(1000 * statistics.median(one.gap for one in rounds), 2),
        "rounds, wall / busy": [round(one.wall / one.busy, 4) for one in rounds],
    }


async def measure(url: str, options: argparse.Namespace) -> tuple[list[BusyRound], list[BusyRound]]:
    """Measure both sides in turn, so that a noisy moment meets both."""
    seed = uuid.uuid4().int % (1 << 50)
    await bare_round(url, options, seed)  # the model is loaded outside the measured rounds
    ours, bare = [], []
    for number in range(1, options.rounds + 1):
        ours.append(await reggen_round(url, options, seed + 2 * number * options.images))
        bare.append(await bare_round(url, options, seed + (2 * number + 1) * options.images))
    return ours, bare


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Measure against the live server, or else a stand-in."""
    with ExitStack() as stack:
        live = os.environ.get("REGGEN_LIVE_URL")
        if not live:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (url,) = stack.enter_context(stand_ins([(1, options.seconds)], place)).urls
        ours, bare = asyncio.run(measure(live or url, options))
    return {
        "benchmark": "wall / busy",
        "server": "live ComfyUI" if live else f"stand-in at {options.seconds} s an image",
        "images": options.images,
        "graph": f"{options.size} px, {options.steps} steps",
        "reggen": side(ours),
        "bare, nothing downloaded": side(bare),
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.busy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.4, help="an image takes on the stand-in")
    parser.add_argument("--checkpoint", default="AnythingXL_inkBase.safetensors")
    print(json.dumps(report(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
