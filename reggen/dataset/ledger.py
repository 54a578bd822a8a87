"""The ledger: one row for each slot that is done, given up or rejected. SQLite, readable while a run goes on.

Beside the slots, whose rows are overwritten, stands every picture that was ever turned away, and why.

A slot without a row is missing. ``done`` is written after the image is on the disk and never before;
``rejected`` says which take the slot is in now; ``given_up`` says why. Blocking: one thread at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from reggen.errors import JobError, Problem, StorageError

VERSION = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slot (
    idx INTEGER PRIMARY KEY,   -- from 0
    state TEXT NOT NULL CHECK (state IN ('done', 'given_up', 'rejected')),
    take INTEGER NOT NULL,     -- of the picture that is done, or the next one to make
    name TEXT NOT NULL,
    reason TEXT,               -- why it was given up or rejected
    positive TEXT, negative TEXT, seed INTEGER, batch INTEGER, position INTEGER,
    width INTEGER, height INTEGER, checkpoint TEXT, recipe TEXT,
    server TEXT, comfyui TEXT, prompt_id TEXT, attempts INTEGER,
    waited REAL,               -- seconds from the post to the ending
    busy REAL,                 -- of these, seconds the server was at it
    fetched REAL,              -- seconds from the ending to the row
    bytes INTEGER, sha256 TEXT,
    likeness TEXT,             -- perceptual hash, 16 hex digits; since version 2
    at TEXT NOT NULL           -- UTC, ISO 8601
);
CREATE INDEX IF NOT EXISTS slot_state ON slot (state, idx);
CREATE TABLE IF NOT EXISTS rejection (  -- since version 2
    idx INTEGER NOT NULL, take INTEGER NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL, seed INTEGER, server TEXT
);
CREATE TABLE IF NOT EXISTS run (
    id TEXT PRIMARY KEY, started TEXT NOT NULL, ended TEXT, outcome TEXT
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One slot as the ledger knows it. ``take`` counts pictures, ``attempts`` the prompts spent on them."""

    idx: int
    state: str
    take: int
    name: str
    at: str
    reason: str | None = None
    positive: str | None = None
    negative: str | None = None
    seed: int | None = None
    batch: int | None = None
    position: int | None = None
    width: int | None = None
    height: int | None = None
    checkpoint: str | None = None
    recipe: str | None = None
    server: str | None = None
    comfyui: str | None = None
    prompt_id: str | None = None
    attempts: int | None = None
    waited: float | None = None
    busy: float | None = None
    fetched: float | None = None
    bytes: int | None = None
    sha256: str | None = None
    likeness: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """One picture that was turned away. ``seed`` and ``server`` are None of a file that was found in the folder."""

    idx: int
    take: int
    reason: str
    at: str
    seed: int | None = None
    server: str | None = None


_RAGGED, _PARTS = 1024, 32  # slots that are read where some are missing, and parts in which more are looked through
_COLUMNS = tuple(column.name for column in fields(Row))
_REJECT = "INSERT INTO rejection VALUES (:idx, :take, :reason, :at, :seed, :server)"
_TURN_AWAY = """
INSERT INTO rejection SELECT idx, take, ?, ?, seed, server FROM slot WHERE idx = ? AND state = 'done'
"""
_PUT = f"INSERT OR REPLACE INTO slot ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + c for c in _COLUMNS)})"  # noqa: S608 - our own column names


