"""The ledger's smaller tables: rejected pictures, runs, and the lasting facts of a dataset. Blocking."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from reggen.dataset.database import Database
from reggen.dataset.rows import Rejection
from reggen.dataset.schema import parse_fact
from reggen.errors import JobError, Problem

_ALL = 1 << 62  # above every slot


class RejectionTable:
    """Every picture that was ever rejected, and why; rows are only added. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, rejections: Iterable[Rejection]) -> None:
        """Write rejections in one transaction."""
        statement = "INSERT INTO rejection VALUES (:idx, :take, :reason, :at, :seed, :server)"
        self._database.write(statement, [asdict(one) for one in rejections])

    def add_done(self, indices: Iterable[int], reason: str, at: str) -> None:
        """Write the rejection of these slots' pictures, with what their rows say; slots that are not done have none.

        Call it before those rows are replaced.
        """
        statement = """
            INSERT INTO rejection SELECT idx, take, ?, ?, seed, server FROM slot WHERE idx = ? AND state = 'done'
        """
        self._database.write(statement, [(reason, at, index) for index in indices])

    def walk(self, stop: int | None = None) -> Iterator[Rejection]:
        """The rejections in the order they happened; of the first ``stop`` slots only, when given."""
        if not self._database.columns("rejection"):
            return  # a ledger of version 1, read beside the run of an older reggen
        query = "SELECT idx, take, reason, at, seed, server FROM rejection WHERE idx < ? ORDER BY rowid"
        for row in self._database.read(query, (_ALL if stop is None else stop,)):
            yield Rejection(*row)


class RunTable:
    """The runs that filled a dataset. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run_id: str, at: str) -> None:
        """Write that a run began."""
        self._database.write("INSERT INTO run (id, started) VALUES (?, ?)", [(run_id, at)])

    def end(self, run_id: str, at: str, outcome: str) -> None:
        """Write how a run ended."""
        self._database.write("UPDATE run SET ended = ?, outcome = ? WHERE id = ?", [(at, outcome, run_id)])

    def newest(self, most: int = 16) -> list[str]:
        """The ids of the newest runs."""
        query = "SELECT id FROM run ORDER BY started DESC LIMIT ?"
        return [run_id for (run_id,) in self._database.read(query, (most,), str)]


class FactTable:
    """The lasting facts of a dataset, by key: its prefix, its format. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Any:
        """One fact, or None."""
        if not self._database.columns("meta"):
            return None  # its making was cut short; it is completed when it is opened for writing
        return self.all().get(key)

    def all(self) -> dict[str, Any]:
        """All facts. Raises LedgerDamaged for a value that reggen never wrote."""
        facts: dict[str, Any] = {}
        for key, text in self._database.read("SELECT key, value FROM meta"):
            try:
                facts[key] = parse_fact(key, text)
            except (ValueError, RecursionError):
                raise self._database.invalid(key, text) from None
        return facts

    def put(self, facts: Mapping[str, Any]) -> None:
        """Write facts in one transaction."""
        rows = [(key, json.dumps(value)) for key, value in facts.items()]
        self._database.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def claim(self, job_file: str, facts: Mapping[str, Any]) -> None:
        """Compare the job's facts (prefix, format, rehearsal) with the dataset's, and write those it lacks.

        Raises JobError, with the job file's name, when they differ: the same numbers would name other files.
        """
        if problems := self.conflicts(facts):
            raise JobError(job_file, problems)
        self.put(facts)

    def conflicts(self, facts: Mapping[str, Any]) -> tuple[Problem, ...]:
        """A problem for each of these facts that differs from the dataset's own."""
        known = self.all()
        return tuple(
            _conflict(key, known[key], value) for key, value in facts.items() if known.get(key, value) != value
        )


def _conflict(key: str, known: Any, value: Any) -> Problem:
    if key == "rehearsal":
        holds = "a rehearsal's marked pictures" if known else "real pictures"
        return Problem("--output", f"this folder holds {holds}, and the two must not mix", "name another folder")
    return Problem(f"dataset.{key}", f"is {value!r}, but this folder was begun with {known!r}", "keep it")
