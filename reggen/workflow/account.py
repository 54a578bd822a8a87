"""The account of a workflow: its effects that the job does not set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reggen.workflow.graph import Graph
from reggen.workflow.latents import multipliers, scalers
from reggen.workflow.samplers import SEEDS, Sampler
from reggen.workflow.savers import others_that_save
from reggen.workflow.walk import Binding, is_setting, link_of, literals, live_links


@dataclass(frozen=True, slots=True)
class SentText:
    """A literal text that goes to the server as it stands. ``negative``: it reaches negative conditionings only."""

    binding: Binding
    text: str
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Effects of a workflow that the job does not set. Nodes are given by id; pairs are a node and its amount.

    ``negative`` is "text", "zeroed" or "none"; ``cfg`` are the inputs that hold it.
    """

    also_sent: tuple[SentText, ...] = ()
    fixed_seeds: tuple[Binding, ...] = ()
    scaled_by: tuple[tuple[str, str], ...] = ()
    also_saved_by: tuple[str, ...] = ()
    multiplied_by: tuple[tuple[str, str], ...] = ()
    input_images: tuple[Binding, ...] = ()
    negative: str = "none"
    cfg: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Accountant:
    """Looks over a graph whose ``written`` inputs a job sets. ``nodes`` are those that are executed."""

    graph: Graph
    output: str
    nodes: list[str]
    samplers: list[Sampler]
    latents: list[str]
    written: frozenset[Binding]

    def account(self, negative: str, cfg: tuple[Binding, ...]) -> Account:
        """The whole account."""
        return Account(
            also_sent=tuple(self._also_sent()),
            fixed_seeds=tuple(self._fixed_seeds()),
            scaled_by=tuple(scalers(self.graph, self.output, self.latents)) if self.output else (),
            also_saved_by=tuple(others_that_save(self.graph, self.output, self.nodes)),
            multiplied_by=tuple(multipliers(self.graph, self.nodes)),
            input_images=tuple(self._input_images()),
            negative=negative,
            cfg=cfg,
        )

    def _also_sent(self) -> Iterator[SentText]:
        positive, replaced = self._reaching_positive(), self._replaced()
        for one, text in literals(self.graph, self.nodes):
            if one not in self.written and one.node not in replaced and not is_setting(one):
                yield SentText(one, text, negative=bool(self.samplers) and one.node not in positive)

    def _replaced(self) -> set[str]:
        """The nodes whose only ways to a sampler lead through inputs that are set."""
        seen = dict.fromkeys(self._starts())
        queue = list(seen)
        for node_id in queue:
            for link in live_links(self.graph, node_id):
                if Binding(node_id, link.input) not in self.written and link.node not in seen:
                    seen[link.node] = None
                    queue.append(link.node)
        return set(self.graph) - set(seen)

    def _starts(self) -> list[str]:
        return [self.output] if self.output else [one.node for one in self.samplers]

    def _reaching_positive(self) -> set[str]:
        """The output, and the nodes above it by any way but a negative input."""
        seen = dict.fromkeys(self._starts())
        queue = list(seen)
        for node_id in queue:
            links = live_links(self.graph, node_id)
            negative = {(link.node, link.output) for link in links if link.input == "negative"}
            for link in links:
                if (link.node, link.output) not in negative and link.node not in seen:
                    seen[link.node] = None
                    queue.append(link.node)
        return set(seen)

    def _fixed_seeds(self) -> Iterator[Binding]:
        replaced = self._replaced()
        for node_id in self.nodes:
            for key, value in self.graph[node_id]["inputs"].items() if node_id not in replaced else ():
                one = Binding(node_id, key)
                if key.rpartition(".")[2] in SEEDS and link_of(value) is None and one not in self.written:
                    yield one

    def _input_images(self) -> Iterator[Binding]:
        for node_id in self.nodes:
            node = self.graph[node_id]
            if "loadimage" in node["class_type"].lower() and isinstance(node["inputs"].get("image"), str):
                yield Binding(node_id, "image")
