"""Ending a run's tasks."""

from __future__ import annotations

import asyncio

from reggen.engine.run import _cancel


async def test_tasks_that_swallow_a_cancellation_are_ended_all_the_same() -> None:
    """A library beneath can take one for its own time-out; the night must end."""

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async with asyncio.timeout(20):
        tasks = [asyncio.ensure_future(stubborn()) for _ in range(2)]
        await asyncio.sleep(0)
        await _cancel(tasks)
    assert all(task.cancelled() for task in tasks)
