"""A workflow file as reggen reads it, without a job."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from reggen.api.readable import Readable
from reggen.errors import COMPLETE, INCOMPLETE, Problem, WorkflowError
from reggen.files import write_whole
from reggen.job.models import Limits
from reggen.job.servers import DEFAULT_URL, Server
from reggen.prepare.node_classes import NodeClasses
from reggen.prepare.workflow_file import read_graph
from reggen.report.workflow_report import format_reading
from reggen.workflow.graph import Graph
from reggen.workflow.page_format import ObjectInfo
from reggen.workflow.reader import Reading
from reggen.workflow.reader import read_workflow as read

_WANTED = ("positive", "negative", "seed", "width", "height")


@dataclass(frozen=True, repr=False)
class WorkflowReading(Readable):
    """A workflow as reggen reads it: the inputs that a job sets, its questions, and what is sent as it stands.

    ``graph`` is the whole workflow in API format. ``exit_code`` is `reggen workflow`'s.
    """

    source: str
    graph: Graph
    reading: Reading
    text: str

    @property
    def questions(self) -> tuple[Problem, ...]:
        """The questions that a job with this workflow has to answer in [workflow.bindings]."""
        return self.reading.problems

    @property
    def exit_code(self) -> int:
        """0 where a job can use the workflow as it is, 1 where something is open."""
        return INCOMPLETE if self.questions else COMPLETE

    def write(self, file: Path) -> None:
        """Write the workflow in API format into a new file. Raises WorkflowError where there is one, and OSError."""
        if file.exists():
            raise WorkflowError(str(file), (Problem("", "the file exists already", "name another one"),))
        write_whole(file, (json.dumps(self.graph, indent=2, ensure_ascii=False) + "\n").encode())


def read_workflow(file: str | Path, server: str | None = None) -> WorkflowReading:
    """Read a workflow file in any form. Blocking.

    ``server`` is the address that is asked for its node classes, where the file is in the format of ComfyUI's page.
    Raises WorkflowError, which says what the file holds instead.
    """
    url = server or DEFAULT_URL
    asked: list[str] = []

    def ask(names: Collection[str]) -> ObjectInfo:
        asked.append(url)
        return NodeClasses((Server(url=url),), Limits(), str(file)).ask(names)

    graph = read_graph(Path(file), ask)
    form = f"as ComfyUI's page saves it, converted with the nodes of {url}" if asked else "in API format"
    reading = read(graph, {}, _WANTED)
    return WorkflowReading(str(file), graph, reading, "\n".join(format_reading(reading, graph, str(file), form)))
