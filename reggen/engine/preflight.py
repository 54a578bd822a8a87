"""Checks before the first prompt: the servers that are there, and those that can run this job.

Asks each server, one request after the other, whether prompts can be followed there, and for the node classes that the
graph needs; compares the job's values (checkpoint, sampler, scheduler and every other choice in the graph) with the
lists that the server has. A server that limits requests is asked again after the time that it names. Generates nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from reggen import progress
from reggen.backoff import Backoff, full_jitter
from reggen.comfy.client import NOBODY, Client
from reggen.comfy.node_classes import choices_of, suggestion
from reggen.engine.usual_files import fitting, question
from reggen.errors import HttpStatusError, JobError, NoUsableServer, Problem, ServerError, UntrustedCertificate
from reggen.progress import RunEvent
from reggen.workflow.template import Template
from reggen.workflow.walk import Binding

_AT_ONCE = 64  # servers examined together: more would take each other's time
_NO_COMFYUI = (404, 405, 501)  # answers of other servers to GET /prompt
_GRACE = 8.0  # seconds without a finished check, after which the servers that are ready wait for no other
_BUSY = (429, 502, 503, 504)  # a limit on requests, or a server that is still starting, as proxies say it
_BUSY_PAUSES, _BUSY_TRIES = Backoff(0.5, 4.0), 4  # of a request that a busy server puts off
_LONGEST = 60.0  # seconds of pauses that a server itself may ask for
Answer = TypeVar("Answer")
_SEPARATORS = re.compile(r"[\\/]+")
_ELSEWHERE = re.compile(r"[\\/]|\[(input|output|temp)\]$")  # names of pictures that the list does not hold


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The result for one server: ready, unfit (``problems``), or unreachable (``away`` says why).

    ``files`` are those that it has in place of a family's usual ones, by the input that names them.
    """

    server: str
    version: str | None = None
    queue_depth: int = 0
    away: str = ""
    problems: tuple[str, ...] = ()
    files: Mapping[Binding, str] = field(default_factory=dict)

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
        findings = _Findings(template)
        for kind in template.classes:
            findings.look_at(kind, await _answer(partial(client.node_class, kind)))
    except UntrustedCertificate as error:  # waiting changes no certificate
        return ServerCheck(client.name, problems=(error.with_remedy,))
    except ServerError as error:
        return ServerCheck(client.name, away=error.with_remedy)
    return ServerCheck(client.name, version, queue_depth, problems=tuple(findings.problems), files=findings.files)


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


@dataclass(slots=True)
class _Findings:
    """The problems that keep a server from running a graph, and the files that it has in place of usual ones."""

    template: Template
    problems: list[str] = field(default_factory=list)
    files: dict[Binding, str] = field(default_factory=dict)

    def look_at(self, kind: str, spec: dict[str, Any] | None) -> None:
        """Hold the nodes of one class against the class as the server has it."""
        template, nodes = self.template, self.template.classes[kind]
        if spec is None:
            labels = ", ".join(template.label(node_id) for node_id in nodes)
            what = f"it has no node class {kind!r}, which {labels} needs; install the custom node it belongs to"
            self.problems.append(what)
            return
        inputs = _inputs(spec)
        for node_id in nodes:
            self.problems += self._of_values(node_id, inputs)
            self.problems += _missing_pictures(template, node_id, inputs)
        if template.output in nodes and spec.get("output_node") is False:
            self.problems.append(f"{template.label(template.output)} saves nothing: choose another output")

    def _of_values(self, node_id: str, inputs: dict[str, Any]) -> Iterator[str]:
        """Values of a node that are not in the server's lists."""
        template = self.template
        for name, got in (*template.fixed_inputs(node_id).items(), *template.variants(node_id)):
            spec, one = inputs.get(name), Binding(node_id, name)
            choices = choices_of(spec)
            if not _is_closed_list(spec) or isinstance(got, list) or str(got) in choices:
                continue
            if one not in template.usual_files:
                key = template.job_key(one)
                yield _not_listed(f"{key}:" if key else f"{template.label(node_id)}: {name}", got, choices)
            elif len(found := fitting(str(got), choices)) == 1:
                self.files[one] = found[0]
            else:
                yield f"{template.label(node_id)}: {question(name, str(got), found, choices)}"


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


def _not_listed(where: str, got: Any, choices: Sequence[str]) -> str:
    """The problem of a value that is not in a server's list, with the one that is meant."""
    what = f"{where} {got!r} is not in the server's list"
    if same := [choice for choice in choices if _SEPARATORS.split(choice) == _SEPARATORS.split(str(got))]:
        return f"{what}; it is written {same[0]!r} there"
    return what + (suggestion(str(got), choices) or "; the list is empty")


def _missing_pictures(template: Template, node_id: str, inputs: dict[str, Any]) -> Iterator[str]:
    """Pictures that the server's input folder lacks; the list has none of its subfolders, nor of other folders."""
    for name, got in template.graph[node_id]["inputs"].items():
        spec = inputs.get(name)
        options = spec[1] if isinstance(spec, list | tuple) and len(spec) > 1 and isinstance(spec[1], dict) else {}
        if not options.get("image_upload") or not isinstance(got, str) or _ELSEWHERE.search(got):
            continue
        choices = choices_of(spec)
        if got not in choices:
            hint = suggestion(got, choices) or "; the folder is empty"
            yield f"{template.label(node_id)}: {name} {got!r} is not in the server's input folder{hint}"


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
