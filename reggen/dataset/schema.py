"""The ledger's tables as SQL, and conditions that no row written by reggen fulfils."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reggen.planning.plan import MAX_TAKES

VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS slot (
    idx INTEGER PRIMARY KEY,   -- from 0
    state TEXT NOT NULL CHECK (state IN ('done', 'given_up', 'rejected')),
    take INTEGER NOT NULL,     -- of the picture that is done, or the next one to make
    name TEXT NOT NULL,
    reason TEXT,               -- why it was given up or rejected
    positive TEXT, negative TEXT, seed INTEGER, batch INTEGER, position INTEGER,
    width INTEGER, height INTEGER, checkpoint TEXT, recipe TEXT,
    server TEXT, comfyui TEXT, prompt_id TEXT, attempts INTEGER,
    waited REAL,               -- seconds from the post to the prompt's end
    busy REAL,                 -- of these, seconds of execution
    fetched REAL,              -- seconds from the prompt's end to the row
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
class Column:
    """One column as SQLite describes it."""

    name: str
    kind: str
    required: bool

    @property
    def since_version_2(self) -> bool:
        """True for a column that a ledger of version 1 lacks."""
        return self.name == "likeness"

    @property
    def mistyped(self) -> str:
        """The SQL condition for a value of another type than the column's."""
        kind = self.kind.lower()
        return f"typeof({self.name}) != '{kind}'" if self.required else f"typeof({self.name}) NOT IN ('{kind}', 'null')"


_HEX = "[0-9a-f]"
_UUID = "-".join(_HEX * digits for digits in (8, 4, 4, 4, 12))
_NUMBER = "ltrim(substr(name, length(rtrim(name, '0123456789')) + 1), '0')"

INVALID: dict[str, tuple[str, ...]] = {
    "slot": (
        "idx < 0",
        f"take NOT BETWEEN 0 AND {MAX_TAKES - 1}",
        f"{_NUMBER} != CAST(idx + 1 AS TEXT)",  # the name is that of a file, which may be removed by it
        "name GLOB '*[/\\]*'",
        "bytes < 0",
        f"likeness NOT GLOB '{_HEX * 16}'",
    ),
    "rejection": ("idx < 0",),
    "run": (f"id NOT GLOB '{_UUID}'",),
    "meta": ("NOT json_valid(value)",),
}
"""SQL conditions by table, beside the types, that are true only of rows that reggen did not write."""

FACTS: dict[str, type] = {"prefix": str, "format": str, "rehearsal": bool, "batch": int, "captions": str}
"""The lasting facts of a dataset, and their types."""


def invalid_row(table: str, columns: Sequence[Column]) -> str:
    """The SQL condition for a row that reggen did not write, in a table with these columns."""
    version_1 = "likeness" not in {column.name for column in columns}
    conditions = [one for one in INVALID[table] if not (version_1 and one.startswith("likeness"))]
    return " OR ".join(f"ifnull({one}, 0)" for one in (*(column.mistyped for column in columns), *conditions))


def parse_fact(key: str, text: object) -> Any:
    """The value of a lasting fact, from its row. Raises ValueError, RecursionError for what reggen did not write."""
    value: Any = json.loads(text) if isinstance(text, str) else None
    kind, least = FACTS.get(key), 1 if key == "batch" else None
    if (kind and type(value) is not kind) or (least is not None and isinstance(value, int) and value < least):
        raise ValueError(f"{key} is {text!r:.60}")
    return value
