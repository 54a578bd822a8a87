"""Work items that wait to be tried again. Pure: ``now`` is handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reggen.scheduler.work_item import WorkItem


@dataclass(eq=False, frozen=True, slots=True)
class Waiting:
    """A work item and the time before which it is not tried again."""

    not_before: float
    item: WorkItem


class WaitingList:
    """Work items that wait; two with the same content are told apart."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: WorkItem, not_before: float) -> None:
        """Put a work item back."""
        self._waiting.append(Waiting(not_before, item))

    def due(self, now: float) -> list[Waiting]:
        """The work items whose time has come, the longest due first."""
        due = [waiting for waiting in self._waiting if waiting.not_before <= now]
        return sorted(due, key=lambda waiting: waiting.not_before)

    def remove(self, waiting: Waiting) -> None:
        """Take a work item out."""
        self._waiting.remove(waiting)

    def take_refused(self, servers: frozenset[str]) -> list[WorkItem]:
        """Take out the work items that all of these servers have refused; none where there are no servers."""
        if not servers:
            return []
        refused = [waiting for waiting in self._waiting if waiting.item.tries.refused_by >= servers]
        for waiting in refused:
            self.remove(waiting)
        return [waiting.item for waiting in refused]

    def next_due(self, now: float) -> float:
        """The next time that a work item becomes due; infinite for none."""
        times = (waiting.not_before for waiting in self._waiting)
        return min((time for time in times if time > now), default=math.inf)
