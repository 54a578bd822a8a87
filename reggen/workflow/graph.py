"""ComfyUI's API format: read from a file or a picture, and walked upstream.

A graph is ``{node id: {"class_type": str, "inputs": {name: value or [node id, slot]}}}``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from reggen.errors import Problem, WorkflowError
from reggen.files import MIB, opened, text_of
from reggen.geometry import DEFAULT_SIZE

Graph = dict[str, dict[str, Any]]
_LARGEST = 64 * MIB
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


def read_graph(file: Path, output: str = "") -> Graph:
    """An API-format graph from a JSON file or from a PNG that ComfyUI made. Raises WorkflowError.

    ``output`` is the id or title of a node that is kept as one that saves, whatever its class.
    """
    try:
        text = _png_prompt(file) if file.suffix.lower() == ".png" else text_of(file, _LARGEST)
        document = json.loads(text)
    except FileNotFoundError:
        raise _unusable(file, "there is no such file") from None
    except UnidentifiedImageError:
        raise _unusable(file, "it is no PNG, whatever its ending says") from None
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise _unusable(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _unusable(file, f"it is not JSON: {error}") from None
    except (SyntaxError, ArithmeticError, LookupError, struct.error, Image.DecompressionBombError) as error:
        raise _unusable(file, f"it is damaged: {error}") from None
    if isinstance(document, dict) and isinstance(document.get("prompt"), dict):
        document = document["prompt"]  # a body as it is posted
    if isinstance(document, dict) and "nodes" in document and "links" in document:
        raise _unusable(file, "it is a workflow as ComfyUI's page saves it", "in ComfyUI: Workflow > Export (API)")
    if not isinstance(document, dict) or not document:
        raise _unusable(file, "it is not a ComfyUI graph in API format", "in ComfyUI: Workflow > Export (API)")
    _demand_nodes(file, document)
    return _upstream_of_outputs(document, output)


def _demand_nodes(file: Path, document: dict[str, Any]) -> None:
    for node_id, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise _unusable(file, f"node {node_id} has no class_type", "in ComfyUI: Workflow > Export (API)")
        if not isinstance(node.setdefault("inputs", {}), dict):  # ComfyUI's worker dies of a node without
            raise _unusable(file, f"the inputs of node {node_id} are no table", "in ComfyUI: Workflow > Export (API)")


def _png_prompt(file: Path) -> str:
    if not file.is_file():
        raise _unusable(file, "there is no such file")
    with opened(file) as stream, Image.open(stream, formats=["PNG"]) as image:
        text = image.info.get("prompt")
    if not isinstance(text, str):
        raise _unusable(file, "this picture carries no ComfyUI graph", "use one that ComfyUI saved itself, unchanged")
    return text


def _unusable(file: Path, problem: str, hint: str = "") -> WorkflowError:
    return WorkflowError(str(file), (Problem("", problem, hint),))


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


def _upstream_of_outputs(graph: Graph, output: str) -> Graph:
    """Without nodes that lead to no saver: ComfyUI validates only what leads to an output."""
    savers = [
        node_id
        for node_id, node in graph.items()
        if node["class_type"] in SAVERS or (output and output in {node_id, title(node)})
    ]
    kept = set(reach(graph, savers)) if savers else set(graph)
    return {node_id: node for node_id, node in graph.items() if node_id in kept}
