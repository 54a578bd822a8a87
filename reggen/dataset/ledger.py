"""The ledger of a dataset: what is known of each slot, and more. SQLite, readable beside a run that writes. Blocking.

Rows of slots are replaced when the slot changes; rejected pictures, runs and lasting facts have tables of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from reggen.dataset.database import Database
from reggen.dataset.folder import Folder
from reggen.dataset.lock import locked
from reggen.dataset.slot_files import SlotFiles
from reggen.dataset.slot_table import SlotTable
from reggen.dataset.tables import FactTable, RejectionTable, RunTable
from reggen.errors import LedgerDamaged


class Ledger:
    """An open ledger, closed by a ``with`` block. Used by one thread at a time.

    Every method raises StorageError for the disk and for SQLite; LedgerDamaged for what reggen never wrote.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.slots, self.rejections = SlotTable(database), RejectionTable(database)
        self.runs, self.facts = RunTable(database), FactTable(database)

    @classmethod
    def open(cls, state: Path) -> Self:
        """Open the ledger in a dataset's state folder for writing, making it if there is none."""
        return cls(Database.for_writing(ledger_file(state)))

    @classmethod
    def read(cls, state: Path) -> Self | None:
        """Open it for reading, also beside a run that writes; None if there is none yet."""
        database = Database.for_reading(ledger_file(state))
        return cls(database) if database else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._database.close()

    @property
    def file_size(self) -> int:
        """Bytes of the ledger's file."""
        return self._database.path.stat().st_size

    def verify(self) -> None:
        """Check every page and every value; a million rows take some seconds. Other reads are checked row by row."""
        self._database.verify()
        if self._database.columns("meta"):  # otherwise another process is only making it
            self.facts.all()


def ledger_file(state: Path) -> Path:
    """The path of the ledger in a dataset's state folder."""
    return state / "ledger.sqlite"


@contextmanager
def open_dataset(folder: Folder) -> Iterator[Ledger]:
    """Hold a dataset for the block, with its folders prepared; gives its ledger, open for writing.

    Raises DatasetLocked while a run has it, StorageError, and LedgerDamaged, also as `refuse_emptied` does. Part files
    are deleted at the end.
    """
    with locked(folder):
        folder.prepare()
        try:
            refuse_emptied(folder)
            with Ledger.open(folder.state) as ledger:
                yield ledger
        finally:
            folder.delete_parts()


def refuse_emptied(folder: Folder) -> None:
    """Raise LedgerDamaged for a ledger of 0 bytes beside images: what it knew of them is lost.

    A ledger that another process is only making looks the same: ask only while no run fills the dataset.
    """
    file = ledger_file(folder.state)
    with suppress(OSError):
        emptied = file.is_file() and not file.stat().st_size
        if emptied and folder.images.is_dir() and SlotFiles(folder).count_beyond(0):
            raise LedgerDamaged(str(file), "opening the ledger", "it has 0 bytes, and there are images")
