"""Stand-ins for benchmarks: many in a few other processes, or one in this process that notes the first prompt."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reggen.sim import Script, Settings, Sim
from reggen.sim.faults.script import Fault
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.http.server import WebPort
from tests.bench.soak import ended
from tests.bench.watched import cpu_of

_PORTS = range(16_000, 32_000)  # no outgoing connection takes one of these
_STARTING = 180.0  # seconds: a thousand of them on a busy machine take their time


# ---- in processes of their own


@dataclass(frozen=True, slots=True)
class StandIns:
    """Servers by address, and the processes they live in."""

    urls: tuple[str, ...]
    pids: tuple[int, ...]

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes so far."""
        return sum(map(cpu_of, self.pids))


@dataclass(frozen=True, slots=True)
class Span:
    """The start and end of a prompt, by the server's own clock, in seconds since the epoch."""

    start: float
    end: float


def shared(servers: int, processes: int, seconds: float) -> list[tuple[int, float]]:
    """Groups of equal servers, one for each process: how many, and their seconds an image."""
    most = min(servers, processes)
    return [(servers // most + (number < servers % most), seconds) for number in range(most)]


@contextmanager
def stand_ins(groups: Sequence[tuple[int, float]], place: Path) -> Iterator[StandIns]:
    """For each group (count, seconds an image), a process with so many servers."""
    port = _free(sum(count for count, _ in groups))
    urls: list[str] = []
    started: list[tuple[subprocess.Popen[str], Path]] = []
    with ExitStack() as stack:
        for number, (count, seconds) in enumerate(groups):
            said = place / f"stand-ins-{number}.log"
            started.append((stack.enter_context(ended(_start(count, seconds, port + len(urls), said))), said))
            urls += [f"http://127.0.0.1:{port + len(urls) + one}" for one in range(count)]
        for process, said in started:
            _await(process, said)
        yield StandIns(tuple(urls), tuple(process.pid for process, _ in started))


def _free(count: int) -> int:
    """The first of so many consecutive free ports. Processes begin their search at different places."""
    first = _PORTS[os.getpid() * 131 % (len(_PORTS) // 2)]
    for port in range(first, _PORTS.stop):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                first = port + 1
        if port - first + 1 == count:
            return first
    sys.exit(f"there are no {count} free ports in a row between {_PORTS.start} and {_PORTS.stop}")


def _start(count: int, seconds: float, port: int, said: Path) -> subprocess.Popen[str]:
    words = ("--servers", str(count), "--port", str(port), "--seconds", str(seconds))
    with said.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "reggen", "sim", *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, text=True)


def _await(process: subprocess.Popen[str], said: Path) -> None:
    """Wait until the stand-ins of a process listen."""
    deadline = time.monotonic() + _STARTING
    while "stand-in at " not in (text := said.read_text(encoding="utf-8")):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the stand-ins did not start: {text}")
        time.sleep(0.05)


def kept(urls: Iterable[str]) -> str:
    """A job's servers in TOML, with their history kept for `spans_of`."""
    return "[{}]".format(", ".join(f"{{ url = {json.dumps(url)}, keep_history = true }}" for url in urls))


def spans_of(url: str) -> list[Span]:
    """The spans of the prompts that a server has ended well, in order."""
    with urllib.request.urlopen(f"{url}/history", timeout=60) as response:
        entries = [entry for entry in json.load(response).values() if entry["status"]["completed"]]
    stamps = [{name: data.get("timestamp", 0) for name, data in entry["status"]["messages"]} for entry in entries]
    spans = [Span(one["execution_start"] / 1000, one["execution_success"] / 1000) for one in stamps]
    return sorted(spans, key=lambda span: span.start)


# ---- in this process


class Listener(Sim):
    """A stand-in that calls back when the first prompt arrives, before it answers."""

    def __init__(self, first: Callable[[], None]) -> None:
        super().__init__(Settings(seconds=60.0, lenient=True), Script(), WebPort("127.0.0.1", 0))
        self._first: Callable[[], None] | None = first

    async def answer(self, ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        if self._first and ask.method == "POST" and ask.path == "/prompt":
            first, self._first = self._first, None
            first()
        return await super().answer(ask)


@contextmanager
def listener(first: Callable[[], None]) -> Iterator[str]:
    """The address of a listener, in a thread of this process."""
    ready, over, urls = threading.Event(), threading.Event(), list[str]()

    async def serve() -> None:
        one = Listener(first)
        await one.start()
        urls.append(one.url)
        ready.set()
        await asyncio.to_thread(over.wait)
        await one.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        if not ready.wait(_STARTING):
            sys.exit("the listener did not start")
        yield urls[0]
    finally:
        over.set()
        thread.join()
