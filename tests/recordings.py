"""Recordings of real ComfyUI servers: every frame, request and answer, a JSON record each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECORDINGS = Path(__file__).parent / "fixtures" / "recordings"
SERVER = "127.0.0.1:8188"
ID = "3ba22770-6407-42b2-aab0-ca2b3187dbec"

every_recording = pytest.mark.parametrize("file", sorted(path.name for path in RECORDINGS.glob("*.jsonl")))


def records(file: str) -> list[dict[str, Any]]:
    """All records of a recording, in order."""
    return [json.loads(line) for line in (RECORDINGS / file).read_text(encoding="utf-8").splitlines()]


def answers(file: str, endpoint: str) -> Iterator[tuple[str, int, Any]]:
    """The rest of the address, status and body of every answer to ``endpoint`` in a recording."""
    for record in records(file):
        address = record.get("endpoint", "")
        if record["dir"] == "s>c" and address.startswith(endpoint) and "body" in record:
            yield address.removeprefix(endpoint), record["status"], record["body"]
