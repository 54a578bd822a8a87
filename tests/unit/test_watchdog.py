"""A server's only worker, judged by polls of its queue. No clock: the times are handed in."""

from __future__ import annotations

from reggen.backoff import Backoff
from reggen.comfy.listings import Queue
from reggen.comfy.timings import Timings
from reggen.comfy.watchdog import WorkerVerdict, WorkerWatchdog

TIMINGS = Timings(stall=100.0, mercy=10.0)
RUNNING = Queue(running=("ours",), pending=("next",), notes={})


def test_a_prompt_that_is_silent_for_too_long_is_interrupted_and_then_the_worker_is_dead() -> None:
    """First an interrupt; when that changes nothing within the mercy, only a restart helps."""
    worker = WorkerWatchdog(TIMINGS)
    verdicts = [worker.judge(RUNNING, 0.0, now) for now in (1.0, 99.0, 101.0, 105.0, 112.0)]
    assert verdicts == [
        WorkerVerdict.FINE,
        WorkerVerdict.FINE,
        WorkerVerdict.INTERRUPT,
        WorkerVerdict.FINE,
        WorkerVerdict.DEAD,
    ]


def test_what_was_lost_contact_is_not_taken_for_silent() -> None:
    """A server that did not answer for an hour may have done all the while what it was asked: time counts from then."""
    worker = WorkerWatchdog(TIMINGS)
    assert worker.judge(RUNNING, 0.0, 1.0) is WorkerVerdict.FINE
    worker.lost_contact(30.0)
    worker.lost_contact(60.0)
    assert [worker.judge(RUNNING, 0.0, now) for now in (3600.0, 3669.0)] == [WorkerVerdict.FINE, WorkerVerdict.FINE]
    assert worker.judge(RUNNING, 0.0, 3671.0) is WorkerVerdict.INTERRUPT
    worker.lost_contact(3672.0)
    assert [worker.judge(RUNNING, 0.0, now) for now in (5000.0, 5008.0)] == [WorkerVerdict.FINE, WorkerVerdict.FINE]
    assert worker.judge(RUNNING, 0.0, 5010.0) is WorkerVerdict.DEAD, "nor is the mercy used up by what nobody could see"


def test_an_absence_long_before_the_silence_excuses_nothing() -> None:
    """It came back, frames flowed for hours without a poll, and then the prompt hung."""
    worker = WorkerWatchdog(TIMINGS)
    worker.lost_contact(10.0)
    verdicts = [worker.judge(RUNNING, 10_000.0, now) for now in (10_001.0, 10_102.0)]
    assert verdicts == [WorkerVerdict.FINE, WorkerVerdict.INTERRUPT]


def test_a_server_that_now_and_then_does_not_answer_is_found_hung_all_the_same() -> None:
    """Only the time of an absence is excused, not all that was silent before it."""
    worker = WorkerWatchdog(TIMINGS)
    now = 0.0
    while (verdict := worker.judge(RUNNING, 0.0, now)) is WorkerVerdict.FINE and now < 1000.0:
        worker.lost_contact(now + 9.0)
        now += 10.0
    assert (verdict, now) == (WorkerVerdict.INTERRUPT, 120.0)


WAITING = Queue(running=(), pending=("head", "next"), notes={})


def polls(worker: WorkerWatchdog, queue: Queue, *times: float) -> list[WorkerVerdict]:
    return [worker.judge(queue, None, now) for now in times]


def test_two_polls_in_gaps_prove_nothing_however_far_apart_they_are() -> None:
    """A healthy server has a gap after every prompt: a poll in one, and ten hours later into another, is chance."""
    assert polls(WorkerWatchdog(Timings()), WAITING, 0.0, 36_000.0) == [WorkerVerdict.POLL_AGAIN] * 2
    moved = Queue(running=(), pending=("next",), notes={})
    worker = WorkerWatchdog(Timings())
    assert worker.judge(WAITING, None, 0.0) is WorkerVerdict.POLL_AGAIN
    assert polls(worker, moved, *range(1, 40)) == [WorkerVerdict.POLL_AGAIN] * 39, "the head was taken: it works"


