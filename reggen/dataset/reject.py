"""Rejecting images by number: the same as deleting them by hand, but with a reason. Blocking.

A rejected slot is in its next take: the same prompt, another seed. Its picture is moved to ``rejected/``, its caption
and latent caches are removed, and the next run makes another.
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
from reggen.dataset.ledger import Ledger, open_dataset
from reggen.dataset.lock import locked
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.dataset.slot_files import SlotFiles
from reggen.dataset.storage import storage_errors
from reggen.errors import JobError, Problem
from reggen.job.dataset import Dataset
from reggen.planning.plan import Plan, Sample

_MOST = 1_000_000  # numbers in one range
_NUMBERS = re.compile(r"(?:[^-\s]*_)?(\d{1,18})(?:\.\w+)?(?:\s*-\s*(?:[^-\s]*_)?(\d{1,18})(?:\.\w+)?)?")


@dataclass(frozen=True, slots=True)
class RejectResult:
    """The rejected slots by name: with a picture, which was set aside, and without one.

    ``rehearsal``: the dataset was begun by a rehearsal.
    """

    set_aside: tuple[str, ...]
    empty: tuple[str, ...]
    rehearsal: bool = False


def parse_slots(words: Sequence[str], count: int) -> list[int]:
    """Slots, counted from 0, of numbers as people write them: 17, 42-45, reg_017. Raises JobError."""
    found: set[int] = set()
    problems = []
    for word in words:
        match = _NUMBERS.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not match or last < first:
            problems.append(Problem(word[:40], "is not the number of an image", "write 17, or 42-45"))
        elif first < 1 or last > count or last - first > _MOST:
            problems.append(Problem(word, f"the images are 1 to {count:,}"))
        else:
            found.update(range(first - 1, last))
    if problems:
        raise JobError("the command line", tuple(problems))
    return sorted(found)


def reject(dataset: Dataset, plan: Plan, indices: Sequence[int], reason: str) -> RejectResult:
    """Put these slots into their next take. Raises DatasetLocked while a run fills the dataset, and StorageError."""
    folder, reason = Folder(dataset), cleaned(reason)
    set_aside: list[str] = []
    empty: list[str] = []
    with open_dataset(folder) as ledger:
        ledger.verify()
        rehearsal = bool(ledger.facts.conflicts({"rehearsal": False}))
        files, rows = SlotFiles(folder).paths(set(indices)), ledger.slots.states(indices)
        for index in indices:
            state, take, name = rows.get(index, ("", 0, ""))
            file, sample = files.get(index), plan.sample(index, take)
            _clear(folder, file, {sample.name, name or sample.name}, sample.caption or "")
            _record(ledger, sample, reason, done=state == "done", found=file is not None)
            (set_aside if file else empty).append(file.stem if file else sample.name)
    return RejectResult(tuple(set_aside), tuple(empty), rehearsal)


def _clear(folder: Folder, file: Path | None, names: set[str], caption: str) -> None:
    """Set a slot's picture aside and remove what belongs to it, under each name it has had: numbers grow wider.

    A caption that differs from the one reggen wrote is set aside, too.
    """
    if file:
        folder.set_aside(file)
    for name in names | ({file.stem} if file else set()):
        CaptionFiles(folder).clear(name, caption)
        folder.caches.drop(name)


def _record(ledger: Ledger, sample: Sample, reason: str, *, done: bool, found: bool) -> None:
    """Write the rejection, and the slot's next take. A file without a row has no known seed or server."""
    now = now_utc()
    if done:
        ledger.rejections.add_done([sample.index], reason, now)
    elif found:
        ledger.rejections.add([Rejection(sample.index, sample.take, reason, now)])
    made = done or found  # otherwise this take was not made yet, and still will be
    ledger.slots.put([Row(sample.index, "rejected", sample.take + made, sample.name, now, reason)])


def purge(dataset: Dataset) -> int:
    """Delete the pictures that were set aside; their number. Raises DatasetLocked during a run, and StorageError."""
    folder = Folder(dataset)
    with locked(folder), storage_errors("purging", folder.rejected):
        if not folder.rejected.is_dir():
            return 0
        count = sum(1 for _ in folder.rejected.iterdir())
        shutil.rmtree(folder.rejected)
    return count
