"""Handing out work: depth, rests, elsewhere first. No clock, no chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from reggen.comfy.history import Success
from reggen.comfy.listings import OrphanedPrompt
from reggen.planning.plan import PromptRequest
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.order_queue import FAR, NEAR
from reggen.scheduler.retry import AttemptCounts
from reggen.scheduler.work_item import Completed, WorkItem
from tests.scheduling import batch_of, fleet, request, windows


def indices(pairs: list[tuple[str, WorkItem]]) -> list[tuple[str, int]]:
    return [(name, item.request.samples[0].index) for name, item in pairs]


def test_a_server_gets_as_many_prompts_as_it_is_deep() -> None:
    """Two in flight, never more; when one has ended the next is given."""
    two = fleet({"a": 2}, 10)
    assert indices(two.assign(0)) == [("a", 0), ("a", 1)]
    assert two.assign(0) == []
    two.loads["a"].release()
    assert indices(two.assign(0)) == [("a", 2)]


def test_servers_are_filled_evenly() -> None:
    """The emptiest first, so that no GPU waits while another has two."""
    three = fleet({"a": 2, "b": 2, "c": 2}, 10)
    assert [name for name, _ in three.assign(0)] == ["a", "b", "c", "a", "b", "c"]


def test_slow_downloads_take_no_prompt_s_place_but_are_bounded() -> None:
    """There is room when the prompt has left; how many images may be on their way at once is limited nevertheless."""
    one = fleet({"a": 2}, 100)
    given = 0
    for _ in range(50):
        for name, _ in one.assign(0):
            given += 1
            one.loads[name].release()
    assert given == 6


def test_nothing_is_taken_from_the_plan_before_there_is_room() -> None:
    """Ten million requests are not walked ahead of time."""
    taken = []

    def watched() -> Iterator[PromptRequest]:
        for one in map(request, range(10_000_000)):
            taken.append(one)
            yield one

    lazy = fleet({"a": 2}, windows(watched()), up=False)
    assert lazy.assign(0) == []
    assert taken == []
    lazy.health.server_changed("a", up=True, now=0.0)
    assert indices(lazy.assign(0)) == [("a", 0), ("a", 1)]
    assert len(taken) <= NEAR


def test_a_failed_item_goes_elsewhere_first() -> None:
    """The server that failed it gets it back only when there is no other."""
    pair = fleet({"a": 1, "b": 1}, 0)
    item = WorkItem(request(0), AttemptCounts(avoid=frozenset({"a"})))
    pair.again(item, 0, 0)
    assert indices(pair.assign(0)) == [("b", 0)]


def test_a_failed_item_waits_for_the_other_server_rather_than_go_back() -> None:
    """The other one is only busy: that is worth waiting for, and new work goes on meanwhile."""
    pair = fleet({"a": 1, "b": 1}, 2)
    pair.assign(0)
    pair.again(WorkItem(request(9), AttemptCounts(avoid=frozenset({"a"}))), 0, 0)
    pair.loads["a"].release()
    pair.finish("a")
    assert pair.assign(0) == []
    pair.loads["b"].release()
    assert indices(pair.assign(0)) == [("b", 9)]


def test_a_failed_item_goes_back_when_there_is_no_other_server() -> None:
    """With one server, elsewhere is here."""
    one = fleet({"a": 1}, 0)
    one.again(WorkItem(request(0), AttemptCounts(avoid=frozenset({"a"}))), 0, 0)
    assert indices(one.assign(0)) == [("a", 0)]


def test_an_item_is_never_given_to_a_server_that_refused_it() -> None:
    """Validation is deterministic."""
    one = fleet({"a": 1}, 0)
    one.again(WorkItem(request(0), AttemptCounts(avoid=frozenset({"a"}), refused_by=frozenset({"a"}))), 0, 0)
    assert one.assign(0) == []


def test_a_retry_waits_its_pause() -> None:
    """And the fleet says when to come again."""
    one = fleet({"a": 1}, 0)
    one.again(WorkItem(request(0)), 10.0, 4.0)
    assert one.assign(13.9) == []
    assert one.wake_at(13.9) == 14.0
    assert indices(one.assign(14.0)) == [("a", 0)]


def test_a_server_that_fails_rests_longer_each_time_and_the_other_goes_on() -> None:
    """Growing pauses with a cap."""
    pair = fleet({"a": 1, "b": 1}, 10)
    pair.health.failed("a", now=0.0)
    assert [name for name, _ in pair.assign(0.0)] == ["b"]
    now, rests = 0.0, []
    for _ in range(12):
        rests.append(pair.wake_at(now) - now)
        now = pair.wake_at(now)
        pair.health.failed("a", now)
    assert rests == sorted(rests)
    assert 0 < rests[0] < 1
    assert rests[-1] == rests[-2] <= 121


def test_after_its_rest_a_server_is_probed_and_gets_one_prompt_on_trial() -> None:
    """Only a prompt that ended there opens its whole depth again."""
    one = fleet({"a": 4}, 20)
    one.health.failed("a", now=0.0)
    assert one.health.start_probes(0.0) == []
    over = one.wake_at(0.0)
    assert one.health.start_probes(over) == ["a"]
    assert one.health.start_probes(over) == [], "it is being asked already"
    assert one.assign(over) == []
    one.health.probe_answered("a")
    assert len(one.assign(over)) == 1
    one.health.prompt_ended("a")
    assert len(one.assign(over)) == 3


def test_what_fails_during_a_rest_does_not_make_it_longer() -> None:
    """Four prompts that were on the server when it went away are one failure."""
    one, other = fleet({"a": 4}, 9), fleet({"a": 4}, 9)
    for _ in range(4):
        one.health.failed("a", now=0.0)
    other.health.failed("a", now=0.0)
    assert one.wake_at(0.0) == other.wake_at(0.0)


def test_a_server_that_was_away_returns_by_one_prompt_on_trial() -> None:
    """It need not sit out what it failed before, unless it asked for time."""
    one = fleet({"a": 4}, 20)
    one.health.failed("a", now=0.0)
    one.health.server_changed("a", up=False, now=0.0)
    one.health.server_changed("a", up=True, now=0.0)
    assert len(one.assign(0.0)) == 1
    asked = fleet({"a": 4}, 20)
    asked.health.failed("a", now=0.0, at_least=90.0)
    asked.health.server_changed("a", up=False, now=0.0)
    asked.health.server_changed("a", up=True, now=0.0)
    assert asked.assign(89.0) == []
    assert len(asked.assign(90.0)) == 1


def test_a_new_socket_ends_no_rest() -> None:
    """The server was there all the time; that events flow again says nothing about its failures."""
    one = fleet({"a": 4}, 20)
    one.health.failed("a", now=0.0, at_least=8.0)
    one.health.server_changed("a", up=True, now=1.0)
    assert one.assign(7.0) == []


def test_a_batch_goes_where_it_fits() -> None:
    """A server that lacked the memory for a batch is not given one again while another has room."""
    pair = fleet({"a": 1, "b": 1}, 0)
    pair.loads["a"].overflowed(4)
    four = batch_of(4)
    assert not pair.loads["a"].fits(four)
    assert pair.loads["b"].fits(four)
    assert pair.loads["a"].fits(request(0))
    pair.again(WorkItem(four), 0, 0)
    assert [name for name, _ in pair.assign(0)] == ["b"]


def test_images_that_are_made_are_downloaded_from_where_they_are() -> None:
    """From no other server, unless that one is gone for good: then they are made again."""
    pair = fleet({"a": 1, "b": 1}, 0)
    made = Completed("id", Success({}, None), 1.0)
    pair.again(WorkItem(request(0), at="a", made=made), 0, 0)
    pair.again(WorkItem(request(1)), 0, 0)
    assert indices(pair.assign(0)) == [("a", 0), ("b", 1)]
    gone = fleet({"a": 1, "b": 1}, 0)
    gone.again(WorkItem(request(0), at="a", made=made), 0, 0)
    gone.health.server_changed("a", up=False, now=0.0)
    assert gone.assign(29.0) == [], "it may come back"
    [(name, item)] = gone.assign(30.0)
    assert (name, item.made) == ("b", None)


def test_a_server_that_asks_for_time_gets_it() -> None:
    """Retry-After is honoured."""
    one = fleet({"a": 1}, 10)
    one.health.failed("a", now=0.0, at_least=90.0)
    assert one.health.start_probes(89.0) == []
    assert one.health.start_probes(90.0) == ["a"]


def test_it_is_finished_when_nothing_is_active_and_nothing_waits() -> None:
    """A work item put back keeps the run going."""
    one = fleet({"a": 1}, 1)
    [(name, item)] = one.assign(0)
    assert not one.finished
    one.loads[name].release()
    one.again(replace(item, tries=AttemptCounts(attempts=1)), 0, 5)
    one.finish("a")
    assert one.assign(0) == []
    assert not one.finished
    [(name, _)] = one.assign(5)
    one.loads[name].release()
    one.finish("a")
    assert one.assign(6) == []
    assert one.finished


def test_a_stopped_fleet_is_finished_with_its_last_item() -> None:
    """What waits for a retry is left for the next run."""
    one = fleet({"a": 2}, 10)
    one.assign(0)
    one.again(WorkItem(request(5)), 0, 0)
    one.stopped = True
    assert one.assign(0) == []
    assert not one.finished
    for _ in range(2):
        one.loads["a"].release()
        one.finish("a")
    assert one.finished


def test_more_failures_than_can_be_worked_off_stop_new_work() -> None:
    """What waits for a retry is bounded, however many samples the plan has."""
    one = fleet({"a": 1}, 10_000)
    for number in range(11):
        one.again(WorkItem(request(number)), 0, 1000.0)
    assert one.assign(0) == []
    assert len(one.assign(1000.0)) == 1


def test_work_items_that_wait_for_the_same_moment_are_told_apart() -> None:
    """Two with equal times, the first not placeable: the second is handed out once, and the first still waits."""
    pair = fleet({"a": 1, "b": 1}, 2)
    pair.assign(0)
    pair.again(WorkItem(request(8), AttemptCounts(avoid=frozenset({"a"}))), 5.0, 0)
    pair.again(WorkItem(request(9)), 5.0, 0)
    pair.loads["a"].release()
    pair.finish("a")
    assert indices(pair.assign(6.0)) == [("a", 9)]
    pair.loads["b"].release()
    pair.finish("b")
    assert indices(pair.assign(6.0)) == [("b", 8)]


def test_a_slow_server_s_downloads_do_not_starve_the_others() -> None:
    """How much may be beyond its slot is counted for each server."""
    pair = fleet({"slow": 1, "fast": 1}, 100)
    fast = 0
    for _ in range(20):
        for name, _ in pair.assign(0):
            pair.loads[name].release()
            if name == "fast":
                fast += 1
                pair.finish(name)
    assert fast == 20


def test_what_every_server_refused_is_taken_out_only_after_the_absent_had_their_time() -> None:
    """A server that restarts was never asked."""
    pair = fleet({"a": 1, "b": 1}, 0)
    pair.again(WorkItem(request(0), AttemptCounts(refused_by=frozenset({"a"}))), 0, 0)
    pair.health.server_changed("b", up=False, now=100.0)
    assert pair.take_refused(110.0) == []
    assert pair.wake_at(110.0) == 130.0
    assert [item.request.samples[0].index for item in pair.take_refused(131.0)] == [0]
    assert pair.take_refused(132.0) == []


def ended(made: Fleet, name: str) -> None:
    made.loads[name].release()
    made.finish(name)


def raced(count: int, *, slow: float, depth: int = 1) -> Fleet:
    """A fast server, of a second an image, and a slow one, both known; so many requests, and that is all."""
    made = fleet({"fast": depth, "slow": depth}, count, images=count)
    for name, seconds in (("fast", 1.0), ("slow", slow)):
        made.loads[name].measured(seconds, 0.0)
    return made


def test_the_last_requests_go_where_they_are_done_first() -> None:
    """A server ten times as slow is not given the last image, nor a second one to hold; the fast one makes them all."""
    pair = raced(6, slow=10.0, depth=2)
    given = pair.assign(0)
    assert {name for name, _ in given} == {"fast"}, "six images take the fast one six seconds, and the slow one sixty"
    for _ in range(4):
        ended(pair, "fast")
        given += pair.assign(0)
    assert [name for name, _ in given] == ["fast"] * 6
    assert not pair.finished
    ended(pair, "fast")
    ended(pair, "fast")
    pair.assign(0)
    assert pair.finished


def test_a_slow_server_works_as_long_as_it_ends_with_the_others() -> None:
    """Of a hundred images it has its share; a server of which nothing is known yet is always given work."""
    trio = fleet({"fast": 1, "slow": 1, "new": 1}, 100, images=100)
    for _ in range(2):
        trio.loads["fast"].measured(1.0, 0.0)
        trio.loads["slow"].measured(10.0, 0.0)
    assert {name for name, _ in trio.assign(0)} == {"fast", "slow", "new"}


@pytest.mark.parametrize("seconds", [0.1, 0.03, 0.007, 1 / 3, 0.049])
def test_a_server_never_leaves_the_last_request_to_itself(seconds: float) -> None:
    """Alone, or beside one that is just as fast: whatever its time rounds to, all its slots are filled at once."""
    for names, depth in product((("a",), ("a", "b")), range(1, 9)):
        count = depth * len(names)
        made = fleet(dict.fromkeys(names, depth), count, images=count)
        for name in names:
            made.loads[name].measured(seconds, 0.0)
        assert len(made.assign(0)) == count


def test_a_slow_server_makes_the_rest_when_the_fast_one_goes_away() -> None:
    """Whoever would be the first to end a request is given it."""
    pair = raced(3, slow=100.0)
    assert [name for name, _ in pair.assign(0)] == ["fast"]
    pair.health.server_changed("fast", up=False, now=0.0)
    assert [name for name, _ in pair.assign(0)] == ["slow"]


def test_the_slow_server_makes_the_rest_when_the_fast_one_hangs() -> None:
    """It holds something and has had no image for three times as long as it needs: it is not waited for any longer."""
    pair = raced(3, slow=100.0)
    assert [name for name, _ in pair.assign(0.0)] == ["fast"]
    assert pair.assign(7.9) == []
    assert pair.wake_at(7.9) == 8.0
    assert [name for name, _ in pair.assign(8.0)] == ["slow"]


def test_a_resting_server_is_not_waited_for() -> None:
    """The fast one rests after a failure: the slow one goes on."""
    pair = raced(3, slow=100.0)
    pair.health.failed("fast", 0.0, at_least=60.0)
    assert [name for name, _ in pair.assign(0.0)] == ["slow"]


def test_quick_prompts_are_queued_deeper() -> None:
    """Where no depth is asked for: two, and more of prompts that are over before the next one could be there."""
    one = fleet({"a": None}, 100)
    assert len(one.assign(0)) == 2
    for seconds in (0.01, 0.01, 0.01):
        one.loads["a"].measured(seconds, 0.0)
    assert len(one.assign(0)) == 4
    for _ in range(5):
        one.loads["a"].measured(0.4, 0.0)
    for _ in range(5):
        ended(one, "a")
    assert len(one.assign(0)) == 1


def test_a_thousand_servers_are_filled_evenly() -> None:
    """Each has one before any has two."""
    many = fleet({f"s{number}": 2 for number in range(1000)}, 3000)
    given = [name for name, _ in many.assign(0)]
    assert len(set(given[:1000])) == 1000
    assert sorted(given[1000:]) == sorted(given[:1000])


def test_what_was_left_to_others_is_no_reason_to_wake_a_stopped_fleet() -> None:
    """The moment until which the fast one was waited for has passed: nothing is handed out, so nobody wakes for it."""
    pair = raced(3, slow=100.0)
    pair.assign(0.0)
    assert pair.wake_at(0.0) == 8.0
    pair.stopped = True
    pair.assign(9.0)
    assert pair.wake_at(9.0) == math.inf


def test_a_server_is_given_other_texts_than_those_it_refused() -> None:
    """The next prompt tells whether it was the text; what was refused comes last."""
    texts = ["bird", "bird", "bird", "cat", "cat"]
    made = (PromptRequest((replace(request(index).samples[0], positive=text),)) for index, text in enumerate(texts))
    one = fleet({"a": 1}, windows(made))
    given = []
    while pairs := one.assign(0):
        given += [index for _, index in indices(pairs)]
        if len(given) == 1:
            one.health.post_refused("a", "bird")
        ended(one, "a")
    assert given == [0, 3, 4, 1, 2]


def test_each_server_takes_the_checkpoint_that_nobody_has_loaded() -> None:
    """And keeps it: there is one switch where there could be a hundred."""
    pair = fleet({"a": 1, "b": 1}, windows((request(n, checkpoint="xy"[n % 2]) for n in range(100)), FAR))
    assert indices(pair.assign(0)) == [("a", 0), ("b", 1)]
    for _ in range(5):
        for name in ("a", "b"):
            ended(pair, name)
        assert [(name, index % 2) for name, index in indices(pair.assign(0))] == [("a", 0), ("b", 1)]


def test_what_all_servers_have_failed_goes_to_the_emptiest() -> None:
    """It must be tried somewhere."""
    trio = fleet({"a": 4, "b": 4, "c": 4}, 0)
    for name in ("a", "a", "b", "c", "c", "c"):
        trio.loads[name].give(request(0), 0.0)
    trio.again(WorkItem(request(9), AttemptCounts(avoid=frozenset({"a", "b", "c"}))), 0)
    assert indices(trio.assign(0)) == [("b", 9)]


# ---- prompts of an earlier run


def orphan_of(index: int) -> OrphanedPrompt:
    return OrphanedPrompt(f"id-{index}", f"id-{index}", index, 0, 0, index, 1, "recipe")


def test_a_prompt_that_a_server_works_on_already_is_handed_out_first() -> None:
    """It takes a place there, and counts beside what may be handed out; its slot is not handed out again."""
    two = fleet({"a": 2, "b": 2}, 4)
    assert two.adopt("a", request(2), orphan_of(2))
    assert not two.adopt("b", request(2), orphan_of(2))
    assert not two.finished
    given = two.assign(0, most=2)
    assert indices(given) == [("a", 2), ("b", 0), ("a", 1)]
    assert [item.orphan is not None for _, item in given] == [True, False, False]
    assert (two.active, two.loads["a"].in_flight) == (3, 2)
    assert indices(two.assign(0)) == [("b", 3)]


def test_an_adopted_prompt_is_the_end_of_the_work_for_its_images() -> None:
    """The last ones go where they are made first, and what is adopted is made already."""
    trio = fleet({"old": 27, "fast": 1, "slow": 1}, 30, images=30)
    for name, seconds in (("fast", 1.0), ("slow", 10.0)):
        trio.loads[name].measured(seconds, 0.0)
    for index in range(27):
        assert trio.adopt("old", request(index), orphan_of(index))
    given = [name for name, item in trio.assign(0) if item.orphan is None]
    assert given == ["fast"], "three images are left, and it has them before the slow one would have one"


def test_nothing_is_adopted_by_a_stopped_run() -> None:
    """Nobody would fetch it."""
    one = fleet({"a": 2}, 4)
    one.stopped = True
    assert not one.adopt("a", request(0), orphan_of(0))
    assert one.assign(0) == []


def test_what_is_on_a_server_is_fetched_though_the_run_is_held() -> None:
    """A full disk holds up new prompts; what runs already runs."""
    one = fleet({"a": 2}, 4)
    one.adopt("a", request(3), orphan_of(3))
    one.held = True
    assert indices(one.assign(0)) == [("a", 3)]
    one.held = False
    assert indices(one.assign(0)) == [("a", 0)]


# ---- suspects


SUSPECT = AttemptCounts(deaths=1)


def test_a_suspect_is_alone_on_its_server() -> None:
    """Nothing is handed to that server before its prompt has ended; the others go on."""
    pair = fleet({"a": 2, "b": 2}, 10)
    pair.again(WorkItem(request(9), SUSPECT), 0)
    assert indices(pair.assign(0)) == [("a", 9), ("b", 0), ("b", 1)]
    assert pair.assign(0) == []
    ended(pair, "a")
    assert indices(pair.assign(0)) == [("a", 2), ("a", 3)]


def test_a_server_is_kept_free_for_a_suspect() -> None:
    """It ends what it has and is given nothing else; then the suspect comes."""
    one = fleet({"a": 2}, 10)
    assert len(one.assign(0)) == 2
    one.again(WorkItem(request(9), SUSPECT), 0)
    for _ in range(2):
        assert one.assign(0) == []
        ended(one, "a")
    assert indices(one.assign(0)) == [("a", 9)]


def test_while_one_server_is_kept_free_the_others_are_given_work() -> None:
    """The emptier one is kept free: its prompts end first."""
    pair = fleet({"a": 2, "b": 2}, 10)
    assert len(pair.assign(0)) == 4
    ended(pair, "b")
    pair.again(WorkItem(request(9), SUSPECT), 0)
    ended(pair, "a")
    ended(pair, "a")
    assert indices(pair.assign(0)) == [("a", 9), ("b", 4)], "a holds nothing: nobody waits for b"


def test_images_of_a_suspect_that_are_made_are_no_danger() -> None:
    """They are only downloaded, beside anything else."""
    one = fleet({"a": 3}, 10)
    made = Completed("id", Success({}, None), 1.0)
    one.again(WorkItem(request(9), SUSPECT, at="a", made=made), 0)
    assert indices(one.assign(0)) == [("a", 9), ("a", 0), ("a", 1)]


# ---- limits


def test_no_more_is_handed_out_than_asked_for() -> None:
    """What waits comes first; the rest comes when it is asked for."""
    one = fleet({"a": 8}, 10)
    for number in (8, 9):
        one.again(WorkItem(request(number)), 0)
    assert indices(one.assign(0, most=1)) == [("a", 8)]
    assert indices(one.assign(0, most=2)) == [("a", 9), ("a", 0)]


def test_as_many_failures_as_can_be_worked_off_stop_no_new_work() -> None:
    """Twice what a server may have at a time: its depth, and four on their way here."""
    one = fleet({"a": 1}, 10_000)
    for number in range(10):
        one.again(WorkItem(request(number)), 0, 1000.0)
    assert indices(one.assign(0)) == [("a", 0)]


def test_the_emptiest_server_is_given_work_first() -> None:
    """By the part of its depth that is in use."""
    trio = fleet({"a": 2, "b": 4, "c": 2}, 20)
    for name in ("a", "a", "b", "c"):
        trio.loads[name].give(request(0), 0.0)
    trio.loads["a"].release()
    assert [name for name, _ in trio.assign(0)] == ["b", "a", "b", "c", "b"]


def test_images_that_are_handed_out_are_not_left_any_more() -> None:
    """Of thirty the slow server has its share at first, and leaves the last ones to the fast one."""
    pair = raced(30, slow=10.0)
    assert [name for name, _ in pair.assign(0)] == ["fast", "slow"]
    for _ in range(24):
        ended(pair, "fast")
        assert [name for name, _ in pair.assign(0)] == ["fast"]
    ended(pair, "slow")
    assert pair.assign(0) == []


def test_a_batch_that_does_not_fit_goes_to_the_next_server_that_it_fits() -> None:
    """Though it is not the emptiest; where it fits nowhere, somebody must take it and make it one by one."""
    pair = fleet({"small": 2, "large": 2}, windows([batch_of(4), batch_of(4, 4)]))
    pair.loads["small"].overflowed(4)
    assert indices(pair.assign(0)) == [("large", 0), ("large", 4)]
    alone = fleet({"small": 2}, windows([batch_of(4)]))
    alone.loads["small"].overflowed(4)
    assert indices(alone.assign(0)) == [("small", 0)]


def test_a_fleet_is_deserted_when_all_are_left_out_and_nothing_is_active() -> None:
    """Each alone is not enough."""
    pair = fleet({"a": 1, "b": 1}, 10)
    found = [pair.deserted]
    pair.health.servers["a"].left_out = True
    found.append(pair.deserted)
    pair.assign(0)
    pair.health.servers["b"].left_out = True
    found.append(pair.deserted)
    ended(pair, "b")
    assert [*found, pair.deserted] == [False, False, False, True]


def test_a_fleet_that_was_not_asked_yet_is_not_finished() -> None:
    """Nobody knows whether the plan has anything; nor while more is being looked for."""
    one = fleet({"a": 1}, 0)
    found = [one.finished]
    one.assign(0)
    found.append(one.finished)
    one.expects_more = True
    assert [*found, one.finished] == [False, True, False]
