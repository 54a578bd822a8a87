"""The last requests of a plan: fast and slow servers end together. Pure: ``now`` is handed in.

A server is given one of the last requests only where the others could not have made all of them by the time at which it
would be done. The server that would be done first is always given one.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property

from reggen.scheduler.server_load import ServerLoad

_ROUNDED = 1e-9  # prompts: 3 x 0.1 / 0.1 is more than 3


class TailAssignment:
    """Decides in one assignment pass which servers leave the last requests to others.

    ``left_until`` is the time until which some server does; infinite while none does.
    """

    def __init__(self, servers: Collection[ServerLoad], now: float) -> None:
        self.left_until = math.inf
        self._servers, self._now = servers, now
        self._rate = sum(server.batch / seconds for server in servers if (seconds := server.seconds))  # images a second

    def leaves(self, server: ServerLoad, images: int | None) -> bool:
        """True when the others make the rest sooner; ``images`` are left, None where that is not known."""
        until = None if images is None else self._until(server, images)
        if until is None:
            return False
        self.left_until = min(self.left_until, until)
        return True

    def _until(self, server: ServerLoad, images: int) -> float | None:
        """The time until which the others are believed to make all of the images sooner; None if they do not.

        They do where all of them could be made by the time at which this server would end one more prompt. A server
        that is late is not counted on, and the others only until they are.
        """
        if server.seconds is None or images > self._rate * (end := (server.in_flight + 1) * server.seconds):
            return None  # nearly always: all of them together have more to do
        made, until = 0, math.inf
        for other, seconds in self._counted_on:
            prompts = math.ceil(end / seconds - _ROUNDED) - other.in_flight - 1
            if prompts > 0:
                made += prompts * other.batch
                until = min(until, other.late_at())
                if made >= images:
                    return until
        return None

    @cached_property
    def _counted_on(self) -> list[tuple[ServerLoad, float]]:
        """The servers that can be given prompts, but for those that are late, and the seconds of a prompt of each."""
        return [
            (server, seconds)
            for server in self._servers
            if (seconds := server.seconds) and server.is_open(self._now) and self._now < server.late_at()
        ]
