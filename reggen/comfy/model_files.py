"""The model files that a server has, by the key of a job file that names them."""

from __future__ import annotations

from typing import Any, NamedTuple

from reggen.comfy.client import Client
from reggen.comfy.node_classes import choices_of
from reggen.comfy.sanitize import is_choice
from reggen.errors import HttpStatusError, InvalidResponse

_FOLDERS = {
    "sampling.checkpoint": ("checkpoints", "CheckpointLoaderSimple", "ckpt_name"),
    "sampling.model": ("diffusion_models", "UNETLoader", "unet_name"),
    "sampling.text_encoders": ("text_encoders", "CLIPLoader", "clip_name"),
    "sampling.vae": ("vae", "VAELoader", "vae_name"),
    "loras": ("loras", "LoraLoader", "lora_name"),
}
"""Keys with ComfyUI's folder, and the node class and input that list it on every version."""


class ModelFile(NamedTuple):
    """A file as the server lists it, and its size in bytes where the server tells it."""

    name: str
    size: int | None = None


async def model_files(client: Client) -> dict[str, tuple[ModelFile, ...]]:
    """The model files of a server, each kind sorted by name. Raises ServerError."""
    return {key: await _listed(client, *place) for key, place in _FOLDERS.items()}


async def _listed(client: Client, folder: str, node_class: str, name: str) -> tuple[ModelFile, ...]:
    """The files that a loader accepts, with the sizes that newer servers tell of their folder."""
    spec = await client.node_class(node_class)
    groups = spec.get("input", {}) if spec else {}
    inputs = {one: value for group in groups.values() for one, value in group.items()}
    names = choices_of(inputs.get(name))
    sizes = read_sizes(await _details(client, folder)) if names else {}
    return tuple(ModelFile(one, sizes.get(one.replace("\\", "/"))) for one in sorted(names, key=str.lower))


async def _details(client: Client, folder: str) -> Any:
    """The answer of a route that older servers and some proxies do not have; None there."""
    try:
        return await client.model_details(folder)
    except (HttpStatusError, InvalidResponse):
        return None


def read_sizes(body: Any) -> dict[str, int]:
    """The sizes in bytes by name in an answer to GET /experiment/models/{folder}; what cannot be read is left out."""
    entries = [entry for entry in body if isinstance(entry, dict)] if isinstance(body, list) else []
    pairs = [(entry.get("name"), entry.get("size")) for entry in entries]
    known = [(name, size) for name, size in pairs if is_choice(name) and type(size) is int and size >= 0]
    return {name.replace("\\", "/"): size for name, size in known}
