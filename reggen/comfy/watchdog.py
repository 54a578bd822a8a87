"""Whether a server's only worker thread is alive. Pure: looks and ``now`` are handed in.

A worker has two ways of being dead, and each is proved before it is said:

- A prompt runs for ever: no sign of it for ``stall``, and an interrupt changes nothing within ``mercy``.
- Prompts wait and none runs. That alone proves nothing: between any two prompts a healthy server has a gap, in which
  it collects garbage or unloads models. Proof is the *same* head of the queue under watch for ``gap``, and no
  sign of work meanwhile: no prompt of anybody's started, went on or ended. Under watch is the time between two
  answered looks, and of a long one only a part: looks that are hours apart saw nothing of the hours.

What counts hangs on the id of the prompt that waits or runs, not on the socket: a proxy that cuts sockets every few
seconds hides no dead worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from reggen.comfy.listings import Queue
from reggen.comfy.tracker import Timings

LOOKS = 6  # in a gap, at least, before the worker is called dead
_FREED = (1200.0, 3.0)  # seconds after a /free of ours in which a gap may be longer, and how many times


class WorkerVerdict(Enum):
    """What one look at the queue says about the worker, or asks for."""

    FINE = auto()
    LOOK_AGAIN = auto()
    INTERRUPT = auto()
    BLOCKED = auto()
    DEAD = auto()


@dataclass(slots=True)
class _QueueHead:
    """The head of a queue of which nothing runs: when it was last seen so, and for how long under watch."""

    head: str
    looked: float
    seconds: float = 0.0


class WorkerWatchdog:
    """Whether the server's only worker thread is alive, judged from one look at the queue after the other.

    Only a restart helps against a dead one; until then the server rests, longer each time, and is then given
    prompts on trial. Somebody else's prompt that runs for ever, which is not ours to interrupt, is answered with the
    same rest. Good work brings the rest back to its first length.
    """

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._waiting: _QueueHead | None = None
        self._running: tuple[str, float] = "", 0.0  # the prompt that runs, and since when it was seen to
        self._interrupted_at: float | None = None
        self._rest = timings.rest[0]
        self._freed_at = -math.inf
        self._unseen_since: float | None = None  # since when its server does not answer
        self._silent_since = -math.inf  # the last sign of what runs, and how long since then nobody could see
        self._excused = 0.0
        self.resting = self.dead = False
        self.rests_until = -math.inf

    def works(self) -> None:
        """A prompt of anybody's started, went on or ended."""
        self._waiting = None

    def made(self) -> None:
        """A prompt ended well."""
        self._waiting, self._rest = None, self._timings.rest[0]

    def freed(self, now: float) -> None:
        """The server was asked to unload its models, which it does between two prompts."""
        self._freed_at = now

    def out_of_sight(self, now: float) -> None:
        """The server does not answer: nobody can say what is silent from here on, the worker or the way to it."""
        self._unseen_since = now if self._unseen_since is None else self._unseen_since

    def replaced(self) -> None:
        """The server was restarted: nothing is known against its worker."""
        self._forget()
        self.resting, self.rests_until = False, -math.inf

    def seen(self, queue: Queue, heard: float | None, now: float) -> WorkerVerdict:
        """One look: ``heard`` is the last sign of life of our running prompt, None when none of ours runs."""
        running = queue.running[0] if queue.running else ""
        if running != self._running[0]:
            self._running, self._interrupted_at = (running, now), None
        silence = self._silence(heard, now)
        if not running:
            return self._idle(queue.pending, now)
        self._waiting = None
        if heard is None:
            return self._behind(silence, now)
        if silence < self._timings.stall:
            self._interrupted_at = None
        elif self._interrupted_at is None:
            self._interrupted_at = now
            return WorkerVerdict.INTERRUPT
        elif now - self._interrupted_at >= self._timings.mercy:
            return self._dead(now)
        return WorkerVerdict.FINE

    def _silence(self, heard: float | None, now: float) -> float:
        """Seconds without a sign of what runs: since it was heard, or seen to run; less what nobody could see."""
        since = max(self._running[1], -math.inf if heard is None else heard)
        if since != self._silent_since:
            self._silent_since, self._excused = since, 0.0
        if self._unseen_since is not None:
            unseen, self._unseen_since = now - max(self._unseen_since, since), None
            self._excused += unseen
            if self._interrupted_at is not None:
                self._interrupted_at += unseen
        return now - since - self._excused

    def _idle(self, pending: tuple[str, ...], now: float) -> WorkerVerdict:
        """Nothing runs."""
        if not pending:
            self._waiting = None
            return WorkerVerdict.FINE
        if self._waiting is None or self._waiting.head != pending[0]:
            self._waiting = _QueueHead(pending[0], now)
            return WorkerVerdict.LOOK_AGAIN
        waiting = self._waiting
        waiting.seconds += min(now - waiting.looked, self._timings.gap / LOOKS)
        waiting.looked = now
        within, times = _FREED
        gap = self._timings.gap * (times if now - self._freed_at < within else 1.0)
        return self._dead(now) if waiting.seconds >= gap else WorkerVerdict.LOOK_AGAIN

    def _behind(self, silence: float, now: float) -> WorkerVerdict:
        """Ours wait, and somebody else's prompt runs."""
        if silence < self._timings.stall:
            return WorkerVerdict.FINE
        self._dead(now)
        self.dead = False
        return WorkerVerdict.BLOCKED

    def _dead(self, now: float) -> WorkerVerdict:
        self._forget()
        self.resting, self.dead, self.rests_until = True, True, now + self._rest
        self._rest = min(self._timings.rest[1], 2 * self._rest)
        return WorkerVerdict.DEAD

    def _forget(self) -> None:
        self._waiting = self._interrupted_at = None
        self._running = "", 0.0
