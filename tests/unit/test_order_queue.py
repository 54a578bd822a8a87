"""The next orders of the plan, laid out by what a server can keep from one to the next. No clock, no chance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reggen.planning.plan import PromptRequest
from reggen.scheduler.order_queue import FAR, NEAR, OrderQueue, RequestKind
from tests.scheduling import batch_of, request, windows


def taken(queue: OrderQueue, last: RequestKind | None = None) -> Iterator[int]:
    """One server takes everything."""
    while one := queue.take(last):
        last = RequestKind.of(one)
        yield one.samples[0].index


def test_without_differences_orders_are_taken_as_they_come() -> None:
    """Slot after slot, and then it is empty."""
    queue = OrderQueue(windows(request(index) for index in range(200)))
    empty = [queue.empty]
    assert list(taken(queue)) == list(range(200))
    assert [*empty, queue.empty] == [False, True], "before it was asked for anything, nobody knows"


def test_a_server_keeps_its_checkpoint() -> None:
    """Two checkpoints in turn through a thousand images are one switch, not a thousand."""
    names = ["a", "b"]
    queue = OrderQueue(windows((request(index, checkpoint=names[index % 2]) for index in range(1000)), FAR))
    made = list(taken(queue))
    switches = sum((one - other) % 2 for one, other in pairwise(made))
    assert switches == 1
    assert sorted(made) == list(range(1000))


def test_servers_share_the_checkpoints() -> None:
    """A second server takes the checkpoint that nobody has loaded."""
    queue = OrderQueue(windows((request(index, checkpoint="ab"[index % 2]) for index in range(100)), FAR))
    first = queue.take(None)
    assert first is not None
    loaded = RequestKind.of(first).checkpoint
    second = queue.take(None, lambda checkpoint: int(checkpoint == loaded))
    assert second is not None
    assert RequestKind.of(second).checkpoint != loaded


def test_the_same_prompt_comes_next_within_a_few_dozen() -> None:
    """Three prompts in turn: each is encoded once for a block, and no block waits for another."""
    queue = OrderQueue(windows(request(index, "abc"[index % 3]) for index in range(2 * NEAR)))
    made = list(taken(queue))
    assert made[: len(range(0, NEAR, 3))] == list(range(0, NEAR, 3))
    assert sorted(made[:NEAR]) == list(range(NEAR))


def test_what_was_claimed_is_not_taken() -> None:
    """Whether it lies here or comes later; what was taken cannot be claimed any more, nor anything twice."""
    queue = OrderQueue(windows(request(index) for index in range(NEAR + 10)))
    assert queue.claim({3})
    first = queue.take(None)
    assert first is not None
    assert not queue.claim({first.samples[0].index})
    assert not queue.claim({3})
    assert queue.claim({5})
    assert queue.claim({NEAR + 1})
    assert list(taken(queue)) == [index for index in range(1, NEAR + 10) if index not in {3, 5, NEAR + 1}]


def test_the_slot_that_was_walked_last_was_taken_too() -> None:
    """Claimed by an earlier run's prompt it would be paid for twice; the one after it is still to come."""
    queue = OrderQueue(windows(request(index) for index in range(2 * NEAR)))
    for _ in range(NEAR):
        queue.take(None)
    assert not queue.claim({NEAR - 1})
    assert queue.claim({NEAR})
    assert NEAR not in set(taken(queue))


def test_a_batch_loses_only_the_samples_that_were_claimed() -> None:
    """The rest of it is still to be made."""
    queue = OrderQueue(windows([batch_of(4)]))
    assert queue.claim({1, 2})
    left = queue.take(None)
    assert left is not None
    assert [sample.index for sample in left.samples] == [0, 3]


def test_a_text_that_is_shunned_is_taken_only_where_there_is_no_other() -> None:
    """Though it is the nearest; the orders of one text stay in their order."""
    queue = OrderQueue(windows(request(index, "abb"[index % 3]) for index in range(6)))
    last = RequestKind.of(request(0, "a"))
    taken_ones = [queue.take(last, shun=["a"]) for _ in range(6)]
    assert [one.samples[0].index for one in taken_ones if one] == [1, 2, 4, 5, 0, 3]
    assert queue.take(last, shun=["a"]) is None


def test_a_checkpoint_is_kept_though_all_its_texts_are_shunned() -> None:
    """Loading another costs more than one post that may be refused."""
    queue = OrderQueue(
        windows((request(index, "ab"[index % 2], checkpoint="ab"[index % 2]) for index in range(4)), FAR)
    )
    one = queue.take(RequestKind.of(request(0, "a", checkpoint="a")), shun=["a"])
    assert one is not None
    assert one.samples[0].index == 0


def test_a_window_that_is_still_being_read_is_waited_for() -> None:
    """Nothing is taken meanwhile, and nothing is over; then it goes on where it was."""
    coming: list[list[PromptRequest] | None] = [None, [request(0)], None, []]
    queue = OrderQueue(lambda: coming.pop(0))
    assert (queue.take(None), queue.empty) == (None, False)
    first = queue.take(None)
    assert first is not None
    assert (queue.take(None), queue.empty) == (None, False)
    assert (queue.take(None), queue.empty) == (None, True)


def test_a_shunned_text_waits_for_the_window_that_is_being_read() -> None:
    """There may be another text in it; where there is none, it is taken after all."""
    coming: list[list[PromptRequest] | None] = [[request(0, "a"), request(1, "a")], None, [request(2, "b")], []]
    queue = OrderQueue(lambda: coming.pop(0) if coming else [])
    assert queue.take(None, shun=["a"]) is None
    taken_ones = [queue.take(None, shun=["a"]) for _ in range(3)]
    assert [one.samples[0].index for one in taken_ones if one] == [2, 0, 1]


def test_what_was_claimed_keeps_nothing_else_back() -> None:
    """A whole request that was claimed is passed over, and the next one is taken in the same breath."""
    queue = OrderQueue(windows(map(request, range(3))))
    assert queue.claim({0, 1})
    one = queue.take(None)
    assert one is not None
    assert one.samples[0].index == 2


def test_a_claim_is_all_or_nothing() -> None:
    """Where one slot of a batch is taken, the others stay free."""
    queue = OrderQueue(windows(map(request, range(3)), 1))
    assert queue.take(None) is not None
    assert not queue.claim({0, 1})
    assert queue.claim({1})


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=60),
    st.integers(1, 20),
    st.lists(st.integers(0, 3), min_size=1),
)
def test_everything_is_taken_once_whoever_takes_it(kinds: list[tuple[str, str]], window: int, turns: list[int]) -> None:
    """Some servers in any turn, windows of any length."""
    queue = OrderQueue(windows((request(index, *kind) for index, kind in enumerate(kinds)), window))
    last: dict[int, RequestKind] = {}
    made = []
    for step in range(len(kinds)):
        server = turns[step % len(turns)]
        one = queue.take(last.get(server))
        assert one is not None
        last[server] = RequestKind.of(one)
        made.append(one.samples[0].index)
    assert queue.take(None) is None
    assert queue.empty
    assert sorted(made) == list(range(len(kinds)))
