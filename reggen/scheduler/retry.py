"""Decisions on failures: samples are tried again, downloaded again, or given up. Pure.

Decided by class and fields of the error, never by its text:

    ServerError           again, elsewhere first. Not the samples' fault, so it has a generous count of its own; but
                          HTTP 500, which some graphs always cause, counts as an attempt, and a post that is refused
                          for good while polls are answered is treated as PromptRejected after three times
    PromptLost,           again, up to limits.lost: somebody may be deleting it on purpose. Samples that a server held
    PromptInterrupted     when it died are suspects: they are tried alone from then on, so that the next death has one
                          culprit; samples over which servers died twice are given up
    ForbiddenWord         given up: it is never posted
    PromptRejected        elsewhere, once for each server that has not rejected it; on the same server never
    ExecutionError        again up to limits.attempts, elsewhere first; a failure on a server on which every prompt
                          raises, while others make images, is not counted
      out of memory       memory is freed and the same server tried once more; then a batch is made one by one; then
                          elsewhere, never on a server that lacked it twice. This sequence ends by itself, and its
                          steps are not counted as attempts
    MissingOutput,        again up to limits.attempts
    NotDownloaded,
    torn image
    BadImage              again up to limits.attempts, with the next take's seed

Images that a server has made are downloaded again before they are made again (`decide_download`, `decide_fetch`). What
a failure means for its server is decided by the circuit breaker and `health`; whether a post has arrived is not decided
at all but found out by the session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reggen.backoff import Backoff
from reggen.comfy.refusals import is_missing
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
from reggen.wording import plural

PAUSES = Backoff(0.5, 30.0)
"""Pauses between the tries of one sample."""
_SERVER_ERRORS = 200  # tries of one sample that may end in a server's fault
_PERMANENT = 3  # posts of one sample that may be refused for good
_DOWNLOADS = 5  # tries to download one image in a row
_FETCHES = 3  # rounds of downloads, with a rest of the server between them, before an image is made again


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """Counts of what was spent on a sample in this run so far."""

    posts: int = 0  # prompts posted or tried to post; names the next prompt id
    attempts: int = 0  # failures that may be the sample's own
    lost: int = 0
    deaths: int = 0  # servers that died while they held it
    fetches: int = 0  # rounds in which its images, already made, could not be downloaded
    server_errors: int = 0
    permanent: int = 0  # posts that were refused for good
    raised: tuple[str, ...] = ()  # the servers on which a node raised, once for each time
    freed: frozenset[str] = frozenset()  # servers whose memory was freed for it
    refused_by: frozenset[str] = frozenset()  # servers that cannot make it: they reject it, or lack the memory
    avoid: frozenset[str] = frozenset()  # servers to try only when there is no other

    @property
    def is_suspect(self) -> bool:
        """True when it may have killed a server: it is tried alone."""
        return self.deaths > 0

    def with_post(self) -> AttemptCounts:
        """The counts after one more post."""
        return replace(self, posts=self.posts + 1)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where a prompt failed, and the state of the fleet at that time.

    ``usable`` servers are those that could take it next, on ``ailing`` ones every prompt raises. ``batch`` is the
    number of images of the prompt; ``is_permanent``: just this post was refused, and would be again.
    """

    server: str
    usable: frozenset[str]
    ailing: frozenset[str] = frozenset()
    batch: int = 1
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Try again: after a pause of up to ``longest_pause`` seconds, perhaps with the next take, or with freed memory.

    The next take of a batch is its images one by one.
    """

    tries: AttemptCounts
    longest_pause: float = 0.0
    next_take: bool = False
    free_memory: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Try no more in this run. ``next_take``: a later run begins with another seed. ``remedy`` is a sentence."""

    reason: str
    next_take: bool = False
    remedy: str = ""


Verdict = Again | GiveUp


def decide(
    error: ServerError | SampleError,
    tries: AttemptCounts,
    limits: Limits,
    where: Circumstances,
    pauses: Backoff = PAUSES,
) -> Verdict:
    """Decide what becomes of the samples of a failed prompt, given what was spent on them before."""
    permanent = tries.permanent + where.is_permanent
    tries = replace(tries, avoid=tries.avoid | {where.server}, permanent=permanent)
    verdict = _verdict(error, tries, limits, where, pauses)
    return replace(verdict, remedy=remedy(error)) if isinstance(verdict, GiveUp) else verdict


def _verdict(
    error: ServerError | SampleError, tries: AttemptCounts, limits: Limits, where: Circumstances, pauses: Backoff
) -> Verdict:
    if where.is_permanent and tries.permanent >= _PERMANENT:
        return _elsewhere(error, tries, where)
    match error:
        case ForbiddenWord():
            return GiveUp(str(error))
        case PromptRejected():
            return _elsewhere(error, tries, where)
        case ExecutionError(out_of_memory=True):
            return _out_of_memory(error, tries, where, pauses)
        case PromptLost() | PromptInterrupted():
            return _vanished(error, tries, limits, where, pauses)
        case HttpStatusError(status=500):
            return _own_fault(error, tries, limits, where, pauses)
        case ServerError():
            return _server_fault(error, tries, pauses)
        case _:
            return _own_fault(error, tries, limits, where, pauses)


