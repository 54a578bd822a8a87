"""Following prompts: when to poll, and what the answer means. No sockets, no clock."""

from __future__ import annotations

import math

import pytest

from reggen.comfy.frames import Ended, EndSignal, Event, NodeDone, Preview, Progressed, QueueDepth, Started, Unknown
from reggen.comfy.history import Outcome, Success
from reggen.comfy.timings import Timings
from reggen.comfy.tracker import DuePolls, PromptTracker
from reggen.errors import PromptInterrupted, PromptLost

TIMINGS = Timings(silence=30, patience=300, canary=10, poll_interval=2, grace=0.1, late_entry=(0.05, 0.25, 1.0))
DONE: Outcome = Success({}, 1.0)


def hearing(*prompts: str) -> PromptTracker:
    """A tracker with an open socket that has greeted, and prompts that were accepted at 0."""
    tracker = PromptTracker("here", TIMINGS)
    tracker.connected(0.0)
    tracker.frame(QueueDepth(0), 0.0)
    for prompt in prompts:
        tracker.posting(prompt, 0.0)
        tracker.accepted(prompt, prompt, 0.0)
        tracker.frame(QueueDepth(len(prompts)), 0.0)
    return tracker


def test_a_prompt_that_ends_costs_one_poll() -> None:
    """From post to end, with every frame arriving, the history is polled once and nothing else is."""
    tracker = hearing("a")
    frames: tuple[Event, ...] = (
        Started("a"),
        NodeDone("a"),
        Progressed("a", 1, 20),
        Ended("a", EndSignal.SUCCESS),
        QueueDepth(0),
    )
    for step, frame in enumerate(frames):
        tracker.frame(frame, 1.0 + step / 1000)
        assert not tracker.due(1.0 + step / 1000)
    tracker.frame(Ended("a", EndSignal.OVER), 1.006)
    assert tracker.due(1.006) == DuePolls(quick=("a",))
    assert tracker.polled("a", DONE, None, 1.008) is DONE
    assert tracker.in_flight == ()
    assert not tracker.due(1e9)


def test_silence_on_a_working_socket_asks_nothing_for_its_time() -> None:
    """While frames of any kind flow, a prompt that waits its turn is not polled."""
    tracker = hearing("a", "b")
    tracker.frame(Started("a"), 0.1)
    for second in range(1, 29):
        tracker.frame(Progressed("a", second, 100), float(second * 10))
        assert not tracker.due(float(second * 10))


def test_success_without_the_final_frame_is_polled_after_a_moment() -> None:
    """`execution_success` alone leads to a poll if `executing null` is lost."""
    tracker = hearing("a")
    tracker.frame(Started("a"), 1.0)
    tracker.frame(Ended("a", EndSignal.SUCCESS), 2.0)
    assert not tracker.due(2.1)
    assert tracker.due(2.2) == DuePolls(full=("a",))


def test_an_ending_without_an_entry_is_polled_again_and_then_doubted() -> None:
    """The entry may come late: after three more polls the queue is read too."""
    tracker = hearing("a")
    tracker.frame(Ended("a", EndSignal.OVER), 1.0)
    now = 1.0
    for wait in TIMINGS.late_entry:
        assert tracker.due(now).quick == ("a",)
        assert tracker.polled("a", None, None, now) is None
        assert not tracker.due(now + wait * 0.9)
        now += wait
    assert tracker.due(now).quick == ("a",)
    tracker.polled("a", None, None, now)
    assert tracker.due(now) == DuePolls(full=("a",))


def test_a_started_prompt_casts_doubt_on_the_one_that_ran() -> None:
    """One thing runs at a time: when b starts, a has ended, whatever was heard of it."""
    tracker = hearing("a", "b")
    tracker.frame(Started("a"), 1.0)
    tracker.frame(Started("b"), 2.0)
    assert tracker.due(2.1) == DuePolls(full=("a",))


def test_an_empty_queue_casts_doubt_on_everything() -> None:
    """The server says that nothing is left, and we still wait for something."""
    tracker = hearing("a")
    tracker.frame(QueueDepth(0), 5.0)
    assert not tracker.due(5.0)
    assert tracker.due(5.1) == DuePolls(full=("a",))


def test_an_empty_queue_just_before_our_post_is_no_reason_to_poll() -> None:
    """The status of another prompt's end may cross our post; the next status takes the doubt back."""
    tracker = hearing("a")
    tracker.frame(QueueDepth(0), 5.0)
    tracker.frame(QueueDepth(1), 5.002)
    assert not tracker.due(6.0)


def test_a_poll_that_failed_on_an_empty_queue_is_repeated() -> None:
    """Somebody's prompt that arrives meanwhile does not take that doubt back."""
    tracker = hearing("a")
    tracker.frame(QueueDepth(0), 5.0)
    assert tracker.due(5.1) == DuePolls(full=("a",))
    tracker.poll_failed("a", 5.1)
    tracker.frame(QueueDepth(1), 5.2)
    assert tracker.due(7.1) == DuePolls(full=("a",))


