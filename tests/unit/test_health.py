"""The health of servers: there or away, at fault or not. No clock, no chance."""

from __future__ import annotations

import math

from reggen.scheduler.health import FleetHealth
from tests.scheduling import no_jitter


def healthy(*names: str, one_text: bool = False, patience: float = 30.0) -> FleetHealth:
    """Servers that are up."""
    made = FleetHealth(names, no_jitter, 0.0, patience=patience, one_text=one_text)
    for name in names:
        made.server_changed(name, up=True, now=0.0)
    return made


# ---- there or away


def test_a_server_that_was_never_there_is_waited_for_from_the_start() -> None:
    """As one that has just gone: it may be starting."""
    made = FleetHealth(["a"], no_jitter, 100.0, patience=30.0)
    assert made.usable == frozenset()
    assert made.candidates(129.9) == {"a"}
    assert made.candidates(130.0) == frozenset()
    assert (made.wake_at(100.0), made.wake_at(130.0)) == (130.0, math.inf)


def test_an_absence_that_is_told_again_and_again_is_one_absence() -> None:
    """It counts from its beginning: who asks for a server does not make it likelier to come back."""
    made = healthy("a")
    for now in (10.0, 20.0, 30.0, 39.0):
        made.server_changed("a", up=False, now=now)
    assert made.candidates(39.9) == {"a"}
    assert made.candidates(40.0) == frozenset()


def test_questions_change_nothing() -> None:
    """However often they are asked, in whatever order, of whatever time."""
    made = FleetHealth(["a", "b"], no_jitter, 0.0, patience=30.0)
    made.server_changed("a", up=True, now=0.0)
    made.failed("a", now=0.0)
    for now in (1000.0, 5.0, 29.0):
        made.candidates(now), made.wake_at(now), made.usable, made.ailing, made.any_well, made.took_none
    assert made.candidates(29.0) == {"a", "b"}
    assert made.start_probes(1000.0) == ["a"], "none of it was a probe"


def test_the_next_change_is_the_first_rest_or_absence_to_end() -> None:
    """What has ended already changes nothing any more."""
    made = healthy("a", "b", "c", patience=30.0)
    made.failed("a", now=0.0, at_least=50.0)
    made.server_changed("b", up=False, now=5.0)
    assert [made.wake_at(now) for now in (5.0, 35.0, 50.0)] == [35.0, 50.0, math.inf]


def test_a_server_that_is_away_is_not_probed() -> None:
    """Its return says that it answers."""
    made = healthy("a")
    made.failed("a", now=0.0)
    made.server_changed("a", up=False, now=1.0)
    assert made.start_probes(1000.0) == []


# ---- prompts that are rejected, posts that are refused


def test_a_server_that_keeps_rejecting_is_left_out_when_another_is_there() -> None:
    """Three in a row, none taken: it lacks something that the others have."""
    pair = healthy("a", "b")
    assert [pair.prompt_rejected("a") for _ in range(4)] == [False, False, True, False]
    assert pair.usable == {"b"}
    assert pair.candidates(0.0) == {"b"}
    assert not any(pair.prompt_rejected("b") for _ in range(9)), "the last one is never left out"


def test_a_prompt_that_is_taken_ends_the_rejections() -> None:
    """Only prompts in a row count."""
    pair = healthy("a", "b")
    for _ in range(5):
        assert not any(pair.prompt_rejected("a") for _ in range(2))
        pair.prompt_ended("a")


def test_posts_that_are_refused_for_good_leave_a_server_out_after_five_texts() -> None:
    """Whatever they say: nothing of this job gets through there. It is reported once."""
    pair = healthy("a", "b")
    refused = [pair.post_refused("a", text) for text in ("cat", "dog", "cat", "cat", "cat", "cat")]
    assert refused == [False, False, False, False, True, False]
    assert pair.usable == {"b"}


def test_posts_of_one_text_of_several_never_leave_a_server_out() -> None:
    """A firewall may forbid just this one: its images are given up by themselves."""
    one = healthy("a")
    assert not any(one.post_refused("a", "bird") for _ in range(50))
    assert one.usable == {"a"}


