"""Before the first prompt: which servers are there, and whether they can take this job.

Asks each server, one thing after the other, whether prompts can be followed there, and for the node classes the graph
needs; holds the job's values (checkpoint, sampler, scheduler and every other choice in the graph) against the lists
they name. A server that limits requests is asked again when it says so. Generates nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reggen.comfy.client import NOBODY, Client
from reggen.comfy.node_classes import choices_of, suggestion
from reggen.errors import HttpStatusError, ServerError, UntrustedCertificate
from reggen.workflow.template import Template

_AT_ONCE = 64  # servers: more of them would take each other's time
_UNKNOWN = (404, 405, 501)  # what other servers say to GET /prompt
_GRACE = 8.0  # seconds in which none is done, after which the servers that are ready wait for no other
_BUSY = (429, 502, 503, 504)  # a limit on requests, or a server that is still starting, in the words of proxies
_PAUSES = (0.5, 4.0)  # seconds: the first pause before a busy server is asked again, and all of them together
_LONGEST = 60.0  # seconds of pauses that a server itself may ask for
_A1111 = {  # what other tools call them
    "euler a": "euler_ancestral",
    "dpm++ 2m": "dpmpp_2m",
    "dpm++ 2m karras": "dpmpp_2m, with scheduler karras",
    "dpm++ sde": "dpmpp_sde",
    "dpm++ sde karras": "dpmpp_sde, with scheduler karras",
    "dpm++ 2m sde": "dpmpp_2m_sde",
    "dpm++ 2m sde karras": "dpmpp_2m_sde, with scheduler karras",
    "dpm++ 2s a": "dpmpp_2s_ancestral",
    "dpm2": "dpm_2",
    "dpm2 a": "dpm_2_ancestral",
    "unipc": "uni_pc",
}
Answer = TypeVar("Answer")
_SEPARATORS = re.compile(r"[\\/]+")


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """One server: unreachable (``away`` says how), unfit (``problems``), or ready."""

    server: str
    version: str | None = None
    remaining: int = 0
    away: str = ""
    problems: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """It can take this job."""
        return not self.away and not self.problems

    @property
    def why(self) -> str:
        """Why it is not used; empty when it is ready."""
        return self.away or ("it is left out of this run: " + "; ".join(self.problems) if self.problems else "")


async def examine(clients: Sequence[Client], template: Template) -> list[ServerCheck]:
    """Examine all servers, many at once. Never raises ServerError.

    Each request has the client's own time-out. Once some server is ready, the others are waited for only as long as
    one of them is done within `_GRACE` seconds.
    """
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(client: Client) -> ServerCheck:
        async with turns:
            return await _examine(client, template)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one(client)) for client in clients]
        waiting = set(asked)
        while waiting:
            ready = any(task.done() and task.result().ready for task in asked)
            grace = _GRACE if ready else None
            done, waiting = await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
        for task in waiting:
            task.cancel()
    late = [ServerCheck(client.name, away="no answer yet") for client in clients]
    return [none if task.cancelled() else task.result() for task, none in zip(asked, late, strict=True)]


async def _examine(client: Client, template: Template) -> ServerCheck:
    try:
        try:
            remaining = await _asked(client.remaining)
        except HttpStatusError as refusal:
            if refusal.status in _UNKNOWN:
                what = f"HTTP {refusal.status} to /prompt: no ComfyUI is there, or none yet (a pod that is starting)"
                return ServerCheck(client.name, away=f"{what}; {refusal.remedy}" if refusal.remedy else what)
            raise
        await _asked(partial(client.history, NOBODY))
        version = await _asked(client.version)
        problems = [problem for kind in template.classes for problem in await _class(client, template, kind)]
    except UntrustedCertificate as error:  # waiting makes no certificate right
        return ServerCheck(client.name, problems=(error.with_remedy,))
    except ServerError as error:
        return ServerCheck(client.name, away=error.with_remedy)
    return ServerCheck(client.name, version, remaining, problems=tuple(problems))


async def _asked(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """An answer; one that is put off is asked for again, as long as the server wants, within limits."""
    pause, paused, waited = _PAUSES[0], 0.0, 0.0
    while True:
        try:
            return await ask()
        except HttpStatusError as refusal:
            if refusal.status not in _BUSY:
                raise
            paused, waited = paused + pause, waited + refusal.retry_after
            if waited > _LONGEST or (not refusal.retry_after and paused > _PAUSES[1]):
                raise
            await asyncio.sleep(max(pause, refusal.retry_after))
            pause *= 1.5


async def _class(client: Client, template: Template, kind: str) -> list[str]:
    spec = await _asked(partial(client.node_class, kind))
    nodes = template.classes[kind]
    if spec is None:
        labels = ", ".join(template.label(node_id) for node_id in nodes)
        return [f"it has no node class {kind!r}, which {labels} needs; install the custom node it belongs to"]
    inputs = _inputs(spec)
    problems = [problem for node_id in nodes for problem in _values(template, node_id, inputs)]
    if template.output in nodes and spec.get("output_node") is False:
        problems.append(f"{template.label(template.output)} saves nothing: choose another output")
    return problems


def _inputs(spec: dict[str, Any]) -> dict[str, Any]:
    groups = spec.get("input")
    groups = groups if isinstance(groups, dict) else {}
    return {name: value for group in ("required", "optional") for name, value in (groups.get(group) or {}).items()}


def _is_closed_list(spec: Any) -> bool:
    """Whether only the values named are accepted: not uploads, nor lists the server has to fetch first."""
    if not isinstance(spec, list | tuple) or not spec:
        return False
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    open_ended = any(key in options for key in ("image_upload", "video_upload", "audio_upload", "remote"))
    return (isinstance(spec[0], list) or (spec[0] == "COMBO" and "options" in options)) and not open_ended


def _values(template: Template, node_id: str, inputs: dict[str, Any]) -> list[str]:
    problems = []
    for name, got in (*template.settled(node_id).items(), *template.variants(node_id)):
        spec = inputs.get(name)
        choices = choices_of(spec)
        if not _is_closed_list(spec) or isinstance(got, list) or str(got) in choices:
            continue
        what = f"{template.label(node_id)}: {name} {got!r} is not in the server's list"
        if meant := _A1111.get(str(got).lower()):
            problems.append(f"{what}; ComfyUI calls it {meant}")
        elif same := [choice for choice in choices if _SEPARATORS.split(choice) == _SEPARATORS.split(str(got))]:
            problems.append(f"{what}; it is written {same[0]!r} there")
        else:
            problems.append(what + (suggestion(str(got), choices) or "; the list is empty"))
    return problems
