"""Lines for [sampling] from the models that a server has. Only `check` asks for them: no plan depends on a server."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable

from reggen.comfy.client import Client
from reggen.errors import ServerError
from reggen.model_families import family_of

_FOLDERS = {"checkpoint": "checkpoints", "model": "diffusion_models"}
_MOST = 8  # models that are named
_LIKE_CLASSIC = ("", "sd15", "sdxl")  # families that the classic graph does for


async def proposals(client: Client, named: Iterable[str], family: str | None) -> tuple[str, ...]:
    """Lines to paste, where a server lacks one of the ``named`` models or has it of another family."""
    try:
        shelves = {key: await client.models(folder) for key, folder in _FOLDERS.items()}
        found: list[str] = []
        for name in named:
            key = next((key for key, names in shelves.items() if name in names), None)
            if key is None:
                return tuple([line async for line in _all(client, shelves)])
            found += await _mismatch(client, key, name, family)
    except ServerError:
        return ()
    return tuple(found)


async def _mismatch(client: Client, key: str, name: str, family: str | None) -> list[str]:
    """A line where a model seems to be of another family than the job says."""
    architecture = await client.architecture(_FOLDERS[key], name)
    seems = family_of(name, architecture)
    if not seems or family == seems or (family is None and seems in _LIKE_CLASSIC):
        return []
    if family and not architecture:  # a name against the job's own word
        return []
    how = f"its header says {architecture}" if architecture else "by its name"
    return [f"{name!r} looks like another family ({how}); write in [sampling]:\n{_lines(key, name, seems)}"]


async def _all(client: Client, shelves: dict[str, list[str]]) -> AsyncIterator[str]:
    """Each model that a server has, with the lines for it."""
    found = [(key, name) for key, names in shelves.items() for name in names if not _is_placeholder(name)]
    for key, name in found[:_MOST]:
        family = family_of(name, await client.architecture(_FOLDERS[key], name))
        yield f"it has {name!r}; write in [sampling]:\n{_lines(key, name, family)}"
    if len(found) > _MOST:
        yield f"and {len(found) - _MOST:,} more models"


def _lines(key: str, name: str, family: str) -> str:
    """The lines to paste."""
    lines = [f'family = "{family}"'] if family else []
    return "\n".join([*lines, f"{key} = {json.dumps(name, ensure_ascii=False)}"])


def _is_placeholder(name: str) -> bool:
    return bool(re.match(r"put_.*_here", name))
