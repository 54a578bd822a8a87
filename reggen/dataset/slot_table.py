"""The ledger's slots: one row for each that is done, given up or rejected. Blocking.

A slot without a row was never made. ``done`` is written after the image is on the disk and never before; ``rejected``
says which take the slot is in now; ``given_up`` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import get_type_hints

from reggen.dataset.database import Database
from reggen.dataset.rows import Row
from reggen.planning.plan import MAX_TAKES

COLUMNS = tuple(column.name for column in fields(Row))
KINDS = tuple(get_type_hints(Row).values())
"""The columns of a slot's row and their types, in the order of `Row`."""

_LIST_UP_TO, _PARTS = 1024, 32  # slots listed one by one; parts in which larger ranges are searched
_ALL = 1 << 62  # above every slot
_PUT = f"INSERT OR REPLACE INTO slot ({', '.join(COLUMNS)}) VALUES ({', '.join(':' + c for c in COLUMNS)})"  # noqa: S608 - our own column names


class SlotTable:
    """Reads and writes the rows of slots, which are counted from 0. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows in one durable transaction, replacing those that their slots had."""
        self._database.write(_PUT, [asdict(row) for row in rows])

    def walk(self, *states: str, stop: int | None = None) -> Iterator[Row]:
        """The rows in the given states, in slot order; of the first ``stop`` slots only, when given."""
        known = self._database.columns("slot")
        columns = ", ".join(name if name in known else f"NULL AS {name}" for name in COLUMNS)
        marks = ", ".join("?" * len(states))
        query = f"SELECT {columns} FROM slot WHERE state IN ({marks}) AND idx < ? ORDER BY idx"  # noqa: S608
        for values in self._database.read(query, (*states, _ALL if stop is None else stop), *KINDS):
            row = Row(*values)
            self._take(row.take)
            yield row

    def states(self, indices: Sequence[int]) -> dict[int, tuple[str, int, str]]:
        """State, take and name of those of these slots that have a row."""
        query = "SELECT state, take, name FROM slot WHERE idx = ?"
        return {
            index: (state, self._take(take), name)
            for index in indices
            for state, take, name in self._database.read(query, (index,), str, int, str)
        }

    def names(self, indices: Iterable[int]) -> list[str]:
        """The names of those of these slots that have a row."""
        query = "SELECT name FROM slot WHERE idx = ?"
        return [name for index in indices for (name,) in self._database.read(query, (index,), str)]

    def counts(self, stop: int) -> dict[str, int]:
        """Number of slots in each state, of the first ``stop``."""
        return dict(self._database.read("SELECT state, count(*) FROM slot WHERE idx < ? GROUP BY state", (stop,)))

    def done(self, start: int, stop: int) -> set[int]:
        """The done slots in ``start <= index < stop``."""
        query = "SELECT idx FROM slot WHERE state = 'done' AND idx >= ? AND idx < ?"
        return {index for (index,) in self._database.read(query, (start, stop))}

    def done_ranges(self, stop: int) -> Iterator[range]:
        """The done ones of the first ``stop`` slots, as ranges in order; neighbouring ranges may touch."""
        query = "SELECT max(idx) FROM slot WHERE state = 'done' AND idx < ?"
        (last,) = next(self._database.read(query, (stop,)))
        return iter(()) if last is None else self._done_ranges(0, last + 1)

    def _done_ranges(self, start: int, stop: int) -> Iterator[range]:
        """Count before listing: SQLite counts a million rows before Python has read fifty thousand."""
        query = "SELECT count(*) FROM slot WHERE state = 'done' AND idx >= ? AND idx < ?"
        (count,) = next(self._database.read(query, (start, stop)))
        if count == stop - start:
            yield range(start, stop)
        elif stop - start <= _LIST_UP_TO:
            yield from _ranges(sorted(self.done(start, stop)))
        elif count:
            part = -((start - stop) // _PARTS)
            for begin in range(start, stop, part):
                yield from self._done_ranges(begin, min(begin + part, stop))

    def full_windows(self, size: int) -> set[int]:
        """The numbers of those windows of ``size`` slots that are done whole."""
        query = "SELECT idx / ? AS part FROM slot WHERE state = 'done' GROUP BY part HAVING count(*) = ?"
        return {window for (window,) in self._database.read(query, (size, size))}

    def takes(self, start: int, stop: int) -> dict[int, int]:
        """The take of the slots in ``start <= index < stop`` that are not done and beyond their first take."""
        query = "SELECT idx, take FROM slot WHERE state != 'done' AND take > 0 AND idx >= ? AND idx < ?"
        return {index: self._take(take) for index, take in self._database.read(query, (start, stop), int, int)}

    def sizes(self, stop: int) -> Iterator[tuple[int, int | None]]:
        """Slot and file size in bytes of the done ones of the first ``stop``, in order; None where no row says it."""
        query = "SELECT idx, bytes FROM slot WHERE state = 'done' AND idx < ? ORDER BY idx"
        return self._database.read(query, (stop,), int, int | None)

    def checksums(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, size in bytes and SHA-256 of the done slots whose rows have them."""
        query = "SELECT name, bytes, sha256 FROM slot WHERE state = 'done' AND bytes NOT NULL AND sha256 NOT NULL"
        for name, size, text in self._database.read(query, (), str, int, str):
            try:
                yield name, size, bytes.fromhex(text)
            except ValueError:
                raise self._database.invalid("sha256", text) from None

    def phashes(self, most: int) -> Iterator[tuple[int, int]]:
        """Slot and perceptual hash of the last ``most`` done slots that have one, the last first."""
        if "likeness" not in self._database.columns("slot"):
            return
        query = "SELECT idx, likeness FROM slot WHERE state = 'done' AND likeness IS NOT NULL ORDER BY idx DESC LIMIT ?"
        for index, text in self._database.read(query, (most,), int, str):
            try:
                yield index, int(text, 16)
            except ValueError:
                raise self._database.invalid("likeness", text) from None

    def other_recipes(self, recipe: str, stop: int) -> list[range]:
        """The done ones of the first ``stop`` slots that were made with other settings, as ranges."""
        query = """
            SELECT idx FROM slot WHERE state = 'done' AND idx < ? AND recipe IS NOT NULL AND recipe != ? ORDER BY idx
        """
        return list(_ranges([index for (index,) in self._database.read(query, (stop, recipe))]))

    def _take(self, take: int) -> int:
        if not 0 <= take < MAX_TAKES:
            raise self._database.invalid("take", take)
        return take


def _ranges(indices: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as ranges."""
    start = 0
    for place, index in enumerate(indices, 1):
        if place == len(indices) or indices[place] != index + 1:
            yield range(indices[start], index + 1)
            start = place
