"""The barest whole way of `tests.bench.floor`: a durable image with these libraries, in as few lines as possible."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from reggen.files import flush_folder
from reggen.job.models import Job
from reggen.planning.plan import PromptRequest
from tests.preparing import plan_of, prepared_of


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an image in milliseconds: CPU of all threads, CPU of the event loop's thread, and wall."""

    cpu: float
    loop: float
    wall: float


class Stopwatch:
    """CPU and wall since it was made, per image."""

    def __init__(self) -> None:
        self._began = (time.process_time(), time.thread_time(), time.perf_counter())

    def per(self, images: int) -> Cost:
        now = (time.process_time(), time.thread_time(), time.perf_counter())
        return Cost(*(1000 * (after - before) / images for before, after in zip(self._began, now, strict=True)))


async def barest_round(job: Job, place: Path) -> Cost:
    """Make the images of a job two at a time: all that a durable image needs, and nothing more."""
    url, requests = job.servers[0].url, list(plan_of(job).requests(0, len(plan_of(job)), {}, ()))
    socket_url = f"{url.replace('http', 'ws', 1)}/ws?clientId=barest"
    disk = _Disk(place)
    async with (
        aiohttp.ClientSession(url) as session,
        connect(socket_url, compression=None, proxy=None) as socket,
    ):
        ends: dict[str, asyncio.Future[None]] = {}
        listening = asyncio.create_task(_listen(socket, ends))
        client = _Client(job, session, ends, disk)
        stopwatch = Stopwatch()
        await asyncio.gather(client.work(requests[0::2]), client.work(requests[1::2]))
        cost = stopwatch.per(len(requests))
        listening.cancel()
    disk.close()
    return cost


async def _listen(socket: ClientConnection, ends: dict[str, asyncio.Future[None]]) -> None:
    async for frame in socket:
        if isinstance(frame, str) and frame.startswith('{"type": "execution_success"'):
            ends[json.loads(frame)["data"]["prompt_id"]].set_result(None)


class _Client:
    """Posts prompts, hears their ends, and downloads their pictures."""

    def __init__(
        self, job: Job, session: aiohttp.ClientSession, ends: dict[str, asyncio.Future[None]], disk: _Disk
    ) -> None:
        self._template, self._session, self._ends, self._disk = prepared_of(job).template, session, ends, disk

    async def work(self, requests: Sequence[PromptRequest]) -> None:
        """Make one image after another."""
        loop = asyncio.get_running_loop()
        for request in requests:
            own = str(uuid.uuid4())
            self._ends[own] = loop.create_future()
            graph = self._template.bind(request, f"bench/{own}")
            body = {"prompt": graph, "client_id": "barest", "prompt_id": own}
            async with self._session.post("/prompt", json=body) as response:
                await response.read()
            await self._ends[own]
            async with self._session.get("/view", params=await self._picture(own)) as response:
                data = await response.read()
            await self._disk.keep(f"{request.samples[0].name}.png", data)

    async def _picture(self, prompt_id: str) -> dict[str, str]:
        """The first picture of a prompt, read from its history entry, which may come late."""
        while True:
            async with self._session.get(f"/history/{prompt_id}") as response:
                entry = (await response.json()).get(prompt_id)
            if entry:
                found: dict[str, str] = next(iter(entry["outputs"].values()))["images"][0]
                return found


class _Disk:
    """Writes pictures durably: decoded in one thread of many, flushed and entered into SQLite in another of its own."""

    def __init__(self, place: Path) -> None:
        self._place, self._thread = place, ThreadPoolExecutor(1)
        self._rows = sqlite3.connect(place / "rows.sqlite", check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = FULL")
        self._rows.execute("CREATE TABLE done (name TEXT PRIMARY KEY, bytes INTEGER, sha256 TEXT)")

    async def keep(self, name: str, data: bytes) -> None:
        """Write a picture, and return when it is durable."""
        loop, part = asyncio.get_running_loop(), self._place / f"{name}.part"
        await loop.run_in_executor(None, self._write, part, data)
        await loop.run_in_executor(self._thread, self._place_durably, part, name)

    @staticmethod
    def _write(part: Path, data: bytes) -> str:
        part.write_bytes(data)
        with Image.open(part) as image:
            image.load()
        return hashlib.sha256(data).hexdigest()

    def _place_durably(self, part: Path, name: str) -> None:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(self._place / name)
        flush_folder(self._place)
        with self._rows:
            self._rows.execute("INSERT INTO done VALUES (?, ?, ?)", (name, 0, ""))

    def close(self) -> None:
        """Wait for the thread, and close SQLite."""
        self._thread.shutdown()
        self._rows.close()
