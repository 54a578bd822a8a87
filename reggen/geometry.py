"""Sizes in pixels, as pairs of width and height."""

from __future__ import annotations

Size = tuple[int, int]
"""Width and height, in pixels."""

DEFAULT_SIZE: Size = (512, 512)
"""The size of the built-in workflow's latent."""


def size_text(size: Size) -> str:
    """A size as "512x768"."""
    return f"{size[0]}x{size[1]}"
