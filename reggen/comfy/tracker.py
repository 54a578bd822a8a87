"""Follows the prompts in flight on one server: decides when to poll them, and what the answers mean.

The rules:

- Frames are hints, polls are the truth. Only `polled` settles a prompt.
- In the steady state one prompt costs one poll: of its history entry, when ``executing node=null`` says
  that the entry exists. ``execution_success`` alone may come before the entry, so it waits a moment.
- A *full* poll reads the queue first and the history second. A prompt leaves the one and enters the
  other under one lock, so what is in neither is lost.
- Doubt asks for a full poll: another prompt of ours started while this one was running (its ending
  was missed); the server says that its queue is empty; no frame at all for ``silence``; none of this
  prompt for ``patience``; the socket is closed or was replaced.
- After a reconnect the frames of older prompts go to a client id that no longer exists, but ``status``
  goes to everybody: when the queue shrinks, the oldest of them is polled.
- While no socket hears anything (see `canary`), prompts are polled every ``poll_interval``.

Pure: ``now`` is handed in (seconds of any steady clock), and the caller makes the requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reggen.comfy.canary import Canary
from reggen.comfy.frames import Ended, EndSignal, Event, NodeDone, Progressed, QueueDepth, Started
from reggen.comfy.history import Outcome
from reggen.comfy.timings import Timings
from reggen.errors import PromptLost

_NEVER = math.inf
_MOST_EARLY_ENDS = 64


@dataclass(frozen=True, slots=True)
class DuePolls:
    """Prompts to poll now: ``quick`` in the history only, ``full`` in the queue first."""

    quick: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.quick or self.full)


@dataclass(slots=True)
class _InFlight:
    socket: int  # the number of the socket that was open when it was posted
    heard_at: float  # its last sign of life
    accepted: bool = False
    started: bool = False
    ended: bool = False
    due_at: float = _NEVER
    misses: int = 0  # polls in a row that found no history entry although it ended
    polled_at: float = -math.inf

    def doubt(self, when: float) -> None:
        """Poll it by then."""
        self.due_at = min(self.due_at, when)

    def end(self, now: float) -> None:
        """Poll it now: its history entry exists."""
        self.ended = True
        self.doubt(now)

    def heard(self, now: float) -> None:
        """Note a sign of life: it is running."""
        if not self.ended:
            self.heard_at, self.due_at, self.started = now, _NEVER, True

    def missed(self, now: float, pauses: Sequence[float]) -> None:
        """Note that it had no history entry: the entry is late, or the hint that it ended was wrong."""
        self.misses += 1
        if self.misses <= len(pauses):
            self.due_at = now + pauses[self.misses - 1]
        else:
            self.ended, self.misses, self.due_at = False, 0, now


class PromptTracker:
    """The prompts in flight on one server. Every method is synchronous; `due` says which to poll next."""

    def __init__(self, server: str, timings: Timings | None = None) -> None:
        self._server, self._timings = server, timings or Timings()
        self._prompts: dict[str, _InFlight] = {}  # in the order they were posted
        self._early_ends: dict[str, None] = {}  # ids of prompts that ended before the answer to their post
        self.canary = Canary(self._timings)
        self._socket = 0
        self._depth = 0
        self._empty_at = -math.inf  # the last time at which the queue was empty

    @property
    def in_flight(self) -> tuple[str, ...]:
        """The server's ids of our prompts, oldest first."""
        return tuple(prompt_id for prompt_id, prompt in self._prompts.items() if prompt.accepted)

    # ---- the socket

    def connected(self, now: float) -> None:
        """Note that a socket was opened under a new client id. All older prompts are in doubt."""
        self._socket += 1
        self.canary.opened(now)
        self.poll_all_by(now)

    def disconnected(self) -> None:
        """Note that the socket is closed; until the next one, prompts are polled every ``poll_interval``."""
        self.canary.closed()

    # ---- the prompts

    def posting(self, prompt_id: str, now: float) -> None:
        """Note that a prompt is being posted. Its frames may arrive before the answer does."""
        self._prompts[prompt_id] = _InFlight(self._socket, heard_at=now)

    def accepted(self, prompt_id: str, known_as: str, now: float) -> None:
        """Note that the server accepted a prompt, under the id ``known_as`` (old servers choose their own)."""
        prompt = self._prompts.pop(prompt_id)
        self._prompts[known_as] = prompt
        prompt.accepted = True
        if known_as in self._early_ends:
            del self._early_ends[known_as]
            prompt.end(now)
        self.canary.posted(prompt.heard_at, now)

    def took_over(self, known_as: str, now: float) -> None:
        """Follow a prompt of an earlier run: its client id hears nothing any more, so it is polled at once."""
        self._prompts[known_as] = _InFlight(socket=-1, heard_at=now, accepted=True, due_at=now)

    def forget(self, prompt_id: str) -> None:
        """Stop following a prompt; unknown ids are no error."""
        self._prompts.pop(prompt_id, None)

    def frame(self, event: Event, now: float) -> None:
        """Take in a frame."""
        self.canary.frame(now)
        match event:
            case QueueDepth(remaining):
                self._queue_is(remaining, now)
            case Ended(prompt_id, signal):
                self._ended(prompt_id, signal, now)
            case Started(prompt_id):
                self._started(prompt_id, now)
            case NodeDone(prompt_id) | Progressed(prompt_id):
                if prompt := self._prompts.get(prompt_id):
                    prompt.heard(now)

    def _started(self, prompt_id: str, now: float) -> None:
        prompt = self._prompts.get(prompt_id)
        if prompt is None:
            return
        for other in self._prompts.values():
            if other is not prompt and other.started and not other.ended:
                other.doubt(now + self._timings.grace)
        prompt.heard(now)

    def _ended(self, prompt_id: str, signal: EndSignal, now: float) -> None:
        prompt = self._prompts.get(prompt_id)
        if prompt is None:
            self._early_ends[prompt_id] = None
            while len(self._early_ends) > _MOST_EARLY_ENDS:
                del self._early_ends[next(iter(self._early_ends))]
        elif signal is EndSignal.OVER:
            prompt.end(now)
        elif not prompt.ended:
            prompt.doubt(now + 2 * self._timings.grace)

    def _queue_is(self, remaining: int, now: float) -> None:
        older = [prompt for prompt in self._prompts.values() if prompt.socket != self._socket]
        if remaining == 0:
            self._empty_at = now
            self.poll_all_by(now + self._timings.grace)
        elif older and remaining < self._depth:
            older[0].doubt(now)
        elif self._depth == 0:
            self._take_back_doubts()
        self._depth = remaining

    def _take_back_doubts(self) -> None:
        """Drop the doubts that an empty queue raised, of prompts not polled since: it is not empty any more."""
        for prompt in self._prompts.values():
            if not prompt.ended and prompt.socket == self._socket and prompt.polled_at < self._empty_at:
                prompt.due_at = _NEVER

    # ---- the polls

    def due(self, now: float) -> DuePolls:
        """The prompts to poll now."""
        ready = [(prompt_id, prompt) for prompt_id, prompt in self._prompts.items() if self._due_at(prompt) <= now]
        quick = tuple(prompt_id for prompt_id, prompt in ready if prompt.ended)
        return DuePolls(quick, tuple(prompt_id for prompt_id, prompt in ready if not prompt.ended))

    def wake_at(self) -> float:
        """The next time at which a prompt or the canary is due, unless a frame comes first; may be infinite."""
        return min([self.canary.due_at, *map(self._due_at, self._prompts.values())])

    def _due_at(self, prompt: _InFlight) -> float:
        if not prompt.accepted:
            return _NEVER
        if prompt.ended:
            return prompt.due_at
        if not self.canary.is_hearing:
            return min(prompt.due_at, max(prompt.polled_at, prompt.heard_at) + self._timings.poll_interval)
        socket_silent_at = max(self.canary.frame_at, prompt.polled_at) + self._timings.silence
        prompt_silent_at = max(prompt.heard_at, prompt.polled_at) + self._timings.patience
        return min(prompt.due_at, socket_silent_at, prompt_silent_at)

    def polled(self, prompt_id: str, outcome: Outcome | None, queued: bool | None, now: float) -> Outcome | None:
        """Take in a poll's answer: ``outcome`` from the history, ``queued`` from the queue (None: it was not read).

        Returns how the prompt ended when that is now known, and then no longer follows it.
        """
        prompt = self._prompts.get(prompt_id)
        if prompt is None:
            return None
        if outcome is None and queued is False:
            socket_broke = not self.canary.is_open or prompt.socket != self._socket
            outcome = PromptLost(self._server, running=prompt.started and not prompt.ended, died=socket_broke)
        if outcome is not None:
            del self._prompts[prompt_id]
            return outcome
        if queued is None:
            prompt.missed(now, self._timings.late_entry)
        else:
            prompt.ended, prompt.misses, prompt.polled_at, prompt.due_at = False, 0, now, _NEVER
        return None

    def heard_at(self, prompt_id: str) -> float:
        """The time of a prompt's last sign of life; minus infinity for one that is not followed."""
        prompt = self._prompts.get(prompt_id)
        return prompt.heard_at if prompt else -math.inf

    def poll_all_by(self, when: float) -> None:
        """Make everything in flight due, at the latest then."""
        for prompt in self._prompts.values():
            prompt.doubt(when)

    def poll_failed(self, prompt_id: str, now: float) -> None:
        """Note that a poll had no answer: the next is due after ``poll_interval``."""
        if prompt := self._prompts.get(prompt_id):
            prompt.due_at, prompt.polled_at = now + self._timings.poll_interval, now
