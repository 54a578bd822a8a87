"""The job's own bindings, ``[workflow.bindings]``, held against the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reggen.errors import Problem
from reggen.wording import did_you_mean
from reggen.workflow.graph import Graph, title
from reggen.workflow.walk import WILDCARD_PAIR, Binding

NAMES = (
    "positive", "negative", "seed", "steps", "cfg", "guidance", "sampler", "scheduler", "checkpoint", "width", "height",
    "batch", "prefix",
)  # fmt: skip
"""The names that a job binds to inputs."""
_INPUTS = {"width": "width", "height": "height", "batch": "batch_size", "prefix": "filename_prefix"}


class NamedBindings:
    """Inputs by the names that a job gives them, as "node.input" with a node's id or title; collects the problems."""

    def __init__(self, graph: Graph, named: Mapping[str, str | Sequence[str]]) -> None:
        self._graph = graph
        self._named = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in named.items()}
        self.problems: list[Problem] = []
        for name in (one for one in self._named if one not in (*NAMES, "output")):
            hint = did_you_mean(name, (*NAMES, "output")) or f"the names are output, {', '.join(NAMES)}"
            self.problems.append(Problem(f"workflow.bindings.{name}", "is not a binding", hint))

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(name for name in self._named if name in NAMES)

    @property
    def output(self) -> str:
        """The id of the node that is named as the output; "" where there is none such."""
        return self._node(self._named["output"][0], "output") or ""

    def find(self, name: str) -> tuple[Binding, ...]:
        """The inputs of a name; those that the graph lacks become problems."""
        found = dict.fromkeys(one for text in self._named[name] if (one := self._input(name, text)))
        for one in list(found):
            if one.input in WILDCARD_PAIR and set(WILDCARD_PAIR) <= self._graph[one.node]["inputs"].keys():
                found |= dict.fromkeys(Binding(one.node, key) for key in WILDCARD_PAIR)
        return tuple(found)

    def _input(self, name: str, text: str) -> Binding | None:
        node_name, dot, key = text.rpartition(".")
        node_id = self._node(node_name, name) if dot else None
        if node_id and key in self._graph[node_id]["inputs"]:
            return Binding(node_id, key)
        where = f"workflow.bindings.{name}"
        if not dot:
            hint = f"write it as 'node.{_INPUTS.get(name, name if name == 'seed' else 'text')}'"
            self.problems.append(Problem(where, f"{text!r} names no input", hint))
        elif node_id:
            hint = f"it has {', '.join(self._graph[node_id]['inputs'])}"
            self.problems.append(Problem(where, f"node {node_id} has no input {key!r}", hint))
        return None

    def _node(self, wanted: str, name: str) -> str | None:
        if wanted in self._graph:
            return wanted
        titles = {node_id: title(node) for node_id, node in self._graph.items() if title(node)}
        found = [node_id for node_id, called in titles.items() if wanted and called == wanted]
        where = f"workflow.bindings.{name}"
        if len(found) > 1:
            problem = f"{len(found)} nodes have the title {wanted!r}"
            self.problems.append(Problem(where, problem, f"use an id: {', '.join(found)}"))
        elif not found:
            known = [*titles.values(), *self._graph]
            hint = did_you_mean(wanted, known) or f"there are {', '.join(list(titles.values()) or self._graph)}"
            self.problems.append(Problem(where, f"no node has the id or title {wanted!r}", hint))
        return found[0] if len(found) == 1 else None
