"""A full disk: paused, looked at, resumed. The clock is handed in where it matters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from reggen.backoff import Backoff
from reggen.engine.disk_room import DiskRoom
from reggen.errors import StorageError
from reggen.progress import RunEvent, RunPaused
from tests.scheduling import fleet

FULL = StorageError("reg_001.png", "saving", "the disk is full", full=True)


class Later(Executor):
    """Threads whose work is done when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep the work."""
        future: Future[Any] = Future()
        self.asked.append((future, lambda: fn(*args, **kwargs)))
        return future

    def answer(self) -> None:
        """Do the last work that was asked for."""
        future, work = self.asked[-1]
        try:
            future.set_result(work())
        except OSError as error:
            future.set_exception(error)


class Disk:
    """A disk with a room that the test decides on, a fleet that it holds up, and what is told."""

    def __init__(self) -> None:
        self.free: int | OSError = 0
        self.fleet, self.threads, self.events = fleet({"a": 1}), Later(), list[RunEvent]()
        self.room = DiskRoom(self.fleet, self._free, self.threads, 100, self.events.append, pauses=Backoff(0.0, 0.0))

    def _free(self) -> int:
        if isinstance(self.free, OSError):
            raise self.free
        return self.free

    def paused(self) -> list[str]:
        """The reasons that were told, "" for going on."""
        return [event.why for event in self.events if isinstance(event, RunPaused)]


def test_a_full_disk_holds_the_fleet_and_is_told_once() -> None:
    """However many images it refuses."""
    disk = Disk()
    for _ in range(3):
        disk.room.is_full(FULL)
    assert disk.fleet.held
    assert disk.paused() == ["saving reg_001.png: the disk is full; waiting for room"]


def test_nothing_is_looked_at_while_there_is_room() -> None:
    """And nobody need come back for it."""
    disk = Disk()
    assert disk.room.look(0.0) == math.inf
    assert disk.threads.asked == []


def test_the_run_goes_on_when_there_is_room_again() -> None:
    """Enough of it; a disk that gives no answer, or an error, is asked again."""
    disk = Disk()
    disk.room.is_full(FULL)
    held = []
    for disk.free in (99, OSError("gone"), 100):
        now = time.monotonic() + 1.0
        assert disk.room.look(now) < math.inf, "it has been asked"
        assert disk.room.look(now) < math.inf, "and does not say anything yet"
        disk.threads.answer()
        disk.room.look(now)
        held.append(disk.fleet.held)
    assert len(disk.threads.asked) == 3
    assert held == [True, True, False]
    assert disk.paused()[1:] == [""]
    assert disk.room.look(time.monotonic()) == math.inf


def test_a_disk_that_says_it_has_room_and_refuses_is_asked_less_often() -> None:
    """Each time in a row; an image that it takes begins anew."""
    made = fleet({"a": 1})
    pauses = Backoff(64.0, 256.0)
    ceilings: list[float] = []

    class Watched(Backoff):
        def ceiling(self, failures: int) -> float:
            ceilings.append(pauses.ceiling(failures))
            return 0.0

    room = DiskRoom(made, lambda: 0, Later(), 1, lambda _: None, pauses=Watched(0.0, 0.0))
    for _ in range(4):
        room.is_full(FULL)
        made.held = False
    room.has_taken_an_image()
    room.is_full(FULL)
    assert ceilings == [64.0, 128.0, 256.0, 256.0, 64.0]
