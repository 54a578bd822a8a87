"""`Process`: one life of a stand-in, from its start to its end. A restart begins another one.

It joins the world (what has been asked and what came of it), the worker that executes, and the hub that tells.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from typing import Any, Protocol

from reggen.sim.faults.script import AT_EVENT, Director, Fault
from reggen.sim.http import routes
from reggen.sim.http.connections import ClientSocket
from reggen.sim.http.hub import Hub
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.painting.painter import answer_view, draw
from reggen.sim.settings import Settings
from reggen.sim.state.disk import Disk
from reggen.sim.state.model import Ending, Frame
from reggen.sim.state.world import World
from reggen.sim.tasks import OwnedTasks
from reggen.sim.worker import Worker


class Owner(Protocol):
    """The part of a `Sim` that a process works for."""

    settings: Settings
    disk: Disk
    director: Director
    tasks: OwnedTasks
    thawed: asyncio.Event
    """Cleared while the server is frozen."""
    rng: random.Random

    def prompt_begins(self) -> list[Fault]:
        """The faults that strike the prompt whose turn has come."""

    def prompt_ended(self, ending: Ending) -> None:
        """Count a prompt that has ended."""

    def strike(self, faults: Iterable[Fault]) -> Fault | None:
        """Carry out the faults that can happen anywhere."""


class Process:
    """An empty world, nobody connected, and a worker that waits for prompts."""

    def __init__(self, owner: Owner) -> None:
        self.world = World(owner.settings, owner.disk, owner.rng)
        self.hub = Hub(draw, self._faults_at_event)
        self._owner = owner
        gap = owner.settings.gap
        self._worker = Worker(self.world, owner.thawed, self._flush, owner.prompt_begins, self._ended, gap)
        self._working: asyncio.Task[Any] | None = None
        self._executing: tuple[Any, str] | None = None
        """The client that is told of the node being executed, and the node."""

    def start(self) -> None:
        """Start the tasks that execute prompts and send frames."""
        self._working = self._owner.tasks.start(self._worker.run())
        self._owner.tasks.start(self.hub.publish(self._owner.thawed))

    # Requests and sockets

    async def reply(self, request: HttpRequest, *, swapped: bool) -> HttpReply:
        """The reply to a request; `swapped` shows another picture than the one asked for."""
        found = routes.answer(self.world, request)
        self._flush()
        self._worker.nudge()
        if isinstance(found, HttpReply):
            return found
        return await answer_view(self.world.disk.another(found) if swapped else found, request)

    async def greet(self, sid: str, socket: ClientSocket, transport: asyncio.BaseTransport | None) -> None:
        """Register a socket that has opened, and send it the state of the queue."""
        self.hub.join(sid, socket, transport)
        await self.hub.send_now(sid, "status", {"status": self.world.status, "sid": sid})
        if self._executing is not None and self._executing[0] == sid:
            await self.hub.send_now(sid, "executing", {"node": self._executing[1]})

    async def hear(self, sid: str, text: str) -> None:
        """Read a socket's first message: the features that the client supports. All else is ignored."""
        try:
            message = json.loads(text)
            flags = message.get("data", {}) if message.get("type") == "feature_flags" else None
        except (ValueError, AttributeError):
            return
        if not isinstance(flags, dict) or not self.world.traits.progress_state:
            return
        if flags.get("supports_preview_metadata"):
            self.hub.wants_metadata(sid)
        await self.hub.send_now(sid, "feature_flags", routes.FEATURES)

    # Faults

    def vanish(self, prompt_id: str) -> None:
        """Delete a prompt that is not running from queue and history."""
        self.world.forget(prompt_id)
        self._flush()

    def interrupt(self) -> None:
        """Interrupt the running prompt, as another client would."""
        self.world.interrupt()
        self._worker.nudge()

    def zombie(self) -> None:
        """End the worker: the running prompt never ends, and no other starts."""
        self.world.dead = True
        if self._working is not None:
            self._working.cancel()

    # Frames

    def _flush(self) -> None:
        """Hand the world's frames to the hub, in order."""
        for frame in self.world.outbox:
            if isinstance(frame, Frame) and frame.event == "executing":
                node = frame.data["node"]
                self._executing = None if node is None else (frame.to, node)
            self.hub.put(frame)
        self.world.outbox.clear()

    def _ended(self, ending: Ending) -> None:
        self._executing = None
        self._owner.prompt_ended(ending)

    def _faults_at_event(self, event: str) -> list[Fault]:
        faults = self._owner.director.due("event", event)
        self._owner.strike(faults)
        return [fault for fault in faults if fault.do in AT_EVENT]
