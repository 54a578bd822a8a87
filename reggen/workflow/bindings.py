"""Finds which inputs of a graph carry the prompts, the seed, the size and the rest.

By following the graph up from its sampler, as a person would; titles ("positive", "negative") and the job's own
``[workflow.bindings]`` settle what that leaves open.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from reggen.errors import Problem
from reggen.workflow.graph import SAVERS, Graph, links, reach, title

# The names a job may bind, with the inputs that carry them in ComfyUI's own nodes.
INPUTS: dict[str, tuple[str, ...]] = {
    "positive": ("text", "text_g", "t5xxl", "prompt"),
    "negative": ("text", "text_g", "t5xxl", "prompt"),
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "cfg": ("cfg", "guidance"),
    "sampler": ("sampler_name",),
    "scheduler": ("scheduler",),
    "checkpoint": ("ckpt_name", "unet_name"),
    "width": ("width",),
    "height": ("height",),
    "batch": ("batch_size",),
    "prefix": ("filename_prefix",),
}
# set wherever they exist (a unique file name, no more pictures than asked for), or at least shown
_TEXTS = (*INPUTS["positive"], "text_l", "clip_l", "clip_g", "llama")
_LIKE_TEXT = ("text", "prompt", "string", "value")  # in the names of inputs of nodes that make texts of texts
_OPTIONAL = ("prefix", "batch", "checkpoint", "sampler", "scheduler", "steps", "cfg")


@dataclass(frozen=True, slots=True)
class Binding:
    """One input of one node."""

    node: str
    input: str


class Finder:
    """Finds the bindings of one graph; collects the problems instead of raising the first."""

    def __init__(self, graph: Graph, named: Mapping[str, str]) -> None:
        self.graph, self.named = graph, named
        self.problems: list[Problem] = []

    def find(self, wanted: list[str]) -> tuple[dict[str, tuple[Binding, ...]], str]:
        """Bindings for every wanted name (and the optional ones where they exist), and the output node."""
        for name in (name for name in self.named if name not in INPUTS and name != "output"):
            near = difflib.get_close_matches(name, [*INPUTS, "output"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the names are output, {', '.join(INPUTS)}"
            self.problems.append(Problem(f"workflow.bindings.{name}", "is no binding", hint))
        output = self._output()
        above = reach(self.graph, [output]) if output else list(self.graph)
        samplers = self._samplers(above)
        bindings: dict[str, tuple[Binding, ...]] = {}
        for name in dict.fromkeys([*wanted, *_OPTIONAL, *(name for name in self.named if name in INPUTS)]):
            found = self._named(name) if name in self.named else self._search(name, samplers, above, output)
            if found:
                bindings[name] = found
            elif name in wanted and name not in self.named:
                self._missing(name, bound="positive" in bindings)
        if shared := set(bindings.get("positive", ())) & set(bindings.get("negative", ())):
            where = ", ".join(f"{one.node}.{one.input}" for one in shared)
            hint = "leave the negative prompt out, or name its own input"
            self.problems.append(Problem("workflow.bindings.negative", f"{where} is the positive prompt's", hint))
        return bindings, output

    def texts(self, name: str, output: str) -> tuple[Binding, ...]:
        """Where the graph has a positive or negative text of its own, as `find` finds it; nowhere is no problem."""
        above = reach(self.graph, [output]) if output else list(self.graph)
        return self._text(name, self._samplers(above), above)

    def read(self, name: str, output: str) -> tuple[Binding, ...]:
        """Every input that looks like a text on the positive or negative side of a sampler, set by anybody or not."""
        above = reach(self.graph, [output]) if output else list(self.graph)
        sources = [dict(links(self.graph[sampler])).get(name, "") for sampler in self._samplers(above)]
        return tuple(
            Binding(node_id, key)
            for node_id in dict.fromkeys(node for source in sources for node in reach(self.graph, [source], name))
            for key, value in self.graph[node_id]["inputs"].items()
            if isinstance(value, str) and (key in _TEXTS or any(part in key.lower() for part in _LIKE_TEXT))
        )

    def _samplers(self, above: list[str]) -> list[str]:
        return [node_id for node_id in above if self._is_sampler(node_id)]

    def _output(self) -> str:
        if "output" in self.named:
            return self._node(self.named["output"], "output") or ""
        for kind in SAVERS:
            found = [node_id for node_id, node in self.graph.items() if node["class_type"] == kind]
            if len(found) == 1:
                return found[0]
            if found:
                hint = f"choose one: output = {found[0]!r} (there are {', '.join(found)})"
                self.problems.append(Problem("workflow.bindings.output", f"is open: several {kind}", hint))
                return found[0]
        hint = "add a SaveImage node"
        self.problems.append(Problem("workflow", "has no SaveImage or PreviewImage node", hint))
        return ""

    def _is_sampler(self, node_id: str) -> bool:
        inputs = self.graph[node_id]["inputs"]
        seeded = any(name in inputs for name in INPUTS["seed"])
        return "positive" in inputs and (seeded or {"negative", "model"} <= inputs.keys())

    def _search(self, name: str, samplers: list[str], above: list[str], output: str) -> tuple[Binding, ...]:
        match name:
            case "prefix":
                return self._first([output] if output else [], name)
            case "seed":  # every sampler's, or a second pass would repeat its noise from image to image
                return tuple(found for node_id in above for found in self._first([node_id], name))
            case "steps" | "cfg" | "sampler" | "scheduler":  # of every pass: they share what the job says
                return self._every(above, name)
            case "checkpoint" if samplers:  # the one that begins the picture, not a refiner's
                source = dict(links(self.graph[samplers[-1]])).get("model", "")
                return self._first(reach(self.graph, [source]), name) or self._first(above, name)
            case "positive" | "negative":
                return self._text(name, samplers, above)
            case "width" | "height" | "batch":  # where the latent begins, above the sampler nearest to it
                farthest_first = above[::-1]
                return self._first(sorted(farthest_first, key=self._no_latent), name)
        return self._first(above, name)

    def _no_latent(self, node_id: str) -> int:
        """0 for what looks like an empty latent, more the less it does: models and encoders have widths, too."""
        node = self.graph[node_id]
        return (
            0
            if {"width", "height", "batch_size"} <= node["inputs"].keys()
            else 1 + ("Latent" not in node["class_type"])
        )

    def _every(self, nodes: list[str], name: str) -> tuple[Binding, ...]:
        for key in INPUTS[name]:
            inputs = {node_id: self.graph[node_id]["inputs"].get(key, []) for node_id in nodes}
            if found := tuple(
                Binding(node_id, key) for node_id, value in inputs.items() if not isinstance(value, list)
            ):
                return found
        return ()

    def _text(self, name: str, samplers: list[str], above: list[str]) -> tuple[Binding, ...]:
        everywhere: dict[Binding, None] = {}  # every pass has its prompts: a base's and its refiner's are not the same
        for sampler in samplers:
            if source := dict(links(self.graph[sampler])).get(name):
                everywhere |= dict.fromkeys(self._all_texts(reach(self.graph, [source], name)))
        if everywhere:
            return tuple(everywhere)
        titled = [node_id for node_id in above if name in title(self.graph[node_id]).lower()]
        found = self._all_texts(titled)
        texts = [node_id for node_id in above if self._all_texts([node_id])]
        if not found and name == "positive" and len(texts) == 1 and not samplers:
            found = self._all_texts(texts)  # a graph with one prompt only (guidance-distilled models)
        return found

    def _all_texts(self, nodes: list[str]) -> tuple[Binding, ...]:
        """The texts of the nearest node that has any: SDXL and Flux encoders have two."""
        for node_id in nodes:
            inputs = self.graph[node_id]["inputs"]
            if texts := [key for key in _TEXTS if isinstance(inputs.get(key), str)]:
                return tuple(Binding(node_id, key) for key in texts)
        return ()

    def _first(self, nodes: list[str], name: str) -> tuple[Binding, ...]:
        for node_id in nodes:
            inputs = self.graph[node_id]["inputs"]
            for key in INPUTS[name]:
                if key in inputs and not isinstance(inputs[key], list):
                    return (Binding(node_id, key),)
        return ()

    def _named(self, name: str) -> tuple[Binding, ...]:
        node_name, dot, key = self.named[name].rpartition(".")
        if not dot:
            hint = f"write it as 'node.{INPUTS[name][0]}'"
            self.problems.append(Problem(f"workflow.bindings.{name}", f"{self.named[name]!r} names no input", hint))
            return ()
        node_id = self._node(node_name, name)
        if node_id is None:
            return ()
        inputs = self.graph[node_id]["inputs"]
        if key not in inputs:
            hint = f"it has {', '.join(inputs)}"
            self.problems.append(Problem(f"workflow.bindings.{name}", f"node {node_id} has no input {key!r}", hint))
            return ()
        return (Binding(node_id, key),)

    def _node(self, wanted: str, name: str) -> str | None:
        if wanted in self.graph:
            return wanted
        titles = {title(node): node_id for node_id, node in self.graph.items() if title(node)}
        found = [node_id for node_id, node in self.graph.items() if title(node) == wanted]
        if len(found) > 1:
            problem = f"{len(found)} nodes have the title {wanted!r}"
            self.problems.append(Problem(f"workflow.bindings.{name}", problem, f"use an id: {', '.join(found)}"))
            return None
        if found and wanted:
            return found[0]
        near = difflib.get_close_matches(wanted, [*titles, *self.graph], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*titles] or self.graph)}"
        self.problems.append(Problem(f"workflow.bindings.{name}", f"no node has the id or title {wanted!r}", hint))
        return None

    def _missing(self, name: str, *, bound: bool) -> None:
        if name == "negative" and bound:
            hint = "leave prompts.negative out; this graph has none"
            self.problems.append(Problem("prompts.negative", "the graph has no input for it", hint))
            return
        nodes = [node_id for node_id in self.graph if self._first([node_id], name)]
        example = f"{nodes[0]}.{self._first(nodes[:1], name)[0].input}" if nodes else f"ID.{INPUTS[name][0]}"
        hint = f"name it: [workflow.bindings] {name} = {example!r}"
        self.problems.append(Problem(f"workflow.bindings.{name}", "cannot be found in the graph", hint))
