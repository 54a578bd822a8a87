"""Proof that a server's only worker thread is dead. Pure: answers and ``now`` are handed in.

A worker can be dead in two ways, and each is proved before it is reported:

- A prompt runs for ever: no sign of it for ``stall``, and an interrupt changes nothing within ``mercy``.
- Prompts wait and none is running. That alone proves nothing: between any two prompts a healthy server has a gap, in
  which it collects garbage or unloads models. The proof is the *same* head of the queue under watch for ``gap``, and
  no sign of work meanwhile: no prompt of any client started, went on or ended. Under watch is the time between two
  polls that were answered, and only a part of a long one: polls that are hours apart saw nothing of the hours.

Time without contact does not count as stall time. What counts belongs to the prompt that waits or runs, not to the
socket: a proxy that cuts sockets every few seconds hides no dead worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from reggen.comfy.listings import Queue
from reggen.comfy.timings import Timings

POLLS_PER_GAP = 6  # at least, before the worker is called dead
_UNLOADING = 1200.0  # seconds after a request to unload the models in which a gap may be longer
_UNLOADING_FACTOR = 3.0


class WorkerVerdict(Enum):
    """The judgement of a worker from one poll of the queue, or the next step of the proof."""

    FINE = auto()
    POLL_AGAIN = auto()
    INTERRUPT = auto()
    BLOCKED = auto()
    DEAD = auto()


@dataclass(slots=True)
class _QueueHead:
    """The head of a queue that does not run: when it was last seen there, and how long under watch."""

    prompt_id: str
    polled_at: float
    seconds: float = 0.0


class WorkerWatchdog:
    """Judges a server's only worker thread by the polls of its queue.

    Only a restart helps a dead worker. Until then the server rests, longer each time, and is then given prompts on
    trial. Another client's prompt that runs for ever is not ours to interrupt: it causes the same rest. Good work
    brings the rest back to its first length.
    """

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._waiting: _QueueHead | None = None
        self._running: tuple[str, float] = "", 0.0  # the running prompt, and when it was first seen running
        self._interrupted_at: float | None = None
        self._deaths = 0  # in a row, without good work between them
        self._unloading_at = -math.inf
        self._lost_contact_at: float | None = None
        self._silent_since = -math.inf  # the last sign of the running prompt
        self._excused = 0.0  # seconds since then without contact
        self.resting = self.dead = False
        self.rests_until = -math.inf

    def saw_work(self) -> None:
        """Note that a prompt of any client started, went on or ended."""
        self._waiting = None

    def saw_success(self) -> None:
        """Note that a prompt ended well."""
        self._waiting, self._deaths = None, 0

    def unloading(self, now: float) -> None:
        """Note that the server was asked to unload its models, which it does between two prompts."""
        self._unloading_at = now

    def lost_contact(self, now: float) -> None:
        """Note that the server does not answer: from here on nobody knows if the worker is silent."""
        if self._lost_contact_at is None:
            self._lost_contact_at = now

    def replaced(self) -> None:
        """Note that the server was restarted: nothing is known against its worker."""
        self._reset()
        self.resting, self.rests_until = False, -math.inf

    def end_rest(self, now: float) -> bool:
        """End a rest that is over. True when there was one."""
        if not self.resting or self.rests_until > now:
            return False
        self.resting = False
        return True

    def judge(self, queue: Queue, heard_at: float | None, now: float) -> WorkerVerdict:
        """Judge by one poll: ``heard_at`` is the last sign of life of our running prompt, None when ours do not run."""
        running = queue.running[0] if queue.running else ""
        if running != self._running[0]:
            self._running, self._interrupted_at = (running, now), None
        silence = self._silence(heard_at, now)
        if not running:
            return self._judge_waiting(queue.pending, now)
        self._waiting = None
        if heard_at is None:
            return self._judge_other(silence, now)
        if silence < self._timings.stall:
            self._interrupted_at = None
        elif self._interrupted_at is None:
            self._interrupted_at = now
            return WorkerVerdict.INTERRUPT
        elif now - self._interrupted_at >= self._timings.mercy:
            return self._dead(now)
        return WorkerVerdict.FINE

    def _silence(self, heard_at: float | None, now: float) -> float:
        """Seconds since the running prompt was heard or first seen running, less those without contact."""
        since = max(self._running[1], -math.inf if heard_at is None else heard_at)
        if since != self._silent_since:
            self._silent_since, self._excused = since, 0.0
        if self._lost_contact_at is not None:
            unseen, self._lost_contact_at = now - max(self._lost_contact_at, since), None
            self._excused += unseen
            if self._interrupted_at is not None:
                self._interrupted_at += unseen
        return now - since - self._excused

    def _judge_waiting(self, pending: tuple[str, ...], now: float) -> WorkerVerdict:
        """Judge a worker that runs nothing."""
        if not pending:
            self._waiting = None
            return WorkerVerdict.FINE
        if self._waiting is None or self._waiting.prompt_id != pending[0]:
            self._waiting = _QueueHead(pending[0], now)
            return WorkerVerdict.POLL_AGAIN
        waiting = self._waiting
        waiting.seconds += min(now - waiting.polled_at, self._timings.gap / POLLS_PER_GAP)
        waiting.polled_at = now
        is_unloading = now - self._unloading_at < _UNLOADING
        gap = self._timings.gap * (_UNLOADING_FACTOR if is_unloading else 1.0)
        return self._dead(now) if waiting.seconds >= gap else WorkerVerdict.POLL_AGAIN

    def _judge_other(self, silence: float, now: float) -> WorkerVerdict:
        """Judge a worker that runs another client's prompt while ours wait."""
        if silence < self._timings.stall:
            return WorkerVerdict.FINE
        self._dead(now)
        self.dead = False
        return WorkerVerdict.BLOCKED

    def _dead(self, now: float) -> WorkerVerdict:
        self._reset()
        self._deaths += 1
        self.resting, self.dead, self.rests_until = True, True, now + self._timings.rest.ceiling(self._deaths)
        return WorkerVerdict.DEAD

    def _reset(self) -> None:
        self._waiting = self._interrupted_at = None
        self._running = "", 0.0
