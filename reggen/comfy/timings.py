"""Pauses and limits of the conversation with a server. The defaults are for a night; tests are quicker."""

from __future__ import annotations

from dataclasses import dataclass

from reggen.backoff import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Pauses and limits of the conversation with one server, in seconds."""

    silence: float = 30.0
    """Without any frame on an open socket, until prompts are polled."""
    patience: float = 300.0
    """Without a frame of one prompt, until it is polled."""
    canary: float = 10.0
    """From a post until some frame must have come; otherwise the socket is deaf."""
    poll_interval: float = 2.0
    """Between two polls while there are no events, and after a poll that failed."""
    grace: float = 0.1
    """Between a hint that a prompt ended and the doubt about it."""
    late_entry: tuple[float, ...] = (0.05, 0.25, 1.0)
    """Between polls of a prompt whose ending was announced and whose history entry is late; then the queue is read."""
    stall: float = 1200.0
    """Without a sign of a running prompt, until it is interrupted."""
    mercy: float = 60.0
    """From the interrupt until the worker counts as dead."""
    gap: float = 45.0
    """That prompts may wait while none is running, as between two prompts."""
    rest: Backoff = Backoff(300.0, 1800.0)
    """Of a server whose worker is dead."""
    sick: float = 60.0
    """Of a server whose pictures are black, prompt after prompt."""
    reconnect: Backoff = Backoff(0.2, 30.0)
    """Between attempts to open a socket; the ceiling of the jitter."""
    lasting: float = 5.0
    """A socket that lived so long was a good one: the next is opened without delay."""
    search: Backoff = Backoff(1.0, 8.0)
    """Between searches for a prompt whose post had no clear answer; the ceiling of the jitter."""
    orphans: Backoff = Backoff(0.4, 2.0)
    """Between attempts to read an earlier run's prompts; the ceiling of the jitter."""
