"""The load of one server: its depth, its room, its times. No clock, no chance."""

from __future__ import annotations

import math

import pytest

from reggen.scheduler.health import FleetHealth
from reggen.scheduler.server_load import DOWNLOADING, ServerLoad
from tests.scheduling import batch_of, no_jitter, request


def load(depth: int | None = 2) -> ServerLoad:
    """A server that is up and holds nothing."""
    health = FleetHealth(["a"], no_jitter, 0.0)
    health.server_changed("a", up=True, now=0.0)
    return ServerLoad(depth, health.servers["a"])


def test_a_server_has_room_for_as_many_prompts_as_it_is_deep() -> None:
    """A prompt that has ended makes room at once, its images need not be here."""
    one = load(2)
    for _ in range(2):
        assert one.has_room
        one.give(request(0), 0.0)
    assert (one.has_room, one.fullness) == (False, 1.0)
    one.release()
    assert (one.has_room, one.fullness) == (True, 0.5)


def test_images_on_their_way_are_bounded() -> None:
    """Beyond the depth four may be downloaded and checked; then the server waits for the disk here."""
    one = load(2)
    for _ in range(2 + DOWNLOADING):
        assert one.has_room
        one.give(request(0), 0.0)
        one.release()
    assert not one.has_room
    one.unfinished -= 1
    assert one.has_room


def test_on_trial_it_has_room_for_one_prompt() -> None:
    """However deep it is."""
    one = load(8)
    one.health.breaker.came_back()
    room = [one.has_room]
    one.give(request(0), 0.0)
    room.append(one.has_room)
    one.health.breaker.prompt_ended()
    assert [*room, one.has_room] == [True, False, True]


def test_a_suspect_is_alone_until_its_prompt_has_ended() -> None:
    """Nothing is handed to its server before."""
    one = load(4)
    one.is_quarantined = True
    one.give(request(0), 0.0)
    assert not one.is_open(0.0)
    one.release()
    assert one.is_open(0.0)


def test_a_quarantine_lasts_while_anything_is_in_flight() -> None:
    """An earlier prompt that ends does not make the suspect's company."""
    one = load(4)
    one.give(request(0), 0.0)
    one.is_quarantined = True
    one.give(request(1), 0.0)
    alone = []
    for _ in range(2):
        one.release()
        alone.append(one.is_quarantined)
    assert alone == [True, False]


@pytest.mark.parametrize("reason", ["spared", "away", "rests", "left out"])
def test_a_server_is_open_only_when_it_may_be_given_work(reason: str) -> None:
    """Each reason alone closes it."""
    one = load()
    assert one.is_open(0.0)
    if reason == "spared":
        one.is_spared = True
    elif reason == "away":
        one.health.down_since = 0.0
    elif reason == "rests":
        one.health.breaker.failed(0.0)
    else:
        one.health.left_out = True
    assert not one.is_open(0.0)


def test_the_time_of_a_prompt_is_the_median_of_its_last_five_images() -> None:
    """Times its batch; the first image may have loaded the model."""
    one = load()
    seconds = [one.seconds]
    for measured in (30.0, 1.0, 2.0, 3.0, 4.0):
        one.measured(measured, 1.0)
        seconds.append(one.seconds)
    assert seconds == [None, 30.0, 15.5, 2.0, 2.5, 3.0]
    one.give(batch_of(4), 3.0)
    assert one.seconds == 12.0
    for _ in range(3):
        one.measured(9.0, 4.0)
    assert one.seconds == 36.0, "the first two are forgotten"


@pytest.mark.parametrize(
    ("seconds", "depth"), [(None, 2), (1.0, 2), (0.05, 2), (0.049, 3), (0.025, 3), (0.01, 6), (0.005, 8), (1e-9, 8)]
)
def test_where_no_depth_is_asked_for_it_hides_the_way_to_the_server(seconds: float | None, depth: int) -> None:
    """One prompt that runs and one that waits; more of prompts that are over before the next is there."""
    one = load(None)
    if seconds is not None:
        one.measured(seconds, 0.0)
    assert one.depth == depth
    assert load(5).depth == 5


def test_a_server_is_late_when_it_has_had_no_image_for_three_times_as_long_as_a_prompt_takes() -> None:
    """And five seconds; from its last image, or from when it was given something while it held nothing."""
    one = load()
    assert one.late_at() == math.inf
    one.give(request(0), 100.0)
    assert one.late_at() == 105.0, "nobody knows yet how fast it is"
    one.measured(10.0, 110.0)
    assert one.late_at() == 145.0
    one.give(request(1), 130.0)
    assert one.late_at() == 145.0, "it holds something already"
    one.release()
    one.release()
    assert one.late_at() == math.inf
    one.give(request(2), 200.0)
    assert one.late_at() == 235.0


def test_a_batch_that_overflowed_does_not_fit_any_more() -> None:
    """Nor does a larger one; the smallest that overflowed counts."""
    one = load()
    assert one.fits(batch_of(16))
    one.overflowed(8)
    assert (one.fits(batch_of(7)), one.fits(batch_of(8))) == (True, False)
    one.overflowed(12)
    assert (one.fits(batch_of(7)), one.fits(batch_of(8))) == (True, False)
