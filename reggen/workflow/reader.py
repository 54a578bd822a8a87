"""Read a workflow: which inputs a job sets, which are left open, and what is sent as it stands.

Each sampler's conditioning is followed up to its encoders, and each encoder's text to the literals behind it. One
literal is bound. Several are a question, with every candidate. What is not set is accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reggen.errors import Problem
from reggen.workflow.account import Account, Accountant
from reggen.workflow.graph import Graph
from reggen.workflow.latents import first_latents, size_bindings, sized
from reggen.workflow.named import NamedBindings
from reggen.workflow.samplers import SEEDS, Kind, custom_samplers, samplers_of
from reggen.workflow.savers import choose_output, is_websocket, refused
from reggen.workflow.texts import side_texts
from reggen.workflow.walk import Binding, label, link_of, live_links, number_source, upstream

_SETTINGS = {
    "steps": ("steps",),
    "cfg": ("cfg", "cfg_conds"),
    "sampler": ("sampler_name",),
    "scheduler": ("scheduler",),
}
_CHECKPOINTS = ("ckpt_name", "unet_name")
_OPTIONAL = ("prefix", "batch", "checkpoint", "sampler", "scheduler", "steps", "cfg", "guidance")


@dataclass(frozen=True, slots=True)
class Reading:
    """A workflow as reggen reads it: the nodes that lead to the output, the inputs to set, and the account of the rest.

    ``own`` holds for "positive" and "negative" the literals that the workflow itself says there.
    """

    graph: Graph
    output: str
    bindings: Mapping[str, tuple[Binding, ...]]
    own: Mapping[str, tuple[Binding, ...]]
    account: Account
    problems: tuple[Problem, ...] = ()


def read_workflow(graph: Graph, named: Mapping[str, str | Sequence[str]], wanted: Sequence[str]) -> Reading:
    """Read a graph for a job that sets the ``wanted`` names. ``named`` are the job's own bindings, as "node.input"."""
    return _Reader(graph, named).read(wanted)


