"""The next requests of the plan, a window at a time, ordered so that a server can keep what it has loaded. Pure.

Loading a checkpoint takes a server longer than many an image, and a prompt that is the same as the last one need not be
encoded again. So requests of one checkpoint are handed out next to each other as far as the window reaches, and those
of one size and prompt within a few dozen: a run that is stopped early still has some of every prompt. Seeds and names
are the plan's, whatever the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from reggen.planning.plan import PromptRequest

NEAR, FAR = 64, 1024
"""Requests in a window: where all have one checkpoint, and where they have several."""

RequestSource = Callable[[], Sequence[PromptRequest] | None]
"""Gives the next window of requests: empty at the end of the plan, None while the window is still being read."""


class Group(NamedTuple):
    """Requests of one text and size, within a block of slots."""

    block: int
    size: Hashable
    text: str | None


@dataclass(frozen=True, slots=True)
class RequestKind:
    """The properties of a request that a server can keep for the next one: the checkpoint, and the group."""

    checkpoint: Any
    group: Group

    @classmethod
    def of(cls, request: PromptRequest) -> RequestKind:
        """The kind of a request."""
        sample = request.samples[0]
        block = request.origin[0] // NEAR
        return cls(dict(sample.settings).get("checkpoint"), Group(block, sample.size, sample.positive))


class OrderQueue:
    """Hands out requests, whose windows come in the order of their slots; reads one only when it needs it."""

    def __init__(self, source: RequestSource) -> None:
        self._source = source
        self._kinds: dict[Any, dict[Group, deque[PromptRequest]]] = {}  # by checkpoint, and by the group
        self._slots: set[int] = set()  # of the requests in the queue
        self._claimed: set[int] = set()
        self._last_read = -1  # the last slot that was read from the plan
        self._at_end = False

    @property
    def empty(self) -> bool:
        """True when nothing is in the queue and nothing more will come."""
        return self._at_end and not self._kinds

    def claim(self, slots: Collection[int]) -> bool:
        """Keep these slots from being handed out. False, and nothing is claimed, when one was handed out or claimed."""
        if any(slot in self._claimed or (slot <= self._last_read and slot not in self._slots) for slot in slots):
            return False
        self._claimed.update(slots)
        return True

    def take(
        self, last: RequestKind | None, loaded_on: Callable[[Any], int] = lambda _: 0, shun: Collection[str] = ()
    ) -> PromptRequest | None:
        """Take out the request nearest to the last one of a server. None when there is none, or none is read yet.

        ``loaded_on`` gives the number of servers that have a checkpoint loaded: another is chosen where there is most
        to do for each. A text in ``shun`` is taken only where there is no other.
        """
        while self._kinds or self._read():
            checkpoint = self._checkpoint_after(last, loaded_on)
            kinds = self._kinds[checkpoint]
            if len(self._slots) < FAR and all(group.text in shun for group in kinds) and not self._at_end:
                if self._read() or self._at_end:
                    continue
                return None  # there may be another text further on
            request = self._take_nearest(checkpoint, last, shun)
            self._slots.difference_update(sample.index for sample in request.samples)
            if left := tuple(sample for sample in request.samples if sample.index not in self._claimed):
                return PromptRequest(left)
        return None

    def _checkpoint_after(self, last: RequestKind | None, loaded_on: Callable[[Any], int]) -> Any:
        """The checkpoint a server has loaded; another where there is nothing to do for it."""
        if last is not None and last.checkpoint in self._kinds:
            return last.checkpoint
        if len(self._kinds) == 1:  # nearly always: nobody need be asked what it has loaded
            return next(iter(self._kinds))
        return max(self._kinds, key=lambda one: self._count(one) / (1 + loaded_on(one)))

    def _take_nearest(self, checkpoint: Any, last: RequestKind | None, shun: Collection[str]) -> PromptRequest:
        """Take out the request of a checkpoint that shares most with the last one of a server."""
        kinds = self._kinds[checkpoint]
        group = last.group if last is not None and last.group in kinds else next(iter(kinds))
        if group.text in shun:
            group = next((other for other in kinds if other.text not in shun), group)
        request = kinds[group].popleft()
        if not kinds[group]:
            del kinds[group]
        if not kinds:
            del self._kinds[checkpoint]
        return request

    def _count(self, checkpoint: Any) -> int:
        return sum(map(len, self._kinds[checkpoint].values()))

    def _read(self) -> bool:
        """Take the next window from the plan. False when there is none, or it is not read yet."""
        window = self._source()
        self._at_end = window is not None and not window
        for request in window or ():
            kind = RequestKind.of(request)
            self._kinds.setdefault(kind.checkpoint, {}).setdefault(kind.group, deque()).append(request)
            self._slots.update(sample.index for sample in request.samples)
            self._last_read = max(self._last_read, *(sample.index for sample in request.samples))
        return bool(window)
