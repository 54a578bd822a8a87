"""Rejecting images by number: what deleting them by hand does, and with a reason. Blocking.

A rejected slot is in its next take: the same prompt, another seed. Its picture is set aside, its caption and latent
caches go, and the next run makes another.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reggen.comfy.sanitize import cleaned
from reggen.dataset.caption_files import CaptionFiles
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import LEDGER, Ledger, Rejection, Row, now_utc
from reggen.dataset.lock import locked
from reggen.dataset.reconcile import demand_filled
from reggen.dataset.slot_files import SlotFiles
from reggen.dataset.storage import storage_errors
from reggen.errors import JobError, Problem
from reggen.job.dataset import Dataset
from reggen.planning.plan import Plan

_MOST = 1_000_000  # numbers in one range


@dataclass(frozen=True, slots=True)
class RejectResult:
    """The names of slots: ``aside`` had a picture, ``empty`` had none. ``rehearsal``: the set was begun by one."""

    aside: tuple[str, ...]
    empty: tuple[str, ...]
    rehearsal: bool = False


def slots(words: Sequence[str], count: int) -> list[int]:
    """Slot indices, from 0, of numbers as people write them: 17, 42-45, reg_017. Raises JobError."""
    found: set[int] = set()
    problems = []
    for word in words:
        match = re.fullmatch(r"(?:[^-\s]*_)?(\d{1,18})(?:\.\w+)?(?:\s*-\s*(?:[^-\s]*_)?(\d{1,18})(?:\.\w+)?)?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not match or last < first:
            problems.append(Problem(word[:40], "is no number of an image", "write 17, or 42-45"))
        elif first < 1 or last > count or last - first > _MOST:
            problems.append(Problem(word, f"there are the images 1 to {count:,}"))
        else:
            found.update(range(first - 1, last))
    if problems:
        raise JobError("the command line", tuple(problems))
    return sorted(found)


def reject(dataset: Dataset, plan: Plan, indices: Sequence[int], why: str) -> RejectResult:
    """Put these slots into their next take. Raises DatasetLocked while a run goes on, and StorageError."""
    folder, why = Folder(dataset), cleaned(why)
    aside: list[str] = []
    empty: list[str] = []
    with locked(folder):
        folder.prepare()
        demand_filled(folder)
        ledger = Ledger.open(folder.state / LEDGER)
        try:
            ledger.verify()
            rehearsal = bool(ledger.conflicts({"rehearsal": False}))
            files, known = SlotFiles(folder).paths(set(indices)), ledger.states(indices)
            for index in indices:
                state, take, was = known.get(index, ("", 0, ""))
                file, sample = files.get(index), plan.sample(index, take)
                name = sample.name
                _clear(folder, file, {name, was or name}, sample.caption or "")
                (aside if file else empty).append(file.stem if file else name)
                _record(ledger, index, state, take, why, found=file is not None)
                spent = state == "done" or file is not None  # otherwise its take is one that was not made yet
                ledger.put([Row(index, "rejected", take + spent, name, now_utc(), why)])
        finally:
            ledger.close()
            folder.delete_parts()
    return RejectResult(tuple(aside), tuple(empty), rehearsal)


def _clear(folder: Folder, file: Path | None, names: set[str], caption: str) -> None:
    """Set a slot's picture aside and remove what belongs to it, under each name it has had: numbers grow wider.

    A caption that says something else than reggen wrote is set aside, too.
    """
    if file:
        folder.set_aside(file)
    for name in names | ({file.stem} if file else set()):
        CaptionFiles(folder).clear(name, caption)
        folder.caches.drop(name)


def _record(ledger: Ledger, index: int, state: str, take: int, why: str, *, found: bool) -> None:
    """Note the picture that goes; one without a row has neither a seed nor a server that anybody knows."""
    if state == "done":
        ledger.turn_away([index], why, now_utc())
    elif found:
        ledger.reject([Rejection(index, take, why, now_utc())])


def purge(dataset: Dataset) -> int:
    """Delete the pictures that were set aside; how many. Raises DatasetLocked while a run goes on, and StorageError."""
    folder = Folder(dataset)
    with locked(folder), storage_errors("purging", folder.rejected):
        if not folder.rejected.is_dir():
            return 0
        count = sum(1 for _ in folder.rejected.iterdir())
        shutil.rmtree(folder.rejected)
    return count
