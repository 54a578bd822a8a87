"""Facts about a server, from GET /prompt and /system_stats. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Any

from reggen.comfy.sanitize import LINE, cleaned, is_choice, is_number
from reggen.errors import InvalidResponse


def read_queue_depth(server: str, body: Any) -> int:
    """The number of running and waiting prompts of all clients, from GET /prompt. Raises InvalidResponse."""
    info = body.get("exec_info") if isinstance(body, dict) else None
    count = info.get("queue_remaining") if isinstance(info, dict) else None
    if not is_number(count):
        raise InvalidResponse(server, "asking for a sign of life", "this is not a ComfyUI server")
    return int(count)


def read_version(body: Any) -> str:
    """ComfyUI's version as the server gives it in /system_stats; "unknown" when it gives none."""
    system = body.get("system") if isinstance(body, dict) else None
    return cleaned(system.get("comfyui_version", "unknown"), LINE) if isinstance(system, dict) else "unknown"


def read_free_memory(body: Any) -> float | None:
    """The free share of the fullest device's memory, from 0 to 1, from /system_stats; None when it gives none."""
    devices = body.get("devices") if isinstance(body, dict) else None
    found = [
        device["vram_free"] / device["vram_total"]
        for device in (devices if isinstance(devices, list) else ())
        if isinstance(device, dict)
        and is_number(device.get("vram_free"))
        and is_number(device.get("vram_total"))
        and device["vram_total"] > 0
    ]
    return min(found, default=None)


def read_models(body: Any) -> list[str]:
    """The names of the files in a folder of models, from GET /models/{folder}; [] for another answer."""
    return [name for name in body if isinstance(name, str) and is_choice(name)] if isinstance(body, list) else []


def read_architecture(body: Any) -> str:
    """The architecture in a model's header, from GET /view_metadata; "" where it has none."""
    architecture = body.get("modelspec.architecture", "") if isinstance(body, dict) else ""
    return cleaned(architecture, LINE) if isinstance(architecture, str) else ""
