"""A damaged ledger replaced by a new one, with what can still be read of it. Blocking."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from reggen.dataset.database import FILES, Database
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.rows import Row
from reggen.dataset.schema import invalid_row, parse_fact
from reggen.dataset.slot_table import COLUMNS, KINDS
from reggen.dataset.storage import storage_errors
from reggen.errors import StorageError

_MOST = 10_000


def replace_damaged(state: Path) -> Path:
    """Set aside the ledger in a state folder and begin another; the path of the old one. Nobody may have it open.

    The lasting facts and the takes of slots without an image go over, as far as they can be read: otherwise rejected
    pictures would be made again. Raises StorageError.
    """
    kept = _set_aside(ledger_file(state))
    facts, rows = _salvage(kept)
    with Ledger.open(state) as ledger:
        ledger.slots.put(rows)
        ledger.facts.put(facts)
    return kept


def _set_aside(path: Path) -> Path:
    """Rename the files of a ledger to the first free of ledger.sqlite.damaged-1, damaged-2 and so on.

    The file itself goes last: until then the next run finds it damaged again.
    """
    names = (f"{path.name}.damaged-{number}" for number in range(1, _MOST))
    with storage_errors("setting aside", path):
        name = next((one for one in names if not any(path.with_name(one + ending).exists() for ending in FILES)), "")
        if not name:
            what = f"{_MOST - 1:,} damaged ledgers are there already"
            raise StorageError(str(path), "setting aside", what, remedy="delete some, then run the same command again")
        for ending in FILES:
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).replace(path.with_name(name + ending))
    return path.with_name(name)


def _salvage(kept: Path) -> tuple[dict[str, Any], list[Row]]:
    """The lasting facts, and the rows of slots without an image, as far as they can be read."""
    facts: dict[str, Any] = {}
    rows: list[Row] = []
    with suppress(StorageError):
        if database := Database.for_reading(kept):
            try:
                _read_facts(database, facts)
                _read_rows(database, rows)
            finally:
                database.close()
    return facts, rows


def _read_facts(database: Database, facts: dict[str, Any]) -> None:
    with suppress(StorageError):  # those that were read before the damage are kept
        for key, text in database.read("SELECT key, value FROM meta", (), str, str):
            with suppress(ValueError, RecursionError):
                facts[key] = parse_fact(key, text)


def _read_rows(database: Database, rows: list[Row]) -> None:
    with suppress(StorageError):  # those that were read before the damage are kept
        invalid = invalid_row("slot", database.tables().get("slot", ()))
        query = f"SELECT {', '.join(COLUMNS)} FROM slot WHERE state != 'done' AND NOT ({invalid})"  # noqa: S608
        for row in database.read(query, (), *KINDS):
            rows.append(Row(*row))  # noqa: PERF401 - appended one by one, see above
