"""The machine and the versions, which every benchmark prints beside its figures."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any


def machine() -> dict[str, Any]:
    """Cores, system and Python."""
    return {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Versions of the libraries that take the time."""
    return {name: version(name) for name in ("reggen", "aiohttp", "websockets", "Pillow")}
