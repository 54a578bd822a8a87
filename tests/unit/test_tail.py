"""The last requests: who leaves them to whom, and until when. No clock, no chance."""

from __future__ import annotations

import math

import pytest

from reggen.scheduler.health import FleetHealth
from reggen.scheduler.server_load import ServerLoad
from reggen.scheduler.tail import TailAssignment
from tests.scheduling import batch_of, no_jitter


def server(seconds: float | None, *, batch: int = 1, holds: int = 0, at: float = 0.0) -> ServerLoad:
    """A server that is up, of so many seconds an image; what it holds was given to it at a time."""
    health = FleetHealth(["a"], no_jitter, 0.0)
    health.server_changed("a", up=True, now=0.0)
    made = ServerLoad(99, health.servers["a"], batch=batch)
    for _ in range(holds):
        made.give(batch_of(batch), at)
    if seconds is not None:
        made.measured(seconds, at)
    return made


def most_left(mine: ServerLoad, *others: ServerLoad, now: float = 0.0) -> int:
    """Up to how many images a server leaves to the others."""
    return max(
        (images for images in range(1, 100) if TailAssignment([mine, *others], now).leaves(mine, images)), default=0
    )


def test_images_are_left_that_the_others_have_before_one_more_could_be_made() -> None:
    """Ten seconds: a server of one second makes nine by then, and would be as late as this one with the tenth."""
    assert most_left(server(10.0), server(1.0)) == 9
    assert most_left(server(10.0), server(1.0), server(2.0)) == 9 + 4


def test_prompts_that_a_server_holds_come_first() -> None:
    """Its own make it later, those of the others leave them less."""
    assert most_left(server(10.0, holds=1), server(1.0)) == 19
    assert most_left(server(10.0), server(1.0, holds=2)) == 7
    assert most_left(server(10.0), server(1.0, holds=20)) == 0


def test_batches_are_counted_in_images() -> None:
    """Of four seconds: two more are over before ten, the third is not."""
    assert most_left(server(10.0), server(1.0, batch=4)) == 8


def test_a_server_of_which_nothing_is_known_leaves_nothing_and_is_not_counted_on() -> None:
    """Its first image tells."""
    assert most_left(server(None), server(1.0)) == 0
    assert most_left(server(10.0), server(None)) == 0


def test_the_server_that_would_be_done_first_leaves_nothing() -> None:
    """Nor does one that is alone, nor two that are as fast."""
    assert most_left(server(1.0), server(10.0)) == 0
    assert most_left(server(1.0)) == 0
    assert most_left(server(1.0), server(1.0)) == 0


def test_where_nobody_knows_how_many_are_left_nothing_is_left_to_others() -> None:
    """The plan is walked, not counted."""
    slow = server(10.0)
    assert not TailAssignment([slow, server(1.0)], 0.0).leaves(slow, None)


@pytest.mark.parametrize("reason", ["away", "spared", "rests"])
def test_a_server_that_takes_no_work_is_not_counted_on(reason: str) -> None:
    """However fast it is."""
    fast = server(1.0)
    if reason == "away":
        fast.health.down_since = 0.0
    elif reason == "spared":
        fast.is_spared = True
    else:
        fast.health.breaker.failed(0.0)
    assert most_left(server(10.0), fast) == 0


def test_a_server_is_counted_on_until_it_is_late() -> None:
    """It holds something and has had no image for three times as long as it needs, and five seconds."""
    slow, fast = server(10.0), server(1.0, holds=1)
    assert fast.late_at() == 8.0
    tail = TailAssignment([slow, fast], 7.9)
    assert tail.leaves(slow, 3)
    assert tail.left_until == 8.0
    late = TailAssignment([slow, fast], 8.0)
    assert not late.leaves(slow, 3)
    assert late.left_until == math.inf


def test_what_is_left_is_left_until_the_first_of_those_that_make_it_is_late() -> None:
    """A server that makes none of it does not matter; without one that could be late there is no end."""
    slow, fast, quick = server(10.0), server(1.0, holds=1), server(0.5, holds=1)
    idle = server(9.0, holds=1, at=-26.0)
    assert (fast.late_at(), quick.late_at(), idle.late_at()) == (8.0, 6.5, 6.0)
    tail = TailAssignment([slow, idle, fast, quick], 0.0)
    assert tail.leaves(slow, 20)
    assert tail.left_until == 6.5
    sooner = TailAssignment([slow, idle, fast, quick], 0.0)
    assert sooner.leaves(slow, 8)
    assert sooner.left_until == 8.0, "fast makes them all"
    free = TailAssignment([slow, server(1.0)], 0.0)
    assert free.leaves(slow, 3)
    assert free.left_until == math.inf


def test_of_several_that_leave_it_the_first_to_be_asked_again_counts() -> None:
    """Whoever wakes then asks for all of them."""
    slow, fast, quick = server(10.0), server(1.0, holds=1), server(0.5, holds=1)
    tail = TailAssignment([slow, fast, quick], 0.0)
    assert tail.leaves(slow, 20)
    assert tail.leaves(slow, 8)
    assert tail.left_until == 6.5
