"""The worker: takes one prompt after another and executes it in real time.

Each process has one. It decides nothing: the world says what happens and how long it takes, the faults say what
goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reggen.sim.faults.script import Fault
from reggen.sim.faults.spoil import mishap_of
from reggen.sim.state.model import Ending, Pause
from reggen.sim.state.world import World


@dataclass(slots=True)
class Worker:
    """Runs the prompts of the world, one at a time, while the gate is open."""

    world: World
    gate: asyncio.Event
    flush: Callable[[], None]
    """Send the frames that the world has produced."""
    begin: Callable[[], list[Fault]]
    """Called when a prompt's turn has come: carries out the faults that can happen anywhere, and returns all."""
    ended: Callable[[Ending], None]
    gap: float = 0.0
    """Idle seconds before each prompt."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def nudge(self) -> None:
        """Wake up if the last request left work or an interrupt."""
        if self.world.interrupted:
            self.stop.set()
        if self.world.has_work:
            self.awake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self.awake.wait()
            self.awake.clear()
            while self.world.has_work:
                self.world.settle()
                if self.world.pending:
                    await self._one()

    async def _one(self) -> None:
        faults = self.begin()
        if any(fault.do == "zombie" and fault.face == "idle" for fault in faults):
            self.world.dead = True
        await asyncio.sleep(self.gap + sum(fault.seconds for fault in faults if fault.do == "gap"))
        item = self.world.take()
        self.flush()
        if item is None:
            return
        if any(fault.do == "vanish" for fault in faults):
            self.world.vanish()
            self.flush()
            return
        ending = await self._execute(faults)
        if ending is not None:
            self.ended(ending)

    async def _execute(self, faults: list[Fault]) -> Ending | None:
        self.stop.clear()
        run = self.world.execute(mishap_of(faults), time.time())
        try:
            pause = next(run)
            while True:
                self.flush()
                await self._pass(pause)
                await self.gate.wait()
                pause = run.send(time.time())
        except StopIteration as end:
            ending: Ending | None = end.value
        self.flush()
        return ending

    async def _pass(self, pause: Pause) -> None:
        if not pause.interruptible:
            await asyncio.sleep(pause.seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause.seconds):
                await self.stop.wait()
