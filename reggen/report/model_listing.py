"""The model files of a server as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reggen.comfy.model_files import ModelFile
from reggen.wording import plural

_TITLES = {
    "sampling.checkpoint": "checkpoint",
    "sampling.model": "diffusion model",
    "sampling.text_encoders": "text encoder",
    "sampling.vae": "VAE",
    "loras": "LoRA",
}


def format_models(server: str, files: Mapping[str, Sequence[ModelFile]]) -> str:
    """The files under the keys of a job file that name them, several lines."""
    return "\n".join([f"{server}:", *(line for key, found in files.items() for line in _kind(key, found))])


def _kind(key: str, files: Sequence[ModelFile]) -> Iterator[str]:
    named = f"  (for {key})" if "." in key else "  (for a workflow of your own)"
    yield f"  {plural(len(files), _TITLES[key])}" + (named if files else "")
    yield from (f"    {_size(one.size)}{one.name}" for one in files)


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / (1 << 30):7.2f} GiB  " if size >= 1 << 30 else f"{size / (1 << 20):7.1f} MiB  "