def test_the_only_text_there_is_says_it_at_once() -> None:
    """No other could come through."""
    one = healthy("a", one_text=True)
    assert [one.post_refused("a", "bird") for _ in range(5)] == [False] * 4 + [True]


def test_a_prompt_that_a_server_takes_ends_the_refused_posts() -> None:
    """Only posts in a row count."""
    one = healthy("a")
    for _ in range(10):
        assert not any(one.post_refused("a", text) for text in ("cat", "dog", "bird", "cat"))
        one.prompt_ended("a")
    assert one.usable == {"a"}


def test_a_rejection_says_something_about_the_job_until_a_server_takes_a_prompt() -> None:
    """Afterwards it says something about its server or its sample."""
    one = healthy("a")
    one.prompt_rejected("a")
    assert one.took_none
    one.prompt_ended("a")
    assert not one.took_none


# ---- nodes that raise


def raise_on(made: FleetHealth, name: str, *texts: str, before: tuple[str, ...] = ()) -> list[bool]:
    return [made.node_raised(name, 0.0, 60.0, text=text, before=before) for text in texts]


def test_a_server_on_which_every_text_raises_rests_when_another_makes_images() -> None:
    """Three of several texts; before the other has made one since, it may be the job."""
    pair = healthy("a", "b")
    assert raise_on(pair, "a", "cat", "dog", "bird") == [False] * 3
    pair.image_made("b")
    assert pair.ailing == {"a"}
    assert raise_on(pair, "a", "cat") == [True]
    assert not pair.servers["a"].is_open(0.0)


def test_a_good_image_ends_a_server_s_trial() -> None:
    """Whatever was held against it."""
    one = healthy("a")
    one.failed("a", now=0.0)
    assert not one.any_well
    one.image_made("a")
    assert one.any_well


def test_images_that_others_made_before_say_nothing() -> None:
    """They must make one while prompts raise here."""
    pair = healthy("a", "b")
    for _ in range(9):
        pair.image_made("b")
    assert raise_on(pair, "a", "cat", "dog", "bird", "cat") == [False] * 4
    pair.image_made("b")
    assert pair.ailing == {"a"}


def test_an_ailing_server_rests_longer_each_time() -> None:
    """Twice as long, half an hour at most; a prompt that ends somehow is no cure."""
    pair, rests, now = healthy("a", "b"), [], 0.0
    raise_on(pair, "a", "cat", "dog")
    pair.image_made("b")
    for _ in range(9):
        assert pair.node_raised("a", now, 60.0, text="bird")
        pair.prompt_ended("a")
        assert pair.servers["a"].breaker.on_trial
        rests.append(pair.servers["a"].breaker.rests_until - now)
        now += rests[-1] + 1000.0
    assert rests[:4] == [60.0, 120.0, 240.0, 480.0]
    assert rests[-1] == 1800.0


def test_a_text_that_raises_again_and_again_says_little_of_its_server() -> None:
    """A broken LoRA, of which a server happens to be given one after another: not before the tenth."""
    pair = healthy("a", "b")
    raise_on(pair, "a", "bird")
    pair.image_made("b")
    assert raise_on(pair, "a", *["bird"] * 8) == [False] * 8
    assert not pair.ailing
    assert raise_on(pair, "a", "bird") == [True]


def test_a_prompt_that_raises_on_two_servers_is_held_against_neither() -> None:
    """Not on the second, and not any more on the first."""
    pair = healthy("a", "b")
    raise_on(pair, "a", "cat", "dog")
    pair.image_made("b")
    assert raise_on(pair, "b", "dog", before=("a",)) == [False]
    assert raise_on(pair, "a", "bird") == [False], "it is the second that nobody else had"
    pair.image_made("a")
    raise_on(pair, "b", "cat", "bird")
    pair.image_made("a")
    assert not pair.ailing
    assert raise_on(pair, "b", "dog") == [True]


def test_an_image_ends_what_raised_before() -> None:
    """Only prompts in a row count."""
    pair = healthy("a", "b")
    for _ in range(5):
        assert raise_on(pair, "a", "cat", "dog") == [False, False]
        pair.image_made("b")
        pair.image_made("a")
    assert not pair.ailing
