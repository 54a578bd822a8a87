"""The one place that decides what a failure means for the sample: again, or no more.

By class and fields of the error, never by its text:

    ServerError           again, elsewhere first. Not the sample's fault: it has a generous count of its own,
                          but for HTTP 500, which some graphs cause for ever: that counts as an attempt; and but for
                          a post that is refused for good while looks are answered: three times, then as PromptRejected
    PromptLost,           again. Bounded by limits.lost: somebody may be deleting it on purpose. What was on board
    PromptInterrupted     when a server died is a suspect: it is tried alone from then on, so that the next death
                          has one culprit; a sample over which servers died twice is parked, not tried a third time
    ForbiddenWord         no more: it is never posted
    PromptRejected        elsewhere, once for each server that has not refused it; the same server, never
    ExecutionError        again up to limits.attempts, elsewhere first; what raised on a server on which every prompt
                          raises, while others make images, was no attempt
      out of memory       memory is freed and the same server tried once more; then a batch is made one by one;
                          then elsewhere; never on a server that lacked it twice. This ladder ends of itself, and
                          its rungs are no attempts
    MissingOutput,        again up to limits.attempts
    NotDownloaded,
    torn image
    BadImage              again up to limits.attempts, with the next take's seed
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reggen.errors import (
    BadImage,
    DuplicateImage,
    ExecutionError,
    ForbiddenWord,
    HttpStatusError,
    MissingOutput,
    NotDownloaded,
    PromptInterrupted,
    PromptLost,
    PromptRejected,
    SampleError,
    ServerError,
)
from reggen.job.models import Limits

_SERVER_ERRORS = 200  # tries of one sample that ended in a server's fault
_FOR_GOOD = 3  # posts of one sample that may be refused for good
_PAUSES = (0.5, 30.0)  # seconds: the first ceiling of the jitter and the highest


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """What was spent on a sample so far in this run."""

    posts: int = 0  # prompts posted or tried to post; names the next prompt id
    attempts: int = 0  # of these, failures that are the sample's own
    lost: int = 0
    deaths: int = 0  # servers that died with it on board
    fetches: int = 0  # rounds in which its pictures, made already, could not be had
    server_errors: int = 0
    for_good: int = 0
    raised: tuple[str, ...] = ()  # the servers on which a node raised, once for each time
    freed: frozenset[str] = frozenset()  # servers whose memory was freed for it
    refused_by: frozenset[str] = frozenset()  # servers that cannot make it: they refuse it, or lack the memory
    avoid: frozenset[str] = frozenset()  # servers to try only when there is no other

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be alone on its server."""
        return self.deaths > 0

    def counted(self) -> AttemptCounts:
        """With one more post."""
        return replace(self, posts=self.posts + 1)


