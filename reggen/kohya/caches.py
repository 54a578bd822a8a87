"""Caches of latents and of text encoders, by their names. Pure.

strategy_*.py, get_latents_npz_path: ``STEM.npz`` of old, now ``STEM_0512x0768_sdxl.npz``. kohya never compares their
time with the image's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reggen.geometry import Size

_LATENTS = re.compile(r"(?P<stem>.+)_(?P<width>\d{4,})x(?P<height>\d{4,})_[a-z0-9]+\.npz", re.DOTALL)
_TEXT = re.compile(r"(?P<stem>.+?)_(te_outputs|sd3_te|flux_te|hi_te|lumina_te|anima_te)\.npz", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CacheName:
    """A cache's name, read: the stems of images it may belong to, likeliest first, and its image's size, if named.

    ``of_text``: it holds what the text encoder made of the caption, not the latents of the image.
    """

    stems: tuple[str, ...]
    size: Size | None = None
    of_text: bool = False


def cache_name(name: str) -> CacheName | None:
    """Read the name of an ``.npz`` file; None for another file."""
    if not name.endswith(".npz"):
        return None
    whole = name.removesuffix(".npz")
    if match := _TEXT.fullmatch(name):
        return CacheName((match["stem"], whole), of_text=True)
    if match := _LATENTS.fullmatch(name):
        return CacheName((match["stem"], whole), (int(match["width"]), int(match["height"])))
    return CacheName((whole,))
