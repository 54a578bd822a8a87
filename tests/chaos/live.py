"""Breaks a real ComfyUI under the real command line, and holds what comes of it against what can be checked.

    python -m tests.chaos.live --url http://127.0.0.1:8188 --start "COMMAND THAT RUNS COMFYUI IN THE FOREGROUND"
                               [--images 12] [--only kill,term,proxy,deaf,freeze,reggen]

    kill, term    the server is killed in mid-batch, and started again after a few seconds
    proxy         between the two is a proxy: it cuts the sockets, several times, and then everything for 10 s
    deaf          somebody opens a second socket under reggen's client id and closes it: the server forgets the first
    freeze        the server is stopped for a minute (SIGSTOP), and goes on
    reggen        reggen is killed in mid-batch, and started again

After each: exit code 0; every image there, decodable, the right one by the seed in its own metadata, none twice;
hashes as in the ledger; no part files; nothing of ours on the server; no prompt executed without need; and another
run asks for nothing. One line for each, JSON at the end; the exit code is 1 when anything was wrong. The server is
started and killed by this program, so nothing else may be answering at the address. Needs POSIX signals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from PIL import Image

from reggen.dataset.check import inspect
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, Row
from reggen.engine.terms import demands_of
from reggen.job import Job
from reggen.jobfile import load
from tests.bench.facts import machine, versions
from tests.conftest import eventually
from tests.invariants import parts

_READY = 180.0  # seconds for the server to start
_DEADLINE = 420.0  # seconds for one breakage, beyond which it counts as stuck
_DOWN = 5.0  # seconds that a killed server stays away
_FROZEN = 60.0
_BLACKOUT = 10.0
_GLANCE = 0.2  # seconds between looks at the server's history
_PORTS = range(21_000, 22_000)  # which no outgoing connection takes while the proxy is closed

_JOB = """
[dataset]
root = '{root}'
class = "live"
count = {images}
[[servers]]
url = "{url}"
keep_history = true
[sampling]
checkpoint = "{checkpoint}"
width = {size}
height = {size}
steps = {steps}
seed = {seed}
[prompts]
positive = "a cat"
negative = "bad"
"""


# ---- the server


class Comfy:
    """The real server: a process group of our own, and what it answers."""

    def __init__(self, url: str, command: str, log: Path) -> None:
        self.url, self._command, self._log = url, shlex.split(command), log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it until it answers; at once when it does already."""
        if self._process is not None and self._process.returncode is None:
            return
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with asyncio.timeout(_READY):
            while await self.ask("/queue") is None:
                if self._process.returncode is not None:
                    sys.exit(f"the server ended: {self._log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
                await asyncio.sleep(_GLANCE)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait until it is gone."""
        self.send(number)
        if self._process is not None:
            async with asyncio.timeout(60):
                await self._process.wait()

    async def ask(self, path: str) -> Any:
        """The JSON at a path; None when there is no answer within two seconds."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            timeout = aiohttp.ClientTimeout(total=2.0)
            async with aiohttp.ClientSession(self.url, timeout=timeout) as session, session.get(path) as answer:
                return await answer.json()
        return None


class Watcher:
    """What the server executed, looked up so often that a restart makes it forget next to nothing."""

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy
        self._before: set[str] | None = None
        self.executed: dict[str, str] = {}

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_GLANCE)

    async def look(self) -> None:
        """Note what has ended since the first look."""
        found = await self._comfy.ask("/history?max_items=100")
        if found is None:
            return
        if self._before is None:
            self._before = set(found)
        for prompt_id in set(found) - self._before:
            self.executed[prompt_id] = found[prompt_id]["status"]["status_str"]


# ---- between the two


