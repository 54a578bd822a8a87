"""A sleep ends at its time, or earlier when somebody rings."""

from __future__ import annotations

import asyncio
import math
import time

from reggen.comfy.alarm import Alarm


async def sleeper(alarm: Alarm, when: float) -> asyncio.Task[None]:
    """A task that sleeps already."""
    task = asyncio.create_task(alarm.sleep_until(when))
    await asyncio.sleep(0)
    return task


async def test_a_sleep_ends_at_its_time() -> None:
    """Also where that has passed already."""
    alarm = Alarm(time.monotonic)
    async with asyncio.timeout(5):
        await alarm.sleep_until(time.monotonic() + 0.01)
        await alarm.sleep_until(-math.inf)


async def test_a_ring_ends_the_sleep_and_is_used_up() -> None:
    """It also counts when it came just before the sleep."""
    alarm = Alarm(time.monotonic)
    async with asyncio.timeout(5):
        alarm.ring()
        await alarm.sleep_until(math.inf)
        task = await sleeper(alarm, math.inf)
        assert not task.done()
        alarm.ring()
        await task


async def test_something_due_later_does_not_end_the_sleep() -> None:
    """Something due earlier does."""
    alarm = Alarm(lambda: 0.0)
    async with asyncio.timeout(5):
        task = await sleeper(alarm, 100.0)
        alarm.ring_by(200.0)
        await asyncio.sleep(0)
        assert not task.done()
        alarm.ring_by(50.0)
        await task
