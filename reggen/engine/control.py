"""The caller's side of a run: its observers, its options, and the control that ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reggen.engine.run_state import RunState
from reggen.engine.summary import BY_USER, Summary
from reggen.progress import Progress, RunEvent

Answer = TypeVar("Answer")

_GRACEFUL = 2  # interrupts after which a run still ends by itself; a third one leaves behind what it waits for


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Observers:
    """Receivers of a run's events and sentences.

    Every event is folded into ``progress`` and then handed to ``on_event``; ``note`` gets a sentence for people now
    and then.
    """

    on_event: Callable[[RunEvent], None] = _ignore
    note: Callable[[str], None] = _ignore
    progress: Progress = field(default_factory=Progress)

    def tell(self, event: RunEvent) -> None:
        """Fold an event into the progress and hand it on."""
        self.progress.apply(event)
        self.on_event(event)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Choices for one run that are not part of the job.

    ``wait``: wait for a first server instead of raising NoUsableServer. ``seconds_left`` gives the seconds until the
    run has to end, where it has to. ``rehearsal``: the images are a stand-in's; they never share a dataset with
    real ones.
    """

    wait: bool = False
    seconds_left: Callable[[], float] | None = None
    rehearsal: bool = False


class RunControl:
    """Ends a run early: `interrupt` once to finish what is in flight, twice to leave at once."""

    def __init__(self) -> None:
        self._run: RunState | None = None
        self._task: asyncio.Task[Any] | None = None
        self._asked = 0
        self.reached: Summary | None = None  # the end of a run, or its state when it was left; None before one

    @property
    def asked(self) -> int:
        """The number of calls of `interrupt`."""
        return self._asked

    @property
    def cuts_short(self) -> bool:
        """True when a cancellation only cuts short what the run waits for, and does not end the program around it."""
        return self._run is not None and self._asked > _GRACEFUL

    def steer(self, run: RunState) -> None:
        """Take charge of a run that begins; stop it at once if `interrupt` was called before."""
        self._run = run
        if self._asked:
            run.stop(BY_USER)

    def interrupt(self) -> None:
        """Ask the run to end. Once: finish what is in flight. Twice: leave at once, resumable. Before a run: cancel.

        A third call leaves behind whatever is still waited for: a server that prompts are taken back from, or a disk
        that does not answer.
        """
        self._asked += 1
        if self._task is not None and (self._run is None or self._asked > _GRACEFUL):
            self._task.cancel()
        elif self._run is not None and self._asked == 1:
            self._run.stop(BY_USER)
        elif self._run is not None:
            self._run.abort()

    async def guard(self, task: asyncio.Task[Answer]) -> Answer:
        """Await the task that fills a dataset, or work beside it, and let `interrupt` cancel it. One task at a time."""
        self._task, self._run, self.reached = task, None, None
        return await task
