"""The pace of requests to a server that limits them. No clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from reggen.comfy.throttle import Throttle, is_limit, is_worth_repeating
from reggen.errors import HttpStatusError


def limit(status: int = 429, wait: float = 0.0) -> HttpStatusError:
    return HttpStatusError("here", "reading the queue", status, "", wait)


@pytest.mark.parametrize(
    ("status", "query", "limited"),
    [(429, True, True), (429, False, True), (503, True, True), (503, False, False), (502, True, False)],
)
def test_a_limit_is_distinguished_from_a_failure(status: int, *, query: bool, limited: bool) -> None:
    """429 always is one, 503 to a question may be one; a post that got 503 may have arrived."""
    assert is_limit(limit(status), is_query=query) == limited


def test_nothing_waits_where_nothing_was_limited() -> None:
    """Answers alone make no pace."""
    throttle = Throttle()
    for now in (0.0, 0.0, 0.1):
        assert throttle.wait(now) == 0.0
        throttle.passed()
    assert throttle.wait(0.1) == 0.0


def test_turns_are_taken_one_after_another() -> None:
    """Ten that come at once leave a gap between each two."""
    throttle = Throttle()
    throttle.limited(limit(), 0.0)
    turns = [throttle.wait(0.0) for _ in range(10)]
    gaps = [later - sooner for sooner, later in pairwise(turns)]
    assert turns[0] == gaps[0] == 0.25
    assert gaps == pytest.approx([gaps[0]] * 9)


def test_who_comes_later_than_its_turn_does_not_wait() -> None:
    """The gap is kept to the last one, no longer."""
    throttle = Throttle()
    throttle.limited(limit(), 0.0)
    assert throttle.wait(5.0) == 0.0
    assert throttle.wait(5.1) == pytest.approx(0.15)


def test_the_gap_grows_with_each_refusal_up_to_two_seconds() -> None:
    """And is not left at one refusal in a row of answers."""
    throttle, now, waits = Throttle(), 0.0, list[float]()
    for _ in range(12):
        throttle.limited(limit(), now)
        waits.append(throttle.wait(now))
        now += 1000.0
    assert waits == sorted(waits)
    assert waits[0] == 0.25
    assert waits[1] > waits[0]
    assert waits[-1] == waits[-2] == 2.0


def test_answers_bring_the_pace_back() -> None:
    """Little by little, and to none in the end."""
    throttle = Throttle()
    throttle.limited(limit(), 0.0)
    throttle.passed()
    throttle.wait(10.0)
    assert 0.24 < throttle.wait(10.0) < 0.25
    for _ in range(200):
        throttle.passed()
    assert throttle.wait(20.0) == throttle.wait(20.0) == 0.0


@pytest.mark.parametrize(("wait", "soon"), [(0.0, True), (2.0, True), (2.1, False), (90.0, False)])
def test_a_long_wait_is_left_to_whoever_asked(wait: float, *, soon: bool) -> None:
    """A server that wants a minute and a half is not asked again meanwhile, nor are others kept waiting so long."""
    throttle = Throttle()
    throttle.limited(limit(wait=wait), 0.0)
    assert is_worth_repeating(limit(wait=wait)) == soon
    assert throttle.wait(0.0) == min(2.0, max(0.25, wait))
