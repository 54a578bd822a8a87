"""A ComfyUI graph as a template: the bindings are found once, then `Template.bind` fills in each order.

A graph is ComfyUI's API format: ``{node id: {"class_type": str, "inputs": {name: value or [node id, slot]}}}``.
Bindings are found by following the graph up from its sampler, as a person would; titles ("positive",
"negative") and the job's own ``[workflow.bindings]`` settle what that leaves open.
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from reggen.errors import Problem, WorkflowError
from reggen.job import DEFAULT_SIZE, Job
from reggen.plan import Order

Graph = dict[str, dict[str, Any]]

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
_OPTIONAL = (
    "prefix",
    "batch",
)  # set wherever they exist: a unique file name, no more pictures than asked for
_SAVERS = ("SaveImage", "PreviewImage")


@dataclass(frozen=True, slots=True)
class Binding:
    """One input of one node."""

    node: str
    input: str


@dataclass(frozen=True, slots=True)
class Template:
    """A graph whose bindings are known. ``output`` is the node whose images are taken."""

    graph: Graph
    bindings: Mapping[str, tuple[Binding, ...]]
    output: str
    fixed: Mapping[str, Any]

    def bind(self, order: Order, prefix: str) -> Graph:
        """The graph for one order. ``prefix`` must be new for every prompt, or a cached file comes back."""
        sample = order.samples[0]
        width, height = sample.size or (None, None)
        values = {
            **self.fixed,
            "positive": sample.positive,
            "negative": sample.negative,
            "seed": order.seed,
            "width": width,
            "height": height,
            "batch": order.batch,
            "prefix": prefix,
        }
        graph = copy.deepcopy(self.graph)
        for name, value in values.items():
            for binding in self.bindings.get(name, ()) if value is not None else ():
                graph[binding.node]["inputs"][binding.input] = value
        return graph

    def value(self, name: str) -> Any:
        """What a binding will be set to for every order, or what the graph itself says; None when unbound."""
        if name in self.fixed:
            return self.fixed[name]
        bound = self.bindings.get(name, ())
        return self.graph[bound[0].node]["inputs"].get(bound[0].input) if bound else None

    def settled(self, node_id: str) -> dict[str, Any]:
        """The inputs of a node as they will be sent, as far as they are the same in every order."""
        inputs = dict(self.graph[node_id]["inputs"])
        for name, bound in self.bindings.items():
            for binding in bound:
                if binding.node == node_id and name in self.fixed:
                    inputs[binding.input] = self.fixed[name]
                elif binding.node == node_id:
                    inputs.pop(binding.input, None)
        return inputs

    @property
    def classes(self) -> dict[str, list[str]]:
        """The node classes a server must have, each with the nodes that are of it."""
        found: dict[str, list[str]] = {}
        for node_id, node in self.graph.items():
            found.setdefault(node["class_type"], []).append(node_id)
        return found

    def label(self, node_id: str) -> str:
        """A node as people know it: its class, and its title when it has another one."""
        node = self.graph.get(node_id, {})
        kind, title = node.get("class_type", "?"), _title(node)
        return f"{kind} {title!r} (node {node_id})" if title and title != kind else f"{kind} (node {node_id})"


def template(job: Job) -> Template:
    """The job's graph with its bindings. Raises WorkflowError with every problem found."""
    own = job.workflow
    graph = read_graph(own.file) if own else built_in()
    where = str(own.file) if own else "the built-in workflow"
    finder = _Finder(graph, own.bindings if own else {})
    sampling = job.sampling
    fixed = {
        "checkpoint": sampling.checkpoint,
        "steps": sampling.steps,
        "cfg": sampling.cfg,
        "sampler": sampling.sampler,
        "scheduler": sampling.scheduler,
    }
    fixed = {name: value for name, value in fixed.items() if value is not None}
    wanted = ["seed", *fixed]
    wanted += ["positive"] if job.prompts.positives else []
    wanted += ["negative"] if job.prompts.negative is not None else []
    wanted += ["width", "height"] if job.size else []
    wanted += ["batch"] if sampling.batch > 1 else []
    bindings, output = finder.find(wanted)
    if finder.problems:
        raise WorkflowError(where, tuple(finder.problems))
    return Template(graph=graph, bindings=bindings, output=output, fixed=fixed)


def built_in() -> Graph:
    """The classic text-to-image graph."""
    width, height = DEFAULT_SIZE
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "4": ("CheckpointLoaderSimple", {"ckpt_name": ""}),
        "5": ("EmptyLatentImage", {"width": width, "height": height, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "", "clip": ["4", 1]}),
        "3": (
            "KSampler",
            {
                "seed": 0,
                "steps": 20,
                "cfg": 7.0,
                "sampler_name": "euler_ancestral",
                "scheduler": "normal",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        ),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "reggen"}),
    }
    return {node_id: {"class_type": kind, "inputs": inputs} for node_id, (kind, inputs) in nodes.items()}


def read_graph(file: Path) -> Graph:
    """An API-format graph from a JSON file or from a PNG that ComfyUI made. Raises WorkflowError."""
    try:
        text = _png_prompt(file) if file.suffix.lower() == ".png" else file.read_text(encoding="utf-8-sig")
        document = json.loads(text)
    except FileNotFoundError:
        raise _unusable(file, "there is no such file") from None
    except UnidentifiedImageError:
        raise _unusable(file, "it is no image, whatever its ending says") from None
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise _unusable(file, f"it is not JSON: {error}") from None
    if isinstance(document, dict) and isinstance(document.get("prompt"), dict):
        document = document["prompt"]  # a body as it is posted
    if isinstance(document, dict) and "nodes" in document and "links" in document:
        raise _unusable(file, "it is a workflow as ComfyUI's page saves it", "in ComfyUI: Workflow > Export (API)")
    if not isinstance(document, dict) or not document:
        raise _unusable(file, "it is not a ComfyUI graph in API format", "in ComfyUI: Workflow > Export (API)")
    for node_id, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise _unusable(file, f"node {node_id} has no class_type", "in ComfyUI: Workflow > Export (API)")
        node.setdefault("inputs", {})  # ComfyUI's worker dies of a node without
    return _upstream_of_outputs(document)


