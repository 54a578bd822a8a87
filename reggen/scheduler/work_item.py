"""The unit of work: one prompt request, and what was spent on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from reggen.comfy.history import Success
from reggen.comfy.listings import OrphanedPrompt
from reggen.planning.plan import PromptRequest
from reggen.scheduler.retry import AttemptCounts


@dataclass(frozen=True, slots=True)
class Completed:
    """A prompt that has ended well: its id, its images on the server, and the seconds from its post to its end."""

    prompt_id: str
    outcome: Success
    waited: float


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One prompt request and what was spent on it in this run.

    ``at`` is the server that has a prompt for it already: one that an earlier run has posted (``orphan``), or one
    that has ended and whose images are still to be downloaded (``made``).
    """

    request: PromptRequest
    tries: AttemptCounts = field(default_factory=AttemptCounts)
    at: str | None = None
    orphan: OrphanedPrompt | None = None
    made: Completed | None = None
