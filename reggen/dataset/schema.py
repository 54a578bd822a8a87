"""The ledger's tables, and the values that may stand in them: as SQL, for `ledger` to hold a file against."""

from __future__ import annotations

import json
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
class Column:
    """One column as SQLite describes it."""

    name: str
    kind: str
    required: bool

    @property
    def is_new(self) -> bool:
        """It came with version 2; a ledger of version 1 lacks it."""
        return self.name == "likeness"

    @property
    def foreign(self) -> str:
        """The SQL that is true where a value has another type than its column."""
        kind = self.kind.lower()
        return f"typeof({self.name}) != '{kind}'" if self.required else f"typeof({self.name}) NOT IN ('{kind}', 'null')"


_HEX = "[0-9a-f]"
_UUID = "-".join(_HEX * digits for digits in (8, 4, 4, 4, 12))
_NUMBER = "ltrim(substr(name, length(rtrim(name, '0123456789')) + 1), '0')"

MORE: dict[str, tuple[str, ...]] = {
    "slot": (
        "idx < 0",
        f"take NOT BETWEEN 0 AND {MAX_TAKES - 1}",
        f"{_NUMBER} != CAST(idx + 1 AS TEXT)",  # the name is a file's, and files are removed by it
        "name GLOB '*[/\\]*'",
        "bytes < 0",
        f"likeness NOT GLOB '{_HEX * 16}'",
    ),
    "rejection": ("idx < 0",),
    "run": (f"id NOT GLOB '{_UUID}'",),
    "meta": ("NOT json_valid(value)",),
}
"""By table, what else is true of a row that reggen never wrote."""

FACTS: dict[str, type] = {"prefix": str, "format": str, "rehearsal": bool, "batch": int, "captions": str}
"""The lasting facts of a dataset, and their types."""


def fact(key: str, text: object) -> Any:
    """The value of a lasting fact, from its row. Raises ValueError for what reggen never wrote."""
    value: Any = json.loads(text) if isinstance(text, str) else None
    kind, least = FACTS.get(key), 1 if key == "batch" else None
    if (kind and type(value) is not kind) or (least is not None and isinstance(value, int) and value < least):
        raise ValueError(f"{key} is {text!r:.60}")
    return value
