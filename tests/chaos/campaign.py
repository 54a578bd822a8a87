"""Many nights at once: several processes, and in each of them several nights in one loop.

A night is mostly waiting, so one loop lives through dozens of them at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import multiprocessing
import queue
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from typing import Any

from tests.chaos import stuck
from tests.chaos.living import DEADLINES, Outcome, live
from tests.chaos.nights import Kind

AT_ONCE: dict[Kind, int] = {"inprocess": 24, "cli": 3}
"""Nights at a time in one process; with more its loop would be late, and late answers are faults."""

Work = tuple[int, Kind]


def nights(work: Sequence[Work], *, jobs: int = 2, also: Sequence[str] = ()) -> Iterator[Outcome]:
    """Live through nights in so many processes; yields outcomes as nights end."""
    context = multiprocessing.get_context("spawn")
    out: Queue[Outcome] = context.Queue()
    shares = [work[number::jobs] for number in range(jobs)]
    workers = [context.Process(target=_work, args=(share, tuple(also), out), daemon=True) for share in shares if share]
    for worker in workers:
        worker.start()
    missing = set(work)
    try:
        while missing:
            alive = any(worker.is_alive() for worker in workers)
            if (outcome := _next(out)) is not None:
                missing.discard((outcome.seed, outcome.kind))
                yield outcome
            elif not alive:
                yield from (Outcome(seed, kind, failure="its process died") for seed, kind in sorted(missing))
                return
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _next(out: Queue[Outcome]) -> Outcome | None:
    """The next outcome; None if there is none within a second."""
    with contextlib.suppress(queue.Empty):
        return out.get(timeout=1.0)
    return None


def _work(work: Sequence[Work], also: tuple[str, ...], out: Queue[Outcome]) -> None:
    """Live through a share of the nights in a process of its own."""
    faulthandler.enable()
    asyncio.run(_share(work, also, out))


def _unless_gone(record: logging.LogRecord) -> bool:
    """Drop aiohttp's record of a client that has gone before its socket was open."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))


async def _share(work: Sequence[Work], also: tuple[str, ...], out: Queue[Outcome]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(stuck.factory)
    complaints: dict[int | None, list[str]] = {}

    def complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        found = stuck.owner(context.get("task") or context.get("future"))
        error = context.get("exception")
        complaints.setdefault(found, []).append(f"{context['message']}: {error!r}")

    def unraisable(args: Any) -> None:
        complaints.setdefault(None, []).append(f"{args.err_msg or 'ignored'}: {args.exc_value!r} in {args.object!r}")

    logging.getLogger("aiohttp.server").addFilter(_unless_gone)
    loop.set_exception_handler(complain)
    sys.unraisablehook = unraisable
    waiting = {kind: iter([seed for seed, one in work if one == kind]) for kind in AT_ONCE}

    async def one_after_another(kind: Kind) -> None:
        for seed in waiting[kind]:
            outcome = await asyncio.create_task(live(seed, kind, also))
            if (said := complaints.pop(seed, [])) and not outcome.failure:
                outcome.failure = "errors that nothing awaited: " + "; ".join(said)
            if said := complaints.pop(None, []):
                print(f"chaos: some night left behind {'; '.join(said)}", file=sys.stderr, flush=True)
            out.put(outcome)
            faulthandler.dump_traceback_later(2 * max(DEADLINES.values()), exit=True)  # a loop that stands still

    async with asyncio.TaskGroup() as group:
        for kind, most in AT_ONCE.items():
            for _ in range(most):
                group.create_task(one_after_another(kind))
    faulthandler.cancel_dump_traceback_later()
