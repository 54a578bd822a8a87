"""The node classes the stand-in knows: fifteen of ComfyUI's, as /object_info gives them.

The specifications are data (object_info.json, recorded from a server); the model lists in them are
replaced by the ones in the settings.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from importlib import resources
from typing import Any

from reggen.sim.settings import Settings

_MODEL_LISTS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("LoraLoader", "lora_name"): "loras",
    ("VAELoader", "vae_name"): "vaes",
    ("UNETLoader", "unet_name"): "unets",
}
"""The input of a class that lists a kind of models."""

FOLDERS = {"checkpoints": "checkpoints", "loras": "loras", "vae": "vaes", "diffusion_models": "unets"}
"""Names under /models, and the settings that fill them."""


@cache
def _recorded() -> dict[str, dict[str, Any]]:
    text = resources.files("reggen.sim.state").joinpath("object_info.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


class Specs:
    """The classes of one server, with its own model lists."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lenient = settings.lenient
        self.classes = dict(_recorded())
        for (class_type, name), field in _MODEL_LISTS.items():
            spec = copy.deepcopy(self.classes[class_type])
            spec["input"]["required"][name][0] = list(getattr(settings, field))
            self.classes[class_type] = spec

    def described(self, class_type: str) -> dict[str, Any] | None:
        """A class as /object_info gives it, or None; a lenient server has every class, without choices."""
        if not self.lenient:
            return self.classes.get(class_type)
        return {"input": {"required": {}}, "name": class_type, "output_node": self.saves(class_type)}

    def models(self, folder: str) -> list[str] | None:
        """The names in a models folder; None if there is no such folder."""
        field = FOLDERS.get(folder)
        return None if field is None else list(getattr(self._settings, field))

    def inputs(self, class_type: str) -> dict[str, tuple[bool, Any, dict[str, Any]]]:
        """Each input's name with (required, its type or list of choices, its limits)."""
        declared = self.classes[class_type]["input"]
        return {
            name: (kind == "required", spec[0], spec[1] if len(spec) > 1 else {})
            for kind in ("required", "optional")
            for name, spec in declared.get(kind, {}).items()
        }

    def saves(self, class_type: str) -> bool:
        """True if a node of this class is an output; an unknown class is judged by its name."""
        if class_type in self.classes:
            return bool(self.classes[class_type]["output_node"])
        return self.lenient and any(word in class_type.lower() for word in ("save", "preview"))
