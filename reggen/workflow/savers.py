"""Choose the node whose pictures are taken, and say which others save."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reggen.errors import Problem
from reggen.wording import plural
from reggen.workflow.graph import Graph, title
from reggen.workflow.latents import is_sampling, picture_links, scalers
from reggen.workflow.walk import label, live_links, upstream

SAVERS = ("SaveImage", "SaveImageAdvanced")
_WEBSOCKET = "SaveImageWebsocket"


def choose_output(graph: Graph) -> tuple[str, Problem | None]:
    """The node that saves the picture; with several, the last of the chain and the question."""
    for kinds in (SAVERS, ("PreviewImage",)):
        found = [node_id for node_id, node in graph.items() if node["class_type"] in kinds]
        if len(found) == 1:
            return found[0], None
        if found:
            ordered = _last_first(graph, found)
            shown = "; ".join(f"output = {one!r} ({_described(graph, one)})" for one in ordered)
            return ordered[0], Problem(
                "workflow.bindings.output", f"is open: {len(found)} nodes save", f"choose one: {shown}"
            )
    return "", _none_saves(graph)


def _none_saves(graph: Graph) -> Problem:
    sockets = [node_id for node_id, node in graph.items() if node["class_type"] == _WEBSOCKET]
    if sockets:
        return refused(graph, sockets[0])
    ends = [node_id for node_id in ends_of(graph) if _takes_images(graph, node_id)]
    if ends:
        shown = " and ".join(label(graph, one) for one in ends)
        hint = (
            f"if it saves to ComfyUI's output folder: [workflow.bindings] output = {ends[0]!r}; else end in a SaveImage"
        )
        return Problem("workflow.bindings.output", f"is open: the graph ends in {shown}", hint)
    return Problem("workflow", "has no SaveImage or PreviewImage node", "add a SaveImage node")


def _takes_images(graph: Graph, node_id: str) -> bool:
    return any(re.fullmatch(r"images?\d*", link.input) for link in live_links(graph, node_id))


def refused(graph: Graph, node_id: str) -> Problem:
    """The reason why a SaveImageWebsocket cannot be the output."""
    problem = f"{label(graph, node_id)} sends its picture through the socket and leaves none in the history"
    return Problem("workflow.bindings.output", problem, "use a SaveImage or PreviewImage node in its place")


def is_websocket(graph: Graph, node_id: str) -> bool:
    """If a node is a SaveImageWebsocket."""
    return bool(graph[node_id]["class_type"] == _WEBSOCKET)


def ends_of(graph: Graph) -> list[str]:
    """The nodes that no other takes anything from."""
    used = {link.node for node_id in graph for link in live_links(graph, node_id)}
    return [node_id for node_id in graph if node_id not in used]


def _last_first(graph: Graph, savers: list[str]) -> list[str]:
    """Savers by the number of samplers above them, the most first."""
    return sorted(savers, key=lambda one: -_passes(graph, one))


def _passes(graph: Graph, saver: str) -> int:
    return sum(
        is_sampling(graph, node_id) and bool(picture_links(graph, node_id)) for node_id in upstream(graph, [saver])
    )


def _described(graph: Graph, saver: str) -> str:
    passes = _passes(graph, saver)
    called = title(graph[saver])
    sizes = [how_much for _, how_much in scalers(graph, saver, []) if how_much]
    return ", ".join([*([repr(called)] if called else []), f"after {plural(passes, 'sampler')}", *reversed(sizes)])


def others_that_save(graph: Graph, output: str, nodes: list[str]) -> Iterator[str]:
    """The nodes above the output that save pictures as well."""
    for node_id in nodes:
        kind = graph[node_id]["class_type"]
        if node_id != output and ("save" in kind.lower() or kind == "PreviewImage") and picture_links(graph, node_id):
            yield node_id
