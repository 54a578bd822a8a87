"""Whether a server's only worker is alive, going by looks at its queue. No clock: the times are handed in."""

from __future__ import annotations

from reggen.comfy.follow import Pace
from reggen.comfy.wire import Queue
from reggen.comfy.worker import Verdict, Worker

PACE = Pace(stall=100.0, mercy=10.0, idle=5.0)
RUNNING = Queue(running=("ours",), pending=("next",), notes={})


def test_a_prompt_that_is_silent_for_too_long_is_interrupted_and_then_the_worker_is_dead() -> None:
    """First an interrupt; when that changes nothing within the mercy, only a restart helps."""
    worker = Worker(PACE)
    verdicts = [worker.seen(RUNNING, 0.0, now) for now in (1.0, 99.0, 101.0, 105.0, 112.0)]
    assert verdicts == [Verdict.FINE, Verdict.FINE, Verdict.INTERRUPT, Verdict.FINE, Verdict.DEAD]


def test_what_was_out_of_sight_is_not_taken_for_silent() -> None:
    """A server that did not answer for an hour may have done all the while what it was asked: time counts from then."""
    worker = Worker(PACE)
    assert worker.seen(RUNNING, 0.0, 1.0) is Verdict.FINE
    worker.out_of_sight(30.0)
    worker.out_of_sight(60.0)
    assert [worker.seen(RUNNING, 0.0, now) for now in (3600.0, 3669.0)] == [Verdict.FINE, Verdict.FINE]
    assert worker.seen(RUNNING, 0.0, 3671.0) is Verdict.INTERRUPT
    worker.out_of_sight(3672.0)
    assert [worker.seen(RUNNING, 0.0, now) for now in (5000.0, 5008.0)] == [Verdict.FINE, Verdict.FINE]
    assert worker.seen(RUNNING, 0.0, 5010.0) is Verdict.DEAD, "nor is the mercy used up by what nobody could see"


def test_an_absence_long_before_the_silence_excuses_nothing() -> None:
    """It came back, frames flowed for hours without a look, and then the prompt hung."""
    worker = Worker(PACE)
    worker.out_of_sight(10.0)
    verdicts = [worker.seen(RUNNING, 10_000.0, now) for now in (10_001.0, 10_102.0)]
    assert verdicts == [Verdict.FINE, Verdict.INTERRUPT]


def test_a_server_that_now_and_then_does_not_answer_is_found_hung_all_the_same() -> None:
    """Only the time of an absence is excused, not all that was silent before it."""
    worker = Worker(PACE)
    now = 0.0
    while (verdict := worker.seen(RUNNING, 0.0, now)) is Verdict.FINE and now < 1000.0:
        worker.out_of_sight(now + 9.0)
        now += 10.0
    assert (verdict, now) == (Verdict.INTERRUPT, 120.0)
