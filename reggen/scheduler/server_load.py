"""The load of one server: its capacity, what it holds, how fast it is. Pure: ``now`` is handed in."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

from reggen.planning.plan import PromptRequest
from reggen.scheduler.health import ServerHealth
from reggen.scheduler.order_queue import RequestKind

DOWNLOADING = 4
"""Work items of a server whose prompts have ended, and whose images may be on their way here at a time."""

_DEPTHS = (2, 8)  # one prompt that runs and one that waits; more only of prompts that take next to no time
_QUICK = 0.05  # seconds: a prompt that takes less may be over before the next one is there
_LATE = (3.0, 5.0)  # times the seconds of a prompt, and seconds: a server without an image for so long is late


@dataclass(slots=True)
class ServerLoad:
    """The load of one server. ``asked_depth`` is the job's; with None its depth follows the measured times.

    ``in_flight`` counts prompts from their post to their end, ``unfinished`` work items until their images are in the
    dataset.
    """

    asked_depth: int | None
    health: ServerHealth
    is_spared: bool = False  # it gets nothing new for now: its ComfyUI is about to be restarted
    is_quarantined: bool = False  # a suspect is on it, alone
    in_flight: int = 0
    unfinished: int = 0
    largest_batch: float = math.inf  # that may fit into its memory
    last: RequestKind | None = None  # what it was last given
    batch: int = 1  # images of a prompt of that
    _image_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=5))  # of its last images
    _median: float | None = None  # of these
    _last_sign: float = -math.inf  # its last image, or when it was given something while it held nothing

    @property
    def seconds(self) -> float | None:
        """The time of one prompt by its last few images; None before the first."""
        return None if self._median is None else self.batch * self._median

    @property
    def depth(self) -> int:
        """The number of prompts it may hold: as asked for, or enough to hide the way to the server and back."""
        if self.asked_depth is not None:
            return self.asked_depth
        seconds = self.seconds
        least, most = _DEPTHS
        return least if seconds is None or seconds >= _QUICK else min(most, math.ceil(_QUICK / max(seconds, 1e-3)) + 1)

    @property
    def fullness(self) -> float:
        """The part of its depth that is in use."""
        return self.in_flight / self.depth

    @property
    def has_room(self) -> bool:
        """True when it may hold another prompt, and not too many images are on their way from it."""
        depth = 1 if self.health.breaker.on_trial else self.depth
        return self.in_flight < depth and self.unfinished < depth + DOWNLOADING

    def is_open(self, now: float) -> bool:
        """True when it may be given anything at all."""
        return not self.is_spared and not self.is_quarantined and self.health.is_open(now)

    def fits(self, request: PromptRequest) -> bool:
        """True when a request's batch may fit into its memory, going by those that did not."""
        return request.batch <= self.largest_batch

    def late_at(self) -> float:
        """The time at which it will have been without an image for too long; infinite while it holds nothing."""
        times, more = _LATE
        return self._last_sign + times * (self.seconds or 0.0) + more if self.in_flight else math.inf

    def give(self, request: PromptRequest, now: float) -> None:
        """Note that it is given a request."""
        self._last_sign = self._last_sign if self.in_flight else now
        self.in_flight += 1
        self.unfinished += 1
        self.last, self.batch = RequestKind.of(request), request.batch

    def release(self) -> None:
        """Note that a prompt has left it: there is room for another."""
        self.in_flight -= 1
        self.is_quarantined = self.is_quarantined and self.in_flight > 0

    def measured(self, seconds: float, now: float) -> None:
        """Note that it was busy so long with one image."""
        self._image_seconds.append(seconds)
        self._last_sign = now
        self._median = statistics.median(self._image_seconds)  # the first may have loaded the model; the second tells

    def overflowed(self, batch: int) -> None:
        """Note that a batch of so many images does not fit into its memory, freed or not."""
        self.largest_batch = min(self.largest_batch, batch - 1)
