"""Rules that end a run before its plan: out of time, out of prompts, or too many images given up.

Pure but for the clock that is handed in.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable

from reggen.job.models import Limits
from reggen.scheduler.retry import GiveUp
from reggen.wording import plural

_JUDGED = 50  # images that the share of those given up is taken from
_ENOUGH = 20  # of them, before a share means anything
_WRONG_SIZES = 3  # images of a wrong size, from the first on, after which it is the workflow's doing
_REMEMBERED = 5  # prompts of a server that the time of the next one is taken from


class StopRules:
    """Counts what may end a run early. ``left`` gives the seconds that it still has, if there is a limit."""

    def __init__(self, limits: Limits, left: Callable[[], float] | None) -> None:
        self._limits, self._left = limits, left
        self._waited: dict[str, deque[float]] = {}
        self._settled: deque[bool] = deque(maxlen=_JUDGED)  # True for an image that was made, False for one given up
        self._given_up_in_a_row = self._posts = self._wrong_sizes = 0
        self._any_made = False

    @property
    def seconds_left(self) -> float:
        """Seconds until the run has to be over; may be infinite."""
        return math.inf if self._left is None else self._left()

    @property
    def prompts(self) -> int | None:
        """The most prompts that this run may post; None without a limit."""
        return self._limits.prompts

    @property
    def prompts_left(self) -> float:
        """Prompts that may still be posted; may be infinite."""
        return math.inf if self._limits.prompts is None else self._limits.prompts - self._posts

    def is_late(self, server: str) -> bool:
        """True when a prompt posted to this server now would end too late, going by its last ones."""
        waited = self._waited.get(server)
        return self.seconds_left < (statistics.median(waited) if waited else 0.0)

    def posted(self) -> None:
        """Count a prompt that is posted."""
        self._posts += 1

    def made(self, server: str, waited: float) -> None:
        """Count an image whose prompt ended so many seconds after its post."""
        self._waited.setdefault(server, deque(maxlen=_REMEMBERED)).append(waited)
        self._settled.append(True)
        self._given_up_in_a_row = 0
        self._any_made = True

    def wrong_size(self, images: int, reason: str) -> str:
        """Count images of a wrong size. Returns the reason to stop the run, or "".

        When every image is of a wrong size from the first on, the workflow makes them so, and no seed helps.
        """
        self._wrong_sizes += images
        if self._any_made or self._wrong_sizes < _WRONG_SIZES:
            return ""
        return f"every image {reason}"

    def gave_up(self, verdict: GiveUp, images: int) -> str:
        """Count images of one prompt that are given up. Returns the reason to stop the run, or ""."""
        self._settled.extend([False] * images)
        self._given_up_in_a_row += 1
        last = f"the last because {verdict.reason}. {verdict.remedy}".rstrip(". ")
        if self._given_up_in_a_row >= self._limits.give_ups_in_a_row:
            return f"{plural(self._given_up_in_a_row, 'prompt')} in a row had to be given up, {last}"
        given_up, judged = self._settled.count(False), len(self._settled)
        if judged >= _ENOUGH and given_up > self._limits.give_up_share * judged:
            return f"{given_up} of the last {judged} images were given up, {last}"
        return ""
