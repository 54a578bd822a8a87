"""The plan: which sample belongs to which slot, and which prompt requests make them."""

import itertools
import tracemalloc
from typing import Any

import pytest

from reggen.job.dataset import MAX_COUNT
from reggen.job.models import Job, Prompts
from reggen.job.sampling import SEED_LIMIT
from reggen.planning.plan import MAX_TAKES, Plan, PromptRequest, Sample, first_seed
from reggen.planning.prompt_source import PromptSettings, PromptSource
from tests.preparing import plan_of


def a_plan(count: int = 10, **changes: Any) -> Plan:
    """A plan with seed 1000; ``changes`` go to the section that has the key."""
    document: dict[str, dict[str, Any]] = {
        "dataset": {"root": "reg", "class": "person", "count": count},
        "sampling": {"checkpoint": "base.safetensors", "seed": 1000},
        "prompts": {"positive": "a person"},
    }
    homes = {"prefix": "dataset", "class": "dataset", "positive": "prompts", "negative": "prompts"}
    for key, value in changes.items():
        document[homes.get(key, "sampling")][key] = value
    return plan_of(Job.model_validate(document))


def indices(requests: list[PromptRequest]) -> list[list[int]]:
    return [[sample.index for sample in request.samples] for request in requests]


def test_a_sample_says_everything_about_one_picture():
    """Slot, take, file name, prompts, seed, batch, position and size are all in the sample."""
    plan = a_plan(negative="blurry", width=640, height=768)
    assert plan[2] == Sample(2, 0, "reg_003", "a person", "blurry", 1002, 1, 0, (640, 768))
    assert plan[2].number == 3


def test_a_plan_is_a_sequence_that_can_be_walked_again():
    """A plan has a length, an index and an iterator, and every walk gives the same samples."""
    plan = a_plan(5)
    assert len(plan) == 5
    assert list(plan) == list(plan) == [plan[index] for index in range(5)]


@pytest.mark.parametrize(
    ("index", "take"),
    [(-1, 0), (10, 0), (0, -1), (0, MAX_TAKES)],
    ids=["before the first", "beyond the last", "take below 0", "take too high"],
)
def test_a_slot_or_take_that_does_not_exist_is_an_index_error(index: int, take: int):
    """There is no sample before the first slot, beyond the last, or beyond the last take."""
    with pytest.raises(IndexError):
        a_plan(10).sample(index, take)


def test_the_next_take_changes_the_seed_and_nothing_else():
    """A rejected picture is asked for again under the same name and prompt, with another seed."""
    first, second = a_plan().sample(4), a_plan().sample(4, 1)
    assert first.seed != second.seed
    assert (first.name, first.positive, first.size) == (second.name, second.positive, second.size)


@pytest.mark.parametrize(
    ("count", "index", "name"),
    [
        (1, 0, "reg_001"),
        (100, 99, "reg_100"),
        (999, 998, "reg_999"),
        (1000, 0, "reg_0001"),
        (1000, 999, "reg_1000"),
        (10_000_000, 0, "reg_00000001"),
    ],
)
def test_names_have_one_width_of_at_least_three_digits(count: int, index: int, name: str):
    """Names are numbered from 1 with one fixed width, because trainers sort them as text."""
    assert a_plan(count).name(index) == name


def test_the_prefix_is_the_jobs():
    """The file name begins with the job's own prefix."""
    assert a_plan(prefix="class image")[0].name == "class image_001"


def test_seeds_follow_the_jobs_seed_one_by_one():
    """The n-th image has seed + n - 1."""
    assert [sample.seed for sample in a_plan(4)] == [1000, 1001, 1002, 1003]


def test_without_a_seed_the_class_tokens_give_one():
    """A job without a seed has a stable one that belongs to its class tokens."""
    changes: list[dict[str, Any]] = [{"class": tokens, "seed": None} for tokens in ("person", "person", "dog")]
    assert [a_plan(**change)[0].seed for change in changes] == [950541959, 950541959, 3445839855]


@pytest.mark.parametrize(
    ("seed", "number", "first"), [(0, 0, 0), (5, 0, 5), (5, 2, 5 + (2 << 32)), (None, 2, 950541959)]
)
def test_each_class_has_seeds_of_its_own(seed: int | None, number: int, first: int):
    """A seed of 0 is a seed; classes that share one are 2**32 apart, those without one differ by their tokens."""
    assert first_seed(seed, "person", number) == first


