"""Follows the prompts in flight on one server: decides when to look, and what a look means.

The rules:

- Frames are hints, a look is the truth. Only `looked` settles a prompt.
- In the steady state one prompt costs one look: at the history, when ``executing node=null`` says that
  its entry is there. ``execution_success`` alone may come before the entry; it is given a moment.
- A *full* look reads the queue first and the history second. A prompt leaves the one and enters the
  other under one lock, so what is in neither is gone.
- Doubt asks for a full look: another prompt of ours started while this one was running (its ending
  was lost); the server says its queue is empty; no frame at all for ``silence``; nothing of this
  prompt for ``patience``; the socket is gone or was replaced.
- After a reconnect the frames of older prompts go to a client id that no longer exists, but ``status``
  goes to everybody: when the queue shrinks, the oldest of them is looked at.
- Deaf: every accepted post makes the server send a ``status`` to every socket (the canary). None within
  ``canary`` seconds means that this socket hears nothing although it is open. The next socket counts as
  hearing only once it heard more than the greeting; until then prompts are looked at every ``timings``.

Pure: ``now`` is handed in (seconds of any steady clock), and the caller does the looking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from reggen.comfy.frames import Ended, EndSignal, Event, NodeDone, Progressed, QueueDepth, Started
from reggen.comfy.history import Outcome
from reggen.errors import PromptLost

_NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Timings:
    """How long to wait for what, in seconds."""

    silence: float = 30.0
    patience: float = 300.0
    canary: float = 10.0
    blind: float = 2.0
    grace: float = 0.1  # between a hint that something ended and the doubt about it
    race: tuple[float, ...] = (0.05, 0.25, 1.0)  # the history entry may come late; then doubt
    stall: float = 1200.0  # nothing of a prompt that runs: somebody is asked to interrupt it
    mercy: float = 60.0  # how long an interrupt may take to show
    gap: float = 45.0  # prompts wait and none runs: how long that may last between two prompts
    rest: tuple[float, float] = (300.0, 1800.0)  # for a server whose worker is dead: first, longest
    sick: float = 60.0  # rest for a server whose pictures are black, prompt after prompt


@dataclass(frozen=True, slots=True)
class DuePolls:
    """What to look at now: ``quick`` at the history only, ``full`` at the queue first."""

    quick: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.quick or self.full)


@dataclass(slots=True)
class _Flight:
    socket: int  # the connection it was posted under
    heard: float  # its last own sign of life
    accepted: bool = False
    started: bool = False
    ended: bool = False
    due: float = _NEVER
    misses: int = 0
    looked: float = field(default=-math.inf)


class PromptTracker:
    """The prompts in flight on one server. Every method is synchronous; ``due`` says what to do next."""

    def __init__(self, server: str, timings: Timings | None = None) -> None:
        self._server, self._timings = server, timings or Timings()
        self._flights: dict[str, _Flight] = {}  # in the order they were posted
        self._early_ends: dict[str, float] = {}  # endings of ids that are not ours, yet
        self._socket = 0
        self._open = self._greeted = False
        self._frame_at = -math.inf
        self._canary_at = _NEVER
        self._strikes = 0
        self._depth = 0

    @property
    def hearing(self) -> bool:
        """Whether the socket is open and, once it was found deaf, has been heard again."""
        return self._open and self._strikes == 0

    @property
    def strikes(self) -> int:
        """How many sockets in a row were found deaf."""
        return self._strikes

    @property
    def in_flight(self) -> tuple[str, ...]:
        """The ids the server knows our prompts by, oldest first."""
        return tuple(prompt_id for prompt_id, flight in self._flights.items() if flight.accepted)

    # ---- the socket

    def connected(self, now: float) -> None:
        """A socket was opened, under a client id of its own. All prompts of older ones are in doubt."""
        self._socket += 1
        self._open, self._greeted = True, False
        self._frame_at, self._canary_at = now, _NEVER
        for flight in self._flights.values():
            self._doubt(flight, now)

    def disconnected(self) -> None:
        """The socket is gone; until there is another, prompts are looked at every ``timings.blind``."""
        self._open = False
        self._canary_at = _NEVER

    def deaf(self, now: float) -> bool:
        """Whether the canary is missing. True once per socket: the caller replaces it."""
        if now < self._canary_at:
            return False
        self._strikes += 1
        self._canary_at = _NEVER
        return True

    # ---- the prompts

    def posting(self, prompt_id: str, now: float) -> None:
        """A prompt is about to be posted. Its frames may arrive before the answer does."""
        self._flights[prompt_id] = _Flight(self._socket, heard=now)

    def accepted(self, prompt_id: str, known_as: str, now: float) -> None:
        """The server took it, under the id ``known_as`` (old servers choose their own)."""
        flight = self._flights.pop(prompt_id)
        self._flights[known_as] = flight
        flight.accepted = True
        if self._early_ends.pop(known_as, None) is not None:
            self._end(flight, now)
        if self._open and self._frame_at < flight.heard:
            self._canary_at = min(self._canary_at, now + self._timings.canary)

    def took_over(self, known_as: str, now: float) -> None:
        """A prompt that an earlier run posted, under a client id that hears nothing any more: look at it at once."""
        self._flights[known_as] = _Flight(socket=-1, heard=now, accepted=True, due=now)

    def forget(self, prompt_id: str) -> None:
        """Stop following a prompt; unknown ids are no error."""
        self._flights.pop(prompt_id, None)

    def frame(self, event: Event, now: float) -> None:
        """A frame arrived."""
        self._frame_at = now
        self._canary_at = _NEVER
        if self._greeted:
            self._strikes = 0
        self._greeted = True
        match event:
            case QueueDepth(remaining):
                self._queue_is(remaining, now)
            case Ended(prompt_id, how):
                self._ended(prompt_id, how, now)
            case Started(prompt_id):
                self._started(prompt_id, now)
            case NodeDone(prompt_id) | Progressed(prompt_id):
                self._alive(prompt_id, now)

    def _alive(self, prompt_id: str, now: float) -> None:
        if (flight := self._flights.get(prompt_id)) and not flight.ended:
            flight.heard, flight.due, flight.started = now, _NEVER, True

    def _started(self, prompt_id: str, now: float) -> None:
        if prompt_id not in self._flights:
            return
        for other_id, other in self._flights.items():
            if other_id != prompt_id and other.started and not other.ended:
                self._doubt(other, now + self._timings.grace)
        self._alive(prompt_id, now)

    def _ended(self, prompt_id: str, how: EndSignal, now: float) -> None:
        flight = self._flights.get(prompt_id)
        if flight is None:
            self._early_ends[prompt_id] = now
            while len(self._early_ends) > 64:
                del self._early_ends[next(iter(self._early_ends))]
        elif how is EndSignal.OVER:
            self._end(flight, now)
        elif not flight.ended:
            self._doubt(flight, now + 2 * self._timings.grace)

    def _queue_is(self, remaining: int, now: float) -> None:
        foreign = [flight for flight in self._flights.values() if flight.socket != self._socket]
        if remaining == 0:
            for flight in self._flights.values():
                self._doubt(flight, now + self._timings.grace)
        elif foreign and remaining < self._depth:
            self._doubt(foreign[0], now)
        elif self._depth == 0:
            self._calm()
        self._depth = remaining

    def _calm(self) -> None:
        """The queue is not empty after all: take back the doubts its emptiness raised."""
        for flight in self._flights.values():
            if not flight.ended and flight.socket == self._socket and flight.looked < self._frame_at:
                flight.due = _NEVER

    def _end(self, flight: _Flight, now: float) -> None:
        flight.ended, flight.due = True, min(flight.due, now)

    def _doubt(self, flight: _Flight, when: float) -> None:
        flight.due = min(flight.due, when)

    # ---- the looks

    def due(self, now: float) -> DuePolls:
        """What to look at now."""
        ready = [(prompt_id, flight) for prompt_id, flight in self._flights.items() if self._due(flight) <= now]
        quick = tuple(prompt_id for prompt_id, flight in ready if flight.ended)
        return DuePolls(quick, tuple(prompt_id for prompt_id, flight in ready if not flight.ended))

    def wake_at(self) -> float:
        """When `due` or `deaf` next has something to say, if nothing happens before; may be infinite."""
        return min([self._canary_at, *map(self._due, self._flights.values())])

    def _due(self, flight: _Flight) -> float:
        if not flight.accepted:
            return _NEVER
        if flight.ended:
            return flight.due
        if not self.hearing:
            return min(flight.due, max(flight.looked, flight.heard) + self._timings.blind)
        silent = max(self._frame_at, flight.looked) + self._timings.silence
        unheard = max(flight.heard, flight.looked) + self._timings.patience
        return min(flight.due, silent, unheard)

    def looked(self, prompt_id: str, outcome: Outcome | None, queued: bool | None, now: float) -> Outcome | None:
        """A look's result: ``outcome`` from the history, ``queued`` from the queue (None: not looked at).

        Returns how the prompt ended when that is now known, and then no longer follows it.
        """
        flight = self._flights.get(prompt_id)
        if flight is None:
            return None
        if outcome is None and queued is False:
            away = not self._open or flight.socket != self._socket
            outcome = PromptLost(self._server, running=flight.started and not flight.ended, died=away)
        if outcome is not None:
            del self._flights[prompt_id]
            return outcome
        if queued is None:
            self._missed(flight, now)
        else:
            flight.ended, flight.misses, flight.looked, flight.due = False, 0, now, _NEVER
        return None

    def heard(self, prompt_id: str) -> float:
        """When a prompt last gave a sign of life; minus infinity for one that is not followed."""
        flight = self._flights.get(prompt_id)
        return flight.heard if flight else -math.inf

    def look_again(self, when: float) -> None:
        """Look at everything in flight, at the latest then."""
        for flight in self._flights.values():
            self._doubt(flight, when)

    def look_failed(self, prompt_id: str, now: float) -> None:
        """The server did not answer a look: not before ``timings.blind`` again."""
        if flight := self._flights.get(prompt_id):
            flight.due, flight.looked = now + self._timings.blind, now

    def _missed(self, flight: _Flight, now: float) -> None:
        """It should have been in the history: late, or the hint was wrong."""
        flight.misses += 1
        if flight.misses <= len(self._timings.race):
            flight.due = now + self._timings.race[flight.misses - 1]
        else:
            flight.ended, flight.misses, flight.due = False, 0, now
