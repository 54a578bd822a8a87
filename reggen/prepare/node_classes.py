"""Node classes of a job's servers: asked once, kept beside the dataset for commands that need no server. Blocking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reggen.comfy.client import Client, Timeouts
from reggen.comfy.tls import fingerprint
from reggen.errors import Problem, ServerError, WorkflowError
from reggen.files import MIB, text_of, write_whole
from reggen.job.models import Limits
from reggen.job.servers import Server
from reggen.workflow.page_format import EXPORT, ObjectInfo

_LARGEST = 64 * MIB


@dataclass(frozen=True, slots=True)
class NodeClasses:
    """The node classes of the first of some servers that answers. ``kept_in`` is a file for the next time.

    ``workflow`` is the file that they are asked for, as errors name it.
    """

    servers: Sequence[Server]
    limits: Limits
    workflow: str
    kept_in: Path | None = None

    def ask(self, names: Collection[str]) -> ObjectInfo:
        """The classes of these names that a server has. Raises WorkflowError when none answers and not all are kept."""
        kept = self._kept()
        if set(names) <= kept.keys():
            return kept
        reasons: list[str] = []
        for server in self.servers:
            try:
                found = _in_a_thread(self._asked(server, sorted(names)))
            except (ServerError, OSError, KeyError, ValueError) as error:
                reasons.append(f"{server.name}: {error}")
                continue
            self._keep({**kept, **found})
            return {**kept, **found}
        asked = "; ".join(reasons) or "none is named"
        problem = f"it is a workflow as ComfyUI's page saves it, and no server tells its nodes ({asked})"
        raise WorkflowError(
            self.workflow, (Problem("", problem, f"start ComfyUI, name one with --server, or {EXPORT}"),)
        )

    async def _asked(self, server: Server, names: Sequence[str]) -> dict[str, Any]:
        timeouts = Timeouts(self.limits.connect, self.limits.request, self.limits.download)
        pin = fingerprint(server.certificate) if server.certificate else None
        headers = server.resolved_headers()
        async with Client(server.url, name=server.name, headers=headers, timeouts=timeouts, pin=pin) as client:
            found = {name: await client.node_class(name) for name in names}
        return {name: spec for name, spec in found.items() if spec is not None}

    def _kept(self) -> dict[str, Any]:
        if self.kept_in is None:
            return {}
        try:
            kept = json.loads(text_of(self.kept_in, _LARGEST))
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self, classes: dict[str, Any]) -> None:
        """Keep the classes; what cannot be written is asked again."""
        if self.kept_in is None:
            return
        with suppress(OSError):
            self.kept_in.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.kept_in, json.dumps(classes).encode())


def _in_a_thread(work: Any) -> Any:
    """The result of a coroutine, run on an event loop of its own: the caller may stand on one."""
    with ThreadPoolExecutor(1, "reggen-node-classes") as pool:
        return pool.submit(asyncio.run, work).result()
