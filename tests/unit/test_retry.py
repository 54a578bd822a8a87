"""What a failure means for a sample: again, or no more."""

from typing import Any

import pytest

from reggen.errors import (
    BadImage,
    ExecutionError,
    HttpStatusError,
    InvalidResponse,
    MissingOutput,
    NotDownloaded,
    PromptInterrupted,
    PromptLost,
    PromptRejected,
    SampleError,
    ServerError,
    Unreachable,
)
from reggen.job.models import Limits
from reggen.scheduler.retry import (
    PAUSES,
    Again,
    AttemptCounts,
    Circumstances,
    FetchAgain,
    GiveUp,
    MakeAgain,
    Verdict,
    decide,
    decide_download,
    decide_fetch,
)

LIMITS = Limits(attempts=3, lost=4)
BOTH = frozenset({"a", "b"})

SERVER_ERRORS = [
    Unreachable("a", "posting", "no answer"),
    HttpStatusError("a", "posting", 503, "busy"),
    InvalidResponse("a", "posting", "HTML"),
]
GONE = [PromptLost("a"), PromptInterrupted("a")]
NO_MEMORY = ExecutionError("a", "KSampler", "OutOfMemoryError", "no room", True)
OWN_FAULTS = [
    ExecutionError("a", "KSampler", "RuntimeError", "boom"),
    NotDownloaded("a", "HTTP 403"),
    MissingOutput("a", 1, 0),
    BadImage("reg_001", "is torn", True),
    BadImage("reg_001", "is black"),
]


def named(error: object) -> str:
    return type(error).__name__


def decided(
    error: ServerError | SampleError,
    server: str,
    tries: AttemptCounts,
    limits: Limits,
    usable: frozenset[str],
    **where: Any,
) -> Verdict:
    return decide(error, tries, limits, Circumstances(server, usable, **where))


def again(verdict: object) -> Again:
    assert isinstance(verdict, Again)
    return verdict


def times_tried(error: ServerError | SampleError, limits: Limits = LIMITS) -> int:
    """How often one sample is tried when every try ends with ``error``."""
    tries = AttemptCounts()
    for count in range(1, 1_000):
        verdict = decided(error, "a", tries, limits, BOTH)
        if isinstance(verdict, GiveUp):
            return count
        tries = verdict.tries
    raise AssertionError("it is tried for ever")


@pytest.mark.parametrize("error", [*SERVER_ERRORS, *GONE, *OWN_FAULTS, NO_MEMORY], ids=named)
def test_a_first_failure_is_tried_again_elsewhere_first(error: ServerError | SampleError):
    """After one failure of any kind but a refusal by all, the sample is tried again and the server avoided."""
    verdict = again(decided(error, "a", AttemptCounts(), LIMITS, BOTH))
    memory_first = isinstance(error, ExecutionError) and error.out_of_memory
    assert verdict.tries.avoid == (set() if memory_first else {"a"})


def test_out_of_memory_is_freed_then_made_smaller_then_taken_elsewhere():
    """Never the same thing unchanged for ever."""
    error = ExecutionError("a", "KSampler (node 3)", "torch.OutOfMemoryError", "CUDA out of memory", out_of_memory=True)
    once = LIMITS.model_copy(update={"attempts": 1})
    first = again(decided(error, "a", AttemptCounts(), once, BOTH, batch=4))
    assert (first.free_memory, first.next_take, sorted(first.tries.avoid)) == (True, False, [])
    second = again(decided(error, "a", first.tries, once, BOTH, batch=4))
    assert (second.free_memory, second.next_take, sorted(second.tries.avoid)) == (True, True, ["a"])
    third = again(decided(error, "a", second.tries, once, BOTH))
    assert (third.free_memory, third.next_take) == (True, False)
    fourth = again(decided(error, "a", third.tries, once, BOTH))
    assert sorted(fourth.tries.refused_by) == ["a"], "elsewhere, and never there again"
    fifth = again(decided(error, "b", fourth.tries, once, BOTH))
    last = decided(error, "b", fifth.tries, once, BOTH)
    assert isinstance(last, GiveUp)
    assert "ran out of memory" in last.reason
    assert "--lowvram" in last.remedy