class Proxy:
    """A TCP proxy before the server that knows which connections are sockets, and can cut them or everything."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "127.0.0.1", parts.port or 80
        self._open: dict[asyncio.StreamWriter, bool] = {}
        self._server: asyncio.Server | None = None
        self._port = 0
        self.client_ids: list[str] = []
        """Of the sockets that were asked for, in order."""
        self.last_frame = 0.0
        """When the server last sent something over a socket."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def listen(self) -> None:
        """Listen, on the same port each time. OSError when there is none."""
        for port in (self._port,) if self._port else _PORTS:
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
                self._port = port
                return
        raise OSError("no port is free")

    async def close(self) -> None:
        """Refuse connections, and cut what is open."""
        if self._server is not None:
            self._server.close()
        self.cut(sockets_only=False)
        await asyncio.sleep(0)

    def cut(self, *, sockets_only: bool = True) -> int:
        """Cut the sockets, or everything, without a word; how many connections that were."""
        doomed = [writer for writer, is_socket in self._open.items() if is_socket or not sockets_only]
        for writer in doomed:
            writer.transport.abort()
        return len(doomed)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
            return
        found = re.match(rb"GET /ws\?(?:[^ ]*&)?clientId=([^& ]+)", head)
        if found:
            self.client_ids.append(found.group(1).decode())
        self._open[writer] = self._open[up_writer] = bool(found)
        up_writer.write(head)
        try:
            both = (self._pipe(reader, up_writer), self._pipe(up_reader, writer, frames=bool(found)))
            await asyncio.gather(*both)
        finally:
            for one in (writer, up_writer):
                self._open.pop(one, None)
                one.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, frames: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                # Beyond the handshake, only whole data frames count: a pong is an answer from a socket that is deaf.
                if frames and data[0] & 0x0F in (1, 2):
                    self.last_frame = time.monotonic()
                writer.write(data)
                await writer.drain()
        writer.close()


# ---- one breakage


@dataclass
class Told:
    """What came of one breakage."""

    name: str
    images: int = 0
    executed: int = 0
    failed_prompts: int = 0
    seconds: float = 0.0
    exit_code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    @property
    def line(self) -> str:
        """For people."""
        facts = "".join(f"; {key}: {value}" for key, value in self.facts.items())
        head = f"{self.name}: {'FAILED' if self.failure else 'ok'}"
        sums = f"{self.images} images for {self.executed} prompts executed in {self.seconds:.0f} s"
        return f"{head}: {sums}{facts}" + (f"\n  {self.failure}" if self.failure else "")


class Stage:
    """One dataset being filled from one server, possibly through the proxy."""

    def __init__(self, comfy: Comfy, proxy: Proxy | None, place: Path, options: argparse.Namespace) -> None:
        self.comfy, self._proxy, self._options = comfy, proxy, options
        self.file = place / "live.toml"
        text = _JOB.format(
            root=(place / "dataset").as_posix(),
            images=options.images,
            url=proxy.url if proxy else comfy.url,
            checkpoint=options.checkpoint,
            size=options.size,
            steps=options.steps,
            seed=time.time_ns() % (1 << 50),  # pictures that the server cannot have in its cache
        )
        self.file.write_text(text, encoding="utf-8")
        self.job: Job = load(str(self.file))
        self.watcher = Watcher(comfy)
        self.said = place / "reggen.log"
        self.facts: dict[str, Any] = {}
        self.process: asyncio.subprocess.Process

    @property
    def proxy(self) -> Proxy:
        """What lies between; only some breakages have one."""
        assert self._proxy is not None
        return self._proxy

    async def start(self) -> None:
        """Start reggen."""
        with self.said.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "reggen", "run", str(self.file), "--plain"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def reach(self, share: float) -> None:
        """Wait until so much of the images is there. AssertionError when reggen has ended by then."""
        wanted = max(1, int(share * self._options.images))
        await eventually(lambda: self._made() >= wanted or self.process.returncode is not None, _DEADLINE)
        assert self.process.returncode is None, "the run was over before it was broken; ask for more images"

    async def goes_on(self) -> None:
        """Wait for the next image, and note how long it took from now."""
        began, made = time.monotonic(), self._made()
        await eventually(lambda: self._made() > made or self.process.returncode is not None, _DEADLINE)
        self.facts["next image after, s"] = round(time.monotonic() - began, 1)

    @property
    def words(self) -> str:
        """What reggen has said so far."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def _made(self) -> int:
        return len(list(self.job.dataset.folder.glob("*.png")))


async def kill(stage: Stage) -> None:
    """kill -9 of the server."""
    await _die(stage, signal.SIGKILL)


async def term(stage: Stage) -> None:
    """A polite end, as by a service manager."""
    await _die(stage, signal.SIGTERM)


async def _die(stage: Stage, number: signal.Signals) -> None:
    await stage.reach(0.3)
    await stage.watcher.look()
    await stage.comfy.end(number)
    await asyncio.sleep(_DOWN)
    began = time.monotonic()
    await stage.comfy.start()
    stage.facts["away, s"] = round(_DOWN + time.monotonic() - began, 1)
    await stage.goes_on()


async def proxy(stage: Stage) -> None:
    """Sockets cut three times, then everything for a while."""
    cut = 0
    for share in (0.1, 0.25, 0.4):
        await stage.reach(share)
        await eventually(lambda: stage.proxy.cut() > 0, _DEADLINE)
        cut += 1
    await stage.reach(0.55)
    await stage.proxy.close()
    await asyncio.sleep(_BLACKOUT)
    await stage.proxy.listen()
    stage.facts |= {"sockets cut": cut, "nothing got through for, s": _BLACKOUT}
    await stage.goes_on()


async def deaf(stage: Stage) -> None:
    """The server forgets reggen's socket, which stays open."""
    await stage.reach(0.2)
    client_id = stage.proxy.client_ids[-1]
    path = f"/ws?clientId={client_id}"
    async with aiohttp.ClientSession(stage.comfy.url) as session, session.ws_connect(path) as second:
        await second.receive()  # it is registered now, in the place of the first
    since = time.monotonic()
    await eventually(lambda: stage.proxy.client_ids[-1] != client_id or stage.process.returncode is not None, _DEADLINE)
    stage.facts["heard nothing for, s"] = round(time.monotonic() - max(since, stage.proxy.last_frame), 1)
    stage.facts["another socket"] = stage.proxy.client_ids[-1] != client_id