def test_a_worker_that_leaves_the_same_prompt_waiting_under_watch_is_dead() -> None:
    """The same head of the queue, poll after poll, and no sign of work for `gap` seconds."""
    worker = WorkerWatchdog(Timings(gap=45.0))
    verdicts = polls(worker, WAITING, *range(0, 60, 5))
    assert verdicts.index(WorkerVerdict.DEAD) == 9, "45 s under watch"
    assert worker.dead
    assert worker.rests_until == 45.0 + Timings().rest.first


def test_a_sign_of_work_clears_the_suspicion() -> None:
    """A prompt of anybody's that starts, proceeds or ends was done by a worker that lives."""
    worker = WorkerWatchdog(Timings(gap=45.0))
    for now in range(0, 400, 5):
        assert worker.judge(WAITING, None, float(now)) is WorkerVerdict.POLL_AGAIN
        if now % 40 == 0:
            worker.saw_work()


def test_a_gap_under_watch_counts_only_between_answers_that_came() -> None:
    """A poll that took a minute, since something held the server's interpreter, saw no minute of waiting."""
    worker = WorkerWatchdog(Timings(gap=45.0))
    assert polls(worker, WAITING, 0.0, 60.0, 120.0, 180.0) == [WorkerVerdict.POLL_AGAIN] * 4


def test_after_a_free_of_ours_a_gap_may_be_longer() -> None:
    """Unloading a large model between two prompts took 14 s where it was measured, and may take longer."""
    worker = WorkerWatchdog(Timings(gap=45.0))
    worker.unloading(0.0)
    assert WorkerVerdict.DEAD not in polls(worker, WAITING, *range(0, 135, 5))
    assert worker.judge(WAITING, None, 135.0) is WorkerVerdict.DEAD


def test_a_socket_that_breaks_again_and_again_hides_no_dead_worker() -> None:
    """A proxy that cuts quiet sockets every few seconds changes nothing about the queue."""
    worker = WorkerWatchdog(Timings(gap=45.0))
    verdicts = polls(worker, WAITING, *range(0, 60, 5))
    assert WorkerVerdict.DEAD in verdicts
    hung = WorkerWatchdog(TIMINGS)
    verdicts = [hung.judge(RUNNING, 0.0, now) for now in (1.0, 50.0, 102.0, 105.0)]
    hung.lost_contact(106.0)
    assert verdicts[-2:] == [WorkerVerdict.INTERRUPT, WorkerVerdict.FINE]
    assert [hung.judge(RUNNING, 0.0, now) for now in (107.0, 113.0)] == [WorkerVerdict.FINE, WorkerVerdict.DEAD]


def test_good_work_brings_the_rest_back_to_its_first_length() -> None:
    """Deaths long ago say nothing about a server that has made images since."""
    worker = WorkerWatchdog(Timings(gap=45.0, rest=Backoff(300.0, 1800.0)))
    rests = []
    for spell in range(4):
        begin = spell * 10_000.0
        assert WorkerVerdict.DEAD in polls(worker, WAITING, *(begin + second for second in range(0, 50, 5)))
        rests.append(worker.rests_until - begin - 45.0)
        worker.resting = False
        if spell == 2:
            worker.saw_success()
    assert rests == [300.0, 600.0, 1200.0, 300.0]


def test_a_prompt_without_events_is_silent_only_from_when_it_was_seen_to_run() -> None:
    """It waited for hours behind others, and nothing tells when it began: a poll does."""
    worker = WorkerWatchdog(TIMINGS)
    assert worker.judge(RUNNING, 0.0, 5_000.0) is WorkerVerdict.FINE
    assert worker.judge(RUNNING, 0.0, 5_099.0) is WorkerVerdict.FINE
    assert worker.judge(RUNNING, 0.0, 5_101.0) is WorkerVerdict.INTERRUPT


def test_somebody_else_s_prompt_is_not_held_for_long_by_what_nobody_could_see() -> None:
    """A server that was frozen for an hour thaws with it still running."""
    worker = WorkerWatchdog(TIMINGS)
    assert worker.judge(RUNNING, None, 0.0) is WorkerVerdict.FINE
    worker.lost_contact(10.0)
    assert [worker.judge(RUNNING, None, now) for now in (3_600.0, 3_689.0)] == [WorkerVerdict.FINE] * 2
    assert worker.judge(RUNNING, None, 3_691.0) is WorkerVerdict.BLOCKED
