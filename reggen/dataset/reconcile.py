"""Ledger and folder brought to agree, and the slots that are still missing. Blocking.

By file names, before anything is asked of a server:

- A row without its file: the image was deleted, which rejects it. The slot goes to its next take.
- A file without its row: a crash between rename and row, or a set begun by hand. It is checked and adopted;
  a file that fails the checks is moved to ``rejected/``.

By file sizes, which takes long for very many files and may be done beside a run:

- A file of another size than its row says is checked again: it was edited, or the disk broke it. Files deleted since
  the names were read are found, too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.part import Part
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.dataset.slot_files import SlotFiles
from reggen.errors import BadImage
from reggen.images.check import CheckSettings, Inspection, inspect
from reggen.planning.plan import MAX_TAKES, Plan, PromptRequest

_WINDOW = 1024  # slots read from the ledger at a time
_SAME, _UNKNOWN = -1, -2  # in place of a size


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ledger and folder compared by file names: done slots with a file, done ones without, files of slots not done."""

    present: int
    deleted: list[int]
    unrecorded: list[int]

    @classmethod
    def of(cls, folder: Folder, ledger: Ledger, count: int) -> Comparison:
        """Compare the first ``count`` slots. Raises StorageError.

        The ledger is read first: a run at the same time writes a row only when its file is there.
        """
        done = list(ledger.slots.done_ranges(count))
        files, beyond = SlotFiles(folder).present(done[-1].stop if done else 0)
        deleted: list[int] = []
        for run in done:
            if files.count(1, run.start, run.stop) < len(run):
                deleted += (index for index in run if not files[index])
            files[run.start : run.stop] = bytes(len(run))
        unrecorded = [index for index, mark in enumerate(files) if mark] if 1 in files else []
        unrecorded += sorted(index for index in beyond if 0 <= index < count)
        return cls(sum(map(len, done)) - len(deleted), deleted, unrecorded)


@dataclass(slots=True)
class Reconciled:
    """Changes that a run found or made in its dataset, by file name. The lists are short: their causes are rare."""

    adopted: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)  # "name reason"
    displaced: list[str] = field(default_factory=list)  # files in the place of an image or its caption, set aside
    ledger: str = ""  # the name under which a damaged ledger was set aside


