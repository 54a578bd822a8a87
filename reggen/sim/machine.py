"""`Sim`: one stand-in server with everything but its port.

It owns the process that serves (`Process`), the files and the script, answers requests that have been read, and
offers the faults as methods. The port that it is given moves the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from reggen.sim.faults.script import AT_VIEW, Director, Fault, Script
from reggen.sim.faults.spoil import locked, replacement, stream_of
from reggen.sim.http import routes
from reggen.sim.http.connections import RequestLog, reset
from reggen.sim.http.hub import GARBAGE, huge_preview
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.process import Process
from reggen.sim.settings import Settings
from reggen.sim.state.disk import Disk
from reggen.sim.state.model import Ending
from reggen.sim.state.world import World
from reggen.sim.tasks import OwnedTasks


class Port(Protocol):
    """The address where a Sim listens."""

    @property
    def url(self) -> str:
        """The address, once open."""

    async def open(self, sim: Sim) -> None:
        """Listen on behalf of `sim`, at the same address each time. OSError if it is taken."""

    async def close(self) -> None:
        """Refuse connections and wait for nothing."""

    def transports(self) -> list[asyncio.Transport]:
        """The connections that are open."""


class Sim:
    """One server. `serve` makes and starts it; its methods make things go wrong from a test."""

    def __init__(self, settings: Settings, script: Script, port: Port) -> None:
        began = time.monotonic()
        self.settings = settings
        self.requests = RequestLog(began)
        """The requests in the order in which they were answered; the oldest go when there are very many."""
        self.executed = 0
        """The number of prompts that ended, well or not, after running at least one node."""
        self.painted = 0
        """The number of pictures that they saved."""
        self.disk = Disk()
        self.director = Director(script, began)
        self.tasks = OwnedTasks(lambda: self.url)
        self.listening = False
        """False while a restart keeps the port closed."""
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.rng = random.Random()
        self._port = port
        self._alarm = asyncio.Event()
        self._refusing_until = self._locked_until = 0.0
        self._locked = HttpReply(0)
        self.process = Process(self)

    # State

    @property
    def url(self) -> str:
        """The address, as in "http://127.0.0.1:40123"."""
        return self._port.url

    @property
    def world(self) -> World:
        """Queue, history and cache of the process that serves now."""
        return self.process.world

    @property
    def sockets(self) -> int:
        """The number of open web sockets, deaf ones included."""
        return len(self.process.hub.open)

    def count(self, method: str, path: str) -> int:
        """The number of requests to this path (without /api) that have been answered."""
        return sum(one.method == method and one.path.removeprefix("/api") == path for one in self.requests)

    # Faults

    def add(self, fault: Fault) -> None:
        """Arm one more fault, counting from now."""
        self.director.add(fault, time.monotonic())
        self._alarm.set()

    def drop_sockets(self, *, abrupt: bool = True, code: int = 1001) -> None:
        """Cut every socket: without a word, or with a close frame of this code."""
        for socket, transport in list(self.process.hub.open.items()):
            if not abrupt:
                self.tasks.start(socket.close(code=code))
            elif transport is not None:
                reset(transport)

    def deafen(self) -> None:
        """Send nothing more to the sockets that are open, though pings are still answered."""
        self.process.hub.deafen()

    def refuse_sockets(self, seconds: float) -> None:
        """Answer 503 to every attempt to open a socket, for so long."""
        self._refusing_until = time.monotonic() + seconds

    def lock(self, seconds: float, status: int) -> None:
        """Answer every request with this status for so long, 200 with a login page; open sockets live on."""
        self._locked_until, self._locked = time.monotonic() + seconds, locked(status)

    def send(self, *frames: str | bytes) -> None:
        """Send raw frames to every socket."""
        for frame in frames:
            self.process.hub.put(frame)

    async def freeze(self, seconds: float) -> None:
        """Accept connections and answer nothing, not even pings, for so long; then go on."""
        self.thawed.clear()
        frozen = self._port.transports()
        for transport in frozen:
            transport.pause_reading()
        await asyncio.sleep(seconds)
        for transport in frozen:
            transport.resume_reading()
        self.thawed.set()

    async def restart(self, down: float = 0.2) -> None:
        """Die and come back on the same port with an empty queue and history; saved files are still there."""
        await self.stop()
        await asyncio.sleep(down)
        self.thawed.set()
        self.process = Process(self)
        await self.start()

    # Start and stop

    async def start(self) -> None:
        """Listen, work, and play the script."""
        await self._port.open(self)
        self.listening = True
        self.process.start()
        self.tasks.start(_play(self.director, self._alarm, self.strike))

    async def stop(self) -> None:
        """Close the port and every connection at once, and end every task but the caller's own."""
        self.listening = False
        await self._port.close()
        for transport in self._port.transports():
            reset(transport)
        await self.tasks.cancel()
        self.process.hub.open.clear()

    # Called by the port and the process

    async def answer(self, request: HttpRequest, /) -> tuple[HttpReply, Fault | None]:
        """The reply to a request, already spoilt where a fault spoils its content.

        The fault comes along for the caller to spoil the way it is sent.
        """
        await self.thawed.wait()
        if time.monotonic() < self._locked_until:
            self.requests.add(request, self._locked.status)
            return self._locked, None
        fault = self.strike(self.director.due(stream_of(request)))
        if fault is not None and fault.do == "slow":
            await asyncio.sleep(fault.seconds)
        reply = HttpReply(0)
        if fault is None or fault.carried_out or fault.do in ("slow", *AT_VIEW):
            reply = await self.process.reply(request, swapped=fault is not None and fault.do == "swap")
        if fault is not None:
            reply = replacement(fault, reply, request.target)
        await self.thawed.wait()
        silent = fault is not None and fault.do in ("silent", "reset")
        self.requests.add(request, 0 if silent else reply.status, reply.prompt_id)
        return reply, fault

    async def admit(self, request: HttpRequest, /) -> tuple[HttpReply, Fault | None]:
        """The reply to a request for a socket: status 101 if it may open."""
        await self.thawed.wait()
        if time.monotonic() < self._locked_until:
            self.requests.add(request, self._locked.status)
            return self._locked, None
        fault = self.strike(self.director.due("ws"))
        if fault is not None and fault.do == "slow":
            await asyncio.sleep(fault.seconds)
            fault = None
        reply = HttpReply(503 if time.monotonic() < self._refusing_until else 101)
        if self.settings.traits.origin_check and routes.is_foreign(request):
            reply = HttpReply(403)
        if fault is not None:
            reply = replacement(fault, HttpReply(503), request.target)
        self.requests.add(request, reply.status)
        return reply, fault

    def prompt_begins(self) -> list[Fault]:
        """The faults that strike the prompt whose turn has come; those that can happen anywhere are carried out."""
        faults = self.director.due("start", seeds=self.world.queue.next_seeds)
        self.strike(fault for fault in faults if fault.do != "zombie")
        largest = self.settings.largest_batch
        return faults if largest is None or self.world.queue.next_batch <= largest else [*faults, Fault("oom")]

    def prompt_ended(self, ending: Ending) -> None:
        """Count a prompt that has ended."""
        self.executed += ending.ran > 0
        self.painted += ending.pictures

    def strike(self, faults: Iterable[Fault]) -> Fault | None:
        """Carry out the faults that can happen anywhere; return the first of the others for the caller."""
        for_caller = None
        for fault in faults:
            action = _ACTIONS.get(fault.do)
            if action is not None:
                action(self, fault)
            elif for_caller is None:
                for_caller = fault
        return for_caller


_ACTIONS: dict[str, Callable[[Sim, Fault], object]] = {
    "drop": lambda sim, fault: sim.drop_sockets(abrupt=fault.abrupt, code=fault.code),
    "deafen": lambda sim, _: sim.deafen(),
    "refuse": lambda sim, fault: sim.refuse_sockets(fault.seconds),
    "lock": lambda sim, fault: sim.lock(fault.seconds, fault.status),
    "garbage": lambda sim, _: sim.send(*GARBAGE),
    "huge": lambda sim, _: sim.send(huge_preview()),
    "restart": lambda sim, fault: sim.tasks.start(sim.restart(fault.seconds)),
    "freeze": lambda sim, fault: sim.tasks.start(sim.freeze(fault.seconds)),
    "zombie": lambda sim, _: sim.process.zombie(),
}
"""The faults that can happen anywhere, and what each does to a server."""


async def _play(director: Director, alarm: asyncio.Event, strike: Callable[[list[Fault]], object]) -> None:
    """Let the faults on `time` strike when they are due; `alarm` is set when one more is armed."""
    while True:
        alarm.clear()
        due = director.next_time()
        wait = None if due is None else max(0.0, due - time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(alarm.wait(), wait)
        strike(director.due_by(time.monotonic()))