def test_a_sample_over_which_servers_die_is_not_tried_a_third_time():
    """It vanished while it was running: the server died. Twice is no accident."""
    death = PromptLost("a", running=True)
    once = again(decided(death, "a", AttemptCounts(), LIMITS, BOTH))
    assert again(decided(PromptLost("b"), "b", once.tries, LIMITS, BOTH)).tries.deaths == 1, "deleted while it waited"
    twice = decided(death, "b", once.tries, LIMITS, BOTH)
    assert isinstance(twice, GiveUp)
    assert "not tried a third time" in twice.reason


def test_a_sample_that_was_lost_while_it_waited_is_no_suspect():
    """Somebody deleted it: it is not tried alone, and the next death is the first."""
    lost = again(decided(PromptLost("a"), "a", AttemptCounts(), LIMITS, BOTH)).tries
    assert not lost.is_suspect
    died = again(decided(PromptLost("b", died=True), "b", lost, LIMITS, BOTH)).tries
    assert died.is_suspect


@pytest.mark.parametrize("error", SERVER_ERRORS, ids=named)
def test_a_servers_fault_never_counts_against_the_sample(error: ServerError):
    """A server's fault has a generous count of its own and leaves the sample's attempts as they were."""
    before = AttemptCounts(attempts=LIMITS.attempts - 1, lost=LIMITS.lost - 1)
    tries = again(decided(error, "a", before, LIMITS, BOTH)).tries
    assert (tries.attempts, tries.lost, tries.server_errors) == (before.attempts, before.lost, 1)
    assert times_tried(error) == 200


@pytest.mark.parametrize("error", GONE, ids=named)
def test_a_vanished_prompt_is_bounded_by_its_own_limit(error: SampleError):
    """A prompt that vanishes or is interrupted is posted again up to limits.lost, whatever limits.attempts is."""
    assert times_tried(error) == 4
    assert times_tried(error, Limits(attempts=1, lost=1)) == 1


@pytest.mark.parametrize("error", OWN_FAULTS, ids=named)
@pytest.mark.parametrize("attempts", [1, 3, 7])
def test_a_samples_own_fault_is_tried_up_to_the_limit(error: SampleError, attempts: int):
    """A node that raises, a missing output, a torn or a bad image: limits.attempts tries, then no more."""
    assert times_tried(error, Limits(attempts=attempts)) == attempts


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        (1, "the image for reg_001 is black (tried once)"),
        (3, "the image for reg_001 is black (tried 3 times)"),
    ],
)
def test_the_reason_says_what_happened_and_how_often(attempts: int, reason: str):
    """A sample is given up with the last error's sentence and the number of tries."""
    tries = AttemptCounts(attempts=attempts - 1)
    verdict = decided(BadImage("reg_001", "is black"), "a", tries, Limits(attempts=attempts), BOTH)
    assert isinstance(verdict, GiveUp)
    assert (verdict.reason, verdict.next_take) == (reason, True)


@pytest.mark.parametrize(
    "error", [*SERVER_ERRORS, *GONE, *OWN_FAULTS, NO_MEMORY, PromptRejected("a", ("no",))], ids=named
)
def test_whatever_ends_a_sample_has_a_remedy(error: ServerError | SampleError):
    """A sentence with what a person can do about it."""
    tries = AttemptCounts(attempts=99, lost=99, server_errors=999, freed=BOTH, refused_by=BOTH)
    verdict = decided(error, "a", tries, LIMITS, BOTH)
    assert isinstance(verdict, GiveUp)
    assert len(verdict.remedy.split()) > 4


