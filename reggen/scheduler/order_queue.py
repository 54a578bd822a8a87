"""The next orders of the plan, a window at a time, laid out so that a server can take what is nearest to its last.

Loading a checkpoint takes a server longer than many a picture, and encoding a prompt is saved when it is the last
one again. So orders of one checkpoint are handed out next to each other as far as the window reaches, and those of
one size and prompt within a few dozen: a run that is stopped early still has some of every prompt. What is made of
an order, its seed and its name, is the plan's and does not change. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from reggen.planning.plan import PromptRequest

NEAR, FAR = 64, 1024
"""Orders in a window: where all have one checkpoint, and where they have several."""


Rest = tuple[int, Hashable, str | None]
"""The block of slots, the size, the positive text."""


@dataclass(frozen=True, slots=True)
class OrderKind:
    """What two orders share that a server can keep: the checkpoint it has loaded, and the rest."""

    checkpoint: Any
    rest: Rest

    @classmethod
    def of(cls, request: PromptRequest) -> OrderKind:
        """Of what a server is asked for."""
        sample = request.samples[0]
        block = request.origin[0] // NEAR
        return cls(dict(sample.settings).get("checkpoint"), (block, sample.size, sample.positive))


class OrderQueue:
    """Takes from ``requests``, which come in the order of their slots, only when it is empty."""

    def __init__(self, requests: Iterator[PromptRequest], window: int = NEAR) -> None:
        self._requests, self._window = requests, window
        self._lying: dict[Any, dict[Rest, deque[PromptRequest]]] = {}  # by checkpoint, and by the rest
        self._slots: set[int] = set()  # of the orders that lie here
        self._claimed: set[int] = set()
        self._walked = -1  # the last slot that was taken from the plan
        self._exhausted = False

    @property
    def empty(self) -> bool:
        """Nothing lies here and nothing more will come, as far as was tried."""
        return self._exhausted and not self._lying

    def claim(self, slots: Collection[int]) -> bool:
        """Whether none of these slots was taken yet; from here on none will be."""
        if any(slot in self._claimed or (slot <= self._walked and slot not in self._slots) for slot in slots):
            return False
        self._claimed.update(slots)
        return True

    def take(
        self, last: OrderKind | None, users: Callable[[Any], int] = lambda _: 0, shun: Collection[str] = ()
    ) -> PromptRequest | None:
        """The order nearest to the last one of a server; None when there is none.

        ``users`` tells how many servers have a checkpoint loaded: another is chosen where there is most to do for each.
        A text in ``shun`` is taken only where there is no other.
        """
        while self._lying or self._fill():
            if last is not None and last.checkpoint in self._lying:
                checkpoint = last.checkpoint
            elif len(self._lying) == 1:  # nearly always: nobody need be asked what it has loaded
                (checkpoint,) = self._lying
            else:
                checkpoint = max(self._lying, key=lambda one: self._much(one) / (1 + users(one)))
            kinds = self._lying[checkpoint]
            if shun and len(self._slots) < FAR and all(rest[2] in shun for rest in kinds) and self._fill():
                continue  # there may be another text further on
            near = last.rest if last is not None and last.rest in kinds else next(iter(kinds))
            rest = next((other for other in kinds if other[2] not in shun), near) if near[2] in shun else near
            request = kinds[rest].popleft()
            if not kinds[rest]:
                del kinds[rest]
            if not kinds:
                del self._lying[checkpoint]
            left = tuple(sample for sample in request.samples if sample.index not in self._claimed)
            self._slots.difference_update(sample.index for sample in request.samples)
            if left:
                return PromptRequest(left)
        return None

    def _much(self, checkpoint: Any) -> int:
        return sum(map(len, self._lying[checkpoint].values()))

    def _fill(self) -> bool:
        """Take the next window from the plan. False when there is none."""
        more = False
        for request in islice(self._requests, self._window):
            more = True
            kind = OrderKind.of(request)
            self._lying.setdefault(kind.checkpoint, {}).setdefault(kind.rest, deque()).append(request)
            self._slots.update(sample.index for sample in request.samples)
            self._walked = max(self._walked, *(sample.index for sample in request.samples))
        self._exhausted = not self._lying
        return more
