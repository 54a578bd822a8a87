"""Requests and fleets for tests: no clock, no chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from reggen.planning.plan import PromptRequest, Sample
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.health import FleetHealth
from reggen.scheduler.order_queue import NEAR, RequestSource


def request(index: int, positive: str = "a cat", checkpoint: str | None = None, **more: Any) -> PromptRequest:
    """One image for a slot."""
    settings = (("checkpoint", checkpoint),) if checkpoint else ()
    return PromptRequest(
        (Sample(index, 0, f"reg_{index + 1:03d}", positive, "", seed=index, settings=settings, **more),)
    )


def batch_of(count: int, first: int = 0) -> PromptRequest:
    """One prompt for so many slots."""
    slots = range(first, first + count)
    return PromptRequest(
        tuple(Sample(slot, 0, f"reg_{slot + 1:03d}", "", "", 0, batch=count, position=slot - first) for slot in slots)
    )


def windows(requests: Iterable[PromptRequest], size: int = NEAR) -> RequestSource:
    """A source whose next window is always there."""
    left = iter(requests)
    return lambda: list(islice(left, size))


def no_jitter(ceiling: float) -> float:
    """The longest pause each time."""
    return ceiling


def fleet(
    depths: Mapping[str, int | None],
    source: int | RequestSource = 0,
    *,
    images: int | None = None,
    one_text: bool = False,
    up: bool = True,
) -> Fleet:
    """Servers that are up, and so many requests, or those of a source."""
    health = FleetHealth(depths, no_jitter, 0.0, one_text=one_text)
    requests = windows(map(request, range(source))) if isinstance(source, int) else source
    made = Fleet(depths, requests, health, no_jitter, images=images)
    for name in depths if up else ():
        health.server_changed(name, up=True, now=0.0)
    return made