def test_a_refused_prompt_goes_once_to_each_other_server():
    """A refusal is deterministic on its server: the prompt goes elsewhere at once, and ends with the last refusal."""
    first = again(decided(PromptRejected("a", ("no",)), "a", AttemptCounts(), LIMITS, BOTH))
    assert first.tries.refused_by == {"a"}
    assert first.longest_pause == 0.0
    last = decided(PromptRejected("b", ("no",)), "b", first.tries, LIMITS, BOTH)
    assert isinstance(last, GiveUp)
    assert last.reason == "b refused the prompt: no"


def test_a_post_that_is_refused_for_good_is_tried_three_times():
    """It may be what is in front of a server that says no to its text: then that server is not asked again."""
    error, tries = HttpStatusError("a", "queueing a prompt", 403, "blocked"), AttemptCounts()
    for _ in range(2):
        tries = again(decided(error, "a", tries, LIMITS, frozenset({"a"}), is_permanent=True)).tries
    assert isinstance(decided(error, "a", tries, LIMITS, frozenset({"a"}), is_permanent=True), GiveUp)
    assert again(decided(error, "a", tries, LIMITS, BOTH, is_permanent=True)).tries.refused_by == {"a"}
    assert again(decided(error, "a", tries, LIMITS, frozenset({"a"}))).tries.refused_by == frozenset()


def test_a_prompt_refused_by_the_only_server_is_given_up():
    """Where there is no elsewhere, one refusal is enough."""
    assert isinstance(decided(PromptRejected("a", ("no",)), "a", AttemptCounts(), LIMITS, frozenset({"a"})), GiveUp)


def test_a_refusal_by_every_usable_server_is_enough():
    """The order of the refusals does not matter, and neither does what was spent on other failures."""
    tries = AttemptCounts(posts=3, attempts=1, refused_by=frozenset({"b", "gone"}))
    assert isinstance(decided(PromptRejected("a", ("no",)), "a", tries, LIMITS, frozenset({"a", "b"})), GiveUp)


@pytest.mark.parametrize("error", [*SERVER_ERRORS, *GONE, *OWN_FAULTS, NO_MEMORY], ids=named)
def test_only_a_bad_picture_asks_for_another_seed(error: ServerError | SampleError):
    """Black or flat pictures ask for the next take; anything else keeps its seed."""
    is_bad_picture = isinstance(error, BadImage) and not error.torn
    assert again(decided(error, "a", AttemptCounts(), LIMITS, BOTH)).next_take == is_bad_picture


@pytest.mark.parametrize("error", [*SERVER_ERRORS, *GONE, *OWN_FAULTS, NO_MEMORY], ids=named)
def test_only_out_of_memory_frees_memory_first(error: ServerError | SampleError):
    """Before the next try after out of memory the server's memory is freed; otherwise it is left alone."""
    out_of_memory = isinstance(error, ExecutionError) and error.out_of_memory
    assert again(decided(error, "a", AttemptCounts(), LIMITS, BOTH)).free_memory == out_of_memory


def test_given_up_after_bad_pictures_a_later_run_begins_with_another_seed():
    """The take that made bad pictures to the end is not asked for again by the next run."""
    spent = AttemptCounts(attempts=2)
    black = decided(BadImage("reg_001", "is black"), "a", spent, LIMITS, BOTH)
    torn = decided(BadImage("reg_001", "is torn", True), "a", spent, LIMITS, BOTH)
    assert isinstance(black, GiveUp)
    assert isinstance(torn, GiveUp)
    assert (black.next_take, torn.next_take) == (True, False)


def test_servers_that_failed_stay_on_the_list_to_avoid():
    """Each failure adds its server to those tried only when there is no other."""
    once = again(decided(PromptLost("a"), "a", AttemptCounts(), LIMITS, BOTH)).tries
    twice = again(decided(MissingOutput("b", 1, 0), "b", once, LIMITS, BOTH)).tries
    assert once.avoid == {"a"}
    assert twice.avoid == {"a", "b"}