async def freeze(stage: Stage) -> None:
    """The server is there and does nothing, for a minute."""
    await stage.reach(0.3)
    stage.comfy.send(signal.SIGSTOP)
    await asyncio.sleep(_FROZEN)
    stage.comfy.send(signal.SIGCONT)
    stage.facts["frozen, s"] = _FROZEN
    await stage.goes_on()


async def reggen(stage: Stage) -> None:
    """kill -9 of reggen, with prompts of its own on the server."""
    await stage.reach(0.3)
    stage.process.kill()
    await stage.process.wait()
    await stage.start()
    await eventually(lambda: "taken over" in stage.words or stage.process.returncode is not None, _DEADLINE)
    found = re.search(r"still has (.*) from an earlier run; taken over", stage.words)
    stage.facts["taken over"] = found.group(1) if found else "nothing"


@dataclass(frozen=True, slots=True)
class Breakage:
    """What breaks, whether through the proxy, and how many prompts may be executed more than there are images.

    A server that was restarted has forgotten what had ended and was not fetched yet: at most what was in flight.
    """

    breaks: Callable[[Stage], Awaitable[None]]
    proxied: bool = False
    more: int = 0


BREAKAGES = {
    "kill": Breakage(kill, more=2),
    "term": Breakage(term, more=2),
    "proxy": Breakage(proxy, proxied=True),
    "deaf": Breakage(deaf, proxied=True),
    "freeze": Breakage(freeze),
    "reggen": Breakage(reggen),
}


async def live(name: str, comfy: Comfy, options: argparse.Namespace) -> Told:
    """Live through one breakage. What is wrong is in what it tells."""
    told, began = Told(name), time.monotonic()
    await comfy.start()
    with tempfile.TemporaryDirectory(prefix=f"live-{name}-") as place:
        async with _between(comfy, proxied=BREAKAGES[name].proxied) as between:
            stage = Stage(comfy, between, Path(place), options)
            try:
                async with asyncio.timeout(_DEADLINE):
                    await _broken(stage, BREAKAGES[name], told)
            except (AssertionError, TimeoutError, ValueError, OSError) as error:
                tail = stage.words.splitlines()[-12:]
                told.failure = "\n  ".join([f"{type(error).__name__}: {error}", *tail])
            told.facts, told.executed = stage.facts, len(stage.watcher.executed)
    told.seconds = round(time.monotonic() - began, 1)
    return told


