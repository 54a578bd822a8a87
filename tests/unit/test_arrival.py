"""The search for a prompt whose post had no clear answer. No requests, no clock."""

from __future__ import annotations

import pytest

from reggen.backoff import Backoff
from reggen.comfy.arrival import ArrivalSearch, ArrivalVerdict
from reggen.comfy.timings import Timings
from reggen.errors import HttpStatusError, InvalidResponse, ServerError, Unreachable

AGAIN, ARRIVED = ArrivalVerdict.SEARCH_AGAIN, ArrivalVerdict.ARRIVED
NEVER, UNKNOWN = ArrivalVerdict.NEVER_ARRIVED, ArrivalVerdict.UNKNOWN
PAGE = InvalidResponse("here", "reading the queue", "a web page")
BAD_GATEWAY = HttpStatusError("here", "reading the queue", 502, "")
GONE = Unreachable("here", "reading the queue", "connection refused")


def search() -> ArrivalSearch:
    return ArrivalSearch(Timings(poll_interval=2.0, search=Backoff(1.0, 8.0)))


def test_a_server_that_has_the_prompt_names_it() -> None:
    """Whatever came before: it is followed under this id."""
    assert search().answered("theirs") is ARRIVED
    after_absence = search()
    after_absence.failed(GONE, was_up=True)
    assert after_absence.answered("theirs") is ARRIVED


def test_a_server_that_was_there_all_the_time_is_believed_at_once() -> None:
    """It answered before and after: what it does not have, it never got."""
    assert search().answered(None) is NEVER
    after_errors = search()
    after_errors.failed(BAD_GATEWAY, was_up=True)
    assert after_errors.answered(None) is NEVER


@pytest.mark.parametrize("was_up", [False, True])
def test_after_an_absence_the_server_must_deny_the_prompt_twice(was_up: bool) -> None:
    """A server that thaws may execute what it was sent after it has answered a search."""
    one = search()
    assert one.failed(GONE, was_up=was_up) is AGAIN
    assert one.answered(None) is AGAIN
    assert one.answered(None) is NEVER


@pytest.mark.parametrize("error", [PAGE, BAD_GATEWAY, GONE])
def test_failures_of_a_server_that_counts_as_up_end_the_search(error: ServerError) -> None:
    """The fourth in a row: then nobody will know, and the reason is that of the last."""
    one = search()
    assert [one.failed(error, was_up=True) for _ in range(4)] == [AGAIN, AGAIN, AGAIN, UNKNOWN]
    assert one.reason == error.what


def test_an_absence_is_not_forgotten_over_other_errors() -> None:
    """A proxy answers 502 while the frozen server behind it thaws."""
    one = search()
    one.failed(GONE, was_up=True)
    one.failed(BAD_GATEWAY, was_up=False)
    assert one.answered(None) is AGAIN


def test_a_server_that_is_away_is_waited_for() -> None:
    """However long: only letting go of its prompts ends that."""
    one = search()
    assert {one.failed(GONE, was_up=False) for _ in range(1000)} == {AGAIN}


def test_pauses_double_while_the_server_is_there() -> None:
    """One that is away, or was, is asked at the pace of polls."""
    one, pauses = search(), list[float]()
    for _ in range(3):
        one.failed(PAGE, was_up=True)
        pauses.append(one.longest_pause(is_up=True))
    assert pauses == [1.0, 2.0, 4.0]
    assert one.longest_pause(is_up=False) == 2.0
    one.failed(GONE, was_up=True)
    assert one.longest_pause(is_up=True) == 2.0


def test_an_answer_after_an_absence_counts_as_two_searches() -> None:
    """With failures before it, one denial can be enough to end the search."""
    one = search()
    for _ in range(2):
        assert one.failed(GONE, was_up=True) is AGAIN
    assert one.answered(None) is NEVER
