"""When a run is to end before its plan does: its time is up, its prompts are spent, or nothing comes of them.

Pure but for the clock that is handed in.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable

from reggen.job.models import Limits
from reggen.scheduler.retry import GiveUp

_JUDGED = 50  # images that the share of the given up is taken from
_ENOUGH = 20  # of them, before a share means anything
_REMEMBERED = 5  # prompts of a server that tell how long the next one takes


class StopRules:
    """What counts towards an early end. ``left`` tells the seconds the run still has, if it has a limit."""

    def __init__(self, limits: Limits, left: Callable[[], float] | None) -> None:
        self._limits, self._left = limits, left
        self._waited: dict[str, deque[float]] = {}
        self._settled: deque[bool] = deque(maxlen=_JUDGED)  # made, or given up
        self._in_a_row = self._posts = 0

    @property
    def seconds_left(self) -> float:
        """Until the run is to be over; may be infinite."""
        return math.inf if self._left is None else self._left()

    def is_late(self, server: str) -> bool:
        """Whether a prompt posted to this server now would end too late, going by its last ones."""
        waited = self._waited.get(server)
        return self.seconds_left < (statistics.median(waited) if waited else 0.0)

    @property
    def prompts_left(self) -> float:
        """How many prompts may still be posted; may be infinite."""
        return math.inf if self._limits.prompts is None else self._limits.prompts - self._posts

    def posted(self) -> None:
        """A prompt is posted."""
        self._posts += 1

    def made(self, server: str, waited: float) -> None:
        """A prompt led to an image, so many seconds after its post."""
        self._waited.setdefault(server, deque(maxlen=_REMEMBERED)).append(waited)
        self._settled.append(True)
        self._in_a_row = 0

    def gave_up(self, verdict: GiveUp, images: int) -> str:
        """The images of one prompt are given up: why the run should stop, or an empty text."""
        self._settled.extend([False] * images)
        self._in_a_row += 1
        last = f"the last because {verdict.reason}. {verdict.remedy}".rstrip(". ")
        if self._in_a_row >= self._limits.give_ups_in_a_row:
            return f"{self._in_a_row} prompts in a row were given up, {last}"
        lost, judged = self._settled.count(False), len(self._settled)
        if judged >= _ENOUGH and lost > self._limits.give_up_share * judged:
            return f"{lost} of the last {judged} images were given up, {last}"
        return ""
