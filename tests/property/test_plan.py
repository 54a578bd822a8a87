"""Properties of every plan: law 8 of the design, and requests that cover exactly what is missing."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reggen.job.dataset import MAX_COUNT
from reggen.job.models import Job
from reggen.job.sampling import SEED_LIMIT
from reggen.planning.plan import MAX_TAKES
from tests.preparing import plan_of

counts = st.integers(1, 200)
huge_counts = st.integers(1, MAX_COUNT - 1)
batches = st.integers(1, 64)
first_seeds = st.none() | st.integers(0, SEED_LIMIT - 1)


def a_job(count: int, batch: int = 1, seed: int | None = None, positive: Any = "a person") -> Job:
    return Job.model_validate(
        {
            "dataset": {"root": "reg", "class": "person", "count": count},
            "sampling": {"checkpoint": "base", "batch": batch, "seed": seed},
            "prompts": {"positive": positive},
        }
    )


@given(counts, batches, first_seeds, st.lists(st.sampled_from("abc"), min_size=1, max_size=5), st.data())
def test_the_same_job_gives_the_same_plan(count, batch, seed, prompts, data):
    """A sample comes from (job, slot, take) alone: not from the order, the machine or what was asked before."""
    one, other = (plan_of(a_job(count, batch, seed, prompts)) for _ in range(2))
    slots = st.tuples(st.integers(0, count - 1), st.integers(0, MAX_TAKES - 1))
    asked = data.draw(st.lists(slots, max_size=20))
    forwards = [one.sample(*slot) for slot in asked]
    backwards = [other.sample(*slot) for slot in reversed(asked)]
    assert forwards == backwards[::-1]


@given(huge_counts, batches, first_seeds, st.data())
def test_seeds_stay_below_two_to_the_53(count, batch, seed, data):
    """Every seed can be typed into ComfyUI's page, which reads it as a double."""
    index = data.draw(st.integers(0, count - 1))
    take = data.draw(st.integers(0, MAX_TAKES - 1))
    assert 0 <= plan_of(a_job(count, batch, seed)).sample(index, take).seed < SEED_LIMIT


@given(huge_counts, batches, first_seeds, st.data())
def test_no_two_pictures_share_a_seed_and_a_position(count, batch, seed, data):
    """Any two (slot, take) of one job differ in their seed, or within a batch by their position."""
    plan = plan_of(a_job(count, batch, seed))
    slots = st.tuples(st.integers(0, count - 1), st.integers(0, MAX_TAKES - 1))
    pair = data.draw(st.lists(slots, min_size=2, max_size=2, unique=True))
    one, other = (plan.sample(*slot) for slot in pair)
    assert (one.seed, one.position) != (other.seed, other.position)
    if one.seed == other.seed:
        assert one.take == other.take == 0
        assert one.index // batch == other.index // batch


@given(counts, first_seeds, st.integers(1, 4))
def test_seeds_of_a_whole_plan_are_unique(count, seed, takes):
    """Without batches, no seed comes twice in all slots and takes together."""
    plan = plan_of(a_job(count, seed=seed))
    seeds = [plan.sample(index, take).seed for index in range(count) for take in range(takes)]
    assert len(set(seeds)) == len(seeds)


@given(counts, counts, first_seeds)
def test_raising_the_count_leaves_the_earlier_slots_as_they_are(count, more, seed):
    """A job whose count is raised has the same seeds and prompts for the slots it had before."""
    before, after = plan_of(a_job(count, seed=seed)), plan_of(a_job(count + more, seed=seed))
    facts = [(one.seed, one.positive, one.negative, one.size) for one in before]
    assert facts == [(one.seed, one.positive, one.negative, one.size) for one in map(after.sample, range(count))]


@given(counts, batches, st.integers(1, 150), st.data())
def test_orders_cover_exactly_what_is_missing_each_slot_once(count, batch, window, data):
    """Whatever was done, rejected or batched, the windows together request every missing slot once, and no other."""
    plan = plan_of(a_job(count, batch))
    slots = st.integers(0, count + 5)
    skip = data.draw(st.sets(slots))
    takes = data.draw(st.dictionaries(slots, st.integers(0, 5)))
    step = plan.aligned(window)
    requests = [
        request for start in range(0, count, step) for request in plan.requests(start, start + step, takes, skip)
    ]
    requested = Counter(sample.index for request in requests for sample in request.samples)
    assert requested == Counter(index for index in range(count) if index not in skip)
    for request in requests:
        assert all(sample.take == takes.get(sample.index, 0) for sample in request.samples)
    assert len({request.key for request in requests}) == len(requests)


@given(counts, batches, st.data())
def test_an_order_is_one_prompt(count, batch, data):
    """The samples of a request share seed, prompt and batch, and each has a position of its own."""
    plan = plan_of(a_job(count, batch, positive=["a", "b", "c"]))
    skip = data.draw(st.sets(st.integers(0, count - 1)))
    takes = data.draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, 3)))
    for request in plan.requests(0, plan.aligned(count), takes, skip):
        shared = {(one.seed, one.positive, one.negative, one.size, one.batch) for one in request.samples}
        places = [one.position for one in request.samples]
        assert len(shared) == 1
        assert request.seed == request.samples[0].seed
        assert len(set(places)) == len(places)
        assert max(places) < request.batch <= batch


@given(counts, batches, st.integers(1, 150))
def test_windows_do_not_change_the_orders(count, batch, window):
    """Walking a plan in steps gives the same requests as walking it at once."""
    plan = plan_of(a_job(count, batch))
    step = plan.aligned(window)
    stepwise = [request for start in range(0, count, step) for request in plan.requests(start, start + step, {}, ())]
    assert stepwise == list(plan.requests(0, plan.aligned(count), {}, ()))
