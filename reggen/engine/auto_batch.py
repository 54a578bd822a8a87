"""``batch = "auto"``: how many images of one prompt a server makes fastest, found out by trying.

A few prompts of 1, 2, 4, 8 ... images with the job's own settings, whose pictures nobody keeps; their seeds are none
of the plan's. It ends where a larger batch is no faster for each image, does not fit, would leave hardly any memory, or
would cost more than a small part of what is to be made. The times are the server's own.
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

from reggen.comfy.client import Client
from reggen.comfy.history import Outcome, Success
from reggen.comfy.submission import submission
from reggen.errors import ExecutionError, SampleError, ServerError
from reggen.job.models import SEED_LIMIT
from reggen.planning.plan import Plan, PromptRequest
from reggen.workflow.template import Template

SIZES = (1, 2, 4, 8, 16)
_SHARE, _LEAST = 0.05, 8  # of the images that are missing, how many may be spent on it; and always so many
_WORTH = 0.05  # of the time of an image, that a larger batch must save
_FREE = 0.1  # of the server's memory, that must be left before a batch twice as large is tried
_LONGEST = 900.0  # seconds for one prompt, the loading of the model with it
_PATIENT = 0.1  # of the run's time
_LOOKS = (0.05, 2.0)  # seconds between looks: the first, the longest


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What one server was found to do: seconds for each image, by the size of the batch. ``best`` is to be used."""

    server: str
    times: Mapping[int, float]

    @property
    def best(self) -> int:
        """The smallest that is nearly as fast as the fastest."""
        fastest = min(self.times.values())
        return min(size for size, seconds in self.times.items() if seconds <= fastest * (1 + _WORTH))

    def __str__(self) -> str:
        tried = ", ".join(f"{size}: {seconds:.3g} s" for size, seconds in self.times.items())
        return f"{self.server} makes an image in batches of {tried}"


def sizes_for(missing: int) -> Iterator[int]:
    """The batches that may be tried when so many images are missing; empty when it is not worth it."""
    budget = max(_LEAST, int(_SHARE * missing)) - 1  # the first prompt loads the model, and tells nothing
    for size in SIZES if missing > 2 * _LEAST else ():
        budget -= size
        if budget < 0:
            return
        yield size


async def fastest_batch(
    clients: Sequence[Client], template: Template, plan: Plan, missing: int, left: float = math.inf
) -> list[BatchTimes]:
    """Try it on every server at the same time, of which each would make its part of what is missing.

    A server that does not answer, or refuses, is left out. ``left`` is how many seconds the run has; a tenth of them
    may go by.
    """
    sizes = tuple(sizes_for(missing // max(1, len(clients))))
    trying: list[asyncio.Task[BatchTimes]] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENT * left if math.isfinite(left) else None), asyncio.TaskGroup() as group:
            trying = [group.create_task(_gauge(client, template, plan, sizes)) for client in clients if sizes]
    found = [task.result() for task in trying if not task.cancelled()]
    return [one for one in found if one.times] if len(found) == len(trying) else []


async def _gauge(client: Client, template: Template, plan: Plan, sizes: Sequence[int]) -> BatchTimes:
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
    """How long the server is busy with one prompt. Raises what goes wrong, and leaves nothing of ours there then."""
    sample = replace(plan[0], seed=random.randrange(SEED_LIMIT), batch=size)
    graph = template.bind(PromptRequest((sample,)), f"reggen/gauge/{uuid.uuid4().hex}")
    begun = time.monotonic()
    known_as = (await client.post(submission(graph, "", str(uuid.uuid4()), {}))).prompt_id
    try:
        async with asyncio.timeout(_LONGEST):
            outcome = await _ended(client, known_as)
    except BaseException:  # cancelled, late or failed: nothing of ours is left there
        with suppress(ServerError, TimeoutError):
            async with asyncio.timeout(5.0):
                await client.take_back([known_as])
        raise
    if isinstance(outcome, Success):
        return outcome.seconds or time.monotonic() - begun
    if isinstance(outcome, ExecutionError) and outcome.out_of_memory:
        await client.unload_models()
    raise outcome


async def _ended(client: Client, prompt_id: str) -> Outcome:
    pause, longest = _LOOKS
    while True:
        outcome = await client.history(prompt_id)
        if outcome is not None:
            return outcome
        await asyncio.sleep(pause)
        pause = min(longest, 1.5 * pause)
