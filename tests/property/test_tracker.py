"""The tracking of prompts, explored exhaustively: every order of a few mishaps ends with every prompt settled.

The world below is the smallest that has the facts: a queue, one worker, a history, and a socket whose frames can be
late, lost or doubled. After every possible beginning of so many moves the rest of the night is as bad as it may be
(every further frame is lost); the tracker must still settle everything by polling, and truly.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest

from reggen.comfy.frames import Ended, EndSignal, Event, QueueDepth, Started
from reggen.comfy.history import Outcome, Success
from reggen.comfy.tracker import PromptTracker
from reggen.errors import PromptLost

MOVES = ("work", "deliver", "lose", "double", "drop", "connect", "restart", "poll", "wait")


@dataclass
class World:
    """A server, the way to it, and the tracker on this side. ``now`` moves only by "wait".

    The first ``inherited`` prompts were posted by an earlier run: their frames go to a client id that is no more.
    """

    prompts: int
    inherited: int = 0
    tracker: PromptTracker = field(default_factory=lambda: PromptTracker("here"))
    now: float = 0.0
    queue: list[str] = field(default_factory=list)
    running: str | None = None
    history: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    frames: list[Event] = field(default_factory=list)
    is_open: bool = True
    endings: dict[str, Outcome] = field(default_factory=dict)
    polls: Counter[str] = field(default_factory=Counter)

    def begin(self) -> World:
        self.tracker.connected(self.now)
        self.frames.append(QueueDepth(0))
        for number in range(self.prompts):
            name = f"p{number}"
            if number < self.inherited:
                self.queue.append(name)
                self.tracker.took_over(name, self.now)
                continue
            self.tracker.posting(name, self.now)
            self.queue.append(name)
            self.say(QueueDepth(self.depth))
            self.tracker.accepted(name, name, self.now)
        return self

    @property
    def depth(self) -> int:
        return len(self.queue) + (self.running is not None)

    def say(self, *events: Event) -> None:
        if self.is_open:
            self.frames.extend(event for event in events if not self._is_for_the_dead(event))

    def _is_for_the_dead(self, event: Event) -> bool:
        return isinstance(event, Started | Ended) and int(event.prompt_id[1:]) < self.inherited

    def can(self, move: str) -> bool:
        match move:
            case "work":
                return self.depth > 0
            case "deliver" | "lose" | "double":
                return bool(self.frames)
            case "drop":
                return self.is_open
            case "connect":
                return not self.is_open
            case "poll":
                return bool(self.tracker.due(self.now))
        return True

    def move(self, move: str) -> None:
        match move:
            case "work":
                self.work()
            case "deliver":
                self.tracker.frame(self.frames.pop(0), self.now)
            case "lose":
                self.frames.pop(0)
            case "double":
                self.tracker.frame(self.frames[0], self.now)
            case "drop":
                self.drop()
            case "connect":
                self.is_open = True
                self.tracker.connected(self.now)
                self.say(QueueDepth(self.depth))
            case "restart":
                self.forgotten |= {*self.queue, *self.history} | ({self.running} if self.running else set())
                self.queue, self.running, self.history = [], None, set()
                self.drop()
            case "poll":
                self.poll()
            case "wait":
                self.now += 1.0

    def work(self) -> None:
        if self.running is None:
            self.running = self.queue.pop(0)
            self.say(Started(self.running))
        else:
            name, self.running = self.running, None
            self.say(Ended(name, EndSignal.SUCCESS))
            self.history.add(name)
            self.say(QueueDepth(self.depth), Ended(name, EndSignal.OVER))

    def drop(self) -> None:
        self.is_open = False
        self.frames.clear()
        self.tracker.disconnected()

    def poll(self) -> None:
        """As a session does it: the queue first, the history second."""
        due = self.tracker.due(self.now)
        here = {*self.queue, *([self.running] if self.running else [])}
        for name in due.full:
            self.polls[name] += 1
            if name in here:
                self.settle(name, self.tracker.polled(name, None, True, self.now))
            else:
                self.settle(name, self.tracker.polled(name, self.entry(name), False, self.now))
        for name in due.quick:
            self.polls[name] += 1
            self.settle(name, self.tracker.polled(name, self.entry(name), None, self.now))

    def entry(self, name: str) -> Outcome | None:
        return Success({}, 1.0) if name in self.history else None

    def settle(self, name: str, ending: Outcome | None) -> None:
        if ending is None:
            return
        assert name not in self.endings, "settled twice"
        if isinstance(ending, PromptLost):
            assert name in self.forgotten, "called lost although the server has it"
        self.endings[name] = ending

    def finish(self) -> None:
        """The server works on; every further frame is lost; only polls are left."""
        while self.depth:
            self.work()
        self.frames.clear()
        for _ in range(60):
            if len(self.endings) == self.prompts:
                return
            wake = self.tracker.wake_at()
            assert not math.isinf(wake), "nothing will ever happen again"
            self.now = max(self.now, wake)
            if self.tracker.canary.check(self.now):
                self.drop()
            self.poll()
        raise AssertionError("not settled after sixty polls")


def explore(prompts: int, depth: int, inherited: int = 0) -> int:
    """Every legal sequence of moves up to this length; returns how many there were."""
    tried = 0
    stack: list[tuple[str, ...]] = [()]
    while stack:
        path = stack.pop()
        world = World(prompts, inherited).begin()
        for move in path:
            world.move(move)
        if len(path) < depth:
            stack.extend((*path, move) for move in MOVES if world.can(move))
        try:
            world.finish()
        except AssertionError as error:
            raise AssertionError(f"{error} after {' '.join(path)}") from error
        tried += 1
    return tried


@pytest.mark.parametrize(("prompts", "depth"), [(1, 7), (2, 6)])
def test_every_order_of_mishaps_ends_settled_and_true(prompts: int, depth: int) -> None:
    """Never stuck, never settled twice, never called lost while the server still has it."""
    assert explore(prompts, depth) > 10_000


@pytest.mark.parametrize(("prompts", "inherited", "depth"), [(1, 1, 7), (2, 1, 6), (2, 2, 6)])
def test_so_do_the_prompts_that_an_earlier_run_has_left(prompts: int, inherited: int, depth: int) -> None:
    """After a kill -9 and a restart of reggen, whatever the server had come to by then and comes to after."""
    assert explore(prompts, depth, inherited) > 3_000


def test_in_the_steady_state_each_prompt_is_polled_once() -> None:
    """Every frame delivered in order: one poll for each."""
    world = World(2).begin()
    while world.depth or world.frames or world.can("poll"):
        for move in ("deliver", "poll", "work"):
            if world.can(move):
                world.move(move)
                break
    assert set(world.endings) == {"p0", "p1"}
    assert world.polls == {"p0": 1, "p1": 1}
