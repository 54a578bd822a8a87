"""Workers that live and workers that are dead, polled in every rhythm; and answers that are not the right ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from reggen.comfy.listings import Queue
from reggen.comfy.refusals import IN_A_ROW, Refusals
from reggen.comfy.timings import Timings
from reggen.comfy.watchdog import POLLS_PER_GAP, WorkerVerdict, WorkerWatchdog
from reggen.errors import HttpStatusError

TIMINGS = Timings(gap=45.0, stall=1200.0, mercy=60.0)
GAPS = st.floats(0.0, 40.0)  # a healthy server's longest that was ever measured had 14 s
RUNS = st.floats(1.0, 1000.0)
RHYTHMS = st.lists(st.floats(0.1, 10_000.0), min_size=1, max_size=40)


@dataclass
class Healthy:
    """A worker that does one prompt after the other: a gap, then a run, and so on; ours and other people's."""

    gaps: list[float]
    runs: list[float]
    ours: list[bool]
    number: int = 0
    begin: float = 0.0

    def at(self, now: float) -> tuple[Queue, float | None]:
        """The queue at a moment, each later than the one before, and when our running prompt was last heard of."""
        while True:
            number = self.number
            gap, run = (one[number % len(one)] for one in (self.gaps, self.runs))
            waiting = tuple(f"p{later}" for later in range(number, number + 3))
            if now < self.begin + gap:
                return Queue((), waiting, {}), None
            if now < self.begin + gap + run:
                mine = self.ours[number % len(self.ours)]
                return Queue(waiting[:1], waiting[1:], {}), self.begin + gap if mine else None
            self.number, self.begin = number + 1, self.begin + gap + run


def moments(rhythm: list[float], until: float) -> Iterator[float]:
    now, number = 0.0, 0
    while now < until and number < 500:
        yield now
        now, number = now + rhythm[number % len(rhythm)], number + 1


@settings(deadline=None)
@given(st.lists(GAPS, min_size=1), st.lists(RUNS, min_size=1), st.lists(st.booleans(), min_size=1), RHYTHMS)
def test_a_worker_that_lives_is_never_called_dead(
    gaps: list[float], runs: list[float], ours: list[bool], rhythm: list[float]
) -> None:
    """Whatever its gaps below the limit, and whenever it is polled: seconds or hours apart, with no event at all."""
    server, worker = Healthy(gaps, runs, ours), WorkerWatchdog(TIMINGS)
    for now in moments(rhythm, 20_000.0):
        queue, heard = server.at(now)
        assert worker.judge(queue, heard, now) not in {WorkerVerdict.DEAD, WorkerVerdict.INTERRUPT}, (
            f"at {now}: {queue}"
        )


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 30.0), min_size=1, max_size=20), st.booleans())
def test_a_worker_that_takes_nothing_is_found_dead(rhythm: list[float], freed: bool) -> None:
    """Under watch for the limit, at polls that are no further apart than they are asked for."""
    worker = WorkerWatchdog(TIMINGS)
    if freed:
        worker.unloading(0.0)
    queue, watched, last = Queue((), ("head", "next"), {}), 0.0, 0.0
    for now in moments(rhythm, 20_000.0):
        watched, last = watched + min(now - last, TIMINGS.gap / POLLS_PER_GAP), now
        verdict = worker.judge(queue, None, now)
        due = watched >= TIMINGS.gap * (3 if freed and now < 1200.0 else 1) - 1e-6
        assert (verdict is WorkerVerdict.DEAD) == due or abs(watched - TIMINGS.gap) < 1e-6
        if verdict is WorkerVerdict.DEAD:
            return
    raise AssertionError("it was never found")


@given(st.lists(st.tuples(st.sampled_from(("queue", "history")), st.booleans()), max_size=60))
def test_only_wrong_answers_in_a_row_to_one_question_are_a_few(answers: list[tuple[str, bool]]) -> None:
    """Right ones to another question neither help nor harm; what healed starts over."""
    refusals, in_a_row = Refusals(TIMINGS), {"queue": 0, "history": 0}
    for question, right in answers:
        if right:
            refusals.answered(question)
            in_a_row[question] = 0
        else:
            in_a_row[question] += 1
            assert refusals.count(HttpStatusError("here", question, 401, "")) == (in_a_row[question] >= IN_A_ROW)
    refusals.begin(HttpStatusError("here", "queue", 401, ""), 1e6)
    assert "HTTP 401" in refusals.why
    refusals.end()
    assert not refusals.why
    assert not refusals.count(HttpStatusError("here", "queue", 401, ""))


@given(st.lists(st.floats(0.0, 600.0), min_size=1, max_size=20))
def test_what_refuses_is_asked_again_ever_later_and_never_too_soon(waits: list[float]) -> None:
    """At least as late as it wants it, and of itself no later than half a minute."""
    refusals, now = Refusals(TIMINGS), 0.0
    for wait in waits:
        refusals.begin(HttpStatusError("here", "queue", 429, "", wait), now)
        assert (
            now + max(wait, TIMINGS.poll_interval) <= refusals.ask_at <= now + max(wait, 30.0) + TIMINGS.poll_interval
        )
        now = refusals.ask_at
