"""The floor of the controller: CPU per image of the whole way, against two loops written here.

    python -m tests.bench.floor [--images 300] [--rounds 5] [--size 64 512] [--profile]

Both sides talk to the same stand-in, which is a process of its own, so that its CPU counts for neither. reggen does
all it ever does: post, frames, look, stream, hash, decode, every check, fsync, ledger. The bare loop is written here
with aiohttp alone: POST /prompt of the same graph, GET /view of a picture of the same size, write it to a file; it
waits for nothing, looks at nothing and checks nothing. The *barest whole way* does in as few lines as there can be what
the laws ask for: it hears the frames, looks into the history, decodes and hashes the picture, flushes file, folder and
a row in SQLite; without any error handled, any check but the decoding, any word of progress. What reggen needs beyond
that is reggen's own. *CPU* is the process's time, all threads; *loop* is that of the event loop's thread alone.
``--profile`` adds where reggen's loop spends its time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import hashlib
import io
import json
import os
import pstats
import sqlite3
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from reggen.engine.control import Observers
from reggen.engine.fill import fill_dataset
from reggen.files import flush_folder
from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from tests.bench.facts import machine, versions
from tests.bench.servers import stand_ins
from tests.preparing import plan_of, prepared_of


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one image, in milliseconds: CPU of all threads, CPU of the event loop's thread, and wall."""

    cpu: float
    loop: float
    wall: float


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


class _Watch:
    """CPU and wall since it was made, per image."""

    def __init__(self) -> None:
        self._began = (time.process_time(), time.thread_time(), time.perf_counter())

    def per(self, images: int) -> Cost:
        now = (time.process_time(), time.thread_time(), time.perf_counter())
        return Cost(*(1000 * (after - before) / images for before, after in zip(self._began, now, strict=True)))


async def reggen_round(job: Job, profile: cProfile.Profile | None = None) -> Cost:
    """One dataset, whole, all checks on."""
    (prepared,) = prepare(job, "bench")
    if profile:
        profile.enable()
    watch = _Watch()
    summary = await fill_dataset(prepared, "bench", Observers(note=print))
    cost = watch.per(len(plan_of(job)))
    if profile:
        profile.disable()
    if summary.missing:
        sys.exit(f"the round failed: {summary}")
    return cost


async def bare_round(job: Job, picture: dict[str, str], place: Path) -> Cost:
    """Post, get and write, nothing else, two at a time."""
    graphs, url = prepared_of(job).template, job.servers[0].url
    requests = list(plan_of(job).requests(0, len(plan_of(job)), {}, ()))
    async with aiohttp.ClientSession(url) as session:
        watch = _Watch()

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


async def barest_round(job: Job, place: Path) -> Cost:
    """What a durable image needs at least with these libraries, two at a time: nothing is left out, nothing added."""
    graphs, url = prepared_of(job).template, job.servers[0].url
    requests = list(plan_of(job).requests(0, len(plan_of(job)), {}, ()))
    client, ends = uuid.uuid4().hex, dict[str, asyncio.Future[None]]()
    disk = ThreadPoolExecutor(1)
    rows = sqlite3.connect(place / "rows.sqlite", check_same_thread=False)
    rows.execute("PRAGMA journal_mode = WAL")
    rows.execute("PRAGMA synchronous = FULL")
    rows.execute("CREATE TABLE done (name TEXT PRIMARY KEY, bytes INTEGER, sha256 TEXT)")

    def keep(part: Path, name: str) -> None:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(place / name)
        flush_folder(place)
        with rows:
            rows.execute("INSERT INTO done VALUES (?, ?, ?)", (name, 0, ""))

    def decode(part: Path, data: bytes) -> str:
        part.write_bytes(data)
        with Image.open(part) as image:
            image.load()
        return hashlib.sha256(data).hexdigest()

    async def hear(socket: ClientConnection) -> None:
        async for frame in socket:
            if isinstance(frame, str) and frame.startswith('{"type": "execution_success"'):
                ends[json.loads(frame)["data"]["prompt_id"]].set_result(None)

    loop = asyncio.get_running_loop()
    async with (
        aiohttp.ClientSession(url) as session,
        connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={client}", compression=None, proxy=None) as socket,
    ):
        listening = asyncio.create_task(hear(socket))
        watch = _Watch()

        async def worker(number: int) -> None:
            for request in requests[number::2]:
                name, own = f"{request.samples[0].name}.png", str(uuid.uuid4())
                ends[own] = loop.create_future()
                body = {"prompt": graphs.bind(request, f"bench/{own}"), "client_id": client, "prompt_id": own}
                async with session.post("/prompt", json=body) as response:
                    await response.read()
                await ends[own]
                picture: dict[str, str] | None = None
                while not picture:
                    async with session.get(f"/history/{own}") as response:
                        entry = (await response.json()).get(own)
                    picture = next(iter(entry["outputs"].values()))["images"][0] if entry else None
                async with session.get("/view", params=picture) as response:
                    data = await response.read()
                part = place / f"{name}.part"
                await loop.run_in_executor(None, decode, part, data)
                await loop.run_in_executor(disk, keep, part, name)

        await asyncio.gather(worker(0), worker(1))
        cost = watch.per(len(requests))
        listening.cancel()
    disk.shutdown()
    rows.close()
    return cost


async def _remaining(session: aiohttp.ClientSession) -> int:
    async with session.get("/prompt") as response:
        return int((await response.json())["exec_info"]["queue_remaining"])


async def _a_picture(url: str) -> dict[str, str]:
    """One that the stand-in has made."""
    async with aiohttp.ClientSession(url) as session, session.get("/history?max_items=1") as response:
        (entry,) = (await response.json()).values()
    (output,) = entry["outputs"].values()
    found: dict[str, str] = output["images"][0]
    return found


async def measure_size(url: str, size: int, options: argparse.Namespace, profile: cProfile.Profile | None) -> Any:
    """Both sides in turn, with pictures of one size."""
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
    """Every size, one after another."""
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
