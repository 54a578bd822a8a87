"""A server is up or away, and each change is reported once. No requests."""

from __future__ import annotations

import asyncio
import math

import pytest

from reggen.backoff import Backoff
from reggen.comfy.server_state import ServerState
from reggen.comfy.timings import Timings
from reggen.comfy.watchdog import WorkerVerdict
from reggen.errors import HttpStatusError
from tests.unit.test_watchdog import RUNNING, WAITING

FORBIDDEN = HttpStatusError("here", "reading the queue", 403, "")


class Reported:
    """A server's state, with what was reported of it, at a time that the test sets."""

    def __init__(self) -> None:
        self.now, self.changes = 0.0, list[tuple[bool, str]]()
        timings = Timings(gap=45.0, rest=Backoff(100.0, 100.0))
        self.state = ServerState(timings, self.note, lambda: self.now)

    def note(self) -> None:
        self.changes.append((self.state.up, self.state.why))


@pytest.fixture
def reported() -> Reported:
    return Reported()


def test_an_absence_is_reported_once_and_keeps_its_beginning(reported: Reported) -> None:
    """Further reasons replace the first silently."""
    reported.state.came_up()
    reported.now = 5.0
    reported.state.went_away("no answer in time")
    reported.now = 9.0
    reported.state.went_away("connection refused")
    assert reported.changes == [(True, ""), (False, "no answer in time")]
    assert (reported.state.away_since, reported.state.why) == (5.0, "connection refused")


async def test_an_absence_wakes_the_poller(reported: Reported) -> None:
    """It may be the only one that notices when the server is back."""
    reported.state.came_up()
    reported.state.went_away("no answer in time")
    async with asyncio.timeout(5):
        await reported.state.alarm.sleep_until(math.inf)


def test_an_absence_excuses_the_silence_of_a_worker(reported: Reported) -> None:
    """Nobody could hear it."""
    reported.state.came_up()
    reported.state.worker.judge(RUNNING, 0.0, 1.0)
    reported.now = 10.0
    reported.state.went_away("no answer in time")
    assert reported.state.worker.judge(RUNNING, 0.0, 10_000.0) is WorkerVerdict.FINE


def test_an_answer_brings_it_back(reported: Reported) -> None:
    """And says that there is no reason to wait before reconnecting; of a server that is up it changes nothing."""
    reported.state.answered()
    assert reported.state.up
    assert reported.state.found_again.is_set()
    reported.state.found_again.clear()
    reported.state.answered()
    assert reported.changes == [(True, "")]
    assert not reported.state.found_again.is_set()


def test_a_server_that_is_up_reports_a_new_reason(reported: Reported) -> None:
    """Events that are missing, and that they come again."""
    reported.state.came_up()
    reported.state.disconnects.failed("connection refused")
    for _ in range(2):
        reported.state.came_up()
    reported.state.disconnects.opened()
    reported.state.came_up()
    assert [why for _, why in reported.changes] == ["", "no events (connection refused); polling instead", ""]


def test_a_server_that_refuses_is_away_until_its_refusals_end(reported: Reported) -> None:
    """Whatever else it answers meanwhile."""
    reported.state.came_up()
    reported.state.refused(FORBIDDEN)
    reported.state.answered()
    assert not reported.state.up
    assert "HTTP 403" in reported.state.why
    assert reported.state.is_unwatched
    reported.state.refusals.end()
    reported.state.answered()
    assert reported.state.up


def test_a_server_whose_worker_rests_is_away_until_the_rest_is_over(reported: Reported) -> None:
    """Nobody asks for it meanwhile."""
    verdict, now = WorkerVerdict.FINE, 0.0
    while verdict is not WorkerVerdict.DEAD:
        verdict, now = reported.state.worker.judge(WAITING, None, now), now + 5.0
    reported.now, reported.state.has_socket = now, True
    reported.state.answered()
    assert not reported.state.up
    assert not reported.state.is_unwatched
    reported.now += 100.0
    assert reported.state.worker.end_rest(reported.now)
    reported.state.answered()
    assert reported.state.up


def test_a_server_that_is_away_is_asked_for_while_its_socket_is_open(reported: Reported) -> None:
    """Without a socket, reconnecting finds it again."""
    unwatched = [reported.state.is_unwatched]
    reported.state.has_socket = True
    unwatched.append(reported.state.is_unwatched)
    reported.state.came_up()
    unwatched.append(reported.state.is_unwatched)
    assert unwatched == [False, True, False]
