"""CPU per image of reggen, against two loops that do as little as possible.

    python -m tests.bench.floor [--images 300] [--rounds 5] [--size 64 512] [--profile]

Both sides talk to the same stand-in, which is a process of its own, so that its CPU counts for neither. reggen does
all that a run does: post, frames, poll, stream, hash, decode, every check, fsync, ledger. The bare loop is written here
with aiohttp alone: POST /prompt of the same graph, GET /view of a picture of the same size, write it to a file; it
waits for nothing, polls nothing and checks nothing. The *barest whole way* (`tests.bench.barest`) does, in as few lines
as possible, what the laws ask for: it hears the frames, reads the history, decodes and hashes the picture, flushes
file, folder and a row in SQLite; without error handling, checks other than decoding, or progress. What reggen needs
beyond that is reggen's own. *CPU* is the process's time, all threads; *loop* is that of the event loop's thread alone.
``--profile`` prints where reggen's loop spends its time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import json
import pstats
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from reggen.engine.control import Observers
from reggen.engine.fill import fill_dataset
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from tests.bench.barest import Cost, Stopwatch, barest_round
from tests.bench.facts import machine, versions
from tests.bench.servers import stand_ins
from tests.preparing import plan_of, prepared_of


def job_for(url: str, root: str, size: int, images: int, seed: int) -> Job:
    """A job of so many images."""
    return Job.model_validate(
        {
            "dataset": {"root": root, "class": "bench", "count": images},
            "servers": [{"url": url, "keep_history": True}],
            "sampling": {"checkpoint": "a.safetensors", "width": size, "height": size, "seed": seed},
            "prompts": {"positive": ["a cat", "a dog", "a bird"], "negative": "bad"},
        }
    )


async def reggen_round(job: Job, profile: cProfile.Profile | None = None) -> Cost:
    """Make one dataset with all checks."""
    (prepared,) = prepare(job, "bench")
    if profile:
        profile.enable()
    watch = Stopwatch()
    summary = await fill_dataset(prepared, "bench", Observers(note=print))
    cost = watch.per(len(plan_of(job)))
    if profile:
        profile.disable()
    if summary.missing:
        sys.exit(f"the round failed: {summary}")
    return cost


async def bare_round(job: Job, picture: dict[str, str], place: Path) -> Cost:
    """Post, get and write, two at a time, and nothing else."""
    graphs, url = prepared_of(job).template, job.servers[0].url
    requests = list(plan_of(job).requests(0, len(plan_of(job)), {}, ()))
    async with aiohttp.ClientSession(url) as session:
        watch = Stopwatch()

        async def worker(number: int) -> None:
            for request in requests[number::2]:
                body = {"prompt": graphs.bind(request, f"bench/{uuid.uuid4()}"), "client_id": "bench"}
                async with session.post("/prompt", json=body) as response:
                    await response.read()
                async with session.get("/view", params=picture) as response:
                    data = await response.read()
                (place / f"{request.samples[0].name}.png").write_bytes(data)

        await asyncio.gather(worker(0), worker(1))
        cost = watch.per(len(requests))
        while await _remaining(session):
            await asyncio.sleep(0.05)
    return cost


async def _remaining(session: aiohttp.ClientSession) -> int:
    async with session.get("/prompt") as response:
        return int((await response.json())["exec_info"]["queue_remaining"])


async def _a_picture(url: str) -> dict[str, str]:
    """A picture that the stand-in has made."""
    async with aiohttp.ClientSession(url) as session, session.get("/history?max_items=1") as response:
        (entry,) = (await response.json()).values()
    (output,) = entry["outputs"].values()
    found: dict[str, str] = output["images"][0]
    return found


async def measure_size(url: str, size: int, options: argparse.Namespace, profile: cProfile.Profile | None) -> Any:
    """Measure all sides in turn, with pictures of one size."""
    ours, bare, barest = [], [], []
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as root:
            seed = uuid.uuid4().int % (1 << 50)
            jobs = [job_for(url, root, size, options.images, seed + one * options.images) for one in range(3)]
            mine = await reggen_round(jobs[0], profile if number else None)
            theirs = await bare_round(jobs[1], await _a_picture(url), Path(root))
            whole = await barest_round(jobs[2], Path(root))
        if number:  # the first one warms up
            ours.append(mine)
            bare.append(theirs)
            barest.append(whole)
    return {
        "picture": f"{size}x{size}",
        "reggen, ms an image": side(ours),
        "bare loop, ms an image": side(bare),
        "barest whole way, ms an image": side(barest),
        "ratio of CPU (goal 2.0)": _ratio("cpu", ours, bare),
        "ratio of loop time (goal 1.3)": _ratio("loop", ours, bare),
        "ratio of CPU, barest whole way": _ratio("cpu", barest, bare),
        "ratio of loop time, barest whole way": _ratio("loop", barest, bare),
        "ratio of CPU to the barest whole way": _ratio("cpu", ours, barest),
        "ratio of loop time to the barest whole way": _ratio("loop", ours, barest),
    }


def _ratio(which: str, ours: list[Cost], theirs: list[Cost]) -> float:
    """The median of the rounds' ratios."""
    return round(median(float(getattr(a, which) / getattr(b, which)) for a, b in zip(ours, theirs, strict=True)), 2)


def side(costs: list[Cost]) -> dict[str, float]:
    """Medians over the rounds."""
    return {name: round(median(getattr(one, name) for one in costs), 3) for name in ("cpu", "loop", "wall")}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every size, one after another."""
    profile = cProfile.Profile(time.thread_time) if options.profile else None
    with tempfile.TemporaryDirectory() as place, stand_ins([(1, options.seconds)], Path(place)) as there:
        (url,) = there.urls
        sizes = [asyncio.run(measure_size(url, size, options, profile)) for size in options.size]
    if profile:
        told = io.StringIO()
        pstats.Stats(profile, stream=told).sort_stats(options.sort).print_stats(60)
        print(told.getvalue(), file=sys.stderr)
    return {
        "benchmark": "floor",
        "images": options.images,
        "sizes": sizes,
        "machine": machine(),
        "versions": versions(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.floor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--seconds", type=float, default=0.0, help="an image takes on the stand-in")
    parser.add_argument("--profile", action="store_true", help="where the time of reggen's event loop goes; to stderr")
    parser.add_argument("--sort", default="tottime")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
