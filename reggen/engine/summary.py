"""The summary of a run: its counts, what was found, what is missing and why."""

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
    """One slot that stayed empty, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a run.

    Counts are of slots: ``before`` were filled when it began, ``made`` it filled, of ``total``. ``seconds`` is how long
    it took, ``started`` when, in UTC. ``error`` is what ended it early, ``stopped`` why it was stopped.
    """

    job_file: str
    dataset: Path
    total: int
    before: int
    made: int
    seconds: float
    started: str
    given_up: tuple[EmptySlot, ...] = ()
    servers: dict[str, ServerView] = field(default_factory=dict)  # by name, as are their ComfyUI's versions
    versions: dict[str, str | None] = field(default_factory=dict)
    reconciled: Reconciled = field(default_factory=Reconciled)
    foreign_images: tuple[str, ...] = ()  # files in the image folder that are no slot's
    choices: Mapping[str, int] = field(default_factory=dict)  # images by the value of a prompt's choice or a setting
    other_recipes: tuple[range, ...] = ()  # slots, from 0, that were made with other settings
    images_beyond: int = 0  # images in slots beyond the total, which the trainer reads nevertheless
    captions: str = ""  # the ending of the caption files that kohya reads beside the images; "" for none
    stopped: str = ""
    error: ReggenError | None = None

    @property
    def missing(self) -> int:
        """Slots that are still empty."""
        return self.total - self.before - self.made

    @property
    def exit_code(self) -> int:
        """0 when nothing is missing; the code of the error that ended it, 130 for the user, 3 for the time; else 1."""
        if self.error:
            return self.error.exit_code
        if not self.missing:
            return COMPLETE
        return {BY_USER: STOPPED, OUT_OF_TIME: TIME_UP}.get(self.stopped, INCOMPLETE)
