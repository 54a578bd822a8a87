"""Rows of the ledger as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Row:
    """One slot. ``take`` counts its pictures, ``attempts`` the prompts spent on this one; times are in seconds."""

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
    """One picture that was rejected. ``seed`` and ``server`` are None for a file that was found in the folder."""

    idx: int
    take: int
    reason: str
    at: str
    seed: int | None = None
    server: str | None = None


def now_utc() -> str:
    """The time as the ledger writes it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
