"""The ledger's SQLite file: opened, checked, read with types, written in durable transactions. Blocking.

SQLite's errors are translated here, once: into LedgerDamaged where they are about the file itself, and into
StorageError where the disk or another program is the cause.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any, Self

from reggen.dataset.schema import INVALID, SCHEMA, VERSION, Column, invalid_row
from reggen.dataset.storage import FOLDER_FOR_FILE, MOVE_AWAY
from reggen.errors import LedgerDamaged, StorageError

FILES = ("-wal", "-shm", "-journal", "")
"""Endings of the files that make up one database, the file itself last."""

_TIMEOUT = 30.0  # seconds that SQLite waits for a lock
_INVALID = "holds what reggen never wrote"
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
)  # causes outside the file: the disk, other programs
_TABLES = """
SELECT tables.name, columns.name, columns.type, columns."notnull"
FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%'
"""


class Database:
    """An open file. One thread at a time. Every method raises StorageError and its LedgerDamaged, nothing else."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._connection = _connect(path, f"{path.absolute().as_uri()}?mode={mode}")

    @classmethod
    def for_writing(cls, path: Path) -> Self:
        """Open, making the file and its tables where they are missing, and bring those of version 1 up to date."""
        database = cls(path, "rwc")
        try:
            database._prepare()
        except BaseException:  # Windows renames no file that is open
            database.close()
            raise
        return database

    @classmethod
    def for_reading(cls, path: Path) -> Self | None:
        """Open beside a run that writes; None where there is no file, or another process is only making it."""
        if not path.exists():
            return None
        database = cls(path, "ro")
        try:
            if not database._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                database.close()
                return None
        except sqlite3.OperationalError as error:
            if _name(error).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
                database.close()  # SQLite may not write its shared memory there, so no other process writes rows there
                return cls(path, "ro&immutable=1")
        except sqlite3.Error:
            return database  # the first query raises it
        try:
            database._refuse_newer()
        except BaseException:  # an open file can be neither renamed nor set aside on Windows
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def verify(self) -> None:
        """Read every page and every value. A million rows take some seconds; other reads check row by row."""
        with self._errors("checking"):
            (answer,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise LedgerDamaged(str(self.path), "checking the ledger", " ".join(str(answer).split()))
            tables = self.tables()
            if why := _not_a_ledger(tables):
                raise LedgerDamaged(str(self.path), "checking the ledger", why)
            for table in filter(INVALID.__contains__, tables):
                self._verify_table(table, tables[table])

    def tables(self) -> dict[str, tuple[Column, ...]]:
        """The tables and their columns."""
        with self._errors("reading"):
            return _tables(self._connection)

    def columns(self, table: str) -> set[str]:
        """The names of a table's columns: a ledger opened for reading may be of version 1. Empty without it."""
        return {row[0] for row in self.read("SELECT name FROM pragma_table_info(?)", (table,))}

    def read(self, query: str, values: tuple[Any, ...] = (), *kinds: type | UnionType) -> Iterator[Any]:
        """The rows of a query. Raises LedgerDamaged for a value of another type than its one of ``kinds``, if named."""
        with self._errors("reading"):
            for row in self._connection.execute(query, values):
                if kinds and not all(map(isinstance, row, kinds)):
                    raise LedgerDamaged(str(self.path), "reading the ledger", f"a row {_INVALID}: {row!r:.120}")
                yield row

    def write(self, statement: str, rows: Iterable[Any]) -> None:
        """Execute a statement for each row, all in one transaction that is on the disk when this returns."""
        with self._errors("writing"), self._connection:
            self._connection.executemany(statement, rows)

    def invalid(self, column: str, value: object) -> LedgerDamaged:
        """The error for a value that reggen never wrote."""
        return LedgerDamaged(str(self.path), "reading the ledger", f"{column} {_INVALID}: {value!r:.60}")

    def _prepare(self) -> None:
        """Make or update the tables. A file of another program is not written to."""
        with self._errors("opening"):
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if why := _not_a_ledger(_tables(self._connection)):
                raise LedgerDamaged(str(self.path), "opening the ledger", why)
            if version > VERSION:
                raise _newer(self.path, version)
            self._connection.execute("PRAGMA journal_mode = WAL")  # where the filesystem cannot, SQLite keeps its own
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._connection:
                self._connection.executescript(SCHEMA)
                if "likeness" not in self.columns("slot"):  # version 1
                    self._connection.execute("ALTER TABLE slot ADD COLUMN likeness TEXT")
                self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _refuse_newer(self) -> None:
        with suppress(sqlite3.Error):
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION and not _not_a_ledger(_tables(self._connection)):
                raise _newer(self.path, version)

    def _verify_table(self, table: str, columns: tuple[Column, ...]) -> None:
        query = f"SELECT rowid FROM {table} WHERE {invalid_row(table, columns)} LIMIT 1"  # noqa: S608 - our own names
        if found := self._connection.execute(query).fetchone():
            raise LedgerDamaged(str(self.path), "checking the ledger", f"row {found[0]} of {table} {_INVALID}")
        texts = ", ".join(column.name for column in columns if column.kind == "TEXT")
        deque(self._connection.execute(f"SELECT {texts} FROM {table}"), maxlen=0)  # noqa: S608 - raises if not UTF-8

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(error, self.path, f"{doing} the ledger") from error


def _connect(path: Path, uri: str) -> sqlite3.Connection:
    if path.exists() and not path.is_file():
        raise LedgerDamaged(str(path), "opening the ledger", "it is not a file")
    for beside in (path.with_name(path.name + ending) for ending in FILES if ending):
        if beside.is_dir():  # SQLite only says "locking protocol"
            raise StorageError(str(beside), "opening the ledger's", FOLDER_FOR_FILE, remedy=MOVE_AWAY)
    try:
        return sqlite3.connect(uri, uri=True, timeout=_TIMEOUT, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(str(path), "opening the ledger", str(error)) from error


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")


def _translated(error: sqlite3.Error, path: Path, doing: str) -> StorageError:
    if _name(error) == "SQLITE_FULL":
        return StorageError(str(path), doing, "the disk is full", full=True)
    if _name(error).startswith(_CIRCUMSTANCES) or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return StorageError(str(path), doing, str(error))
    return LedgerDamaged(str(path), doing, str(error))


def _tables(connection: sqlite3.Connection) -> dict[str, tuple[Column, ...]]:
    tables: dict[str, tuple[Column, ...]] = {}
    for table, name, kind, required in connection.execute(_TABLES):
        tables[table] = (*tables.get(table, ()), Column(name, kind, bool(required)))
    return tables


def _not_a_ledger(tables: Mapping[str, tuple[Column, ...]]) -> str:
    """The difference between a file and a ledger of any version; "" for a ledger, and for an empty file."""
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(SCHEMA)
        ours = _tables(memory)
    if tables.keys() - ours.keys() and "slot" not in tables:
        return "it is another program's database"
    for table in tables.keys() & ours.keys():
        version_1 = {column for column in ours[table] if not column.since_version_2}
        if set(tables[table]) not in (set(ours[table]), version_1):
            return f"its table {table} has other columns than a ledger's"
    return ""


def _newer(path: Path, version: int) -> StorageError:
    what = f"a newer reggen made it (version {version} of the ledger; this one knows {VERSION})"
    remedy = "update reggen, or go on with the one that made it"
    return StorageError(str(path), "opening the ledger", what, remedy=remedy)
