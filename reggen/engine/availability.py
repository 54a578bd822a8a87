"""Absent servers: reported once when none can be used, and their prompts given to others after a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from reggen import progress
from reggen.comfy.session import ServerSession
from reggen.engine.server_faults import ServerFaults
from reggen.errors import NoUsableServer
from reggen.job.models import Limits
from reggen.progress import RunEvent
from reggen.scheduler.fleet import Fleet

_SILENT = 5.0  # seconds without a usable server, before anybody is told


class Availability:
    """Watches over the absence of a run's servers."""

    def __init__(
        self,
        fleet: Fleet,
        sessions: Mapping[str, ServerSession],
        faults: ServerFaults,
        limits: Limits,
        tell: Callable[[RunEvent], None],
    ) -> None:
        self._fleet, self._sessions, self._faults, self._limits, self._tell = fleet, sessions, faults, limits, tell
        self._none_since: float | None = None  # since when no server can be used
        self._told = False

    def look(self, now: float) -> float:
        """Tell once that no server can be used. Returns the time of the next look; infinite while one can be used.

        Raises NoUsableServer when all are left out, or none could be used for as long as the job waits.
        """
        if self._fleet.deserted and not self._fleet.stopped:
            raise self._no_server()
        usable = self._fleet.health.any_well or any(
            session.up and session.in_flight for session in self._sessions.values()
        )
        if usable or self._fleet.stopped:
            if self._told and usable:
                self._tell(progress.ServersAwaited(now, ""))
            self._none_since, self._told = None, False
            return math.inf
        if self._none_since is None:
            self._none_since = now
        give_up_at = self._none_since + (self._limits.give_up_after or math.inf)
        tell_at = self._none_since + min(_SILENT, self._limits.away)
        if now >= tell_at and not self._told:
            self._told = True
            self._tell(progress.ServersAwaited(now, self._first_reason()))
        if now >= give_up_at:
            raise self._no_server()
        return give_up_at if self._told else min(give_up_at, tell_at)

    def release_prompts(self, now: float) -> float:
        """Let go of prompts on servers that stay away, so that others make them. Returns the time of the next look."""
        next_look = math.inf
        for session in self._sessions.values():
            if session.away_since is None or not session.in_flight:
                continue
            release_at = session.away_since + self._patience(session)
            if now < release_at:
                next_look = min(next_look, release_at)
                continue
            how = "refused" if session.refuses else "been away"
            session.abandon(f"it has {how} for {now - session.away_since:.0f} s", died=not session.refuses)
        return next_look

    def _patience(self, session: ServerSession) -> float:
        """Seconds that prompts stay with a server that is away."""
        if self._fleet.stopped:
            return 0.0
        return self._limits.away if self._fleet.health.has_others(session.name) else math.inf

    def _no_server(self) -> NoUsableServer:
        reasons = self._reasons()
        return NoUsableServer(tuple((name, reasons.get(name, "it gave no reason")) for name in self._sessions))

    def _first_reason(self) -> str:
        return next((f"{name}: {why}" for name, why in self._reasons().items()), "connecting")

    def _reasons(self) -> dict[str, str]:
        """The reason that each server cannot be used, where it is known."""
        said = {session.name: session.why for session in self._sessions.values() if session.why}
        return self._faults.reasons(said)
