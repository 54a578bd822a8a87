"""What holds for every sequence of failures: it ends, and its counts only grow."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from reggen.errors import (
    BadImage,
    ExecutionError,
    HttpStatusError,
    InvalidResponse,
    MissingOutput,
    PromptInterrupted,
    PromptLost,
    PromptRejected,
    SampleError,
    ServerError,
    Unreachable,
)
from reggen.job.models import Limits
from reggen.scheduler.retry import Again, AttemptCounts, Circumstances, GiveUp, Verdict, decide

SERVERS = ("a", "b", "c")

limits = st.builds(Limits, attempts=st.integers(1, 12), lost=st.integers(1, 12))
usable = st.frozensets(st.sampled_from(SERVERS))
kinds = st.sampled_from(
    (
        lambda server: Unreachable(server, "posting", "no answer", True),
        lambda server: HttpStatusError(server, "posting", 500, "sorry", 3.0),
        lambda server: InvalidResponse(server, "posting", "HTML"),
        PromptLost,
        PromptInterrupted,
        lambda server: PromptRejected(server, ("no",)),
        lambda server: ExecutionError(server, "KSampler", "RuntimeError", "boom"),
        lambda server: ExecutionError(server, "KSampler", "OutOfMemoryError", "no room", True),
        lambda server: MissingOutput(server, 2, 1),
        lambda _: BadImage("reg_001", "is torn", True),
        lambda _: BadImage("reg_001", "is black"),
    )
)
errors = st.builds(lambda kind, server: (kind(server), server), kinds, st.sampled_from(SERVERS))


def decided(
    error: ServerError | SampleError, server: str, tries: AttemptCounts, limit: Limits, servers: frozenset[str]
) -> Verdict:
    return decide(error, tries, limit, Circumstances(server, servers))


def _lacks_memory(error: ServerError | SampleError) -> bool:
    return isinstance(error, ExecutionError) and error.out_of_memory


def most_tries(limit: Limits) -> int:
    """The count no sample can pass: each kind of failure just short of its end, and the one that ends it."""
    return 199 + (limit.lost - 1) + (limit.attempts - 1) + 2 * len(SERVERS) + 1


def played(
    failures: Iterable[tuple[ServerError | SampleError, str]], limit: Limits, up: Iterable[frozenset[str]]
) -> tuple[int, bool]:
    """How many tries were spent, and whether the sample was given up."""
    tries, count = AttemptCounts(), 0
    for (error, server), servers in zip(failures, up, strict=False):
        if server in tries.refused_by:
            continue  # nobody posts to a server that refused the very same prompt, or has no memory for it
        count += 1
        verdict = decided(error, server, tries, limit, servers)
        if isinstance(verdict, GiveUp):
            return count, True
        tries = verdict.tries
    return count, False


@given(st.data(), limits)
def test_every_sequence_of_failures_ends(data, limit):
    """Whatever fails, wherever, with whichever servers up, a sample is given up after a bounded number of tries."""
    most = most_tries(limit)
    cycle = data.draw(st.lists(st.tuples(errors, usable), min_size=1, max_size=30))
    endless = cycle * (most + 1)
    count, given_up = played((one for one, _ in endless), limit, (up for _, up in endless))
    refusing = {server for (error, server), _ in cycle if isinstance(error, PromptRejected) or _lacks_memory(error)}
    assert count <= most
    assert given_up or {server for (_, server), _ in cycle} <= refusing


@given(errors, limits, usable, st.tuples(*[st.integers(0, 60)] * 3))
def test_a_try_is_never_forgotten(failure, limit, up, counts):
    """Each failure adds one to exactly one count, and to the servers that failed; nothing is ever taken back."""
    attempts, lost, server_errors = counts
    before = AttemptCounts(attempts=attempts, lost=lost, server_errors=server_errors)
    error, server = failure
    verdict = decided(error, server, before, limit, up)
    if isinstance(verdict, Again):
        after = verdict.tries
        spent = (
            (after.attempts - attempts)
            + (after.lost - lost)
            + (after.server_errors - server_errors)
            + len(after.refused_by)
            + len(after.freed)
        )
        assert spent == 1
        assert after.avoid == (set() if _lacks_memory(error) else {server})


@given(errors, limits, usable, st.integers(0, 10**9))
def test_a_pause_is_never_long(failure, limit, up, spent):
    """However often something failed, the next pause is at most half a minute."""
    error, server = failure
    tries = AttemptCounts(attempts=0, lost=0, server_errors=min(spent, 48))
    verdict = decided(error, server, tries, limit, up)
    assert isinstance(verdict, GiveUp) or 0.0 <= verdict.longest_pause <= 30.0


@given(errors, limits, usable)
def test_a_sample_given_up_has_a_reason(failure, limit, up):
    """Nobody finds an empty slot without a sentence that says why."""
    error, server = failure
    verdict = decided(error, server, AttemptCounts(attempts=99, lost=999, server_errors=99), limit, up)
    if isinstance(verdict, GiveUp):
        assert verdict.reason.startswith(str(error))
