"""Whether one server is to be given work: its rests, its trial, its sickness. Pure: ``now`` and the jitter handed in.

- A server that fails rests, longer each time (full jitter, with a cap), and at least as long as it asked for.
- After the rest it is probed; then it is given one prompt on trial. A prompt that ends opens all of its slots again.
- One that was away and came back need not sit out its rest, unless it asked for it; it is on trial, too.
- Nothing but bad pictures, or no memory, prompt after prompt, is a server's sickness more often than the prompts'
  fault: after `SICK` in a row its memory is freed, after twice as many it rests, longer with each spell. From the
  second spell on a restart is the remedy, where that is in our hands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

SICK = 3
_RESTS = (0.5, 120.0)  # seconds: the first ceiling of the jitter and the highest
_LONGEST_SPELL = 1800.0  # seconds


class ServerCare(Enum):
    """What a server's last prompt asks to be done for it."""

    NOTHING = auto()
    FREE = auto()
    REST = auto()
    RESTART = auto()


@dataclass(slots=True)
class CircuitBreaker:
    """One server's. ``on_trial``: it gets one prompt at a time until one has ended."""

    jitter: Callable[[float], float]
    failures: int = 0
    _rests_until: float = -math.inf  # of itself
    _asked_until: float = -math.inf  # as the server wants it, or its sickness
    _probing: bool = False
    _probed: bool = False
    _bad: int = 0
    _spells: int = 0

    @property
    def rests_until(self) -> float:
        """When its rest is over; long past when it has none."""
        return max(self._rests_until, self._asked_until)

    @property
    def on_trial(self) -> bool:
        """Whether it failed since the last prompt that ended there."""
        return self.failures > 0

    def is_open(self, now: float) -> bool:
        """Whether it may be given a prompt."""
        return self.rests_until <= now and (self._probed or not self.on_trial)

    def wants_probe(self, now: float) -> bool:
        """Whether it is time to see if it answers. True once for each probe: the caller says how it went."""
        wants = self.on_trial and not (self._probed or self._probing) and self.rests_until <= now
        self._probing = self._probing or wants
        return wants

    def probed(self) -> None:
        """It answered."""
        self._probing, self._probed = False, True

    def failed(self, now: float, at_least: float = 0.0) -> None:
        """It could not be used. What fails while it rests already was sent before, and makes the rest no longer."""
        self._asked_until = max(self._asked_until, now + at_least)
        if self._rests_until <= now:
            self.failures += 1
            ceiling = min(_RESTS[1], _RESTS[0] * 2.0 ** min(self.failures - 1, 16))
            self._rests_until = now + 0.1 + self.jitter(ceiling)
        self._probing = self._probed = False

    def came_back(self) -> None:
        """It was away and answers again."""
        self._rests_until, self.failures = -math.inf, max(1, self.failures)
        self._probing, self._probed = False, True

    def worked(self) -> None:
        """A prompt ended there, well or not."""
        if not self._bad:
            self.failures = 0

    def well(self) -> None:
        """A good picture came of it."""
        self.failures = self._bad = self._spells = 0

    def sick(self, now: float, rest: float) -> ServerCare:
        """One more prompt of which only bad pictures came, or none for want of memory.

        ``rest`` is the first spell's, in seconds.
        """
        self._bad += 1
        if self._bad % SICK:
            return ServerCare.NOTHING
        if self._bad % (2 * SICK) and not self._spells:
            return ServerCare.FREE
        self._spells += 1
        self.failed(now, min(_LONGEST_SPELL, rest * 2.0 ** min(self._spells - 1, 16)))
        return ServerCare.REST if self._spells == 1 else ServerCare.RESTART
