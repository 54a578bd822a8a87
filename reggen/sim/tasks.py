"""The tasks of one stand-in: all of them end with it, and none fails unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class OwnedTasks:
    """Tasks that are cancelled together. The failure of one goes to the event loop's exception handler."""

    def __init__(self, owner: Callable[[], str]) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run a coroutine as a task of its own."""
        task = asyncio.create_task(work)
        self.own(task)
        return task

    def own(self, task: asyncio.Task[Any]) -> None:
        """Take in a task that somebody else has started."""
        if task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._disown)

    async def cancel(self) -> None:
        """End every task but the caller's own, and wait until they have ended."""
        doomed = self._tasks - {asyncio.current_task()}
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            context = {"message": f"a task of the stand-in at {self._owner()} has failed", "exception": error}
            task.get_loop().call_exception_handler(context)
