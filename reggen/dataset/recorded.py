"""Sizes and checksums of the files in a class folder, as its ledger recorded them. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.lock import lock_holder
from reggen.errors import LedgerDamaged, StorageError
from reggen.job.dataset import state_folder


class FileSum(NamedTuple):
    """A file as it was written: its size in bytes and its SHA-256."""

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """The sums by file name; none without a ledger, and none while a run changes it.

    ``damaged`` is the path of a ledger that cannot be read, and ``why`` says how it is damaged.
    """

    sums: Mapping[str, FileSum] = field(default_factory=dict)
    damaged: Path | None = None
    why: str = ""


def recorded(folder: Path) -> Recorded:
    """The recorded sums of the images of a class folder. Raises StorageError for a disk that says no."""
    state = state_folder(folder)
    if lock_holder(state):
        return Recorded()
    try:
        ledger = Ledger.read(state)
        if ledger is None:
            return _without_ledger(ledger_file(state))
        with ledger:
            ledger.verify()
            ending = ledger.facts.get("format") or "png"
            return Recorded({f"{name}.{ending}": FileSum(size, sha) for name, size, sha in ledger.slots.checksums()})
    except LedgerDamaged as error:
        return Recorded(damaged=ledger_file(state), why=error.what)


def rehearsed(folder: Path) -> bool:
    """True for a class folder with a rehearsal's pictures, as far as its ledger can be read."""
    with suppress(StorageError):
        if ledger := Ledger.read(state_folder(folder)):
            with ledger:
                return bool(ledger.facts.get("rehearsal"))
    return False


def _without_ledger(file: Path) -> Recorded:
    """Nothing; but a ledger of 0 bytes is damaged."""
    with suppress(OSError):
        if file.is_file() and not file.stat().st_size:
            return Recorded(damaged=file, why="it has 0 bytes")
    return Recorded()