def test_an_announced_end_is_not_taken_back() -> None:
    """The queue may be empty and fill again before it is polled."""
    tracker = hearing("a")
    tracker.frame(Ended("a", EndSignal.OVER), 1.0)
    tracker.frame(QueueDepth(0), 1.1)
    tracker.frame(QueueDepth(1), 1.2)
    assert tracker.due(1.2) == DuePolls(quick=("a",))


def test_the_doubt_of_a_reconnect_is_not_taken_back() -> None:
    """Frames of that prompt are lost, whatever the queue does."""
    tracker = hearing("a")
    tracker.disconnected()
    tracker.connected(5.0)
    tracker.frame(QueueDepth(0), 5.1)
    tracker.frame(QueueDepth(1), 5.2)
    assert tracker.due(5.2) == DuePolls(full=("a",))


def test_a_prompt_that_was_taken_over_is_polled_at_once() -> None:
    """It is on a list that the server gave: nobody has to accept it."""
    tracker = hearing()
    tracker.took_over("theirs", 5.0)
    assert tracker.in_flight == ("theirs",)
    assert tracker.due(5.0) == DuePolls(full=("theirs",))


def test_a_start_is_a_sign_of_life() -> None:
    """Patience counts from it, and a prompt that is lost later was running."""
    tracker = hearing("a")
    tracker.frame(Started("a"), 100.0)
    assert tracker.heard_at("a") == 100.0
    ending = tracker.polled("a", None, False, 200.0)
    assert isinstance(ending, PromptLost)
    assert ending.running


def test_a_queue_that_shrinks_says_nothing_of_prompts_of_this_socket() -> None:
    """Their own frames do."""
    tracker = hearing("a")
    for remaining in (3, 2):
        tracker.frame(QueueDepth(remaining), 1.0)
    assert not tracker.due(2.0)


def test_the_timings_are_those_handed_in() -> None:
    """A job may be more patient than the default."""
    tracker = PromptTracker("here", Timings(silence=90.0))
    tracker.connected(0.0)
    tracker.posting("a", 0.0)
    tracker.accepted("a", "a", 0.0)
    tracker.frame(QueueDepth(1), 0.0)
    assert tracker.wake_at() == 90.0


def test_silence_leads_to_a_full_poll_and_a_queued_prompt_is_left_alone_again() -> None:
    """Model loading may be silent for minutes: judged by polling, at a gentle pace."""
    tracker = hearing("a")
    assert not tracker.due(29.9)
    assert tracker.due(30.0) == DuePolls(full=("a",))
    assert tracker.polled("a", None, True, 30.0) is None
    assert not tracker.due(59.9)
    assert tracker.due(60.0) == DuePolls(full=("a",))


def test_a_prompt_that_is_nowhere_is_lost() -> None:
    """Neither queued nor in the history, in this order: gone."""
    tracker = hearing("a")
    ending = tracker.polled("a", None, False, 30.0)
    assert isinstance(ending, PromptLost)
    assert tracker.in_flight == ()


@pytest.mark.parametrize(("breaks", "died"), [("", False), ("cut", True), ("replaced", True)])
def test_a_prompt_whose_socket_broke_may_have_gone_down_with_its_server(breaks: str, died: bool) -> None:
    """Under the socket it was posted under somebody deleted it; otherwise the server may have died and lost it."""
    tracker = hearing("a")
    if breaks:
        tracker.disconnected()
    if breaks == "replaced":
        tracker.connected(5.0)
    ending = tracker.polled("a", None, False, 30.0)
    assert isinstance(ending, PromptLost)
    assert ending.died is died


def test_a_prompt_posted_after_a_reconnect_did_not_go_down_with_the_server_before() -> None:
    """The socket of this prompt counts, not whether there ever was another."""
    tracker = hearing("a")
    tracker.disconnected()
    tracker.connected(5.0)
    tracker.posting("b", 6.0)
    tracker.accepted("b", "b", 6.0)
    endings = [tracker.polled(prompt, None, False, 30.0) for prompt in ("a", "b")]
    assert [isinstance(ending, PromptLost) and ending.died for ending in endings] == [True, False]


def test_history_wins_over_the_queue() -> None:
    """It left the queue between the two requests: the entry is the truth."""
    tracker = hearing("a")
    interrupted = PromptInterrupted("here")
    assert tracker.polled("a", interrupted, False, 1.0) is interrupted


def test_a_reconnect_puts_everything_in_doubt_at_once() -> None:
    """Nothing is replayed, so whatever was in flight is polled."""
    tracker = hearing("a", "b")
    tracker.disconnected()
    tracker.connected(5.0)
    assert tracker.due(5.0) == DuePolls(full=("a", "b"))