def _elsewhere(error: ServerError | SampleError, tries: AttemptCounts, where: Circumstances) -> Verdict:
    """Never on this server again."""
    tries = replace(tries, refused_by=tries.refused_by | {where.server})
    return GiveUp(str(error)) if tries.refused_by >= where.usable | {where.server} else Again(tries)


def _out_of_memory(error: ExecutionError, tries: AttemptCounts, where: Circumstances, pauses: Backoff) -> Verdict:
    """With freed memory, then one by one, then elsewhere: never the same thing unchanged for ever."""
    if where.server not in tries.freed:
        tries = replace(tries, freed=tries.freed | {where.server}, avoid=tries.avoid - {where.server})
        return Again(tries, pauses.ceiling(1), free_memory=True)
    if where.batch > 1:
        return Again(replace(tries, freed=frozenset()), pauses.ceiling(1), next_take=True, free_memory=True)
    return _elsewhere(error, tries, where)


def _vanished(
    error: SampleError, tries: AttemptCounts, limits: Limits, where: Circumstances, pauses: Backoff
) -> Verdict:
    died = isinstance(error, PromptLost) and error.died
    if died and tries.is_suspect:
        return GiveUp(f"{where.server} died while making it, as a server did before; it is not tried a third time")
    tries = replace(tries, deaths=tries.deaths + died, lost=tries.lost + 1)
    return GiveUp(str(error)) if tries.lost >= limits.lost else Again(tries, pauses.ceiling(tries.lost))


def _server_fault(error: ServerError, tries: AttemptCounts, pauses: Backoff) -> Verdict:
    tries = replace(tries, server_errors=tries.server_errors + 1)
    spent = tries.server_errors >= _SERVER_ERRORS
    return GiveUp(str(error)) if spent else Again(tries, pauses.ceiling(tries.server_errors))


def _own_fault(
    error: ServerError | SampleError, tries: AttemptCounts, limits: Limits, where: Circumstances, pauses: Backoff
) -> Verdict:
    raised = (*tries.raised, where.server) if isinstance(error, ExecutionError) else tries.raised
    tries = replace(tries, attempts=tries.attempts + 1, raised=raised)
    next_take = isinstance(error, BadImage) and not error.torn
    counted = tries.attempts - sum(server in where.ailing for server in raised)
    if counted >= limits.attempts:
        return GiveUp(f"{error} (tried {'once' if counted == 1 else plural(counted, 'time')})", next_take)
    return Again(tries, 0.0 if next_take else pauses.ceiling(counted), next_take)


# ---- images that a server has made already


def decide_download(error: ServerError | BadImage, tries: int) -> bool:
    """Decide whether an image is downloaded once more, after so many tries in a row.

    The server has made it, so it is worth some tries; a file that is missing, or arrives torn, is worth two.
    """
    match error:
        case BadImage():
            return error.torn and tries < 2
        case ServerError() if is_missing(error):
            return tries < 2
        case _:
            return tries < _DOWNLOADS


@dataclass(frozen=True, slots=True)
class FetchAgain:
    """Download the images from the same server after its rest."""

    tries: AttemptCounts


@dataclass(frozen=True, slots=True)
class MakeAgain:
    """Give the images up that were made, and decide again as for NotDownloaded."""

    tries: AttemptCounts


def decide_fetch(tries: AttemptCounts, *, was_up: bool) -> FetchAgain | MakeAgain:
    """Decide on images that a server has made and did not hand out; with ``was_up`` it was there all the time."""
    fetches = tries.fetches + was_up  # an absence is not a round
    return FetchAgain(replace(tries, fetches=fetches)) if fetches < _FETCHES else MakeAgain(replace(tries, fetches=0))


# ---- words


def remedy(error: ServerError | SampleError) -> str:
    """Advice for a person, as a sentence without its full stop."""
    match error:
        case ExecutionError(out_of_memory=True):
            return "Make the images smaller, lower sampling.batch, or start ComfyUI with --lowvram"
        case ExecutionError():
            return "Run the workflow once in ComfyUI itself: its console says more than this message"
        case ForbiddenWord():
            return "Change the prompt, or the words that [guard] forbids"
        case PromptRejected():
            return "Run `python -m reggen check`: it compares what the job needs with what the servers have"
        case DuplicateImage():
            return (
                "Vary the prompts, or compare both images: [checks] duplicates and likeness decide how alike two may be"
            )
        case BadImage(torn=False):
            return (
                "Look at one in ComfyUI: half precision can make images black (try --fp32-vae); [checks] turns it off"
            )
        case MissingOutput():
            return "Name the node that saves the images, as output in [workflow.bindings]"
        case NotDownloaded() | BadImage():
            return "Open the server's /view in a browser: something between it and this machine damages or loses files"
        case PromptLost() | PromptInterrupted():
            return "Somebody or something deletes prompts from the servers' queues, or ComfyUI crashes: see its console"
    return "See the console of that server"