def test_a_bad_picture_waits_for_nothing():
    """A new seed is no strain on a server: it is posted at once, while other failures pause."""
    assert again(decided(BadImage("x", "is black"), "a", AttemptCounts(), LIMITS, BOTH)).longest_pause == 0.0
    assert again(decided(MissingOutput("a", 1, 0), "a", AttemptCounts(), LIMITS, BOTH)).longest_pause == PAUSES.ceiling(
        1
    )


def test_the_decision_is_by_class_never_by_text():
    """An error whose text speaks of something else is judged by what it is."""
    error = ExecutionError("a", "KSampler", "RuntimeError", "CUDA out of memory, server restarted, connection refused")
    verdict = again(decided(error, "a", AttemptCounts(), LIMITS, BOTH))
    assert (verdict.free_memory, verdict.tries.attempts, verdict.tries.lost) == (False, 1, 0)


@pytest.mark.parametrize(
    ("times", "ceiling"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (50, 30.0), (10**9, 30.0)]
)
def test_pauses_double_up_to_half_a_minute(times: int, ceiling: float):
    """The ceiling of the jitter doubles with each failure and never passes thirty seconds."""
    assert PAUSES.ceiling(times) == ceiling


def test_each_post_is_counted():
    """Counting a post changes the number that names the next prompt, and nothing else."""
    before = AttemptCounts(posts=4, attempts=1, avoid=frozenset({"a"}))
    assert before.with_post() == AttemptCounts(posts=5, attempts=1, avoid=frozenset({"a"}))


def test_what_raises_where_everything_raises_is_not_counted():
    """Every prompt raises on a, and others make images: only the failure on b is the sample's own."""
    error, ailing = ExecutionError("a", "KSampler", "RuntimeError", "boom"), frozenset({"a"})
    tries = AttemptCounts()
    for _ in range(5):
        tries = again(decided(error, "a", tries, LIMITS, BOTH, ailing=ailing)).tries
    tries = again(decided(error, "b", tries, LIMITS, BOTH, ailing=ailing)).tries
    assert tries.raised == (*["a"] * 5, "b")
    tries = again(decided(error, "b", tries, LIMITS, BOTH, ailing=ailing)).tries
    given_up = decided(error, "b", tries, LIMITS, BOTH, ailing=ailing)
    assert isinstance(given_up, GiveUp)
    assert given_up.reason.endswith("(tried 3 times)")


# ---- images that a server has made already

MISSING = HttpStatusError("a", "downloading an image", 404, "")
GONE_PAGE = HttpStatusError("a", "downloading an image", 404, "<html>")


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (Unreachable("a", "downloading an image", "no answer"), 5),
        (HttpStatusError("a", "downloading an image", 500, "busy"), 5),
        (GONE_PAGE, 5),
        (MISSING, 2),
        (BadImage("reg_001", "is torn", True), 2),
        (BadImage("reg_001", "is black"), 1),
    ],
)
def test_an_image_is_downloaded_as_often_as_it_may_help(error: ServerError | BadImage, tries: int):
    """A whole image stays bad; a missing file is missing; anything else is the way here."""
    spent = next(number for number in range(1, 100) if not decide_download(error, number))
    assert spent == tries


def test_images_that_are_made_are_made_again_after_three_rounds():
    """Each round is a rest of the server; an absence is none. Then the count begins again."""
    first = decide_fetch(AttemptCounts(posts=1), was_up=True)
    away = decide_fetch(first.tries, was_up=False)
    second = decide_fetch(away.tries, was_up=True)
    third = decide_fetch(second.tries, was_up=True)
    assert [type(one) for one in (first, away, second, third)] == [FetchAgain, FetchAgain, FetchAgain, MakeAgain]
    assert [one.tries.fetches for one in (first, away, second, third)] == [1, 1, 2, 0]
    assert third.tries.posts == 1
