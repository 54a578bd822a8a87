"""The fold over the events of a run: counts, rate, time left, and a view of each server."""

import pytest

from reggen.progress import (
    ImageSaved,
    Progress,
    PromptLeft,
    PromptPosted,
    RunEvent,
    RunPaused,
    RunStarted,
    RunStopping,
    ServerChanged,
    ServersAwaited,
    ServerView,
    SlotGivenUp,
    Trouble,
)

BEGAN = RunStarted(at=100.0, total=10, done=3, servers=("a", "b"))


def after(*events: RunEvent) -> Progress:
    """The state that the events lead to, after the run began."""
    state = Progress()
    for event in (BEGAN, *events):
        state.apply(event)
    return state


def commits(*times: float, server: str = "a") -> list[RunEvent]:
    return [ImageSaved(at, server, f"reg_{number:03d}", 1.0) for number, at in enumerate(times)]


def test_before_a_run_begins_everything_is_zero():
    """An empty state has no images, no rate and no time left."""
    state = Progress()
    assert (state.total, state.done, state.missing) == (0, 0, 0)
    assert (state.rate(5.0), state.eta(5.0)) == (None, None)


def test_a_run_begins_with_the_images_already_present():
    """Slots filled before count as done; every server is connecting."""
    state = after()
    assert (state.total, state.done, state.made, state.missing, state.began) == (10, 3, 0, 7, 100.0)
    assert state.servers == {"a": ServerView(up=False, why="connecting"), "b": ServerView(up=False, why="connecting")}


def test_only_a_saved_image_is_done():
    """A prompt that was posted, left or failed does not make its slots done."""
    state = after(PromptPosted(101, "a", ("reg_004",)), PromptLeft(102, "a", ("reg_004",)), Trouble(102, "a", "oh"))
    assert state.done == 3
    state.apply(ImageSaved(103, "a", "reg_004", 1.5))
    assert (state.done, state.made, state.missing) == (4, 1, 6)


def test_a_saved_image_counts_for_its_server():
    """Images and busy seconds add up for the server that made them; an unknown time counts as none."""
    state = after(ImageSaved(101, "a", "x", 1.5), ImageSaved(102, "a", "y", None), ImageSaved(103, "b", "z", 2.0))
    assert [(view.made, view.busy) for view in state.servers.values()] == [(2, 1.5), (1, 2.0)]


def test_a_server_holds_what_was_posted_until_it_leaves():
    """The names a server holds stand in posting order, the running one first."""
    state = after(PromptPosted(101, "a", ("1", "2")), PromptPosted(102, "a", ("3",)), PromptPosted(102, "b", ("4",)))
    assert (state.servers["a"].holds, state.servers["b"].holds) == (["1", "2", "3"], ["4"])
    state.apply(PromptLeft(103, "a", ("1", "2")))
    assert (state.servers["a"].holds, state.servers["b"].holds) == (["3"], ["4"])


def test_switches_of_checkpoint_are_counted():
    """For each server; the first one it loads is none, nor is a prompt that names none in a job of one checkpoint."""
    names = ["x", "x", "y", "x", "x"]
    state = after(*(PromptPosted(101, "a", (str(number),), name) for number, name in enumerate(names)))
    state.apply(PromptPosted(102, "b", ("9",), "y"))
    assert (state.servers["a"].switches, state.servers["b"].switches) == (2, 0)


def test_leaving_twice_changes_nothing():
    """The second event for a prompt that has left is ignored."""
    assert (
        after(PromptPosted(101, "a", ("1",)), PromptLeft(102, "a", ("1",)), PromptLeft(103, "a", ("1",)))
        .servers["a"]
        .holds
        == []
    )


def test_a_server_comes_and_goes():
    """A server's view follows its changes; only those with a reason are problems."""
    state = after(ServerChanged(101, "a", True, ""))
    assert (state.servers["a"].up, state.servers["a"].why, list(state.problems)) == (True, "", [])
    state.apply(ServerChanged(102, "a", False, "no answer"))
    assert (state.servers["a"].up, state.servers["a"].why) == (False, "no answer")
    assert list(state.problems) == [(102, "a: no answer")]


def test_a_server_that_stays_away_is_one_problem():
    """A server that is still away is not a new problem each time."""
    state = after(*(ServerChanged(at, "b", False, "no answer") for at in (101, 102, 103)))
    assert (list(state.problems), state.servers["b"].why) == ([], "no answer")


def test_trouble_counts_against_the_server_it_names():
    """A problem is kept as text, and is a failure of the server that caused it, if one did."""
    state = after(Trouble(101, "a", "boom"), Trouble(102, "", "nobody's fault"), Trouble(103, "stranger", "who?"))
    assert [view.failures for view in state.servers.values()] == [1, 0]
    assert [text for _, text in state.problems] == ["boom", "nobody's fault", "who?"]


