"""Reading ahead: the items of a blocking iterator, read in a thread while those before them are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, TypeVar

from reggen.engine.threads import Threads

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Windows of up to ``size`` items, each read while the one before it is used.

    ``on_ready`` is called on the event loop whenever a window has been read.
    """

    def __init__(self, items: Iterator[Item], threads: Threads, size: int) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self._items, self._threads, self._size = items, threads, size
        self._loop = asyncio.get_running_loop()
        self._reading: Future[list[Item]] | None = self._read()

    def __call__(self) -> list[Item] | None:
        """Take the next window: empty at the end, None while it is being read. Raises what the iterator raised."""
        if self._reading is None:
            return []
        if not self._reading.done():
            return None
        window = self._reading.result()
        self._reading = self._read() if window else None
        return window

    def _read(self) -> Future[list[Item]]:
        reading = self._threads.submit(lambda: list(islice(self._items, self._size)))
        reading.add_done_callback(self._is_read)
        return reading

    def _is_read(self, _: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell_ready)

    def _tell_ready(self) -> None:
        self.on_ready()
