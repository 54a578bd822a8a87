"""Find the nodes that sample, and the encoders behind their conditionings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from reggen.workflow.graph import Graph
from reggen.workflow.walk import NOT_TEXT, Binding, Link, dead_inputs, link_of, live_links, rewrites, texts_of

_SIDES = {
    "positive": ("positive", "conditioning", "cond1", "cond"),
    "negative": ("negative", "negative_cond", "uncond"),
}
_OWN = {"seed", "noise_seed", "cfg", "cfg_conds", "steps", "basic_pipe"}
PIPE = re.compile(r"pipe|context|(^|_)ctx", re.IGNORECASE)
"""Names of inputs that carry model, conditionings and latent together."""
_PASSED_ON = re.compile(r"positive|negative|cond\w*|on_(true|false)|any_\d+|input\d*|value\d*|source|")
_CONTEXT = {4: "positive", 5: "negative"}  # outputs of rgthree's Context
_CHOSEN = ("noise", "guider", "sampler", "sigmas")  # links from a custom sampler to the nodes that hold its settings
SEEDS = ("seed", "noise_seed")


class Kind(StrEnum):
    """Kinds of sampling nodes."""

    SAMPLER = "sampler"
    GUIDER = "guider"
    DETAILER = "detailer"  # samples parts of a finished picture again


@dataclass(frozen=True, slots=True)
class Sampler:
    """A node that turns conditionings into a picture. ``settings`` are its id and the nodes with its settings."""

    node: str
    kind: Kind
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One side of a sampler: the texts of its encoders, and if a ConditioningZeroOut makes it nothing.

    ``texts`` holds for each encoder the inputs that hold its text or a link to it.
    """

    texts: tuple[tuple[Binding, ...], ...]
    zeroed: bool = False
    exists: bool = True


def samplers_of(graph: Graph, nodes: list[str]) -> list[Sampler]:
    """The sampling nodes among some, in the same order."""
    return [Sampler(node_id, kind, settings_of(graph, node_id)) for node_id in nodes if (kind := _kind(graph, node_id))]


def _kind(graph: Graph, node_id: str) -> Kind | None:
    node = graph[node_id]
    name, inputs = node["class_type"].lower(), node["inputs"]
    linked = {link.input for link in live_links(graph, node_id)}
    if not side_links(graph, node_id, "positive"):
        return None
    if "detailer" in name or ("image" in linked and _OWN & inputs.keys()):
        return Kind.DETAILER
    if "guider" in name:
        return Kind.GUIDER
    if name.startswith(("to", "edit")):  # a pipe is put together there
        return None
    return Kind.SAMPLER if _OWN & inputs.keys() else None


def side_links(graph: Graph, node_id: str, side: str) -> list[Link]:
    """The conditionings of one side that come into a node, or into the pipe that it takes."""
    seen: set[str] = set()
    queue = [node_id]
    for one in queue:
        if one in seen:
            continue
        seen.add(one)
        links = live_links(graph, one)
        if found := [link for link in links if link.input in _SIDES[side]]:
            return found
        pipes = [link for link in links if PIPE.search(link.input)]
        loaders = [link for link in pipes if isinstance(graph[link.node]["inputs"].get(side), str)]
        if loaders:
            return loaders  # the loader has the text itself
        queue += [link.node for link in pipes]
    return []


def settings_of(graph: Graph, node_id: str) -> tuple[str, ...]:
    """A sampling node and the nodes that hold its noise, guider, sampler and sigmas."""
    found = dict.fromkeys([node_id])
    for one in found.copy():
        for link in live_links(graph, one):
            if PIPE.search(link.input):
                found |= dict.fromkeys(_pipe(graph, link.node, set()))
            if link.input in _CHOSEN:
                found |= dict.fromkeys([link.node])
                found |= dict.fromkeys(_through(graph, link.node))
    return tuple(found)


def _pipe(graph: Graph, node_id: str, seen: set[str]) -> list[str]:
    """The nodes along a pipe."""
    if node_id in seen:
        return []
    seen.add(node_id)
    onward = [link.node for link in live_links(graph, node_id) if PIPE.search(link.input)]
    return [node_id, *(found for one in onward for found in _pipe(graph, one, seen))]


def _through(graph: Graph, node_id: str) -> list[str]:
    """The nodes behind one that only passes sigmas on: SplitSigmas, a reroute."""
    onward = [
        link
        for link in live_links(graph, node_id)
        if link.input in {"sigmas", "sampler", "noise", "guider", "", "value"}
    ]
    return [found for link in onward for found in (link.node, *_through(graph, link.node))]