class Reconciliation:
    """Brings the ledger and the folder of one dataset to agree. ``found`` says what it did so far."""

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        check_settings: CheckSettings,
        duplicates: Duplicates | None = None,
        *,
        stopped: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Prepare it. With ``duplicates`` a file is adopted only if it is none.

        ``stopped`` is asked between two images and ends it; the next run continues there. ``on_progress`` gets the
        number of images checked so far and in all.
        """
        self._folder, self._files, self._ledger = folder, SlotFiles(folder), ledger
        self._check_settings, self._duplicates = check_settings, duplicates
        self._stopped, self._on_progress = stopped, on_progress
        self.found = Reconciled()

    def by_name(self, plan: Plan) -> None:
        """Reject the slots of deleted images, adopt files without a row. Raises StorageError."""
        compared = Comparison.of(self._folder, self._ledger, len(plan))
        rows = self._ledger.slots.states(compared.unrecorded)
        self._reject_deleted(compared.deleted)
        files = self._paths(compared.unrecorded)
        for number, (index, path) in enumerate(files.items(), 1):
            if self._stopped():
                return
            if _has_bytes(path):  # an empty file counts as missing, and so does a broken link
                self._check(plan, index, rows[index][1] if index in rows else 0, path)
            self._on_progress(number, len(files))

    def by_size(self, plan: Plan, indices: Collection[int]) -> list[tuple[int, int]]:
        """Check what `changed_slots` returned; slot and next take of those no longer done. Raises StorageError."""
        rows = self._ledger.slots.states(sorted(indices))
        files = {index: path for index, path in self._paths(rows).items() if _has_bytes(path)}
        self._reject_deleted([index for index in rows if index not in files])
        for number, (index, path) in enumerate(files.items(), 1):
            if self._stopped():
                return []
            self._check(plan, index, rows[index][1] + 1, path)
            self._on_progress(number, len(files))
        states = self._ledger.slots.states(sorted(rows))
        return [(index, take) for index, (state, take, _) in states.items() if state != "done"]

    def _paths(self, indices: Iterable[int]) -> dict[int, Path]:
        return dict(sorted(self._files.paths(set(indices)).items()))

    def _reject_deleted(self, indices: Sequence[int]) -> None:
        why, now = "the image was deleted", now_utc()
        rows = self._ledger.slots.states(indices)
        self._ledger.rejections.add_done(indices, why, now)
        rejected = (Row(index, "rejected", take + 1, name, now, why) for index, (_, take, name) in rows.items())
        self._ledger.slots.put(rejected)
        self.found.deleted += [name for _, _, name in rows.values()]

    def _check(self, plan: Plan, index: int, take: int, path: Path) -> None:
        """Adopt a file as the image of its slot, or set it aside."""
        try:
            finding = inspect(path, path.stem, self._check_settings.for_size(plan[index].size), self._folder.ending)
            if self._duplicates:
                self._duplicates.refuse_duplicate(path.stem, index, path, finding.phashes)
        except BadImage as error:
            self._reject_file(index, take, path, error.reason)
        else:
            self._ledger.slots.put([_adopted(plan, index, take, Part.of(path), finding)])
            self.found.adopted.append(path.stem)
            if self._duplicates:
                self._duplicates.add(index, finding.phash)

    def _reject_file(self, index: int, take: int, path: Path, reason: str) -> None:
        self.found.set_aside.append(f"{path.name} {reason}")
        self._folder.set_aside(path)
        now = now_utc()
        self._ledger.slots.put([Row(index, "rejected", take, path.stem, now, reason)])
        self._ledger.rejections.add([Rejection(index, take, reason, now)])


def changed_slots(folder: Folder, count: int, stopped: Callable[[], bool] = lambda: False) -> list[int]:
    """The done ones of the first ``count`` slots whose file is missing or has another size than its row says.

    It only reads, also beside a run; ``stopped`` ends it, and it returns nothing. Raises StorageError, and
    LedgerDamaged for any row that reggen never wrote.
    """
    ledger = Ledger.read(folder.state)
    if ledger is None:
        return []
    done, sizes = array("q"), array("q")  # two numbers for each image: lists would take five times as much
    with ledger:
        ledger.verify()
        for index, size in ledger.slots.sizes(count):
            done.append(index)
            sizes.append(_UNKNOWN if size is None else size)
    for number, (index, size) in enumerate(SlotFiles(folder).sizes()):
        if number % _WINDOW == 0 and stopped():
            return []
        at = bisect_left(done, index)
        if at < len(done) and done[at] == index and (sizes[at] == size or (sizes[at] == _UNKNOWN and size)):
            sizes[at] = _SAME
    return [index for index, size in zip(done, sizes, strict=True) if size != _SAME]


def missing_requests(ledger: Ledger, plan: Plan) -> Iterator[PromptRequest]:
    """The prompt requests of slots that are not done, read from the ledger window by window as they are consumed."""
    window = plan.aligned(_WINDOW)
    full = ledger.slots.full_windows(window)
    for start in range(0, len(plan), window):
        if start // window in full:
            continue
        stop = start + window
        yield from plan.requests(start, stop, ledger.slots.takes(start, stop), ledger.slots.done(start, stop))


def _has_bytes(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size > 0
    return False


def _adopted(plan: Plan, index: int, take: int, file: Part, finding: Inspection) -> Row:
    """The row of an adopted file. Only the note in the picture can say which seed made it."""
    note = finding.note
    if 0 <= note.get("take", -1) < MAX_TAKES:
        take = note["take"]
    sample = plan.sample(index, take)
    ours = note.get("seed") == sample.seed and note.get("batch", sample.batch) == sample.batch
    return Row(
        idx=index,
        state="done",
        take=take,
        name=file.path.stem,
        reason="adopted",
        positive=sample.positive if ours else None,
        negative=sample.negative if ours else None,
        seed=sample.seed if ours else None,
        batch=sample.batch if ours else None,
        position=sample.position if ours else None,
        width=finding.width,
        height=finding.height,
        bytes=file.size,
        sha256=file.sha256,
        likeness=finding.phash_text,
        at=now_utc(),
    )
