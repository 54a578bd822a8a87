"""Whether a server's only worker thread is alive. Pure: looks and ``now`` are handed in."""

from __future__ import annotations

import math
from enum import Enum, auto

from reggen.comfy import wire
from reggen.comfy.follow import Pace


class Verdict(Enum):
    """What one look at the queue says about the worker, or asks for."""

    FINE = auto()
    LOOK_AGAIN = auto()
    INTERRUPT = auto()
    BLOCKED = auto()
    DEAD = auto()


class Worker:
    """Whether the server's only worker thread is alive, judged from one look at the queue after the other.

    It has two ways of being dead: a prompt runs for ever, and an interrupt changes nothing; or prompts wait
    and none runs. Only a restart of the server helps; until then it rests, longer each time, and is then given
    prompts on trial. Somebody else's prompt that runs for ever, which is not ours to interrupt, is answered with the
    same rest.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._idle_since: float | None = None
        self._interrupted_at: float | None = None
        self._rest = pace.rest[0]
        self._unseen_since: float | None = None  # since when its server does not answer
        self._heard: float | None = None  # the last sign of life, and how long of the time since then nobody could see
        self._excused = 0.0
        self._foreign: tuple[str, float] = "", 0.0  # somebody else's running prompt, and since when it was seen
        self.resting = self.dead = False
        self.rests_until = -math.inf

    def disturbed(self) -> None:
        """The socket broke: what was measured until then means nothing."""
        self._idle_since = self._interrupted_at = None
        self._foreign = "", 0.0

    def out_of_sight(self, now: float) -> None:
        """The server does not answer: nobody can say what is silent from here on, the worker or the way to it."""
        self._unseen_since = now if self._unseen_since is None else self._unseen_since

    def replaced(self) -> None:
        """The server was restarted: nothing is known against its worker."""
        self.disturbed()
        self.resting, self.rests_until = False, -math.inf

    def seen(self, queue: wire.Queue, heard: float | None, now: float) -> Verdict:
        """One look: ``heard`` is the last sign of life of our running prompt, None when none of ours runs."""
        if queue.running:
            self._idle_since = None
        self._excuse(heard, now)
        if heard is None or now - heard - self._excused < self._pace.stall:
            self._interrupted_at = None
        elif self._interrupted_at is None:
            self._interrupted_at = now
            return Verdict.INTERRUPT
        elif now - self._interrupted_at >= self._pace.mercy:
            return self._dead(now)
        if queue.running:
            return self._behind(queue.running[0], now) if heard is None else Verdict.FINE
        if not queue.pending:
            return Verdict.FINE
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= self._pace.idle:
            return self._dead(now)
        return Verdict.LOOK_AGAIN

    def _excuse(self, heard: float | None, now: float) -> None:
        """What passed while nobody could see it is no silence."""
        if heard != self._heard:
            self._heard, self._excused = heard, 0.0
        if self._unseen_since is None:
            return
        unseen, self._unseen_since = now - max(self._unseen_since, now if heard is None else heard), None
        self._excused += unseen  # what was heard since then was no absence any more
        if self._interrupted_at is not None:
            self._interrupted_at += unseen

    def _behind(self, running: str, now: float) -> Verdict:
        """Ours wait, and somebody else's prompt runs."""
        if self._foreign[0] != running:
            self._foreign = running, now
        if now - self._foreign[1] < self._pace.stall:
            return Verdict.FINE
        self._dead(now)
        self.dead = False
        return Verdict.BLOCKED

    def _dead(self, now: float) -> Verdict:
        self.disturbed()
        self.resting, self.dead, self.rests_until = True, True, now + self._rest
        self._rest = min(self._pace.rest[1], 2 * self._rest)
        return Verdict.DEAD
