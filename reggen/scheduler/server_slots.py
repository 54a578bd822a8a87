"""One server as the fleet sees it: its slots, what it holds, how fast it is. Pure state, ``now`` handed in."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from reggen.planning.plan import PromptRequest
from reggen.scheduler.circuit_breaker import CircuitBreaker
from reggen.scheduler.order_queue import OrderKind

FETCHING = 4  # errands that may be beyond their slot, downloading and checking
_DEPTHS = (2, 8)  # one prompt that runs and one that waits; more only of prompts that take next to no time
_QUICK = 0.05  # seconds: a prompt that takes less may be over before the next one is there
_ROUNDED = 1e-9  # prompts: 3 x 0.1 / 0.1 is more than 3
_LATE = (3.0, 5.0)  # times what a prompt takes, and seconds: without an image for so long a server is not counted on


@dataclass(slots=True)
class ServerSlots:
    """A server's slots. ``asked_depth`` of None follows what is measured."""

    asked_depth: int | None
    breaker: CircuitBreaker
    up: bool = False
    was_up: bool = False
    out: bool = False
    spared: bool = False
    quarantined: bool = False  # a suspect is on it, alone
    holding: int = 0
    active: int = 0
    down_since: float | None = None
    refusals: int = 0
    barred: list[str] = field(default_factory=list)  # the texts of posts in a row that what is in front of it refused
    raised: list[str] = field(default_factory=list)  # the texts of prompts in a row over which a node raised
    others_made: int = 0  # images of the others before the first of these
    made: int = 0
    largest: float = math.inf  # the largest batch that may fit into its memory
    last: OrderKind | None = None  # what it was last given
    batch: int = 1  # of that
    _took: deque[float] = field(default_factory=lambda: deque(maxlen=5))  # seconds for each of its last images
    _each: float | None = None
    _heard: float = -math.inf  # when it last had an image, or was given something while it held nothing

    def measured(self, seconds: float, now: float) -> None:
        """It was busy so long with one image."""
        self._took.append(seconds)
        self._heard = now
        self._each = statistics.median(self._took)  # the first may have loaded the model; the second sets that right

    @property
    def seconds(self) -> float | None:
        """For one prompt, going by the last few images; None while nobody can know."""
        return None if self._each is None else self.batch * self._each

    @property
    def depth(self) -> int:
        """As asked for; or as many as hide the way to the server and back."""
        if self.asked_depth is not None:
            return self.asked_depth
        seconds = self.seconds
        least, most = _DEPTHS
        return least if seconds is None or seconds >= _QUICK else min(most, math.ceil(_QUICK / max(seconds, 1e-3)) + 1)

    @property
    def load(self) -> float:
        """How full its slots are."""
        return self.holding / self.depth

    def is_open(self, now: float) -> bool:
        """Whether it can be given anything at all."""
        there = self.up and not self.out and not self.spared
        return there and not self.quarantined and self.breaker.is_open(now)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free, and not too much is still being fetched."""
        depth = 1 if self.breaker.on_trial else self.depth
        return self.holding < depth and self.active < depth + FETCHING

    def suits(self, request: PromptRequest) -> bool:
        """Whether it could be given this order, if it is open."""
        return request.batch <= self.largest and self.has_room and not self.quarantined

    def hold(self, request: PromptRequest, now: float) -> None:
        """It is given an order."""
        self._heard = self._heard if self.holding else now
        self.holding += 1
        self.active += 1
        self.last, self.batch = OrderKind.of(request), request.batch

    def late_at(self) -> float:
        """When it will have been without an image for too long; infinite while it holds nothing."""
        times, more = _LATE
        return self._heard + times * (self.seconds or 0.0) + more if self.holding else math.inf


class TailAssignment:
    """Who is given the last orders, in one look at the servers: fast and slow ones are to end together."""

    def __init__(self, servers: Collection[ServerSlots], now: float) -> None:
        self._servers, self._now = servers, now
        self._rate = sum(server.batch / seconds for server in servers if (seconds := server.seconds))

    @cached_property
    def _counted_on(self) -> list[ServerSlots]:
        """Those whose time for a prompt is known and that can be given some: not what holds something and is late."""
        return [
            server
            for server in self._servers
            if server.seconds and server.is_open(self._now) and self._now < server.late_at()
        ]

    def leaves_it(self, mine: ServerSlots, left: int) -> float:
        """Until when a server's last orders are better left to the others; minus infinity where it is to have one.

        They are, where the others could have made all that is ``left``, in images, by the time it would end one more.
        The server that would be the first to end one is never told so.
        """
        if mine.seconds is None or left > self._rate * (end := (mine.holding + 1) * mine.seconds):
            return -math.inf  # nearly always: all of them together have more to do
        sooner, until = 0, math.inf
        for other in self._counted_on:
            seconds = other.seconds or math.inf
            if (prompts := math.ceil(end / seconds - _ROUNDED) - other.holding - 1) > 0:
                sooner += prompts * other.batch
                until = min(until, other.late_at())
                if sooner >= max(1, left):
                    return until
        return -math.inf
