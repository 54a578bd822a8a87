"""The assignment of work to servers. Pure state: synchronous, ``now`` and the jitter are handed in.

A server may hold as many prompts as it is deep; a work item counts towards that from its post until its prompt has
ended, not while its images are downloaded. New requests are taken from the plan only when a server has room for one and
not too many images are on their way, so nothing here grows with the plan.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from typing import Any

from reggen.comfy.listings import OrphanedPrompt
from reggen.planning.plan import PromptRequest
from reggen.scheduler.health import FleetHealth
from reggen.scheduler.order_queue import OrderQueue, RequestSource
from reggen.scheduler.server_load import DOWNLOADING, ServerLoad
from reggen.scheduler.tail import TailAssignment
from reggen.scheduler.waiting import WaitingList
from reggen.scheduler.work_item import WorkItem

Assignment = tuple[str, WorkItem]
"""A server's name and what it is given."""


class Fleet:
    """Hands out work. ``loads`` has the load of each server by name, ``health`` the health of all.

    ``held``: nothing is handed out for now; ``stopped``: nothing more. ``expects_more``: more work is being looked for,
    which will come with `again`. ``active``: the number of work items handed out and not finished.
    """

    def __init__(
        self,
        depths: Mapping[str, int | None],
        requests: RequestSource,
        health: FleetHealth,
        jitter: Callable[[float], float],
        *,
        images: int | None = None,
    ) -> None:
        """``depths`` are the job's, by server; ``images`` is how many the requests are for, where that is known."""
        self.health = health
        self.loads = {name: ServerLoad(depth, health.servers[name]) for name, depth in depths.items()}
        self.stopped = self.held = False
        self.active = 0
        self._queue, self._jitter, self._images_left = OrderQueue(requests), jitter, images
        self._waiting = WaitingList()
        self._adopted: list[Assignment] = []
        self.expects_more = False
        self._left_until = math.inf  # until when some server leaves the last requests to others

    # ---- questions

    @property
    def exhausted(self) -> bool:
        """True when nothing is left to hand out but what may be put back."""
        return self._queue.empty and not self._waiting

    @property
    def finished(self) -> bool:
        """True when nothing is active and nothing will be."""
        idle = not self.active and not self._adopted
        return idle and (self.stopped or (self.exhausted and not self.expects_more))

    @property
    def deserted(self) -> bool:
        """True when every server is left out, and nothing is active any more."""
        return not self.active and all(server.left_out for server in self.health.servers.values())

    def wake_at(self, now: float) -> float:
        """The next time that `assign` may have something to give, if nothing else happens; may be infinite."""
        return min(self._left_until, self._waiting.next_due(now), self.health.wake_at(now))

    # ---- work

    def assign(self, now: float, most: float = math.inf) -> list[Assignment]:
        """Hand out what can be handed out now; release the load when a prompt has ended, and `finish` each item.

        ``most`` is how many may be handed out beside those that are on a server already.
        """
        given, self._adopted = self._adopted, []
        for name, item in given:
            self._give(name, item, now)
        self._left_until = math.inf
        if self.stopped or self.held:
            return given
        most += len(given)
        open_servers = [name for name, load in self.loads.items() if load.is_open(now)]
        reserved = self._assign_waiting(open_servers, given, most, now)
        if not self._is_overloaded():
            self._assign_new([name for name in open_servers if name not in reserved], given, most, now)
        return given

    def adopt(self, name: str, request: PromptRequest, orphan: OrphanedPrompt) -> bool:
        """Take a request as one that a server works on already, for an earlier run. False if it was handed out."""
        if self.stopped or not self._queue.claim({sample.index for sample in request.samples}):
            return False
        self._count_down(request)
        self._adopted.append((name, WorkItem(request, at=name, orphan=orphan)))
        return True

    def again(self, item: WorkItem, now: float, longest_pause: float = 0.0) -> None:
        """Put a work item back, to be handed out after a pause of up to so many seconds."""
        self._waiting.add(item, now + self._jitter(longest_pause))

    def finish(self, name: str) -> None:
        """Note that a work item of a server is done, given up, or put back with `again`."""
        self.loads[name].unfinished -= 1
        self.active -= 1

    def take_refused(self, now: float) -> list[WorkItem]:
        """Take out the work items that every candidate has refused: no server would ever take them."""
        return self._waiting.take_refused(self.health.candidates(now))

    # ---- assignment

    def _assign_waiting(self, servers: list[str], given: list[Assignment], most: float, now: float) -> set[str]:
        """Hand out the work items whose pause is over; returns the servers that are reserved for a suspect.

        A suspect, over which a server may have died, runs alone: its server gets nothing else before and beside it.
        """
        reserved: set[str] = set()
        for waiting in self._waiting.due(now):
            if len(given) >= most:
                break
            item = self._without_lost_server(waiting.item, now)
            is_suspect = item.tries.is_suspect and item.at is None
            free = [name for name in servers if not self.loads[name].is_quarantined]
            if not is_suspect:
                free = [name for name in free if name not in reserved and self.loads[name].has_room]
            name = self._server_for(item, free, now)
            if name is None:
                continue
            if is_suspect and self.loads[name].in_flight:
                reserved.add(name)
                continue
            self._waiting.remove(waiting)
            self.loads[name].is_quarantined = is_suspect
            self._give(name, item, now)
            given.append((name, item))
        return reserved

    def _is_overloaded(self) -> bool:
        """True when more failures wait than can be worked off: nothing new is handed out on top of them."""
        if not self._waiting:
            return False
        return len(self._waiting) > 2 * sum(load.depth + DOWNLOADING for load in self.loads.values())

    def _without_lost_server(self, item: WorkItem, now: float) -> WorkItem:
        """A work item as one to be made from the beginning, where the server that has its images is gone."""
        is_lost = item.at is not None and item.at not in self.health.candidates(now) and self.health.has_others(item.at)
        return WorkItem(item.request, item.tries) if is_lost else item

    def _server_for(self, item: WorkItem, free: list[str], now: float) -> str | None:
        """The emptiest server that has not failed the item; one that has, only when no other will be free soon."""
        if item.at is not None:
            return item.at if item.at in free else None

        def by_room(name: str) -> tuple[bool, float]:
            return not self.loads[name].fits(item.request), self.loads[name].fullness

        fresh = [name for name in free if name not in item.tries.avoid]
        if fresh:
            return min(fresh, key=by_room)
        others = self.health.usable - item.tries.avoid
        if any(self.health.servers[name].breaker.rests_until <= now for name in others):
            return None  # another is only busy: worth waiting for
        return min((name for name in free if name not in item.tries.refused_by), key=by_room, default=None)

    def _assign_new(self, servers: list[str], given: list[Assignment], most: float, now: float) -> None:
        """Hand out new requests to the servers that have room, the emptiest first."""
        heap = self._by_fullness(servers)
        tail = TailAssignment(self.loads.values(), now)
        while heap and len(given) < most:
            _, place, name = heapq.heappop(heap)
            load = self.loads[name]
            if load.is_quarantined or not load.has_room or tail.leaves(load, self._images_left):
                continue
            request = self._queue.take(load.last, self._count_loaded, load.health.refused_posts)
            if request is None:
                break
            fits = load.fits(request)
            if not fits:
                name = next((other for _, _, other in self._by_fullness(servers) if self._suits(other, request)), name)
            self._count_down(request)
            self._give(name, item := WorkItem(request), now)
            given.append((name, item))
            if fits:
                heapq.heappush(heap, (load.fullness, place, name))
            else:
                heap = self._by_fullness(servers)
        self._left_until = tail.left_until

    def _by_fullness(self, servers: list[str]) -> list[tuple[float, int, str]]:
        """The servers as a heap, the emptiest first; among equals the first one named."""
        return sorted((self.loads[name].fullness, place, name) for place, name in enumerate(servers))

    def _suits(self, name: str, request: PromptRequest) -> bool:
        load = self.loads[name]
        return load.fits(request) and load.has_room and not load.is_quarantined

    def _count_loaded(self, checkpoint: Any) -> int:
        """The number of servers that have a checkpoint loaded."""
        return sum(load.last is not None and load.last.checkpoint == checkpoint for load in self.loads.values())

    def _count_down(self, request: PromptRequest) -> None:
        if self._images_left is not None:
            self._images_left -= len(request.samples)

    def _give(self, name: str, item: WorkItem, now: float) -> None:
        self.loads[name].give(item.request, now)
        self.active += 1