async def _broken(stage: Stage, breakage: Breakage, told: Told) -> None:
    await stage.watcher.look()
    watching = asyncio.create_task(stage.watcher.watch())
    await stage.start()
    try:
        await breakage.breaks(stage)
        told.exit_code = await stage.process.wait()
        await stage.watcher.look()
        assert told.exit_code == 0, f"exit code {told.exit_code}"
        told.images = _assert_whole(stage.job)
        executed = stage.watcher.executed
        told.failed_prompts = sum(status != "success" for status in executed.values())
        await _assert_nothing_left(stage.comfy)
        assert told.images <= len(executed), f"{len(executed)} prompts were seen, fewer than images"
        assert len(executed) <= told.images + breakage.more, f"{len(executed)} prompts for {told.images} images"
        await _assert_finished(stage)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        if stage.process.returncode is None:
            stage.process.kill()
            await stage.process.wait()
        stage.comfy.send(signal.SIGCONT)


@asynccontextmanager
async def _between(comfy: Comfy, *, proxied: bool) -> AsyncIterator[Proxy | None]:
    if not proxied:
        yield None
        return
    between = Proxy(comfy.url)
    await between.listen()
    try:
        yield between
    finally:
        await between.close()


# ---- what can be checked of real pictures


def _assert_whole(job: Job) -> int:
    """Every slot has its picture, whole, the right one, each once; how many there are."""
    folder = Folder(job.dataset)
    rows = _rows(folder)
    assert [row.idx for row in rows] == list(range(job.dataset.count)), f"done are {[row.name for row in rows]}"
    assert {file.name for file in folder.images.iterdir()} == {f"{row.name}.png" for row in rows}
    for row in rows:
        file = folder.file(row.name)
        finding = inspect(file, row.name, demands_of(job))
        note = {"index": row.idx, "take": row.take, "seed": row.seed, "batch": row.batch}
        assert finding.note == note, f"{row.name}: {finding.note}"
        assert _painted_seed(file) == row.seed, f"{row.name} was painted under another seed"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row.sha256
    assert len({row.sha256 for row in rows}) == len(rows), "two images are the same"
    assert parts(job) == []
    return len(rows)


def _rows(folder: Folder) -> list[Row]:
    ledger = Ledger.read(folder.state / "ledger.sqlite")
    assert ledger is not None
    try:
        return list(ledger.walk("done"))
    finally:
        ledger.close()


def _painted_seed(file: Path) -> int:
    """The seed in the graph that ComfyUI itself wrote into the file."""
    with Image.open(file) as image:
        graph = json.loads(image.info["prompt"])
    return next(int(node["inputs"]["seed"]) for node in graph.values() if node["class_type"] == "KSampler")


async def _assert_nothing_left(comfy: Comfy) -> None:
    queue = await comfy.ask("/queue")
    assert queue is not None, "the server does not answer"
    assert queue["queue_running"] == queue["queue_pending"] == [], "prompts are left on the server"


async def _assert_finished(stage: Stage) -> None:
    """The same command again asks for nothing."""
    before = len(stage.watcher.executed)
    await stage.start()
    assert await stage.process.wait() == 0
    await stage.watcher.look()
    await _assert_nothing_left(stage.comfy)
    assert len(stage.watcher.executed) == before, "a finished job asked for more"


# ---- all of them


async def all_of(options: argparse.Namespace) -> list[Told]:
    """One after another, with one server; a line for each as it ends."""
    told: list[Told] = []
    with tempfile.TemporaryDirectory(prefix="live-server-") as place:
        comfy = Comfy(options.url, options.start, Path(place) / "server.log")
        if await comfy.ask("/queue") is not None:
            sys.exit(f"something answers at {options.url} already, and it is not ours to break")
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            for name in options.only:
                told.append(await live(name, comfy, options))
                print(told[-1].line, flush=True)
            options.server = (await comfy.ask("/system_stats") or {}).get("system", {}).get("comfyui_version")
        finally:
            comfy.send(signal.SIGCONT)
            await comfy.end(signal.SIGKILL)
    return told


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(BREAKAGES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there is {', '.join(BREAKAGES)}")
    return names


def main() -> int:
    """Break what the command line names; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--start", required=True, help="a command that runs ComfyUI there, in the foreground")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--only", type=_names, default=list(BREAKAGES), help="names, with commas")
    parser.add_argument("--checkpoint", default="AnythingXL_inkBase.safetensors")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    try:
        told = asyncio.run(all_of(options))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    found = {
        "breakages": [asdict(one) for one in told],
        "failed": [one.name for one in told if one.failure],
        "comfyui": options.server,
        "graph": f"{options.size} px, {options.steps} steps",
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(found, indent=2))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
