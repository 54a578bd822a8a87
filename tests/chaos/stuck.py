"""Where tasks wait, as text: printed when a night does not come to its end."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_night: contextvars.ContextVar[int | None] = contextvars.ContextVar("night", default=None)
_owners: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def factory(loop: asyncio.AbstractEventLoop, coro: Any, **given: Any) -> asyncio.Task[Any]:
    """Make a task that remembers to which night it belongs; for `loop.set_task_factory`."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **given)
    if (night := _night.get()) is not None:
        _owners[task] = night
    return task


def belongs_to(night: int) -> None:
    """Make tasks from here on, and the tasks that they start, belong to this night."""
    _night.set(night)


def owner(task: Any) -> int | None:
    """The night of a task, if that is known."""
    return _owners.get(task) if task is not None else None


def stacks(night: int) -> str:
    """The place where every unfinished task of a night waits, from the outermost await to the innermost."""
    tasks = [task for task in asyncio.all_tasks() if _owners.get(task) == night and task is not asyncio.current_task()]
    return "\n".join(f"  {task.get_name()}: {' > '.join(_waits(task.get_coro()))}" for task in tasks)


def _waits(awaited: Any) -> Iterator[str]:
    """The chain of awaits, one frame after another."""
    while awaited is not None:
        frame = _first(awaited, "cr_frame", "ag_frame", "gi_frame")
        if frame is None:
            return
        yield _place(frame)
        awaited = _first(awaited, "cr_await", "ag_await", "gi_yieldfrom")


def _first(thing: Any, *names: str) -> Any:
    """The first of these attributes that is there and not None."""
    return next((found for name in names if (found := getattr(thing, name, None)) is not None), None)


def _place(frame: Any) -> str:
    summary = traceback.extract_stack(frame, limit=1)[0]
    file = Path(summary.filename)
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) and "site-packages" not in file.parts else file.name
    return f"{summary.name} ({shown}:{summary.lineno})"