@dataclass(frozen=True, slots=True)
class Again:
    """Try again: after a pause drawn from 0 to ``ceiling`` seconds, perhaps with the next take, or freed memory.

    The next take of a batch is its pictures one by one.
    """

    tries: AttemptCounts
    ceiling: float = 0.0
    next_take: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No more. ``next_take``: a later run should begin with another seed. ``remedy`` is a sentence for people."""

    reason: str
    next_take: bool = False
    remedy: str = ""


Verdict = Again | GiveUp


def decide(
    error: ServerError | SampleError,
    server: str,
    tries: AttemptCounts,
    limits: Limits,
    usable: frozenset[str],
    *,
    batch: int = 1,
    ailing: frozenset[str] = frozenset(),
    for_good: bool = False,
) -> Verdict:
    """What follows from ``error`` on ``server`` for the samples of one prompt, a ``batch`` of so many pictures.

    Given what was spent on them before, the servers usable now, and those of them on which every prompt raises.
    ``for_good``: just this post was refused, and will be again.
    """
    tries = replace(tries, avoid=tries.avoid | {server}, for_good=tries.for_good + for_good)
    verdict: Verdict
    if isinstance(error, ForbiddenWord):
        verdict = GiveUp(str(error))
    elif isinstance(error, PromptRejected) or (for_good and tries.for_good >= _FOR_GOOD):
        verdict = _elsewhere(error, server, tries, usable)
    elif isinstance(error, ExecutionError) and error.out_of_memory:
        verdict = _short_of_memory(error, server, tries, usable, batch)
    else:
        verdict = _anywhere(error, server, tries, limits, ailing)
    return replace(verdict, remedy=remedy(error)) if isinstance(verdict, GiveUp) else verdict


def _anywhere(
    error: ServerError | SampleError, server: str, tries: AttemptCounts, limits: Limits, ailing: frozenset[str]
) -> Verdict:
    match error:
        case HttpStatusError(status=500):
            pass
        case ServerError():
            tries = replace(tries, server_errors=tries.server_errors + 1)
            spent = tries.server_errors >= _SERVER_ERRORS
            return GiveUp(str(error)) if spent else Again(tries, pause(tries.server_errors))
        case PromptLost(died=True) if tries.deaths and (error.running or tries.is_suspect):
            return GiveUp(f"{server} died over it, as a server did before; it is not tried a third time")
        case PromptLost() | PromptInterrupted():
            tries = replace(tries, deaths=tries.deaths + (isinstance(error, PromptLost) and error.died))
            tries = replace(tries, lost=tries.lost + 1)
            return GiveUp(str(error)) if tries.lost >= limits.lost else Again(tries, pause(tries.lost))
    raised = (*tries.raised, server) if isinstance(error, ExecutionError) else tries.raised
    tries = replace(tries, attempts=tries.attempts + 1, raised=raised)
    next_take = isinstance(error, BadImage) and not error.torn
    attempts = tries.attempts - sum(one in ailing for one in raised)
    if attempts >= limits.attempts:
        return GiveUp(f"{error} ({_times(attempts)})", next_take)
    return Again(tries, 0.0 if next_take else pause(max(1, attempts)), next_take)


def _short_of_memory(
    error: ExecutionError, server: str, tries: AttemptCounts, usable: frozenset[str], batch: int
) -> Verdict:
    """Never the same thing unchanged for ever: freed, then smaller, then elsewhere."""
    if server not in tries.freed:
        again = replace(tries, freed=tries.freed | {server}, avoid=tries.avoid - {server})
        return Again(again, pause(1), free_memory=True)
    if batch > 1:
        return Again(replace(tries, freed=frozenset()), pause(1), next_take=True, free_memory=True)
    return _elsewhere(error, server, tries, usable)


def _elsewhere(error: ServerError | SampleError, server: str, tries: AttemptCounts, usable: frozenset[str]) -> Verdict:
    """On this server never again."""
    tries = replace(tries, refused_by=tries.refused_by | {server})
    return GiveUp(str(error)) if tries.refused_by >= usable | {server} else Again(tries)


def remedy(error: ServerError | SampleError) -> str:
    """What a person can do about it, as a sentence."""
    match error:
        case ExecutionError(out_of_memory=True):
            return "Make them smaller, lower sampling.batch, or start ComfyUI with --lowvram"
        case ExecutionError():
            return "Run the workflow once in ComfyUI itself; its console says more than the message here"
        case ForbiddenWord():
            return "Change the prompt, or what [guard] forbids"
        case PromptRejected():
            return "`check` says what the servers have and the job wants"
        case DuplicateImage():
            return "Vary the prompts, or look at both: [checks] likeness and duplicates decide what is too near"
        case BadImage(torn=False):
            return "Look at one in ComfyUI: half precision may paint black (--fp32-vae); [checks] turns a check off"
        case MissingOutput():
            return "Name the node that saves the images: [workflow.bindings] output"
        case NotDownloaded() | BadImage():
            return "Open the server's /view in a browser: something between it and here spoils the files"
        case PromptLost() | PromptInterrupted():
            return "Somebody or something takes prompts from the servers' queues, or they crash: see their consoles"
    return "See the console of that server"


def pause(times: int) -> float:
    """The ceiling of the pause after the ``times``-th failure, in seconds; drawn from with full jitter."""
    first, highest = _PAUSES
    return min(highest, first * 2.0 ** min(times - 1, 16))


def _times(count: int) -> str:
    return "tried once" if count == 1 else f"tried {count} times"
