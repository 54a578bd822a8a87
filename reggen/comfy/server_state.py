"""One server, up or away: since when, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reggen.comfy.alarm import Alarm
from reggen.comfy.disconnects import Disconnects
from reggen.comfy.refusals import Refusals
from reggen.comfy.timings import Timings
from reggen.comfy.watchdog import WorkerWatchdog
from reggen.errors import ServerError


class ServerState:
    """Up while prompts can be posted to the server; ``why`` is what is wrong with it, "" for nothing.

    ``changed`` is called whenever `up` or `why` may have changed, or prompts of ours are at stake.
    """

    def __init__(self, timings: Timings, changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self.timings, self.clock, self.changed = timings, clock, changed
        self.up, self.why = False, ""
        self.away_since: float | None = clock()
        self.has_socket = False
        self.alarm = Alarm(clock)  # of the poller
        self.found_again = asyncio.Event()  # a poll was answered: there is no reason to wait before reconnecting
        self.worker = WorkerWatchdog(timings)
        self.refusals = Refusals(timings)
        self.disconnects = Disconnects()

    def went_away(self, why: str) -> None:
        """Note that the server cannot be used."""
        self.why = why
        self.worker.lost_contact(self.clock())
        if self.up:
            self.up, self.away_since = False, self.clock()
            self.alarm.ring()
            self.changed()

    def refused(self, error: ServerError) -> None:
        """Note that the server does not answer with what is needed."""
        self.refusals.begin(error, self.clock())
        self.went_away(self.refusals.why)

    def came_up(self) -> None:
        """Note that the server can be used, unless its worker rests or it refuses requests."""
        if self.worker.rests_until > self.clock() or self.refusals.why:
            return
        why = self.disconnects.why(self.clock())
        changed = not self.up or why != self.why
        self.up, self.why, self.away_since = True, why, None
        if changed:
            self.changed()

    def answered(self) -> None:
        """Note that the server answered a request."""
        if not self.up:
            self.came_up()
            self.found_again.set()

    @property
    def is_unwatched(self) -> bool:
        """The server is away while its socket is open, or for its refusals: only another request finds it back."""
        nobody_else_asks = self.has_socket or bool(self.refusals.why)
        return nobody_else_asks and not self.up and not self.worker.resting
