"""``batch = "auto"``: the number of images in a prompt that a server makes fastest, found by trying.

A few prompts of 1, 2, 4, 8 ... images with the job's own settings, and seeds that are not the plan's; their images are
not kept. It ends where a larger batch is not faster for each image, does not fit, would leave hardly any memory, or
would cost more than a small part of what is missing. The times are the server's own.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from reggen.backoff import Backoff
from reggen.comfy.client import Client
from reggen.comfy.history import Outcome, Success
from reggen.comfy.submission import submission
from reggen.errors import ExecutionError, SampleError, ServerError
from reggen.job.sampling import SEED_LIMIT
from reggen.planning.plan import Plan, PromptRequest
from reggen.workflow.template import Template

SIZES = (1, 2, 4, 8, 16)
_SHARE, _LEAST = 0.05, 8  # of the missing images, how many may be spent on trying; and the fewest that may be
_WORTH = 0.05  # of the time of an image, that a larger batch must save
_FREE = 0.1  # of the server's memory, that must be left before a batch twice as large is tried
_LONGEST = 900.0  # seconds for one prompt, with the loading of the model
_TIME_SHARE = 0.1  # of the run's time
_POLLS = Backoff(0.05, 2.0)  # between polls for the end of a prompt
_TAKE_BACK = 5.0  # seconds for taking a prompt from the queue


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """The seconds that one server needs for an image, by the size of the batch."""

    server: str
    times: Mapping[int, float]

    @property
    def best(self) -> int:
        """The smallest batch that is nearly as fast as the fastest."""
        fastest = min(self.times.values())
        return min(size for size, seconds in self.times.items() if seconds <= fastest * (1 + _WORTH))

    def __str__(self) -> str:
        tried = ", ".join(f"{size}: {seconds:.3g} s" for size, seconds in self.times.items())
        return f"{self.server} makes an image in batches of {tried}"


def sizes_for(missing: int) -> Iterator[int]:
    """The batches that may be tried when so many images are missing; none when trying is not worth it."""
    budget = max(_LEAST, int(_SHARE * missing)) - 1  # the first prompt loads the model, and its time tells nothing
    for size in SIZES if missing > 2 * _LEAST else ():
        budget -= size
        if budget < 0:
            return
        yield size


async def fastest_batch(
    servers: Sequence[tuple[Client, Template]], plan: Plan, missing: int, seconds_left: float = math.inf
) -> list[BatchTimes]:
    """Measure all servers, each with its template, at the same time; each would make an equal part of what is missing.

    A server that does not answer, or refuses, is left out. A tenth of the run's ``seconds_left`` may be spent;
    when that is not enough the list is empty.
    """
    sizes = tuple(sizes_for(missing // max(1, len(servers))))
    measuring: list[asyncio.Task[BatchTimes]] = []
    limit = _TIME_SHARE * seconds_left if math.isfinite(seconds_left) else None
    with suppress(TimeoutError):
        async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
            measuring = [group.create_task(_measure(*server, plan, sizes)) for server in servers if sizes]
    found = [task.result() for task in measuring if not task.cancelled()]
    return [one for one in found if one.times] if len(found) == len(measuring) else []


async def _measure(client: Client, template: Template, plan: Plan, sizes: Sequence[int]) -> BatchTimes:
    times: dict[int, float] = {}
    with suppress(ServerError, SampleError, TimeoutError):
        await _seconds(client, template, plan, 1)
        for size in sizes:
            times[size] = await _seconds(client, template, plan, size) / size
            smaller = times.get(size // 2)
            if (smaller and times[size] > smaller) or (await client.free_memory() or 1.0) < _FREE:
                break
    return BatchTimes(client.name, times)


async def _seconds(client: Client, template: Template, plan: Plan, size: int) -> float:
    """Seconds that the server is busy with one prompt. Raises the error it ends with; leaves no prompt there then."""
    sample = replace(plan[0], seed=random.randrange(SEED_LIMIT), batch=size)
    graph = template.bind(PromptRequest((sample,)), f"reggen/auto-batch/{uuid.uuid4().hex}")
    began = time.monotonic()
    known_as = (await client.post(submission(graph, "", str(uuid.uuid4()), {}))).prompt_id
    try:
        async with asyncio.timeout(_LONGEST):
            outcome = await _ended(client, known_as)
    except BaseException:  # cancelled, late or failed: none of our prompts is left there
        with suppress(ServerError, TimeoutError):
            async with asyncio.timeout(_TAKE_BACK):
                await client.take_back([known_as])
        raise
    if isinstance(outcome, Success):
        return outcome.seconds or time.monotonic() - began
    if isinstance(outcome, ExecutionError) and outcome.out_of_memory:
        await client.unload_models()
    raise outcome


async def _ended(client: Client, prompt_id: str) -> Outcome:
    """Poll until a prompt has ended."""
    polls = 0
    while True:
        outcome = await client.history(prompt_id)
        if outcome is not None:
            return outcome
        polls += 1
        await asyncio.sleep(_POLLS.ceiling(polls))  # without jitter: one prompt, and its time is measured
