"""A damaged ledger is set aside, under a name that says so, and another takes what can be relied on in it. Blocking."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from reggen.dataset.ledger import Ledger, Row
from reggen.dataset.storage import storage_errors
from reggen.errors import StorageError

_BESIDE = ("-wal", "-shm", "-journal", "")  # the file itself last: until then the next run finds it damaged again
_MOST = 10_000


def replaced(path: Path) -> Path:
    """Set a damaged ledger aside and begin another; where the old one lies now. Nobody may have it open.

    Lasting facts go over, and the takes of slots without an image, as far as they can be read.
    """
    kept = _set_aside(path)
    facts, rows = _remains(kept)
    with Ledger.open(path) as ledger:
        ledger.put(rows)
        for key, value in facts.items():
            ledger.keep_fact(key, value)
    return kept


def _remains(kept: Path) -> tuple[dict[str, Any], list[Row]]:
    with suppress(StorageError):
        if old := Ledger.read(kept):
            with old:
                return old.remains()
    return {}, []


def _set_aside(path: Path) -> Path:
    with storage_errors("setting aside", path):
        for number in range(1, _MOST):
            kept = path.with_name(f"{path.name}.damaged-{number}")
            if not any(kept.with_name(kept.name + ending).exists() for ending in _BESIDE):
                for ending in _BESIDE:
                    with suppress(FileNotFoundError):
                        path.with_name(path.name + ending).replace(kept.with_name(kept.name + ending))
                return kept
    raise StorageError(str(path), "setting aside", "there are too many of its name")
