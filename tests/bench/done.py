"""A dataset filled without a server, up to a million images within a minute or two.

Done slots are written as rows with all columns, and as hard links to a few files: names, sizes and rows are as real
as in a run, but the names share a few inodes, so checking each costs a quarter less than with as many files, and much
less than on a disk that has not been read since it was mounted.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from reggen import sim
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.rows import Row
from reggen.engine.requirements import lasting
from reggen.job.models import Job
from tests.preparing import plan_of

_LINKS = 30_000  # of one file: filesystems have a limit


class Done:
    """A dataset filled without a server, from its first slot on."""

    def __init__(self, job: Job, place: Path) -> None:
        self._folder, self._source, self.images = Folder(job.dataset), place / "image.png", 0
        self._source.write_bytes(sim.paint("a cat", 1, 64, 64))
        self._digits = len(str(len(plan_of(job))))
        self._random = random.Random(1)
        self._folder.images.mkdir(parents=True)
        self._folder.state.mkdir(parents=True)
        with Ledger.open(self._folder.state) as ledger:
            ledger.facts.claim("the bench", lasting(job.dataset))

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return ledger_file(self._folder.state)

    def fill(self, count: int) -> None:
        """Fill those of the first `count` slots that are not done yet."""
        columns = [field.name for field in fields(Row)]
        marks = ", ".join(f":{name}" for name in columns)
        database = sqlite3.connect(self.ledger)
        database.execute("PRAGMA synchronous = OFF")
        with database:
            there = {row[0] for row in database.execute("SELECT idx FROM slot")}
            rows = self._rows([slot for slot in range(count) if slot not in there])
            database.executemany(f"INSERT INTO slot ({', '.join(columns)}) VALUES ({marks})", rows)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        self.images = max(self.images, count)

    def _rows(self, slots: Sequence[int]) -> Iterator[dict[str, Any]]:
        size = self._source.stat().st_size
        facts: dict[str, Any] = {field.name: None for field in fields(Row)}
        facts |= {"state": "done", "take": 0, "positive": "a cat", "negative": "blurry", "batch": 1, "position": 0}
        facts |= {"width": 64, "height": 64, "checkpoint": "AnythingXL_inkBase.safetensors", "bytes": size}
        facts |= {"server": "127.0.0.1:8188", "comfyui": "0.33.0", "attempts": 1, "waited": 9.5, "busy": 4.7}
        for slot in slots:
            name = f"reg_{slot + 1:0{self._digits}d}"
            if slot % _LINKS == 0 or slot == slots[0]:
                fresh = self._source.with_name(f"image-{slot}.png")
                shutil.copy(self._source, fresh)
            os.link(fresh, self._folder.images / f"{name}.png")
            own = self._random.getrandbits
            prompt, sha, print_ = f"{own(128):032x}", f"{own(256):064x}", f"{own(64):016x}"
            times = {"fetched": 0.02, "at": "2025-01-01T00:00:00.000+00:00", "seed": slot, "recipe": "0123456789abcdef"}
            yield facts | times | {"idx": slot, "name": name, "prompt_id": prompt, "sha256": sha, "likeness": print_}
