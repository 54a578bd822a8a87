"""The circuit breaker of one server: its rests, probes and trials. Pure: ``now`` and the jitter are handed in.

- A server that fails rests, longer each time (full jitter, with a cap), and at least as long as it asked for.
- After the rest it is probed; then it gets one prompt on trial. A prompt that ends opens its whole capacity again.
- A server that was away and came back need not finish its rest, unless it asked for it; it is on trial, too.
- Only bad images, or no memory, prompt after prompt, is more often the server's fault than the prompts': after `SICK`
  in a row its memory is freed, after twice as many it rests, longer each time. From the second time on a restart is
  the remedy, where this run started the server.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from reggen.backoff import Backoff

SICK = 3
RESTS = Backoff(0.5, 120.0)
LONGEST_REST = 1800.0  # seconds, of a server whose prompts go wrong one after another
_LEAST = 0.1  # seconds of any rest


class ServerCare(Enum):
    """The care that a server needs after its last prompt."""

    NOTHING = auto()
    FREE = auto()
    REST = auto()
    RESTART = auto()


@dataclass(slots=True)
class CircuitBreaker:
    """Decides whether one server may be given prompts; ``failures`` are in a row."""

    jitter: Callable[[float], float]
    rests: Backoff = RESTS
    failures: int = 0
    _rests_until: float = -math.inf  # by the back-off
    _asked_until: float = -math.inf  # as the server asked for, or its sickness
    _probing: bool = False
    _answered: bool = False
    _bad_prompts: int = 0  # in a row
    _spells: int = 0  # of sickness

    @property
    def rests_until(self) -> float:
        """The end of its rest; long past when it has none."""
        return max(self._rests_until, self._asked_until)

    @property
    def on_trial(self) -> bool:
        """True after a failure, until a prompt has ended there; it gets one prompt at a time."""
        return self.failures > 0

    def is_open(self, now: float) -> bool:
        """True when it may be given a prompt."""
        return self.rests_until <= now and (self._answered or not self.on_trial)

    def needs_probe(self, now: float) -> bool:
        """True when its rest is over and nobody has asked yet whether it answers."""
        return self.on_trial and not (self._answered or self._probing) and self.rests_until <= now

    def start_probe(self) -> None:
        """Note that it is being asked whether it answers."""
        self._probing = True

    def probe_answered(self) -> None:
        """Put it on trial: it answered its probe."""
        self._probing, self._answered = False, True

    def failed(self, now: float, at_least: float = 0.0) -> None:
        """Let it rest, for ``at_least`` so many seconds.

        What fails during a rest was sent before it, and makes the rest no longer.
        """
        self._asked_until = max(self._asked_until, now + at_least)
        if self._rests_until <= now:
            self.failures += 1
            self._rests_until = now + _LEAST + self.jitter(self.rests.ceiling(self.failures))
        self._probing = self._answered = False

    def came_back(self) -> None:
        """Put it on trial: it was away and answers again."""
        self._rests_until, self.failures = -math.inf, max(1, self.failures)
        self._probing, self._answered = False, True

    def prompt_ended(self) -> None:
        """End its trial, unless it is sick: a prompt ended there, well or not."""
        if not self._bad_prompts:
            self.failures = 0

    def image_made(self) -> None:
        """Forget all faults: a good image came from it."""
        self.failures = self._bad_prompts = self._spells = 0

    def prompt_was_bad(self, now: float, rest: float) -> ServerCare:
        """Count one more prompt that made only bad images, or none for want of memory; returns the care it needs.

        ``rest`` is the first rest for it, in seconds.
        """
        self._bad_prompts += 1
        if self._bad_prompts % SICK:
            return ServerCare.NOTHING
        if self._bad_prompts % (2 * SICK) and not self._spells:
            return ServerCare.FREE
        self._spells += 1
        self.failed(now, Backoff(rest, LONGEST_REST).ceiling(self._spells))
        return ServerCare.REST if self._spells == 1 else ServerCare.RESTART
