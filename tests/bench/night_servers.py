"""The night of `tests.bench.nights`, and stand-ins that keep a record of what they do and suffer in it."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from reggen.sim import Fault, Script, Settings, Sim
from reggen.sim.http.server import WebPort
from reggen.sim.state.model import Ending

_PORTS = range(11_000, 15_000)  # no outgoing connection takes one of these while a restart keeps a server down
_STARTING = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class CompressedNight:
    """The length and the faults of a night, in the compressed seconds of the stand-ins."""

    servers: int
    seconds: float
    real: float
    hours: float
    seed: int

    @property
    def factor(self) -> float:
        """The factor of compression."""
        return self.real / self.seconds

    @property
    def window(self) -> float:
        """Seconds that are measured."""
        return 3600 * self.hours / self.factor

    @property
    def count(self) -> int:
        """Images of a job that cannot be finished in it."""
        return int(1.2 * self.servers * self.window / self.seconds) + 100

    def script(self, number: int) -> Script:
        """The faults of one server; those on the clock strike the servers in turn."""
        shift = (number + 0.5) / self.servers
        hour, ten_minutes = 3600 / self.factor, 600 / self.factor
        faults = (
            Fault("restart", on="time", at=shift * hour, every=hour, seconds=20 / self.factor),
            Fault("drop", on="time", at=shift * ten_minutes, every=ten_minutes),
            Fault("fail", chance=0.01),
            Fault("black", chance=0.005),
        )
        return Script(faults, 1000 * self.seed + number)


@dataclass(frozen=True, slots=True)
class Executed:
    """A prompt that ran: its start and end, and the fault that spoilt it, if any."""

    prompt_id: str
    start: float
    end: float
    spoilt: str


@dataclass(slots=True)
class ServerRecord:
    """The executions, downtimes and faults of one server."""

    executions: list[Executed] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=dict)


class RecordingSim(Sim):
    """A stand-in that keeps a record over its restarts."""

    def __init__(self, night: CompressedNight, number: int, port: int) -> None:
        super().__init__(Settings(seconds=night.seconds), night.script(number), WebPort("127.0.0.1", port))
        self.record = ServerRecord()
        self.busy_since: float | None = None
        self._spoilt = ""
        self._down_since: float | None = None

    async def start(self) -> None:
        await super().start()
        if self._down_since is not None:
            self.record.down.append((self._down_since, time.monotonic()))

    async def stop(self) -> None:
        self._down_since = time.monotonic()
        self._close("", "restart")
        await super().stop()

    def closed_record(self) -> ServerRecord:
        """The record up to now."""
        if not self.listening and self._down_since is not None:
            self.record.down.append((self._down_since, time.monotonic()))
        struck: Counter[str] = Counter()
        for armed in self.director.armed:
            struck[armed.fault.do] += armed.fired
        self.record.struck = dict(struck)
        return self.record

    def prompt_begins(self) -> list[Fault]:
        faults = super().prompt_begins()
        self._spoilt = next((fault.do for fault in faults if fault.do in ("fail", "black")), "")
        self.busy_since = time.monotonic()
        return faults

    def prompt_ended(self, ending: Ending) -> None:
        super().prompt_ended(ending)
        self._close(ending.messages[0][1]["prompt_id"], self._spoilt)

    def _close(self, prompt_id: str, spoilt: str) -> None:
        if self.busy_since is not None:
            self.record.executions.append(Executed(prompt_id, self.busy_since, time.monotonic(), spoilt))
            self.busy_since = None


async def _serve(night: CompressedNight, pipe: Connection) -> None:
    """Send the addresses, then the time of the first prompt, and at the end the records."""
    sims: list[RecordingSim] = []
    ports = iter(_PORTS)
    while len(sims) < night.servers:
        sim = RecordingSim(night, len(sims), next(ports))
        try:
            await sim.start()
        except OSError:
            continue  # somebody has that port
        sims.append(sim)
    pipe.send([sim.url for sim in sims])
    while not any(sim.busy_since for sim in sims):
        await asyncio.sleep(0.001)
    pipe.send(min(sim.busy_since for sim in sims if sim.busy_since))
    try:
        await asyncio.to_thread(pipe.recv)
        pipe.send([sim.closed_record() for sim in sims])
    finally:
        for sim in sims:
            await sim.stop()


def _serving(night: CompressedNight, pipe: Connection) -> None:
    """Serve in a process of its own, so that neither side's time is spent in the stand-ins' loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(night, pipe))


class Servers:
    """The stand-ins of one side."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.urls: list[str] = self._received()

    def began(self) -> float:
        """Time at which the first prompt ran. Blocks until then."""
        return float(self._received())

    def records(self) -> list[ServerRecord]:
        """The records of all servers."""
        self._pipe.send("enough")
        found: list[ServerRecord] = self._received()
        return found

    def _received(self) -> Any:
        if not self._pipe.poll(_STARTING):
            sys.exit("the stand-ins do not answer")
        return self._pipe.recv()


@contextmanager
def stand_ins(night: CompressedNight) -> Iterator[Servers]:
    """The servers of a night, for the duration of the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serving, args=(night, there), daemon=True)
    process.start()
    try:
        yield Servers(here)
    finally:
        process.terminate()
        process.join()
