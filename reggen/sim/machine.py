"""`Sim`: one stand-in server with everything but its port.

It owns the world, the hub, the worker and the script, answers requests that have been read, and
offers the faults as methods. The bytes on the wire are the business of whatever opens the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from reggen.sim.faults.script import ANYWHERE, AT_EVENT, AT_VIEW, Director, Fault, Script
from reggen.sim.faults.spoil import locked, replacement, stream_of
from reggen.sim.http import routes
from reggen.sim.http.connections import Request, Web, reset
from reggen.sim.http.hub import GARBAGE, Hub, huge_preview
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.painting.painter import answer_view, draw
from reggen.sim.settings import Settings
from reggen.sim.state.disk import Disk
from reggen.sim.state.model import Ending, Frame
from reggen.sim.state.world import World
from reggen.sim.worker import Worker

LOG_LIMIT = 200_000
"""Requests remembered, at most."""


class Port(Protocol):
    """Where a Sim listens."""

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
        self.settings = settings
        self.requests: list[Request] = []
        """The requests in the order in which they were answered; the oldest go when there are very many."""
        self.executed = 0
        """Prompts that ended after running at least one node, well or not."""
        self.painted = 0
        """Pictures saved by them."""
        self.disk = Disk()
        self._port = port
        self._began = time.monotonic()
        self._director = Director(script, self._began)
        self._rng = random.Random()
        self._open: dict[Web, asyncio.BaseTransport | None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alarm = asyncio.Event()
        self._thawed = asyncio.Event()
        self._refusing_until = self._locked_until = 0.0
        self._locked = HttpReply(0)
        self._listening = False
        self._forget()

    # Looking

    @property
    def url(self) -> str:
        """Where it listens, as in "http://127.0.0.1:40123"."""
        return self._port.url

    @property
    def listening(self) -> bool:
        """Whether the port is open: not so while a restart keeps it down."""
        return self._listening

    @property
    def sockets(self) -> int:
        """Web sockets that are open, deaf ones included."""
        return len(self._open)

    def count(self, method: str, path: str) -> int:
        """How many requests to this path (without /api) have been answered."""
        return sum(one.method == method and one.path.removeprefix("/api") == path for one in self.requests)

    # Making trouble

    def add(self, fault: Fault) -> None:
        """Arm one more fault, counting from now."""
        self._director.add(fault, time.monotonic())
        self._alarm.set()

    def drop_sockets(self, *, abrupt: bool = True, code: int = 1001) -> None:
        """Cut every socket: without a word, or with a close frame of this code."""
        for web, transport in list(self._open.items()):
            if not abrupt:
                self._start(_say_goodbye(web, code))
            elif transport is not None:
                reset(transport)

    def deafen(self) -> None:
        """The sockets that are open hear nothing more, though pings are still answered."""
        self._hub.deafen()

    def refuse_sockets(self, seconds: float) -> None:
        """Answer 503 to whoever wants to open a socket, for so long."""
        self._refusing_until = time.monotonic() + seconds

    def lock(self, seconds: float, status: int) -> None:
        """Answer every request with this status for so long, 200 with a login page; open sockets live on."""
        self._locked_until, self._locked = time.monotonic() + seconds, locked(status)

    def vanish(self, prompt_id: str) -> None:
        """Delete a prompt that is not running from queue and history."""
        self.world.forget(prompt_id)
        self._flush()

    def interrupt(self) -> None:
        """Somebody else interrupts what runs."""
        self.world.interrupt()
        self._worker.nudge()

    def zombie(self) -> None:
        """The worker dies: what runs never ends, what waits never starts."""
        self.world.dead = True
        self._working.cancel()

    def send(self, *frames: str | bytes) -> None:
        """Send raw frames to every socket."""
        for frame in frames:
            self._hub.put(frame)

    async def freeze(self, seconds: float) -> None:
        """Accept connections and answer nothing, not even pings, for so long; then go on."""
        self._thawed.clear()
        frozen = self._port.transports()
        for transport in frozen:
            transport.pause_reading()
        await asyncio.sleep(seconds)
        for transport in frozen:
            transport.resume_reading()
        self._thawed.set()

    async def restart(self, down: float = 0.2) -> None:
        """Die and come back on the same port, knowing nothing; saved files are still there."""
        await self.stop()
        await asyncio.sleep(down)
        self._forget()
        await self.start()

    # Living and dying

    async def start(self) -> None:
        """Listen, work, and play the script."""
        await self._port.open(self)
        self._listening = True
        self._working = self._start(self._worker.run())
        self._start(self._play())
        self._start(self._hub.publish(self._thawed))

    async def stop(self) -> None:
        """Close the port and every connection at once, and end every task but the caller's own."""
        self._listening = False
        await self._port.close()
        for transport in self._port.transports():
            reset(transport)
        doomed = self._tasks - {asyncio.current_task()}
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        self._open.clear()

    def own(self, task: asyncio.Task[Any]) -> None:
        """Let this task end when the server ends."""
        if task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._disown)

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            context = {"message": f"a task of the stand-in at {self.url} has failed", "exception": error}
            task.get_loop().call_exception_handler(context)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.own(task)
        return task

    def _forget(self) -> None:
        """Begin a new life: an empty world, nobody connected."""
        self.world = World(self.settings, self.disk, self._rng)
        self._hub = Hub(draw, self._at_event)
        gap = self.settings.gap
        self._worker = Worker(self.world, self._thawed, self._flush, self._at_start, self._ended, gap)
        self._executing: tuple[Any, str] | None = None
        self._thawed.set()

    # Answering

    async def answer(self, ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        """The reply to a request, already spoilt where a fault spoils what is in it.

        The fault comes along for the caller to spoil the way it is sent.
        """
        await self._thawed.wait()
        if time.monotonic() < self._locked_until:
            self._log(ask, self._locked.status)
            return self._locked, None
        fault = self._struck(self._director.due(stream_of(ask)))
        if fault is not None and fault.do == "slow":
            await asyncio.sleep(fault.seconds)
        reply = HttpReply(0)
        if fault is None or fault.carried_out or fault.do in ("slow", *AT_VIEW):
            reply = await self._reply(ask, fault)
        if fault is not None:
            reply = replacement(fault, reply, ask.target)
        await self._thawed.wait()
        silent = fault is not None and fault.do in ("silent", "reset")
        self._log(ask, 0 if silent else reply.status, reply.prompt_id)
        return reply, fault

    async def admit(self, ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
        """Whether a socket may open: status 101 if so."""
        await self._thawed.wait()
        if time.monotonic() < self._locked_until:
            self._log(ask, self._locked.status)
            return self._locked, None
        fault = self._struck(self._director.due("ws"))
        if fault is not None and fault.do == "slow":
            await asyncio.sleep(fault.seconds)
            fault = None
        reply = HttpReply(503 if time.monotonic() < self._refusing_until else 101)
        if self.settings.traits.origin_check and routes.is_foreign(ask):
            reply = HttpReply(403)
        if fault is not None:
            reply = replacement(fault, HttpReply(503), ask.target)
        self._log(ask, reply.status)
        return reply, fault

    async def greet(self, sid: str, web: Web, transport: asyncio.BaseTransport | None) -> None:
        """A socket has opened: register it and tell it how things stand."""
        self._open[web] = transport
        self._hub.join(sid, web)
        await self._hub.send_now(sid, "status", {"status": self.world.status, "sid": sid})
        if self._executing is not None and self._executing[0] == sid:
            await self._hub.send_now(sid, "executing", {"node": self._executing[1]})

    async def hear(self, sid: str, text: str) -> None:
        """A socket's first message: it may say what the client supports, all else is ignored."""
        try:
            message = json.loads(text)
            flags = message.get("data", {}) if message.get("type") == "feature_flags" else None
        except (ValueError, AttributeError):
            return
        if not isinstance(flags, dict) or not self.settings.traits.progress_state:
            return
        if flags.get("supports_preview_metadata"):
            self._hub.wants_metadata(sid)
        await self._hub.send_now(sid, "feature_flags", routes.FEATURES)

    def leave(self, sid: str, web: Web) -> None:
        """A socket's handler ends, and takes along whatever is registered under its id."""
        self._hub.leave(sid)
        self._open.pop(web, None)

    async def _reply(self, ask: HttpRequest, fault: Fault | None) -> HttpReply:
        found = routes.answer(self.world, ask)
        self._flush()
        self._worker.nudge()
        if isinstance(found, HttpReply):
            return found
        swapped = fault is not None and fault.do == "swap"
        return await answer_view(self.world.disk.another(found) if swapped else found, ask)

    def _log(self, ask: HttpRequest, status: int, prompt_id: str | None = None) -> None:
        path = f"/api{ask.path}" if ask.api else ask.path
        at = time.monotonic() - self._began
        if len(self.requests) >= LOG_LIMIT:
            del self.requests[: LOG_LIMIT // 2]
        self.requests.append(Request(ask.method, path, dict(ask.query), status, prompt_id, at))

    # Working

    def _flush(self) -> None:
        """Hand the world's frames to the hub, in order."""
        for frame in self.world.outbox:
            if isinstance(frame, Frame) and frame.event == "executing":
                node = frame.data["node"]
                self._executing = None if node is None else (frame.to, node)
            self._hub.put(frame)
        self.world.outbox.clear()

    def _ended(self, ending: Ending) -> None:
        self._executing = None
        self.executed += ending.ran > 0
        self.painted += ending.pictures

    def _at_start(self) -> list[Fault]:
        faults = self._director.due("start", seeds=self.world.next_seeds)
        self._struck([fault for fault in faults if fault.do != "zombie"])
        largest = self.settings.largest_batch
        return faults if largest is None or self.world.next_batch <= largest else [*faults, Fault("oom")]

    def _at_event(self, event: str) -> list[Fault]:
        faults = self._director.due("event", event)
        self._struck(faults)
        return [fault for fault in faults if fault.do in AT_EVENT]

    async def _play(self) -> None:
        """Let the faults on `time` strike."""
        while True:
            self._alarm.clear()
            due = self._director.next_time()
            wait = None if due is None else max(0.0, due - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._alarm.wait(), wait)
            self._struck(self._director.due_by(time.monotonic()))

    def _struck(self, faults: list[Fault]) -> Fault | None:
        """Carry out the faults that can happen anywhere; the first of the others is for the caller."""
        for fault in faults:
            if fault.do in ANYWHERE:
                self._strike(fault)
        return next((fault for fault in faults if fault.do not in ANYWHERE), None)

    def _strike(self, fault: Fault) -> None:
        match fault.do:
            case "drop":
                self.drop_sockets(abrupt=fault.abrupt, code=fault.code)
            case "deafen":
                self.deafen()
            case "refuse":
                self.refuse_sockets(fault.seconds)
            case "lock":
                self.lock(fault.seconds, fault.status)
            case "garbage":
                self.send(*GARBAGE)
            case "huge":
                self.send(huge_preview())
            case "restart":
                self._start(self.restart(fault.seconds))
            case "freeze":
                self._start(self.freeze(fault.seconds))
            case "zombie":
                self.zombie()


async def _say_goodbye(web: Web, code: int) -> None:
    await web.close(code=code)
