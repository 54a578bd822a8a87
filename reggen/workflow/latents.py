"""Find where a picture's size and batch begin, and what changes them on the way to the saver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from reggen.workflow.graph import Graph
from reggen.workflow.samplers import PIPE, SEEDS, Kind, Sampler
from reggen.workflow.walk import Binding, Link, constant, link_of, live_links, number_source

_LATENTS = (
    "latent_image",
    "samples",
    "latent",
    "latents",
    "samples1",
    "samples_to",
    "input",
    "value",
    "",
)
_SCALES = re.compile(r"scale|resize|crop|pad(?!ding)|upsc|superres|outpaint|hires", re.IGNORECASE)
_PAIRS = (("width", "height"), ("target_width", "target_height"))
_OWN_PAIRS = (("width", "height"), ("empty_latent_width", "empty_latent_height"))  # of what begins a latent
_SIDE = re.compile(r"width|height|size|resolution|^(value\d*|on_(true|false)|any_\d+|input\d*|source|[a-z]|)$")
_MULTIPLIERS = {"RepeatLatentBatch": "amount", "RepeatImageBatch": "amount", "LatentBatch": "", "ImageBatch": ""}


def first_latents(graph: Graph, samplers: list[Sampler], custom: list[str]) -> list[str]:
    """The nodes in which the pictures' latents begin: an empty latent, or an encoded picture; usually one."""
    found: dict[str, None] = {}
    for start in [*(one.node for one in samplers if one.kind is Kind.SAMPLER), *custom]:
        found |= dict.fromkeys(_beginnings(graph, start, set()))
    return list(found)


def _beginnings(graph: Graph, node_id: str, seen: set[str]) -> Iterator[str]:
    if node_id in seen:
        return
    seen.add(node_id)
    into = live_links(graph, node_id)
    links = [link for link in into if link.input in _LATENTS] or [link for link in into if PIPE.search(link.input)]
    if not links and not {"guider", *SEEDS} & graph[node_id]["inputs"].keys():
        yield node_id
    for link in links:
        yield from _beginnings(graph, link.node, seen)


def is_sampling(graph: Graph, node_id: str) -> bool:
    """If a node takes a noise and a guider, or a conditioning."""
    names = {link.input for link in live_links(graph, node_id)}
    return bool(names & {"guider", "positive", "conditioning"})


def sized(graph: Graph, node_id: str) -> bool:
    """If a node has a width and a height."""
    return bool(_own_pair(graph, node_id))


def _own_pair(graph: Graph, node_id: str) -> tuple[str, str] | None:
    inputs = graph[node_id]["inputs"]
    return next((pair for pair in _OWN_PAIRS if set(pair) <= inputs.keys()), None)


def size_bindings(graph: Graph, latent: str, nodes: list[str]) -> dict[str, tuple[Binding, ...]]:
    """The inputs to set for another width and height: the latent's, and pairs elsewhere that equal it.

    A pair belongs to the latent when it comes from the same node, or is the same two numbers on a node that neither
    scales nor takes a picture.
    """
    names = dict(zip(("width", "height"), _own_pair(graph, latent) or _PAIRS[0], strict=True))
    sources = {key: _size_source(graph, latent, name) for key, name in names.items()}
    if sources["width"] == sources["height"]:  # one number for both sides cannot say two
        sources = dict.fromkeys(sources)
    found = {key: [sources[key] or Binding(latent, name)] for key, name in names.items()}
    theirs = {key: _origin(graph, latent, name) for key, name in names.items()}
    others = ((node_id, pair) for node_id in nodes if node_id != latent for pair in _PAIRS)
    for node_id, pair in others:
        if not _belongs(graph, node_id, pair, theirs):
            continue
        for key, own in zip(sources, pair, strict=True):
            source = number_source(graph, node_id, own)
            if source is None or source != sources[key]:
                found[key].append(Binding(node_id, own))
    return {key: tuple(dict.fromkeys(bindings)) for key, bindings in found.items()}


def _size_source(graph: Graph, node_id: str, key: str) -> Binding | None:
    """The literal that decides a side; None where it decides something else as well, such as a number of steps."""
    source = number_source(graph, node_id, key)
    if source is None or source.node == node_id:
        return source
    readers = (link.input for other in graph for link in live_links(graph, other) if link.node == source.node)
    return source if all(_SIDE.search(one) for one in readers) else None


def _belongs(graph: Graph, node_id: str, pair: tuple[str, str], theirs: dict[str, Any]) -> bool:
    inputs = graph[node_id]["inputs"]
    if not set(pair) <= inputs.keys():
        return False
    own = {key: _origin(graph, node_id, name) for key, name in zip(theirs, pair, strict=True)}
    if own != theirs:
        return False
    return all(link_of(inputs[name]) for name in pair) or not _takes_pictures(graph, node_id)


def _origin(graph: Graph, node_id: str, key: str) -> Any:
    """The value of a number's source, or the link it comes through; equal for what counts as the same number."""
    source = number_source(graph, node_id, key)
    return graph[source.node]["inputs"][source.input] if source else link_of(graph[node_id]["inputs"].get(key))


def _takes_pictures(graph: Graph, node_id: str) -> bool:
    names = {link.input for link in live_links(graph, node_id)}
    return bool(names & {"image", "images", "pixels", "samples", "latent", "mask"}) or bool(
        _SCALES.search(graph[node_id]["class_type"])
    )


def scalers(graph: Graph, output: str, latents: list[str]) -> list[tuple[str, str]]:
    """The nodes between the first latent and the saver that change the size, each with how much, if that is known."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    ways = [output]
    for node_id in ways:
        if node_id in seen or node_id in latents:
            continue
        seen.add(node_id)
        if node_id != output and _SCALES.search(graph[node_id]["class_type"]) and _takes_pictures(graph, node_id):
            how_much = _how_much(graph, node_id)
            found |= {node_id: how_much} if how_much != "1 times" else {}
        ways += [link.node for link in picture_links(graph, node_id)]
    return list(found.items())


def picture_links(graph: Graph, node_id: str) -> list[Link]:
    """The inputs through which a picture or a latent comes into a node."""
    return [
        link
        for link in live_links(graph, node_id)
        if re.fullmatch(
            r"(images?|pixels|samples\d?|latent(_image)?s?|input\d?|value|any_\d+|on_(true|false)|image\d)?", link.input
        )
    ]


def _how_much(graph: Graph, node_id: str) -> str:
    inputs = graph[node_id]["inputs"]
    for key in ("scale_by", "upscale_by", "factor", "scale", "rescale_factor"):
        if isinstance(factor := constant(graph, node_id, key), int | float) and key in inputs:
            return f"{factor:g} times"
    width, height = (constant(graph, node_id, key) for key in ("width", "height"))
    if isinstance(width, int) and isinstance(height, int):
        return f"to {width} x {height}"
    name = next((value for key, value in inputs.items() if "model_name" in key and isinstance(value, str)), "")
    return f"by {name}" if name else ""


def multipliers(graph: Graph, nodes: list[str]) -> list[tuple[str, str]]:
    """The nodes that make more pictures of a batch, each with how many times as far as it is known."""
    found = []
    for node_id in nodes:
        kind = graph[node_id]["class_type"]
        if kind in _MULTIPLIERS:
            amount = constant(graph, node_id, _MULTIPLIERS[kind]) if _MULTIPLIERS[kind] else None
            if amount != 1:
                found.append((node_id, f"{amount} times" if amount else ""))
    return found
