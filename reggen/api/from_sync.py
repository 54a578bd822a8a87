"""Coroutines for callers that are not asynchronous, in scripts and in notebooks, whose own event loop is running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_TICK = 0.5  # seconds: Windows sees Ctrl-C only between two waits
Answer = TypeVar("Answer")


def wait_for(work: Callable[[], Coroutine[Any, Any, Answer]], interrupt: Callable[[], None]) -> Answer:
    """Run a coroutine to its end on an event loop in a thread of its own, and return its result.

    Ctrl-C calls ``interrupt``, which may be called several times; the end is waited for, and KeyboardInterrupt raised.
    """
    done: Future[Answer] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            done.set_exception(error)

    thread = threading.Thread(target=run, name="reggen-loop", daemon=True)
    thread.start()
    interrupted = False
    while not done.done():
        try:
            while thread.is_alive():
                thread.join(_TICK)
        except KeyboardInterrupt:
            interrupted = True
            interrupt()
    if interrupted:
        raise KeyboardInterrupt
    return done.result()