def custom_samplers(graph: Graph, nodes: list[str]) -> list[str]:
    """The nodes that take noise and guider from others, such as SamplerCustomAdvanced."""
    return [node for node in nodes if {"noise", "guider"} <= {link.input for link in live_links(graph, node)}]


def conditioning_of(graph: Graph, sampler: Sampler, side: str) -> Conditioning:
    """The conditioning of one side of a sampler; ``side`` is "positive" or "negative"."""
    links = side_links(graph, sampler.node, side)
    if side == "positive":
        links += _second_condition(graph, sampler.node)
    if not links:
        return Conditioning((), exists=False)
    encoders: dict[str, tuple[Binding, ...]] = {}
    zeroed = False
    for link in links:
        found, nothing = _encoders(graph, link, side)
        encoders |= found
        zeroed = zeroed or nothing
    return Conditioning(tuple(encoders.values()), zeroed=zeroed and not encoders)


def _second_condition(graph: Graph, node_id: str) -> list[Link]:
    """DualCFGGuider's second conditioning, where it is not the negative one."""
    links = {link.input: link for link in live_links(graph, node_id)}
    second, negative = links.get("cond2"), links.get("negative")
    same = second and negative and (second.node, second.output) == (negative.node, negative.output)
    return [second] if second and not same else []


def _encoders(graph: Graph, start: Link, side: str) -> tuple[dict[str, tuple[Binding, ...]], bool]:
    """The encoders above a link with their text inputs, nearest first; and if the way up was zeroed."""
    found: dict[str, tuple[Binding, ...]] = {}
    seen: set[tuple[str, str]] = set()
    ways, zeroed = [(start, side)], False
    for link, at in ways:
        if (link.node, at) in seen:
            continue
        seen.add((link.node, at))
        if graph[link.node]["class_type"] == "ConditioningZeroOut":
            zeroed = True
            continue
        if texts := _texts(graph, link.node, at):
            found[link.node] = texts
        ways += list(_upwards(graph, link, at))
    return found, zeroed


def _texts(graph: Graph, node_id: str, side: str) -> tuple[Binding, ...]:
    """The text inputs of an encoder; of a loader with texts for both sides, those of one."""
    inputs = graph[node_id]["inputs"]
    left_out = dead_inputs(graph, node_id)
    keys = [key for key in texts_of(graph, node_id) if key not in left_out]
    keys = [key for key in keys if not _carries_conditioning(graph, node_id, key)]
    other = "negative" if side == "positive" else "positive"
    if any(side in key for key in keys):
        keys = [key for key in keys if other not in key]
    return tuple(Binding(node_id, key) for key in keys if isinstance(inputs[key], str) or link_of(inputs[key]))


def _carries_conditioning(graph: Graph, node_id: str, key: str) -> bool:
    """If an input named like a text is a link to a conditioning: "positive" of a ControlNet node."""
    link = link_of(graph[node_id]["inputs"][key])
    if link is None or link[0] not in graph:
        return False
    return bool(_PASSED_ON.fullmatch(key)) and _encodes(graph, link[0], set())


def _encodes(graph: Graph, node_id: str, seen: set[str]) -> bool:
    """If a node gives a conditioning: it takes a CLIP, or another conditioning."""
    if node_id in seen:
        return False
    seen.add(node_id)
    inputs = graph[node_id]["inputs"]
    kind = graph[node_id]["class_type"].lower()
    return not rewrites(graph[node_id]) and (
        "clip" in inputs
        or "conditioning" in kind
        or any(
            _encodes(graph, link.node, seen)
            for link in live_links(graph, node_id)
            if _PASSED_ON.fullmatch(link.input) or "cond" in link.input
        )
    )


def _upwards(graph: Graph, link: Link, side: str) -> Iterator[tuple[Link, str]]:
    """The links through which conditionings come into a node, each with the side it is on."""
    links = [one for one in live_links(graph, link.node) if not NOT_TEXT.fullmatch(one.input)]
    texts = {key for key in texts_of(graph, link.node) if not _carries_conditioning(graph, link.node, key)}
    names = {one.input for one in links}
    both = {"positive", "negative"} <= names
    if graph[link.node]["class_type"].startswith("Context"):
        side = _CONTEXT.get(link.output, side)
    elif both and "model" not in graph[link.node]["inputs"]:  # its outputs are positive and negative, in this order
        side = "negative" if link.output == 1 else "positive"
    for one in links:
        if one.input in texts or (both and one.input in {"positive", "negative"} and one.input != side):
            continue
        yield one, side