def test_prompts_of_an_older_socket_are_driven_by_status_frames() -> None:
    """Their own frames go to a client id that is gone; a shrinking queue points at the oldest."""
    tracker = hearing("a", "b")
    tracker.disconnected()
    tracker.connected(5.0)
    for prompt in ("a", "b"):
        tracker.polled(prompt, None, True, 5.0)
    tracker.frame(QueueDepth(2), 5.1)
    assert not tracker.due(5.1)
    tracker.frame(QueueDepth(1), 9.0)
    assert tracker.due(9.0) == DuePolls(full=("a",))


def test_without_a_socket_prompts_are_polled_at_a_gentle_pace() -> None:
    """HTTP works, events do not: every two seconds."""
    tracker = hearing("a")
    tracker.disconnected()
    assert tracker.due(2.0) == DuePolls(full=("a",))
    tracker.polled("a", None, True, 2.0)
    assert not tracker.due(3.9)
    assert tracker.due(4.0) == DuePolls(full=("a",))


def test_a_poll_that_fails_is_not_repeated_at_once() -> None:
    """A server that is away is not asked hundreds of times a second."""
    tracker = hearing("a")
    tracker.disconnected()
    tracker.poll_failed("a", 2.0)
    assert not tracker.due(3.9)
    assert tracker.due(4.0)


def test_the_missing_canary_tells_a_deaf_socket() -> None:
    """A post makes the server speak to everybody; ten seconds of nothing mean that we do not hear."""
    tracker = hearing()
    tracker.posting("a", 1.0)
    tracker.accepted("a", "a", 1.1)
    assert not tracker.canary.check(11.0)
    assert tracker.wake_at() == pytest.approx(11.1)
    assert tracker.canary.check(11.1)
    assert not tracker.canary.check(11.2), "once for each socket"


def test_any_frame_is_a_canary() -> None:
    """Even another client's preview shows that the socket hears."""
    tracker = hearing()
    tracker.posting("a", 1.0)
    tracker.accepted("a", "a", 1.1)
    tracker.frame(Preview(), 1.2)
    assert not tracker.canary.check(1e6)


def test_a_canary_that_came_before_the_answer_counts() -> None:
    """The status frame may be two milliseconds ahead of the answer to the post."""
    tracker = hearing()
    tracker.posting("a", 1.0)
    tracker.frame(QueueDepth(1), 1.09)
    tracker.accepted("a", "a", 1.1)
    assert not tracker.canary.check(1e6)


def test_after_a_deaf_socket_the_greeting_alone_proves_nothing() -> None:
    """A new socket of a server that is stuck gets its first status and nothing more: keep polling."""
    tracker = hearing("a")
    tracker.posting("b", 1.0)
    tracker.accepted("b", "b", 1.0)
    assert tracker.canary.check(11.0)
    tracker.disconnected()
    tracker.connected(12.0)
    tracker.frame(QueueDepth(2), 12.0)
    assert not tracker.canary.is_hearing
    for prompt in ("a", "b"):
        tracker.polled(prompt, None, True, 12.0)
    assert tracker.due(14.0) == DuePolls(full=("a", "b"))
    tracker.frame(QueueDepth(1), 14.5)
    assert tracker.canary.is_hearing


def test_a_server_that_chooses_its_own_ids_is_followed_under_them() -> None:
    """Old servers ignore the id we chose; an ending that came before the answer is remembered."""
    tracker = hearing()
    tracker.posting("ours", 1.0)
    tracker.frame(Ended("theirs", EndSignal.OVER), 1.1)
    tracker.accepted("ours", "theirs", 1.2)
    assert tracker.due(1.2) == DuePolls(quick=("theirs",))
    assert tracker.polled("theirs", DONE, None, 1.3) is DONE


def test_a_prompt_that_is_not_accepted_is_not_polled() -> None:
    """The poster finds out if it arrived."""
    tracker = hearing()
    tracker.posting("a", 0.0)
    assert not tracker.due(1e6)
    assert tracker.wake_at() == math.inf


@pytest.mark.parametrize(
    "event", [Preview(), Unknown("x"), Started("other"), Ended("other", EndSignal.OVER), NodeDone("other")]
)
def test_other_peoples_frames_change_nothing(event: Preview | Unknown | Started | Ended | NodeDone) -> None:
    """Frames of prompts that are not ours, and frames of no meaning, lead to no poll."""
    tracker = hearing("a")
    tracker.frame(Started("a"), 1.0)
    tracker.frame(event, 1.1)
    assert not tracker.due(2.0)


def test_endings_of_strangers_are_not_hoarded() -> None:
    """A busy shared server does not fill our memory."""
    tracker = hearing()
    for number in range(10_000):
        tracker.frame(Ended(str(number), EndSignal.OVER), 1.0)
    assert len(tracker._early_ends) <= 64


def test_a_prompt_nothing_is_heard_of_is_polled_in_the_end() -> None:
    """Frames of others keep flowing, none of ours comes: after five minutes we poll."""
    tracker = hearing("a")
    for second in range(0, 301, 10):
        tracker.frame(QueueDepth(3), float(second))
    assert tracker.due(300.0) == DuePolls(full=("a",))
