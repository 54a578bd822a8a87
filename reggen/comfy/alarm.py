"""A sleep until a time, that something due earlier ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress


class Alarm:
    """Wakes one sleeper; ``clock`` gives the seconds of a steady clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rung, self._sleeps_until = asyncio.Event(), math.inf

    def ring(self) -> None:
        """Wake the sleeper now."""
        self._rung.set()

    def ring_by(self, when: float) -> None:
        """Wake the sleeper now if it would sleep longer than until then."""
        if when < self._sleeps_until:
            self._rung.set()

    async def sleep_until(self, when: float) -> None:
        """Sleep until then, or until somebody rings; may be infinite."""
        self._sleeps_until = when
        seconds = when - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if when == math.inf else max(0.0, seconds)):
                await self._rung.wait()
        self._rung.clear()
