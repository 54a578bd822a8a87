"""Which errand goes to which server, and when. Pure state: synchronous, ``now`` and the jitter handed in.

A server has ``depth`` slots; an errand holds one from the post until the prompt has ended, not while its
images are fetched. New errands are taken from the plan only when a slot is free for one and not too many
are still being fetched, so nothing here grows with the plan.

Towards the end fast and slow servers are to end together: a server is given one of the last orders only where the
others could not have made all of them by the time it would be done.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reggen.comfy.history import Success
from reggen.comfy.listings import OrphanedPrompt
from reggen.planning.plan import PromptRequest
from reggen.scheduler.circuit_breaker import CircuitBreaker, ServerCare
from reggen.scheduler.order_queue import NEAR, OrderQueue
from reggen.scheduler.retry import AttemptCounts
from reggen.scheduler.server_slots import FETCHING, ServerSlots, TailAssignment

_REFUSALS = 3  # prompts in a row a server may refuse, before it is left out
_BARRED = 5
"""Posts in a row, of different texts or of the only one there is, that a proxy may refuse for good; then its server is
left out."""
_RAISED, _RAISED_ALIKE = 3, 10
"""Prompts in a row, of different texts and of one of several, that may raise on a server while others make images,
before it is at fault."""
_LONGEST_REST = 1800.0  # seconds


@dataclass(frozen=True, slots=True)
class Completed:
    """What a server has made already: the prompt, its pictures, and the seconds from its post to its end."""

    prompt_id: str
    outcome: Success
    waited: float


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One order and what was spent on it in this run.

    ``at`` is the server that has a prompt for it already: one that an earlier run has posted (``orphan``), or one
    that has ended and whose pictures are still to be fetched (``made``).
    """

    request: PromptRequest
    tries: AttemptCounts = field(default_factory=AttemptCounts)
    at: str | None = None
    orphan: OrphanedPrompt | None = None
    made: Completed | None = None


@dataclass(eq=False, slots=True)
class _Delayed:
    not_before: float
    item: WorkItem