class Ledger:
    """An open ledger. Raises StorageError for whatever the disk or SQLite refuses."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._db = path, connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for writing, making it when missing. May be used from any one thread at a time."""
        ledger = cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=rwc"))
        with ledger._storage("opening"):
            ledger._db.execute("PRAGMA journal_mode = WAL")  # where the filesystem cannot, SQLite keeps its own
            ledger._db.execute("PRAGMA synchronous = FULL")
            version = ledger._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StorageError(str(path), "opening", f"a newer reggen made it (version {version})")
            with ledger._db:
                ledger._db.executescript(_SCHEMA)
                if "likeness" not in ledger._columns():  # version 1
                    ledger._db.execute("ALTER TABLE slot ADD COLUMN likeness TEXT")
                ledger._db.execute(f"PRAGMA user_version = {VERSION}")
        return ledger

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Open for reading beside a run that goes on; None when there is none yet."""
        if not path.exists():
            return None
        ledger = cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=ro"))
        try:
            ledger._db.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
                ledger.close()  # SQLite may not write its shared memory there, so nobody writes rows there either
                return cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=ro&immutable=1"))
        except sqlite3.Error:
            pass  # whoever reads it is told
        return ledger

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # ---- slots

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows in one durable transaction, over whatever their slots had."""
        with self._storage("writing"), self._db:
            self._db.executemany(_PUT, [asdict(row) for row in rows])

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Note pictures that were turned away; nothing takes them out again."""
        with self._storage("writing"), self._db:
            self._db.executemany(_REJECT, [asdict(one) for one in rejections])

    def turn_away(self, indices: Iterable[int], reason: str, at: str) -> None:
        """Note that the pictures of these done slots were turned away, as their rows know them.

        Before `put` goes over the rows; what is not done had no picture.
        """
        with self._storage("writing"), self._db:
            self._db.executemany(_TURN_AWAY, [(reason, at, index) for index in indices])

    def rejections(self, stop: int | None = None) -> Iterator[Rejection]:
        """Every picture that was turned away, in the order it happened; of the first ``stop`` slots, when given."""
        if not self._columns("rejection"):
            return iter(())  # a ledger of version 1, read beside an older reggen's run
        query = "SELECT idx, take, reason, at, seed, server FROM rejection WHERE idx < ? ORDER BY rowid"
        return (Rejection(*row) for row in self._read(query, (stop if stop is not None else 1 << 62,)))

    def prints(self, most: int) -> Iterator[tuple[int, int]]:
        """Slot and perceptual hash of the last ``most`` done slots that have one, the last first."""
        if "likeness" not in self._columns():
            return iter(())
        query = "SELECT idx, likeness FROM slot WHERE state = 'done' AND likeness IS NOT NULL ORDER BY idx DESC LIMIT ?"
        return ((index, int(text, 16)) for index, text in self._read(query, (most,)))

    def done(self, start: int, stop: int) -> set[int]:
        """The slots in ``start <= index < stop`` that are done."""
        query = "SELECT idx FROM slot WHERE state = 'done' AND idx >= ? AND idx < ?"
        return {row[0] for row in self._read(query, (start, stop))}

    def runs_done(self, stop: int) -> Iterator[range]:
        """The done slots of the first ``stop`` as runs of neighbours, in order; one may go on in the next."""
        (last,) = next(self._read("SELECT max(idx) FROM slot WHERE state = 'done' AND idx < ?", (stop,)))
        return iter(()) if last is None else self._runs_in(0, last + 1)

    def _runs_in(self, start: int, stop: int) -> Iterator[range]:
        """Nearly all are done nearly always: SQLite counts a million rows before Python has read fifty thousand."""
        query = "SELECT count(*) FROM slot WHERE state = 'done' AND idx >= ? AND idx < ?"
        (count,) = next(self._read(query, (start, stop)))
        if count == stop - start:
            yield range(start, stop)
        elif stop - start <= _RAGGED:
            yield from _neighbours(sorted(self.done(start, stop)))
        elif count:
            part = -((start - stop) // _PARTS)
            for begin in range(start, stop, part):
                yield from self._runs_in(begin, min(begin + part, stop))

    def full(self, window: int) -> set[int]:
        """The windows, of so many slots each, by number, whose slots are all done."""
        query = "SELECT idx / ? AS part FROM slot WHERE state = 'done' GROUP BY part HAVING count(*) = ?"
        return {row[0] for row in self._read(query, (window, window))}

    def takes(self, start: int, stop: int) -> dict[int, int]:
        """The take of the slots in ``start <= index < stop`` that are not done and beyond their first take."""
        query = "SELECT idx, take FROM slot WHERE state != 'done' AND take > 0 AND idx >= ? AND idx < ?"
        return dict(self._read(query, (start, stop)))

    def states(self, indices: Sequence[int]) -> dict[int, tuple[str, int, str]]:
        """State, take and name of those of these slots that have a row."""
        query = "SELECT state, take, name FROM slot WHERE idx = ?"
        return {index: row for index in indices for row in self._read(query, (index,))}

    def names(self, indices: Iterable[int]) -> list[str]:
        """The names of slots that have a row."""
        query = "SELECT name FROM slot WHERE idx = ?"
        return [row[0] for index in indices for row in self._read(query, (index,))]

    def counts(self, count: int) -> dict[str, int]:
        """How many slots of the first ``count`` are in each state."""
        return dict(self._read("SELECT state, count(*) FROM slot WHERE idx < ? GROUP BY state", (count,)))

    def walk(self, *states: str, stop: int | None = None) -> Iterator[Row]:
        """The rows in the given states, in order; of the first ``stop`` slots only, when given."""
        marks = ", ".join("?" * len(states))
        there = self._columns()
        columns = ", ".join(name if name in there else f"NULL AS {name}" for name in _COLUMNS)
        query = f"SELECT {columns} FROM slot WHERE state IN ({marks}) AND idx < ? ORDER BY idx"  # noqa: S608
        return (Row(*row) for row in self._read(query, (*states, stop if stop is not None else 1 << 62)))

    def sizes(self, stop: int) -> Iterator[tuple[int, int | None]]:
        """Index and bytes of the done ones of the first ``stop`` slots, in order; None where no row says."""
        query = "SELECT idx, bytes FROM slot WHERE state = 'done' AND idx < ? ORDER BY idx"
        return self._read(query, (stop,))

    def other_recipes(self, recipe: str, count: int) -> list[range]:
        """The done slots of the first ``count`` that were made with other settings, as runs of neighbours."""
        query = """
            SELECT idx FROM slot WHERE state = 'done' AND idx < ? AND recipe IS NOT NULL AND recipe != ? ORDER BY idx
        """
        return list(_neighbours([row[0] for row in self._read(query, (count, recipe))]))

    # ---- runs and facts

    def begin_run(self, run_id: str, at: str) -> None:
        """Note that a run began."""
        with self._storage("writing"), self._db:
            self._db.execute("INSERT INTO run (id, started) VALUES (?, ?)", (run_id, at))

    def runs(self, most: int = 16) -> list[str]:
        """The ids of the newest runs."""
        return [row[0] for row in self._read("SELECT id FROM run ORDER BY started DESC LIMIT ?", (most,))]

    def end_run(self, run_id: str, at: str, outcome: str) -> None:
        """Note how a run ended."""
        with self._storage("writing"), self._db:
            self._db.execute("UPDATE run SET ended = ?, outcome = ? WHERE id = ?", (at, outcome, run_id))

    def claim(self, file: str, facts: Mapping[str, Any]) -> None:
        """Hold the ledger's lasting facts (the file names' prefix and format) against the job's, or write them.

        Raises JobError when they differ: the same numbers would name other files.
        """
        problems = self.conflicts(facts)
        if problems:
            raise JobError(file, problems)
        with self._storage("writing"), self._db:
            rows = [(key, json.dumps(value)) for key, value in facts.items()]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def conflicts(self, facts: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Which of the facts differ from what this dataset was begun with."""
        known = {key: json.loads(value) for key, value in self._read("SELECT key, value FROM meta", ())}
        return tuple(
            _conflict(key, known[key], value) for key, value in facts.items() if known.get(key, value) != value
        )

    def fact(self, key: str) -> Any:
        """A lasting fact of this dataset; None while there is none."""
        if not self._columns("meta"):
            return None  # whoever was making it was cut short; it is made whole when it is opened for writing
        found = next(self._read("SELECT value FROM meta WHERE key = ?", (key,)), None)
        return None if found is None else json.loads(found[0])

    def keep_fact(self, key: str, value: Any) -> None:
        """Write a lasting fact."""
        with self._storage("writing"), self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def _columns(self, table: str = "slot") -> set[str]:
        """What a table has: a ledger that is only read may be of an earlier version."""
        return {row[0] for row in self._read("SELECT name FROM pragma_table_info(?)", (table,))}

    def _read(self, query: str, values: tuple[Any, ...]) -> Iterator[Any]:
        with self._storage("reading"):
            yield from self._db.execute(query, values)

    @contextmanager
    def _storage(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            what = "the disk is full" if full else str(error)
            raise StorageError(str(self.path), f"{doing} the ledger", what, full) from error


def _neighbours(indices: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as runs."""
    start = 0
    for place, index in enumerate(indices, 1):
        if place == len(indices) or indices[place] != index + 1:
            yield range(indices[start], index + 1)
            start = place


def _conflict(key: str, known: Any, value: Any) -> Problem:
    if key == "rehearsal":
        holds = "a rehearsal's marked pictures" if known else "real pictures"
        return Problem("--output", f"this folder holds {holds}, and the two must not mix", "name another folder")
    return Problem(f"dataset.{key}", f"is {value!r}, but this folder was begun with {known!r}", "keep it")


def _connect(path: Path, uri: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(uri, uri=True, timeout=30.0, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(str(path), "opening the ledger", str(error)) from error


def now_utc() -> str:
    """The time as the ledger writes it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
