"""A ComfyUI graph as a template: the bindings are found once, then `Template.bind` fills in each request."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reggen.errors import Problem, WorkflowError
from reggen.job.sampling import Sampling
from reggen.planning.plan import PromptRequest, Sample
from reggen.workflow.account import Account, SentText
from reggen.workflow.graph import Graph
from reggen.workflow.reader import read_workflow
from reggen.workflow.walk import Binding, label, text_sources

_OF_EACH_PROMPT = ("positive", "negative", "seed", "width", "height", "batch", "prefix")


@dataclass(frozen=True, slots=True)
class Template:
    """A graph whose bindings are known. ``output`` is the node whose images are downloaded.

    ``fixed`` holds values that are the same in every prompt, ``axes`` the values of settings that are gone through.
    ``positive`` and ``negative`` are the graph's own texts, for where the job has none. ``account`` says what else the
    graph does. ``usual_files`` are inputs with usual file names, in whose place a server may have others.
    """

    graph: Graph
    bindings: Mapping[str, tuple[Binding, ...]]
    output: str
    fixed: Mapping[str, Any]
    account: Account = field(default_factory=Account)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    positive: str = ""
    negative: str = ""
    usual_files: frozenset[Binding] = frozenset()

    def with_files(self, files: Mapping[Binding, str]) -> Template:
        """The same graph with other file names, for one server."""
        if not files:
            return self
        graph = copy.deepcopy(self.graph)
        for one, name in files.items():
            graph[one.node]["inputs"][one.input] = name
        return replace(self, graph=graph)

    def bind(self, request: PromptRequest, prefix: str) -> Graph:
        """The graph of one prompt, for reading only. A ``prefix`` that was used before returns a cached file."""
        sample = request.samples[0]
        width, height = sample.size or (None, None)
        values = {
            **self.fixed,
            **dict(sample.settings),
            "positive": sample.positive,
            "negative": sample.negative,
            "seed": request.seed,
            "width": width,
            "height": height,
            "batch": request.batch,
            "prefix": prefix,
        }
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            for binding in self.bindings.get(name, ()) if value is not None else ():
                changed.setdefault(binding.node, {})[binding.input] = value
        # other nodes are shared with the template: this runs for every prompt
        nodes = {
            node: {**self.graph[node], "inputs": {**self.graph[node]["inputs"], **changed[node]}} for node in changed
        }
        return {**self.graph, **nodes}

    def fingerprint(self, request: PromptRequest) -> str:
        """A hash of all that decides what a prompt's pictures show, which is the same in other runs."""
        return hashlib.sha256(json.dumps(self.bind(request, ""), sort_keys=True).encode()).hexdigest()[:16]

    def variants(self, node_id: str) -> Iterator[tuple[str, Any]]:
        """Each value of each input of a node that is gone through, as pairs of input and value."""
        for name, values in self.axes.items():
            for binding in self.bindings.get(name, ()):
                if binding.node == node_id:
                    yield from ((binding.input, value) for value in values)

    def prompts_of(self, sample: Sample) -> tuple[str | None, str | None]:
        """The positive and negative prompt that a sample is made with: its own, or else the graph's."""
        positive = self.positive or None if sample.positive is None else sample.positive
        negative = self.negative or None if sample.negative is None else sample.negative
        return positive, negative

    @property
    def sent(self) -> tuple[SentText, ...]:
        """The texts that reach a positive conditioning as they stand in the graph."""
        return tuple(text for text in self.account.also_sent if not text.negative)

    def value(self, name: str) -> Any:
        """The value of a binding that is the same in every prompt, or else the graph's; None when unbound."""
        if name in self.fixed:
            return self.fixed[name]
        bound = self.bindings.get(name, ())
        return self.graph[bound[0].node]["inputs"].get(bound[0].input) if bound else None

    def fixed_inputs(self, node_id: str) -> dict[str, Any]:
        """The inputs of a node that are the same in every prompt, as they are sent."""
        inputs = dict(self.graph[node_id]["inputs"])
        for name, bound in self.bindings.items():
            for binding in bound:
                if binding.node == node_id and name in self.fixed:
                    inputs[binding.input] = self.fixed[name]
                elif binding.node == node_id and (name in _OF_EACH_PROMPT or name in self.axes):
                    inputs.pop(binding.input, None)
        return inputs

    def job_key(self, binding: Binding) -> str:
        """The key of the job file that sets an input in all prompts, or in turn; "" where none does."""
        for table, names in (("sampling", self.fixed), ("matrix", self.axes)):
            for name in names:
                if binding in self.bindings.get(name, ()):
                    return f"{table}.{name}"
        return ""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoints that images are made with, as far as the job or the graph names them."""
        named = self.axes.get("checkpoint") or (self.value("checkpoint"),)
        return tuple(name for name in named if name and isinstance(name, str))

    @property
    def classes(self) -> dict[str, list[str]]:
        """The node classes that a server must have, each with its nodes."""
        found: dict[str, list[str]] = {}
        for node_id, node in self.graph.items():
            found.setdefault(node["class_type"], []).append(node_id)
        return found

    def label(self, node_id: str) -> str:
        """A node as people know it: its class, and its title when it has another one."""
        return label(self.graph, node_id)


def build_template(
    graph: Graph,
    sampling: Sampling,
    axes: Mapping[str, tuple[Any, ...]] | None = None,
    *,
    required: Collection[str] = (),
    named: Mapping[str, str | Sequence[str]] | None = None,
    source: str = "the built-in workflow",
) -> Template:
    """Find the bindings of a graph. Raises WorkflowError, in the name of ``source``, with every problem found.

    ``axes`` are the settings that are gone through. ``required`` are the other bindings that must be found, beside the
    seed; ``named`` are the job's own, "node.input" by name.
    """
    axes = {name: values for name, values in (axes or {}).items() if name != "size"}
    fixed = {
        name: value
        for name in ("checkpoint", "steps", "cfg", "guidance", "sampler", "scheduler")
        if (value := getattr(sampling, name)) is not None and name not in axes
    }
    reading = read_workflow(graph, named or {}, ["seed", *fixed, *axes, *required])
    graph, bindings, problems = reading.graph, dict(reading.bindings), list(reading.problems)
    if sampling.save == "temp" and reading.output:
        graph = _saving_to_temp(graph, reading.output, problems)
        bindings.pop("prefix", None)
    if problems:
        raise WorkflowError(source, tuple(problems))
    positive, negative = (bindings.get(side) or reading.own[side] for side in ("positive", "negative"))
    return Template(
        graph=graph,
        bindings=bindings,
        output=reading.output,
        account=reading.account,
        fixed=fixed,
        axes=axes,
        positive=_own_text(graph, positive),
        negative=_own_text(graph, [one for one in negative if one not in positive]),
    )


def _own_text(graph: Graph, bound: Iterable[Binding]) -> str:
    """The texts in some inputs of a graph: each text once, joined where two passes or encoders differ."""
    literals = (literal for one in bound for literal in text_sources(graph, one.node, one.input).literals)
    values = (graph[one.node]["inputs"].get(one.input) for one in literals)
    return ", ".join(dict.fromkeys(value for value in values if isinstance(value, str) and value.strip()))


def _saving_to_temp(graph: Graph, output: str, problems: list[Problem]) -> Graph:
    """The graph with PreviewImage for SaveImage, which saves into the folder that the server empties at its start.

    PreviewImage chooses its own file names.
    """
    node = graph[output]
    if node["class_type"] == "SaveImage":
        return {**graph, output: {**node, "class_type": "PreviewImage", "inputs": {"images": node["inputs"]["images"]}}}
    if node["class_type"] != "PreviewImage":
        hint = "leave it out, or let the workflow end in a SaveImage"
        problems.append(Problem("sampling.save", f"'temp' has no effect on a {node['class_type']}", hint))
    return graph
