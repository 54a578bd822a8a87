"""What a ledger says of the files in a class folder: how long each was and what its bytes were. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reggen.dataset.ledger import LEDGER, Ledger
from reggen.dataset.lock import lock_holder
from reggen.errors import LedgerDamaged, StorageError


class FileSum(NamedTuple):
    """A file as it was written: its size in bytes and its SHA-256."""

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """The sums by file name; none where there is no ledger, or a run changes it now.

    ``damaged`` is the path of a ledger that cannot be read, and ``why`` says how it is damaged.
    """

    sums: Mapping[str, FileSum] = field(default_factory=dict)
    damaged: Path | None = None
    why: str = ""


def state_folder(class_folder: Path) -> Path:
    """The folder of reggen's own files for a class folder: ledger, lock, rejected images."""
    return class_folder.parent / ".reggen" / class_folder.name


def recorded(folder: Path) -> Recorded:
    """The recorded sums of the images of a class folder. Raises StorageError for a disk that says no."""
    state = state_folder(folder)
    if lock_holder(state):
        return Recorded()
    try:
        ledger = Ledger.read(state / LEDGER)
        if ledger is None:
            return _lost(state / LEDGER)
        with ledger:
            ledger.verify()
            ending = ledger.fact("format") or "png"
            return Recorded({f"{name}.{ending}": FileSum(size, sha) for name, size, sha in ledger.sums()})
    except LedgerDamaged as error:
        return Recorded(damaged=state / LEDGER, why=error.what)


def _lost(file: Path) -> Recorded:
    """Of a ledger that says nothing: it is damaged where it is there without a byte."""
    with suppress(OSError):
        if file.is_file() and not file.stat().st_size:
            return Recorded(damaged=file, why="it has 0 bytes")
    return Recorded()


def rehearsed(folder: Path) -> bool:
    """Does a class folder hold a rehearsal's pictures, as far as its ledger can be read?"""
    with suppress(StorageError):
        if ledger := Ledger.read(state_folder(folder) / LEDGER):
            with ledger:
                return bool(ledger.fact("rehearsal"))
    return False
