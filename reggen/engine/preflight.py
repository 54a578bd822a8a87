"""Before the first prompt: which servers are there, and whether they can take this job.

Asks each server for the node classes the graph needs and holds the job's values (checkpoint, sampler,
scheduler and every other choice in the graph) against the lists they name. Generates nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reggen.comfy.client import Client
from reggen.comfy.wire import choices_of, suggestion
from reggen.errors import Refused, ServerError, Unreachable
from reggen.workflow import Template

_AT_ONCE = 64  # servers: more of them would take each other's time
_UNKNOWN = (404, 405, 501)  # what other servers say to GET /prompt
_PATIENCE = 8.0  # seconds for one server to answer everything
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
_SEPARATORS = re.compile(r"[\\/]+")


@dataclass(frozen=True, slots=True)
class Examined:
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


async def examine(clients: Sequence[Client], template: Template) -> list[Examined]:
    """Examine all servers, many at once; each gets eight seconds of its own. Never raises ServerError."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(client: Client) -> Examined:
        async with turns:
            return await _examine(client, template)

    return list(await asyncio.gather(*map(one, clients)))


async def _examine(client: Client, template: Template) -> Examined:
    try:
        async with asyncio.timeout(_PATIENCE):
            try:
                remaining = await client.remaining()
            except Refused as refusal:
                if refusal.status in _UNKNOWN:
                    return Examined(client.name, away="something answers there, but it is not ComfyUI")
                raise
            version = await client.version()
            problems = [problem for kind in template.classes for problem in await _class(client, template, kind)]
        return Examined(client.name, version, remaining, problems=tuple(problems))
    except TimeoutError:
        error: ServerError = Unreachable(client.name, "asking what it can do", "no answer in time")
        return Examined(client.name, away=error.what)
    except ServerError as error:
        return Examined(client.name, away=error.what)


async def _class(client: Client, template: Template, kind: str) -> list[str]:
    spec = await client.node_class(kind)
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