def test_a_slot_that_is_given_up_is_missing_with_its_reason():
    """It stays missing, and the reason is a problem too."""
    state = after(SlotGivenUp(101, "reg_005", "it is black"))
    assert (state.given_up, state.missing) == ({"reg_005": "it is black"}, 7)
    assert list(state.problems) == [(101, "reg_005 is given up: it is black")]


def test_only_the_last_few_problems_are_kept():
    """The last five problems are kept."""
    state = after(*(Trouble(100 + n, "a", f"t{n}") for n in range(1000)))
    assert [text for _, text in state.problems] == ["t995", "t996", "t997", "t998", "t999"]


def test_stopping_keeps_its_reason():
    """The state has the reason why no more prompts are posted."""
    assert after(RunStopping(101, "you asked to stop")).stopping == "you asked to stop"


@pytest.mark.parametrize(
    ("times", "now", "rate"),
    [
        ((), 200, None),
        ((101.0,), 200, None),
        ((101.0, 103.0), 103, 0.5),
        ((101.0, 103.0, 105.0), 105, 0.5),
        ((101.0, 103.0, 105.0), 107, 0.5),
        ((101.0, 103.0), 109, 1 / 6),
    ],
    ids=["no image", "one image", "two", "three", "the next one is not late yet", "the next one is late"],
)
def test_the_rate_comes_from_the_recent_images(times: tuple[float, ...], now: float, rate: float | None):
    """Images per second over the recent prompts, falling when the next one is overdue."""
    assert after(*commits(*times)).rate(now) == (rate and pytest.approx(rate))


def test_the_rate_forgets_a_slow_beginning():
    """Only the last 32 prompts count."""
    slow = [100.0 + 60 * n for n in range(10)]
    fast = [700.0 + n for n in range(32)]
    assert after(*commits(*slow, *fast)).rate(fast[-1]) == pytest.approx(1.0)


def test_the_time_left_is_the_missing_images_over_the_rate():
    """Slots that are given up do not count."""
    state = after(*commits(101, 103, 105))
    assert state.eta(105) == pytest.approx(4 / 0.5)
    state.apply(SlotGivenUp(106, "reg_009", "no"))
    assert state.eta(106) == pytest.approx(3 / 0.5)


def test_nothing_left_has_no_time_left():
    """When every slot is filled or given up there is no time left."""
    state = after(*commits(*range(101, 108)))
    assert (state.missing, state.eta(108)) == (0, None)


def test_a_batch_is_one_step_of_the_rate():
    """Its images arrive together: the rate is that of the batches, not of the downloads within one."""
    state = Progress()
    state.apply(RunStarted(0.0, 10_000, 0, ("a",)))
    for batch in (1, 2, 3):
        for image in range(64):
            state.apply(ImageSaved(60.0 * batch + 0.01 * image, "a", f"{batch}/{image}", 0.9, f"prompt {batch}"))
    rate = state.rate(180.64)
    assert rate is not None
    assert rate < 2 * 64 / 60


def test_interleaved_batches_are_one_step_each():
    """Images of two servers' prompts arrive in turns: each prompt is still one step of the rate."""
    state = Progress()
    state.apply(RunStarted(0.0, 10_000, 0, ("a", "b")))
    for batch in (1, 2, 3):
        for image in range(32):
            for server in ("a", "b"):
                at = 60.0 * batch + 0.01 * image
                state.apply(ImageSaved(at, server, f"{batch}{server}{image}", 0.9, f"{batch}{server}"))
    rate = state.rate(180.32)
    assert rate is not None
    assert rate < 2 * 64 / 60


def test_two_images_at_once_give_no_huge_rate():
    """Images that fall into one tick of the clock give no rate rather than a million a second."""
    rate = after(*commits(101.0, 101.0)).rate(101.0)
    assert rate is None or rate < 1000


@pytest.mark.parametrize("ended", [ServersAwaited(4000, ""), RunPaused(4000, "")])
def test_the_rate_starts_again_after_a_pause(ended: ServersAwaited | RunPaused):
    """An hour without a server, or without room, does not lower the rate."""
    state = after(*commits(101, 103, 105), ended)
    assert state.rate(4000) is None
    for event in (ImageSaved(4002, "a", "reg_004", 1.0), ImageSaved(4004, "a", "reg_005", 1.0)):
        state.apply(event)
    assert state.rate(4004) == pytest.approx(0.5)


def test_a_run_that_begins_again_forgets_the_run_before() -> None:
    """On a new ledger after a damaged one: what was made counts as present, and nothing is given up."""
    state = after(*commits(101, 103), SlotGivenUp(104, "reg_009", "no"), RunStopping(105, "ledger"))
    state.apply(RunStarted(200, 10, 5, ("a",)))
    assert (state.before, state.made, state.given_up, state.stopping, state.rate(200)) == (5, 0, {}, "", None)


def test_the_time_left_includes_later_images():
    """Images of the classes that follow count at the rate of this one."""
    state = after(*commits(101, 103, 105))
    assert state.eta(105, later=6) == pytest.approx(10 / 0.5)
