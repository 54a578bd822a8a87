"""ComfyUI's API format: the built-in graph, and any graph walked upstream. Pure.

A graph is ``{node id: {"class_type": str, "inputs": {name: value or [node id, slot]}}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The node's title in ComfyUI's page; empty where it has none."""
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""
