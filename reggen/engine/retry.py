"""The one place that decides what a failure means for the sample: again, or no more.

By class and fields of the error, never by its text:

    ServerError           again, elsewhere first. Not the sample's fault: it has a generous count of its own,
                          but for HTTP 500, which some graphs cause for ever: that counts as an attempt
    Lost, Interrupted     again. Bounded by limits.lost: somebody may be deleting it on purpose; a sample over
                          which servers died twice is parked, and not tried a third time
    Rejected              elsewhere, once for each server that has not refused it; the same server, never
    Failed                again up to limits.attempts, elsewhere first
      out of memory       memory is freed and the same server tried once more; then a batch is made one by one;
                          then elsewhere
    NoOutput, torn image  again up to limits.attempts
    BadImage              again up to limits.attempts, with the next take's seed
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reggen.errors import BadImage, Failed, Interrupted, Lost, Refused, Rejected, SampleError, ServerError
from reggen.job import Limits

_SERVER_ERRORS = 200  # tries of one sample that ended in a server's fault
_PAUSES = (0.5, 30.0)  # seconds: the first ceiling of the jitter and the highest


@dataclass(frozen=True, slots=True)
class Tries:
    """What was spent on a sample so far in this run."""

    posts: int = 0  # prompts posted or tried to post; names the next prompt id
    attempts: int = 0  # of these, failures that are the sample's own
    lost: int = 0
    deaths: int = 0  # servers that died while they were at it
    memory: int = 0  # times a server ran out of memory
    server_errors: int = 0
    refused_by: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()  # servers to try only when there is no other

    def counted(self) -> Tries:
        """With one more post."""
        return replace(self, posts=self.posts + 1)


@dataclass(frozen=True, slots=True)
class Again:
    """Try again: after a pause drawn from 0 to ``ceiling`` seconds, perhaps with the next take, or freed memory.

    The next take of a batch is its pictures one by one.
    """

    tries: Tries
    ceiling: float = 0.0
    next_take: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No more. ``next_take``: a later run should begin with another seed."""

    reason: str
    next_take: bool = False


Verdict = Again | GiveUp


def decide(
    error: ServerError | SampleError,
    server: str,
    tries: Tries,
    limits: Limits,
    usable: frozenset[str],
    *,
    batch: int = 1,
) -> Verdict:
    """What follows from ``error`` on ``server`` for the samples of one prompt, a ``batch`` of so many pictures.

    Given what was spent on them before, and the servers usable now.
    """
    tries = replace(tries, avoid=tries.avoid | {server})
    match error:
        case Refused(status=500):
            pass
        case ServerError():
            tries = replace(tries, server_errors=tries.server_errors + 1)
            spent = tries.server_errors >= _SERVER_ERRORS
            return GiveUp(str(error)) if spent else Again(tries, pause(tries.server_errors))
        case Lost(running=True) if tries.deaths:
            return GiveUp(f"{server} died over it, as a server did before; it is not tried a third time")
        case Lost() | Interrupted():
            tries = replace(tries, deaths=tries.deaths + (isinstance(error, Lost) and error.running))
            tries = replace(tries, lost=tries.lost + 1)
            return GiveUp(str(error)) if tries.lost >= limits.lost else Again(tries, pause(tries.lost))
        case Rejected():
            tries = replace(tries, refused_by=tries.refused_by | {server})
            return GiveUp(str(error)) if tries.refused_by >= usable | {server} else Again(tries)
    tries = replace(tries, attempts=tries.attempts + 1)
    next_take = isinstance(error, BadImage) and not error.torn
    if tries.attempts >= limits.attempts:
        return GiveUp(f"{error} ({_times(tries.attempts)})", next_take)
    if isinstance(error, Failed) and error.out_of_memory:
        return _short_of_memory(server, tries, batch)
    return Again(tries, 0.0 if next_take else pause(tries.attempts), next_take)


def _short_of_memory(server: str, tries: Tries, batch: int) -> Again:
    """Never the same thing unchanged for ever: freed, then smaller, then elsewhere."""
    tries = replace(tries, memory=tries.memory + 1)
    if tries.memory == 1:
        tries = replace(tries, avoid=tries.avoid - {server})
    smaller = tries.memory > 1 and batch > 1
    return Again(tries, pause(tries.memory), next_take=smaller, free_memory=True)


def pause(times: int) -> float:
    """The ceiling of the pause after the ``times``-th failure, in seconds; drawn from with full jitter."""
    first, highest = _PAUSES
    return min(highest, first * 2.0 ** min(times - 1, 16))


def _times(count: int) -> str:
    return "tried once" if count == 1 else f"tried {count} times"
