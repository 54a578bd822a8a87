"""Small image files for tests: whole ones, and every kind of broken one."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image


def paint(path: Path, size: tuple[int, int] = (64, 64), *, kind: str | None = None, **options: object) -> Path:
    """A picture that differs by its path. ``kind`` is Pillow's name of a format, for an ending that does not fit it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(f"{path.parent.name}/{path.name}")
    small = Image.frombytes("RGB", (8, 8), chance.randbytes(192))
    small.resize(size, Image.Resampling.BICUBIC).save(path, format=kind, **options)
    return path


def plain(path: Path, colour: tuple[int, int, int] = (0, 0, 0), size: tuple[int, int] = (64, 64)) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tear(path: Path, share: float = 0.5) -> Path:
    """A picture of which only the first part was written."""
    content = paint(path).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def write(path: Path, content: str | bytes) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
