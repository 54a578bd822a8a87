"""A part file: downloaded or converted, and not yet an image of the dataset. Blocking."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reggen.dataset.storage import storage_errors
from reggen.files import opened


@dataclass(frozen=True, slots=True)
class Part:
    """A file on its way into the dataset: its size in bytes and its SHA-256 in hex."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file that is written and closed. Raises StorageError."""
        with storage_errors("reading", path), opened(path) as file:
            digest = hashlib.file_digest(file, "sha256")
            return cls(path, file.tell(), digest.hexdigest())
