"""Latent caches beside the images: kohya reads them without comparing them with the picture. Blocking."""

from __future__ import annotations

import os
import re
from pathlib import Path

from reggen.dataset.storage import storage_errors


class LatentCaches:
    """The caches in one image folder: reg_001.npz, reg_001_0512x0768_sd.npz.

    Only their endings are kept, not a name for each image: they say size and kind of model, so there are few.
    """

    def __init__(self, images: Path, prefix: str) -> None:
        self._images = images
        self._name = re.compile(rf"{re.escape(prefix)}_\d+((?:_.*)?\.npz)")
        self._endings: set[str] = set()

    def scan(self) -> None:
        """Read the endings from the folder. Raises OSError."""
        self._endings.clear()
        with os.scandir(self._images) as entries:  # once: a look for each image would cost more with each image
            for entry in entries:
                if entry.name.endswith(".npz") and (match := self._name.fullmatch(entry.name)):
                    self._endings.add(match[1])

    def drop(self, name: str) -> None:
        """Remove the caches of a slot whose picture changes; after `scan`. Raises StorageError."""
        with storage_errors("removing the caches of", self._images / name):
            for ending in self._endings:
                (self._images / f"{name}{ending}").unlink(missing_ok=True)