def test_seeds_wrap_around_below_the_limit():
    """A seed just below 2**53 goes on at 0: never above what a double can hold."""
    assert [sample.seed for sample in a_plan(3, seed=SEED_LIMIT - 1)] == [SEED_LIMIT - 1, 0, 1]


def test_several_prompts_are_gone_through_in_turn():
    """Slot n has prompt n modulo the number of prompts."""
    assert [sample.positive for sample in a_plan(5, positive=["a", "b"])] == ["a", "b", "a", "b", "a"]


def test_a_batch_shares_one_prompt_and_one_seed():
    """All slots of a batch are made by one prompt under the seed of the first; positions tell them apart."""
    samples = list(a_plan(6, batch=4, positive=["a", "b"]))
    assert [(one.seed, one.batch, one.position, one.positive) for one in samples] == [
        (1000, 4, 0, "a"),
        (1000, 4, 1, "a"),
        (1000, 4, 2, "a"),
        (1000, 4, 3, "a"),
        (1004, 2, 0, "b"),
        (1004, 2, 1, "b"),
    ]


def test_a_later_take_leaves_its_batch():
    """A rejected picture of a batch is made alone: its siblings are good already."""
    again = a_plan(6, batch=4).sample(2, 1)
    assert (again.batch, again.position) == (1, 0)
    assert again.seed == 1000 + 2 + (1 << 40)


def test_a_prompt_or_size_the_job_leaves_out_is_left_to_the_workflow():
    """What the job does not say is None in the sample."""
    source = PromptSource(PromptSettings(prompts=Prompts(), class_tokens="c", seed=1))
    sample = Plan(source, 1, seed=1)[0]
    assert (sample.positive, sample.negative, sample.size) == (None, None, None)


def test_single_prompts_are_one_request_for_each_missing_slot():
    """Without batches every slot that is not done is one request."""
    requests = list(a_plan(5).requests(0, 5, {}, skip={1, 3}))
    assert indices(requests) == [[0], [2], [4]]
    assert [request.key for request in requests] == [(0, 0), (2, 0), (4, 0)]


def test_batches_are_requested_for_what_is_missing_of_each():
    """A batch that is done in part is made whole, and only its missing pictures are kept."""
    requests = list(a_plan(10, batch=4).requests(0, 12, {}, skip={0, 2}))
    assert indices(requests) == [[1, 3], [4, 5, 6, 7], [8, 9]]
    assert [(request.batch, request.seed) for request in requests] == [(4, 1000), (4, 1004), (2, 1008)]
    assert [sample.position for sample in requests[0].samples] == [1, 3]


def test_a_slot_in_a_later_take_is_a_request_of_its_own():
    """A refilled slot is never mixed into the batch it came from."""
    requests = list(a_plan(4, batch=4).requests(0, 4, {2: 3}, skip=()))
    assert indices(requests) == [[0, 1, 3], [2]]
    assert [request.key for request in requests] == [(0, 0), (2, 3)]
    assert requests[1].batch == 1


def test_a_finished_plan_has_no_requests():
    """When every slot is skipped, nothing is requested."""
    assert list(a_plan(10, batch=3).requests(0, 12, {}, skip=range(10))) == []


@pytest.mark.parametrize(
    ("batch", "size", "step"), [(1, 1024, 1024), (4, 1024, 1024), (3, 1024, 1026), (64, 1, 64), (7, 7, 7)]
)
def test_a_window_is_rounded_up_to_whole_batches(batch: int, size: int, step: int):
    """The step by which a plan is walked never cuts a batch in two."""
    assert a_plan(batch=batch).aligned(size) == step


def test_the_largest_plan_costs_nothing_until_it_is_walked():
    """A plan of ten million slots, or of a million millions, is a few objects; its first requests come at once."""
    for count in (10_000_000, MAX_COUNT - 1):
        plan = a_plan(count, batch=4)
        tracemalloc.start()
        try:
            requests = plan.requests(0, len(plan), {}, skip=())
            first = list(itertools.islice(requests, 3))
            last = plan[count - 1]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert indices(first) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert last.number == count
        assert peak < 64_000


def test_walking_a_long_plan_keeps_nothing():
    """Memory does not grow with the samples that were walked past."""
    plan = a_plan(10_000_000)
    walk = iter(plan)
    next(walk)
    tracemalloc.start()
    try:
        for _ in itertools.islice(walk, 5_000):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64_000
