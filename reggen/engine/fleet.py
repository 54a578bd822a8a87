"""Which errand goes to which server, and when. Pure state: synchronous, ``now`` and the jitter handed in.

A server has ``depth`` slots; an errand holds one from the post until the prompt has ended, not while its
images are fetched. New errands are taken from the plan only when a slot is free for one and not too many
are still being fetched, so nothing here grows with the plan.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from reggen.comfy.wire import Trace
from reggen.engine.retry import Tries, pause
from reggen.plan import Order

_FETCHING = 4  # errands per server that may be beyond their slot, downloading and checking
_REFUSALS = 3  # prompts in a row a server may refuse, before it is left out


@dataclass(frozen=True, slots=True)
class Errand:
    """One order and what was spent on it in this run."""

    order: Order
    tries: Tries = field(default_factory=Tries)
    trace: Trace | None = None  # of the prompt that an earlier run has posted for it


@dataclass(slots=True)
class _Server:
    depth: int
    up: bool = False
    out: bool = False
    spared: bool = False
    holding: int = 0
    active: int = 0
    down_since: float | None = None
    failures: int = 0
    refusals: int = 0
    rests_until: float = -math.inf


@dataclass(eq=False, slots=True)
class _Waiting:
    not_before: float
    errand: Errand


class Fleet:
    """The servers' slots and the errands that wait."""

    def __init__(
        self,
        depths: Mapping[str, int],
        orders: Iterator[Order],
        jitter: Callable[[float], float] = lambda ceiling: random.uniform(0, ceiling),
        *,
        patience: float = 30.0,
    ) -> None:
        self._servers = {name: _Server(depth) for name, depth in depths.items()}
        self._orders, self._jitter, self._patience = orders, jitter, patience
        self._waiting: list[_Waiting] = []
        self._adopted: list[tuple[str, Errand]] = []
        self._claimed: set[tuple[int, int]] = set()  # orders that need not be taken from the plan
        self._reached = -1  # the last slot taken from it
        self._next: Errand | None = None
        self._exhausted = self._stopped = self._held = False
        self._active = 0
        self._succeeded = False

    # ---- what to do

    def assign(self, now: float) -> list[tuple[str, Errand]]:
        """Hand out what can be handed out now; each pair holds a slot until `release` and is active until `finish`."""
        given, self._adopted = self._adopted, []
        for name, _ in given:
            self._hold(name)
        while not (self._stopped or self._held) and (pair := self._pair(now)):
            self._hold(pair[0])
            given.append(pair)
        return given

    def adopt(self, name: str, order: Order, trace: Trace) -> bool:
        """Whether the order is still to be handed out; then it is what a server does already, for an earlier run."""
        if self._stopped or order.samples[0].index <= self._reached or order.key in self._claimed:
            return False
        self._claimed.add(order.key)
        self._adopted.append((name, Errand(order, trace=trace)))
        if self._next and self._next.order.key == order.key:
            self._next = None
        return True

    @property
    def finished(self) -> bool:
        """Nothing is active and nothing will be."""
        idle = self._active == 0
        nothing_left = self._exhausted and self._next is None and not self._waiting
        return idle and not self._adopted and (self._stopped or nothing_left)

    @property
    def held(self) -> bool:
        """Nothing is handed out for now."""
        return self._held

    @property
    def stopped(self) -> bool:
        """Nothing more is handed out."""
        return self._stopped

    @property
    def active(self) -> int:
        """Errands handed out and not finished."""
        return self._active

    def wake_at(self, now: float) -> float:
        """When `assign` may have something new to give, if nothing else happens; may be infinite."""
        rests = [server.rests_until for server in self._servers.values() if server.rests_until > now]
        waits = [waiting.not_before for waiting in self._waiting if waiting.not_before > now]
        downs = [server.down_since + self._patience for server in self._servers.values() if server.down_since]
        return min([math.inf, *rests, *waits, *(down for down in downs if down > now)])

    def others_up(self, name: str) -> bool:
        """Whether a server other than ``name`` can take work."""
        return bool(self.usable - {name})

    @property
    def usable(self) -> frozenset[str]:
        """The servers that can take work now."""
        return frozenset(name for name, server in self._servers.items() if server.up and not server.out)

    def candidates(self, now: float) -> frozenset[str]:
        """The servers that can take work, or went away so lately that they are worth waiting for."""
        return frozenset(
            name
            for name, server in self._servers.items()
            if not server.out and (server.up or self._is_expected(server, now))
        )

    def _is_expected(self, server: _Server, now: float) -> bool:
        if server.down_since is None:
            server.down_since = now
        return now - server.down_since < self._patience

    @property
    def closed(self) -> bool:
        """Every server was left out: nothing more can be handed out in this run."""
        return all(server.out for server in self._servers.values())

    # ---- what happened

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True

    def leave_out(self, name: str) -> None:
        """Give a server nothing more in this run."""
        self._servers[name].out = True

    def spare(self, name: str, *, spared: bool = True) -> None:
        """Give a server nothing more for now."""
        self._servers[name].spared = spared

    def hold(self) -> None:
        """Hand out nothing until `resume`."""
        self._held = True

    def resume(self) -> None:
        """Go on after `hold`."""
        self._held = False

    def server_is(self, name: str, up: bool, now: float = 0.0) -> None:
        """A server came or went."""
        server = self._servers[name]
        server.up, server.down_since = up, None if up else now
        if up:
            server.failures, server.rests_until = 0, -math.inf

    def accepted(self, name: str) -> None:
        """A server took a prompt and ended it, well or not."""
        server = self._servers[name]
        server.failures = server.refusals = 0
        self._succeeded = True

    def failed(self, name: str, now: float, at_least: float = 0.0) -> None:
        """A server could not be used: it rests, longer each time, and at least as long as it asked for."""
        server = self._servers[name]
        server.failures += 1
        rest = max(at_least, 0.1 + self._jitter(pause(server.failures)))
        server.rests_until = max(server.rests_until, now + rest)

    def refused(self, name: str) -> bool:
        """A server refused a prompt that others might take. True when it is left out from here on."""
        server = self._servers[name]
        server.refusals += 1
        if server.refusals >= _REFUSALS and not server.out and self.others_up(name):
            server.out = True
            return True
        return False

    @property
    def hopeless(self) -> bool:
        """No prompt of this job was ever taken: a refusal now says something about the job, not the sample."""
        return not self._succeeded

    def release(self, name: str) -> None:
        """A prompt has left the server: its slot is free."""
        self._servers[name].holding -= 1

    def finish(self, name: str) -> None:
        """An errand of a server is no longer active: done, given up, or put back with `again`."""
        self._servers[name].active -= 1
        self._active -= 1

    def again(self, errand: Errand, now: float, ceiling: float) -> None:
        """Put an errand back, to be handed out after a pause drawn from 0 to ``ceiling`` seconds."""
        self._waiting.append(_Waiting(now + self._jitter(ceiling), errand))

    def stranded(self, now: float) -> list[Errand]:
        """Take out what every server that is there has refused: nobody would ever take it."""
        able = self.candidates(now)
        lost = [one.errand for one in self._waiting if able and one.errand.tries.refused_by >= able]
        self._waiting = [one for one in self._waiting if one.errand not in lost]
        return lost

    # ---- how

    def _most_active(self) -> int:
        return sum(server.depth + _FETCHING for server in self._servers.values())

    def _pair(self, now: float) -> tuple[str, Errand] | None:
        free = [name for name, server in self._servers.items() if self._free(server, now)]
        if not free:
            return None
        free.sort(key=lambda name: self._servers[name].holding / self._servers[name].depth)
        for waiting in sorted(self._waiting, key=lambda one: one.not_before):
            if waiting.not_before <= now and (name := self._choose(waiting.errand, free)):
                self._waiting.remove(waiting)
                return name, waiting.errand
        if len(self._waiting) > 2 * self._most_active():
            return None  # more failures than can be worked off: nothing new on top
        errand = self._peek()
        name = self._choose(errand, free) if errand else None
        if errand is None or name is None:
            return None
        self._next, self._reached = None, errand.order.samples[0].index
        return name, errand

    def _hold(self, name: str) -> None:
        self._servers[name].holding += 1
        self._servers[name].active += 1
        self._active += 1

    def _free(self, server: _Server, now: float) -> bool:
        busy = server.holding >= server.depth or server.active >= server.depth + _FETCHING
        return server.up and not server.out and not server.spared and not busy and server.rests_until <= now

    def _choose(self, errand: Errand, free: list[str]) -> str | None:
        """The emptiest server that has not failed it; one that has, only when no other is there at all."""
        tries = errand.tries
        fresh = [name for name in free if name not in tries.avoid]
        if fresh:
            return fresh[0]
        if self.usable - tries.avoid:
            return None  # another is only busy: worth waiting for
        willing = [name for name in free if name not in tries.refused_by]
        return willing[0] if willing else None

    def _peek(self) -> Errand | None:
        while self._next is None and not self._exhausted:
            order = next(self._orders, None)
            if order is None:
                self._exhausted = True
            elif order.key not in self._claimed:
                self._next = Errand(order)
        return self._next
