"""Checks before the first prompt: the servers that are there, and those that can run this job.

Asks each server, one request after the other, whether prompts can be followed there, and for the node classes that the
graph needs; compares the job's values (checkpoint, sampler, scheduler and every other choice in the graph) with the
lists that the server has. A server that limits requests is asked again after the time that it names. Generates nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reggen import progress
from reggen.backoff import Backoff, full_jitter
from reggen.comfy.client import NOBODY, Client
from reggen.comfy.node_classes import choices_of, suggestion
from reggen.errors import HttpStatusError, JobError, NoUsableServer, Problem, ServerError, UntrustedCertificate
from reggen.progress import RunEvent
from reggen.workflow.template import Template

_AT_ONCE = 64  # servers examined together: more would take each other's time
_NO_COMFYUI = (404, 405, 501)  # answers of other servers to GET /prompt
_GRACE = 8.0  # seconds without a finished check, after which the servers that are ready wait for no other
_BUSY = (429, 502, 503, 504)  # a limit on requests, or a server that is still starting, as proxies say it
_BUSY_PAUSES, _BUSY_TRIES = Backoff(0.5, 4.0), 4  # of a request that a busy server puts off
_LONGEST = 60.0  # seconds of pauses that a server itself may ask for
Answer = TypeVar("Answer")
_SEPARATORS = re.compile(r"[\\/]+")


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The result for one server: ready, unfit (``problems``), or unreachable (``away`` says why)."""

    server: str
    version: str | None = None
    queue_depth: int = 0
    away: str = ""
    problems: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """True when it can run this job."""
        return not self.away and not self.problems

    @property
    def why(self) -> str:
        """The reason for not using it; "" when it is ready."""
        return self.away or ("it is left out of this run: " + "; ".join(self.problems) if self.problems else "")


async def examine(clients: Sequence[Client], template: Template) -> list[ServerCheck]:
    """Examine all servers, many at once, and return their results in the same order. Never raises ServerError.

    Each request has the client's own time-out. Once a server is ready, the others are waited for only as long as one
    of them is finished every `_GRACE` seconds.
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
            queue_depth = await _answer(client.queue_depth)
        except HttpStatusError as refusal:
            if refusal.status in _NO_COMFYUI:
                what = f"HTTP {refusal.status} to /prompt: no ComfyUI is there, or none yet (a pod that is starting)"
                return ServerCheck(client.name, away=f"{what}; {refusal.remedy}" if refusal.remedy else what)
            raise
        await _answer(partial(client.history, NOBODY))
        version = await _answer(client.version)
        problems = [problem for kind in template.classes for problem in await _class_problems(client, template, kind)]
    except UntrustedCertificate as error:  # waiting changes no certificate
        return ServerCheck(client.name, problems=(error.with_remedy,))
    except ServerError as error:
        return ServerCheck(client.name, away=error.with_remedy)
    return ServerCheck(client.name, version, queue_depth, problems=tuple(problems))


async def _answer(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask once more, after a pause, where a busy server puts the request off: as long as it names, within limits."""
    tries, waited = 0, 0.0
    while True:
        try:
            return await ask()
        except HttpStatusError as refusal:
            tries, waited = tries + 1, waited + refusal.retry_after
            spent = waited > _LONGEST or (tries >= _BUSY_TRIES and not refusal.retry_after)
            if refusal.status not in _BUSY or spent:
                raise
            await asyncio.sleep(max(full_jitter(_BUSY_PAUSES.ceiling(tries)), refusal.retry_after))


async def _class_problems(client: Client, template: Template, kind: str) -> list[str]:
    """Problems that keep a server from running the nodes of one class."""
    spec = await _answer(partial(client.node_class, kind))
    nodes = template.classes[kind]
    if spec is None:
        labels = ", ".join(template.label(node_id) for node_id in nodes)
        return [f"it has no node class {kind!r}, which {labels} needs; install the custom node it belongs to"]
    inputs = _inputs(spec)
    problems = [problem for node_id in nodes for problem in _value_problems(template, node_id, inputs)]
    if template.output in nodes and spec.get("output_node") is False:
        problems.append(f"{template.label(template.output)} saves nothing: choose another output")
    return problems


def _inputs(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification of each input of a node class, required or optional."""
    groups = spec.get("input")
    groups = groups if isinstance(groups, dict) else {}
    return {name: value for group in ("required", "optional") for name, value in (groups.get(group) or {}).items()}


def _is_closed_list(spec: Any) -> bool:
    """True where only the values in the list are accepted: not for uploads, nor lists that are fetched first."""
    if not isinstance(spec, list | tuple) or not spec:
        return False
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    open_ended = any(key in options for key in ("image_upload", "video_upload", "audio_upload", "remote"))
    return (isinstance(spec[0], list) or (spec[0] == "COMBO" and "options" in options)) and not open_ended


def _value_problems(template: Template, node_id: str, inputs: dict[str, Any]) -> list[str]:
    """Values of a node that are not in the server's lists."""
    problems = []
    for name, got in (*template.fixed_inputs(node_id).items(), *template.variants(node_id)):
        spec = inputs.get(name)
        choices = choices_of(spec)
        if not _is_closed_list(spec) or isinstance(got, list) or str(got) in choices:
            continue
        what = f"{template.label(node_id)}: {name} {got!r} is not in the server's list"
        if same := [choice for choice in choices if _SEPARATORS.split(choice) == _SEPARATORS.split(str(got))]:
            problems.append(f"{what}; it is written {same[0]!r} there")
        else:
            problems.append(what + (suggestion(str(got), choices) or "; the list is empty"))
    return problems


def unfit(examined: Sequence[ServerCheck]) -> tuple[Problem, ...]:
    """The problems of all servers, when one that answers cannot run the job; those that are away are named, too."""
    found = [Problem(one.server, problem) for one in examined for problem in one.problems]
    away = [Problem(one.server, one.away) for one in examined if one.away]
    return (*found, *away) if found else ()


async def ready_servers(
    clients: Sequence[Client],
    template: Template,
    job_file: str,
    tell: Callable[[RunEvent], None],
    *,
    seconds_left: Callable[[], float] | None,
    pauses: Backoff,
) -> list[ServerCheck]:
    """Examine all servers until one is ready, and return their results.

    ``seconds_left`` gives how long it may wait for one; None for not at all. Raises JobError when the servers that
    answer cannot run the job, and NoUsableServer when the time is up.
    """
    rounds = 0
    while True:
        examined = await examine(clients, template)
        if any(one.ready for one in examined):
            if rounds:
                tell(progress.ServersAwaited(time.monotonic(), ""))
            _tell_unusable(examined, tell)
            return examined
        problems = unfit(examined)
        if problems and (seconds_left is None or not any(one.away for one in examined)):
            raise JobError(job_file, problems)
        if seconds_left is None or seconds_left() <= 0:
            raise NoUsableServer(tuple((one.server, one.why) for one in examined))
        rounds += 1
        if rounds == 1:
            _tell_unusable(examined, tell)
            why = "; ".join(f"{one.server}: {one.why}" for one in examined)
            tell(progress.ServersAwaited(time.monotonic(), why))
        await asyncio.sleep(min(full_jitter(pauses.ceiling(rounds)), max(0.0, seconds_left())))


def _tell_unusable(examined: Sequence[ServerCheck], tell: Callable[[RunEvent], None]) -> None:
    for one in examined:
        if not one.ready:
            tell(progress.ServerChanged(time.monotonic(), one.server, up=False, why=one.why))