def _png_prompt(file: Path) -> str:
    with Image.open(file) as image:
        text = image.info.get("prompt")
    if not isinstance(text, str):
        raise _unusable(file, "this picture carries no ComfyUI graph", "use one that ComfyUI saved itself, unchanged")
    return text


def _unusable(file: Path, problem: str, hint: str = "") -> WorkflowError:
    return WorkflowError(str(file), (Problem("", problem, hint),))


def _title(node: Mapping[str, Any]) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def _links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            yield name, value[0]


def _reach(graph: Graph, starts: list[str]) -> list[str]:
    """The nodes at and above ``starts``, nearest first."""
    seen = dict.fromkeys(start for start in starts if start in graph)
    queue = list(seen)
    for node_id in queue:
        for _, source in _links(graph[node_id]):
            if source in graph and source not in seen:
                seen[source] = None
                queue.append(source)
    return list(seen)


def _upstream_of_outputs(graph: Graph) -> Graph:
    """Without nodes that lead to no saver: ComfyUI validates only what leads to an output."""
    savers = [node_id for node_id, node in graph.items() if node["class_type"] in _SAVERS]
    kept = set(_reach(graph, savers)) if savers else set(graph)
    return {node_id: node for node_id, node in graph.items() if node_id in kept}


class _Finder:
    """Finds the bindings of one graph; collects the problems instead of raising the first."""

    def __init__(self, graph: Graph, named: Mapping[str, str]) -> None:
        self.graph, self.named = graph, named
        self.problems: list[Problem] = []

    def find(self, wanted: list[str]) -> tuple[dict[str, tuple[Binding, ...]], str]:
        """Bindings for every wanted name (and the optional ones where they exist), and the output node."""
        for name in self.named.keys() - INPUTS.keys() - {"output"}:
            near = difflib.get_close_matches(name, [*INPUTS, "output"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the names are output, {', '.join(INPUTS)}"
            self.problems.append(Problem(f"workflow.bindings.{name}", "is no binding", hint))
        output = self._output()
        above = _reach(self.graph, [output]) if output else list(self.graph)
        samplers = [node_id for node_id in above if self._is_sampler(node_id)]
        bindings: dict[str, tuple[Binding, ...]] = {}
        for name in dict.fromkeys([*wanted, *_OPTIONAL, *self.named.keys() & INPUTS.keys()]):
            found = self._named(name) if name in self.named else self._search(name, samplers, above, output)
            if found:
                bindings[name] = found
            elif name in wanted and name not in self.named:
                self._missing(name)
        return bindings, output

    def _output(self) -> str:
        if "output" in self.named:
            return self._node(self.named["output"], "output") or ""
        for kind in _SAVERS:
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
        return "positive" in inputs and any(name in inputs for name in INPUTS["seed"])

    def _search(self, name: str, samplers: list[str], above: list[str], output: str) -> tuple[Binding, ...]:
        match name:
            case "prefix":
                return self._first([output] if output else [], name)
            case "seed":  # every sampler's, or a second pass would repeat its noise from image to image
                return tuple(found for node_id in above for found in self._first([node_id], name))
            case "positive" | "negative":
                return self._text(name, samplers, above)
        # sizes stand where the latent begins, above the sampler nearest to it
        return self._first(list(reversed(above)) if name in {"width", "height", "batch"} else above, name)

    def _text(self, name: str, samplers: list[str], above: list[str]) -> tuple[Binding, ...]:
        for sampler in samplers:
            source = dict(_links(self.graph[sampler])).get(name)
            if source and (found := self._all_texts(_reach(self.graph, [source]), name)):
                return found
        titled = [node_id for node_id in above if name in _title(self.graph[node_id]).lower()]
        found = self._all_texts(titled, name)
        texts = [node_id for node_id in above if self._all_texts([node_id], name)]
        if not found and name == "positive" and len(texts) == 1:
            found = self._all_texts(texts, name)  # a graph with one prompt only (guidance-distilled models)
        return found

    def _all_texts(self, nodes: list[str], name: str) -> tuple[Binding, ...]:
        """The texts of the nearest node that has any: SDXL and Flux encoders have two."""
        for node_id in nodes:
            inputs = self.graph[node_id]["inputs"]
            texts = [key for key in (*INPUTS[name], "text_l", "clip_l") if isinstance(inputs.get(key), str)]
            if texts:
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
        titles = {_title(node): node_id for node_id, node in self.graph.items() if _title(node)}
        if wanted in titles:
            return titles[wanted]
        near = difflib.get_close_matches(wanted, [*titles, *self.graph], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*titles] or self.graph)}"
        self.problems.append(Problem(f"workflow.bindings.{name}", f"no node has the id or title {wanted!r}", hint))
        return None

    def _missing(self, name: str) -> None:
        nodes = [node_id for node_id in self.graph if self._first([node_id], name)]
        example = f"{nodes[0]}.{self._first(nodes[:1], name)[0].input}" if nodes else f"ID.{INPUTS[name][0]}"
        hint = f"name it: [workflow.bindings] {name} = {example!r}"
        self.problems.append(Problem(f"workflow.bindings.{name}", "cannot be found in the graph", hint))
