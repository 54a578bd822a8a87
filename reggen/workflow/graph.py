"""ComfyUI's API format: the built-in graph, and any graph walked upstream. Pure.

A graph is ``{node id: {"class_type": str, "inputs": {name: value or [node id, slot]}}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reggen.geometry import DEFAULT_SIZE

Graph = dict[str, dict[str, Any]]
SAVERS = ("SaveImage", "PreviewImage")


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


def title(node: Mapping[str, Any]) -> str:
    """What the node is called in ComfyUI's page; empty when nothing was said."""
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def links(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The inputs that come from other nodes: input name, node id."""
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            yield name, value[0]


def reach(graph: Graph, starts: list[str], side: str = "") -> list[str]:
    """The nodes at and above ``starts``, nearest first; nodes with an input ``side`` are passed on that side only."""
    seen = dict.fromkeys(start for start in starts if start in graph)
    queue = list(seen)
    for node_id in queue:
        sources = dict(links(graph[node_id]))
        for source in (sources[side],) if side in sources else sources.values():
            if source in graph and source not in seen:
                seen[source] = None
                queue.append(source)
    return list(seen)


def upstream_of_savers(graph: Graph, output: str = "") -> Graph:
    """The graph without nodes that lead to no saver: ComfyUI validates only what leads to an output.

    ``output`` is the id or title of a node that counts as a saver, whatever its class.
    """
    savers = [
        node_id
        for node_id, node in graph.items()
        if node["class_type"] in SAVERS or (output and output in {node_id, title(node)})
    ]
    kept = set(reach(graph, savers)) if savers else set(graph)
    return {node_id: node for node_id, node in graph.items() if node_id in kept}
