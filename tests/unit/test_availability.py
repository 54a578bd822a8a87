"""Absent servers: said once, given up after a time, their prompts released. The clock is handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from reggen.engine.availability import Availability
from reggen.engine.server_faults import ServerFaults
from reggen.errors import NoUsableServer
from reggen.job.models import Limits
from reggen.progress import RunEvent, ServersAwaited
from tests.scheduling import fleet


@dataclass
class Session:
    """A server as far as its absence is concerned."""

    name: str
    up: bool = True
    why: str = ""
    away_since: float | None = None
    refuses: bool = False
    in_flight: int = 0
    abandoned: list[tuple[str, bool]] = field(default_factory=list)

    def abandon(self, why: str, *, died: bool = False) -> None:
        self.abandoned.append((why, died))
        self.in_flight = 0

    def leave(self, now: float, why: str = "no answer") -> None:
        """Go away."""
        self.up, self.why, self.away_since = False, why, now


class Night:
    """Servers, and what is told of them."""

    def __init__(self, *names: str, **limits: float) -> None:
        self.fleet, self.events = fleet(dict.fromkeys(names, 2)), list[RunEvent]()
        self.sessions = {name: Session(name) for name in names}
        tell = self.events.append
        faults = ServerFaults(self.fleet, "job.toml", tell, lambda _name, _why: None, sick_rest=60.0)
        rules = Limits(**{"away": 60.0, **limits})
        self.one = Availability(self.fleet, self.sessions, faults, rules, tell)  # type: ignore[arg-type]

    def leave(self, name: str, now: float) -> None:
        """A server goes away."""
        self.sessions[name].leave(now)
        self.fleet.health.server_changed(name, up=False, now=now)

    def come_back(self, name: str, now: float) -> None:
        """A server is there again, and well."""
        session = self.sessions[name]
        session.up, session.why, session.away_since = True, "", None
        self.fleet.health.server_changed(name, up=True, now=now)
        self.fleet.health.image_made(name)

    def awaited(self) -> list[str]:
        """The reasons that were told, "" when a server can be used again."""
        return [event.why for event in self.events if isinstance(event, ServersAwaited)]


def test_while_a_server_is_well_nothing_is_said() -> None:
    """Nor while the only one has something in flight: it may be a restart that takes its time."""
    night = Night("a", "b")
    assert night.one.look(0.0) == math.inf
    night.leave("a", 0.0)
    assert night.one.look(100.0) == math.inf
    assert night.awaited() == []


def test_that_no_server_can_be_used_is_said_once_after_a_moment() -> None:
    """With a reason; and once more when one can be used again."""
    night = Night("a")
    night.leave("a", 100.0)
    assert night.one.look(100.0) == 105.0
    assert night.awaited() == []
    assert night.one.look(105.0) == math.inf, "there is no limit for it"
    assert night.one.look(500.0) == math.inf
    assert night.awaited() == ["a: no answer"]
    night.come_back("a", 600.0)
    night.one.look(600.0)
    assert night.awaited() == ["a: no answer", ""]


def test_a_short_patience_is_said_sooner() -> None:
    """Whoever gives prompts to others after a second is told within it."""
    night = Night("a", away=1.0)
    night.leave("a", 0.0)
    assert night.one.look(0.0) == 1.0


def test_the_run_ends_when_no_server_could_be_used_for_as_long_as_the_job_waits() -> None:
    """With the reasons of all; a server that came meanwhile begins the count again."""
    night = Night("a", "b", give_up_after=60.0)
    for name in ("a", "b"):
        night.leave(name, 0.0)
    night.one.look(0.0)
    night.come_back("b", 30.0)
    night.one.look(30.0)
    night.leave("b", 40.0)
    assert night.one.look(40.0) == 45.0
    assert night.one.look(99.0) == 100.0
    with pytest.raises(NoUsableServer) as caught:
        night.one.look(100.0)
    assert dict(caught.value.tried) == {"a": "no answer", "b": "no answer"}


def test_when_every_server_is_left_out_the_run_ends_at_once() -> None:
    """As soon as nothing is active any more."""
    night = Night("a")
    night.fleet.health.servers["a"].left_out = True
    night.fleet.active = 1
    night.one.look(0.0)
    night.fleet.active = 0
    with pytest.raises(NoUsableServer):
        night.one.look(0.0)


def test_a_stopped_run_says_nothing_of_servers() -> None:
    """Nothing more is to be made there."""
    night = Night("a", give_up_after=1.0)
    night.leave("a", 0.0)
    night.fleet.stopped = True
    assert night.one.look(0.0) == night.one.look(1000.0) == math.inf
    assert night.awaited() == []


# ---- prompts on a server that is away


def test_prompts_of_an_absent_server_go_to_others_after_a_time() -> None:
    """It may have died over them; one that only refuses did not."""
    night = Night("a", "b", "c")
    for name, refuses in (("a", False), ("b", True)):
        night.leave(name, 10.0)
        night.sessions[name].in_flight, night.sessions[name].refuses = 2, refuses
    assert night.one.release_prompts(69.9) == 70.0
    assert night.one.release_prompts(70.0) == math.inf
    assert night.sessions["a"].abandoned == [("it has been away for 60 s", True)]
    assert night.sessions["b"].abandoned == [("it has refused for 60 s", False)]
    assert night.sessions["c"].abandoned == []


def test_where_there_is_no_other_server_prompts_are_waited_for() -> None:
    """They may be done when it comes back."""
    night = Night("a")
    night.leave("a", 0.0)
    night.sessions["a"].in_flight = 1
    assert night.one.release_prompts(100_000.0) == math.inf
    assert night.sessions["a"].abandoned == []


def test_a_stopped_run_waits_for_no_absent_server() -> None:
    """There is nothing to be finished there."""
    night = Night("a")
    night.leave("a", 10.0)
    night.sessions["a"].in_flight = 1
    night.fleet.stopped = True
    night.one.release_prompts(10.0)
    assert night.sessions["a"].abandoned == [("it has been away for 0 s", True)]
