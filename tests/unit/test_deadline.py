"""--until and --for: how long a run has, through sleep, corrected clocks and the change of the hour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from reggen.api.deadline import seconds_left
from reggen.cli.deadline import Deadline, deadline
from reggen.errors import JobError

ELEVEN = datetime(2026, 2, 19, 23, 0)  # noqa: DTZ001 - local time, as the wall clock says it


class Clocks:
    """A wall clock and a steady one, moved by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = ELEVEN, 1000.0

    def now(self) -> datetime:
        return self.wall

    def seconds(self) -> float:
        return self.steady

    def seconds_left(self, until: str | None, for_: str | None) -> Callable[[], float]:
        """A function that gives the seconds until the end that these words mean."""
        end = deadline("job.toml", until, for_, now=self.now)
        left = seconds_left(end.until, end.within, now=self.now, steady=self.seconds)
        assert left is not None
        return left


@pytest.mark.parametrize(
    ("until", "for_", "seconds"),
    [
        ("07:00", None, 8 * 3600),
        ("23:30", None, 1800),
        ("22:59", None, 24 * 3600 - 60),
        (None, "8h", 8 * 3600),
        (None, "1h 30m", 5400),
        (None, "90s", 90),
    ],
)
def test_the_time_a_run_has(until: str | None, for_: str | None, seconds: float) -> None:
    """--until is the next such time of day, --for a length."""
    clocks = Clocks()
    assert clocks.seconds_left(until, for_)() == seconds


def test_without_either_there_is_no_end() -> None:
    """A run goes on until nothing is missing."""
    assert deadline("job.toml", None, None) == Deadline(None, None)
    assert seconds_left(None, None) is None


def test_of_two_ends_the_earlier_one_counts() -> None:
    """The command line takes one of them, a program may give both."""
    clocks = Clocks()
    left = seconds_left(ELEVEN + timedelta(hours=2), timedelta(hours=3), now=clocks.now, steady=clocks.seconds)
    assert left is not None
    assert left() == 2 * 3600


def test_a_computer_that_slept_has_lost_the_time() -> None:
    """Three hours in which nothing ran are gone for both: the wall clock and the steady one went on."""
    clocks = Clocks()
    until = clocks.seconds_left("07:00", None)
    for_ = clocks.seconds_left(None, "8h")
    clocks.wall += timedelta(hours=3)
    clocks.steady += 3 * 3600
    assert (until(), for_()) == (5 * 3600, 5 * 3600)


def test_a_clock_that_is_corrected_moves_the_time_of_day_and_no_length() -> None:
    """At seven it is over, whenever the clock says so; eight hours are eight hours."""
    clocks = Clocks()
    until = clocks.seconds_left("07:00", None)
    for_ = clocks.seconds_left(None, "8h")
    clocks.wall += timedelta(hours=2)
    assert (until(), for_()) == (6 * 3600, 8 * 3600)


@pytest.mark.parametrize(
    ("until", "for_"),
    [("7 o'clock", None), (None, "soon"), (None, "0h0s"), (None, "9" * 5_000 + "h"), ("07:00", "8h")],
    ids=["a word", "no length", "nothing", "for ever", "both"],
)
def test_no_time_is_a_sentence(until: str | None, for_: str | None) -> None:
    """What was said, and how to write it."""
    with pytest.raises(JobError):
        deadline("job.toml", until, for_)