class Fleet:
    """The servers' slots and the errands that wait."""

    def __init__(
        self,
        depths: Mapping[str, int | None],
        requests: Iterator[PromptRequest],
        jitter: Callable[[float], float],
        *,
        patience: float = 30.0,
        images: int | None = None,
        window: int = NEAR,
        one_text: bool = False,
    ) -> None:
        """A depth of None follows what is measured; ``images`` is how many the orders are for, where it is known."""
        self._servers = {name: ServerSlots(depth, CircuitBreaker(jitter)) for name, depth in depths.items()}
        self._queue, self._jitter, self._patience = OrderQueue(requests, window), jitter, patience
        self._left = images
        self._waiting: list[_Delayed] = []
        self._adopted: list[tuple[str, WorkItem]] = []
        self._stopped = self._held = self._expecting = False
        self._left_to_others = math.inf  # until when some server is given nothing more
        self._active = 0
        self._made, self._one_text = 0, one_text
        self._succeeded = False

    # ---- what to do

    def assign(self, now: float, most: float = math.inf) -> list[tuple[str, WorkItem]]:
        """Hand out what can be handed out now; each pair holds a slot until `release` and is active until `finish`.

        ``most`` is how many may be handed out beside those that are on a server already.
        """
        given, self._adopted = self._adopted, []
        self._left_to_others = math.inf
        for name, item in given:
            self._hold(name, item.request, now)
        most += len(given)
        if self._stopped or self._held:
            return given
        open_ones = [name for name, server in self._servers.items() if server.is_open(now)]
        kept_free: set[str] = set()
        while len(given) < most and (pair := self._due(now, open_ones, kept_free)):
            self._hold(pair[0], pair[1].request, now)
            given.append(pair)
        if len(self._waiting) <= 2 * self._most_active():  # or more failures than can be worked off: nothing new on top
            self._hand_out([name for name in open_ones if name not in kept_free], given, most, now)
        return given

    def adopt(self, name: str, request: PromptRequest, orphan: OrphanedPrompt) -> bool:
        """Whether the order is still to be handed out; then it is what a server does already, for an earlier run."""
        if self._stopped or not self._queue.claim({sample.index for sample in request.samples}):
            return False
        self._count(request)
        self._adopted.append((name, WorkItem(request, at=name, orphan=orphan)))
        return True

    def expect(self, *, more: bool) -> None:
        """Whether somebody is still looking for what else there is to be made, and will put it in with `again`."""
        self._expecting = more

    @property
    def exhausted(self) -> bool:
        """Nothing is left to be handed out but what may be put back."""
        return self._queue.empty and not self._waiting

    @property
    def finished(self) -> bool:
        """Nothing is active and nothing will be."""
        idle = self._active == 0
        return idle and not self._adopted and (self._stopped or (self.exhausted and not self._expecting))

    @property
    def held(self) -> bool:
        """Nothing is handed out for now."""
        return self._held

    @property
    def stopped(self) -> bool:
        """Nothing more is handed out."""
        return self._stopped

    @property
    def active(self) -> int:
        """Errands handed out and not finished."""
        return self._active

    def wake_at(self, now: float) -> float:
        """When `assign` may have something new to give, if nothing else happens; may be infinite."""
        rests = [rest for server in self._servers.values() if (rest := server.breaker.rests_until) > now]
        waits = [waiting.not_before for waiting in self._waiting if waiting.not_before > now]
        downs = [server.down_since + self._patience for server in self._servers.values() if server.down_since]
        return min([self._left_to_others, *rests, *waits, *(down for down in downs if down > now)])

    def probes(self, now: float) -> list[str]:
        """The servers whose rest is over: see whether they answer, and say so with `probed` or `failed`."""
        there = [name for name, server in self._servers.items() if server.up and not server.out]
        return [name for name in there if self._servers[name].breaker.wants_probe(now)]

    def probed(self, name: str) -> None:
        """A server answered its probe: it is given one prompt on trial."""
        self._servers[name].breaker.probed()

    @property
    def well(self) -> bool:
        """Whether any server is there and not on trial."""
        return any(server.up and not server.out and not server.breaker.on_trial for server in self._servers.values())

    def others_up(self, name: str) -> bool:
        """Whether a server other than ``name`` can take work."""
        return bool(self.usable - {name})

    @property
    def usable(self) -> frozenset[str]:
        """The servers that can take work now."""
        return frozenset(name for name, server in self._servers.items() if server.up and not server.out)

    def candidates(self, now: float) -> frozenset[str]:
        """The servers that can take work, or went away so lately that they are worth waiting for."""
        return frozenset(
            name
            for name, server in self._servers.items()
            if not server.out and (server.up or self._is_expected(server, now))
        )

    def _is_expected(self, server: ServerSlots, now: float) -> bool:
        if server.down_since is None:
            server.down_since = now
        return now - server.down_since < self._patience

    # ---- what happened

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True

    def spare(self, name: str, *, spared: bool = True) -> None:
        """Give a server nothing more for now."""
        self._servers[name].spared = spared

    def hold(self) -> None:
        """Hand out nothing until `resume`."""
        self._held = True

    def resume(self) -> None:
        """Go on after `hold`."""
        self._held = False

    def server_is(self, name: str, up: bool, now: float = 0.0) -> None:
        """A server came or went."""
        server = self._servers[name]
        if up and not server.up and server.was_up:
            server.breaker.came_back()
        server.up, server.down_since, server.was_up = up, None if up else now, server.was_up or up

    def accepted(self, name: str) -> None:
        """A server took a prompt and ended it, well or not."""
        server = self._servers[name]
        server.refusals = 0
        server.barred.clear()
        if not self._is_ailing(server):
            server.breaker.worked()
        self._succeeded = True

    def delivered(self, name: str) -> None:
        """A good picture came from a server."""
        server = self._servers[name]
        server.breaker.well()
        server.made += 1
        self._made += 1
        server.raised.clear()

    def raised(self, name: str, now: float, rest: float, *, text: str = "", before: Collection[str] = ()) -> bool:
        """A node raised on a server. True when that is the server's fault: it raises always, and others make images.

        Then it rests, longer each time; ``rest`` is the first one, in seconds. What raised on another server, too
        (``before``), is the prompt's fault and says nothing of either.
        """
        server = self._servers[name]
        if elsewhere := set(before) - {name}:
            for other in elsewhere:
                del self._servers[other].raised[-1:]
            return False
        others = self._made - server.made
        if not server.raised:
            server.others_made = others
        server.raised.append(text)
        if not self._is_ailing(server):
            return False
        server.breaker.failed(now, min(_LONGEST_REST, rest * 2.0 ** min(len(server.raised) - _RAISED, 16)))
        return True

    def _is_ailing(self, server: ServerSlots) -> bool:
        few = _RAISED_ALIKE if self._are_alike(server.raised) else _RAISED
        return len(server.raised) >= few and self._made - server.made > server.others_made

    def _are_alike(self, texts: list[str]) -> bool:
        """Whether they say something of one text only, where there are others."""
        return len(set(texts)) == 1 and not self._one_text

    @property
    def ailing(self) -> frozenset[str]:
        """The servers on which every prompt raises while others make images."""
        return frozenset(name for name, server in self._servers.items() if self._is_ailing(server))

    def barred(self, name: str, text: str) -> bool:
        """What is in front of a server refused a post for good. True when it is left out from here on."""
        server = self._servers[name]
        server.barred.append(text)
        if server.out or len(server.barred) < _BARRED or self._are_alike(server.barred):
            return False  # one text that is refused, of several, is given up by itself
        server.out = True
        return True

    @property
    def deserted(self) -> bool:
        """Every server is left out, and nothing is active any more."""
        return all(server.out for server in self._servers.values()) and not self._active

    def measured(self, name: str, seconds: float, now: float) -> None:
        """A server was busy so long with one image."""
        self._servers[name].measured(seconds, now)

    def failed(self, name: str, now: float, at_least: float = 0.0) -> None:
        """A server could not be used: it rests, longer each time, and at least as long as it asked for."""
        self._servers[name].breaker.failed(now, at_least)

    def overflowed(self, name: str, batch: int) -> None:
        """A batch of so many pictures does not fit into a server's memory, freed or not."""
        self._servers[name].largest = min(self._servers[name].largest, batch - 1)

    def fits(self, name: str, request: PromptRequest) -> bool:
        """Whether an order's batch may fit into a server's memory, going by what did not."""
        return request.batch <= self._servers[name].largest

    def sick(self, name: str, now: float, rest: float) -> ServerCare:
        """One more prompt of a server ended in bad pictures only, or for want of memory; what to do for it."""
        return self._servers[name].breaker.sick(now, rest)

    def refused(self, name: str) -> bool:
        """A server refused a prompt that others might take. True when it is left out from here on."""
        server = self._servers[name]
        server.refusals += 1
        if server.refusals >= _REFUSALS and not server.out and self.others_up(name):
            server.out = True
            return True
        return False

    @property
    def hopeless(self) -> bool:
        """No prompt of this job was ever taken: a refusal now says something about the job, not the sample."""
        return not self._succeeded

    def release(self, name: str) -> None:
        """A prompt has left the server: its slot is free."""
        server = self._servers[name]
        server.holding -= 1
        server.quarantined = server.quarantined and server.holding > 0

    def finish(self, name: str) -> None:
        """An errand of a server is no longer active: done, given up, or put back with `again`."""
        self._servers[name].active -= 1
        self._active -= 1

    def again(self, item: WorkItem, now: float, ceiling: float) -> None:
        """Put an errand back, to be handed out after a pause drawn from 0 to ``ceiling`` seconds."""
        self._waiting.append(_Delayed(now + self._jitter(ceiling), item))

    def stranded(self, now: float) -> list[WorkItem]:
        """Take out what every server that is there has refused: nobody would ever take it."""
        able = self.candidates(now)
        lost = [one.item for one in self._waiting if able and one.item.tries.refused_by >= able]
        self._waiting = [one for one in self._waiting if one.item not in lost]
        return lost

    # ---- how

    def _most_active(self) -> int:
        return sum(server.depth + FETCHING for server in self._servers.values())

    def _due(self, now: float, open_ones: list[str], kept_free: set[str]) -> tuple[str, WorkItem] | None:
        """A waiting errand whose time has come and a server for it; adds to those that are kept free for a suspect."""
        due = sorted((one for one in self._waiting if one.not_before <= now), key=lambda one: one.not_before)
        if not due:
            return None
        there = [name for name in open_ones if not self._servers[name].quarantined]
        there.sort(key=lambda name: self._servers[name].load)
        free = [name for name in there if name not in kept_free and self._servers[name].has_room]
        for waiting in due:
            item = self._unbound(waiting.item, now)
            suspect = item.tries.is_suspect and item.at is None
            name = self._choose(item, there if suspect else free, now)
            if name is not None and suspect and self._servers[name].holding:
                free = [other for other in free if other != name]  # it gets nothing else before
                kept_free.add(name)
            elif name is not None:
                self._waiting.remove(waiting)
                self._servers[name].quarantined = suspect
                return name, item
        return None

    def _hand_out(self, names: list[str], given: list[tuple[str, WorkItem]], most: float, now: float) -> None:
        """New errands for the free slots of these servers, the emptiest server first."""
        heap = [(self._servers[name].load, place, name) for place, name in enumerate(names)]
        heapq.heapify(heap)
        finish = TailAssignment(self._servers.values(), now)
        while heap and len(given) < most:
            _, place, name = heapq.heappop(heap)
            server = self._servers[name]
            if server.quarantined or not server.has_room or self._leaves_it(server, finish, now):
                continue
            request = self._queue.take(server.last, self._users, server.barred)
            if request is None:
                return
            if request.batch > server.largest:
                mine = (server.load, place, name)
                heap.append(mine)
                fitting = next((one for one in heap if self._servers[one[2]].suits(request)), mine)
                heap.remove(fitting)
                heapq.heapify(heap)
                _, place, name = fitting
            self._count(request)
            self._hold(name, request, now)
            given.append((name, WorkItem(request)))
            heapq.heappush(heap, (self._servers[name].load, place, name))

    def _leaves_it(self, server: ServerSlots, finish: TailAssignment, now: float) -> bool:
        """Whether the others make the rest sooner; if so, notes until when that is believed."""
        if self._left is None:
            return False
        until = finish.leaves_it(server, self._left)
        self._left_to_others = self._left_to_others if until < now else min(self._left_to_others, until)
        return until > now

    def _users(self, checkpoint: Any) -> int:
        return sum(
            server.last is not None and server.last.checkpoint == checkpoint for server in self._servers.values()
        )

    def _count(self, request: PromptRequest) -> None:
        if self._left is not None:
            self._left -= len(request.samples)

    def _unbound(self, item: WorkItem, now: float) -> WorkItem:
        """What a server has made is lost when that server is and there are others; then it is to be made anew."""
        gone = item.at is not None and item.at not in self.candidates(now) and self.others_up(item.at)
        return WorkItem(item.request, item.tries) if gone else item

    def _hold(self, name: str, request: PromptRequest, now: float) -> None:
        self._servers[name].hold(request, now)
        self._active += 1

    def _choose(self, item: WorkItem, free: list[str], now: float) -> str | None:
        """The emptiest server that has not failed it; one that has, only when no other will be free soon."""
        if item.at is not None:
            return item.at if item.at in free else None
        tries = item.tries
        free = sorted(free, key=lambda name: not self.fits(name, item.request))  # stable: among equals the emptiest
        fresh = [name for name in free if name not in tries.avoid]
        if fresh:
            return fresh[0]
        if any(self._servers[name].breaker.rests_until <= now for name in self.usable - tries.avoid):
            return None  # another is only busy: worth waiting for
        willing = [name for name in free if name not in tries.refused_by]
        return willing[0] if willing else None
