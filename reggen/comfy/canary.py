"""Finds deaf sockets: open, but without any frame. Pure: ``now`` is handed in.

Every accepted post makes the server send a ``status`` to every socket: the canary. None within ``canary`` seconds means
that the socket hears nothing although it is open. A server that is stuck still greets the next socket with one frame,
so that one counts as hearing only once it heard more than its greeting.
"""

from __future__ import annotations

import math

from reggen.comfy.timings import Timings

_NEVER = math.inf


class Canary:
    """Listens to the sockets of one server, one after the other."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._open = self._greeted = False
        self._deaf = False
        self.frame_at = -math.inf
        """The time of the last frame, or of the opening of the socket."""
        self.due_at = _NEVER
        """The time by which a frame must come."""

    @property
    def is_open(self) -> bool:
        """True while there is a socket."""
        return self._open

    @property
    def found_deaf(self) -> bool:
        """True from a deaf socket on, until one hears more than its greeting."""
        return self._deaf

    @property
    def is_hearing(self) -> bool:
        """True while there is a socket that is not suspected of being deaf."""
        return self._open and not self.found_deaf

    def opened(self, now: float) -> None:
        """Note that a socket was opened."""
        self._open, self._greeted = True, False
        self.frame_at, self.due_at = now, _NEVER

    def closed(self) -> None:
        """Note that the socket is closed."""
        self._open, self.due_at = False, _NEVER

    def frame(self, now: float) -> None:
        """Note a frame of any kind."""
        self.frame_at, self.due_at = now, _NEVER
        if self._greeted:
            self._deaf = False
        self._greeted = True

    def posted(self, began_at: float, now: float) -> None:
        """Note an accepted post that began at ``began_at``: its frame may have come before the answer."""
        if self._open and self.frame_at < began_at:
            self.due_at = min(self.due_at, now + self._timings.canary)

    def check(self, now: float) -> bool:
        """Find out if the socket is deaf. True once for each deaf socket, which the caller then replaces."""
        if now < self.due_at:
            return False
        self._deaf = True
        self.due_at = _NEVER
        return True
