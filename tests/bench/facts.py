"""What every benchmark says beside its figures: the machine, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any


def machine() -> dict[str, Any]:
    """Cores, system and Python."""
    return {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Of the libraries that the time goes to."""
    return {name: version(name) for name in ("reggen", "aiohttp", "websockets", "Pillow")}
