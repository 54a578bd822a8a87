"""When a run ends before its plan: out of time, out of prompts, or nothing comes of them."""

from __future__ import annotations

import math

from reggen.job.models import Limits
from reggen.scheduler.retry import GiveUp
from reggen.scheduler.stop_rules import StopRules

BLACK = GiveUp("it is black", remedy="Look at one in ComfyUI")


def stop_rules(left: float | None = None, **limits: object) -> StopRules:
    return StopRules(Limits.model_validate(limits), None if left is None else lambda: left)


def test_many_given_up_in_a_row_end_the_run_with_the_reason_and_the_remedy() -> None:
    """Something is wrong with all of them."""
    one = stop_rules(give_ups_in_a_row=3)
    assert [one.gave_up(BLACK, 1) for _ in range(2)] == ["", ""]
    assert one.gave_up(BLACK, 1) == (
        "3 prompts in a row had to be given up, the last because it is black. Look at one in ComfyUI"
    )


def test_an_image_in_between_forgives() -> None:
    """A row is a row."""
    one = stop_rules(give_ups_in_a_row=2)
    for _ in range(9):
        assert one.gave_up(BLACK, 1) == ""
        one.made("a", 1.0)


def test_a_large_share_of_failures_ends_it_though_some_succeed() -> None:
    """Two of three black: nobody wants the night to go on like that."""
    one, said = stop_rules(give_up_share=0.5), ""
    for _ in range(50):
        one.made("a", 1.0)
    while not said:
        one.made("a", 1.0)
        said = one.gave_up(BLACK, 1) or one.gave_up(BLACK, 1)
    assert said.startswith("26 of the last 50 images were given up, the last because it is black")


def test_a_share_means_nothing_before_there_are_enough() -> None:
    """The first image of a night may fail."""
    one = stop_rules(give_up_share=0.1, give_ups_in_a_row=100)
    assert [one.gave_up(BLACK, 1) for _ in range(19)] == [""] * 19
    assert one.gave_up(BLACK, 1) != ""


def test_a_budget_of_prompts_is_counted_down() -> None:
    """Every post counts, whatever came of it."""
    one = stop_rules(prompts=2)
    one.posted()
    assert one.prompts_left == 1
    assert stop_rules().prompts_left == math.inf


def test_what_would_end_too_late_is_known_from_what_prompts_took() -> None:
    """The middle one of the last few: one that outlived an hour's outage says nothing about the next."""
    one = stop_rules(left=30.0)
    assert not one.is_late("a"), "nothing is known yet"
    for waited in (20.0, 3600.0, 21.0):
        one.made("a", waited)
    assert not one.is_late("a")
    for _ in range(5):
        one.made("a", 31.0)
    assert one.is_late("a")
    assert not one.is_late("b")


def test_wrong_sizes_from_the_first_image_on_end_the_run() -> None:
    """The workflow makes them so, and no seed helps; after one good image it is the seed's doing."""
    one = stop_rules()
    assert [one.wrong_size(1, "is 64 x 64") for _ in range(3)] == ["", "", "every image is 64 x 64"]
    assert stop_rules().wrong_size(3, "is 64 x 64") == "every image is 64 x 64"
    good = stop_rules()
    good.made("a", 1.0)
    assert good.wrong_size(9, "is 64 x 64") == ""


def test_only_the_last_five_prompts_tell_how_long_the_next_one_takes() -> None:
    """A server that has become fast is given work till shortly before the end."""
    one = stop_rules(left=30.0)
    for waited in (90.0, 90.0, 90.0, 10.0, 10.0):
        one.made("a", waited)
    late = [one.is_late("a")]
    one.made("a", 10.0)
    assert [*late, one.is_late("a")] == [True, False]