class _Reader:
    """One reading; collects the problems instead of raising the first."""

    def __init__(self, graph: Graph, named: Mapping[str, str | Sequence[str]]) -> None:
        self._whole = graph
        self._named = NamedBindings(graph, named)
        self._problems: list[Problem] = []
        self._output = self._choose()
        above = upstream(graph, [self._output]) if self._output else list(graph)
        self._nodes = above
        self._graph = {node_id: node for node_id, node in graph.items() if node_id in set(self._with_dead_branches())}
        self._samplers = samplers_of(self._graph, above)
        self._main = [one for one in self._samplers if one.kind is not Kind.DETAILER]
        custom = custom_samplers(self._graph, above)
        self._settings = dict.fromkeys(node for one in self._main for node in one.settings)
        for node_id in custom:
            self._settings |= dict.fromkeys(_custom_settings(self._graph, node_id))
        self._latents = first_latents(self._graph, self._samplers, custom) or [
            node for node in above if {"width", "height", "batch_size"} <= self._inputs(node).keys()
        ]
        self._texts = {side: side_texts(self._graph, self._samplers, above, side) for side in ("positive", "negative")}
        self._part()

    def read(self, wanted: Sequence[str]) -> Reading:
        bindings: dict[str, tuple[Binding, ...]] = {}
        for name in dict.fromkeys([*wanted, *_OPTIONAL, *self._named]):
            found = self._leading(name) if name in self._named else self._search(name, asked=name in wanted)
            if found:
                bindings[name] = found
        self._demand_apart(bindings)
        set_names = {*wanted, *self._named, "prefix", "seed", "batch"}
        written = frozenset(one for name, found in bindings.items() if name in set_names for one in found)
        accountant = Accountant(self._graph, self._output, self._nodes, self._samplers, self._latents, written)
        return Reading(
            graph=self._graph,
            output=self._output,
            bindings=bindings,
            own={side: texts.all for side, texts in self._texts.items()},
            account=accountant.account(self._texts["negative"].kind, self._of_samplers(_SETTINGS["cfg"])),
            problems=(*self._problems, *self._named.problems),
        )

    def _part(self) -> None:
        """Where one literal is the text of both sides, set each side at its encoders instead."""
        positive, negative = (self._texts[side] for side in ("positive", "negative"))
        for one in [one for one in positive.bound if one in negative.bound]:
            if set(positive.encoders.get(one, ())) & set(negative.encoders.get(one, ())):
                continue  # one encoder for both: nothing can part them
            for texts in (positive, negative):
                bound = dict.fromkeys(texts.bound)
                del bound[one]
                texts.bound = bound | dict.fromkeys(texts.encoders.get(one, ()))

    # ---- the output

    def _choose(self) -> str:
        if "output" in self._named:
            node_id = self._named.output
            if node_id and is_websocket(self._whole, node_id):
                self._problems.append(refused(self._whole, node_id))
            return node_id
        output, problem = choose_output(self._whole)
        if problem:
            self._problems.append(problem)
        return output

    def _with_dead_branches(self) -> list[str]:
        """The nodes to send: all that lead to the output, dead branches of switches too, since links must resolve."""
        seen = dict.fromkeys([self._output] if self._output else self._whole)
        queue = list(seen)
        for node_id in queue:
            for value in self._whole[node_id]["inputs"].values():
                link = link_of(value)
                if link and link[0] in self._whole and link[0] not in seen:
                    seen[link[0]] = None
                    queue.append(link[0])
        return list(seen)

    # ---- names

    def _leading(self, name: str) -> tuple[Binding, ...]:
        """The inputs that the job names, of nodes that lead to the output: what is set elsewhere changes no picture."""
        found = self._named.find(name)
        for one in found:
            if one.node not in self._graph:
                problem = f"{one} does not lead to the output, {label(self._whole, self._output)}"
                hint = "name an input of a node that does"
                self._problems.append(Problem(f"workflow.bindings.{name}", problem, hint))
        return tuple(one for one in found if one.node in self._graph)

    def _search(self, name: str, *, asked: bool) -> tuple[Binding, ...]:
        match name:
            case "positive" | "negative":
                return self._text(name, asked=asked)
            case "seed":
                return self._seeds(asked=asked)
            case "width" | "height":
                return self._size(name, asked=asked)
            case "batch":
                found = [
                    self._number(node, "batch_size") for node in self._latents if "batch_size" in self._inputs(node)
                ]
                return self._or_missing(name, tuple(dict.fromkeys(found)), asked=asked)
            case "checkpoint":
                return self._or_missing(name, self._checkpoint(), asked=asked)
            case "guidance":
                found = [self._number(node, "guidance") for node in self._nodes if "guidance" in self._inputs(node)]
                return self._or_missing(name, tuple(dict.fromkeys(found)), asked=asked)
            case "prefix":
                has = self._output and "filename_prefix" in self._inputs(self._output)
                return (Binding(self._output, "filename_prefix"),) if has else ()
        return self._or_missing(name, self._of_samplers(_SETTINGS[name]), asked=asked)

    def _inputs(self, node_id: str) -> Mapping[str, object]:
        inputs: Mapping[str, object] = self._graph[node_id]["inputs"]
        return inputs

    def _text(self, side: str, *, asked: bool) -> tuple[Binding, ...]:
        texts = self._texts[side]
        if asked and (texts.open or texts.joins):
            self._problems.append(texts.question(self._graph))
        elif asked and not texts.bound and side == "negative" and texts.kinds and texts.kind != "text":
            return ()  # it has no effect, which the account says
        elif asked and not texts.bound:
            what = (
                "no sampler takes a prompt that can be followed"
                if side == "positive"
                else "the graph has no input for it"
            )
            hint = "name the input that takes the prompt" if side == "positive" else "leave prompts.negative out"
            self._problems.append(Problem(f"workflow.bindings.{side}", what, hint))
        return tuple(texts.bound)

    def _seeds(self, *, asked: bool) -> tuple[Binding, ...]:
        nodes = [*self._settings, *(node for one in self._samplers for node in one.settings)]
        found = [
            self._number(node, key, alike=SEEDS)
            for node in dict.fromkeys(nodes)
            for key in SEEDS
            if key in self._inputs(node)
        ]
        if not self._samplers:
            found = [Binding(node, key) for node in self._nodes for key in SEEDS if key in self._inputs(node)]
        return self._or_missing("seed", tuple(dict.fromkeys(found)), asked=asked)

    def _size(self, name: str, *, asked: bool) -> tuple[Binding, ...]:
        begun = [node for node in self._latents if sized(self._graph, node)]
        found: dict[Binding, None] = {}
        for node in begun:
            found |= dict.fromkeys(size_bindings(self._graph, node, self._nodes)[name])
        if asked and not found and self._latents:
            begins = ", ".join(label(self._graph, node) for node in self._latents)
            hint = "leave sampling.width and height out: the picture that it begins with decides"
            self._problems.append(Problem(f"workflow.bindings.{name}", f"the picture begins in {begins}", hint))
            return ()
        return self._or_missing(name, tuple(found), asked=asked)

    def _checkpoint(self) -> tuple[Binding, ...]:
        for sampler in reversed(self._main):  # the one that begins the picture, not a refiner's
            models = [link.node for link in live_links(self._graph, sampler.node) if link.input == "model"]
            for node in upstream(self._graph, models):
                if found := [key for key in _CHECKPOINTS if isinstance(self._inputs(node).get(key), str)]:
                    return (Binding(node, found[0]),)
        loaders = [Binding(node, key) for node in self._nodes for key in _CHECKPOINTS if key in self._inputs(node)]
        return tuple(loaders[:1])

    def _of_samplers(self, keys: Sequence[str]) -> tuple[Binding, ...]:
        nodes = self._settings or dict.fromkeys(self._nodes)
        found = [self._number(node, key) for node in nodes for key in keys if key in self._inputs(node)]
        return tuple(dict.fromkeys(found))

    def _number(self, node_id: str, key: str, alike: Sequence[str] = ()) -> Binding:
        """The literal that decides an input; the input itself where its link leads to none or to one used otherwise."""
        source = number_source(self._graph, node_id, key)
        if source is None or source.node == node_id:
            return Binding(node_id, key)
        readers = {
            link.input for other in self._graph for link in live_links(self._graph, other) if link.node == source.node
        }
        return source if readers <= {key, *alike, *_THROUGH} else Binding(node_id, key)

    def _or_missing(self, name: str, found: tuple[Binding, ...], *, asked: bool) -> tuple[Binding, ...]:
        if asked and not found:
            hint = "leave it out of the job, or name the node and input that take it"
            self._problems.append(Problem(f"workflow.bindings.{name}", "has no input in the graph", hint))
        return found

    def _demand_apart(self, bindings: Mapping[str, tuple[Binding, ...]]) -> None:
        shared = [one for one in bindings.get("positive", ()) if one in bindings.get("negative", ())]
        if shared:
            hint = "leave the negative prompt out, or name its own input"
            where = ", ".join(map(str, shared))
            self._problems.append(Problem("workflow.bindings.negative", f"{where} is the positive prompt's", hint))


_THROUGH = ("value", "", "on_true", "on_false", "source", "any_01", "input1", "input2")


def _custom_settings(graph: Graph, node_id: str) -> list[str]:
    links = {link.input: link.node for link in live_links(graph, node_id)}
    return [links[name] for name in ("noise", "guider", "sampler", "sigmas") if name in links]
