"""How a run ended, for the faces: counts, what was found, what is missing and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reggen.dataset.reconcile import Reconciled
from reggen.errors import COMPLETE, INCOMPLETE, STOPPED, TIME_UP, ReggenError
from reggen.progress import ServerView

BY_USER = "you asked to stop"
OUT_OF_TIME = "the time is up"


@dataclass(frozen=True, slots=True)
class EmptySlot:
    """One slot that stayed empty, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. Counts are of slots, times in seconds."""

    job_file: str
    dataset: Path
    total: int
    before: int
    made: int
    seconds: float
    started: str
    given_up: tuple[EmptySlot, ...] = ()
    servers: dict[str, ServerView] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    resumed: Reconciled = field(default_factory=Reconciled)
    strangers: tuple[str, ...] = ()
    values: Mapping[str, int] = field(default_factory=dict)
    other_recipes: tuple[range, ...] = ()  # slots, from 0, that were made with other settings
    beyond: int = 0
    captions: str = ""  # what kohya is to read beside the images; empty for none
    stopped: str = ""
    error: ReggenError | None = None

    @property
    def missing(self) -> int:
        """Slots that are still empty."""
        return self.total - self.before - self.made

    @property
    def exit_code(self) -> int:
        """0 when nothing is missing; the error's own when one ended it, 130 when the user, 3 when the time; else 1."""
        if self.error:
            return self.error.exit_code
        if not self.missing:
            return COMPLETE
        return {BY_USER: STOPPED, OUT_OF_TIME: TIME_UP}.get(self.stopped, INCOMPLETE)
