"""The ledger: one row for each slot that is done, given up or rejected. SQLite, readable while a run goes on.

Beside the slots, whose rows are overwritten, stands every picture that was ever turned away, and why.

A slot without a row is missing. ``done`` is written after the image is on the disk and never before;
``rejected`` says which take the slot is in now; ``given_up`` says why. Blocking: one thread at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_type_hints

from reggen.dataset.schema import MORE, SCHEMA, VERSION, Column, fact
from reggen.dataset.storage import FOLDER_FOR_FILE, MOVE_AWAY
from reggen.errors import JobError, LedgerDamaged, Problem, StorageError
from reggen.planning.plan import MAX_TAKES


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


LEDGER = "ledger.sqlite"
"""Its name in a dataset's state folder."""

_RAGGED, _PARTS = 1024, 32  # slots that are read where some are missing, and parts in which more are looked through
_COLUMNS = tuple(column.name for column in fields(Row))
_KINDS = tuple(get_type_hints(Row).values())
_ODD = "holds what reggen never wrote"
_CIRCUMSTANCES = (
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_PERM",
    "SQLITE_AUTH",
    "SQLITE_NOMEM",
    "SQLITE_INTERRUPT",
    "SQLITE_PROTOCOL",
    "SQLITE_NOLFS",
    "SQLITE_MISUSE",
)  # of the disk, of other programs: nothing that says the file is damaged
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
        try:
            ledger._prepare()
        except BaseException:  # Windows renames no file that is open
            ledger.close()
            raise
        return ledger

    def _prepare(self) -> None:
        """Make the tables, or bring those of an earlier version up to date. A foreign file is not written to."""
        with self._storage("opening"):
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            known = _described(self._db)
            if why := _foreign(known):
                raise LedgerDamaged(str(self.path), "opening the ledger", why)
            if version > VERSION:
                raise _newer(self.path, version)
            self._db.execute("PRAGMA journal_mode = WAL")  # where the filesystem cannot, SQLite keeps its own
            self._db.execute("PRAGMA synchronous = FULL")
            with self._db:
                self._db.executescript(SCHEMA)
                if "likeness" not in self._columns():  # version 1
                    self._db.execute("ALTER TABLE slot ADD COLUMN likeness TEXT")
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Open for reading beside a run that goes on; None when there is none yet, or it is only being made."""
        if not path.exists():
            return None
        ledger = cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=ro"))
        try:
            if not ledger._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                ledger.close()
                return None
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
                ledger.close()  # SQLite may not write its shared memory there, so nobody writes rows there either
                return cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=ro&immutable=1"))
        except sqlite3.Error:
            return ledger  # whoever reads it is told
        try:
            ledger._refuse_newer()
        except BaseException:  # nothing is left open
            ledger.close()
            raise
        return ledger

    def _refuse_newer(self) -> None:
        """Raises StorageError where a later version of reggen made it: what it says may mean something else."""
        with suppress(sqlite3.Error):
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > VERSION and not _foreign(_described(self._db)):
                raise _newer(self.path, version)

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self) -> None:
        """Look at every page and every value. Raises LedgerDamaged for the first that reggen never wrote.

        A million rows take some seconds; what is read otherwise is checked row by row.
        """
        with self._storage("checking"):
            (said,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise LedgerDamaged(str(self.path), "checking the ledger", " ".join(str(said).split()))
            tables = _described(self._db)
            if why := _foreign(tables):
                raise LedgerDamaged(str(self.path), "checking the ledger", why)
            for table, columns in tables.items():
                if table not in MORE:
                    continue
                query = f"SELECT rowid FROM {table} WHERE {_odd_in(table, columns)} LIMIT 1"  # noqa: S608 - our own
                if found := self._db.execute(query).fetchone():
                    raise LedgerDamaged(str(self.path), "checking the ledger", f"row {found[0]} of {table} {_ODD}")
                texts = ", ".join(column.name for column in columns if column.kind == "TEXT")
                deque(self._db.execute(f"SELECT {texts} FROM {table}"), maxlen=0)  # noqa: S608 - is all of it UTF-8?
        if "meta" in tables:  # else somebody is only making it
            self._facts()

    def remains(self) -> tuple[dict[str, Any], list[Row]]:
        """What can still be relied on in a damaged ledger: its lasting facts, and the rows of slots without an image.

        Their takes are of pictures that somebody did not want; without them the same pictures would be made again.
        """
        facts: dict[str, Any] = {}
        rows: list[Row] = []
        with suppress(StorageError):
            for key, text in self._read("SELECT key, value FROM meta", (), str, str):
                with suppress(ValueError, RecursionError):
                    facts[key] = fact(key, text)
        with suppress(StorageError):
            with self._storage("reading"):
                odd = _odd_in("slot", _described(self._db).get("slot", ()))
            query = f"SELECT {', '.join(_COLUMNS)} FROM slot WHERE state != 'done' AND NOT ({odd})"  # noqa: S608
            for row in self._read(query, (), *_KINDS):
                rows.append(Row(*row))  # noqa: PERF401 - those that were read before the damage are kept
        return facts, rows

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

    def phashes(self, most: int) -> Iterator[tuple[int, int]]:
        """Slot and perceptual hash of the last ``most`` done slots that have one, the last first."""
        if "likeness" not in self._columns():
            return iter(())
        query = "SELECT idx, likeness FROM slot WHERE state = 'done' AND likeness IS NOT NULL ORDER BY idx DESC LIMIT ?"
        return ((index, self._hash(text)) for index, text in self._read(query, (most,), int, str))

    def _hash(self, text: str) -> int:
        try:
            return int(text, 16)
        except ValueError:
            raise self._odd("likeness", text) from None

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
        return {index: self._take(take) for index, take in self._read(query, (start, stop), int, int)}

    def states(self, indices: Sequence[int]) -> dict[int, tuple[str, int, str]]:
        """State, take and name of those of these slots that have a row."""
        query = "SELECT state, take, name FROM slot WHERE idx = ?"
        return {
            index: (state, self._take(take), name)
            for index in indices
            for state, take, name in self._read(query, (index,), str, int, str)
        }

    def _take(self, take: int) -> int:
        if not 0 <= take < MAX_TAKES:
            raise self._odd("take", take)
        return take

    def names(self, indices: Iterable[int]) -> list[str]:
        """The names of slots that have a row."""
        query = "SELECT name FROM slot WHERE idx = ?"
        return [row[0] for index in indices for row in self._read(query, (index,), str)]

    def counts(self, count: int) -> dict[str, int]:
        """How many slots of the first ``count`` are in each state."""
        return dict(self._read("SELECT state, count(*) FROM slot WHERE idx < ? GROUP BY state", (count,)))

    def walk(self, *states: str, stop: int | None = None) -> Iterator[Row]:
        """The rows in the given states, in order; of the first ``stop`` slots only, when given."""
        marks = ", ".join("?" * len(states))
        there = self._columns()
        columns = ", ".join(name if name in there else f"NULL AS {name}" for name in _COLUMNS)
        query = f"SELECT {columns} FROM slot WHERE state IN ({marks}) AND idx < ? ORDER BY idx"  # noqa: S608
        for values in self._read(query, (*states, stop if stop is not None else 1 << 62), *_KINDS):
            row = Row(*values)
            self._take(row.take)
            yield row

    def sizes(self, stop: int) -> Iterator[tuple[int, int | None]]:
        """Index and bytes of the done ones of the first ``stop`` slots, in order; None where no row says."""
        query = "SELECT idx, bytes FROM slot WHERE state = 'done' AND idx < ? ORDER BY idx"
        return self._read(query, (stop,), int, int | None)

    def sums(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, bytes and SHA-256 of the done slots whose rows say them."""
        query = "SELECT name, bytes, sha256 FROM slot WHERE state = 'done' AND bytes NOT NULL AND sha256 NOT NULL"
        for name, size, text in self._read(query, (), str, int, str):
            try:
                yield name, size, bytes.fromhex(text)
            except ValueError:
                raise self._odd("sha256", text) from None

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
        return [row[0] for row in self._read("SELECT id FROM run ORDER BY started DESC LIMIT ?", (most,), str)]

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
        known = self._facts()
        return tuple(
            _conflict(key, known[key], value) for key, value in facts.items() if known.get(key, value) != value
        )

    def fact(self, key: str) -> Any:
        """A lasting fact of this dataset; None while there is none."""
        if not self._columns("meta"):
            return None  # whoever was making it was cut short; it is made whole when it is opened for writing
        return self._facts().get(key)

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for key, text in self._read("SELECT key, value FROM meta", ()):
            try:
                facts[key] = fact(key, text)
            except (ValueError, RecursionError):
                raise self._odd(key, text) from None
        return facts

    def keep_fact(self, key: str, value: Any) -> None:
        """Write a lasting fact."""
        with self._storage("writing"), self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def _columns(self, table: str = "slot") -> set[str]:
        """What a table has: a ledger that is only read may be of an earlier version."""
        return {row[0] for row in self._read("SELECT name FROM pragma_table_info(?)", (table,))}

    def _read(self, query: str, values: tuple[Any, ...], *kinds: type | UnionType) -> Iterator[Any]:
        """The rows of a query; LedgerDamaged where a value is of another of the ``kinds``, when they are named."""
        with self._storage("reading"):
            for row in self._db.execute(query, values):
                if kinds and not all(map(isinstance, row, kinds)):
                    raise LedgerDamaged(str(self.path), "reading the ledger", f"a row {_ODD}: {row!r:.120}")
                yield row

    def _odd(self, column: str, value: object) -> LedgerDamaged:
        return LedgerDamaged(str(self.path), "reading the ledger", f"{column} {_ODD}: {value!r:.60}")

    @contextmanager
    def _storage(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(error, self.path, f"{doing} the ledger") from error


def _translated(error: sqlite3.Error, path: Path, doing: str) -> StorageError:
    """What SQLite says: of the disk and of other programs, or else of the file itself."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return StorageError(str(path), doing, "the disk is full", full=True)
    if name.startswith(_CIRCUMSTANCES) or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return StorageError(str(path), doing, str(error))
    return LedgerDamaged(str(path), doing, str(error))


def _described(connection: sqlite3.Connection) -> dict[str, tuple[Column, ...]]:
    """The tables of a file and their columns."""
    query = """
        SELECT tables.name, columns.name, columns.type, columns."notnull"
        FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%'
    """
    tables: dict[str, tuple[Column, ...]] = {}
    for table, name, kind, required in connection.execute(query):
        tables[table] = (*tables.get(table, ()), Column(name, kind, bool(required)))
    return tables


def _foreign(tables: Mapping[str, tuple[Column, ...]]) -> str:
    """How a file differs from a ledger of any version; empty where it is one, or is about to become one."""
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(SCHEMA)
        ours = _described(memory)
    if tables.keys() - ours.keys() and "slot" not in tables:
        return "it is another program's database"
    for table in tables.keys() & ours.keys():
        if (got := set(tables[table])) != set(ours[table]) and got != {one for one in ours[table] if not one.is_new}:
            return f"its table {table} has other columns than a ledger's"
    return ""


def _odd_in(table: str, columns: Sequence[Column]) -> str:
    """The SQL that is true of a row that reggen never wrote."""
    lacking = "likeness" not in {column.name for column in columns}  # version 1
    more = [odd for odd in MORE[table] if not (lacking and odd.startswith("likeness"))]
    return " OR ".join(f"ifnull({odd}, 0)" for odd in (*(column.foreign for column in columns), *more))


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


def _newer(path: Path, version: int) -> StorageError:
    what = f"a newer reggen made it (version {version} of the ledger; this one knows {VERSION})"
    return StorageError(
        str(path), "opening the ledger", what, remedy="update reggen, or go on with the one that made it"
    )


def _connect(path: Path, uri: str) -> sqlite3.Connection:
    if path.exists() and not path.is_file():
        raise LedgerDamaged(str(path), "opening the ledger", "it is no file")
    for beside in (path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")):
        if beside.is_dir():  # SQLite only says "locking protocol"
            raise StorageError(str(beside), "opening the ledger's", FOLDER_FOR_FILE, remedy=MOVE_AWAY)
    try:
        return sqlite3.connect(uri, uri=True, timeout=30.0, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(str(path), "opening the ledger", str(error)) from error


def now_utc() -> str:
    """The time as the ledger writes it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
